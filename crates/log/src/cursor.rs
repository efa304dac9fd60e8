//! Named cursors: how far a consumer has got with a log.
//!
//! ```text
//! cursor.NAME: two slots of 4 KiB, at 0 and 4096; the valid one with the higher generation counts
//!   0  8 magic "inrushCU"        16 16 uuid of the log       40  8 position, LSN
//!   8  4 format version          32  8 generation            48  8 saved at, µs
//!  12  1 consumer: 1 required, 2 best effort
//! 4092  4 CRC-32C over 0..4092; every other octet is zero
//! ```
//! Everything below the position is done with, for good: segments below the positions of all required consumers are retired. The slots are
//! written in turn, so that a torn write leaves the one before. A cursor goes back to an older position after a power cut at most:
//! delivery is at least once. One owner at a time writes it, also from another process than the one that writes the log.

use std::fmt;
use std::io;
use std::path::Path;

use crate::Lsn;
use crate::directory::{OpenError, Place, open_meta};
use crate::layout::{BLOCK, FORMAT_VERSION, u64_at};
use crate::segment::{BlockError, LogIdentity, check_block, close_block, segment_number};
use crate::slots;
use crate::storage::disk::DiskStorage;
use crate::storage::{OpenMode, Storage, StorageFile};

const MAGIC: &[u8; 8] = b"inrushCU";
const PREFIX: &str = "cursor.";
/// Octets of a consumer's name at most.
pub const CONSUMER_NAME_OCTETS_MAX: usize = 64;

/// What the log owes a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConsumerKind {
    /// Nothing is retired before it is past it; when it falls behind, the log fills up and new mail is refused.
    Required = 1,
    /// Loses segments that the limits of retention take, which is counted.
    BestEffort = 2,
}

impl ConsumerKind {
    /// The word of output and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::BestEffort => "best_effort",
        }
    }
}

/// A cursor as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorState {
    /// Name of the consumer.
    pub name: String,
    /// What the log owes it.
    pub kind: ConsumerKind,
    /// Counts the saves.
    pub generation: u64,
    /// Everything below is done with.
    pub position: Lsn,
    /// When it was saved, in µs since 1970.
    pub saved_at_us: u64,
}

impl CursorState {
    /// Whether it is past the begin of the first segment that was never used, whose number is `next_number`.
    pub(crate) fn is_ahead(&self, next_number: u64, segment_bytes: u64) -> bool {
        self.position > Lsn::new(next_number.saturating_mul(segment_bytes)).plus(BLOCK)
    }
}

/// Why a cursor cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The name is not 1 to 64 of `a-z 0-9 - _`.
    #[error("consumer name {0:?}: use 1 to {CONSUMER_NAME_OCTETS_MAX} of a-z, 0-9, - and _")]
    Name(String),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Another consumer works with it.
    #[error("{place}: in use by another process")]
    InUse {
        /// Where.
        place: String,
    },
    /// It was made as the other kind.
    #[error("{place}: belongs to a {} consumer", found.name())]
    Kind {
        /// Where.
        place: String,
        /// What it was made as.
        found: ConsumerKind,
    },
    /// Neither slot holds.
    #[error("{place}: {error}; remove the file to let this consumer begin at the first message again")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong with the better slot.
        error: BlockError,
    },
    /// The position is not ahead.
    #[error("{place}: stands at LSN {at}, cannot go back to {to}")]
    Back {
        /// Where.
        place: String,
        /// Saved position.
        at: Lsn,
        /// Position asked for.
        to: Lsn,
    },
    /// It stands behind the end of the log: the log is an older copy of the one that it belongs to. A start of the gateway lets the log go on behind it, unless
    /// that has taken mail since.
    #[error(
        "{place}: stands at LSN {at}, behind the end of the log: the log is an older copy; a start of the gateway goes on behind it where no newer mail is there; else remove the file to begin at the first message again"
    )]
    Ahead {
        /// Where.
        place: String,
        /// Saved position.
        at: Lsn,
    },
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

/// A consumer's own cursor. Its file is locked until it is dropped.
pub struct Cursor<S: Storage = DiskStorage> {
    storage: S,
    file: S::File,
    path: String,
    uuid: [u8; 16],
    state: CursorState,
}

impl<S: Storage> fmt::Debug for Cursor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Cursor<DiskStorage> {
    /// Opens the cursor of the consumer `name` of the log in `log`, for instance `data/arrival-00`; makes it at the first message if it is not
    /// there.
    ///
    /// # Errors
    /// See [`CursorError`].
    pub fn open(log: &Path, name: &str, kind: ConsumerKind) -> Result<Self, CursorError> {
        let parent = log.parent().unwrap_or_else(|| Path::new(""));
        let dir = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::on(DiskStorage::new(parent, true), &dir, name, kind)
    }
}

impl<S: Storage> Cursor<S> {
    /// As [`open`](Cursor::open), for the log in the directory `dir` of any storage.
    ///
    /// # Errors
    /// See [`CursorError`].
    pub fn on(storage: S, dir: &str, name: &str, kind: ConsumerKind) -> Result<Self, CursorError> {
        if !is_name(name) {
            return Err(CursorError::Name(name.to_owned()));
        }
        let meta = open_meta(&storage, dir)?;
        let identity = meta.identity;
        let path = format!("{dir}/{}", cursor_name(name));
        let place = Place::new(&storage, &path);
        let io = |what| {
            let place = place.text();
            move |error| CursorError::Io { place, what, error }
        };
        let file = match storage.open(&path, OpenMode::Plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&storage, dir, name, kind, &identity).map_err(io("making a cursor"))?;
                storage.open(&path, OpenMode::Plain).map_err(io("opening a cursor"))?
            }
            opened => opened.map_err(io("opening a cursor"))?,
        };
        if !file.try_lock().map_err(io("locking a cursor"))? {
            return Err(CursorError::InUse { place: place.text() });
        }
        let state = read(&file, name, &identity.uuid)
            .map_err(io("reading a cursor"))?
            .map_err(|error| CursorError::Damaged { place: place.text(), error })?;
        if state.kind != kind {
            return Err(CursorError::Kind { place: place.text(), found: state.kind });
        }
        let names = storage.list(dir).map_err(io("listing the directory"))?;
        let highest = names.iter().filter_map(|name| segment_number(name)).max().unwrap_or(0);
        if state.is_ahead(meta.next_number_min.max(highest + 1), identity.segment_bytes) {
            return Err(CursorError::Ahead { place: place.text(), at: state.position });
        }
        // The slot that was read may not be durable, when its writer has ended before the sync: not before it is may the other one be written.
        file.sync().map_err(io("syncing a cursor"))?;
        // What was read may be in the page cache only, after a sync that has failed.
        let mut cursor = Self { storage, file, path, uuid: identity.uuid, state };
        cursor.write(cursor.state.position)?;
        Ok(cursor)
    }

    /// Everything below is done with.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.state.position
    }

    /// The state on the disk.
    #[must_use]
    pub fn state(&self) -> &CursorState {
        &self.state
    }

    /// Says for good that everything below `position` is done with; durable when it returns.
    ///
    /// # Errors
    /// It would go back; or the disk failed: either position may be found at the next start, and the next save writes anew.
    pub fn save(&mut self, position: Lsn) -> Result<(), CursorError> {
        if position < self.state.position {
            let (at, to) = (self.state.position, position);
            return Err(CursorError::Back { place: self.place(), at, to });
        }
        if position == self.state.position {
            return Ok(());
        }
        self.write(position)
    }

    fn write(&mut self, position: Lsn) -> Result<(), CursorError> {
        let generation = self.state.generation + 1;
        let state =
            CursorState { generation, position, saved_at_us: self.storage.now_us(), ..self.state.clone() };
        // After a failure the same slot is written once more: what is in it is not known, and the other one has the position before.
        slots::write(&self.file, |slot| encode(&state, &self.uuid, slot), generation)
            .map_err(|error| CursorError::Io { place: self.place(), what: "saving a cursor", error })?;
        self.state = state;
        Ok(())
    }

    fn place(&self) -> String {
        Place::new(&self.storage, &self.path).text()
    }
}

/// The cursors of a log, by name; beside each that cannot be read what is wrong with it.
///
/// # Errors
/// Of the disk.
pub(crate) fn read_cursors<S: Storage>(
    storage: &S,
    dir: &str,
    identity: &LogIdentity,
) -> io::Result<Vec<(String, Result<CursorState, BlockError>)>> {
    let mut cursors = Vec::new();
    for file_name in storage.list(dir)? {
        let Some(name) = file_name.strip_prefix(PREFIX).filter(|name| is_name(name)) else { continue };
        let file = storage.open(&format!("{dir}/{file_name}"), OpenMode::Read);
        let state = match file.and_then(|file| read(&file, name, &identity.uuid)) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // One that another user has made must not hide the others.
            Err(_) => Err(BlockError::Unreadable),
        };
        cursors.push((name.to_owned(), state));
    }
    Ok(cursors)
}

/// Name of the file.
pub(crate) fn cursor_name(consumer: &str) -> String {
    format!("{PREFIX}{consumer}")
}

fn is_name(name: &str) -> bool {
    (1..=CONSUMER_NAME_OCTETS_MAX).contains(&name.len())
        && name.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// Makes a cursor at the first message; its name appears with its whole content.
fn create<S: Storage>(
    storage: &S,
    dir: &str,
    name: &str,
    kind: ConsumerKind,
    identity: &LogIdentity,
) -> io::Result<()> {
    let state = |generation| CursorState {
        name: name.to_owned(),
        kind,
        generation,
        position: Lsn::ZERO,
        saved_at_us: storage.now_us(),
    };
    let encode = |generation, slot: &mut [u8]| encode(&state(generation), &identity.uuid, slot);
    slots::create(storage, dir, &cursor_name(name), encode, 1)
}

fn read<F: StorageFile>(
    file: &F,
    name: &str,
    uuid: &[u8; 16],
) -> io::Result<Result<CursorState, BlockError>> {
    slots::read(file, |slot| decode(slot, name, uuid), |state| state.generation)
}

fn encode(state: &CursorState, uuid: &[u8; 16], slot: &mut [u8]) {
    slot.fill(0);
    slot[0..8].copy_from_slice(MAGIC);
    slot[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    slot[12] = state.kind as u8;
    slot[16..32].copy_from_slice(uuid);
    slot[32..40].copy_from_slice(&state.generation.to_le_bytes());
    slot[40..48].copy_from_slice(&state.position.get().to_le_bytes());
    slot[48..56].copy_from_slice(&state.saved_at_us.to_le_bytes());
    close_block(slot);
}

fn decode(slot: &[u8], name: &str, uuid: &[u8; 16]) -> Result<CursorState, BlockError> {
    check_block(slot, MAGIC)?;
    if slot[16..32] != *uuid {
        return Err(BlockError::Foreign);
    }
    let kind = match slot[12] {
        1 => ConsumerKind::Required,
        2 => ConsumerKind::BestEffort,
        _ => return Err(BlockError::Value),
    };
    Ok(CursorState {
        name: name.to_owned(),
        kind,
        generation: u64_at(slot, 32),
        position: Lsn::new(u64_at(slot, 40)),
        saved_at_us: u64_at(slot, 48),
    })
}
