//! Checked view on a stored envelope.

use std::net::SocketAddr;

use rkyv::api::low::access;
use rkyv::rancor::Failure;

use super::v1::{ArchivedEnvelopeV1, flag, text};
use super::{
    ArchivedAttribute, ArchivedChunkRef, ArchivedRecipient, ArchivedSpan, Attribute, BodyFindings, BodyType,
    ChunkRef, PhaseTimes, Protocol, Ret,
};

/// Why octets are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// A version that this program does not know.
    #[error("envelope version {0} is not known")]
    Version(u16),
    /// The structure does not hold.
    #[error("envelope is malformed")]
    Malformed,
    /// The octets do not begin at an address that is a multiple of 8.
    #[error("envelope is not aligned in memory")]
    Unaligned,
}

/// A stored envelope whose chunks have come to other places, with nothing else changed; `None` when it cannot be read or has another number of
/// chunks, or others.
pub(crate) fn relocated(version: u16, octets: &[u8], chunks: &[ChunkRef]) -> Option<Vec<u8>> {
    let envelope = Envelope::read(version, octets).ok()?;
    let listed = envelope.root.chunks.as_slice();
    let same = |(listed, moved): (&ArchivedChunkRef, &ChunkRef)| {
        (listed.octets.to_native(), listed.crc.to_native()) == (moved.octets, moved.crc)
    };
    if listed.len() != chunks.len() || !listed.iter().zip(chunks).all(same) {
        return None;
    }
    let mut copy = octets.to_vec();
    let begin = listed.as_ptr().addr().checked_sub(octets.as_ptr().addr()).filter(|_| !listed.is_empty());
    for (index, chunk) in chunks.iter().enumerate() {
        // The position is the first field of a chunk.
        let at = begin? + index * size_of::<ArchivedChunkRef>();
        copy.get_mut(at..at + 8)?.copy_from_slice(&chunk.lsn.to_le_bytes());
    }
    Some(copy)
}

/// A stored envelope whose structure and spans have been checked.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    root: &'a ArchivedEnvelopeV1<'a>,
}

/// A recipient of a stored envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeRecipient<'a> {
    /// Forward-path.
    pub path: &'a [u8],
    /// ORCPT.
    pub orcpt: Option<&'a [u8]>,
    /// NOTIFY bits, see [`notify`](super::notify).
    pub notify: u8,
}

/// An attribute of a stored envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeAttribute<'a> {
    /// Index of the recipient; `None` = the whole message.
    pub recipient: Option<u32>,
    /// See [`attribute_kind`](super::attribute_kind).
    pub kind: u32,
    /// Name.
    pub name: &'a [u8],
    /// Value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    /// Checks octets read from a log. `octets` begin at an address that is a multiple of 8, as they do in every buffer of this crate.
    ///
    /// # Errors
    /// The version is not known, or the structure does not hold. Damaged or hostile octets never panic, here or later.
    pub fn read(version: u16, octets: &'a [u8]) -> Result<Self, EnvelopeError> {
        if version != super::ENVELOPE_VERSION {
            return Err(EnvelopeError::Version(version));
        }
        if !octets.as_ptr().addr().is_multiple_of(8) {
            return Err(EnvelopeError::Unaligned);
        }
        let root = access::<ArchivedEnvelopeV1<'a>, Failure>(octets).map_err(|_| EnvelopeError::Malformed)?;
        let envelope = Self { root };
        let spans = root.texts.iter();
        let spans =
            spans.chain(root.recipients.iter().flat_map(|recipient| [&recipient.path, &recipient.orcpt]));
        let mut spans =
            spans.chain(root.attributes.iter().flat_map(|attribute| [&attribute.name, &attribute.value]));
        if spans.all(|span| is_absent(span) || envelope.span(span).is_some()) {
            Ok(envelope)
        } else {
            Err(EnvelopeError::Malformed)
        }
    }

    fn span(&self, span: &ArchivedSpan) -> Option<&'a [u8]> {
        let start = span.offset.to_native() as usize;
        self.root.text.as_slice().get(start..start + span.octets.to_native() as usize)
    }

    fn text(&self, index: usize) -> Option<&'a [u8]> {
        self.root.texts.get(index).and_then(|span| self.span(span))
    }

    fn flag(&self, bit: u32) -> bool {
        self.root.flags.to_native() & bit != 0
    }

    /// Host that accepted the message.
    #[must_use]
    pub fn hostname(&self) -> &'a [u8] {
        self.text(text::HOSTNAME).unwrap_or_default()
    }

    /// Listener that it came through.
    #[must_use]
    pub fn listener(&self) -> &'a [u8] {
        self.text(text::LISTENER).unwrap_or_default()
    }

    /// Client, as connected or as a trusted proxy told.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.root.peer.get()
    }

    /// Our end of the connection.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.root.local.get()
    }

    /// The proxy in between.
    #[must_use]
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.root.proxy.get()
    }

    /// Verified name of the client.
    #[must_use]
    pub fn peer_name(&self) -> Option<&'a [u8]> {
        self.text(text::PEER_NAME)
    }

    /// Protocol of the session.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        Protocol::from_number(self.root.protocol)
    }

    /// Whether the body came by BDAT.
    #[must_use]
    pub fn bdat(&self) -> bool {
        self.root.transfer == super::Transfer::Bdat as u8
    }

    /// Argument of HELO, EHLO or LHLO.
    #[must_use]
    pub fn helo(&self) -> &'a [u8] {
        self.text(text::HELO).unwrap_or_default()
    }

    /// Reverse-path; empty = null reverse-path.
    #[must_use]
    pub fn reverse_path(&self) -> &'a [u8] {
        self.text(text::REVERSE_PATH).unwrap_or_default()
    }

    /// Recipients in the order of RCPT.
    #[must_use]
    pub fn recipients(&self) -> Recipients<'a> {
        Recipients { envelope: *self, list: self.root.recipients.iter() }
    }

    /// Parameters, verdicts, notes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { envelope: *self, list: self.root.attributes.iter() }
    }

    /// Parts of the body in records of their own, before the record's own body.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'a> {
        Chunks(self.root.chunks.iter())
    }

    /// SIZE.
    #[must_use]
    pub fn size_declared(&self) -> Option<u64> {
        self.flag(flag::SIZE_DECLARED).then(|| self.root.size_declared.to_native())
    }

    /// BODY.
    #[must_use]
    pub fn body_type(&self) -> BodyType {
        BodyType::from_number(self.root.body_type)
    }

    /// RET.
    #[must_use]
    pub fn ret(&self) -> Ret {
        Ret::from_number(self.root.ret)
    }

    /// SMTPUTF8.
    #[must_use]
    pub fn smtputf8(&self) -> bool {
        self.flag(flag::SMTPUTF8)
    }

    /// REQUIRETLS.
    #[must_use]
    pub fn requiretls(&self) -> bool {
        self.flag(flag::REQUIRETLS)
    }

    /// ENVID.
    #[must_use]
    pub fn envid(&self) -> Option<&'a [u8]> {
        self.text(text::ENVID)
    }

    /// TLS version; `None` = no TLS.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'a [u8]> {
        self.text(text::TLS_VERSION)
    }

    /// TLS cipher suite.
    #[must_use]
    pub fn tls_cipher(&self) -> Option<&'a [u8]> {
        self.text(text::TLS_CIPHER)
    }

    /// Server name that the client asked for.
    #[must_use]
    pub fn tls_sni(&self) -> Option<&'a [u8]> {
        self.text(text::TLS_SNI)
    }

    /// Subject of a verified client certificate.
    #[must_use]
    pub fn tls_client(&self) -> Option<&'a [u8]> {
        self.text(text::TLS_CLIENT)
    }

    /// Authenticated identity.
    #[must_use]
    pub fn auth_identity(&self) -> Option<&'a [u8]> {
        self.text(text::AUTH_IDENTITY)
    }

    /// SASL mechanism.
    #[must_use]
    pub fn auth_mechanism(&self) -> Option<&'a [u8]> {
        self.text(text::AUTH_MECHANISM)
    }

    /// Facts about the mail data.
    #[must_use]
    pub fn findings(&self) -> BodyFindings {
        BodyFindings {
            octets_received: self.root.octets_received.to_native(),
            lines: self.root.lines.to_native(),
            dot_lines: self.root.dot_lines.to_native(),
            longest_line: self.root.longest_line.to_native(),
            header_octets: self.root.header_octets.to_native(),
            received_count: self.root.received_count.to_native(),
            bare_cr: self.flag(flag::BARE_CR),
            bare_lf: self.flag(flag::BARE_LF),
            nul: self.flag(flag::NUL),
            eight_bit: self.flag(flag::EIGHT_BIT),
            ends_with_crlf: self.flag(flag::ENDS_WITH_CRLF),
            normalized: self.flag(flag::NORMALIZED),
        }
    }

    /// Times of the phases.
    #[must_use]
    pub fn times(&self) -> PhaseTimes {
        let times = &self.root.times;
        PhaseTimes {
            connected_us: times.connected_us.to_native(),
            tls_us: times.tls_us.to_native(),
            helo_us: times.helo_us.to_native(),
            auth_us: times.auth_us.to_native(),
            mail_us: times.mail_us.to_native(),
            rcpt_us: times.rcpt_us.to_native(),
            data_first_us: times.data_first_us.to_native(),
            data_last_us: times.data_last_us.to_native(),
        }
    }

    /// Number of the session; 0 = none.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.root.session.to_native()
    }

    /// Number of the transaction in its session.
    #[must_use]
    pub fn transaction(&self) -> u32 {
        self.root.transaction.to_native()
    }
}

/// Recipients of an envelope.
#[derive(Clone)]
pub struct Recipients<'a> {
    envelope: Envelope<'a>,
    list: std::slice::Iter<'a, ArchivedRecipient>,
}

impl<'a> Iterator for Recipients<'a> {
    type Item = EnvelopeRecipient<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let recipient = self.list.next()?;
        Some(EnvelopeRecipient {
            path: self.envelope.span(&recipient.path).unwrap_or_default(),
            orcpt: self.envelope.span(&recipient.orcpt),
            notify: recipient.notify,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.list.size_hint()
    }
}

impl ExactSizeIterator for Recipients<'_> {}

/// Attributes of an envelope.
#[derive(Clone)]
pub struct Attributes<'a> {
    envelope: Envelope<'a>,
    list: std::slice::Iter<'a, ArchivedAttribute>,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = EnvelopeAttribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let attribute = self.list.next()?;
        let scope = attribute.scope.to_native();
        Some(EnvelopeAttribute {
            recipient: (scope != Attribute::MESSAGE).then_some(scope),
            kind: attribute.kind.to_native(),
            name: self.envelope.span(&attribute.name).unwrap_or_default(),
            value: self.envelope.span(&attribute.value),
        })
    }
}

/// Chunks of a body.
#[derive(Clone)]
pub struct Chunks<'a>(std::slice::Iter<'a, ArchivedChunkRef>);

impl Iterator for Chunks<'_> {
    type Item = ChunkRef;

    fn next(&mut self) -> Option<ChunkRef> {
        let chunk = self.0.next()?;
        Some(ChunkRef {
            lsn: chunk.lsn.to_native(),
            octets: chunk.octets.to_native(),
            crc: chunk.crc.to_native(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Chunks<'_> {}

fn is_absent(span: &ArchivedSpan) -> bool {
    span.offset.to_native() == u32::MAX && span.octets.to_native() == 0
}
