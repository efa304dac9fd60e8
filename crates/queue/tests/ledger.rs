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

#[test]
fn the_oldest_entry_is_known_to_the_minute() {
    let mut ledger = ledger();
    assert_eq!(ledger.oldest(false), None);
    defer(&mut ledger, 4096, 2, ACCEPTED + 300);
    assert_eq!(ledger.oldest(false), Some(ACCEPTED / 60 * 60));
    assert_eq!(ledger.oldest(true), None);
    // Accepted later, and then older than all others that are left.
    let id = MessageId { node: 1, log: 0, lsn: Lsn::new(8192) };
    let settle = |ledger: &mut Ledger, id, accepted_at: u64, status, recipients: u32| {
        let result = |recipient| ResultRef {
            recipient,
            status,
            flags: 0,
            attempts: 1,
            next_attempt_us: (ACCEPTED + 900) * SECOND,
            code: 0,
            enhanced: [4, 0, 0],
            address: b"",
            reply: b"",
        };
        let results: Vec<_> = (0..recipients).map(result).collect();
        ledger.apply(&OutcomeRef {
            accepted_at_us: accepted_at * SECOND,
            recipients_total: recipients,
            destination: b"out",
            results: &results,
            ..OutcomeRef::without_attempt(id, Place::arrival(id), (ACCEPTED + 900) * SECOND)
        });
    };
    settle(&mut ledger, id, ACCEPTED + 600, Status::Held, 1);
    assert_eq!(ledger.oldest(true), Some((ACCEPTED + 600) / 60 * 60));
    settle(&mut ledger, id, ACCEPTED + 600, Status::Deferred, 1);
    assert_eq!(ledger.oldest(true), None);
    let first = MessageId { node: 1, log: 0, lsn: Lsn::new(4096) };
    settle(&mut ledger, first, ACCEPTED, Status::Sent, 2);
    assert_eq!(ledger.oldest(false), Some((ACCEPTED + 600) / 60 * 60));
    settle(&mut ledger, id, ACCEPTED + 600, Status::Sent, 1);
    assert_eq!(ledger.oldest(false), None);
}

/// An entry that waits for a place at a host that is down: its attempt was due when its sender was to be told of the delay.
#[test]
fn a_delay_is_not_forgotten_for_an_attempt_that_is_due_at_the_same_time() {
    let mut ledger = ledger();
    let warning = ACCEPTED + 4 * 3600;
    defer(&mut ledger, 4096, 1, warning - 60);
    let now = warning + 60;
    let slot = attempt(&mut ledger, now);
    assert!(due(&mut ledger, now).is_empty(), "the attempt may tell the sender by itself");
    assert_eq!(due(&mut ledger, now + 60), [Due::Age(slot)]);
    let entry = ledger.entry(slot).unwrap();
    assert!(ledger.is_late(entry.accepted_at(), entry.flags, now + 60));
}

#[test]
fn a_clock_that_was_ahead_leaves_no_attempt_in_its_time() {
    let mut ledger = ledger();
    let year = 365 * 24 * 3600;
    defer(&mut ledger, 4096, 1, ACCEPTED + year);
    // Held mail and what is being tried have no time.
    defer(&mut ledger, 8192, 1, ACCEPTED + 300);
    let busy = attempt(&mut ledger, ACCEPTED + 300);
    assert!(ledger.claim(busy));
    let latest = QueueSettings::default().retry_max.as_secs() * 5 / 4 + 1;
    assert!(due(&mut ledger, ACCEPTED + 300 + latest - 1).iter().all(|due| matches!(due, Due::Age(_))));
    attempt(&mut ledger, ACCEPTED + 300 + latest);
    // In a later life as well as in one whose clock goes ahead and back.
    let ahead = ACCEPTED + 10 * year;
    assert!(due(&mut ledger, ahead).iter().all(|due| matches!(due, Due::Age(_))));
    defer(&mut ledger, 8192, 1, ahead + 600);
    let now = ACCEPTED + 7200;
    assert!(!due(&mut ledger, now).iter().any(|due| matches!(due, Due::Attempt(_))));
    let attempts = due(&mut ledger, now + latest);
    assert!(attempts.iter().any(|due| matches!(due, Due::Attempt(_))), "{attempts:?}");
}

#[test]
fn nothing_expires_by_a_clock_that_is_not_trusted() {
    let mut ledger = ledger();
    let year = 365 * 24 * 3600;
    assert!(ledger.is_expired(ACCEPTED, ACCEPTED + year) && ledger.is_late(ACCEPTED, 0, ACCEPTED + year));
    ledger.set_clock_lead(year - 60);
    assert!(!ledger.is_expired(ACCEPTED, ACCEPTED + year) && !ledger.is_late(ACCEPTED, 0, ACCEPTED + year));
    assert!(ledger.is_expired(ACCEPTED, ACCEPTED + year + 5 * 24 * 3600));
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
