//! The last message that fell into each bucket of the durations of a message: what leads from a slow bucket to the lines of one message in the log.
//!
//! A core keeps one id for each classic bucket of each phase of a message, and replaces it after a second at the earliest, so that the way in costs a
//! look at the age of an exemplar and hardly ever more. A scrape takes the latest over all cores. One thread writes; a slot has a version that is odd
//! while it changes, and a reader that meets a change goes without that exemplar.

use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed, fence};

use inrush_log::MessageId;

use crate::histogram::{CELLS, bucket_of, cell_of};
use crate::table::{DURATION_BOUNDS, Phase};

/// How long an exemplar stays at least, in microseconds.
const STAYS: u64 = 1_000_000;

/// Buckets of a duration, that without an upper bound included.
pub(crate) const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// The phases for which a message is known.
pub(crate) const PHASES: [Phase; 4] = [Phase::Body, Phase::QueueWait, Phase::Commit, Phase::Total];

/// The bucket of each cell, by the rule of [`Distribution::buckets`](crate::Distribution::buckets).
static BUCKET_OF_CELL: [u8; CELLS] = {
    let mut buckets = [0; CELLS];
    let mut cell = 0;
    while cell < CELLS {
        buckets[cell] = bucket_of(cell, DURATION_BOUNDS);
        cell += 1;
    }
    buckets
};

const _: () = assert!(BUCKETS <= u8::MAX as usize);

/// One value of a histogram, and the message that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The message.
    pub id: MessageId,
    /// The value in recorded units.
    pub value: u64,
    /// When it was recorded, in µs since 1970.
    pub at_us: u64,
}

/// The exemplars of one core.
#[derive(Debug)]
pub(crate) struct Exemplars {
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Odd while the slot changes; 0 = there was nothing yet.
    version: AtomicU64,
    at_us: AtomicU64,
    value: AtomicU64,
    node: AtomicU64,
    packed: AtomicU64,
}

impl Exemplars {
    pub(crate) fn new() -> Self {
        Self { slots: (0..PHASES.len() * BUCKETS).map(|_| Slot::default()).collect() }
    }

    /// Takes note of a value, unless its bucket has a recent one. To be called by one thread only.
    #[inline]
    pub(crate) fn note(&self, phase: Phase, value: u64, id: MessageId, at_us: u64) {
        let Some(row) = row(phase) else { return };
        let slot = &self.slots[row * BUCKETS + usize::from(BUCKET_OF_CELL[cell_of(value)])];
        // A wall clock that was set back makes the difference huge.
        if at_us.wrapping_sub(slot.at_us.load(Relaxed)) >= STAYS {
            slot.store(Exemplar { id, value, at_us });
        }
    }

    /// The exemplar of a bucket, if there is one.
    pub(crate) fn of(&self, phase: Phase, bucket: usize) -> Option<Exemplar> {
        self.slots[row(phase)? * BUCKETS + bucket].load()
    }
}

#[inline]
const fn row(phase: Phase) -> Option<usize> {
    match phase {
        Phase::Body => Some(0),
        Phase::QueueWait => Some(1),
        Phase::Commit => Some(2),
        Phase::Total => Some(3),
        _ => None,
    }
}

impl Slot {
    #[cold]
    fn store(&self, exemplar: Exemplar) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        // The stores come behind the odd version, and before the even one.
        fence(Ordering::Release);
        self.at_us.store(exemplar.at_us, Relaxed);
        self.value.store(exemplar.value, Relaxed);
        self.node.store(exemplar.id.node.into(), Relaxed);
        self.packed.store(exemplar.id.packed(), Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    fn load(&self) -> Option<Exemplar> {
        let version = self.version.load(Ordering::Acquire);
        if version == 0 || version % 2 == 1 {
            return None;
        }
        let node = u16::try_from(self.node.load(Relaxed)).unwrap_or_default();
        let exemplar = Exemplar {
            id: MessageId::unpack(node, self.packed.load(Relaxed)),
            value: self.value.load(Relaxed),
            at_us: self.at_us.load(Relaxed),
        };
        fence(Ordering::Acquire);
        (self.version.load(Relaxed) == version).then_some(exemplar)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use inrush_log::Lsn;

    use super::*;

    const T0: u64 = 1_700_000_000_000_000;

    fn id(lsn: u64) -> MessageId {
        MessageId { node: 7, log: 3, lsn: Lsn::new(lsn) }
    }

    /// The exemplar of the only bucket that has one.
    fn only(exemplars: &Exemplars, phase: Phase) -> (usize, Exemplar) {
        let mut found = (0..BUCKETS).filter_map(|bucket| Some((bucket, exemplars.of(phase, bucket)?)));
        let only = found.next().unwrap();
        assert!(found.next().is_none());
        only
    }

    #[test]
    fn an_exemplar_stays_for_a_second() {
        let exemplars = Exemplars::new();
        exemplars.note(Phase::Commit, 120, id(1), T0);
        exemplars.note(Phase::Commit, 130, id(2), T0 + STAYS - 1);
        assert_eq!(only(&exemplars, Phase::Commit), (2, Exemplar { id: id(1), value: 120, at_us: T0 }));
        exemplars.note(Phase::Commit, 130, id(2), T0 + STAYS);
        assert_eq!(only(&exemplars, Phase::Commit).1.id, id(2));
        // The clock was set back.
        exemplars.note(Phase::Commit, 140, id(3), T0 - STAYS);
        assert_eq!(only(&exemplars, Phase::Commit).1.id, id(3));
    }

    #[test]
    fn each_bucket_and_phase_has_its_own() {
        let exemplars = Exemplars::new();
        for (number, phase) in (0..).zip(PHASES) {
            exemplars.note(phase, 1, id(number), T0);
            exemplars.note(phase, 120_000_000, id(number + 100), T0);
        }
        for (number, phase) in (0..).zip(PHASES) {
            assert_eq!(exemplars.of(phase, 0).unwrap().id, id(number));
            assert_eq!(exemplars.of(phase, BUCKETS - 1).unwrap().id, id(number + 100));
            assert!((1..BUCKETS - 1).all(|bucket| exemplars.of(phase, bucket).is_none()));
        }
    }

    #[test]
    fn other_phases_have_none() {
        let exemplars = Exemplars::new();
        for phase in Phase::ALL.iter().filter(|phase| !PHASES.contains(phase)) {
            exemplars.note(*phase, 1, id(1), T0);
            assert!((0..BUCKETS).all(|bucket| exemplars.of(*phase, bucket).is_none()));
        }
    }

    #[test]
    fn a_reader_sees_no_exemplar_that_changes() {
        let exemplars = Arc::new(Exemplars::new());
        let reader = Arc::clone(&exemplars);
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let write = std::thread::spawn(move || {
            for number in (0..1_000_000_u64).cycle().take_while(|_| !stop.load(Relaxed)) {
                exemplars.note(Phase::Total, number % 50, id(number), T0 + number * STAYS);
            }
        });
        let mut seen = 0;
        while seen < 100_000 {
            if let Some(exemplar) = reader.of(Phase::Total, 0) {
                let number = (exemplar.at_us - T0) / STAYS;
                assert_eq!((exemplar.id, exemplar.value), (id(number), number % 50));
                seen += 1;
            }
        }
        enough.store(true, Relaxed);
        write.join().unwrap();
    }
}
