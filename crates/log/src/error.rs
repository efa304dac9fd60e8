//! Why the log did not take a record, and why it cannot go on.

use std::io;

use crate::layout::RECORD_OCTETS_MAX;

/// Why there is no room for new mail. Clears by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoSpace {
    /// The next segment is still being prepared.
    #[error("the next segment is not ready yet")]
    SegmentNotReady,
    /// The file system has fewer free octets than `free_bytes_min`.
    #[error("free space is below the mark")]
    FreeSpaceLow,
    /// The file system has fewer free inodes than `free_inodes_min`.
    #[error("free inodes are below the mark")]
    FreeInodesLow,
    /// The file system is full.
    #[error("the file system is full")]
    DiskFull,
    /// Preparing a segment fails for another reason.
    #[error("a segment cannot be prepared")]
    SegmentFailed,
}

/// Why the log did not take a record. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// All batch buffers are full or in flight: room comes with the next [`write_done`](crate::Appender::write_done).
    #[error("all batch buffers are in use")]
    BatchFull,
    /// No room on the disk (452 4.3.1).
    #[error("no space: {0}")]
    NoSpace(NoSpace),
    /// A write or sync failed before; the log takes nothing any more (451 4.3.0).
    #[error("the log is poisoned by a failed write")]
    Poisoned,
    /// The log was closed for an orderly stop.
    #[error("the log is closed")]
    Closed,
    /// The record would be larger than 256 KiB; for a message: its envelope alone is too large.
    #[error("record of {octets} octets, at most {RECORD_OCTETS_MAX} are allowed")]
    TooLarge {
        /// Upper bound of the record's size.
        octets: usize,
    },
    /// The pieces of the body had more octets than announced.
    #[error("the body is longer than announced")]
    BodyTooLong,
}

/// A write or sync failed. It is never tried again: the process must end, and recovery decides what is there.
#[derive(Debug, thiserror::Error)]
#[error("log {log} is poisoned: {what} of segment {segment} at offset {offset} failed: {error}")]
pub struct Poisoned {
    /// Name of the log.
    pub log: String,
    /// What failed.
    pub what: &'static str,
    /// Segment number.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
    /// The disk's words.
    pub error: io::Error,
}
