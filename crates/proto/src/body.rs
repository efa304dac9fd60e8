//! A piece of mail data on its way out of the session, without copying.
//!
//! The octets stay in the receive buffer; [`Body::pieces`] walks over them and leaves out the dots of transparency
//! (RFC 5321 §4.5.2) and, where the listener says so, puts CRLF in the place of each bare CR or LF.

use memchr::memmem;

/// What has to be done to the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    None,
    /// Leave out a dot at the start of each line.
    Unstuff,
    /// As `Unstuff`, and each bare CR or LF becomes CRLF.
    Normalize,
}

/// A piece of mail data. Of DATA it begins at the start of a line and ends behind a CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Body<'i> {
    octets: &'i [u8],
    transform: Transform,
}

impl<'i> Body<'i> {
    pub(crate) const fn new(octets: &'i [u8], transform: Transform) -> Self {
        Self { octets, transform }
    }

    /// The mail data in order, in slices of the input; none when it is empty, one when nothing is to be changed.
    pub fn pieces(self) -> Pieces<'i> {
        Pieces { rest: self.octets, transform: self.transform, line_start: true, line_end: None }
    }

    /// An upper bound of the sum of the pieces, at most [`PIECE_OCTETS_MAX`](crate::PIECE_OCTETS_MAX).
    pub fn octets_max(self) -> usize {
        match self.transform {
            Transform::Normalize => self.octets.len() * 2,
            Transform::None | Transform::Unstuff => self.octets.len(),
        }
    }

    /// All octets when they are to be taken as they stand.
    pub fn contiguous(self) -> Option<&'i [u8]> {
        (self.transform == Transform::None).then_some(self.octets)
    }

    /// True when there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.octets.is_empty()
    }
}

/// Iterator over the slices of a [`Body`].
#[derive(Clone, Debug)]
pub struct Pieces<'i> {
    rest: &'i [u8],
    transform: Transform,
    /// `rest` begins a line.
    line_start: bool,
    /// A CRLF that stands for a bare CR or LF and goes out next.
    line_end: Option<&'static [u8]>,
}

impl<'i> Iterator for Pieces<'i> {
    type Item = &'i [u8];

    fn next(&mut self) -> Option<&'i [u8]> {
        loop {
            if let Some(line_end) = self.line_end.take() {
                return Some(line_end);
            }
            // RFC 5321 §4.5.2: a dot at the start of a line is one that the client has put there.
            if std::mem::take(&mut self.line_start) && self.transform != Transform::None {
                self.rest = self.rest.strip_prefix(b".").unwrap_or(self.rest);
            }
            if self.rest.is_empty() {
                return None;
            }
            let piece = match self.transform {
                Transform::None => std::mem::take(&mut self.rest),
                Transform::Unstuff => self.until_dot(),
                Transform::Normalize => self.until_change(),
            };
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }
}

impl<'i> Pieces<'i> {
    fn split(&mut self, at: usize) -> &'i [u8] {
        let (piece, rest) = self.rest.split_at(at);
        self.rest = rest;
        piece
    }

    /// Up to the end of the line before the next one that begins with a dot.
    fn until_dot(&mut self) -> &'i [u8] {
        let Some(at) = memmem::find(self.rest, b"\r\n.") else { return std::mem::take(&mut self.rest) };
        self.line_start = true;
        self.split(at + 2)
    }

    /// Up to the next bare CR or LF, which is swallowed, or as above.
    fn until_change(&mut self) -> &'i [u8] {
        let mut from = 0;
        while let Some(at) = memchr::memchr2(b'\r', b'\n', &self.rest[from..]).map(|at| from + at) {
            if self.rest[at..].starts_with(b"\r\n") {
                if self.rest.get(at + 2) == Some(&b'.') {
                    self.line_start = true;
                    return self.split(at + 2);
                }
                from = at + 2;
                continue;
            }
            let piece = self.split(at);
            self.rest = &self.rest[1..];
            self.line_end = Some(b"\r\n");
            return piece;
        }
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(octets: &[u8], transform: Transform) -> Vec<u8> {
        let body = Body::new(octets, transform);
        let all = body.pieces().collect::<Vec<_>>().concat();
        assert!(body.pieces().all(|piece| !piece.is_empty()));
        assert!(all.len() <= body.octets_max());
        all
    }

    #[test]
    fn unstuffing() {
        for (sent, meant) in [
            (&b""[..], &b""[..]),
            (b".", b""),
            (b"..\r\n", b".\r\n"),
            (b"a\r\n..b\r\n...\r\n.\r\nc.\r\n", b"a\r\n.b\r\n..\r\n\r\nc.\r\n"),
            (b"..\r\n..\r\n..\r\n", b".\r\n.\r\n.\r\n"),
            (b"a\n.b\r\n", b"a\n.b\r\n"),
            (b"a\r.b\r\n", b"a\r.b\r\n"),
        ] {
            assert_eq!(collect(sent, Transform::Unstuff), meant, "{}", sent.escape_ascii());
            assert_eq!(collect(sent, Transform::None), sent);
        }
    }

    #[test]
    fn normalizing() {
        for (sent, meant) in [
            (&b"a\nb\rc\r\nd"[..], &b"a\r\nb\r\nc\r\nd"[..]),
            (b"\n\n\r\r\r\n", b"\r\n\r\n\r\n\r\n\r\n"),
            (b"\n.\n", b"\r\n.\r\n"),
            (b"\r\n..\n.\r\n.a\r\n", b"\r\n.\r\n.\r\na\r\n"),
            (b"..a\n", b".a\r\n"),
            (b"\r", b"\r\n"),
        ] {
            assert_eq!(collect(sent, Transform::Normalize), meant, "{}", sent.escape_ascii());
        }
    }
}
