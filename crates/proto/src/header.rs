//! The header section: how long it is, and through how many hosts the message has come.
//!
//! Looked at once, in the pieces in which the data leaves the session, line by line with `memchr`; it ends at the first
//! empty line. Between two pieces only the state of the line that was cut is kept.
//!
//! Standards: RFC 5321 §4.4 (trace), §6.3 (loop detection); RFC 5322 §2.1 (header section), §1.2.2 (names of fields).

const FIELD: &[u8] = b"received:";

/// Progress through the header section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    octets: u32,
    hops: u32,
    line: LineState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineState {
    /// At the start of a line.
    #[default]
    Start,
    /// The line so far is one CR.
    Cr,
    /// The line so far is this many octets of [`FIELD`].
    Field(u8),
    /// Nothing more to learn from this line.
    Rest,
    /// The empty line was seen.
    Done,
}

impl Header {
    /// Looks at the next piece of mail data.
    pub(crate) fn inspect(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while self.line != LineState::Done {
            let Some(&octet) = rest.first() else { break };
            if self.line == LineState::Rest {
                let Some(at) = memchr::memchr(b'\n', rest) else {
                    rest = &[];
                    break;
                };
                rest = &rest[at + 1..];
                self.line = LineState::Start;
                continue;
            }
            rest = &rest[1..];
            self.line = match (self.line, octet) {
                // A bare LF counts as a line end here: where it is let through, others may take it for one.
                (LineState::Start | LineState::Cr, b'\n') => LineState::Done,
                (_, b'\n') => LineState::Start,
                (LineState::Start, b'\r') => LineState::Cr,
                (LineState::Start, _) => self.field(0, octet),
                (LineState::Field(matched), _) => self.field(matched, octet),
                _ => LineState::Rest,
            };
        }
        let octets = u32::try_from(piece.len() - rest.len()).unwrap_or(u32::MAX);
        self.octets = self.octets.saturating_add(octets);
    }

    fn field(&mut self, matched: u8, octet: u8) -> LineState {
        if octet.to_ascii_lowercase() != FIELD[usize::from(matched)] {
            return LineState::Rest;
        }
        if usize::from(matched) + 1 == FIELD.len() {
            self.hops = self.hops.saturating_add(1);
            return LineState::Rest;
        }
        LineState::Field(matched + 1)
    }

    pub(crate) fn octets(&self) -> u32 {
        self.octets
    }

    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(pieces: &[&[u8]]) -> (u32, u32) {
        let mut header = Header::default();
        for piece in pieces {
            header.inspect(piece);
        }
        (header.octets(), header.hops())
    }

    #[test]
    fn counts_fields_up_to_the_empty_line() {
        let message = b"Received: a\r\n\tReceived: folded\r\nRECEIVED:b\r\nReceivedX: c\r\nreceived: d\r\n\r\nReceived: body\r\n";
        let header = 73;
        assert_eq!(memchr::memmem::find(message, b"\r\n\r\n"), Some(header as usize - 4));
        assert_eq!(inspect(&[message]), (header, 3));
        for cut in 0..message.len() {
            assert_eq!(inspect(&[&message[..cut], &message[cut..]]), (header, 3), "cut at {cut}");
        }
        let octets: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(inspect(&octets), (header, 3));
    }

    #[test]
    fn ends() {
        assert_eq!(inspect(&[b""]), (0, 0));
        assert_eq!(inspect(&[b"\r\nReceived: x\r\n"]), (2, 0));
        assert_eq!(inspect(&[b"A: b\n\nReceived: x\n"]), (6, 0));
        assert_eq!(inspect(&[b"A: b\r\n"]), (6, 0));
        assert_eq!(inspect(&[b"\rReceived: x\r\nReceived: y\r\n"]), (27, 1));
    }
}
