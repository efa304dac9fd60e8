//! Buffers aligned to 4 KiB, and the bounded pool of batch buffers.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use rkyv::util::AlignedVec;

use crate::layout::{BATCH_OCTETS, BLOCK_OCTETS};

/// Zeroed memory of a fixed length, aligned as direct I/O wants it.
#[derive(Debug)]
pub(crate) struct AlignedBuffer(AlignedVec<BLOCK_OCTETS>);

impl AlignedBuffer {
    pub(crate) fn new(octets: usize) -> Self {
        let mut memory = AlignedVec::with_capacity(octets);
        memory.resize(octets, 0);
        Self(memory)
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Batch buffers of one log. Made when first needed, never more than the bound; those that consumers hold count too.
#[derive(Debug)]
pub(crate) struct Pool {
    free: ArrayQueue<AlignedBuffer>,
    made: AtomicUsize,
    shared: AtomicUsize,
    shared_max: usize,
}

impl Pool {
    pub(crate) fn new(own: usize, shared_max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: ArrayQueue::new(own + shared_max),
            made: AtomicUsize::new(0),
            shared: AtomicUsize::new(0),
            shared_max,
        })
    }

    /// A buffer, or `None` when all are in use. Called by the owner of the log only.
    pub(crate) fn take(&self) -> Option<AlignedBuffer> {
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        // Buffers with consumers come on top of the log's own, never out of them: what consumers do not use is not made for the log either.
        let own = self.free.capacity() - self.shared_max;
        let made = self.made.load(Ordering::Relaxed);
        if made >= own + self.shared.load(Ordering::Acquire).min(self.shared_max) {
            return None;
        }
        self.made.store(made + 1, Ordering::Relaxed);
        Some(AlignedBuffer::new(BATCH_OCTETS))
    }

    pub(crate) fn put(&self, buffer: AlignedBuffer) {
        // Never full: it has room for every buffer ever made.
        let _ = self.free.push(buffer);
    }

    /// Lends a buffer to consumers; gives it back when they have enough already.
    pub(crate) fn share(self: &Arc<Self>, buffer: AlignedBuffer) -> Result<SharedBuffer, AlignedBuffer> {
        if self.shared.load(Ordering::Acquire) >= self.shared_max {
            return Err(buffer);
        }
        self.shared.fetch_add(1, Ordering::AcqRel);
        Ok(SharedBuffer { buffer: Some(buffer), pool: Arc::clone(self) })
    }
}

/// A batch buffer that goes back to its pool when the last consumer lets go.
#[derive(Debug)]
pub(crate) struct SharedBuffer {
    buffer: Option<AlignedBuffer>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.put(buffer);
            self.pool.shared.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_shared_buffers_come_back() {
        let pool = Pool::new(2, 1);
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert_eq!(first.as_ptr() as usize % BLOCK_OCTETS, 0);
        let shared = pool.share(first).unwrap();
        // The consumer's buffer is replaced once, and only once.
        let third = pool.take().unwrap();
        assert!(pool.take().is_none());
        let second = pool.share(second).unwrap_err();
        drop(shared);
        pool.put(second);
        pool.put(third);
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(all.len(), 3);
    }
}
