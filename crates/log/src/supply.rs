//! What the helper thread and the appender of one log tell each other: segments that are ready, segments that are sealed, the state of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::Thread;

use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;

use crate::Lsn;
use crate::error::NoSpace;
use crate::retention::SealedSegment;
use crate::segment::SegmentHeader;

/// A segment with a durable name and header and no records.
pub(crate) struct ReadySegment<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<F>,
}

/// What the helper thread and the appender of one log share.
pub(crate) struct Supply<F> {
    ready: ArrayQueue<ReadySegment<F>>,
    /// Sealed by the appender and not yet seen by the helper; one in a segment's time.
    sealed: SegQueue<SealedSegment>,
    /// The lowest chunk that an open segment needs, or an open transaction.
    needed_from: AtomicU64,
    durable: Arc<AtomicU64>,
    /// Why nothing is ready, or why new mail is refused although something is.
    trouble: CachePadded<AtomicU8>,
    low: AtomicBool,
    waker: Box<dyn Fn() + Send + Sync>,
}

const TROUBLES: [NoSpace; 4] =
    [NoSpace::FreeSpaceLow, NoSpace::FreeInodesLow, NoSpace::DiskFull, NoSpace::SegmentFailed];

impl<F> Supply<F> {
    pub(crate) fn new(spares: usize, waker: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            ready: ArrayQueue::new(spares),
            sealed: SegQueue::new(),
            needed_from: AtomicU64::new(u64::MAX),
            durable: Arc::default(),
            trouble: CachePadded::new(AtomicU8::new(0)),
            low: AtomicBool::new(false),
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

    /// Tells the helper of a segment whose seal is durable. Before [`set_needed_from`](Self::set_needed_from) forgets its chunks.
    pub(crate) fn sealed(&self, segment: SealedSegment) {
        self.sealed.push(segment);
    }

    /// Tells the helper the lowest chunk that is needed from outside of sealed segments.
    pub(crate) fn set_needed_from(&self, lsn: Lsn) {
        self.needed_from.store(lsn.get(), Ordering::Release);
    }

    /// Hands out what was sealed; gives back the lowest chunk that is needed. Looked at before and after: a chunk that is needed no more when the
    /// segment of its message is handed out was needed before, and one that was appended into a segment that is handed out is needed after.
    pub(crate) fn drain_sealed(&self, mut take: impl FnMut(SealedSegment)) -> Lsn {
        let before = self.needed_from.load(Ordering::Acquire);
        while let Some(segment) = self.sealed.pop() {
            take(segment);
        }
        Lsn::new(before.min(self.needed_from.load(Ordering::Acquire)))
    }

    /// Where the appender tells its durable LSN.
    pub(crate) fn durable_shared(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable)
    }

    /// Everything below is durable.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn set_trouble(&self, trouble: Option<NoSpace>) {
        let place = trouble.map(|trouble| TROUBLES.iter().position(|known| *known == trouble));
        // Without a place: a segment that is not ready is no trouble of the helper.
        let number = place.map_or(0, |place| place.map_or(TROUBLES.len(), |place| place + 1));
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        if self.trouble.swap(number, Ordering::Relaxed) != number {
            (self.waker)();
        }
    }

    pub(crate) fn trouble(&self) -> Option<NoSpace> {
        let number = usize::from(self.trouble.load(Ordering::Relaxed));
        number.checked_sub(1).and_then(|place| TROUBLES.get(place).copied())
    }

    /// Whether free space or inodes are below their soft marks.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    pub(crate) fn set_low(&self, low: bool) {
        if self.low.swap(low, Ordering::Relaxed) != low {
            (self.waker)();
        }
    }
}
