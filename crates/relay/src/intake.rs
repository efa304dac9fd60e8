//! Takes messages out of the arrival logs, each in its order: fresh ones from memory, the others from the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use inrush_log::{Fresh, Lsn, Message};
use inrush_queue::{ArrivalStore, Ledger, Place};

use crate::reader::{Batch, Found, ReaderHandle};

/// One arrival log as the intake sees it.
struct Lane {
    log: u8,
    /// `None` for a log that takes no mail any more.
    store: Option<ArrivalStore>,
    /// Everything below was taken.
    position: Lsn,
    /// Messages of this life that were taken.
    taken: u64,
    /// Messages that were under way at the end of the last life.
    unfinished: VecDeque<Lsn>,
    /// Where the reader has got to.
    read_to: Lsn,
    /// A batch was asked for, up to this limit.
    asked: Option<Lsn>,
    /// Up to this limit there is nothing left.
    exhausted: Lsn,
    /// Everything of earlier lives was read.
    caught_up: bool,
    /// Came out of order, or is not durable yet.
    held: Option<Fresh>,
    /// Read, and not taken for want of room.
    read: VecDeque<Found>,
}

/// What is to be taken.
pub(crate) struct Taken {
    pub(crate) log: u8,
    pub(crate) found: Found,
}

/// All arrival logs.
pub(crate) struct Intake {
    lanes: BTreeMap<u8, Lane>,
    reader: ReaderHandle,
}

impl Intake {
    /// Goes on where the ledger stands.
    pub(crate) fn new(stores: Vec<ArrivalStore>, ledger: &Ledger, reader: ReaderHandle) -> Self {
        let mut lanes = BTreeMap::new();
        for log in ledger.lanes() {
            let lane = Lane {
                log,
                store: None,
                position: ledger.taken(log),
                taken: 0,
                unfinished: ledger.unfinished(log).into(),
                read_to: Lsn::ZERO,
                asked: None,
                exhausted: Lsn::ZERO,
                caught_up: false,
                held: None,
                read: VecDeque::new(),
            };
            lanes.insert(log, lane);
        }
        for store in stores {
            if let Some(lane) = lanes.get_mut(&store.log) {
                lane.store = Some(store);
            }
        }
        Self { lanes, reader }
    }

    /// Has `waker` called when messages come while the intake sleeps.
    pub(crate) fn set_waker(&self, waker: impl Fn() + Clone + Send + Sync + 'static) {
        for store in self.lanes.values().filter_map(|lane| lane.store.as_ref()) {
            store.fresh.set_waker(waker.clone());
        }
    }

    /// To be called before the last look; the waker is called for what comes after it.
    pub(crate) fn sleep(&self) {
        for store in self.lanes.values().filter_map(|lane| lane.store.as_ref()) {
            store.fresh.sleep();
        }
    }

    /// Messages of this life that were not taken yet, and logs that are not taken up to where this life began.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let committed = |lane: &Lane| lane.store.as_ref().map_or(0, |store| store.fresh.committed());
        let messages = self.lanes.values().map(|lane| committed(lane).saturating_sub(lane.taken)).sum();
        let behind = self.lanes.values().filter(|lane| !lane.caught_up).count();
        (messages, behind as u64)
    }

    /// A message of an earlier life that was under way at its end: to be read and taken first.
    pub(crate) fn unfinished(&mut self) -> Option<Place> {
        self.lanes.values_mut().find_map(|lane| {
            let lsn = lane.unfinished.pop_front()?;
            Some(Place { kind: inrush_log::LogKind::Arrival, log: lane.log, lsn })
        })
    }

    /// Hands out messages while `take` says that there is room for more, and asks for what has to be read.
    pub(crate) fn pull(&mut self, mut take: impl FnMut(Taken) -> bool) {
        loop {
            let mut came = false;
            // One of each log in turn: none waits for the end of another's backlog.
            for lane in self.lanes.values_mut() {
                match lane.next(&self.reader) {
                    Some(taken) => {
                        came = true;
                        if !take(taken) {
                            return;
                        }
                    }
                    None => continue,
                }
            }
            if !came {
                return;
            }
        }
    }

    /// Takes what was read.
    pub(crate) fn arrived(&mut self, batch: Batch) {
        let Some(lane) = self.lanes.get_mut(&batch.log) else { return };
        let limit = lane.asked.take();
        if let Some(error) = &batch.error {
            tracing::error!(log = batch.log, %error, "the log cannot be read now");
        }
        lane.read.extend(batch.found);
        // So that what nobody needs behind the last message does not look as if it were owed.
        lane.read.push_back(Found::Nothing(batch.next));
        lane.read_to = batch.next;
        let begin = lane.store.as_ref().map_or(Lsn::MAX, |store| store.begin);
        if batch.error.is_none() {
            lane.caught_up |= batch.next >= begin || batch.end;
            if batch.end {
                lane.exhausted = limit.unwrap_or_default();
            }
        }
    }
}

impl Lane {
    /// The next message, if it is at hand; else it is asked for, if there is one.
    fn next(&mut self, reader: &ReaderHandle) -> Option<Taken> {
        if let Some(found) = self.read.pop_front() {
            match &found {
                Found::Message(message, end) => {
                    let begin = self.store.as_ref().map_or(Lsn::MAX, |store| store.begin);
                    self.taken += u64::from(message.header.lsn >= begin);
                    self.position = *end;
                }
                // How many messages that were is not known: the next fresh one tells its number.
                Found::Unreadable(_, _, next) => self.position = *next,
                Found::Nothing(next) => self.position = self.position.max(*next),
            }
            return Some(Taken { log: self.log, found });
        }
        self.position = self.position.max(self.read_to);
        if self.asked.is_some() {
            return None;
        }
        if self.store.is_none() {
            self.ask(reader, Lsn::MAX);
            return None;
        }
        if !self.caught_up {
            self.ask_durable(reader);
            return None;
        }
        self.next_fresh(reader)
    }

    fn next_fresh(&mut self, reader: &ReaderHandle) -> Option<Taken> {
        loop {
            let store = self.store.as_ref()?;
            let Some(fresh) = self.held.take().or_else(|| store.fresh.pop()) else {
                if self.taken < store.fresh.committed() {
                    self.ask_durable(reader);
                }
                return None;
            };
            // Read from the log before, as everything below was, or found to be unreadable there.
            if fresh.lsn() < self.position {
                self.taken = self.taken.max(fresh.number + 1);
                continue;
            }
            let end = fresh.lsn().plus(fresh.header.octets());
            if fresh.number > self.taken {
                // Those between did not find room in memory.
                self.held = Some(fresh);
                self.ask_durable(reader);
                return None;
            }
            if end > store.durable() {
                // Under relaxed durability: what may be lost yet is not delivered.
                self.held = Some(fresh);
                return None;
            }
            self.taken += 1;
            self.position = end;
            let message = Arc::new(Message::from_fresh(&fresh));
            return Some(Taken { log: self.log, found: Found::Message(message, end) });
        }
    }

    fn ask_durable(&mut self, reader: &ReaderHandle) {
        if let Some(store) = &self.store {
            self.ask(reader, store.durable());
        }
    }

    fn ask(&mut self, reader: &ReaderHandle, limit: Lsn) {
        if limit > self.exhausted {
            self.asked = Some(limit);
            reader.ask_next(self.log, self.position, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::FileExt as _;

    use inrush_log::{
        Appender, DataDirectory, EnvelopeRef, LogSettings, Recipient, Span, log_directory, segment_name,
    };
    use inrush_queue::{ArrivalLog, QueueSettings};
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    const SEGMENT_BYTES: u64 = 1 << 20;

    fn append(log: &mut Appender) -> Lsn {
        let recipients = [Recipient { path: Span::new(0, 3), ..Recipient::default() }];
        let envelope = EnvelopeRef { text: b"a@b", recipients: &recipients, ..EnvelopeRef::default() };
        let appended = log.append_message(&envelope, std::iter::once(&b"hello"[..]), 5, 1).unwrap();
        while let Some(write) = log.next_write() {
            let result = write.run();
            log.write_done(write, result).unwrap();
        }
        appended.lsn
    }

    /// Changes an octet of a record's content on the disk.
    fn rot(data: &std::path::Path, lsn: Lsn) {
        let name = segment_name(lsn.segment(SEGMENT_BYTES));
        let path = data.join(log_directory(inrush_log::LogKind::Arrival, 0)).join(name);
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let at = lsn.offset(SEGMENT_BYTES) + 70;
        let mut octet = [0];
        file.read_exact_at(&mut octet, at).unwrap();
        file.write_all_at(&[octet[0] ^ 1], at).unwrap();
        file.sync_all().unwrap();
    }

    /// Everything that can be had now: where it stands, and whether it can be read.
    fn pull(intake: &mut Intake, batches: &mut UnboundedReceiver<Batch>) -> Vec<(Lsn, bool)> {
        let mut pulled = Vec::new();
        loop {
            intake.pull(|taken| {
                pulled.push(match taken.found {
                    Found::Message(message, _) => (message.header.lsn, true),
                    Found::Unreadable(_, lsn, _) => (lsn, false),
                    Found::Nothing(_) => return true,
                });
                true
            });
            if intake.lanes.values().all(|lane| lane.asked.is_none()) {
                return pulled;
            }
            intake.arrived(batches.blocking_recv().unwrap());
        }
    }

    #[test]
    fn what_cannot_be_read_comes_in_its_place_and_nothing_comes_twice() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            segment_bytes: SEGMENT_BYTES,
            free_bytes_min: 0,
            free_inodes_min: 0,
            // One message waits in memory, the others on the disk.
            fresh_queue_messages: 1,
            ..LogSettings::default()
        };
        let mut data = DataDirectory::open(folder.path(), &settings, 1).unwrap();
        let (mut log, _) = data.open_log(0, || {}).unwrap();
        let mut ledger = Ledger::new(&QueueSettings::default());
        let uuid = log.identity().uuid;
        ledger.add_lane(ArrivalLog { log: 0, uuid, segment_bytes: SEGMENT_BYTES, begin: Lsn::ZERO });
        let (reader, mut batches) = ReaderHandle::start(data.storage().clone()).unwrap();
        let mut intake = Intake::new(vec![ArrivalStore::of(0, &log)], &ledger, reader);
        assert_eq!(pull(&mut intake, &mut batches), []);
        assert_eq!(intake.waiting(), (0, 0));
        let [first, second, third] = [(); 3].map(|()| append(&mut log));
        assert_eq!(intake.waiting(), (3, 0));
        rot(folder.path(), second);
        let mut came = Vec::new();
        intake.pull(|taken| {
            came.extend(
                matches!(taken.found, Found::Message(message, _) if message.header.lsn == first)
                    .then_some(first),
            );
            false
        });
        assert_eq!(came, [first], "from memory");
        let fourth = append(&mut log);
        let rest = [(second, false), (third, true), (fourth, true)];
        assert_eq!(pull(&mut intake, &mut batches), rest);
        let fifth = append(&mut log);
        assert_eq!(pull(&mut intake, &mut batches), [(fifth, true)]);
        assert_eq!(intake.waiting(), (0, 0), "what cannot be read is not waited for");
    }

    /// A transaction that a kill has cut off leaves a part of a body behind the last message.
    #[test]
    fn what_belongs_to_no_message_is_passed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            segment_bytes: SEGMENT_BYTES,
            free_bytes_min: 0,
            free_inodes_min: 0,
            ..LogSettings::default()
        };
        let chunk = {
            let mut data = DataDirectory::open(folder.path(), &settings, 1).unwrap();
            let (mut log, _) = data.open_log(0, || {}).unwrap();
            append(&mut log);
            let chunk = log.append_chunk(std::iter::once(&b"half"[..]), 4, 1).unwrap();
            while let Some(write) = log.next_write() {
                let result = write.run();
                log.write_done(write, result).unwrap();
            }
            chunk.lsn()
        };
        let mut data = DataDirectory::open(folder.path(), &settings, 1).unwrap();
        let (log, _) = data.open_log(0, || {}).unwrap();
        let mut ledger = Ledger::new(&QueueSettings::default());
        let uuid = log.identity().uuid;
        ledger.add_lane(ArrivalLog { log: 0, uuid, segment_bytes: SEGMENT_BYTES, begin: Lsn::ZERO });
        let (reader, mut batches) = ReaderHandle::start(data.storage().clone()).unwrap();
        let mut intake = Intake::new(vec![ArrivalStore::of(0, &log)], &ledger, reader);
        let mut passed = Lsn::ZERO;
        intake.pull(|_| panic!("nothing was read yet"));
        intake.arrived(batches.blocking_recv().unwrap());
        intake.pull(|taken| {
            if let Found::Nothing(next) = taken.found {
                passed = next;
            }
            true
        });
        assert!(passed > chunk, "{passed} {chunk}");
    }
}
