//! What a data directory must hold after a gateway was made to fail: every acknowledged message, whole, once.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::export;
use crate::process;
use crate::sender::{self, Acknowledged, Round};
use crate::server::Server;

/// Connections that send at a time.
const SENDERS: usize = 8;

/// The number behind each acknowledged id, and how far numbers were given out.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<String, u64>,
    numbers: u64,
}

impl Ledger {
    /// How many messages were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Load on the server while `meanwhile` runs, which makes an end to the server.
    ///
    /// # Panics
    /// The server refuses a message before that, or gives an id out twice.
    #[track_caller]
    pub fn load(&mut self, server: &mut Server, meanwhile: impl FnOnce(&mut Server, &Round)) {
        let round = Round::from(self.numbers);
        let address = server.mx();
        let acknowledged: Vec<Acknowledged> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| round.send(address))).collect();
            meanwhile(server, &round);
            let joined = senders.into_iter().map(|sender| sender.join());
            joined.flat_map(|sent| sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        self.numbers = round.next();
        for Acknowledged { id, number } in acknowledged {
            let before = self.acknowledged.insert(id.clone(), number);
            assert!(before.is_none(), "the id {id} was given out twice: {before:?} and {number}");
        }
    }

    /// Load until a kill, that long after the first acknowledgement.
    ///
    /// # Panics
    /// As [`load`](Self::load), or nothing is acknowledged.
    #[track_caller]
    pub fn load_and_kill(&mut self, server: &mut Server, later: Duration) {
        // Each sender has one message under way: one more than there are senders means that one has been answered.
        let answered = self.numbers + SENDERS as u64;
        self.load(server, |server, round| {
            let _guard = round.guard();
            process::eventually("a message is acknowledged", || round.next() > answered);
            kill(server, round, later);
        });
    }

    /// Load until a kill, that long after the senders began, whether anything has come through by then or not.
    ///
    /// # Panics
    /// As [`load`](Self::load).
    #[track_caller]
    pub fn load_and_kill_early(&mut self, server: &mut Server, moment: Duration) {
        self.load(server, |server, round| kill(server, round, moment));
    }

    /// Every acknowledged message under its id; everything else whole, and no message twice.
    ///
    /// # Panics
    /// It is not so.
    #[track_caller]
    pub fn check(&self, server: &Server) {
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

fn kill(server: &mut Server, round: &Round, after: Duration) {
    std::thread::sleep(after);
    round.over.store(true, Ordering::SeqCst);
    server.kill9();
}
