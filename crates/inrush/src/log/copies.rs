//! What the retry log holds: copies of messages that wait for long, whose place in their arrival log may be gone.
//!
//! A copy may be moved on within the retry log: only the last one of a message counts.

use std::collections::HashMap;
use std::io;

use inrush_log::{Entry, Lsn, Message, MessageId, ReadError, Reader, RecordHeader, RecordKind};

/// The retry log, with the last copy of each message.
pub(super) struct Copies {
    pub(super) reader: Reader,
    last: HashMap<u64, Lsn>,
    /// Whether it was gone through for that.
    is_known: bool,
}

impl Copies {
    pub(super) fn of(reader: Reader) -> Self {
        Self { reader, last: HashMap::new(), is_known: false }
    }

    /// Goes through it once and notes where the last copies are. What does not hold is named by whoever goes through it for the messages.
    pub(super) fn look(&mut self) -> io::Result<()> {
        if self.is_known {
            return Ok(());
        }
        while let Some(entry) = self.reader.next()? {
            let Entry::Record(record) = entry else { continue };
            if record.header.kind == RecordKind::Message {
                self.last.insert(record.header.message_id, record.header.lsn);
            }
        }
        self.reader.seek(Lsn::ZERO);
        self.is_known = true;
        Ok(())
    }

    /// The log, and where the last copies are, by packed id.
    pub(super) fn parts(&mut self) -> (&mut Reader, &HashMap<u64, Lsn>) {
        (&mut self.reader, &self.last)
    }

    /// The copy of a message.
    pub(super) fn message(&mut self, id: MessageId) -> Result<Message, ReadError> {
        self.look()?;
        let lsn = *self.last.get(&id.packed()).ok_or(ReadError::NotFound(id))?;
        let message = self.reader.message_at(lsn)?;
        message.filter(|message| message.id == id).ok_or(ReadError::NotFound(id))
    }
}

/// Whether a record of the retry log stands for its message: the last copy, which no arrival log has any more.
pub(super) fn counts(
    header: &RecordHeader,
    id: MessageId,
    last: &HashMap<u64, Lsn>,
    arrivals: &mut [Reader],
) -> bool {
    if header.kind != RecordKind::Message || last.get(&header.message_id) != Some(&header.lsn) {
        return false;
    }
    let arrival = arrivals.iter_mut().find(|reader| is_of(reader, id));
    arrival.is_none_or(|reader| reader.message(id).is_err())
}

/// Whether an id is of this arrival log.
pub(super) fn is_of(reader: &Reader, id: MessageId) -> bool {
    (reader.identity().node, reader.identity().log) == (id.node, id.log)
}
