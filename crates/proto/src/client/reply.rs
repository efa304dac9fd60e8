//! Replies of a server: one or more lines `code SP|- text CRLF`, read line by line.
//!
//! Strict where a wrong guess would pair replies with the wrong commands (three digits, one code for all lines of a
//! reply), lenient where it costs nothing (a bare LF ends a line, the text may be missing). Bounded: a line, the number
//! of lines, and the text that is kept.
//!
//! Standards: RFC 5321 §4.2 (replies), §4.2.1 (codes), §4.5.3.1.5 (reply line), RFC 3463 §2 (enhanced codes).

use std::fmt;

/// Longest reply line that is taken, octets with its line end. RFC 5321 §4.5.3.1.5 asks for 512; servers exceed it.
pub const REPLY_LINE_OCTETS_MAX: usize = 2048;
/// Most lines of one reply.
pub const REPLY_LINES_MAX: u16 = 256;
/// Octets of text kept of a reply of several lines; the rest is read and dropped.
pub const REPLY_TEXT_KEPT_MAX: usize = 4096;

/// First digit of a reply code (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Completed,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never.
    Permanent,
}

/// Enhanced status code `class.subject.detail` (RFC 3463 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0..=999.
    pub subject: u16,
    /// 0..=999.
    pub detail: u16,
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// One whole reply. Of several lines, `text` holds them joined by LF, cut at [`REPLY_TEXT_KEPT_MAX`].
/// The text is the server's: escape it before it goes into a log or a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// 200..=599.
    pub code: u16,
    /// Everything after the code, without line ends.
    pub text: &'a [u8],
}

impl Reply<'_> {
    /// Meaning of the first digit.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Completed,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }

    /// A 2yz reply.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.severity() == Severity::Completed
    }

    /// The enhanced code at the head of the text, when it is one and its class agrees with the reply code.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        // RFC 2034 §4: the class of the enhanced code equals the first digit of the reply code.
        let head = self.text.split(|&b| b == b' ' || b == b'\n').next()?;
        let mut parts = head.split(|&b| b == b'.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let class = number(class, 1)?;
        let status = EnhancedStatus {
            class: u8::try_from(class).ok()?,
            subject: number(subject, 3)?,
            detail: number(detail, 3)?,
        };
        (class == self.code / 100).then_some(status)
    }
}

/// Decimal digits, at most `digits_max` of them.
fn number(bytes: &[u8], digits_max: usize) -> Option<u16> {
    if bytes.is_empty() || bytes.len() > digits_max || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(bytes.iter().fold(0, |sum, &b| sum * 10 + u16::from(b - b'0')))
}

/// What a server sent that is no reply. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// No line end within [`REPLY_LINE_OCTETS_MAX`].
    LineTooLong,
    /// More than [`REPLY_LINES_MAX`] lines.
    TooManyLines,
    /// The line does not begin with a code of three digits, 200..=599, followed by SP, `-` or the line end.
    NoCode,
    /// The lines of one reply carry different codes.
    MixedCodes,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineTooLong => "reply line too long",
            Self::TooManyLines => "reply has too many lines",
            Self::NoCode => "reply line without a code",
            Self::MixedCodes => "lines of one reply differ in their code",
        })
    }
}

impl std::error::Error for ReplyError {}

/// One line of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyLine<'i> {
    /// Octets of the input, line end included.
    pub(super) octets: usize,
    pub(super) code: u16,
    pub(super) text: &'i [u8],
    /// No further line follows in this reply.
    pub(super) last: bool,
    /// First line of its reply.
    pub(super) first: bool,
}

/// State between two lines of a reply.
#[derive(Debug, Default)]
pub(super) struct ReplyLines {
    /// Code of the reply under way, 0 between replies.
    code: u16,
    lines: u16,
}

impl ReplyLines {
    /// Takes one line from the head of `input`; None when its end is not there yet.
    pub(super) fn next<'i>(&mut self, input: &'i [u8]) -> Result<Option<ReplyLine<'i>>, ReplyError> {
        let window = &input[..input.len().min(REPLY_LINE_OCTETS_MAX)];
        let Some(line_feed) = memchr::memchr(b'\n', window) else {
            if window.len() == REPLY_LINE_OCTETS_MAX {
                return Err(ReplyError::LineTooLong);
            }
            return Ok(None);
        };
        let line = &window[..line_feed];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, rest) = split_code(line)?;
        let first = self.lines == 0;
        if !first && code != self.code {
            return Err(ReplyError::MixedCodes);
        }
        // RFC 5321 §4.2: a client must also take a line that ends right behind its code.
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::NoCode),
        };
        if last {
            *self = Self::default();
        } else {
            self.code = code;
            self.lines += 1;
            if self.lines == REPLY_LINES_MAX {
                return Err(ReplyError::TooManyLines);
            }
        }
        Ok(Some(ReplyLine { octets: line_feed + 1, code, text, last, first }))
    }
}

/// Splits `250...` into its code and the rest.
fn split_code(line: &[u8]) -> Result<(u16, &[u8]), ReplyError> {
    let Some((code, rest)) = line.split_at_checked(3) else { return Err(ReplyError::NoCode) };
    match number(code, 3) {
        Some(code @ 200..=599) => Ok((code, rest)),
        _ => Err(ReplyError::NoCode),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn reply(code: u16, text: &str) -> Reply<'_> {
        Reply { code, text: text.as_bytes() }
    }

    #[test]
    fn line_forms() {
        let mut lines = ReplyLines::default();
        assert_eq!(lines.next(b"250 o"), Ok(None));
        let line = lines.next(b"250 ok\r\n250").unwrap().unwrap();
        assert_eq!((line.octets, line.code, line.text, line.last), (8, 250, b"ok".as_slice(), true));
        // RFC 5321 §4.2: no text, with and without the space.
        assert!(lines.next(b"354\r\n").unwrap().unwrap().last);
        assert_eq!(lines.next(b"354 \n").unwrap().unwrap().text, b"");
    }

    #[test]
    fn codes_outside_the_grammar_are_errors() {
        for line in ["25 ok", "2500 ok", "199 x", "600 x", "2x0 ok", " 250 ok", "250\tok", "", "ab"] {
            let input = format!("{line}\r\n");
            assert_eq!(ReplyLines::default().next(input.as_bytes()), Err(ReplyError::NoCode), "{line:?}");
        }
    }

    #[test]
    fn mixed_codes_are_an_error() {
        let mut lines = ReplyLines::default();
        assert!(!lines.next(b"250-a\r\n").unwrap().unwrap().last);
        assert_eq!(lines.next(b"251 b\r\n"), Err(ReplyError::MixedCodes));
    }

    #[test]
    fn lines_and_octets_are_bounded() {
        let mut lines = ReplyLines::default();
        for _ in 1..REPLY_LINES_MAX {
            assert!(lines.next(b"250-a\r\n").unwrap().is_some());
        }
        assert_eq!(lines.next(b"250-a\r\n"), Err(ReplyError::TooManyLines));

        let mut long = b"250 ".to_vec();
        long.resize(REPLY_LINE_OCTETS_MAX - 1, b'x');
        assert_eq!(ReplyLines::default().next(&long), Ok(None));
        long.push(b'x');
        assert_eq!(ReplyLines::default().next(&long), Err(ReplyError::LineTooLong));
    }

    #[test]
    fn enhanced_status_must_agree_with_the_code() {
        let status = reply(550, "5.1.1 no such user").enhanced().unwrap();
        assert_eq!(status, EnhancedStatus { class: 5, subject: 1, detail: 1 });
        assert_eq!(status.to_string(), "5.1.1");
        assert_eq!(reply(250, "2.0.0").enhanced().unwrap().class, 2);
        for text in ["4.1.1 x", "5.1 x", "5.1.1.1 x", "5..1 x", "5.1234.1 x", "", "ok"] {
            assert_eq!(reply(550, text).enhanced(), None, "{text:?}");
        }
    }
}
