//! The queue for other threads: questions and commands to the running relay, answered as JSON.
//!
//! The relay's thread only says what is in its ledger and changes it; the messages are read on threads that may wait for the disk. Both go page by
//! page, so that neither memory nor the relay's thread is taken by the length of the queue.

use std::sync::Arc;

use inrush_log::{DiskStorage, MessageId};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::commands::{Action, Request};
use crate::facts::{Key, PAGE, Page};
use crate::query::{Query, QueryError};
use crate::shared::now_us;
use crate::view::{Item, Listed, items, life, listed};

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
    /// A domain is to take a route that the running relay does not have.
    #[error("{domain:?} takes route {route:?}, which is there from the next start on only")]
    Route {
        /// The domain.
        domain: String,
        /// The route.
        route: String,
    },
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
    /// Names of the routes, which stay as they are while it runs.
    pub(crate) routes: Arc<[String]>,
}

impl Api {
    /// What waits, one object for each group of recipients that waits together.
    ///
    /// # Errors
    /// The relay has ended, or the disk fails.
    pub async fn list(&self, query: Query) -> Result<Listed, ApiError> {
        // One more, to know whether there are more.
        let wanted = query.limit.saturating_add(1);
        let mut page = Page::first(if query.needs_reading() { PAGE } else { wanted.min(PAGE) });
        let mut found = Vec::new();
        while found.len() < wanted {
            let (items, last) = self.items(&query, page, false).await?;
            found.extend(items);
            let Some(last) = last else { break };
            page.after = Some(last);
        }
        let storage = self.storage.clone();
        let list = tokio::task::spawn_blocking(move || listed(&storage, found, query.limit));
        Ok(list.await.map_err(|_| ApiError::Stopped)??)
    }

    /// How many groups of recipients [`list`](Self::list) would show without a limit.
    ///
    /// # Errors
    /// The relay has ended, or the disk fails.
    pub async fn count(&self, query: Query) -> Result<Value, ApiError> {
        let mut count = 0;
        if query.needs_reading() {
            let mut page = Page::first(PAGE);
            loop {
                let (items, last) = self.items(&query, page, false).await?;
                count += items.len();
                let Some(last) = last else { break };
                page.after = Some(last);
            }
        } else {
            count = self.ask(|answer| Request::Count(query, answer)).await?;
        }
        Ok(json!({ "count": count }))
    }

    /// The destinations for which the most waits, `max` of them at most, with the last reply of each that was not a delivery.
    ///
    /// # Errors
    /// The relay has ended.
    pub async fn destinations(&self, max: usize) -> Result<Value, ApiError> {
        let worst = self.ask(|answer| Request::Destinations(max, answer)).await?;
        let worst: Vec<_> = worst.iter().map(crate::backlog::Backlog::to_json).collect();
        Ok(json!({ "destinations": worst }))
    }

    /// The whole life of a message.
    ///
    /// # Errors
    /// Nothing is known of it; the relay has ended; the disk fails.
    pub async fn show(&self, id: MessageId) -> Result<Value, ApiError> {
        let query = Query { ids: vec![id], ..Query::default() };
        let page = Page::first(PAGE);
        let facts = self.ask(|answer| Request::Facts { query, page, parks: false, answer }).await?;
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
        let mut page = Page::first(PAGE);
        let (mut found, mut done) = (0, 0);
        loop {
            let parks = page.after.is_none() && action.parks();
            let (mut items, last) = self.items(&query, page, parks).await?;
            found += items.len();
            items.retain(|item| item.fact.recipients.is_some());
            for item in &mut items {
                // Whoever waits beside them for the same destination is not meant.
                item.recipients.retain(|(_, path)| query.means(path));
            }
            done += self.ask(|answer| Request::Act(action, items, answer)).await?;
            let Some(last) = last else { break };
            page.after = Some(last);
        }
        Ok(json!({ "action": action.name(), "found": found, "done": done }))
    }

    /// Has each of these domains take the route of this name, and no other domain have one. Done when it returns. Waits: not for a thread with a runtime.
    ///
    /// # Errors
    /// A route is not there: nothing has changed. Or the relay has ended.
    pub fn set_domains(&self, domains: &[(String, String)]) -> Result<(), ApiError> {
        let index = |(domain, route): &(String, String)| {
            let index = self.routes.iter().position(|known| known == route);
            index
                .map(|index| (domain.clone(), index))
                .ok_or_else(|| ApiError::Route { domain: domain.clone(), route: route.clone() })
        };
        let domains = domains.iter().map(index).collect::<Result<_, _>>()?;
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Domains(domains, answer)).map_err(|_| ApiError::Stopped)?;
        answered.blocking_recv().map_err(|_| ApiError::Stopped)
    }

    /// The items of a page that fit, and behind what the next page begins, where there may be one.
    async fn items(
        &self,
        query: &Query,
        page: Page,
        parks: bool,
    ) -> Result<(Vec<Item>, Option<Key>), ApiError> {
        let asked = query.clone();
        let facts = self.ask(|answer| Request::Facts { query: asked, page, parks, answer }).await?;
        let last = facts.last().filter(|_| facts.len() >= page.max).map(crate::facts::Fact::key);
        let (storage, query) = (self.storage.clone(), query.clone());
        let read = tokio::task::spawn_blocking(move || items(&storage, facts, &query, now_us()));
        Ok((read.await.map_err(|_| ApiError::Stopped)?, last))
    }

    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).map_err(|_| ApiError::Stopped)?;
        answered.await.map_err(|_| ApiError::Stopped)
    }
}
