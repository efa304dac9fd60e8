//! How a run went over time: counters and latencies in slices of equal width.
//!
//! ```text
//! start ─ slice 0 ─┬─ slice 1 ─┬─ … ─┬─ the slice at hand (dense cells)
//!                  └─ done: counters and sparse cells
//! ```
//! A slice is 100 ms wide at first. When there are [`SLICES_MAX`] of them two become one, so memory stays bounded however long the run,
//! and no rate or duration must be known before. Latencies lie in the slice of their end, planned starts in that of their planned time,
//! also when they were never sent. The warm-up is in the series; [`Series::lead`] says how long it was.

use std::time::{Duration, Instant};

use crate::cells::{CELLS, Sparse, cell_of};

/// Width of a slice at the start of a run, nanoseconds.
const SLICE_NANOSECONDS: u64 = 100_000_000;
/// At so many slices two become one.
pub const SLICES_MAX: usize = 1200;

/// Counters of a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceCounts {
    /// Open loop: planned starts.
    pub planned: u64,
    /// Messages begun.
    pub started: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Octets of these.
    pub octets: u64,
    /// Messages that came to nothing, and recipients refused.
    pub errors: u64,
}

impl SliceCounts {
    fn add(&mut self, other: &Self) {
        self.planned += other.planned;
        self.started += other.started;
        self.acknowledged += other.acknowledged;
        self.octets += other.octets;
        self.errors += other.errors;
    }
}

/// The slices of one worker, or of the run.
#[derive(Clone, Debug)]
pub struct Series {
    start: Instant,
    lead: Duration,
    slice_nanoseconds: u64,
    counts: Vec<SliceCounts>,
    /// Total latencies of the slices that are done.
    latencies: Vec<Sparse>,
    /// Those of slice `current_index`.
    current: Box<[u32; CELLS]>,
    current_index: usize,
}

impl Series {
    /// No slice yet. `lead` is the warm-up: the measured window begins so long after `start`.
    #[must_use]
    pub fn new(start: Instant, lead: Duration) -> Self {
        Self {
            start,
            lead,
            slice_nanoseconds: SLICE_NANOSECONDS,
            // Growing while mail flows would be an allocation in a message's way.
            counts: Vec::with_capacity(SLICES_MAX),
            latencies: Vec::with_capacity(SLICES_MAX),
            current: Box::new([0; CELLS]),
            current_index: 0,
        }
    }

    /// A message was begun at `now`; in the open loop it was planned for `planned`.
    pub fn begun(&mut self, now: Instant, planned: Option<Instant>) {
        self.at(now).started += 1;
        if let Some(planned) = planned {
            self.planned(planned);
        }
    }

    /// A start was planned.
    pub fn planned(&mut self, planned: Instant) {
        self.at(planned).planned += 1;
    }

    /// A message was acknowledged. None: its latency is not the server's.
    pub fn acknowledged(&mut self, now: Instant, total: Option<Duration>, octets: u64) {
        let counts = self.at(now);
        counts.acknowledged += 1;
        counts.octets += octets;
        let Some(total) = total else { return };
        let index = self.index(now);
        if index > self.current_index {
            self.finish_current(index);
        }
        let nanoseconds = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let count = &mut self.current[cell_of(nanoseconds)];
        *count = count.saturating_add(1);
    }

    /// So many errors.
    pub fn errors(&mut self, now: Instant, errors: u64) {
        self.at(now).errors += errors;
    }

    /// Time from the start of the first slice to the measured window.
    #[must_use]
    pub fn lead(&self) -> Duration {
        self.lead
    }

    /// Width of a slice.
    #[must_use]
    pub fn slice(&self) -> Duration {
        Duration::from_nanos(self.slice_nanoseconds)
    }

    /// Counters of all slices, first to last.
    #[must_use]
    pub fn counts(&self) -> &[SliceCounts] {
        &self.counts
    }

    /// Total latencies of a slice.
    #[must_use]
    pub fn latencies(&self, slice: usize) -> Sparse {
        let mut latencies = self.latencies.get(slice).cloned().unwrap_or_default();
        if slice == self.current_index {
            latencies.add(&Sparse::take(&mut self.current.clone()));
        }
        latencies
    }

    /// Adds the slices of another worker of the same run.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.slice_nanoseconds < self.slice_nanoseconds {
            other.coarsen();
        }
        while self.slice_nanoseconds < other.slice_nanoseconds {
            self.coarsen();
        }
        other.finish_current(other.counts.len());
        self.finish_current(self.counts.len().max(other.counts.len()));
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), SliceCounts::default());
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.add(theirs);
        }
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize(other.latencies.len(), Sparse::default());
        }
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.add(theirs);
        }
    }

    /// Counters of the slice of a moment.
    fn at(&mut self, moment: Instant) -> &mut SliceCounts {
        let mut index = self.index(moment);
        while index >= SLICES_MAX {
            self.coarsen();
            index = self.index(moment);
        }
        if index >= self.counts.len() {
            self.counts.resize(index + 1, SliceCounts::default());
        }
        &mut self.counts[index]
    }

    fn index(&self, moment: Instant) -> usize {
        let since = moment.saturating_duration_since(self.start).as_nanos();
        usize::try_from(since / u128::from(self.slice_nanoseconds)).unwrap_or(usize::MAX)
    }

    /// Puts the slice at hand behind the others; `index` is the next at hand.
    fn finish_current(&mut self, index: usize) {
        let done = Sparse::take(&mut self.current);
        if self.latencies.len() > self.current_index {
            // Only after a merge of two slices, when the slice at hand had a finished half.
            self.latencies[self.current_index].add(&done);
        } else {
            self.latencies.resize(self.current_index, Sparse::default());
            self.latencies.push(done);
        }
        self.current_index = index.max(self.current_index);
    }

    /// Makes one slice of two.
    fn coarsen(&mut self) {
        self.finish_current(self.current_index);
        self.slice_nanoseconds *= 2;
        let halves = self.counts.len();
        for index in 0..halves.div_ceil(2) {
            let mut sum = self.counts[2 * index];
            if let Some(second) = self.counts.get(2 * index + 1) {
                sum.add(second);
            }
            self.counts[index] = sum;
        }
        self.counts.truncate(halves.div_ceil(2));
        let halves = self.latencies.len();
        for index in 0..halves.div_ceil(2) {
            let mut sum = std::mem::take(&mut self.latencies[2 * index]);
            if let Some(second) = self.latencies.get(2 * index + 1) {
                sum.add(second);
            }
            self.latencies[index] = sum;
        }
        self.latencies.truncate(halves.div_ceil(2));
        self.current_index /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn latencies(series: &Series) -> u64 {
        (0..series.counts().len()).map(|slice| series.latencies(slice).histogram().len()).sum()
    }

    #[test]
    fn events_lie_in_their_slices() {
        let start = Instant::now();
        let mut series = Series::new(start, Duration::ZERO);
        series.begun(after(start, 210), Some(after(start, 50)));
        series.acknowledged(after(start, 230), Some(Duration::from_millis(180)), 1000);
        series.acknowledged(after(start, 310), Some(Duration::from_millis(10)), 500);
        series.errors(after(start, 99), 3);
        assert_eq!(series.counts().len(), 4);
        assert_eq!(series.counts()[0], SliceCounts { planned: 1, errors: 3, ..SliceCounts::default() });
        assert_eq!(
            series.counts()[2],
            SliceCounts { started: 1, acknowledged: 1, octets: 1000, ..SliceCounts::default() }
        );
        assert!(series.latencies(0).is_empty() && series.latencies(1).is_empty());
        let third = series.latencies(2).histogram();
        assert!((178_000_000..=182_000_000).contains(&third.max()), "{}", third.max());
        assert_eq!(series.latencies(3).histogram().len(), 1);
    }

    #[test]
    fn slices_widen_and_lose_nothing() {
        let start = Instant::now();
        let mut series = Series::new(start, Duration::ZERO);
        for n in 0..5000 {
            series.begun(after(start, n * 100), None);
            series.acknowledged(after(start, n * 100 + 1), Some(Duration::from_millis(1)), 1);
        }
        assert_eq!(series.slice(), Duration::from_millis(800));
        assert_eq!(series.counts().len(), 625);
        assert!(series.counts().iter().all(|counts| counts.started == 8 && counts.acknowledged == 8));
        assert!((0..625).all(|slice| series.latencies(slice).histogram().len() == 8));
    }

    #[test]
    fn cores_of_different_width_add() {
        let start = Instant::now();
        let mut short = Series::new(start, Duration::ZERO);
        short.acknowledged(after(start, 150), Some(Duration::from_millis(1)), 1);
        let mut long = Series::new(start, Duration::ZERO);
        for n in 0..1500 {
            long.acknowledged(after(start, n * 100), Some(Duration::from_millis(1)), 1);
        }
        for (mut one, other) in [(short.clone(), &long), (long.clone(), &short)] {
            one.merge(other);
            assert_eq!(one.slice(), Duration::from_millis(200));
            assert_eq!((one.counts().len(), one.counts()[0].acknowledged, latencies(&one)), (750, 3, 1501));
        }
    }
}
