//! Records of the outcome log, whatever has to go into them: they find room, and a start reads from them what was known.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use inrush_log::sim::SimStorage;
use inrush_log::{Appender, DataDirectory, EnvelopeRef, LogKind, LogSettings, Lsn, MessageId};
use inrush_queue::{
    Folded, Ledger, OutcomeRef, Place, QueueSettings, RecipientSet, Recorder, ResultRef, Status, fold,
};

const NODE: u16 = 3;
const AT_US: u64 = 1_700_000_000_000_000;

/// Where the arrival log begins. A segment stands there; the places of messages in it are made up.
const BEGIN: u64 = (1 << 20) + 4096;

/// A data directory with one arrival log, and the outcome log in use.
struct Life {
    storage: SimStorage,
    data: DataDirectory<SimStorage>,
    _arrival: Appender<SimStorage>,
    ledger: Ledger,
    recorder: Recorder<SimStorage>,
}

impl Life {
    fn begin(storage: SimStorage) -> Self {
        let log = LogSettings {
            segment_bytes: 1 << 20,
            free_bytes_min: 0,
            free_inodes_min: 0,
            ..LogSettings::default()
        };
        let mut data = DataDirectory::on_without_helper(storage.clone(), &log, NODE).unwrap();
        let (mut arrival, _) = data.open_log(0, || {}).unwrap();
        let (outcome, _) = data.open_log_kind(LogKind::Outcome, 0, || {}).unwrap();
        data.prepare_segments();
        let envelope = EnvelopeRef::default();
        arrival.append_message(&envelope, std::iter::empty(), 0, AT_US).unwrap();
        while let Some(write) = arrival.next_write() {
            let result = write.run();
            arrival.write_done(write, result).unwrap();
        }
        let Folded { ledger, damaged, .. } = read(&storage);
        assert_eq!(damaged, [""; 0]);
        let recorder = Recorder::new(outcome, &ledger);
        Self { storage, data, _arrival: arrival, ledger, recorder }
    }

    /// Has everything written that waits.
    fn write(&mut self) {
        for _ in 0..1000 {
            while let Some(write) = self.recorder.next_write() {
                let result = write.run();
                self.recorder.write_done(write, result).unwrap();
            }
            self.data.prepare_segments();
            if self.recorder.is_durable() {
                return;
            }
        }
        panic!("the outcome log takes nothing more");
    }

    /// The end of the process, and the next one.
    fn restart(self) -> Self {
        let storage = self.storage.clone();
        drop(self);
        Self::begin(storage.kill())
    }

    fn settle(&mut self, lsn: u64, recipients: &[u32], total: u32, destination: &[u8]) {
        let replies: Vec<_> = recipients.iter().map(|one| format!("host said no to {one}")).collect();
        let addresses: Vec<_> =
            recipients.iter().map(|one| format!("recipient.number.{one}@example.org")).collect();
        let results: Vec<_> = recipients
            .iter()
            .zip(replies.iter().zip(&addresses))
            .map(|(recipient, (reply, address))| ResultRef {
                recipient: *recipient,
                status: Status::Deferred,
                flags: 0,
                attempts: 1,
                next_attempt_us: AT_US + 600_000_000,
                code: 451,
                enhanced: [4, 0, 0],
                address: address.as_bytes(),
                reply: reply.as_bytes(),
            })
            .collect();
        let id = id(lsn);
        let outcome = OutcomeRef {
            accepted_at_us: AT_US,
            octets: 100,
            recipients_total: total,
            destination,
            results: &results,
            ..OutcomeRef::without_attempt(id, Place::arrival(id), AT_US)
        };
        self.recorder.record(&mut self.ledger, &outcome);
    }

    /// Who is owed what by entries.
    fn entries(&self) -> BTreeSet<(u64, u32, Vec<u8>)> {
        let entries = self.ledger.entries().map(|(_, entry)| entry);
        let owed = entries.flat_map(|entry| {
            let name = self.ledger.destination(entry.destination).to_vec();
            entry.recipients.iter().map(move |one| (entry.message_id, one, name.clone())).collect::<Vec<_>>()
        });
        owed.collect()
    }
}

fn id(lsn: u64) -> MessageId {
    MessageId { node: NODE, log: 0, lsn: Lsn::new(lsn) }
}

fn read(storage: &SimStorage) -> Folded {
    fold(storage, &QueueSettings::default(), false).unwrap()
}

#[test]
fn an_outcome_for_many_recipients_goes_into_several_records() {
    let mut life = Life::begin(SimStorage::new(1));
    let total = 5000;
    assert_eq!(life.ledger.take(0, Lsn::new(BEGIN), Lsn::new(BEGIN + 64), total), RecipientSet::all(total));
    let everybody: Vec<u32> = (0..total).collect();
    life.settle(BEGIN, &everybody, total, b"out:example.org");
    life.write();
    assert!(!life.recorder.is_stuck());
    let before = life.entries();
    assert_eq!((before.len(), life.ledger.open_count()), (5000, 0));
    life.recorder.tick(&life.ledger, AT_US, None);
    life.write();
    let life = life.restart();
    assert_eq!((life.entries() == before, life.ledger.open_count()), (true, 0));
}

#[test]
fn a_checkpoint_of_entries_with_many_recipients_and_long_names_is_made() {
    let mut life = Life::begin(SimStorage::new(2));
    life.recorder.set_checkpoint_after(0);
    let names = [b'a', b'b', b'c'].map(|octet| vec![octet; 10_000]);
    for number in 0..1500_u64 {
        let lsn = BEGIN + number * 64;
        life.ledger.take(0, Lsn::new(lsn), Lsn::new(lsn + 64), 70);
        let everybody: Vec<u32> = (0..70).collect();
        life.settle(lsn, &everybody, 70, &names[usize::try_from(number % 3).unwrap()]);
        life.write();
    }
    let before = life.entries();
    let mut checkpoint = None;
    for _ in 0..50 {
        life.recorder.tick(&life.ledger, AT_US, None);
        life.write();
        checkpoint = checkpoint.or(life.recorder.positions().and_then(|positions| positions.checkpoint));
    }
    assert!(checkpoint.is_some(), "it comes to its end");
    let life = life.restart();
    assert!(life.entries() == before);
    assert!(life.ledger.generation() > 0, "it was read");
}

#[test]
fn any_number_of_messages_under_way_is_noted() {
    let mut life = Life::begin(SimStorage::new(3));
    // Many messages with one recipient, and some with many of whom one is still being tried.
    for number in 0..40_000_u64 {
        let lsn = BEGIN + number * 64;
        life.ledger.take(0, Lsn::new(lsn), Lsn::new(lsn + 64), 1);
    }
    for number in 40_000..40_500_u64 {
        let lsn = BEGIN + number * 64;
        life.ledger.take(0, Lsn::new(lsn), Lsn::new(lsn + 64), 100);
        let all_but_one: Vec<u32> = (1..100).collect();
        life.settle(lsn, &all_but_one, 100, b"out");
        life.write();
    }
    life.recorder.tick(&life.ledger, AT_US, None);
    life.write();
    let told = life.ledger.told();
    assert_eq!(life.ledger.open_count(), 40_500);
    assert_eq!(life.recorder.positions().unwrap().arrival, [(0, Lsn::new(BEGIN))]);
    // A checkpoint says the same.
    for checkpoints in [false, true] {
        if checkpoints {
            life.recorder.set_checkpoint_after(0);
            for _ in 0..10 {
                life.recorder.tick(&life.ledger, AT_US, None);
                life.write();
            }
        }
        life = life.restart();
        assert!(life.ledger.told() == told);
        assert_eq!(life.ledger.generation() > 0, checkpoints);
    }
    let first = life.ledger.take(0, Lsn::new(BEGIN), Lsn::ZERO, 1);
    let last = life.ledger.take(0, Lsn::new(BEGIN + 40_499 * 64), Lsn::ZERO, 100);
    assert_eq!((first, last), (RecipientSet::all(1), RecipientSet::all(1)));
}
