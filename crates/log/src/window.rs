//! Sliding view on a file, for reading records in order with few, large, aligned reads.

use std::io;

use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK, BLOCK_OCTETS, RECORD_OCTETS_MAX, to_usize};
use crate::storage::{StorageFile, read_full};

/// Octets of the view; a record of the largest size fits at any offset in a block.
const WINDOW_OCTETS: usize = 2 * RECORD_OCTETS_MAX;
/// Octets of a read that is not one of many in order.
const SINGLE_OCTETS: usize = 16 * 1024;

/// Part of a file in memory. Octets keep their alignment up to 4 KiB.
#[derive(Debug)]
pub(crate) struct Window {
    buffer: AlignedBuffer,
    start: u64,
    filled: usize,
    /// Octets of a read at least.
    ahead: usize,
    /// Which file the content is from.
    of: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        let buffer = AlignedBuffer::new(WINDOW_OCTETS);
        Self { buffer, start: 0, filled: 0, ahead: WINDOW_OCTETS, of: u64::MAX }
    }

    /// A view for single records here and there, which reads little more than what is asked for.
    pub(crate) fn single() -> Self {
        Self { ahead: SINGLE_OCTETS, ..Self::new() }
    }

    /// Octets at `offset` of the file known as `of`: as many as asked for, fewer at the end of the file only.
    pub(crate) fn get<F: StorageFile>(
        &mut self,
        file: &F,
        of: u64,
        offset: u64,
        octets: usize,
    ) -> io::Result<&[u8]> {
        let end = offset + octets as u64;
        if of != self.of || offset < self.start || end > self.start + self.filled as u64 {
            self.of = u64::MAX;
            self.start = offset / BLOCK * BLOCK;
            let wanted = to_usize(end - self.start).next_multiple_of(BLOCK_OCTETS).max(self.ahead);
            let room = wanted.min(self.buffer.len());
            self.filled = read_full(file, &mut self.buffer[..room], self.start)?;
            self.of = of;
        }
        let at = to_usize(offset - self.start);
        let end = (at + octets).min(self.filled);
        Ok(self.buffer.get(at..end).unwrap_or_default())
    }

    /// Forgets the content: the next read comes from the file.
    pub(crate) fn forget(&mut self) {
        self.of = u64::MAX;
    }
}
