//! Verification and statistics of a whole log in one pass.

use std::collections::HashMap;
use std::io;

use super::{BadReason, BadRecord, Entry, ReadError, Reader};
use crate::envelope::ChunkRef;
use crate::layout::BLOCK;
use crate::record::RecordKind;
use crate::storage::Storage;

/// How often [`VerifyEvent::Progress`] comes, in octets.
const PROGRESS_OCTETS: u64 = 16 << 20;

/// What happens during a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyEvent {
    /// Octets of the log that were looked at, of all octets of its segments.
    Progress {
        /// So far.
        octets: u64,
        /// In all.
        of: u64,
    },
    /// A record that does not hold.
    Bad(BadRecord),
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Segments with a seal.
    pub segments_sealed: u64,
    /// Records that hold, pads left out.
    pub records: u64,
    /// Messages that hold, with all their chunks.
    pub messages: u64,
    /// Chunks that hold.
    pub chunks: u64,
    /// Chunks that no message lists: of transactions that were given up or are still open.
    pub chunks_orphaned: u64,
    /// Recipients of all messages.
    pub recipients: u64,
    /// Octets of the bodies of messages.
    pub body_octets: u64,
    /// Earliest acceptance in µs since 1970; `u64::MAX` when there is none.
    pub accepted_min_us: u64,
    /// Latest acceptance in µs since 1970; 0 when there is none.
    pub accepted_max_us: u64,
    /// Records and segments that do not hold.
    pub bad: u64,
}

impl<S: Storage> Reader<S> {
    /// Reads everything from the first segment on, checks every checksum and every chunk that a message lists, and counts.
    ///
    /// # Errors
    /// Those of the disk. What does not hold is no error: it comes as [`VerifyEvent::Bad`] and is counted.
    pub fn verify(&mut self, mut on_event: impl FnMut(VerifyEvent)) -> io::Result<Verified> {
        self.refresh()?;
        self.at = (0, BLOCK);
        self.window.forget();
        let mut verified = Verified {
            segments: self.segments.len() as u64,
            segments_sealed: self.segments.iter().filter(|segment| segment.seal.is_some()).count() as u64,
            records: 0,
            messages: 0,
            chunks: 0,
            chunks_orphaned: 0,
            recipients: 0,
            body_octets: 0,
            accepted_min_us: u64::MAX,
            accepted_max_us: 0,
            bad: 0,
        };
        let (segment_bytes, of) = (self.meta.identity.segment_bytes, self.octets());
        let first = self.segments.first().map_or(0, |segment| segment.number);
        let mut told = 0;
        // Chunks that wait for the message that lists them: 16 octets of content each.
        let mut waiting: HashMap<u64, (u32, u32)> = HashMap::new();
        let mut listed: Vec<ChunkRef> = Vec::new();
        loop {
            let mut bad = None;
            match self.next()? {
                None => break,
                Some(Entry::Bad(record)) => bad = Some(record),
                Some(Entry::Record(record)) => {
                    verified.records += 1;
                    let header = record.header;
                    if header.kind == RecordKind::Chunk {
                        verified.chunks += 1;
                        waiting.insert(header.lsn.get(), (header.body_octets, header.body_crc));
                    }
                    if header.kind == RecordKind::Message {
                        let place = |reason| BadRecord {
                            segment: header.lsn.segment(segment_bytes),
                            offset: header.lsn.offset(segment_bytes),
                            octets: header.octets(),
                            id: Some(record.id),
                            reason,
                        };
                        match record.read_envelope() {
                            Err(error) => bad = Some(place(BadReason::Envelope(error))),
                            Ok(envelope) => {
                                listed.clear();
                                listed.extend(envelope.chunks());
                                verified.recipients += envelope.recipients().len() as u64;
                                let mut missing = missing_chunk(self, &mut waiting, &listed)?;
                                if let Some(chunk) = missing
                                    && self.is_retired(header.lsn, chunk.lsn())?
                                {
                                    missing = None;
                                }
                                bad = missing.map(|chunk| place(BadReason::Chunk(chunk.lsn())));
                                let octets: u64 = listed.iter().map(|chunk| u64::from(chunk.octets)).sum();
                                verified.body_octets += octets + u64::from(header.body_octets);
                            }
                        }
                        if bad.is_none() {
                            verified.messages += 1;
                            verified.accepted_min_us = verified.accepted_min_us.min(header.accepted_at_us);
                            verified.accepted_max_us = verified.accepted_max_us.max(header.accepted_at_us);
                        }
                    }
                }
            }
            if let Some(bad) = bad {
                verified.bad += 1;
                on_event(VerifyEvent::Bad(bad));
            }
            let octets = self.position().get().saturating_sub(first.saturating_mul(segment_bytes)).min(of);
            if octets >= told + PROGRESS_OCTETS {
                told = octets;
                on_event(VerifyEvent::Progress { octets, of });
            }
        }
        verified.chunks_orphaned = waiting.len() as u64;
        on_event(VerifyEvent::Progress { octets: of, of });
        Ok(verified)
    }
}

/// The first listed chunk that is not there as listed.
fn missing_chunk<S: Storage>(
    reader: &mut Reader<S>,
    waiting: &mut HashMap<u64, (u32, u32)>,
    listed: &[ChunkRef],
) -> io::Result<Option<ChunkRef>> {
    for chunk in listed {
        if waiting.remove(&chunk.lsn) == Some((chunk.octets, chunk.crc)) {
            continue;
        }
        // Not seen on the way: perhaps listed by another message as well.
        match reader.chunk(*chunk) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Some(*chunk)),
            Err(ReadError::Io(error)) => return Err(error),
            Err(_) => return Ok(Some(*chunk)),
        }
    }
    Ok(None)
}
