//! How far the messages of one arrival log are accounted for.
//!
//! ```text
//!   … done … │ open │ done │ open │ … not taken yet …
//!            ▲ low water          ▲ taken
//! ```
//! A message is open from being taken until each of its recipients was named by an outcome. While outcomes are folded, some of them name messages
//! that are still ahead: those that were taken after the last note of progress.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Everything below is accounted for, whatever outcomes and notes say.
    begin: Lsn,
    taken: Lsn,
    open: BTreeMap<Lsn, Open>,
    /// Those of them that cannot be read.
    unreadable: BTreeSet<Lsn>,
    /// At or behind `taken`, and named all the same.
    ahead: BTreeMap<Lsn, Open>,
    /// Entries of the ledger whose message stands in each segment.
    live: BTreeMap<u64, u32>,
}

impl Lane {
    /// Everything below `begin` is accounted for.
    pub(crate) fn starting_at(begin: Lsn) -> Self {
        Self { begin, taken: begin, ..Self::default() }
    }

    pub(crate) fn taken(&self) -> Lsn {
        self.taken
    }

    /// Messages that were under way at a crash, to be taken again.
    pub(crate) fn open(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.open.keys().copied()
    }

    /// Whether the message at `lsn` is under way.
    pub(crate) fn is_open(&self, lsn: Lsn) -> bool {
        self.open.contains_key(&lsn)
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
        self.unreadable.remove(&lsn);
        let is_new = lsn >= self.taken;
        self.pass(next);
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
        self.close(lsn);
        self.pass(next);
    }

    /// Takes what cannot be read: it stays under way, and keeps its segment, until it can be read or somebody deletes it.
    pub(crate) fn keep(&mut self, lsn: Lsn, next: Lsn) {
        if lsn >= self.taken {
            let known = self.ahead.remove(&lsn).unwrap_or_default();
            self.open.insert(lsn, known);
        }
        if self.open.contains_key(&lsn) {
            self.unreadable.insert(lsn);
        }
        self.pass(next);
    }

    /// What is under way and cannot be read.
    pub(crate) fn unreadable(&self) -> &BTreeSet<Lsn> {
        &self.unreadable
    }

    fn close(&mut self, lsn: Lsn) {
        self.open.remove(&lsn);
        self.unreadable.remove(&lsn);
    }

    /// Everything below `next` has been taken. What was named and has not come is not there any more: its segment is gone.
    fn pass(&mut self, next: Lsn) {
        self.taken = self.taken.max(next);
        while let Some(first) = self.ahead.first_entry().filter(|first| *first.key() < self.taken) {
            first.remove();
        }
    }

    /// An outcome names recipients of the message at `lsn`, which has `total`; 0 of one that could not be read, which has its end with this.
    pub(crate) fn mention(&mut self, lsn: Lsn, total: u32, recipients: impl Iterator<Item = u32>) {
        if lsn >= self.taken {
            let open = self.ahead.entry(lsn).or_default();
            recipients.for_each(|recipient| _ = open.mentioned.insert(recipient));
            return;
        }
        let Some(open) = self.open.get_mut(&lsn) else { return };
        recipients.for_each(|recipient| _ = open.mentioned.insert(recipient));
        if open.mentioned.len() >= total {
            self.close(lsn);
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
        // Also back: a life that did not believe what it found has taken everything once more, and its note tells of nothing that it had not taken.
        self.taken = self.begin.max(told.taken);
        self.ahead.retain(|lsn, _| *lsn >= told.taken);
    }

    /// For a note of progress.
    pub(crate) fn told(&self, log: u8, uuid: [u8; 16]) -> LaneRef {
        let open = self.open.iter().chain(&self.ahead);
        let open = open.map(|(lsn, open)| OpenRef { lsn: *lsn, mentioned: open.mentioned.iter().collect() });
        LaneRef { log, uuid, taken: self.taken, open: open.collect() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_a_life_that_begins_further_back_holds() {
        let note = |taken, open: &[(u64, &[u32])]| LaneRef {
            taken: Lsn::new(taken),
            open: open
                .iter()
                .map(|(lsn, mentioned)| OpenRef { lsn: Lsn::new(*lsn), mentioned: mentioned.to_vec() })
                .collect(),
            ..LaneRef::default()
        };
        let mut lane = Lane::starting_at(Lsn::new(16));
        lane.progress(&note(64, &[(32, &[])]));
        // The outcome log was damaged: the next life takes all from 16 on, and knows of one outcome of the message at 48.
        lane.progress(&note(8, &[(48, &[0])]));
        assert_eq!((lane.taken(), lane.open_count()), (Lsn::new(16), 0));
        assert_eq!(lane.take(Lsn::new(32), Lsn::new(48), 1).len(), 1);
        assert_eq!(lane.take(Lsn::new(48), Lsn::new(64), 2), [1].into_iter().collect());
    }

    #[test]
    fn what_cannot_be_read_stays_until_it_can_or_is_deleted() {
        let mut lane = Lane::default();
        lane.mention(Lsn::new(32), 3, std::iter::once(1));
        lane.keep(Lsn::new(16), Lsn::new(32));
        lane.keep(Lsn::new(32), Lsn::new(48));
        assert_eq!((lane.low_water(1 << 20), lane.taken()), (Lsn::new(16), Lsn::new(48)));
        lane.keep(Lsn::new(16), Lsn::ZERO);
        assert_eq!(lane.unreadable().len(), 2);
        lane.mention(Lsn::new(16), 0, std::iter::once(0));
        assert_eq!(lane.low_water(1 << 20), Lsn::new(32));
        // What was accounted for before still is.
        assert_eq!(lane.take(Lsn::new(32), Lsn::ZERO, 3), [0, 2].into_iter().collect());
        assert!(lane.unreadable().is_empty());
        // Nobody knows of it any more: it does not come back.
        lane.keep(Lsn::new(16), Lsn::ZERO);
        assert_eq!((lane.open_count(), lane.unreadable().len()), (1, 0));
    }

    #[test]
    fn what_was_named_and_has_gone_is_not_told_for_ever() {
        let mut lane = Lane::default();
        for lsn in [16, 32, 48, 64] {
            lane.mention(Lsn::new(lsn), 1, std::iter::once(0));
        }
        assert_eq!(lane.told(0, [0; 16]).open.len(), 4);
        // The segment of the first two is gone: what comes is the third.
        assert!(lane.take(Lsn::new(48), Lsn::new(64), 1).is_empty());
        assert_eq!(lane.told(0, [0; 16]).open, [OpenRef { lsn: Lsn::new(64), mentioned: vec![0] }]);
        lane.skip(Lsn::new(80), Lsn::new(96));
        assert_eq!((lane.taken(), lane.told(0, [0; 16]).open), (Lsn::new(96), Vec::new()));
    }
}
