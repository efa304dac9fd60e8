//! Sizes of the format, and the few casts between widths.

/// Unit of every write, and of the alignment of buffers, batches, header and seal.
pub const BLOCK_OCTETS: usize = 4096;
/// A record with header, envelope, body and padding is never larger.
pub const RECORD_OCTETS_MAX: usize = 256 * 1024;
/// Body octets of a [`Chunk`](crate::RecordKind::Chunk) record at most; leaves a Message record room for its envelope.
pub const CHUNK_OCTETS_MAX: usize = 252 * 1024;
/// A batch, written with one write, is never larger.
pub const BATCH_OCTETS: usize = 1024 * 1024;
/// Alignment of records.
pub const RECORD_ALIGN: usize = 16;
/// Smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Largest segment: the length of a pad over all of it has 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// Version of everything in the data directory. A directory with a higher one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// [`BLOCK_OCTETS`] as a file offset.
pub(crate) const BLOCK: u64 = BLOCK_OCTETS as u64;

const _: () = assert!(usize::BITS == 64, "segments and offsets are handled as usize");
const _: () = assert!(BATCH_OCTETS.is_multiple_of(BLOCK_OCTETS) && RECORD_OCTETS_MAX <= BATCH_OCTETS);
const _: () = assert!(BLOCK_OCTETS.is_multiple_of(RECORD_ALIGN));
// A record of the largest size fits into an empty segment of the smallest size, beside header and seal.
const _: () = assert!(RECORD_OCTETS_MAX as u64 + 2 * BLOCK <= SEGMENT_BYTES_MIN);

/// Offset of the seal block.
pub(crate) const fn seal_offset(segment_bytes: u64) -> u64 {
    segment_bytes - BLOCK
}

/// Rounds up to the alignment of records.
pub(crate) const fn align_record(octets: usize) -> usize {
    octets.next_multiple_of(RECORD_ALIGN)
}

/// File offsets and lengths in memory have the same width here (asserted above).
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted at compile time")]
pub(crate) const fn to_usize(octets: u64) -> usize {
    octets as usize
}

/// Lengths inside a record or batch; both are far below 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "bounded by BATCH_OCTETS, checked in debug builds")]
pub(crate) const fn to_u32(octets: usize) -> u32 {
    debug_assert!(octets <= u32::MAX as usize);
    octets as u32
}

/// Little-endian `u16` at `at`. Callers pass whole blocks or headers.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut raw = [0; 2];
    raw.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(raw)
}

/// Little-endian `u32` at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// Little-endian `u64` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
