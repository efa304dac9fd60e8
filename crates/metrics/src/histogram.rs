//! Histogram cells in the layout of HdrHistogram, and what a scrape makes of them.
//!
//! ```text
//! value      0 … 127            128 … 255          256 … 511              …    2^30 … 2^31-1
//! cell       0 … 127            128 … 191          192 … 255              …    1600 … 1663
//! width      1                  2                  4                      …    2^24
//! ```
//! Values are whole units (microseconds, octets, records); larger ones than [`HISTOGRAM_VALUE_MAX`] (35 minutes) count as that.
//! A cell is at most 1/64 = 1.6 % as wide as its values. There is no cell for the sum: a scrape computes it from the middle of
//! each cell, which keeps a record at one load and one store and is off by 0.8 % at most.

/// Values below this have a cell each.
const LINEAR: usize = 128;
/// Cells for each further power of two.
const PER_OCTAVE: usize = 64;
/// Power of two above the largest value.
const MAGNITUDE: u32 = 31;
/// Largest value that is told from larger ones.
pub const HISTOGRAM_VALUE_MAX: u64 = (1 << MAGNITUDE) - 1;
/// Cells of one histogram.
pub(crate) const CELLS: usize = LINEAR + (MAGNITUDE as usize - 7) * PER_OCTAVE;

const _: () = assert!(cell_of(HISTOGRAM_VALUE_MAX) == CELLS - 1);
const _: () = assert!(cell_of(128) == LINEAR);

/// The cell of `value`.
#[expect(clippy::cast_possible_truncation, reason = "the shifted value is below 128")]
pub(crate) const fn cell_of(value: u64) -> usize {
    let value = if value > HISTOGRAM_VALUE_MAX { HISTOGRAM_VALUE_MAX } else { value };
    // Values below 128 share the formula with shift 0: their leading zeros are counted as if bit 6 were set.
    let shift = 57 - (value | 64).leading_zeros();
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// Lowest and highest value of a cell.
const fn range_of(cell: usize) -> (u64, u64) {
    if cell < LINEAR {
        return (cell as u64, cell as u64);
    }
    let shift = (cell - LINEAR) / PER_OCTAVE + 1;
    let low = ((cell - shift * PER_OCTAVE) as u64) << shift;
    (low, low + (1 << shift) - 1)
}

/// The bucket that the values of a cell count for, of buckets with these upper bounds and one more: the first whose bound is not below the
/// highest of them.
#[expect(clippy::cast_possible_truncation, reason = "there are a few dozen bounds")]
pub(crate) const fn bucket_of(cell: usize, bounds: &[u64]) -> u8 {
    let (_, high) = range_of(cell);
    let mut bucket = 0;
    while bucket < bounds.len() && bounds[bucket] < high {
        bucket += 1;
    }
    bucket as u8
}

/// The cells of one histogram added up over cores, at the time of one scrape.
#[derive(Clone, Debug)]
pub struct Distribution {
    cells: Vec<u64>,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { cells: vec![0; CELLS] }
    }
}

impl Distribution {
    /// Adds the values of all cells, in their order.
    pub(crate) fn add_all(&mut self, counts: impl Iterator<Item = u64>) {
        self.cells.iter_mut().zip(counts).for_each(|(cell, count)| *cell += count);
    }

    /// The values that have come since `earlier`, which was taken of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let cells = self.cells.iter().zip(&earlier.cells).map(|(now, then)| now.saturating_sub(*then));
        Self { cells: cells.collect() }
    }

    /// Adds a value in recorded units.
    pub fn record(&mut self, value: u64) {
        self.cells[cell_of(value)] += 1;
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// Sum of all values in recorded units, within 0.8 %.
    #[must_use]
    pub fn sum(&self) -> f64 {
        // Folded from 0: the sum of nothing would be -0.
        self.recorded().fold(0.0, |sum, (low, high, count)| sum + low.midpoint(high) as f64 * count as f64)
    }

    /// Values per bucket and not cumulative; one bucket more than `bounds` for the rest. A cell that lies across a bound counts above it,
    /// so a bucket never claims a value that may have been larger than its bound.
    #[must_use]
    pub fn buckets(&self, bounds: &[u64]) -> Vec<u64> {
        let mut buckets = vec![0; bounds.len() + 1];
        for (_, high, count) in self.recorded() {
            buckets[bounds.partition_point(|&bound| bound < high)] += count;
        }
        buckets
    }

    /// The same values as a [`hdrhistogram::Histogram`] for quantiles. Each value counts as the highest of its cell: a quantile is
    /// never shown smaller than it was, and at most 1.6 % larger.
    #[must_use]
    pub fn to_hdr(&self) -> hdrhistogram::Histogram<u64> {
        // Two significant digits give 128 cells per power of two, twice as fine as ours, so that nothing is lost.
        #[expect(
            clippy::expect_used,
            reason = "1 ≤ low, 2·low ≤ high and 2 ≤ 5 digits are what the constructor checks"
        )]
        let mut hdr =
            hdrhistogram::Histogram::new_with_bounds(1, HISTOGRAM_VALUE_MAX, 2).expect("constant bounds");
        for (_, high, count) in self.recorded() {
            hdr.saturating_record_n(high, count);
        }
        hdr
    }

    /// (lowest, highest, count) of each cell that is not empty.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.cells.iter().enumerate().filter(|(_, count)| **count > 0).map(|(cell, count)| {
            let (low, high) = range_of(cell);
            (low, high, *count)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cells_tile_the_range() {
        let mut next = 0;
        for cell in 0..CELLS {
            let (low, high) = range_of(cell);
            assert_eq!(low, next, "cell {cell}");
            assert_eq!(cell_of(low), cell);
            assert_eq!(cell_of(high), cell);
            assert!((high - low + 1) as f64 <= (low as f64 / 64.0).max(1.0), "cell {cell} is too wide");
            next = high + 1;
        }
        assert_eq!(next, HISTOGRAM_VALUE_MAX + 1);
        assert_eq!(cell_of(u64::MAX), CELLS - 1);
    }

    #[test]
    fn a_difference_holds_what_came_between() {
        let mut earlier = Distribution::default();
        earlier.record(10);
        let mut now = earlier.clone();
        now.record(5_000);
        now.record(5_000);
        let between = now.since(&earlier);
        assert_eq!(between.count(), 2);
        assert!(between.to_hdr().value_at_quantile(0.0) >= 5_000);
        assert_eq!(now.since(&now).count(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_hdrhistogram(values in proptest::collection::vec(0u64..70_000_000, 1..300)) {
            let mut distribution = Distribution::default();
            let mut exact = values.clone();
            exact.sort_unstable();
            for value in &values {
                distribution.record(*value);
            }
            let hdr = distribution.to_hdr();
            prop_assert_eq!(hdr.len(), values.len() as u64);
            prop_assert_eq!(distribution.count(), values.len() as u64);
            for per_cent in [50, 90, 99, 100] {
                let quantile = per_cent as f64 / 100.0;
                let rank = (per_cent * exact.len()).div_ceil(100).max(1) - 1;
                let shown = hdr.value_at_quantile(quantile);
                prop_assert!(shown >= exact[rank], "q{}: {} < {}", quantile, shown, exact[rank]);
                prop_assert!(shown as f64 <= exact[rank] as f64 * (1.0 + 1.0 / 64.0) + 1.0, "q{}: {} ≫ {}", quantile, shown, exact[rank]);
            }
            let sum: u64 = values.iter().sum();
            prop_assert!((distribution.sum() - sum as f64).abs() <= sum as f64 * 0.008 + 1.0);
            let bounds = [50, 1_000, 1_000_000];
            let buckets = distribution.buckets(&bounds);
            prop_assert_eq!(buckets.iter().sum::<u64>(), values.len() as u64);
            for (bucket, count) in (0..).zip(&buckets) {
                let same = values.iter().filter(|value| bucket_of(cell_of(**value), &bounds) == bucket).count();
                prop_assert_eq!(*count, same as u64);
            }
            let mut below = 0;
            for (bound, bucket) in bounds.iter().zip(&buckets) {
                below += bucket;
                prop_assert!(below <= values.iter().filter(|value| *value <= bound).count() as u64);
                prop_assert!(below >= values.iter().filter(|value| **value as f64 <= *bound as f64 * (1.0 - 1.0 / 64.0)).count() as u64);
            }
        }
    }
}
