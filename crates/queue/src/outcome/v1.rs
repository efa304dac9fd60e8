//! Stored form of outcomes and checkpoints, version 1. Frozen: a change makes version 2 beside it.
//!
//! rkyv 0.8, little-endian, 32-bit relative pointers, aligned; the root lies at the end. Text is one arena that spans point into.
#![allow(
    unsafe_code,
    reason = "the derive macros of rkyv write unsafe impls; there is no other unsafe code here"
)]

use inrush_log::Span;
use rkyv::{Archive, Serialize};

/// What became of some recipients of a message, in one attempt or by one command.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(archived = ArchivedOutcomeV1)]
pub(super) struct OutcomeV1 {
    /// Where the message stands: raw LSN in the log of `place_kind` and `place_log`.
    pub(super) lsn: u64,
    pub(super) accepted_at_us: u64,
    /// Octets of the message as it is handed over, about.
    pub(super) octets: u64,
    pub(super) started_at_us: u64,
    pub(super) connected_at_us: u64,
    pub(super) sent_at_us: u64,
    pub(super) recipients_total: u32,
    pub(super) place_kind: u8,
    pub(super) place_log: u8,
    pub(super) flags: u16,
    pub(super) sender: Span,
    pub(super) destination: Span,
    pub(super) relay: Span,
    pub(super) tls: Span,
    pub(super) reserved: [u64; 2],
    pub(super) results: Vec<ResultV1>,
    pub(super) text: Vec<u8>,
}

/// What became of one recipient.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
#[rkyv(archived = ArchivedResultV1, derive(Clone, Copy, Debug))]
pub(super) struct ResultV1 {
    /// µs since 1970; only where the recipient is still owed.
    pub(super) next_attempt_us: u64,
    pub(super) recipient: u32,
    pub(super) attempts: u32,
    pub(super) status: u8,
    pub(super) flags: u8,
    pub(super) code: u16,
    pub(super) enhanced: [u16; 3],
    pub(super) reserved: u16,
    pub(super) address: Span,
    pub(super) reply: Span,
}

/// A part of the state of the queue.
#[derive(Archive, Serialize, Debug, Default)]
#[rkyv(archived = ArchivedCheckpointV1)]
pub(super) struct CheckpointV1 {
    /// Counts the checkpoints of a log.
    pub(super) generation: u64,
    pub(super) part: u8,
    pub(super) reserved: [u8; 3],
    /// Number or count of the parts with messages under way.
    pub(super) piece: u32,
    pub(super) lanes: Vec<LaneV1>,
    pub(super) entries: Vec<EntryV1>,
    pub(super) text: Vec<u8>,
}

/// How far the messages of an arrival log are accounted for.
#[derive(Archive, Serialize, Debug)]
#[rkyv(archived = ArchivedLaneV1)]
pub(super) struct LaneV1 {
    /// Everything below is, but for `open`.
    pub(super) taken: u64,
    pub(super) log: u8,
    pub(super) reserved: [u8; 3],
    /// 1 + offset of the log's uuid in the text; 0 = not said.
    pub(super) uuid: u32,
    /// Raw LSNs of messages that are under way.
    pub(super) open: Vec<u64>,
    /// Their recipients that are accounted for.
    pub(super) mentioned: Vec<MentionedV1>,
}

/// A recipient of a message under way that is accounted for.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
#[rkyv(archived = ArchivedMentionedV1, derive(Clone, Copy, Debug))]
pub(super) struct MentionedV1 {
    /// Index in [`LaneV1::open`].
    pub(super) open: u32,
    pub(super) recipient: u32,
}

/// Recipients of a message that are owed.
#[derive(Archive, Serialize, Debug)]
#[rkyv(archived = ArchivedEntryV1)]
pub(super) struct EntryV1 {
    pub(super) message_id: u64,
    pub(super) lsn: u64,
    pub(super) accepted_at_us: u64,
    pub(super) next_attempt_us: u64,
    pub(super) octets: u64,
    pub(super) recipients_total: u32,
    pub(super) attempts: u32,
    pub(super) place_kind: u8,
    pub(super) place_log: u8,
    pub(super) flags: u8,
    pub(super) reserved: [u8; 5],
    pub(super) destination: Span,
    /// Indices; those of a message with one recipient are `[0]`.
    pub(super) recipients: Vec<u32>,
}
