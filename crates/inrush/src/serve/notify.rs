//! What the service manager is told: sd_notify(3). Nothing, where there is none.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Connections are taken, by this process.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
}

/// Another process is to be looked after from now on.
pub(super) fn main_process_is(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// The end of the service has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Tells the service manager that every core still turns; where one does not, it hears nothing, and starts the service anew.
pub(super) struct Watchdog {
    /// How long the service manager waits for a word.
    interval: Duration,
    told: Option<Instant>,
    cores: Vec<Core>,
}

struct Core {
    beats: u64,
    since: Instant,
}

impl Watchdog {
    /// If the service manager has one.
    pub(super) fn find() -> Option<Self> {
        sd_notify::watchdog_enabled().map(|interval| Self { interval, told: None, cores: Vec::new() })
    }

    /// Looks at the beats of all cores; at least once a second.
    pub(super) fn look(&mut self, beats: impl Iterator<Item = Option<u64>>) {
        let now = Instant::now();
        if self.all_turn(beats, now) && self.told.is_none_or(|told| now - told >= self.interval / 4) {
            self.told = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Whether each core that has not ended has looked over everything within half of the interval.
    fn all_turn(&mut self, beats: impl Iterator<Item = Option<u64>>, now: Instant) -> bool {
        let mut all_turn = true;
        for (index, beats) in beats.enumerate() {
            if self.cores.len() == index {
                self.cores.push(Core { beats: 0, since: now });
            }
            let core = &mut self.cores[index];
            let turns = beats.is_none_or(|beats| beats != core.beats);
            if turns {
                *core = Core { beats: beats.unwrap_or_default(), since: now };
            }
            all_turn &= turns || now - core.since < self.interval / 2;
        }
        all_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_stands_still_is_found() {
        let mut watchdog = Watchdog { interval: Duration::from_secs(30), told: None, cores: Vec::new() };
        let start = Instant::now();
        let mut all_turn = |seconds, beats: [Option<u64>; 2]| {
            watchdog.all_turn(beats.into_iter(), start + Duration::from_secs(seconds))
        };
        assert!(all_turn(0, [Some(0), Some(0)]), "they have just been started");
        assert!(all_turn(14, [Some(14), Some(1)]));
        assert!(all_turn(28, [Some(28), Some(1)]), "not for long enough");
        assert!(!all_turn(29, [Some(29), Some(1)]));
        assert!(all_turn(30, [Some(30), Some(2)]), "it turns again");
        assert!(all_turn(60, [Some(60), None]), "a core that has ended has nothing to do");
    }
}
