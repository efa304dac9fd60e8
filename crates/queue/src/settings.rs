//! What steers the queue, with its defaults.

use std::time::Duration;

/// Settings of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long delivery of a message is tried; then it is given up with a bounce. RFC 5321 §4.5.4.1: at least 4 to 5 days.
    pub lifetime: Duration,
    /// Age at which the sender is told of a delay, once; 0 = never.
    pub delay_warning_after: Duration,
    /// Pause after the first failed attempt; it grows with each one. RFC 5321 §4.5.4.1 asks for 30 minutes in general, and shorter ones at the
    /// beginning.
    pub retry_first: Duration,
    /// The longest pause between two attempts.
    pub retry_max: Duration,
    /// How long outcomes are kept for questions about what became of a message.
    pub history_age: Duration,
    /// Octets of outcomes that are kept at most; what the queue itself needs stays.
    pub history_bytes: u64,
    /// How long messages are kept in the log after they were delivered, for a replay; 0 = not at all.
    pub keep_delivered: Duration,
    /// Age from which on messages still owed are moved out of an arrival log that is mostly delivered.
    pub evacuate_after: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_hours(5 * 24),
            delay_warning_after: Duration::from_hours(4),
            retry_first: Duration::from_mins(5),
            retry_max: Duration::from_hours(4),
            history_age: Duration::from_hours(7 * 24),
            history_bytes: 1 << 30,
            keep_delivered: Duration::ZERO,
            evacuate_after: Duration::from_mins(40),
        }
    }
}

impl QueueSettings {
    /// The pause after attempt number `attempts` (from 1): the first, then twice, four, six, … times as long, up to the longest; that is after
    /// 5, 10, 20, 30 … minutes with the defaults. `random` spreads it by a quarter up or down, so that what failed together does not come back together.
    #[must_use]
    pub fn pause(&self, attempts: u32, random: u64) -> Duration {
        let factor = match attempts {
            0 | 1 => 1,
            2 => 2,
            more => (more - 1).saturating_mul(2),
        };
        let pause = self.retry_first.saturating_mul(factor).min(self.retry_max);
        let quarter = u64::try_from(pause.as_micros() / 4).unwrap_or(u64::MAX);
        let spread = Duration::from_micros(random % (2 * quarter + 1).max(1));
        pause - Duration::from_micros(quarter) + spread
    }
}

impl QueueSettings {
    /// The longest pause, spread to its most.
    pub(crate) fn pause_max(&self) -> Duration {
        self.retry_max.saturating_add(self.retry_max / 4).saturating_add(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_are_spread() {
        let settings = QueueSettings::default();
        let middle = |attempts| {
            let quarter = settings.pause(attempts, 0).as_secs_f64() / 3.0;
            (settings.pause(attempts, 0).as_secs_f64() + quarter).round() / 60.0
        };
        assert_eq!([1, 2, 3, 4].map(middle), [5.0, 10.0, 20.0, 30.0]);
        assert_eq!(middle(1000), 240.0);
        for random in [0, 1, 77, u64::MAX] {
            let pause = settings.pause(3, random);
            assert!((Duration::from_mins(15)..=Duration::from_mins(25)).contains(&pause), "{pause:?}");
        }
        let at_once = QueueSettings { retry_first: Duration::ZERO, ..settings };
        assert_eq!(at_once.pause(5, 3), Duration::ZERO);
    }
}
