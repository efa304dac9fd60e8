//! Files of a simulated disk: how a call becomes a change of it, and what a fault makes of that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Late;
use super::{Fault, Manner, SimStorage, dead, eio};
use crate::layout::{BLOCK_OCTETS, to_usize};
use crate::storage::StorageFile;

/// Alignment of memory that direct I/O asks for.
const MEMORY_ALIGN: usize = 512;

/// A file of it.
#[derive(Debug)]
pub struct SimFile {
    pub(super) storage: SimStorage,
    pub(super) inode: usize,
    pub(super) durable: bool,
    pub(super) locked: AtomicBool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.storage.disk();
        if self.locked.load(Ordering::Relaxed) && disk.life == self.storage.life {
            disk.files_locked.retain(|inode| *inode != self.inode);
        }
    }
}

/// What direct I/O asks for; anything else is an error of the engine.
fn check_aligned(manner: Manner, memory: usize, octets: usize, offset: u64) {
    let sector = manner.sector_octets;
    let aligned = memory.is_multiple_of(MEMORY_ALIGN)
        && octets.is_multiple_of(sector)
        && to_usize(offset).is_multiple_of(sector);
    assert!(
        !manner.direct || aligned,
        "direct I/O of {octets} octets at {offset} is not aligned to {sector}"
    );
}

impl StorageFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.storage.look()?;
        check_aligned(disk.manner, buffer.as_ptr().addr(), buffer.len(), offset);
        let blocks =
            to_usize(offset) / BLOCK_OCTETS..(to_usize(offset) + buffer.len()).div_ceil(BLOCK_OCTETS);
        if disk.bad_blocks.iter().any(|(inode, block)| *inode == self.inode && blocks.contains(block)) {
            return Err(eio());
        }
        Ok(disk.inodes[self.inode].live.read(buffer, to_usize(offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let what = format_args!("write #{} {offset} {}", self.inode, bytes.len());
        let (mut disk, fault) = self.storage.change(what)?;
        check_aligned(disk.manner, bytes.as_ptr().addr(), bytes.len(), offset);
        let offset = to_usize(offset);
        let end = offset + bytes.len();
        let more = end.saturating_sub(disk.inodes[self.inode].live.len()) as u64;
        assert!(more == 0 || !disk.inodes[self.inode].full, "write to {end}, beyond the end of a segment");
        if fault == Some(Fault::NoSpace) || (more > 0 && disk.used() + more > disk.capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if std::mem::take(&mut disk.hold) {
            let at = disk.steps + disk.looks + disk.chance.below(120);
            disk.late =
                Some(Late { inode: self.inode, offset, bytes: bytes.to_vec(), durable: self.durable, at });
            disk.dead = true;
            disk.tell(format_args!("stays under way until call {at}"));
            return Err(dead());
        }
        match fault {
            // In flight at the power cut: any part of it may be there.
            Some(Fault::Crash) => {
                disk.inodes[self.inode].write(bytes, offset, false);
                Err(dead())
            }
            Some(Fault::Error) => {
                disk.inodes[self.inode].write(bytes, offset, false);
                Err(disk.fail(self.inode))
            }
            Some(Fault::Short) => {
                let unit = if disk.manner.direct { disk.manner.sector_octets } else { 1 };
                let octets = (to_usize(disk.chance.below((bytes.len() / unit) as u64)) * unit).max(unit);
                disk.inodes[self.inode].write(&bytes[..octets], offset, self.durable);
                Ok(octets)
            }
            Some(Fault::Forget) => {
                disk.inodes[self.inode].write(bytes, offset, false);
                if self.durable {
                    disk.forget(self.inode);
                }
                Ok(bytes.len())
            }
            Some(Fault::Misdirect) => {
                let place = disk.elsewhere(self.inode, bytes.len(), offset);
                if let Some((inode, at)) = place {
                    disk.harm.extend([(inode, at..at + bytes.len()), (self.inode, offset..end)]);
                }
                let (inode, at) = place.unwrap_or((self.inode, offset));
                disk.tell(format_args!("lands in #{inode} at {at}"));
                disk.inodes[inode].write(bytes, at, self.durable);
                Ok(bytes.len())
            }
            None | Some(Fault::NoSpace) => {
                disk.inodes[self.inode].write(bytes, offset, self.durable);
                Ok(bytes.len())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut disk, fault) = self.storage.change(format_args!("sync #{}", self.inode))?;
        match fault {
            Some(Fault::Crash) => return Err(dead()),
            Some(Fault::Error) => return Err(disk.fail(self.inode)),
            Some(Fault::NoSpace) => {
                disk.fail(self.inode);
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(Fault::Forget) => disk.forget(self.inode),
            _ => disk.inodes[self.inode].sync(),
        }
        Ok(())
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.storage.look()?.inodes[self.inode].live.len() as u64)
    }

    fn direct(&self) -> bool {
        self.storage.disk().manner.direct
    }

    fn writes_are_durable(&self) -> bool {
        self.durable
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut disk = self.storage.look()?;
        if disk.files_locked.contains(&self.inode) {
            return Ok(self.locked.load(Ordering::Relaxed));
        }
        disk.files_locked.push(self.inode);
        self.locked.store(true, Ordering::Relaxed);
        Ok(true)
    }

    fn links(&self) -> io::Result<u64> {
        let disk = self.storage.look()?;
        Ok(disk.names.files().filter(|(_, inode)| *inode == self.inode).count() as u64)
    }
}
