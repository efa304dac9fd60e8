//! The open batch: records side by side in one aligned buffer.

use std::ops::Range;
use std::sync::Arc;

use crate::Lsn;
use crate::buffer::AlignedBuffer;
use crate::crc::crc32c;
use crate::layout::{BATCH_OCTETS, BLOCK, BLOCK_OCTETS, to_u32, to_usize};
use crate::record::{RECORD_HEADER_OCTETS, RecordHeader, RecordKind};
use crate::segment::{SegmentHeader, SegmentSummary};
use crate::stats::AppenderStats;
use crate::storage::StorageFile;
use crate::write::{Write, WriteKind};

/// A batch that takes records.
pub(crate) struct Batch {
    buffer: AlignedBuffer,
    segment: u64,
    salt: u64,
    /// Position of the segment.
    base: Lsn,
    /// Offset of the batch in the segment.
    start: u64,
    used: usize,
    summary: SegmentSummary,
}

impl Batch {
    pub(crate) fn new(buffer: AlignedBuffer, header: &SegmentHeader, start: u64) -> Self {
        debug_assert!(start.is_multiple_of(BLOCK));
        let (segment, salt, base) = (header.number, header.salt, header.base());
        Self { buffer, segment, salt, base, start, used: 0, summary: SegmentSummary::default() }
    }

    /// Position of the next record.
    pub(crate) fn lsn(&self) -> Lsn {
        self.base.plus(self.offset())
    }

    /// Offset of the next record in the segment.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.used as u64
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Position behind the batch if it were closed now.
    pub(crate) fn end_when_closed(&self) -> Lsn {
        self.base.plus(self.start + padded(self.used) as u64)
    }

    /// Where the content of the next record goes. The caller has made room.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used + RECORD_HEADER_OCTETS..]
    }

    /// Copies a body behind an envelope of `after` octets; its length and CRC-32C. `None`: longer than `octets_max`.
    pub(crate) fn body<'a>(
        &mut self,
        after: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
        octets_max: usize,
    ) -> Option<(u32, u32)> {
        let room = self.room().get_mut(after..after + octets_max)?;
        let mut octets = 0;
        for piece in pieces {
            room.get_mut(octets..octets + piece.len())?.copy_from_slice(piece);
            octets += piece.len();
        }
        // One pass over what was just copied, still in the cache: pieces may be as short as one line.
        Some((to_u32(octets), crc32c(&room[..octets])))
    }

    /// Length and CRC-32C of an envelope that was written into [`room`](Self::room).
    pub(crate) fn envelope(&mut self, octets: usize) -> (u32, u32) {
        (to_u32(octets), crc32c(&self.room()[..octets]))
    }

    /// Notes the lowest chunk that the next record lists.
    pub(crate) fn note_chunks(&mut self, from: Lsn) {
        self.summary.chunks_from = self.summary.chunks_from.min(from);
    }

    /// The lowest chunk that a record lists.
    pub(crate) fn chunks_from(&self) -> Lsn {
        self.summary.chunks_from
    }

    /// Adds the record whose content was written into [`room`](Self::room).
    pub(crate) fn commit(&mut self, header: RecordHeader) {
        debug_assert_eq!(header.lsn, self.lsn());
        let octets = to_usize(header.octets());
        let record = &mut self.buffer[self.used..self.used + octets];
        record[..RECORD_HEADER_OCTETS].copy_from_slice(&header.encode(self.salt));
        let content = RECORD_HEADER_OCTETS + header.envelope_octets as usize + header.body_octets as usize;
        record[content..].fill(0);
        self.used += octets;
        self.summary.add(header.kind, header.accepted_at_us);
    }

    /// Pads the batch to a whole number of blocks. With `seal_at`, the pad is declared to reach to there.
    pub(crate) fn close<F: StorageFile>(
        mut self,
        seal_at: Option<u64>,
        durable: Lsn,
        file: &Arc<F>,
        stats: &mut AppenderStats,
    ) -> Write<F> {
        let records_end = self.used;
        let mut octets = padded(self.used);
        let short_of_seal = seal_at.is_some_and(|seal_at| self.start + (octets as u64) < seal_at);
        if octets == self.used && short_of_seal {
            octets += BLOCK_OCTETS;
        }
        let mut end = self.start + octets as u64;
        if octets > self.used {
            // Records leave room for the header of a pad, in the batch and in the segment.
            debug_assert!(octets - self.used >= RECORD_HEADER_OCTETS && octets <= BATCH_OCTETS);
            end = seal_at.unwrap_or(end);
            let pad = RecordHeader::pad(self.lsn(), end - self.offset(), durable);
            let rest = &mut self.buffer[self.used..octets];
            rest.fill(0);
            rest[..RECORD_HEADER_OCTETS].copy_from_slice(&pad.encode(self.salt));
        }
        stats.pad_octets += (octets - records_end) as u64;
        Write {
            kind: WriteKind::Batch,
            buffer: self.buffer,
            file: Arc::clone(file),
            segment: self.segment,
            salt: self.salt,
            offset: self.start,
            octets,
            done: 0,
            stuck: 0,
            sync_after: !file.writes_are_durable(),
            end: self.base.plus(end),
            summary: self.summary,
        }
    }

    pub(crate) fn into_buffer(self) -> AlignedBuffer {
        self.buffer
    }
}

/// Octets of a batch with so many octets of records: whole blocks; a gap too short for the header of a pad takes one block more.
fn padded(used: usize) -> usize {
    let octets = used.next_multiple_of(BLOCK_OCTETS);
    if octets - used > 0 && octets - used < RECORD_HEADER_OCTETS { octets + BLOCK_OCTETS } else { octets }
}

/// Writes `durable` into the first record of a batch that is about to be written.
pub(crate) fn stamp<F>(write: &mut Write<F>, durable: Lsn) {
    let Some(first) = write.buffer.first_chunk_mut::<RECORD_HEADER_OCTETS>() else { return };
    let lsn = Lsn::new(crate::layout::u64_at(first, 8));
    match RecordHeader::decode(first, write.salt, lsn) {
        Ok(header) => *first = RecordHeader { durable, ..header }.encode(write.salt),
        Err(error) => debug_assert!(false, "a batch begins with a record: {error}"),
    }
}

/// Records of a batch in memory, with the octets of each.
pub(crate) fn records(
    bytes: &[u8],
    octets: usize,
    base: Lsn,
    salt: u64,
) -> impl Iterator<Item = (RecordHeader, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let raw = bytes.get(at..octets)?.first_chunk()?;
        let header = RecordHeader::decode(raw, salt, base.plus(at as u64)).ok()?;
        if header.kind == RecordKind::Pad {
            return None;
        }
        let range = at..at + to_usize(header.octets());
        at = range.end;
        Some((header, range))
    })
}
