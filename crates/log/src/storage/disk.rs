//! Real files: O_DIRECT and O_DSYNC where the file system allows them, else the page cache and fdatasync.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::pace::Pace;
use super::{LockFailure, OpenMode, Space, Storage, StorageFile};
use crate::buffer::AlignedBuffer;
use crate::layout::BLOCK_OCTETS;

const LOCK: &str = "lock";
const PROBE: &str = "probe.tmp";
/// Octets of a file that come free in one step, and how many times as long nothing does afterwards.
const FREED_AT_ONCE: u64 = 8 << 20;
const FREEING_REST: u32 = 4;

/// A data directory in the file system.
#[derive(Clone, Debug)]
pub struct DiskStorage {
    root: PathBuf,
    direct: Arc<AtomicBool>,
    pace: Option<Arc<Pace>>,
}

/// A file of it.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    direct: bool,
    durable: bool,
    pace: Option<Arc<Pace>>,
}

/// Whether there was no room, or a quota has been reached.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl DiskStorage {
    /// Works below `root`, which need not exist yet. `direct`: try O_DIRECT.
    pub fn new(root: impl Into<PathBuf>, direct: bool) -> Self {
        Self { root: root.into(), direct: Arc::new(AtomicBool::new(direct)), pace: None }
    }

    /// The same; reads make way for a gateway that takes mail in this directory.
    #[must_use]
    pub fn gentle(self) -> Self {
        Self { pace: Some(Arc::new(Pace::new(self.root.clone()))), ..self }
    }

    /// A lock that another process holds and has handed over: the same open file, so that the directory stays locked until both have closed it.
    ///
    /// # Errors
    /// It is another file than the lock of this directory.
    pub(crate) fn take_over_lock(&self, lock: OwnedFd) -> io::Result<File> {
        let mut lock = File::from(lock);
        let (ours, theirs) = (std::fs::metadata(self.root.join(LOCK))?, lock.metadata()?);
        if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "another lock"));
        }
        note_owner(&mut lock)?;
        Ok(lock)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether files are opened with O_DIRECT.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Writes and reads one block with O_DIRECT and O_DSYNC in a file of its own and goes without them when that fails: some file
    /// systems refuse the flags at the open, others at the first write.
    ///
    /// A full disk says nothing about either: there is mail to be delivered, which makes room.
    ///
    /// # Errors
    /// The directory cannot be written to at all.
    pub fn probe(&self) -> io::Result<()> {
        let path = self.root.join(PROBE);
        let refused = self.direct() && self.probe_direct(&path).is_err_and(|error| !is_full(&error));
        if refused {
            self.direct.store(false, Ordering::Relaxed);
        }
        let written = std::fs::write(&path, b"inrush");
        let _ = std::fs::remove_file(&path);
        // Without a journal, a name that outlives its inode can come to stand for a directory that is made next.
        self.sync_dir("")?;
        written.or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })
    }

    fn probe_direct(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        let file = options(flags).write(true).create(true).truncate(true).open(path)?;
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        let written = file.write_at(&block, 0)?;
        let read = file.read_at(&mut block, 0)?;
        if (written, read) == (BLOCK_OCTETS, BLOCK_OCTETS) {
            Ok(())
        } else {
            Err(io::ErrorKind::Other.into())
        }
    }
}

fn options(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    let bits = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    options.read(true).mode(0o600).custom_flags(i32::from_ne_bytes(bits.bits().to_ne_bytes()));
    options
}

/// Notes the process in the lock file: only for people, and for the message of the process that finds it locked.
fn note_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

impl Storage for DiskStorage {
    type File = DiskFile;
    type Lock = File;

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let made = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).count();
        std::fs::create_dir_all(&path)?;
        // Also when it was there: whoever made it may have ended before its name was durable.
        for parent in path.ancestors().skip(1).take(made.max(1)) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match File::open(parent).and_then(|parent| parent.sync_all()) {
                // Somebody else's directory, in which nothing was made now.
                Err(error) if made == 0 && error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(dir))? {
            // Names of ours are ASCII; others are nobody's business here.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<DiskFile> {
        let path = self.root.join(name);
        let attempt = |direct: bool| -> io::Result<DiskFile> {
            let durable = direct && mode == OpenMode::Durable;
            let mut flags = OFlags::empty();
            flags.set(OFlags::DIRECT, direct);
            flags.set(OFlags::DSYNC, durable);
            let mut options = options(flags);
            let file =
                options.write(mode != OpenMode::Read).create_new(mode == OpenMode::Create).open(&path)?;
            Ok(DiskFile { file, direct, durable, pace: self.pace.clone() })
        };
        if !self.direct() {
            return attempt(false);
        }
        match attempt(true) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => attempt(false),
            other => other,
        }
    }

    fn allocate(&self, file: &DiskFile, octets: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, octets) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP) => file.file.set_len(octets).map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.root.join(name))
    }

    /// Where the file system tells the disk what has come free (`discard`), all writes wait until it has: 60 ms for 256 MiB. So it comes free in pieces.
    fn unlink_gently(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let file = OpenOptions::new().write(true).open(&path)?;
        let metadata = file.metadata()?;
        // What somebody else has linked stays as it is.
        let mut left = if metadata.nlink() == 1 { metadata.len() } else { 0 };
        while left > 0 {
            left = left.saturating_sub(FREED_AT_ONCE);
            let begin = Instant::now();
            file.set_len(left)?;
            std::thread::sleep(begin.elapsed() * FREEING_REST);
        }
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.root.join(dir))?.sync_all()
    }

    fn lock(&self) -> Result<File, LockFailure> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join(LOCK))
            .map_err(LockFailure::Io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let known = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockFailure::Held(known));
            }
            Err(error) => return Err(LockFailure::Io(error.into())),
        }
        note_owner(&mut file).map_err(LockFailure::Io)?;
        Ok(file)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            // No total: a file system in memory without a bound of its own.
            free_bytes: if stat.f_blocks == 0 {
                u64::MAX
            } else {
                stat.f_bavail.saturating_mul(stat.f_frsize)
            },
            // No total: Btrfs and others make inodes as they need them.
            free_inodes: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }

    fn now_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn boot_us(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
        seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000)
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            // Fails with EINTR only, for these few octets and a kernel that has started.
            if let Ok(octets) =
                rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())
            {
                done += octets;
            }
        }
    }
}

impl DiskFile {
    /// The file itself, for a ring or a thread that runs the writes.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for DiskFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.pace {
            None => self.file.read_at(buffer, offset),
            Some(pace) => pace.read(buffer, |part, done| self.file.read_at(part, offset + done as u64)),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn for_reading_ahead(&self) -> Option<Self> {
        let (direct, durable, pace) = (self.direct, self.durable, self.pace.clone());
        Some(Self { file: self.file.try_clone().ok()?, direct, durable, pace })
    }

    fn direct(&self) -> bool {
        self.direct
    }

    fn writes_are_durable(&self) -> bool {
        self.durable
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.nlink())
    }
}
