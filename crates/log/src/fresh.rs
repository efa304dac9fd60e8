//! Committed messages for consumers on other threads, while they are still in memory.
//!
//! A bounded lock-free queue. Its items are slices of the batch buffer, which goes back to the pool when the last slice is dropped. The log
//! never waits for it: when queue or buffers are used up, a message is left out and counted, and consumers find it with
//! their cursor over the log.

use std::sync::Arc;

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
    record: Bytes,
}

impl Fresh {
    pub(crate) fn new(id: MessageId, header: RecordHeader, record: Bytes) -> Self {
        Self { id, header, record }
    }

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

    fn content(&self) -> Option<(&[u8], &[u8])> {
        self.header.split(self.record.get(RECORD_HEADER_OCTETS..)?)
    }
}

/// Consumer's end of the queue. Clones share it: each message goes to one of them.
#[derive(Clone, Debug)]
pub struct FreshReceiver {
    queue: Arc<ArrayQueue<Fresh>>,
}

impl FreshReceiver {
    /// The next message, in the order of commit.
    #[must_use]
    pub fn pop(&self) -> Option<Fresh> {
        self.queue.pop()
    }

    /// Messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Log's end of the queue.
#[derive(Debug)]
pub(crate) struct FreshSender {
    queue: Arc<ArrayQueue<Fresh>>,
}

impl FreshSender {
    pub(crate) fn new(messages_max: usize) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(messages_max)) }
    }

    pub(crate) fn receiver(&self) -> FreshReceiver {
        FreshReceiver { queue: Arc::clone(&self.queue) }
    }

    /// Whether anyone takes messages.
    pub(crate) fn attached(&self) -> bool {
        Arc::strong_count(&self.queue) > 1
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Whether there was room.
    pub(crate) fn push(&self, fresh: Fresh) -> bool {
        self.queue.push(fresh).is_ok()
    }
}
