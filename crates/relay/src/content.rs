//! A message as it is handed over: trace header and missing fields in front, the body as it came in.

use std::sync::Arc;

use inrush_log::{BodyType, Envelope, Message, ReadError, prepended};
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
    /// Addresses or header fields hold UTF-8 (RFC 6531).
    pub(crate) utf8: bool,
    /// RFC 8689.
    pub(crate) require_tls: bool,
    /// A line may begin with a dot.
    pub(crate) dots: bool,
}

/// What is put in front of a message.
pub(crate) fn head(message: &Message) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    if let Ok(envelope) = message.envelope() {
        prepended(&envelope, message.id, message.header.accepted_at_us, &mut head);
    }
    head
}

impl Needs {
    pub(crate) fn of(message: &Message, envelope: &Envelope<'_>, recipients: &[u32], head: &[u8]) -> Self {
        let findings = envelope.findings();
        let ascii = |path: &[u8]| path.is_ascii();
        let all_ascii = ascii(envelope.reverse_path())
            && (0_u32..)
                .zip(envelope.recipients())
                .all(|(index, recipient)| !recipients.contains(&index) || ascii(recipient.path));
        let header_octets = (findings.header_octets as usize).min(message.own_body().len());
        // Of a message in chunks the header is not at hand: what was asked for is believed.
        let chunked = envelope.chunks().next().is_some();
        let header_ascii =
            !findings.eight_bit || (!chunked && message.own_body()[..header_octets].is_ascii());
        // The findings are about the octets as they came; what was normalised on its way in has no bare CR or LF any more.
        let bare_newlines = !findings.normalized && (findings.bare_cr || findings.bare_lf);
        Self {
            octets: head.len() as u64 + message.body_octets().unwrap_or_default(),
            eight_bit: findings.eight_bit,
            bare_newlines,
            binary: envelope.body_type() == BodyType::BinaryMime
                && (bare_newlines || findings.nul || findings.longest_line > 998),
            utf8: envelope.smtputf8() && !(all_ascii && header_ascii),
            require_tls: envelope.requiretls(),
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
        if self.require_tls && !(extensions.require_tls && tls_verified) {
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

/// The body of a message, piece by piece.
pub(crate) enum Body {
    /// In memory.
    Whole(Arc<Message>),
    /// From the log.
    Pieces(mpsc::Receiver<Result<Vec<u8>, ReadError>>),
}

impl Body {
    pub(crate) fn of(message: &Arc<Message>, place: Place, reader: &ReaderHandle) -> Self {
        let chunked = message.envelope().is_ok_and(|envelope| envelope.chunks().next().is_some());
        if chunked {
            Self::Pieces(reader.body(place, Arc::clone(message)))
        } else {
            Self::Whole(Arc::clone(message))
        }
    }
}
