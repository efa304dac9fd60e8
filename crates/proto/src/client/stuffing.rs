//! Dot transparency for DATA: a line that begins with a dot gets one more (RFC 5321 §4.5.2).
//!
//! Only CRLF ends a line here. A bare CR or LF goes through as it is: content that holds one belongs into BDAT, or is
//! refused or normalised before it comes here, since some servers take it for a line end (SMTP smuggling).

use memchr::memmem;

/// State between the pieces of one message: what the last octets were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotStuffing {
    last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The next octet begins a line.
    LineStart,
    /// The last octet was CR.
    Cr,
    Other,
}

impl Default for DotStuffing {
    fn default() -> Self {
        Self::new()
    }
}

impl DotStuffing {
    /// At the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self { last: Last::LineStart }
    }

    /// Appends `piece` to `out` with its dots doubled. Pieces may be cut anywhere.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(&first) = piece.first() else { return };
        let begins_line = match self.last {
            Last::LineStart => true,
            Last::Cr | Last::Other => false,
        };
        if begins_line && first == b'.' {
            out.push(b'.');
        }
        let mut rest = piece;
        if self.last == Last::Cr && first == b'\n' {
            out.push(b'\n');
            rest = &piece[1..];
            if rest.first() == Some(&b'.') {
                out.push(b'.');
            }
        }
        while let Some(at) = memmem::find(rest, b"\r\n.") {
            out.extend_from_slice(&rest[..at + 3]);
            out.push(b'.');
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest);
        self.last = match piece {
            [.., b'\r', b'\n'] => Last::LineStart,
            [b'\n'] if self.last == Last::Cr => Last::LineStart,
            [.., b'\r'] => Last::Cr,
            _ => Last::Other,
        };
    }

    /// Appends the end-of-data indication. A text that does not end in CRLF gets one, since without it the line with the dot
    /// would not be a line of its own (RFC 5321 §4.1.1.4).
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.last != Last::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Appends a whole message as DATA: dots doubled, end-of-data indication behind it.
pub fn stuff(message: &[u8], out: &mut Vec<u8>) {
    let mut stuffing = DotStuffing::new();
    stuffing.write(message, out);
    stuffing.finish(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        stuff(message, &mut out);
        out
    }

    #[test]
    fn dots_at_line_starts_only() {
        // RFC 5321 §4.5.2
        assert_eq!(stuffed(b".a\r\nb.c\r\n..\r\n"), b"..a\r\nb.c\r\n...\r\n.\r\n");
        assert_eq!(stuffed(b"\r\n.\r\n.\r\n"), b"\r\n..\r\n..\r\n.\r\n");
    }

    #[test]
    fn ends() {
        // RFC 5321 §4.1.1.4
        assert_eq!(stuffed(b""), b".\r\n");
        assert_eq!(stuffed(b"a"), b"a\r\n.\r\n");
        assert_eq!(stuffed(b"a\r"), b"a\r\r\n.\r\n");
        assert_eq!(stuffed(b"a\n"), b"a\n\r\n.\r\n");
    }

    #[test]
    fn bare_line_ends_are_no_line_ends() {
        assert_eq!(stuffed(b"a\n.b\r.c\r\n"), b"a\n.b\r.c\r\n.\r\n");
    }

    #[test]
    fn any_cut_gives_the_same() {
        // Every string of six octets over the interesting alphabet, at every pair of cuts.
        let alphabet = [b'a', b'.', b'\r', b'\n'];
        for code in 0..4_usize.pow(6) {
            let text: Vec<u8> = (0..6).map(|place| alphabet[(code >> (2 * place)) & 3]).collect();
            let whole = stuffed(&text);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut out = Vec::new();
                    let mut stuffing = DotStuffing::new();
                    for piece in [&text[..first], &text[first..second], &text[second..]] {
                        stuffing.write(piece, &mut out);
                    }
                    stuffing.finish(&mut out);
                    assert_eq!(out, whole, "{text:?} cut at {first} and {second}");
                }
            }
        }
    }
}
