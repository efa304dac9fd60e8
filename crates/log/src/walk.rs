//! Reading a segment record by record, and looking on behind a bad one.

use std::io;

use crate::Lsn;
use crate::envelope::Envelope;
use crate::layout::{BLOCK, seal_offset, to_usize};
use crate::record::{HeaderError, RECORD_HEADER_OCTETS, RecordHeader, RecordKind};
use crate::segment::{NO_CHUNKS, SegmentHeader};
use crate::storage::StorageFile;
use crate::window::Window;

/// What is wrong at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// No valid header.
    Header(HeaderError),
    /// The header holds, the content does not.
    Content(RecordHeader),
}

/// A valid record behind a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Later {
    /// Offset of the first one at a block boundary.
    pub(crate) first: u64,
    /// Highest durable LSN that any of them tells.
    pub(crate) durable: Lsn,
}

/// One segment being read.
pub(crate) struct Walk<'a, F> {
    pub(crate) file: &'a F,
    pub(crate) header: SegmentHeader,
}

impl<F: StorageFile> Walk<'_, F> {
    /// Position of an offset.
    pub(crate) fn lsn(&self, offset: u64) -> Lsn {
        self.header.base().plus(offset)
    }

    /// Offset of the seal.
    pub(crate) fn limit(&self) -> u64 {
        seal_offset(self.header.identity.segment_bytes)
    }

    /// Checks the record header at `offset`.
    pub(crate) fn header_at(
        &self,
        window: &mut Window,
        offset: u64,
    ) -> io::Result<Result<RecordHeader, HeaderError>> {
        let raw = window.get(self.file, self.header.number, offset, RECORD_HEADER_OCTETS)?;
        let Some(raw) = raw.first_chunk() else { return Ok(Err(HeaderError::Magic)) };
        let header = match RecordHeader::decode(raw, self.header.salt, self.lsn(offset)) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        // A record ends before the seal at the latest.
        Ok(if offset + header.octets() <= self.limit() { Ok(header) } else { Err(HeaderError::Lengths) })
    }

    /// Checks the whole record at `offset`.
    pub(crate) fn record_at(
        &self,
        window: &mut Window,
        offset: u64,
    ) -> io::Result<Result<RecordHeader, Bad>> {
        let header = match self.header_at(window, offset)? {
            Ok(header) => header,
            Err(error) => return Ok(Err(Bad::Header(error))),
        };
        if header.kind == RecordKind::Pad {
            return Ok(Ok(header));
        }
        let record = window.get(self.file, self.header.number, offset, to_usize(header.octets()))?;
        let holds = record.get(RECORD_HEADER_OCTETS..).is_some_and(|content| header.content_holds(content));
        Ok(if holds { Ok(header) } else { Err(Bad::Content(header)) })
    }

    /// The lowest chunk that a message lists, whose header is `record`; the first position of all when its envelope cannot be read.
    pub(crate) fn chunks_from(&self, window: &mut Window, record: &RecordHeader) -> io::Result<Lsn> {
        let offset = record.lsn.offset(self.header.identity.segment_bytes);
        let raw = window.get(self.file, self.header.number, offset, to_usize(record.octets()))?;
        let envelope = raw.get(RECORD_HEADER_OCTETS..).and_then(|content| record.split(content));
        let envelope =
            envelope.and_then(|(envelope, _)| Envelope::read(record.envelope_version, envelope).ok());
        Ok(envelope.map_or(Lsn::ZERO, |envelope| {
            envelope.chunks().map(|chunk| chunk.lsn()).min().unwrap_or(NO_CHUNKS)
        }))
    }

    /// Whether the octets at `offset` say of themselves that they are the record of this place, whether it holds or not.
    pub(crate) fn claims(&self, window: &mut Window, offset: u64) -> io::Result<bool> {
        let raw = window.get(self.file, self.header.number, offset, RECORD_HEADER_OCTETS)?;
        Ok(raw.first_chunk().is_some_and(|raw| RecordHeader::claims(raw, self.lsn(offset))))
    }

    /// Looks at every block boundary above `offset` for valid record headers. Each batch begins at one, and its first record tells what was durable
    /// when it was written.
    pub(crate) fn later(&self, window: &mut Window, offset: u64, limit: u64) -> io::Result<Option<Later>> {
        let mut later: Option<Later> = None;
        let mut at = (offset + 1).next_multiple_of(BLOCK);
        while at < limit {
            if let Ok(header) = self.header_at(window, at)? {
                let known = later.get_or_insert(Later { first: at, durable: header.durable });
                known.durable = known.durable.max(header.durable);
            }
            at += BLOCK;
        }
        Ok(later)
    }
}
