//! Makes segments out of spares, and spares out of segments.
//!
//! ```text
//! fill-N.tmp ──(zeros, piece by piece)──▶ spare-N.seg ──(header, sync, rename, directory sync)──▶ NNNNNNNNNNNNNNNN.seg ──▶ appender
//!                                            ▲                                                            │ sealed, nobody needs it
//!                                            └────────────(rename, directory sync)────────────────────────┘
//! ```
//! A spare is written once before its use: a commit into blocks that were never written costs the file system a metadata commit, too. Only if there is no
//! time for that, it has nothing but its room. A retired
//! segment has been written before and serves as well; its next life has a new salt, so that no record of the old one is taken for a new one.
//! A file that somebody else has linked is left to them.

use std::io;
use std::sync::Arc;

use crate::buffer::AlignedBuffer;
use crate::layout::{BLOCK_OCTETS, to_usize};
use crate::meta::{LogMeta, write_meta};
use crate::segment::{LogIdentity, SegmentHeader, lent_name, lent_number, segment_name, spare_name};
use crate::settings::{Durability, LogSettings};
use crate::storage::{OpenMode, Storage, StorageFile, read_full, write_full};
use crate::supply::ReadySegment;

/// Octets of one write of zeros. A commit may have to wait behind one of them, and each of them costs the machine about as much as a commit: four times as
/// many, of 256 KiB, took a fifth of the processor time of a log that keeps mail of 64 KiB.
const FILL_OCTETS: usize = 1024 * 1024;

/// How it goes on with a spare that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// With the next piece of zeros.
    GoOn,
    /// It is used as it is: commits into what was not written are slower, but better than none.
    Enough,
    /// Later: the next call goes on where this one has ended.
    Pause,
}

/// A spare that is being filled.
struct Unfinished<F> {
    number: u64,
    file: F,
    /// All of it has room on the disk.
    has_room: bool,
    /// Octets that are written.
    offset: u64,
}

/// What is needed to make and retire segments of one log.
pub(crate) struct SegmentMaker<S: Storage> {
    pub(crate) storage: S,
    pub(crate) dir: String,
    pub(crate) identity: LogIdentity,
    pub(crate) durable_writes: bool,
    pub(crate) free_bytes_min: u64,
    /// Number of the next segment.
    pub(crate) next_number: u64,
    /// Spares of full length that wait under their spare name.
    pub(crate) spares: Vec<u64>,
    /// Number of the next spare.
    pub(crate) next_spare: u64,
    /// Segments that the disk could not read: new mail does not go there.
    pub(crate) not_recycled: Vec<u64>,
    spares_max: usize,
    meta: LogMeta,
    /// Spares that another process may take.
    lent: Vec<u64>,
    unfinished: Option<Unfinished<S::File>>,
    /// Has the name of a segment, which is not durable yet.
    named: Option<ReadySegment<S::File>>,
}

impl<S: Storage> SegmentMaker<S> {
    pub(crate) fn new(storage: S, dir: String, meta: LogMeta, settings: &LogSettings) -> Self {
        Self {
            storage,
            dir,
            identity: meta.identity,
            durable_writes: settings.durability == Durability::Strict,
            free_bytes_min: settings.free_bytes_min,
            next_number: meta.next_number_min,
            spares: Vec::new(),
            next_spare: 1,
            not_recycled: Vec::new(),
            spares_max: settings.spares.into(),
            meta,
            lent: Vec::new(),
            unfinished: None,
            named: None,
        }
    }

    /// Makes the first segment of a start, for which it digs into the reserve of free space: a log that is open refuses mail with a reason.
    pub(crate) fn make_first(
        &mut self,
        filled: &mut dyn FnMut(usize) -> Filling,
    ) -> io::Result<Option<ReadySegment<S::File>>> {
        let reserve = std::mem::take(&mut self.free_bytes_min);
        let made = self.make(filled);
        self.free_bytes_min = reserve;
        made
    }

    /// Makes one segment ready. `filled` is called after each piece of zeros with its octets, and says how it goes on.
    pub(crate) fn make(
        &mut self,
        filled: &mut dyn FnMut(usize) -> Filling,
    ) -> io::Result<Option<ReadySegment<S::File>>> {
        while self.named.is_none() {
            if self.spares.is_empty() && !self.fill(filled)? {
                return Ok(None);
            }
            if let Err(error) = self.name_spare() {
                self.give_up_spare(&error);
                return Err(error);
            }
        }
        // Once more where it failed: a name that may be gone after a power cut is not used, and no segment is left out.
        self.storage.sync_dir(&self.dir)?;
        Ok(self.named.take())
    }

    /// A spare that the disk does not take must not stand before the others for ever.
    fn give_up_spare(&mut self, error: &io::Error) {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if !full && let Some(spare) = self.spares.pop() {
            // It is found again at the next start if this fails as well.
            let _ = self.storage.unlink(&self.path(&spare_name(spare)));
        }
    }

    /// Gives a spare its header, opens it and makes it the next segment; no segment comes of a spare that somebody has linked.
    fn name_spare(&mut self) -> io::Result<()> {
        let Some(spare) = self.spares.last().copied() else { return Ok(()) };
        let from = self.path(&spare_name(spare));
        let file = self.storage.open(&from, OpenMode::Plain)?;
        if file.links()? > 1 {
            // Linked since it was retired: it is theirs now.
            self.storage.unlink(&from)?;
            self.spares.pop();
            return Ok(());
        }
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        read_full(&file, &mut block, 0)?;
        let header = SegmentHeader {
            identity: self.identity,
            number: self.next_number,
            salt: self.storage.random_u64(),
            created_at_us: self.storage.now_us(),
            // Whatever was in there that is not our own zeros.
            lives: match SegmentHeader::decode(&block) {
                Ok(before) => before.lives.saturating_add(1),
                Err(_) => u32::from(block.iter().any(|octet| *octet != 0)),
            },
        };
        let to = self.path(&segment_name(header.number));
        header.encode(&mut block);
        write_full(&file, &block, 0)?;
        file.sync()?;
        drop(file);
        let mode = if self.durable_writes { OpenMode::Durable } else { OpenMode::Plain };
        let file = Arc::new(self.storage.open(&from, mode)?);
        self.storage.rename(&from, &to)?;
        self.spares.pop();
        self.next_number += 1;
        self.named = Some(ReadySegment { header, file });
        Ok(())
    }

    /// Writes one spare full of zeros; whether it is full.
    fn fill(&mut self, filled: &mut dyn FnMut(usize) -> Filling) -> io::Result<bool> {
        let mut spare = match self.unfinished.take() {
            Some(spare) => spare,
            None => self.begin_spare()?,
        };
        let (from, to) = (self.path(&fill_name(spare.number)), self.path(&spare_name(spare.number)));
        let full = self.fill_file(&mut spare, filled);
        let named = full
            .and_then(|full| if full { self.storage.rename(&from, &to).map(|()| true) } else { Ok(false) });
        match named {
            Ok(true) => self.spares.push(spare.number),
            Ok(false) => self.unfinished = Some(spare),
            // Gives the room back; the next try begins anew. That it may fail as well changes nothing.
            Err(_) => drop(self.storage.unlink_gently(&from)),
        }
        named
    }

    /// Whether there is room for so many octets above the reserve.
    fn check_space(&self, octets: u64) -> io::Result<()> {
        if self.storage.space()?.free_bytes < self.free_bytes_min.saturating_add(octets) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn begin_spare(&mut self) -> io::Result<Unfinished<S::File>> {
        self.check_space(self.identity.segment_bytes)?;
        let number = self.next_spare;
        self.next_spare += 1;
        let name = self.path(&fill_name(number));
        let file = self.storage.open(&name, OpenMode::Create)?;
        match self.storage.allocate(&file, self.identity.segment_bytes) {
            Ok(has_room) => Ok(Unfinished { number, file, has_room, offset: 0 }),
            Err(error) => {
                let _ = self.storage.unlink(&name);
                Err(error)
            }
        }
    }

    fn fill_file(
        &self,
        spare: &mut Unfinished<S::File>,
        filled: &mut dyn FnMut(usize) -> Filling,
    ) -> io::Result<bool> {
        if !spare.has_room {
            // It may have been long ago that it was begun.
            self.check_space(self.identity.segment_bytes - spare.offset)?;
        }
        let zeros = AlignedBuffer::new(FILL_OCTETS);
        while spare.offset < self.identity.segment_bytes {
            let octets = to_usize(self.identity.segment_bytes - spare.offset).min(zeros.len());
            write_full(&spare.file, &zeros[..octets], spare.offset)?;
            spare.offset += octets as u64;
            match filled(octets) {
                Filling::Enough if spare.has_room => break,
                Filling::Pause if spare.offset < self.identity.segment_bytes => return Ok(false),
                Filling::GoOn | Filling::Enough | Filling::Pause => {}
            }
        }
        spare.file.sync()?;
        Ok(true)
    }

    /// Whether a spare is being filled.
    pub(crate) fn is_filling(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Whether a segment comes of what is there already.
    pub(crate) fn has_spare(&self) -> bool {
        self.named.is_some() || !self.spares.is_empty()
    }

    /// Gives up the spare that is being filled; whether there was one.
    pub(crate) fn stop_filling(&mut self) -> io::Result<bool> {
        let Some(spare) = self.unfinished.take() else { return Ok(false) };
        // One that is left is removed at the next start.
        self.storage.unlink_gently(&self.path(&fill_name(spare.number)))?;
        Ok(true)
    }

    /// Turns a segment without records back into a spare, in an orderly stop: no write to it is under way.
    pub(crate) fn unpublish(&mut self, number: u64) -> io::Result<()> {
        let spare = self.next_spare;
        self.next_spare += 1;
        self.storage.rename(&self.path(&segment_name(number)), &self.path(&spare_name(spare)))?;
        self.storage.sync_dir(&self.dir)?;
        self.spares.push(spare);
        Ok(())
    }

    /// Gives sealed segments up, in this order; they become spares while there are too few of these. Says how many did. After an error some are
    /// gone and some are there.
    pub(crate) fn retire(&mut self, numbers: &[u64]) -> io::Result<u64> {
        if numbers.is_empty() {
            return Ok(0);
        }
        self.keep_numbers()?;
        let mut recycled = 0;
        for number in numbers {
            let path = self.path(&segment_name(*number));
            let reusable = !self.not_recycled.contains(number) && self.is_reusable(&path)?;
            let spare = reusable.then_some(self.next_spare);
            match spare {
                Some(spare) => {
                    self.next_spare += 1;
                    self.storage.rename(&path, &self.path(&spare_name(spare)))?;
                }
                None => self.storage.unlink(&path)?,
            }
            // Before the next one, so that no chunk goes durably before its message; and before the file is written again: a name that came back
            // would show what is in it by then.
            self.storage.sync_dir(&self.dir)?;
            self.spares.extend(spare);
            recycled += u64::from(spare.is_some());
        }
        Ok(recycled)
    }

    fn is_reusable(&self, path: &str) -> io::Result<bool> {
        if self.spares.len() >= self.spares_max {
            return Ok(false);
        }
        let file = self.storage.open(path, OpenMode::Read)?;
        Ok(file.octets()? == self.identity.segment_bytes && file.links()? == 1)
    }

    /// Whether its space comes free when the segment goes: not, where somebody has linked it.
    pub(crate) fn frees(&self, number: u64) -> bool {
        let file = self.storage.open(&self.path(&segment_name(number)), OpenMode::Read);
        file.and_then(|file| file.links()).is_ok_and(|links| links == 1)
    }

    /// Makes sure that no number that was given out comes back, even when no segment is left.
    pub(crate) fn keep_numbers(&mut self) -> io::Result<()> {
        if self.meta.next_number_min >= self.next_number {
            return Ok(());
        }
        let meta =
            LogMeta { generation: self.meta.generation + 1, next_number_min: self.next_number, ..self.meta };
        write_meta(&self.storage, &self.dir, &meta)?;
        self.meta = meta;
        Ok(())
    }

    /// Gives a spare to another log with segments of the same size; whether there was one. It keeps what was written into it: to write it anew costs the
    /// disk as much as all the mail that it will hold.
    pub(crate) fn give_spare(&mut self, to: &mut Self) -> io::Result<bool> {
        let Some(spare) = self.spares.pop() else { return Ok(false) };
        to.receive(&self.dir, &spare_name(spare))?;
        Ok(true)
    }

    /// Makes a file in the directory of another log a spare of this one.
    fn receive(&mut self, dir: &str, name: &str) -> io::Result<()> {
        let number = self.next_spare;
        self.next_spare += 1;
        self.storage.rename(&format!("{dir}/{name}"), &self.path(&spare_name(number)))?;
        // Where it leaves first: a spare that a power cut loses is made anew, but one with two names would be written into by two logs.
        self.storage.sync_dir(dir)?;
        self.storage.sync_dir(&self.dir)?;
        self.spares.push(number);
        Ok(())
    }

    /// Puts its spares aside: from now on another process may take them, and this one does not touch them.
    pub(crate) fn lend(&mut self) -> io::Result<()> {
        while let Some(spare) = self.spares.last() {
            self.storage.rename(&self.path(&spare_name(*spare)), &self.path(&lent_name(*spare)))?;
            self.lent.push(*spare);
            self.spares.pop();
        }
        self.storage.sync_dir(&self.dir)
    }

    /// Takes back what nobody has taken, but for what the disk does not give.
    pub(crate) fn reclaim(&mut self) -> io::Result<()> {
        let lent = std::mem::take(&mut self.lent);
        let there = lent.into_iter().map(|spare| self.take_back(spare)).collect::<Vec<_>>();
        self.storage.sync_dir(&self.dir)?;
        there.into_iter().collect()
    }

    /// Takes one back, for a log that cannot wait; whether there was one.
    pub(crate) fn reclaim_one(&mut self) -> io::Result<bool> {
        while let Some(spare) = self.lent.pop() {
            self.take_back(spare)?;
            if !self.spares.is_empty() {
                self.storage.sync_dir(&self.dir)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_back(&mut self, spare: u64) -> io::Result<()> {
        match self.storage.rename(&self.path(&lent_name(spare)), &self.path(&spare_name(spare))) {
            Ok(()) => self.spares.push(spare),
            // Another process has taken it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.lent.push(spare);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a spare that another process has put aside in the directory of its log; whether one of the right size was there.
    pub(crate) fn take_lent(&mut self, dir: &str) -> io::Result<bool> {
        for name in self.storage.list(dir)?.iter().filter(|name| lent_number(name).is_some()) {
            match self.take_lent_file(dir, name) {
                // The other process has taken it back.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(false) => {}
                taken => return taken,
            }
        }
        Ok(false)
    }

    fn take_lent_file(&mut self, dir: &str, name: &str) -> io::Result<bool> {
        let file = self.storage.open(&format!("{dir}/{name}"), OpenMode::Read)?;
        if file.octets()? != self.identity.segment_bytes || file.links()? != 1 {
            return Ok(false);
        }
        self.receive(dir, name)?;
        Ok(true)
    }

    /// Removes a spare that nobody needs; whether there was one.
    pub(crate) fn drop_spare(&mut self) -> io::Result<bool> {
        let Some(spare) = self.spares.pop() else { return Ok(false) };
        // One that is left is found again at the next start.
        self.storage.unlink_gently(&self.path(&spare_name(spare)))?;
        Ok(true)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

fn fill_name(number: u64) -> String {
    format!("fill-{number}.tmp")
}

/// Number of a spare that is being written; `None` for any other name.
pub(crate) fn fill_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("fill-")?.strip_suffix(".tmp")?.parse().ok()?;
    (fill_name(number) == name).then_some(number)
}
