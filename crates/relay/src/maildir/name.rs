//! Names of messages that no other delivery uses.
//!
//! ```text
//!   1700000000.M123456P4711Q9_0A1B2C123456789ABCDE.mx.example,S=1843,W=1890
//!   └seconds─┘ └micros│pid││ └──── message id ───┘ └─ host ─┘ └file┘ └─ with CRLF
//!                      count of this process
//! ```
//! The name is unique by itself; the message id in it tells nothing apart, but tells what is the same: it is how a person or a
//! program recognises the second copy of a message that was delivered again because the first outcome was lost in a crash. Two
//! recipients of one message who share a mailbox have the same id in both names as well.
//!
//! Standards: "Using maildir format" (unique names, `\057` and `\072` in the host); Maildir++ and Dovecot for `S=` and `W=`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Octets of a message id.
const MESSAGE_ID_OCTETS: usize = 20;

/// The longest host that is put into a name, escaped; what is longer is cut off. Leaves room for sizes and for the flags that
/// readers add, below the 255 octets of a name in most file systems.
const HOST_OCTETS_MAX: usize = 80;

/// Deliveries that this process has begun.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The host as it stands in names.
///
/// "Using maildir format" asks for `/` and `:` to be written as octal numbers. A comma would begin a size field, and control
/// characters and space are no use to anybody; they are written the same way.
pub(super) fn host_label(host: &str) -> String {
    let mut label = String::new();
    for c in host.chars() {
        let plain = !(c.is_control() || c.is_whitespace() || matches!(c, '/' | ':' | ',' | '\\'));
        let mut text = String::new();
        if plain {
            text.push(c);
        } else {
            for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(text, "\\{octet:03o}");
            }
        }
        if label.len() + text.len() > HOST_OCTETS_MAX {
            break;
        }
        label.push_str(&text);
    }
    if label.is_empty() { "localhost".to_owned() } else { label }
}

/// True for 20 upper-case hex digits.
pub(super) fn is_message_id(id: &str) -> bool {
    id.len() == MESSAGE_ID_OCTETS && id.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'A'..=b'F'))
}

/// A new name. `tag` is the message id, or what else the file is for.
pub(super) fn unique(tag: &str, host_label: &str) -> String {
    // A clock before 1970 only makes a strange name: pid and count are still unique on this machine.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.M{}P{}Q{count}_{tag}.{host_label}", now.as_secs(), now.subsec_micros(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_names() {
        assert_eq!(host_label("mx.example"), "mx.example");
        assert_eq!(host_label("a/b:c,d e\\f\n"), "a\\057b\\072c\\054d\\040e\\134f\\012");
        assert_eq!(host_label(""), "localhost");
        assert_eq!(host_label(&"x".repeat(300)).len(), HOST_OCTETS_MAX);
        assert!(host_label(&"/".repeat(300)).ends_with("\\057"));
    }

    #[test]
    fn names_differ_and_stay_short() {
        let host = host_label(&"x".repeat(300));
        let (one, two) = (unique("0A1B2C123456789ABCDE", &host), unique("0A1B2C123456789ABCDE", &host));
        assert_ne!(one, two);
        assert!(one.contains("_0A1B2C123456789ABCDE."), "{one}");
        // The longest of each: seconds, micros, pid, count and two sizes.
        let longest = 20 + 8 + 11 + 21 + 21 + 1 + HOST_OCTETS_MAX + 2 * (3 + 20);
        assert!(longest <= 255 - 40, "{longest}");
    }

    #[test]
    fn message_ids() {
        assert!(is_message_id("0A1B2C123456789ABCDE"));
        for text in [
            "",
            "0A1B2C123456789ABCD",
            "0a1b2c123456789abcde",
            "0A1B2C12345678/../DE",
            "0A1B2C123456789ABCDEF",
        ] {
            assert!(!is_message_id(text), "{text}");
        }
    }
}
