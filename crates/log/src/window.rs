//! Sliding view on a file, for reading records in order with few, large, aligned reads.

use std::io;

use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK, RECORD_OCTETS_MAX, to_usize};
use crate::storage::{StorageFile, read_full};

/// Octets of the view; a record of the largest size fits at any offset in a block.
const WINDOW_OCTETS: usize = 2 * RECORD_OCTETS_MAX;

/// Part of a file in memory. Octets keep their alignment up to 4 KiB.
#[derive(Debug)]
pub(crate) struct Window {
    buffer: AlignedBuffer,
    start: u64,
    filled: usize,
    /// Which file the content is from.
    of: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { buffer: AlignedBuffer::new(WINDOW_OCTETS), start: 0, filled: 0, of: u64::MAX }
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
            self.filled = read_full(file, &mut self.buffer, self.start)?;
            self.of = of;
        }
        let at = to_usize(offset - self.start);
        let end = (at + octets).min(self.filled);
        Ok(self.buffer.get(at..end).unwrap_or_default())
    }
}
