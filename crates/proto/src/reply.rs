//! Replies as named constants.
//!
//! Every reply of the server session is one entry of the table in `reply/table.rs`: code, enhanced status (RFC 3463),
//! text, metric label and the section that asks for it. The bytes of the wire are put together at compile time; what a
//! peer has sent is never echoed in a reply, so nothing has to be escaped.
//!
//! Replies that name the host (220, 221, 421, RFC 5321 §4.2.3) and the `250` with the message id get these words when
//! they are written; nothing else is ever formatted.
//!
//! Standards: RFC 5321 §4.2 (replies), RFC 2034 §4 (where the enhanced status stands), RFC 3463, RFC 5248.

mod table;

use std::fmt;

/// One reply of the table; compared by its place in the table.
pub struct Reply {
    index: u16,
    code: u16,
    enhanced: &'static str,
    text: &'static str,
    name: &'static str,
    reason: Option<&'static str>,
    section: &'static str,
    wire: &'static [u8],
}

impl Reply {
    /// Place in [`Reply::ALL`]: dense, from 0, for arrays of counters.
    pub const fn index(&self) -> usize {
        self.index as usize
    }

    /// The three-digit code of RFC 5321 §4.2.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status of RFC 3463 such as `5.1.1`; empty where RFC 2034 §4 wants none (220, 334, 354, HELO and EHLO).
    pub const fn enhanced_status(&self) -> &'static str {
        self.enhanced
    }

    /// The text for people, without code, status and host name.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// The name of the constant.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The value of the metric label `reason`; `None` for replies that only say that all is well.
    pub const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// The section that defines when this reply is due.
    pub const fn section(&self) -> &'static str {
        self.section
    }

    /// The whole reply as it goes over the wire, without a host name or a message id.
    pub const fn wire(&self) -> &'static [u8] {
        self.wire
    }

    /// True for a 4xx reply: the client may try again.
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// True for a 4xx or 5xx reply.
    pub const fn is_failure(&self) -> bool {
        self.code >= 400
    }

    /// True when the client broke the protocol, as opposed to a refusal by policy or by lack of means; these count
    /// towards [`Limits::errors_max`](crate::Limits::errors_max).
    pub const fn is_protocol_error(&self) -> bool {
        matches!(self.code, 500..=504 | 555)
    }

    /// RFC 5321 §4.2.3: 220, 221 and 421 carry the name of the host in front of their text, but not the 220 to STARTTLS (RFC 3207 §4).
    pub(crate) const fn names_host(&self) -> bool {
        matches!(self.code, 221 | 421) || (self.code == 220 && self.enhanced.is_empty())
    }

    /// Offset of the text in [`Reply::wire`].
    pub(crate) const fn text_offset(&self) -> usize {
        self.wire.len() - 2 - self.text.len()
    }
}

impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Reply {}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.name, self.code, self.enhanced)
    }
}

#[cfg(test)]
mod tests {
    use super::Reply;
    use std::collections::HashSet;

    #[test]
    fn table_is_dense_and_labels_are_unique() {
        let mut reasons = HashSet::new();
        for (index, reply) in Reply::ALL.iter().enumerate() {
            assert_eq!(reply.index(), index, "{reply:?}");
            if let Some(reason) = reply.reason() {
                assert!(reasons.insert(reason), "{reply:?}: label {reason} is taken");
                assert!(reason.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            }
            assert_eq!(reply.is_failure(), reply.reason().is_some(), "{reply:?}: a label for failures only");
        }
    }

    // RFC 2034 §4: the class of the enhanced status is the first digit of the code.
    #[test]
    fn code_and_enhanced_status_agree() {
        for reply in Reply::ALL {
            assert!((200..600).contains(&reply.code()), "{reply:?}");
            let enhanced = reply.enhanced_status();
            if enhanced.is_empty() {
                assert!(matches!(reply.code(), 220 | 250 | 334 | 354), "{reply:?}: needs an enhanced status");
                continue;
            }
            let digits: Vec<&str> = enhanced.split('.').collect();
            assert_eq!(digits.len(), 3, "{reply:?}");
            assert!(digits.iter().all(|d| d.parse::<u16>().is_ok_and(|d| d < 1000)), "{reply:?}");
            assert_eq!(digits[0], (reply.code() / 100).to_string(), "{reply:?}");
        }
    }

    // RFC 5321 §4.5.3.1.5: at most 512 octets in a reply line; §4.2: printable US-ASCII.
    #[test]
    fn wire_form_is_one_line() {
        for reply in Reply::ALL {
            let wire = reply.wire();
            assert!(wire.len() <= 200, "{reply:?}: room for the host name is kept");
            let line = wire.strip_suffix(b"\r\n").expect("ends in CRLF");
            assert!(line.iter().all(|b| (b' '..=b'~').contains(b)), "{reply:?}");
            assert!(wire.starts_with(reply.code().to_string().as_bytes()));
            assert_eq!(&wire[reply.text_offset()..wire.len() - 2], reply.text().as_bytes());
            assert_eq!(wire[3], b' ');
        }
    }

    #[test]
    fn every_reply_names_its_section() {
        for reply in Reply::ALL {
            // XCLIENT has no other standard.
            if reply.section() == "XCLIENT_README" {
                continue;
            }
            let rest = reply.section().strip_prefix("RFC ").expect("starts with RFC");
            let (number, section) = rest.split_once(" §").expect("number, then section");
            assert!(number.parse::<u32>().is_ok(), "{reply:?}");
            assert!(section.split('.').all(|part| part.parse::<u16>().is_ok()), "{reply:?}");
        }
    }
}
