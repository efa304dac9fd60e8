//! Which messages a command is about.

use std::ops::RangeInclusive;
use std::str::FromStr;

use inrush_log::Envelope;

use crate::cli::Filter;

/// A reverse-path to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The null reverse-path, `<>`.
    Null,
    /// Everybody of a domain, `@example.com`.
    Domain(String),
    /// One address.
    Address {
        /// Compared octet by octet: RFC 5321 §2.4 lets only the domain be of any case.
        local: String,
        /// Of any case.
        domain: String,
    },
}

impl FromStr for Sender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What a shell makes of a variable that is not set is no choice of anybody.
        if text.is_empty() {
            return Err("an empty address; the null reverse-path is <>".to_owned());
        }
        let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::Null);
        }
        match text.rsplit_once('@') {
            Some((_, "")) | None => {
                Err("not an address (a@example.com), not a domain (@example.com) and not <>".to_owned())
            }
            Some(("", domain)) => Ok(Self::Domain(domain.to_owned())),
            Some((local, domain)) => Ok(Self::Address { local: local.to_owned(), domain: domain.to_owned() }),
        }
    }
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Domain(domain) => write!(f, "@{domain}"),
            Self::Address { local, domain } => write!(f, "{local}@{domain}"),
        }
    }
}

impl Sender {
    fn is(&self, reverse_path: &[u8]) -> bool {
        let (local, domain) = split(reverse_path);
        match self {
            Self::Null => reverse_path.is_empty(),
            Self::Domain(wanted) => domain.eq_ignore_ascii_case(wanted.as_bytes()),
            Self::Address { local: wanted, domain: of } => {
                local == wanted.as_bytes() && domain.eq_ignore_ascii_case(of.as_bytes())
            }
        }
    }
}

/// Local part and domain of a path; the domain is empty where there is none.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&octet| octet == b'@') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

impl Filter {
    /// Times of acceptance in µs since 1970 that pass.
    pub(super) fn times(&self) -> RangeInclusive<u64> {
        let since = self.since.map_or(0, |since| since.0);
        // --until names the first moment that is left out.
        since..=self.until.map_or(u64::MAX, |until| until.0.saturating_sub(1))
    }

    /// Whether a message is asked for, by what its envelope says.
    pub(super) fn passes(&self, envelope: &Envelope<'_>) -> bool {
        let sender = self.sender.as_ref().is_none_or(|sender| sender.is(envelope.reverse_path()));
        sender
            && self.rcpt_domain.as_ref().is_none_or(|domain| {
                let wanted = domain.as_bytes();
                envelope.recipients().any(|recipient| split(recipient.path).1.eq_ignore_ascii_case(wanted))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(text: &str) -> Sender {
        match text.parse() {
            Ok(sender) => sender,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn only_domains_are_of_any_case() {
        assert!(sender("Ann@Example.com").is(b"Ann@eXample.COM"));
        assert!(sender("<Ann@Example.com>").is(b"Ann@example.com"));
        assert!(!sender("ann@example.com").is(b"Ann@example.com"));
        assert!(sender("@example.com").is(b"\"a@b\"@EXAMPLE.com"));
        assert!(!sender("@example.com").is(b"a@sub.example.com"));
        assert!(sender("<>").is(b"") && !sender("<>").is(b"a@example.com"));
        assert!(!sender("@example.com").is(b""));
    }

    #[test]
    fn what_is_no_sender_is_refused() {
        for text in ["ann", "ann@", "@", ""] {
            assert!(text.parse::<Sender>().is_err(), "{text}");
        }
    }
}
