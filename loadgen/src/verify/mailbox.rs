//! Messages as other servers store them: which of ours is it, and is it whole?
//!
//! What a server may do to a message on its way is left out of the comparison: fields added to the header (RFC 5321 §4.4), line ends as the store
//! has them, `>From ` in an mbox, an empty line at the end. Everything else must be there, octet for octet: each of our header
//! fields, in their order, and the body.

use std::collections::HashMap;

use super::{Copies, Sought, Verification};

/// What was promised of a message, and what was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// None: not acknowledged.
    promised: Option<u64>,
    whole: u64,
}

/// Counts what a store holds of the run.
#[derive(Debug)]
pub(super) struct Mailbox<'a> {
    sought: &'a Sought<'a>,
    mark: Vec<u8>,
    seen: HashMap<u64, Seen>,
    verification: Verification,
}

impl<'a> Mailbox<'a> {
    pub(super) fn new(sought: &'a Sought<'a>, copies: Copies) -> Self {
        let promised = |recipients: u32| match copies {
            Copies::Message => 1,
            Copies::Recipient => u64::from(recipients),
        };
        let seen = sought.acknowledged.iter().map(|acknowledged| {
            (acknowledged.n, Seen { promised: Some(promised(acknowledged.recipients)), whole: 0 })
        });
        Self {
            sought,
            mark: format!("X-Inrush-Load: {:016x}-", sought.run).into_bytes(),
            seen: seen.collect(),
            verification: Verification {
                acknowledged: sought.acknowledged.len() as u64,
                ..Verification::default()
            },
        }
    }

    /// Takes a message as it is stored, with LF or CRLF; `quoted`: lines that begin with `From ` have a `>` before. Mail that is not of
    /// this run is passed.
    pub(super) fn take(&mut self, place: &str, stored: &[u8], quoted: bool) {
        let stored = lf(stored);
        let (header, body) = split(&stored);
        let Some(n) = self.number(header) else { return };
        let sent = lf(&self.sought.content.message(n));
        let (sent_header, sent_body) = split(&sent);
        if !has_fields(header, sent_header) || !same_body(body, sent_body, quoted) {
            self.verification.altered += 1;
            self.verification
                .example(format!("message {n}, {place}: {} octets that were not sent", stored.len()));
            return;
        }
        let seen = self.seen.entry(n).or_default();
        seen.whole += 1;
        let most = seen.promised.unwrap_or(u64::MAX);
        if seen.whole > most {
            self.verification.duplicated += 1;
            self.verification.example(format!("message {n} is stored once more as {place}"));
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Verification {
        let mut missing: Vec<(u64, u64)> = Vec::new();
        for (&n, seen) in &self.seen {
            match seen.promised {
                Some(promised) if seen.whole == promised => self.verification.found += 1,
                Some(promised) if seen.whole < promised => missing.push((n, promised - seen.whole)),
                Some(_) => {}
                None => self.verification.unacknowledged += 1,
            }
        }
        missing.sort_unstable();
        for (n, copies) in missing {
            self.verification.missing += copies;
            let copies = if copies > 1 { format!("{copies} copies of it are ") } else { String::new() };
            self.verification.example(format!("message {n}: {copies}not in the store"));
        }
        self.verification
    }

    /// The number of a message of this run.
    fn number(&self, header: &[u8]) -> Option<u64> {
        let line = header.split(|&octet| octet == b'\n').find(|line| line.starts_with(&self.mark))?;
        std::str::from_utf8(&line[self.mark.len()..]).ok()?.trim_end().parse().ok()
    }
}

/// With LF in place of CRLF.
fn lf(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// Header with the LF of its last line, and body.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match message.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&message[..=at], &message[at + 2..]),
        None => (message, b""),
    }
}

/// All lines of `sent` are in `stored`, in their order.
fn has_fields(stored: &[u8], sent: &[u8]) -> bool {
    let mut stored = stored.split(|&octet| octet == b'\n');
    sent.split(|&octet| octet == b'\n').all(|line| line.is_empty() || stored.any(|other| other == line))
}

fn same_body(stored: &[u8], sent: &[u8], quoted: bool) -> bool {
    // The store may end the last line, and separate messages by an empty one.
    let ends = |rest: &[u8]| matches!(rest, b"" | b"\n" | b"\n\n");
    if !quoted {
        return stored.strip_prefix(sent).is_some_and(ends);
    }
    let mut rest = stored;
    for line in sent.split_inclusive(|&octet| octet == b'\n') {
        let is_from =
            line.iter().position(|&octet| octet != b'>').is_some_and(|at| line[at..].starts_with(b"From "));
        let unquoted = match rest.strip_prefix(b">") {
            Some(more) if is_from && more.starts_with(line) => more,
            _ => rest,
        };
        match unquoted.strip_prefix(line) {
            Some(more) => rest = more,
            None => return false,
        }
    }
    ends(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::acks::Acknowledged;
    use crate::content::{Content, ContentSettings};

    fn content() -> Content {
        Content::new(&ContentSettings {
            seed: 3,
            run: 77,
            sizes: "mix:500=9,70KiB=1".parse().unwrap(),
            from: "a@one.example",
            date: "Sat, 21 Nov 2026 21:44:57 +0000",
            dot_lines_percent: 5,
        })
    }

    fn look(recipients: u32, copies: Copies, stored: &[Vec<u8>]) -> Verification {
        let content = content();
        let acknowledged: Vec<Acknowledged> = (0..3).map(|n| Acknowledged::new(n, recipients, b"")).collect();
        let sought = Sought { content: &content, run: 77, started_us: 0, acknowledged: &acknowledged };
        let mut mailbox = Mailbox::new(&sought, copies);
        stored.iter().for_each(|message| mailbox.take("file", message, false));
        mailbox.finish()
    }

    fn delivered(n: u64) -> Vec<u8> {
        let fields = b"Return-Path: <a@one.example>\r\nReceived: from x\r\n\tby y\r\n";
        [fields, content().message(n).as_slice()].concat()
    }

    #[test]
    fn what_a_server_may_do_is_not_damage() {
        let unix = lf(&delivered(1));
        let mut inserted = lf(&content().message(2));
        let at = inserted.windows(6).position(|window| window == b"\nFrom:").unwrap();
        inserted.splice(at..at, b"\nX-Scanned: yes".iter().copied());
        inserted.push(b'\n');
        let other = b"X-Inrush-Load: 000000000000004e-000000000000\n\nanother run\n".to_vec();
        let verification = look(1, Copies::Recipient, &[delivered(0), unix, inserted, other]);
        assert!(verification.holds(), "{verification:?}");
    }

    #[test]
    fn missing_altered_and_doubled_messages_are_told() {
        let verification =
            look(1, Copies::Message, &[delivered(0), delivered(0), delivered(2), delivered(9)]);
        let Verification { found, missing, duplicated, unacknowledged, .. } = verification;
        assert_eq!((found, missing, duplicated, unacknowledged), (1, 1, 1, 1));
        assert!(verification.examples.iter().any(|text| text == "message 1: not in the store"));

        let whole = delivered(1);
        for damage in [
            whole[..whole.len() - 80].to_vec(),
            [&whole[..], b"more\r\n"].concat(),
            String::from_utf8(whole.clone()).unwrap().replace("From: ", "From:  ").into_bytes(),
            String::from_utf8(whole.clone()).unwrap().replace("MIME-Version: 1.0\r\n", "").into_bytes(),
            {
                let mut flipped = whole.clone();
                let last = flipped.len() - 9;
                flipped[last] ^= 1;
                flipped
            },
        ] {
            let verification = look(1, Copies::Message, &[delivered(0), damage, delivered(2)]);
            assert_eq!((verification.altered, verification.missing, verification.found), (1, 1, 2));
        }
    }

    #[test]
    fn a_copy_for_each_recipient() {
        let stored: Vec<Vec<u8>> = [0, 0, 1, 2, 2].map(delivered).into();
        let verification = look(2, Copies::Recipient, &stored);
        assert_eq!((verification.found, verification.missing, verification.duplicated), (2, 1, 0));
        let verification = look(2, Copies::Message, &stored);
        assert_eq!((verification.found, verification.missing, verification.duplicated), (1, 0, 2));
    }

    #[test]
    fn quoted_lines() {
        let sent = b"From here\n>From there\nplain\n";
        assert!(same_body(b">From here\n>>From there\nplain\n\n", sent, true), "mboxrd");
        assert!(same_body(b">From here\n>From there\nplain\n", sent, true), "mboxo");
        assert!(!same_body(b">From here\n>From there\n>plain\n", sent, true));
        assert!(!same_body(b">From here\n>From there\nplain\n", sent, false));
    }
}
