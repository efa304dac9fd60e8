//! Takes messages out of the arrival logs, each in its order: fresh ones from memory, the others from the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use inrush_log::{Fresh, Lsn, Message};
use inrush_queue::{ArrivalStore, Ledger, Place};

use crate::reader::{Batch, ReaderHandle};

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
    read: VecDeque<(Arc<Message>, Lsn)>,
}

/// A message that is to be taken.
pub(crate) struct Taken {
    pub(crate) log: u8,
    pub(crate) message: Arc<Message>,
    /// The end of its record.
    pub(crate) end: Lsn,
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
        for damaged in &batch.damaged {
            tracing::error!(log = batch.log, %damaged, "a message cannot be read, and is left where it is");
        }
        if let Some(error) = &batch.error {
            tracing::error!(log = batch.log, %error, "the log cannot be read now");
        }
        lane.read.extend(batch.messages);
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
        if let Some((message, end)) = self.read.pop_front() {
            let begin = self.store.as_ref().map_or(Lsn::MAX, |store| store.begin);
            self.taken += u64::from(message.header.lsn >= begin);
            self.position = end;
            return Some(Taken { log: self.log, message, end });
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
            // Read from the log before.
            if fresh.number < self.taken {
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
            return Some(Taken { log: self.log, message: Arc::new(Message::from_fresh(&fresh)), end });
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
