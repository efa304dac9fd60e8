//! How far the messages of one arrival log are accounted for.
//!
//! ```text
//!   … done … │ open │ done │ open │ … not taken yet …
//!            ▲ low water          ▲ taken
//! ```
//! A message is open from being taken until each of its recipients was named by an outcome. While outcomes are folded, some of them name messages
//! that are still ahead: those that were taken after the last note of progress.

use std::collections::BTreeMap;

use inrush_log::Lsn;

use crate::RecipientSet;
use crate::outcome::{LaneRef, OpenRef};

/// A message whose recipients are not all accounted for: those that are.
#[derive(Debug, Default)]
struct Open {
    mentioned: RecipientSet,
}

/// One arrival log.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    taken: Lsn,
    open: BTreeMap<Lsn, Open>,
    /// At or behind `taken`, and named all the same.
    ahead: BTreeMap<Lsn, Open>,
    /// Entries of the ledger whose message stands in each segment.
    live: BTreeMap<u64, u32>,
}

impl Lane {
    /// Everything below `taken` is accounted for.
    pub(crate) fn starting_at(taken: Lsn) -> Self {
        Self { taken, ..Self::default() }
    }

    pub(crate) fn taken(&self) -> Lsn {
        self.taken
    }

    /// Messages that were under way at a crash, to be taken again.
    pub(crate) fn open(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.open.keys().copied()
    }

    /// The same with the recipients of each that are accounted for.
    pub(crate) fn mentioned(&self) -> impl Iterator<Item = (Lsn, &RecipientSet)> {
        self.open.iter().map(|(lsn, open)| (*lsn, &open.mentioned))
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Takes the message at `lsn`; whatever stands below `next` has been taken then. Gives the recipients that are not accounted for.
    pub(crate) fn take(&mut self, lsn: Lsn, next: Lsn, total: u32) -> RecipientSet {
        let known = if lsn < self.taken { self.open.remove(&lsn) } else { self.ahead.remove(&lsn) };
        let is_new = lsn >= self.taken;
        self.taken = self.taken.max(next);
        let Some(open) = known.or_else(|| is_new.then(Open::default)) else {
            // Below, and not open: all of it is accounted for.
            return RecipientSet::default();
        };
        let owed: RecipientSet = (0..total).filter(|index| !open.mentioned.contains(*index)).collect();
        if !owed.is_empty() {
            self.open.insert(lsn, open);
        }
        owed
    }

    /// Passes by what holds no message.
    pub(crate) fn skip(&mut self, lsn: Lsn, next: Lsn) {
        self.open.remove(&lsn);
        self.taken = self.taken.max(next);
    }

    /// An outcome names recipients of the message at `lsn`, which has `total`.
    pub(crate) fn mention(&mut self, lsn: Lsn, total: u32, recipients: impl Iterator<Item = u32>) {
        if lsn >= self.taken {
            let open = self.ahead.entry(lsn).or_default();
            recipients.for_each(|recipient| _ = open.mentioned.insert(recipient));
            return;
        }
        let Some(open) = self.open.get_mut(&lsn) else { return };
        recipients.for_each(|recipient| _ = open.mentioned.insert(recipient));
        if open.mentioned.len() >= total {
            self.open.remove(&lsn);
        }
    }

    /// What a note of progress or the begin of a checkpoint says.
    pub(crate) fn progress(&mut self, told: &LaneRef) {
        let mut open = BTreeMap::new();
        for OpenRef { lsn, mentioned } in &told.open {
            let known = self.open.remove(lsn).or_else(|| self.ahead.remove(lsn));
            let mut message = known.unwrap_or_default();
            mentioned.iter().for_each(|recipient| _ = message.mentioned.insert(*recipient));
            if *lsn < told.taken {
                open.insert(*lsn, message);
            } else {
                self.ahead.insert(*lsn, message);
            }
        }
        self.open = open;
        self.taken = self.taken.max(told.taken);
        self.ahead.retain(|lsn, _| *lsn >= told.taken);
    }

    /// For a note of progress.
    pub(crate) fn told(&self, log: u8) -> LaneRef {
        let open = self.open.iter().chain(&self.ahead);
        let open = open.map(|(lsn, open)| OpenRef { lsn: *lsn, mentioned: open.mentioned.iter().collect() });
        LaneRef { log, taken: self.taken, open: open.collect() }
    }

    pub(crate) fn add_live(&mut self, segment: u64) {
        *self.live.entry(segment).or_default() += 1;
    }

    pub(crate) fn remove_live(&mut self, segment: u64) {
        if let Some(live) = self.live.get_mut(&segment) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&segment);
            }
        }
    }

    /// Nothing below is needed any more.
    pub(crate) fn low_water(&self, segment_bytes: u64) -> Lsn {
        let live = self.live.first_key_value().map(|(segment, _)| Lsn::new(segment * segment_bytes));
        let open = self.open.first_key_value().map(|(lsn, _)| *lsn);
        live.into_iter().chain(open).fold(self.taken, Lsn::min)
    }
}
