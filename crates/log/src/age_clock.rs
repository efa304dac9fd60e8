//! A clock that is trusted to say how old mail is.
//!
//! Retention by age deletes, so a wall clock that jumps ahead must not make everything old at once. The age clock follows the wall clock
//! back at once, but ahead only as fast as time since boot passes; a jump ahead is believed when it has lasted for a day. At start it
//! takes the wall clock to be right unless that is more than a day ahead of the newest time in the log.

/// How far the wall clock may run ahead of the time since boot before that counts as a jump: steps of time servers stay below.
const DRIFT_US: u64 = 5 * 60 * 1_000_000;
/// How long a jump ahead must last to be believed.
const BELIEF_US: u64 = 24 * 3600 * 1_000_000;

/// All times in µs: `wall` since 1970, `boot` since some fixed moment, suspends included.
#[derive(Clone, Copy, Debug)]
pub struct AgeClock {
    /// The time that is trusted, at the boot time beside it.
    trusted: u64,
    boot: u64,
    /// Since when the wall clock has been ahead.
    ahead_since: Option<u64>,
}

impl AgeClock {
    /// A clock at the start of the process; `newest` is the newest time that the log knows, if it knows any.
    #[must_use]
    pub fn start(wall: u64, boot: u64, newest: Option<u64>) -> Self {
        match newest {
            Some(newest) if wall > newest.saturating_add(BELIEF_US) => {
                Self { trusted: newest, boot, ahead_since: Some(boot) }
            }
            _ => Self { trusted: wall, boot, ahead_since: None },
        }
    }

    /// Now, for judging ages; never later than the wall clock.
    pub fn now(&mut self, wall: u64, boot: u64) -> u64 {
        let passed = self.trusted.saturating_add(boot.saturating_sub(self.boot));
        if wall <= passed.saturating_add(DRIFT_US) {
            (self.trusted, self.boot, self.ahead_since) = (wall, boot, None);
            return wall;
        }
        let since = *self.ahead_since.get_or_insert(boot);
        if boot.saturating_sub(since) >= BELIEF_US {
            (self.trusted, self.boot, self.ahead_since) = (wall, boot, None);
            return wall;
        }
        passed
    }

    /// Whether the wall clock has jumped ahead and is not believed yet.
    #[must_use]
    pub fn distrusts_wall(&self) -> bool {
        self.ahead_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * 1_000_000;
    const YEAR: u64 = 365 * 24 * HOUR;

    #[test]
    fn a_jump_ahead_is_believed_after_a_day() {
        let mut clock = AgeClock::start(YEAR, 0, None);
        assert_eq!(clock.now(YEAR + HOUR, HOUR), YEAR + HOUR);
        assert_eq!(clock.now(20 * YEAR, 2 * HOUR), YEAR + 2 * HOUR);
        assert_eq!(clock.now(20 * YEAR, 20 * HOUR), YEAR + 20 * HOUR);
        assert_eq!(clock.now(20 * YEAR, 27 * HOUR), 20 * YEAR);
        assert_eq!(clock.now(20 * YEAR + HOUR, 28 * HOUR), 20 * YEAR + HOUR);
    }

    #[test]
    fn a_jump_back_is_followed_at_once_and_so_is_the_way_home() {
        let mut clock = AgeClock::start(20 * YEAR, 0, None);
        assert_eq!(clock.now(YEAR, HOUR), YEAR, "everything looks young: nothing is retired");
        assert_eq!(clock.now(YEAR + HOUR, 2 * HOUR), YEAR + HOUR);
        assert_eq!(clock.now(20 * YEAR, 3 * HOUR), YEAR + 2 * HOUR, "now this is a jump ahead");
    }

    #[test]
    fn a_clock_far_ahead_of_the_log_at_start_is_not_trusted_for_a_day() {
        let mut clock = AgeClock::start(20 * YEAR, 0, Some(YEAR));
        assert_eq!(clock.now(20 * YEAR, HOUR), YEAR + HOUR);
        assert_eq!(clock.now(20 * YEAR, 24 * HOUR), 20 * YEAR);
        let mut clock = AgeClock::start(YEAR, 0, Some(YEAR - HOUR));
        assert_eq!(clock.now(YEAR, 0), YEAR);
    }

    #[test]
    fn small_steps_are_no_jumps() {
        let mut clock = AgeClock::start(YEAR, 0, None);
        assert_eq!(clock.now(YEAR + 4 * 60 * 1_000_000, 0), YEAR + 4 * 60 * 1_000_000);
    }
}
