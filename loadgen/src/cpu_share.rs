//! CPU time over a measured window, of the server and of the generator, against the messages acknowledged in it.
//!
//! A window ends when no further message is planned, not when the last reply is there: whoever has nothing to do while stragglers are waited for
//! would look idle.

use crate::server_cpu::{CpuTime, Processes, Sample, tick_us};

/// CPU time over a window, and the messages acknowledged in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuShare {
    /// CPU time.
    pub time: CpuTime,
    /// Messages.
    pub messages: u64,
}

impl CpuShare {
    /// Microseconds a message.
    #[must_use]
    pub fn per_message(&self, microseconds: f64) -> Option<f64> {
        (self.messages > 0).then(|| microseconds / self.messages as f64)
    }

    /// With that of another window.
    #[must_use]
    fn and(self, other: Self) -> Self {
        Self { time: self.time.and(&other.time), messages: self.messages + other.messages }
    }
}

/// Whose time is taken.
#[derive(Debug)]
pub(crate) struct Meters {
    server: Option<Processes>,
    own: Processes,
}

/// All counters at a moment.
#[derive(Debug)]
pub(crate) struct Reading {
    server: Option<Result<Sample, String>>,
    own: Result<Sample, String>,
    acknowledged: u64,
}

/// What a window cost.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// None: not asked for; the text says why there is none.
    pub(crate) server: Option<Result<CpuShare, String>>,
    pub(crate) own: Option<CpuShare>,
}

impl Meters {
    pub(crate) fn new(server: Option<Processes>) -> Self {
        Self { server, own: Processes { pids: vec![std::process::id()], with_children: false } }
    }

    /// `acknowledged`: messages so far.
    pub(crate) fn read(&self, acknowledged: u64) -> Reading {
        Reading { server: self.server.as_ref().map(Processes::sample), own: self.own.sample(), acknowledged }
    }
}

impl Reading {
    /// From `self` to `end`.
    pub(crate) fn until(&self, end: &Self) -> Shares {
        let messages = end.acknowledged - self.acknowledged;
        let share =
            |before: &Sample, after: &Sample| CpuShare { time: after.since(before, tick_us()), messages };
        let both = self.server.as_ref().zip(end.server.as_ref());
        let server = both.map(|(before, after)| match (before, after) {
            (Ok(before), Ok(after)) => Ok(share(before, after)),
            (Err(error), _) | (_, Err(error)) => Err(error.clone()),
        });
        let own = self.own.as_ref().ok().zip(end.own.as_ref().ok());
        Shares { server, own: own.map(|(before, after)| share(before, after)) }
    }
}

impl Shares {
    /// With those of another window.
    pub(crate) fn and(self, other: Self) -> Self {
        let server = match (self.server, other.server) {
            (Some(Ok(one)), Some(Ok(two))) => Some(Ok(one.and(two))),
            (Some(Err(error)), _) | (_, Some(Err(error))) => Some(Err(error)),
            (one, two) => one.or(two),
        };
        let own = match (self.own, other.own) {
            (Some(one), Some(two)) => Some(one.and(two)),
            (one, two) => one.or(two),
        };
        Self { server, own }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn windows_add_up_and_what_lies_between_is_left_out() {
        let meters = Meters::new(Some(Processes { pids: vec![std::process::id()], with_children: false }));
        let window = |from: u64, to: u64| meters.read(from).until(&meters.read(to));
        let (one, two) = (window(10, 15), window(100, 107));
        let sum = one.server.clone().unwrap().unwrap().time.total_us
            + two.server.clone().unwrap().unwrap().time.total_us;
        let both = one.and(two);
        let server = both.server.unwrap().unwrap();
        assert_eq!((server.messages, both.own.unwrap().messages), (12, 12));
        assert!((server.time.total_us - sum).abs() < 1e-9);
    }

    #[test]
    fn a_process_that_is_gone_is_told() {
        let meters = Meters::new(Some(Processes { pids: vec![u32::MAX], with_children: false }));
        let shares = meters.read(0).until(&meters.read(1));
        assert!(shares.server.unwrap().is_err() && shares.own.is_some());
    }
}
