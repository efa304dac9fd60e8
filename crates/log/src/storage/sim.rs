//! A simulated disk: live against durable octets and names, torn writes, failures, crashes. A seed is its whole input.
//!
//! ```text
//! write_at ──▶ live octets ──(O_DSYNC or sync)──▶ durable octets      create, rename, unlink ──▶ live names ──(sync_dir)──▶ durable names
//! crash: durable octets + a random part, in 512-octet sectors, of what was written since; durable names + a random prefix of the changes since
//! ```
//! Every call that changes the disk is a step; [`SimStorage::crash_at`] picks the one that never returns.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{LockFailure, OpenMode, Space, Storage, StorageFile};
use crate::layout::to_usize;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

/// Kind of a failure to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this call and all later ones fail, until [`SimStorage::restart`].
    Crash,
    /// This write or sync fails with EIO; what it should have made durable may be gone.
    Error,
    /// This write writes only a part.
    Short,
}

/// A file of it.
#[derive(Debug)]
pub struct SimFile {
    storage: SimStorage,
    inode: usize,
    durable: bool,
}

/// The lock, released on drop.
#[derive(Debug)]
pub struct SimLock(SimStorage);

#[derive(Debug)]
struct Disk {
    random: u64,
    now_us: u64,
    /// Counts restarts: handles of an earlier life are dead.
    life: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    names_durable: BTreeMap<String, usize>,
    /// Changes of names since the last sync of their directory, oldest first; each happens as a whole or not at all.
    names_pending: Vec<Vec<(String, Option<usize>)>>,
    direct: bool,
    capacity: u64,
    free_inodes: u64,
    steps: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    locked: bool,
}

#[derive(Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync.
    dirty: Vec<(usize, Vec<u8>)>,
}

impl SimStorage {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03,
            now_us: 1_700_000_000_000_000,
            life: 0,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            names_pending: Vec::new(),
            direct: true,
            capacity: u64::MAX,
            free_inodes: u64::MAX,
            steps: 0,
            fault: None,
            dead: false,
            locked: false,
        };
        Self { disk: Arc::new(Mutex::new(disk)), life: 0 }
    }

    /// Injects a failure at the `step`-th changing call from now on, counted from 0.
    pub fn fault_at(&self, step: u64, fault: Fault) {
        let mut disk = self.disk();
        let at = disk.steps + step;
        disk.fault = Some((at, fault));
    }

    /// Changing calls so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// Whether writes to a file opened for durable writes are durable when they are done (as with O_DIRECT and O_DSYNC), or need a sync.
    pub fn set_direct(&self, direct: bool) {
        self.disk().direct = direct;
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
        let mut disk = self.disk();
        if let Some(inode) = disk.names.get(name).copied() {
            disk.names.insert(other.to_owned(), inode);
            disk.names_durable.insert(other.to_owned(), inode);
        }
    }

    /// Whether the power has gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// Power cut and restart: what was not synced is there in part, as chance will have it. Handles from before are dead.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.disk();
        disk.lose_names();
        disk.lose_octets();
        disk.life += 1;
        disk.dead = false;
        disk.locked = false;
        disk.fault = None;
        Self { disk: Arc::clone(&self.disk), life: disk.life }
    }

    /// End of the process without a power cut (`kill -9`): everything written is there.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = self.disk();
        disk.life += 1;
        disk.dead = false;
        disk.locked = false;
        disk.fault = None;
        Self { disk: Arc::clone(&self.disk), life: disk.life }
    }

    /// Changes octets of a file behind everyone's back: bit rot.
    pub fn rot(&self, name: &str, offset: usize, mask: u8) {
        let mut disk = self.disk();
        let Some(inode) = disk.names.get(name).copied() else { return };
        let inode = &mut disk.inodes[inode];
        for octets in [&mut inode.live, &mut inode.durable] {
            if let Some(octet) = octets.get_mut(offset) {
                *octet ^= mask;
            }
        }
    }

    /// The live octets of a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).map(|inode| disk.inodes[*inode].live.clone())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for a call that changes nothing.
    fn look(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.dead || disk.life != self.life { Err(io::Error::other("the power is off")) } else { Ok(disk) }
    }

    /// The disk for a call that changes it, and the fault that meets it.
    fn change(&self) -> io::Result<(MutexGuard<'_, Disk>, Option<Fault>)> {
        let mut disk = self.look()?;
        let fault = disk.fault.filter(|(at, _)| *at == disk.steps).map(|(_, fault)| fault);
        disk.steps += 1;
        if fault == Some(Fault::Crash) {
            disk.dead = true;
        }
        Ok((disk, fault))
    }
}

impl Disk {
    fn next_random(&mut self) -> u64 {
        // splitmix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, of: u64) -> u64 {
        self.next_random() % of.max(1)
    }

    fn used(&self) -> u64 {
        let mut inodes: Vec<usize> = self.names.values().copied().collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes.into_iter().map(|inode| self.inodes[inode].live.len() as u64).sum()
    }

    fn rename(&mut self, name: &str, inode: Option<usize>) {
        match inode {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.names_pending.push(vec![(name.to_owned(), inode)]);
    }

    fn settle(&mut self, change: Vec<(String, Option<usize>)>) {
        for (name, inode) in change {
            match inode {
                Some(inode) => self.names_durable.insert(name, inode),
                None => self.names_durable.remove(&name),
            };
        }
    }

    /// Of the changes of names that were not synced, the oldest ones are there.
    fn lose_names(&mut self) {
        let pending = std::mem::take(&mut self.names_pending);
        let kept = to_usize(self.chance(pending.len() as u64 + 1));
        for change in pending.into_iter().take(kept) {
            self.settle(change);
        }
        self.names = self.names_durable.clone();
    }

    /// Of the sectors that were not synced, any may be there: all, none, a prefix, or a random part.
    fn lose_octets(&mut self) {
        for index in 0..self.inodes.len() {
            let dirty = std::mem::take(&mut self.inodes[index].dirty);
            let manner = self.chance(4);
            let sectors = dirty.into_iter().flat_map(|(offset, bytes)| {
                let cut = |(number, part): (usize, &[u8])| (offset + number * SECTOR, part.to_vec());
                bytes.chunks(SECTOR).enumerate().map(cut).collect::<Vec<_>>()
            });
            let sectors: Vec<_> = sectors.collect();
            let prefix = to_usize(self.chance(sectors.len() as u64 + 1));
            for (number, (offset, sector)) in sectors.into_iter().enumerate() {
                let keep = match manner {
                    0 => false,
                    1 => true,
                    2 => number < prefix,
                    _ => self.chance(2) == 0,
                };
                if keep {
                    put(&mut self.inodes[index].durable, offset, &sector);
                }
            }
            self.inodes[index].live = self.inodes[index].durable.clone();
        }
    }

    fn write(&mut self, inode: usize, bytes: &[u8], offset: usize) {
        let inode = &mut self.inodes[inode];
        put(&mut inode.live, offset, bytes);
        inode.dirty.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self, inode: usize) {
        let inode = &mut self.inodes[inode];
        for (offset, sector) in std::mem::take(&mut inode.dirty) {
            put(&mut inode.durable, offset, &sector);
        }
        // The length is metadata that fdatasync brings along.
        inode.durable.resize(inode.live.len(), 0);
    }

    /// A failed sync or write: part of it never reached the disk. With a page cache, the pages are clean now and still show all of it.
    fn fail(&mut self, inode: usize) -> io::Error {
        let dirty = std::mem::take(&mut self.inodes[inode].dirty);
        for (offset, sector) in dirty {
            if self.chance(2) == 0 {
                put(&mut self.inodes[inode].durable, offset, &sector);
            }
        }
        if self.direct {
            self.inodes[inode].live = self.inodes[inode].durable.clone();
        }
        io::Error::from_raw_os_error(5)
    }
}

fn put(octets: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if octets.len() < end {
        octets.resize(end, 0);
    }
    octets[offset..end].copy_from_slice(bytes);
}

/// What a fault does to a change of a name.
fn named(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None | Some(Fault::Short) => Ok(()),
        Some(Fault::Crash) => Err(dead()),
        Some(Fault::Error) => Err(io::Error::from_raw_os_error(5)),
    }
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

impl Storage for SimStorage {
    type File = SimFile;
    type Lock = SimLock;

    fn place(&self) -> String {
        "simulated".to_owned()
    }

    fn create_dir(&self, _name: &str) -> io::Result<()> {
        self.look().map(drop)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let disk = self.look()?;
        if dir.is_empty() {
            let mut dirs: Vec<_> = disk
                .names
                .keys()
                .filter_map(|name| name.split_once('/'))
                .map(|(dir, _)| dir.to_owned())
                .collect();
            dirs.dedup();
            return Ok(dirs);
        }
        let inside = |name: &String| name.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(disk.names.keys().filter_map(inside).filter(|name| !name.contains('/')).collect())
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<SimFile> {
        let durable = mode == OpenMode::Durable && self.disk().direct;
        if mode == OpenMode::Create {
            let (mut disk, fault) = self.change()?;
            named(fault)?;
            if disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.inodes.push(Inode::default());
            let inode = disk.inodes.len() - 1;
            disk.rename(name, Some(inode));
            return Ok(SimFile { storage: self.clone(), inode, durable });
        }
        let inode = self.look()?.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { storage: self.clone(), inode, durable })
    }

    fn allocate(&self, file: &SimFile, octets: u64) -> io::Result<()> {
        let mut disk = self.look()?;
        let more = octets.saturating_sub(disk.inodes[file.inode].live.len() as u64);
        if disk.used() + more > disk.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.inodes[file.inode].live.resize(to_usize(octets), 0);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut disk, fault) = self.change()?;
        named(fault)?;
        let inode = disk.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), inode);
        disk.names_pending.push(vec![(to.to_owned(), Some(inode)), (from.to_owned(), None)]);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let (mut disk, fault) = self.change()?;
        named(fault)?;
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.rename(name, None);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let (mut disk, fault) = self.change()?;
        named(fault)?;
        let inside = |name: &str| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        for change in std::mem::take(&mut disk.names_pending) {
            if change.iter().any(|(name, _)| inside(name)) {
                disk.settle(change);
            } else {
                disk.names_pending.push(change);
            }
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
            let raw = disk.next_random().to_le_bytes();
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

impl StorageFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.storage.look()?;
        let live = &disk.inodes[self.inode].live;
        let from = live.get(to_usize(offset).min(live.len())..).unwrap_or_default();
        let octets = from.len().min(buffer.len());
        buffer[..octets].copy_from_slice(&from[..octets]);
        Ok(octets)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut disk, fault) = self.storage.change()?;
        let end = to_usize(offset) + bytes.len();
        let more = end.saturating_sub(disk.inodes[self.inode].live.len()) as u64;
        if more > 0 && disk.used() + more > disk.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let octets = match fault {
            Some(Fault::Short) => bytes.len() / 2,
            _ => bytes.len(),
        };
        disk.write(self.inode, &bytes[..octets], to_usize(offset));
        match fault {
            // In flight at the power cut: any part of it may be there.
            Some(Fault::Crash) => return Err(dead()),
            Some(Fault::Error) => return Err(disk.fail(self.inode)),
            _ => {}
        }
        if self.durable {
            disk.sync(self.inode);
        }
        Ok(octets)
    }

    fn sync(&self) -> io::Result<()> {
        let (mut disk, fault) = self.storage.change()?;
        match fault {
            Some(Fault::Crash) => Err(dead()),
            Some(Fault::Error) => Err(disk.fail(self.inode)),
            _ => {
                disk.sync(self.inode);
                Ok(())
            }
        }
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.storage.look()?.inodes[self.inode].live.len() as u64)
    }

    fn direct(&self) -> bool {
        self.storage.disk().direct
    }

    fn writes_are_durable(&self) -> bool {
        self.durable
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn links(&self) -> io::Result<u64> {
        let disk = self.storage.look()?;
        let links = disk.names.values().filter(|inode| **inode == self.inode).count();
        Ok(links as u64)
    }
}
