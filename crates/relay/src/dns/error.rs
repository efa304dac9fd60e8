//! Why there is no next hop for a domain.
//!
//! Each variant leads to one enhanced status code and so to one of two ends: a bounce now, or another attempt later. The words are those
//! that Postfix uses, since postmasters search for them.
//!
//! Standards: RFC 3463 §3.2 and §3.5 (codes), RFC 7505 §4.1 (5.1.10).

use std::fmt;

/// Type of the records that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// Mail exchangers.
    Mx,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Addresses of both families.
    Address,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mx => "MX",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Address => "A/AAAA",
        })
    }
}

/// Why no name server gave an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// None answered in time.
    Timeout,
    /// A server answered that it cannot or will not answer, such as `Server Failure` or `Query Refused`.
    ServerFailure(String),
    /// A server does not do the look-up for us but names other servers (RFC 2308 §2.2).
    Referral,
    /// What came back cannot be understood.
    Malformed,
    /// No server can be reached: the system's words.
    Unreachable(String),
    /// More questions are under way than a server takes.
    Busy,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::ServerFailure(code) => write!(f, "the name server answered: {code}"),
            Self::Referral => f.write_str("the name server does not resolve for us"),
            Self::Malformed => f.write_str("the answer of the name server is malformed"),
            Self::Unreachable(what) => write!(f, "no name server can be reached: {what}"),
            Self::Busy => f.write_str("too many questions are under way"),
        }
    }
}

/// Why there is no next hop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The text is neither a domain name nor an address literal (RFC 5321 §4.1.2, §4.1.3).
    #[error("Bad destination domain: \"{}\" is neither a domain name nor an address literal", shown(.0))]
    InvalidDomain(String),
    /// The name does not exist.
    #[error(
        "Host or domain name not found. Name service error for name={name} type={record_type}: Host not found"
    )]
    NotFound {
        /// The name.
        name: String,
        /// What was asked for.
        record_type: RecordType,
    },
    /// The name exists, but neither has a mail exchanger nor an address.
    #[error(
        "Host or domain name not found. Name service error for name={name} type={record_type}: \
         Host found but no data record of requested type"
    )]
    NoData {
        /// The name.
        name: String,
        /// What was asked for last.
        record_type: RecordType,
    },
    /// The aliases of the name lead back to themselves, or there are more of them than are followed.
    #[error(
        "Host or domain name not found. Name service error for name={name} type={record_type}: Name server loop"
    )]
    AliasLoop {
        /// The name.
        name: String,
        /// What was asked for.
        record_type: RecordType,
    },
    /// RFC 7505: the domain says that it takes no mail.
    #[error("Domain {0} does not accept mail (nullMX)")]
    NullMx(String),
    /// There are MX records, but none with the name of a host.
    #[error("No mail exchanger of {0} has a valid host name")]
    NoValidHost(String),
    /// There are mail exchangers, but none has an address.
    #[error("No mail exchanger of {domain} has an address. {first}")]
    NoAddress {
        /// The domain.
        domain: String,
        /// What is wrong with the best of them.
        first: Box<DnsError>,
    },
    /// RFC 5321 §5.1: no mail exchanger is better than ourselves, but we do not take the mail either.
    #[error("mail for {0} loops back to myself")]
    LoopsBack(String),
    /// There may be an answer later.
    #[error(
        "Host or domain name not found. Name service error for name={name} type={record_type}: \
         Host not found, try again ({trouble})"
    )]
    TryAgain {
        /// The name.
        name: String,
        /// What was asked for.
        record_type: RecordType,
        /// Why there is no answer now.
        trouble: Trouble,
    },
}

impl DnsError {
    /// Whether another attempt is useless: the mail is returned at once.
    #[must_use]
    pub fn permanent(&self) -> bool {
        !matches!(self, Self::TryAgain { .. })
    }

    /// The enhanced status code: class, subject, detail.
    #[must_use]
    pub fn enhanced(&self) -> (u8, u16, u16) {
        match self {
            Self::InvalidDomain(_) | Self::NotFound { .. } => (5, 1, 2),
            Self::NullMx(_) => (5, 1, 10),
            Self::NoData { .. } | Self::AliasLoop { .. } | Self::NoValidHost(_) | Self::NoAddress { .. } => {
                (5, 4, 4)
            }
            Self::LoopsBack(_) => (5, 4, 6),
            Self::TryAgain { .. } => (4, 4, 3),
        }
    }
}

/// Longest part of a bad domain that is repeated.
const SHOWN_CHARACTERS_MAX: usize = 255;

/// The text without anything that could harm a log line or a reply.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_postmasters_search_for() {
        let (name, record_type) = ("gone.example".to_owned(), RecordType::Mx);
        let error = DnsError::NotFound { name: name.clone(), record_type };
        assert_eq!(
            error.to_string(),
            "Host or domain name not found. Name service error for name=gone.example type=MX: Host not found"
        );
        let error = DnsError::TryAgain { name, record_type, trouble: Trouble::Timeout };
        assert_eq!(
            error.to_string(),
            "Host or domain name not found. Name service error for name=gone.example type=MX: \
             Host not found, try again (no answer in time)"
        );
    }

    #[test]
    fn bad_domains_cannot_break_a_line() {
        let error = DnsError::InvalidDomain("a\r\nb\u{7f}\u{fc}\"".to_owned());
        assert_eq!(
            error.to_string(),
            "Bad destination domain: \"a\\r\\nb\\u{7f}\\u{fc}\\\"\" is neither a domain name nor an address literal"
        );
    }

    #[test]
    fn only_a_missing_answer_is_tried_again() {
        let (name, record_type) = (String::new(), RecordType::Address);
        let first = Box::new(DnsError::NoData { name: name.clone(), record_type });
        let rows = [
            (DnsError::InvalidDomain(name.clone()), (5, 1, 2)),
            (DnsError::NotFound { name: name.clone(), record_type }, (5, 1, 2)),
            (DnsError::NoData { name: name.clone(), record_type }, (5, 4, 4)),
            (DnsError::AliasLoop { name: name.clone(), record_type }, (5, 4, 4)),
            (DnsError::NullMx(name.clone()), (5, 1, 10)),
            (DnsError::NoValidHost(name.clone()), (5, 4, 4)),
            (DnsError::NoAddress { domain: name.clone(), first }, (5, 4, 4)),
            (DnsError::LoopsBack(name.clone()), (5, 4, 6)),
            (DnsError::TryAgain { name, record_type, trouble: Trouble::Busy }, (4, 4, 3)),
        ];
        for (error, enhanced) in rows {
            assert_eq!(error.enhanced(), enhanced, "{error:?}");
            assert_eq!(error.permanent(), enhanced.0 == 5, "{error:?}");
        }
    }
}
