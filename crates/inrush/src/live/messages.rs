//! `/api/v1/messages`: messages by id, sender or recipient, in the queue and in the log, and the whole life of one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use inrush_admin::{Answer, QueueApi};
use inrush_log::{DiskStorage, MessageId};
use inrush_relay::{Api, ApiError, Query, life_in_log, time};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::search::{Wanted, search};

/// Messages of an answer when nothing else is said, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;
/// Searches of the log at a time: the disk has other things to do.
const SEARCHES_MAX: usize = 1;
/// How long a search waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// Answers from the logs, and for the relay where there is one.
pub(crate) struct MessageRoutes(Arc<Shared>);

struct Shared {
    data_dir: PathBuf,
    relay: Arc<OnceLock<Option<Api>>>,
    searches: Semaphore,
}

impl MessageRoutes {
    /// For the logs in `data_dir`, and for the relay, once it is known whether there is one.
    pub(crate) fn of(data_dir: PathBuf, relay: Arc<OnceLock<Option<Api>>>) -> Arc<dyn QueueApi> {
        Arc::new(Self(Arc::new(Shared { data_dir, relay, searches: Semaphore::new(SEARCHES_MAX) })))
    }
}

impl QueueApi for MessageRoutes {
    fn answer(
        &self,
        _changes: bool,
        path: &str,
        query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
        let shared = Arc::clone(&self.0);
        let (path, query) = (path.to_owned(), query.to_owned());
        Box::pin(async move {
            let answered = match path.strip_prefix("messages/") {
                Some(id) => shared.life(id).await,
                None if path == "messages" => shared.find(&query).await,
                None => Err(refused(StatusCode::NOT_FOUND, "there is nothing here")),
            };
            answered.map_or_else(|refused| refused, Answer::ok)
        })
    }
}

fn refused(status: StatusCode, why: &str) -> Answer {
    Answer::refused(status, why)
}

fn wrong(why: &str) -> Answer {
    refused(StatusCode::BAD_REQUEST, why)
}

fn failed(error: &impl std::fmt::Display) -> Answer {
    refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

impl Shared {
    fn api(&self) -> Option<&Api> {
        self.relay.get().and_then(Option::as_ref)
    }

    async fn life(&self, id: &str) -> Result<Value, Answer> {
        let id: MessageId = id.parse().map_err(|error| wrong(&format!("id: {error}")))?;
        let none = || refused(StatusCode::NOT_FOUND, &format!("{id}: no such message"));
        if let Some(api) = self.api() {
            return api.show(id).await.map_err(|error| match error {
                ApiError::NotFound(_) => none(),
                error => failed(&error),
            });
        }
        let storage = DiskStorage::new(&self.data_dir, true);
        let life = tokio::task::spawn_blocking(move || life_in_log(&storage, id)).await;
        let life = life.map_err(|error| failed(&error))?;
        life.map_err(|error| failed(&error))?.ok_or_else(none)
    }

    async fn find(&self, query: &str) -> Result<Value, Answer> {
        let wanted = parse(query)?;
        if let Some(id) = wanted.id {
            return self.find_one(id, &wanted).await;
        }
        let Ok(turn) = tokio::time::timeout(TURN_PATIENCE, self.searches.acquire()).await else {
            return Err(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "another search is under way: ask again later",
            ));
        };
        let queued = self.queued(&wanted).await?;
        let found = search(self.data_dir.clone(), wanted.clone()).await;
        let found = found.map_err(|error| failed(&format!("{error:#}")))?;
        drop(turn);
        let (mut messages, more) = (Vec::new(), found.more || queued.len() > wanted.limit);
        let states = self.states(found.messages.iter().map(|(id, _)| *id).collect()).await?;
        for (id, mut message) in found.messages {
            let state = states.get(&id.to_string()).map(String::as_str);
            let otherwise = if self.api().is_some() { "not_queued" } else { "in_log" };
            message["state"] = state.unwrap_or(otherwise).into();
            messages.push(message);
        }
        // What waits for long may be further back than a search reaches.
        for (id, entry) in queued {
            if messages.len() < wanted.limit && messages.iter().all(|message| message["id"] != *id) {
                messages.push(entry);
            }
        }
        Ok(json!({
            "messages": messages,
            "more": more,
            "cut": found.cut,
            "looked_at": { "octets": found.octets, "since": found.since_us.map(time) },
        }))
    }

    /// A message whose id is known needs no search.
    async fn find_one(&self, id: MessageId, wanted: &Wanted) -> Result<Value, Answer> {
        let life = match self.life(&id.to_string()).await {
            Ok(life) => Some(life),
            Err(refused) if refused.status == StatusCode::NOT_FOUND => None,
            Err(refused) => return Err(refused),
        };
        let message = life.map(|life| summary(&life, self.api().is_some())).filter(|message| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let is = |wanted: &String, path: &Value| inrush_relay::is_address(wanted, text(path).as_bytes());
            wanted.sender.as_ref().is_none_or(|sender| is(sender, &message["sender"]))
                && wanted.recipient.as_ref().is_none_or(|recipient| {
                    message["recipients"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|path| is(recipient, path)))
                })
        });
        Ok(json!({
            "messages": Vec::from_iter(message),
            "more": false,
            "cut": null,
            "looked_at": { "octets": 0, "since": null },
        }))
    }

    /// The state of those of these messages that wait.
    async fn states(&self, ids: Vec<MessageId>) -> Result<HashMap<String, String>, Answer> {
        let Some(api) = self.api().filter(|_| !ids.is_empty()) else { return Ok(HashMap::new()) };
        let listed = api.list(Query { ids, ..Query::default() }).await.map_err(|error| failed(&error))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(listed.entries.iter().map(|entry| (text(&entry["id"]), text(&entry["state"]))).collect())
    }

    /// What waits, one message for each id.
    async fn queued(&self, wanted: &Wanted) -> Result<Vec<(String, Value)>, Answer> {
        let Some(api) = self.api() else { return Ok(Vec::new()) };
        let query = Query {
            sender: wanted.sender.clone(),
            recipient: wanted.recipient.clone(),
            limit: wanted.limit,
            ..Query::default()
        };
        let listed = api.list(query).await.map_err(|error| failed(&error))?;
        let mut messages: Vec<(String, Value)> = Vec::new();
        for entry in listed.entries {
            let id = entry["id"].as_str().unwrap_or_default().to_owned();
            // A search that goes on has told of it before.
            let accepted: Option<jiff::Timestamp> =
                entry["accepted_at"].as_str().and_then(|at| at.parse().ok());
            let accepted_us = accepted.and_then(|at| u64::try_from(at.as_microsecond()).ok()).unwrap_or(0);
            let is_later = wanted.until_us.is_some_and(|until_us| accepted_us >= until_us);
            if is_later || messages.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let total = entry["recipients"].as_array().map_or(0, Vec::len);
            let message = json!({
                "id": id,
                "accepted_at": entry["accepted_at"],
                "octets": entry["octets"],
                "sender": entry["sender"],
                "recipients": entry["recipients"],
                "recipients_total": total,
                "state": entry["state"],
            });
            messages.push((id, message));
        }
        Ok(messages)
    }
}

fn summary(life: &Value, has_queue: bool) -> Value {
    let recipients: Vec<_> =
        life["recipients"].as_array().into_iter().flatten().map(|one| one["address"].clone()).collect();
    let waiting = life["queue"].as_array().and_then(|queue| queue.first());
    let state = match waiting {
        Some(entry) => entry["state"].clone(),
        None if has_queue => "not_queued".into(),
        None => "in_log".into(),
    };
    json!({
        "id": life["id"],
        "accepted_at": life["accepted_at"],
        "octets": life["octets"],
        "sender": life["sender"],
        "recipients_total": recipients.len(),
        "recipients": recipients,
        "state": state,
    })
}

fn parse(query: &str) -> Result<Wanted, Answer> {
    let mut wanted = Wanted { limit: LIMIT, ..Wanted::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "id" => wanted.id = Some(value.parse().map_err(|error| wrong(&format!("id: {error}")))?),
            "sender" | "recipient" if value.is_empty() => return Err(wrong(&format!("{name}: is empty"))),
            "sender" => wanted.sender = Some(value.into_owned()),
            "recipient" => wanted.recipient = Some(value.into_owned()),
            "until" => {
                let wrong = |_| wrong("until: not a time such as 2026-03-01T12:00:00Z");
                let until: jiff::Timestamp = value.parse().map_err(wrong)?;
                wanted.until_us = Some(u64::try_from(until.as_microsecond()).unwrap_or(0));
            }
            "limit" => {
                let given = value.parse().ok().filter(|given| (1..=LIMIT_MAX).contains(given));
                let why = format!("limit: not a number from 1 to {LIMIT_MAX}");
                wanted.limit = given.ok_or_else(|| wrong(&why))?;
            }
            _ => return Err(wrong(&format!("unknown parameter {name:?}"))),
        }
    }
    let Wanted { id, sender, recipient, .. } = &wanted;
    if id.is_none() && sender.is_none() && recipient.is_none() {
        return Err(wrong("say an id, a sender or a recipient"));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_for_something() {
        let wanted =
            parse("sender=a%40example.com&recipient=%40example.org&until=2026-03-01T12:00:00Z&limit=7").ok();
        let expected = Wanted {
            id: None,
            sender: Some("a@example.com".to_owned()),
            recipient: Some("@example.org".to_owned()),
            until_us: Some(1_772_366_400_000_000),
            limit: 7,
        };
        assert_eq!(wanted, Some(expected));
        for query in [
            "",
            "limit=5",
            "sender=",
            "recipient=",
            "id=x",
            "sender=a&limit=0",
            "sender=a&limit=1001",
            "sender=a&until=yesterday",
            "subject=x",
        ] {
            assert!(parse(query).is_err_and(|refused| refused.status == StatusCode::BAD_REQUEST), "{query}");
        }
    }
}
