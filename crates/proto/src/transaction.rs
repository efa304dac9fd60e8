//! A mail transaction: reverse-path, recipients, parameters, and what is known about the data so far.
//!
//! All text lies in one arena, addressed by spans, so that a transaction is two allocations however many recipients it
//! has, and is written into the log without building anything else. Transactions are recycled by the
//! [`Context`](crate::Context).

use inrush_scan::{Findings, Scanner};

use crate::header::Header;
use crate::parameters::{BodyType, MailParameters, Notify, Return};
use crate::{Path, Reply};

/// A piece of [`Transaction::text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Octets from the start of the text.
    pub offset: u32,
    /// Octets.
    pub octets: u32,
}

/// A path in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathSpan {
    /// The mailbox without brackets and source route; empty for the null path.
    pub mailbox: Span,
    /// Octets of the local part at its front.
    pub local_octets: u16,
}

/// One accepted recipient, as spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientSpans {
    /// The forward-path.
    pub path: PathSpan,
    /// ORCPT as it was sent (`addr-type;xtext`); empty when it was not.
    pub original: Span,
    /// NOTIFY.
    pub notify: Notify,
}

/// One recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// The forward-path.
    pub path: Path<'a>,
    /// ORCPT as it was sent (`addr-type;xtext`), RFC 3461 §4.2; empty when it was not.
    pub original: &'a str,
    /// NOTIFY, RFC 3461 §4.1.
    pub notify: Notify,
}

/// What the client has said about one message.
#[derive(Debug, Default)]
pub struct Transaction {
    text: String,
    recipients: Vec<RecipientSpans>,
    reverse_path: PathSpan,
    envelope_id: Span,
    size_declared: Option<u64>,
    body_type: BodyType,
    ret: Option<Return>,
    smtputf8: bool,
    requiretls: bool,
    pub(crate) data: Data,
}

/// What is known about the mail data of the open transaction.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) scanner: Scanner,
    pub(crate) header: Header,
    /// Octets at the front of the unconsumed input that the scanner has seen.
    pub(crate) scanned: usize,
    /// End of the data in the unconsumed input, one past the end-of-data indication, once it was found.
    pub(crate) end: Option<usize>,
    /// The first thing that spoils the message besides the findings of the scanner.
    pub(crate) failure: Option<&'static Reply>,
    /// A piece has left the session.
    pub(crate) handed_out: bool,
    /// A BDAT command was accepted.
    pub(crate) chunking: bool,
    /// Findings of the whole data, set when it is complete.
    pub(crate) findings: Findings,
}

impl Transaction {
    /// The arena that all spans point into.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span of this transaction.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.offset as usize..(span.offset + span.octets) as usize).unwrap_or_default()
    }

    /// The reverse-path.
    pub fn reverse_path(&self) -> Path<'_> {
        self.path(self.reverse_path)
    }

    /// The reverse-path as a span.
    pub fn reverse_path_span(&self) -> PathSpan {
        self.reverse_path
    }

    /// The accepted recipients in the order in which they came.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = Recipient<'_>> {
        self.recipients.iter().map(|&spans| self.recipient(spans))
    }

    /// The accepted recipients as spans.
    pub fn recipient_spans(&self) -> &[RecipientSpans] {
        &self.recipients
    }

    /// SIZE as declared (RFC 1870 §6); never compared with what comes.
    pub fn size_declared(&self) -> Option<u64> {
        self.size_declared
    }

    /// BODY (RFC 6152 §3, RFC 3030 §3).
    pub fn body_type(&self) -> BodyType {
        self.body_type
    }

    /// SMTPUTF8 was given (RFC 6531 §3.4).
    pub fn smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// Whether the message may only go on under verified TLS (REQUIRETLS, RFC 8689).
    pub fn requiretls(&self) -> bool {
        self.requiretls
    }

    /// RET (RFC 3461 §4.3).
    pub fn ret(&self) -> Option<Return> {
        self.ret
    }

    /// ENVID as it was sent, in xtext (RFC 3461 §4.4); empty when it was not.
    pub fn envelope_id(&self) -> &str {
        self.slice(self.envelope_id)
    }

    /// ENVID as a span.
    pub fn envelope_id_span(&self) -> Span {
        self.envelope_id
    }

    /// The data came by BDAT, so that it may hold anything.
    pub fn chunking(&self) -> bool {
        self.data.chunking
    }

    /// What the scanner saw in the data as it came; complete at [`Event::Message`](crate::Event::Message).
    pub fn findings(&self) -> Findings {
        self.data.findings
    }

    /// Octets of the message as RFC 1870 §3 counts them; complete at [`Event::Message`](crate::Event::Message).
    pub fn message_octets(&self) -> u64 {
        message_octets(self.data.findings, self.data.chunking)
    }

    /// Whether the header section has a `Date` (RFC 6409 §8.2).
    pub fn has_date(&self) -> bool {
        self.data.header.has_date()
    }

    /// Whether the header section has a `Message-ID` (RFC 6409 §8.3).
    pub fn has_message_id(&self) -> bool {
        self.data.header.has_message_id()
    }

    /// `Received` fields in the header section.
    pub fn hops(&self) -> u32 {
        self.data.header.hops()
    }

    /// Octets of the header section with the empty line behind it, as far as it has been seen.
    pub fn header_octets(&self) -> u32 {
        self.data.header.octets()
    }

    pub(crate) fn open(&mut self, path: Path<'_>, parameters: &MailParameters<'_>) {
        debug_assert!(self.text.is_empty() && self.recipients.is_empty());
        self.reverse_path = self.push_path(path);
        self.envelope_id = self.push(parameters.envelope_id);
        self.size_declared = parameters.size;
        self.body_type = parameters.body;
        self.ret = parameters.ret;
        self.smtputf8 = parameters.smtputf8;
        self.requiretls = parameters.requiretls;
    }

    pub(crate) fn push_recipient(&mut self, recipient: Recipient<'_>) {
        let path = self.push_path(recipient.path);
        let original = self.push(recipient.original);
        self.recipients.push(RecipientSpans { path, original, notify: recipient.notify });
    }

    pub(crate) fn last_recipient(&self) -> Option<Recipient<'_>> {
        self.recipients.last().map(|&spans| self.recipient(spans))
    }

    /// Takes back the last recipient and its text.
    pub(crate) fn pop_recipient(&mut self) {
        if let Some(spans) = self.recipients.pop() {
            self.text.truncate(spans.path.mailbox.offset as usize);
        }
    }

    pub(crate) fn clear(&mut self) {
        let Self { text, recipients, .. } = std::mem::take(self);
        self.text = text;
        self.text.clear();
        self.recipients = recipients;
        self.recipients.clear();
    }

    pub(crate) fn heap_octets(&self) -> usize {
        self.text.capacity() + self.recipients.capacity() * size_of::<RecipientSpans>()
    }

    fn recipient(&self, spans: RecipientSpans) -> Recipient<'_> {
        Recipient { path: self.path(spans.path), original: self.slice(spans.original), notify: spans.notify }
    }

    fn path(&self, span: PathSpan) -> Path<'_> {
        Path::from_parts(self.slice(span.mailbox), span.local_octets)
    }

    fn push_path(&mut self, path: Path<'_>) -> PathSpan {
        PathSpan { mailbox: self.push(path.as_str()), local_octets: path.local_octets() }
    }

    // The arena is bounded by `envelope_octets_max`, the text by the length of a command: both far below 4 GiB.
    #[allow(clippy::cast_possible_truncation, reason = "bounded by the limits of the session, see above")]
    fn push(&mut self, text: &str) -> Span {
        if text.is_empty() {
            return Span::default();
        }
        let span = Span { offset: self.text.len() as u32, octets: text.len() as u32 };
        self.text.push_str(text);
        span
    }
}

// RFC 1870 §3: the octets with their CRLFs, without the dots of transparency.
pub(crate) fn message_octets(findings: Findings, chunking: bool) -> u64 {
    if chunking { findings.octets } else { findings.octets - findings.dot_lines }
}
