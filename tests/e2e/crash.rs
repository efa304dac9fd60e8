//! kill -9 at a random moment under load: every message that got a 250 is exported byte for byte, once.
//!
//! `INRUSH_CRASH_ROUNDS` sets how often, `INRUSH_SEED` repeats the moments of a run.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use inrush_tests::export;
use inrush_tests::random::Random;
use inrush_tests::sender::{self, Acknowledged, Round};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

const SENDERS: usize = 8;
/// A data directory is used this often, so that recovery also meets what earlier recoveries left.
const ROUNDS_A_DIRECTORY: u64 = 5;

fn rounds() -> u64 {
    std::env::var("INRUSH_CRASH_ROUNDS")
        .map_or(30, |rounds| rounds.parse().expect("INRUSH_CRASH_ROUNDS is a number"))
}

/// What a directory must hold: the number behind each acknowledged id, and how far numbers were given out.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeMap<String, u64>,
    numbers: u64,
}

impl Ledger {
    /// Load until the kill; the server is down afterwards.
    fn load_and_kill(&mut self, server: &mut Server, moment: Duration) {
        let round = Round::from(self.numbers);
        let address = server.mx();
        let acknowledged: Vec<Acknowledged> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| round.send(address))).collect();
            std::thread::sleep(moment);
            round.over.store(true, Ordering::SeqCst);
            server.kill9();
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        self.numbers = round.next();
        for Acknowledged { id, number } in acknowledged {
            let before = self.acknowledged.insert(id.clone(), number);
            assert!(before.is_none(), "the id {id} was given out twice: {before:?} and {number}");
        }
    }

    /// Every acknowledged message under its id; everything else whole, and no message twice.
    fn check(&self, server: &Server) {
        let stored = export::all(&server.data());
        for (id, number) in &self.acknowledged {
            let message = stored
                .get(id)
                .unwrap_or_else(|| panic!("{id} (number {number}) was acknowledged and is lost"));
            export::assert_body(message, &sender::body(*number), id);
        }
        let mut numbers = HashSet::new();
        for (id, message) in &stored {
            let number = sender::number(message).unwrap_or_else(|| panic!("{id}: no number"));
            assert!(number < self.numbers, "{id}: number {number} was never sent");
            assert!(numbers.insert(number), "{id}: number {number} is there twice");
            // Not acknowledged, but stored: then it must be whole.
            export::assert_body(message, &sender::body(number), id);
        }
    }
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
            ledger.load_and_kill(&mut server, Duration::from_millis(5 + random.below(250)));
            server.restart();
            if random.below(4) == 0 {
                // Killed again before anything new came: recovery must be repeatable.
                server.restart();
            }
            ledger.check(&server);
        }
        acknowledged += ledger.acknowledged.len();
    }
    eprintln!("{engine}: {acknowledged} messages acknowledged in {rounds} rounds, none lost");
    assert!(acknowledged as u64 >= rounds, "too little was sent to show anything");
}

#[test]
fn io_uring() {
    crash("io_uring", rounds());
}

#[test]
fn epoll() {
    crash("epoll", rounds().div_ceil(3));
}
