//! kill -9 at a random moment under load: every message that got a 250 is exported byte for byte, once.
//!
//! `INRUSH_CRASH_ROUNDS` sets how often, `INRUSH_SEED` repeats the moments of a run.

use std::time::Duration;

use inrush_tests::ledger::Ledger;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// A data directory is used this often, so that recovery also meets what earlier recoveries left.
const ROUNDS_A_DIRECTORY: u64 = 5;

fn rounds() -> u64 {
    std::env::var("INRUSH_CRASH_ROUNDS")
        .map_or(30, |rounds| rounds.parse().expect("INRUSH_CRASH_ROUNDS is a number"))
}

fn crash(engine: &str, rounds: u64) {
    let mut random = Random::from_environment();
    let mut acknowledged = 0;
    let mut rounds_left = rounds;
    while rounds_left > 0 {
        let settings = Settings::default()
            .engine(engine)
            .log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]);
        let mut server = Server::with(settings);
        let mut ledger = Ledger::default();
        for _ in 0..rounds_left.min(ROUNDS_A_DIRECTORY) {
            rounds_left -= 1;
            let moment = Duration::from_millis(5 + random.below(250));
            // Every other round may end before anything has come through: the first records are there to be torn too.
            if rounds_left.is_multiple_of(2) {
                ledger.load_and_kill(&mut server, moment);
            } else {
                ledger.load_and_kill_early(&mut server, moment);
            }
            server.restart();
            if random.below(4) == 0 {
                // Killed again before anything new came: recovery must be repeatable.
                server.restart();
            }
            ledger.check(&server);
        }
        acknowledged += ledger.acknowledged();
    }
    eprintln!("{engine}: {acknowledged} messages acknowledged in {rounds} rounds, none lost");
    assert!(acknowledged as u64 >= rounds / 2, "too little was sent to show anything");
}

#[test]
fn io_uring() {
    crash("io_uring", rounds());
}

#[test]
fn epoll() {
    crash("epoll", rounds().div_ceil(3));
}
