//! The destinations for which the most waits, and what they have said last.

use std::collections::HashMap;

use inrush_queue::{DestinationId, EntryState, Status, result_flag};
use serde_json::{Value, json};

use crate::settle::{Settled, shown};
use crate::shared::Shared;
use crate::view::{split, text, time};

/// Destinations whose last reply is kept.
const REPLIES_MAX: usize = 4_096;
/// Octets of a reply that are kept.
const REPLY_OCTETS_MAX: usize = 512;

/// The last reply of each destination that was not a delivery.
#[derive(Default)]
pub(crate) struct Replies {
    by_destination: HashMap<Box<[u8]>, (u64, Vec<u8>)>,
}

impl Replies {
    /// Takes note of what an attempt has come to, at a time in µs since 1970.
    pub(crate) fn note(&mut self, destination: &[u8], settled: &Settled, now_us: u64) {
        // What was put off without an attempt has words of ours alone.
        let parked = settled.flags & result_flag::PARKED != 0;
        if parked || !matches!(settled.status, Status::Deferred | Status::Bounced | Status::Expired) {
            return;
        }
        let verdict = &settled.verdict;
        let mut reply =
            if verdict.code == 0 { Vec::new() } else { format!("{} ", verdict.code).into_bytes() };
        reply.extend_from_slice(&verdict.text);
        reply.truncate(REPLY_OCTETS_MAX);
        if let Some(known) = self.by_destination.get_mut(destination) {
            *known = (now_us, reply);
            return;
        }
        if self.by_destination.len() >= REPLIES_MAX {
            // The older half goes.
            let mut times: Vec<u64> = self.by_destination.values().map(|(at_us, _)| *at_us).collect();
            let (_, middle, _) = times.select_nth_unstable(REPLIES_MAX / 2);
            let middle = *middle;
            self.by_destination.retain(|_, (at_us, _)| *at_us > middle);
        }
        self.by_destination.insert(destination.into(), (now_us, reply));
    }

    fn of(&self, destination: &[u8]) -> Option<&(u64, Vec<u8>)> {
        self.by_destination.get(destination)
    }
}

/// What waits for a destination.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    destination: Vec<u8>,
    /// Groups of recipients, in memory as well.
    waiting: u64,
    held: u64,
    /// When the oldest of them was accepted, in seconds since 1970.
    oldest_at: u64,
    down: bool,
    connections: u32,
    last_reply: Option<(u64, Vec<u8>)>,
}

impl Backlog {
    pub(crate) fn to_json(&self) -> Value {
        let (route, domain) = split(&self.destination);
        json!({
            "destination": text(&self.destination),
            "route": route,
            "domain": domain,
            "waiting": self.waiting,
            "held": self.held,
            "oldest_at": (self.oldest_at > 0).then_some(self.oldest_at),
            "down": self.down,
            "connections": self.connections,
            "last_reply": self.last_reply.as_ref().map(|(_, reply)| shown(reply)),
            // Why it is down now has no time.
            "last_reply_at": self.last_reply.as_ref().filter(|(at_us, _)| *at_us > 0).map(|(at_us, _)| time(*at_us)),
        })
    }

    fn add(&mut self, accepted_at: u64, held: bool) {
        if held {
            self.held += 1;
        } else {
            self.waiting += 1;
        }
        if self.oldest_at == 0 || accepted_at < self.oldest_at {
            self.oldest_at = accepted_at;
        }
    }
}

impl Shared {
    /// The worst first: one look through everything that waits.
    pub(crate) fn backlogs(&self, max: usize) -> Vec<Backlog> {
        let ledger = self.ledger.borrow();
        let mut waiting: HashMap<DestinationId, Backlog> = HashMap::new();
        for (_, entry) in ledger.entries() {
            waiting
                .entry(entry.destination)
                .or_default()
                .add(entry.accepted_at(), entry.state == EntryState::Held);
        }
        let mut backlogs: HashMap<Vec<u8>, Backlog> = HashMap::new();
        for (id, backlog) in waiting {
            let name = ledger.destination(id).to_vec();
            backlogs.insert(name.clone(), Backlog { destination: name, ..backlog });
        }
        for destination in self.destinations.borrow().values() {
            let queued = destination.queued() as u64;
            let known = backlogs.get_mut(&destination.name);
            if known.is_none() && queued == 0 && !destination.is_down() {
                continue;
            }
            let backlog = backlogs.entry(destination.name.clone()).or_default();
            backlog.destination.clone_from(&destination.name);
            backlog.waiting += queued;
            backlog.down = destination.is_down();
            backlog.connections = destination.established.get();
            let trouble = destination.trouble.borrow();
            backlog.last_reply = trouble.as_ref().map(|verdict| (0, verdict.text.clone()));
        }
        let mut backlogs: Vec<_> = backlogs.into_values().collect();
        backlogs.sort_by(|a, b| {
            let weight = |backlog: &Backlog| (backlog.waiting + backlog.held, backlog.down);
            weight(b).cmp(&weight(a)).then_with(|| a.destination.cmp(&b.destination))
        });
        backlogs.truncate(max);
        let replies = self.replies.borrow();
        for backlog in &mut backlogs {
            if backlog.last_reply.is_none() {
                backlog.last_reply = replies.of(&backlog.destination).cloned();
            }
        }
        backlogs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Verdict;

    fn settled(status: Status, words: &str) -> Settled {
        Settled {
            recipient: 0,
            verdict: Verdict { code: 451, ..Verdict::later((4, 3, 0), words) },
            status,
            next_attempt_us: 0,
            flags: 0,
            attempts: 1,
        }
    }

    #[test]
    fn the_last_reply_stays_and_the_oldest_go() {
        let mut replies = Replies::default();
        replies.note(b"out:a.example", &settled(Status::Deferred, "later"), 1);
        replies.note(b"out:a.example", &settled(Status::Sent, "ok"), 2);
        replies.note(b"out:a.example", &settled(Status::Deferred, "still later"), 3);
        assert_eq!(replies.of(b"out:a.example"), Some(&(3, b"451 still later".to_vec())));
        for number in 0..2 * REPLIES_MAX as u64 {
            replies.note(format!("out:{number}").as_bytes(), &settled(Status::Bounced, "no"), 10 + number);
        }
        assert!(replies.by_destination.len() <= REPLIES_MAX && replies.of(b"out:a.example").is_none());
        let last = format!("out:{}", 2 * REPLIES_MAX - 1);
        assert!(replies.of(last.as_bytes()).is_some());
        replies.note(last.as_bytes(), &settled(Status::Deferred, &"x".repeat(5_000)), 99_999);
        assert_eq!(replies.of(last.as_bytes()).map(|(_, reply)| reply.len()), Some(REPLY_OCTETS_MAX));
    }
}
