//! The table of entries: slots, the slots of each message, and when each is to be looked at.

use inrush_log::{LogKind, Lsn};

use super::{Entry, EntryState, Ledger, NONE};
use crate::outcome::{Place, result_flag};

impl Ledger {
    /// Takes a recipient out of an entry, and the entry away with its last one.
    pub(super) fn strike(&mut self, index: u32, recipient: u32) {
        let Some(entry) = self.slots[index as usize].as_mut() else { return };
        if entry.recipients.remove(recipient) && entry.recipients.is_empty() {
            self.remove(index);
        }
    }

    pub(super) fn insert(&mut self, mut entry: Entry) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        entry.stamp = self.stamp;
        entry.sibling = self.first(entry.message_id);
        self.count(&entry, true);
        let (message_id, held) = (entry.message_id, entry.state == EntryState::Held);
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(entry);
                index
            }
            None => {
                self.slots.push(Some(entry));
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        self.set_first(message_id, index);
        if !held {
            self.set_wake(index, self.wake_of(index));
        }
        index
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.set_wake(index, 0);
        let Some(message_id) = self.slots[index as usize].as_ref().map(|entry| entry.message_id) else {
            return;
        };
        let mut before = self.first(message_id);
        let Some(entry) = self.slots[index as usize].take() else { return };
        self.free.push(index);
        self.count(&entry, false);
        self.destinations.release(entry.destination);
        if before == index {
            self.set_first(message_id, entry.sibling);
            return;
        }
        while let Some(other) = self.slots.get_mut(before as usize).and_then(Option::as_mut) {
            if other.sibling == index {
                other.sibling = entry.sibling;
                return;
            }
            before = other.sibling;
        }
    }

    fn count(&mut self, entry: &Entry, comes: bool) {
        let counter =
            if entry.state == EntryState::Held { &mut self.counts.held } else { &mut self.counts.deferred };
        *counter = if comes { *counter + 1 } else { *counter - 1 };
        let minute = (entry.state == EntryState::Held, entry.accepted_at / 60);
        let entries = self.minutes.entry(minute).or_default();
        *entries = if comes { *entries + 1 } else { *entries - 1 };
        if *entries == 0 {
            self.minutes.remove(&minute);
        }
        if entry.in_retry {
            let segment = Lsn::new(entry.lsn).segment(self.retry_segment_bytes.max(1));
            let entries = self.retry.entry((entry.log, segment)).or_default();
            *entries = if comes { *entries + 1 } else { *entries - 1 };
            if *entries == 0 {
                self.retry.remove(&(entry.log, segment));
            }
        } else if let Some(state) = self.lanes.get_mut(&entry.log) {
            let segment = Lsn::new(entry.lsn).segment(state.log.segment_bytes.max(1));
            if comes {
                state.lane.add_live(segment);
            } else {
                state.lane.remove_live(segment);
            }
        }
    }

    pub(super) fn move_message(&mut self, message_id: u64, to: Place) {
        for slot in self.entries_of(message_id) {
            let Some(mut entry) = self.slots[slot.index as usize].take() else { continue };
            self.count(&entry, false);
            entry.lsn = to.lsn.get();
            entry.log = to.log;
            entry.in_retry = to.kind == LogKind::Retry;
            self.count(&entry, true);
            self.slots[slot.index as usize] = Some(entry);
        }
    }

    pub(super) fn first(&self, message_id: u64) -> u32 {
        self.ids.find(hash(message_id), |index| self.is_of(*index, message_id)).copied().unwrap_or(NONE)
    }

    fn is_of(&self, index: u32, message_id: u64) -> bool {
        self.slots[index as usize].as_ref().is_some_and(|entry| entry.message_id == message_id)
    }

    fn set_first(&mut self, message_id: u64, index: u32) {
        let slots = &self.slots;
        // The slot that is there may have been emptied already: it is the one that nothing else can be.
        let of =
            |slot: &u32| slots[*slot as usize].as_ref().is_none_or(|entry| entry.message_id == message_id);
        if let Ok(found) = self.ids.find_entry(hash(message_id), of) {
            found.remove();
        }
        if index != NONE {
            let hash_of =
                |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |entry| hash(entry.message_id));
            self.ids.insert_unique(hash(message_id), index, hash_of);
        }
    }

    /// When a new or rescheduled entry is to be looked at.
    fn wake_of(&self, index: u32) -> u32 {
        let Some(entry) = &self.slots[index as usize] else { return 0 };
        let attempt = (entry.state == EntryState::Scheduled).then_some(entry.next_attempt);
        attempt.into_iter().chain(self.next_mark(index, 0)).min().unwrap_or(1).max(1)
    }

    /// Whether the time to tell the sender of the delay is over, and nobody has.
    pub(super) fn is_untold(&self, index: u32, now: u32) -> bool {
        let entry = self.slots[index as usize].as_ref();
        let late = |entry: &Entry| self.is_late(entry.accepted_at.into(), entry.flags, now.into());
        entry.is_some_and(late)
    }

    /// The clock has gone back: what was scheduled by it comes no later than it might have been scheduled now.
    pub(super) fn follow_clock_back(&mut self, now: u32) {
        let latest = now.saturating_add(self.pause_max);
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(NONE) {
            let Some(entry) = self.slots[index as usize].as_mut() else { continue };
            match entry.state {
                EntryState::Scheduled => {
                    entry.next_attempt = entry.next_attempt.min(latest);
                    self.set_wake(index, self.wake_of(index));
                }
                EntryState::Ready => self.set_wake(index, now.saturating_add(1)),
                EntryState::Busy | EntryState::Held => {}
            }
        }
    }

    /// The next age that means something, later than `now`.
    pub(super) fn next_mark(&self, index: u32, now: u32) -> Option<u32> {
        let entry = self.slots[index as usize].as_ref()?;
        let delay = entry.accepted_at.saturating_add(self.delay_warning_after);
        let told = self.delay_warning_after == 0 || entry.flags & result_flag::DELAY_TOLD != 0;
        let marks = [(!told).then_some(delay), Some(entry.accepted_at.saturating_add(self.lifetime))];
        let attempt = (entry.state == EntryState::Scheduled).then_some(entry.next_attempt);
        marks.into_iter().flatten().chain(attempt).filter(|mark| *mark > now).min()
    }

    pub(super) fn set_wake(&mut self, index: u32, wake: u32) {
        let Some(entry) = self.slots[index as usize].as_mut() else { return };
        let before = std::mem::replace(&mut entry.wake, wake);
        if before != 0 {
            self.wakes.remove(&(before, index));
        }
        if wake != 0 {
            self.wakes.insert((wake, index));
        }
    }
}

/// Ids are positions: their low bits differ little.
fn hash(message_id: u64) -> u64 {
    let mixed = (message_id ^ (message_id >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}
