//! Sliding view on a file, for reading records in order with few, large, aligned reads.
//!
//! The first read of a file is one of 512 KiB. Who goes on behind its end is walking through the file: from then on reads are kept under way
//! ahead of the view, where the storage can do that.

use std::io;

use crate::ahead::{Ahead, HEADROOM_OCTETS};
use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK, BLOCK_OCTETS, RECORD_OCTETS_MAX, to_usize};
use crate::storage::{StorageFile, is_bad_sector, read_around_bad_sectors, read_full};

/// Octets of the first read; a record of the largest size fits at any offset in a block.
const WINDOW_OCTETS: usize = 2 * RECORD_OCTETS_MAX;
/// Octets of a read that is not one of many in order.
const SINGLE_OCTETS: usize = 16 * 1024;

/// Part of a file in memory. Octets keep their alignment up to 4 KiB.
#[derive(Debug)]
pub(crate) struct Window {
    buffer: AlignedBuffer,
    /// Where in the buffer the view begins.
    begin: usize,
    /// Offset in the file of its first octet.
    start: u64,
    filled: usize,
    /// Whether the last read brought all that was asked for.
    whole: bool,
    /// Octets of a read at least.
    least: usize,
    /// Which file the content is from.
    of: u64,
    /// Reading ahead goes no further.
    end: u64,
    ahead: Option<Ahead>,
    /// Whether it may be read ahead at all.
    in_order: bool,
    /// Whether blocks that the disk does not give are shown as zeros.
    around_bad_sectors: bool,
}

impl Window {
    /// A view for a walk through files.
    pub(crate) fn new() -> Self {
        Self {
            buffer: AlignedBuffer::new(WINDOW_OCTETS),
            begin: 0,
            start: 0,
            filled: 0,
            whole: false,
            least: WINDOW_OCTETS,
            of: u64::MAX,
            end: u64::MAX,
            ahead: None,
            in_order: true,
            around_bad_sectors: false,
        }
    }

    /// Shows blocks that the disk does not give as zeros: what is in them fails its checksum, and what is beside them can be read.
    pub(crate) fn around_bad_sectors(self) -> Self {
        Self { around_bad_sectors: true, ..self }
    }

    /// A view for single records here and there, which reads little more than what is asked for.
    pub(crate) fn single() -> Self {
        Self { least: SINGLE_OCTETS, in_order: false, ..Self::new() }
    }

    /// Octets at `offset` of the file known as `of`: as many as asked for, fewer at the end of the file only. At most
    /// [`RECORD_OCTETS_MAX`].
    pub(crate) fn get<F: StorageFile>(
        &mut self,
        file: &F,
        of: u64,
        offset: u64,
        octets: usize,
    ) -> io::Result<&[u8]> {
        let end = offset + octets as u64;
        if of != self.of || offset < self.start || end > self.start + self.filled as u64 {
            let follows = self.in_order
                && of == self.of
                && (self.start..=self.start + self.filled as u64).contains(&offset)
                && self.start + (self.filled as u64) < self.end;
            let went_on = follows && self.go_on(file, offset)?;
            // What was read ahead may end where reading ahead was to end, and not the file.
            if !went_on || end > self.start + self.filled as u64 {
                self.load(file, of, offset, end)?;
            }
        }
        let at = to_usize(offset - self.start);
        let end = (at + octets).min(self.filled);
        Ok(self.buffer[self.begin..].get(at..end).unwrap_or_default())
    }

    /// Reads by itself.
    fn load<F: StorageFile>(&mut self, file: &F, of: u64, offset: u64, end: u64) -> io::Result<()> {
        self.forget();
        (self.start, self.begin) = (offset / BLOCK * BLOCK, 0);
        let wanted = to_usize(end - self.start).next_multiple_of(BLOCK_OCTETS).max(self.least);
        let room = wanted.min(self.buffer.len());
        let buffer = &mut self.buffer[..room];
        self.filled = if self.around_bad_sectors {
            read_around_bad_sectors(file, buffer, self.start)?
        } else {
            read_full(file, buffer, self.start)?
        };
        (self.of, self.whole) = (of, self.filled == room);
        Ok(())
    }

    /// Takes the next read that was done ahead, and keeps from `offset` on what was there before; false where nothing is read ahead.
    fn go_on<F: StorageFile>(&mut self, file: &F, offset: u64) -> io::Result<bool> {
        let behind = self.start + self.filled as u64;
        if !self.ahead.as_ref().is_some_and(Ahead::running) && !self.walk(file, behind) {
            return Ok(false);
        }
        let Some(ahead) = &mut self.ahead else { return Ok(false) };
        let (mut buffer, octets) = match ahead.take() {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(false),
            // The same octets are read once more, block by block.
            Err(error) if self.around_bad_sectors && is_bad_sector(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let start = offset / BLOCK * BLOCK;
        let from = self.begin + to_usize(start - self.start);
        let kept = &self.buffer[from..self.begin + self.filled];
        let begin = HEADROOM_OCTETS - kept.len();
        buffer[begin..HEADROOM_OCTETS].copy_from_slice(kept);
        (self.begin, self.start, self.filled) = (begin, start, kept.len() + octets);
        ahead.give_back(std::mem::replace(&mut self.buffer, buffer));
        Ok(true)
    }

    /// Begins to read ahead from `behind`; false where that cannot be.
    fn walk<F: StorageFile>(&mut self, file: &F, behind: u64) -> bool {
        // Where a read was cut off, the file ends.
        let file = if self.whole { file.for_reading_ahead() } else { None };
        let Some(file) = file else { return false };
        if self.ahead.is_none() {
            // Without threads it goes on as before, read by read.
            self.ahead = Ahead::new().ok();
        }
        let Some(ahead) = &mut self.ahead else { return false };
        ahead.start(file, behind, self.end);
        true
    }

    /// From now on nothing is read ahead from `end` on.
    pub(crate) fn read_until(&mut self, end: u64) {
        self.end = end;
    }

    /// Forgets the content: the next read comes from the file.
    pub(crate) fn forget(&mut self) {
        self.of = u64::MAX;
        if let Some(ahead) = &mut self.ahead {
            ahead.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{OpenMode, Storage as _, disk::DiskStorage};

    /// Octets that tell their place.
    fn content(octets: usize) -> Vec<u8> {
        (0_u64..).flat_map(u64::to_le_bytes).take(octets).collect()
    }

    /// Steps of a walk, forwards and now and then back, over the ends of reads and of the file.
    #[test]
    fn every_view_shows_the_file() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        for octets in [0, 4096, 600_000, (1 << 20) + 4096, 7 << 20, (9 << 20) + 123] {
            let bytes = content(octets);
            std::fs::write(folder.path().join("file"), &bytes)?;
            let file = DiskStorage::new(folder.path(), true).open("file", OpenMode::Read)?;
            let (mut window, mut at, mut random) = (Window::new(), 0, 1_u64);
            window.read_until(bytes.len() as u64 / 2);
            let mut walked = false;
            for round in 0..2000 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let wanted = match random >> 62 {
                    0 => 64,
                    1 => RECORD_OCTETS_MAX,
                    _ => to_usize(random >> 33) % RECORD_OCTETS_MAX,
                };
                let offset = at / 16 * 16;
                let expected = bytes.get(offset..(offset + wanted).min(bytes.len())).unwrap_or_default();
                let seen = window.get(&file, 7, offset as u64, wanted)?;
                assert!(seen == expected, "{octets}: {wanted} at {offset}");
                walked |= window.ahead.as_ref().is_some_and(Ahead::running);
                at += wanted;
                match round {
                    500 => window.forget(),
                    1000 => window.read_until(u64::MAX),
                    _ => {}
                }
                if at >= octets || round % 300 == 299 {
                    at = to_usize(random >> 40) % octets.max(1);
                }
            }
            assert_eq!(walked, octets > WINDOW_OCTETS, "{octets} octets");
        }
        Ok(())
    }
}
