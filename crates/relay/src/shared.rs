//! What the tasks of the relay share. They all run on one thread: cells, no locks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use inrush_log::{Appender, Lsn, Message, Poisoned};
use inrush_metrics::Metrics;
use inrush_queue::{Ledger, Place, QueueSettings, RecipientSet, Recorder, Slot};
use inrush_spans::Spans;
use tokio::sync::Notify;

use crate::backlog::Replies;
use crate::content::is_chunked;
use crate::destination::{Destination, Job};
use crate::dns::Resolver;
use crate::due::Aside;
use crate::failure::Verdict;
use crate::memory::{Charge, Memory};
use crate::places::Places;
use crate::reader::{ReaderHandle, STREAM_OCTETS};
use crate::routing::{Routing, Target};
use crate::settings::{RECIPIENTS_PER_TRANSACTION, RelaySettings, RouteKind, Surroundings};
use crate::tls::ClientTls;

/// How long an address that could not be connected to is passed over while there are others.
const BAD_HOST: Duration = Duration::from_mins(1);
/// What a message costs besides its octets.
const MESSAGE_OVERHEAD: u64 = 512;
/// Attempts whose reports may wait for the disk; with more of them no further attempt begins.
const TELLING_MAX: u64 = 256;

/// The relay's state.
pub(crate) struct Shared {
    pub(crate) settings: RelaySettings,
    pub(crate) queue: QueueSettings,
    pub(crate) surroundings: Surroundings,
    pub(crate) routing: Routing,
    pub(crate) node: u16,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) recorder: RefCell<Recorder>,
    /// The log of what is made here.
    pub(crate) internal: RefCell<Appender>,
    /// The log of what waits for long.
    pub(crate) retry: RefCell<Appender>,
    /// It was written to.
    pub(crate) retry_written: Notify,
    /// From here on it holds copies that no outcome knows of yet.
    pub(crate) retry_floor: Cell<Option<Lsn>>,
    pub(crate) destinations: RefCell<HashMap<Target, Rc<Destination>>>,
    pub(crate) reader: ReaderHandle,
    pub(crate) resolver: Resolver,
    pub(crate) tls: ClientTls,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) spans: Spans,
    bad_hosts: RefCell<HashMap<SocketAddr, Instant>>,
    /// Messages in memory.
    pub(crate) memory: Rc<Memory>,
    /// Connections, and attempts to make one.
    pub(crate) places: Places,
    /// Entries that are seen to without a destination.
    pub(crate) aside: Aside,
    /// Outcomes wait to be written.
    pub(crate) outcomes_wait: Cell<bool>,
    /// Something has changed that the main loop looks at.
    pub(crate) attention: Arc<Notify>,
    random: Cell<u64>,
    pub(crate) stopping: Cell<bool>,
    /// Connections that stand.
    pub(crate) connections: Cell<u64>,
    /// Outcomes that wait for the report to their sender to be durable.
    pub(crate) telling: Cell<u64>,
    /// What was counted.
    pub(crate) delivery: RefCell<inrush_metrics::Delivery>,
    /// The last reply of each destination that was no delivery.
    pub(crate) replies: RefCell<Replies>,
    /// The log of internal mail was written to.
    pub(crate) internal_written: Notify,
    /// Why the process has to end.
    pub(crate) failed: RefCell<Option<Poisoned>>,
}

/// The parts that [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) settings: RelaySettings,
    pub(crate) queue: QueueSettings,
    pub(crate) surroundings: Surroundings,
    pub(crate) node: u16,
    pub(crate) ledger: Ledger,
    pub(crate) recorder: Recorder,
    pub(crate) internal: Appender,
    pub(crate) retry: Appender,
    pub(crate) reader: ReaderHandle,
    pub(crate) resolver: Resolver,
    pub(crate) tls: ClientTls,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) spans: Spans,
    pub(crate) attention: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut seed = [0; 8];
        // A start without randomness spreads less: no reason to stay down.
        let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
        let routing = Routing::new(&parts.settings);
        let memory = Memory::new(parts.settings.memory_max, Arc::clone(&parts.attention));
        Self {
            memory,
            places: Places::new(parts.settings.connections_max),
            aside: Aside::default(),
            outcomes_wait: Cell::new(false),
            routing,
            settings: parts.settings,
            queue: parts.queue,
            surroundings: parts.surroundings,
            node: parts.node,
            ledger: RefCell::new(parts.ledger),
            recorder: RefCell::new(parts.recorder),
            internal: RefCell::new(parts.internal),
            retry: RefCell::new(parts.retry),
            retry_written: Notify::new(),
            retry_floor: Cell::new(None),
            destinations: RefCell::default(),
            reader: parts.reader,
            resolver: parts.resolver,
            tls: parts.tls,
            metrics: parts.metrics,
            spans: parts.spans,
            bad_hosts: RefCell::default(),
            attention: parts.attention,
            random: Cell::new(u64::from_le_bytes(seed) | 1),
            stopping: Cell::new(false),
            connections: Cell::new(0),
            telling: Cell::new(0),
            delivery: RefCell::default(),
            replies: RefCell::default(),
            internal_written: Notify::new(),
            failed: RefCell::new(None),
        }
    }

    /// Not for secrets.
    pub(crate) fn random(&self) -> u64 {
        // xorshift64*
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Whether there is room in memory for more messages.
    pub(crate) fn has_room(&self) -> bool {
        self.memory.has_room() && self.may_begin()
    }

    /// Whether attempts may begin: what they come to can be written down.
    pub(crate) fn may_begin(&self) -> bool {
        !self.stopping.get() && self.telling.get() < TELLING_MAX && !self.recorder.borrow().is_stuck()
    }

    /// The destination of a target; made if need be.
    pub(crate) fn destination(&self, target: Target) -> Rc<Destination> {
        if let Some(known) = self.destinations.borrow().get(&target) {
            return Rc::clone(known);
        }
        let connections_max = match &self.routing.route(target.route).kind {
            RouteKind::Smtp(hops) | RouteKind::Lmtp(hops) => hops.connections_max,
            RouteKind::Maildir(maildir) => maildir.deliveries_max,
            RouteKind::Hold => 1,
        };
        let name = self.routing.name(&target);
        let destination = Rc::new(Destination::new(target.clone(), name, connections_max, &self.queue));
        self.destinations.borrow_mut().insert(target, Rc::clone(&destination));
        destination
    }

    /// Sends the recipients `owed` of a message on their ways.
    pub(crate) fn dispatch(&self, message: &Arc<Message>, place: Place, owed: &RecipientSet) {
        let Ok(envelope) = message.envelope() else { return };
        let mut groups: Vec<(Option<Target>, Vec<u32>)> = Vec::new();
        for (index, recipient) in (0_u32..).zip(envelope.recipients()) {
            if !owed.contains(index) {
                continue;
            }
            let target = self.routing.find(recipient.path);
            match groups.iter_mut().find(|(known, _)| *known == target) {
                Some((_, group)) => group.push(index),
                None => groups.push((target, vec![index])),
            }
        }
        let now_us = now_us();
        for (target, recipients) in groups {
            let job = |recipients: &[u32]| Job {
                message: Arc::clone(message),
                place,
                recipients: recipients.to_vec(),
                attempts: 0,
                flags: 0,
                accepted_at_us: message.header.accepted_at_us,
                taken_at_us: now_us,
                since: Instant::now(),
                charge: self.charge(message),
            };
            let destination = target.map(|target| self.destination(target));
            for recipients in recipients.chunks(RECIPIENTS_PER_TRANSACTION) {
                match &destination {
                    Some(destination) => self.queue_job(destination, job(recipients)),
                    None => self.put_off(&job(recipients), b"", &no_route()),
                }
            }
        }
    }

    /// Puts a message into the queue of its destination, or off when that is down or has a backlog already.
    fn queue_job(&self, destination: &Rc<Destination>, job: Job) {
        if matches!(self.routing.route(destination.target.route).kind, RouteKind::Hold) {
            return self.hold(&job, &destination.name);
        }
        if destination.is_down() || destination.waiting() > 0 {
            let trouble = destination.trouble.borrow().clone();
            return self.put_off(&job, &destination.name, &trouble.unwrap_or_else(busy));
        }
        destination.push(job);
        self.places.queue(destination);
    }

    /// The message of an entry that is due, once it was read.
    pub(crate) async fn fetch(&self, slot: Slot) -> Option<Job> {
        self.ledger.borrow_mut().split(slot, RECIPIENTS_PER_TRANSACTION);
        let (place, id, recipients, attempts, flags, accepted_at) = {
            let ledger = self.ledger.borrow();
            let entry = ledger.entry(slot)?;
            let recipients: Vec<_> = entry.recipients.iter().collect();
            (entry.place(), entry.message_id, recipients, entry.attempts(), entry.flags, entry.accepted_at())
        };
        if !self.ledger.borrow_mut().claim(slot) {
            return None;
        }
        let message = match self.reader.message(place).await {
            Ok(Some(message)) if message.id.packed() == id && message.envelope().is_ok() => message,
            other => {
                self.cannot_be_read(slot, other.as_ref().err());
                return None;
            }
        };
        let message = Arc::new(message);
        let mut charge = self.charge(&message);
        // Whoever has it read is about to send it.
        charge.leave();
        Some(Job {
            message,
            place,
            recipients,
            attempts,
            flags,
            accepted_at_us: accepted_at * 1_000_000,
            taken_at_us: now_us(),
            since: Instant::now(),
            charge,
        })
    }

    pub(crate) fn charge(&self, message: &Message) -> Charge {
        let header = &message.header;
        let octets = u64::from(header.envelope_octets) + u64::from(header.body_octets) + MESSAGE_OVERHEAD;
        let stream = if is_chunked(message) { STREAM_OCTETS } else { 0 };
        self.memory.waits(octets, stream)
    }

    /// Whether an address is worth an attempt while there are others.
    pub(crate) fn is_bad_host(&self, address: SocketAddr) -> bool {
        let mut bad = self.bad_hosts.borrow_mut();
        match bad.get(&address) {
            Some(since) if since.elapsed() < BAD_HOST => true,
            Some(_) => {
                bad.remove(&address);
                false
            }
            None => false,
        }
    }

    /// An address could not be connected to.
    pub(crate) fn note_bad_host(&self, address: SocketAddr) {
        let mut bad = self.bad_hosts.borrow_mut();
        if bad.len() > 10_000 {
            bad.retain(|_, since| since.elapsed() < BAD_HOST);
        }
        bad.insert(address, Instant::now());
    }
}

/// No route takes the recipient any more: somebody will set one, or it expires.
pub(crate) fn no_route() -> Verdict {
    Verdict::later((4, 3, 5), "no route for this recipient")
}

/// More waits for the destination than it takes at the moment.
pub(crate) fn busy() -> Verdict {
    Verdict::later((4, 4, 5), "the destination has a backlog")
}

/// The wall clock in µs since 1970.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
