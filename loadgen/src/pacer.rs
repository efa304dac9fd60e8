//! When messages start.
//!
//! Closed loop: as soon as a session is free. Open loop: by a schedule that goes on whatever the server does. A message that finds no
//! free session waits, and its latency counts from the planned time: a server that stalls for a second shows in the
//! figures of every message planned in that second, not of one (coordinated omission).
//!
//! ```text
//!   schedule:  0  1  2  3  4  5  6  7 …     due = planned time reached      backlog = due - taken
//!                    ▲taken      ▲due
//! ```
//! Both counters walk the same schedule, so a backlog of any length takes no memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::content::mix;

/// Distances between planned times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// All the same.
    Uniform,
    /// Exponential: independent senders.
    Poisson,
}

/// A walk along the planned times of one core.
#[derive(Clone, Debug)]
struct Schedule {
    start: Instant,
    interval: f64,
    arrivals: Arrivals,
    seed: u64,
    index: u64,
    /// Planned time of `index`, nanoseconds after the start.
    planned: f64,
}

impl Schedule {
    fn new(start: Instant, rate: f64, arrivals: Arrivals, seed: u64, (core, cores): (u64, u64)) -> Self {
        let interval = 1e9 * cores as f64 / rate;
        // Cores take turns: each starts one step of the whole schedule behind the one before.
        let start = start + Duration::from_nanos(nanoseconds(1e9 / rate * core as f64));
        Self { start, interval, arrivals, seed: mix(seed, core), index: 0, planned: 0.0 }
    }

    /// Planned time of the entry at hand.
    fn planned(&self) -> Instant {
        self.start + Duration::from_nanos(nanoseconds(self.planned))
    }

    fn advance(&mut self) {
        self.index += 1;
        self.planned = match self.arrivals {
            // From the index and not by summing, so that errors of rounding do not add up.
            Arrivals::Uniform => self.index as f64 * self.interval,
            Arrivals::Poisson => {
                // 53 bits and a half step: never 0, so the logarithm is finite.
                let uniform = ((mix(self.seed, self.index) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                self.planned - uniform.ln() * self.interval
            }
        };
    }
}

/// Whole nanoseconds of a time that is never negative.
fn nanoseconds(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let whole = value as u64;
    whole
}

/// The schedule of one core, shared by its sessions.
#[derive(Debug)]
pub struct Pacer {
    due: RefCell<Schedule>,
    taken: RefCell<Schedule>,
    end: Cell<Option<Instant>>,
    waiting: RefCell<VecDeque<Waker>>,
    backlog_max: Cell<u64>,
}

/// What the pacing task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sleep until then and call [`Pacer::release`] again.
    At(Instant),
    /// The schedule is over.
    End,
}

impl Pacer {
    /// A share of `rate` messages a second: core `core` of `cores`.
    #[must_use]
    pub fn new(
        start: Instant,
        end: Option<Instant>,
        rate: f64,
        arrivals: Arrivals,
        seed: u64,
        (core, cores): (u64, u64),
    ) -> Self {
        let schedule = Schedule::new(start, rate, arrivals, seed, (core, cores));
        Self {
            due: RefCell::new(schedule.clone()),
            taken: RefCell::new(schedule),
            end: Cell::new(end),
            waiting: RefCell::new(VecDeque::new()),
            backlog_max: Cell::new(0),
        }
    }

    /// Begins another schedule; what was due and not taken is forgotten, sessions that wait go on waiting.
    pub fn restart(
        &self,
        start: Instant,
        end: Option<Instant>,
        rate: f64,
        arrivals: Arrivals,
        seed: u64,
        turn: (u64, u64),
    ) {
        let schedule = Schedule::new(start, rate, arrivals, seed, turn);
        self.due.replace(schedule.clone());
        self.taken.replace(schedule);
        self.end.set(end);
        self.backlog_max.set(0);
    }

    /// Marks as due what is planned up to `now`, wakes as many waiting sessions.
    pub fn release(&self, now: Instant) -> Next {
        let mut due = self.due.borrow_mut();
        let next = loop {
            let planned = due.planned();
            if self.end.get().is_some_and(|end| planned >= end) {
                break Next::End;
            }
            if planned > now {
                break Next::At(planned);
            }
            due.advance();
        };
        let backlog = due.index - self.taken.borrow().index;
        drop(due);
        self.backlog_max.set(self.backlog_max.get().max(backlog));
        let mut waiting = self.waiting.borrow_mut();
        for _ in 0..backlog {
            match waiting.pop_front() {
                Some(waker) => waker.wake(),
                None => break,
            }
        }
        next
    }

    /// Takes the oldest due message: its planned time.
    pub fn take(&self) -> Option<Instant> {
        let mut taken = self.taken.borrow_mut();
        if taken.index == self.due.borrow().index {
            return None;
        }
        let planned = taken.planned();
        taken.advance();
        Some(planned)
    }

    /// Wakes this session when something is due.
    pub fn wait(&self, waker: &Waker) {
        self.waiting.borrow_mut().push_back(waker.clone());
    }

    /// Wakes all sessions, e.g. because the run ends.
    pub fn wake_all(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Messages due and not taken.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.due.borrow().index - self.taken.borrow().index
    }

    /// Largest backlog seen.
    #[must_use]
    pub fn backlog_max(&self) -> u64 {
        self.backlog_max.get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_stall_keeps_the_planned_times() {
        let start = Instant::now();
        let pacer = Pacer::new(start, None, 1000.0, Arrivals::Uniform, 1, (0, 1));
        assert_eq!(pacer.take(), None, "nothing is due before it is released");
        assert_eq!(pacer.release(at(start, 0)), Next::At(at(start, 1)));
        assert_eq!(pacer.take(), Some(start));
        assert_eq!(pacer.take(), None);
        // Nobody takes anything for 100 ms.
        assert_eq!(pacer.release(at(start, 100)), Next::At(at(start, 101)));
        assert_eq!((pacer.backlog(), pacer.backlog_max()), (100, 100));
        for planned in 1..=100 {
            assert_eq!(pacer.take(), Some(at(start, planned)));
        }
        assert_eq!((pacer.take(), pacer.backlog(), pacer.backlog_max()), (None, 0, 100));
    }

    #[test]
    fn another_schedule_starts_empty() {
        let start = Instant::now();
        let pacer = Pacer::new(start, None, 1000.0, Arrivals::Uniform, 1, (0, 1));
        pacer.release(at(start, 50));
        let second = at(start, 100);
        pacer.restart(second, Some(at(start, 104)), 500.0, Arrivals::Uniform, 1, (0, 1));
        assert_eq!((pacer.take(), pacer.backlog(), pacer.backlog_max()), (None, 0, 0));
        assert_eq!(pacer.release(at(start, 101)), Next::At(at(start, 102)));
        assert_eq!(pacer.take(), Some(second));
        assert_eq!(pacer.release(at(start, 200)), Next::End);
        assert_eq!((pacer.take(), pacer.take()), (Some(at(start, 102)), None));
    }

    #[test]
    fn cores_interleave() {
        let start = Instant::now();
        let mut planned = Vec::new();
        for core in 0..4 {
            let end = Some(at(start, 10));
            let pacer = Pacer::new(start, end, 1000.0, Arrivals::Uniform, 1, (core, 4));
            assert_eq!(pacer.release(at(start, 50)), Next::End);
            planned.extend(std::iter::from_fn(|| pacer.take()));
        }
        planned.sort_unstable();
        assert_eq!(planned, (0..10).map(|n| at(start, n)).collect::<Vec<_>>());
    }

    #[test]
    fn poisson_keeps_the_rate_and_both_walks_agree() {
        let start = Instant::now();
        let end = Some(at(start, 10_000));
        let pacer = Pacer::new(start, end, 1000.0, Arrivals::Poisson, 9, (0, 1));
        let mut now = start;
        let mut planned = vec![];
        while let Next::At(next) = pacer.release(now) {
            planned.extend(std::iter::from_fn(|| pacer.take()));
            assert!(next > now);
            now = next;
        }
        planned.extend(std::iter::from_fn(|| pacer.take()));
        assert!((9_500..10_500).contains(&planned.len()), "{}", planned.len());
        assert!(planned.is_sorted());
        let gaps: Vec<_> = planned.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Exponential: 1/e of the gaps are longer than the mean.
        let long = gaps.iter().filter(|&&gap| gap > Duration::from_millis(1)).count();
        assert!((0.34..0.40).contains(&(long as f64 / gaps.len() as f64)), "{long}");
    }
}
