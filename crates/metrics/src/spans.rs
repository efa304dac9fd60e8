//! Counters of spans. There is one way out for them in a process.

use std::sync::atomic::AtomicU64;

/// Spans of this process.
#[derive(Debug, Default)]
pub struct Spans {
    /// Taken by the endpoint.
    pub sent: AtomicU64,
    /// Lost, since too many waited or the endpoint took none.
    pub dropped: AtomicU64,
}

/// The spans of this process.
pub static SPANS: Spans = Spans { sent: AtomicU64::new(0), dropped: AtomicU64::new(0) };
