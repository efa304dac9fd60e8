//! The messages: a fixed header with a few digits that change, and a slice of one pool of text lines.
//!
//! Message `n` of a seed is the same octets every time, so its checksum can be told without keeping it. Making one costs a copy of
//! about 250 octets; the payload is not made at all but sliced from the pool, which is written once.
//!
//! ```text
//! Date, From, To, Subject, Message-ID          constant but for the digits of n
//! X-Inrush-Load: <run>-<n>                      run: 16 hex digits, n: 12 decimal digits
//! (empty line)
//! lines of 74 characters + CRLF …, cut to the length that was asked for, CRLF at the end
//! ```
//! The length is that of the payload, without header, as in Postfix's `smtp-source -l`. Of several senders, message `n` is that of sender
//! `n` modulo their number, so that sizes too follow from `n`. A file can be sent instead, every time the same.
//!
//! Standards: RFC 5322 §3.6 (header fields), RFC 2045 §6.7 (lines of at most 76 characters).

use crc_fast::{CrcAlgorithm, Digest};

use crate::sizes::Sizes;

/// Octets of a pool line with its CRLF.
const LINE_OCTETS: usize = 76;
/// Lines of the pool: about 1 MiB, more than the caches close to the core, as real mail would be.
const POOL_LINES: usize = 13_797;
/// Digits of a message number.
const NUMBER_DIGITS: usize = 12;

/// Spreads (seed, n) over 64 bits (the finaliser of SplitMix64).
#[must_use]
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the messages of a run have in common.
#[derive(Clone, Debug)]
pub struct Content {
    seed: u64,
    payloads: Vec<Payloads>,
    /// Header with zeros where the number goes; empty when a file is sent.
    header: Vec<u8>,
    /// Where the digits of the number start in the header.
    places: Vec<usize>,
}

/// Where the payloads of a sender come from.
#[derive(Clone, Debug)]
struct Payloads {
    source: Source,
    pool: &'static [u8],
    has_dot_lines: bool,
}

#[derive(Clone, Debug)]
enum Source {
    /// Slices of the pool in these sizes.
    Sizes(Sizes),
    /// The whole of the pool, which is a message.
    Whole,
}

/// What the payloads of a sender look like.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadSettings {
    /// Sizes in octets.
    pub sizes: Sizes,
    /// How many of 100 lines begin with a dot.
    pub dot_lines_percent: u8,
}

/// The payload of one message: where it starts in the pool and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    line: usize,
    octets: usize,
    sender: usize,
}

/// What distinguishes the contents of one run from another's.
#[derive(Clone, Debug)]
pub struct ContentSettings<'a> {
    /// Same seed and run: same messages.
    pub seed: u64,
    /// Appears in each message.
    pub run: u64,
    /// Payload sizes.
    pub sizes: Sizes,
    /// Address in `From`.
    pub from: &'a str,
    /// RFC 5322 date.
    pub date: &'a str,
    /// How many of 100 lines begin with a dot.
    pub dot_lines_percent: u8,
}

impl Content {
    /// Messages of one kind of sender. Writes pool and header; the pool stays for the life of the process: sends borrow it.
    #[must_use]
    pub fn new(settings: &ContentSettings<'_>) -> Self {
        let ContentSettings { sizes, dot_lines_percent, .. } = settings;
        let payloads = [PayloadSettings { sizes: sizes.clone(), dot_lines_percent: *dot_lines_percent }];
        Self::for_senders(settings, &payloads, None)
    }

    /// Messages of several kinds of senders, whose payloads take the place of those in `settings`; at least one. Without a subject it has the
    /// number of the message.
    #[must_use]
    pub fn for_senders(
        settings: &ContentSettings<'_>,
        payloads: &[PayloadSettings],
        subject: Option<&str>,
    ) -> Self {
        let ContentSettings { seed, run, from, date, .. } = settings;
        let mut header = Vec::new();
        let mut places = Vec::new();
        let zeros = [b'0'; NUMBER_DIGITS];
        let subject = subject.unwrap_or("load #");
        let text = format!(
            "Date: {date}\r\nFrom: <{from}>\r\nTo: undisclosed-recipients:;\r\nSubject: {subject}\r\n\
             Message-ID: <{run:016x}.#@inrush-load.invalid>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\nX-Inrush-Load: {run:016x}-#\r\n\r\n"
        );
        // The address of the user may itself hold the mark; the digits go behind the fields we wrote.
        let fields = [
            "\r\nSubject: load ",
            &format!("\r\nMessage-ID: <{run:016x}."),
            &format!("\r\nX-Inrush-Load: {run:016x}-"),
        ];
        let mut rest = text.as_str();
        for field in fields {
            // A subject of the user's has no number.
            let Some(at) = rest.find(&format!("{field}#\r")).or_else(|| rest.find(&format!("{field}#@")))
            else {
                continue;
            };
            let (before, after) = rest.split_at(at + field.len());
            header.extend_from_slice(before.as_bytes());
            places.push(header.len());
            header.extend_from_slice(&zeros);
            rest = &after[1..];
        }
        header.extend_from_slice(rest.as_bytes());
        // Senders whose lines look the same share a pool.
        let mut pools: Vec<(u8, &'static [u8])> = Vec::new();
        let payloads = payloads.iter().map(|PayloadSettings { sizes, dot_lines_percent }| {
            let known = pools.iter().find(|(percent, _)| percent == dot_lines_percent);
            let pool = known.map(|&(_, pool)| pool).unwrap_or_else(|| {
                let pool = pool(*seed, *dot_lines_percent);
                pools.push((*dot_lines_percent, pool));
                pool
            });
            Payloads { source: Source::Sizes(sizes.clone()), pool, has_dot_lines: *dot_lines_percent > 0 }
        });
        let payloads = payloads.collect();
        Self { seed: *seed, payloads, header, places }
    }

    /// Every message is this one, its line ends made CRLF, as in Postfix's `smtp-source -F`.
    #[must_use]
    pub fn file(seed: u64, message: &[u8]) -> Self {
        let mut octets = Vec::with_capacity(message.len() + message.len() / 32);
        for line in message.split_inclusive(|&b| b == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            octets.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
            octets.extend_from_slice(b"\r\n");
        }
        let has_dot_lines =
            octets.starts_with(b".") || octets.windows(3).any(|at| at == b"\r\n." || at == b"\n.");
        let payloads = vec![Payloads { source: Source::Whole, pool: Vec::leak(octets), has_dot_lines }];
        Self { seed, payloads, header: Vec::new(), places: Vec::new() }
    }

    /// What the payloads follow from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Lines of this payload may begin with a dot, so DATA needs transparency.
    #[must_use]
    pub fn has_dot_lines(&self, payload: Payload) -> bool {
        self.payloads[payload.sender].has_dot_lines
    }

    /// Where the payload of message `n` lies.
    #[must_use]
    pub fn payload(&self, n: u64) -> Payload {
        let sender = usize::try_from(n % self.payloads.len() as u64).unwrap_or(0);
        let payloads = &self.payloads[sender];
        let sizes = match &payloads.source {
            Source::Sizes(sizes) => sizes,
            Source::Whole => return Payload { line: 0, octets: payloads.pool.len(), sender },
        };
        let random = mix(self.seed, n);
        let octets = usize::try_from(sizes.pick(mix(random, 1))).unwrap_or(usize::MAX);
        // A text line ends in CRLF, so one octet alone cannot be.
        let octets = if octets == 1 { 2 } else { octets };
        Payload { line: usize::try_from(random % POOL_LINES as u64).unwrap_or(0), octets, sender }
    }

    /// Octets of the whole message.
    #[must_use]
    pub fn octets(&self, payload: Payload) -> usize {
        self.header.len() + payload.octets
    }

    /// Appends the header of message `n`.
    pub fn write_header(&self, n: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.header);
        if self.places.is_empty() {
            return;
        }
        let mut digits = [b'0'; NUMBER_DIGITS];
        let mut rest = n;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for &place in &self.places {
            out[start + place..start + place + NUMBER_DIGITS].copy_from_slice(&digits);
        }
    }

    /// The payload in pieces, to be sent one behind the other.
    pub fn pieces(&self, payload: Payload) -> impl Iterator<Item = &'static [u8]> + use<> {
        let Payloads { source, pool, .. } = &self.payloads[payload.sender];
        let pool = *pool;
        let (body, tail): (usize, &'static [u8]) = match payload.octets {
            0 => (0, b""),
            octets if matches!(source, Source::Whole) => (octets, b""),
            // Cut behind the CR of a line, the CRLF of ours would make it a bare one: a letter comes between.
            octets if octets >= 3 && (octets - 2) % LINE_OCTETS == LINE_OCTETS - 1 => (octets - 3, b"x\r\n"),
            octets => (octets - 2, b"\r\n"),
        };
        let mut start = payload.line * LINE_OCTETS;
        let mut left = body;
        let slices = std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let piece = &pool[start..pool.len().min(start + left)];
            left -= piece.len();
            start = 0;
            Some(piece)
        });
        slices.chain(std::iter::once(tail).filter(|tail| !tail.is_empty()))
    }

    /// CRC-32C and length of message `n` as the recipient's store must hold it (dots not doubled).
    #[must_use]
    pub fn checksum(&self, n: u64) -> (u32, u64) {
        let mut header = Vec::with_capacity(self.header.len());
        self.write_header(n, &mut header);
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&header);
        let payload = self.payload(n);
        self.pieces(payload).for_each(|piece| digest.update(piece));
        // A 32-bit CRC comes in the low half of the 64 bits.
        ((digest.finalize() & 0xffff_ffff) as u32, self.octets(payload) as u64)
    }

    /// The whole message `n`.
    #[must_use]
    pub fn message(&self, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_header(n, &mut out);
        self.pieces(self.payload(n)).for_each(|piece| out.extend_from_slice(piece));
        out
    }
}

/// CRC-32C of octets.
#[must_use]
pub fn crc32c(octets: &[u8]) -> u32 {
    (crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, octets) & 0xffff_ffff) as u32
}

/// Lines of words; no line holds anything but printable ASCII and its CRLF.
fn pool(seed: u64, dot_lines_percent: u8) -> &'static [u8] {
    const LETTERS: &[u8; 32] = b"eeetttaaooiinnsshhrrddllucmfwgyp";
    let mut pool = Vec::with_capacity(POOL_LINES * LINE_OCTETS);
    let mut n = 0_u64;
    for line in 0..POOL_LINES {
        if mix(!seed, line as u64) % 100 < u64::from(dot_lines_percent) {
            pool.push(b'.');
        }
        let end = (line + 1) * LINE_OCTETS - 2;
        while pool.len() < end {
            let random = mix(seed ^ 0x5eed, n);
            n += 1;
            let word = 2 + (random >> 60) as usize % 9;
            for letter in 0..word.min(end - pool.len()) {
                pool.push(LETTERS[((random >> (5 * letter)) & 31) as usize]);
            }
            if pool.len() < end {
                pool.push(b' ');
            }
        }
        // A space in front of the CRLF would be lost by some stores.
        pool[end - 1] = b'.';
        pool.extend_from_slice(b"\r\n");
    }
    debug_assert_eq!(pool.len(), POOL_LINES * LINE_OCTETS);
    Vec::leak(pool)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn settings(sizes: &str, dot_lines_percent: u8) -> ContentSettings<'static> {
        ContentSettings {
            seed: 42,
            run: 0xabcd,
            sizes: sizes.parse().unwrap(),
            from: "a#b@one.example",
            date: "Sat, 21 Nov 2026 21:44:57 +0000",
            dot_lines_percent,
        }
    }

    fn content(sizes: &str, dot_lines_percent: u8) -> Content {
        Content::new(&settings(sizes, dot_lines_percent))
    }

    #[test]
    fn every_length_is_exact_and_clean() {
        let reach = LINE_OCTETS * 3;
        let content = content(&format!("uniform:0-{reach}"), 20);
        let mut seen = vec![false; reach + 1];
        for n in 0..20_000 {
            let message = content.message(n);
            let payload = content.payload(n);
            assert_eq!(message.len(), content.octets(payload));
            seen[payload.octets] = true;
            let text = String::from_utf8(message).unwrap();
            assert!(text.ends_with("\r\n"));
            let bare = text.replace("\r\n", "");
            assert!(!bare.contains(['\r', '\n']), "{text:?}");
            assert!(text.split("\r\n").all(|line| line.len() <= 76), "{text:?}");
        }
        // One octet cannot be: see `payload`.
        assert!(seen.iter().enumerate().all(|(octets, &seen)| seen || octets == 1));
    }

    #[test]
    fn numbers_make_messages_unique_and_repeatable() {
        let content = content("100", 0);
        let text = String::from_utf8(content.message(17)).unwrap();
        assert!(text.contains("From: <a#b@one.example>\r\n"), "{text}");
        assert!(text.contains("\r\nSubject: load 000000000017\r\n"), "{text}");
        assert!(text.contains("\r\nX-Inrush-Load: 000000000000abcd-000000000017\r\n\r\n"), "{text}");
        assert!(
            text.contains("Message-ID: <000000000000abcd.000000000017@inrush-load.invalid>\r\n"),
            "{text}"
        );
        assert_eq!(content.message(17), content.message(17));
        assert_ne!(content.message(17), content.message(18));
    }

    #[test]
    fn checksum_is_that_of_the_message() {
        // Longer than the pool, so that it wraps.
        let content = content("3000000", 5);
        for n in [0, 5, 99] {
            let message = content.message(n);
            assert_eq!(content.checksum(n), (crc32c(&message), message.len() as u64));
        }
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_subject_of_the_users() {
        let payloads = [PayloadSettings { sizes: Sizes::Fixed(10), dot_lines_percent: 0 }];
        let of = |subject| Content::for_senders(&settings("10", 0), &payloads, Some(subject));
        let content = of("load #");
        let numbered = String::from_utf8(content.message(3)).unwrap();
        assert!(numbered.contains("\r\nX-Inrush-Load: 000000000000abcd-000000000003\r\n"), "{numbered}");
        let content = of("sale");
        let text = String::from_utf8(content.message(3)).unwrap();
        assert!(text.contains("\r\nSubject: sale\r\n"), "{text}");
        assert!(text.contains("\r\nX-Inrush-Load: 000000000000abcd-000000000003\r\n"), "{text}");
    }

    #[test]
    fn senders_have_their_own_sizes() {
        let payloads = [
            PayloadSettings { sizes: Sizes::Fixed(100), dot_lines_percent: 0 },
            PayloadSettings { sizes: Sizes::Fixed(9000), dot_lines_percent: 50 },
        ];
        let content = Content::for_senders(&settings("1", 0), &payloads, None);
        let header = content.octets(content.payload(0)) - 100;
        assert_eq!(content.message(7).len(), header + 9000);
        assert_eq!(content.message(8).len(), header + 100);
        assert!(content.has_dot_lines(content.payload(7)) && !content.has_dot_lines(content.payload(8)));
        let message = content.message(7);
        assert_eq!(content.checksum(7), (crc32c(&message), message.len() as u64));
    }

    #[test]
    fn a_file_is_sent_as_lines() {
        let content = Content::file(1, b"Subject: x\n\n.dot\r\nlast");
        assert_eq!(content.message(5), b"Subject: x\r\n\r\n.dot\r\nlast\r\n");
        assert!(content.has_dot_lines(content.payload(5)));
        assert!(!Content::file(1, b"a.b\n").has_dot_lines(content.payload(0)));
        assert_eq!(content.checksum(9), content.checksum(10));
    }

    #[test]
    fn dot_lines_only_when_asked_for() {
        let plain = String::from_utf8(content("100000", 0).message(1)).unwrap();
        assert!(!plain.contains("\r\n."));
        let dotted = String::from_utf8(content("100000", 10).message(1)).unwrap();
        let lines = dotted.matches("\r\n.").count();
        assert!((80..200).contains(&lines), "{lines}");
    }
}
