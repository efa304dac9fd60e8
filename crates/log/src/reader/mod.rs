//! Reading a log, live or stopped, without its lock.
//!
//! ```text
//! seek ──▶ next ──▶ Record | Bad ──▶ next … ──▶ None: the end so far; go on after more was committed
//! ```
//! Records come in order and with checked checksums. Files are read past the page cache where the file system allows that, so a live segment is seen as
//! it is on the disk. In an unsealed segment a bad record is the end, unless a later record proves that it was durable: then it is
//! damage, and reading goes on behind it. What the disk does not give (EIO) is damage as well. Memory: two views of 512 KiB, and while it walks six reads of 1 MiB, some of them under way.

mod cursors;
mod durable;
mod message;
mod verify;

pub use cursors::Consumer;
pub use message::{BodyEnd, Message, ReadError};
pub use verify::{Verified, VerifyEvent};

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use crate::buffer::AlignedBuffer;
use crate::directory::{OpenError, Place, holds_log, open_meta, parse_log_directory};
use crate::envelope::{Envelope, EnvelopeError};
use crate::layout::{BLOCK, BLOCK_OCTETS, seal_offset, to_usize};
use crate::meta::LogMeta;
use crate::record::{HeaderError, RECORD_HEADER_OCTETS, RecordHeader, RecordKind};
use crate::segment::{BlockError, LogIdentity, Seal, SegmentHeader, segment_name, segment_number};
use crate::storage::disk::DiskStorage;
use crate::storage::{OpenMode, Storage, StorageFile, is_bad_sector, read_around_bad_sectors, read_full};
use crate::walk::{Bad, Walk};
use crate::window::Window;
use crate::{Lsn, MessageId};

/// A segment as last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its header, or what is wrong with it.
    pub header: Result<SegmentHeader, BlockError>,
    /// Its seal; `None` while it takes records, or after a crash.
    pub seal: Option<Seal>,
    /// Length of the file.
    pub octets: u64,
}

/// A record that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Segment number.
    pub segment: u64,
    /// Offset in the segment.
    pub offset: u64,
    /// Octets that are left out.
    pub octets: u64,
    /// Id, where the header holds.
    pub id: Option<MessageId>,
    /// What is wrong.
    pub reason: BadReason,
}

/// What is wrong with a record or segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadReason {
    /// The segment header.
    SegmentHeader(BlockError),
    /// The segment is of another log or place.
    ForeignSegment,
    /// A segment with a successor has no valid seal.
    Seal,
    /// The record header.
    Header(HeaderError),
    /// Envelope or body do not match their checksums.
    Content,
    /// The envelope holds, but cannot be read.
    Envelope(EnvelopeError),
    /// A chunk of the body at this position is missing or not the one that belongs there.
    Chunk(Lsn),
}

impl fmt::Display for BadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SegmentHeader(error) => write!(f, "segment header: {error}"),
            Self::ForeignSegment => f.write_str("segment belongs to another log or place"),
            Self::Seal => f.write_str("seal is missing"),
            Self::Header(error) => write!(f, "record header: {error}"),
            Self::Content => f.write_str("checksum of envelope or body does not hold"),
            Self::Envelope(error) => write!(f, "{error}"),
            Self::Chunk(lsn) => write!(f, "part of the body at LSN {lsn} is missing or damaged"),
        }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {} octets {}", segment_name(self.segment), self.offset, self.octets)?;
        if let Some(id) = self.id {
            write!(f, " id {id}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What stands at the next position.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A record whose checksums hold.
    Record(Record<'a>),
    /// One whose checksums do not.
    Bad(BadRecord),
}

/// A record in the reader's view; valid until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Id of the message, or of the chunk itself.
    pub id: MessageId,
    /// Envelope as stored.
    pub envelope: &'a [u8],
    /// Body as stored; the last part of it, when the envelope lists chunks.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The checked envelope of a message.
    ///
    /// # Errors
    /// It is of an unknown version or malformed.
    pub fn read_envelope(&self) -> Result<Envelope<'a>, EnvelopeError> {
        Envelope::read(self.header.envelope_version, self.envelope)
    }
}

/// Reads one log.
pub struct Reader<S: Storage = DiskStorage> {
    storage: S,
    dir: String,
    meta: LogMeta,
    segments: Vec<SegmentInfo>,
    /// Where the next record is looked for: segment number and offset.
    at: (u64, u64),
    limit: Lsn,
    /// Sealed segments without a message accepted at these times are left out.
    times: RangeInclusive<u64>,
    open: Option<(u64, Arc<S::File>)>,
    aside: Option<(u64, Arc<S::File>)>,
    window: Window,
    single: Window,
}

impl Reader<DiskStorage> {
    /// Opens the log in `path`, for instance `data/arrival-00`.
    ///
    /// # Errors
    /// There is no readable log; see [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::on(DiskStorage::new(parent, true), &name)
    }

    /// The same for a tool beside a gateway: while mail is being taken in the data directory, reads are short and rare.
    ///
    /// # Errors
    /// There is no readable log; see [`OpenError`].
    pub fn open_gently(path: &Path) -> Result<Self, OpenError> {
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::on(DiskStorage::new(parent, true).gentle(), &name)
    }

    /// Opens every log of a data directory, sorted by name.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_all(path: &Path) -> Result<Vec<Self>, OpenError> {
        let storage = DiskStorage::new(path, true);
        let names = storage.list("").map_err(|error| OpenError::Io {
            place: storage.place(),
            what: "listing the directory",
            error,
        })?;
        let logs = names.iter().filter(|name| parse_log_directory(name).is_some());
        // What cannot be listed tells why when it is opened.
        let logs = logs.filter(|name| holds_log(&storage, name).unwrap_or(true));
        logs.map(|name| Self::on(storage.clone(), name)).collect()
    }
}

impl<S: Storage> Reader<S> {
    /// Opens the log in the directory `dir` of any storage.
    ///
    /// # Errors
    /// There is no readable log; see [`OpenError`].
    pub fn on(storage: S, dir: &str) -> Result<Self, OpenError> {
        let meta = open_meta(&storage, dir)?;
        let mut reader = Self {
            storage,
            dir: dir.to_owned(),
            meta,
            segments: Vec::new(),
            at: (0, BLOCK),
            limit: Lsn::MAX,
            times: 0..=u64::MAX,
            open: None,
            aside: None,
            window: Window::new().around_bad_sectors(),
            single: Window::single().around_bad_sectors(),
        };
        reader
            .refresh()
            .map_err(|error| Place::new(&reader.storage, &reader.dir).io("reading segments", error))?;
        Ok(reader)
    }

    /// Looks for new segments and seals; [`next`](Self::next) does so itself at the end of what it knows.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn refresh(&mut self) -> io::Result<()> {
        let mut numbers: Vec<u64> =
            self.storage.list(&self.dir)?.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let mut segments = Vec::with_capacity(numbers.len());
        for number in numbers {
            // What is sealed stays as it is.
            let known = self.segments.binary_search_by_key(&number, |segment| segment.number).ok();
            match known.map(|index| self.segments[index]).filter(|segment| segment.seal.is_some()) {
                Some(segment) => segments.push(segment),
                None => segments.extend(self.look(number)?),
            }
        }
        self.segments = segments;
        Ok(())
    }

    /// Whether the segment that began with this header was retired.
    pub(super) fn is_gone(&self, header: &SegmentHeader) -> io::Result<bool> {
        Ok(self.look(header.number)?.is_none_or(|info| info.header != Ok(*header)))
    }

    fn look(&self, number: u64) -> io::Result<Option<SegmentInfo>> {
        let file = match self.file(number) {
            Ok(file) => file,
            // Retired, or a spare again, since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let octets = file.octets()?;
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        let header = match read_full(&file, &mut block, 0) {
            Ok(_) => SegmentHeader::decode(&block),
            Err(error) if is_bad_sector(&error) => Err(BlockError::Unreadable),
            Err(error) => return Err(error),
        };
        let is_other = !header.is_ok_and(|header| header.number == number);
        if is_other && self.file(number).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Retired since it was opened, and begun anew.
            return Ok(None);
        }
        let mut seal = None;
        if let Ok(header) = &header {
            let at = seal_offset(header.identity.segment_bytes);
            if read_around_bad_sectors(&file, &mut block, at)? == BLOCK_OCTETS {
                seal = Seal::decode(header, &block).ok();
            }
        }
        Ok(Some(SegmentInfo { number, header, seal, octets }))
    }

    /// Who the log is.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.meta.identity
    }

    /// What `log.meta` says.
    #[must_use]
    pub fn meta(&self) -> &LogMeta {
        &self.meta
    }

    /// Name of the log's directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.dir
    }

    /// Segments in order, as last looked at.
    #[must_use]
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    /// Octets of the segment files.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.octets).sum()
    }

    /// Never goes to or beyond this position: the durable LSN, for a reader beside the appender.
    pub fn set_limit(&mut self, limit: Lsn) {
        self.limit = limit;
    }

    /// Never goes beyond the newest segment that is there now. A log may grow faster than it is read: without a limit a reader beside the
    /// appender need not come to an end.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn limit_to_present(&mut self) -> io::Result<()> {
        self.refresh()?;
        if let Some(newest) = self.segments.last() {
            let end = newest.number.saturating_add(1).saturating_mul(self.meta.identity.segment_bytes);
            self.limit = self.limit.min(Lsn::new(end));
        }
        Ok(())
    }

    /// Goes to a position where a record begins, or to a segment.
    pub fn seek(&mut self, to: Lsn) {
        let segment_bytes = self.meta.identity.segment_bytes;
        self.at = (to.segment(segment_bytes), to.offset(segment_bytes).max(BLOCK));
        self.window.forget();
    }

    /// Goes to the first segment that may hold messages accepted at or after a time in µs since 1970. Clocks may jump: messages of other times are in there
    /// as well.
    pub fn seek_time(&mut self, since_us: u64) {
        let possible =
            |segment: &&SegmentInfo| segment.seal.is_none_or(|seal| seal.summary.accepted_max_us >= since_us);
        let number = self.segments.iter().find(possible).map_or(u64::MAX, |segment| segment.number);
        self.at = (number, BLOCK);
        self.window.forget();
    }

    /// Leaves out the sealed segments whose seal tells that no message in them was accepted at these times in µs since 1970. Messages of other times
    /// still come from the segments that are read.
    pub fn set_times(&mut self, times: RangeInclusive<u64>) {
        self.times = times;
    }

    /// Where the next record is looked for.
    #[must_use]
    pub fn position(&self) -> Lsn {
        Lsn::new(self.at.0.saturating_mul(self.meta.identity.segment_bytes).saturating_add(self.at.1))
    }

    /// The next record, pads left out; `None` at the end so far.
    ///
    /// # Errors
    /// Those of the disk.
    #[expect(clippy::should_implement_trait, reason = "the record is lent out of the reader's view")]
    pub fn next(&mut self) -> io::Result<Option<Entry<'_>>> {
        Ok(match self.step()? {
            None => None,
            Some(Step::Bad(bad)) => Some(Entry::Bad(bad)),
            Some(Step::Record { header, offset, file }) => {
                let octets = to_usize(header.octets());
                let segment = header.lsn.segment(self.meta.identity.segment_bytes);
                let raw = self.window.get(&*file, segment, offset, octets)?;
                let content = raw.get(RECORD_HEADER_OCTETS..).unwrap_or_default();
                let (envelope, body) = header.split(content).unwrap_or_default();
                let id = MessageId::unpack(self.meta.identity.node, header.message_id);
                Some(Entry::Record(Record { header, id, envelope, body }))
            }
        })
    }

    fn step(&mut self) -> io::Result<Option<Step<S::File>>> {
        let (mut refreshed, mut reread) = (false, None);
        loop {
            if self.position() >= self.limit {
                return Ok(None);
            }
            let Some(info) = self.current() else {
                if std::mem::replace(&mut refreshed, true) {
                    return Ok(None);
                }
                self.refresh()?;
                continue;
            };
            if info.number != self.at.0 {
                self.at = (info.number, BLOCK);
                continue;
            }
            if info.seal.is_some_and(|seal| !self.wanted(&seal)) {
                self.at = (info.number + 1, BLOCK);
                continue;
            }
            let header = match info.header {
                Ok(header) if header.identity == self.meta.identity && header.number == info.number => header,
                Ok(_) => return Ok(Some(self.skip_segment(&info, BadReason::ForeignSegment))),
                // Between its rename and the first look nothing is written to a segment, so a bad header is no race.
                Err(error) => return Ok(Some(self.skip_segment(&info, BadReason::SegmentHeader(error)))),
            };
            let end = info.seal.map_or(seal_offset(header.identity.segment_bytes), |seal| {
                seal.end.offset(header.identity.segment_bytes)
            });
            if self.at.1 >= end {
                if info.seal.is_none()
                    && let Some(bad) = self.lost_seal()?
                {
                    return Ok(Some(Step::Bad(bad)));
                }
                self.at = (info.number + 1, BLOCK);
                continue;
            }
            let file = match self.opened(info.number) {
                // Retired since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.refresh()?;
                    continue;
                }
                file => file?,
            };
            self.window.read_until(end);
            let walk = Walk { file: &*file, header };
            match walk.record_at(&mut self.window, self.at.1)? {
                Ok(record) => {
                    let offset = self.at.1;
                    self.at.1 += record.octets();
                    if record.kind != RecordKind::Pad {
                        return Ok(Some(Step::Record { header: record, offset, file }));
                    }
                }
                Err(_) if reread.replace(self.at) != Some(self.at) => {
                    // The view may be older than the record, whether the segment was open then, is open, or has been sealed since.
                    self.window.forget();
                    self.refresh()?;
                }
                // Retired while it was read: the file has begun another life.
                Err(_) if self.is_gone(&header)? => self.at = (info.number + 1, BLOCK),
                Err(bad) if info.seal.is_some() => {
                    let later = walk.later(&mut self.window, self.at.1, end)?;
                    let next = later.map_or(end, |later| later.first);
                    return Ok(Some(Step::Bad(self.skip_record(&header, bad, next))));
                }
                Err(bad) => match self.end_of_unsealed(&walk, bad)? {
                    Some(step) => return Ok(Some(step)),
                    None => return Ok(None),
                },
            }
        }
    }

    fn wanted(&self, seal: &Seal) -> bool {
        let summary = seal.summary;
        let all = self.times == (0..=u64::MAX);
        all || (summary.accepted_max_us >= *self.times.start()
            && summary.accepted_min_us <= *self.times.end())
    }

    /// A bad record in an unsealed segment: damage, or the end?
    fn end_of_unsealed(&mut self, walk: &Walk<'_, S::File>, bad: Bad) -> io::Result<Option<Step<S::File>>> {
        let at = self.at.1;
        let later = walk.later(&mut self.window, at, walk.limit())?;
        self.window.forget();
        if let Some(later) = later.filter(|later| later.durable > walk.lsn(at)) {
            // Durable before the later record was written: what stands there now is final, even in a live log.
            if walk.record_at(&mut self.window, at)?.is_err() {
                return Ok(Some(Step::Bad(self.skip_record(&walk.header, bad, later.first))));
            }
            return self.step();
        }
        Ok(self.lost_seal()?.map(Step::Bad))
    }

    /// The seal of the segment at the position, where it is not there although records come in a later segment.
    fn lost_seal(&mut self) -> io::Result<Option<BadRecord>> {
        let next = self.segments.iter().find(|segment| segment.number > self.at.0).copied();
        let Some((SegmentInfo { number, .. }, Ok(header))) = next.map(|next| (next, next.header)) else {
            return Ok(None);
        };
        let file = match self.file(number) {
            // Retired, or never used and a spare again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let begins = Walk { file: &file, header }.record_at(&mut self.single, BLOCK)?.is_ok();
        self.single.forget();
        // In a live log it may just have been sealed.
        let sealed = self.look(self.at.0)?.is_none_or(|info| info.seal.is_some());
        if !begins || sealed {
            return Ok(None);
        }
        let offset = seal_offset(header.identity.segment_bytes);
        let bad = BadRecord { segment: self.at.0, offset, octets: BLOCK, id: None, reason: BadReason::Seal };
        self.at = (number, BLOCK);
        Ok(Some(bad))
    }

    fn skip_record(&mut self, header: &SegmentHeader, bad: Bad, next: u64) -> BadRecord {
        let offset = self.at.1;
        let (next, id, reason) = match bad {
            Bad::Header(error) => (next, None, BadReason::Header(error)),
            Bad::Content(record) => {
                let id = MessageId::unpack(header.identity.node, record.message_id);
                let id = (record.kind == RecordKind::Message).then_some(id);
                (offset + record.octets(), id, BadReason::Content)
            }
        };
        self.at.1 = next;
        BadRecord { segment: header.number, offset, octets: next - offset, id, reason }
    }

    fn skip_segment(&mut self, info: &SegmentInfo, reason: BadReason) -> Step<S::File> {
        self.at = (info.number + 1, BLOCK);
        Step::Bad(BadRecord { segment: info.number, offset: 0, octets: info.octets, id: None, reason })
    }

    /// The segment at the position, or the next one behind it.
    fn current(&self) -> Option<SegmentInfo> {
        let index = self.segments.partition_point(|segment| segment.number < self.at.0);
        self.segments.get(index).copied()
    }

    fn file(&self, number: u64) -> io::Result<S::File> {
        self.storage.open(&format!("{}/{}", self.dir, segment_name(number)), OpenMode::Read)
    }

    fn opened(&mut self, number: u64) -> io::Result<Arc<S::File>> {
        if let Some((open, file)) = &self.open
            && *open == number
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.file(number)?);
        self.open = Some((number, Arc::clone(&file)));
        self.window.forget();
        Ok(file)
    }
}

/// What [`Reader::step`] came to.
enum Step<F> {
    Record { header: RecordHeader, offset: u64, file: Arc<F> },
    Bad(BadRecord),
}
