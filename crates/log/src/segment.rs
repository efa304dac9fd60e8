//! Segment file: header block, records, seal block.
//!
//! ```text
//! header (4 KiB at 0)              seal (4 KiB at segment size - 4 KiB)
//!   0  8 magic "inrushSG"            0  8 magic "inrushSL"
//!   8  4 format version              8  4 format version
//!  12  1 log kind                   12  4 why: 1 full, 2 recovery, 3 closed
//!  13  1 log number                 16 16 log uuid
//!  14  2 node                       32  8 segment number
//!  16 16 log uuid                   40  8 salt
//!  32  8 segment number             48  8 end LSN: one past the last record
//!  40  8 base LSN                   56  8 records
//!  48  8 salt of this life          64  8 messages
//!  56  8 created at, µs             72  8 accepted at of the earliest record, µs
//!  64  8 segment size               80  8 accepted at of the latest record, µs
//!  72  4 earlier lives               88  8 sealed at, µs
//!                                   96  8 lowest chunk that a message in here lists, LSN; all ones if there is none
//! 4092  4 CRC-32C over 0..4092, in both; every other octet is zero
//! ```
//! The salt is new in each life of a file: a segment that nobody needs any more becomes a spare and is written again. A seal is written after everything before it is durable, and is durable before the first write to
//! the next segment.

use crate::crc::crc32c;
use crate::layout::{BLOCK_OCTETS, FORMAT_VERSION, u16_at, u32_at, u64_at};
use crate::{Lsn, settings::LogKind};

const HEADER_MAGIC: &[u8; 8] = b"inrushSG";
const SEAL_MAGIC: &[u8; 8] = b"inrushSL";
const CRC_AT: usize = BLOCK_OCTETS - 4;

/// Who a log is; the same in `log.meta` and in each of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// Random, made with the log.
    pub uuid: [u8; 16],
    /// What the log holds.
    pub kind: LogKind,
    /// Number of the log on its node.
    pub log: u8,
    /// Node that writes it.
    pub node: u16,
    /// Size of each segment in octets; a power of two.
    pub segment_bytes: u64,
}

/// First block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log that it belongs to.
    pub identity: LogIdentity,
    /// Number in that log.
    pub number: u64,
    /// Random, new in each life of the file.
    pub salt: u64,
    /// Start of this life in µs since 1970.
    pub created_at_us: u64,
    /// Lives of the file before this one: what lies behind the records is zero in the first life, old mail in later ones.
    pub lives: u32,
}

/// Why a segment was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SealReason {
    /// The next record did not fit.
    Full = 1,
    /// Recovery found it open and never appends to it again.
    Recovery = 2,
    /// Orderly stop.
    Closed = 3,
}

/// Last block of a segment that takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Why it was sealed.
    pub reason: SealReason,
    /// One past the last record.
    pub end: Lsn,
    /// Counts and times of what is inside.
    pub summary: SegmentSummary,
    /// Time of the seal in µs since 1970.
    pub sealed_at_us: u64,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Records of every kind.
    pub records: u64,
    /// Message records.
    pub messages: u64,
    /// Earliest acceptance in µs since 1970; `u64::MAX` when there is none.
    pub accepted_min_us: u64,
    /// Latest acceptance in µs since 1970; 0 when there is none.
    pub accepted_max_us: u64,
    /// The lowest chunk that a message lists, perhaps in an earlier segment; [`NO_CHUNKS`] when none lists any.
    pub chunks_from: Lsn,
}

/// [`SegmentSummary::chunks_from`] of a segment whose messages list no chunk.
pub const NO_CHUNKS: Lsn = Lsn::new(u64::MAX);

impl Default for SegmentSummary {
    fn default() -> Self {
        Self {
            records: 0,
            messages: 0,
            accepted_min_us: u64::MAX,
            accepted_max_us: 0,
            chunks_from: NO_CHUNKS,
        }
    }
}

impl SegmentSummary {
    /// Counts what `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.messages += other.messages;
        self.accepted_min_us = self.accepted_min_us.min(other.accepted_min_us);
        self.accepted_max_us = self.accepted_max_us.max(other.accepted_max_us);
        self.chunks_from = self.chunks_from.min(other.chunks_from);
    }

    /// Counts one more record.
    pub(crate) fn add(&mut self, kind: crate::RecordKind, accepted_at_us: u64) {
        self.records += 1;
        if kind == crate::RecordKind::Message {
            self.messages += 1;
            self.accepted_min_us = self.accepted_min_us.min(accepted_at_us);
            self.accepted_max_us = self.accepted_max_us.max(accepted_at_us);
        }
    }
}

/// Why a block is not the header or seal that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// All zero: never written.
    #[error("empty")]
    Empty,
    /// Something else.
    #[error("no magic")]
    Magic,
    /// Damaged.
    #[error("checksum does not hold")]
    Checksum,
    /// Of a version that this program does not know.
    #[error("format version {0}, this program knows {FORMAT_VERSION}")]
    Version(u32),
    /// Of another segment, log or life.
    #[error("belongs to another log or segment")]
    Foreign,
    /// A field has a value that no writer makes.
    #[error("impossible value")]
    Value,
    /// The disk does not give it, or not to this user.
    #[error("cannot be read")]
    Unreadable,
}

impl SegmentHeader {
    /// Position of the first octet of the segment.
    #[must_use]
    pub const fn base(&self) -> Lsn {
        Lsn::new(self.number * self.identity.segment_bytes)
    }

    /// Fills a 4 KiB block.
    pub fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        block[0..8].copy_from_slice(HEADER_MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12] = self.identity.kind as u8;
        block[13] = self.identity.log;
        block[14..16].copy_from_slice(&self.identity.node.to_le_bytes());
        block[16..32].copy_from_slice(&self.identity.uuid);
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        block[40..48].copy_from_slice(&self.base().get().to_le_bytes());
        block[48..56].copy_from_slice(&self.salt.to_le_bytes());
        block[56..64].copy_from_slice(&self.created_at_us.to_le_bytes());
        block[64..72].copy_from_slice(&self.identity.segment_bytes.to_le_bytes());
        block[72..76].copy_from_slice(&self.lives.to_le_bytes());
        close_block(block);
    }

    /// Reads a 4 KiB block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(block: &[u8]) -> Result<Self, BlockError> {
        check_block(block, HEADER_MAGIC)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        let header = Self {
            identity: LogIdentity {
                uuid,
                kind: LogKind::from_number(block[12]).ok_or(BlockError::Value)?,
                log: block[13],
                node: u16_at(block, 14),
                segment_bytes: u64_at(block, 64),
            },
            number: u64_at(block, 32),
            salt: u64_at(block, 48),
            created_at_us: u64_at(block, 56),
            lives: u32_at(block, 72),
        };
        let base = header.number.checked_mul(header.identity.segment_bytes).ok_or(BlockError::Value)?;
        if base != u64_at(block, 40) || !header.identity.segment_bytes.is_power_of_two() {
            return Err(BlockError::Value);
        }
        Ok(header)
    }
}

impl Seal {
    /// Fills a 4 KiB block with the seal of the segment that `header` begins.
    pub fn encode(&self, header: &SegmentHeader, block: &mut [u8]) {
        block.fill(0);
        block[0..8].copy_from_slice(SEAL_MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12..16].copy_from_slice(&(self.reason as u32).to_le_bytes());
        block[16..32].copy_from_slice(&header.identity.uuid);
        block[32..40].copy_from_slice(&header.number.to_le_bytes());
        block[40..48].copy_from_slice(&header.salt.to_le_bytes());
        block[48..56].copy_from_slice(&self.end.get().to_le_bytes());
        block[56..64].copy_from_slice(&self.summary.records.to_le_bytes());
        block[64..72].copy_from_slice(&self.summary.messages.to_le_bytes());
        block[72..80].copy_from_slice(&self.summary.accepted_min_us.to_le_bytes());
        block[80..88].copy_from_slice(&self.summary.accepted_max_us.to_le_bytes());
        block[88..96].copy_from_slice(&self.sealed_at_us.to_le_bytes());
        block[96..104].copy_from_slice(&self.summary.chunks_from.get().to_le_bytes());
        close_block(block);
    }

    /// Reads the seal of the segment that `header` begins from a 4 KiB block.
    ///
    /// # Errors
    /// What is wrong with it; [`BlockError::Foreign`] for the seal of an earlier life.
    pub fn decode(header: &SegmentHeader, block: &[u8]) -> Result<Self, BlockError> {
        check_block(block, SEAL_MAGIC)?;
        let same = block[16..32] == header.identity.uuid
            && u64_at(block, 32) == header.number
            && u64_at(block, 40) == header.salt;
        if !same {
            return Err(BlockError::Foreign);
        }
        let reason = match u32_at(block, 12) {
            1 => SealReason::Full,
            2 => SealReason::Recovery,
            3 => SealReason::Closed,
            _ => return Err(BlockError::Value),
        };
        let end = Lsn::new(u64_at(block, 48));
        let offset = end.get().checked_sub(header.base().get()).ok_or(BlockError::Value)?;
        let limits = BLOCK_OCTETS as u64..=header.identity.segment_bytes - BLOCK_OCTETS as u64;
        if !limits.contains(&offset) {
            return Err(BlockError::Value);
        }
        Ok(Self {
            reason,
            end,
            summary: SegmentSummary {
                records: u64_at(block, 56),
                messages: u64_at(block, 64),
                accepted_min_us: u64_at(block, 72),
                accepted_max_us: u64_at(block, 80),
                chunks_from: Lsn::new(u64_at(block, 96)),
            },
            sealed_at_us: u64_at(block, 88),
        })
    }
}

/// Name of the segment with this number.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Number of a segment file; `None` for any other name.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let hex = digits.len() == 16 && digits.bytes().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'));
    hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Name of a spare.
pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number}.seg")
}

/// Number of a spare; `None` for any other name.
pub(crate) fn spare_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("spare-")?.strip_suffix(".seg")?.parse().ok()?;
    // Its number is counted on from; and other ways to write it would be other files.
    (number < u64::MAX / 2 && spare_name(number) == name).then_some(number)
}

/// A spare that was put aside for another process.
pub(crate) fn lent_name(number: u64) -> String {
    format!("lent-{number}.seg")
}

/// Number of such a spare; `None` for any other name.
pub(crate) fn lent_number(name: &str) -> Option<u64> {
    spare_number(&format!("spare-{}", name.strip_prefix("lent-")?))
}

/// Puts the checksum at the end of a 4 KiB block.
pub(crate) fn close_block(block: &mut [u8]) {
    let crc = crc32c(&block[..CRC_AT]);
    block[CRC_AT..BLOCK_OCTETS].copy_from_slice(&crc.to_le_bytes());
}

/// Magic, checksum and version of a 4 KiB block.
pub(crate) fn check_block(block: &[u8], magic: &[u8; 8]) -> Result<(), BlockError> {
    if block.len() != BLOCK_OCTETS {
        return Err(BlockError::Value);
    }
    if block[..8] != *magic {
        return Err(if block.iter().all(|octet| *octet == 0) {
            BlockError::Empty
        } else {
            BlockError::Magic
        });
    }
    if crc32c(&block[..CRC_AT]) != u32_at(block, CRC_AT) {
        return Err(BlockError::Checksum);
    }
    match u32_at(block, 8) {
        FORMAT_VERSION => Ok(()),
        version => Err(BlockError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let identity =
            LogIdentity { uuid: [7; 16], kind: LogKind::Arrival, log: 3, node: 9, segment_bytes: 1 << 20 };
        SegmentHeader { identity, number: 0x42, salt: 0xFEED, created_at_us: 5, lives: 6 }
    }

    #[test]
    fn names() {
        assert_eq!(segment_name(0x42), "0000000000000042.seg");
        assert_eq!(segment_number("0000000000000042.seg"), Some(0x42));
        for name in
            ["42.seg", "000000000000004G.seg", "0000000000000042.tmp", "spare-1.seg", "000000000000004A.seg"]
        {
            assert_eq!(segment_number(name), None, "{name}");
        }
        assert_eq!(spare_number(&spare_name(12)), Some(12));
        for name in ["spare-.seg", "spare-+7.seg", "spare-007.seg", "spare-18446744073709551615.seg"] {
            assert_eq!(spare_number(name), None, "{name}");
        }
    }

    #[test]
    fn a_lent_spare_is_no_spare() {
        assert_eq!((lent_number(&lent_name(12)), spare_number(&lent_name(12))), (Some(12), None));
        assert_eq!(lent_number(&spare_name(12)), None);
        assert_eq!(lent_number("lent-007.seg"), None);
    }

    #[test]
    fn blocks_round_trip_and_every_bit_counts() {
        let mut block = vec![0; BLOCK_OCTETS];
        header().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        let seal = Seal {
            reason: SealReason::Recovery,
            end: header().base().plus(8192),
            summary: SegmentSummary {
                records: 2,
                messages: 1,
                accepted_min_us: 3,
                accepted_max_us: 4,
                chunks_from: Lsn::new(9),
            },
            sealed_at_us: 11,
        };
        let mut sealed = vec![0; BLOCK_OCTETS];
        seal.encode(&header(), &mut sealed);
        assert_eq!(Seal::decode(&header(), &sealed), Ok(seal));
        for bit in 0..BLOCK_OCTETS * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                SegmentHeader::decode(&block).is_err() && Seal::decode(&header(), &sealed).is_err(),
                "bit {bit}"
            );
            block[bit / 8] ^= 1 << (bit % 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        let reused = SegmentHeader { salt: 1, ..header() };
        assert_eq!(Seal::decode(&reused, &sealed), Err(BlockError::Foreign));
        assert_eq!(SegmentHeader::decode(&[0; BLOCK_OCTETS]), Err(BlockError::Empty));
    }

    #[test]
    fn a_newer_version_is_told() {
        let mut block = vec![0; BLOCK_OCTETS];
        header().encode(&mut block);
        block[8] = 2;
        close_block(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Err(BlockError::Version(2)));
    }
}
