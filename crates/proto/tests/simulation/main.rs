//! Seeded simulation of whole sessions.
//!
//! A seed is the whole input: the commands of the client, valid and hostile, how they are sliced, the verdicts, what
//! fails in the log, when what becomes durable, when replies are taken, and whether the session is cut short. After
//! each step nothing gated may have left; in the end the replies are those of the model, in its order, and the log
//! holds exactly its messages.
//!
//! `INRUSH_SEED=n` replays one seed; `INRUSH_SEEDS=n` plays so many.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test; what cannot be unwrapped is its failure"
)]

mod program;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use inrush_proto::{Context, Phase, Reply};
use program::{Fates, Program};
use support::{Caller, Counts, Random, Step};

const SEEDS: u64 = 3_000;

#[test]
fn sessions() {
    if let Ok(seed) = std::env::var("INRUSH_SEED") {
        return session(seed.parse().unwrap(), &Counts::default());
    }
    let seeds = std::env::var("INRUSH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let counts = Counts::default();
    for seed in 0..seeds {
        if catch_unwind(AssertUnwindSafe(|| session(seed, &counts))).is_err() {
            panic!("replay with INRUSH_SEED={seed}");
        }
    }
    // A simulation that no longer gets anywhere would pass as well.
    let accepted = counts.of(Reply::MESSAGE_ACCEPTED);
    assert!(accepted > SEEDS, "{accepted} messages accepted");
    for reply in [
        Reply::TOO_BIG,
        Reply::BARE_NEWLINE,
        Reply::TEXT_LINE_TOO_LONG,
        Reply::HEADER_TOO_BIG,
        Reply::TOO_MANY_HOPS,
        Reply::STORAGE_FULL,
        Reply::LOCAL_ERROR,
        Reply::CHUNK_OK,
        Reply::BDAT_FAILED,
        Reply::TOO_MANY_ERRORS,
        Reply::TOO_MANY_TRANSACTIONS,
        Reply::STORAGE_FAILED,
        Reply::SHUTTING_DOWN,
    ] {
        assert!(counts.of(reply) > 10, "{reply:?}: {}", counts.of(reply));
    }
}

/// What ends a session before its program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incident {
    None,
    LogFails,
    Shutdown,
}

struct Run {
    caller: Caller,
    random: Random,
    durable: u64,
    checked: usize,
}

fn session(seed: u64, counts: &Counts) {
    let program = Program::new(seed);
    let mut world = Fates { seed };
    let context = Context::new(program.settings.clone(), Box::new(counts.clone()));
    let mut run = Run { caller: Caller::new(&context), random: Random(!seed), durable: 0, checked: 0 };
    let incident = match run.random.below(8) {
        0 => Incident::LogFails,
        1 => Incident::Shutdown,
        _ => Incident::None,
    };
    let slice_max = [1, 7, 100, 3_000, usize::MAX][run.random.below(5)];
    // Half of the callers never hold more than the session has asked for.
    let frugal = run.random.once_in(2);
    let mut fed = 0;
    let mut happened = false;
    let closed = loop {
        let step = run.caller.step(&mut world);
        run.progress(step == Step::Output);
        match step {
            Step::Again | Step::Output => {}
            Step::Closed => break true,
            Step::NeedInput if fed == program.input.len() => break false,
            Step::NeedInput => {
                let mut slice = 1 + run.random.below(slice_max.min(program.input.len() - fed));
                if frugal {
                    slice = slice.min(run.caller.hint - run.caller.input.len());
                }
                run.caller.input.extend_from_slice(&program.input[fed..fed + slice]);
                fed += slice;
            }
        }
        if incident != Incident::None && run.random.once_in(40) {
            happened |= run.incident(incident);
        }
    };
    if run.random.once_in(2) {
        happened |= !closed && run.incident(incident);
    }
    run.end(&program, happened, closed);
}

impl Run {
    /// Something becomes durable, something leaves.
    fn progress(&mut self, must: bool) {
        while must || self.random.once_in(3) {
            let ahead = usize::try_from((self.caller.lsn - self.durable) / 64).unwrap();
            self.durable += 64 * self.random.below(ahead + 1) as u64;
            self.caller.session.durable(self.durable);
            let pending = self.caller.session.take_ready(&mut self.caller.output);
            assert!(pending <= 16 * 1024 + 512, "the output is bounded");
            self.check_gates();
            // The caller may stop waiting when something has left.
            if pending > 0 || !must {
                break;
            }
        }
    }

    /// Everything that has left is durable, and what is gated is not.
    fn check_gates(&mut self) {
        let new = &self.caller.output[self.checked..];
        for line in new.split(|&octet| octet == b'\n') {
            if let Some(id) = line.strip_prefix(b"250 2.0.0 OK: queued as ") {
                let id = std::str::from_utf8(id.strip_suffix(b"\r").unwrap()).unwrap();
                let lsn = u64::from_str_radix(id, 16).unwrap();
                assert!(lsn <= self.durable, "a reply left before its message was durable");
            }
        }
        self.checked = self.caller.output.len();
        if let Some(gate) = self.caller.session.next_gate() {
            assert!(gate > self.durable);
        }
    }

    fn incident(&mut self, incident: Incident) -> bool {
        match incident {
            Incident::None => false,
            Incident::Shutdown => {
                let open = self.caller.session.phase() != Phase::Closed;
                self.caller.session.close_with(Reply::SHUTTING_DOWN);
                open
            }
            Incident::LogFails => {
                let gated = self.caller.session.has_gated();
                self.caller.session.fail_gated();
                assert!(!self.caller.session.has_gated());
                gated
            }
        }
    }

    fn end(mut self, program: &Program, happened: bool, closed: bool) {
        if happened {
            // The end of the session has not been asked for yet.
            let mut world = Fates { seed: 0 };
            while self.caller.step(&mut world) != Step::Closed {}
        } else {
            assert_eq!(closed, program.closes);
        }
        self.durable = self.caller.lsn;
        self.caller.session.durable(self.durable);
        self.caller.session.take_ready(&mut self.caller.output);
        self.check_gates();
        assert!(!self.caller.session.has_ready() && !self.caller.session.has_gated());

        let codes = codes(&self.caller.output);
        let expected: Vec<String> = program.replies.iter().map(|reply| code(reply)).collect();
        let got = self.caller.messages.iter();
        let got = got.map(|message| (&message.reverse_path, &message.recipients, &message.body));
        let sent = program.messages.iter();
        let sent = sent.map(|message| (&message.reverse_path, &message.recipients, &message.body));
        if happened {
            let (last, before) = codes.split_last().unwrap();
            let known = codes == expected[..codes.len().min(expected.len())];
            assert!(last.starts_with("421 4.3.") || known, "{codes:?}");
            assert_eq!(before, &expected[..before.len()], "a session that is cut short is so far the same");
            let answered =
                before.iter().zip(&program.replies).filter(|(_, reply)| ***reply == *Reply::MESSAGE_ACCEPTED);
            assert!(answered.count() <= self.caller.messages.len(), "each 250 has its message");
            assert!(sent.take(got.len()).eq(got));
        } else {
            assert_eq!(codes, expected);
            assert!(sent.eq(got), "the log holds what was sent");
        }
    }
}

/// Code and enhanced status.
fn code(reply: &Reply) -> String {
    format!("{} {}", reply.code(), reply.enhanced_status()).trim_end().to_owned()
}

/// Code and enhanced status of each reply.
fn codes(output: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(output).unwrap();
    assert!(text.ends_with("\r\n"));
    let last_lines = text.lines().filter(|line| line.as_bytes()[3] != b'-');
    let code = |line: &str| {
        let mut words = line.split(' ');
        let code = words.next().unwrap().to_owned();
        let status = words.next().filter(|word| word.split('.').count() == 3 && word.len() < 8);
        status.map_or(code.clone(), |status| format!("{code} {status}"))
    };
    last_lines.map(code).collect()
}
