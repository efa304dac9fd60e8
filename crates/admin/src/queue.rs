//! `/api/v1/queue`: the way to whoever knows the queue, which this crate does not.

use std::pin::Pin;

use hyper::StatusCode;
use serde_json::{Value, json};

/// An answer of the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Status code of HTTP.
    pub status: StatusCode,
    /// The document.
    pub body: Value,
}

impl Answer {
    /// A document.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body }
    }

    /// Why there is none.
    #[must_use]
    pub fn refused(status: StatusCode, why: &str) -> Self {
        Self { status, body: json!({ "error": why }) }
    }
}

/// Answers requests about the queue, or about something else that this crate does not know.
pub trait QueueApi: Send + Sync {
    /// Answers a request for `path` (behind `/api/v1/`) with the parameters of `query`, not decoded; `changes` when it was a POST, which it always is for `drain` and `reload`.
    fn answer(
        &self,
        changes: bool,
        path: &str,
        query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>>;
}
