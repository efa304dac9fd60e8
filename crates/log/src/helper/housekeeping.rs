//! Retirement of segments, and the status that others see.

use std::collections::HashMap;
use std::io;

use super::work::Served;
use crate::age_clock::AgeClock;
use crate::buffer::AlignedBuffer;
use crate::cursor::{ConsumerKind, CursorState, read_cursors};
use crate::layout::{BLOCK, BLOCK_OCTETS};
use crate::retention::{Going, Holdings, RetireReason, SealedSegment, Situation, plan};
use crate::segment::{SegmentHeader, segment_name, segment_number};
use crate::settings::LogSettings;
use crate::status::{ConsumerStatus, DirectoryStatus, StatusHandle};
use crate::storage::{OpenMode, Space, Storage, read_full};
use crate::walk::Walk;
use crate::window::Window;
use crate::{Lsn, RecordKind};

/// Records that are looked at to find the age of a backlog.
const RECORDS_LOOKED_AT_MAX: u32 = 16;

/// How long to wait for the space of removed segments: it comes late where someone reads them, or the file system frees in the background.
const SPACE_AWAITED_US: u64 = 10_000_000;

/// What is remembered from round to round.
pub(super) struct Housekeeping {
    clock: AgeClock,
    retired: [u64; RetireReason::ALL.len()],
    recycled: u64,
    errors: u64,
    /// Segments that a consumer has lost, by log and name.
    lost: HashMap<(String, String), u64>,
    /// Free octets before segments were removed for want of them, and when that was.
    made_room: Option<(u64, u64)>,
}

/// A log with its consumers, as one round finds them.
struct Found {
    cursors: Vec<CursorState>,
    damaged: Vec<String>,
    needed_from: Lsn,
    end: Lsn,
}

impl Housekeeping {
    pub(super) fn start<S: Storage>(storage: &S) -> Self {
        Self {
            clock: AgeClock::start(storage.now_us(), storage.boot_us(), None),
            retired: [0; RetireReason::ALL.len()],
            recycled: 0,
            errors: 0,
            lost: HashMap::new(),
            made_room: None,
        }
    }

    /// Compares the wall clock with the newest time in the logs, when one is taken into service.
    pub(super) fn set_clock<S: Storage>(&mut self, storage: &S, logs: &[Served<S>]) {
        let sealed = logs.iter().flat_map(|log| &log.sealed);
        // Of mail, not of seals: recovery has just written one by the clock that is in question.
        let newest =
            sealed.filter(|segment| segment.summary.messages > 0).map(SealedSegment::newest_us).max();
        self.clock = AgeClock::start(storage.now_us(), storage.boot_us(), newest);
    }

    /// Learns what was sealed and consumed, retires what may go, tells what there is.
    pub(super) fn round<S: Storage>(
        &mut self,
        storage: &S,
        logs: &mut [Served<S>],
        settings: &LogSettings,
        space: Space,
        status: &StatusHandle,
    ) {
        let mut found = Vec::with_capacity(logs.len());
        for log in logs.iter_mut() {
            match find(log) {
                Ok(log) => found.push(log),
                // Nothing may be retired by a guess; the next round tries again.
                Err(_) => {
                    self.errors += 1;
                    let mut told = status.lock();
                    told.retire_errors = self.errors;
                    told.free_bytes = space.free_bytes;
                    told.free_inodes = space.free_inodes;
                    return;
                }
            }
        }
        let boot_us = storage.boot_us();
        let situation = Situation {
            now_us: self.clock.now(storage.now_us(), boot_us),
            free_bytes: space.free_bytes,
            space_awaited: self.made_room.is_some_and(|(before, at)| {
                // Mail goes on to take space: a segment of it does not wait for anything.
                let less = before.saturating_sub(settings.segment_bytes)..=before;
                less.contains(&space.free_bytes) && boot_us.saturating_sub(at) < SPACE_AWAITED_US
            }),
        };
        let plan = {
            let frees: Vec<_> = logs.iter().map(|log| |number| log.maker.frees(number)).collect();
            let holdings: Vec<Holdings<'_>> = logs
                .iter()
                .zip(&found)
                .zip(&frees)
                .map(|((log, found), frees)| Holdings {
                    sealed: &log.sealed,
                    cursors: &found.cursors,
                    needed_from: found.needed_from,
                    frees,
                })
                .collect();
            plan(&holdings, settings, situation)
        };
        for ((log, found), going) in logs.iter_mut().zip(&found).zip(&plan) {
            let removed = self.retire(log, found, going);
            if removed > 0 && going.iter().any(|(_, reason)| *reason == RetireReason::FreeBytes) {
                self.made_room = Some((space.free_bytes, boot_us));
            }
        }
        let mut told = DirectoryStatus {
            free_bytes: space.free_bytes,
            free_inodes: space.free_inodes,
            retired: self.retired,
            recycled: self.recycled,
            retire_errors: self.errors,
            clock_distrusted: self.clock.distrusts_wall(),
            ..DirectoryStatus::default()
        };
        for (log, found) in logs.iter().zip(&found) {
            told.segments_sealed += log.sealed.len() as u64;
            told.sealed_bytes += log.sealed.iter().map(|segment| segment.octets).sum::<u64>();
            told.spares_waiting += log.maker.spares.len() as u64;
            told.logs_adopted += u64::from(log.supply.is_none());
            told.consumers.extend(found.cursors.iter().map(|cursor| self.tell(log, found, cursor)));
        }
        *status.lock() = told;
    }

    /// Retires what is planned, newest first: a message goes before the chunks that it lists. Says how many were removed.
    fn retire<S: Storage>(&mut self, log: &mut Served<S>, found: &Found, going: &Going) -> u64 {
        if going.is_empty() {
            return 0;
        }
        let numbers: Vec<u64> = going.iter().rev().map(|(segment, _)| segment.number).collect();
        let recycled = log.maker.retire(&numbers);
        if recycled.is_err() {
            self.errors += 1;
        }
        let recycled = recycled.unwrap_or(0);
        self.recycled += recycled;
        let Ok(names) = log.maker.storage.list(&log.maker.dir) else { return 0 };
        let there: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let is_there = |number: u64| there.binary_search(&number).is_ok();
        log.sealed.retain(|segment| is_there(segment.number));
        let mut gone = 0;
        for (segment, reason) in going.iter().filter(|(segment, _)| !is_there(segment.number)) {
            gone += 1;
            self.retired[*reason as usize] += 1;
            let losers = found
                .cursors
                .iter()
                .filter(|cursor| cursor.kind == ConsumerKind::BestEffort && cursor.position < segment.end);
            for cursor in losers {
                *self.lost.entry((log.maker.dir.clone(), cursor.name.clone())).or_default() += 1;
            }
        }
        gone - recycled
    }

    fn tell<S: Storage>(&self, log: &Served<S>, found: &Found, cursor: &CursorState) -> ConsumerStatus {
        let dir = &log.maker.dir;
        let segment_bytes = log.maker.identity.segment_bytes;
        let first = log.sealed.first().map_or(found.end.segment(segment_bytes), |segment| segment.number);
        let from = cursor.position.max(Lsn::new(first * segment_bytes));
        let lag_bytes = found.end.get().saturating_sub(from.get());
        ConsumerStatus {
            log: dir.clone(),
            name: cursor.name.clone(),
            kind: cursor.kind,
            position: cursor.position,
            lag_bytes,
            oldest_at_us: oldest(log, from, found.end).ok().flatten(),
            segments_lost: self.lost.get(&(dir.clone(), cursor.name.clone())).copied().unwrap_or(0),
            damaged: found.damaged.contains(&cursor.name),
        }
    }
}

/// Learns what the appender has sealed, and reads the cursors.
fn find<S: Storage>(log: &mut Served<S>) -> io::Result<Found> {
    let mut needed_from = Lsn::MAX;
    let mut end = log.sealed.last().map_or(Lsn::ZERO, |segment| segment.end);
    if let Some(supply) = log.supply.clone() {
        needed_from = supply.drain_sealed(|segment| log.sealed.push(segment));
        end = supply.durable();
    }
    // After the segments: a consumer that is past one of them has seen it sealed.
    let mut found = Found { cursors: Vec::new(), damaged: Vec::new(), needed_from, end };
    for (name, state) in read_cursors(&log.maker.storage, &log.maker.dir, &log.maker.identity)? {
        // One that is past the end belongs to a newer copy of this log, and says nothing about this one.
        let state = state
            .ok()
            .filter(|state| !state.is_ahead(log.maker.next_number, log.maker.identity.segment_bytes));
        found.cursors.push(state.unwrap_or_else(|| {
            found.damaged.push(name.clone());
            // Nobody knows how far it has got, so everything stays.
            CursorState {
                name,
                kind: ConsumerKind::Required,
                generation: 0,
                position: Lsn::ZERO,
                saved_at_us: 0,
            }
        }));
    }
    Ok(found)
}

/// When the first message or chunk from `at` to `end` was accepted; `None` when there is none, or none among the next few records.
fn oldest<S: Storage>(log: &Served<S>, mut at: Lsn, end: Lsn) -> io::Result<Option<u64>> {
    let maker = &log.maker;
    let segment_bytes = maker.identity.segment_bytes;
    let mut window = Window::single();
    for _ in 0..RECORDS_LOOKED_AT_MAX {
        at = step_over_end(&log.sealed, at, end, segment_bytes);
        if at >= end {
            return Ok(None);
        }
        let (number, offset) = (at.segment(segment_bytes), at.offset(segment_bytes).max(BLOCK));
        let path = format!("{}/{}", maker.dir, segment_name(number));
        let file = maker.storage.open(&path, OpenMode::Read)?;
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
        read_full(&file, &mut block, 0)?;
        let Ok(header) = SegmentHeader::decode(&block) else { return Ok(None) };
        let Ok(record) = (Walk { file: &file, header }).header_at(&mut window, offset)? else {
            return Ok(None);
        };
        if matches!(record.kind, RecordKind::Message | RecordKind::Chunk) {
            return Ok(Some(record.accepted_at_us));
        }
        at = record.lsn.plus(record.octets());
    }
    Ok(None)
}

/// `at`, or the begin of the next segment that is there, when its own ends before it or was retired.
fn step_over_end(sealed: &[SealedSegment], at: Lsn, end: Lsn, segment_bytes: u64) -> Lsn {
    let open = end.segment(segment_bytes);
    let passed = sealed.partition_point(|segment| segment.end <= at);
    let number = sealed.get(passed).map_or(open, |next| next.number);
    at.max(Lsn::new(number * segment_bytes))
}
