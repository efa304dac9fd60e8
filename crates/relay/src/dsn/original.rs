//! What goes back of the original message, and how it is labelled.
//!
//! | RET | report | message | goes back | said in the text |
//! |---|---|---|---|---|
//! | FULL | failed | small, made of lines | whole | attached |
//! | FULL | failed | small, holds NUL, a bare CR or LF, or lines over 998 octets | header section | cannot be sent back |
//! | FULL | failed | over `full_octets_max` | header section | too large |
//! | FULL | anything else | any | header section | header attached |
//! | HDRS, not given | any | any | header section | header attached |
//!
//! | header section | SMTPUTF8 | header section goes back as | whole message as |
//! |---|---|---|---|
//! | US-ASCII | any | `text/rfc822-headers` | `message/rfc822` |
//! | UTF-8 | yes | `message/global-headers` | `message/global` |
//! | UTF-8 | no | `text/rfc822-headers; charset=utf-8` | `message/rfc822` |
//! | other octets | any | `text/rfc822-headers; charset=unknown-8bit` | `message/rfc822` |
//!
//! Standards: RFC 3461 §4.3 (RET); RFC 6522 §3, §4 (third part, `text/rfc822-headers`); RFC 6533 §4 (`message/global-headers`); RFC 6532
//! §3.7 (`message/global`); RFC 1428 (`unknown-8bit`); RFC 2045 §6.2 (what 7bit and 8bit mean).

use std::borrow::Cow;

use super::{Action, Original, Report, Return, Settings};

/// RFC 5322 §2.1.1, RFC 2045 §2.7
const LINE_OCTETS_MAX: usize = 998;

/// Why a part of the original goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The whole message.
    Full,
    /// The header section, as asked for or by default.
    Headers,
    /// The header section, since the message is too large.
    HeadersTooLarge,
    /// The header section, since the rest is not made of lines.
    HeadersBinary,
}

/// The first table at the head of this file.
pub(super) fn extent(report: &Report<'_>, settings: &Settings) -> Extent {
    // RFC 3461 §4.3: a report that tells of no failure returns the header section only.
    let has_failed = report.recipients.iter().any(|recipient| recipient.action == Action::Failed);
    let is_failure = report.kind == Action::Failed && has_failed;
    let is_small = report.original.octets <= settings.full_octets_max;
    match (report.ret, is_failure, is_small, report.original.binary) {
        (Return::Full, true, true, false) => Extent::Full,
        (Return::Full, true, true, true) => Extent::HeadersBinary,
        (Return::Full, true, false, _) => Extent::HeadersTooLarge,
        (Return::Full, false, _, _) | (Return::Unspecified | Return::Headers, _, _, _) => Extent::Headers,
    }
}

/// The third part, as the second table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// Value of Content-Type.
    pub(super) content_type: &'static str,
    /// Octets above 127 are in there.
    pub(super) eight_bit: bool,
}

pub(super) fn label(original: &Original<'_>, extent: Extent, smtputf8: bool) -> Label {
    let section = original.header_section;
    let is_ascii = section.is_ascii();
    let is_utf8 = std::str::from_utf8(section).is_ok();
    if extent == Extent::Full {
        let is_global = smtputf8 && is_utf8 && !is_ascii;
        let content_type = if is_global { "message/global" } else { "message/rfc822" };
        return Label { content_type, eight_bit: original.eight_bit || !is_ascii };
    }
    let content_type = match (is_ascii, is_utf8, smtputf8) {
        (true, _, _) => "text/rfc822-headers",
        (false, true, true) => "message/global-headers",
        (false, true, false) => "text/rfc822-headers; charset=utf-8",
        (false, false, _) => "text/rfc822-headers; charset=unknown-8bit",
    };
    Label { content_type, eight_bit: !is_ascii }
}

/// The header section without the empty line behind it, in lines that 7bit and 8bit allow. Copied only where it has to be mended.
pub(super) fn header_lines(section: &[u8]) -> Cow<'_, [u8]> {
    if is_lines(section) {
        return Cow::Borrowed(without_empty_line(section));
    }
    let mut out = Vec::with_capacity(section.len() + section.len() / 64);
    let mut column = 0;
    let mut rest = section;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'\r' if rest.first() == Some(&b'\n') => continue,
            b'\n' => {
                out.extend_from_slice(b"\r\n");
                column = 0;
                continue;
            }
            _ if column == LINE_OCTETS_MAX => {
                out.extend_from_slice(b"\r\n ");
                column = 1;
            }
            _ => {}
        }
        // RFC 2045 §2.7, §2.8: NUL and a lone CR are for binary only.
        out.push(match octet {
            b'\r' => b' ',
            0 => b'?',
            _ => octet,
        });
        column += 1;
    }
    if column > 0 {
        out.extend_from_slice(b"\r\n");
    }
    let octets = without_empty_line(&out).len();
    out.truncate(octets);
    Cow::Owned(out)
}

/// Whether this is nothing but lines of at most 998 octets that end in CRLF.
fn is_lines(text: &[u8]) -> bool {
    text.split_inclusive(|&octet| octet == b'\n').all(|line| {
        line.strip_suffix(b"\r\n").is_some_and(|line| {
            line.len() <= LINE_OCTETS_MAX && !line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0))
        })
    })
}

/// Lines without empty ones at the end.
fn without_empty_line(lines: &[u8]) -> &[u8] {
    let mut lines = lines;
    while lines == b"\r\n" || lines.ends_with(b"\r\n\r\n") {
        lines = &lines[..lines.len() - 2];
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_lines_are_not_copied() {
        for (section, expected) in [
            (&b""[..], &b""[..]),
            (b"\r\n", b""),
            (b"A: b\r\n", b"A: b\r\n"),
            (b"A: b\r\n c\r\n\r\n", b"A: b\r\n c\r\n"),
        ] {
            let lines = header_lines(section);
            assert!(matches!(lines, Cow::Borrowed(_)));
            assert_eq!(lines, expected);
        }
    }

    /// RFC 2045 §2.7, §2.8
    #[test]
    fn other_lines_are_mended() {
        let long = [&b"A: "[..], &[b'x'; 2000]].concat();
        for section in [&b"A: b"[..], b"A: b\nB: c\n\n", b"A: \r b\0\r\n", b"\n\n", b"\r", b"A: b\r", &long] {
            let lines = header_lines(section);
            assert!(matches!(lines, Cow::Owned(_)));
            assert!(is_lines(&lines), "{}", lines.escape_ascii());
            assert_eq!(header_lines(&lines), lines);
        }
        assert_eq!(header_lines(b"A: b\nB: c\n\n"), b"A: b\r\nB: c\r\n".as_slice());
        assert_eq!(header_lines(b"A: \rb\0"), b"A:  b?\r\n".as_slice());
        assert_eq!(header_lines(&long).len(), 3 + 2000 + 2 * 3 + 2);
    }

    #[test]
    fn labels() {
        let of = |header_section, extent, smtputf8| {
            let original = Original { header_section, octets: 0, eight_bit: false, binary: false };
            let label = label(&original, extent, smtputf8);
            (label.content_type, label.eight_bit)
        };
        let (ascii, utf8, other) = (&b"A: b\r\n"[..], "A: ü\r\n".as_bytes(), &b"A: \xfc\r\n"[..]);
        assert_eq!(of(ascii, Extent::Headers, true), ("text/rfc822-headers", false));
        assert_eq!(of(utf8, Extent::HeadersTooLarge, true), ("message/global-headers", true));
        assert_eq!(of(utf8, Extent::Headers, false), ("text/rfc822-headers; charset=utf-8", true));
        assert_eq!(
            of(other, Extent::HeadersBinary, true),
            ("text/rfc822-headers; charset=unknown-8bit", true)
        );
        assert_eq!(of(ascii, Extent::Full, true), ("message/rfc822", false));
        assert_eq!(of(utf8, Extent::Full, true), ("message/global", true));
        assert_eq!(of(utf8, Extent::Full, false), ("message/rfc822", true));
        assert_eq!(of(other, Extent::Full, true), ("message/rfc822", true));
    }
}
