//! Time as a core sees it: one monotonic reading per input, and the wall clock derived from it.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the start of the core, and what they are on the wall.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    recent: Cell<u64>,
    wall_at_start: Cell<u64>,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let clock = Self { start: Instant::now(), recent: Cell::new(0), wall_at_start: Cell::new(0) };
        clock.follow_wall();
        clock
    }

    /// Microseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        // 2^64 µs are 584,000 years.
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
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
