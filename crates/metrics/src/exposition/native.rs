//! Native histograms from our cells.
//!
//! A native histogram of schema 3 has buckets that grow by 2^(1/8) = 9 %; bucket `i` holds the values in `(2^((i-1)/8), 2^(i/8)]`. Our cells are six to
//! twelve times as fine, so each of them goes into one bucket as a whole: that of its highest value, as with the classic buckets. Only a cell that lies
//! across a bound can be told too high, by its own width, 1.6 % at most. A finer schema would have bounds that the cells do not know.
//!
//! Standard: the specification of Prometheus' native histograms, as `io.prometheus.client.Histogram` carries them.

use crate::histogram::Distribution;

/// Buckets for each power of two, as a power of two.
pub(super) const SCHEMA: i32 = 3;
const PER_OCTAVE: f64 = 8.0;

/// Values up to this count as zero. Ours are zero or far above; that there is a threshold says that the histogram is native while it is still empty.
pub(super) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Empty buckets that are listed rather than skipped: a span costs more than they do.
const GAP_MAX: i32 = 2;

/// The sparse buckets of a histogram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Native {
    pub(super) zero_count: u64,
    /// (buckets that are skipped, buckets that follow); the first counts from bucket 0.
    pub(super) spans: Vec<(i32, u32)>,
    /// The count of each listed bucket less that of the one before.
    pub(super) deltas: Vec<i64>,
}

/// The buckets of `distribution`, whose recorded unit is 1/`units_per_base` of that of exposition.
pub(super) fn buckets(distribution: &Distribution, units_per_base: f64) -> Native {
    let mut native = Native::default();
    let mut last = 0;
    let mut next_index = 0;
    let mut push = |native: &mut Native, count: u64| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        native.deltas.push(count - last);
        last = count;
    };
    for (index, count) in counts(distribution, units_per_base, &mut native.zero_count) {
        let gap = index - next_index;
        match native.spans.last_mut() {
            Some((_, length)) if gap <= GAP_MAX => {
                *length += gap.unsigned_abs() + 1;
                (0..gap).for_each(|_| push(&mut native, 0));
            }
            _ => native.spans.push((gap, 1)),
        }
        push(&mut native, count);
        next_index = index + 1;
    }
    native
}

/// Index and count of each bucket that is not empty, in order.
fn counts(distribution: &Distribution, units_per_base: f64, zero_count: &mut u64) -> Vec<(i32, u64)> {
    let mut counts: Vec<(i32, u64)> = Vec::new();
    for (_, high, count) in distribution.recorded() {
        if high == 0 {
            *zero_count += count;
            continue;
        }
        let index = index_of(high as f64 / units_per_base);
        match counts.last_mut() {
            Some((last, total)) if *last == index => *total += count,
            _ => counts.push((index, count)),
        }
    }
    counts
}

/// The bucket of a value above zero.
#[expect(clippy::cast_possible_truncation, reason = "logarithms of numbers between 2^-20 and 2^31")]
fn index_of(value: f64) -> i32 {
    (value.log2() * PER_OCTAVE).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64], units_per_base: f64) -> Native {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.record(*value));
        buckets(&distribution, units_per_base)
    }

    /// (index, count) as a reader of spans and deltas sees them.
    fn read(native: &Native) -> Vec<(i32, u64)> {
        let mut deltas = native.deltas.iter();
        let (mut index, mut count) = (0, 0);
        let mut all = Vec::new();
        for (offset, length) in &native.spans {
            index += offset;
            for _ in 0..*length {
                count += deltas.next().expect("a delta for each bucket");
                all.push((index, u64::try_from(count).expect("not below zero")));
                index += 1;
            }
        }
        assert!(deltas.next().is_none());
        all
    }

    #[test]
    fn powers_of_two_are_upper_bounds() {
        for (value, index) in [(1.0, 0), (2.0, 8), (4096.0, 96), (0.5, -8), (1.01, 1), (1.99, 8), (2.01, 9)] {
            assert_eq!(index_of(value), index, "{value}");
        }
    }

    #[test]
    fn nothing_and_zero() {
        assert_eq!(of(&[], 1e6), Native::default());
        assert_eq!(of(&[0, 0], 1e6), Native { zero_count: 2, ..Native::default() });
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_skipped() {
        // Buckets 0, 8 (far), 13 (2 between: 2^(13/8) = 3.08), 16.
        let native = of(&[1, 2, 3, 3, 4], 1.0);
        assert_eq!(native.spans, [(0, 1), (7, 1), (4, 4)]);
        assert_eq!(read(&native), [(0, 1), (8, 1), (13, 2), (14, 0), (15, 0), (16, 1)]);
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket_within_the_width_of_a_cell(values in proptest::collection::vec(1u64..2_000_000_000, 1..200)) {
            for value in &values {
                let native = of(&[*value], 1e6);
                let [(index, 1)] = read(&native)[..] else { panic!("one bucket: {native:?}") };
                let upper = f64::exp2(f64::from(index) / 8.0);
                let lower = f64::exp2(f64::from(index - 1) / 8.0);
                let shown = *value as f64 / 1e6;
                prop_assert!(shown <= upper * (1.0 + 1e-12), "{shown} > {upper}");
                prop_assert!(shown * (1.0 + 1.0 / 64.0) > lower, "{shown} ≪ {lower}");
            }
            let native = of(&values, 1e6);
            prop_assert_eq!(read(&native).iter().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
        }
    }
}
