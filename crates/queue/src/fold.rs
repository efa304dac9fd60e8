//! The state of the queue from what stands on the disk: last checkpoint, later outcomes, arrivals after those.
//!
//! Reads only, takes no lock: for the start of the gateway and for looking at a stopped data directory. Where a record of the outcome log is damaged,
//! nothing that it may have said is believed: every outcome that is left is read, and each message that none of them accounts for is owed. That
//! may deliver a message twice; it loses none.

use std::collections::HashMap;

use inrush_log::{
    BadRecord, Entry, LogIdentity, LogKind, Lsn, OpenError, Reader, RecordKind, Storage, holds_log,
    log_directory, parse_log_directory,
};

use crate::outcome::{CheckpointPart, CheckpointRef, EntryRef, NoteError, OutcomeRef, Place, StoredOutcome};
use crate::{ArrivalLog, Ledger, QueueSettings, RecipientSet};

/// Name of the queue's cursor in arrival and retry logs: below it nothing is owed.
pub const QUEUE_CONSUMER: &str = "queue";
/// Name of the cursor in the outcome log that stands at the begin of the last whole checkpoint.
pub const CHECKPOINT_CONSUMER: &str = "checkpoint";
/// Name of the cursor in the outcome log that keeps the history.
pub const HISTORY_CONSUMER: &str = "history";

/// What a fold has come to.
#[derive(Debug)]
pub struct Folded {
    /// The state of the queue.
    pub ledger: Ledger,
    /// Outcomes that were read.
    pub outcomes: u64,
    /// When the newest of them happened, in µs since 1970.
    pub newest_us: Option<u64>,
    /// Records of the outcome log that cannot be used.
    pub damaged: Vec<String>,
    /// Arrival logs that stand in the place of others, each with the recipients that were owed what stood there and nowhere else.
    pub replaced: Vec<(u8, u64)>,
}

/// Why the state cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A log cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk.
    #[error("{log}: {error}")]
    Io {
        /// The log.
        log: String,
        /// The disk's words.
        error: std::io::Error,
    },
    /// The outcome log was written by a newer version.
    #[error("outcome log: {0}")]
    Version(NoteError),
}

/// Reads the state of the queue of a data directory. `suspect`: something in the outcome log was found to be damaged before.
///
/// # Errors
/// A log cannot be read at all; see [`FoldError`].
pub fn fold<S: Storage>(storage: &S, settings: &QueueSettings, suspect: bool) -> Result<Folded, FoldError> {
    let mut folded = Fold::new(storage, settings)?;
    if !suspect {
        folded.read(storage, settings, Trust::Whole)?;
    }
    if suspect || !folded.damaged.is_empty() {
        let damaged = std::mem::take(&mut folded.damaged);
        folded = Fold::new(storage, settings)?;
        folded.read(storage, settings, Trust::Nothing)?;
        folded.read_copies(storage)?;
        // The outcome that ended it is one of those that cannot be read.
        folded.done.iter().for_each(|(kind, log, lsn)| folded.ledger.forget_below(*kind, *log, *lsn));
        folded.damaged.extend(damaged.into_iter().filter(|_| suspect));
    }
    let replaced = folded.ledger.finish_reading();
    let Fold { ledger, outcomes, newest_us, damaged, .. } = folded;
    Ok(Folded { ledger, outcomes, newest_us, damaged, replaced })
}

/// What is believed of the outcome log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Everything: checkpoints and notes of progress.
    Whole,
    /// Only what single outcomes and entries say of their own messages.
    Nothing,
}

struct Fold {
    ledger: Ledger,
    /// Nothing in these logs below these positions is needed.
    done: Vec<(LogKind, u8, Lsn)>,
    /// Recipients whose last outcome was the end, where only single outcomes are believed.
    ended: HashMap<u64, RecipientSet>,
    outcomes: u64,
    newest_us: Option<u64>,
    damaged: Vec<String>,
}

impl Fold {
    /// The lanes as the cursors leave them.
    fn new<S: Storage>(storage: &S, settings: &QueueSettings) -> Result<Self, FoldError> {
        let mut ledger = Ledger::new(settings);
        let mut done = Vec::new();
        let io = |log: &str, error| FoldError::Io { log: log.to_owned(), error };
        for dir in storage.list("").map_err(|error| io("data directory", error))? {
            let Some((kind, log)) = parse_log_directory(&dir) else { continue };
            if kind == LogKind::Outcome || !holds_log(storage, &dir).map_err(|error| io(&dir, error))? {
                continue;
            }
            let reader = Reader::on(storage.clone(), &dir)?;
            let &LogIdentity { uuid, segment_bytes, .. } = reader.identity();
            let cursors = reader.consumers().map_err(|error| io(&dir, error))?;
            let cursor = cursors.into_iter().find(|cursor| cursor.name == QUEUE_CONSUMER);
            // One that cannot be read keeps every segment, and says nothing.
            let from = cursor.and_then(|cursor| cursor.state.ok()).map_or(Lsn::ZERO, |state| state.position);
            done.push((kind, log, from));
            if kind == LogKind::Retry {
                ledger.set_retry_segment_bytes(segment_bytes);
                continue;
            }
            let first = reader.segments().first().map_or(0, |segment| segment.number);
            let begin = from.max(Lsn::new(first * segment_bytes));
            ledger.add_lane(ArrivalLog { log, uuid, segment_bytes, begin });
        }
        Ok(Self { ledger, done, ended: HashMap::new(), outcomes: 0, newest_us: None, damaged: Vec::new() })
    }

    fn read<S: Storage>(
        &mut self,
        storage: &S,
        settings: &QueueSettings,
        trust: Trust,
    ) -> Result<(), FoldError> {
        let dir = log_directory(LogKind::Outcome, 0);
        let mut reader = match Reader::on(storage.clone(), &dir) {
            Err(OpenError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            reader => reader?,
        };
        let io = |error| FoldError::Io { log: dir.clone(), error };
        if trust == Trust::Whole {
            let cursors = reader.consumers().map_err(io)?;
            let cursor = cursors.into_iter().find(|cursor| cursor.name == CHECKPOINT_CONSUMER);
            if let Some(state) = cursor.and_then(|cursor| cursor.state.ok()) {
                reader.seek(state.position);
            }
        }
        let node = reader.identity().node;
        while let Some(entry) = reader.next().map_err(io)? {
            let record = match entry {
                Entry::Record(record) => record,
                Entry::Bad(bad) => {
                    self.damaged.push(describe(&bad));
                    continue;
                }
            };
            let version = record.header.envelope_version;
            let octets = record.envelope.len() as u64;
            let read = match record.header.kind {
                RecordKind::Outcome => {
                    let at_us = record.header.accepted_at_us;
                    StoredOutcome::read(version, record.envelope, record.id, at_us).map(|outcome| {
                        self.outcomes += 1;
                        self.ledger.apply(&outcome.get());
                        self.ledger.count_read(octets, false);
                        self.newest_us = self.newest_us.max(Some(at_us));
                        if trust == Trust::Nothing {
                            self.note_ended(&outcome.get());
                        }
                    })
                }
                RecordKind::Checkpoint => CheckpointRef::read(version, record.envelope).and_then(|part| {
                    if trust == Trust::Whole {
                        self.ledger.read_checkpoint(&part, settings)?;
                        let of_checkpoint =
                            matches!(part.part, CheckpointPart::Begin | CheckpointPart::Entries);
                        self.ledger.count_read(octets, of_checkpoint);
                        return Ok(());
                    }
                    if part.part == CheckpointPart::Entries {
                        self.ledger.read_entries_alone(node, &part.entries);
                    }
                    Ok(())
                }),
                _ => Ok(()),
            };
            match read {
                Ok(()) => {}
                Err(error @ NoteError::Version(_)) => return Err(FoldError::Version(error)),
                Err(error) => self.damaged.push(format!("LSN {}: {error}", record.header.lsn)),
            }
        }
        Ok(())
    }
}

impl Fold {
    fn note_ended(&mut self, outcome: &OutcomeRef<'_>) {
        let ended = self.ended.entry(outcome.id.packed()).or_default();
        for result in outcome.results {
            if result.status.is_open() {
                ended.remove(result.recipient);
            } else {
                ended.insert(result.recipient);
            }
        }
    }

    /// Copies in the retry log may be the only ones: those that no outcome accounts for are owed.
    fn read_copies<S: Storage>(&mut self, storage: &S) -> Result<(), FoldError> {
        let dir = log_directory(LogKind::Retry, 0);
        let mut reader = match Reader::on(storage.clone(), &dir) {
            Err(OpenError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            reader => reader?,
        };
        let io = |error| FoldError::Io { log: dir.clone(), error };
        if let Some((.., done)) = self.done.iter().find(|(kind, ..)| *kind == LogKind::Retry) {
            reader.seek(*done);
        }
        while let Some(entry) = reader.next().map_err(io)? {
            let Entry::Record(record) = entry else { continue };
            if record.header.kind != RecordKind::Message {
                continue;
            }
            let Ok(envelope) = record.read_envelope() else { continue };
            let total = u32::try_from(envelope.recipients().count()).unwrap_or(u32::MAX);
            let message_id = record.header.message_id;
            let place = Place { kind: LogKind::Retry, log: 0, lsn: record.header.lsn };
            // The note of the move may be what was lost, and the segment that was left be gone.
            self.ledger.relocate(message_id, place);
            // Where its log still has it, whoever is not named is owed it from there.
            if self.ledger.is_to_come(record.id) {
                continue;
            }
            let waiting: RecipientSet = self
                .ledger
                .entries_of(message_id)
                .into_iter()
                .filter_map(|slot| self.ledger.entry(slot))
                .flat_map(|entry| entry.recipients.iter().collect::<Vec<_>>())
                .collect();
            let ended = self.ended.get(&message_id);
            let owed =
                |index: &u32| !waiting.contains(*index) && !ended.is_some_and(|ended| ended.contains(*index));
            let recipients: Vec<u32> = (0..total).filter(owed).collect();
            if recipients.is_empty() {
                continue;
            }
            self.ledger.owe(&EntryRef {
                message_id,
                place,
                accepted_at_us: record.header.accepted_at_us,
                next_attempt_us: 0,
                octets: record.body.len() as u64,
                recipients_total: total,
                attempts: 0,
                held: false,
                flags: 0,
                destination: b"",
                recipients,
            });
        }
        Ok(())
    }
}

fn describe(bad: &BadRecord) -> String {
    bad.to_string()
}
