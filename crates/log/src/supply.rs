//! Segments that are ready for use: handed from the helper thread to the appender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::Thread;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::error::NoSpace;
use crate::segment::SegmentHeader;

/// A segment with a durable name and header and no records.
pub(crate) struct ReadySegment<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<F>,
}

/// What the helper thread and the appender of one log share.
pub(crate) struct Supply<F> {
    ready: ArrayQueue<ReadySegment<F>>,
    /// Why nothing is ready, or why new mail is refused although something is.
    trouble: CachePadded<AtomicU8>,
    free_bytes: AtomicU64,
    waker: Box<dyn Fn() + Send + Sync>,
}

impl<F> Supply<F> {
    pub(crate) fn new(spares: usize, waker: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            ready: ArrayQueue::new(spares),
            trouble: CachePadded::new(AtomicU8::new(0)),
            free_bytes: AtomicU64::new(u64::MAX),
            waker,
        }
    }

    /// Takes the next segment and lets the helper make another one.
    pub(crate) fn take(&self, helper: Option<&Thread>) -> Option<ReadySegment<F>> {
        let segment = self.ready.pop();
        if let Some(helper) = helper {
            helper.unpark();
        }
        segment
    }

    /// Takes back what the appender has not used, at the end.
    pub(crate) fn take_back(&self) -> Option<ReadySegment<F>> {
        self.ready.pop()
    }

    pub(crate) fn put(&self, segment: ReadySegment<F>) -> Result<(), ReadySegment<F>> {
        self.ready.push(segment)?;
        (self.waker)();
        Ok(())
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many should be ready.
    pub(crate) fn wanted_ready(&self) -> usize {
        self.ready.capacity()
    }

    pub(crate) fn wanted(&self) -> bool {
        !self.ready.is_full()
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_free_bytes(&self, octets: u64) {
        self.free_bytes.store(octets, Ordering::Relaxed);
    }

    pub(crate) fn set_trouble(&self, trouble: Option<NoSpace>) {
        let number = match trouble {
            None => 0,
            Some(NoSpace::FreeSpaceLow) => 1,
            Some(NoSpace::DiskFull) => 2,
            Some(NoSpace::SegmentFailed | NoSpace::SegmentNotReady) => 3,
        };
        if self.trouble.swap(number, Ordering::Relaxed) != number {
            (self.waker)();
        }
    }

    pub(crate) fn trouble(&self) -> Option<NoSpace> {
        match self.trouble.load(Ordering::Relaxed) {
            1 => Some(NoSpace::FreeSpaceLow),
            2 => Some(NoSpace::DiskFull),
            3 => Some(NoSpace::SegmentFailed),
            _ => None,
        }
    }
}
