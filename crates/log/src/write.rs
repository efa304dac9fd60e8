//! One write of the log, to be run by whoever owns the ring or thread.

use std::io;
use std::sync::Arc;

use crate::Lsn;
use crate::buffer::AlignedBuffer;
use crate::layout::BLOCK_OCTETS;
use crate::segment::SegmentSummary;
use crate::storage::StorageFile;

/// What a write holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Records.
    Batch,
    /// The rest of a segment is declared void.
    Pad,
    /// The last block of a segment: no write to this segment comes after it.
    Seal,
}

/// One positional write: `bytes()` to `file()` at `offset()`, then a sync of the data if `sync_after()`.
///
/// Owns its buffer, which is aligned to 4 KiB and does not move; offset and length are multiples of 4 KiB. Hand it back to
/// [`write_done`](crate::Appender::write_done) with what the write (and the sync) returned.
#[derive(Debug)]
pub struct Write<F> {
    pub(crate) kind: WriteKind,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) file: Arc<F>,
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    /// Offset in the segment of the buffer's first octet.
    pub(crate) offset: u64,
    /// Octets of the buffer that count.
    pub(crate) octets: usize,
    /// Octets of them that are written already (after a short write).
    pub(crate) done: usize,
    /// Short writes in a row that brought no whole block.
    pub(crate) stuck: u8,
    pub(crate) sync_after: bool,
    /// One past the last octet, in the log.
    pub(crate) end: Lsn,
    pub(crate) summary: SegmentSummary,
}

impl<F> Write<F> {
    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> WriteKind {
        self.kind
    }

    /// What is to be written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.done..self.octets).unwrap_or_default()
    }

    /// Where to: the open file of the segment.
    #[must_use]
    pub fn file(&self) -> &Arc<F> {
        &self.file
    }

    /// Number of the segment, to keep what belongs to its file.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Offset in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset + self.done as u64
    }

    /// Whether the data must be synced (fdatasync) after the write for the write to count as done.
    #[must_use]
    pub fn sync_after(&self) -> bool {
        self.sync_after
    }

    /// Takes the octets that a short write did bring to the disk; whole blocks only, so that the rest can be written directly.
    pub(crate) fn advance(&mut self, octets: usize) {
        let blocks = octets / BLOCK_OCTETS * BLOCK_OCTETS;
        self.stuck = if blocks == 0 { self.stuck + 1 } else { 0 };
        self.done += blocks;
    }
}

impl<F: StorageFile> Write<F> {
    /// Runs the write in the calling thread.
    ///
    /// # Errors
    /// Those of the disk; to be handed to [`write_done`](crate::Appender::write_done).
    pub fn run(&self) -> io::Result<usize> {
        let octets = self.file.write_at(self.bytes(), self.offset())?;
        if self.sync_after && octets == self.bytes().len() {
            self.file.sync()?;
        }
        Ok(octets)
    }
}

/// One sync of earlier writes, under [`Durability::Relaxed`](crate::Durability::Relaxed) only.
#[derive(Debug)]
pub struct Sync<F> {
    pub(crate) file: Arc<F>,
    pub(crate) segment: u64,
    pub(crate) end: Lsn,
}

impl<F> Sync<F> {
    /// The file to sync (fdatasync).
    #[must_use]
    pub fn file(&self) -> &Arc<F> {
        &self.file
    }

    /// Number of the segment.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.segment
    }
}

impl<F: StorageFile> Sync<F> {
    /// Runs the sync in the calling thread.
    ///
    /// # Errors
    /// Those of the disk; to be handed to [`sync_done`](crate::Appender::sync_done).
    pub fn run(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// What a finished write has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Everything below is durable.
    pub durable: Lsn,
    /// Replies whose gate is not above may leave: `durable` under strict durability, what is written under relaxed.
    pub committed: Lsn,
    /// Messages in this write; 0 after a short one.
    pub messages: u64,
    /// Records in this write, pads left out; 0 after a short one.
    pub records: u64,
    /// Octets that reached the file.
    pub octets: usize,
    /// More is to be written at once: [`next_write`](crate::Appender::next_write) has it.
    pub more: bool,
}
