//! Counters of log lines. There is one log in a process, and whoever writes lines may do so before there are cores.

use std::sync::atomic::AtomicU64;

/// Log lines of this process.
#[derive(Debug, Default)]
pub struct Lines {
    /// Given to the target.
    pub written: AtomicU64,
    /// Lost, since the target took none or too few.
    pub dropped: AtomicU64,
    /// Left out and counted in another line, since they say the same as those before.
    pub repeated: AtomicU64,
}

/// The log lines of this process.
pub static LINES: Lines =
    Lines { written: AtomicU64::new(0), dropped: AtomicU64::new(0), repeated: AtomicU64::new(0) };
