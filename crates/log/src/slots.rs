//! Small files of two slots of 4 KiB, written in turn: `log.meta` and the cursors.
//!
//! Generation n stands in slot (n - 1) mod 2; the valid slot with the higher generation counts. A torn write leaves the generation before.

use std::io;

use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK, BLOCK_OCTETS};
use crate::segment::BlockError;
use crate::storage::{OpenMode, Storage, StorageFile, read_full, write_full};

/// Makes the file with both slots; its name appears with its whole content.
pub(crate) fn create<S: Storage>(
    storage: &S,
    dir: &str,
    name: &str,
    encode: impl Fn(u64, &mut [u8]),
    generation: u64,
) -> io::Result<()> {
    let (temporary, path) = (format!("{dir}/{name}.tmp"), format!("{dir}/{name}"));
    match storage.unlink(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = storage.open(&temporary, OpenMode::Create)?;
    let mut slots = AlignedBuffer::new(2 * BLOCK_OCTETS);
    let (first, second) = slots.split_at_mut(BLOCK_OCTETS);
    encode(generation, first);
    encode(generation + 1, second);
    write_full(&file, &slots, 0)?;
    file.sync()?;
    storage.rename(&temporary, &path)?;
    storage.sync_dir(dir)
}

/// Reads the slot that counts; the inner result tells what is wrong with the better one. A newer format is a better message than a
/// checksum.
pub(crate) fn read<F: StorageFile, T>(
    file: &F,
    decode: impl Fn(&[u8]) -> Result<T, BlockError>,
    generation: impl Fn(&T) -> u64,
) -> io::Result<Result<T, BlockError>> {
    let mut slots = AlignedBuffer::new(2 * BLOCK_OCTETS);
    let octets = read_full(file, &mut slots, 0)?;
    let slot = |at: usize| match slots.get(at..at + BLOCK_OCTETS) {
        Some(slot) if at + BLOCK_OCTETS <= octets => decode(slot),
        _ => Err(BlockError::Empty),
    };
    Ok(match (slot(0), slot(BLOCK_OCTETS)) {
        (Ok(first), Ok(second)) => Ok(if generation(&second) > generation(&first) { second } else { first }),
        (Ok(good), Err(_)) | (Err(_), Ok(good)) => Ok(good),
        (Err(version @ BlockError::Version(_)), _) | (_, Err(version @ BlockError::Version(_))) => {
            Err(version)
        }
        (Err(error), Err(_)) => Err(error),
    })
}

/// Writes a generation into its slot; durable when it returns. The other slot must be durable before.
pub(crate) fn write<F: StorageFile>(
    file: &F,
    encode: impl FnOnce(&mut [u8]),
    generation: u64,
) -> io::Result<()> {
    let mut slot = AlignedBuffer::new(BLOCK_OCTETS);
    encode(&mut slot);
    write_full(file, &slot, (generation - 1) % 2 * BLOCK)?;
    file.sync()
}
