//! What a worker shows while it runs: cells that it alone writes and the display reads. No lock, no allocation, no read-modify-write.
//!
//! Only there when somebody looks: without the full display a worker does not touch any of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cells::{CELLS, cell_of};
use crate::record::Phase;

/// Different causes that are told apart; the others are in the last one.
const CAUSES: usize = 32;

/// Latencies by phase and errors by cause of one core.
#[derive(Debug)]
pub struct LiveCells {
    phases: Vec<[AtomicU64; CELLS]>,
    causes: [(OnceLock<(&'static str, u16)>, AtomicU64); CAUSES],
}

impl LiveCells {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phases: Phase::ALL.iter().map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
            causes: std::array::from_fn(|_| Default::default()),
        }
    }

    /// Books the duration of a phase. By the worker only.
    pub fn time(&self, phase: Phase, nanoseconds: u64) {
        increment(&self.phases[phase as usize][cell_of(nanoseconds)]);
    }

    /// Books a cause. By the worker only.
    pub fn cause(&self, place: &'static str, code: u16) {
        for (index, (cause, count)) in self.causes.iter().enumerate() {
            if *cause.get_or_init(|| (place, code)) == (place, code) || index + 1 == CAUSES {
                return increment(count);
            }
        }
    }

    /// Adds what was booked of a phase to `sums`.
    pub fn add_phase(&self, phase: Phase, sums: &mut [u64]) {
        for (sum, cell) in sums.iter_mut().zip(&self.phases[phase as usize]) {
            *sum += cell.load(Relaxed);
        }
    }

    /// Causes with their counts.
    pub fn causes(&self) -> impl Iterator<Item = ((&'static str, u16), u64)> {
        self.causes.iter().filter_map(|(cause, count)| Some((*cause.get()?, count.load(Relaxed))))
    }
}

impl Default for LiveCells {
    fn default() -> Self {
        Self::new()
    }
}

fn increment(cell: &AtomicU64) {
    cell.store(cell.load(Relaxed) + 1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_beyond_the_last_are_counted_there() {
        let cells = LiveCells::new();
        for code in 0..40 {
            cells.cause("rcpt", code);
            cells.cause("rcpt", 0);
        }
        let causes: Vec<_> = cells.causes().collect();
        assert_eq!((causes.len(), causes[0]), (CAUSES, (("rcpt", 0), 41)));
        assert_eq!(causes.iter().map(|(_, count)| count).sum::<u64>(), 80);
        let mut sums = vec![0; CELLS];
        cells.time(Phase::Total, 1000);
        cells.add_phase(Phase::Total, &mut sums);
        cells.add_phase(Phase::Body, &mut sums);
        assert_eq!((sums[cell_of(1000)], sums.iter().sum::<u64>()), (1, 1));
    }
}
