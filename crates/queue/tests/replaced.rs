//! Arrival logs that are not those that the outcome log knows: moved away, put back from an older copy, gone for a while. New mail in them is owed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use inrush_log::sim::{Manner, SimStorage};
use inrush_log::{
    Appender, DamageKind, DataDirectory, EnvelopeRef, LogKind, LogSettings, Lsn, MessageId, OpenMode,
    Recipient, RecoveryReport, Span, Storage, StorageFile,
};
use inrush_queue::{
    Ledger, OutcomeRef, Place, QueueSettings, Recorder, ResultRef, Status, fold, positions_seen,
};

const NODE: u16 = 3;
const AT_US: u64 = 1_700_000_000_000_000;

struct Life {
    data: DataDirectory<SimStorage>,
    arrivals: Vec<Appender<SimStorage>>,
    reports: Vec<RecoveryReport>,
    ledger: Ledger,
    replaced: Vec<(u8, u64)>,
    recorder: Recorder<SimStorage>,
}

impl Life {
    fn begin(storage: &SimStorage, logs: u8) -> Self {
        let log = LogSettings {
            segment_bytes: 1 << 20,
            free_bytes_min: 0,
            free_inodes_min: 0,
            ..LogSettings::default()
        };
        let mut data = DataDirectory::on_without_helper(storage.clone(), &log, NODE).unwrap();
        for (log, seen) in positions_seen(storage).unwrap() {
            data.begin_behind(LogKind::Arrival, log, seen);
        }
        let opened = (0..logs).map(|log| data.open_log(log, || {}).unwrap()).collect::<Vec<_>>();
        let (arrivals, reports) = opened.into_iter().unzip();
        let (outcome, _) = data.open_log_kind(LogKind::Outcome, 0, || {}).unwrap();
        data.adopt_logs().unwrap();
        data.prepare_segments();
        let folded = fold(storage, &QueueSettings::default(), false).unwrap();
        assert_eq!(folded.damaged, [""; 0]);
        let recorder = Recorder::new(outcome, &folded.ledger);
        Self { data, arrivals, reports, ledger: folded.ledger, replaced: folded.replaced, recorder }
    }

    /// A message with two recipients.
    fn append(&mut self, log: u8) -> (MessageId, Lsn) {
        let recipients = [Recipient { path: Span::new(0, 3), ..Recipient::default() }; 2];
        let envelope = EnvelopeRef { text: b"a@b", recipients: &recipients, ..EnvelopeRef::default() };
        let log = &mut self.arrivals[usize::from(log)];
        let appended = log.append_message(&envelope, std::iter::once(&b"hello"[..]), 5, AT_US).unwrap();
        while let Some(write) = log.next_write() {
            let result = write.run();
            log.write_done(write, result).unwrap();
        }
        (appended.id, appended.gate)
    }

    /// Takes a new message, which is owed to both, and records this for them; `None`: nothing.
    fn take(&mut self, log: u8, status: Option<Status>) -> MessageId {
        let (id, end) = self.append(log);
        assert_eq!(self.ledger.take(log, id.lsn, end, 2).len(), 2, "new mail is owed");
        let result = |status| {
            move |recipient| ResultRef {
                recipient,
                status,
                flags: 0,
                attempts: 1,
                next_attempt_us: AT_US,
                code: 250,
                enhanced: [2, 0, 0],
                address: b"",
                reply: b"",
            }
        };
        let results: Vec<_> = status.into_iter().flat_map(|status| (0..2).map(result(status))).collect();
        if !results.is_empty() {
            self.recorder.record(
                &mut self.ledger,
                &OutcomeRef {
                    recipients_total: 2,
                    destination: b"out",
                    results: &results,
                    ..OutcomeRef::without_attempt(id, Place::arrival(id), AT_US)
                },
            );
        }
        id
    }

    fn end(mut self) {
        for _ in 0..3 {
            self.recorder.tick(&self.ledger, AT_US, None);
            while let Some(write) = self.recorder.next_write() {
                let result = write.run();
                self.recorder.write_done(write, result).unwrap();
            }
            self.data.prepare_segments();
        }
        assert!(self.recorder.is_durable());
    }
}

fn files(storage: &SimStorage, dir: &str) -> Vec<(String, Vec<u8>)> {
    let names = storage.list(dir).unwrap().into_iter().map(|name| format!("{dir}/{name}"));
    names.filter_map(|name| Some((name.clone(), storage.content(&name)?))).collect()
}

/// Moves a log away.
fn remove(storage: &SimStorage, dir: &str) {
    files(storage, dir).iter().for_each(|(name, _)| storage.unlink(name).unwrap());
    storage.rename(dir, "moved-away").unwrap();
}

fn put_back(storage: &SimStorage, dir: &str, files: &[(String, Vec<u8>)]) {
    storage.create_dir(dir).unwrap();
    for (name, octets) in files {
        let file = storage.open(name, OpenMode::Create).unwrap();
        storage.allocate(&file, octets.len() as u64).unwrap();
        file.write_at(octets, 0).unwrap();
        file.sync().unwrap();
    }
}

#[test]
fn a_log_in_the_place_of_another_one_begins_behind_it() {
    let storage = SimStorage::new(1);
    let mut life = Life::begin(&storage, 1);
    let before = [Some(Status::Sent), Some(Status::Deferred), None].map(|status| life.take(0, status));
    life.end();
    let storage = storage.kill();
    remove(&storage, "arrival-00");
    for life_of_new in 0..3 {
        let storage = storage.kill();
        let mut life = Life::begin(&storage, 1);
        assert_eq!(life.reports[0].damage, []);
        // What was owed from the old log is told of once.
        let replaced: &[_] = if life_of_new == 0 { &[(0, 2)] } else { &[] };
        assert_eq!(life.replaced, replaced);
        assert_eq!((life.ledger.open_count(), life.ledger.counts().deferred), (0, 0));
        let id = life.take(0, Some(Status::Sent));
        assert!(before.iter().all(|before| before.lsn < id.lsn), "no id twice");
        life.end();
    }
}

#[test]
fn an_older_copy_of_a_log_goes_on_behind_what_was_seen() {
    let storage = SimStorage::new(2);
    // The copy need not be aligned.
    storage.set_manner(Manner { direct: false, ..Manner::default() });
    let mut life = Life::begin(&storage, 1);
    life.take(0, Some(Status::Sent));
    life.end();
    let storage = storage.kill();
    let copy = files(&storage, "arrival-00");
    // A segment more, all of it delivered.
    let mut newest = None;
    for _ in 0..3 {
        let storage = storage.kill();
        let mut life = Life::begin(&storage, 1);
        newest = Some(life.take(0, Some(Status::Sent)));
        life.end();
    }
    let storage = storage.kill();
    remove(&storage, "arrival-00");
    put_back(&storage, "arrival-00", &copy);
    let mut life = Life::begin(&storage, 1);
    assert!(
        matches!(life.reports[0].damage[..], [ref one] if matches!(one.kind, DamageKind::BehindCursor { .. }))
    );
    assert_eq!(life.replaced, []);
    let id = life.take(0, Some(Status::Sent));
    assert!(id > newest.unwrap(), "no id twice");
}

#[test]
fn a_log_that_was_gone_for_a_while_gives_no_id_twice() {
    let storage = SimStorage::new(3);
    let mut life = Life::begin(&storage, 2);
    let before = life.take(1, Some(Status::Sent));
    life.take(1, Some(Status::Deferred));
    life.end();
    let storage = storage.kill();
    remove(&storage, "arrival-01");
    // Lives without it, which make checkpoints.
    for _ in 0..2 {
        let storage = storage.kill();
        let mut life = Life::begin(&storage, 1);
        life.recorder.set_checkpoint_after(0);
        life.take(0, Some(Status::Sent));
        life.end();
    }
    let storage = storage.kill();
    let mut life = Life::begin(&storage, 2);
    let after = life.take(1, None);
    assert!(after > before);
    life.end();
    let storage = storage.kill();
    let life = Life::begin(&storage, 2);
    assert_eq!(life.ledger.unfinished(1), [after.lsn]);
}
