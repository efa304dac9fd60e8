//! Cells for latencies, in the layout of HdrHistogram: how a duration becomes an index, and back.
//!
//! ```text
//! ns         0 … 127            128 … 255          256 … 511              …    2^41 … 2^42-1
//! cell       0 … 127            128 … 191          192 … 255              …    2304 … 2367
//! width      1                  2                  4                      …    2^35
//! ```
//! A cell is at most 1/64 = 1.6 % as wide as its values, so its middle is off by 0.8 % at most. Longer times than [`NANOSECONDS_MAX`]
//! (73 minutes) count as that. One layout serves the slices of a run ([`crate::series`]) and what a running worker shows
//! ([`crate::live`]): fixed arrays, one index computation, no search.

use hdrhistogram::Histogram;

/// Values below this have a cell each.
const LINEAR: usize = 128;
/// Cells for each further power of two.
const PER_OCTAVE: usize = 64;
/// Power of two above the largest value.
const MAGNITUDE: u32 = 42;
/// Largest value that is told from larger ones.
pub const NANOSECONDS_MAX: u64 = (1 << MAGNITUDE) - 1;
/// Cells of one distribution.
pub const CELLS: usize = LINEAR + (MAGNITUDE as usize - 7) * PER_OCTAVE;

const _: () = assert!(cell_of(NANOSECONDS_MAX) == CELLS - 1);
const _: () = assert!(cell_of(128) == LINEAR);
// Sparse distributions keep a cell in 16 bits.
const _: () = assert!(CELLS < u16::MAX as usize);

/// The cell of a duration.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the shifted value is below 128")]
pub const fn cell_of(nanoseconds: u64) -> usize {
    let value = if nanoseconds > NANOSECONDS_MAX { NANOSECONDS_MAX } else { nanoseconds };
    // Values below 128 share the formula with shift 0: their leading zeros are counted as if bit 6 were set.
    let shift = 57 - (value | 64).leading_zeros();
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// The middle of a cell in nanoseconds.
#[must_use]
pub const fn middle_of(cell: usize) -> u64 {
    if cell < LINEAR {
        return cell as u64;
    }
    let shift = (cell - LINEAR) / PER_OCTAVE + 1;
    let low = ((cell - shift * PER_OCTAVE) as u64) << shift;
    low + (1 << (shift - 1))
}

/// A distribution with few different cells: pairs of cell and count, by cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse(Vec<(u16, u32)>);

impl Sparse {
    /// What is in dense cells, which are emptied.
    #[must_use]
    pub fn take(dense: &mut [u32; CELLS]) -> Self {
        let mut pairs = Vec::new();
        for (cell, count) in dense.iter_mut().enumerate() {
            if *count > 0 {
                pairs.push((u16::try_from(cell).unwrap_or(u16::MAX), std::mem::take(count)));
            }
        }
        Self(pairs)
    }

    /// Nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds another distribution.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        self.0.extend_from_slice(&other.0);
        self.0.sort_by_key(|&(cell, _)| cell);
        self.0.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
    }

    /// As a histogram of two significant digits, nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        #[expect(clippy::unwrap_used, reason = "constant bounds, covered by the tests below")]
        let mut histogram = Histogram::new_with_bounds(1, 1 << MAGNITUDE, 2).unwrap();
        for &(cell, count) in &self.0 {
            histogram.saturating_record_n(middle_of(usize::from(cell)).max(1), u64::from(count));
        }
        histogram
    }
}

/// The value below or at which a share of `counts` lies, nanoseconds; None: nothing was counted.
#[must_use]
pub fn quantile(counts: &[u64], quantile: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let mut left = quantile * total as f64;
    for (cell, &count) in counts.iter().enumerate() {
        left -= count as f64;
        if count > 0 && left <= 0.0 {
            return Some(middle_of(cell));
        }
    }
    counts.iter().rposition(|&count| count > 0).map(middle_of)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn middles_lie_in_their_cells_and_close_to_every_value() {
        for cell in 0..CELLS {
            assert_eq!(cell_of(middle_of(cell)), cell);
        }
        let mut value = 1_u64;
        while value < NANOSECONDS_MAX {
            let off = middle_of(cell_of(value)).abs_diff(value) as f64 / value as f64;
            assert!(off <= 1.0 / 128.0, "{value}: {off}");
            value = value * 17 / 16 + 1;
        }
        assert_eq!(cell_of(u64::MAX), CELLS - 1);
    }

    #[test]
    fn sparse_distributions_add() {
        let mut dense = [0; CELLS];
        dense[3] = 2;
        dense[CELLS - 1] = 1;
        let mut one = Sparse::take(&mut dense);
        assert!(dense.iter().all(|&count| count == 0));
        dense[3] = 5;
        dense[100] = 1;
        let other = Sparse::take(&mut dense);
        one.add(&other);
        assert_eq!(one, Sparse(vec![(3, 7), (100, 1), (u16::try_from(CELLS - 1).unwrap(), 1)]));
        let histogram = one.histogram();
        assert_eq!((histogram.len(), histogram.min()), (9, 3));
        let mut empty = Sparse::default();
        empty.add(&one);
        assert_eq!(empty, one);
    }

    #[test]
    fn quantiles_of_cells() {
        let mut counts = vec![0; CELLS];
        assert_eq!(quantile(&counts, 0.5), None);
        counts[10] = 90;
        counts[100] = 10;
        assert_eq!(
            (quantile(&counts, 0.5), quantile(&counts, 0.9), quantile(&counts, 0.91)),
            (Some(10), Some(10), Some(100))
        );
        assert_eq!(quantile(&counts, 1.0), Some(100));
    }
}
