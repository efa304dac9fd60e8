//! The attributes of XCLIENT: who the client of a filter in front of us is.
//!
//! ```text
//!   XCLIENT NAME=spike.example ADDR=IPV6:2001:db8::1 LOGIN=jo+40one.example
//! ```
//! Only what follows the verb is looked at here; who may say it, when, and what it changes is the session's business.
//! XCLIENT is rare and comes from trusted peers only, so that decoded values are owned. Each is bounded and holds no control
//! character, whatever its xtext stands for.
//!
//! Standards: Postfix's XCLIENT_README ("XCLIENT" and the heading here); RFC 3461 §4 (xtext).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Path;

/// The attributes as they are listed behind the keyword in the reply to EHLO.
pub const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// XCLIENT, command syntax, note 1: the longest decoded value of NAME and HELO, and here of LOGIN, in octets.
pub const VALUE_OCTETS_MAX: usize = 255;

/// A value, or the word that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute<T> {
    /// What it is now.
    Known(T),
    /// `[UNAVAILABLE]`
    Unavailable,
    /// `[TEMPUNAVAIL]`: the look-up of the name failed, and may succeed later.
    TemporarilyUnavailable,
}

/// PROTO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client said HELO.
    Smtp,
    /// The client said EHLO.
    Esmtp,
}

/// One XCLIENT command; what it does not name is `None` and keeps its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xclient {
    /// NAME: the client's host name, a domain name.
    pub name: Option<Attribute<String>>,
    /// ADDR: the client's address; an IPv4-mapped one is given as IPv4.
    pub address: Option<Attribute<IpAddr>>,
    /// PORT: the client's port.
    pub port: Option<Attribute<u16>>,
    /// PROTO.
    pub protocol: Option<Protocol>,
    /// HELO: what the client called itself.
    pub helo: Option<Attribute<String>>,
    /// LOGIN: the name that the client has logged in with.
    pub login: Option<Attribute<String>>,
    /// DESTADDR: where the client connected to, as `address`.
    pub destination_address: Option<Attribute<IpAddr>>,
    /// DESTPORT: where the client connected to.
    pub destination_port: Option<Attribute<u16>>,
}

/// Why the command is refused: 501 5.5.4 for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XclientError {
    /// No attribute, or something that is none.
    Syntax,
    /// An attribute that is not known.
    Unknown,
    /// The same attribute twice.
    Twice,
    /// A value that is no xtext, no UTF-8, or decodes into a control character.
    Encoding,
    /// A value over [`VALUE_OCTETS_MAX`].
    TooLong,
    /// NAME is no domain name, or HELO or LOGIN is empty.
    Name,
    /// ADDR or DESTADDR is no address.
    Address,
    /// PORT or DESTPORT is no port.
    Port,
    /// PROTO is neither `SMTP` nor `ESMTP`.
    Protocol,
}

impl XclientError {
    /// Every error.
    pub const ALL: [Self; 9] = [
        Self::Syntax,
        Self::Unknown,
        Self::Twice,
        Self::Encoding,
        Self::TooLong,
        Self::Name,
        Self::Address,
        Self::Port,
        Self::Protocol,
    ];

    /// The label of a metric, lower case.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Unknown => "unknown",
            Self::Twice => "twice",
            Self::Encoding => "encoding",
            Self::TooLong => "too_long",
            Self::Name => "name",
            Self::Address => "address",
            Self::Port => "port",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for XclientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "XCLIENT without attributes",
            Self::Unknown => "XCLIENT with an unknown attribute",
            Self::Twice => "XCLIENT with the same attribute twice",
            Self::Encoding => "XCLIENT with a value that is no xtext",
            Self::TooLong => "XCLIENT with a value too long",
            Self::Name => "XCLIENT with a malformed name",
            Self::Address => "XCLIENT with a malformed address",
            Self::Port => "XCLIENT with a malformed port",
            Self::Protocol => "XCLIENT with an unknown protocol",
        })
    }
}

impl std::error::Error for XclientError {}

impl Xclient {
    /// Parses what follows the verb, from the separating space on, without the CRLF.
    ///
    /// # Errors
    /// One attribute is malformed; none of the others may be used then.
    pub fn parse(rest: &[u8]) -> Result<Self, XclientError> {
        if !matches!(rest, [b' ' | b'\t', ..]) {
            return Err(XclientError::Syntax);
        }
        let mut xclient = Self::default();
        let words = rest.split(|&octet| octet == b' ' || octet == b'\t').filter(|word| !word.is_empty());
        for word in words {
            let at = memchr::memchr(b'=', word).ok_or(XclientError::Syntax)?;
            xclient.set(&word[..at], &word[at + 1..])?;
        }
        if xclient == Self::default() { Err(XclientError::Syntax) } else { Ok(xclient) }
    }

    fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), XclientError> {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        if is("NAME") {
            once(&mut self.name, name(&decode(value)?)?)
        } else if is("ADDR") {
            once(&mut self.address, known(&decode(value)?, address)?)
        } else if is("PORT") {
            once(&mut self.port, known(&decode(value)?, port)?)
        } else if is("PROTO") {
            once(&mut self.protocol, protocol(&decode(value)?)?)
        } else if is("HELO") {
            once(&mut self.helo, known(&decode(value)?, word)?)
        } else if is("LOGIN") {
            once(&mut self.login, known(&decode(value)?, filled)?)
        } else if is("DESTADDR") {
            once(&mut self.destination_address, known(&decode(value)?, address)?)
        } else if is("DESTPORT") {
            once(&mut self.destination_port, known(&decode(value)?, port)?)
        } else {
            Err(XclientError::Unknown)
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), XclientError> {
    if place.replace(value).is_some() { Err(XclientError::Twice) } else { Ok(()) }
}

/// RFC 3461 §4: xtext. UTF-8 that is not encoded is taken as well, since older senders do not encode (XCLIENT, command syntax,
/// note 3).
fn decode(value: &[u8]) -> Result<String, XclientError> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut octets = Vec::with_capacity(value.len().min(VALUE_OCTETS_MAX));
    let mut rest = value;
    while let [octet, behind @ ..] = rest {
        if octets.len() == VALUE_OCTETS_MAX {
            return Err(XclientError::TooLong);
        }
        let (octet, behind) = match (octet, behind) {
            (b'+', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => return Err(XclientError::Encoding),
            },
            (b'+' | b'=', _) => return Err(XclientError::Encoding),
            (octet, behind) => (*octet, behind),
        };
        octets.push(octet);
        rest = behind;
    }
    let text = String::from_utf8(octets).map_err(|_| XclientError::Encoding)?;
    if text.chars().any(char::is_control) { Err(XclientError::Encoding) } else { Ok(text) }
}

/// XCLIENT, command syntax, note 2: `[UNAVAILABLE]` in any case.
fn known<T>(value: &str, parse: fn(&str) -> Result<T, XclientError>) -> Result<Attribute<T>, XclientError> {
    if value.eq_ignore_ascii_case("[UNAVAILABLE]") {
        return Ok(Attribute::Unavailable);
    }
    parse(value).map(Attribute::Known)
}

/// XCLIENT, command syntax: only NAME is looked up and can have failed so.
fn name(value: &str) -> Result<Attribute<String>, XclientError> {
    if value.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        return Ok(Attribute::TemporarilyUnavailable);
    }
    known(value, |value| {
        // The grammar of a domain is the one of a mailbox in it; an address literal is no name.
        let path = format!("postmaster@{value}");
        let is_name =
            !value.starts_with('[') && Path::mailbox(&path).is_ok_and(|p| p.domain() == Some(value));
        if is_name { Ok(value.to_owned()) } else { Err(XclientError::Name) }
    })
}

/// One word, as every argument of HELO is.
fn word(value: &str) -> Result<String, XclientError> {
    if value.contains(' ') { Err(XclientError::Name) } else { filled(value) }
}

fn filled(value: &str) -> Result<String, XclientError> {
    // Nobody is called so: a sender that means it for more than NAME is not to be taken at its word.
    if value.is_empty() || value.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        Err(XclientError::Name)
    } else {
        Ok(value.to_owned())
    }
}

/// XCLIENT, command syntax: an IPv4 address, or an IPv6 address behind `IPV6:` in any case.
fn address(value: &str) -> Result<IpAddr, XclientError> {
    let address = match value.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPV6:") => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => value.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    address.map(|address| address.to_canonical()).map_err(|_| XclientError::Address)
}

fn port(value: &str) -> Result<u16, XclientError> {
    let decimal = value.len() <= 5 && value.bytes().all(|octet| octet.is_ascii_digit());
    value.parse().ok().filter(|_| decimal).ok_or(XclientError::Port)
}

fn protocol(value: &str) -> Result<Protocol, XclientError> {
    if value.eq_ignore_ascii_case("SMTP") {
        Ok(Protocol::Smtp)
    } else if value.eq_ignore_ascii_case("ESMTP") {
        Ok(Protocol::Esmtp)
    } else {
        Err(XclientError::Protocol)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn parse(rest: &str) -> Result<Xclient, XclientError> {
        Xclient::parse(rest.as_bytes())
    }

    #[test]
    fn all_attributes() {
        let text = " name=spike.example ADDR=192.0.2.1 PORT=56324 proto=esmtp  HELO=[192.0.2.1] LOGIN=jo+20doe+2Bb \
                    DESTADDR=ipv6:2001:db8::1 DESTPORT=25";
        let xclient = parse(text).unwrap();
        assert_eq!(
            xclient,
            Xclient {
                name: Some(Attribute::Known("spike.example".to_owned())),
                address: Some(Attribute::Known("192.0.2.1".parse().unwrap())),
                port: Some(Attribute::Known(56324)),
                protocol: Some(Protocol::Esmtp),
                helo: Some(Attribute::Known("[192.0.2.1]".to_owned())),
                login: Some(Attribute::Known("jo doe+b".to_owned())),
                destination_address: Some(Attribute::Known("2001:db8::1".parse().unwrap())),
                destination_port: Some(Attribute::Known(25)),
            }
        );
        assert_eq!(ATTRIBUTES.split(' ').count(), 8);
        for name in ATTRIBUTES.split(' ') {
            assert_ne!(parse(&format!(" {name}=?")), Err(XclientError::Unknown), "{name}");
        }
    }

    #[test]
    fn nothing_is_known() {
        let text = " NAME=[unavailable] ADDR=[UNAVAILABLE] PORT=+5BUNAVAILABLE+5D HELO=[Unavailable] LOGIN=[UNAVAILABLE]";
        let xclient = parse(text).unwrap();
        assert_eq!(xclient.name, Some(Attribute::Unavailable));
        assert_eq!(xclient.address, Some(Attribute::Unavailable));
        assert_eq!(xclient.port, Some(Attribute::Unavailable));
        assert_eq!(xclient.helo, Some(Attribute::Unavailable));
        assert_eq!(xclient.login, Some(Attribute::Unavailable));
        assert_eq!(xclient.destination_port, None);
        assert_eq!(parse(" NAME=[tempunavail]").unwrap().name, Some(Attribute::TemporarilyUnavailable));
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        for text in [" ADDR=IPV6:::ffff:192.0.2.1", " ADDR=IPv6:::ffff:c000:201"] {
            let expected = Some(Attribute::Known("192.0.2.1".parse().unwrap()));
            assert_eq!(parse(text).unwrap().address, expected);
        }
    }

    #[test]
    fn utf8_bare_or_encoded() {
        for text in [" LOGIN=j\u{f6}rg", " LOGIN=j+C3+B6rg", " LOGIN=j+c3\u{f6}"] {
            let expected = if text.ends_with("rg") {
                Ok(Some(Attribute::Known("j\u{f6}rg".to_owned())))
            } else {
                Err(XclientError::Encoding)
            };
            assert_eq!(parse(text).map(|xclient| xclient.login), expected);
        }
    }

    #[test]
    fn refused() {
        for (rest, error) in [
            ("", XclientError::Syntax),
            (" ", XclientError::Syntax),
            ("NAME=a", XclientError::Syntax),
            (" NAME", XclientError::Syntax),
            (" NAME=a.example b", XclientError::Syntax),
            (" FOO=a", XclientError::Unknown),
            (" =a", XclientError::Unknown),
            (" NAME =a", XclientError::Syntax),
            (" NAME=a NAME=a", XclientError::Twice),
            (" PROTO=SMTP proto=ESMTP", XclientError::Twice),
            (" ADDR=[UNAVAILABLE] ADDR=1.1.1.1", XclientError::Twice),
            (" LOGIN=a+", XclientError::Encoding),
            (" LOGIN=a+4", XclientError::Encoding),
            (" LOGIN=a+4g", XclientError::Encoding),
            (" LOGIN=a=b", XclientError::Encoding),
            (" LOGIN=a+0D+0Ab", XclientError::Encoding),
            (" LOGIN=a+00", XclientError::Encoding),
            (" LOGIN=a+7F", XclientError::Encoding),
            (" LOGIN=a+C2+85", XclientError::Encoding),
            (" LOGIN=a+FF", XclientError::Encoding),
            (" LOGIN=\u{1}", XclientError::Encoding),
            (" LOGIN=", XclientError::Name),
            (" LOGIN=[TEMPUNAVAIL]", XclientError::Name),
            (" HELO=[tempunavail]", XclientError::Name),
            (" HELO=", XclientError::Name),
            (" HELO=a+20b", XclientError::Name),
            (" NAME=", XclientError::Name),
            (" NAME=a..b", XclientError::Name),
            (" NAME=a+40b", XclientError::Name),
            (" NAME=a+20b", XclientError::Name),
            (" NAME=[192.0.2.1]", XclientError::Name),
            (" ADDR=", XclientError::Address),
            (" ADDR=2001:db8::1", XclientError::Address),
            (" ADDR=[192.0.2.1]", XclientError::Address),
            (" ADDR=192.0.2.01", XclientError::Address),
            (" ADDR=IPV6:192.0.2.1", XclientError::Address),
            (" ADDR=IPV6:", XclientError::Address),
            (" ADDR=[TEMPUNAVAIL]", XclientError::Address),
            (" DESTADDR=x", XclientError::Address),
            (" ADDR=1234\u{e9}x", XclientError::Address),
            (" PORT=", XclientError::Port),
            (" PORT=65536", XclientError::Port),
            (" PORT=+2B1", XclientError::Port),
            (" PORT=000025", XclientError::Port),
            (" DESTPORT=x", XclientError::Port),
            (" PROTO=", XclientError::Protocol),
            (" PROTO=LMTP", XclientError::Protocol),
            (" PROTO=[UNAVAILABLE]", XclientError::Protocol),
        ] {
            assert_eq!(parse(rest), Err(error), "{rest:?}");
        }
    }

    #[test]
    fn values_are_bounded() {
        for (octets, expected) in [(255, Ok(())), (256, Err(XclientError::TooLong))] {
            assert_eq!(parse(&format!(" HELO={}", "a".repeat(octets))).map(drop), expected);
            // What counts is what it stands for.
            assert_eq!(parse(&format!(" LOGIN={}", "+61".repeat(octets))).map(drop), expected);
        }
    }

    #[test]
    fn labels_are_there_once() {
        let mut labels: Vec<&str> = XclientError::ALL.iter().map(|error| error.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), XclientError::ALL.len());
        assert!(XclientError::ALL.iter().all(|error| error.to_string().starts_with("XCLIENT")));
    }
}
