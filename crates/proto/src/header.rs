//! The header section: how long it is, through how many hosts the message has come, and what a mail program may have left out.
//!
//! Looked at once, in the pieces in which the data leaves the session, line by line with `memchr`. It ends behind the first
//! empty line, or before the first line that is no field: mail without any header is all body. A first line `From …`, as
//! mailbox files have it, is let pass. Between two pieces only the state of the line that was cut is kept.
//!
//! Standards: RFC 5321 §4.4 (trace), §6.3 (loop detection); RFC 6409 §8.2, §8.3 (Date, Message-ID); RFC 5322 §2.2 (fields), §2.1 (header section), §1.2.2 (names of fields).

/// The names that are looked for, each with a first letter of its own.
const NAMES: [&[u8]; 3] = [b"received", b"date", b"message-id"];
const RECEIVED: u8 = 0;
const DATE: u8 = 1;
const MESSAGE_ID: u8 = 2;

/// Octets of one of [`NAMES`] that a name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Matched {
    name: u8,
    octets: u8,
}

/// Progress through the header section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    octets: u32,
    /// Octets of a line of which it is not known yet whether it is a field.
    pending: u32,
    hops: u32,
    line: LineState,
    has_date: bool,
    has_message_id: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineState {
    /// At the start of a line.
    #[default]
    Start,
    /// The line so far is one CR.
    Cr,
    /// In the name of a field; `None`: it is none of [`NAMES`].
    Name(Option<Matched>),
    /// In white space between name and colon, which old mail may have.
    Gap(Option<Matched>),
    /// Nothing more to learn from this line, which belongs to the header section.
    Rest,
    /// The header section is over.
    Done,
}

impl Header {
    /// Looks at the next piece of mail data.
    pub(crate) fn inspect(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(&octet) = rest.first() {
            match self.line {
                LineState::Done => return,
                LineState::Rest => {
                    let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
                    self.count(end.unwrap_or(rest.len()));
                    rest = &rest[end.unwrap_or(rest.len())..];
                    if end.is_some() {
                        self.line = LineState::Start;
                    }
                }
                LineState::Start if let Some(name) = whole_name(rest) => {
                    self.field(named(name));
                    self.line = LineState::Rest;
                    self.count(name.len() + 1);
                    rest = &rest[name.len() + 1..];
                }
                _ => {
                    rest = &rest[1..];
                    self.line = self.next(octet);
                    match self.line {
                        LineState::Rest => self.count(1),
                        LineState::Done => {}
                        _ => self.pending = self.pending.saturating_add(1),
                    }
                }
            }
        }
    }

    /// The state behind `octet` of a line of which it is not known yet whether it is a field.
    fn next(&mut self, octet: u8) -> LineState {
        match (self.line, octet) {
            // A bare LF counts as a line end here: where it is let through, others may take it for one.
            (LineState::Start | LineState::Cr, b'\n') => {
                self.count(1);
                LineState::Done
            }
            (LineState::Start, b'\r') => LineState::Cr,
            // A folded line goes on with a field, and there must be one.
            (LineState::Start, b' ' | b'\t') if self.octets > 0 => LineState::Rest,
            (LineState::Start, _) if is_name(octet) => LineState::Name(first(octet)),
            (LineState::Name(matched), _) if is_name(octet) => {
                LineState::Name(matched.and_then(|matched| matched.next(octet)))
            }
            (LineState::Name(matched) | LineState::Gap(matched), b':') => {
                self.field(matched.and_then(Matched::whole));
                LineState::Rest
            }
            (LineState::Name(matched) | LineState::Gap(matched), b' ' | b'\t') => LineState::Gap(matched),
            (LineState::Gap(_), _) if self.octets == 0 && octet != b'\n' => LineState::Rest,
            _ => LineState::Done,
        }
    }

    /// A field has begun, whose name is one of [`NAMES`] or another.
    fn field(&mut self, name: Option<u8>) {
        match name {
            Some(RECEIVED) => self.hops = self.hops.saturating_add(1),
            Some(DATE) => self.has_date = true,
            Some(MESSAGE_ID) => self.has_message_id = true,
            _ => {}
        }
    }

    /// Counts what was not known to be header until now, and `octets` more.
    fn count(&mut self, octets: usize) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX).saturating_add(self.pending);
        self.pending = 0;
        self.octets = self.octets.saturating_add(octets);
    }

    pub(crate) fn octets(&self) -> u32 {
        self.octets
    }

    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }

    pub(crate) fn has_date(&self) -> bool {
        self.has_date
    }

    pub(crate) fn has_message_id(&self) -> bool {
        self.has_message_id
    }
}

/// The name of the field that begins the line at the front of `rest`, if it is all there with the colon right behind it, as in nearly all mail.
fn whole_name(rest: &[u8]) -> Option<&[u8]> {
    let name = &rest[..rest.iter().position(|&octet| !is_name(octet))?];
    (!name.is_empty() && rest[name.len()] == b':').then_some(name)
}

/// Which of [`NAMES`] that is.
fn named(name: &[u8]) -> Option<u8> {
    (0u8..).zip(NAMES).find_map(|(number, known)| name.eq_ignore_ascii_case(known).then_some(number))
}

/// A name that begins with `octet`.
fn first(octet: u8) -> Option<Matched> {
    (0u8..).zip(NAMES).find_map(|(name, _)| Matched { name, octets: 0 }.next(octet))
}

impl Matched {
    /// With one more octet, if the name goes on so.
    fn next(self, octet: u8) -> Option<Self> {
        let expected = NAMES[usize::from(self.name)].get(usize::from(self.octets))?;
        (octet.to_ascii_lowercase() == *expected).then_some(Self { octets: self.octets + 1, ..self })
    }

    /// Which name it is, if it is all there.
    fn whole(self) -> Option<u8> {
        (NAMES[usize::from(self.name)].len() == usize::from(self.octets)).then_some(self.name)
    }
}

/// Whether an octet may stand in the name of a field (RFC 5322 §2.2).
fn is_name(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b':'
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
    fn finds_date_and_message_id() {
        for (message, date, message_id) in [
            (&b""[..], false, false),
            (b"Date: x\r\nMessage-ID: <a@b>\r\n\r\n", true, true),
            (b"DATE :x\r\nmessage-id:\r\n", true, true),
            (b"Dat: x\r\nDates: x\r\nResent-Date: x\r\nMessage: x\r\n", false, false),
            (b"Subject: x\r\n Date: folded\r\n\r\nMessage-ID: in the body\r\n", false, false),
            (b"Received: x\r\nDate: x\r\n", true, false),
        ] {
            for cut in 0..=message.len() {
                let mut header = Header::default();
                header.inspect(&message[..cut]);
                header.inspect(&message[cut..]);
                let found = (header.has_date(), header.has_message_id());
                assert_eq!(found, (date, message_id), "{} cut at {cut}", message.escape_ascii());
            }
        }
    }

    #[test]
    fn ends() {
        let cases: [(&[u8], (u32, u32)); 15] = [
            (b"", (0, 0)),
            (b"\r\nReceived: x\r\n", (2, 0)),
            (b"A: b\n\nReceived: x\n", (6, 0)),
            (b"A: b\r\n", (6, 0)),
            // Not fields: the body begins with that line.
            (b"A: b\r\nno field\r\nReceived: x\r\n\r\n", (6, 0)),
            (b"A: b\r\n:\r\n", (6, 0)),
            (b"A: b\r\nB\r\n", (6, 0)),
            (b"A: b\r\nB\xC3: c\r\n", (6, 0)),
            (b" folded\r\nReceived: x\r\n", (0, 0)),
            (b"\rReceived: x\r\n", (0, 0)),
            (b"text\r\nReceived: x\r\n", (0, 0)),
            // As old mail has them.
            (b"Received : x\r\nA\t: b\r\n\r\n", (23, 1)),
            (b"From a@b.example Mon\r\nReceived: x\r\n\r\n", (37, 1)),
            (b"word \nA: b\n", (0, 0)),
            (b">From a Mon\r\nReceived: x\r\n\r\n", (28, 1)),
        ];
        for (message, expected) in cases {
            let text = message.escape_ascii();
            assert_eq!(inspect(&[message]), expected, "{text}");
            for cut in 0..message.len() {
                assert_eq!(inspect(&[&message[..cut], &message[cut..]]), expected, "{text} cut at {cut}");
            }
        }
    }
}
