//! A message on its way into the journal: parts that came before its end, and the envelope.
//!
//! Most messages lie whole in the receive buffer when their end is seen and go from there into the log's batch. Only two
//! kinds come in parts: large ones, whose parts become chunk records while the rest is still arriving, and those in
//! several small `BDAT` chunks, which are gathered in a buffer of the pool until they are a chunk or the message ends.

use std::net::SocketAddr;

use inrush_log::{
    AppendError, Appended, Attribute, BodyFindings, BodyType, CHUNK_OCTETS_MAX, ChunkRef, EnvelopeRef,
    NoSpace, PhaseTimes, Protocol, Recipient, Ret, Span, Transfer, attribute_kind, notify,
};
use inrush_proto::{AppendFailure, BareNewline, Body, Kind, RECIPIENT_OCTETS, Session, Transaction};

use crate::buffers;
use crate::core::Core;
use crate::proxy::Introduction;
use crate::tls::Agreed;

const _: () = assert!(size_of::<Recipient>() <= RECIPIENT_OCTETS, "what was accepted fits into the envelope");

/// Gathered octets that are worth a chunk record of their own.
const CHUNK_WORTH: usize = CHUNK_OCTETS_MAX / 2;

/// How long a message waits for a segment that is being prepared, in microseconds, before it is refused.
const SEGMENT_WAIT: u64 = 10_000_000;

/// Why a part of a message was not taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// By the journal.
    Log(AppendError),
    /// The core's budget of mail data in memory is spent.
    Memory,
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        Self::Log(error)
    }
}

impl Refused {
    /// Whether room comes by itself: all batches are on their way to the disk, or the next segment is being prepared,
    /// which has not taken too long yet.
    pub(crate) fn worth_waiting(self, waited_us: u64) -> bool {
        match self {
            Self::Log(AppendError::BatchFull) => true,
            Self::Log(AppendError::NoSpace(NoSpace::SegmentNotReady)) => waited_us < SEGMENT_WAIT,
            _ => false,
        }
    }

    /// What the session core is told.
    pub(crate) fn failure(self) -> AppendFailure {
        match self {
            Self::Log(AppendError::NoSpace(_)) => AppendFailure::StorageFull,
            Self::Log(AppendError::TooLarge { .. }) => AppendFailure::TooLarge,
            Self::Log(AppendError::Hung) => AppendFailure::StorageHung,
            Self::Log(_) => AppendFailure::LocalError,
            Self::Memory => AppendFailure::PendingFull,
        }
    }
}

/// What the connection knows beside the transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) listener: &'a str,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<&'a Agreed>,
    pub(crate) introduction: Option<&'a Introduction>,
    pub(crate) times: PhaseTimes,
    pub(crate) session: u64,
}

/// What has been stored of the open transaction's mail data.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    gathered: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

impl Mail {
    /// Keeps a part that is not the last. After [`Refused::worth_waiting`] the same part is to be tried again.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn store(&mut self, core: &Core, body: Body<'_>) -> Result<(), Refused> {
        if self.gathered.is_empty() && body.octets_max() >= CHUNK_WORTH {
            let chunk = core.journal.append_chunk(body.pieces(), body.octets_max(), core.wall())?;
            self.chunks.push(chunk);
            return Ok(());
        }
        if self.gathered.len() + body.octets_max() > CHUNK_OCTETS_MAX {
            self.flush(core)?;
        }
        // No more than is there: a peer may send one octet and leave it at that.
        let needed = self.gathered.len() + body.octets_max();
        if needed > self.gathered.capacity() {
            // A part is never larger than a chunk, and the largest buffer takes one.
            let mut larger = core.pool.take(needed.max(buffers::COMMAND + 1)).map_err(|_| Refused::Memory)?;
            larger.extend_from_slice(&self.gathered);
            core.pool.give_back(std::mem::replace(&mut self.gathered, larger));
        }
        body.pieces().for_each(|piece| self.gathered.extend_from_slice(piece));
        Ok(())
    }

    /// Appends the message whose last part is `body`. After [`Refused::worth_waiting`] it is to be tried again; else
    /// the parts are to be discarded.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn finish(
        &mut self,
        core: &Core,
        session: &Session,
        facts: &Facts<'_>,
        body: Body<'_>,
    ) -> Result<Appended, Refused> {
        if !self.gathered.is_empty() && self.gathered.len() + body.octets_max() > CHUNK_OCTETS_MAX {
            self.flush(core)?;
        }
        let recipients = core.list_recipients(session.transaction());
        let notes = Notes::of(session, facts.introduction);
        let mut envelope = envelope(core, session, facts, &recipients, &self.chunks);
        if let Some(notes) = &notes {
            envelope.text = &notes.text;
            envelope.attributes = &notes.attributes;
        }
        let parts = std::iter::once(self.gathered.as_slice()).chain(body.pieces());
        let octets_max = self.gathered.len() + body.octets_max();
        let appended =
            core.journal.append_message(&envelope, parts, octets_max, core.clock.recent(), core.wall());
        core.give_back_recipients(recipients);
        Ok(appended?)
    }

    /// Forgets what was stored of a message: it is appended now, or will not be completed. Chunk records without their
    /// message are garbage that dies with its segment.
    pub(crate) fn discard(&mut self, core: &Core) {
        core.journal.abandon_chunks(&self.chunks);
        self.chunks.clear();
        if self.gathered.capacity() > 0 {
            core.pool.give_back(std::mem::take(&mut self.gathered));
        }
    }

    fn flush(&mut self, core: &Core) -> Result<(), Refused> {
        let gathered = std::iter::once(self.gathered.as_slice());
        let chunk = core.journal.append_chunk(gathered, self.gathered.len(), core.wall())?;
        self.chunks.push(chunk);
        self.gathered.clear();
        Ok(())
    }
}

/// The envelope of the transaction that has just ended; everything is borrowed.
fn envelope<'a>(
    core: &'a Core,
    session: &'a Session,
    facts: &Facts<'a>,
    recipients: &'a [Recipient],
    chunks: &'a [ChunkRef],
) -> EnvelopeRef<'a> {
    let transaction = session.transaction();
    let findings = transaction.findings();
    let envelope_id = transaction.envelope_id();
    // TLS that the proxy has ended is as good as ours: it is trusted with the address as well.
    let tls = facts.tls.or_else(|| facts.introduction.and_then(|introduction| introduction.tls.as_ref()));
    EnvelopeRef {
        text: transaction.text().as_bytes(),
        recipients,
        chunks,
        hostname: core.hostname.as_bytes(),
        listener: facts.listener.as_bytes(),
        peer: Some(facts.peer),
        local: Some(facts.local),
        protocol: match (session.context().kind(), session.protocol()) {
            (Kind::Lmtp, _) => Protocol::Lmtp,
            (_, "SMTP") => Protocol::Smtp,
            _ => Protocol::Esmtp,
        },
        peer_name: facts
            .introduction
            .and_then(|introduction| introduction.name.as_deref())
            .map(str::as_bytes),
        auth_identity: session.identity().map(|identity| identity.name.as_bytes()),
        auth_mechanism: session
            .identity()
            .and_then(|identity| identity.mechanism)
            .map(|mechanism| mechanism.name().as_bytes()),
        transfer: if transaction.chunking() { Transfer::Bdat } else { Transfer::Data },
        helo: session.hello_name().as_bytes(),
        reverse_path: transaction.reverse_path().as_str().as_bytes(),
        size_declared: transaction.size_declared(),
        body_type: match transaction.body_type() {
            inrush_proto::BodyType::SevenBit => BodyType::SevenBit,
            inrush_proto::BodyType::EightBitMime => BodyType::EightBitMime,
            inrush_proto::BodyType::BinaryMime => BodyType::BinaryMime,
        },
        ret: match transaction.ret() {
            None => Ret::Unspecified,
            Some(inrush_proto::Return::Full) => Ret::Full,
            Some(inrush_proto::Return::Headers) => Ret::Headers,
        },
        smtputf8: transaction.smtputf8(),
        requiretls: transaction.requiretls(),
        proxy: facts.introduction.and_then(|introduction| introduction.proxy),
        tls_version: tls.map(|tls| tls.version.as_bytes()),
        tls_cipher: tls.map(|tls| tls.cipher.as_bytes()),
        tls_sni: tls.and_then(|tls| tls.server_name.as_deref()).map(str::as_bytes),
        tls_client: tls.and_then(|tls| tls.client.as_deref()).map(str::as_bytes),
        envid: (!envelope_id.is_empty()).then_some(envelope_id.as_bytes()),
        findings: BodyFindings {
            octets_received: findings.octets,
            lines: findings.lines,
            dot_lines: findings.dot_lines,
            longest_line: findings.longest_line,
            header_octets: transaction.header_octets(),
            received_count: transaction.hops(),
            bare_cr: findings.bare_cr,
            bare_lf: findings.bare_lf,
            nul: findings.nul,
            eight_bit: findings.eight_bit,
            ends_with_crlf: findings.ends_with_crlf,
            normalized: session.context().bare_newline() == BareNewline::Normalize
                && !transaction.chunking()
                && (findings.bare_cr || findings.bare_lf),
        },
        times: facts.times,
        session: facts.session,
        transaction: session.transactions(),
        ..EnvelopeRef::default()
    }
}

/// What has no field of its own in the envelope: few messages have any.
struct Notes {
    text: Vec<u8>,
    attributes: Vec<Attribute>,
}

impl Notes {
    fn of(session: &Session, introduction: Option<&Introduction>) -> Option<Self> {
        let transaction = session.transaction();
        let unique_id = introduction.and_then(|introduction| introduction.unique_id.as_deref());
        // RFC 6409 §8: of a message of a user, and of no other, since it breaks signatures.
        let submitted = session.context().kind() == Kind::Submission;
        let lacking = [("Date", transaction.has_date()), ("Message-ID", transaction.has_message_id())];
        let added = lacking.into_iter().filter(|(_, there)| submitted && !there);
        let added = added.map(|(name, _)| (attribute_kind::ADDED_FIELD, name, None));
        let noted = unique_id.map(|id| (attribute_kind::NOTE, "proxy_unique_id", Some(id)));
        let mut all = noted.into_iter().chain(added).peekable();
        all.peek()?;
        let mut text = transaction.text().as_bytes().to_vec();
        let mut push = |octets: &str| {
            let offset = u32::try_from(text.len()).unwrap_or(u32::MAX);
            text.extend_from_slice(octets.as_bytes());
            Span::new(offset, u32::try_from(octets.len()).unwrap_or(0))
        };
        let attributes = all.map(|(kind, name, value)| {
            let name = push(name);
            Attribute { scope: Attribute::MESSAGE, kind, name, value: value.map_or(Span::ABSENT, &mut push) }
        });
        let attributes = attributes.collect();
        Some(Self { text, attributes })
    }
}

/// Fills `list` with the recipients as the log keeps them.
pub(crate) fn list_recipients(transaction: &Transaction, list: &mut Vec<Recipient>) {
    let span = |span: inrush_proto::Span| Span::new(span.offset, span.octets);
    list.extend(transaction.recipient_spans().iter().map(|recipient| Recipient {
        path: span(recipient.path.mailbox),
        orcpt: if recipient.original.octets == 0 { Span::ABSENT } else { span(recipient.original) },
        notify: notify_bits(recipient.notify),
        reserved: [0; 3],
    }));
}

fn notify_bits(requested: inrush_proto::Notify) -> u8 {
    use inrush_proto::Notify;
    [
        (Notify::NEVER, notify::NEVER),
        (Notify::SUCCESS, notify::SUCCESS),
        (Notify::FAILURE, notify::FAILURE),
        (Notify::DELAY, notify::DELAY),
    ]
    .into_iter()
    .filter_map(|(member, bit)| requested.contains(member).then_some(bit))
    .sum()
}
