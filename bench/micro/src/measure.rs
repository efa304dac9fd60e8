//! Times of something that runs for nanoseconds to milliseconds.

use std::hint::black_box;
use std::time::{Duration, Instant};

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

fn time(work: &mut dyn FnMut() -> bool, calls: u32) -> Duration {
    let start = Instant::now();
    let mut right = true;
    for _ in 0..calls {
        right &= black_box(work());
    }
    let time = start.elapsed();
    assert!(right, "a wrong answer was measured");
    time
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
