//! The destinations for which the most waits, asked of the queue as seldom as its answers are slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::Value;

use crate::QueueApi;

/// How often they are asked for when the answer costs nothing.
const PAUSE: Duration = Duration::from_secs(3);
/// The queue looks through everything that waits: an answer may take this share of its time.
const SHARE: u32 = 100;
/// Destinations in a sample.
const QUERY: &str = "limit=10";

/// What was last known.
pub(super) struct Destinations {
    queue: Option<Arc<dyn QueueApi>>,
    known: Value,
    next: Option<Instant>,
}

impl Destinations {
    pub(super) fn new(queue: Option<Arc<dyn QueueApi>>) -> Self {
        Self { queue, known: Value::Null, next: None }
    }

    /// The list, a few seconds old perhaps; `null` when the queue has not said.
    pub(super) async fn latest(&mut self) -> Value {
        let Some(queue) = &self.queue else { return Value::Null };
        let begun = Instant::now();
        if self.next.is_none_or(|next| begun >= next) {
            let mut answer = queue.answer(false, "queue/destinations", QUERY).await;
            self.next = Some(Instant::now() + PAUSE.max(begun.elapsed() * SHARE));
            if answer.status == StatusCode::OK {
                self.known = answer.body["destinations"].take();
            }
        }
        self.known.clone()
    }
}
