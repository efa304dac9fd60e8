//! Line ends: CRLF as mail is sent, LF as a Maildir keeps it.
//!
//! Input comes in pieces of any size. Between two pieces only this is kept: whether a CR at the end is held back, since it may
//! be the first half of a CRLF, and whether the last octet given out was a CR.
//!
//! A CR or LF that is not part of a CRLF stays as it is.

/// Turns CRLF into LF and counts.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held_cr: bool,
    last_was_cr: bool,
    octets: u64,
    octets_crlf: u64,
}

impl Lines {
    /// Octets given out so far: the size of the file, once it is finished.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// The size that a reader gives to the file, which takes every LF without a CR before it for a CRLF: RFC822.SIZE of IMAP
    /// (RFC 9051 §7.5.2).
    pub(super) fn octets_crlf(&self) -> u64 {
        self.octets_crlf
    }

    /// Takes a piece and writes what is settled at the end of `out`.
    pub(super) fn convert(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(at);
            rest = &tail[1..];
            // The held CR is the one of this line's CRLF only if nothing stands between them.
            let line = match line.strip_suffix(b"\r") {
                Some(line) => {
                    self.release(out);
                    line
                }
                None => {
                    if !line.is_empty() {
                        self.release(out);
                    }
                    self.held_cr = false;
                    line
                }
            };
            self.push(line, out);
            if !self.last_was_cr {
                self.octets_crlf += 1;
            }
            self.push(b"\n", out);
        }
        if rest.is_empty() {
            return;
        }
        self.release(out);
        let settled = rest.strip_suffix(b"\r");
        self.push(settled.unwrap_or(rest), out);
        self.held_cr = settled.is_some();
    }

    /// The message has ended: a CR that was held back is no half of a CRLF.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            self.push(b"\r", out);
        }
    }

    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let Some(last) = octets.last() else { return };
        self.last_was_cr = *last == b'\r';
        out.extend_from_slice(octets);
        // A slice in memory is never longer than u64 can say.
        let len = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        self.octets += len;
        self.octets_crlf += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, naively, on the whole message.
    fn twin(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, &octet) in message.iter().enumerate() {
            if !(octet == b'\r' && message.get(at + 1) == Some(&b'\n')) {
                out.push(octet);
            }
        }
        out
    }

    /// Size with every lone LF as CRLF, naively, from the file.
    fn twin_octets_crlf(file: &[u8]) -> u64 {
        let lone = (0..file.len()).filter(|&at| file[at] == b'\n' && (at == 0 || file[at - 1] != b'\r'));
        (file.len() + lone.count()) as u64
    }

    fn check(message: &[u8], cuts: &[usize]) {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        let mut from = 0;
        for &cut in cuts {
            lines.convert(&message[from..cut], &mut out);
            from = cut;
        }
        lines.convert(&message[from..], &mut out);
        lines.finish(&mut out);
        assert_eq!(out, twin(message), "{message:?} cut at {cuts:?}");
        assert_eq!(lines.octets(), out.len() as u64);
        assert_eq!(lines.octets_crlf(), twin_octets_crlf(&out), "{message:?} cut at {cuts:?}");
    }

    #[test]
    fn every_short_message_in_every_two_cuts() {
        const OCTETS: [u8; 3] = *b"\r\na";
        for length in 0..=6u32 {
            for number in 0..3usize.pow(length) {
                let message: Vec<u8> =
                    (0..length).map(|digit| OCTETS[number / 3usize.pow(digit) % 3]).collect();
                for first in 0..=message.len() {
                    for second in first..=message.len() {
                        check(&message, &[first, second]);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn long_messages(parts in proptest::collection::vec("[a\r\n\u{e9}]{0,40}", 0..20)) {
            let message: Vec<u8> = parts.concat().into_bytes();
            let mut cuts = Vec::new();
            for part in &parts {
                cuts.push(cuts.last().copied().unwrap_or(0) + part.len());
            }
            check(&message, &cuts);
        }
    }
}
