//! What was given to a log, what it promised, and whether it is there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use inrush_log::sim::SimStorage;
use inrush_log::{Appended, Entry, Lsn, MessageId, ReadError, Reader, RecordKind, VerifyEvent};

use crate::common;

/// Directory of the one log of a world.
pub(crate) const LOG: &str = "arrival-00";
/// Bodies are parts of this, so that none needs to be made or kept.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| common::body(1, 1 << 20));

/// What a message may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// Never acknowledged: it may be there or not.
    Nothing,
    /// Survives the end of the process.
    Process,
    /// Survives a power cut.
    Power,
}

/// A message that was given to the log.
pub(crate) struct Sent {
    pub(crate) body: Range<usize>,
    pub(crate) gate: Lsn,
    /// Its record and its chunks, in the log.
    pub(crate) places: Vec<Range<u64>>,
    pub(crate) promise: Promise,
    /// A required consumer has said that it is done with it: it may be there or not, but no longer in part.
    pub(crate) released: bool,
}

/// Every message of a world.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) sent: BTreeMap<MessageId, Sent>,
    waiting: Vec<MessageId>,
    /// What the consumer has saved, and what it has tried to save.
    pub(crate) consumed: Lsn,
    consumed_at_most: Lsn,
}

/// The body at a place of the text.
pub(crate) fn text(body: &Range<usize>) -> &'static [u8] {
    &TEXT[body.clone()]
}

impl Sent {
    /// Whether it must be there.
    pub(crate) fn is_owed(&self) -> bool {
        self.promise > Promise::Nothing && !self.released
    }
}

impl Ledger {
    pub(crate) fn add(&mut self, appended: &Appended, body: Range<usize>, chunks: Vec<Range<u64>>) {
        let mut places = chunks;
        places.push(appended.lsn.get()..appended.gate.get());
        let sent = Sent { body, gate: appended.gate, places, promise: Promise::Nothing, released: false };
        // An id is never given out again, unless nobody was told of it.
        let before = self.sent.insert(appended.id, sent);
        assert!(before.is_none_or(|sent| sent.promise == Promise::Nothing), "{} twice", appended.id);
        self.waiting.push(appended.id);
    }

    /// Notes what the log has promised by now.
    pub(crate) fn promise(&mut self, durable: Lsn, committed: Lsn) {
        let sent = &mut self.sent;
        self.waiting.retain(|id| {
            let message = sent.get_mut(id).unwrap();
            if message.gate <= durable {
                message.promise = Promise::Power;
            } else if message.gate <= committed {
                message.promise = Promise::Process;
            }
            message.gate > durable
        });
    }

    /// The process is gone; what it alone held, or what it promised less than `kept`, is not promised any more.
    pub(crate) fn keep(&mut self, kept: Promise) {
        self.waiting.clear();
        for message in self.sent.values_mut().filter(|message| message.promise < kept) {
            message.promise = Promise::Nothing;
        }
    }

    /// A consumer reads on from `from` up to `durable`: it misses nothing that it has not released.
    pub(crate) fn check_consumer(&self, storage: &SimStorage, from: Lsn, durable: Lsn) {
        let range = self.consumed..=self.consumed_at_most;
        assert!(range.contains(&from), "a cursor at {from}, saved were {range:?}");
        let mut reader = Reader::on(storage.clone(), LOG).unwrap();
        reader.set_limit(durable);
        reader.seek(from);
        let found = ids(&mut reader, None);
        let owed = |message: &Sent| message.promise == Promise::Power && message.gate > from;
        for (id, _) in self.sent.iter().filter(|(_, message)| owed(message)) {
            assert!(found.binary_search(id).is_ok(), "{id} is not read by a consumer at {from}");
        }
    }

    /// The consumer is about to say that it is done with everything below a position.
    pub(crate) fn release(&mut self, position: Lsn) {
        self.consumed_at_most = self.consumed_at_most.max(position);
        for message in self.sent.values_mut().filter(|message| message.gate <= position) {
            message.released = true;
        }
    }

    /// On an honest disk: everything promised is there, everything there was sent and is whole, nothing is damaged. What was found once stays.
    pub(crate) fn check(&mut self, storage: &SimStorage, with_verification: bool) {
        let mut reader = Reader::on(storage.clone(), LOG).unwrap();
        let found = ids(&mut reader, None);
        if with_verification {
            let mut bad = Vec::new();
            let verified = reader.verify(|event| {
                if let VerifyEvent::Bad(record) = event {
                    bad.push(record.to_string());
                }
            });
            assert_eq!((verified.unwrap().messages, bad), (found.len() as u64, Vec::new()));
        }
        for id in &found {
            self.expect(&mut reader, *id).unwrap_or_else(|error| panic!("{id}: {error}"));
            self.sent.get_mut(id).unwrap().promise = Promise::Power;
        }
        for (id, message) in &self.sent {
            let there = found.binary_search(id).is_ok();
            assert!(there || !message.is_owed(), "{id} was acknowledged and is gone");
        }
    }

    /// A reader beside the appender: what is durable is there, and nothing else is found than what was sent.
    pub(crate) fn check_live(&self, storage: &SimStorage, durable: Lsn) {
        let mut reader = Reader::on(storage.clone(), LOG).unwrap();
        reader.set_limit(durable);
        let found = ids(&mut reader, None);
        for id in &found {
            self.expect(&mut reader, *id).unwrap_or_else(|error| panic!("{id}: {error}"));
        }
        let owed = |message: &Sent| message.promise == Promise::Power && !message.released;
        for (id, message) in self.sent.iter().filter(|(_, message)| owed(message)) {
            assert!(found.binary_search(id).is_ok(), "{id} up to {} is not read", message.gate);
        }
    }

    /// Reads a message by its id; whatever can be read of it must be what was sent.
    pub(crate) fn expect(&self, reader: &mut Reader<SimStorage>, id: MessageId) -> Result<(), ReadError> {
        let message = reader.message(id)?;
        let sent = self.sent.get(&id).unwrap_or_else(|| panic!("{id} was never sent"));
        let whole = text(&sent.body);
        let mut done = 0;
        reader.read_body(&message, |part| {
            assert!(whole.get(done..done + part.len()) == Some(part), "{id}: another body at {done}");
            done += part.len();
            Ok(())
        })?;
        assert_eq!(done, whole.len(), "{id}: a part of the body");
        let reverse_path = message.envelope().unwrap().reverse_path().to_vec();
        assert_eq!(reverse_path, sent.body.start.to_string().into_bytes(), "{id}: another envelope");
        Ok(())
    }
}

/// Ids of the messages that a reader hands out from where it stands, each once and in order; damage goes to `on_bad`, and fails the test without it.
pub(crate) fn ids(
    reader: &mut Reader<SimStorage>,
    mut on_bad: Option<&mut Vec<inrush_log::BadRecord>>,
) -> Vec<MessageId> {
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        match (entry, &mut on_bad) {
            (Entry::Record(record), _) if record.header.kind == RecordKind::Message => found.push(record.id),
            (Entry::Record(_), _) => {}
            (Entry::Bad(bad), Some(list)) => list.push(bad),
            (Entry::Bad(bad), None) => panic!("{bad}"),
        }
    }
    assert!(found.is_sorted_by(|first, second| first < second), "an id twice, or out of order");
    found
}
