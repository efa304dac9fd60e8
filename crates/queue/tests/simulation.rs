//! The queue on a simulated disk: whatever ends the process, every message that was acknowledged is delivered to each of its recipients, at
//! least once, and at most once more than the attempts whose outcome the end has cut off.
//!
//! There are more or fewer cores from life to life, so that logs are adopted and come back. In some worlds octets of the outcome log rot: then a message
//! may come more often, and none is lost. In others an operator moves an arrival log away: what stood there alone is gone with it, and nothing else.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "the seed of a failure")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use inrush_log::sim::{Fault, Random, SimStorage};
use inrush_log::{
    Appender, DataDirectory, Entry, EnvelopeRef, LogKind, LogSettings, Lsn, MessageId, Reader, Recipient,
    RecordKind, Span, Storage, log_directory, segment_name,
};
use inrush_queue::{
    Due, EntryState, Keeper, Ledger, OutcomeRef, Place, QueueSettings, RecipientSet, Recorder, ResultRef,
    Slot, Status, fold, outcome_flag, positions_seen, result_flag,
};

const NODE: u16 = 3;
const SECOND: u64 = 1_000_000;
/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;
/// Arrival logs at most.
const LOGS_MAX: u8 = 3;

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

/// What happens to the disk between two lives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Nothing,
    /// The outcome log is damaged.
    Rot,
    /// An arrival log is moved away.
    Moved,
}

/// A message as the world knows it.
#[derive(Default)]
struct Known {
    total: u32,
    /// It went with its log.
    gone: bool,
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
    mishap: Mishap,
    /// Something in the outcome log has rotted.
    damaged: bool,
    /// Appended, and not acknowledged when the life ended.
    unheard: Vec<(MessageId, u32)>,
    /// Logs that were moved away.
    moves: u32,
}

/// An arrival log in a life.
struct Lane {
    log: u8,
    /// `None` for one that was adopted.
    appender: Option<Appender<SimStorage>>,
    reader: Reader<SimStorage>,
    unfinished: Vec<Lsn>,
}

struct Life {
    data: DataDirectory<SimStorage>,
    lanes: Vec<Lane>,
    ledger: Ledger,
    recorder: Recorder<SimStorage>,
    keeper: Keeper<SimStorage>,
    retry: Appender<SimStorage>,
    copies: Reader<SimStorage>,
    jobs: Vec<Job>,
    ready: Vec<Slot>,
    /// Acknowledged as soon as it is durable.
    appended: Vec<(MessageId, Lsn, u32)>,
    /// Delivered, and the outcome is not known to be durable.
    unproven: Vec<(MessageId, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mishap = match random.below(4) {
            0 => Mishap::Rot,
            1 => Mishap::Moved,
            _ => Mishap::Nothing,
        };
        Self {
            random,
            mishap,
            damaged: false,
            unheard: Vec::new(),
            moves: 0,
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
            self.have_mishap();
        }
        let mut life = self.open().expect("an honest disk without faults opens");
        self.drain(&mut life);
        for (id, known) in &self.messages {
            for recipient in 0..known.total {
                let delivered = known.delivered.get(&recipient).copied().unwrap_or(0);
                let cut = known.cut.get(&recipient).copied().unwrap_or(0);
                assert!(known.gone || delivered >= 1, "{id} was never delivered to {recipient}");
                let once = self.damaged || delivered <= 1 + cut;
                assert!(once, "{id} to {recipient}: {delivered} times, {cut} cut off");
            }
        }
    }

    /// What is done to the disk while no process works there.
    fn have_mishap(&mut self) {
        if self.random.below(2) == 0 {
            return;
        }
        match self.mishap {
            Mishap::Nothing => {}
            Mishap::Rot => self.rot(),
            Mishap::Moved => self.move_away(),
        }
    }

    /// An octet of the outcome log is another one. Only where a later record proves that it was durable: else it cannot be told from a torn write.
    fn rot(&mut self) {
        let Ok(mut reader) = Reader::on(self.storage.clone(), "outcome-00") else { return };
        let (mut places, mut proven) = (Vec::new(), Lsn::ZERO);
        while let Ok(Some(entry)) = reader.next() {
            if let Entry::Record(record) = entry {
                proven = proven.max(record.header.durable);
                places.push((record.header.lsn, record.header.octets()));
            }
        }
        places.retain(|(lsn, _)| *lsn < proven);
        if places.is_empty() {
            return;
        }
        let (lsn, octets) = places[usize::try_from(self.random.below(places.len() as u64)).unwrap()];
        let segment_bytes = log_settings().segment_bytes;
        let segment = segment_name(lsn.segment(segment_bytes));
        let offset = lsn.offset(segment_bytes) + self.random.below(octets);
        let offset = usize::try_from(offset).unwrap();
        self.storage.rot(&format!("outcome-00/{segment}"), offset, 1 << self.random.below(8));
        self.damaged = true;
    }

    fn move_away(&mut self) {
        let log = u8::try_from(self.random.below(u64::from(LOGS_MAX))).unwrap();
        let dir = format!("arrival-{log:02x}");
        let files: Vec<_> = self.storage.files().into_iter().map(|(name, _)| name).collect();
        let inside: Vec<_> = files.iter().filter(|name| name.starts_with(&format!("{dir}/"))).collect();
        if inside.is_empty() {
            return;
        }
        inside.into_iter().for_each(|name| self.storage.unlink(name).unwrap());
        self.storage.sync_dir(&dir).unwrap();
        self.moves += 1;
        self.storage.rename(&dir, &format!("moved-away-{}", self.moves)).unwrap();
        self.storage.sync_dir("").unwrap();
        for (_, known) in self.messages.iter_mut().filter(|(id, _)| id.log == log) {
            known.gone = true;
        }
    }

    fn open(&mut self) -> Option<Life> {
        let settings = QueueSettings::default();
        let mut data = DataDirectory::on_without_helper(self.storage.clone(), &log_settings(), NODE).ok()?;
        for (log, seen) in positions_seen(&self.storage).ok()? {
            data.begin_behind(LogKind::Arrival, log, seen);
        }
        let mut appenders = BTreeMap::new();
        for log in 0..u8::try_from(1 + self.random.below(u64::from(LOGS_MAX))).unwrap() {
            let (appender, report) = data.open_log(log, || {}).ok()?;
            assert_eq!(report.damage, []);
            appenders.insert(log, appender);
        }
        let (outcome, outcomes) = data.open_log_kind(LogKind::Outcome, 0, || {}).ok()?;
        let (retry, _) = data.open_log_kind(LogKind::Retry, 0, || {}).ok()?;
        for (_, report) in data.adopt_logs().ok()? {
            assert_eq!(report.damage, []);
        }
        data.prepare_segments();
        if self.storage.is_dead() {
            return None;
        }
        self.find_unheard();
        assert!(self.damaged || outcomes.damage.is_empty());
        let folded = fold(&self.storage, &settings, !outcomes.damage.is_empty()).ok()?;
        assert!(self.damaged || folded.damaged.is_empty(), "{:?}", folded.damaged);
        let keeper = Keeper::open(self.storage.clone(), &settings).ok()?;
        let ledger = folded.ledger;
        let mut recorder = Recorder::new(outcome, &ledger);
        // A checkpoint takes only a few records here.
        recorder.set_checkpoint_after(3000);
        let mut lanes = Vec::new();
        for log in ledger.lanes() {
            let mut reader = Reader::on(self.storage.clone(), &log_directory(LogKind::Arrival, log)).ok()?;
            reader.seek(ledger.taken(log));
            let appender = appenders.remove(&log);
            let begin = appender.as_ref().map_or(Lsn::MAX, Appender::durable);
            assert!(ledger.taken(log) <= begin, "new mail does not pass for taken mail");
            lanes.push(Lane { log, appender, reader, unfinished: ledger.unfinished(log) });
        }
        let copies = Reader::on(self.storage.clone(), "retry-00").ok()?;
        Some(Life {
            data,
            lanes,
            ledger,
            recorder,
            keeper,
            retry,
            copies,
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
        let index = usize::try_from(self.random.below(life.lanes.len() as u64)).unwrap();
        let Some(appender) = life.lanes[index].appender.as_mut() else { return };
        if let Ok(appended) = appender.append_message(&envelope, body, octets, self.now_us) {
            life.appended.push((appended.id, appended.gate, total));
        }
    }

    fn write_arrival(&mut self, life: &mut Life) -> Option<()> {
        let mut durable = BTreeMap::new();
        for lane in &mut life.lanes {
            let Some(appender) = lane.appender.as_mut() else { continue };
            while let Some(write) = appender.next_write() {
                let result = write.run();
                appender.write_done(write, result).ok()?;
            }
            durable.insert(lane.log, appender.durable());
        }
        let appended = std::mem::take(&mut life.appended);
        for (id, gate, total) in appended {
            if gate <= durable[&id.log] {
                self.messages.insert(id, Known { total, ..Known::default() });
            } else {
                life.appended.push((id, gate, total));
            }
        }
        life.data.prepare_segments();
        Some(())
    }

    /// Takes the next message of some log.
    fn take(&mut self, life: &mut Life) -> Option<()> {
        let index = usize::try_from(self.random.below(life.lanes.len() as u64)).unwrap();
        self.take_from(life, index)
    }

    /// Takes the next message of a log: those of the life before first, then those that came since.
    fn take_from(&mut self, life: &mut Life, index: usize) -> Option<()> {
        let lane = &mut life.lanes[index];
        let log = lane.log;
        if let Some(lsn) = lane.unfinished.pop() {
            let message = lane.reader.message_at(lsn).ok()?.expect("a message under way is kept");
            let total = u32::try_from(message.envelope().unwrap().recipients().count()).unwrap();
            let owed = life.ledger.take(log, lsn, Lsn::ZERO, total);
            assert!(!owed.is_empty(), "listed as under way");
            self.begin(life, message.id, &owed, total);
            return Some(());
        }
        lane.reader.set_limit(lane.appender.as_ref().map_or(Lsn::MAX, Appender::durable));
        while let Some(entry) = lane.reader.next().ok()? {
            let Entry::Record(record) = entry else { panic!("damage on an honest disk") };
            if record.header.kind != RecordKind::Message {
                continue;
            }
            let total = u32::try_from(record.read_envelope().unwrap().recipients().count()).unwrap();
            let (id, lsn, next) =
                (record.id, record.header.lsn, record.header.lsn.plus(record.header.octets()));
            let owed = life.ledger.take(log, lsn, next, total);
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
        if self.give_up(life, &job) {
            return;
        }
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

    /// Ends what went with its log; everything else can be read.
    fn give_up(&mut self, life: &mut Life, job: &Job) -> bool {
        let found = reader_of(life, job.place).and_then(|reader| reader.message_at(job.place.lsn).unwrap());
        if found.is_some_and(|message| message.id == job.id) {
            return false;
        }
        assert!(self.messages[&job.id].gone, "what is owed is kept");
        let expired = |recipient: &u32| ResultRef {
            recipient: *recipient,
            status: Status::Expired,
            flags: 0,
            attempts: job.attempts,
            next_attempt_us: 0,
            code: 0,
            enhanced: [4, 3, 0],
            address: b"",
            reply: b"",
        };
        let results: Vec<_> = job.recipients.iter().map(expired).collect();
        self.record(life, job, &results, 0);
        true
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
            let Some(reader) = reader_of(life, place) else { continue };
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
        self.unheard.extend(life.appended.iter().map(|(id, _, total)| (*id, *total)));
        drop(life);
        self.restart();
    }

    /// What was written before the end may be durable although nobody has heard of it: when the logs are open again, what is there is.
    fn find_unheard(&mut self) {
        let unheard = std::mem::take(&mut self.unheard);
        for (id, total) in unheard {
            let dir = log_directory(LogKind::Arrival, id.log);
            let Ok(mut reader) = Reader::on(self.storage.clone(), &dir) else { continue };
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
        for index in 0..life.lanes.len() {
            let log = life.lanes[index].log;
            loop {
                let open = life.ledger.open_count();
                let before = (life.ledger.taken(log), life.lanes[index].unfinished.len());
                self.take_from(life, index).unwrap();
                let after = (life.ledger.taken(log), life.lanes[index].unfinished.len());
                if after == before && life.ledger.open_count() == open {
                    break;
                }
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
            if self.give_up(life, &job) {
                continue;
            }
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

/// Reads the log of a place; `None` when it was moved away.
fn reader_of(life: &mut Life, place: Place) -> Option<&mut Reader<SimStorage>> {
    if place.kind == LogKind::Retry {
        return Some(&mut life.copies);
    }
    life.lanes.iter_mut().find(|lane| lane.log == place.log).map(|lane| &mut lane.reader)
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
