//! The queue on a simulated disk: whatever ends the process, every message that was acknowledged is delivered to each of its recipients, at
//! least once, and at most once more than the attempts whose outcome the end has cut off.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "the seed of a failure")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use inrush_log::sim::{Fault, Random, SimStorage};
use inrush_log::{
    Appender, DataDirectory, Entry, EnvelopeRef, LogKind, LogSettings, Lsn, MessageId, Reader, Recipient,
    RecordKind, Span,
};
use inrush_queue::{
    Due, EntryState, Keeper, Ledger, OutcomeRef, Place, QueueSettings, RecipientSet, Recorder, ResultRef,
    Slot, Status, fold, outcome_flag, result_flag,
};

const NODE: u16 = 3;
const SECOND: u64 = 1_000_000;
/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;

fn log_settings() -> LogSettings {
    LogSettings {
        segment_bytes: 1 << 20,
        spares: 1,
        free_bytes_min: 0,
        free_inodes_min: 0,
        batch_buffers: 2,
        fresh_buffers: 0,
        ..LogSettings::default()
    }
}

/// A message as the world knows it.
#[derive(Default)]
struct Known {
    total: u32,
    delivered: BTreeMap<u32, u32>,
    /// Attempts whose outcome a crash has cut off.
    cut: BTreeMap<u32, u32>,
}

/// Recipients that are being tried.
struct Job {
    id: MessageId,
    place: Place,
    recipients: Vec<u32>,
    total: u32,
    attempts: u32,
}

struct World {
    random: Random,
    storage: SimStorage,
    messages: BTreeMap<MessageId, Known>,
    now_us: u64,
    body: Vec<u8>,
}

struct Life {
    data: DataDirectory<SimStorage>,
    arrival: Appender<SimStorage>,
    ledger: Ledger,
    recorder: Recorder<SimStorage>,
    keeper: Keeper<SimStorage>,
    reader: Reader<SimStorage>,
    retry: Appender<SimStorage>,
    copies: Reader<SimStorage>,
    unfinished: Vec<Lsn>,
    jobs: Vec<Job>,
    ready: Vec<Slot>,
    /// Acknowledged as soon as it is durable.
    appended: Vec<(MessageId, Lsn, u32)>,
    /// Delivered, and the outcome is not known to be durable.
    unproven: Vec<(MessageId, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            storage: SimStorage::new(seed),
            messages: BTreeMap::new(),
            now_us: 1_700_000_000 * SECOND,
            body: vec![b'x'; 120_000],
        }
    }

    fn run(mut self) {
        let lives = 1 + self.random.below(4);
        for _ in 0..lives {
            if self.random.below(2) == 0 {
                let step = self.random.below(150);
                self.storage.fault_at(step, Fault::Crash);
            }
            if let Some(mut life) = self.open() {
                let steps = self.random.below(120);
                for _ in 0..steps {
                    if self.storage.is_dead() || self.step(&mut life).is_none() {
                        break;
                    }
                }
                self.end(life);
            } else {
                self.restart();
            }
        }
        let mut life = self.open().expect("an honest disk without faults opens");
        self.drain(&mut life);
        for (id, known) in &self.messages {
            for recipient in 0..known.total {
                let delivered = known.delivered.get(&recipient).copied().unwrap_or(0);
                let cut = known.cut.get(&recipient).copied().unwrap_or(0);
                assert!(delivered >= 1, "{id} was never delivered to {recipient}");
                assert!(delivered <= 1 + cut, "{id} to {recipient}: {delivered} times, {cut} cut off");
            }
        }
    }

    fn open(&mut self) -> Option<Life> {
        let settings = QueueSettings::default();
        let mut data = DataDirectory::on_without_helper(self.storage.clone(), &log_settings(), NODE).ok()?;
        let (arrival, report) = data.open_log(0, || {}).ok()?;
        let (outcome, outcomes) = data.open_log_kind(LogKind::Outcome, 0, || {}).ok()?;
        let (retry, _) = data.open_log_kind(LogKind::Retry, 0, || {}).ok()?;
        data.prepare_segments();
        if self.storage.is_dead() {
            return None;
        }
        assert!(report.damage.is_empty() && outcomes.damage.is_empty());
        let folded = fold(&self.storage, &settings, false).ok()?;
        assert_eq!(folded.damaged, [""; 0]);
        let keeper = Keeper::open(self.storage.clone(), &settings).ok()?;
        let ledger = folded.ledger;
        let mut recorder = Recorder::new(outcome, &ledger);
        // A checkpoint takes only a few records here.
        recorder.set_checkpoint_after(3000);
        let mut reader = Reader::on(self.storage.clone(), "arrival-00").ok()?;
        reader.seek(ledger.taken(0));
        let unfinished = ledger.unfinished(0);
        let copies = Reader::on(self.storage.clone(), "retry-00").ok()?;
        Some(Life {
            data,
            arrival,
            ledger,
            recorder,
            keeper,
            reader,
            retry,
            copies,
            unfinished,
            jobs: Vec::new(),
            ready: Vec::new(),
            appended: Vec::new(),
            unproven: Vec::new(),
        })
    }

    /// One thing that may happen; `None` when the disk has failed.
    fn step(&mut self, life: &mut Life) -> Option<()> {
        self.now_us += self.random.below(200) * SECOND;
        match self.random.below(13) {
            0..3 => self.accept(life),
            3 => self.write_arrival(life)?,
            4..6 => self.take(life)?,
            6..9 => self.attempt(life),
            9 => self.look_for_due(life),
            10 => self.write_outcomes(life)?,
            11 => self.evacuate(life)?,
            _ => self.tick(life),
        }
        Some(())
    }

    fn accept(&mut self, life: &mut Life) {
        let total = if self.random.below(3) == 0 { 1 + self.random.below(80) } else { 1 };
        let total = u32::try_from(total).unwrap();
        let recipients: Vec<_> =
            (0..total).map(|_| Recipient { path: Span::new(0, 3), ..Recipient::default() }).collect();
        let envelope = EnvelopeRef { text: b"a@b", recipients: &recipients, ..EnvelopeRef::default() };
        let octets = usize::try_from(self.random.below(self.body.len() as u64)).unwrap();
        let body = std::iter::once(&self.body[..octets]);
        if let Ok(appended) = life.arrival.append_message(&envelope, body, octets, self.now_us) {
            life.appended.push((appended.id, appended.gate, total));
        }
    }

    fn write_arrival(&mut self, life: &mut Life) -> Option<()> {
        while let Some(write) = life.arrival.next_write() {
            let result = write.run();
            life.arrival.write_done(write, result).ok()?;
        }
        let durable = life.arrival.durable();
        let appended = std::mem::take(&mut life.appended);
        for (id, gate, total) in appended {
            if gate <= durable {
                self.messages.insert(id, Known { total, ..Known::default() });
            } else {
                life.appended.push((id, gate, total));
            }
        }
        life.data.prepare_segments();
        Some(())
    }

    /// Takes the next message: those of the life before first, then those that came since.
    fn take(&mut self, life: &mut Life) -> Option<()> {
        if let Some(lsn) = life.unfinished.pop() {
            let message = life.reader.message_at(lsn).ok()?.expect("a message under way is kept");
            let total = u32::try_from(message.envelope().unwrap().recipients().count()).unwrap();
            let owed = life.ledger.take(0, lsn, Lsn::ZERO, total);
            assert!(!owed.is_empty(), "listed as under way");
            self.begin(life, message.id, &owed, total);
            return Some(());
        }
        life.reader.set_limit(life.arrival.durable());
        while let Some(entry) = life.reader.next().ok()? {
            let Entry::Record(record) = entry else { panic!("damage on an honest disk") };
            if record.header.kind != RecordKind::Message {
                continue;
            }
            let total = u32::try_from(record.read_envelope().unwrap().recipients().count()).unwrap();
            let (id, lsn, next) =
                (record.id, record.header.lsn, record.header.lsn.plus(record.header.octets()));
            let owed = life.ledger.take(0, lsn, next, total);
            self.begin(life, id, &owed, total);
            return Some(());
        }
        Some(())
    }

    /// Jobs for the recipients of a message, in groups that end by themselves.
    fn begin(&mut self, life: &mut Life, id: MessageId, owed: &RecipientSet, total: u32) {
        let groups = 1 + self.random.below(3);
        for group in 0..groups {
            let recipients: Vec<_> =
                owed.iter().filter(|index| u64::from(*index) % groups == group).collect();
            if !recipients.is_empty() {
                let place = Place::arrival(id);
                life.jobs.push(Job { id, place, recipients, total, attempts: 0 });
            }
        }
    }

    fn look_for_due(&mut self, life: &mut Life) {
        if self.random.below(2) == 0 {
            self.now_us += 3600 * SECOND;
        }
        let ready = &mut life.ready;
        life.ledger.due(self.now_us / SECOND, 100, |due| match due {
            Due::Attempt(slot) => ready.push(slot),
            Due::Age(_) => {}
        });
        while let Some(slot) = life.ready.pop() {
            if life.ledger.claim(slot) {
                let entry = life.ledger.entry(slot).unwrap();
                assert_eq!(entry.state, EntryState::Busy);
                life.jobs.push(Job {
                    id: inrush_queue::message_id(NODE, entry),
                    place: entry.place(),
                    recipients: entry.recipients.iter().collect(),
                    total: entry.recipients_total,
                    attempts: entry.attempts(),
                });
            }
        }
    }

    /// One attempt for a job that waits, and its outcome.
    fn attempt(&mut self, life: &mut Life) {
        if life.jobs.is_empty() {
            return;
        }
        let index = usize::try_from(self.random.below(life.jobs.len() as u64)).unwrap();
        let job = life.jobs.swap_remove(index);
        assert_eq!(read(life, job.place), Some(job.id), "what is owed is kept");
        let mut results = Vec::new();
        for recipient in &job.recipients {
            let sent = self.random.below(2) == 0;
            let pause = self.random.below(3) * 600;
            let held = self.random.below(10) == 0;
            if sent {
                let known = self.messages.get_mut(&job.id).expect("only what is durable is taken");
                *known.delivered.entry(*recipient).or_default() += 1;
                life.unproven.push((job.id, *recipient));
            }
            results.push(ResultRef {
                recipient: *recipient,
                status: match (sent, held) {
                    (true, _) => Status::Sent,
                    (false, true) => Status::Held,
                    (false, false) => Status::Deferred,
                },
                flags: if self.random.below(4) == 0 { result_flag::PARKED } else { 0 },
                attempts: job.attempts + 1,
                next_attempt_us: if sent || held { 0 } else { self.now_us + pause * SECOND },
                code: 250,
                enhanced: [2, 0, 0],
                address: b"a@b",
                reply: b"",
            });
        }
        self.record(life, &job, &results, 0);
    }

    /// Moves the messages that wait with some segment, of the arrival log or of the retry log itself.
    fn evacuate(&mut self, life: &mut Life) -> Option<()> {
        let size = 1 << 20;
        let places: Vec<_> = life.ledger.entries().map(|(_, entry)| entry.place()).collect();
        if places.is_empty() {
            return Some(());
        }
        let from = places[usize::try_from(self.random.below(places.len() as u64)).unwrap()];
        let messages = life.ledger.messages_in(from.kind, from.log, size, from.lsn.segment(size));
        let mut copied = Vec::new();
        for (message_id, place) in messages {
            if !life.ledger.may_move(message_id, place) {
                continue;
            }
            let reader = if place.kind == LogKind::Retry { &mut life.copies } else { &mut life.reader };
            let message = reader.message_at(place.lsn).ok()?.expect("what is owed is kept");
            life.data.prepare_segments();
            // Without room it is moved another time.
            let Ok(appended) = life.retry.append_copy(&message, &[]) else { break };
            let to = Place { kind: LogKind::Retry, log: 0, lsn: appended.lsn };
            let total = u32::try_from(message.envelope().unwrap().recipients().count()).unwrap();
            copied.push((message.id, place, to, total));
        }
        while let Some(write) = life.retry.next_write() {
            let result = write.run();
            life.retry.write_done(write, result).ok()?;
        }
        for (id, place, to, total) in copied {
            if life.ledger.may_move(id.packed(), place) {
                let job = Job { id, place: to, recipients: Vec::new(), total, attempts: 0 };
                self.record(life, &job, &[], outcome_flag::MOVED);
            }
        }
        Some(())
    }

    fn record(&self, life: &mut Life, job: &Job, results: &[ResultRef<'_>], flags: u16) {
        let outcome = OutcomeRef {
            accepted_at_us: self.now_us,
            octets: 1000,
            recipients_total: job.total,
            flags,
            destination: b"out:b",
            results,
            ..OutcomeRef::without_attempt(job.id, job.place, self.now_us)
        };
        life.recorder.record(&mut life.ledger, &outcome);
    }

    fn write_outcomes(&mut self, life: &mut Life) -> Option<()> {
        while let Some(write) = life.recorder.next_write() {
            let result = write.run();
            life.recorder.write_done(write, result).ok()?;
        }
        if life.recorder.is_durable() {
            life.unproven.clear();
        }
        life.data.prepare_segments();
        if let Some(positions) = life.recorder.positions() {
            life.keeper.save(&positions, self.now_us).ok()?;
            // The helper looks at the cursors now, and retires what they let go.
            life.data.prepare_segments();
        }
        Some(())
    }

    fn tick(&mut self, life: &mut Life) {
        for _ in 0..=self.random.below(3) {
            life.recorder.tick(&life.ledger, self.now_us, Some(life.retry.durable()));
        }
    }

    fn end(&mut self, life: Life) {
        for (id, recipient) in &life.unproven {
            *self.messages.get_mut(id).unwrap().cut.entry(*recipient).or_default() += 1;
        }
        // What was written may be durable although nobody has heard of it.
        let unheard: Vec<_> = life.appended.iter().map(|(id, _, total)| (*id, *total)).collect();
        drop(life);
        self.restart();
        let Ok(mut reader) = Reader::on(self.storage.clone(), "arrival-00") else { return };
        for (id, total) in unheard {
            if let Ok(Some(message)) = reader.message_at(id.lsn)
                && message.id == id
            {
                self.messages.insert(id, Known { total, ..Known::default() });
            }
        }
    }

    fn restart(&mut self) {
        self.storage = if self.random.below(2) == 0 { self.storage.kill() } else { self.storage.restart() };
    }

    /// No faults any more: everything that is owed is delivered.
    fn drain(&mut self, life: &mut Life) {
        self.write_arrival(life).unwrap();
        loop {
            let open = life.ledger.open_count();
            let before = (life.ledger.taken(0), life.unfinished.len());
            self.take(life).unwrap();
            if (life.ledger.taken(0), life.unfinished.len()) == before && life.ledger.open_count() == open {
                break;
            }
        }
        let held: Vec<_> =
            life.ledger.entries().filter(|(_, entry)| entry.state == EntryState::Held).collect();
        let held: Vec<_> = held
            .into_iter()
            .map(|(_, entry)| Job {
                id: inrush_queue::message_id(NODE, entry),
                place: entry.place(),
                recipients: entry.recipients.iter().collect(),
                total: entry.recipients_total,
                attempts: 0,
            })
            .collect();
        for job in held {
            let released = |recipient: &u32| ResultRef {
                recipient: *recipient,
                status: Status::Deferred,
                flags: 0,
                attempts: 0,
                next_attempt_us: self.now_us,
                code: 0,
                enhanced: [0; 3],
                address: b"",
                reply: b"",
            };
            let results: Vec<_> = job.recipients.iter().map(released).collect();
            self.record(life, &job, &results, outcome_flag::COMMAND);
        }
        self.now_us += 100_000 * SECOND;
        for _ in 0..10_000 {
            self.look_for_due(life);
            self.now_us += 3600 * SECOND;
            let Some(job) = life.jobs.pop() else {
                if life.ledger.counts().deferred == 0 && life.ledger.open_count() == 0 {
                    break;
                }
                continue;
            };
            assert_eq!(read(life, job.place), Some(job.id), "what is owed is kept");
            let mut results = Vec::new();
            for recipient in &job.recipients {
                *self.messages.get_mut(&job.id).unwrap().delivered.entry(*recipient).or_default() += 1;
                results.push(ResultRef {
                    recipient: *recipient,
                    status: Status::Sent,
                    flags: 0,
                    attempts: 1,
                    next_attempt_us: 0,
                    code: 250,
                    enhanced: [2, 0, 0],
                    address: b"",
                    reply: b"",
                });
            }
            self.record(life, &job, &results, 0);
        }
        assert_eq!(
            (life.ledger.open_count(), life.ledger.counts().deferred),
            (0, 0),
            "everything has an end"
        );
    }
}

/// The message at a place.
fn read(life: &mut Life, place: Place) -> Option<MessageId> {
    let reader = if place.kind == LogKind::Retry { &mut life.copies } else { &mut life.reader };
    reader.message_at(place.lsn).unwrap().map(|message| message.id)
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_without_a_reason() {
    if let Some(seed) = std::env::var("INRUSH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return World::new(seed).run();
    }
    let seeds = std::env::var("INRUSH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds {
            return;
        }
        if std::panic::catch_unwind(|| World::new(seed).run()).is_err() {
            panic!("replay: INRUSH_SEED={seed} cargo test -p inrush-queue --test simulation");
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}
