//! Record: 64 octets of header, envelope, body, padding.
//!
//! ```text
//! off size field                              off size field
//!   0    4 magic "iRec"                        36    4 body length
//!   4    1 kind                                40    4 envelope CRC-32C
//!   5    1 flags                               44    4 body CRC-32C
//!   6    2 envelope version                    48    8 accepted at, µs since 1970
//!   8    8 LSN of this record                  56    4 reserved, zero
//!  16    8 message id: log ‖ LSN               60    4 header CRC-32C over salt ‖ 0..60
//!  24    8 durable LSN                         64      envelope, then body, then zeros to 16 octets
//!  32    4 envelope length
//! ```
//! All little-endian. The header is plain octets: nothing in it is believed before its checksum holds, and the checksum starts with the
//! salt of the segment's life, so that a record left over from an earlier life of a recycled file never validates.
//! A [`Pad`](RecordKind::Pad) has no checksum over its body: its octets mean nothing.

use crate::crc::{crc32c, crc32c_salted};
use crate::layout::{RECORD_OCTETS_MAX, align_record, u16_at, u32_at, u64_at};
use crate::{Lsn, RECORD_ALIGN};

/// Octets of a record header.
pub const RECORD_HEADER_OCTETS: usize = 64;
const MAGIC: [u8; 4] = *b"iRec";

const _: () = assert!(RECORD_HEADER_OCTETS.is_multiple_of(RECORD_ALIGN));

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A message: the commit point of its chunks.
    Message = 1,
    /// Part of a large body.
    Chunk = 2,
    /// Results per recipient.
    Outcome = 3,
    /// State of the queue at the head of an outcome segment.
    Checkpoint = 4,
    /// Nothing but a durable LSN, written after idleness.
    Mark = 5,
    /// Filler.
    Pad = 6,
}

impl RecordKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Message, Self::Chunk, Self::Outcome, Self::Checkpoint, Self::Mark, Self::Pad];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Facts about the body that a relay wants before it looks at the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordFlags(pub u8);

impl RecordFlags {
    /// A line of the body begins with a dot (RFC 5321 §4.5.2: it needs another one when sent).
    pub const DOT_LINES: Self = Self(1);
    /// The body has octets above 127.
    pub const EIGHT_BIT: Self = Self(2);
    /// The client asked for SMTPUTF8 (RFC 6531).
    pub const SMTPUTF8: Self = Self(4);
    /// The envelope lists chunks that come before the record's own body.
    pub const CHUNKED: Self = Self(8);
    /// A copy in the retry log.
    pub const RETRY_COPY: Self = Self(16);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A record header whose checksum and position hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record holds.
    pub kind: RecordKind,
    /// Facts about the body.
    pub flags: RecordFlags,
    /// Version of the envelope type; 0 = no envelope.
    pub envelope_version: u16,
    /// Position of the record itself.
    pub lsn: Lsn,
    /// [`MessageId::packed`](crate::MessageId::packed).
    pub message_id: u64,
    /// Everything below was synced when this record was written.
    pub durable: Lsn,
    /// Octets of the envelope.
    pub envelope_octets: u32,
    /// Octets of the body.
    pub body_octets: u32,
    /// CRC-32C of the envelope.
    pub envelope_crc: u32,
    /// CRC-32C of the body; 0 in a Pad.
    pub body_crc: u32,
    /// Time of acceptance in µs since 1970.
    pub accepted_at_us: u64,
}

/// Why 64 octets are not the record header that belongs at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// No record begins here.
    #[error("no record magic")]
    Magic,
    /// Damaged, torn, or of another life of the segment.
    #[error("header checksum does not hold")]
    Checksum,
    /// A record of another place.
    #[error("record carries LSN {0}, which is another place")]
    Position(Lsn),
    /// Written by a newer version.
    #[error("unknown record kind {0}")]
    Kind(u8),
    /// Lengths that no writer makes.
    #[error("impossible lengths")]
    Lengths,
}

impl RecordHeader {
    /// A record without content.
    pub(crate) const fn empty(kind: RecordKind, lsn: Lsn, durable: Lsn, at_us: u64) -> Self {
        Self {
            kind,
            flags: RecordFlags(0),
            envelope_version: 0,
            lsn,
            message_id: 0,
            durable,
            envelope_octets: 0,
            body_octets: 0,
            envelope_crc: 0,
            body_crc: 0,
            accepted_at_us: at_us,
        }
    }

    /// A pad over `octets`, its own header included; at least 64.
    pub(crate) const fn pad(lsn: Lsn, octets: u64, durable: Lsn) -> Self {
        let body = octets - RECORD_HEADER_OCTETS as u64;
        debug_assert!(body <= u32::MAX as u64);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a pad is never longer than a record and a batch together"
        )]
        let body = body as u32;
        Self { body_octets: body, ..Self::empty(RecordKind::Pad, lsn, durable, 0) }
    }

    /// Octets of the whole record, padding to 16 octets included.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        let content = self.envelope_octets as u64 + self.body_octets as u64;
        (RECORD_HEADER_OCTETS as u64 + content).next_multiple_of(RECORD_ALIGN as u64)
    }

    /// The header as stored.
    #[must_use]
    pub fn encode(&self, salt: u64) -> [u8; RECORD_HEADER_OCTETS] {
        let mut raw = [0; RECORD_HEADER_OCTETS];
        raw[0..4].copy_from_slice(&MAGIC);
        raw[4] = self.kind as u8;
        raw[5] = self.flags.0;
        raw[6..8].copy_from_slice(&self.envelope_version.to_le_bytes());
        raw[8..16].copy_from_slice(&self.lsn.get().to_le_bytes());
        raw[16..24].copy_from_slice(&self.message_id.to_le_bytes());
        raw[24..32].copy_from_slice(&self.durable.get().to_le_bytes());
        raw[32..36].copy_from_slice(&self.envelope_octets.to_le_bytes());
        raw[36..40].copy_from_slice(&self.body_octets.to_le_bytes());
        raw[40..44].copy_from_slice(&self.envelope_crc.to_le_bytes());
        raw[44..48].copy_from_slice(&self.body_crc.to_le_bytes());
        raw[48..56].copy_from_slice(&self.accepted_at_us.to_le_bytes());
        let crc = crc32c_salted(salt, &raw[..60]);
        raw[60..64].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    /// Reads the header that belongs at `expected`. `raw` holds at least 64 octets.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it may be used then.
    pub fn decode(raw: &[u8; RECORD_HEADER_OCTETS], salt: u64, expected: Lsn) -> Result<Self, HeaderError> {
        if raw[0..4] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32c_salted(salt, &raw[..60]) != u32_at(raw, 60) {
            return Err(HeaderError::Checksum);
        }
        let kind = RecordKind::from_number(raw[4]).ok_or(HeaderError::Kind(raw[4]))?;
        let header = Self {
            kind,
            flags: RecordFlags(raw[5]),
            envelope_version: u16_at(raw, 6),
            lsn: Lsn::new(u64_at(raw, 8)),
            message_id: u64_at(raw, 16),
            durable: Lsn::new(u64_at(raw, 24)),
            envelope_octets: u32_at(raw, 32),
            body_octets: u32_at(raw, 36),
            envelope_crc: u32_at(raw, 40),
            body_crc: u32_at(raw, 44),
            accepted_at_us: u64_at(raw, 48),
        };
        if header.lsn != expected {
            return Err(HeaderError::Position(header.lsn));
        }
        let bounded = match kind {
            // A pad may reach over the rest of the segment; the walker checks that it stays inside.
            RecordKind::Pad => header.envelope_octets == 0,
            _ => header.octets() <= RECORD_OCTETS_MAX as u64,
        };
        if !bounded || u32_at(raw, 56) != 0 || header.durable > header.lsn {
            return Err(HeaderError::Lengths);
        }
        Ok(header)
    }

    /// Whether 64 octets look like the header of the record at `expected`, without a look at the checksum.
    pub(crate) fn claims(raw: &[u8; RECORD_HEADER_OCTETS], expected: Lsn) -> bool {
        raw[0..4] == MAGIC && u64_at(raw, 8) == expected.get()
    }

    /// Whether both checksums of the content hold. `content` begins behind the header; a short one does not hold.
    #[must_use]
    pub fn content_holds(&self, content: &[u8]) -> bool {
        if self.kind == RecordKind::Pad {
            return true;
        }
        let Some((envelope, body)) = self.split(content) else { return false };
        crc32c(envelope) == self.envelope_crc && crc32c(body) == self.body_crc
    }

    /// Envelope and body of the octets behind the header; `None` when there are too few.
    #[must_use]
    pub fn split<'a>(&self, content: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (envelope, rest) = content.split_at_checked(self.envelope_octets as usize)?;
        Some((envelope, rest.get(..self.body_octets as usize)?))
    }
}

/// Octets of a record with so much content.
pub(crate) const fn record_octets(envelope_octets: usize, body_octets: usize) -> usize {
    align_record(RECORD_HEADER_OCTETS + envelope_octets + body_octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn sample() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Message,
            flags: RecordFlags::DOT_LINES.with(RecordFlags::SMTPUTF8),
            envelope_version: 1,
            lsn: Lsn::new(0x0010_2000),
            message_id: 0x0100_0000_0010_2000,
            durable: Lsn::new(0x0010_1000),
            envelope_octets: 24,
            body_octets: 5,
            envelope_crc: 0xAABB_CCDD,
            body_crc: 0x1122_3344,
            accepted_at_us: 1_700_000_000_000_000,
        }
    }

    #[test]
    fn header_bytes_are_frozen() {
        let raw = sample().encode(0x5A17);
        let golden = concat!(
            "69526563",
            "01",
            "05",
            "0100",
            "0020100000000000",
            "0020100000000001",
            "0010100000000000",
            "18000000",
            "05000000",
            "ddccbbaa",
            "44332211",
            "00401e18240a0600",
            "00000000"
        );
        let text: String = raw[..60].iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(text, golden);
        assert_eq!(sample().octets(), 96);
    }

    #[test]
    fn every_bit_counts() {
        let raw = sample().encode(7);
        assert_eq!(RecordHeader::decode(&raw, 7, sample().lsn), Ok(sample()));
        for bit in 0..raw.len() * 8 {
            let mut bad = raw;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordHeader::decode(&bad, 7, sample().lsn).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_life_or_place_is_refused() {
        let raw = sample().encode(7);
        assert_eq!(RecordHeader::decode(&raw, 8, sample().lsn), Err(HeaderError::Checksum));
        assert_eq!(RecordHeader::decode(&raw, 7, Lsn::new(16)), Err(HeaderError::Position(sample().lsn)));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let big = RecordHeader { body_octets: 256 * 1024, ..sample() };
        assert_eq!(RecordHeader::decode(&big.encode(7), 7, big.lsn), Err(HeaderError::Lengths));
        let ahead = RecordHeader { durable: Lsn::new(0x0010_2001), ..sample() };
        assert_eq!(RecordHeader::decode(&ahead.encode(7), 7, ahead.lsn), Err(HeaderError::Lengths));
    }
}
