//! A mailbox in the file system: three directories and what is done in them.
//!
//! ```text
//!   /var/mail/a.example/joe/Maildir      root   maildirsize (quota), .Folder/ (other folders of the mailbox)
//!                               ├ tmp    messages that are being written
//!                               ├ new    messages that no reader has seen
//!                               └ cur    messages that a reader has seen
//! ```
//! The directories are opened once; everything else is done relative to their handles, so that nobody who may write above the
//! mailbox can have a delivery end up elsewhere by exchanging a directory meanwhile. The root and the three directories must be
//! real ones: a symbolic link in their place is refused. Directories above may be links.
//!
//! What is made is made from the top down, and the directory above is synced before the next one is made; `new` comes last. A
//! mailbox without `new` is therefore one that somebody did not finish, and finishing it syncs everything above once more.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::MaildirError;
use super::name::host_label;
use super::quota::Quota;

/// How old a file in `tmp` must be before nobody can be writing it any more ("Using maildir format": 36 hours).
pub const TMP_AGE_MAX: Duration = Duration::from_secs(36 * 60 * 60);

/// What is entered, never read or written.
const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A directory of the mailbox.
const OWN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How mailboxes are made and named.
#[derive(Clone, Debug)]
pub struct MailboxSettings {
    /// Permission bits of directories that are made; those of files are the same without the execute bits. 0o700 unless
    /// readers run as another user.
    pub mode: u32,
    /// Makes mailboxes that are not there, and the directories above. Without it such a mailbox is an unknown one (5.1.1).
    pub create: bool,
    /// Bound of each mailbox. [`Quota::NONE`] leaves it to the file `maildirsize` of the mailbox, if there is one.
    pub quota: Quota,
    /// Name of this machine. It becomes part of the names of messages and must differ from that of every other machine that
    /// delivers into the same mailboxes.
    pub host: String,
}

impl MailboxSettings {
    /// The defaults, for the machine `host`.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self { mode: 0o700, create: true, quota: Quota::NONE, host: host.to_owned() }
    }

    fn directory_mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode & 0o7777)
    }

    pub(super) fn file_mode(&self) -> Mode {
        Mode::from_bits_truncate(self.mode & 0o666)
    }
}

/// An open mailbox. May be used by any number of threads at once.
#[derive(Debug)]
pub struct Mailbox {
    pub(super) place: PathBuf,
    pub(super) settings: MailboxSettings,
    /// The host as it stands in names.
    pub(super) host_label: String,
    pub(super) root: OwnedFd,
    pub(super) tmp: OwnedFd,
    pub(super) new: OwnedFd,
}

impl Mailbox {
    /// Opens the mailbox at `root`, an absolute path. A mailbox that is there but lacks one of its three directories gets it in
    /// any case.
    ///
    /// # Errors
    /// The mailbox is not there and is not to be made, or cannot be made or opened.
    pub fn open(root: &Path, settings: &MailboxSettings) -> Result<Self, MaildirError> {
        let Walk { root: handle, above } = walk(root, settings)?;
        let mut finished = true;
        let mut own = |name: &str| -> Result<OwnedFd, MaildirError> {
            let place = root.join(name);
            match openat(&handle, name, OWN, Mode::empty()) {
                Err(Errno::NOENT) => {
                    // The name of the mailbox itself may be new as well, made by someone who got no further.
                    if std::mem::take(&mut finished) {
                        sync_above(&above, root)?;
                    }
                    make(handle.as_fd(), OsStr::new(name), OWN, settings, &place)
                }
                opened => opened.map_err(at(&place)),
            }
        };
        let tmp = own("tmp")?;
        // Nothing is put there by a delivery, but readers need it.
        own("cur")?;
        let new = own("new")?;
        Ok(Self {
            place: root.to_owned(),
            settings: settings.clone(),
            host_label: host_label(&settings.host),
            root: handle,
            tmp,
            new,
        })
    }

    /// The path of the mailbox.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Removes files from `tmp` that nobody has read or written for `age_min`, which is [`TMP_AGE_MAX`] unless there is a reason:
    /// what deliveries have left there that were cut short. Gives back how many.
    ///
    /// # Errors
    /// The directory cannot be read, or a file in it cannot be removed.
    pub fn clean_tmp(&self, age_min: Duration) -> Result<usize, MaildirError> {
        let place = self.place.join("tmp");
        let failed = |what| MaildirError::io(&place, what);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut removed = 0;
        for entry in Dir::read_from(&self.tmp).map_err(failed("reading the directory"))? {
            let entry = entry.map_err(failed("reading the directory"))?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            let stat = match statat(&self.tmp, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Its delivery has ended meanwhile.
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(failed("reading the age of a file"))?,
            };
            let used = u64::try_from(stat.st_atime.max(stat.st_mtime)).unwrap_or(0);
            let old = Duration::from_secs(used).checked_add(age_min).is_some_and(|end| end <= now);
            if !old || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            match unlinkat(&self.tmp, name, AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed("removing an old file")(error)),
            }
        }
        Ok(removed)
    }
}

/// The root of a mailbox and the directories above it, from the top down.
struct Walk {
    root: OwnedFd,
    above: Vec<OwnedFd>,
}

fn walk(root: &Path, settings: &MailboxSettings) -> Result<Walk, MaildirError> {
    let names = names(root).ok_or_else(|| MaildirError::Place { place: root.display().to_string() })?;
    let top = rustix::fs::open("/", WALK, Mode::empty()).map_err(at(Path::new("/")))?;
    let mut above = vec![top];
    let mut place = PathBuf::from("/");
    for (index, name) in names.iter().enumerate() {
        place.push(name);
        let last = index + 1 == names.len();
        let flags = if last { OWN } else { WALK };
        let Some(parent) = above.last() else { break };
        let opened = match openat(parent, *name, flags, Mode::empty()) {
            Err(Errno::NOENT) if settings.create => make(parent.as_fd(), name, flags, settings, &place)?,
            Err(Errno::NOENT) => return Err(missing(parent, name, root)),
            opened => opened.map_err(at(&place))?,
        };
        if last {
            return Ok(Walk { root: opened, above });
        }
        above.push(opened);
    }
    Err(MaildirError::Place { place: root.display().to_string() })
}

/// The names on the way to `root`; `None` when it is not absolute, has `..` in it, or is `/`.
fn names(root: &Path) -> Option<Vec<&OsStr>> {
    let mut components = root.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    let names: Option<Vec<_>> =
        components.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect();
    names.filter(|names| !names.is_empty())
}

/// Makes the directory `name` in `parent` so that it survives a power cut, and opens it.
fn make(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    flags: OFlags,
    settings: &MailboxSettings,
    place: &Path,
) -> Result<OwnedFd, MaildirError> {
    let mode = settings.directory_mode();
    let made = match mkdirat(parent, name, mode) {
        Ok(()) => true,
        // Another delivery was faster, but may not have synced yet.
        Err(Errno::EXIST) => false,
        Err(error) => return Err(at(place)(error)),
    };
    if made {
        set_mode(parent, name, mode).map_err(MaildirError::io(place, "setting the mode of the directory"))?;
    }
    sync(parent).map_err(MaildirError::io(place, "syncing the directory above"))?;
    openat(parent, name, flags, Mode::empty()).map_err(at(place))
}

/// Gives a directory that was made now the mode of the settings, of which the process's umask may have taken something away.
/// Bits that it has inherited, such as set-group-id, stay.
fn set_mode(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<(), Errno> {
    let directory = openat(parent, name, OWN, Mode::empty())?;
    let found = Mode::from_raw_mode(fstat(&directory)?.st_mode);
    if found.contains(mode) { Ok(()) } else { fchmod(&directory, found | mode) }
}

/// Opens a directory for reading that may be open for walking only.
fn readable(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(directory, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn sync(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    fsync(readable(directory)?)
}

fn sync_above(above: &[OwnedFd], root: &Path) -> Result<(), MaildirError> {
    for directory in above {
        match sync(directory.as_fd()) {
            // Not readable for us, so nothing was made in it by us; or a file system that is never written.
            Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(error) => return Err(MaildirError::io(root, "syncing the directories above")(error)),
        }
    }
    Ok(())
}

/// What it means that `name` is not in `parent`.
///
/// A mailbox that is not there is unknown for good, but a file system that is not mounted would make all mailboxes of its
/// users unknown. It leaves an empty directory behind, or a symbolic link that leads nowhere.
fn missing(parent: &OwnedFd, name: &OsStr, root: &Path) -> MaildirError {
    let place = root.display().to_string();
    let dangling = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if dangling || is_empty(parent.as_fd()) {
        MaildirError::StorageMissing { place }
    } else {
        MaildirError::NoMailbox { place }
    }
}

/// True when there is nothing in a directory. One that we may not read has something in it: its users.
fn is_empty(directory: BorrowedFd<'_>) -> bool {
    let Ok(entries) = readable(directory).and_then(Dir::new) else {
        return false;
    };
    entries.filter_map(Result::ok).all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
}

/// The error of opening or making the directory at `place`.
fn at(place: &Path) -> impl FnOnce(Errno) -> MaildirError {
    move |error| match error {
        // Linux says ENOTDIR for a symbolic link where O_DIRECTORY meets O_NOFOLLOW.
        Errno::NOTDIR | Errno::LOOP => MaildirError::NotADirectory { place: place.display().to_string() },
        Errno::NAMETOOLONG => MaildirError::NameTooLong { place: place.display().to_string() },
        error => MaildirError::io(place, "opening the directory")(error),
    }
}
