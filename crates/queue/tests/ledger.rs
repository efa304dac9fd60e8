//! The ledger by itself: what is due, and what becomes of entries.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use inrush_log::{Lsn, MessageId};
use inrush_queue::{
    ArrivalLog, Due, EntryState, Ledger, OutcomeRef, Place, QueueSettings, ResultRef, Slot, Status,
};

const SECOND: u64 = 1_000_000;
/// When everything here was accepted.
const ACCEPTED: u64 = 1_700_000_000;

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(&QueueSettings::default());
    ledger.add_lane(ArrivalLog { log: 0, uuid: [1; 16], segment_bytes: 1 << 20, begin: Lsn::ZERO });
    ledger
}

/// Recipients of the message at `lsn` that were put off until `next`.
fn defer(ledger: &mut Ledger, lsn: u64, recipients: u32, next: u64) {
    let id = MessageId { node: 1, log: 0, lsn: Lsn::new(lsn) };
    let result = |recipient| ResultRef {
        recipient,
        status: Status::Deferred,
        flags: 0,
        attempts: 1,
        next_attempt_us: next * SECOND,
        code: 0,
        enhanced: [4, 0, 0],
        address: b"",
        reply: b"",
    };
    let results: Vec<_> = (0..recipients).map(result).collect();
    ledger.apply(&OutcomeRef {
        accepted_at_us: ACCEPTED * SECOND,
        recipients_total: recipients,
        destination: b"out",
        results: &results,
        ..OutcomeRef::without_attempt(id, Place::arrival(id), next * SECOND)
    });
}

fn due(ledger: &mut Ledger, now: u64) -> Vec<Due> {
    let mut due = Vec::new();
    ledger.due(now, 100, |one| due.push(one));
    due
}

/// The one that is due to be tried.
fn attempt(ledger: &mut Ledger, now: u64) -> Slot {
    match due(ledger, now)[..] {
        [Due::Attempt(slot)] => slot,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_of_many_recipients_is_tried_in_parts() {
    let mut ledger = ledger();
    defer(&mut ledger, 4096, 250, ACCEPTED + 300);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let slot = attempt(&mut ledger, ACCEPTED + 300);
        ledger.split(slot, 100);
        assert!(ledger.claim(slot));
        let entry = ledger.entry(slot).unwrap();
        assert_eq!((entry.state, ledger.destination(entry.destination)), (EntryState::Busy, &b"out"[..]));
        parts.extend(entry.recipients.iter());
    }
    assert!(due(&mut ledger, ACCEPTED + 301).is_empty());
    assert_eq!(parts, (0..250).collect::<Vec<_>>());
    assert_eq!(ledger.counts().deferred, 3);
    // Each ends by itself.
    defer(&mut ledger, 4096, 250, ACCEPTED + 600);
    assert_eq!(ledger.counts().deferred, 1);
}

/// Some recipients of an entry are an operator's; the others wait on as before.
#[test]
fn an_operator_takes_some_of_an_entry() {
    let mut ledger = ledger();
    defer(&mut ledger, 4096, 3, ACCEPTED + 300);
    let (slot, _) = ledger.entries().next().unwrap();
    assert!(ledger.seize(slot, &[1].into_iter().collect()));
    let states = |ledger: &Ledger| {
        let mut states: Vec<_> = ledger
            .entries()
            .map(|(_, entry)| (entry.recipients.iter().collect::<Vec<_>>(), entry.state))
            .collect();
        states.sort_by(|one, other| one.0.cmp(&other.0));
        states
    };
    assert_eq!(states(&ledger), [(vec![0, 2], EntryState::Scheduled), (vec![1], EntryState::Busy)]);
    let seized = ledger.entries().find(|(_, entry)| entry.state == EntryState::Busy).unwrap().0;
    assert!(!ledger.seize(seized, &[1].into_iter().collect()), "busy already");
    // Whatever the time, only what waits is due.
    let slot = attempt(&mut ledger, ACCEPTED + 301);
    assert_eq!(ledger.entry(slot).unwrap().recipients.iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(ledger.counts().deferred, 2);
}
