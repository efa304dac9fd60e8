//! What a core is short of, and what it does about it.
//!
//! ```text
//!   once a second:  what is in use ──▶ marks ──▶ calm · soft · hard   (gauge, log line, /readyz)
//!                                                   │      └─ refuses mail at MAIL or connections at the door, with the reason;
//!                                                   │         mail refused for long: the listening sockets are closed
//!                                                   └─ shorter time limits · a share of the sessions for each address · buffers are given back
//! ```
//! A level is reached at once, and left when [`CALM_LOOKS`] looks in a row have found the resource an eighth below the mark, for the highest level that
//! they have found.

use std::cell::Cell;
use std::time::Duration;

use inrush_log::AppendError;
use inrush_metrics::{CoreWriter, Gauge, Level, Resource};
use inrush_proto::Reply;

use crate::core::Core;
use crate::journal::Delays;
use crate::micros;

/// Looks in a row, one a second, for which a level has to be left behind.
const CALM_LOOKS: u8 = 3;

/// What a look at a resource has found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// So much is in use; a mark of 0 is none.
    InUse { used: u64, soft: u64, hard: u64 },
    /// Its own keeper has judged.
    Judged(Level),
}

impl Found {
    /// Of `hard` that may be in use, and a soft mark of so many percent: a place comes free at any moment, so that it is over its hard mark only while
    /// somebody is refused.
    fn places((used, hard): (u64, u64), soft_percent: u8, refused: bool) -> Self {
        if refused {
            return Self::Judged(Level::Hard);
        }
        Self::InUse { used, soft: percent_of(hard, soft_percent), hard: 0 }
    }

    /// A time that a message has taken. One alone is no pressure unless it is over the hard mark: `before` is that of the look before.
    fn time(now: u64, before: u64, soft: Duration, hard: Duration) -> Self {
        let hard = micros(hard);
        let used = if hard != 0 && now >= hard { now } else { now.min(before) };
        Self::InUse { used, soft: micros(soft), hard }
    }

    /// `hard` may be in use, and the soft mark is so many percent of it.
    pub(crate) fn share((used, hard): (u64, u64), soft_percent: u8) -> Self {
        Self::InUse { used, soft: percent_of(hard, soft_percent), hard }
    }

    fn level(self) -> Level {
        self.level_with(|mark| mark)
    }

    /// The level that is not left yet.
    fn level_kept(self) -> Level {
        self.level_with(|mark| mark - mark / 8)
    }

    fn level_with(self, scale: impl Fn(u64) -> u64) -> Level {
        let over = |used: u64, mark: u64| mark != 0 && used >= scale(mark);
        match self {
            Self::Judged(level) => level,
            Self::InUse { used, hard, .. } if over(used, hard) => Level::Hard,
            Self::InUse { used, soft, .. } if over(used, soft) => Level::Soft,
            Self::InUse { .. } => Level::Calm,
        }
    }
}

fn percent_of(whole: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// The level of one resource.
#[derive(Debug, Default)]
struct Mark {
    level: Cell<Level>,
    /// Looks in a row that have found a lower level, and the highest of what they have found.
    below: Cell<(u8, Level)>,
}

impl Mark {
    /// Takes note of a look; gives back the level before and now.
    fn look(&self, found: Found) -> (Level, Level) {
        let before = self.level.get();
        let seen = found.level().max(found.level_kept().min(before));
        let (looks, highest) = self.below.take();
        if seen >= before {
            self.level.set(seen);
        } else if looks + 1 < CALM_LOOKS {
            self.below.set((looks + 1, highest.max(seen)));
        } else {
            self.level.set(highest.max(seen));
        }
        (before, self.level.get())
    }
}

/// Whether connections were refused since the last look, for want of what.
#[derive(Debug, Default)]
pub(crate) struct RefusedConnections {
    pub(crate) sessions: Cell<bool>,
    pub(crate) descriptors: Cell<bool>,
}

/// The levels of a core.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    marks: [Mark; Resource::ALL.len()],
    /// What the log took at the look before.
    delays: Cell<Delays>,
}

impl Pressure {
    /// The level of one resource.
    pub(crate) fn of(&self, resource: Resource) -> Level {
        self.marks[resource as usize].level.get()
    }

    /// Whether any resource is over its soft mark that all sessions need. Handshakes are not: they have their own time limit.
    pub(crate) fn is_on(&self) -> bool {
        let short = |resource| resource != Resource::Handshakes && self.of(resource) >= Level::Soft;
        Resource::ALL.iter().copied().any(short)
    }

    fn look(&self, resource: Resource, found: Found, core: usize, metrics: &CoreWriter) {
        let (before, now) = self.marks[resource as usize].look(found);
        metrics.pressure(resource, now);
        let (resource, level) = (resource.value(), now.name());
        match now.cmp(&before) {
            std::cmp::Ordering::Greater => {
                tracing::warn!(core, resource, pressure = level, ?found, "pressure rises");
            }
            std::cmp::Ordering::Less => {
                tracing::info!(core, resource, pressure = level, ?found, "pressure falls");
            }
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// Resources without which no message can be taken: at their hard mark mail is refused.
const FOR_MAIL: [Resource; 5] =
    [Resource::Memory, Resource::PendingBytes, Resource::LogBacklog, Resource::LogWrite, Resource::LogSpace];

impl Core {
    /// Looks at everything that may run short, once a second, and does what follows from it.
    pub(crate) fn look_at_resources(&self) {
        let (marks, pool) = (&self.settings.pressure, &self.pool);
        if self.index == 0 {
            self.machine.look();
            self.metrics.set(Gauge::DescriptorsUsable, self.machine.descriptors().1);
        }
        let now = self.journal.take_delays(self.clock.now());
        let before = self.pressure.delays.replace(now);
        self.metrics.set(Gauge::LogBacklogMicroseconds, now.wait);
        self.metrics.set(Gauge::LogWriteMicroseconds, now.write);
        let log_write = if self.journal.hung() {
            Found::Judged(Level::Hard)
        } else {
            Found::time(now.write, before.write, marks.slow_after, Duration::ZERO)
        };
        let log_space = match self.journal.admission() {
            Err(AppendError::NoSpace(_)) => Level::Hard,
            _ if self.journal.space_low() => Level::Soft,
            _ => Level::Calm,
        };
        let sessions = (self.open.get() as u64, self.connections_max as u64);
        let (descriptors, refused) = (self.machine.descriptors(), &self.refused);
        let handshakes = (self.handshakes.get().into(), self.settings.budgets.handshakes_max.into());
        for (resource, found) in [
            (Resource::Connections, Found::places(sessions, marks.soft_percent, refused.sessions.take())),
            (
                Resource::Descriptors,
                Found::places(descriptors, marks.soft_percent, refused.descriptors.take()),
            ),
            (Resource::Memory, Found::share(self.machine.memory(), marks.soft_percent)),
            (Resource::Handshakes, Found::share(handshakes, marks.soft_percent)),
            (
                Resource::PendingBytes,
                Found::share((pool.held_bytes() as u64, pool.high_water() as u64), marks.soft_percent),
            ),
            (Resource::LogBacklog, Found::time(now.wait, before.wait, marks.slow_after, marks.backlog_max)),
            (Resource::LogWrite, log_write),
            (Resource::LogSpace, Found::Judged(log_space)),
        ] {
            self.pressure.look(resource, found, self.index, &self.metrics);
        }
        if self.pressure.of(Resource::Memory) >= Level::Soft {
            self.pool.let_go();
            (self.give_memory_back)();
        }
        self.refresh_refusal();
        self.open_or_close_doors();
    }

    /// Shows what the budgets are, those of the whole process by the first core.
    pub(crate) fn show_limits(&self) {
        let budgets = &self.settings.budgets;
        self.metrics.set(Gauge::ConnectionsLimit, self.connections_max as u64);
        self.metrics.set(Gauge::PendingBytesLimit, self.pool.held_bytes_max() as u64);
        self.metrics.set(Gauge::TlsHandshakesLimit, budgets.handshakes_max.into());
        if self.index == 0 {
            let marks = &self.settings.pressure;
            self.metrics.set(Gauge::LogBacklogLimitMicroseconds, micros(marks.backlog_max));
            self.metrics.set(Gauge::LogWriteLimitMicroseconds, micros(self.settings.timeouts.log_hung_after));
            self.metrics.set(Gauge::MemoryLimit, self.machine.memory().1);
        }
        self.journal.show();
    }

    /// Finds out whether new mail has to be refused at MAIL, and tells the sessions when that has changed.
    pub(crate) fn refresh_refusal(&self) {
        let admission = self.journal.admission();
        let at_hard_mark = |resource| self.pressure.of(resource) == Level::Hard;
        let refusal = match &admission {
            Err(AppendError::NoSpace(_)) => Some(Reply::STORAGE_FULL),
            Err(AppendError::Hung) => Some(Reply::STORAGE_HUNG),
            Err(_) => Some(Reply::LOCAL_ERROR),
            Ok(()) if self.pool.nearly_exhausted() || at_hard_mark(Resource::PendingBytes) => {
                Some(Reply::PENDING_FULL)
            }
            Ok(()) if at_hard_mark(Resource::Memory) => Some(Reply::MEMORY_FULL),
            Ok(()) if at_hard_mark(Resource::LogBacklog) => Some(Reply::LOG_BEHIND),
            Ok(()) => None,
        };
        let before = self.refusal.get();
        if before.map(|(reply, _)| reply) == refusal {
            return;
        }
        let since = before.map_or_else(|| self.clock.now(), |(_, since)| since);
        self.refusal.set(refusal.map(|reply| (reply, since)));
        for door in self.doors.all() {
            door.context.refuse_mail(refusal);
        }
        self.journal.show();
        let core = self.index;
        match (refusal, admission) {
            (None, _) => tracing::info!(core, "new mail is accepted again"),
            (Some(reply), Err(reason)) => tracing::warn!(core, ?reply, %reason, "new mail is refused"),
            (Some(reply), Ok(())) => {
                let (held, limit) = (self.pool.held_bytes(), self.pool.held_bytes_max());
                tracing::warn!(core, ?reply, held, limit, "new mail is refused");
            }
        }
    }

    /// Who would only be told for long that no mail is taken is better off elsewhere at once.
    fn open_or_close_doors(&self) {
        let patience = self.settings.pressure.stop_accepting_after;
        let now = self.clock.now();
        let refused_for =
            self.refusal.get().map(|(_, since)| Duration::from_micros(now.saturating_sub(since)));
        let calm = || FOR_MAIL.iter().all(|resource| self.pressure.of(*resource) < Level::Hard);
        // Another process has the sockets, or will soon: they are not ours to close.
        if self.stopping.get() || self.doors.left() {
            return;
        }
        if !self.doors.closed() && !patience.is_zero() && refused_for.is_some_and(|time| time >= patience) {
            tracing::warn!(core = self.index, "no connections are taken: mail has been refused for too long");
            self.doors.close();
        } else if self.doors.closed() && refused_for.is_none() && calm() {
            match self.doors.open() {
                Ok(()) => tracing::info!(core = self.index, "connections are taken again"),
                Err(error) => tracing::error!(core = self.index, %error, "cannot listen again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(used: u64) -> Found {
        Found::InUse { used, soft: 80, hard: 160 }
    }

    fn levels(mark: &Mark, uses: &[u64]) -> Vec<Level> {
        uses.iter().map(|used| mark.look(in_use(*used)).1).collect()
    }

    #[test]
    fn rises_at_once() {
        assert_eq!(
            levels(&Mark::default(), &[0, 79, 80, 159, 160, 1000]),
            [Level::Calm, Level::Calm, Level::Soft, Level::Soft, Level::Hard, Level::Hard]
        );
        assert_eq!(levels(&Mark::default(), &[160]), [Level::Hard]);
    }

    #[test]
    fn falls_when_it_has_stayed_an_eighth_below() {
        let mark = Mark::default();
        levels(&mark, &[160]);
        assert_eq!(levels(&mark, &[140; 9]), [Level::Hard; 9]);
        assert_eq!(levels(&mark, &[139, 139, 140, 139, 139]), [Level::Hard; 5]);
        assert_eq!(levels(&mark, &[139, 70, 70]), [Level::Soft; 3]);
        assert_eq!(levels(&mark, &[69, 69, 80, 69, 69]), [Level::Soft; 5]);
        assert_eq!(levels(&mark, &[69, 69]), [Level::Calm, Level::Calm]);
    }

    #[test]
    fn falls_to_the_highest_that_was_seen_meanwhile() {
        let mark = Mark::default();
        levels(&mark, &[160]);
        assert_eq!(levels(&mark, &[139, 0, 0]), [Level::Hard, Level::Hard, Level::Soft]);
        assert_eq!(levels(&mark, &[0, 0, 0]), [Level::Soft, Level::Soft, Level::Calm]);
    }

    #[test]
    fn a_place_is_short_while_somebody_is_refused() {
        let mark = Mark::default();
        let look = |used, refused| mark.look(Found::places((used, 100), 75, refused)).1;
        assert_eq!(look(100, false), Level::Soft);
        assert_eq!(look(100, true), Level::Hard);
        assert_eq!(
            [look(99, false), look(99, false), look(99, false)],
            [Level::Hard, Level::Hard, Level::Soft]
        );
    }

    #[test]
    fn one_slow_write_is_no_pressure() {
        let second = Duration::from_secs(1);
        let look = |now, before| Mark::default().look(Found::time(now, before, second, second * 10)).1;
        assert_eq!(look(5_000_000, 900_000), Level::Calm);
        assert_eq!(look(5_000_000, 1_000_000), Level::Soft);
        assert_eq!(look(10_000_000, 0), Level::Hard);
    }

    #[test]
    fn falls_by_two_when_there_is_nothing_left_in_use() {
        let mark = Mark::default();
        levels(&mark, &[160]);
        assert_eq!(levels(&mark, &[0, 0, 0]), [Level::Hard, Level::Hard, Level::Calm]);
    }

    #[test]
    fn a_mark_of_0_is_none() {
        let mark = Mark::default();
        for used in [0, u64::MAX] {
            assert_eq!(mark.look(Found::InUse { used, soft: 0, hard: 0 }).1, Level::Calm);
        }
        assert_eq!(mark.look(Found::InUse { used: 9, soft: 5, hard: 0 }).1, Level::Soft);
        assert_eq!(mark.look(Found::Judged(Level::Hard)).1, Level::Hard);
    }

    #[test]
    fn shares() {
        let mark = Mark::default();
        let look = |used| mark.look(Found::share((used, u64::MAX), 75)).1;
        assert_eq!(look(u64::MAX / 100 * 74), Level::Calm);
        assert_eq!(look(u64::MAX / 100 * 76), Level::Soft);
        assert_eq!(look(u64::MAX), Level::Hard);
    }
}
