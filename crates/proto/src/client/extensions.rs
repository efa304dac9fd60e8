//! What a server offers in its EHLO reply: plain flags and numbers, nothing kept of the text.
//!
//! Standards: RFC 5321 §4.1.1.1 (EHLO keywords are case-insensitive), and the RFC beside each field.

/// Service extensions of the server. After HELO, none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: SIZE offered.
    pub size: bool,
    /// RFC 1870 §4: largest message in octets; None when not said or 0 (no fixed maximum).
    pub size_max: Option<u64>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3030; of use only with CHUNKING.
    pub binary_mime: bool,
    /// RFC 6531.
    pub smtp_utf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 4954: PLAIN offered.
    pub auth_plain: bool,
    /// LOGIN offered (no standard, widely used).
    pub auth_login: bool,
    /// RFC 9422: LIMITS offered.
    pub limits: bool,
    /// RFC 9422 §4.1: most MAIL commands in one session.
    pub mail_max: Option<u32>,
    /// RFC 9422 §4.2: most RCPT commands in one transaction.
    pub recipients_max: Option<u32>,
    /// RFC 9422 §4.3: most different recipient domains in one session.
    pub recipient_domains_max: Option<u32>,
}

impl Extensions {
    /// Takes one line of the EHLO reply behind the first (which names the server). Unknown keywords are passed over.
    pub fn add_line(&mut self, line: &[u8]) {
        let mut words = line.split(|&b| b == b' ').filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        // Old servers write `AUTH=LOGIN` instead of `AUTH LOGIN`.
        if keyword.len() >= 5 && keyword[..5].eq_ignore_ascii_case(b"AUTH=") {
            self.add_mechanism(&keyword[5..]);
            words.for_each(|word| self.add_mechanism(word));
            return;
        }
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("BINARYMIME") {
            self.binary_mime = true;
        } else if is("SMTPUTF8") {
            self.smtp_utf8 = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("REQUIRETLS") {
            self.require_tls = true;
        } else if is("SIZE") {
            self.size = true;
            // RFC 1870 §4: zero means no fixed maximum; a parameter that is no number says nothing.
            self.size_max = words.next().and_then(decimal).filter(|&octets| octets > 0);
        } else if is("AUTH") {
            words.for_each(|word| self.add_mechanism(word));
        } else if is("LIMITS") {
            self.limits = true;
            words.for_each(|word| self.add_limit(word));
        }
    }

    fn add_mechanism(&mut self, word: &[u8]) {
        if word.eq_ignore_ascii_case(b"PLAIN") {
            self.auth_plain = true;
        } else if word.eq_ignore_ascii_case(b"LOGIN") {
            self.auth_login = true;
        }
    }

    /// RFC 9422 §3: `NAME=value`; a limit that is not understood is passed over, as is a zero.
    fn add_limit(&mut self, word: &[u8]) {
        let Some(equals) = memchr::memchr(b'=', word) else { return };
        let (name, value) = (&word[..equals], &word[equals + 1..]);
        let value = decimal(value).and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0);
        if name.eq_ignore_ascii_case(b"MAILMAX") {
            self.mail_max = value;
        } else if name.eq_ignore_ascii_case(b"RCPTMAX") {
            self.recipients_max = value;
        } else if name.eq_ignore_ascii_case(b"RCPTDOMAINMAX") {
            self.recipient_domains_max = value;
        }
    }
}

/// Decimal digits only, at most 20 of them (RFC 1870 §4); None on anything else and on overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Extensions {
        let mut extensions = Extensions::default();
        lines.iter().for_each(|line| extensions.add_line(line.as_bytes()));
        extensions
    }

    #[test]
    fn keywords_in_any_case() {
        let parsed =
            parse(&["pipelining", "8BitMime", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN", "STARTTLS"]);
        assert!(parsed.pipelining && parsed.eight_bit_mime && parsed.chunking && parsed.binary_mime);
        assert!(parsed.smtp_utf8 && parsed.dsn && parsed.starttls && !parsed.size && !parsed.require_tls);
    }

    #[test]
    fn size_forms() {
        // RFC 1870 §4
        assert_eq!(parse(&["SIZE 52428800"]).size_max, Some(52_428_800));
        for line in ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999", "SIZE 123456789012345678901"] {
            let parsed = parse(&[line]);
            assert!(parsed.size, "{line}");
            assert_eq!(parsed.size_max, None, "{line}");
        }
    }

    #[test]
    fn limits() {
        // RFC 9422 §3, §4
        let parsed = parse(&["LIMITS MAILMAX=1000 rcptmax=100 NEW=5 RCPTDOMAINMAX=x =3 BARE"]);
        assert!(parsed.limits);
        assert_eq!(
            (parsed.mail_max, parsed.recipients_max, parsed.recipient_domains_max),
            (Some(1000), Some(100), None)
        );
        assert_eq!(parse(&["LIMITS MAILMAX=0"]).mail_max, None);
    }

    #[test]
    fn auth_in_both_spellings() {
        let parsed = parse(&["AUTH GSSAPI PLAIN"]);
        assert!(parsed.auth_plain && !parsed.auth_login);
        assert!(parse(&["AUTH=LOGIN PLAIN"]).auth_login);
    }

    #[test]
    fn unknown_and_empty_lines_change_nothing() {
        assert_eq!(parse(&["", " ", "XCLIENT NAME", "VRFY", "PIPELININGX"]), Extensions::default());
    }
}
