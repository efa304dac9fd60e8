//! `GET /api/v1/events`: one sample a second for everybody who watches (server-sent events).
//!
//! ```text
//!   sampler (one task, only while there are viewers) ─▶ the octets of one event ─┬▶ viewer: a few events at most wait ─▶ connection
//!                                                                               └▶ viewer …
//! ```
//! Whatever the number of viewers, a sample is taken and written once; a viewer costs the copy into its socket. One that does not read is dropped
//! as soon as the kernel takes no more and [`WAITING_MAX`] events wait. A viewer does not count as a connection of the server: others are answered
//! while viewers sit there. The end of the server ends the streams in order.
//!
//! Standards: HTML, "Server-sent events".

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::sample::Sampler;

/// Events that may wait for a viewer whose connection takes no more.
const WAITING_MAX: usize = 8;
/// So many events have a comment in front of the next one: proxies that look for silence count whole lines of another kind, too.
const HEARTBEAT_EVERY: u64 = 15;
/// How long a browser waits before it comes back when its stream has ended.
const GREETING: &str = "retry: 2000\n: inrush\n\n";

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// There are as many as there may be.
    ViewersMax,
    /// The server ends.
    Stopping,
}

impl NoPlace {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ViewersMax => "viewers_max: as many dashboards as may be are watching",
            Self::Stopping => "the server is stopping",
        }
    }
}

/// All viewers.
pub(crate) struct Hub {
    viewers_max: usize,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    viewers: Vec<Seat>,
    /// The last event while there are viewers: who comes later has not to wait.
    last: Option<Bytes>,
    sampler: Option<Sampler>,
    stopping: bool,
}

/// The sampler's end of a viewer.
struct Seat {
    events: mpsc::Sender<Bytes>,
    dropped: Arc<Notify>,
}

impl Hub {
    pub(crate) fn new(sampler: Sampler, viewers_max: usize, interval: Duration) -> Arc<Self> {
        let state = State { sampler: Some(sampler), ..State::default() };
        Arc::new(Self { viewers_max, interval, state: Mutex::new(state) })
    }

    /// Takes in a viewer; `dropped` hears when it has to go because it does not read.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub(crate) fn watch(self: &Arc<Self>, dropped: Arc<Notify>) -> Result<Viewer, NoPlace> {
        let mut state = self.state();
        if state.stopping {
            return Err(NoPlace::Stopping);
        }
        // Those who have left are seen at the next sample, or here.
        state.viewers.retain(|seat| !seat.events.is_closed());
        if state.viewers.len() >= self.viewers_max {
            return Err(NoPlace::ViewersMax);
        }
        if state.viewers.is_empty() {
            // The last one has just left: what it saw is old.
            state.last = None;
        }
        let (events, received) = mpsc::channel(WAITING_MAX);
        for octets in
            [Some(Bytes::from_static(GREETING.as_bytes())), state.last.clone()].into_iter().flatten()
        {
            // Room for both was made just above.
            let _ = events.try_send(octets);
        }
        state.viewers.push(Seat { events, dropped });
        if let Some(sampler) = state.sampler.take() {
            tokio::spawn(Arc::clone(self).run(sampler));
        }
        Ok(Viewer { received })
    }

    /// Ends all streams; nobody is taken in any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.stopping = true;
        state.viewers.clear();
    }

    /// Takes samples until nobody watches.
    async fn run(self: Arc<Self>, mut sampler: Sampler) {
        sampler.begin();
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            ticks.tick().await;
            let Some(watched) = self.rest(sampler) else { return };
            sampler = watched;
            let sample = sampler.sample().await;
            count += 1;
            let heartbeat = if count % HEARTBEAT_EVERY == 0 { ": heartbeat\n" } else { "" };
            // One line, whatever the texts in it hold: JSON escapes line ends.
            self.send(Bytes::from(format!("{heartbeat}event: sample\nid: {count}\ndata: {sample}\n\n")));
        }
    }

    /// Takes the sampler back when nobody watches.
    fn rest(&self, sampler: Sampler) -> Option<Sampler> {
        let mut state = self.state();
        state.viewers.retain(|seat| !seat.events.is_closed());
        if !state.viewers.is_empty() {
            return Some(sampler);
        }
        state.last = None;
        state.sampler = Some(sampler);
        None
    }

    fn send(&self, event: Bytes) {
        let mut state = self.state();
        state.viewers.retain(|seat| {
            let sent = seat.events.try_send(event.clone());
            if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                tracing::debug!("a viewer of the dashboard does not read: dropped");
                seat.dropped.notify_one();
            }
            sent.is_ok()
        });
        state.last = Some(event);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of events, as the body of an answer.
pub(crate) struct Viewer {
    received: mpsc::Receiver<Bytes>,
}

impl Body for Viewer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.received.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use http_body_util::BodyExt as _;
    use inrush_metrics::{Metrics, Names};

    use super::*;
    use crate::Readiness;

    fn hub(viewers_max: usize) -> Arc<Hub> {
        let sampler = Sampler::new(Metrics::new(Names::default(), 1), Readiness::default(), None);
        Hub::new(sampler, viewers_max, Duration::from_secs(1))
    }

    async fn next(viewer: &mut Viewer) -> Option<String> {
        let frame = viewer.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn all_viewers_get_the_same_octets() {
        let hub = hub(2);
        let mut first = hub.watch(Arc::default()).unwrap();
        let mut second = hub.watch(Arc::default()).unwrap();
        assert_eq!(hub.watch(Arc::default()).err(), Some(NoPlace::ViewersMax));
        assert_eq!(next(&mut first).await.unwrap(), GREETING);
        let event = next(&mut first).await.unwrap();
        assert!(event.starts_with("event: sample\nid: 1\ndata: {") && event.ends_with("}\n\n"), "{event}");
        next(&mut second).await.unwrap();
        assert_eq!(next(&mut second).await.unwrap(), event);
        // A place is free again, and who comes now gets the last sample at once.
        drop(second);
        let mut third = hub.watch(Arc::default()).unwrap();
        next(&mut third).await.unwrap();
        assert!(next(&mut third).await.unwrap().starts_with("event: sample\nid: "));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_dropped_and_the_others_stay() {
        let hub = hub(2);
        let gone = Arc::new(Notify::new());
        let mut lazy = hub.watch(Arc::clone(&gone)).unwrap();
        let mut busy = hub.watch(Arc::default()).unwrap();
        let read = async { while next(&mut busy).await.is_some() {} };
        tokio::select! {
            () = gone.notified() => {}
            () = read => panic!("the other one has ended"),
        }
        let mut kept = 0;
        while next(&mut lazy).await.is_some() {
            kept += 1;
        }
        assert_eq!(kept, WAITING_MAX);
        assert!(next(&mut busy).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn samples_are_taken_only_while_somebody_looks() {
        let hub = hub(1);
        let viewer = hub.watch(Arc::default()).unwrap();
        assert!(hub.state().sampler.is_none());
        drop(viewer);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(hub.state().sampler.is_some() && hub.state().last.is_none());
        let mut viewer = hub.watch(Arc::default()).unwrap();
        next(&mut viewer).await.unwrap();
        hub.close();
        assert!(next(&mut viewer).await.is_none());
        assert_eq!(hub.watch(Arc::default()).err(), Some(NoPlace::Stopping));
    }
}
