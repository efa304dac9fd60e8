//! Trace header, written when a message is handed over (RFC 5321 §4.4).
//!
//! Everything that came from a remote host is escaped: what is not printable ASCII, and what could end a comment, becomes `?` or is quoted, so that nothing can
//! add a line, close a comment or bring octets above 127 into the header.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Envelope, Protocol, attribute_kind};
use crate::MessageId;

/// RFC 5321 §4.5.3.1.6: a line has at most 998 octets before its end; RFC 5322 §2.1.1 wants 78. Folding happens between parts.
const TEXT_OCTETS_MAX: usize = 255;

/// Appends what goes in front of the message: its `Received` field, and behind that `Date` and `Message-ID` where a user's mail
/// program has left them to us (RFC 6409 §8.2, §8.3).
pub fn prepended(envelope: &Envelope<'_>, id: MessageId, accepted_at_us: u64, out: &mut Vec<u8>) {
    received(envelope, id, accepted_at_us, out);
    for added in envelope.attributes().filter(|attribute| attribute.kind == attribute_kind::ADDED_FIELD) {
        match added.name {
            b"Date" => {
                out.extend_from_slice(b"Date: ");
                date(accepted_at_us, out);
            }
            b"Message-ID" => {
                // RFC 5322 §3.6.4: msg-id = "<" id-left "@" id-right ">"
                out.extend_from_slice(b"Message-ID: <");
                out.extend_from_slice(&id.encode());
                out.push(b'@');
                domain(envelope.hostname(), out);
                out.push(b'>');
            }
            _ => continue,
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the `Received` header of the message, CRLF at the end included, to `out`.
///
/// ```text
/// Received: from mail.example.org (mail.example.org [192.0.2.1])
///     (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)
///     by mx1.example.com (inrush) with ESMTPS id 00010000000008001000
///     for <user@example.com>;
///     Tue, 14 Nov 2023 22:13:20 +0000
/// ```
pub fn received(envelope: &Envelope<'_>, id: MessageId, accepted_at_us: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Received: ");
    from(envelope, out);
    if let Some(version) = envelope.tls_version() {
        out.extend_from_slice(b"(using ");
        comment(version, out);
        if let Some(cipher) = envelope.tls_cipher() {
            out.extend_from_slice(b" with cipher ");
            comment(cipher, out);
        }
        out.extend_from_slice(b")\r\n\t");
    }
    out.extend_from_slice(b"by ");
    domain(envelope.hostname(), out);
    out.extend_from_slice(b" (inrush) with ");
    out.extend_from_slice(with(envelope).as_bytes());
    out.extend_from_slice(b" id ");
    out.extend_from_slice(&id.encode());
    // RFC 5321 §7.2: more than one recipient would tell each of them about the others.
    let mut recipients = envelope.recipients();
    if let (Some(recipient), None) = (recipients.next(), recipients.next())
        && is_plain_path(recipient.path)
    {
        out.extend_from_slice(b"\r\n\tfor <");
        out.extend_from_slice(recipient.path);
        out.push(b'>');
    }
    out.extend_from_slice(b";\r\n\t");
    date(accepted_at_us, out);
    out.extend_from_slice(b"\r\n");
}

/// `from` with what the client said and where it is.
fn from(envelope: &Envelope<'_>, out: &mut Vec<u8>) {
    let Some(peer) = envelope.peer() else { return };
    out.extend_from_slice(b"from ");
    domain(envelope.helo(), out);
    out.extend_from_slice(b" (");
    if let Some(name) = envelope.peer_name() {
        domain(name, out);
        out.push(b' ');
    }
    address(peer, out);
    out.extend_from_slice(b")\r\n\t");
}

/// The address literal of RFC 5321 §4.1.3.
fn address(peer: SocketAddr, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail.
    let _ = match peer.ip() {
        IpAddr::V4(ip) => write!(out, "[{ip}]"),
        IpAddr::V6(ip) => write!(out, "[IPv6:{ip}]"),
    };
}

/// Protocol keyword: RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3.
fn with(envelope: &Envelope<'_>) -> &'static str {
    let tls = envelope.tls_version().is_some();
    let auth = envelope.auth_identity().is_some();
    match (envelope.protocol(), envelope.smtputf8(), tls, auth) {
        (Protocol::Smtp, ..) => "SMTP",
        (Protocol::Esmtp, false, false, false) => "ESMTP",
        (Protocol::Esmtp, false, true, false) => "ESMTPS",
        (Protocol::Esmtp, false, false, true) => "ESMTPA",
        (Protocol::Esmtp, false, true, true) => "ESMTPSA",
        (Protocol::Esmtp, true, false, false) => "UTF8SMTP",
        (Protocol::Esmtp, true, true, false) => "UTF8SMTPS",
        (Protocol::Esmtp, true, false, true) => "UTF8SMTPA",
        (Protocol::Esmtp, true, true, true) => "UTF8SMTPSA",
        (Protocol::Lmtp, false, false, false) => "LMTP",
        (Protocol::Lmtp, false, true, false) => "LMTPS",
        (Protocol::Lmtp, false, false, true) => "LMTPA",
        (Protocol::Lmtp, false, true, true) => "LMTPSA",
        (Protocol::Lmtp, true, false, false) => "UTF8LMTP",
        (Protocol::Lmtp, true, true, false) => "UTF8LMTPS",
        (Protocol::Lmtp, true, false, true) => "UTF8LMTPA",
        (Protocol::Lmtp, true, true, true) => "UTF8LMTPSA",
        (Protocol::Internal | Protocol::Other, ..) => "local",
    }
}

/// A domain or address literal as a token; anything that is neither is shortened to what can stand there.
fn domain(text: &[u8], out: &mut Vec<u8>) {
    let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(octet);
    if text.is_empty() {
        out.extend_from_slice(b"unknown");
        return;
    }
    let text = &text[..text.len().min(TEXT_OCTETS_MAX)];
    out.extend(text.iter().map(|octet| if allowed(octet) { *octet } else { b'?' }));
}

/// Text inside a comment (RFC 5322 §3.2.2).
fn comment(text: &[u8], out: &mut Vec<u8>) {
    let text = &text[..text.len().min(TEXT_OCTETS_MAX)];
    let allowed = |octet: &u8| (b' '..=b'~').contains(octet) && !b"()\\".contains(octet);
    out.extend(text.iter().map(|octet| if allowed(octet) { *octet } else { b'?' }));
}

/// Whether a path may be shown as it is: printable ASCII without what ends it. A quoted local-part may hold more; then `for` is left out.
fn is_plain_path(path: &[u8]) -> bool {
    let plain = |octet: &u8| (b'!'..=b'~').contains(octet) && !b"<>()\\\"".contains(octet);
    !path.is_empty() && path.len() <= TEXT_OCTETS_MAX + 1 && path.iter().all(plain)
}

/// Date and time in UTC (RFC 5322 §3.3).
fn date(at_us: u64, out: &mut Vec<u8>) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at_us / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = DAYS.get(crate::layout::to_usize(days % 7)).copied().unwrap_or_default();
    let month = MONTHS.get(crate::layout::to_usize(month)).copied().unwrap_or_default();
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let digit = |number: u64| b'0' + (number % 10) as u8;
    out.extend_from_slice(weekday.as_bytes());
    out.extend_from_slice(b", ");
    if day >= 10 {
        out.push(digit(day / 10));
    }
    out.extend_from_slice(&[digit(day), b' ']);
    out.extend_from_slice(month.as_bytes());
    out.extend_from_slice(&[b' ', digit(year / 1000), digit(year / 100), digit(year / 10), digit(year)]);
    for (mark, number) in [(b' ', hour), (b':', minute), (b':', second)] {
        out.extend_from_slice(&[mark, digit(number / 10), digit(number)]);
    }
    out.extend_from_slice(b" +0000");
}

/// Year, month (0 = January) and day of the month, from days since 1970-01-01, by counting in 400-year cycles that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let (month, next_year) = if shifted < 10 { (shifted + 2, 0) } else { (shifted - 10, 1) };
    (year_of_era + era * 400 + next_year, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::{EnvelopeRef, Recipient, Span, encode, envelope_octets_max};
    use super::*;
    use crate::Lsn;
    use crate::buffer::AlignedBuffer;

    const AT: u64 = 1_700_000_000_000_000;
    const ID: MessageId = MessageId { node: 1, log: 0, lsn: Lsn::new(0x0800_1000) };

    const ONE: [Recipient; 1] =
        [Recipient { path: Span::new(0, 16), orcpt: Span::ABSENT, notify: 0, reserved: [0; 3] }];

    fn render(envelope: &EnvelopeRef<'_>) -> String {
        let mut buffer = AlignedBuffer::new(envelope_octets_max(envelope));
        let octets = encode(envelope, None, &mut buffer).unwrap();
        let stored = Envelope::read(1, &buffer[..octets]).unwrap();
        let mut out = Vec::new();
        received(&stored, ID, AT, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn base() -> EnvelopeRef<'static> {
        EnvelopeRef {
            hostname: b"mx1.example.com",
            helo: b"mail.example.org",
            peer: Some("192.0.2.1:4711".parse().unwrap()),
            text: b"user@example.com",
            recipients: &ONE,
            ..EnvelopeRef::default()
        }
    }

    /// RFC 5321 §4.4.
    #[test]
    fn plain_and_tls() {
        assert_eq!(
            render(&base()),
            "Received: from mail.example.org ([192.0.2.1])\r\n\tby mx1.example.com (inrush) with ESMTP id \
             00010000000008001000\r\n\tfor <user@example.com>;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
        );
        let tls = EnvelopeRef {
            tls_version: Some(b"TLSv1.3"),
            tls_cipher: Some(b"TLS_AES_256_GCM_SHA384"),
            peer: Some("[2001:db8::1]:25".parse().unwrap()),
            peer_name: Some(b"mail.example.org"),
            auth_identity: Some(b"joe"),
            ..base()
        };
        let text = render(&tls);
        assert!(
            text.contains("(mail.example.org [IPv6:2001:db8::1])\r\n\t(using TLSv1.3 with cipher TLS_AES"),
            "{text}"
        );
        assert!(text.contains("with ESMTPSA id"), "{text}");
    }

    /// RFC 5321 §7.2.
    #[test]
    fn for_stands_with_one_recipient_only() {
        let two = [base().recipients[0]; 2];
        assert!(!render(&EnvelopeRef { recipients: &two, ..base() }).contains("for <"));
    }

    #[test]
    fn nothing_remote_adds_lines_or_octets_above_127() {
        let evil = b"a\r\nEvil: yes) (\x00\x80\xff\\\"<>";
        let text = render(&EnvelopeRef {
            helo: evil,
            peer_name: Some(evil),
            tls_version: Some(evil),
            tls_cipher: Some(evil),
            text: evil,
            recipients: &[Recipient {
                path: Span::new(0, 22),
                orcpt: Span::ABSENT,
                notify: 0,
                reserved: [0; 3],
            }],
            ..base()
        });
        assert!(text.is_ascii());
        for line in text.strip_suffix("\r\n").unwrap().split("\r\n").skip(1) {
            assert!(line.starts_with('\t'), "{text}");
        }
        assert!(text.bytes().filter(|octet| *octet == b'\n').count() == text.matches("\r\n").count());
        assert!(!text.contains('\0') && !text.contains("\nEvil"), "{text}");
    }

    #[test]
    fn dates() {
        let text = |at: u64| {
            let mut out = Vec::new();
            date(at * 1_000_000, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(text(951_782_399), "Mon, 28 Feb 2000 23:59:59 +0000");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(text(4_107_542_400), "Mon, 1 Mar 2100 00:00:00 +0000");
        assert_eq!(text(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 +0000");
    }
}
