//! Replies: one or more lines, compared with what is expected.

use std::fmt;

/// What the server has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Some reply with this first digit.
    Class(u8),
    /// These lines; a `~` at the end of one stands for any rest.
    Lines(Vec<String>),
}

impl Expectation {
    /// Compares a whole reply.
    pub(crate) fn check(&self, reply: &[u8]) -> Result<(), String> {
        let right = match self {
            Self::Class(class) => reply.first() == Some(class),
            Self::Lines(patterns) => {
                let text = reply.strip_suffix(b"\r\n").unwrap_or(reply);
                let lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
                let line = |(line, pattern): (&&[u8], &String)| {
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    match pattern.strip_suffix('~') {
                        Some(front) => line.starts_with(front.as_bytes()),
                        None => line == pattern.as_bytes(),
                    }
                };
                lines.len() == patterns.len() && lines.iter().zip(patterns).all(line)
            }
        };
        if right { Ok(()) } else { Err(format!("expected {self}, got {}", reply.escape_ascii())) }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{}xx", char::from(*class)),
            Self::Lines(lines) => write!(f, "{:?}", lines.join(" / ")),
        }
    }
}

/// Splits the first whole reply off: every line `code-text CRLF` up to and with `code text CRLF`.
pub(crate) fn take(output: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let line = &output[at..];
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        at += end + 2;
        if line.get(3) != Some(&b'-') {
            return Some(output.split_at(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_replies_only() {
        assert_eq!(take(b"250 a\r"), None);
        assert_eq!(take(b"250-a\r\n"), None);
        assert_eq!(take(b"250-a\r\n250 b\r\n220"), Some((&b"250-a\r\n250 b\r\n"[..], &b"220"[..])));
    }

    #[test]
    fn patterns() {
        let lines = |lines: &[&str]| Expectation::Lines(lines.iter().map(|&line| line.to_owned()).collect());
        assert!(lines(&["250 2.0.0 ~"]).check(b"250 2.0.0 OK\r\n").is_ok());
        assert!(lines(&["250 2.0.0 OK"]).check(b"250 2.0.0 OK!\r\n").is_err());
        assert!(lines(&["250-a", "250 ~"]).check(b"250-a\r\n250 b\r\n").is_ok());
        assert!(lines(&["250-a"]).check(b"250-a\r\n250 b\r\n").is_err());
        assert!(Expectation::Class(b'2').check(b"250 x\r\n").is_ok());
        assert!(Expectation::Class(b'2').check(b"450 x\r\n").is_err());
    }
}
