//! Times of something that runs for nanoseconds to milliseconds.
//!
//! CPU time of the thread, not wall time: what else runs on the machine takes turns with us, and must not be counted.
//! Its share of caches and memory is felt all the same, hence medians.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One call of what is measured; whether its answer was right.
pub type Work<'a> = Box<dyn FnMut() -> bool + 'a>;

/// Octets per second, in 10⁹, of several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    sorted: Vec<f64>,
}

impl Rates {
    /// The middle one.
    pub fn median(&self) -> f64 {
        self.sorted[self.sorted.len() / 2]
    }

    /// Half of the way from the slowest to the fastest, as a share of the median.
    pub fn spread(&self) -> f64 {
        let (slowest, fastest) = (self.sorted[0], self.sorted[self.sorted.len() - 1]);
        (fastest - slowest) / 2.0 / self.median()
    }
}

/// Runs each of `works` `runs` times for about `run_time`, in turns, so that a change of the machine's speed meets all.
/// `octets`: how many one call reads. Each answer is checked: a work that answers false ends the program.
pub fn rates(works: &mut [Work<'_>], octets: usize, runs: usize, run_time: Duration) -> Vec<Rates> {
    let calls: Vec<u32> = works.iter_mut().map(|work| calls_for(work, run_time)).collect();
    let mut rates = vec![Rates { sorted: Vec::new() }; works.len()];
    for _ in 0..runs {
        for ((work, rates), &calls) in works.iter_mut().zip(&mut rates).zip(&calls) {
            let seconds = time(work, calls).as_secs_f64();
            let octets = octets as f64 * f64::from(calls);
            rates.sorted.push(octets / seconds / 1e9);
        }
    }
    for rates in &mut rates {
        rates.sorted.sort_by(f64::total_cmp);
    }
    rates
}

/// How many calls take about `run_time`.
fn calls_for(work: &mut dyn FnMut() -> bool, run_time: Duration) -> u32 {
    let mut calls = 1;
    while time(work, calls) < run_time && calls < u32::MAX / 2 {
        calls *= 2;
    }
    calls
}

/// Processor time of the thread for so many calls of `work`; each answer is checked.
///
/// # Panics
/// An answer was wrong.
pub fn time(work: &mut dyn FnMut() -> bool, calls: u32) -> Duration {
    let start = cpu_time();
    let mut right = true;
    for _ in 0..calls {
        right &= black_box(work());
    }
    let time = cpu_time() - start;
    assert!(right, "a wrong answer was measured");
    time
}

/// What this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Both parts are never negative for this clock.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let rates = Rates { sorted: vec![8.0, 10.0, 12.0] };
        assert_eq!(rates.median().to_string(), "10");
        assert_eq!(rates.spread().to_string(), "0.2");
    }
}
