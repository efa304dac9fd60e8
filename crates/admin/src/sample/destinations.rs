//! The destinations for which the most waits, asked of the queue as seldom as its answers are slow.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::{Answer, QueueApi};

/// How often they are asked for when the answer costs nothing.
const PAUSE: Duration = Duration::from_secs(3);
/// The queue looks through everything that waits: an answer may take this share of its time.
const SHARE: u32 = 100;
/// How often they are asked for at least: an answer is also slow because the machine is, and then somebody wants to see it.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a sample waits for the answer. One that comes later is for the next sample: a queue that does not answer must not stop the view.
const PATIENCE: Duration = Duration::from_millis(100);
/// Destinations in a sample.
const QUERY: &str = "limit=10";

/// What was last known.
pub(super) struct Destinations {
    queue: Option<Arc<dyn QueueApi>>,
    known: Value,
    /// A question that has not been answered, and when it was put.
    asked: Option<(Instant, JoinHandle<Answer>)>,
    next: Instant,
}

impl Destinations {
    pub(super) fn new(queue: Option<Arc<dyn QueueApi>>) -> Self {
        Self { queue, known: Value::Null, asked: None, next: Instant::now() }
    }

    /// The list, some seconds old perhaps; `null` when the queue has not said.
    pub(super) async fn latest(&mut self) -> Value {
        let Some(queue) = &self.queue else { return Value::Null };
        let now = Instant::now();
        if self.asked.is_none() && now >= self.next {
            self.asked = Some((now, tokio::spawn(queue.answer(false, "queue/destinations", QUERY))));
        }
        if let Some((begun, asked)) = &mut self.asked
            && let Ok(answer) = timeout(PATIENCE, asked).await
        {
            self.next = Instant::now() + (begun.elapsed() * SHARE).clamp(PAUSE, PAUSE_MAX);
            self.asked = None;
            if let Ok(mut answer) = answer
                && answer.status == StatusCode::OK
            {
                self.known = answer.body["destinations"].take();
            }
        }
        self.known.clone()
    }
}

impl Drop for Destinations {
    fn drop(&mut self) {
        if let Some((_, asked)) = &self.asked {
            asked.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;
    use tokio::time::sleep;

    use super::*;

    /// Numbers its answers, and takes its time.
    struct Slow {
        seconds: u64,
        asked: AtomicU64,
    }

    impl QueueApi for Slow {
        fn answer(
            &self,
            _: bool,
            _: &str,
            _: &str,
        ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
            let (number, seconds) = (self.asked.fetch_add(1, Ordering::Relaxed) + 1, self.seconds);
            Box::pin(async move {
                sleep(Duration::from_secs(seconds)).await;
                Answer::ok(json!({ "destinations": number }))
            })
        }
    }

    fn slow(seconds: u64) -> (Arc<Slow>, Destinations) {
        let queue = Arc::new(Slow { seconds, asked: AtomicU64::new(0) });
        (Arc::clone(&queue), Destinations::new(Some(queue)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_slow_does_not_hold_up_the_samples_and_is_asked_again() {
        let (queue, mut destinations) = slow(5);
        let begun = Instant::now();
        assert_eq!(destinations.latest().await, Value::Null);
        assert!(begun.elapsed() < Duration::from_secs(1));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(destinations.latest().await, 1);
        // Five seconds are a hundredth of more than eight minutes: nobody would see anything of what is new.
        sleep(PAUSE_MAX).await;
        assert_eq!(destinations.latest().await, 1);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(destinations.latest().await, 2);
        assert_eq!(queue.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_fast_is_asked_every_few_seconds_and_one_that_never_answers_once() {
        let (queue, mut destinations) = slow(0);
        for second in 0..10 {
            assert_eq!(destinations.latest().await, 1 + second / 3);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(queue.asked.load(Ordering::Relaxed), 4);
        let (queue, mut destinations) = slow(u64::MAX / 2);
        for _ in 0..200 {
            assert_eq!(destinations.latest().await, Value::Null);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(queue.asked.load(Ordering::Relaxed), 1);
    }
}
