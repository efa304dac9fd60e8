//! What a core is short of, and what it does about it.
//!
//! ```text
//!   once a second:  what is in use ──▶ marks ──▶ calm · soft · hard   (gauge, log line, /readyz)
//!                                                   │      └─ refuses mail at MAIL or connections at the door, with the reason;
//!                                                   │         mail refused for long: the listening sockets are closed
//!                                                   └─ shorter time limits · a share of the sessions for each address · buffers are given back
//! ```
//! A level is reached at once, and left when [`CALM_LOOKS`] looks in a row have found the resource an eighth below the mark.

use std::cell::Cell;
use std::time::Duration;

use inrush_log::AppendError;
use inrush_metrics::{CoreWriter, Level, Resource};
use inrush_proto::Reply;

use crate::core::Core;
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
    /// `hard` may be in use, and the soft mark is so many percent of it.
    pub(crate) fn share((used, hard): (u64, u64), soft_percent: u8) -> Self {
        let soft = u128::from(hard) * u128::from(soft_percent) / 100;
        Self::InUse { used, soft: u64::try_from(soft).unwrap_or(u64::MAX), hard }
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

/// The level of one resource.
#[derive(Debug, Default)]
struct Mark {
    level: Cell<Level>,
    calm_looks: Cell<u8>,
}

impl Mark {
    /// Takes note of a look; gives back the level before and now.
    fn look(&self, found: Found) -> (Level, Level) {
        let before = self.level.get();
        // What a resource falls to is the level that it would still keep there.
        let now = found.level().max(found.level_kept().min(before));
        if now >= before {
            self.calm_looks.set(0);
            self.level.set(now);
            return (before, now);
        }
        self.calm_looks.set(self.calm_looks.get() + 1);
        if self.calm_looks.get() < CALM_LOOKS {
            return (before, before);
        }
        self.calm_looks.set(0);
        self.level.set(now);
        (before, now)
    }
}

/// The levels of a core.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    marks: [Mark; Resource::ALL.len()],
}

impl Pressure {
    /// The level of one resource.
    pub(crate) fn of(&self, resource: Resource) -> Level {
        self.marks[resource as usize].level.get()
    }

    /// Whether any resource is over its soft mark.
    pub(crate) fn is_on(&self) -> bool {
        self.marks.iter().any(|mark| mark.level.get() >= Level::Soft)
    }

    fn look(&self, resource: Resource, found: Found, core: usize, metrics: &CoreWriter) {
        let (before, now) = self.marks[resource as usize].look(found);
        metrics.pressure(resource, now);
        let (resource, level) = (resource.value(), now.name());
        match now.cmp(&before) {
            std::cmp::Ordering::Greater => tracing::warn!(core, resource, level, ?found, "pressure rises"),
            std::cmp::Ordering::Less => tracing::info!(core, resource, level, ?found, "pressure falls"),
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
        let share = |used, hard| Found::share((used, hard), marks.soft_percent);
        if self.index == 0 {
            self.machine.look();
        }
        let journal = self.journal.take_delays(self.clock.now());
        let slow = micros(marks.slow_after);
        let log_write = if self.journal.hung() {
            Found::Judged(Level::Hard)
        } else {
            Found::InUse { used: journal.write, soft: slow, hard: 0 }
        };
        let log_space = match self.journal.admission() {
            Err(AppendError::NoSpace(_)) => Level::Hard,
            _ if self.journal.space_low() => Level::Soft,
            _ => Level::Calm,
        };
        for (resource, found) in [
            (Resource::Connections, share(self.open.get() as u64, self.connections_max as u64)),
            (Resource::Descriptors, Found::share(self.machine.descriptors(), marks.soft_percent)),
            (Resource::Memory, Found::share(self.machine.memory(), marks.soft_percent)),
            (
                Resource::Handshakes,
                share(self.handshakes.get().into(), self.settings.budgets.handshakes_max.into()),
            ),
            (Resource::PendingBytes, share(pool.held_bytes() as u64, pool.high_water() as u64)),
            (
                Resource::LogBacklog,
                Found::InUse { used: journal.wait, soft: slow, hard: micros(marks.backlog_max) },
            ),
            (Resource::LogWrite, log_write),
            (Resource::LogSpace, Found::Judged(log_space)),
        ] {
            self.pressure.look(resource, found, self.index, &self.metrics);
        }
        if self.pressure.of(Resource::Memory) >= Level::Soft {
            self.pool.let_go();
        }
        self.refresh_refusal();
        self.open_or_close_doors();
    }

    /// Finds out whether new mail has to be refused at MAIL, and tells the sessions when that has changed.
    pub(crate) fn refresh_refusal(&self) {
        let admission = self.journal.admission();
        let at_hard_mark = |resource| self.pressure.of(resource) == Level::Hard;
        let refusal = match &admission {
            Err(AppendError::NoSpace(_)) => Some(Reply::STORAGE_FULL),
            Err(AppendError::Hung) => Some(Reply::STORAGE_HUNG),
            Err(_) => Some(Reply::LOCAL_ERROR),
            Ok(()) if self.pool.nearly_exhausted() => Some(Reply::PENDING_FULL),
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
        if self.stopping.get() {
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
