//! From batch to batch and from segment to segment.

use std::sync::Arc;

use bytes::Bytes;

use super::{Active, Appender};
use crate::batch::Batch;
use crate::buffer::AlignedBuffer;
use crate::error::{AppendError, NoSpace};
use crate::fresh::Fresh;
use crate::layout::{BATCH_OCTETS, BLOCK_OCTETS, seal_offset};
use crate::record::{RECORD_HEADER_OCTETS, RecordHeader, RecordKind};
use crate::retention::SealedSegment;
use crate::segment::{Seal, SealReason, SegmentSummary};
use crate::storage::{Storage, StorageFile};
use crate::write::{Write, WriteKind};
use crate::{Lsn, MessageId};

impl<S: Storage> Appender<S> {
    /// Makes sure that the open batch takes a record of `octets`, by closing it or rolling over to the next segment.
    pub(super) fn make_room(&mut self, octets: usize) -> Result<(), AppendError> {
        loop {
            let offset = self.open.as_ref().map_or(self.active.tail, Batch::offset);
            let left = seal_offset(self.identity.segment_bytes).saturating_sub(offset);
            if !fits(octets as u64, left) {
                self.roll()?;
            } else if let Some(batch) = &self.open {
                if fits(octets as u64, (BATCH_OCTETS - batch.used()) as u64) {
                    return Ok(());
                }
                self.close_batch(false);
            } else {
                let Some(buffer) = self.pool.take() else { return Err(self.count(AppendError::BatchFull)) };
                self.open = Some(Batch::new(buffer, &self.active.header, self.active.tail));
            }
        }
    }

    pub(super) fn roll(&mut self) -> Result<(), AppendError> {
        let Some(next) = self.supply.take(self.helper.as_ref()) else {
            let reason = self.supply.trouble().unwrap_or(NoSpace::SegmentNotReady);
            return Err(self.count(AppendError::NoSpace(reason)));
        };
        self.end_segment(SealReason::Full);
        self.active = Active::new(next);
        self.stats.segments_opened += 1;
        Ok(())
    }

    /// Closes the open batch. `to_seal`: its pad reaches over the rest of the segment.
    pub(super) fn close_batch(&mut self, to_seal: bool) {
        let Some(batch) = self.open.take() else { return };
        if batch.is_empty() {
            self.pool.put(batch.into_buffer());
            return;
        }
        let pad_to = to_seal.then(|| seal_offset(self.identity.segment_bytes));
        let mut write = batch.close(pad_to, self.durable, &self.active.file, &mut self.stats);
        // Under relaxed durability only the end of a segment waits for the disk: its seal may not get ahead of its records.
        let at_seal = write.end >= self.active.header.base().plus(seal_offset(self.identity.segment_bytes));
        write.sync_after &= self.strict || at_seal;
        // Behind a pad to the seal there is nothing more to write.
        self.active.tail = write.end.get() - self.active.header.base().get();
        debug_assert!(self.active.tail <= seal_offset(self.identity.segment_bytes));
        self.active.summary.merge(&write.summary);
        self.queue.push_back(write);
    }

    /// Pads the segment to its end and seals it.
    pub(super) fn end_segment(&mut self, reason: SealReason) {
        let header = self.active.header;
        let seal_at = seal_offset(header.identity.segment_bytes);
        self.close_batch(true);
        if self.active.tail < seal_at {
            self.queue.push_back(self.pad_block(seal_at));
        }
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        let seal = Seal {
            reason,
            end: header.base().plus(seal_at),
            summary: self.active.summary,
            sealed_at_us: self.storage.now_us(),
        };
        seal.encode(&header, &mut block);
        self.sealing.push_back(SealedSegment::new(header.number, header.identity.segment_bytes, &seal));
        let end = header.base().plus(header.identity.segment_bytes);
        self.queue.push_back(self.block_write(WriteKind::Seal, block, seal_at, end));
    }

    /// A block that declares everything from the tail to the seal void.
    fn pad_block(&self, seal_at: u64) -> Write<S::File> {
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        let header = self.active.header;
        let pad =
            RecordHeader::pad(header.base().plus(self.active.tail), seal_at - self.active.tail, self.durable);
        block[..RECORD_HEADER_OCTETS].copy_from_slice(&pad.encode(header.salt));
        let end = header.base().plus(seal_at);
        self.block_write(WriteKind::Pad, block, self.active.tail, end)
    }

    fn block_write(&self, kind: WriteKind, buffer: AlignedBuffer, offset: u64, end: Lsn) -> Write<S::File> {
        Write {
            kind,
            buffer,
            file: Arc::clone(&self.active.file),
            segment: self.active.header.number,
            salt: self.active.header.salt,
            offset,
            octets: BLOCK_OCTETS,
            done: 0,
            stuck: 0,
            sync_after: !self.active.file.writes_are_durable(),
            end,
            summary: SegmentSummary::default(),
        }
    }

    /// Gives the buffer of a finished batch to the consumers or back to the pool.
    pub(super) fn hand_on(&mut self, write: Write<S::File>) {
        let Write { buffer, segment, salt, offset, octets, summary, .. } = write;
        if summary.messages == 0 || !self.fresh.attached() {
            self.fresh.count(summary.messages);
            return self.pool.put(buffer);
        }
        let first = self.fresh.next_number();
        let shared = if self.fresh.is_full() { Err(buffer) } else { self.pool.share(buffer) };
        match shared {
            Err(buffer) => {
                self.stats.fresh_skipped += summary.messages;
                self.pool.put(buffer);
            }
            Ok(shared) => {
                let bytes = Bytes::from_owner(shared);
                let base = Lsn::new(segment * self.identity.segment_bytes).plus(offset);
                let records = crate::batch::records(&bytes, octets, base, salt);
                let messages = records.filter(|(header, _)| header.kind == RecordKind::Message);
                for (number, (header, range)) in (first..).zip(messages) {
                    let id = MessageId::unpack(self.identity.node, header.message_id);
                    let fresh = Fresh { id, header, number, record: bytes.slice(range) };
                    if self.fresh.push(fresh) {
                        self.stats.fresh_published += 1;
                    } else {
                        self.stats.fresh_skipped += 1;
                    }
                }
            }
        }
        self.fresh.count(summary.messages);
        // Whether or not the messages are in the queue: what is not is in the log.
        self.fresh.wake();
    }
}

/// Whether a record of at most `octets` fits into what is left with the header of a pad behind it. None that is filled to its end:
/// the record may turn out shorter, and then leave too little for a pad.
fn fits(octets: u64, left: u64) -> bool {
    octets + RECORD_HEADER_OCTETS as u64 <= left
}
