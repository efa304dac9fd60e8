//! The dialogs of `tests/dialogs`, against the session in memory: the whole input at once, octet by octet, and in random
//! slices. How the input was sliced must make no difference.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test; what cannot be unwrapped is its failure"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use inrush_dialog::{Script, Storage};
use inrush_proto::{
    AppendFailure, Context, Kind, Limits, Path, Reply, Session, Settings, Tls, Unobserved, Verdict,
};
use support::{Caller, Counts, Outcome, Random, World};

/// The world as the script has it.
struct Scripted<'s> {
    script: &'s Script,
    stored: usize,
    tls: bool,
}

impl Scripted<'_> {
    fn outcome(&mut self) -> Outcome {
        let outcome = self.script.storage(self.stored);
        self.stored += 1;
        match outcome {
            Storage::Ok => Outcome::Taken,
            Storage::Full => Outcome::Failed(AppendFailure::StorageFull),
            Storage::Pending => Outcome::Failed(AppendFailure::PendingFull),
            Storage::TooLarge => Outcome::Failed(AppendFailure::TooLarge),
            Storage::Hung => Outcome::Failed(AppendFailure::StorageHung),
            Storage::Error => Outcome::Failed(AppendFailure::LocalError),
            Storage::Lost => Outcome::Lost,
        }
    }
}

impl World for Scripted<'_> {
    fn verdict(&mut self, recipient: Path<'_>) -> Verdict {
        match self.script.verdict(recipient.as_str()) {
            inrush_dialog::Verdict::Ok => Verdict::Accept,
            inrush_dialog::Verdict::Unknown => Verdict::Refuse(Reply::USER_UNKNOWN),
            inrush_dialog::Verdict::Relay => Verdict::Refuse(Reply::RELAY_DENIED),
            inrush_dialog::Verdict::Routed => Verdict::Refuse(Reply::ROUTED_LOCAL_PART),
            inrush_dialog::Verdict::Later => Verdict::Refuse(Reply::VERDICT_UNAVAILABLE),
        }
    }

    fn store(&mut self, _: u32) -> Outcome {
        self.outcome()
    }

    fn append(&mut self, _: u32) -> Outcome {
        self.outcome()
    }

    fn tls(&mut self) -> Result<(), &'static Reply> {
        if self.tls { Ok(()) } else { Err(Reply::TLS_UNAVAILABLE) }
    }
}

fn settings(script: &Script) -> Settings {
    let mut settings = Settings { hostname: "mx.example".to_owned(), ..Settings::default() };
    for (name, value) in &script.settings {
        let limits: &mut Limits = &mut settings.limits;
        let number = || value.parse().unwrap();
        match name.as_str() {
            "message_bytes_max" => limits.message_bytes_max = value.parse().unwrap(),
            "recipients_max" => limits.recipients_max = number(),
            "transactions_max" => limits.transactions_max = number(),
            "command_octets_max" => limits.command_octets_max = number(),
            "text_line_octets_max" => limits.text_line_octets_max = number(),
            "header_bytes_max" => limits.header_bytes_max = number(),
            "hops_max" => limits.hops_max = number(),
            "errors_max" => limits.errors_max = number(),
            "envelope_octets_max" => limits.envelope_octets_max = number(),
            "piece_octets_max" => limits.piece_octets_max = number(),
            "output_octets_max" => limits.output_octets_max = number(),
            "commands_max" => limits.commands_max = number(),
            "junk_commands_max" => limits.junk_commands_max = number(),
            "refused_recipients_max" => limits.refused_recipients_max = number(),
            "kind" => {
                settings.kind = match value.as_str() {
                    "submission" => Kind::Submission,
                    "lmtp" => Kind::Lmtp,
                    other => panic!("{}: no kind {other}", script.name),
                }
            }
            // The caller's.
            "xclient" => assert_eq!(value, "on", "{}", script.name),
            "bare_newline" => settings.bare_newline = value.parse().unwrap(),
            "chunking" => settings.extensions.chunking = value.parse().unwrap(),
            "smtputf8" => settings.extensions.smtputf8 = value.parse().unwrap(),
            "dsn" => settings.extensions.dsn = value.parse().unwrap(),
            "tls" => {
                settings.tls = match value.as_str() {
                    "starttls" | "unavailable" => Tls::StartTls,
                    "required" => Tls::Required,
                    "implicit" => Tls::Implicit,
                    other => panic!("{}: no tls {other}", script.name),
                }
            }
            other => panic!("{}: no setting {other}", script.name),
        }
    }
    settings
}

/// Plays the script with the input cut into slices of what `next` says, and compares.
fn play(script: &Script, counts: &Counts, mut next: impl FnMut(usize) -> usize) -> Result<(), String> {
    let context = Context::new(settings(script), Box::new(counts.clone()));
    let mut caller = Caller::new(&context);
    if script.settings.iter().any(|(name, _)| name == "xclient") {
        caller.session.trust_introductions();
    }
    let unavailable = script.settings.iter().any(|(name, value)| name == "tls" && value == "unavailable");
    let mut world = Scripted { script, stored: 0, tls: !unavailable };
    let input = script.input();
    let mut rest = input.as_slice();
    let mut closed = caller.feed(b"", &mut world);
    while !rest.is_empty() && !closed {
        let (slice, behind) = rest.split_at(next(rest.len()).clamp(1, rest.len()));
        closed = caller.feed(slice, &mut world);
        rest = behind;
    }
    script.check_output(&caller.output)?;
    if closed != script.closes {
        return Err(format!("closed: {closed}"));
    }
    if script.messages.len() != caller.messages.len() {
        return Err(format!("{} messages accepted", caller.messages.len()));
    }
    for (expected, got) in script.messages.iter().zip(&caller.messages) {
        if expected.reverse_path != got.reverse_path || expected.recipients != got.recipients {
            return Err(format!("got {got:?}"));
        }
        if let Some(body) = expected.body.as_deref()
            && body != got.body
        {
            return Err(difference(body, &got.body));
        }
        for (name, value) in &expected.properties {
            let known = got.properties.iter().find(|(known, _)| known == name);
            if known.is_none_or(|(_, known)| known != value) {
                return Err(format!("expected {name}={value}, got {known:?}"));
            }
        }
    }
    Ok(())
}

fn difference(expected: &[u8], got: &[u8]) -> String {
    let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let show = |octets: &[u8]| octets[at..octets.len().min(at + 40)].escape_ascii().to_string();
    format!("the bodies differ at {at}: expected {}, got {}", show(expected), show(got))
}

fn scripts() -> Vec<Script> {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs");
    Script::all(&folder).unwrap()
}

#[test]
fn every_dialog_in_every_slicing() {
    let counts = Counts::default();
    let mut failures = Vec::new();
    for (number, script) in scripts().iter().enumerate() {
        let mut check = |how: &str, result: Result<(), String>| {
            if let Err(fault) = result {
                failures.push(format!("{} ({how}): {fault}", script.name));
            }
        };
        check("at once", play(script, &counts, |octets| octets));
        if script.input().len() < 100_000 {
            check("octet by octet", play(script, &counts, |_| 1));
        }
        for round in 0..8 {
            let mut random = Random(number as u64 * 8 + round);
            let size = 1 + random.below(2000);
            check(&format!("slices, round {round}"), play(script, &counts, |_| 1 + random.below(size)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    every_reply_is_seen(&counts);
}

/// Said on behalf of the gateway, which alone knows when; and one that depends on what comes at once.
const OF_THE_GATEWAY: [&Reply; 21] = [
    Reply::MEMORY_FULL,
    Reply::LOG_BEHIND,
    Reply::TOO_MANY_CONNECTIONS_PRESSURE,
    Reply::TOO_MANY_DESCRIPTORS,
    Reply::AUTH_UNAVAILABLE,
    Reply::AUTH_FAILURES_ADDRESS,
    Reply::AUTH_FAILURES_USER,
    Reply::UNAUTHORIZED_PIPELINING,
    Reply::SHUTTING_DOWN,
    Reply::TOO_MANY_CONNECTIONS,
    Reply::TOO_MANY_CONNECTIONS_ADDRESS,
    Reply::TOO_MANY_CONNECTIONS_NETWORK,
    Reply::CONNECTION_RATE_ADDRESS,
    Reply::CONNECTION_RATE_NETWORK,
    Reply::ACCESS_DENIED,
    Reply::OVERLOADED,
    Reply::IDLE_TIMEOUT,
    Reply::SESSION_TIMEOUT,
    Reply::DATA_TOO_SLOW,
    Reply::EARLY_TALKER,
    Reply::TRANSACTION_TIMEOUT,
];

fn every_reply_is_seen(counts: &Counts) {
    for reply in Reply::ALL {
        let of_the_gateway = OF_THE_GATEWAY.contains(reply);
        assert_eq!(counts.of(reply) == 0, of_the_gateway, "{reply:?}: seen {} times", counts.of(reply));
    }
}

// RFC 5321 §4.2.3: 421 names the host.
#[test]
fn replies_of_the_gateway() {
    for reply in OF_THE_GATEWAY {
        let settings = Settings { hostname: "mx.example".to_owned(), ..Settings::default() };
        let mut session = Session::new(Context::new(settings, Box::new(Unobserved)));
        session.close_with(reply);
        let mut output = Vec::new();
        session.take_ready(&mut output);
        let host = if reply.code() == 421 { "mx.example " } else { "" };
        let expected = format!("{} {} {host}{}\r\n", reply.code(), reply.enhanced_status(), reply.text());
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        assert!(matches!(session.advance(b"NOOP\r\n").event, inrush_proto::Event::Close));
    }
}

#[test]
fn names_and_sections() {
    let scripts = scripts();
    assert!(scripts.len() >= 80, "{} dialogs", scripts.len());
    let mut inputs = BTreeMap::new();
    for script in &scripts {
        assert!(script.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        let key =
            (script.input(), format!("{:?}{:?}{:?}", script.settings, script.recipients, script.storage));
        if let Some(other) = inputs.insert(key, &script.name) {
            panic!("{} and {other} say the same", script.name);
        }
    }
}
