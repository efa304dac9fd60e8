//! A simulated disk: live against durable octets and names, torn writes, failures, crashes, lies. A seed is its whole input.
//!
//! ```text
//! write_at ──▶ live octets ──(O_DSYNC or sync)──▶ durable octets      create, rename, unlink ──▶ live names ──(sync_dir)──▶ durable names
//! crash: durable octets + a random part, in sectors, of what was written since; durable names + some of the changes since
//! ```
//! Every call that changes the disk is a step; [`SimStorage::fault_at`] picks the one that fails, lies or never returns. An honest disk breaks
//! no promise of [`Storage`]: it may crash, fail and be full, tear what is not synced and leave garbage in it. A dishonest one says yes to
//! a sync and forgets ([`Fault::Forget`]), writes elsewhere ([`Fault::Misdirect`]) or rots ([`SimStorage::rot`]); what it has harmed so is known by
//! [`SimStorage::harm`]. Misuse by the engine, such as unaligned direct I/O or a write beyond a segment, is a panic.

mod disk;
mod file;
mod names;
mod octets;
mod random;
#[cfg(test)]
mod tests;

pub use file::SimFile;
pub use random::Random;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::{Disk, Inode};
use self::names::{Target, parent};
use super::{LockFailure, OpenMode, Space, Storage};
use crate::layout::{BLOCK_OCTETS, to_usize};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

/// How a disk does what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Writes to a file opened for durable writes are durable when they are done (as with O_DIRECT and O_DSYNC); else they need a sync.
    pub direct: bool,
    /// What is written whole or not at all, and the alignment of direct I/O: 512 or 4096.
    pub sector_octets: usize,
    /// A sector that is being written at a power cut may hold garbage.
    pub garbage: bool,
    /// Of the changes of names that were not synced the oldest ones survive a power cut, as with a journal; else any of them.
    pub names_in_order: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { direct: true, sector_octets: 512, garbage: false, names_in_order: true }
    }
}

/// Kind of a failure to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this call and all later ones fail, until [`SimStorage::restart`].
    Crash,
    /// This call fails with EIO; what it should have made durable may be gone, and no later call tells.
    Error,
    /// This call finds the disk full.
    NoSpace,
    /// This write writes only a part.
    Short,
    /// A lie: this sync or durable write does nothing for the durability and says that it did.
    Forget,
    /// A lie: this write lands in another place, of this file or of another one.
    Misdirect,
}

/// Octets of which the disk broke its promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harm {
    /// Name of the file.
    pub file: String,
    /// Where in it.
    pub octets: Range<u64>,
}

/// The lock, released on drop.
#[derive(Debug)]
pub struct SimLock(SimStorage);

impl SimStorage {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(seed))), life: 0 }
    }

    /// Sets how it does things; to be called before it is used.
    pub fn set_manner(&self, manner: Manner) {
        self.disk().manner = manner;
    }

    /// Tells every step on standard error from now on, for a replay.
    pub fn tell_steps(&self) {
        self.disk().tells = true;
    }

    /// Injects a failure at the `step`-th changing call from now on, counted from 0; beside those that were injected before.
    pub fn fault_at(&self, step: u64, fault: Fault) {
        let mut disk = self.disk();
        let at = disk.steps + step;
        disk.faults.push((at, fault));
    }

    /// The `look`-th call from now on that changes nothing, such as a read, fails with EIO.
    pub fn fail_look_at(&self, look: u64) {
        let mut disk = self.disk();
        disk.look_fault = Some(disk.looks + look);
    }

    /// Forgets the failure of [`fail_look_at`](Self::fail_look_at).
    pub fn clear_look_fault(&self) {
        self.disk().look_fault = None;
    }

    /// The process ends at its next write, which the kernel does nevertheless: within the next `calls` calls of a later life, or in part at a power cut
    /// before that. Goes with [`SimStorage::kill`].
    pub fn leave_next_write_under_way(&self) {
        self.disk().hold = true;
    }

    /// Changing calls so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// Calls so far that changed nothing.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.disk().looks
    }

    /// Octets that all files together may have.
    pub fn set_capacity(&self, octets: u64) {
        self.disk().capacity = octets;
    }

    /// Inodes that are left.
    pub fn set_free_inodes(&self, inodes: u64) {
        self.disk().free_inodes = inodes;
    }

    /// Gives a file another name besides, as a backup by hard links does.
    pub fn link(&self, name: &str, other: &str) {
        self.disk().names.link(name, other);
    }

    /// Whether the power has gone, or the process.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// Power cut and restart: what was not synced is there in part, as chance will have it. Handles from before are dead.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.disk();
        disk.lose();
        disk.end_life();
        Self { disk: Arc::clone(&self.disk), life: disk.life }
    }

    /// End of the process without a power cut (`kill -9`): everything written is there.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = self.disk();
        disk.end_life();
        Self { disk: Arc::clone(&self.disk), life: disk.life }
    }

    /// Changes an octet of a file behind everyone's back: bit rot.
    pub fn rot(&self, name: &str, offset: usize, mask: u8) {
        let mut disk = self.disk();
        let Some(inode) = disk.names.file(name) else { return };
        disk.tell(format_args!("rot {name} {offset} {mask:02x}"));
        disk.inodes[inode].rot(offset, mask);
        disk.harm.push((inode, offset..offset + 1));
    }

    /// The block at `offset` of a file cannot be read any more.
    pub fn lose_block(&self, name: &str, offset: usize) {
        let mut disk = self.disk();
        let Some(inode) = disk.names.file(name) else { return };
        disk.bad_blocks.push((inode, offset / BLOCK_OCTETS));
    }

    /// All blocks can be read again.
    pub fn find_blocks(&self) {
        self.disk().bad_blocks.clear();
    }

    /// The octets that the disk has not kept as it promised, by the present names of their files. Those of files without a name are left out.
    #[must_use]
    pub fn harm(&self) -> Vec<Harm> {
        let disk = self.disk();
        let named = |(inode, octets): &(usize, Range<usize>)| {
            let files = disk.names.files().filter(|(_, file)| file == inode);
            let octets = octets.start as u64..octets.end as u64;
            files.map(|(name, _)| Harm { file: name.to_owned(), octets: octets.clone() }).collect::<Vec<_>>()
        };
        disk.harm.iter().flat_map(named).collect()
    }

    /// Whether the disk has broken any promise, of octets or of names.
    #[must_use]
    pub fn has_lied(&self) -> bool {
        let disk = self.disk();
        disk.names_forgotten || !disk.harm.is_empty()
    }

    /// Files with their lengths, sorted by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, usize)> {
        let disk = self.disk();
        disk.names.files().map(|(name, inode)| (name.to_owned(), disk.inodes[inode].live.len())).collect()
    }

    /// The live octets of a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.file(name).map(|inode| disk.inodes[inode].live.to_vec())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: usize, durable: bool) -> SimFile {
        SimFile { storage: self.clone(), inode, durable, locked: AtomicBool::new(false) }
    }

    fn enter(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        if disk.dead || disk.life != self.life {
            return Err(dead());
        }
        disk.land();
        Ok(disk)
    }

    /// The disk for a call that changes nothing.
    fn look(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.enter()?;
        let fails = disk.look_fault == Some(disk.looks);
        disk.looks += 1;
        if fails { Err(eio()) } else { Ok(disk) }
    }

    /// The disk for a call that changes it, and the fault that meets it.
    fn change(&self, what: fmt::Arguments<'_>) -> io::Result<(MutexGuard<'_, Disk>, Option<Fault>)> {
        let mut disk = self.enter()?;
        let now = disk.steps;
        let fault = disk.faults.iter().find(|(at, _)| *at == now).map(|(_, fault)| *fault);
        disk.tell(format_args!("{now} {what} {}", fault.map_or(String::new(), |fault| format!("{fault:?}"))));
        disk.steps += 1;
        if fault == Some(Fault::Crash) {
            disk.dead = true;
        }
        Ok((disk, fault))
    }

    /// A change of names: made or not at a power cut, not made where it fails.
    fn rename_in(
        &self,
        what: fmt::Arguments<'_>,
        change: impl FnOnce(&mut Disk) -> io::Result<Vec<(String, Option<Target>)>>,
    ) -> io::Result<()> {
        let (mut disk, fault) = self.change(what)?;
        match fault {
            Some(Fault::Error) => return Err(eio()),
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            _ => {}
        }
        let change = change(&mut disk)?;
        disk.names.change(change);
        if disk.dead { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Storage for SimStorage {
    type File = SimFile;
    type Lock = SimLock;

    fn place(&self) -> String {
        "simulated".to_owned()
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        if !self.look()?.names.has_directory(name) {
            self.rename_in(format_args!("mkdir {name}"), |_| {
                Ok(vec![(name.to_owned(), Some(Target::Directory))])
            })?;
        }
        // That it exists does not say that its name is durable.
        self.sync_dir(parent(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.look()?.names.inside(dir))
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<SimFile> {
        let durable = mode == OpenMode::Durable && self.disk().manner.direct;
        if mode != OpenMode::Create {
            return match self.look()?.names.target(name) {
                Some(Target::File(inode)) => Ok(self.file(inode, durable)),
                Some(Target::Directory) => Err(io::ErrorKind::IsADirectory.into()),
                None => Err(io::ErrorKind::NotFound.into()),
            };
        }
        let mut made = 0;
        self.rename_in(format_args!("create {name}"), |disk| {
            if disk.names.target(name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !disk.names.has_directory(parent(name)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            disk.inodes.push(Inode::default());
            made = disk.inodes.len() - 1;
            Ok(vec![(name.to_owned(), Some(Target::File(made)))])
        })?;
        Ok(self.file(made, durable))
    }

    fn allocate(&self, file: &SimFile, octets: u64) -> io::Result<bool> {
        let (mut disk, fault) = self.change(format_args!("allocate #{} {octets}", file.inode))?;
        match fault {
            Some(Fault::Crash) => return Err(dead()),
            Some(Fault::Error) => return Err(eio()),
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            _ => {}
        }
        let more = octets.saturating_sub(disk.inodes[file.inode].live.len() as u64);
        if disk.used() + more > disk.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.inodes[file.inode].set_full(to_usize(octets));
        Ok(true)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_in(format_args!("rename {from} {to}"), |disk| {
            let target = disk.names.target(from).ok_or(io::ErrorKind::NotFound)?;
            if !disk.names.has_directory(parent(to)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(vec![(to.to_owned(), Some(target)), (from.to_owned(), None)])
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.rename_in(format_args!("unlink {name}"), |disk| match disk.names.target(name) {
            Some(Target::File(_)) => Ok(vec![(name.to_owned(), None)]),
            Some(Target::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let (mut disk, fault) = self.change(format_args!("sync {dir}/"))?;
        match fault {
            Some(Fault::Crash) => return Err(dead()),
            Some(Fault::Error) => return Err(eio()),
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Forget) => disk.names_forgotten = true,
            _ if !disk.names.has_directory(dir) => return Err(io::ErrorKind::NotFound.into()),
            _ => disk.names.sync(dir),
        }
        Ok(())
    }

    fn lock(&self) -> Result<SimLock, LockFailure> {
        let mut disk = self.look().map_err(LockFailure::Io)?;
        if std::mem::replace(&mut disk.locked, true) {
            return Err(LockFailure::Held(Some(1)));
        }
        drop(disk);
        Ok(SimLock(self.clone()))
    }

    fn space(&self) -> io::Result<Space> {
        let disk = self.look()?;
        Ok(Space { free_bytes: disk.capacity.saturating_sub(disk.used()), free_inodes: disk.free_inodes })
    }

    fn now_us(&self) -> u64 {
        let mut disk = self.disk();
        disk.now_us += 1;
        disk.now_us
    }

    fn boot_us(&self) -> u64 {
        self.now_us()
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut disk = self.disk();
        for part in bytes.chunks_mut(8) {
            let raw = disk.entropy.next_u64().to_le_bytes();
            part.copy_from_slice(&raw[..part.len()]);
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.0.disk();
        if disk.life == self.0.life {
            disk.locked = false;
        }
    }
}
