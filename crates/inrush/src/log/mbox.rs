//! One message after the other in one file, in the form that is known as mboxrd.
//!
//! ```text
//! From REVERSE-PATH Tue Nov 14 22:13:20 2023      MAILER-DAEMON for the null reverse-path; UTC
//! Received: …                                     the trace header, then the mail data
//! >From here on                                   a line of any number of ">" and "From " gets one ">" more: taking one away gives back what was sent
//!                                                 an empty line ends the message
//! ```
//! `CR LF` becomes `LF`, as mail readers expect it in such a file; a CR without LF stays. A last line without its end gets one.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::mail::Mail;
use super::time::LastSecond;

const FROM: &[u8] = b"From ";

/// Where in a line the writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At its start.
    Start,
    /// Behind nothing but `>`.
    Quotes,
    /// Behind so many octets of `From `, which wait: the part may end within it.
    From(usize),
    /// Somewhere else.
    Inside,
}

/// Writes messages. Nothing is kept but what may still become a line end or a `From `.
pub(super) struct Mbox<W> {
    out: W,
    /// What one call writes, so that a line is no more than a copy.
    text: Vec<u8>,
    at: At,
    /// A CR that may be followed by LF.
    cr: bool,
    /// Of the `From ` lines.
    time: LastSecond,
}

impl<W: Write> Mbox<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, text: Vec::new(), at: At::Start, cr: false, time: LastSecond::default() }
    }

    /// What is written to.
    pub(super) fn get_ref(&self) -> &W {
        &self.out
    }

    /// What was written to.
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// The line that begins a message.
    pub(super) fn begin(&mut self, mail: &Mail<'_>) -> io::Result<()> {
        let from = mail.envelope.reverse_path();
        self.out.write_all(FROM)?;
        if from.is_empty() {
            self.out.write_all(b"MAILER-DAEMON")?;
        } else {
            // One word: a quoted local part may hold spaces and worse.
            let word: Vec<u8> =
                from.iter().map(|&octet| if octet <= b' ' || octet == 127 { b'-' } else { octet }).collect();
            self.out.write_all(&word)?;
        }
        self.out.write_all(b" ")?;
        self.out.write_all(self.time.text(mail.header.accepted_at_us, asctime).as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Header and body, in parts of any length.
    pub(super) fn write(&mut self, mut part: &[u8]) -> io::Result<()> {
        self.text.clear();
        while let Some(&octet) = part.first() {
            match self.at {
                At::Start | At::Quotes => match octet {
                    b'>' => {
                        self.text.push(b'>');
                        (self.at, part) = (At::Quotes, &part[1..]);
                    }
                    b'F' => (self.at, part) = (At::From(1), &part[1..]),
                    _ => self.at = At::Inside,
                },
                At::From(matched) if octet == FROM[matched] => {
                    part = &part[1..];
                    self.at = At::From(matched + 1);
                    if matched + 1 == FROM.len() {
                        self.text.extend_from_slice(b">From ");
                        self.at = At::Inside;
                    }
                }
                At::From(matched) => {
                    self.text.extend_from_slice(&FROM[..matched]);
                    self.at = At::Inside;
                }
                At::Inside => part = self.line(part),
            }
        }
        self.out.write_all(&self.text)
    }

    /// The rest of a line; what is behind it.
    fn line<'p>(&mut self, part: &'p [u8]) -> &'p [u8] {
        if std::mem::take(&mut self.cr) && part.first() != Some(&b'\n') {
            self.text.push(b'\r');
        }
        let Some(end) = memchr::memchr(b'\n', part) else {
            let whole = part.strip_suffix(b"\r").unwrap_or(part);
            self.cr = whole.len() < part.len();
            self.text.extend_from_slice(whole);
            return &[];
        };
        let line = &part[..=end];
        match line.strip_suffix(b"\r\n") {
            Some(whole) => {
                self.text.extend_from_slice(whole);
                self.text.push(b'\n');
            }
            None => self.text.extend_from_slice(line),
        }
        self.at = At::Start;
        &part[end + 1..]
    }

    /// The end of a message.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if let At::From(matched) = self.at {
            self.out.write_all(&FROM[..matched])?;
        }
        if std::mem::take(&mut self.cr) {
            self.out.write_all(b"\r")?;
        }
        let ends: &[u8] = if self.at == At::Start { b"\n" } else { b"\n\n" };
        self.at = At::Start;
        self.out.write_all(ends)
    }
}

/// The time of a `From ` line, in UTC.
fn asctime(at_us: u64) -> String {
    let at =
        i64::try_from(at_us).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a body that comes in parts of so many octets.
    fn written(body: &[u8], octets: usize) -> Vec<u8> {
        let mut mbox = Mbox::new(Vec::new());
        let done = body.chunks(octets).try_for_each(|part| mbox.write(part)).and_then(|()| mbox.end());
        assert!(done.is_ok());
        mbox.out
    }

    #[test]
    fn every_cut_gives_the_same() {
        for (body, expected) in [
            (
                &b"From a\r\n>From b\r\n>>From c\r\nFrom\r\n From d\r\nFromm e\r\n"[..],
                &b">From a\n>>From b\n>>>From c\nFrom\n From d\nFromm e\n\n"[..],
            ),
            (b"a\nFrom b\rFrom c\r\r\nd\0e\r", b"a\n>From b\rFrom c\r\nd\0e\r\n\n"),
            (b"", b"\n"),
            (b"Fro", b"Fro\n\n"),
            (b">>", b">>\n\n"),
            (b"\r\n\r\nF\r\nFr\r\n", b"\n\nF\nFr\n\n"),
            (b"a\r\r\n", b"a\r\n\n"),
        ] {
            for octets in 1..=body.len().max(1) {
                let seen = written(body, octets);
                assert_eq!(
                    seen.escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "parts of {octets}"
                );
            }
        }
    }

    #[test]
    fn times_are_those_of_asctime() {
        assert_eq!(asctime(1_700_000_000_123_456), "Tue Nov 14 22:13:20 2023");
        assert_eq!(asctime(5_000_000), "Thu Jan  1 00:00:05 1970");
    }
}
