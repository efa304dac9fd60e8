//! Whether the gateway takes mail, and why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inrush_metrics::{Gauge, Metrics, Resource};

/// What refuses mail or connections at its hard mark. A log without space or without an answer says so itself; without TLS handshakes there is
/// still mail.
const REFUSING: [Resource; 5] = [
    Resource::Connections,
    Resource::Descriptors,
    Resource::Memory,
    Resource::PendingBytes,
    Resource::LogBacklog,
];

/// Switches of the cores: each says whether its core takes connections.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    cores: Vec<Arc<AtomicBool>>,
    draining: Arc<AtomicBool>,
}

impl From<Vec<Arc<AtomicBool>>> for Readiness {
    fn from(cores: Vec<Arc<AtomicBool>>) -> Self {
        Self { cores, draining: Arc::default() }
    }
}

impl Readiness {
    /// Of cores with these switches, in a process that sets `draining` when it is about to end.
    #[must_use]
    pub fn new(cores: Vec<Arc<AtomicBool>>, draining: Arc<AtomicBool>) -> Self {
        Self { cores, draining }
    }

    /// Cores that take connections.
    pub(crate) fn accepting(&self) -> u64 {
        self.cores.iter().filter(|core| core.load(Ordering::Acquire)).count() as u64
    }

    /// Why new mail would be refused; empty when it is taken.
    #[must_use]
    pub fn reasons(&self, metrics: &Metrics) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining: the gateway is about to end".to_owned());
        }
        let closed = self.cores.len() as u64 - self.accepting();
        if closed > 0 {
            reasons.push(format!("{closed} of {} cores take no connections", self.cores.len()));
        }
        let snapshot = metrics.snapshot();
        for (gauge, why) in [
            (Gauge::LogPoisoned, "logs are poisoned by a failed write"),
            (Gauge::LogNoSpace, "logs have no space for new mail"),
            (Gauge::LogHung, "logs have no answer from the disk"),
        ] {
            let logs = snapshot.gauge(gauge);
            if logs > 0 {
                reasons.push(format!("{logs} of {} {why}", snapshot.cores()));
            }
        }
        for resource in REFUSING {
            let cores = snapshot.cores_at_hard_mark(resource);
            if cores > 0 {
                reasons.push(format!(
                    "{cores} of {} cores have reached {}",
                    snapshot.cores(),
                    resource.value()
                ));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use inrush_metrics::{Level, Names};

    use super::*;

    #[test]
    fn each_reason_is_told_and_goes_away() {
        let metrics = Metrics::new(Names::default(), 2);
        let cores = vec![Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
        let draining = Arc::new(AtomicBool::new(false));
        let readiness = Readiness::new(cores.clone(), Arc::clone(&draining));
        assert!(readiness.reasons(&metrics).is_empty());
        draining.store(true, Ordering::Release);
        assert_eq!(readiness.reasons(&metrics), ["draining: the gateway is about to end"]);
        draining.store(false, Ordering::Release);
        cores[1].store(false, Ordering::Release);
        let writer = metrics.core(0).writer().unwrap();
        writer.set(Gauge::LogPoisoned, 1);
        writer.set(Gauge::LogNoSpace, 1);
        writer.set(Gauge::LogHung, 1);
        writer.pressure(Resource::PendingBytes, Level::Hard);
        writer.pressure(Resource::Connections, Level::Soft);
        writer.pressure(Resource::LogSpace, Level::Hard);
        assert_eq!(
            readiness.reasons(&metrics),
            [
                "1 of 2 cores take no connections",
                "1 of 2 logs are poisoned by a failed write",
                "1 of 2 logs have no space for new mail",
                "1 of 2 logs have no answer from the disk",
                "1 of 2 cores have reached pending_bytes_max"
            ]
        );
        cores[1].store(true, Ordering::Release);
        writer.set(Gauge::LogPoisoned, 0);
        writer.set(Gauge::LogNoSpace, 0);
        writer.set(Gauge::LogHung, 0);
        writer.pressure(Resource::PendingBytes, Level::Soft);
        assert!(readiness.reasons(&metrics).is_empty());
    }
}
