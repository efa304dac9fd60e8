//! Export of what came since the last one: each log from the position of a named consumer to what is proven to be durable.
//!
//! A position is saved when everything below it is durable at the target. Whatever ends an export before that leaves it where it was: the next one
//! brings the same messages again.

use std::path::Path;

use anyhow::{Context as _, bail};
use inrush_log::{Cursor, Lsn, Reader};
use inrush_queue::{CHECKPOINT_CONSUMER, HISTORY_CONSUMER, QUEUE_CONSUMER};

use crate::cli::Consumer;

/// The cursors of one consumer, one for each log; nobody else moves them meanwhile.
pub(super) struct Increment {
    cursors: Vec<Cursor>,
    ends: Vec<Lsn>,
}

impl Increment {
    /// Takes the cursors, makes those that are not there, and lets each reader begin and end where it has to.
    pub(super) fn open(data: &Path, readers: &mut [Reader], consumer: &Consumer) -> anyhow::Result<Self> {
        if [QUEUE_CONSUMER, CHECKPOINT_CONSUMER, HISTORY_CONSUMER].contains(&consumer.name.as_str()) {
            bail!(
                "{:?} is the name of a cursor of the queue: moved by hand it would lose mail",
                consumer.name
            );
        }
        let mut increment = Self { cursors: Vec::new(), ends: Vec::new() };
        for reader in readers {
            let cursor = Cursor::open(&data.join(reader.name()), &consumer.name, consumer.kind)?;
            let end =
                reader.durable_end().with_context(|| format!("log {} cannot be read", reader.name()))?;
            reader.seek(cursor.position());
            // What is behind it can be read, but may be gone after a power cut: then nobody would look for what comes in its place.
            reader.set_limit(end);
            increment.cursors.push(cursor);
            increment.ends.push(end);
        }
        Ok(increment)
    }

    /// Octets of log that are to be gone through at most.
    pub(super) fn octets(&self, readers: &[Reader]) -> u64 {
        let lags = self.cursors.iter().zip(&self.ends).zip(readers);
        lags.map(|((cursor, end), reader)| lag_octets(reader, cursor.position(), *end)).sum()
    }

    /// Says for good that each log was exported up to the position that was reached in it.
    pub(super) fn save(mut self, reached: &[Lsn]) -> anyhow::Result<()> {
        for ((cursor, end), reached) in self.cursors.iter_mut().zip(&self.ends).zip(reached) {
            // A reader at the end of the newest segment already stands in the next one.
            cursor.save((*reached).min(*end).max(cursor.position()))?;
        }
        Ok(())
    }
}

/// Octets of log from a position to an end, what was retired left out.
pub(super) fn lag_octets(reader: &Reader, position: Lsn, end: Lsn) -> u64 {
    let segment_bytes = reader.identity().segment_bytes;
    let first = reader.segments().first().map_or(end, |first| Lsn::new(first.number * segment_bytes));
    end.get().saturating_sub(position.max(first).get())
}
