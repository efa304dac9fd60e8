//! Data directory: the lock, the helper thread, and opening its logs.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::Lsn;
use crate::appender::Appender;
use crate::helper::Helper;
use crate::layout::FORMAT_VERSION;
use crate::maker::{Filling, SegmentMaker};
use crate::meta::{LogMeta, META_NAME, create_meta, read_meta};
use crate::recovery::{Recovered, RecoveryReport, recover};
use crate::segment::{BlockError, LogIdentity, segment_number};
use crate::settings::{InvalidSetting, LogKind, LogSettings};
use crate::status::StatusHandle;
use crate::storage::disk::DiskStorage;
use crate::storage::{LockFailure, Storage};
use crate::supply::Supply;

/// Why a data directory or a log in it cannot be used. Nothing was changed. The text says what and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The place exists and is no directory.
    #[error("{place}: not a directory")]
    NotADirectory {
        /// Where.
        place: String,
    },
    /// Another process works there.
    #[error("{place}: locked by another process{}", Pid(*.pid))]
    Locked {
        /// Where.
        place: String,
        /// Process id of the other.
        pid: Option<u32>,
    },
    /// Written by a newer version of this program.
    #[error("{place}: format version {version}, this program knows {FORMAT_VERSION}: use a newer one")]
    NewerFormat {
        /// Where.
        place: String,
        /// Version found.
        version: u32,
    },
    /// `log.meta` does not hold.
    #[error("{place}: damaged ({error}); restore it from a copy, or move the log's directory away")]
    Meta {
        /// Where.
        place: String,
        /// What is wrong.
        error: BlockError,
    },
    /// Segments without `log.meta`.
    #[error(
        "{place}: missing, but there are segments beside it; restore it from a copy, or move the log's directory away"
    )]
    MetaMissing {
        /// Where.
        place: String,
    },
    /// The log was made with another segment size.
    #[error(
        "{place}: segments of {found} octets, segment_bytes is {configured}: it is fixed for the life of a log"
    )]
    SegmentSize {
        /// Where.
        place: String,
        /// Of the log.
        found: u64,
        /// Of the settings.
        configured: u64,
    },
    /// The log was written by another node.
    #[error("{place}: belongs to node {found}, this is node {configured}")]
    AnotherNode {
        /// Where.
        place: String,
        /// Of the log.
        found: u16,
        /// Of the settings.
        configured: u16,
    },
    /// The directory holds a log of another kind or number: it was renamed or copied.
    #[error("{place}: belongs to log {found}")]
    AnotherLog {
        /// Where.
        place: String,
        /// Name of the log that it belongs to.
        found: String,
    },
    /// All segments beside `log.meta` are of a log with the same name that is another one.
    #[error(
        "{place}: belongs to another log than {segment} and all segments beside it; restore it from a copy, or move the log's directory away"
    )]
    MetaOfAnotherLog {
        /// Where.
        place: String,
        /// First of the segments.
        segment: String,
    },
    /// The log is open already in this process.
    #[error("{place}: opened twice")]
    OpenTwice {
        /// Where.
        place: String,
    },
    /// No room for the first segment.
    #[error("{place}: no space for a segment of {segment_bytes} octets")]
    NoSpace {
        /// Where.
        place: String,
        /// Size of a segment.
        segment_bytes: u64,
    },
    /// A setting does not work.
    #[error("log settings: {0}")]
    Setting(#[from] InvalidSetting),
    /// The disk.
    #[error("{place}: {what}: {error}")]
    Io {
        /// Where.
        place: String,
        /// What was tried.
        what: &'static str,
        /// The disk's words.
        error: io::Error,
    },
}

struct Pid(Option<u32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}

/// A file or directory, for messages.
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn new<S: Storage>(storage: &S, name: &str) -> Self {
        Self(format!("{}/{name}", storage.place()))
    }

    pub(crate) fn text(&self) -> String {
        self.0.clone()
    }

    pub(crate) fn io(&self, what: &'static str, error: io::Error) -> OpenError {
        OpenError::Io { place: self.text(), what, error }
    }
}

/// Name of a log's directory.
#[must_use]
pub fn log_directory(kind: LogKind, log: u8) -> String {
    format!("{}-{log:02x}", kind.name())
}

/// Kind and number of a log's directory; `None` for any other name.
#[must_use]
pub fn parse_log_directory(name: &str) -> Option<(LogKind, u8)> {
    let (kind, number) = name.rsplit_once('-')?;
    let kind = [LogKind::Arrival, LogKind::Retry, LogKind::Outcome].into_iter().find(|k| k.name() == kind)?;
    let log = u8::from_str_radix(number, 16).ok()?;
    (log_directory(kind, log) == name).then_some((kind, log))
}

/// Whether a log stands in a directory with the name of one: a crash may have left it before there was anything in it.
///
/// # Errors
/// Those of the disk.
pub fn holds_log<S: Storage>(storage: &S, dir: &str) -> io::Result<bool> {
    let names = match storage.list(dir) {
        // Something else of that name.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        names => names?,
    };
    Ok(names.iter().any(|name| name == META_NAME || segment_number(name).is_some()))
}

/// A locked data directory. Keep it until every [`Appender`] of it has ended: its helper thread prepares their segments.
pub struct DataDirectory<S: Storage = DiskStorage> {
    storage: S,
    settings: LogSettings,
    node: u16,
    opened: Vec<String>,
    /// Another process writes logs of it.
    is_beside: bool,
    /// What logs are to begin behind.
    behind: HashMap<String, Lsn>,
    helper: Helper<S>,
    // Last, so that the helper has ended when another process gets in.
    lock: S::Lock,
}

impl DataDirectory<DiskStorage> {
    /// Locks the directory, which is made if need be, and finds out what the file system can do.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, settings: &LogSettings, node: u16) -> Result<Self, OpenError> {
        let storage = DiskStorage::new(path, settings.direct_io);
        let place = storage.place();
        if path.exists() && !path.is_dir() {
            return Err(OpenError::NotADirectory { place });
        }
        let io = |what| move |error| OpenError::Io { place: path.display().to_string(), what, error };
        settings.check()?;
        storage.create_dir("").map_err(io("cannot be made"))?;
        // Only the holder of the lock writes anything, the probe included.
        let lock = take_lock(&storage)?;
        storage.probe().map_err(io("cannot be written to"))?;
        Self::with_lock(storage, settings, node, lock)
    }

    /// Opens the directory beside the process that has it and has given its [lock](Self::share_lock): only logs that the other one does not
    /// [write](Self::written) may be opened, and none adopted, until that has ended.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_beside(
        path: &Path,
        settings: &LogSettings,
        node: u16,
        lock: OwnedFd,
    ) -> Result<Self, OpenError> {
        let storage = DiskStorage::new(path, settings.direct_io);
        let io = |what| move |error| OpenError::Io { place: path.display().to_string(), what, error };
        settings.check()?;
        let lock = storage.take_over_lock(lock).map_err(io("is not the directory that was handed over"))?;
        storage.probe().map_err(io("cannot be written to"))?;
        let beside = Self::with_lock(storage, settings, node, lock)?;
        beside.helper.hold(true);
        Ok(Self { is_beside: true, ..beside })
    }

    /// The lock, for another process: the directory stays locked until both have closed it.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share_lock(&self) -> io::Result<OwnedFd> {
        self.lock.try_clone().map(OwnedFd::from)
    }
}

impl<S: Storage> DataDirectory<S> {
    /// Locks a data directory on any disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn on(storage: S, settings: &LogSettings, node: u16) -> Result<Self, OpenError> {
        settings.check()?;
        let lock = take_lock(&storage)?;
        Self::with_lock(storage, settings, node, lock)
    }

    /// As [`on`](Self::on), but without the helper thread: segments are prepared by [`prepare_segments`](Self::prepare_segments) only. For simulations,
    /// where nothing may happen by chance.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn on_without_helper(storage: S, settings: &LogSettings, node: u16) -> Result<Self, OpenError> {
        settings.check()?;
        let lock = take_lock(&storage)?;
        let helper = Helper::inline(storage.clone(), settings);
        Ok(Self::new(storage, settings, node, helper, lock))
    }

    fn new(storage: S, settings: &LogSettings, node: u16, helper: Helper<S>, lock: S::Lock) -> Self {
        let settings = settings.clone();
        let (opened, behind) = (Vec::new(), HashMap::new());
        Self { storage, settings, node, opened, is_beside: false, behind, helper, lock }
    }

    /// Prepares the segments that are wanted, in the calling thread; nothing when there is a helper thread.
    pub fn prepare_segments(&mut self) {
        self.helper.work();
    }

    fn with_lock(storage: S, settings: &LogSettings, node: u16, lock: S::Lock) -> Result<Self, OpenError> {
        let helper = Helper::start(storage.clone(), settings)
            .map_err(|error| Place::new(&storage, "").io("starting the helper thread", error))?;
        Ok(Self::new(storage, settings, node, helper, lock))
    }

    /// The disk.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Has a log begin behind `lsn` when it is opened, also if it ends before: somebody has seen it up to there. A log that ends before is an older copy, or
    /// stands in the place of another one.
    pub fn begin_behind(&mut self, kind: LogKind, log: u8, lsn: Lsn) {
        self.behind.insert(log_directory(kind, log), lsn);
    }

    /// Opens an arrival log; see [`open_log_kind`](Self::open_log_kind).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_log(
        &mut self,
        log: u8,
        waker: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Appender<S>, RecoveryReport), OpenError> {
        self.open_log_kind(LogKind::Arrival, log, waker)
    }

    /// Recovers a log, makes it if it is not there, and begins a new segment. `waker` is called from the helper thread when a segment becomes ready and when
    /// the state of the disk space changes.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_log_kind(
        &mut self,
        kind: LogKind,
        log: u8,
        waker: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Appender<S>, RecoveryReport), OpenError> {
        let dir = log_directory(kind, log);
        let place = Place::new(&self.storage, &dir);
        if self.opened.contains(&dir) {
            return Err(OpenError::OpenTwice { place: place.text() });
        }
        self.storage.create_dir(&dir).map_err(|error| place.io("cannot be made", error))?;
        let settings = self.settings.of(kind, log);
        let (meta, created) = self.meta(&dir, kind, log)?;
        let mut maker = SegmentMaker::new(self.storage.clone(), dir.clone(), meta, &settings);
        let behind = self.behind.get(&dir).copied();
        let Recovered { mut report, sealed } = recover(&mut maker, behind)?;
        report.created = created;
        if self.is_beside && maker.spares.is_empty() {
            self.take_lent(&mut maker)
                .map_err(|error| place.io("taking a spare of another process", error))?;
        }
        // A log that was there is opened even below the mark: open, it can tell its peers why it takes no mail.
        // The other process takes mail, which would wait for the disk.
        let mut filled = |_| if self.is_beside { Filling::Enough } else { Filling::GoOn };
        let first = if created { maker.make(&mut filled) } else { maker.make_first(&mut filled) };
        let first = first.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                OpenError::NoSpace { place: place.text(), segment_bytes: settings.segment_bytes }
            }
            _ => place.io("making a segment", error),
        })?;
        let Some(first) = first else {
            return Err(place.io("making a segment", io::ErrorKind::Interrupted.into()));
        };
        let supply = Arc::new(Supply::new(settings.spares.into(), Box::new(waker)));
        let appender = Appender::new(
            self.storage.clone(),
            &settings,
            dir.clone(),
            Arc::clone(&supply),
            self.helper.thread(),
            first,
        );
        self.helper.serve(maker, sealed, Some(supply));
        self.opened.push(dir);
        Ok((appender, report))
    }

    /// Takes over the logs that no appender was opened for, of cores that are there no more: they are recovered, stay readable, and are
    /// drained by consumers and retention; nothing is appended to them. Their names and what recovery found.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn adopt_logs(&mut self) -> Result<Vec<(String, RecoveryReport)>, OpenError> {
        self.is_beside = false;
        let adopted = self.adopt();
        // Not before: what these have to spare need not be filled.
        self.helper.hold(false);
        adopted
    }

    fn adopt(&mut self) -> Result<Vec<(String, RecoveryReport)>, OpenError> {
        let place = Place::new(&self.storage, "");
        let names = self.storage.list("").map_err(|error| place.io("listing the directory", error))?;
        let mut adopted = Vec::new();
        for dir in names {
            let Some((kind, log)) = parse_log_directory(&dir) else { continue };
            if self.opened.contains(&dir) || !self.has_segments(&dir)? {
                continue;
            }
            let meta = match open_meta(&self.storage, &dir) {
                Err(OpenError::Io { place, error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(OpenError::MetaMissing { place });
                }
                meta => meta?,
            };
            self.check_owner(&dir, &meta, kind, log)?;
            let settings = self.settings.of(kind, log);
            let mut maker = SegmentMaker::new(self.storage.clone(), dir.clone(), meta, &settings);
            let behind = self.behind.get(&dir).copied();
            let Recovered { report, sealed } = recover(&mut maker, behind)?;
            self.helper.serve(maker, sealed, None);
            self.opened.push(dir.clone());
            adopted.push((dir, report));
        }
        Ok(adopted)
    }

    /// Puts spares aside for another process that [opens the directory beside](Self::open_beside) this one. Until logs are [adopted](Self::adopt_logs) again, or
    /// for good, no further ones are filled but for a log that is about to need one: both processes would wait for the disk.
    pub fn lend_spares(&mut self) {
        self.helper.hold(true);
        self.helper.lend();
    }

    /// Gives up the logs that are only drained: another process may write them from now on. They stay readable, and their consumers may go on. Waits until
    /// the helper has let go of them.
    pub fn give_up_adopted(&mut self) {
        for dir in self.helper.give_up_adopted() {
            self.opened.retain(|opened| *opened != dir);
        }
    }

    /// Takes a spare that the other process has put aside, if there is one.
    fn take_lent(&self, maker: &mut SegmentMaker<S>) -> io::Result<()> {
        for dir in self.storage.list("")? {
            if parse_log_directory(&dir).is_some() && !self.opened.contains(&dir) && maker.take_lent(&dir)? {
                break;
            }
        }
        Ok(())
    }

    /// What the helper thread finds out once a second.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.helper.status()
    }

    /// Reads `log.meta`, or makes it for a log that has nothing else; whether it was made.
    fn meta(&self, dir: &str, kind: LogKind, log: u8) -> Result<(LogMeta, bool), OpenError> {
        let place = Place::new(&self.storage, &format!("{dir}/{META_NAME}"));
        let meta = match open_meta(&self.storage, dir) {
            Err(OpenError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return self.create(dir, kind, log, &place).map(|meta| (meta, true));
            }
            meta => meta?,
        };
        self.check_owner(dir, &meta, kind, log)?;
        let configured = self.settings.of(kind, log).segment_bytes;
        if meta.identity.segment_bytes != configured {
            let found = meta.identity.segment_bytes;
            return Err(OpenError::SegmentSize { place: place.text(), found, configured });
        }
        Ok((meta, false))
    }

    /// A log belongs to its node and to its own directory.
    fn check_owner(&self, dir: &str, meta: &LogMeta, kind: LogKind, log: u8) -> Result<(), OpenError> {
        let place = Place::new(&self.storage, &format!("{dir}/{META_NAME}"));
        let identity = meta.identity;
        if identity.node != self.node {
            let (found, configured) = (identity.node, self.node);
            return Err(OpenError::AnotherNode { place: place.text(), found, configured });
        }
        if (identity.kind, identity.log) != (kind, log) {
            let found = log_directory(identity.kind, identity.log);
            return Err(OpenError::AnotherLog { place: place.text(), found });
        }
        Ok(())
    }

    fn has_segments(&self, dir: &str) -> Result<bool, OpenError> {
        let place = Place::new(&self.storage, dir);
        let names = match self.storage.list(dir) {
            // Something else of that name.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
            names => names.map_err(|error| place.io("listing the directory", error))?,
        };
        Ok(names.iter().any(|name| segment_number(name).is_some()))
    }

    fn create(&self, dir: &str, kind: LogKind, log: u8, place: &Place) -> Result<LogMeta, OpenError> {
        if self.has_segments(dir)? {
            return Err(OpenError::MetaMissing { place: place.text() });
        }
        let mut uuid = [0; 16];
        self.storage.random(&mut uuid);
        // RFC 9562 §5.4: version 4, variant 10.
        uuid[6] = uuid[6] & 0x0F | 0x40;
        uuid[8] = uuid[8] & 0x3F | 0x80;
        let segment_bytes = self.settings.of(kind, log).segment_bytes;
        let identity = LogIdentity { uuid, kind, log, node: self.node, segment_bytes };
        let meta =
            LogMeta { identity, generation: 1, created_at_us: self.storage.now_us(), next_number_min: 1 };
        create_meta(&self.storage, dir, &meta).map_err(|error| place.io("making", error))?;
        Ok(meta)
    }
}

/// Reads `log.meta` of the log in `dir`.
pub(crate) fn open_meta<S: Storage>(storage: &S, dir: &str) -> Result<LogMeta, OpenError> {
    let place = Place::new(storage, &format!("{dir}/{META_NAME}"));
    match read_meta(storage, dir).map_err(|error| place.io("reading", error))? {
        Ok(meta) => Ok(meta),
        Err(BlockError::Version(version)) => Err(OpenError::NewerFormat { place: place.text(), version }),
        Err(error) => Err(OpenError::Meta { place: place.text(), error }),
    }
}

fn take_lock<S: Storage>(storage: &S) -> Result<S::Lock, OpenError> {
    storage.lock().map_err(|failure| match failure {
        LockFailure::Held(pid) => OpenError::Locked { place: storage.place(), pid },
        LockFailure::Io(error) => Place::new(storage, "lock").io("cannot be locked", error),
    })
}
