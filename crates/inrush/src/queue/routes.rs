//! The queue's part of the admin API, put before the relay.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use inrush_admin::{Answer, QueueApi};
use inrush_relay::{Action, Api, ApiError, Query, QueryError, Replay};
use serde_json::{Value, json};

use crate::serve::Steer;

/// Destinations in a list when nothing else is said, and at most.
const DESTINATIONS: usize = 100;
const DESTINATIONS_MAX: usize = 10_000;

/// Answers for the relay and the process.
pub(crate) struct QueueRoutes {
    relay: Arc<OnceLock<Option<Api>>>,
    steer: Steer,
}

impl QueueRoutes {
    /// For the process behind `steer`, and for its relay, once it is known whether there is one.
    pub(crate) fn of(relay: Arc<OnceLock<Option<Api>>>, steer: Steer) -> Arc<dyn QueueApi> {
        Arc::new(Self { relay, steer })
    }
}

impl QueueApi for QueueRoutes {
    fn answer(
        &self,
        changes: bool,
        path: &str,
        query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
        let (api, steer, path) = (self.relay.get().cloned(), self.steer.clone(), path.to_owned());
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Box::pin(async move {
            if let Some(answer) = steer.answer(&path, &parameters).await {
                return answer;
            }
            let Some(api) = api else {
                let why = "the process before this one still has the queue: wait until it has ended";
                return Answer::refused(StatusCode::SERVICE_UNAVAILABLE, why);
            };
            let Some(api) = api else {
                return Answer::refused(StatusCode::NOT_FOUND, "there is no queue: no route is set");
            };
            match route(&api, changes, &path, &parameters).await {
                Ok(Some(body)) => Answer::ok(body),
                Ok(None) => Answer::refused(StatusCode::NOT_FOUND, "there is nothing here"),
                Err(error) => Answer::refused(status(&error), &error.to_string()),
            }
        })
    }
}

fn status(error: &ApiError) -> StatusCode {
    match error {
        ApiError::Query(_) | ApiError::Everything | ApiError::Replay(_) => StatusCode::BAD_REQUEST,
        ApiError::NotFound(_) => StatusCode::NOT_FOUND,
        ApiError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn route(
    api: &Api,
    changes: bool,
    path: &str,
    parameters: &[(String, String)],
) -> Result<Option<Value>, ApiError> {
    if path == "replay" {
        return api.replay(replay(parameters)?, !changes).await.map(Some);
    }
    if path == "queue" {
        if changes {
            return Ok(None);
        }
        let query = query(parameters, &["limit", "count"])?;
        if is_set(parameters, "count") {
            return api.count(query).await.map(Some);
        }
        let listed = api.list(query).await?;
        return Ok(Some(json!({ "entries": listed.entries, "more": listed.more })));
    }
    if path == "queue/destinations" {
        if changes {
            return Ok(None);
        }
        return api.destinations(limit(parameters)?).await.map(Some);
    }
    let Some(rest) = path.strip_prefix("queue/") else { return Ok(None) };
    if !changes {
        let id = rest.parse().map_err(|error| QueryError::Value { name: "id", what: format!("{error}") })?;
        return api.show(id).await.map(Some);
    }
    let Some(action) = Action::ALL.into_iter().find(|action| action.name() == rest) else { return Ok(None) };
    let all = is_set(parameters, "all");
    api.act(action, query(parameters, &["all"])?, all).await.map(Some)
}

/// How many destinations are asked for.
fn limit(parameters: &[(String, String)]) -> Result<usize, QueryError> {
    let mut limit = DESTINATIONS;
    for (name, value) in parameters {
        if name != "limit" {
            return Err(QueryError::Unknown(name.clone()));
        }
        let given = value.parse().ok().filter(|given| (1..=DESTINATIONS_MAX).contains(given));
        let wrong = || format!("not a number from 1 to {DESTINATIONS_MAX}");
        limit = given.ok_or_else(|| QueryError::Value { name: "limit", what: wrong() })?;
    }
    Ok(limit)
}

fn is_set(parameters: &[(String, String)], name: &str) -> bool {
    parameters.iter().any(|(known, value)| known == name && value == "true")
}

/// The parameters that say which messages are meant, beside those of the request itself: `known`.
fn query(parameters: &[(String, String)], known: &[&str]) -> Result<Query, QueryError> {
    let mut query = Query::default();
    for (name, value) in parameters {
        // A change goes for all that fit: what would seem to bound it is refused.
        let unknown = name == "limit" && !known.contains(&"limit");
        if unknown || (!query.set(name, value)? && !known.contains(&name.as_str())) {
            return Err(QueryError::Unknown(name.clone()));
        }
    }
    Ok(query)
}

fn replay(parameters: &[(String, String)]) -> Result<Replay, QueryError> {
    let time = |name, value: &str| {
        let wrong =
            |_| QueryError::Value { name, what: "not a number of microseconds since 1970".to_owned() };
        value.parse().map(Some).map_err(wrong)
    };
    let mut replay = Replay { held: is_set(parameters, "held"), ..Replay::default() };
    for (name, value) in parameters {
        match name.as_str() {
            // Not the route that something waits for, but the one to take.
            "route" => replay.route.clone_from(value),
            "since" => replay.since_us = time("since", value)?,
            "held" => {}
            "until" => replay.until_us = time("until", value)?,
            other => {
                if other == "limit" || !replay.query.set(other, value)? {
                    return Err(QueryError::Unknown(name.clone()));
                }
            }
        }
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn destinations_have_a_limit_and_nothing_else() {
        assert_eq!(limit(&[]), Ok(DESTINATIONS));
        assert_eq!(limit(&parameters(&[("limit", "5")])), Ok(5));
        for wrong in [("limit", "0"), ("limit", "x"), ("limit", "10001"), ("route", "out")] {
            assert!(limit(&parameters(&[wrong])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_a_list_has_a_limit() {
        let limited = parameters(&[("domain", "example.com"), ("limit", "1")]);
        assert!(query(&limited, &["limit"]).is_ok_and(|query| query.limit == 1));
        let unknown = QueryError::Unknown("limit".to_owned());
        assert_eq!(query(&limited, &["all"]).err(), Some(unknown.clone()));
        assert_eq!(replay(&limited).err(), Some(unknown));
    }
}
