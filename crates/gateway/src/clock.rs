//! Time as a core sees it: one monotonic reading per input, and the wall clock derived from it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the start of the core, and what they are on the wall.
#[derive(Debug)]
pub(crate) struct Clock {
    start: u64,
    recent: Cell<u64>,
    wall_at_start: Cell<u64>,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let clock = Self { start: monotonic(), recent: Cell::new(0), wall_at_start: Cell::new(0) };
        clock.follow_wall();
        clock
    }

    /// Microseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        let now = monotonic().saturating_sub(self.start);
        self.recent.set(now);
        now
    }

    /// The last reading: good enough where seconds count, and free.
    pub(crate) fn recent(&self) -> u64 {
        self.recent.get()
    }

    /// `now` in microseconds since 1970, UTC.
    pub(crate) fn wall(&self, now: u64) -> u64 {
        self.wall_at_start.get().saturating_add(now)
    }

    /// Takes over a wall clock that was set or slewed; called now and then.
    pub(crate) fn follow_wall(&self) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        self.wall_at_start.set(wall.saturating_sub(self.now()));
    }
}

/// The monotonic clock of the system in microseconds. Read several times a message: `Instant` would take it apart and put it together again.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Never negative.
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1_000
}
