//! How far the outcome log knows each arrival log: positions that are never to be given out again.
//!
//! An arrival log may begin anew in a directory whose old one was moved away, or be put back from an older copy. Its first free position is then one that the
//! outcome log has seen already, and new mail there would pass for mail that was delivered. So before an arrival log is opened, it is told what to begin behind.

use std::collections::BTreeMap;
use std::io;

use inrush_log::{Entry, LogKind, Lsn, MessageId, OpenError, Reader, RecordKind, Storage, log_directory};

use crate::outcome::{CheckpointPart, CheckpointRef};

/// For each arrival log that the outcome log knows: a position behind everything that it says of it. Reads the end of the log only: each life begins with a note
/// about all of them.
///
/// # Errors
/// The outcome log cannot be read; where there is none, nothing was seen.
pub fn positions_seen<S: Storage>(storage: &S) -> Result<BTreeMap<u8, Lsn>, OpenError> {
    let dir = log_directory(LogKind::Outcome, 0);
    let mut reader = match Reader::on(storage.clone(), &dir) {
        Err(OpenError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(BTreeMap::new());
        }
        reader => reader?,
    };
    let failed = |error| OpenError::Io { place: dir.clone(), what: "reading outcomes", error };
    let segment_bytes = reader.identity().segment_bytes;
    let segments: Vec<_> = reader.segments().iter().map(|segment| segment.number).collect();
    let mut seen = BTreeMap::new();
    for number in segments.into_iter().rev() {
        reader.seek(Lsn::new(number * segment_bytes));
        reader.set_limit(Lsn::new((number + 1) * segment_bytes));
        if read_segment(&mut reader, &mut seen).map_err(failed)? {
            break;
        }
    }
    Ok(seen)
}

/// Reads up to the limit; whether there was a note about all logs.
fn read_segment<S: Storage>(reader: &mut Reader<S>, seen: &mut BTreeMap<u8, Lsn>) -> io::Result<bool> {
    let node = reader.identity().node;
    let mut see = |log: u8, lsn: Lsn| {
        let known = seen.entry(log).or_default();
        *known = lsn.max(*known);
    };
    let mut told = false;
    while let Some(entry) = reader.next()? {
        // What is damaged is found out, and told, when all of it is read.
        let Entry::Record(record) = entry else { continue };
        match record.header.kind {
            RecordKind::Outcome => {
                let id = MessageId::unpack(node, record.header.message_id);
                see(id.log, id.lsn.plus(1));
            }
            RecordKind::Checkpoint => {
                let read = CheckpointRef::read(record.header.envelope_version, record.envelope);
                let Ok(note) = read else { continue };
                if matches!(note.part, CheckpointPart::Begin | CheckpointPart::Progress) {
                    told = true;
                    note.lanes.iter().for_each(|lane| see(lane.log, lane.taken));
                }
            }
            _ => {}
        }
    }
    Ok(told)
}
