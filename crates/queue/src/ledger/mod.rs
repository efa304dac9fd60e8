//! What is owed: entries for deferred and held recipients, and how far each arrival log is accounted for.
//!
//! ```text
//!   take ──▶ open in its lane ──▶ apply(outcome) ──▶ sent, bounced … : gone
//!                                      │ deferred, held
//!                                      ▼
//!                 entry: scheduled ──due──▶ ready ──claim──▶ busy ──apply(outcome)──▶ …
//! ```
//! No I/O, no clock: the same code folds the outcomes of earlier lives and follows those of this one. A message that has not been tried costs
//! nothing; one that was deferred costs an entry of about 100 octets for each group of its recipients that waits together.

mod checkpoint;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;
use inrush_log::{LogKind, Lsn, MessageId};

use crate::destinations::{DestinationId, Destinations};
use crate::lane::Lane;
use crate::ledger::checkpoint::Announced;
pub use crate::ledger::checkpoint::OctetsRead;
use crate::outcome::{LaneRef, OutcomeRef, Place, ResultRef, Status, outcome_flag, result_flag};
use crate::{QueueSettings, RecipientSet};

/// Seconds that the wall clock may go back without a look at everything.
const CLOCK_STEP: u32 = 60;

/// No slot.
const NONE: u32 = u32::MAX;

/// A handle on an entry; stale when the entry has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    index: u32,
    stamp: u32,
}

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryState {
    /// The time of its next attempt.
    Scheduled,
    /// A place at its destination.
    Ready,
    /// The end of an attempt.
    Busy,
    /// An operator.
    Held,
}

/// Recipients of a message that wait together.
#[derive(Debug)]
pub struct Entry {
    /// [`MessageId::packed`].
    pub message_id: u64,
    lsn: u64,
    /// The indices.
    pub recipients: RecipientSet,
    stamp: u32,
    /// The next entry of the same message.
    sibling: u32,
    /// Its key among the wakes; 0 = it has none.
    wake: u32,
    accepted_at: u32,
    next_attempt: u32,
    octets: u32,
    /// Recipients in the envelope.
    pub recipients_total: u32,
    /// Where to.
    pub destination: DestinationId,
    attempts: u16,
    /// See [`result_flag`].
    pub flags: u8,
    /// What it waits for.
    pub state: EntryState,
    in_retry: bool,
    log: u8,
}

const _: () = assert!(size_of::<Entry>() <= 96);

impl Entry {
    /// Where its message stands.
    #[must_use]
    pub fn place(&self) -> Place {
        let kind = if self.in_retry { LogKind::Retry } else { LogKind::Arrival };
        Place { kind, log: self.log, lsn: Lsn::new(self.lsn) }
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts.into()
    }

    /// When its message was accepted, in seconds since 1970.
    #[must_use]
    pub fn accepted_at(&self) -> u64 {
        self.accepted_at.into()
    }

    /// When its next attempt is or was due, in seconds since 1970.
    #[must_use]
    pub fn next_attempt(&self) -> u64 {
        self.next_attempt.into()
    }

    /// Octets of its message, about.
    #[must_use]
    pub fn octets(&self) -> u64 {
        u64::from(self.octets)
    }
}

/// The state of the queue.
#[derive(Debug)]
pub struct Ledger {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// First slot of each message.
    ids: HashTable<u32>,
    wakes: BTreeSet<(u32, u32)>,
    destinations: Destinations,
    lanes: BTreeMap<u8, LaneState>,
    /// Logs of which notes have told and that are not there.
    absent: BTreeMap<u8, LaneRef>,
    /// Entries whose message stands in each segment of a retry log.
    retry: BTreeMap<(u8, u64), u32>,
    stamp: u32,
    lifetime: u32,
    delay_warning_after: u32,
    /// No attempt is further ahead than this.
    pause_max: u32,
    /// How far the wall clock is ahead of the time that is trusted for ages.
    clock_lead: u32,
    /// When it was last looked for what is due.
    looked_at: u32,
    /// A checkpoint that is being read.
    next: Option<Box<Ledger>>,
    announced: Announced,
    read: OctetsRead,
    generation: u64,
    retry_segment_bytes: u64,
    counts: Counts,
    /// Entries by whether they are held, and by the minute in which their message was accepted: as many keys as minutes in the lifetime of a message.
    minutes: BTreeMap<(bool, u32), u32>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    /// What the log itself says.
    log: ArrivalLog,
    /// The log that the notes read so far are about; all zero while none has said so.
    told: [u8; 16],
}

/// An arrival log as it stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalLog {
    /// Its number.
    pub log: u8,
    /// Which log of that number it is.
    pub uuid: [u8; 16],
    /// Octets of a segment.
    pub segment_bytes: u64,
    /// Everything below is accounted for, whatever outcomes say.
    pub begin: Lsn,
}

/// How many entries are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That wait for their time, a place, or the end of an attempt.
    pub deferred: u64,
    /// That wait for an operator.
    pub held: u64,
}

/// What is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The next attempt of an entry that was scheduled; it is ready now.
    Attempt(Slot),
    /// The age of one that was ready already has reached a mark: the sender may have to be told of a delay, or it is to be given up.
    Age(Slot),
}

impl Ledger {
    /// Nothing is owed.
    #[must_use]
    pub fn new(settings: &QueueSettings) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ids: HashTable::new(),
            wakes: BTreeSet::new(),
            destinations: Destinations::default(),
            lanes: BTreeMap::new(),
            absent: BTreeMap::new(),
            retry: BTreeMap::new(),
            stamp: 0,
            lifetime: seconds(settings.lifetime),
            delay_warning_after: seconds(settings.delay_warning_after),
            pause_max: seconds(settings.pause_max()),
            clock_lead: 0,
            // The first look finds times of an earlier life, whose clock was another one.
            looked_at: u32::MAX,
            next: None,
            announced: Announced::default(),
            read: OctetsRead::default(),
            generation: 0,
            retry_segment_bytes: 0,
            counts: Counts::default(),
            minutes: BTreeMap::new(),
        }
    }

    /// Makes an arrival log known.
    pub fn add_lane(&mut self, log: ArrivalLog) {
        let lane = LaneState { lane: Lane::starting_at(log.begin), log, told: [0; 16] };
        self.lanes.insert(log.log, lane);
    }

    /// Makes the retry log known.
    pub fn set_retry_segment_bytes(&mut self, segment_bytes: u64) {
        self.retry_segment_bytes = segment_bytes;
    }

    /// Numbers of the arrival logs.
    pub fn lanes(&self) -> impl Iterator<Item = u8> + '_ {
        self.lanes.keys().copied()
    }

    /// Octets of a segment of an arrival log.
    #[must_use]
    pub fn segment_bytes(&self, log: u8) -> u64 {
        self.lanes.get(&log).map_or(1, |state| state.log.segment_bytes)
    }

    /// Messages of an arrival log that were under way when the process ended, to be taken first.
    #[must_use]
    pub fn unfinished(&self, log: u8) -> Vec<Lsn> {
        self.lanes.get(&log).map(|state| state.lane.open().collect()).unwrap_or_default()
    }

    /// Messages that are under way: their places in the arrival logs, and the recipients that outcomes have named.
    pub fn under_way(&self) -> impl Iterator<Item = (Place, &RecipientSet)> {
        self.lanes.iter().flat_map(|(log, state)| {
            let place = |lsn| Place { kind: LogKind::Arrival, log: *log, lsn };
            state.lane.mentioned().map(move |(lsn, mentioned)| (place(lsn), mentioned))
        })
    }

    /// Position in an arrival log from which on messages were not taken.
    #[must_use]
    pub fn taken(&self, log: u8) -> Lsn {
        self.lanes.get(&log).map_or(Lsn::ZERO, |state| state.lane.taken())
    }

    /// Messages under way of all arrival logs: taken, and not all of their recipients accounted for.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.lanes.values().map(|state| state.lane.open_count()).sum()
    }

    /// Whether nothing is owed of a message any more, as far as is known: neither under way nor in the queue.
    #[must_use]
    pub fn is_settled(&self, id: MessageId) -> bool {
        let is_open = self.lanes.get(&id.log).is_some_and(|state| state.lane.is_open(id.lsn));
        !is_open && self.entries_of(id.packed()).is_empty()
    }

    /// Takes a message of an arrival log, whose record ends at `next`. The recipients that are owed a first attempt; none when an earlier life has
    /// accounted for all of them.
    pub fn take(&mut self, log: u8, lsn: Lsn, next: Lsn, recipients_total: u32) -> RecipientSet {
        let Some(state) = self.lanes.get_mut(&log) else { return RecipientSet::default() };
        state.lane.take(lsn, next, recipients_total)
    }

    /// Takes what stands at a place of an arrival log and cannot be read; whatever stands below `next` has been taken then. It stays under way, so that
    /// its segment is kept, until it is taken after all or its end is recorded.
    pub fn keep(&mut self, log: u8, lsn: Lsn, next: Lsn) {
        if let Some(state) = self.lanes.get_mut(&log) {
            state.lane.keep(lsn, next);
        }
    }

    /// What is under way and cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = Place> + '_ {
        self.lanes.iter().flat_map(|(log, state)| {
            let place = |lsn: &Lsn| Place { kind: LogKind::Arrival, log: *log, lsn: *lsn };
            state.lane.unreadable().iter().map(place)
        })
    }

    /// Whether the message at a place is under way and cannot be read.
    #[must_use]
    pub fn is_unreadable(&self, place: Place) -> bool {
        let lane = self.lanes.get(&place.log).filter(|_| place.kind == LogKind::Arrival);
        lane.is_some_and(|state| state.lane.unreadable().contains(&place.lsn))
    }

    /// Passes by a place of an arrival log that holds no message.
    pub fn skip(&mut self, log: u8, lsn: Lsn, next: Lsn) {
        if let Some(state) = self.lanes.get_mut(&log) {
            state.lane.skip(lsn, next);
        }
    }

    /// Nothing below this position of an arrival log is needed any more.
    #[must_use]
    pub fn low_water(&self, log: u8) -> Lsn {
        self.lanes.get(&log).map_or(Lsn::ZERO, |state| state.lane.low_water(state.log.segment_bytes))
    }

    /// Nothing below this position of a retry log is needed any more; [`Lsn::MAX`] when nothing is.
    #[must_use]
    pub fn retry_low_water(&self, log: u8) -> Lsn {
        let first = self.retry.range((log, 0)..=(log, u64::MAX)).next();
        first.map_or(Lsn::MAX, |((_, segment), _)| Lsn::new(segment * self.retry_segment_bytes))
    }

    /// Octets of messages that entries wait with, by number of the segment of a log; what is tried just now as well.
    #[must_use]
    pub fn live_octets(&self, kind: LogKind, log: u8, segment_bytes: u64) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        for entry in self.slots.iter().flatten() {
            let place = entry.place();
            if (place.kind, place.log) == (kind, log) {
                // A short message takes the place of its envelope, too.
                *live.entry(place.lsn.segment(segment_bytes)).or_default() += entry.octets() + 512;
            }
        }
        live
    }

    /// Messages that entries wait with in a segment, ascending.
    #[must_use]
    pub fn messages_in(&self, kind: LogKind, log: u8, segment_bytes: u64, segment: u64) -> Vec<(u64, Place)> {
        let mut found = Vec::new();
        for entry in self.slots.iter().flatten() {
            let place = entry.place();
            if (place.kind, place.log) == (kind, log) && place.lsn.segment(segment_bytes) == segment {
                found.push((entry.message_id, place));
            }
        }
        found.sort_unstable_by_key(|(_, place)| place.lsn);
        found.dedup();
        found
    }

    /// Whether a message may be moved: it has entries, all in this place, and none is being tried.
    #[must_use]
    pub fn may_move(&self, message_id: u64, from: Place) -> bool {
        let slots = self.entries_of(message_id);
        !slots.is_empty()
            && slots
                .iter()
                .filter_map(|slot| self.entry(*slot))
                .all(|entry| entry.place() == from && entry.state != EntryState::Busy)
    }

    /// How many entries there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the oldest message was accepted of which an entry is deferred, or `held`: the beginning of that minute, in seconds since 1970.
    #[must_use]
    pub fn oldest(&self, held: bool) -> Option<u64> {
        let mut minutes = self.minutes.range((held, 0)..=(held, u32::MAX));
        minutes.next().map(|((_, minute), _)| u64::from(*minute) * 60)
    }

    /// The entry of a handle, unless it has changed since.
    #[must_use]
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot.index as usize)?.as_ref().filter(|entry| entry.stamp == slot.stamp)
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        (0_u32..).zip(&self.slots).filter_map(|(index, entry)| {
            let entry = entry.as_ref()?;
            Some((Slot { index, stamp: entry.stamp }, entry))
        })
    }

    /// The entries of a message.
    #[must_use]
    pub fn entries_of(&self, message_id: u64) -> Vec<Slot> {
        let mut found = Vec::new();
        let mut index = self.first(message_id);
        while let Some(entry) = self.slots.get(index as usize).and_then(Option::as_ref) {
            found.push(Slot { index, stamp: entry.stamp });
            index = entry.sibling;
        }
        found
    }

    /// Name of a destination.
    #[must_use]
    pub fn destination(&self, id: DestinationId) -> &[u8] {
        self.destinations.name(id)
    }

    /// Hands out what is due at `now`, in seconds since 1970, at most `max`. What is scheduled becomes ready.
    pub fn due(&mut self, now: u64, max: usize, mut take: impl FnMut(Due)) {
        let now = clamp(now);
        if now.saturating_add(CLOCK_STEP) < self.looked_at {
            self.follow_clock_back(now);
        }
        self.looked_at = now;
        for _ in 0..max {
            let Some(&(wake, index)) = self.wakes.first() else { return };
            if wake > now {
                return;
            }
            let Some(entry) = self.slots[index as usize].as_mut() else {
                self.wakes.pop_first();
                continue;
            };
            let slot = Slot { index, stamp: entry.stamp };
            let attempt = entry.state == EntryState::Scheduled && entry.next_attempt <= now;
            if attempt {
                entry.state = EntryState::Ready;
            }
            // Past its last mark it is looked at once a minute until it is given up; so is one whose sender is to be told, in case its attempt does that.
            let later = now.saturating_add(60);
            let mark = self.next_mark(index, now).unwrap_or(later);
            let mark = if self.is_untold(index, now) { mark.min(later) } else { mark };
            self.set_wake(index, mark);
            take(if attempt { Due::Attempt(slot) } else { Due::Age(slot) });
        }
    }

    /// Begins an attempt; false when the entry has changed or is not ready.
    pub fn claim(&mut self, slot: Slot) -> bool {
        match self.slots.get_mut(slot.index as usize).and_then(Option::as_mut) {
            Some(entry) if entry.stamp == slot.stamp && entry.state == EntryState::Ready => {
                entry.state = EntryState::Busy;
                self.set_wake(slot.index, 0);
                true
            }
            _ => false,
        }
    }

    /// Leaves at most so many recipients in an entry that is ready. The others are an entry of their own, which waits as this one did.
    pub fn split(&mut self, slot: Slot, recipients_max: usize) {
        let entry = self.slots.get_mut(slot.index as usize).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| entry.stamp == slot.stamp && entry.state == EntryState::Ready)
        else {
            return;
        };
        let rest: RecipientSet = entry.recipients.iter().skip(recipients_max).collect();
        if rest.is_empty() {
            return;
        }
        rest.iter().for_each(|recipient| _ = entry.recipients.remove(recipient));
        self.destinations.acquire_again(entry.destination);
        let rest = Entry {
            recipients: rest,
            stamp: 0,
            sibling: NONE,
            wake: 0,
            state: EntryState::Scheduled,
            ..*entry
        };
        self.insert(rest);
    }

    /// Its message cannot be read: the entry waits until `at`, in seconds since 1970.
    pub fn postpone(&mut self, slot: Slot, at: u64) {
        let entry = self.slots.get_mut(slot.index as usize).and_then(Option::as_mut);
        if let Some(entry) =
            entry.filter(|entry| entry.stamp == slot.stamp && entry.state == EntryState::Busy)
        {
            entry.state = EntryState::Scheduled;
            entry.next_attempt = clamp(at);
            self.set_wake(slot.index, clamp(at).max(1));
        }
    }

    /// Makes an entry due at once, whatever its time; false when it is held, ready or busy. It is handed out by [`due`](Self::due).
    pub fn hurry(&mut self, slot: Slot) -> bool {
        match self.slots.get_mut(slot.index as usize).and_then(Option::as_mut) {
            Some(entry) if entry.stamp == slot.stamp && entry.state == EntryState::Scheduled => {
                entry.next_attempt = 0;
                self.set_wake(slot.index, 1);
                true
            }
            _ => false,
        }
    }

    /// Takes a scheduled entry for something else than its next attempt: it is ready at once. False when it is held or busy.
    pub fn make_ready(&mut self, slot: Slot) -> bool {
        match self.slots.get_mut(slot.index as usize).and_then(Option::as_mut) {
            Some(entry) if entry.stamp == slot.stamp => {
                if entry.state == EntryState::Scheduled {
                    entry.state = EntryState::Ready;
                }
                entry.state == EntryState::Ready
            }
            _ => false,
        }
    }

    /// Says how many seconds the wall clock is ahead of a time that is trusted: what has jumped does not make mail old.
    pub fn set_clock_lead(&mut self, lead: u64) {
        self.clock_lead = clamp(lead);
    }

    /// Takes some recipients of an entry for an operator, whatever it waits for: they are busy until an outcome says more, the others wait on. False
    /// when it has changed or is busy already.
    pub fn seize(&mut self, slot: Slot, recipients: &RecipientSet) -> bool {
        let Some(entry) = self.entry(slot).filter(|entry| entry.state != EntryState::Busy) else {
            return false;
        };
        let seized = Entry {
            recipients: entry.recipients.iter().filter(|one| recipients.contains(*one)).collect(),
            sibling: NONE,
            wake: 0,
            state: EntryState::Busy,
            ..*entry
        };
        self.destinations.acquire_again(seized.destination);
        for recipient in seized.recipients.iter().collect::<Vec<_>>() {
            self.strike(slot.index, recipient);
        }
        let index = self.insert(seized);
        self.set_wake(index, 0);
        true
    }

    /// Whether a message has to be given up.
    #[must_use]
    pub fn is_expired(&self, accepted_at: u64, now: u64) -> bool {
        now.saturating_sub(self.clock_lead.into()) >= accepted_at.saturating_add(self.lifetime.into())
    }

    /// Whether the sender is to be told of a delay.
    #[must_use]
    pub fn is_late(&self, accepted_at: u64, flags: u8, now: u64) -> bool {
        self.delay_warning_after > 0
            && flags & result_flag::DELAY_TOLD == 0
            && now.saturating_sub(self.clock_lead.into())
                >= accepted_at.saturating_add(self.delay_warning_after.into())
    }

    /// Follows an outcome: of this life, once it is on its way to the log, or of an earlier one.
    pub fn apply(&mut self, outcome: &OutcomeRef<'_>) {
        if let Some(next) = &mut self.next {
            next.apply(outcome);
        }
        let message_id = outcome.id.packed();
        if outcome.flags & outcome_flag::MOVED != 0 {
            self.move_message(message_id, outcome.place);
        }
        self.settle(message_id, outcome);
        if outcome.flags & outcome_flag::REPLAY == 0
            && !outcome.results.is_empty()
            && let Some(state) = self.lanes.get_mut(&outcome.id.log)
        {
            let recipients = outcome.results.iter().map(|result| result.recipient);
            state.lane.mention(outcome.id.lsn, outcome.recipients_total, recipients);
        }
    }

    /// Brings the entries of a message into line with an outcome.
    fn settle(&mut self, message_id: u64, outcome: &OutcomeRef<'_>) {
        for slot in self.entries_of(message_id) {
            for result in outcome.results {
                self.strike(slot.index, result.recipient);
            }
        }
        let mut made: Vec<(u32, ResultRef<'_>)> = Vec::new();
        for result in outcome.results.iter().filter(|result| result.status.is_open()) {
            let same = |(_, other): &&(u32, ResultRef<'_>)| {
                other.status == result.status
                    && other.next_attempt_us == result.next_attempt_us
                    && other.attempts == result.attempts
                    && other.flags == result.flags
            };
            if let Some((index, _)) = made.iter().find(same) {
                if let Some(entry) = self.slots[*index as usize].as_mut() {
                    entry.recipients.insert(result.recipient);
                }
                continue;
            }
            let destination = self.destinations.acquire(outcome.destination);
            let index = self.insert(Entry {
                message_id,
                lsn: outcome.place.lsn.get(),
                recipients: std::iter::once(result.recipient).collect(),
                stamp: 0,
                sibling: NONE,
                wake: 0,
                accepted_at: whole_seconds(outcome.accepted_at_us),
                next_attempt: whole_seconds(result.next_attempt_us),
                octets: u32::try_from(outcome.octets).unwrap_or(u32::MAX),
                recipients_total: outcome.recipients_total,
                destination,
                attempts: u16::try_from(result.attempts).unwrap_or(u16::MAX),
                flags: result.flags,
                state: if result.status == Status::Held { EntryState::Held } else { EntryState::Scheduled },
                in_retry: outcome.place.kind == LogKind::Retry,
                log: outcome.place.log,
            });
            made.push((index, *result));
        }
    }
}

fn seconds(duration: std::time::Duration) -> u32 {
    clamp(duration.as_secs())
}

/// Seconds since 1970 fit until 2106.
fn clamp(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Rounded up: what is due in a second is not due yet.
fn whole_seconds(at_us: u64) -> u32 {
    clamp(at_us.div_ceil(1_000_000))
}

fn micros(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000
}

/// The id of an entry's message on a node.
#[must_use]
pub fn message_id(node: u16, entry: &Entry) -> MessageId {
    MessageId::unpack(node, entry.message_id)
}
