//! `/api/v1/sessions`: who is connected.

use std::pin::Pin;
use std::sync::Arc;

use hyper::StatusCode;
use inrush_admin::{Answer, QueueApi};
use inrush_gateway::{LiveSession, LiveSessions, SESSIONS_MAX, SessionList};
use serde_json::{Value, json};

/// Sessions of an answer when nothing else is said.
const LIMIT: usize = 100;

/// Answers for the cores.
pub(crate) struct SessionRoutes {
    list: SessionList,
    listeners: Arc<[String]>,
}

impl SessionRoutes {
    /// For the cores behind `list`; `listeners` in the order of the settings.
    pub(crate) fn of(list: SessionList, listeners: Vec<String>) -> Arc<dyn QueueApi> {
        Arc::new(Self { list, listeners: listeners.into() })
    }
}

impl QueueApi for SessionRoutes {
    fn answer(
        &self,
        _changes: bool,
        path: &str,
        query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
        let limit = if path == "sessions" {
            limit(query)
        } else {
            Err(Answer::refused(StatusCode::NOT_FOUND, "there is nothing here"))
        };
        let (list, listeners) = (self.list.clone(), Arc::clone(&self.listeners));
        Box::pin(async move {
            let limit = match limit {
                Ok(limit) => limit,
                Err(refused) => return refused,
            };
            match tokio::task::spawn_blocking(move || list.oldest(limit)).await {
                Ok(all) => Answer::ok(document(&all, &listeners)),
                Err(_) => Answer::refused(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
            }
        })
    }
}

fn limit(query: &str) -> Result<usize, Answer> {
    let mut limit = LIMIT;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let given = value.parse().ok().filter(|given| (1..=SESSIONS_MAX).contains(given));
        limit = match (&*name, given) {
            ("limit", Some(given)) => given,
            ("limit", None) => {
                let why = format!("limit: not a number from 1 to {SESSIONS_MAX}");
                return Err(Answer::refused(StatusCode::BAD_REQUEST, &why));
            }
            _ => {
                let why = format!("unknown parameter {name:?}");
                return Err(Answer::refused(StatusCode::BAD_REQUEST, &why));
            }
        };
    }
    Ok(limit)
}

fn document(all: &LiveSessions, listeners: &[String]) -> Value {
    let session = |session: &LiveSession| {
        json!({
            "client": session.client.map_or_else(|| "unknown".to_owned(), |client| client.to_string()),
            "listener": listeners.get(session.listener),
            "core": session.core,
            "tls": session.tls,
            "phase": session.phase,
            "age_seconds": session.age.as_secs_f64(),
            "idle_seconds": session.idle.as_secs_f64(),
            "messages": session.messages,
            "octets": session.octets,
            "last_command": session.last_command,
        })
    };
    json!({
        "open": all.open,
        "sessions": all.sessions.iter().map(session).collect::<Vec<_>>(),
        "silent_cores": all.silent_cores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_in_its_range() {
        assert_eq!(limit("").ok(), Some(LIMIT));
        assert_eq!(limit("limit=7").ok(), Some(7));
        for wrong in ["limit=0", "limit=1001", "limit=x", "all=true"] {
            assert!(limit(wrong).is_err_and(|refused| refused.status == StatusCode::BAD_REQUEST), "{wrong}");
        }
    }
}
