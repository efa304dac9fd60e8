//! Those who look, and what each may see.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, RingBuffer};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::core::{CoreTrace, RING_OCTETS};
use crate::filter::Filter;
use crate::reader;

/// Tracers at a time.
pub const TRACERS_MAX: usize = 4;

/// Events that wait for one tracer.
pub const CHANNEL_EVENTS: usize = 4096;

/// What one tracer is shown at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions.
    pub sessions: u32,
    /// Octets of events.
    pub octets: u64,
    /// Time.
    pub time: Duration,
}

impl Limits {
    /// Sessions that can be asked for.
    pub const SESSIONS_MAX: u32 = 10_000;
    /// Time that can be asked for.
    pub const TIME_MAX: Duration = Duration::from_hours(1);
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 100, octets: 16 << 20, time: Duration::from_mins(5) }
    }
}

/// Why somebody may not look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many do already.
    #[error("too many traces: {TRACERS_MAX} run already")]
    TooMany,
    /// The thread that reads the rings could not be made.
    #[error("no thread for the trace: {0}")]
    Thread(String),
}

/// Somebody who looks, as cores and the reader see them.
pub(crate) struct Tracer {
    pub(crate) filter: Filter,
    /// Its place among all.
    pub(crate) bit: u8,
    /// The generation that it came with.
    pub(crate) born: u16,
    sessions_left: AtomicU32,
    sessions_open: AtomicU32,
    pub(crate) octets_left: AtomicU64,
    pub(crate) until: Instant,
    /// Events that did not reach it.
    pub(crate) lost: AtomicU64,
    pub(crate) events: Sender<Value>,
    /// It has been told why it ends.
    pub(crate) over: AtomicBool,
}

impl Tracer {
    /// Whether it may see one more session.
    pub(crate) fn take_session(&self) -> bool {
        let taken = self.sessions_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if taken {
            self.sessions_open.fetch_add(1, Relaxed);
        }
        taken
    }

    /// One of its sessions is over; gives back whether that was the last that it may see.
    pub(crate) fn session_over(&self) -> bool {
        let open = self.sessions_open.fetch_sub(1, Relaxed).saturating_sub(1);
        open == 0 && self.sessions_left.load(Relaxed) == 0
    }
}

/// All of them.
pub(crate) struct Hub {
    /// Changes with the list; 0 = nobody looks.
    pub(crate) generation: AtomicU16,
    /// Events that found no room in the ring of their core.
    pub(crate) lost: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tracers: Vec<Arc<Tracer>>,
    /// The last generation that was given out.
    last: u16,
    /// Rings by core, when nobody reads them.
    rings: Vec<(usize, Consumer<u8>)>,
    reading: bool,
}

static HUB: OnceLock<Hub> = OnceLock::new();

fn hub() -> &'static Hub {
    HUB.get_or_init(|| Hub {
        generation: AtomicU16::new(0),
        lost: AtomicU64::new(0),
        state: Mutex::default(),
    })
}

/// What the core with this number tells with.
#[must_use]
pub fn of_core(number: usize) -> CoreTrace {
    let (ring, other) = RingBuffer::new(RING_OCTETS);
    hub().state().rings.push((number, other));
    CoreTrace::new(hub(), ring)
}

/// What somebody sees; they stop to look when it is dropped.
pub struct Watch {
    tracer: Arc<Tracer>,
    events: Receiver<Value>,
    over: bool,
}

/// Begins to look.
///
/// # Errors
/// [`Refused`]
pub fn watch(filter: Filter, limits: Limits) -> Result<Watch, Refused> {
    let hub = hub();
    let mut state = hub.state();
    let used = state.tracers.iter().fold(0, |used, tracer| used | tracer.bit);
    let free = (0..TRACERS_MAX).map(|place| 1_u8 << place).find(|bit| used & bit == 0);
    let bit = free.ok_or(Refused::TooMany)?;
    let (events, receiver) = mpsc::channel(CHANNEL_EVENTS);
    // There is room for it.
    let _ = events.try_send(json!({ "event": "watching" }));
    let tracer = Arc::new(Tracer {
        filter,
        bit,
        born: state.next(),
        sessions_left: AtomicU32::new(limits.sessions.clamp(1, Limits::SESSIONS_MAX)),
        sessions_open: AtomicU32::new(0),
        octets_left: AtomicU64::new(limits.octets),
        until: Instant::now() + limits.time.min(Limits::TIME_MAX),
        lost: AtomicU64::new(0),
        events,
        over: AtomicBool::new(false),
    });
    if !state.reading {
        // Here, and not in its thread: what comes from now on is for this one.
        let reader = reader::Reader::new(hub, std::mem::take(&mut state.rings));
        let started = thread::Builder::new().name("inrush-trace".to_owned()).spawn(move || reader.run());
        started.map_err(|error| Refused::Thread(error.to_string()))?;
        state.reading = true;
    }
    state.tracers.push(Arc::clone(&tracer));
    hub.generation.store(tracer.born, Release);
    Ok(Watch { tracer, events: receiver, over: false })
}

impl Watch {
    /// The next event; `None` when there will be no more.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Value>> {
        if self.over {
            return std::task::Poll::Ready(None);
        }
        let next = self.events.poll_recv(context);
        if let std::task::Poll::Ready(Some(event)) = &next {
            self.over = event["event"] == "over";
        }
        next
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        hub().remove(&self.tracer);
    }
}

impl Hub {
    pub(crate) fn tracers(&self) -> Vec<Arc<Tracer>> {
        self.state().tracers.clone()
    }

    /// Takes a tracer out of the list.
    pub(crate) fn remove(&self, tracer: &Arc<Tracer>) {
        let mut state = self.state();
        let before = state.tracers.len();
        state.tracers.retain(|other| !Arc::ptr_eq(other, tracer));
        if state.tracers.len() < before {
            let generation = if state.tracers.is_empty() { 0 } else { state.next() };
            self.generation.store(generation, Release);
        }
    }

    /// Rings of cores that have come since; and, when nobody looks any more, gives `rings` back for the next one: the reader ends then.
    pub(crate) fn rings(&self, rings: &mut Vec<(usize, Consumer<u8>)>) -> bool {
        let mut state = self.state();
        rings.append(&mut state.rings);
        if state.tracers.is_empty() {
            state.reading = false;
            state.rings = std::mem::take(rings);
            return false;
        }
        true
    }

    /// Tells a tracer why it sees no more.
    pub(crate) fn end(&self, tracer: &Arc<Tracer>, why: &str) {
        if !tracer.over.swap(true, Acquire) {
            // One without room has been told of losses before, or is told of nothing.
            let _ = tracer.events.try_send(json!({ "event": "over", "reason": why }));
            self.remove(tracer);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A generation that was not there before, and is not 0.
    fn next(&mut self) -> u16 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::core::Traced;
    use crate::event::Event;

    /// The next event, whatever it takes.
    fn next(watch: &mut Watch) -> Option<Value> {
        let runtime = std::sync::mpsc::channel::<()>();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(event) = watch.poll_next(&mut context) {
                return event;
            }
            // Only a pause.
            let _ = runtime.1.recv_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_session_is_seen_by_who_has_asked_for_it() {
        let core = of_core(3);
        let (five, six): (IpAddr, IpAddr) = ([127, 0, 0, 5].into(), [127, 0, 0, 6].into());
        let (mut early, mut other) = (Traced::default(), Traced::default());
        assert!(!core.is_due(early), "nobody looks");
        let filter = Filter::new(Some("127.0.0.5"), None).expect("a filter");
        let mut watch = watch(filter, Limits { sessions: 1, ..Limits::default() }).expect("a trace");
        assert_eq!(next(&mut watch).map(|event| event["event"].clone()), Some("watching".into()));
        assert!(core.is_due(early) && core.match_client(&mut early, five) && early.is_seen());
        assert!(!core.match_client(&mut other, six) && !core.is_due(other) && !other.is_seen());
        core.attend(early, 7, 100, 350, 1_000);
        core.tell_command(b"auth plain c2VjcmV0", true, true);
        core.tell_command(b"c2VjcmV0", false, false);
        core.leave(&mut early);
        core.attend(other, 8, 0, 0, 0);
        core.tell(&Event::Reply(b"250 not seen"));
        core.attend(early, 7, 100, 400, 1_050);
        core.tell_command(b"again", false, false);
        core.tell(&Event::End("quit"));
        let told: Vec<Value> = std::iter::from_fn(|| next(&mut watch)).collect();
        let texts: Vec<&str> = told.iter().filter_map(|event| event["text"].as_str()).collect();
        assert_eq!(texts, ["AUTH plain ...", "(behind AUTH, not shown)", "(behind AUTH, not shown)"]);
        assert_eq!(told[0]["session"], "3-7");
        assert_eq!(told[0]["at"], 0.00025);
        assert_eq!(told[3]["end"], "quit");
        assert_eq!(told[4], json!({ "event": "over", "reason": "sessions" }));
        drop(watch);
        assert!(core.is_due(early) && !core.match_client(&mut early, five) && !early.is_seen());
    }
}
