//! Checkpoints of the ledger: written in slices, read in the order of the log.

use std::collections::HashSet;

use inrush_log::{LogKind, Lsn, MessageId};

use super::{ArrivalLog, Entry, EntryState, LaneState, Ledger, NONE, micros, whole_seconds};
use crate::QueueSettings;
use crate::outcome::{
    CHECKPOINT_OCTETS, CheckpointPart, CheckpointRef, EntryRef, LaneRef, NOTE_OCTETS_MAX, NoteError, Place,
    UNKNOWN, entry_octets,
};

/// Places of the table that are looked through for one record at most.
const SLOTS_PER_RECORD: usize = 20_000;

/// Messages under way that were announced for the note that follows.
#[derive(Debug, Default)]
pub(super) struct Announced {
    lanes: Vec<LaneRef>,
    /// How many pieces they came in; `None` when one is missing.
    pieces: Option<u32>,
}

impl Announced {
    fn add(&mut self, piece: u32, lanes: &[LaneRef]) {
        if piece == 0 {
            *self = Self { lanes: Vec::new(), pieces: Some(0) };
        }
        self.pieces = self.pieces.filter(|expected| *expected == piece).map(|before| before + 1);
        self.lanes.extend_from_slice(lanes);
    }

    /// What was announced for a note that comes behind so many pieces.
    fn take(&mut self, pieces: u32) -> Result<Vec<LaneRef>, NoteError> {
        let announced = std::mem::take(self);
        match announced.pieces {
            // A life that ended in between has left some that belong to no note.
            _ if pieces == 0 => Ok(Vec::new()),
            Some(found) if found == pieces => Ok(announced.lanes),
            _ => Err(NoteError::Malformed),
        }
    }
}

/// Octets of the outcome log that stand for the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OctetsRead {
    /// Outcomes and notes since the last whole checkpoint began.
    pub noted: u64,
    /// That checkpoint.
    pub checkpoint: u64,
}

impl Ledger {
    /// Counts a record that was read: of a checkpoint, or of what a checkpoint makes superfluous.
    pub(crate) fn count_read(&mut self, octets: u64, of_checkpoint: bool) {
        let next = self.next.as_mut().map(|next| &mut next.read);
        match next {
            Some(next) if of_checkpoint => next.checkpoint += octets,
            Some(next) => next.noted += octets,
            None => {}
        }
        self.read.noted += octets;
    }

    /// What was read to come to this state.
    #[must_use]
    pub fn octets_read(&self) -> OctetsRead {
        self.read
    }

    /// Follows a part of a checkpoint.
    ///
    /// # Errors
    /// Something that belongs to it is missing.
    pub fn read_checkpoint(
        &mut self,
        part: &CheckpointRef<'_>,
        settings: &QueueSettings,
    ) -> Result<(), NoteError> {
        match part.part {
            CheckpointPart::Open => self.announced.add(part.piece, &part.lanes),
            CheckpointPart::Begin => {
                let lanes = self.lanes_of(part)?;
                let mut next = Self::new(settings);
                next.retry_segment_bytes = self.retry_segment_bytes;
                self.lanes.values().for_each(|state| next.add_lane(state.log));
                next.progress(&lanes);
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
                let lanes = self.lanes_of(part)?;
                if let Some(next) = &mut self.next {
                    next.progress(&lanes);
                }
                self.progress(&lanes);
            }
        }
        Ok(())
    }

    /// The lanes of a note, with the messages under way that were announced for it.
    fn lanes_of(&mut self, part: &CheckpointRef<'_>) -> Result<Vec<LaneRef>, NoteError> {
        let announced = self.announced.take(part.piece)?;
        let mut lanes = part.lanes.clone();
        for piece in announced {
            let lane = lanes.iter_mut().find(|lane| lane.log == piece.log);
            lane.ok_or(NoteError::Malformed)?.open.extend(piece.open);
        }
        Ok(lanes)
    }

    /// Number of the last whole checkpoint that was read, or 0.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every outcome was read: a checkpoint that was not finished is none, and what was told of logs in whose place others stand now says nothing about
    /// these. Gives the numbers of those logs, each with the recipients that were owed what stood in it and nowhere else.
    pub fn finish_reading(&mut self) -> Vec<(u8, u64)> {
        self.next = None;
        let replaced = |state: &&LaneState| state.told != UNKNOWN && state.told != state.log.uuid;
        let replaced: Vec<_> = self.lanes.values().filter(replaced).map(|state| state.log).collect();
        replaced.into_iter().map(|log| (log.log, self.begin_anew(log))).collect()
    }

    /// Forgets entries that stand below a position of a log.
    pub(crate) fn forget_below(&mut self, kind: LogKind, log: u8, below: Lsn) {
        self.forget(|place| (place.kind, place.log) == (kind, log) && place.lsn < below);
    }

    /// Forgets entries by where they stand; how many recipients they had.
    fn forget(&mut self, is_one: impl Fn(Place) -> bool) -> u64 {
        let mut recipients = 0;
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(NONE) {
            let entry = self.slots[index as usize].as_ref();
            if let Some(entry) = entry.filter(|entry| is_one(entry.place())) {
                recipients += u64::from(entry.recipients.len());
                self.remove(index);
            }
        }
        recipients
    }

    /// Forgets what is known of an arrival log; how many recipients are owed messages that stand there.
    fn begin_anew(&mut self, log: ArrivalLog) -> u64 {
        let recipients = self.forget(|place| (place.kind, place.log) == (LogKind::Arrival, log.log));
        self.add_lane(log);
        recipients
    }

    /// How far each arrival log is accounted for, also those that are not there at present: their positions are not given out again.
    #[must_use]
    pub fn told(&self) -> Vec<LaneRef> {
        let lanes = self.lanes.values().map(|state| state.lane.told(state.log.log, state.log.uuid));
        lanes.chain(self.absent.values().cloned()).collect()
    }

    /// Entries for a checkpoint, from a place in the table on: as many as fit into a record; where the next ones begin, if there are any.
    #[must_use]
    pub fn list(&self, from: u32) -> (Vec<EntryRef<'_>>, Option<u32>) {
        let mut listed = Vec::new();
        let mut named = HashSet::new();
        let mut octets = CHECKPOINT_OCTETS;
        for (index, entry) in (from..).zip(self.slots.get(from as usize..).unwrap_or_default()) {
            if (index - from) as usize == SLOTS_PER_RECORD {
                return (listed, Some(index));
            }
            let Some(entry) = entry else { continue };
            octets += entry_octets(entry.recipients.len());
            if named.insert(entry.destination) {
                octets += self.destinations.name(entry.destination).len();
            }
            if octets > NOTE_OCTETS_MAX && !listed.is_empty() {
                return (listed, Some(index));
            }
            listed.push(self.entry_ref(entry));
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
            let Some(state) = self.lanes.get(&lane.log) else {
                self.absent.insert(lane.log, LaneRef { open: Vec::new(), ..lane.clone() });
                continue;
            };
            let (log, before) = (state.log, state.told);
            if before != UNKNOWN && lane.uuid != UNKNOWN && before != lane.uuid {
                // The log of before was moved away, and its end is not the end of this one.
                self.begin_anew(log);
            }
            if let Some(state) = self.lanes.get_mut(&lane.log) {
                state.lane.progress(lane);
                state.told = if lane.uuid == UNKNOWN { before } else { lane.uuid };
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

    /// Whether a message will be taken from its arrival log.
    pub(crate) fn is_to_come(&self, id: MessageId) -> bool {
        self.lanes.get(&id.log).is_some_and(|state| id.lsn >= state.lane.taken())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::outcome::OpenRef;

    fn note(part: CheckpointPart, piece: u32, taken: u64, open: &[u64]) -> CheckpointRef<'static> {
        let open = open.iter().map(|lsn| OpenRef { lsn: Lsn::new(*lsn), ..OpenRef::default() }).collect();
        let lanes = vec![LaneRef { log: 0, uuid: UNKNOWN, taken: Lsn::new(taken), open }];
        CheckpointRef { generation: 0, part, piece, lanes, entries: Vec::new() }
    }

    #[test]
    fn messages_under_way_are_those_that_were_announced_for_the_note() {
        let settings = QueueSettings::default();
        let mut ledger = Ledger::new(&settings);
        ledger.add_lane(ArrivalLog { log: 0, uuid: [1; 16], segment_bytes: 1 << 20, begin: Lsn::ZERO });
        let mut read = |part, piece, taken, open: &[u64]| {
            let read = ledger.read_checkpoint(&note(part, piece, taken, open), &settings);
            read.map(|()| ledger.unfinished(0).iter().map(|lsn| lsn.get()).collect::<Vec<_>>())
        };
        read(CheckpointPart::Open, 0, 0, &[1, 2]).unwrap();
        read(CheckpointPart::Open, 1, 0, &[3]).unwrap();
        assert_eq!(read(CheckpointPart::Progress, 2, 10, &[]).unwrap(), [1, 2, 3]);
        // A life that ended before its note has announced what is under way no more.
        read(CheckpointPart::Open, 0, 0, &[1, 2]).unwrap();
        assert_eq!(read(CheckpointPart::Progress, 0, 20, &[15]).unwrap(), [15]);
        read(CheckpointPart::Open, 0, 0, &[15]).unwrap();
        read(CheckpointPart::Open, 0, 0, &[16]).unwrap();
        assert_eq!(read(CheckpointPart::Progress, 1, 30, &[]).unwrap(), [16]);
        // One that lacks a piece says what is not so.
        read(CheckpointPart::Open, 1, 0, &[16]).unwrap();
        assert_eq!(read(CheckpointPart::Progress, 2, 40, &[]), Err(NoteError::Malformed));
    }
}
