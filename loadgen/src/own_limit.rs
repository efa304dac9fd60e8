//! Whether the generator itself was the limit: how busy its threads were, how long they waited for a CPU, and how late planned messages
//! started although a session was free.
//!
//! A load generator that is out of breath measures itself. Then the report says so, so that nobody takes its limit for the server's.

use std::cell::{Cell, RefCell};
use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::record::{Record, nanoseconds};

/// From this share of the time on a thread counts as busy without a pause.
pub const BUSY_MAX: f64 = 0.90;
/// A thread that waited for a CPU for more than this share of the time did not have it for itself.
pub const QUEUED_MAX: f64 = 0.10;
/// Planned messages may start so late at the 99th percentile …
pub const LATENESS_MAX: Duration = Duration::from_millis(1);
/// … or by this share of the 99th percentile of the total, whichever is more.
pub const LATENESS_SHARE_MAX: f64 = 0.10;

/// A shorter window is not judged: clocks of CPU time move in steps.
const WALL_MIN: Duration = Duration::from_millis(100);

/// What one thread of the generator did in the measured window.
#[derive(Clone, Debug)]
pub struct OwnCore {
    /// Number of the thread.
    pub core: usize,
    /// Length of the window.
    pub wall: Duration,
    /// CPU time of the thread.
    pub busy: Duration,
    /// Time in which it could have run and another one did.
    pub queued: Duration,
    /// Open loop: from the planned time of a message to its start, of messages that had a free session all the while. Nanoseconds.
    pub lateness: Histogram<u64>,
}

impl OwnCore {
    /// Share of the window, 0 to 1.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        share(self.busy, self.wall)
    }

    /// Share of the window, 0 to 1.
    #[must_use]
    pub fn queued_share(&self) -> f64 {
        share(self.queued, self.wall)
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// Why the generator was the limit; empty when it was not. `total_p99`: of the latencies it measured.
#[must_use]
pub fn reasons(cores: &[OwnCore], total_p99: Duration) -> Vec<String> {
    let mut reasons = Vec::new();
    for core in cores {
        let index = core.core;
        let busy = core.utilisation();
        if busy >= BUSY_MAX {
            reasons.push(format!("thread {index} was busy {:.0} % of the time", busy * 100.0));
        }
        let queued = core.queued_share();
        if queued >= QUEUED_MAX {
            reasons.push(format!("thread {index} waited for a CPU {:.0} % of the time", queued * 100.0));
        }
        if core.lateness.is_empty() {
            continue;
        }
        let late = Duration::from_nanos(core.lateness.value_at_quantile(0.99));
        if late > LATENESS_MAX.max(total_p99.mul_f64(LATENESS_SHARE_MAX)) {
            let late = late.as_secs_f64() * 1e3;
            reasons.push(format!(
                "thread {index} started 1 % of its messages more than {late:.1} ms late although a session was free"
            ));
        }
    }
    reasons
}

/// The same by what messages came to: those that could not be sent for want of something here.
#[must_use]
pub fn wants(record: &Record) -> Option<String> {
    let count = record.counts.not_possible + record.warmup.not_possible;
    let causes = record.causes.iter().filter(|(cause, _)| cause.place == "generator");
    let examples: Vec<&str> = causes.map(|(_, occurrences)| occurrences.example.as_str()).collect();
    (count > 0).then(|| format!("{count} messages could not be sent from here: {}", examples.join("; ")))
}

/// Counters of the calling thread at a moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    busy: Duration,
    queued: Duration,
}

impl Reading {
    fn now() -> Self {
        let busy = clock_gettime(ClockId::ThreadCPUTime);
        // Second word: nanoseconds on a run queue. Kernels without the counter leave it out.
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let queued = schedstat.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
        Self {
            at: Instant::now(),
            busy: Duration::new(
                u64::try_from(busy.tv_sec).unwrap_or(0),
                u32::try_from(busy.tv_nsec).unwrap_or(0),
            ),
            queued: Duration::from_nanos(queued.unwrap_or(0)),
        }
    }
}

/// Measures the thread it lives on.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Cell<Option<Reading>>,
    /// Where the window ends, as far as is known.
    marked: Cell<Option<Reading>>,
    lateness: RefCell<Histogram<u64>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { begun: Cell::new(None), marked: Cell::new(None), lateness: RefCell::new(nanoseconds()) }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// The window begins.
    pub(crate) fn begin(&self) {
        self.begun.set(Some(Reading::now()));
    }

    /// The window ends here, unless it is marked again: what follows is waiting for the last replies, in which a thread that was out of breath
    /// would look idle.
    pub(crate) fn mark(&self) {
        if self.has_begun() {
            self.marked.set(Some(Reading::now()));
        }
    }

    /// Back to the start, for another window.
    pub(crate) fn reset(&self) {
        self.begun.set(None);
        self.marked.set(None);
        self.lateness.replace(nanoseconds());
    }

    /// A message started so late although a session was free.
    pub(crate) fn late(&self, late: Duration) {
        let late = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.lateness.borrow_mut().saturating_record(late);
    }

    /// The window ends, where it was marked or else now. None: it was too short to begin.
    pub(crate) fn end(&self, core: usize) -> Option<OwnCore> {
        let begun = self.begun.take()?;
        let ended = self.marked.take().unwrap_or_else(Reading::now);
        let wall = ended.at - begun.at;
        (wall >= WALL_MIN).then(|| OwnCore {
            core,
            wall,
            busy: ended.busy.saturating_sub(begun.busy),
            queued: ended.queued.saturating_sub(begun.queued),
            lateness: self.lateness.replace(nanoseconds()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn core(busy: f64, queued: f64, late: Duration) -> OwnCore {
        let mut lateness = nanoseconds();
        lateness.record(u64::try_from(late.as_nanos()).unwrap()).unwrap();
        let wall = Duration::from_secs(10);
        OwnCore { core: 0, wall, busy: wall.mul_f64(busy), queued: wall.mul_f64(queued), lateness }
    }

    #[test]
    fn each_limit_is_told() {
        let (calm, p99) = (Duration::from_micros(50), Duration::from_millis(5));
        assert!(reasons(&[core(0.5, 0.05, calm)], p99).is_empty());
        for (core, word) in [
            (core(0.95, 0.0, calm), "busy 95 %"),
            (core(0.5, 0.2, calm), "waited for a CPU 20 %"),
            (core(0.5, 0.0, Duration::from_millis(3)), "3.0 ms late"),
        ] {
            let told = reasons(&[core], p99);
            assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
        }
        // 3 ms do not matter where the server takes 100.
        assert!(reasons(&[core(0.5, 0.0, Duration::from_millis(3))], Duration::from_millis(100)).is_empty());
        assert!(reasons(&[], p99).is_empty());
    }

    #[test]
    fn waiting_for_the_last_replies_is_no_part_of_the_window() {
        let meter = Meter::new();
        meter.mark();
        assert!(meter.end(0).is_none(), "nothing to mark before it begins");
        meter.begin();
        let begun = Instant::now();
        while begun.elapsed() < WALL_MIN * 2 {}
        meter.mark();
        let marked = begun.elapsed();
        std::thread::sleep(WALL_MIN * 10);
        assert!(meter.end(0).unwrap().wall <= marked);
    }

    #[test]
    fn a_thread_that_works_is_busy() {
        let meter = Meter::new();
        assert!(meter.end(0).is_none(), "it has not begun");
        meter.begin();
        let begun = Instant::now();
        assert!(meter.end(0).is_none(), "too short");
        meter.begin();
        while begun.elapsed() < WALL_MIN * 2 {}
        let core = meter.end(3).unwrap();
        assert!(core.core == 3 && core.busy > Duration::ZERO && core.wall >= WALL_MIN);
    }
}
