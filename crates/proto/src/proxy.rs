//! The PROXY protocol, receiving side: who the peer of a load balancer is.
//!
//! ```text
//!   version 1   PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 CRLF          one line, at most 107 octets
//!   version 2   signature (12) │ version, command │ family, transport │ length (2) │ addresses │ type length value …
//! ```
//! The header is the first thing on a connection, before the greeting and before TLS. Only the octets from the start of the
//! connection are looked at: the caller keeps them together until [`parse`] has what it needs, at most
//! [`HEADER_OCTETS_MAX`] of them. Nothing is copied or allocated, and what cannot become a header is refused with its first
//! wrong octet.
//!
//! Whom to believe is the caller's business (proxy-protocol.txt, section 2: only trusted proxies, never guessed). So is what a
//! connection without [`Header::source`] may do: its peer is the proxy itself for [`Command::Local`], but somebody unknown
//! behind the proxy for [`Command::Proxy`], who must not be given the rights of the proxy's address.
//!
//! Standards: HAProxy's proxy-protocol.txt, section 2 (here "PROXY" and the section).

mod binary;
mod text;
mod tlv;

use std::fmt;
use std::net::SocketAddr;

/// PROXY 2.1: the longest line of version 1 with its CRLF.
pub const LINE_OCTETS_MAX: usize = 107;

/// The longest header that is taken. Version 2 could announce 64 KiB; real ones fit into a TCP segment of 536 octets, with a
/// client certificate's name and a checksum well into this bound.
pub const HEADER_OCTETS_MAX: usize = 4_096;

/// PROXY 2.2.5: the longest unique id.
pub const UNIQUE_ID_OCTETS_MAX: usize = 128;

/// How far the parser got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'i> {
    /// So far this may become a header.
    Incomplete {
        /// Octets that are missing at least, never 0. To read no more than that never reads past the header.
        octets_min: usize,
    },
    /// The header is complete.
    Complete {
        /// What it says.
        header: Header<'i>,
        /// Its octets at the front of the input; what follows is the client's.
        consumed: usize,
    },
}

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Binary.
    Two,
}

/// On whose behalf the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The proxy's own, as for a health check: the ends of the connection are the real ones.
    Local,
    /// A client's.
    Proxy,
}

/// What a proxy says about its client. IPv4-mapped addresses are given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'i> {
    /// Which form it came in.
    pub version: Version,
    /// On whose behalf.
    pub command: Command,
    /// The client; `None` when the proxy did not say, or the client has no IP address.
    pub source: Option<SocketAddr>,
    /// Where the client connected to; there exactly when `source` is.
    pub destination: Option<SocketAddr>,
    /// The name that the client asked for, in TLS its SNI. From the client, so anything in UTF-8 may stand in it.
    pub authority: Option<&'i str>,
    /// The protocol that TLS negotiated (RFC 7301).
    pub alpn: Option<&'i [u8]>,
    /// The proxy's name for this connection, at most [`UNIQUE_ID_OCTETS_MAX`] octets of any value.
    pub unique_id: Option<&'i [u8]>,
    /// There when the client speaks TLS to the proxy.
    pub tls: Option<Tls<'i>>,
}

/// What a proxy says about the TLS that it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls<'i> {
    /// Such as `TLSv1.3`; printable US-ASCII.
    pub version: Option<&'i str>,
    /// Such as `ECDHE-RSA-AES128-GCM-SHA256`; printable US-ASCII.
    pub cipher: Option<&'i str>,
    /// The client showed a certificate on this connection or on an earlier one of the same TLS session.
    pub client_certificate: bool,
    /// The common name of the client's certificate. From the client, so anything in UTF-8 may stand in it.
    pub common_name: Option<&'i str>,
    /// The client showed a certificate and the proxy found it good.
    pub verified: bool,
}

/// Why the octets are no header. The connection is to be dropped without a word (PROXY 2.1, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// Begins like neither version.
    Signature,
    /// No line end within [`LINE_OCTETS_MAX`].
    LineTooLong,
    /// A CR or an LF alone.
    LineEnd,
    /// Neither `TCP4` nor `TCP6` nor `UNKNOWN`.
    Protocol,
    /// Not two addresses and two ports with one space between them.
    Fields,
    /// An address that is none, or one of the other family.
    Address,
    /// A port that is no decimal number up to 65535, or has a leading zero.
    Port,
    /// Binary, but not of version 2.
    Version,
    /// Neither `LOCAL` nor `PROXY`.
    Command,
    /// An address family that is not assigned.
    Family,
    /// A transport that is not assigned, or datagrams.
    Transport,
    /// Longer than [`HEADER_OCTETS_MAX`].
    HeaderTooLong,
    /// Shorter than the addresses of its family.
    AddressesCut,
    /// A type, its length and its value do not fit into what holds them.
    ValueCut,
    /// A type that says the same thing twice.
    ValueTwice,
    /// A value that is not the text it should be, or of the wrong length.
    Value,
    /// The unique id is longer than [`UNIQUE_ID_OCTETS_MAX`].
    UniqueIdTooLong,
    /// The CRC-32C does not match.
    Checksum,
}

impl ProxyError {
    /// Every error.
    pub const ALL: [Self; 18] = [
        Self::Signature,
        Self::LineTooLong,
        Self::LineEnd,
        Self::Protocol,
        Self::Fields,
        Self::Address,
        Self::Port,
        Self::Version,
        Self::Command,
        Self::Family,
        Self::Transport,
        Self::HeaderTooLong,
        Self::AddressesCut,
        Self::ValueCut,
        Self::ValueTwice,
        Self::Value,
        Self::UniqueIdTooLong,
        Self::Checksum,
    ];

    /// The label of a metric, lower case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::LineTooLong => "line_too_long",
            Self::LineEnd => "line_end",
            Self::Protocol => "protocol",
            Self::Fields => "fields",
            Self::Address => "address",
            Self::Port => "port",
            Self::Version => "version",
            Self::Command => "command",
            Self::Family => "family",
            Self::Transport => "transport",
            Self::HeaderTooLong => "header_too_long",
            Self::AddressesCut => "addresses_cut",
            Self::ValueCut => "value_cut",
            Self::ValueTwice => "value_twice",
            Self::Value => "value",
            Self::UniqueIdTooLong => "unique_id_too_long",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "no PROXY header",
            Self::LineTooLong => "PROXY line without an end",
            Self::LineEnd => "PROXY line with a bare CR or LF",
            Self::Protocol => "PROXY line with an unknown protocol",
            Self::Fields => "PROXY line without two addresses and two ports",
            Self::Address => "PROXY line with a malformed address",
            Self::Port => "PROXY line with a malformed port",
            Self::Version => "PROXY header of an unknown version",
            Self::Command => "PROXY header with an unknown command",
            Self::Family => "PROXY header with an unknown address family",
            Self::Transport => "PROXY header with a transport other than a stream",
            Self::HeaderTooLong => "PROXY header too long",
            Self::AddressesCut => "PROXY header too short for its addresses",
            Self::ValueCut => "PROXY header with a value that does not fit",
            Self::ValueTwice => "PROXY header with the same value twice",
            Self::Value => "PROXY header with a malformed value",
            Self::UniqueIdTooLong => "PROXY header with a unique id too long",
            Self::Checksum => "PROXY header with a wrong checksum",
        })
    }
}

impl std::error::Error for ProxyError {}

impl<'i> Header<'i> {
    const fn bare(version: Version, command: Command) -> Self {
        Self {
            version,
            command,
            source: None,
            destination: None,
            authority: None,
            alpn: None,
            unique_id: None,
            tls: None,
        }
    }
}

/// Reads the header at the front of `input`, which is all that came in on the connection so far.
///
/// # Errors
/// What came in is no header and cannot become one.
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    // PROXY 2.2: the two versions differ in their first octet already.
    match input.first() {
        None => Ok(Parsed::Incomplete { octets_min: text::LINE_OCTETS_MIN }),
        Some(b'P') => text::parse(input),
        Some(b'\r') => binary::parse(input),
        Some(_) => Err(ProxyError::Signature),
    }
}

/// `address` without the IPv6 clothes of an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_version_is_refused_at_the_first_octet() {
        for input in ["EHLO x\r\n", "GET / HTTP/1.1\r\n", "\n", "\0", "proxy TCP4"] {
            assert_eq!(parse(input.as_bytes()), Err(ProxyError::Signature), "{input:?}");
        }
        // The first octet of a TLS handshake.
        assert_eq!(parse(&[0x16, 3, 1]), Err(ProxyError::Signature));
        assert_eq!(parse(b""), Ok(Parsed::Incomplete { octets_min: 15 }));
    }

    #[test]
    fn labels_are_there_once() {
        let mut labels: Vec<&str> = ProxyError::ALL.iter().map(|error| error.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ProxyError::ALL.len());
        let usual = |label: &&str| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(labels.iter().all(usual));
        assert!(
            ProxyError::ALL
                .iter()
                .all(|error| error.to_string().starts_with("PROXY") || *error == ProxyError::Signature)
        );
    }
}
