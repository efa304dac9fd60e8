//! The cells of one core: one writer, any number of readers.
//!
//! A core adds with a relaxed load and a relaxed store. That is right only while no second thread writes the same cell; the
//! type keeps it so: cells are written through [`CoreWriter`] alone, which cannot leave its thread and is given out once.
//! All cells of a core lie in lines of their own (128 octets: two of 64, which the prefetcher of x86 takes in pairs), so that
//! two cores never write the same line; a scrape only reads them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use inrush_log::MessageId;

use crate::exemplars::{Exemplar, Exemplars};
use crate::histogram::{CELLS, Distribution, cell_of};
use crate::table::{COUNTER_CELLS, CounterKey, Engine, Gauge, Histogram, Level, Phase, Resource};
use crate::talkers::CoreTalkers;

/// Cells that fit one line.
const LINE: usize = 16;
const _: () = assert!(CELLS.is_multiple_of(LINE), "each histogram begins with a line of its own");
/// Cells whose number is known to the compiler: counters, gauges, levels of resources, the engine.
const FIXED: usize = PRESSURE_CELLS + Resource::ALL.len() + 1;
const PRESSURE_CELLS: usize = COUNTER_CELLS + Gauge::ALL.len();
const ENGINE_CELL: usize = FIXED - 1;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// Lines for `cells` cells, all zero.
fn lines(cells: usize) -> Box<[Line]> {
    (0..cells.div_ceil(LINE)).map(|_| Line::default()).collect()
}

/// What one core counts. Reading is open to everyone; writing needs the core's [`CoreWriter`].
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    fixed: [Line; FIXED.div_ceil(LINE)],
    /// Replies by index of the reply table, then commands by index of the verbs, then connections by listener.
    named: Box<[Line]>,
    histograms: Box<[Line]>,
    exemplars: Exemplars,
    talkers: CoreTalkers,
    replies: usize,
    verbs: usize,
    listeners: usize,
    taken: AtomicBool,
}

impl CoreMetrics {
    /// All zero; `began` is when the first window of the talkers begins, the same for all cores.
    pub(crate) fn new(replies: usize, verbs: usize, listeners: usize, began: Instant) -> Self {
        Self {
            fixed: std::array::from_fn(|_| Line::default()),
            named: lines(replies + verbs + listeners),
            histograms: lines(Histogram::COUNT * CELLS),
            exemplars: Exemplars::new(),
            talkers: CoreTalkers::new(began),
            replies,
            verbs,
            listeners,
            taken: AtomicBool::new(false),
        }
    }

    /// The only writer of these cells, for the thread that calls; `None` when it has been given out before.
    #[must_use]
    pub fn writer(self: &Arc<Self>) -> Option<CoreWriter> {
        // Once in the life of a core, so an exchange costs nothing; it is what makes all later writes free of one.
        (!self.taken.swap(true, Relaxed))
            .then(|| CoreWriter { core: Arc::clone(self), thread_bound: PhantomData })
    }

    /// Value of a counter.
    #[must_use]
    pub fn counter(&self, key: impl CounterKey) -> u64 {
        self.fixed(key.cell()).load(Relaxed)
    }

    /// Value of a gauge.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.fixed(COUNTER_CELLS + gauge as usize).load(Relaxed)
    }

    /// How short a resource has run on this core.
    #[must_use]
    pub fn pressure(&self, resource: Resource) -> Level {
        Level::of(self.fixed(PRESSURE_CELLS + resource as usize).load(Relaxed))
    }

    /// The engine, once the core has said which.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        match self.fixed(ENGINE_CELL).load(Relaxed) {
            1 => Some(Engine::IoUring),
            2 => Some(Engine::Epoll),
            _ => None,
        }
    }

    /// Replies queued of the reply at `index` of the reply table.
    #[must_use]
    pub fn replies(&self, index: usize) -> u64 {
        debug_assert!(index < self.replies);
        self.named(index).load(Relaxed)
    }

    /// Commands received of the verb at `index`.
    #[must_use]
    pub fn commands(&self, index: usize) -> u64 {
        debug_assert!(index < self.verbs);
        self.named(self.replies + index).load(Relaxed)
    }

    /// Connections accepted by the listener at `index`.
    #[must_use]
    pub fn accepted(&self, index: usize) -> u64 {
        debug_assert!(index < self.listeners);
        self.named(self.replies + self.verbs + index).load(Relaxed)
    }

    /// Adds the values of `histogram` to `distribution`.
    pub fn collect(&self, histogram: Histogram, distribution: &mut Distribution) {
        let first = histogram.index() * CELLS / LINE;
        let lines = &self.histograms[first..first + CELLS / LINE];
        distribution.add_all(lines.iter().flat_map(|line| &line.0).map(|count| count.load(Relaxed)));
    }

    /// A message whose value fell into this classic bucket of a phase.
    #[must_use]
    pub(crate) fn exemplar(&self, phase: Phase, bucket: usize) -> Option<Exemplar> {
        self.exemplars.of(phase, bucket)
    }

    pub(crate) fn talkers(&self) -> &CoreTalkers {
        &self.talkers
    }

    fn fixed(&self, index: usize) -> &AtomicU64 {
        at(&self.fixed, index)
    }

    fn named(&self, index: usize) -> &AtomicU64 {
        at(&self.named, index)
    }
}

#[inline]
fn at(lines: &[Line], index: usize) -> &AtomicU64 {
    &lines[index / LINE].0[index % LINE]
}

/// A relaxed load and a relaxed store: exact because only this thread writes.
#[inline]
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Writes the cells of one core. Stays on the thread that took it; clones share the cells.
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>(_: T) {}
/// fn leave_the_thread(writer: inrush_metrics::CoreWriter) { needs_send(writer) }
/// ```
#[derive(Clone, Debug)]
pub struct CoreWriter {
    core: Arc<CoreMetrics>,
    thread_bound: PhantomData<*const ()>,
}

impl CoreWriter {
    /// One more.
    #[inline]
    pub fn count(&self, key: impl CounterKey) {
        self.add(key, 1);
    }

    /// `by` more.
    #[inline]
    pub fn add(&self, key: impl CounterKey, by: u64) {
        bump(self.core.fixed(key.cell()), by);
    }

    /// Takes over a total that is counted elsewhere on this core; it must never go down.
    #[inline]
    pub fn mirror(&self, key: impl CounterKey, total: u64) {
        let cell = self.core.fixed(key.cell());
        debug_assert!(cell.load(Relaxed) <= total, "a counter went down");
        cell.store(total, Relaxed);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.core.fixed(COUNTER_CELLS + gauge as usize).store(value, Relaxed);
    }

    /// Raises a gauge.
    #[inline]
    pub fn raise(&self, gauge: Gauge, by: u64) {
        bump(self.core.fixed(COUNTER_CELLS + gauge as usize), by);
    }

    /// Lowers a gauge.
    #[inline]
    pub fn lower(&self, gauge: Gauge, by: u64) {
        let cell = self.core.fixed(COUNTER_CELLS + gauge as usize);
        let value = cell.load(Relaxed);
        debug_assert!(value >= by, "a gauge went below zero");
        cell.store(value.saturating_sub(by), Relaxed);
    }

    /// Records one value: microseconds for durations, else octets or records.
    #[inline]
    pub fn record(&self, histogram: Histogram, value: u64) {
        bump(at(&self.core.histograms, histogram.index() * CELLS + cell_of(value)), 1);
    }

    /// Records the duration of a phase of the message `id` in microseconds; `at_us` is now, in µs since 1970.
    #[inline]
    pub fn record_message(&self, phase: Phase, microseconds: u64, id: MessageId, at_us: u64) {
        self.record(Histogram::Phase(phase), microseconds);
        self.core.exemplars.note(phase, microseconds, id, at_us);
    }

    /// Sets how short a resource has run.
    pub fn pressure(&self, resource: Resource, level: Level) {
        self.core.fixed(PRESSURE_CELLS + resource as usize).store(level as u64, Relaxed);
    }

    /// Says which engine this core runs on.
    pub fn engine(&self, engine: Engine) {
        let value = match engine {
            Engine::IoUring => 1,
            Engine::Epoll => 2,
        };
        self.core.fixed(ENGINE_CELL).store(value, Relaxed);
    }

    /// One more reply; `index` is its place in the reply table.
    #[inline]
    pub fn reply(&self, index: usize) {
        debug_assert!(index < self.core.replies);
        bump(self.core.named(index), 1);
    }

    /// One more command; `index` is the place of its verb.
    #[inline]
    pub fn command(&self, index: usize) {
        debug_assert!(index < self.core.verbs);
        bump(self.core.named(self.core.replies + index), 1);
    }

    /// One more connection of the listener at `index`.
    #[inline]
    pub fn accepted(&self, index: usize) {
        debug_assert!(index < self.core.listeners);
        bump(self.core.named(self.core.replies + self.core.verbs + index), 1);
    }

    /// The cells, for reading.
    #[must_use]
    pub fn cells(&self) -> &Arc<CoreMetrics> {
        &self.core
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::table::{
        ConnectionRefusal, Counter, Family, LogRefusal, Login, Phase, ProxyConnection, ProxyFailure, Retired,
        SessionEnd, Timeout, TlsFailure, TlsVersion,
    };

    #[test]
    fn cells_of_all_keys_are_disjoint() {
        let mut cells: Vec<usize> = Counter::ALL.iter().map(|key| key.cell()).collect();
        cells.extend(ConnectionRefusal::ALL.iter().map(|key| key.cell()));
        cells.extend(SessionEnd::ALL.iter().map(|key| key.cell()));
        cells.extend(Timeout::ALL.iter().map(|key| key.cell()));
        cells.extend(LogRefusal::ALL.iter().map(|key| key.cell()));
        cells.extend(ProxyConnection::ALL.iter().map(|key| key.cell()));
        cells.extend(ProxyFailure::ALL.iter().map(|key| key.cell()));
        cells.extend(Login::ALL.iter().map(|key| key.cell()));
        cells.extend(TlsVersion::ALL.iter().map(|key| key.cell()));
        cells.extend(TlsFailure::ALL.iter().map(|key| key.cell()));
        cells.extend(Retired::ALL.iter().map(|key| key.cell()));
        cells.sort_unstable();
        assert_eq!(cells, (0..COUNTER_CELLS).collect::<Vec<_>>());
    }

    #[test]
    fn lines_are_not_shared() {
        assert_eq!(size_of::<Line>(), 128);
        let core = CoreMetrics::new(3, 2, 1, Instant::now());
        assert_eq!((&raw const core.fixed).addr() % 128, 0);
        assert_eq!(core.named.as_ptr().addr() % 128, 0);
        assert_eq!(core.histograms.as_ptr().addr() % 128, 0);
    }

    #[test]
    fn the_writer_is_given_out_once() {
        let core = Arc::new(CoreMetrics::new(1, 1, 1, Instant::now()));
        let writer = core.writer().unwrap();
        assert!(core.writer().is_none());
        drop(writer);
        assert!(core.writer().is_none());
    }

    #[test]
    fn each_write_moves_its_own_cell() {
        let core = Arc::new(CoreMetrics::new(2, 2, 2, Instant::now()));
        let writer = core.writer().unwrap();
        writer.count(Counter::MessagesAccepted);
        writer.add(SessionEnd::Stopping, 4);
        writer.mirror(Counter::LogBatches, 9);
        writer.raise(Gauge::ConnectionsOpen, 3);
        writer.lower(Gauge::ConnectionsOpen, 1);
        writer.set(Gauge::LogSparesReady, 7);
        writer.engine(Engine::Epoll);
        writer.pressure(Resource::Memory, Level::Soft);
        writer.pressure(Resource::LogSpace, Level::Hard);
        writer.reply(1);
        writer.command(0);
        writer.accepted(1);
        writer.record(Histogram::Phase(Phase::Total), 300);
        writer.record(Histogram::LogBatchRecords, 1);
        assert_eq!(core.counter(Counter::MessagesAccepted), 1);
        assert_eq!(core.counter(SessionEnd::Stopping), 4);
        assert_eq!(core.counter(Counter::LogBatches), 9);
        let others = Counter::ALL.iter().map(|key| core.counter(*key)).sum::<u64>();
        assert_eq!(others, 10);
        assert_eq!(core.gauge(Gauge::ConnectionsOpen), 2);
        assert_eq!(core.gauge(Gauge::LogSparesReady), 7);
        assert_eq!(core.engine(), Some(Engine::Epoll));
        let pressed = Resource::ALL.iter().filter(|resource| core.pressure(**resource) != Level::Calm);
        assert_eq!(pressed.copied().collect::<Vec<_>>(), [Resource::Memory, Resource::LogSpace]);
        assert_eq!(core.pressure(Resource::LogSpace), Level::Hard);
        assert_eq!([core.replies(0), core.replies(1)], [0, 1]);
        assert_eq!([core.commands(0), core.commands(1)], [1, 0]);
        assert_eq!([core.accepted(0), core.accepted(1)], [0, 1]);
        let mut total = Distribution::default();
        core.collect(Histogram::Phase(Phase::Total), &mut total);
        assert_eq!(total.count(), 1);
        assert!((total.sum() - 301.0).abs() < 2.0);
        let mut commit = Distribution::default();
        core.collect(Histogram::LogCommit, &mut commit);
        assert_eq!((commit.count(), commit.sum().to_bits()), (0, 0));
    }

    #[test]
    fn a_reader_sees_a_counter_only_grow() {
        let core = Arc::new(CoreMetrics::new(1, 1, 1, Instant::now()));
        let reader = Arc::clone(&core);
        let write = std::thread::spawn(move || {
            let writer = core.writer().unwrap();
            for _ in 0..1_000_000 {
                writer.count(Counter::ReceivedBytes);
            }
        });
        let mut last = 0;
        while !write.is_finished() {
            let now = reader.counter(Counter::ReceivedBytes);
            assert!(now >= last);
            last = now;
        }
        write.join().unwrap();
        assert_eq!(reader.counter(Counter::ReceivedBytes), 1_000_000);
    }
}
