//! Committed messages for consumers on other threads, while they are still in memory.
//!
//! A bounded lock-free queue. Its items are slices of the batch buffer, which goes back to the pool when the last slice is dropped. The log
//! never waits for it: when queue or buffers are used up, a message is left out and counted, and consumers find it with
//! their cursor over the log.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

use crate::envelope::{Envelope, EnvelopeError};
use crate::record::{RECORD_HEADER_OCTETS, RecordFlags, RecordHeader};
use crate::{Lsn, MessageId};

/// A committed message in memory.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its id.
    pub id: MessageId,
    /// Its record header.
    pub header: RecordHeader,
    /// Messages that this log has committed before it since it was opened. A gap means that some were left out of the queue, and stand in the log.
    pub number: u64,
    pub(crate) record: Bytes,
}

impl Fresh {
    /// Position of its record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// Its envelope.
    ///
    /// # Errors
    /// Never for what this process wrote; the type is that of a reader.
    pub fn envelope(&self) -> Result<Envelope<'_>, EnvelopeError> {
        let (envelope, _) = self.content().ok_or(EnvelopeError::Malformed)?;
        Envelope::read(self.header.envelope_version, envelope)
    }

    /// Whether parts of the body are in chunk records, to be read from the log.
    #[must_use]
    pub fn chunked(&self) -> bool {
        self.header.flags.has(RecordFlags::CHUNKED)
    }

    /// The record's own body, without a copy; all of the body unless [`Fresh::chunked`].
    #[must_use]
    pub fn body(&self) -> Bytes {
        let start = RECORD_HEADER_OCTETS + self.header.envelope_octets as usize;
        self.record.slice(start..start + self.header.body_octets as usize)
    }

    pub(crate) fn content(&self) -> Option<(&[u8], &[u8])> {
        self.header.split(self.record.get(RECORD_HEADER_OCTETS..)?)
    }
}

/// What both ends share.
struct Shared {
    queue: ArrayQueue<Fresh>,
    /// Messages committed since the log was opened.
    committed: AtomicU64,
    /// The consumer waits for the waker.
    asleep: AtomicBool,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

/// Consumer's end of the queue. Clones share it: each message goes to one of them.
#[derive(Clone, Debug)]
pub struct FreshReceiver {
    shared: Arc<Shared>,
}

impl FreshReceiver {
    /// Messages that the log has committed since it was opened, whether or not they are or were in the queue.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Acquire)
    }

    /// What is called, on the thread of the log, after a commit of messages while the consumer [sleeps](Self::sleep). The first one stays.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.waker.set(Box::new(waker));
    }

    /// Asks for one call of the waker at the next commit of messages. A consumer looks at the queue and at the log once more after it, since a
    /// commit may have come between its last look and this call.
    pub fn sleep(&self) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        // Either the log sees that we sleep, or our next look sees what it has committed.
        fence(Ordering::SeqCst);
    }

    /// The next message, in the order of commit.
    #[must_use]
    pub fn pop(&self) -> Option<Fresh> {
        self.shared.queue.pop()
    }

    /// Messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

/// Log's end of the queue.
#[derive(Debug)]
pub(crate) struct FreshSender {
    shared: Arc<Shared>,
}

impl FreshSender {
    pub(crate) fn new(messages_max: usize) -> Self {
        let shared = Shared {
            queue: ArrayQueue::new(messages_max),
            committed: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            waker: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn receiver(&self) -> FreshReceiver {
        FreshReceiver { shared: Arc::clone(&self.shared) }
    }

    /// The number of the next message.
    pub(crate) fn next_number(&self) -> u64 {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Counts messages that were committed, once those that found room are in the queue.
    pub(crate) fn count(&self, messages: u64) {
        let before = self.next_number();
        self.shared.committed.store(before + messages, Ordering::Release);
    }

    /// Whether anyone takes messages.
    pub(crate) fn attached(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    pub(crate) fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// Whether there was room.
    pub(crate) fn push(&self, fresh: Fresh) -> bool {
        self.shared.queue.push(fresh).is_ok()
    }

    /// Wakes a consumer that sleeps.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::Relaxed)
            && self.shared.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.shared.waker.get()
        {
            waker();
        }
    }
}
