//! Recovery of the segments of one log.

use std::collections::BTreeMap;
use std::io;

use super::look::{Found, Look, Standing, look, next_number};
use super::report::{CutTail, Damage, DamageKind, RecoveryReport};
use crate::buffer::AlignedBuffer;
use crate::cursor::{cursor_name, read_cursors};
use crate::directory::{OpenError, Place, log_directory};
use crate::layout::{BATCH_OCTETS, BLOCK, BLOCK_OCTETS, seal_offset, to_usize};
use crate::maker::{SegmentMaker, fill_number};
use crate::meta::META_NAME;
use crate::record::{RecordFlags, RecordKind};
use crate::retention::SealedSegment;
use crate::segment::{
    LogIdentity, Seal, SealReason, SegmentHeader, SegmentSummary, lent_name, lent_number, segment_name,
    segment_number, spare_name, spare_number,
};
use crate::settings::LogKind;
use crate::storage::{OpenMode, Storage, StorageFile, write_full};
use crate::walk::{Bad, Walk};
use crate::window::Window;
use crate::{Lsn, MessageId};

/// Directory for what must not stay among the segments, below the log's own.
pub(crate) const DAMAGED: &str = "damaged";
/// Octets of a cut tail that are kept at most. Strict durability has one batch in flight; relaxed has 100 ms of them.
const TAIL_OCTETS_MAX: u64 = 64 << 20;
static ZEROS: [u8; BLOCK_OCTETS] = [0; BLOCK_OCTETS];

/// What a walk through a segment found.
struct Walked {
    /// Offset one past the last record.
    end: u64,
    summary: SegmentSummary,
    /// Highest durable LSN that a record tells.
    durable: Lsn,
}

/// What recovery leaves behind.
pub(crate) struct Recovered {
    pub(crate) report: RecoveryReport,
    /// Segments that can be read, oldest first. All are sealed, but for files of a wrong length.
    pub(crate) sealed: Vec<SealedSegment>,
}

/// Recovers one log; leaves in `maker` which spares there are and which number comes next: one behind `behind`, up to where others have seen the log.
pub(crate) fn recover<S: Storage>(
    maker: &mut SegmentMaker<S>,
    behind: Option<Lsn>,
) -> Result<Recovered, OpenError> {
    let storage = maker.storage.clone();
    let mut recovery = Recovery {
        dir: maker.dir.clone(),
        identity: maker.identity,
        storage,
        window: Window::new(),
        report: RecoveryReport::default(),
        sealed: Vec::new(),
        unused: Vec::new(),
    };
    recovery.run(maker, behind)?;
    let Recovery { report, mut sealed, .. } = recovery;
    sealed.sort_unstable_by_key(|segment| segment.number);
    Ok(Recovered { report, sealed })
}

/// Segments that the disk does not give, apart from the others. Only one that stands before a sealed one can be left out: it was sealed as well, and nobody
/// needs to know where it ends.
fn split_unreadable(looks: Vec<Look>) -> Result<(Vec<Look>, Vec<u64>), OpenError> {
    let sealed = |look: &&Look| matches!(look.standing, Standing::Holds { seal: Ok(_), .. });
    let sealed_last = looks.iter().filter(sealed).map(|look| look.number).max();
    let mut unreadable = Vec::new();
    let mut others = Vec::with_capacity(looks.len());
    for look in looks {
        match look.standing {
            Standing::Unreadable(_) if Some(look.number) < sealed_last => unreadable.push(look.number),
            Standing::Unreadable(error) => return Err(error),
            _ => others.push(look),
        }
    }
    Ok((others, unreadable))
}

struct Recovery<S: Storage> {
    storage: S,
    dir: String,
    identity: LogIdentity,
    window: Window,
    report: RecoveryReport,
    sealed: Vec<SealedSegment>,
    /// Segments without records, and whether there are torn octets in them.
    unused: Vec<(u64, bool)>,
}

impl<S: Storage> Recovery<S> {
    fn run(&mut self, maker: &mut SegmentMaker<S>, behind: Option<Lsn>) -> Result<(), OpenError> {
        let place = Place::new(&self.storage, &self.dir);
        // Names first: what is listed now is what a crash from here on would leave.
        self.storage.sync_dir(&self.dir).map_err(|error| place.io("syncing the directory", error))?;
        let names = self.storage.list(&self.dir).map_err(|error| place.io("listing the directory", error))?;
        let numbers = names.iter().filter_map(|name| segment_number(name));
        // Nothing is changed before all were looked at: the log may not be one to be opened.
        let looks = numbers.map(|number| self.look(number)).collect::<Result<Vec<_>, _>>()?;
        self.check_namesakes(&looks)?;
        let (looks, unreadable) = split_unreadable(looks)?;
        for name in &names {
            if fill_number(name).is_some() {
                self.remove_fill(name)?;
            } else if let Some(number) = lent_number(name) {
                self.take_back(maker, &names, number)?;
            } else if let Some(number) = spare_number(name) {
                self.take_spare(maker, name, number)?;
            }
        }
        maker.next_number = next_number(maker.next_number, &looks);
        if self.follow_cursors(maker, &looks)? {
            self.follow(maker, &looks, behind)?;
        }
        let mut found = BTreeMap::new();
        for Look { number, octets, standing } in looks {
            match standing {
                Standing::Holds { header, seal } => {
                    self.check_length(number, octets);
                    found.insert(number, Found { header, octets, seal });
                }
                Standing::Namesake => self.quarantine(number, octets, DamageKind::ForeignSegment)?,
                Standing::Useless(kind) => self.quarantine(number, octets, kind)?,
                // They were taken out.
                Standing::Unreadable(error) => return Err(error),
            }
        }
        self.settle(found)?;
        for number in unreadable {
            self.leave_unreadable(maker, number);
        }
        self.free_unused(maker)
    }

    /// A consumer that is past the end of the log has done with mail that is not there: the log is an older copy of itself, or was cut. Numbers go on
    /// behind the consumer, so that it misses nothing that comes, and no id is given out twice that it knows. Not so when the log has taken mail since the
    /// consumer stood there: it has not seen that, so it stays where it is and keeps everything. Whether none stays so.
    fn follow_cursors(&mut self, maker: &mut SegmentMaker<S>, looks: &[Look]) -> Result<bool, OpenError> {
        let place = Place::new(&self.storage, &self.dir);
        let cursors = read_cursors(&self.storage, &self.dir, &self.identity)
            .map_err(|error| place.io("reading the cursors", error))?;
        let segment_bytes = self.identity.segment_bytes;
        let next = maker.next_number;
        let newest = looks.iter().filter_map(|look| match &look.standing {
            Standing::Holds { header, .. } => Some(header.created_at_us),
            _ => None,
        });
        let newest_us = newest.max().unwrap_or(0);
        let mut all_follow = true;
        for state in cursors.into_iter().filter_map(|(_, state)| state.ok()) {
            // What is so far away that numbers would run out was not read from a log.
            let follows = state.position.get() < Lsn::MAX.get() / 2 && newest_us <= state.saved_at_us;
            if !state.is_ahead(next, segment_bytes) {
                continue;
            }
            if !follows {
                all_follow = false;
                continue;
            }
            maker.next_number = maker.next_number.max(state.position.segment(segment_bytes) + 1);
            self.report.damage.push(Damage {
                kind: DamageKind::BehindCursor { position: state.position },
                file: cursor_name(&state.name),
                offset: 0,
                octets: state.position.get() - next * segment_bytes,
                id: None,
                kept_as: None,
            });
        }
        if maker.next_number > next {
            maker.keep_numbers().map_err(|error| place.io("raising the next number", error))?;
        }
        Ok(all_follow)
    }

    /// The same for who has seen the log without a cursor of its own. A log that was just made has lost nothing; it stands in the place of another one.
    fn follow(
        &mut self,
        maker: &mut SegmentMaker<S>,
        looks: &[Look],
        behind: Option<Lsn>,
    ) -> Result<(), OpenError> {
        let segment_bytes = self.identity.segment_bytes;
        let (next, was_used) = (maker.next_number, !looks.is_empty() || maker.next_number > 1);
        let end = Lsn::new(next.saturating_mul(segment_bytes)).plus(BLOCK);
        let Some(position) = behind.filter(|behind| *behind > end && behind.get() < Lsn::MAX.get() / 2)
        else {
            return Ok(());
        };
        let place = Place::new(&self.storage, &self.dir);
        maker.next_number = position.segment(segment_bytes) + 1;
        maker.keep_numbers().map_err(|error| place.io("raising the next number", error))?;
        if was_used {
            self.report.damage.push(Damage {
                kind: DamageKind::BehindCursor { position },
                file: log_directory(LogKind::Outcome, 0),
                offset: 0,
                octets: position.get() - next * segment_bytes,
                id: None,
                kept_as: None,
            });
        }
        Ok(())
    }

    /// What the disk does not give stays where it is, in case it does one day. To retention it is as old as the segment after it, and may need any chunk.
    fn leave_unreadable(&mut self, maker: &mut SegmentMaker<S>, number: u64) {
        let segment_bytes = self.identity.segment_bytes;
        let base = Lsn::new(number * segment_bytes);
        self.report.damage.push(Damage {
            kind: DamageKind::Unreadable,
            file: segment_name(number),
            offset: 0,
            octets: segment_bytes,
            id: None,
            kept_as: None,
        });
        let later = self.sealed.iter().filter(|segment| segment.number > number);
        let next = later.min_by_key(|segment| segment.number);
        self.sealed.push(SealedSegment {
            number,
            octets: segment_bytes,
            end: base.plus(seal_offset(segment_bytes)),
            summary: SegmentSummary { chunks_from: Lsn::ZERO, ..SegmentSummary::default() },
            sealed_at_us: next.map_or_else(|| self.storage.now_us(), SealedSegment::newest_us),
        });
        maker.not_recycled.push(number);
    }

    /// Turns segments without records into spares again, but for the first one: a write of the process that has ended may still be on its way
    /// to it in the kernel. One write is under way at a time, so the others are out of its reach.
    fn free_unused(&mut self, maker: &mut SegmentMaker<S>) -> Result<(), OpenError> {
        if !self.unused.is_empty() {
            // A consumer may already stand at the begin of one.
            let place = Place::new(&self.storage, &self.dir);
            maker.keep_numbers().map_err(|error| place.io("raising the next number", error))?;
        }
        let first = self.unused.iter().map(|(number, _)| *number).min();
        for (number, torn) in std::mem::take(&mut self.unused) {
            let path = self.path(&segment_name(number));
            let freed =
                if torn || Some(number) == first { self.remove(&path) } else { maker.unpublish(number) };
            freed.map_err(|error| Place::new(&self.storage, &path).io("freeing an unused segment", error))?;
        }
        Ok(())
    }

    fn remove_fill(&self, name: &str) -> Result<(), OpenError> {
        let path = self.path(name);
        match self.storage.unlink_gently(&path) {
            // Nothing of ours.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(()),
            removed => removed
                .map_err(|error| Place::new(&self.storage, &path).io("removing an unfinished spare", error)),
        }
    }

    /// Takes back a spare that was put aside for a process that has not taken it.
    fn take_back(
        &mut self,
        maker: &mut SegmentMaker<S>,
        names: &[String],
        number: u64,
    ) -> Result<(), OpenError> {
        let (lent, spare) = (lent_name(number), spare_name(number));
        let place = Place::new(&self.storage, &self.path(&lent));
        let (from, to) = (self.path(&lent), self.path(&spare));
        // Both may stand there after a power cut, for one file: to rename one into the other would do nothing (POSIX).
        let is_there = names.contains(&spare);
        let moved = if is_there { self.storage.unlink(&from) } else { self.storage.rename(&from, &to) };
        moved
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .map_err(|error| place.io("taking a spare back", error))?;
        if is_there { Ok(()) } else { self.take_spare(maker, &spare, number) }
    }

    /// Keeps a spare of the right length, removes any other.
    fn take_spare(&mut self, maker: &mut SegmentMaker<S>, name: &str, number: u64) -> Result<(), OpenError> {
        let path = self.path(name);
        let place = Place::new(&self.storage, &path);
        maker.next_spare = maker.next_spare.max(number + 1);
        // For writing: one that cannot be written is found out now, and not when mail waits for it.
        let file = match self.storage.open(&path, OpenMode::Plain) {
            // Nothing of ours.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(()),
            opened => opened.map_err(|error| place.io("opening a spare", error))?,
        };
        let octets = file.octets().map_err(|error| place.io("looking at a spare", error))?;
        if octets == self.identity.segment_bytes {
            maker.spares.push(number);
        } else {
            self.storage
                .unlink(&path)
                .map_err(|error| place.io("removing a spare of another size", error))?;
        }
        Ok(())
    }

    fn look(&self, number: u64) -> Result<Look, OpenError> {
        look(&self.storage, &self.dir, &self.identity, number)
    }

    /// Segments of another log with the name of this one, and none of its own: not they are wrong here, but `log.meta`.
    fn check_namesakes(&self, looks: &[Look]) -> Result<(), OpenError> {
        let own = looks.iter().any(|look| matches!(look.standing, Standing::Holds { .. }));
        let namesake = looks.iter().find(|look| matches!(look.standing, Standing::Namesake));
        match namesake.filter(|_| !own) {
            None => Ok(()),
            Some(look) => Err(OpenError::MetaOfAnotherLog {
                place: Place::new(&self.storage, &self.path(META_NAME)).text(),
                segment: segment_name(look.number),
            }),
        }
    }

    fn check_length(&mut self, number: u64, octets: u64) {
        let segment_bytes = self.identity.segment_bytes;
        if octets != segment_bytes {
            self.report.damage.push(Damage {
                kind: DamageKind::SegmentLength,
                file: segment_name(number),
                offset: octets.min(segment_bytes),
                octets: segment_bytes.abs_diff(octets),
                id: None,
                kept_as: None,
            });
        }
    }

    /// Removes a segment that was not used.
    fn remove(&self, path: &str) -> io::Result<()> {
        self.storage.unlink(path)?;
        self.storage.sync_dir(&self.dir)
    }

    /// Walks the unsealed segments, newest first, so that each one knows whether records come after it.
    fn settle(&mut self, found: BTreeMap<u64, Found>) -> Result<(), OpenError> {
        let unsealed: Vec<u64> =
            found.iter().filter(|(_, segment)| segment.seal.is_err()).map(|(number, _)| *number).collect();
        let mut records_after = false;
        for (number, segment) in found.into_iter().rev() {
            if let Ok(seal) = segment.seal {
                if !records_after {
                    self.renew_seal(&segment, &seal)?;
                }
                self.report.segments_sealed += 1;
                self.sealed.push(SealedSegment::new(number, segment.octets, &seal));
                self.report.end = self.report.end.max(seal.end);
                records_after = true;
                continue;
            }
            let before_unsealed = unsealed.binary_search(&(number.wrapping_sub(1))).is_ok();
            let limit = if before_unsealed && !records_after {
                // Its predecessor is open, so nothing here was acknowledged; at most a first batch is here by damage of that seal.
                BLOCK + BATCH_OCTETS as u64
            } else {
                seal_offset(self.identity.segment_bytes)
            };
            records_after |= self.recover_segment(&segment, limit, records_after)?;
        }
        Ok(())
    }

    /// Makes sure that the newest seal is durable: its writer may have ended before the sync. It is written once more where it was read from the
    /// page cache: the sync after it may have failed, and the pages then still show what the disk lacks. Older seals were durable before
    /// their successor was written.
    fn renew_seal(&self, segment: &Found, seal: &Seal) -> Result<(), OpenError> {
        let path = self.path(&segment_name(segment.header.number));
        let place = Place::new(&self.storage, &path);
        let file = self
            .storage
            .open(&path, OpenMode::Plain)
            .map_err(|error| place.io("opening a segment", error))?;
        let renewed = if file.direct() { file.sync() } else { self.write_seal(&file, &segment.header, seal) };
        renewed.map_err(|error| place.io("sealing a segment", error))
    }

    fn write_seal(&self, file: &S::File, header: &SegmentHeader, seal: &Seal) -> io::Result<()> {
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        seal.encode(header, &mut block);
        write_full(file, &block, seal_offset(self.identity.segment_bytes))?;
        file.sync()
    }

    /// Writes once more what nothing proves to be on the disk, for the same reason as in [`renew_seal`](Self::renew_seal).
    fn renew(&mut self, file: &S::File, number: u64, from: u64, end: u64) -> io::Result<()> {
        if file.direct() {
            return Ok(());
        }
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        for offset in (from / BLOCK * BLOCK..end).step_by(BLOCK_OCTETS) {
            let bytes = self.window.get(file, number, offset, BLOCK_OCTETS)?;
            block.fill(0);
            block[..bytes.len()].copy_from_slice(bytes);
            write_full(file, &block, offset)?;
        }
        file.sync()
    }

    /// Finds the end of an unsealed segment and seals it there; false: it has no records.
    fn recover_segment(
        &mut self,
        segment: &Found,
        limit: u64,
        records_after: bool,
    ) -> Result<bool, OpenError> {
        let name = segment_name(segment.header.number);
        let path = self.path(&name);
        let place = Place::new(&self.storage, &path);
        let Found { header, octets, .. } = *segment;
        let file = self
            .storage
            .open(&path, OpenMode::Plain)
            .map_err(|error| place.io("opening a segment", error))?;
        // The page cache may hold what a failed sync has not brought to the disk.
        file.sync().map_err(|error| place.io("syncing a segment", error))?;
        let Walked { end, summary, durable } = self
            .walk(&file, header, limit, records_after)
            .map_err(|error| place.io("reading a segment", error))?;
        let torn = self.report.cut.last().is_some_and(|cut| cut.file == name);
        // Without records and octets it was never used, even with others behind it: its name could not be made durable, so it was passed over.
        let unused = summary.records == 0 && (!records_after || !torn);
        if unused && octets == self.identity.segment_bytes {
            // A torn first batch must not turn up again in the file's next life.
            self.unused.push((header.number, torn));
            self.report.segments_unused += 1;
            return Ok(false);
        }
        if records_after {
            self.report.damage.push(Damage {
                kind: DamageKind::Seal,
                file: name,
                offset: seal_offset(self.identity.segment_bytes),
                octets: BLOCK,
                id: None,
                kept_as: None,
            });
        }
        self.report.segments_recovered += 1;
        self.report.records += summary.records;
        self.report.messages += summary.messages;
        self.report.end = self.report.end.max(header.base().plus(end));
        let seal = Seal {
            reason: SealReason::Recovery,
            end: header.base().plus(end),
            summary,
            sealed_at_us: self.storage.now_us(),
        };
        self.sealed.push(SealedSegment::new(header.number, octets, &seal));
        if octets == self.identity.segment_bytes {
            let from = durable.get().saturating_sub(header.base().get()).max(BLOCK);
            self.renew(&file, header.number, from, end)
                .and_then(|()| self.write_seal(&file, &header, &seal))
                .map_err(|error| place.io("sealing a segment", error))?;
        }
        Ok(summary.records > 0)
    }

    /// Goes through the records of a segment by the table.
    fn walk(
        &mut self,
        file: &S::File,
        header: SegmentHeader,
        limit: u64,
        records_after: bool,
    ) -> io::Result<Walked> {
        let walk = Walk { file, header };
        let mut window = std::mem::replace(&mut self.window, Window::new());
        let mut summary = SegmentSummary::default();
        let mut durable = header.base();
        let mut at = BLOCK;
        while at < walk.limit() {
            let bad = match walk.record_at(&mut window, at)? {
                Ok(record) => {
                    durable = durable.max(record.durable);
                    if record.kind != RecordKind::Pad {
                        summary.add(record.kind, record.accepted_at_us);
                    }
                    if record.flags.has(RecordFlags::CHUNKED) {
                        summary.chunks_from =
                            summary.chunks_from.min(walk.chunks_from(&mut window, &record)?);
                    }
                    at += record.octets();
                    continue;
                }
                Err(bad) => bad,
            };
            // Records prove that the segment was in use: then all of it counts.
            let limit = if at > BLOCK { walk.limit() } else { limit };
            let later = walk.later(&mut window, at, limit)?;
            self.report.octets_scanned += limit.saturating_sub(at);
            // Records in a later segment prove that all of this one was durable; later records of its own tell how far it was.
            let proven = records_after || later.is_some_and(|later| later.durable > walk.lsn(at));
            let next = match (bad, later) {
                (Bad::Content(record), _) if proven => at + record.octets(),
                (Bad::Header(_), Some(later)) if proven => later.first,
                _ => {
                    self.keep_tail(&walk, &mut window, at, later.is_some())?;
                    break;
                }
            };
            // It was acknowledged, and is damaged.
            self.note_damage(&walk, &mut window, at, next, bad)?;
            at = next;
        }
        self.report.octets_scanned += at;
        self.window = window;
        Ok(Walked { end: at, summary, durable })
    }

    fn note_damage(
        &mut self,
        walk: &Walk<'_, S::File>,
        window: &mut Window,
        at: u64,
        next: u64,
        bad: Bad,
    ) -> io::Result<()> {
        let (kind, id) = match bad {
            Bad::Header(_) => (DamageKind::RecordHeader, None),
            Bad::Content(record) => {
                let id = MessageId::unpack(walk.header.identity.node, record.message_id);
                (DamageKind::RecordContent, (record.kind == RecordKind::Message).then_some(id))
            }
        };
        let kept_as = self.keep(walk, window, "record", at, next - at).ok();
        let file = segment_name(walk.header.number);
        self.report.damage.push(Damage { kind, file, offset: at, octets: next - at, id, kept_as });
        Ok(())
    }

    /// Saves what stands behind the last record, unless it is all zero. `later`: a record of this life stands further on.
    fn keep_tail(
        &mut self,
        walk: &Walk<'_, S::File>,
        window: &mut Window,
        at: u64,
        later: bool,
    ) -> io::Result<()> {
        // Old mail of an earlier life is no tail. The first block of a torn batch tells whose it is by its position; a batch without it cannot
        // be read by anybody.
        if walk.header.lives > 0 && !later && !walk.claims(window, at)? {
            return Ok(());
        }
        // Behind a batch of this life old mail may follow.
        let octets_max = if walk.header.lives > 0 { BATCH_OCTETS as u64 } else { TAIL_OCTETS_MAX };
        let limit = walk.limit().min(at + octets_max);
        let mut end = at;
        let mut block = at;
        // One batch of zeros: nothing was written behind it.
        while block < limit && block - end <= BATCH_OCTETS as u64 {
            let octets = (BLOCK - block % BLOCK).min(limit - block);
            let bytes = window.get(walk.file, walk.header.number, block, to_usize(octets))?;
            // Most blocks are zero, and comparing whole blocks is quick.
            if *bytes != ZEROS[..bytes.len()]
                && let Some(last) = bytes.iter().rposition(|octet| *octet != 0)
            {
                end = block + last as u64 + 1;
            }
            block += octets;
        }
        if end == at {
            return Ok(());
        }
        let kept_as = self.keep(walk, window, "tail", at, end - at).ok();
        let file = segment_name(walk.header.number);
        self.report.cut.push(CutTail { file, offset: at, octets: end - at, kept_as });
        Ok(())
    }

    /// Copies octets of a segment into `damaged/`, in whole blocks. For people to look at: the log opens without it, on a full disk for
    /// instance.
    fn keep(
        &self,
        walk: &Walk<'_, S::File>,
        window: &mut Window,
        what: &str,
        at: u64,
        octets: u64,
    ) -> io::Result<String> {
        let damaged = self.path(DAMAGED);
        self.storage.create_dir(&damaged)?;
        let name = format!("{damaged}/{what}-{:016x}-{at}.bin", walk.header.number);
        match self.storage.unlink(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let copy = self.storage.open(&name, OpenMode::Create)?;
        let start = at / BLOCK * BLOCK;
        let end = (at + octets).next_multiple_of(BLOCK);
        let mut buffer = AlignedBuffer::new(BLOCK_OCTETS);
        for offset in (start..end).step_by(BLOCK_OCTETS) {
            let bytes = window.get(walk.file, walk.header.number, offset, BLOCK_OCTETS)?;
            buffer.fill(0);
            buffer[..bytes.len()].copy_from_slice(bytes);
            write_full(&copy, &buffer, offset - start)?;
        }
        copy.sync()?;
        self.storage.sync_dir(&damaged)?;
        Ok(name)
    }

    /// Moves what has the name of a segment to `damaged/`.
    fn quarantine(&mut self, number: u64, octets: u64, kind: DamageKind) -> Result<(), OpenError> {
        let name = segment_name(number);
        let path = self.path(&name);
        let place = Place::new(&self.storage, &path);
        let damaged = self.path(DAMAGED);
        let kept_as = format!("{damaged}/{name}-{}", self.storage.now_us());
        self.storage
            .create_dir(&damaged)
            .and_then(|()| self.storage.rename(&path, &kept_as))
            .and_then(|()| self.storage.sync_dir(&damaged))
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .map_err(|error| place.io("moving a damaged segment away", error))?;
        let kept_as = Some(kept_as);
        self.report.damage.push(Damage { kind, file: name, offset: 0, octets, id: None, kept_as });
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}
