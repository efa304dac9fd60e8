//! The logs as their consumer gets them: whoever opens a data directory hands them over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use inrush_log::{Appender, DiskStorage, FreshReceiver, Lsn};

/// An arrival log that takes mail.
#[derive(Debug)]
pub struct ArrivalStore {
    /// Its number.
    pub log: u8,
    /// Its messages, while they are in memory.
    pub fresh: FreshReceiver,
    /// Where this life of the log begins.
    pub begin: Lsn,
    durable: Arc<AtomicU64>,
}

impl ArrivalStore {
    /// Of an appender that has taken nothing yet.
    #[must_use]
    pub fn of(log: u8, appender: &Appender) -> Self {
        let (fresh, durable) = (appender.fresh(), appender.durable_shared());
        Self { log, fresh, begin: appender.durable(), durable }
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }
}

/// The logs of a data directory as the queue uses them.
pub struct Stores {
    /// The data directory.
    pub storage: DiskStorage,
    /// Number of this node.
    pub node: u16,
    /// The arrival logs of the cores.
    pub arrivals: Vec<ArrivalStore>,
    /// The arrival log of what is made here.
    pub internal: Appender,
    /// The outcome log.
    pub outcome: Appender,
    /// The retry log.
    pub retry: Appender,
    /// Recovery has found damage in the outcome log.
    pub outcome_damaged: bool,
}
