//! The ring of a core: records go in without a lock, an allocation or a system call; the writer takes them out.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use inrush_metrics::LINES;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::control::{Hot, Item, Shared};
use crate::records::{Committed, ConnectionRefused, MessageQueued, SessionEnded};

/// Octets of the ring of one core: what it says in a tenth of a second at its highest rate, and more.
pub const RING_OCTETS: usize = 1 << 20;

/// Octets of the largest record: that of a message with as many recipients as can be named.
pub(crate) const RECORD_OCTETS_MAX: usize = 64 << 10;

/// What stands in records as a number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Number of the core.
    pub core: usize,
    /// Names of the listeners by index.
    pub listeners: Vec<String>,
    /// Reasons of the replies that refuse, by their index; empty for the others.
    pub reasons: Vec<&'static str>,
}

impl Names {
    pub(crate) fn listener(&self, index: u16) -> String {
        self.listeners.get(usize::from(index)).cloned().unwrap_or_default()
    }

    pub(crate) fn reason(&self, index: u16) -> &'static str {
        self.reasons.get(usize::from(index)).copied().unwrap_or_default()
    }
}

/// The end of a ring that its core writes. Says nothing where no log was [started](crate::start).
#[derive(Default)]
pub struct CoreLines(Option<Box<Ends>>);

struct Ends {
    shared: Arc<Shared>,
    ring: RefCell<Producer<u8>>,
    /// Where a record is put together.
    record: RefCell<Vec<u8>>,
    /// The gate of the last message in the ring that has not been reported durable.
    uncommitted: Cell<Option<u64>>,
}

/// The end that the writer reads.
pub(crate) struct Reader {
    pub(crate) ring: Consumer<u8>,
    pub(crate) names: Arc<Names>,
    record: Vec<u8>,
}

/// A ring for the core of `names`.
#[must_use]
pub fn of_core(names: Names) -> CoreLines {
    let Some(shared) = crate::control::shared() else { return CoreLines(None) };
    let (ring, other) = RingBuffer::new(RING_OCTETS);
    // Without a writer nobody empties it, and it fills up once.
    let _ = shared.sender.send(Item::Ring(Box::new(Reader {
        ring: other,
        names: Arc::new(names),
        record: Vec::new(),
    })));
    CoreLines(Some(Box::new(Ends {
        shared: Arc::clone(shared),
        ring: RefCell::new(ring),
        record: RefCell::new(Vec::with_capacity(RECORD_OCTETS_MAX)),
        uncommitted: Cell::new(None),
    })))
}

impl CoreLines {
    /// Whether lines of messages are wanted.
    pub fn of_messages(&self) -> bool {
        self.wants(Hot::MESSAGES)
    }

    /// Whether lines of sessions are wanted.
    pub fn of_sessions(&self) -> bool {
        self.wants(Hot::SESSIONS)
    }

    /// Whether lines of refused connections are wanted.
    pub fn of_connections(&self) -> bool {
        self.wants(Hot::CONNECTIONS)
    }

    /// A message is in the log; its line is written once [`committed`](Self::committed) has reached it.
    pub fn message<'r>(&self, message: &MessageQueued<'_>, recipients: impl Iterator<Item = &'r str>) {
        let Some(ends) = &self.0 else { return };
        let shown = usize::from(ends.shared.recipients_shown.load(Relaxed));
        if ends.push(|record| message.put(recipients.take(shown), record)) {
            ends.uncommitted.set(Some(message.gate));
        }
    }

    /// The log is durable up to `gate`, by a write from `started_us` to `now_us` on the core's clock; `wall_us` is that time since 1970.
    pub fn committed(&self, gate: u64, started_us: u64, now_us: u64, wall_us: u64) {
        let Some(ends) = &self.0 else { return };
        let Some(last) = ends.uncommitted.get() else { return };
        let committed = Committed { gate, wall_us, started_us, now_us };
        // Where there was no room the next one says it too.
        if ends.push(|record| committed.put(record)) && gate >= last {
            ends.uncommitted.set(None);
        }
    }

    /// A session has ended.
    pub fn session(&self, session: &SessionEnded<'_>) {
        if let Some(ends) = &self.0 {
            ends.push(|record| session.put(record));
        }
    }

    /// A connection got no session.
    pub fn refused(&self, refused: &ConnectionRefused) {
        if let Some(ends) = &self.0 {
            ends.push(|record| refused.put(record));
        }
    }

    fn wants(&self, what: Hot) -> bool {
        self.0.as_ref().is_some_and(|ends| ends.shared.hot.load(Relaxed) & what.0 != 0)
    }
}

impl Ends {
    /// Puts a record into the ring; false, and a lost line, where it has no room.
    fn push(&self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut record = self.record.borrow_mut();
        record.clear();
        record.extend_from_slice(&[0; 4]);
        put(&mut record);
        let octets = u32::try_from(record.len()).unwrap_or(u32::MAX);
        record[..4].copy_from_slice(&octets.to_le_bytes());
        let mut ring = self.ring.borrow_mut();
        let Ok(mut chunk) = ring.write_chunk(record.len()) else {
            LINES.dropped.fetch_add(1, Relaxed);
            return false;
        };
        let (first, second) = chunk.as_mut_slices();
        let (front, back) = record.split_at(first.len());
        first.copy_from_slice(front);
        second.copy_from_slice(back);
        chunk.commit_all();
        true
    }
}

impl Reader {
    /// The next record, if there is one.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let head = self.ring.read_chunk(4).ok()?;
        let (first, second) = head.as_slices();
        let mut octets = [0; 4];
        octets[..first.len()].copy_from_slice(first);
        octets[first.len()..].copy_from_slice(second);
        // A record enters the ring as a whole.
        let octets = usize::try_from(u32::from_le_bytes(octets)).ok()?;
        let whole = self.ring.read_chunk(octets).ok()?;
        let (first, second) = whole.as_slices();
        self.record.clear();
        self.record.extend_from_slice(first);
        self.record.extend_from_slice(second);
        whole.commit_all();
        self.record.get(4..)
    }

    /// Whether the core is gone, and has left nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.ring.is_abandoned() && self.ring.is_empty()
    }
}
