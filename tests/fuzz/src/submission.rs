//! Whole sessions of submission under TLS: however the input is sliced, the same replies and messages; no message without a login, and none
//! whose sender is not the user's.
//!
//! Octet 0 seeds the slices. Then comes what the client sends.

use inrush_proto::{Context, Kind, Settings, Tls, Unobserved};

use crate::session::support::{Caller, Message, Random, USER, Willing};

fn play(input: &[u8], mut next: impl FnMut() -> usize) -> (Vec<u8>, Vec<Message>, bool) {
    let settings = Settings {
        hostname: "mx.example".to_owned(),
        kind: Kind::Submission,
        tls: Tls::Implicit,
        ..Settings::default()
    };
    let mut caller = Caller::new(&Context::new(settings, Box::new(Unobserved)));
    let mut rest = input;
    let mut closed = caller.feed(b"", &mut Willing);
    while !rest.is_empty() && !closed {
        let (slice, behind) = rest.split_at(next().clamp(1, rest.len()));
        closed = caller.feed(slice, &mut Willing);
        rest = behind;
    }
    let logged_in = caller.session.identity().is_some_and(|identity| identity.name == USER);
    assert!(caller.messages.is_empty() || logged_in, "a message without a login");
    (caller.output, caller.messages, closed)
}

/// Runs one input; panics when the slices make a difference, or mail comes in that must not.
pub fn run(input: &[u8]) {
    let [seed, input @ ..] = input else { return };
    let whole = play(input, || usize::MAX);
    let mut random = Random(u64::from(*seed));
    let most = 1 + random.below(64);
    assert_eq!(whole, play(input, || 1 + random.below(most)));
    let (output, messages, _) = whole;
    for message in &messages {
        assert!(message.reverse_path.is_empty() || message.reverse_path == USER, "{}", message.reverse_path);
    }
    // No octet of a password comes back: replies are of our own making.
    assert!(output.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n')));
}
