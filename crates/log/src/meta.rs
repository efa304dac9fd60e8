//! `log.meta`: who a log is.
//!
//! ```text
//! two slots of 4 KiB, at 0 and 4096; the valid one with the higher generation counts
//!   0  8 magic "inrushLM"
//!   8  4 format version
//!  12  1 log kind       13  1 log number     14  2 node
//!  16 16 uuid
//!  32  8 generation     40  8 segment size   48  8 created at, µs
//!  56  8 lowest segment number that may still be given out
//! 4092  4 CRC-32C over 0..4092; every other octet is zero
//! ```

use std::io;

use crate::layout::{FORMAT_VERSION, u16_at, u64_at};
use crate::segment::{BlockError, LogIdentity, check_block, close_block};
use crate::settings::LogKind;
use crate::slots;
use crate::storage::{OpenMode, Storage, StorageFile};

/// Name of the file.
pub(crate) const META_NAME: &str = "log.meta";
const MAGIC: &[u8; 8] = b"inrushLM";

/// Content of `log.meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMeta {
    /// Who the log is.
    pub identity: LogIdentity,
    /// Counts the writes of this file.
    pub generation: u64,
    /// When the log was made, in µs since 1970.
    pub created_at_us: u64,
    /// Lowest segment number that may still be given out: numbers never come back, even when all segments are gone.
    pub next_number_min: u64,
}

impl LogMeta {
    /// Fills a slot of 4 KiB.
    pub fn encode(&self, slot: &mut [u8]) {
        slot.fill(0);
        slot[0..8].copy_from_slice(MAGIC);
        slot[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        slot[12] = self.identity.kind as u8;
        slot[13] = self.identity.log;
        slot[14..16].copy_from_slice(&self.identity.node.to_le_bytes());
        slot[16..32].copy_from_slice(&self.identity.uuid);
        slot[32..40].copy_from_slice(&self.generation.to_le_bytes());
        slot[40..48].copy_from_slice(&self.identity.segment_bytes.to_le_bytes());
        slot[48..56].copy_from_slice(&self.created_at_us.to_le_bytes());
        slot[56..64].copy_from_slice(&self.next_number_min.to_le_bytes());
        close_block(slot);
    }

    /// Reads a slot of 4 KiB.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(slot: &[u8]) -> Result<Self, BlockError> {
        check_block(slot, MAGIC)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&slot[16..32]);
        let segment_bytes = u64_at(slot, 40);
        let sizes = crate::layout::SEGMENT_BYTES_MIN..=crate::layout::SEGMENT_BYTES_MAX;
        if !segment_bytes.is_power_of_two() || !sizes.contains(&segment_bytes) {
            return Err(BlockError::Value);
        }
        let identity = LogIdentity {
            uuid,
            kind: LogKind::from_number(slot[12]).ok_or(BlockError::Value)?,
            log: slot[13],
            node: u16_at(slot, 14),
            segment_bytes,
        };
        Ok(Self {
            identity,
            generation: u64_at(slot, 32),
            created_at_us: u64_at(slot, 48),
            next_number_min: u64_at(slot, 56),
        })
    }
}

/// Reads `log.meta` of the log in `dir`.
///
/// # Errors
/// Of the disk; `NotFound` when there is none; the inner result tells what is wrong with the better slot.
pub(crate) fn read_meta<S: Storage>(storage: &S, dir: &str) -> io::Result<Result<LogMeta, BlockError>> {
    let file = storage.open(&format!("{dir}/{META_NAME}"), OpenMode::Read)?;
    slots::read(&file, LogMeta::decode, |meta| meta.generation)
}

/// Writes `meta` into the slot of its generation; durable when it returns. The other slot holds the generation before.
pub(crate) fn write_meta<S: Storage>(storage: &S, dir: &str, meta: &LogMeta) -> io::Result<()> {
    let file = storage.open(&format!("{dir}/{META_NAME}"), OpenMode::Plain)?;
    // The slot that was read may not be durable yet: its writer may have ended before the sync. A power cut could tear both.
    file.sync()?;
    slots::write(&file, |slot| meta.encode(slot), meta.generation)
}

/// Makes `log.meta` for a new log; the name appears with its whole content.
pub(crate) fn create_meta<S: Storage>(storage: &S, dir: &str, meta: &LogMeta) -> io::Result<()> {
    let encode = |generation, slot: &mut [u8]| LogMeta { generation, ..*meta }.encode(slot);
    slots::create(storage, dir, META_NAME, encode, meta.generation)
}
