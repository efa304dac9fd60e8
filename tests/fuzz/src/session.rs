//! Whole server sessions: however the input is sliced, the replies and the messages are the same, and the caller's
//! invariants hold after each event.
//!
//! Octet 0: bits 0 and 1 choose what happens to a bare newline, bit 2 few errors, bit 3 small output, bits 4 to 7 which
//! of the first four messages the log refuses. Octet 1 seeds the slices. Then comes what the client sends.

use inrush_proto::{AppendFailure, BareNewline, Context, Limits, Path, Reply, Settings, Unobserved, Verdict};
use support::{Caller, Message, Outcome, Random, World};

#[path = "../../../crates/proto/tests/support/mod.rs"]
pub(crate) mod support;

struct Fates {
    refused: u8,
}

impl World for Fates {
    fn verdict(&mut self, recipient: Path<'_>) -> Verdict {
        match recipient.local_part().as_bytes() {
            [b'u', ..] => Verdict::Refuse(Reply::USER_UNKNOWN),
            _ => Verdict::Accept,
        }
    }

    // How many pieces a message has depends on the slices, so none of them fails.
    fn store(&mut self, _: u32) -> Outcome {
        Outcome::Taken
    }

    fn append(&mut self, transaction: u32) -> Outcome {
        if transaction <= 4 && self.refused & (1 << (transaction - 1)) != 0 {
            Outcome::Failed(AppendFailure::StorageFull)
        } else {
            Outcome::Taken
        }
    }
}

fn play(flags: u8, input: &[u8], mut next: impl FnMut() -> usize) -> (Vec<u8>, Vec<Message>, bool) {
    let settings = Settings {
        hostname: "mx.example".to_owned(),
        limits: Limits {
            message_bytes_max: 4_000,
            text_line_octets_max: 1_000,
            header_bytes_max: 500,
            hops_max: 3,
            errors_max: if flags & 4 == 0 { 1_000 } else { 2 },
            output_octets_max: if flags & 8 == 0 { 16 * 1024 } else { 1_024 },
            ..Limits::default()
        },
        bare_newline: match flags & 3 {
            0 | 3 => BareNewline::Reject,
            1 => BareNewline::Normalize,
            _ => BareNewline::Allow,
        },
        ..Settings::default()
    };
    let mut caller = Caller::new(&Context::new(settings, Box::new(Unobserved)));
    let mut world = Fates { refused: flags >> 4 };
    let mut rest = input;
    let mut closed = caller.feed(b"", &mut world);
    while !rest.is_empty() && !closed {
        let (slice, behind) = rest.split_at(next().clamp(1, rest.len()));
        closed = caller.feed(slice, &mut world);
        rest = behind;
    }
    (caller.output, caller.messages, closed)
}

/// Runs one input; panics when the slices make a difference.
pub fn run(input: &[u8]) {
    let [flags, seed, input @ ..] = input else { return };
    let whole = play(*flags, input, || usize::MAX);
    let mut random = Random(u64::from(*seed));
    let most = 1 + random.below(64);
    let sliced = play(*flags, input, || 1 + random.below(most));
    assert_eq!(whole, sliced);
    let (output, ..) = whole;
    // RFC 5321 §4.2: only printable US-ASCII in lines that end with CRLF, whatever was sent.
    assert!(output.ends_with(b"\r\n"));
    for line in output.strip_suffix(b"\r\n").unwrap_or(&output).split(|&octet| octet == b'\n') {
        assert!(line.strip_suffix(b"\r").unwrap_or(line).iter().all(|b| (b' '..=b'~').contains(b)));
    }
}
