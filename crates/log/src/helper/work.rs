//! What the helper does, round by round.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::housekeeping::Housekeeping;
use crate::error::NoSpace;
use crate::maker::{Filling, SegmentMaker};
use crate::retention::SealedSegment;
use crate::segment::LogIdentity;
use crate::settings::LogSettings;
use crate::status::StatusHandle;
use crate::storage::{Space, Storage};
use crate::supply::Supply;

/// What a log may take in while a segment is made for it, in octets.
const ROOM_LEAST: u64 = 32 << 20;
/// The longest rest between two pieces of zeros: meanwhile nothing else is looked after.
const REST_MAX: Duration = Duration::from_millis(100);
/// How often it is looked meanwhile whether a log needs a segment.
const REST_STEP: Duration = Duration::from_millis(5);

/// A log that the helper serves.
pub(super) struct Served<S: Storage> {
    pub(super) maker: SegmentMaker<S>,
    /// Sealed segments, oldest first.
    pub(super) sealed: Vec<SealedSegment>,
    /// The way to its appender; `None` for a log that is only drained.
    pub(super) supply: Option<Arc<Supply<S::File>>>,
    failed_at: Option<Instant>,
}

impl<S: Storage> Served<S> {
    pub(super) fn new(
        maker: SegmentMaker<S>,
        sealed: Vec<SealedSegment>,
        supply: Option<Arc<Supply<S::File>>>,
    ) -> Self {
        Self { maker, sealed, supply, failed_at: None }
    }

    /// Whether its appender has room for another segment.
    fn wants(&self) -> bool {
        self.supply.as_ref().is_some_and(|supply| supply.wanted())
    }
}

/// What the helper does.
pub(super) struct Work<S: Storage> {
    shared: Arc<Shared<S>>,
    storage: S,
    logs: Vec<Served<S>>,
    settings: LogSettings,
    interval: Duration,
    looked_at: Option<Instant>,
    housekeeping: Housekeeping,
    /// Spares were put aside.
    lent: bool,
}

impl<S: Storage> Work<S> {
    pub(super) fn new(storage: S, settings: LogSettings, interval: Duration) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            incoming: Mutex::new(Vec::new()),
            held: AtomicBool::new(false),
            lend: Mutex::default(),
            give_up: Mutex::default(),
            status: StatusHandle::default(),
        });
        let housekeeping = Housekeeping::start(&storage);
        Self {
            shared,
            storage,
            logs: Vec::new(),
            settings,
            interval,
            looked_at: None,
            housekeeping,
            lent: false,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared<S>> {
        Arc::clone(&self.shared)
    }

    pub(super) fn run(mut self) {
        while !self.stopped() {
            if !self.round() && !self.stopped() {
                std::thread::park_timeout(self.interval);
            }
        }
        self.take_back();
    }

    /// Looks after every log once; whether a segment was made, or one removed.
    pub(super) fn round(&mut self) -> bool {
        let incoming =
            std::mem::take(&mut *self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner));
        let newcomers = !incoming.is_empty();
        self.logs.extend(incoming);
        let give_up = self.shared.give_up.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = give_up {
            let given = self.logs.extract_if(.., |log| log.supply.is_none());
            // Whoever has asked waits for the answer.
            let _ = tell.send(given.map(|log| log.maker.dir).collect());
        }
        let lend = self.shared.lend.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = lend {
            self.lend();
            let _ = tell.send(());
        }
        self.reclaim();
        let due = self.looked_at.is_none_or(|at| at.elapsed() >= self.look_interval());
        if newcomers {
            self.housekeeping.set_clock(&self.storage, &self.logs);
        }
        if newcomers || due {
            self.look();
        }
        self.serve_all(|log| log.maker.has_spare())
            // What was begun is ended first: a part of a spare serves nobody.
            || self.serve_all(|log| log.maker.is_filling())
            || self.serve_all(|_| true)
            || self.stop_filling()
            || self.drop_spare()
    }

    /// Serves the logs that are `meant`; whether something came of it.
    fn serve_all(&mut self, meant: impl Fn(&Served<S>) -> bool) -> bool {
        (0..self.logs.len()).filter(|index| meant(&self.logs[*index]) && self.serve(*index)).count() > 0
    }

    /// Gives up what is being filled for a log that has all it wants by now; whether there was something.
    fn stop_filling(&mut self) -> bool {
        let log = self.logs.iter_mut().find(|log| log.maker.is_filling() && !log.wants());
        log.is_some_and(|log| log.maker.stop_filling().unwrap_or(false))
    }

    /// Sooner while a segment has to be filled: one that can be retired now serves as well, and costs nothing.
    fn look_interval(&self) -> Duration {
        let fills = self.logs.iter().any(|log| log.maker.spares.is_empty() && log.wants());
        if fills { self.interval / 10 } else { self.interval }
    }

    /// Segments without records are spares again: the next start finds nothing to look through.
    pub(super) fn take_back(&mut self) {
        for log in &mut self.logs {
            let Some(supply) = &log.supply else { continue };
            while let Some(segment) = supply.take_back() {
                if log.maker.unpublish(segment.header.number).is_err() {
                    break;
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Looks at the disk, the consumers and what may be retired.
    fn look(&mut self) {
        self.looked_at = Some(Instant::now());
        let Ok(space) = self.storage.space() else { return };
        for log in &self.logs {
            if let Some(supply) = &log.supply {
                watch(supply, space, &self.settings, &log.maker.identity);
            }
        }
        self.housekeeping.round(&self.storage, &mut self.logs, &self.settings, space, &self.shared.status);
    }

    /// Makes a segment for one log if it wants one; whether it did, or has not come to its end.
    fn serve(&mut self, index: usize) -> bool {
        let rate = self.settings.spare_fill_bytes_per_second;
        let log = &self.logs[index];
        let Some(supply) = log.supply.clone() else { return false };
        let again = log.failed_at.is_none_or(|at| at.elapsed() >= self.interval);
        let held = || self.shared.held.load(Ordering::Acquire);
        if !supply.wanted() || !again || held() && !Stock::of(&supply, &log.maker.identity).is_urgent() {
            return false;
        }
        self.take_spare(index);
        let look = self.looked_at.filter(|_| !self.interval.is_zero()).map(|at| at + self.look_interval());
        let shared = &self.shared;
        let served = self.logs.iter().filter_map(|log| Some((log.supply.clone()?, log.maker.identity)));
        let supplies: Vec<_> = served.collect();
        let written =
            || supplies.iter().fold(0_u64, |sum, (supply, _)| sum.wrapping_add(supply.durable().get()));
        let mut before = written();
        let mut filled = |octets: usize| {
            let stock = || supplies.iter().map(|(supply, log)| Stock::of(supply, log));
            let is_idle = std::mem::replace(&mut before, written()) == before;
            let rested = Instant::now() + pause_after(octets, rate, is_idle, stock());
            let goes_on = || {
                shared.stop.load(Ordering::Acquire)
                    || shared.held.load(Ordering::Acquire)
                    // A log that has come meanwhile has no segment ready at all.
                    || !shared.incoming.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
                    || stock().any(|log| log.is_hurried() || log.is_urgent())
            };
            // Each stop is short: a log may come to need a segment meanwhile. Not by parking: what wakes the thread is meant for its next round.
            while !goes_on() {
                let left = rested.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(REST_STEP));
            }
            if shared.stop.load(Ordering::Acquire) {
                Filling::Pause
            } else if stock().any(|log| log.is_urgent()) {
                Filling::Enough
            } else if shared.held.load(Ordering::Acquire) || look.is_some_and(|at| Instant::now() >= at) {
                Filling::Pause
            } else {
                Filling::GoOn
            }
        };
        let log = &mut self.logs[index];
        match log.maker.make(&mut filled) {
            Ok(Some(segment)) => {
                log.failed_at = None;
                tell(&supply, None);
                // There is room: the helper is the only one that fills the queue.
                let _ = supply.put(segment);
                self.watch_again(&supply, index);
                true
            }
            // Held, it can wait until that is over.
            Ok(None) => log.maker.is_filling() && !self.shared.held.load(Ordering::Acquire),
            Err(error) => {
                log.failed_at = Some(Instant::now());
                tell(&supply, Some(reason(&error)));
                self.watch_again(&supply, index);
                false
            }
        }
    }

    /// Puts spares aside for another process: those that wait, and one that is ready of each log that has another one.
    fn lend(&mut self) {
        for log in &mut self.logs {
            if let Some(supply) = &log.supply
                && supply.ready() > 1
                && let Some(next) = supply.take_back()
            {
                // Its number is left out. One that keeps its name is in nobody's way.
                let _ = log.maker.unpublish(next.header.number);
            }
            // What stays is not lent.
            let _ = log.maker.lend();
        }
        self.lent = true;
    }

    /// Takes back what was put aside, when that is over.
    fn reclaim(&mut self) {
        if !self.shared.held.load(Ordering::Acquire) && std::mem::take(&mut self.lent) {
            for log in &mut self.logs {
                // What stays behind is found again at the next start.
                let _ = log.maker.reclaim();
            }
        }
    }

    /// Has a log that needs a spare take that of a log that needs none any more, or one that it has lent itself.
    fn take_spare(&mut self, index: usize) {
        // What fails here is found again at the next start.
        if !self.logs[index].maker.spares.is_empty() || self.logs[index].maker.reclaim_one().unwrap_or(false)
        {
            return;
        }
        let segment_bytes = self.logs[index].maker.identity.segment_bytes;
        let has_one = |log: &Served<S>| {
            log.supply.is_none()
                && !log.maker.spares.is_empty()
                && log.maker.identity.segment_bytes == segment_bytes
        };
        if let Some(giver) = self.logs.iter().position(has_one)
            && let Ok([giver, taker]) = self.logs.get_disjoint_mut([giver, index])
        {
            // One that is lost on the way is found again at the next start; another one is made.
            let _ = giver.maker.give_spare(&mut taker.maker);
        }
    }

    /// Removes a spare of a log that is not written any more, when nobody is in need of one of its size; whether there was one.
    fn drop_spare(&mut self) -> bool {
        let wanted = self.logs.iter().filter(|log| log.wants());
        let wanted: Vec<u64> = wanted.map(|log| log.maker.identity.segment_bytes).collect();
        let is_unused = |log: &&mut Served<S>| {
            log.supply.is_none()
                && !log.maker.spares.is_empty()
                && !wanted.contains(&log.maker.identity.segment_bytes)
        };
        let unused = self.logs.iter_mut().find(is_unused);
        unused.is_some_and(|log| log.maker.drop_spare().is_ok())
    }

    fn watch_again(&self, supply: &Supply<S::File>, index: usize) {
        if let Ok(space) = self.storage.space() {
            watch(supply, space, &self.settings, &self.logs[index].maker.identity);
        }
    }
}

/// Compares what is left of the file system with the marks of a log: below a hard one it takes nothing until a segment more than that is free, below the
/// soft one, twice as high, space is low.
fn watch<F>(supply: &Supply<F>, space: Space, settings: &LogSettings, log: &LogIdentity) {
    let settings = settings.of(log.kind, log.log);
    let segment_bytes = log.segment_bytes;
    let Space { free_bytes, free_inodes } = space;
    let before = supply.trouble();
    let mark = |mark: u64, refused: NoSpace, slack: u64| {
        if before == Some(refused) { mark.saturating_add(slack) } else { mark }
    };
    let trouble = if free_bytes < mark(settings.free_bytes_min, NoSpace::FreeSpaceLow, segment_bytes) {
        Some(NoSpace::FreeSpaceLow)
    } else if free_inodes < mark(settings.free_inodes_min, NoSpace::FreeInodesLow, 1) {
        Some(NoSpace::FreeInodesLow)
    } else {
        before.filter(|before| !is_mark(*before))
    };
    supply.set_trouble(trouble);
    let low = free_bytes < settings.free_bytes_min.saturating_mul(2)
        || free_inodes < settings.free_inodes_min.saturating_mul(2);
    supply.set_low(low);
}

/// Tells how the making of segments goes. What a mark says stands until the space is looked at again: it has a way back of its own.
fn tell<F>(supply: &Supply<F>, trouble: Option<NoSpace>) {
    if !supply.trouble().is_some_and(is_mark) {
        supply.set_trouble(trouble);
    }
}

fn is_mark(trouble: NoSpace) -> bool {
    matches!(trouble, NoSpace::FreeSpaceLow | NoSpace::FreeInodesLow)
}

/// How a log stands for segments.
struct Stock {
    ready: usize,
    wanted: usize,
    /// Octets that its open segment has room for.
    room: u64,
    segment_bytes: u64,
}

impl Stock {
    fn of<F>(supply: &Supply<F>, log: &LogIdentity) -> Self {
        Self {
            ready: supply.ready(),
            wanted: supply.wanted_ready(),
            room: log.segment_bytes - supply.durable().offset(log.segment_bytes),
            segment_bytes: log.segment_bytes,
        }
    }

    /// Mail is being refused, or about to be.
    fn is_urgent(&self) -> bool {
        self.ready == 0 && self.room < self.segment_bytes / 2
    }

    /// The next segment should be made without a rest.
    fn is_hurried(&self) -> bool {
        self.ready == 0 && self.room < ROOM_LEAST
    }
}

/// How long to rest after writing `octets`, so that the rate is `rate` in octets a second while all segments are missing or no mail comes, and falls with the square
/// of the share that is: writes of mail wait behind those of zeros.
fn pause_after(octets: usize, rate: u64, is_idle: bool, stock: impl Iterator<Item = Stock>) -> Duration {
    let (mut ready, mut wanted) = (0, 0);
    for log in stock {
        ready += log.ready;
        wanted += log.wanted;
    }
    let missing = if is_idle { wanted } else { wanted.saturating_sub(ready).max(1) };
    let missing = missing as f64 / wanted.max(1) as f64;
    Duration::from_secs_f64(octets as f64 / (rate as f64 * missing * missing)).min(REST_MAX)
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
    use crate::meta::LogMeta;
    use crate::storage::OpenMode;
    use crate::storage::sim::SimStorage;

    const MIB: u64 = 1 << 20;

    /// A log that wants one segment; nothing was written to it.
    fn log(storage: &SimStorage, number: u8, settings: &LogSettings) -> (Served<SimStorage>, Arc<Wanted>) {
        let (uuid, kind, segment_bytes) = ([1; 16], crate::LogKind::Arrival, settings.segment_bytes);
        let identity = LogIdentity { uuid, kind, log: number, node: 0, segment_bytes };
        let meta = LogMeta { identity, generation: 1, created_at_us: 0, next_number_min: 1 };
        let dir = format!("arrival-{number:02}");
        storage.create_dir(&dir).expect("a simulated disk");
        let supply = Arc::new(Supply::new(1, Box::new(|| ())));
        let maker = SegmentMaker::new(storage.clone(), dir, meta, settings);
        (Served::new(maker, Vec::new(), Some(Arc::clone(&supply))), supply)
    }

    type Wanted = Supply<<SimStorage as Storage>::File>;

    fn small() -> LogSettings {
        LogSettings { segment_bytes: 4 * MIB, free_bytes_min: 0, ..LogSettings::default() }
    }

    fn files(storage: &SimStorage, dir: &str, begin: &str) -> Vec<String> {
        let names = storage.list(dir).expect("a simulated disk");
        names.into_iter().filter(|name| name.starts_with(begin)).collect()
    }

    #[test]
    fn others_are_looked_after_while_a_spare_is_filled() {
        let storage = SimStorage::new(1);
        let mut work = Work::new(storage.clone(), small(), Duration::from_nanos(1));
        let ((first, wanted), (mut second, also_wanted)) =
            (log(&storage, 0, &small()), log(&storage, 1, &small()));
        work.logs.push(first);
        assert!(work.round(), "there is more to do");
        // As if a segment of it had been retired.
        let made = second.maker.make(&mut |_| Filling::GoOn).expect("a simulated disk").expect("a segment");
        second.maker.unpublish(made.header.number).expect("a simulated disk");
        work.logs.push(second);
        assert!(work.round());
        assert_eq!((wanted.ready(), also_wanted.ready()), (0, 1), "what is there serves at once");
        for inodes in [3000, 2000] {
            storage.set_free_inodes(inodes);
            assert!(work.round());
            assert!(work.logs[0].maker.is_filling() && wanted.ready() == 0);
            assert_eq!(work.shared.status.lock().free_inodes, inodes);
        }
        assert!(work.round());
        assert_eq!((wanted.ready(), work.logs[0].maker.is_filling()), (1, false));
        assert!(!work.round(), "nothing is left to do");
        assert!(files(&storage, "arrival-00", "fill-").is_empty());
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_filled_to_its_end() {
        let storage = SimStorage::new(2);
        let mut work = Work::new(storage.clone(), small(), Duration::from_nanos(1));
        let (log, wanted) = log(&storage, 0, &small());
        work.logs.push(log);
        assert!(work.round());
        assert_eq!(files(&storage, "arrival-00", "fill-").len(), 1);
        // A segment that was retired meanwhile, under the name of a spare.
        let file = storage.open("arrival-00/spare-9.seg", OpenMode::Create).expect("a simulated disk");
        storage.allocate(&file, 4 * MIB).expect("a simulated disk");
        work.logs[0].maker.spares.push(9);
        assert!(work.round());
        assert_eq!(wanted.ready(), 1);
        while work.round() {}
        assert!(files(&storage, "arrival-00", "fill-").is_empty());
        assert!(files(&storage, "arrival-00", "spare-").is_empty());
    }

    fn stock(ready: usize, wanted: usize) -> Stock {
        Stock { ready, wanted, room: 128 * MIB, segment_bytes: 128 * MIB }
    }

    fn mebibytes_per_second(stock: impl IntoIterator<Item = Stock>) -> u128 {
        let pause = pause_after(1 << 20, 128 * MIB, false, stock.into_iter());
        1_000_000_000 / pause.as_nanos()
    }

    #[test]
    fn the_less_is_missing_the_slower_it_fills() {
        assert_eq!(
            mebibytes_per_second([stock(1, 2), stock(2, 2)]),
            10,
            "no rest is longer than a tenth of a second"
        );
        assert_eq!(mebibytes_per_second([stock(1, 2), stock(1, 2)]), 32);
        assert_eq!(mebibytes_per_second([stock(1, 64)]), 124);
        assert_eq!(mebibytes_per_second([stock(0, 2), stock(0, 2)]), 128);
        assert_eq!(mebibytes_per_second([stock(2, 2), stock(2, 2)]), 10, "the last one is in the making");
        let idle = pause_after(1 << 20, 128 * MIB, true, [stock(2, 2), stock(1, 2)].into_iter());
        assert_eq!(1_000_000_000 / idle.as_nanos(), 128);
    }

    #[test]
    fn who_has_nothing_ready_is_hurried_by_what_room_there_is() {
        let with = |ready: usize, room: u64, segment: u64| {
            let log = Stock { room: room * MIB, segment_bytes: segment * MIB, ..stock(ready, 2) };
            (log.is_hurried(), log.is_urgent())
        };
        assert_eq!(with(0, 128, 256), (false, false));
        assert_eq!(with(0, 127, 256), (false, true));
        assert_eq!(with(1, 1, 256), (false, false));
        assert_eq!(with(0, 3, 4), (true, false), "a small one is full soon");
        assert_eq!(with(0, 1, 4), (true, true));
    }

    #[test]
    fn each_mark_has_a_soft_side_a_hard_side_and_a_way_back() {
        let settings =
            LogSettings { free_bytes_min: 100 * MIB, free_inodes_min: 10, ..LogSettings::default() };
        let supply: Supply<()> = Supply::new(1, Box::new(|| ()));
        let at = |mebibytes: u64, free_inodes| {
            let space = Space { free_bytes: mebibytes * MIB, free_inodes };
            let (uuid, kind, segment_bytes) = ([0; 16], crate::LogKind::Arrival, 8 * MIB);
            watch(&supply, space, &settings, &LogIdentity { uuid, kind, log: 0, node: 0, segment_bytes });
            (supply.is_low(), supply.trouble())
        };
        assert_eq!(at(200, 20), (false, None));
        assert_eq!(at(199, 20), (true, None));
        assert_eq!(at(99, 20), (true, Some(NoSpace::FreeSpaceLow)));
        tell(&supply, None);
        assert_eq!(at(107, 20), (true, Some(NoSpace::FreeSpaceLow)), "not before a segment fits");
        assert_eq!(at(108, 20), (true, None));
        assert_eq!(at(200, 19), (true, None));
        assert_eq!(at(200, 9), (true, Some(NoSpace::FreeInodesLow)));
        assert_eq!(at(200, 10), (true, Some(NoSpace::FreeInodesLow)));
        assert_eq!(at(200, 11), (true, None));
        assert_eq!(at(99, 9), (true, Some(NoSpace::FreeSpaceLow)));
        assert_eq!(at(200, 20), (false, None));
    }
}
