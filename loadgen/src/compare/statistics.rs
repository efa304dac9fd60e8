//! How much two groups of runs differ, and how sure that is. A run is one observation: what varies from message to message inside of a run says
//! nothing about how the next run will be.
//!
//! The change is that of the geometric means, since figures of load are positive and vary by factors. Its interval of 95 % is the wider one of two:
//!
//! - percentile bootstrap over the runs, expanded for small groups (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, §4.3:
//!   the quantile is taken at Φ(-√(n/(n-1)) · t) instead of 2.5 %);
//! - Student's t on the logarithms: Welch's for groups, the paired one for pairs.
//!
//! The first is blind to shape but too narrow with few runs, the second holds with few runs but believes in a shape.

use crate::content::mix;

/// Fewer runs in a group show nothing.
pub const RUNS_MIN: usize = 3;
/// Resamples of a bootstrap.
const RESAMPLES: u64 = 10_000;
/// Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A change from A to B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// B over A, minus 1: 0.1 is ten percent more. For figures with zeros: B minus A.
    pub size: f64,
    /// 95 % interval of the size; None: fewer than [`RUNS_MIN`] runs in a group.
    pub interval: Option<(f64, f64)>,
    /// The size is a difference and not a ratio.
    pub absolute: bool,
}

impl Change {
    /// The interval leaves no room for "no change".
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// The change from `a` to `b`; None: a group is empty. `paired`: both have the same length and belong together one by one.
#[must_use]
pub fn change(a: &[f64], b: &[f64], paired: bool, seed: u64) -> Option<Change> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    debug_assert!(!paired || a.len() == b.len());
    let absolute = a.iter().chain(b).any(|&value| value <= 0.0);
    let scaled = |values: &[f64]| -> Vec<f64> {
        values.iter().map(|&value| if absolute { value } else { value.ln() }).collect()
    };
    let (a, b) = (scaled(a), scaled(b));
    let back = |difference: f64| if absolute { difference } else { difference.exp_m1() };
    let size = mean(&b) - mean(&a);
    let runs = a.len().min(b.len());
    let interval = (runs >= RUNS_MIN).then(|| {
        let (student, bootstrapped) = if paired {
            let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
            (student_one(&differences), bootstrap(runs, seed, |random| resampled_mean(&differences, random)))
        } else {
            let both = |random: &mut Random| resampled_mean(&b, random) - resampled_mean(&a, random);
            (welch(&a, &b), bootstrap(runs, seed, both))
        };
        (back(student.0.min(bootstrapped.0)), back(student.1.max(bootstrapped.1)))
    });
    Some(Change { size: back(size), interval, absolute })
}

/// Arithmetic mean; 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

fn t_975(freedom: f64) -> f64 {
    // Rounded down: an interval is rather too wide.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let freedom = freedom.max(1.0) as usize;
    T_975.get(freedom - 1).copied().unwrap_or(2.042)
}

fn student_one(differences: &[f64]) -> (f64, f64) {
    let runs = differences.len() as f64;
    let middle = mean(differences);
    let reach = t_975(runs - 1.0) * (variance(differences) / runs).sqrt();
    (middle - reach, middle + reach)
}

fn welch(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (share_a, share_b) = (variance(a) / a.len() as f64, variance(b) / b.len() as f64);
    let middle = mean(b) - mean(a);
    let sum = share_a + share_b;
    if sum <= 0.0 {
        return (middle, middle);
    }
    let freedom =
        sum.powi(2) / (share_a.powi(2) / (a.len() as f64 - 1.0) + share_b.powi(2) / (b.len() as f64 - 1.0));
    let reach = t_975(freedom) * sum.sqrt();
    (middle - reach, middle + reach)
}

/// Numbers that follow from a seed, so that the same files give the same verdict.
struct Random {
    seed: u64,
    index: u64,
}

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.index += 1;
        usize::try_from((u128::from(mix(self.seed, self.index)) * bound as u128) >> 64).unwrap_or(0)
    }
}

fn resampled_mean(values: &[f64], random: &mut Random) -> f64 {
    (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / values.len() as f64
}

fn bootstrap(runs: usize, seed: u64, mut statistic: impl FnMut(&mut Random) -> f64) -> (f64, f64) {
    let mut random = Random { seed, index: 0 };
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| statistic(&mut random)).collect();
    values.sort_by(f64::total_cmp);
    let runs = runs as f64;
    let tail = normal_below(-(runs / (runs - 1.0)).sqrt() * t_975(runs - 1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few thousand")]
    let skip = (tail * RESAMPLES as f64) as usize;
    (values[skip], values[values.len() - 1 - skip])
}

/// The standard normal distribution function, within 1e-7 (Abramowitz and Stegun 26.2.17).
fn normal_below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt()
        * t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    if z < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn clear_changes_are_shown_and_noise_is_not() {
        let a = [100.0, 101.0, 99.0, 100.5, 99.5];
        let b = a.map(|value| value * 1.1);
        let more = change(&a, &b, false, 1).unwrap();
        let (low, high) = more.interval.unwrap();
        assert!((more.size - 0.1).abs() < 1e-9 && low > 0.08 && high < 0.12, "{more:?}");
        assert!(more.is_shown() && !more.absolute);
        let same = change(&a, &[99.0, 101.0, 100.0, 100.0, 100.1], false, 1).unwrap();
        assert!(!same.is_shown(), "{same:?}");
    }

    #[test]
    fn pairs_see_through_what_varies_for_both() {
        // The machine was slower from pair to pair; B is 2 % above A in each.
        let a = [100.0, 120.0, 140.0, 160.0];
        let b = [102.1, 122.2, 142.9, 163.3];
        assert!(!change(&a, &b, false, 1).unwrap().is_shown());
        assert!(change(&a, &b, true, 1).unwrap().is_shown());
    }

    #[test]
    fn few_runs_have_no_interval_and_zeros_a_difference() {
        let few = change(&[1.0, 1.0], &[2.0, 2.0], false, 1).unwrap();
        assert_eq!((few.interval, few.is_shown()), (None, false));
        assert!((few.size - 1.0).abs() < 1e-9);
        let zeros = change(&[0.0, 0.0, 0.0], &[3.0, 4.0, 5.0], false, 1).unwrap();
        assert!(zeros.absolute && (zeros.size - 4.0).abs() < 1e-9 && zeros.is_shown(), "{zeros:?}");
        assert_eq!(change(&[], &[1.0], false, 1), None);
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        // 400 experiments without a difference, five noisy runs a group: about 5 % may look like one.
        let mut random = Random { seed: 7, index: 0 };
        let mut group = || -> Vec<f64> {
            (0..5).map(|_| (0..12).map(|_| random.below(1000) as f64).sum::<f64>() / 6000.0 + 1.0).collect()
        };
        let wrong =
            (0..400).filter(|&seed| change(&group(), &group(), false, seed).unwrap().is_shown()).count();
        assert!(wrong <= 32, "{wrong} of 400");
    }

    #[test]
    fn normal_distribution() {
        for (z, below) in [(0.0, 0.5), (-1.96, 0.024_998), (1.0, 0.841_345)] {
            assert!((normal_below(z) - below).abs() < 1e-5, "{z}");
        }
    }
}
