//! Writes outcomes and checkpoints into the outcome log. No I/O of its own: it says what to write, as the appender does.
//!
//! ```text
//! record ─▶ ledger follows at once ─▶ appender ─▶ next_write ─▶ [thread] ─▶ write_done ─▶ durable ─▶ positions ─▶ cursors
//! ```
//! Nobody waits for an outcome to become durable but the cursors: what a crash forgets is tried again. A checkpoint is written in slices between
//! outcomes, so that a long queue does not hold up the next delivery; it is whole when its last part is durable.

use std::collections::VecDeque;
use std::io;

use inrush_log::{AppendError, Appender, DiskStorage, Lsn, Poisoned, RecordKind, Storage, Write};

use crate::Ledger;
use crate::outcome::{CheckpointPart, CheckpointRef, LaneRef, OUTCOME_VERSION, OutcomeRef};

/// Octets of outcomes after which a checkpoint is worth its while, at least.
const CHECKPOINT_AFTER_OCTETS: u64 = 64 << 20;

/// Octets that may wait to be written when a part of a checkpoint is added: outcomes find room beside it.
const UNWRITTEN_OCTETS: u64 = 1 << 20;

/// A record that waits for room in the log.
struct Note {
    kind: RecordKind,
    message_id: u64,
    content: Vec<u8>,
    at_us: u64,
}

/// A checkpoint under way.
struct Checkpoint {
    generation: u64,
    /// Where its first record stands.
    begin: Option<Lsn>,
    /// Where its next slice begins; `None` when only the end is left.
    next: Option<u32>,
    octets: u64,
    /// Octets that had been noted when it began.
    noted_before: u64,
}

/// How far the logs are done with, once the outcomes that say so are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Nothing below is owed, by number of the arrival log.
    pub arrival: Vec<(u8, Lsn)>,
    /// Nothing below is needed in the retry log; `None` when nobody has said so.
    pub retry: Option<Lsn>,
    /// Begin of the last whole checkpoint.
    pub checkpoint: Option<Lsn>,
}

/// The owner of the outcome log.
pub struct Recorder<S: Storage = DiskStorage> {
    appender: Appender<S>,
    waiting: VecDeque<Note>,
    /// Why the first of them has to wait.
    stuck: Option<AppendError>,
    /// End of the last record.
    gate: Lsn,
    /// Octets of outcomes and notes of progress that a start has to read, and those that the last checkpoint has made superfluous.
    noted_octets: u64,
    noted_before: u64,
    checkpoint_octets: u64,
    checkpoint_after: u64,
    generation: u64,
    under_way: Option<Checkpoint>,
    /// Begin and gate of one that is whole when its gate is durable.
    ended: Option<(Lsn, Lsn)>,
    whole: Option<Lsn>,
    pending: Option<(Lsn, Positions)>,
    /// What was noted last; nothing at the begin of a life.
    told: Option<Vec<LaneRef>>,
}

impl<S: Storage> Recorder<S> {
    /// Goes on with the outcome log behind the state of `ledger`.
    #[must_use]
    pub fn new(appender: Appender<S>, ledger: &Ledger) -> Self {
        let gate = appender.durable();
        Self {
            appender,
            waiting: VecDeque::new(),
            stuck: None,
            gate,
            noted_octets: ledger.octets_read().noted,
            noted_before: 0,
            checkpoint_octets: ledger.octets_read().checkpoint,
            checkpoint_after: CHECKPOINT_AFTER_OCTETS,
            generation: ledger.generation(),
            under_way: None,
            ended: None,
            whole: None,
            pending: None,
            told: None,
        }
    }

    /// Makes checkpoints after so many octets of outcomes: for tests, which have no patience.
    pub fn set_checkpoint_after(&mut self, octets: u64) {
        self.checkpoint_after = octets;
    }

    /// Records an outcome, and lets the ledger follow it.
    pub fn record(&mut self, ledger: &mut Ledger, outcome: &OutcomeRef<'_>) {
        // Which logs the outcomes of this life are about is said before the first of them.
        if self.told.is_none() {
            self.note_progress(ledger, outcome.at_us);
        }
        for part in outcome.parts() {
            let content = part.encode();
            ledger.apply(&part);
            self.noted_octets += content.len() as u64;
            self.note(RecordKind::Outcome, part.id.packed(), content, part.at_us);
        }
    }

    /// Goes on with what takes its time: notes that found no room, progress, checkpoints. To be called about once a second; while it says that there is more
    /// to do, that is for [`advance`](Self::advance). From `retry_floor` on the retry log holds copies that nobody knows of yet; `None` where there
    /// is no such log.
    pub fn tick(&mut self, ledger: &Ledger, now_us: u64, retry_floor: Option<Lsn>) -> bool {
        self.append_waiting();
        if self.waiting.is_empty() {
            self.note_progress(ledger, now_us);
        }
        // After a second without a record: what rots from here on is not taken for a torn write. Without room it is said another time.
        if self.appender.is_idle() {
            let _ = self.appender.append_mark(now_us);
        }
        if self.under_way.is_none() && self.ended.is_none() && self.is_checkpoint_due() {
            self.generation += 1;
            self.under_way = Some(Checkpoint {
                generation: self.generation,
                begin: None,
                next: Some(0),
                octets: 0,
                noted_before: self.noted_octets,
            });
        }
        let more = self.advance(ledger, now_us);
        self.note_positions(ledger, retry_floor);
        more
    }

    /// Writes a little more of a checkpoint, and no faster than the disk takes it; whether there is more to do. To be called soon again while there is.
    pub fn advance(&mut self, ledger: &Ledger, now_us: u64) -> bool {
        self.append_waiting();
        let unwritten = self.gate.get().saturating_sub(self.appender.durable().get());
        if unwritten <= UNWRITTEN_OCTETS {
            self.advance_checkpoint(ledger, now_us);
        }
        self.under_way.is_some() || !self.waiting.is_empty()
    }

    /// Whether records wait for room in the log; nothing new is to be begun then.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Why records wait for room, if any do.
    #[must_use]
    pub fn stuck(&self) -> Option<AppendError> {
        self.stuck.filter(|_| self.is_stuck())
    }

    /// The next write of the log, when none is under way.
    pub fn next_write(&mut self) -> Option<Write<S::File>> {
        self.append_waiting();
        self.appender.next_write()
    }

    /// Takes back a write with its result.
    ///
    /// # Errors
    /// It failed: the log is poisoned, and the process has to end.
    pub fn write_done(&mut self, write: Write<S::File>, result: io::Result<usize>) -> Result<(), Poisoned> {
        self.appender.write_done(write, result)?;
        let durable = self.appender.durable();
        if let Some((begin, gate)) = self.ended
            && gate <= durable
        {
            self.whole = Some(begin);
            self.ended = None;
        }
        Ok(())
    }

    /// How far the logs are done with, as far as that is durable; `None` when there is nothing new.
    pub fn positions(&mut self) -> Option<Positions> {
        let durable = self.appender.durable();
        let (_, positions) = self.pending.take_if(|(gate, _)| *gate <= durable)?;
        Some(Positions { checkpoint: self.whole.take(), ..positions })
    }

    /// Everything that was recorded is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.waiting.is_empty() && self.gate <= self.appender.durable()
    }

    /// Ends the log in order; what is left is to be written until [`is_idle`](Self::is_idle).
    pub fn close(&mut self) {
        self.append_waiting();
        self.appender.close();
    }

    /// Whether nothing is left to be written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.appender.is_idle()
    }

    /// Notes how far the arrival logs are accounted for, where that is new.
    fn note_progress(&mut self, ledger: &Ledger, now_us: u64) {
        let told = ledger.told();
        if self.told.as_ref() != Some(&told) {
            let (_, octets) = self.note_lanes(CheckpointPart::Progress, told.clone(), now_us);
            self.noted_octets += octets;
            self.told = Some(told);
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        self.noted_octets - self.noted_before > self.checkpoint_after.max(self.checkpoint_octets * 2)
    }

    /// Writes the next part of a checkpoint that is under way.
    fn advance_checkpoint(&mut self, ledger: &Ledger, now_us: u64) {
        if !self.waiting.is_empty() {
            return;
        }
        let Some(mut checkpoint) = self.under_way.take() else { return };
        let Some(begin) = checkpoint.begin else {
            let (begin, octets) = self.note_lanes(CheckpointPart::Begin, ledger.told(), now_us);
            (checkpoint.begin, checkpoint.octets) = (begin, octets);
            // What waits for room has no place yet: this one is given up, and another one begun.
            self.under_way = begin.is_some().then_some(checkpoint);
            return;
        };
        let part = |part, entries| {
            let lanes = Vec::new();
            CheckpointRef { generation: checkpoint.generation, part, piece: 0, lanes, entries }.encode()
        };
        if let Some(from) = checkpoint.next {
            let (entries, next) = ledger.list(from);
            checkpoint.next = next;
            if !entries.is_empty() {
                let content = part(CheckpointPart::Entries, entries);
                checkpoint.octets += content.len() as u64;
                self.note(RecordKind::Checkpoint, 0, content, now_us);
            }
            self.under_way = Some(checkpoint);
            return;
        }
        if self.note(RecordKind::Checkpoint, 0, part(CheckpointPart::End, Vec::new()), now_us).is_some() {
            self.checkpoint_octets = checkpoint.octets;
            self.noted_before = checkpoint.noted_before;
            self.ended = Some((begin, self.gate));
        }
    }

    /// Writes how far the logs are accounted for, in as many records as that takes: where the first one stands, if all have found room, and their octets.
    fn note_lanes(&mut self, part: CheckpointPart, lanes: Vec<LaneRef>, now_us: u64) -> (Option<Lsn>, u64) {
        let (mut first, mut octets) = (None, 0);
        for record in CheckpointRef::of_lanes(self.generation, part, lanes) {
            let content = record.encode();
            octets += content.len() as u64;
            let lsn = self.note(RecordKind::Checkpoint, 0, content, now_us);
            first = first.or(lsn);
        }
        (first.filter(|_| self.waiting.is_empty()), octets)
    }

    fn note_positions(&mut self, ledger: &Ledger, retry_floor: Option<Lsn>) {
        if self.pending.is_some() || !self.waiting.is_empty() {
            return;
        }
        let arrival = ledger.lanes().map(|log| (log, ledger.low_water(log))).collect();
        let retry = retry_floor.map(|floor| floor.min(ledger.retry_low_water(0)));
        let positions = Positions { arrival, retry, checkpoint: None };
        self.pending = Some((self.gate, positions));
    }

    /// Appends a record, or keeps it until there is room; its position in the first case.
    fn note(&mut self, kind: RecordKind, message_id: u64, content: Vec<u8>, at_us: u64) -> Option<Lsn> {
        let note = Note { kind, message_id, content, at_us };
        if self.waiting.is_empty()
            && let Some(lsn) = self.append(&note)
        {
            return Some(lsn);
        }
        self.waiting.push_back(note);
        None
    }

    fn append(&mut self, note: &Note) -> Option<Lsn> {
        let Note { kind, message_id, content, at_us } = note;
        match self.appender.append_note(*kind, *message_id, OUTCOME_VERSION, content, *at_us) {
            Ok(appended) => {
                self.gate = appended.gate;
                Some(appended.lsn)
            }
            Err(AppendError::TooLarge { .. }) => {
                debug_assert!(false, "records are cut to what the log takes");
                // It would never find room, and everything behind it neither. What it says is tried again after a restart.
                Some(self.gate)
            }
            Err(error) => {
                self.stuck = Some(error);
                None
            }
        }
    }

    fn append_waiting(&mut self) {
        while let Some(note) = self.waiting.pop_front() {
            if self.append(&note).is_none() {
                self.waiting.push_front(note);
                return;
            }
        }
    }
}
