//! The queue for other threads: questions and commands to the running relay, answered as JSON.
//!
//! The relay's thread only says what is in its ledger and changes it; the messages are read on threads that may wait for the disk.

use inrush_log::{DiskStorage, Entry, LogKind, MessageId, Reader, RecordKind, parse_log_directory};
use inrush_queue::{Place, QUEUE_CONSUMER};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::commands::{Action, Replayed, Request};
use crate::query::{Query, QueryError};
use crate::shared::now_us;
use crate::view::{Item, add_reasons, items, life};

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// What was asked makes no sense.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// Nothing is known of the message.
    #[error("{0}: no such message")]
    NotFound(MessageId),
    /// A change of everything must say so.
    #[error("nothing says which messages are meant: give an id, a filter, or all=true")]
    Everything,
    /// The replay cannot be done.
    #[error("{0}")]
    Replay(String),
    /// The relay has ended.
    #[error("the relay does not run")]
    Stopped,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The way to the running relay.
#[derive(Clone)]
pub struct Api {
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    pub(crate) storage: DiskStorage,
}

/// Which messages of the log are to be delivered once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// By which route.
    pub route: String,
    /// Accepted at or after, in µs since 1970.
    pub since_us: Option<u64>,
    /// Accepted before, in µs since 1970.
    pub until_us: Option<u64>,
    /// Who and what, as for the queue.
    pub query: Query,
}

impl Api {
    /// What waits, one object for each group of recipients that waits together.
    ///
    /// # Errors
    /// The relay has ended, or the disk fails.
    pub async fn list(&self, query: Query) -> Result<Vec<Value>, ApiError> {
        let mut items = self.items(&query).await?;
        let storage = self.storage.clone();
        let listed = tokio::task::spawn_blocking(move || {
            add_reasons(&storage, &mut items)?;
            Ok(items.iter().map(Item::to_json).collect())
        });
        listed.await.map_err(|_| ApiError::Stopped)?
    }

    /// The whole life of a message.
    ///
    /// # Errors
    /// Nothing is known of it; the relay has ended; the disk fails.
    pub async fn show(&self, id: MessageId) -> Result<Value, ApiError> {
        let query = Query { ids: vec![id], ..Query::default() };
        let facts = self.ask(|answer| Request::Facts(query, answer)).await?;
        let storage = self.storage.clone();
        let told = tokio::task::spawn_blocking(move || life(&storage, id, &facts, now_us()));
        told.await.map_err(|_| ApiError::Stopped)??.ok_or(ApiError::NotFound(id))
    }

    /// Does something with all that fit; `all` says that nothing but everything is meant.
    ///
    /// # Errors
    /// The query fits everything and `all` is not set; the relay has ended; the disk fails.
    pub async fn act(&self, action: Action, query: Query, all: bool) -> Result<Value, ApiError> {
        if query.is_everything() && !all {
            return Err(ApiError::Everything);
        }
        let query = Query { limit: usize::MAX, ..query };
        let mut items = self.items(&query).await?;
        items.retain(|item| item.fact.recipients.is_some());
        for item in &mut items {
            // Whoever waits beside them for the same destination is not meant.
            item.recipients.retain(|(_, path)| query.means(path));
        }
        let found = items.len();
        let done = self.ask(|answer| Request::Act(action, items, answer)).await?;
        Ok(json!({ "action": action.name(), "found": found, "done": done }))
    }

    /// Delivers messages once more that are still in the log.
    ///
    /// # Errors
    /// Nothing says which; there is no such route; the relay has ended; the disk fails.
    pub async fn replay(&self, replay: Replay) -> Result<Value, ApiError> {
        let everything = replay.query.is_everything();
        if everything && replay.since_us.is_none() && replay.until_us.is_none() {
            return Err(ApiError::Everything);
        }
        let storage = self.storage.clone();
        let route = replay.route.clone();
        let read = tokio::task::spawn_blocking(move || find(&storage, &replay));
        let found = read.await.map_err(|_| ApiError::Stopped)??;
        let messages = found.len();
        let owed = self.ask(|answer| Request::Replay(route, found, answer)).await?;
        let owed = owed.map_err(ApiError::Replay)?;
        Ok(json!({ "action": "replay", "messages": messages, "recipients": owed }))
    }

    async fn items(&self, query: &Query) -> Result<Vec<Item>, ApiError> {
        let asked = query.clone();
        let facts = self.ask(|answer| Request::Facts(asked, answer)).await?;
        let (storage, query) = (self.storage.clone(), query.clone());
        let read = tokio::task::spawn_blocking(move || items(&storage, facts, &query, now_us()));
        read.await.map_err(|_| ApiError::Stopped)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).map_err(|_| ApiError::Stopped)?;
        answered.await.map_err(|_| ApiError::Stopped)
    }
}

/// The messages that are still kept and fit.
fn find(storage: &DiskStorage, replay: &Replay) -> std::io::Result<Vec<Replayed>> {
    use inrush_log::Storage as _;
    let (since, until) = (replay.since_us.unwrap_or(0), replay.until_us.unwrap_or(u64::MAX));
    let mut found = Vec::new();
    for dir in storage.list("")? {
        let Some((LogKind::Arrival, log)) = parse_log_directory(&dir) else { continue };
        let unreadable = |error: inrush_log::OpenError| std::io::Error::other(error.to_string());
        let mut reader = Reader::on(storage.clone(), &dir).map_err(unreadable)?;
        reader.limit_to_present()?;
        reader.set_times(since..=until.saturating_sub(1));
        let cursor = reader.consumers()?.into_iter().find(|cursor| cursor.name == QUEUE_CONSUMER);
        // What is below may go at any time.
        if let Some(state) = cursor.and_then(|cursor| cursor.state.ok()) {
            reader.seek(state.position);
        }
        while let Some(entry) = reader.next()? {
            let Entry::Record(record) = entry else { continue };
            let at = record.header.accepted_at_us;
            if record.header.kind != RecordKind::Message || at < since || at >= until {
                continue;
            }
            let Ok(envelope) = record.read_envelope() else { continue };
            let ids = &replay.query.ids;
            let all: Vec<_> = envelope.recipients().map(|one| one.path).collect();
            let age = now_us().saturating_sub(at) / 1_000_000;
            let fits = replay.query.fits(envelope.reverse_path(), all.iter().copied(), age);
            if !fits || !(ids.is_empty() || ids.contains(&record.id)) {
                continue;
            }
            let chosen = (0_u32..).zip(&all).filter(|(_, path)| replay.query.means(path));
            found.push(Replayed {
                id: record.id,
                place: Place { kind: LogKind::Arrival, log, lsn: record.header.lsn },
                accepted_at_us: at,
                octets: record.body.len() as u64,
                sender: envelope.reverse_path().to_vec(),
                total: u32::try_from(all.len()).unwrap_or(u32::MAX),
                recipients: chosen.map(|(index, path)| (index, path.to_vec())).collect(),
            });
        }
    }
    Ok(found)
}
