//! The search for the highest rate at which a server keeps its promise (`--ramp`).
//!
//! ```text
//! LOW ─▶ twice as much while it holds ─▶ half way (geometrically) between the highest that held and the lowest that did not,
//! until they are close ─▶ the highest that held once more, and again; where it does not hold now, a little less
//! ```
//! Each step is an open loop of its own over the same sessions: warm-up, window, and what is under way comes to its end. Messages that were
//! planned and not sent, or not answered, count as slower than any that were.
//!
//! What is computed, and what it can say: a window holds when the quantile of its own messages is within the limit. The windows of the search are chosen
//! by what they showed, so they say nothing unbiased about the rate that they led to; those that confirm it were run after it was chosen. The share of
//! slow messages is taken over these alone. They are still read knowing that they held, since the search would have gone on to a lower rate
//! otherwise: the bound is for a server that is the same from window to window, and the number of confirmations says how well that is known.

use std::str::FromStr;
use std::time::Duration;

use crate::record::{Phase, Record};
use crate::units;

/// Steps of a search at most: enough for every range and precision that can be asked for.
const STEPS_MAX: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// First rate, messages a second.
    pub low: f64,
    /// Highest rate that is tried.
    pub high: f64,
    /// What must hold.
    pub slo: Slo,
    /// The search ends when the lowest rate that failed is at most so much above the highest that held (0.05: 5 %).
    pub precision: f64,
    /// Windows in which the result must hold after the search.
    pub confirmations: u32,
}

/// What must hold at a rate: `p99=50ms`, `p99.9=1s,errors=0.1%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// 0 to 1.
    pub quantile: f64,
    /// Longest total at that quantile.
    pub limit: Duration,
    /// Messages that may come to nothing, as a share of those started.
    pub errors_max: f64,
}

impl Slo {
    /// When nothing is said about it.
    pub const DEFAULT: Self = Self { quantile: 0.99, limit: Duration::from_millis(50), errors_max: 0.0 };
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self { quantile: 0.0, limit: Duration::ZERO, errors_max: 0.0 };
        for part in text.split(',') {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not pNN=TIME or errors=PERCENT%"))?;
            if name == "errors" {
                let percent = value.strip_suffix('%').unwrap_or(value);
                let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..100.0).contains(percent));
                slo.errors_max =
                    percent.ok_or_else(|| format!("{value:?} is not a percentage below 100"))? / 100.0;
            } else {
                let percent = name.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
                let percent = percent.filter(|percent| (1.0..100.0).contains(percent));
                slo.quantile =
                    percent.ok_or_else(|| format!("{name:?} is neither p1 to p99.99 nor errors"))? / 100.0;
                slo.limit = units::duration(value)?;
            }
        }
        if slo.limit.is_zero() { Err(format!("{text:?} names no quantile, e.g. p99=50ms")) } else { Ok(slo) }
    }
}

/// `100-20000`: messages a second.
///
/// # Errors
/// A sentence.
pub fn bounds(text: &str) -> Result<(f64, f64), String> {
    let (low, high) = text.split_once('-').ok_or_else(|| format!("{text:?} is not LOW-HIGH"))?;
    let rate = |text: &str| match text.parse::<f64>() {
        Ok(rate) if (1e-3..=1e8).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is not a rate")),
    };
    let (low, high) = (rate(low)?, rate(high)?);
    if low > high { Err(format!("{low} is more than {high}")) } else { Ok((low, high)) }
}

/// What a step showed.
#[derive(Clone, Debug)]
pub struct Step {
    /// Planned, messages a second.
    pub rate: f64,
    /// Acknowledged, messages a second of the window.
    pub achieved: f64,
    /// Messages acknowledged in the window.
    pub acknowledged: u64,
    /// Planned in the window and never sent, or not answered in time.
    pub unanswered: u64,
    /// Refused, failed, unfinished.
    pub errors: u64,
    /// The quantile of the SLO; None: it lies among those never answered.
    pub quantile: Option<Duration>,
    /// Messages slower than the limit, those unanswered included.
    pub slow: u64,
    /// Why the generator was the limit; empty when it was not.
    pub own_limit: Vec<String>,
    /// This step was to confirm the result.
    pub confirms: bool,
    /// The SLO held.
    pub holds: bool,
}

impl Step {
    /// Judges the figures of a window.
    #[must_use]
    pub fn judge(ramp: &Ramp, rate: f64, window: Duration, record: &Record, not_sent: u64) -> Self {
        let histogram = record.histogram(Phase::Total);
        let unanswered = not_sent + record.counts.unfinished;
        let all = histogram.len() + unanswered;
        // The rank of the quantile among all, those unanswered behind all others.
        let rank = (all as f64 * ramp.slo.quantile).ceil();
        let quantile = (!histogram.is_empty() && rank <= histogram.len() as f64)
            .then(|| Duration::from_nanos(histogram.value_at_quantile(rank / histogram.len() as f64)));
        let limit = u64::try_from(ramp.slo.limit.as_nanos()).unwrap_or(u64::MAX);
        let fast = histogram.count_between(0, limit);
        let errors = record.counts.errors();
        let error_share = errors as f64 / record.counts.started.max(1) as f64;
        let fast_enough = quantile.is_some_and(|quantile| quantile <= ramp.slo.limit);
        Self {
            rate,
            achieved: record.counts.acknowledged as f64 / window.as_secs_f64(),
            acknowledged: record.counts.acknowledged,
            unanswered,
            errors,
            quantile,
            slow: all.saturating_sub(fast.min(histogram.len())),
            own_limit: Vec::new(),
            confirms: false,
            holds: fast_enough && error_share <= ramp.slo.errors_max,
        }
    }
}

/// How a search ended.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was asked for.
    pub ramp: Ramp,
    /// The highest rate that held and was confirmed; None: not even the lowest did.
    pub rate: Option<f64>,
    /// The lowest rate that did not hold; None: all did.
    pub failed_at: Option<f64>,
    /// Windows in which `rate` held, and in which it was tried.
    pub held: (u32, u32),
    /// Share of slow messages over the windows that confirm `rate`, and its upper bound with 95 % confidence; None: none were asked for.
    pub slow_share: Option<(f64, f64)>,
    /// Why the rate may be the generator's and not the server's; empty when it is not.
    pub own_limit: Vec<String>,
    /// Every step, in order.
    pub steps: Vec<Step>,
}

/// The state of a search.
#[derive(Debug)]
pub struct Search {
    ramp: Ramp,
    steps: Vec<Step>,
    held: Option<f64>,
    failed: Option<f64>,
    confirming: bool,
}

impl Search {
    /// Nothing tried.
    #[must_use]
    pub fn new(ramp: Ramp) -> Self {
        Self { ramp, steps: Vec::new(), held: None, failed: None, confirming: false }
    }

    /// The next rate to try, and whether it is to confirm the result; None: the search is over.
    #[must_use]
    pub fn next_rate(&mut self) -> Option<(f64, bool)> {
        let Ramp { low, high, precision, confirmations, .. } = self.ramp;
        if self.steps.len() >= STEPS_MAX {
            return None;
        }
        let next = match (self.held, self.failed) {
            (None, None) => low,
            // Less than LOW is not asked for.
            (None, Some(failed)) if failed <= low => return None,
            (None, Some(failed)) => (failed / (1.0 + precision)).max(low),
            (Some(held), None) if held < high => (held * 2.0).min(high),
            (Some(held), Some(failed)) if failed > held * (1.0 + precision) && !self.confirming => {
                (held * failed).sqrt()
            }
            (Some(held), _) => {
                self.confirming = true;
                let confirmed = self.windows(held).filter(|step| step.confirms && step.holds).count();
                if confirmed >= confirmations as usize {
                    return None;
                }
                held
            }
        };
        Some((next, self.confirming))
    }

    /// Books a step.
    pub fn book(&mut self, step: Step) {
        let rate = step.rate;
        if step.holds {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
            if self.held.is_some_and(|held| held >= rate) {
                // What held before did not hold again: the highest rate below that did takes its place, but no closer than the precision.
                let below = rate / (1.0 + self.ramp.precision) * (1.0 + 1e-9);
                let lower = self.steps.iter().filter(|step| step.holds && step.rate <= below);
                self.held = lower.map(|step| step.rate).reduce(f64::max);
            }
        }
        self.steps.push(step);
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn windows(&self, rate: f64) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.rate == rate)
    }

    /// What was found.
    #[must_use]
    pub fn end(self) -> Found {
        let windows = |wanted: bool| {
            let count =
                self.held.map_or(0, |rate| self.windows(rate).filter(|step| !wanted || step.holds).count());
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let held = (windows(true), windows(false));
        let slow_share = self.held.and_then(|rate| {
            let confirming = self.windows(rate).filter(|step| step.confirms);
            let (slow, all) = confirming.fold((0, 0), |(slow, all), step| {
                (slow + step.slow, all + step.acknowledged + step.unanswered)
            });
            (all > 0).then(|| (slow as f64 / all as f64, wilson_upper(slow, all)))
        });
        // Where the lowest rate that failed, or the result itself, was at the generator's limit, the server may bear more.
        let suspects =
            self.steps.iter().filter(|step| Some(step.rate) == self.failed || Some(step.rate) == self.held);
        let mut own_limit: Vec<String> = suspects.flat_map(|step| step.own_limit.iter().cloned()).collect();
        own_limit.sort_unstable();
        own_limit.dedup();
        Found {
            ramp: self.ramp,
            rate: self.held,
            failed_at: self.failed,
            held,
            slow_share,
            own_limit,
            steps: self.steps,
        }
    }
}

/// Upper end of Wilson's 95 % interval for a share of `part` in `whole`. It takes messages for independent of each other; where a server stalls they are
/// not, which is why windows are repeated.
fn wilson_upper(part: u64, whole: u64) -> f64 {
    const Z: f64 = 1.96;
    let (share, count) = (part as f64 / whole as f64, whole as f64);
    let centre = share + Z * Z / (2.0 * count);
    let spread = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    ((centre + spread) / (1.0 + Z * Z / count)).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn ramp(low: f64, high: f64) -> Ramp {
        Ramp { low, high, slo: "p99=50ms,errors=1%".parse().unwrap(), precision: 0.05, confirmations: 2 }
    }

    fn record(fast: u64, slow: u64, failed: u64) -> Record {
        let mut record = Record::new();
        (0..fast).for_each(|_| record.time(Phase::Total, Duration::from_millis(5)));
        (0..slow).for_each(|_| record.time(Phase::Total, Duration::from_millis(500)));
        record.counts.started = fast + slow + failed;
        record.counts.acknowledged = fast + slow;
        record.counts.failed = failed;
        record
    }

    /// A server that bears `capacity`, and `confirmed` from the given step on.
    fn search(ramp: Ramp, capacity: impl Fn(usize) -> f64) -> Found {
        let mut search = Search::new(ramp);
        while let Some((rate, confirms)) = search.next_rate() {
            let slow = if rate <= capacity(search.steps().len()) { 0 } else { 500 };
            let step = Step::judge(&ramp, rate, Duration::from_secs(1), &record(1000 - slow, slow, 0), 0);
            search.book(Step { confirms, ..step });
        }
        search.end()
    }

    #[test]
    fn slo_forms() {
        let slo: Slo = "p99.9=1s,errors=0.1%".parse().unwrap();
        assert_eq!((slo.limit, slo.errors_max), (Duration::from_secs(1), 0.001));
        assert!((slo.quantile - 0.999).abs() < 1e-12);
        for bad in
            ["", "p99", "p0=1s", "p100=1s", "errors=1%", "p99=1s,errors=100%", "p99=x", "q=1s", "p99=0"]
        {
            assert!(bad.parse::<Slo>().is_err(), "{bad:?}");
        }
        assert_eq!(bounds("100-20000"), Ok((100.0, 20_000.0)));
        for bad in ["", "5", "0-5", "9-5", "x-5", "1-1e9"] {
            assert!(bounds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_never_answered_counts_as_slow() {
        let judge = |record: &Record, not_sent| {
            Step::judge(&ramp(1.0, 2.0), 1.0, Duration::from_secs(1), record, not_sent)
        };
        assert!(judge(&record(1000, 0, 0), 0).holds);
        assert!(judge(&record(1000, 5, 0), 4).holds);
        let overloaded = judge(&record(1000, 0, 0), 20);
        assert!(!overloaded.holds && overloaded.quantile.is_none());
        assert_eq!((overloaded.slow, overloaded.unanswered), (20, 20));
        assert!(!judge(&record(1000, 11, 0), 0).holds);
        assert!(judge(&record(1000, 0, 10), 0).holds, "1 % of errors may be");
        assert!(!judge(&record(1000, 0, 11), 0).holds);
        assert!(!judge(&Record::new(), 0).holds, "nothing was shown");
    }

    #[test]
    fn finds_the_capacity() {
        for capacity in [101.0, 777.0, 1600.0, 5000.0, 9999.0] {
            let found = search(ramp(100.0, 10_000.0), |_| capacity);
            let rate = found.rate.unwrap();
            assert!(rate <= capacity && rate * 1.0501 >= found.failed_at.unwrap(), "{capacity}: {rate}");
            assert!(found.failed_at.unwrap() > capacity);
            assert!(found.held.0 >= 3 && found.held.0 == found.held.1, "{:?}", found.held);
            assert!(found.steps.len() < 20, "{}", found.steps.len());
            let (share, upper) = found.slow_share.unwrap();
            assert!(share == 0.0 && upper > 0.0 && upper < 0.01);
        }
    }

    #[test]
    fn the_share_of_slow_messages_is_that_of_the_windows_that_confirm() {
        let found = |confirmations, slow_of: fn(bool) -> u64| {
            let ramp = Ramp { confirmations, ..ramp(100.0, 100.0) };
            let mut search = Search::new(ramp);
            while let Some((rate, confirms)) = search.next_rate() {
                let slow = slow_of(confirms);
                let record = record(1000 - slow, slow, 0);
                let step = Step::judge(&ramp, rate, Duration::from_secs(1), &record, 0);
                search.book(Step { confirms, ..step });
            }
            search.end()
        };
        // The window that chose the rate was a lucky one.
        let lucky = found(2, |confirms| if confirms { 8 } else { 0 });
        assert_eq!((lucky.held, lucky.slow_share.unwrap().0), ((3, 3), 0.008));
        let unlucky = found(2, |confirms| if confirms { 0 } else { 8 });
        assert_eq!(unlucky.slow_share.unwrap().0, 0.0);
        assert_eq!(found(0, |_| 0).slow_share, None, "nothing was run after the rate was chosen");
    }

    #[test]
    fn ends_of_the_range() {
        let low = search(ramp(100.0, 1000.0), |_| 50.0);
        assert_eq!((low.rate, low.failed_at, low.steps.len()), (None, Some(100.0), 1));
        let high = search(ramp(100.0, 1000.0), |_| 1e9);
        assert_eq!((high.rate, high.failed_at, high.held), (Some(1000.0), None, (3, 3)));
    }

    #[test]
    fn what_does_not_hold_again_is_lowered() {
        // From the tenth step on the server bears half of what it did before.
        let found = search(ramp(100.0, 10_000.0), |step| if step < 10 { 5000.0 } else { 2500.0 });
        let rate = found.rate.unwrap();
        assert!(rate <= 2500.0, "{rate}");
        assert!(found.steps.last().unwrap().holds && found.steps.last().unwrap().confirms);
    }

    #[test]
    fn a_step_at_the_generators_limit_is_told() {
        let mut search = Search::new(ramp(100.0, 100.0));
        while let Some((rate, confirms)) = search.next_rate() {
            let step = Step::judge(&ramp(100.0, 100.0), rate, Duration::from_secs(1), &record(1000, 0, 0), 0);
            search.book(Step {
                confirms,
                own_limit: vec!["thread 0 was busy 95 % of the time".into()],
                ..step
            });
        }
        assert_eq!(search.end().own_limit.len(), 1);
    }
}
