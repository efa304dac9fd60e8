//! Domains as they stand in addresses, and names as they stand in the DNS.
//!
//! ```text
//!   example.com   Bücher.example   bücher。example     a name: lower case, A-labels, no dot at the end
//!   [192.0.2.1]   [IPv6:2001:db8::1]                  an address literal: its own host
//! ```
//! Underscores are let through: hosts are called so, though no host should be (RFC 952). A name that ends in digits is none, so that an
//! address without brackets is never looked up as a name (RFC 1123 §2.1).
//!
//! Standards: RFC 1035 §2.3.4 (lengths), RFC 5321 §4.1.3 (literals), RFC 5890 §2.3.2 (A-labels), UTS #46 (mapping).

use std::net::IpAddr;

use idna::AsciiDenyList;

use super::DnsError;

/// Octets of a name without the dot at the end.
const NAME_OCTETS_MAX: usize = 253;

/// Octets of a label.
const LABEL_OCTETS_MAX: usize = 63;

/// Domain of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// Its own host.
    Literal(IpAddr),
    /// To be looked up.
    Name(String),
}

impl Domain {
    /// Reads the domain of an address.
    pub(super) fn parse(text: &str) -> Result<Self, DnsError> {
        let invalid = || DnsError::InvalidDomain(text.to_owned());
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(invalid)?;
            return literal(inner).map(Self::Literal).ok_or_else(invalid);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            // The deny list leaves letters, digits and hyphens, so that no mapped character can become a dot or a slash.
            let mapped = idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::STD3);
            mapped.map_err(|_| invalid())?.into_owned()
        };
        host_name(&ascii).map(Self::Name).ok_or_else(invalid)
    }
}

/// RFC 5321 §4.1.3; no other tag than `IPv6` has ever been registered.
fn literal(inner: &str) -> Option<IpAddr> {
    match inner.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

/// `text` in lower case and without the dot at the end, if it can be the name of a host.
pub(super) fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > NAME_OCTETS_MAX {
        return None;
    }
    let label = |label: &str| {
        (1..=LABEL_OCTETS_MAX).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    let numeric = |label: &str| label.bytes().all(|octet| octet.is_ascii_digit());
    let last = text.rsplit('.').next().unwrap_or_default();
    (text.split('.').all(label) && !numeric(last)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn name(text: &str) -> Result<Domain, DnsError> {
        Ok(Domain::Name(text.to_owned()))
    }

    #[test]
    fn names_are_lower_case_without_the_last_dot() {
        assert_eq!(Domain::parse("Example.COM"), name("example.com"));
        assert_eq!(Domain::parse("example.com."), name("example.com"));
        assert_eq!(Domain::parse("mail_gw-1.example"), name("mail_gw-1.example"));
        assert_eq!(Domain::parse("mailhub"), name("mailhub"));
    }

    /// RFC 5890 §2.3.2.1.
    #[test]
    fn u_labels_become_a_labels() {
        assert_eq!(Domain::parse("BÜCHER.example"), name("xn--bcher-kva.example"));
        assert_eq!(Domain::parse("bu\u{308}cher\u{3002}example"), name("xn--bcher-kva.example"));
        assert_eq!(Domain::parse("straße.example"), name("xn--strae-oqa.example"));
        assert_eq!(Domain::parse("xn--bcher-kva.example"), name("xn--bcher-kva.example"));
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abcdefg.".repeat(31));
        let bad = [
            "",
            ".",
            "..",
            ".example",
            "a..example",
            "a b.example",
            "a\\.example",
            "*.example",
            "a\0.example",
            "a\r\n.example",
            "192.0.2.1",
            "example.123",
            "ü\u{2100}.example",
            "\u{200e}ü.example",
            "ü..example",
            "xn--\u{fc}.example",
            "[192.0.2.1",
            "192.0.2.1]",
            &long_label,
            &long_name,
        ];
        for text in bad {
            assert_eq!(Domain::parse(text), Err(DnsError::InvalidDomain(text.to_owned())), "{text:?}");
        }
        assert!(Domain::parse(&format!("{}.example", "a".repeat(63))).is_ok());
        assert!(Domain::parse(&format!("{}exam", "abcdefg.".repeat(31))).is_ok());
    }

    /// RFC 5321 §4.1.3.
    #[test]
    fn literals_are_addresses_in_brackets() {
        let literal = |text: &str| Ok(Domain::Literal(text.parse().unwrap()));
        assert_eq!(Domain::parse("[192.0.2.1]"), literal("192.0.2.1"));
        assert_eq!(Domain::parse("[IPv6:2001:db8::1]"), literal("2001:db8::1"));
        assert_eq!(Domain::parse("[ipv6:2001:DB8::1]"), literal("2001:db8::1"));
        for text in
            ["[]", "[2001:db8::1]", "[192.0.2.256]", "[192.0.2.1 ]", "[IPv6:192.0.2.1]", "[a:b]", "[é€]"]
        {
            assert_eq!(Domain::parse(text), Err(DnsError::InvalidDomain(text.to_owned())), "{text:?}");
        }
    }
}
