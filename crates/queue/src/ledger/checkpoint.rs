//! Checkpoints of the ledger: written in slices, read in the order of the log.

use inrush_log::{LogKind, Lsn, MessageId};

use super::{Entry, EntryState, Ledger, NONE, micros, whole_seconds};
use crate::QueueSettings;
use crate::outcome::{CheckpointPart, CheckpointRef, EntryRef, LaneRef, Place};

impl Ledger {
    /// Follows a part of a checkpoint.
    pub fn read_checkpoint(&mut self, part: &CheckpointRef<'_>, settings: &QueueSettings) {
        match part.part {
            CheckpointPart::Begin => {
                let mut next = Self::new(settings);
                next.retry_segment_bytes = self.retry_segment_bytes;
                for (log, state) in &self.lanes {
                    next.add_lane(*log, state.segment_bytes, Lsn::ZERO);
                }
                next.progress(&part.lanes);
                next.generation = part.generation;
                self.next = Some(Box::new(next));
            }
            CheckpointPart::Entries => {
                if let Some(next) = self.next.as_mut().filter(|next| next.generation == part.generation) {
                    part.entries.iter().for_each(|entry| next.read_entry(entry));
                }
            }
            CheckpointPart::End => {
                if let Some(next) = self.next.take_if(|next| next.generation == part.generation) {
                    *self = *next;
                }
            }
            CheckpointPart::Progress => {
                if let Some(next) = &mut self.next {
                    next.progress(&part.lanes);
                }
                self.progress(&part.lanes);
            }
        }
    }

    /// Number of the last whole checkpoint that was read, or 0.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every outcome was read: a checkpoint that was not finished is none.
    pub fn finish_reading(&mut self) {
        self.next = None;
    }

    /// How far each arrival log is accounted for.
    #[must_use]
    pub fn told(&self) -> Vec<LaneRef> {
        self.lanes.iter().map(|(log, state)| state.lane.told(*log)).collect()
    }

    /// Entries for a checkpoint, from a place in the table on, at most `max`; where the next ones begin, if there are any.
    #[must_use]
    pub fn list(&self, from: u32, max: usize) -> (Vec<EntryRef<'_>>, Option<u32>) {
        let mut listed = Vec::new();
        for (index, entry) in (from..).zip(self.slots.get(from as usize..).unwrap_or_default()) {
            if listed.len() == max {
                return (listed, Some(index));
            }
            listed.extend(entry.as_ref().map(|entry| self.entry_ref(entry)));
        }
        (listed, None)
    }

    fn entry_ref<'a>(&'a self, entry: &Entry) -> EntryRef<'a> {
        EntryRef {
            message_id: entry.message_id,
            place: entry.place(),
            accepted_at_us: micros(entry.accepted_at),
            next_attempt_us: micros(entry.next_attempt),
            octets: entry.octets(),
            recipients_total: entry.recipients_total,
            attempts: entry.attempts(),
            held: entry.state == EntryState::Held,
            flags: entry.flags,
            destination: self.destinations.name(entry.destination),
            recipients: entry.recipients.iter().collect(),
        }
    }

    fn progress(&mut self, told: &[LaneRef]) {
        for lane in told {
            if let Some(state) = self.lanes.get_mut(&lane.log) {
                state.lane.progress(lane);
            }
        }
    }

    /// Follows the entries of a checkpoint for themselves, where outcomes before it were lost: what they name is accounted for.
    pub(crate) fn read_entries_alone(&mut self, node: u16, entries: &[EntryRef<'_>]) {
        for entry in entries {
            self.read_entry(entry);
            let id = MessageId::unpack(node, entry.message_id);
            if let Some(state) = self.lanes.get_mut(&id.log) {
                state.lane.mention(id.lsn, entry.recipients_total, entry.recipients.iter().copied());
            }
        }
    }

    /// The entries of a message wait with another copy of it.
    pub(crate) fn relocate(&mut self, message_id: u64, to: Place) {
        self.move_message(message_id, to);
    }

    /// An entry for a message of which nothing is known but that it is owed.
    pub(crate) fn owe(&mut self, entry: &EntryRef<'_>) {
        self.read_entry(entry);
    }

    fn read_entry(&mut self, entry: &EntryRef<'_>) {
        // Named before in this checkpoint, or by an outcome since its begin: what comes last holds.
        for slot in self.entries_of(entry.message_id) {
            for recipient in &entry.recipients {
                self.strike(slot.index, *recipient);
            }
        }
        let destination = self.destinations.acquire(entry.destination);
        self.insert(Entry {
            message_id: entry.message_id,
            lsn: entry.place.lsn.get(),
            recipients: entry.recipients.iter().copied().collect(),
            stamp: 0,
            sibling: NONE,
            wake: 0,
            accepted_at: whole_seconds(entry.accepted_at_us),
            next_attempt: whole_seconds(entry.next_attempt_us),
            octets: u32::try_from(entry.octets).unwrap_or(u32::MAX),
            recipients_total: entry.recipients_total,
            destination,
            attempts: u16::try_from(entry.attempts).unwrap_or(u16::MAX),
            flags: entry.flags,
            state: if entry.held { EntryState::Held } else { EntryState::Scheduled },
            in_retry: entry.place.kind == LogKind::Retry,
            log: entry.place.log,
        });
    }
}
