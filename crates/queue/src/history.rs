//! What became of messages: outcomes read back from the log.

use std::collections::HashMap;
use std::io;

use inrush_log::{Entry, LogKind, MessageId, OpenError, Reader, RecordKind, Storage, log_directory};

use crate::outcome::{OutcomeRef, StoredOutcome};

/// Hands out every outcome of the given messages, in the order of the log; of all messages when there are none given. `since_us`: outcomes before that
/// time need not be looked at. Damaged records are passed over.
///
/// # Errors
/// Those of the disk.
pub fn history<S: Storage>(
    storage: &S,
    ids: &[MessageId],
    since_us: u64,
    mut take: impl FnMut(&OutcomeRef<'_>),
) -> io::Result<()> {
    let dir = log_directory(LogKind::Outcome, 0);
    let mut reader = match Reader::on(storage.clone(), &dir) {
        Ok(reader) => reader,
        Err(OpenError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(OpenError::Io { error, .. }) => return Err(error),
        Err(other) => return Err(io::Error::other(other.to_string())),
    };
    let wanted: HashMap<u64, ()> = ids.iter().map(|id| (id.packed(), ())).collect();
    let segment_bytes = reader.identity().segment_bytes;
    let first = reader.segments().iter().find(|segment| {
        // A segment was sealed after everything in it happened.
        segment.seal.is_none_or(|seal| seal.sealed_at_us >= since_us)
    });
    if let Some(first) = first {
        reader.seek(inrush_log::Lsn::new(first.number * segment_bytes));
    }
    reader.limit_to_present()?;
    while let Some(entry) = reader.next()? {
        let Entry::Record(record) = entry else { continue };
        let relevant = record.header.kind == RecordKind::Outcome
            && (wanted.is_empty() || wanted.contains_key(&record.header.message_id));
        if !relevant {
            continue;
        }
        let (version, at_us) = (record.header.envelope_version, record.header.accepted_at_us);
        if let Ok(outcome) = StoredOutcome::read(version, record.envelope, record.id, at_us) {
            take(&outcome.get());
        }
    }
    Ok(())
}
