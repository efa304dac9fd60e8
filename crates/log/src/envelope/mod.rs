//! Envelope of a message: what the connection knew about it.
//!
//! [`EnvelopeRef`] borrows everything from the session and is written straight into the batch, without allocation; [`Envelope`] is the
//! checked view on the stored form. All text is octets as received: nothing here is trusted to be UTF-8 or free of control characters.

mod read;
mod trace;
mod v1;

pub(crate) use read::relocated;
pub use read::{
    Attributes, Chunks, Envelope, EnvelopeAttribute, EnvelopeError, EnvelopeRecipient, Recipients,
};
pub use trace::{prepended, received};
pub(crate) use v1::{encode, envelope_octets_max};

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rkyv::{Archive, Serialize};

use crate::Lsn;

/// Version of the envelope that is written.
pub const ENVELOPE_VERSION: u16 = 1;

/// Part of a text arena: offset and length in octets.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(archived = ArchivedSpan, derive(Clone, Copy, Debug))]
pub struct Span {
    /// First octet.
    pub offset: u32,
    /// Octets.
    pub octets: u32,
}

impl Span {
    /// Nothing there; differs from a text of length 0.
    pub const ABSENT: Self = Self { offset: u32::MAX, octets: 0 };

    /// A part of an arena.
    #[must_use]
    pub const fn new(offset: u32, octets: u32) -> Self {
        Self { offset, octets }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::ABSENT
    }
}

/// Recipient, as the session keeps it: spans into [`EnvelopeRef::text`].
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(archived = ArchivedRecipient, derive(Clone, Copy, Debug))]
pub struct Recipient {
    /// Forward-path without angle brackets and source route (RFC 5321 §4.1.2).
    pub path: Span,
    /// ORCPT as sent, xtext not decoded (RFC 3461 §4.2).
    pub orcpt: Span,
    /// NOTIFY bits, see [`notify`]; 0 = the parameter was not sent (RFC 3461 §4.1).
    pub notify: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Bits of [`Recipient::notify`].
pub mod notify {
    /// NOTIFY=NEVER.
    pub const NEVER: u8 = 1;
    /// SUCCESS.
    pub const SUCCESS: u8 = 2;
    /// FAILURE.
    pub const FAILURE: u8 = 4;
    /// DELAY.
    pub const DELAY: u8 = 8;
}

/// A part of a large body, as [`append_chunk`](crate::Appender::append_chunk) returns it.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(archived = ArchivedChunkRef, derive(Clone, Copy, Debug))]
pub struct ChunkRef {
    /// Position of the Chunk record; raw [`Lsn`].
    pub lsn: u64,
    /// Body octets in it.
    pub octets: u32,
    /// CRC-32C of them: binds the chunk to this message.
    pub crc: u32,
}

impl ChunkRef {
    /// Position of the record.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn)
    }
}

/// Name and value that has no field of its own: unusual ESMTP parameters, verdicts of policy stages.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(archived = ArchivedAttribute, derive(Clone, Copy, Debug))]
pub struct Attribute {
    /// Index of the recipient, or [`Attribute::MESSAGE`].
    pub scope: u32,
    /// See [`attribute_kind`].
    pub kind: u32,
    /// Name.
    pub name: Span,
    /// Value; may be absent.
    pub value: Span,
}

impl Attribute {
    /// Scope of an attribute of the whole message.
    pub const MESSAGE: u32 = u32::MAX;
}

/// Kinds of [`Attribute`].
pub mod attribute_kind {
    /// ESMTP parameter of MAIL or RCPT (RFC 5321 §4.1.1.11).
    pub const PARAMETER: u32 = 1;
    /// Result of a policy stage.
    pub const VERDICT: u32 = 2;
    /// Anything else worth keeping.
    pub const NOTE: u32 = 3;
    /// A header field that the message lacked, by its name: it is added in front when the message is handed over (RFC 6409 §8).
    pub const ADDED_FIELD: u32 = 4;
}

/// Protocol of the session, for `with` in the trace header (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// After HELO.
    Smtp = 1,
    /// After EHLO.
    #[default]
    Esmtp = 2,
    /// RFC 2033.
    Lmtp = 3,
    /// Made here: a delivery status notification.
    Internal = 4,
    /// Handed in through another interface.
    Other = 5,
}

impl Protocol {
    fn from_number(number: u8) -> Self {
        [Self::Smtp, Self::Esmtp, Self::Lmtp, Self::Internal]
            .into_iter()
            .find(|protocol| *protocol as u8 == number)
            .unwrap_or(Self::Other)
    }
}

/// BODY parameter of MAIL (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BodyType {
    /// The parameter was not sent.
    #[default]
    Unspecified = 0,
    /// BODY=7BIT.
    SevenBit = 1,
    /// BODY=8BITMIME.
    EightBitMime = 2,
    /// BODY=BINARYMIME.
    BinaryMime = 3,
}

impl BodyType {
    fn from_number(number: u8) -> Self {
        [Self::SevenBit, Self::EightBitMime, Self::BinaryMime]
            .into_iter()
            .find(|body| *body as u8 == number)
            .unwrap_or(Self::Unspecified)
    }
}

/// RET parameter of MAIL (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ret {
    /// The parameter was not sent.
    #[default]
    Unspecified = 0,
    /// RET=FULL.
    Full = 1,
    /// RET=HDRS.
    Headers = 2,
}

impl Ret {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Full,
            2 => Self::Headers,
            _ => Self::Unspecified,
        }
    }
}

/// How the body came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Transfer {
    /// DATA.
    #[default]
    Data = 0,
    /// BDAT (RFC 3030).
    Bdat = 1,
}

/// What the scanner saw in the mail data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyFindings {
    /// Octets as received, transparency dots included.
    pub octets_received: u64,
    /// Line ends.
    pub lines: u64,
    /// Lines that began with a dot.
    pub dot_lines: u64,
    /// Octets of the longest line without its end.
    pub longest_line: u32,
    /// Octets of the header section with its empty line; 0 = not known.
    pub header_octets: u32,
    /// `Received` lines in it.
    pub received_count: u32,
    /// A CR without LF.
    pub bare_cr: bool,
    /// An LF without CR.
    pub bare_lf: bool,
    /// A NUL.
    pub nul: bool,
    /// An octet above 127.
    pub eight_bit: bool,
    /// The last line has its end.
    pub ends_with_crlf: bool,
    /// Bare line ends were turned into CRLF.
    pub normalized: bool,
}

/// Times of the phases in µs since 1970; 0 = did not happen. The time of acceptance stands in the record header.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(archived = ArchivedPhaseTimes, derive(Clone, Copy, Debug))]
pub struct PhaseTimes {
    /// Connection accepted.
    pub connected_us: u64,
    /// TLS handshake done.
    pub tls_us: u64,
    /// HELO, EHLO or LHLO.
    pub helo_us: u64,
    /// AUTH succeeded.
    pub auth_us: u64,
    /// MAIL.
    pub mail_us: u64,
    /// Last RCPT.
    pub rcpt_us: u64,
    /// First octet of mail data.
    pub data_first_us: u64,
    /// Last octet of mail data.
    pub data_last_us: u64,
}

/// Envelope to be written; everything is borrowed.
///
/// `text` is the arena that the spans of `recipients` and `attributes` point into. Single texts are slices of any memory; one that lies inside
/// `text` is stored only once. `None` and an empty text are different things.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvelopeRef<'a> {
    /// Arena of the spans.
    pub text: &'a [u8],
    /// In the order of RCPT.
    pub recipients: &'a [Recipient],
    /// Parameters, verdicts, notes.
    pub attributes: &'a [Attribute],
    /// Parts of the body that are in the log already, in order; the record's own body follows them.
    pub chunks: &'a [ChunkRef],
    /// Name of the host that accepts.
    pub hostname: &'a [u8],
    /// Name of the listener.
    pub listener: &'a [u8],
    /// Client as it was connected to us, or as a trusted proxy told.
    pub peer: Option<SocketAddr>,
    /// Our end of that connection.
    pub local: Option<SocketAddr>,
    /// The proxy's own address, when `peer` comes from it.
    pub proxy: Option<SocketAddr>,
    /// Name of the client by reverse DNS, verified.
    pub peer_name: Option<&'a [u8]>,
    /// Protocol of the session.
    pub protocol: Protocol,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// Argument of HELO, EHLO or LHLO.
    pub helo: &'a [u8],
    /// Reverse-path without angle brackets; empty = null reverse-path.
    pub reverse_path: &'a [u8],
    /// SIZE (RFC 1870).
    pub size_declared: Option<u64>,
    /// BODY.
    pub body_type: BodyType,
    /// RET.
    pub ret: Ret,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// ENVID, xtext not decoded (RFC 3461 §4.4).
    pub envid: Option<&'a [u8]>,
    /// TLS version, as `TLSv1.3`; `None` = no TLS.
    pub tls_version: Option<&'a [u8]>,
    /// TLS cipher suite.
    pub tls_cipher: Option<&'a [u8]>,
    /// Server name that the client asked for (RFC 6066 §3).
    pub tls_sni: Option<&'a [u8]>,
    /// Subject of a verified client certificate.
    pub tls_client: Option<&'a [u8]>,
    /// Authenticated identity (RFC 4954).
    pub auth_identity: Option<&'a [u8]>,
    /// SASL mechanism.
    pub auth_mechanism: Option<&'a [u8]>,
    /// Facts about the mail data.
    pub findings: BodyFindings,
    /// Times of the phases.
    pub times: PhaseTimes,
    /// Number of the session, the same in log lines; 0 = none.
    pub session: u64,
    /// Number of the transaction in its session, from 1.
    pub transaction: u32,
}

/// Socket address as stored: IPv4 is mapped into IPv6.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[rkyv(archived = ArchivedAddress, derive(Clone, Copy, Debug))]
pub(crate) struct Address {
    ip: [u8; 16],
    port: u16,
    /// 0 = absent, 4, 6.
    family: u8,
    reserved: u8,
}

impl Address {
    fn new(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self::default() };
        let (ip, family) = match address.ip() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), 4),
            IpAddr::V6(ip) => (ip.octets(), 6),
        };
        Self { ip, port: address.port(), family, reserved: 0 }
    }
}

impl ArchivedAddress {
    fn get(&self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(self.ip);
        let ip = match self.family {
            4 => ip.to_ipv4_mapped().map(IpAddr::V4)?,
            6 => IpAddr::V6(ip),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.port.to_native()))
    }
}
