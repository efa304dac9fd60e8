//! What the engine needs from a disk.
//!
//! Names are relative to the data directory and use `/`. Two implementations: [`DiskStorage`](crate::DiskStorage), real files, and
//! the simulated disk of the tests, which tears, fails and forgets. Buffers, offsets and lengths are multiples of 4 KiB in every call on a
//! segment, since direct I/O asks for it.

pub(crate) mod disk;
mod pace;
#[cfg(any(test, feature = "simulation"))]
pub mod sim;

use std::io;

use crate::layout::BLOCK_OCTETS;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; reads what is on the disk where the file system allows that, not what is cached.
    Read,
    /// Reading and writing; each write is durable when it is done, where the file system allows that.
    Durable,
    /// Reading and writing, synced by call.
    Plain,
    /// As `Plain`; the file is made, and must not exist.
    Create,
}

/// An open file.
pub trait StorageFile: Send + Sync + 'static {
    /// Reads at an offset; fewer octets than asked for only at the end of the file.
    ///
    /// # Errors
    /// Those of the disk.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset; may write less.
    ///
    /// # Errors
    /// Those of the disk.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes all finished writes durable (fdatasync).
    ///
    /// # Errors
    /// Those of the disk. Never tried again: the kernel may have dropped the data.
    fn sync(&self) -> io::Result<()>;

    /// Length in octets.
    ///
    /// # Errors
    /// Those of the disk.
    fn octets(&self) -> io::Result<u64>;

    /// The file for other threads that read ahead of a walk through it; `None` where all reads happen in the thread that asks, as in simulations.
    fn for_reading_ahead(&self) -> Option<disk::DiskFile> {
        None
    }

    /// Whether reads and writes go past the page cache.
    fn direct(&self) -> bool;

    /// Whether a finished write is durable by itself.
    fn writes_are_durable(&self) -> bool;

    /// Locks the file until it is closed; false when another process has locked it.
    ///
    /// # Errors
    /// Those of the disk.
    fn try_lock(&self) -> io::Result<bool>;

    /// Names that the file has: more than 1 when somebody has linked it.
    ///
    /// # Errors
    /// Those of the disk.
    fn links(&self) -> io::Result<u64>;
}

/// Why the data directory could not be locked.
#[derive(Debug)]
pub enum LockFailure {
    /// Another process holds it; its process id where it is known.
    Held(Option<u32>),
    /// The lock file cannot be opened or locked.
    Io(io::Error),
}

/// What is left of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Octets.
    pub free_bytes: u64,
    /// Inodes; `u64::MAX` where the file system makes them as it needs them.
    pub free_inodes: u64,
}

/// A data directory on some disk.
pub trait Storage: Clone + Send + Sync + 'static {
    /// Open file.
    type File: StorageFile;
    /// Lock on the directory, released on drop.
    type Lock: Send + Sync;

    /// Where it is, for messages to people.
    fn place(&self) -> String;
    /// Makes a directory and its name durable; no error when it exists.
    ///
    /// # Errors
    /// Those of the disk.
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// Those of the disk.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Opens a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Self::File>;
    /// Sets the length of a new file and reserves its blocks; whether it could: else only writing them tells whether there is room.
    ///
    /// # Errors
    /// Those of the disk; `StorageFull` when there is no room.
    fn allocate(&self, file: &Self::File, octets: u64) -> io::Result<bool>;
    /// Renames a file; durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn unlink(&self, name: &str) -> io::Result<()>;
    /// Removes a large file that nobody reads, with as little harm to those who write others as can be.
    ///
    /// # Errors
    /// Those of the disk.
    fn unlink_gently(&self, name: &str) -> io::Result<()> {
        self.unlink(name)
    }
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Locks the data directory.
    ///
    /// # Errors
    /// Held by another process, or the disk.
    fn lock(&self) -> Result<Self::Lock, LockFailure>;
    /// What this process may still use of the file system.
    ///
    /// # Errors
    /// Those of the disk.
    fn space(&self) -> io::Result<Space>;
    /// Time in µs since 1970.
    fn now_us(&self) -> u64;
    /// Time in µs since the machine started, suspends included.
    fn boot_us(&self) -> u64;
    /// Fills with random octets.
    fn random(&self, bytes: &mut [u8]);

    /// A random number.
    fn random_u64(&self) -> u64 {
        let mut raw = [0; 8];
        self.random(&mut raw);
        u64::from_le_bytes(raw)
    }
}

/// Reads until the buffer is full or the file ends; says how many octets there were.
pub(crate) fn read_full<F: StorageFile>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(octets) => done += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether the disk says that this place cannot be read; any other error may concern the whole disk, or this process.
pub(crate) fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Reads as [`read_full`] does; blocks that the disk does not give are zeros, which no checksum holds for.
pub(crate) fn read_around_bad_sectors<F: StorageFile>(
    file: &F,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    match read_full(file, buffer, offset) {
        Err(error) if is_bad_sector(&error) => {}
        read => return read,
    }
    let mut done = 0;
    for block in buffer.chunks_mut(BLOCK_OCTETS) {
        let octets = match read_full(file, block, offset + done as u64) {
            Err(error) if is_bad_sector(&error) => {
                block.fill(0);
                block.len()
            }
            read => read?,
        };
        done += octets;
        if octets < block.len() {
            break;
        }
    }
    Ok(done)
}

/// Writes everything.
pub(crate) fn write_full<F: StorageFile>(file: &F, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(octets) => done += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
