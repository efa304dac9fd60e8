//! Helper thread that keeps segments ready.
//!
//! ```text
//! fill-N.tmp ──(zeros, 1 MiB a write)──▶ spare-N.seg ──(header, sync, rename, directory sync)──▶ NNNNNNNNNNNNNNNN.seg ──▶ appender
//! ```
//! A spare is written once before its use: a commit into blocks that were never written costs the file system a metadata commit, too.
//! One thread per data directory serves all its logs. While each log has a segment ready it goes at a bounded rate, the slower the less is
//! missing: commits flush the disk, and would wait for what was filled in between. It tries again every second after an error, and never
//! digs into [`LogSettings::free_bytes_min`].

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::buffer::AlignedBuffer;
use crate::error::NoSpace;
use crate::layout::{BATCH_OCTETS, BLOCK_OCTETS, to_usize};
use crate::segment::{LogIdentity, SegmentHeader, segment_name, spare_name};
use crate::settings::{Durability, LogSettings};
use crate::storage::{OpenMode, Storage, StorageFile, write_full};
use crate::supply::{ReadySegment, Supply};

/// How often the helper looks at free space, and tries again after an error.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is needed to make segments for one log.
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
    /// Has the name of a segment, which is not durable yet.
    named: Option<ReadySegment<S::File>>,
}

impl<S: Storage> SegmentMaker<S> {
    pub(crate) fn new(storage: S, dir: String, identity: LogIdentity, settings: &LogSettings) -> Self {
        Self {
            storage,
            dir,
            identity,
            durable_writes: settings.durability == Durability::Strict,
            free_bytes_min: settings.free_bytes_min,
            next_number: 1,
            spares: Vec::new(),
            next_spare: 1,
            named: None,
        }
    }

    /// Makes one segment ready. `pause` is called after each MiB of zeros with the octets of it; false gives up.
    pub(crate) fn make(
        &mut self,
        pause: &mut dyn FnMut(usize) -> bool,
    ) -> io::Result<Option<ReadySegment<S::File>>> {
        if self.named.is_none() {
            if self.spares.is_empty() && !self.fill(pause)? {
                return Ok(None);
            }
            self.name_spare()?;
        }
        // Once more where it failed: a name that may be gone after a power cut is not used, and no segment is left out.
        self.storage.sync_dir(&self.dir)?;
        Ok(self.named.take())
    }

    /// Gives a spare its header, opens it and makes it the next segment.
    fn name_spare(&mut self) -> io::Result<()> {
        let Some(spare) = self.spares.last().copied() else { return Ok(()) };
        let header = SegmentHeader {
            identity: self.identity,
            number: self.next_number,
            salt: self.storage.random_u64(),
            created_at_us: self.storage.now_us(),
        };
        let from = format!("{}/{}", self.dir, spare_name(spare));
        let to = format!("{}/{}", self.dir, segment_name(header.number));
        let file = self.storage.open(&from, OpenMode::Plain)?;
        let mut block = AlignedBuffer::new(BLOCK_OCTETS);
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

    /// Writes one spare full of zeros.
    fn fill(&mut self, pause: &mut dyn FnMut(usize) -> bool) -> io::Result<bool> {
        let free = self.storage.free_bytes()?;
        if free < self.free_bytes_min.saturating_add(self.identity.segment_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next_spare;
        let temporary = format!("{}/fill-{number}.tmp", self.dir);
        self.next_spare += 1;
        let filled = self.fill_file(&temporary, pause);
        if !matches!(filled, Ok(true)) {
            // Gives the room back; the next try begins anew. That it may fail as well changes nothing.
            let _ = self.storage.unlink(&temporary);
            return filled;
        }
        self.storage.rename(&temporary, &format!("{}/{}", self.dir, spare_name(number)))?;
        self.spares.push(number);
        Ok(true)
    }

    fn fill_file(&self, name: &str, pause: &mut dyn FnMut(usize) -> bool) -> io::Result<bool> {
        let file = self.storage.open(name, OpenMode::Create)?;
        self.storage.allocate(&file, self.identity.segment_bytes)?;
        let zeros = AlignedBuffer::new(BATCH_OCTETS);
        let mut offset = 0;
        while offset < self.identity.segment_bytes {
            let octets = to_usize(self.identity.segment_bytes - offset).min(zeros.len());
            write_full(&file, &zeros[..octets], offset)?;
            offset += octets as u64;
            if !pause(octets) {
                return Ok(false);
            }
        }
        file.sync()?;
        Ok(true)
    }

    /// Turns a segment without records back into a spare.
    pub(crate) fn unpublish(&mut self, number: u64) -> io::Result<()> {
        let from = format!("{}/{}", self.dir, segment_name(number));
        let spare = self.next_spare;
        self.next_spare += 1;
        self.storage.rename(&from, &format!("{}/{}", self.dir, spare_name(spare)))?;
        self.storage.sync_dir(&self.dir)?;
        self.spares.push(spare);
        Ok(())
    }
}

/// A log that the helper serves.
struct Served<S: Storage> {
    maker: SegmentMaker<S>,
    supply: Arc<Supply<S::File>>,
    looked_at: Option<Instant>,
    failed_at: Option<Instant>,
}

/// What the helper shares with the data directory.
struct Shared<S: Storage> {
    stop: AtomicBool,
    incoming: Mutex<Vec<Served<S>>>,
}

/// The helper. Its thread stops in order when it is dropped.
pub(crate) struct Helper<S: Storage> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
    /// The work itself, when there is no thread for it.
    inline: Option<Work<S>>,
}

impl<S: Storage> Helper<S> {
    /// A helper with a thread of its own.
    pub(crate) fn start(bytes_per_second: u64) -> io::Result<Self> {
        let work = Work::new(bytes_per_second, LOOK_INTERVAL);
        let shared = Arc::clone(&work.shared);
        let thread =
            std::thread::Builder::new().name("inrush-spares".to_owned()).spawn(move || work.run())?;
        Ok(Self { shared, thread: Some(thread), inline: None })
    }

    /// A helper that works when it is told to: nothing happens by chance or by the clock.
    pub(crate) fn inline() -> Self {
        let work = Work::new(u64::MAX, Duration::ZERO);
        Self { shared: Arc::clone(&work.shared), thread: None, inline: Some(work) }
    }

    /// Does what there is to do, without a thread.
    pub(crate) fn work(&mut self) {
        if let Some(work) = &mut self.inline {
            while work.round() {}
        }
    }

    pub(crate) fn serve(&self, maker: SegmentMaker<S>, supply: Arc<Supply<S::File>>) {
        let served = Served { maker, supply, looked_at: None, failed_at: None };
        self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner).push(served);
        if let Some(thread) = self.thread() {
            thread.unpark();
        }
    }

    pub(crate) fn thread(&self) -> Option<Thread> {
        self.thread.as_ref().map(|handle| handle.thread().clone())
    }
}

impl<S: Storage> Drop for Helper<S> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in there has been printed; there is nothing left to stop.
            let _ = thread.join();
        }
        if let Some(work) = &mut self.inline {
            work.take_back();
        }
    }
}

/// What the helper does.
struct Work<S: Storage> {
    shared: Arc<Shared<S>>,
    logs: Vec<Served<S>>,
    bytes_per_second: u64,
    interval: Duration,
}

impl<S: Storage> Work<S> {
    fn new(bytes_per_second: u64, interval: Duration) -> Self {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), incoming: Mutex::new(Vec::new()) });
        Self { shared, logs: Vec::new(), bytes_per_second, interval }
    }

    fn run(mut self) {
        while !self.stopped() {
            if !self.round() && !self.stopped() {
                std::thread::park_timeout(self.interval);
            }
        }
        self.take_back();
    }

    /// Looks after every log once; whether a segment was made.
    fn round(&mut self) -> bool {
        let incoming =
            std::mem::take(&mut *self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner));
        self.logs.extend(incoming);
        let made = (0..self.logs.len()).filter(|index| self.serve(*index)).count();
        made > 0
    }

    /// Segments without records are spares again: the next start finds nothing to look through.
    fn take_back(&mut self) {
        for log in &mut self.logs {
            while let Some(segment) = log.supply.take_back() {
                if log.maker.unpublish(segment.header.number).is_err() {
                    break;
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Looks after one log; whether it made a segment.
    fn serve(&mut self, index: usize) -> bool {
        let stop = &self.shared.stop;
        let (rate, interval) = (self.bytes_per_second, self.interval);
        let log = &mut self.logs[index];
        let now = Instant::now();
        if log.looked_at.is_none_or(|at| now.duration_since(at) >= interval) {
            log.looked_at = Some(now);
            look(log);
        }
        let again = log.failed_at.is_none_or(|at| now.duration_since(at) >= interval);
        if !log.supply.wanted() || !again {
            return false;
        }
        let supplies: Vec<_> = self.logs.iter().map(|log| Arc::clone(&log.supply)).collect();
        let log = &mut self.logs[index];
        let mut pause = |octets: usize| {
            let stock = supplies.iter().map(|supply| (supply.ready(), supply.wanted_ready()));
            std::thread::park_timeout(pause_after(octets, rate, stock));
            !stop.load(Ordering::Acquire)
        };
        match log.maker.make(&mut pause) {
            Ok(Some(segment)) => {
                log.failed_at = None;
                log.supply.set_trouble(None);
                // There is room: the helper is the only one that fills the queue.
                let _ = log.supply.put(segment);
                look(log);
                true
            }
            Ok(None) => false,
            Err(error) => {
                log.failed_at = Some(Instant::now());
                log.supply.set_trouble(Some(reason(&error)));
                look(log);
                false
            }
        }
    }
}

/// How long to rest after writing `octets`, so that the rate is `rate` in octets a second times the square of the share of
/// segments that are missing. `stock` gives for each log how many are ready and how many should be.
fn pause_after(octets: usize, rate: u64, stock: impl Iterator<Item = (usize, usize)>) -> Duration {
    let (mut ready, mut wanted) = (0, 0);
    for (of_log, wanted_of_log) in stock {
        // Nothing ready: mail is being refused, or about to be; the disk may as well be busy.
        if of_log == 0 {
            return Duration::ZERO;
        }
        ready += of_log;
        wanted += wanted_of_log;
    }
    let missing = wanted.saturating_sub(ready).max(1) as f64 / wanted.max(1) as f64;
    Duration::from_secs_f64(octets as f64 / (rate as f64 * missing * missing))
}

/// Notes the free space, and whether it is below the mark.
fn look<S: Storage>(log: &Served<S>) {
    let Ok(free) = log.maker.storage.free_bytes() else { return };
    log.supply.set_free_bytes(free);
    if free < log.maker.free_bytes_min {
        log.supply.set_trouble(Some(NoSpace::FreeSpaceLow));
    } else if log.supply.trouble() == Some(NoSpace::FreeSpaceLow) {
        log.supply.set_trouble(None);
    }
}

fn reason(error: &io::Error) -> NoSpace {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => NoSpace::DiskFull,
        _ => NoSpace::SegmentFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn mebibytes_per_second(stock: &[(usize, usize)]) -> u128 {
        let pause = pause_after(1 << 20, 512 * MIB, stock.iter().copied());
        1_000_000_000 / pause.as_nanos()
    }

    #[test]
    fn the_less_is_missing_the_slower_it_fills() {
        assert_eq!(mebibytes_per_second(&[(1, 2), (2, 2)]), 32);
        assert_eq!(mebibytes_per_second(&[(1, 2), (1, 2)]), 128);
        assert_eq!(mebibytes_per_second(&[(1, 64)]), 496);
        assert_eq!(mebibytes_per_second(&[(2, 2), (2, 2)]), 32, "the last one is in the making");
    }

    #[test]
    fn a_log_without_a_ready_segment_is_not_kept_waiting() {
        assert_eq!(pause_after(1 << 20, MIB, [(2, 2), (0, 2)].into_iter()), Duration::ZERO);
    }
}
