//! What became of a message's recipients, as the outcome log keeps it.
//!
//! One record of kind Outcome for each attempt or command: whose it was, where the message stands, what each recipient came to. One record of kind
//! Checkpoint for each part of the queue's state. Both are folded in the order of the log by [`fold`](crate::fold()).
//! All text is octets as received: nothing here is trusted to be UTF-8 or free of control characters.

mod checkpoint;
mod size;
mod v1;

pub(crate) use checkpoint::{CHECKPOINT_OCTETS, UNKNOWN, entry_octets};
pub use checkpoint::{CheckpointPart, CheckpointRef, EntryRef, LaneRef, OpenRef};
pub use size::NOTE_OCTETS_MAX;

use inrush_log::{LogKind, Lsn, MessageId, Span};
use rkyv::api::low::access;
use rkyv::rancor::{Error, Failure};

use self::v1::{ArchivedOutcomeV1, OutcomeV1, ResultV1};

/// Version of the content that is written.
pub const OUTCOME_VERSION: u16 = 1;

/// Octets of a reply that are kept; the same for the names of a host and of its TLS.
pub const REPLY_OCTETS_MAX: usize = 1024;
/// Octets of a path or destination that are kept: a command of SMTP has no longer ones.
const PATH_OCTETS_MAX: usize = 64 << 10;

/// What a recipient has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The next hop or the mailbox has taken it.
    Sent = 1,
    /// Given up for good; the sender was told where that was due.
    Bounced = 2,
    /// Given up after [`QueueSettings::lifetime`](crate::QueueSettings::lifetime).
    Expired = 3,
    /// Taken out of the queue by an operator, without a word to the sender.
    Deleted = 4,
    /// Still owed: the next attempt is due at a given time.
    Deferred = 5,
    /// Still owed, but nothing is tried until it is released.
    Held = 6,
}

impl Status {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Sent, Self::Bounced, Self::Expired, Self::Deleted, Self::Deferred, Self::Held];

    /// The word of logs and listings; Postfix's where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::Deferred => "deferred",
            Self::Held => "hold",
        }
    }

    /// Whether the recipient is still owed the message.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Deferred | Self::Held)
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as u8 == number)
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Arrival or retry.
    pub kind: LogKind,
    /// Number of the log.
    pub log: u8,
    /// Position of the record.
    pub lsn: Lsn,
}

impl Place {
    fn read(kind: u8, log: u8, lsn: u64) -> Option<Self> {
        let kind = [LogKind::Arrival, LogKind::Retry].into_iter().find(|known| *known as u8 == kind)?;
        Some(Self { kind, log, lsn: Lsn::new(lsn) })
    }

    /// The place of a message's first acceptance.
    #[must_use]
    pub fn arrival(id: MessageId) -> Self {
        Self { kind: LogKind::Arrival, log: id.log, lsn: id.lsn }
    }
}

/// Bits of [`ResultRef::flags`].
pub mod result_flag {
    /// The sender has been told of the delay.
    pub const DELAY_TOLD: u8 = 1;
    /// Put off without an attempt: its destination is busy or down.
    pub const PARKED: u8 = 2;
    /// A delivery status notification was made.
    pub const TOLD: u8 = 4;
}

/// Bits of [`OutcomeRef::flags`].
pub mod outcome_flag {
    /// By an operator's command.
    pub const COMMAND: u16 = 1;
    /// The message has moved: every recipient that is not named stays as it was.
    pub const MOVED: u16 = 2;
    /// A command to deliver again: the recipients named are owed once more.
    pub const REPLAY: u16 = 4;
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultRef<'a> {
    /// Index in the envelope.
    pub recipient: u32,
    /// What it came to.
    pub status: Status,
    /// See [`result_flag`].
    pub flags: u8,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// When the next one is due, in µs since 1970; 0 where none is.
    pub next_attempt_us: u64,
    /// Reply code; 0 where no host has answered.
    pub code: u16,
    /// Class, subject and detail (RFC 3463).
    pub enhanced: [u16; 3],
    /// Forward-path.
    pub address: &'a [u8],
    /// The remote host's words, or ours; at most [`REPLY_OCTETS_MAX`] octets are kept.
    pub reply: &'a [u8],
}

/// What became of some recipients of a message, in one attempt or by one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRef<'a> {
    /// The message.
    pub id: MessageId,
    /// When it happened, in µs since 1970.
    pub at_us: u64,
    /// Where the message stands.
    pub place: Place,
    /// When it was accepted, in µs since 1970.
    pub accepted_at_us: u64,
    /// Octets of the message, about.
    pub octets: u64,
    /// Recipients in its envelope.
    pub recipients_total: u32,
    /// See [`outcome_flag`].
    pub flags: u16,
    /// Reverse-path.
    pub sender: &'a [u8],
    /// Where to: the route's name, and behind a colon the domain where the route goes by it.
    pub destination: &'a [u8],
    /// The host that was spoken to, as `name[address]:port`; empty where none was.
    pub relay: &'a [u8],
    /// TLS of that connection, as `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty without.
    pub tls: &'a [u8],
    /// When the message was taken up for this attempt; 0 = no attempt.
    pub started_at_us: u64,
    /// When the connection stood, in µs since 1970; 0 = none did.
    pub connected_at_us: u64,
    /// When the message began to be sent; 0 = it did not.
    pub sent_at_us: u64,
    /// One for each recipient concerned.
    pub results: &'a [ResultRef<'a>],
}

impl OutcomeRef<'_> {
    /// Nothing has been tried, and nothing is known but which message it is about, where that stands, and when.
    #[must_use]
    pub fn without_attempt(id: MessageId, place: Place, at_us: u64) -> Self {
        Self {
            id,
            at_us,
            place,
            accepted_at_us: 0,
            octets: 0,
            recipients_total: 0,
            flags: 0,
            sender: b"",
            destination: b"",
            relay: b"",
            tls: b"",
            started_at_us: 0,
            connected_at_us: 0,
            sent_at_us: 0,
            results: &[],
        }
    }
}

/// Why a record of the outcome log cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A version that this program does not know.
    #[error("outcome version {0} is not known")]
    Version(u16),
    /// The structure does not hold.
    #[error("outcome is malformed")]
    Malformed,
}

/// A text arena under construction.
#[derive(Default)]
struct Arena {
    text: Vec<u8>,
    last: Span,
}

impl Arena {
    fn add(&mut self, text: &[u8]) -> Span {
        if text.is_empty() {
            return Span::ABSENT;
        }
        // Recipients of one attempt mostly share the reply.
        let start = self.last.offset as usize;
        if self.text.get(start..start.saturating_add(self.last.octets as usize)) == Some(text) {
            return self.last;
        }
        let span = Span::new(number(self.text.len()), number(text.len()));
        self.text.extend_from_slice(text);
        self.last = span;
        span
    }
}

/// The beginning of a text, as far as it is kept.
fn cut(text: &[u8], octets_max: usize) -> &[u8] {
    &text[..text.len().min(octets_max)]
}

fn number(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}

impl OutcomeRef<'_> {
    /// The stored form: at most [`NOTE_OCTETS_MAX`] octets for one of [`parts`](Self::parts).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut arena = Arena::default();
        let sender = arena.add(cut(self.sender, PATH_OCTETS_MAX));
        let destination = arena.add(cut(self.destination, PATH_OCTETS_MAX));
        let relay = arena.add(cut(self.relay, REPLY_OCTETS_MAX));
        let tls = arena.add(cut(self.tls, REPLY_OCTETS_MAX));
        let result = |result: &ResultRef<'_>, arena: &mut Arena| ResultV1 {
            next_attempt_us: result.next_attempt_us,
            recipient: result.recipient,
            attempts: result.attempts,
            status: result.status as u8,
            flags: result.flags,
            code: result.code,
            enhanced: result.enhanced,
            reserved: 0,
            address: Span::ABSENT,
            reply: arena.add(cut(result.reply, REPLY_OCTETS_MAX)),
        };
        let mut results: Vec<_> = self.results.iter().map(|one| result(one, &mut arena)).collect();
        for (stored, given) in results.iter_mut().zip(self.results) {
            stored.address = arena.add(cut(given.address, PATH_OCTETS_MAX));
        }
        let root = OutcomeV1 {
            lsn: self.place.lsn.get(),
            accepted_at_us: self.accepted_at_us,
            octets: self.octets,
            started_at_us: self.started_at_us,
            connected_at_us: self.connected_at_us,
            sent_at_us: self.sent_at_us,
            recipients_total: self.recipients_total,
            place_kind: self.place.kind as u8,
            place_log: self.place.log,
            flags: self.flags,
            sender,
            destination,
            relay,
            tls,
            reserved: [0; 2],
            results,
            text: arena.text,
        };
        stored(&root)
    }
}

/// Octets of a stored root.
fn stored(
    root: &impl for<'a> rkyv::Serialize<
        rkyv::api::high::HighSerializer<rkyv::util::AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, Error>,
    >,
) -> Vec<u8> {
    // Writing into memory fails only where there is none, which ends the process.
    rkyv::to_bytes::<Error>(root).map(|octets| octets.to_vec()).unwrap_or_default()
}

/// A stored outcome whose structure and spans have been checked.
pub struct StoredOutcome<'a> {
    root: &'a ArchivedOutcomeV1,
    results: Vec<ResultRef<'a>>,
    id: MessageId,
    at_us: u64,
    place: Place,
}

impl<'a> StoredOutcome<'a> {
    /// Checks the content of an Outcome record; `octets` begin at an address that is a multiple of 8, as they do in every buffer of the log.
    ///
    /// # Errors
    /// The version is not known, or the structure does not hold.
    pub fn read(version: u16, octets: &'a [u8], id: MessageId, at_us: u64) -> Result<Self, NoteError> {
        if version != OUTCOME_VERSION {
            return Err(NoteError::Version(version));
        }
        let root = access::<ArchivedOutcomeV1, Failure>(octets).map_err(|_| NoteError::Malformed)?;
        let text = root.text.as_slice();
        let place = Place::read(root.place_kind, root.place_log, root.lsn.to_native());
        let place = place.ok_or(NoteError::Malformed)?;
        let mut results = Vec::with_capacity(root.results.len());
        for result in root.results.iter() {
            results.push(ResultRef {
                recipient: result.recipient.to_native(),
                status: Status::from_number(result.status).ok_or(NoteError::Malformed)?,
                flags: result.flags,
                attempts: result.attempts.to_native(),
                next_attempt_us: result.next_attempt_us.to_native(),
                code: result.code.to_native(),
                enhanced: result.enhanced.map(|number| number.to_native()),
                address: span(text, result.address.offset.to_native(), result.address.octets.to_native())?,
                reply: span(text, result.reply.offset.to_native(), result.reply.octets.to_native())?,
            });
        }
        for one in [&root.sender, &root.destination, &root.relay, &root.tls] {
            span(text, one.offset.to_native(), one.octets.to_native())?;
        }
        Ok(Self { root, results, id, at_us, place })
    }

    /// The outcome.
    #[must_use]
    pub fn get(&self) -> OutcomeRef<'_> {
        let root = self.root;
        let text = |one: &<Span as rkyv::Archive>::Archived| {
            span(root.text.as_slice(), one.offset.to_native(), one.octets.to_native()).unwrap_or_default()
        };
        OutcomeRef {
            id: self.id,
            at_us: self.at_us,
            place: self.place,
            accepted_at_us: root.accepted_at_us.to_native(),
            octets: root.octets.to_native(),
            recipients_total: root.recipients_total.to_native(),
            flags: root.flags.to_native(),
            sender: text(&root.sender),
            destination: text(&root.destination),
            relay: text(&root.relay),
            tls: text(&root.tls),
            started_at_us: root.started_at_us.to_native(),
            connected_at_us: root.connected_at_us.to_native(),
            sent_at_us: root.sent_at_us.to_native(),
            results: &self.results,
        }
    }
}

/// A part of an arena; nothing for an absent one.
fn span(text: &[u8], offset: u32, octets: u32) -> Result<&[u8], NoteError> {
    if offset == u32::MAX {
        return Ok(&[]);
    }
    let start = offset as usize;
    text.get(start..start.saturating_add(octets as usize)).ok_or(NoteError::Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn result(recipient: u32) -> ResultRef<'static> {
        ResultRef {
            recipient,
            status: Status::Deferred,
            flags: result_flag::PARKED,
            attempts: 3,
            next_attempt_us: 9_000_000,
            code: 451,
            enhanced: [4, 7, 1],
            address: b"a@example.com",
            reply: b"try later",
        }
    }

    #[test]
    fn what_was_stored_is_read() {
        let id = MessageId { node: 1, log: 2, lsn: Lsn::new(0x1000) };
        let results = [result(0), ResultRef { status: Status::Sent, reply: b"", ..result(70) }];
        let outcome = OutcomeRef {
            id,
            at_us: 5,
            place: Place { kind: LogKind::Retry, log: 0, lsn: Lsn::new(0x2000) },
            accepted_at_us: 3,
            octets: 4096,
            recipients_total: 71,
            flags: outcome_flag::COMMAND,
            sender: b"",
            destination: b"out:example.com",
            relay: b"mx.example.com[192.0.2.1]:25",
            tls: b"",
            started_at_us: 1,
            connected_at_us: 2,
            sent_at_us: 4,
            results: &results,
        };
        let stored = outcome.encode();
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(&stored);
        assert_eq!(StoredOutcome::read(1, &aligned, id, 5).unwrap().get(), outcome);
        assert_eq!(StoredOutcome::read(2, &aligned, id, 5).err(), Some(NoteError::Version(2)));
        for bit in 0..aligned.len() * 8 {
            let mut bad = aligned.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Whatever it says, it does not panic.
            let _ = StoredOutcome::read(1, &bad, id, 5).map(|outcome| outcome.get().results.len());
        }
        for octets in 0..aligned.len() {
            let _ = StoredOutcome::read(1, &aligned[..octets], id, 5);
        }
    }
}
