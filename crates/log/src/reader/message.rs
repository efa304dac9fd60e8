//! Single messages: by id, with their whole body.

use std::io;
use std::sync::Arc;

use super::{BadReason, BadRecord, Reader, Record};
use rkyv::util::AlignedVec;

use crate::crc::{crc32c, crc32c_combine};
use crate::directory::log_directory;
use crate::envelope::{ChunkRef, Envelope, EnvelopeError};
use crate::fresh::Fresh;
use crate::layout::{BLOCK, to_usize};
use crate::record::{RECORD_HEADER_OCTETS, RecordHeader, RecordKind};
use crate::storage::Storage;
use crate::walk::{Bad, Walk};
use crate::{Lsn, MessageId};

/// A message in memory: its record without the chunks of a large body. At most 256 KiB.
#[derive(Debug)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its record header.
    pub header: RecordHeader,
    content: AlignedVec,
}

/// Length and checksum of a whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyEnd {
    /// Octets of all parts together.
    pub octets: u64,
    /// CRC-32C over all of them.
    pub crc: u32,
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No message has this id in this log.
    #[error("{0}: no such message")]
    NotFound(MessageId),
    /// The id belongs to another log or node.
    #[error("{id}: belongs to another log than {log}")]
    AnotherLog {
        /// The id.
        id: MessageId,
        /// The log that was asked.
        log: String,
    },
    /// The message, or a part of it, is damaged.
    #[error("{0}")]
    Damaged(BadRecord),
    /// The disk, or whoever took the body.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Message {
    /// Keeps a record of a [`Reader`].
    #[must_use]
    pub fn from_record(record: &Record<'_>) -> Self {
        let mut content = AlignedVec::with_capacity(record.envelope.len() + record.body.len());
        content.extend_from_slice(record.envelope);
        content.extend_from_slice(record.body);
        Self { id: record.id, header: record.header, content }
    }

    /// Copies a message out of the batch that it came in, which others wait for.
    #[must_use]
    pub fn from_fresh(fresh: &Fresh) -> Self {
        let (envelope, body) = fresh.content().unwrap_or_default();
        let mut content = AlignedVec::with_capacity(envelope.len() + body.len());
        content.extend_from_slice(envelope);
        content.extend_from_slice(body);
        Self { id: fresh.id, header: fresh.header, content }
    }

    /// Its envelope.
    ///
    /// # Errors
    /// It is of an unknown version or malformed.
    pub fn envelope(&self) -> Result<Envelope<'_>, EnvelopeError> {
        let (envelope, _) = self.header.split(&self.content).ok_or(EnvelopeError::Malformed)?;
        Envelope::read(self.header.envelope_version, envelope)
    }

    /// The part of the body that is in the record itself; it comes after the chunks.
    #[must_use]
    pub fn own_body(&self) -> &[u8] {
        self.header.split(&self.content).map_or(&[], |(_, body)| body)
    }

    /// Envelope and own body as stored.
    pub(crate) fn content(&self) -> (&[u8], &[u8]) {
        self.header.split(&self.content).unwrap_or_default()
    }

    /// Octets of the whole body.
    ///
    /// # Errors
    /// The envelope cannot be read.
    pub fn body_octets(&self) -> Result<u64, EnvelopeError> {
        let chunks: u64 = self.envelope()?.chunks().map(|chunk| u64::from(chunk.octets)).sum();
        Ok(chunks + u64::from(self.header.body_octets))
    }

    fn bad(&self, segment_bytes: u64, reason: BadReason) -> ReadError {
        ReadError::Damaged(BadRecord {
            segment: self.header.lsn.segment(segment_bytes),
            offset: self.header.lsn.offset(segment_bytes),
            octets: self.header.octets(),
            id: Some(self.id),
            reason,
        })
    }
}

impl<S: Storage> Reader<S> {
    /// The message with this id.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn message(&mut self, id: MessageId) -> Result<Message, ReadError> {
        let identity = *self.identity();
        if (id.node, id.log) != (identity.node, identity.log) {
            return Err(ReadError::AnotherLog { id, log: log_directory(identity.kind, identity.log) });
        }
        let message = self.message_at(id.lsn)?.ok_or(ReadError::NotFound(id))?;
        if message.id == id { Ok(message) } else { Err(ReadError::NotFound(id)) }
    }

    /// The message at a position; `None` when nothing or something else is there.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn message_at(&mut self, lsn: Lsn) -> Result<Option<Message>, ReadError> {
        let node = self.identity().node;
        let Some((header, content)) = self.record_aside(lsn)? else { return Ok(None) };
        if header.kind != RecordKind::Message {
            return Ok(None);
        }
        let used = header.envelope_octets as usize + header.body_octets as usize;
        let mut copy = AlignedVec::with_capacity(used);
        copy.extend_from_slice(&content[..used]);
        let id = MessageId::unpack(node, header.message_id);
        Ok(Some(Message { id, header, content: copy }))
    }

    /// Hands out the whole body in order, each part after its checksum was checked; says how long it was.
    ///
    /// # Errors
    /// A part is damaged: what was handed out before it is right, but not all; or `take` failed.
    pub fn read_body(
        &mut self,
        message: &Message,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<BodyEnd, ReadError> {
        let segment_bytes = self.identity().segment_bytes;
        let envelope =
            message.envelope().map_err(|error| message.bad(segment_bytes, BadReason::Envelope(error)))?;
        let mut end = BodyEnd { octets: 0, crc: crc32c(&[]) };
        for chunk in envelope.chunks() {
            let Some(body) = self.chunk(chunk)? else {
                if self.is_retired(message.header.lsn, chunk.lsn())? {
                    return Err(ReadError::NotFound(message.id));
                }
                return Err(message.bad(segment_bytes, BadReason::Chunk(chunk.lsn())));
            };
            take(body)?;
            end = end.then(body.len() as u64, chunk.crc);
        }
        take(message.own_body())?;
        Ok(end.then(message.header.body_octets.into(), message.header.body_crc))
    }

    /// Whether a message with a chunk that is missing was retired: its segment is there no more, or stays for the chunks of others only, and
    /// the chunk was below the first segment that is left.
    pub(super) fn is_retired(&mut self, message: Lsn, chunk: Lsn) -> io::Result<bool> {
        let segment_bytes = self.identity().segment_bytes;
        if self.look(message.segment(segment_bytes))?.is_none() {
            return Ok(true);
        }
        self.refresh()?;
        Ok(self.segments().first().is_some_and(|first| chunk.segment(segment_bytes) < first.number))
    }

    /// Body of a chunk; `None` when it is not there as the message lists it.
    pub(super) fn chunk(&mut self, chunk: ChunkRef) -> Result<Option<&[u8]>, ReadError> {
        let record = match self.record_aside(chunk.lsn()) {
            Ok(record) => record,
            Err(ReadError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((header, content)) = record else { return Ok(None) };
        let same = header.kind == RecordKind::Chunk
            && header.envelope_octets == 0
            && (header.body_octets, header.body_crc) == (chunk.octets, chunk.crc);
        Ok(same.then(|| &content[..chunk.octets as usize]))
    }

    /// Header and checked content of the record at a position; `None` when no record begins there.
    fn record_aside(&mut self, lsn: Lsn) -> Result<Option<(RecordHeader, &[u8])>, ReadError> {
        let segment_bytes = self.identity().segment_bytes;
        let (number, offset) = (lsn.segment(segment_bytes), lsn.offset(segment_bytes));
        let Some((file, header)) = self.aside(number)? else { return Ok(None) };
        let walk = Walk { file: &*file, header };
        if offset < BLOCK || offset + RECORD_HEADER_OCTETS as u64 > walk.limit() {
            return Ok(None);
        }
        // A live segment may have grown since the view was read, or been sealed before this position.
        if walk.record_at(&mut self.single, offset)?.is_err() {
            self.single.forget();
            self.refresh()?;
        }
        let index = self.segments.binary_search_by_key(&number, |segment| segment.number);
        let seal = index.ok().and_then(|index| self.segments[index].seal);
        if seal.is_some_and(|seal| lsn >= seal.end) {
            return Ok(None);
        }
        let record = match walk.record_at(&mut self.single, offset)? {
            Ok(record) => record,
            Err(Bad::Header(_)) => return Ok(None),
            Err(Bad::Content(_)) if self.is_gone(&header)? => return Ok(None),
            Err(Bad::Content(record)) => {
                let id = MessageId::unpack(header.identity.node, record.message_id);
                let (octets, reason) = (record.octets(), BadReason::Content);
                return Err(ReadError::Damaged(BadRecord {
                    segment: number,
                    offset,
                    octets,
                    id: Some(id),
                    reason,
                }));
            }
        };
        let raw = self.single.get(&*file, number, offset, to_usize(record.octets()))?;
        Ok(raw.get(RECORD_HEADER_OCTETS..).map(|content| (record, content)))
    }

    fn aside(&mut self, number: u64) -> Result<Option<OpenSegment<S>>, ReadError> {
        if self.segments.binary_search_by_key(&number, |segment| segment.number).is_err() {
            self.refresh()?;
        }
        let Ok(index) = self.segments.binary_search_by_key(&number, |segment| segment.number) else {
            return Ok(None);
        };
        let Ok(header) = self.segments[index].header else { return Ok(None) };
        if header.identity != *self.identity() || header.number != number {
            return Ok(None);
        }
        let file = match &self.aside {
            Some((open, file)) if *open == number => Arc::clone(file),
            _ => match self.file(number) {
                Ok(file) => {
                    let file = Arc::new(file);
                    self.aside = Some((number, Arc::clone(&file)));
                    self.single.forget();
                    file
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Some((file, header)))
    }
}

type OpenSegment<S> = (Arc<<S as Storage>::File>, crate::segment::SegmentHeader);

impl BodyEnd {
    fn then(self, octets: u64, crc: u32) -> Self {
        // Most bodies are in one piece.
        let crc = if self.octets == 0 { crc } else { crc32c_combine(self.crc, crc, octets) };
        Self { octets: self.octets + octets, crc }
    }
}
