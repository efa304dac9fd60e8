//! A message as it is handed over: trace header and missing fields in front, the body as it came in.

use std::sync::Arc;

use inrush_log::{BodyType, Envelope, EnvelopeRecipient, Message, ReadError, RecordFlags};
use inrush_proto::client::Extensions;
use inrush_queue::Place;
use tokio::sync::mpsc;

use crate::failure::Verdict;
use crate::reader::ReaderHandle;

/// What a message needs of its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Octets as handed over.
    pub(crate) octets: u64,
    /// It has octets above 127.
    pub(crate) eight_bit: bool,
    /// Only CHUNKING carries it unharmed: it has bare CRs or LFs.
    pub(crate) bare_newlines: bool,
    /// RFC 3030: it was declared to be binary and is.
    pub(crate) binary: bool,
    /// Addresses or header fields hold UTF-8 (RFC 6531), as far as is known.
    pub(crate) utf8: bool,
    /// Octets of a header section that would have to be read to know; 0 = it is known.
    pub(crate) header_unseen: u32,
    /// RFC 8689.
    pub(crate) require_tls: bool,
    /// It goes without REQUIRETLS where that cannot be had: nobody could be told about it (RFC 8689 §4.2.1).
    pub(crate) forgoes_tls: bool,
    /// A line may begin with a dot.
    pub(crate) dots: bool,
}

/// Those of these recipients that the envelope has, in its order, which is theirs.
pub(crate) fn chosen<'a>(
    envelope: &Envelope<'a>,
    recipients: &[u32],
) -> impl Iterator<Item = EnvelopeRecipient<'a>> {
    debug_assert!(recipients.is_sorted());
    let mut wanted = recipients.iter().peekable();
    let all = (0_u32..).zip(envelope.recipients());
    all.filter_map(move |(index, recipient)| wanted.next_if_eq(&&index).map(|_| recipient))
}

impl Needs {
    /// With so many octets in front of it, for these recipients.
    pub(crate) fn of(
        message: &Message,
        envelope: &Envelope<'_>,
        recipients: &[u32],
        head_octets: usize,
    ) -> Self {
        let findings = envelope.findings();
        let all_ascii = envelope.reverse_path().is_ascii()
            && (!envelope.smtputf8()
                || chosen(envelope, recipients).all(|recipient| recipient.path.is_ascii()));
        let chunked = is_chunked(message);
        let header_octets = (findings.header_octets as usize).min(message.own_body().len());
        // Of a message in chunks the header is not at hand: what was asked for is believed, as long as it makes no difference.
        let header_ascii =
            !findings.eight_bit || (!chunked && message.own_body()[..header_octets].is_ascii());
        let utf8 = envelope.smtputf8() && !(all_ascii && header_ascii);
        // The findings are about the octets as they came; what was normalised on its way in has no bare CR or LF any more.
        let bare_newlines = !findings.normalized && (findings.bare_cr || findings.bare_lf);
        Self {
            octets: head_octets as u64 + body_octets(message, envelope),
            eight_bit: findings.eight_bit,
            bare_newlines,
            binary: envelope.body_type() == BodyType::BinaryMime
                && (bare_newlines || findings.nul || findings.longest_line > 998),
            utf8,
            header_unseen: if utf8 && all_ascii && chunked { findings.header_octets } else { 0 },
            require_tls: envelope.requiretls(),
            forgoes_tls: envelope.reverse_path().is_empty(),
            // Dots behind what became a line end were not counted: unstuffed they would end the mail data (SMTP smuggling).
            dots: findings.dot_lines > 0 || envelope.bdat() || findings.normalized,
        }
    }

    /// Why a host with these extensions cannot have the message; `host` is its name. Nothing is changed in a message to make it fit (RFC 6152
    /// §3, RFC 6531 §3.1).
    pub(crate) fn refuse(&self, extensions: &Extensions, host: &str, tls_verified: bool) -> Option<Verdict> {
        let never = |enhanced, text: String| Some(Verdict::never(enhanced, text));
        if let Some(max) = extensions.size_max.filter(|max| self.octets > *max) {
            let octets = self.octets;
            return never(
                (5, 3, 4),
                format!("message size {octets} exceeds size limit {max} of server {host}"),
            );
        }
        if self.utf8 && !extensions.smtp_utf8 {
            return never((5, 6, 7), format!("SMTPUTF8 is required, but was not offered by host {host}"));
        }
        if self.require_tls && !self.forgoes_tls && !(extensions.require_tls && tls_verified) {
            return never(
                (5, 7, 30),
                format!(
                    "REQUIRETLS needs a verified TLS connection to a host that offers it, which {host} is not"
                ),
            );
        }
        if self.binary && !(extensions.binary_mime && extensions.chunking) {
            return never((5, 6, 1), format!("BINARYMIME is required, but was not offered by host {host}"));
        }
        if self.bare_newlines && !extensions.chunking {
            return never(
                (5, 6, 0),
                format!("bare CR or LF needs CHUNKING, which was not offered by host {host}"),
            );
        }
        if self.eight_bit && !extensions.eight_bit_mime {
            return never((5, 6, 3), format!("8BITMIME is required, but was not offered by host {host}"));
        }
        None
    }

    /// The value of BODY.
    pub(crate) fn body_parameter(&self) -> Option<&'static str> {
        if self.binary {
            Some("BINARYMIME")
        } else if self.eight_bit {
            Some("8BITMIME")
        } else {
            None
        }
    }
}

/// Whether so many octets at the head of a message with chunks are ASCII. What cannot be read is not.
pub(crate) async fn is_ascii(
    message: &Arc<Message>,
    octets: u32,
    place: Place,
    reader: &ReaderHandle,
) -> bool {
    let mut pieces = reader.body(place, Arc::clone(message));
    let mut left = octets as usize;
    while left > 0 {
        let Some(Ok(piece)) = pieces.recv().await else { return false };
        let part = &piece[..left.min(piece.len())];
        if !part.is_ascii() {
            return false;
        }
        left -= part.len();
    }
    true
}

/// Whether parts of the body stand in records of their own.
pub(crate) fn is_chunked(message: &Message) -> bool {
    message.header.flags.has(RecordFlags::CHUNKED)
}

fn body_octets(message: &Message, envelope: &Envelope<'_>) -> u64 {
    let chunks: u64 = envelope.chunks().map(|chunk| u64::from(chunk.octets)).sum();
    chunks + u64::from(message.header.body_octets)
}

/// The body of a message, piece by piece.
pub(crate) enum Body {
    /// In memory.
    Whole(Arc<Message>),
    /// From the log.
    Pieces(mpsc::Receiver<Result<Vec<u8>, ReadError>>),
}

impl Body {
    pub(crate) fn of(message: &Arc<Message>, place: Place, reader: &ReaderHandle) -> Self {
        if is_chunked(message) {
            Self::Pieces(reader.body(place, Arc::clone(message)))
        } else {
            Self::Whole(Arc::clone(message))
        }
    }
}
