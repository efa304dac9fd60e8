//! Addresses: paths of MAIL and RCPT, without copying.
//!
//! ```text
//!   <@relay.example,@other.example:"jo doe"@[IPv6:2001:db8::1]>
//!    └──── source route, stripped ──┘└local┘ └──── domain ────┘
//! ```
//! The grammar is that of RFC 5321 with two things that real mail needs: a label may hold `_` as a letter does, and
//! UTF-8 is understood in local parts and labels. Whether UTF-8 is *allowed* is known only when the parameters of MAIL
//! have been read, so the parser reports it ([`Path::is_ascii`]) and the envelope phase decides.
//!
//! A path is checked octet by octet once; there is no recursion and no backtracking, and every length is bounded.
//!
//! Standards: RFC 5321 §4.1.2 (grammar), §4.1.3 (literals), §4.5.3.1.1–3 (lengths), §4.5.1 (postmaster), §3.6.1
//! and Appendix C (source routes); RFC 6531 §3.3 (UTF-8).

mod domain;
mod path;

pub use domain::{domain_eq, normalise_domain};

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 5321 §4.5.3.1.1.
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// RFC 5321 §4.5.3.1.2.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// RFC 5321 §4.5.3.1.3, with the angle brackets and the source route.
pub const PATH_OCTETS_MAX: usize = 256;
/// RFC 1035 §2.3.4.
pub const LABEL_OCTETS_MAX: usize = 63;

/// A reverse-path or forward-path without angle brackets and source route; case is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Path<'a> {
    /// `local@domain`, or a local part alone, or nothing for the null path.
    text: &'a str,
    /// Octets of the local part.
    local_octets: u16,
}

impl<'a> Path<'a> {
    /// The null reverse-path `<>`.
    pub const NULL: Path<'static> = Path { text: "", local_octets: 0 };

    /// Parses a path in angle brackets at the front of `input`; gives back the path and what follows it.
    ///
    /// A local part alone is accepted when it is `postmaster` in any case (RFC 5321 §4.5.1); the null path is
    /// accepted. The caller refuses each where it has no place.
    pub fn parse(input: &'a [u8]) -> Result<(Self, &'a [u8]), PathError> {
        path::bracketed(input)
    }

    /// Parses a whole mailbox without angle brackets, as in a list of addresses: `local@domain`.
    pub fn mailbox(text: &'a str) -> Result<Self, PathError> {
        path::mailbox(text.as_bytes())
    }

    /// Puts a path together again that was parsed before.
    pub(crate) const fn from_parts(text: &'a str, local_octets: u16) -> Self {
        Self { text, local_octets }
    }

    pub(crate) const fn local_octets(self) -> u16 {
        self.local_octets
    }

    /// The mailbox as it was sent: `local@domain`, `postmaster`, or nothing.
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// True for `<>`.
    pub const fn is_null(self) -> bool {
        self.text.is_empty()
    }

    /// The local part as it was sent, quotes and backslashes included.
    pub fn local_part(self) -> &'a str {
        self.text.get(..usize::from(self.local_octets)).unwrap_or_default()
    }

    /// The characters of the local part without quoting: `"a\"b"` gives `a"b`. RFC 5321 §4.1.2: `"joe"@x` and `joe@x`
    /// are the same mailbox.
    pub fn local_part_chars(self) -> impl Iterator<Item = char> + use<'a> {
        let local = self.local_part();
        let quoted = local.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
        let mut chars = quoted.unwrap_or(local).chars();
        std::iter::from_fn(move || match chars.next() {
            Some('\\') if quoted.is_some() => chars.next(),
            other => other,
        })
    }

    /// The domain as it was sent, or the address literal with its brackets; `None` for `<>` and `<postmaster>`.
    pub fn domain(self) -> Option<&'a str> {
        self.text.get(usize::from(self.local_octets) + 1..)
    }

    /// The address literal when the domain is one.
    pub fn literal(self) -> Option<Literal<'a>> {
        let inner = self.domain()?.strip_prefix('[')?.strip_suffix(']')?;
        Literal::parse(inner)
    }

    /// True for `postmaster` without a domain (RFC 5321 §4.5.1), in any case.
    pub fn is_bare_postmaster(self) -> bool {
        self.domain().is_none() && self.text.eq_ignore_ascii_case("postmaster")
    }

    /// False when the path needs SMTPUTF8 (RFC 6531 §3.3).
    pub const fn is_ascii(self) -> bool {
        self.text.is_ascii()
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text.escape_debug())
    }
}

/// An address literal (RFC 5321 §4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal<'a> {
    /// `[192.0.2.1]`
    V4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`
    V6(Ipv6Addr),
    /// `[tag:content]` with a tag that is not known here.
    General {
        /// The standardized tag.
        tag: &'a str,
        /// What follows its colon.
        content: &'a str,
    },
}

impl<'a> Literal<'a> {
    /// Parses what stands between the brackets.
    pub fn parse(inner: &'a str) -> Option<Self> {
        let Some((tag, content)) = inner.split_once(':') else {
            // RFC 5321 §4.1.3: Snum is decimal; a leading zero, octal to some, is refused.
            return inner.parse().ok().map(Self::V4);
        };
        if tag.eq_ignore_ascii_case("IPv6") {
            return content.parse().ok().map(Self::V6);
        }
        let tag_ok = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !tag.ends_with('-');
        let content_ok = content.bytes().all(|b| matches!(b, 33..=90 | 94..=126));
        (tag_ok && !tag.is_empty() && content_ok && !content.is_empty())
            .then_some(Self::General { tag, content })
    }
}

/// What is wrong with a path. Each leads to one reply for a reverse-path and one for a forward-path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// No angle brackets: the command, not the address, is malformed.
    Brackets,
    /// Outside the grammar, or not UTF-8.
    Syntax,
    /// A local part alone that is not `postmaster`.
    NoDomain,
    /// A route in an old form that has no place in the grammar: `user@other@ours`, `user%other` or `other!user` without a domain.
    Route,
    /// Brackets around something that is no address literal.
    Literal,
    /// Over [`LOCAL_PART_OCTETS_MAX`].
    LocalPartTooLong,
    /// Over [`DOMAIN_OCTETS_MAX`], or a label over [`LABEL_OCTETS_MAX`].
    DomainTooLong,
    /// Over [`PATH_OCTETS_MAX`].
    PathTooLong,
}
