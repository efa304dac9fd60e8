//! Addresses with places for numbers: `{number}` is the number of the message, `{recipient}` the index of the recipient.

/// A mailbox, cut at its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Message,
    Recipient,
    /// A number of its own for every recipient of the run; the payload is the most recipients of a message.
    Sequence(u32),
}

impl Template {
    /// Cuts `text`. With `several_recipients` and no `{recipient}`, the index goes in front of the local part, as in Postfix's
    /// `smtp-source -r`.
    ///
    /// # Errors
    /// A sentence, for octets that cannot stand in a path or an unknown place.
    pub fn parse(text: &str, several_recipients: bool) -> Result<Self, String> {
        if text.bytes().any(|b| b < b' ' || b == 0x7f || b == b'<' || b == b'>') {
            return Err(format!("{text:?} holds what cannot stand in an address"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, place) = rest.split_at(open);
            let (part, behind) = if let Some(behind) = place.strip_prefix("{number}") {
                (Part::Message, behind)
            } else if let Some(behind) = place.strip_prefix("{recipient}") {
                (Part::Recipient, behind)
            } else {
                return Err(format!("{text:?}: only {{number}} and {{recipient}} stand for something"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(part);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        if several_recipients && !parts.contains(&Part::Recipient) {
            parts.insert(0, Part::Recipient);
        }
        Ok(Self { parts })
    }

    /// A number that does not repeat in the run goes in front, as in Postfix's `smtp-source -N`. No message has more than
    /// `recipients_max` recipients.
    #[must_use]
    pub fn numbered(mut self, recipients_max: u32) -> Self {
        self.parts.insert(0, Part::Sequence(recipients_max));
        self
    }

    /// Appends the address for message `n`, recipient `recipient`.
    pub fn write(&self, n: u64, recipient: u32, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Message => decimal(n, out),
                Part::Recipient => decimal(u64::from(recipient), out),
                Part::Sequence(most) => {
                    decimal(n.wrapping_mul(u64::from(*most)).wrapping_add(u64::from(recipient)), out);
                }
            }
        }
    }
}

/// Appends a number in decimal digits.
fn decimal(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn write(text: &str, several: bool) -> String {
        let mut out = Vec::new();
        Template::parse(text, several).unwrap().write(120, 3, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places() {
        assert_eq!(write("a@b.example", false), "a@b.example");
        assert_eq!(write("u{recipient}-{number}@d{number}.example", true), "u3-120@d120.example");
        assert_eq!(write("user@b.example", true), "3user@b.example");
        assert_eq!(write("", false), "");
        let mut out = Vec::new();
        decimal(u64::MAX, &mut out);
        decimal(0, &mut out);
        assert_eq!(out, b"184467440737095516150");
    }

    #[test]
    fn sequence_numbers_do_not_repeat() {
        let template = Template::parse("@b.example", false).unwrap().numbered(5);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100 {
            for recipient in 0..5 {
                let mut out = Vec::new();
                template.write(n, recipient, &mut out);
                assert!(seen.insert(out));
            }
        }
    }

    #[test]
    fn refused() {
        for bad in ["a\r\nRSET", "a>b", "a{x}@b", "a{n}@b", "a{@b", "a\u{7f}"] {
            assert!(Template::parse(bad, false).is_err(), "{bad:?}");
        }
    }
}
