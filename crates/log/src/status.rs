//! What the helper thread knows about a data directory, for whoever shows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Lsn;
use crate::cursor::ConsumerKind;
use crate::retention::RetireReason;

/// A data directory as last looked at, once a second. Counters are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryStatus {
    /// Free octets of the file system.
    pub free_bytes: u64,
    /// Free inodes of the file system; `u64::MAX` where it makes them as it needs them.
    pub free_inodes: u64,
    /// Sealed segments of all logs.
    pub segments_sealed: u64,
    /// Their octets.
    pub sealed_bytes: u64,
    /// Spares that wait under their own name, not counting segments that are ready.
    pub spares_waiting: u64,
    /// Logs that are read and drained only: of cores that are there no more.
    pub logs_adopted: u64,
    /// Segments retired, by [`RetireReason`] in its order.
    pub retired: [u64; RetireReason::ALL.len()],
    /// Retired segments that became spares; the others were removed.
    pub recycled: u64,
    /// Retirements that failed; they are tried again.
    pub retire_errors: u64,
    /// The wall clock has jumped ahead: retention by age goes on by the time since then.
    pub clock_distrusted: bool,
    /// Consumers of all logs.
    pub consumers: Vec<ConsumerStatus>,
}

/// A consumer of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Directory of the log.
    pub log: String,
    /// Its name.
    pub name: String,
    /// What the log owes it; a cursor that cannot be read counts as a required one.
    pub kind: ConsumerKind,
    /// Everything below is done with.
    pub position: Lsn,
    /// Octets of log from there to the durable end.
    pub lag_bytes: u64,
    /// When the first record that it has not consumed was accepted, in µs since 1970; `None` when there is none.
    pub oldest_at_us: Option<u64>,
    /// Segments that retention took before it was past them, since the start.
    pub segments_lost: u64,
    /// Its cursor cannot be read.
    pub damaged: bool,
}

/// Where the helper thread leaves the status.
#[derive(Clone, Debug, Default)]
pub struct StatusHandle(Arc<Mutex<DirectoryStatus>>);

impl StatusHandle {
    /// The latest status.
    #[must_use]
    pub fn get(&self) -> DirectoryStatus {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, DirectoryStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
