//! Every sequence of up to six octets out of CR, LF, dot, NUL and a letter inside the mail data, in every mode: the data
//! ends at the first `CRLF . CRLF` and nowhere else (CVE-2023-51764, 51765, 51766).
//!
//! RFC 5321 §2.3.8, §4.1.1.4, §4.5.2.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test; what cannot be unwrapped is its failure"
)]

mod support;

use std::rc::Rc;

use inrush_proto::{BareNewline, Context, Settings, Unobserved};
use support::{Caller, Willing};

const ALPHABET: &[u8; 5] = b"\r\n.\0a";

/// All sequences of `octets` out of the alphabet.
fn sequences(octets: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..5usize.pow(octets))
        .map(move |number| (0..octets).map(|place| ALPHABET[number / 5usize.pow(place) % 5]).collect())
}

/// The data in front of the end, found in the plainest way, with the dots of transparency taken out, and whether a CR or
/// LF in it stands alone.
fn meant(sent: &[u8]) -> (Vec<u8>, bool) {
    // As if CRLF stood in front, so that `.CRLF` right away ends empty data.
    let framed = [b"\r\n", sent].concat();
    let end = framed.windows(5).position(|five| five == b"\r\n.\r\n").unwrap();
    let raw = &framed[..end + 2];
    let (mut data, mut bare) = (Vec::new(), false);
    for at in 2..raw.len() {
        let after_crlf = raw[..at].ends_with(b"\r\n");
        if raw[at] == b'.' && after_crlf {
            continue;
        }
        bare |= raw[at] == b'\r' && raw.get(at + 1) != Some(&b'\n');
        bare |= raw[at] == b'\n' && raw[at - 1] != b'\r';
        data.push(raw[at]);
    }
    (data, bare)
}

/// Each CR or LF that is not half of a CRLF becomes one.
fn normalized(data: &[u8]) -> Vec<u8> {
    let mut rest = data;
    let mut normal = Vec::new();
    while let [first, tail @ ..] = rest {
        rest = match rest {
            [b'\r', b'\n', behind @ ..] => {
                normal.extend_from_slice(b"\r\n");
                behind
            }
            [b'\r' | b'\n', behind @ ..] => {
                normal.extend_from_slice(b"\r\n");
                behind
            }
            _ => {
                normal.push(*first);
                tail
            }
        };
    }
    normal
}

/// The message that came out of it, if one did.
fn send(context: &Rc<Context>, sent: &[u8], slice: usize) -> Option<Vec<u8>> {
    let mut caller = Caller::new(context);
    let mut world = Willing;
    caller.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", &mut world);
    for slice in sent.chunks(slice) {
        caller.feed(slice, &mut world);
    }
    assert!(caller.messages.len() <= 1, "{}", sent.escape_ascii());
    caller.messages.pop().map(|message| message.body)
}

fn check(bare_newline: BareNewline) {
    let context = Context::new(Settings { bare_newline, ..Settings::default() }, Box::new(Unobserved));
    for octets in 0..=6 {
        for sequence in sequences(octets) {
            // In the middle of a line, and where the data begins.
            for before in [&b"x"[..], b""] {
                let sent = [before, &sequence, b"y\r\n.\r\n"].concat();
                let (data, bare) = meant(&sent);
                let expected = match bare_newline {
                    BareNewline::Reject if bare => None,
                    BareNewline::Normalize => Some(normalized(&data)),
                    _ => Some(data),
                };
                for slice in [sent.len(), 1] {
                    let got = send(&context, &sent, slice);
                    assert_eq!(got, expected, "{} by {slice}", sent.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn rejected() {
    check(BareNewline::Reject);
}

#[test]
fn normalize() {
    check(BareNewline::Normalize);
}

#[test]
fn allow() {
    check(BareNewline::Allow);
}
