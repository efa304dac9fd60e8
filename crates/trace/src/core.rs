//! A core's part: which of its sessions somebody wants to see, and the ring that takes what they do.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rtrb::Producer;

use crate::event::Event;
use crate::hub::{Hub, TRACERS_MAX, Tracer};

/// Octets of the ring of a core: a few thousand commands.
pub const RING_OCTETS: usize = 256 << 10;

/// What a session remembers of those who look: four octets. Sessions that nobody looks at have the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// The generation that it was matched against.
    generation: u16,
    /// Tracers that see it, by their place; and, four bits higher, those that see it once it names a recipient.
    tracers: u8,
    /// There was an AUTH: what follows and is no command may be a part of it.
    after_auth: bool,
}

const _: () = assert!(TRACERS_MAX <= 4 && size_of::<Traced>() == 4);

impl Traced {
    /// Whether somebody sees this session.
    #[must_use]
    pub fn is_seen(self) -> bool {
        self.seen_by() != 0
    }

    /// Whether somebody would see it if it named the right recipient.
    #[must_use]
    pub fn is_waited_for(self) -> bool {
        self.waited_for_by() != 0
    }

    fn seen_by(self) -> u8 {
        self.tracers & 15
    }

    fn waited_for_by(self) -> u8 {
        self.tracers >> 4
    }
}

/// The session whose turn it is.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    number: u64,
    opened_us: u64,
    seen_by: u8,
    after_auth: bool,
    /// The time of the turn: on the core's clock, and since 1970.
    now_us: u64,
    wall_us: u64,
}

/// What a core has for those who look.
pub struct CoreTrace {
    hub: &'static Hub,
    ring: RefCell<Producer<u8>>,
    record: RefCell<Vec<u8>>,
    tracers: RefCell<Vec<Arc<Tracer>>>,
    known: Cell<u16>,
    current: Cell<Current>,
}

impl CoreTrace {
    pub(crate) fn new(hub: &'static Hub, ring: Producer<u8>) -> Self {
        Self {
            hub,
            ring: RefCell::new(ring),
            record: RefCell::default(),
            tracers: RefCell::default(),
            known: Cell::new(0),
            current: Cell::default(),
        }
    }

    /// Changes whenever somebody begins or ends to look; 0 while nobody does.
    #[inline]
    pub fn generation(&self) -> u16 {
        self.hub.generation.load(Relaxed)
    }

    /// Whether `traced` has to be [matched](Self::match_client) again.
    #[inline]
    pub fn is_due(&self, traced: Traced) -> bool {
        self.generation() != traced.generation
    }

    /// Matches a session with this client against those who look now. Gives back whether somebody has begun to see it.
    pub fn match_client(&self, traced: &mut Traced, client: IpAddr) -> bool {
        let generation = self.generation();
        if generation == 0 {
            *traced = Traced { after_auth: traced.after_auth, ..Traced::default() };
            return false;
        }
        self.learn(generation);
        let before = *traced;
        let (mut seen_by, mut waited_for_by) = (0, 0);
        for tracer in &*self.tracers.borrow() {
            // Whoever was there when the session was last matched keeps what came of it.
            if tracer.born <= before.generation && before.generation != 0 {
                seen_by |= before.seen_by() & tracer.bit;
                waited_for_by |= before.waited_for_by() & tracer.bit;
            } else if tracer.filter.allows(client) {
                if tracer.filter.needs_recipient() {
                    waited_for_by |= tracer.bit;
                } else if tracer.take_session() {
                    seen_by |= tracer.bit;
                }
            }
        }
        (traced.generation, traced.tracers) = (generation, seen_by | waited_for_by << 4);
        seen_by & !before.seen_by() != 0
    }

    /// Matches a recipient in `domain`. Gives back whether somebody has begun to see the session.
    pub fn match_recipient(&self, traced: &mut Traced, domain: &str) -> bool {
        let before = traced.seen_by();
        for tracer in &*self.tracers.borrow() {
            if traced.waited_for_by() & tracer.bit != 0 && tracer.filter.has_recipient(domain) {
                traced.tracers &= !(tracer.bit << 4);
                if tracer.take_session() {
                    traced.tracers |= tracer.bit;
                }
            }
        }
        traced.seen_by() & !before != 0
    }

    /// From now on what is observed is of this session, until it is another one's turn. `opened_us` and `now_us` are on the core's clock, `wall_us`
    /// since 1970.
    pub fn attend(&self, traced: Traced, number: u64, opened_us: u64, now_us: u64, wall_us: u64) {
        let (seen_by, after_auth) = (traced.seen_by(), traced.after_auth);
        self.current.set(Current { number, opened_us, seen_by, after_auth, now_us, wall_us });
    }

    /// The end of its turn.
    pub fn leave(&self, traced: &mut Traced) {
        traced.after_auth |= self.current.take().after_auth;
    }

    /// Whether somebody sees the session whose turn it is.
    #[inline]
    pub fn is_attended(&self) -> bool {
        self.current.get().seen_by != 0
    }

    /// Something has happened in the session whose turn it is.
    pub fn tell(&self, event: &Event<'_>) {
        let Current { number, opened_us, seen_by, now_us, wall_us, .. } = self.current.get();
        if seen_by == 0 {
            return;
        }
        let mut record = self.record.borrow_mut();
        record.clear();
        record.extend_from_slice(&[0; 4]);
        event.put(seen_by, number, wall_us, now_us.saturating_sub(opened_us), &mut record);
        let octets = u32::try_from(record.len()).unwrap_or(u32::MAX);
        record[..4].copy_from_slice(&octets.to_le_bytes());
        let mut ring = self.ring.borrow_mut();
        let Ok(mut chunk) = ring.write_chunk(record.len()) else {
            self.hub.lost.fetch_add(1, Relaxed);
            return;
        };
        let (first, second) = chunk.as_mut_slices();
        let (front, back) = record.split_at(first.len());
        first.copy_from_slice(front);
        second.copy_from_slice(back);
        chunk.commit_all();
    }

    /// The same for a command: of `is_auth` only the mechanism is told, and what is no command behind it not at all, since clients that were refused
    /// send their password so.
    pub fn tell_command(&self, line: &[u8], is_auth: bool, is_known: bool) {
        let current = self.current.get();
        if is_auth {
            self.current.set(Current { after_auth: true, ..current });
            let mut words = line.split(|octet| *octet == b' ').filter(|word| !word.is_empty()).skip(1);
            let mechanism = words.next().unwrap_or_default();
            let more: &[u8] = if words.next().is_some() { b" ..." } else { b"" };
            // A mechanism is short (RFC 4422 §3.1); what is longer is something else.
            let mechanism = if mechanism.len() <= 20 { mechanism } else { b"..." };
            self.tell(&Event::Command(&[b"AUTH ", mechanism, more].concat()));
        } else if is_known || !current.after_auth {
            self.tell(&Event::Command(line));
        } else {
            self.tell(&Event::Command(b"(behind AUTH, not shown)"));
        }
    }

    fn learn(&self, generation: u16) {
        if self.known.replace(generation) != generation {
            self.tracers.replace(self.hub.tracers());
        }
    }
}
