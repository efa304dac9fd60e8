//! Messages that are delivered once more: which of those that the logs still have, and how they are owed again.
//!
//! ```text
//! ids ─────────────▶ where the ledger has it, else in its arrival log
//! filters ─────────▶ arrival logs from the cursor of the queue on, then copies in the retry log that entries wait with
//! ```
//! Below the cursor segments may go at any time: what is there is not looked at. The messages come in groups, so that a whole log can be replayed without being in memory.

use std::collections::{HashMap, HashSet};
use std::io;

use inrush_log::{
    DiskStorage, Entry, Envelope, LogKind, Lsn, MessageId, OpenError, Reader, RecordKind, Storage as _,
    log_directory, parse_log_directory,
};
use inrush_queue::{
    EntryState, OutcomeRef, Place, QUEUE_CONSUMER, RecipientSet, ResultRef, Status, history, outcome_flag,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::{Api, ApiError};
use crate::commands::Request;
use crate::facts::{PAGE, Page};
use crate::query::Query;
use crate::shared::{Shared, now_us};
use crate::view::Logs;

/// Messages that are handed over at a time.
const GROUP: usize = 1_000;

/// Which messages of the log are to be delivered once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// By which route.
    pub route: String,
    /// Accepted at or after, in µs since 1970.
    pub since_us: Option<u64>,
    /// Accepted before, in µs since 1970.
    pub until_us: Option<u64>,
    /// Who and what, as for the queue.
    pub query: Query,
    /// Recipients that are held as well, also of messages that are not named by their ids.
    pub held: bool,
}

/// A message that is to be delivered once more.
pub(crate) struct Replayed {
    id: MessageId,
    place: Place,
    octets: u64,
    sender: Vec<u8>,
    total: u32,
    recipients: Vec<(u32, Vec<u8>)>,
}

/// What the ledger says of a message that cannot be told from its arrival log alone.
struct Waiting {
    place: Place,
    held: RecipientSet,
}

impl Api {
    /// Delivers messages once more that are still in a log; with `counts_only` only says how many that would be.
    ///
    /// # Errors
    /// Nothing says which; there is no such route; the relay has ended; the disk fails. What was found before an error is owed again.
    pub async fn replay(&self, replay: Replay, counts_only: bool) -> Result<Value, ApiError> {
        let everything = replay.query.is_everything();
        if everything && replay.since_us.is_none() && replay.until_us.is_none() {
            return Err(ApiError::Everything);
        }
        let route = replay.route.clone();
        if !self.routes.contains(&route) {
            return Err(ApiError::Replay(format!("there is no route {route:?}")));
        }
        let waiting = self.waiting(&replay.query.ids).await?;
        let storage = self.storage.clone();
        let (groups, mut found) = mpsc::channel(1);
        let search = tokio::task::spawn_blocking(move || {
            let mut search = Search::new(&storage, &replay, waiting, groups)?;
            if replay.query.ids.is_empty() { search.by_filter() } else { search.by_id() }
        });
        let (mut messages, mut recipients) = (0, 0);
        while let Some(group) = found.recv().await {
            messages += group.len();
            recipients += if counts_only {
                group.iter().map(|message: &Replayed| message.recipients.len()).sum()
            } else {
                let route = route.clone();
                self.ask(|answer| Request::Replay(route, group, answer)).await?.map_err(ApiError::Replay)?
            };
        }
        search.await.map_err(|_| ApiError::Stopped)??;
        Ok(json!({ "action": "replay", "messages": messages, "recipients": recipients }))
    }

    /// Messages that wait with a copy in the retry log, or are held.
    async fn waiting(&self, ids: &[MessageId]) -> Result<HashMap<MessageId, Waiting>, ApiError> {
        let mut waiting: HashMap<MessageId, Waiting> = HashMap::new();
        let mut page = Page::first(PAGE);
        loop {
            let query = Query { ids: ids.to_vec(), ..Query::default() };
            let facts = self.ask(|answer| Request::Facts { query, page, parks: false, answer }).await?;
            let last = facts.last().filter(|_| facts.len() >= page.max).map(crate::facts::Fact::key);
            for fact in facts {
                let held = fact.state == "hold";
                let Some(recipients) = fact.recipients.filter(|_| held || fact.place.kind == LogKind::Retry)
                else {
                    continue;
                };
                let known = waiting
                    .entry(fact.id)
                    .or_insert_with(|| Waiting { place: fact.place, held: RecipientSet::default() });
                if held {
                    recipients.iter().for_each(|recipient| _ = known.held.insert(recipient));
                }
            }
            let Some(last) = last else { return Ok(waiting) };
            page.after = Some(last);
        }
    }
}

/// Nobody waits for what is found any more.
fn abandoned() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Looks through the logs, on a thread that may wait for the disk.
struct Search<'a> {
    storage: &'a DiskStorage,
    replay: &'a Replay,
    waiting: HashMap<MessageId, Waiting>,
    /// Recipients that somebody has deleted, by packed id.
    deleted: HashSet<(u64, u32)>,
    group: Vec<Replayed>,
    groups: mpsc::Sender<Vec<Replayed>>,
}

impl<'a> Search<'a> {
    fn new(
        storage: &'a DiskStorage,
        replay: &'a Replay,
        waiting: HashMap<MessageId, Waiting>,
        groups: mpsc::Sender<Vec<Replayed>>,
    ) -> io::Result<Self> {
        // Whoever names a message knows what became of it.
        let deleted = if replay.query.ids.is_empty() { deleted(storage, replay)? } else { HashSet::new() };
        Ok(Self { storage, replay, waiting, deleted, group: Vec::new(), groups })
    }

    fn by_id(&mut self) -> io::Result<()> {
        let mut logs = Logs::new(self.storage);
        let mut kept_from: HashMap<u8, Lsn> = HashMap::new();
        for &id in &self.replay.query.ids {
            let place = match self.waiting.get(&id) {
                Some(waiting) => waiting.place,
                None => {
                    let from = match kept_from.get(&id.log) {
                        Some(from) => *from,
                        None => *kept_from.entry(id.log).or_insert(cursor(self.storage, id.log)?),
                    };
                    if id.lsn < from {
                        continue;
                    }
                    Place::arrival(id)
                }
            };
            self.look_at(&mut logs, id, place)?;
        }
        self.flush()
    }

    fn by_filter(&mut self) -> io::Result<()> {
        for dir in self.storage.list("")? {
            if let Some((LogKind::Arrival, log)) = parse_log_directory(&dir) {
                self.walk(log)?;
            }
        }
        // What has left its arrival log.
        let moved = self.waiting.iter().filter(|(_, waiting)| waiting.place.kind == LogKind::Retry);
        let mut moved: Vec<_> = moved.map(|(id, waiting)| (*id, waiting.place)).collect();
        moved.sort_unstable_by_key(|(_, place)| place.lsn);
        let mut logs = Logs::new(self.storage);
        for (id, place) in moved {
            self.look_at(&mut logs, id, place)?;
        }
        self.flush()
    }

    /// Goes through an arrival log.
    fn walk(&mut self, log: u8) -> io::Result<()> {
        let mut reader = open(self.storage, log)?;
        reader.limit_to_present()?;
        reader.set_times(self.since()..=self.until().saturating_sub(1));
        if let Some(position) = position(&reader)? {
            reader.seek(position);
        }
        while let Some(entry) = reader.next()? {
            let Entry::Record(record) = entry else { continue };
            if record.header.kind != RecordKind::Message {
                continue;
            }
            let Ok(envelope) = record.read_envelope() else { continue };
            let place = Place { kind: LogKind::Arrival, log, lsn: record.header.lsn };
            let octets = record.body.len() as u64;
            let found = self.choose(record.id, place, record.header.accepted_at_us, octets, &envelope);
            if found.is_some() {
                self.hand_over(found)?;
            }
            // It is not looked for in the retry log.
            if let Some(waiting) = self.waiting.get_mut(&record.id) {
                waiting.place = place;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, logs: &mut Logs<'_>, id: MessageId, place: Place) -> io::Result<()> {
        let Some(message) = logs.message(place).filter(|message| message.id == id) else { return Ok(()) };
        let Ok(envelope) = message.envelope() else { return Ok(()) };
        let octets = message.body_octets().unwrap_or_default();
        let found = self.choose(id, place, message.header.accepted_at_us, octets, &envelope);
        self.hand_over(found)
    }

    /// The message with its recipients that are meant, if there are any.
    fn choose(
        &self,
        id: MessageId,
        place: Place,
        accepted_at_us: u64,
        octets: u64,
        envelope: &Envelope<'_>,
    ) -> Option<Replayed> {
        if !(self.since()..self.until()).contains(&accepted_at_us) {
            return None;
        }
        let query = &self.replay.query;
        let all: Vec<_> = envelope.recipients().map(|one| one.path).collect();
        let age = now_us().saturating_sub(accepted_at_us) / 1_000_000;
        if !query.fits(envelope.reverse_path(), all.iter().copied(), age) {
            return None;
        }
        let meant = |(index, path): &(u32, &&[u8])| query.means(path) && !self.stays(id, *index);
        let chosen = (0_u32..).zip(&all).filter(meant);
        let recipients: Vec<_> = chosen.map(|(index, path)| (index, path.to_vec())).collect();
        (!recipients.is_empty()).then(|| Replayed {
            id,
            place,
            octets,
            sender: envelope.reverse_path().to_vec(),
            total: u32::try_from(all.len()).unwrap_or(u32::MAX),
            recipients,
        })
    }

    /// Whether a recipient is left alone, since somebody has decided so who may not be asked now.
    fn stays(&self, id: MessageId, recipient: u32) -> bool {
        if !self.replay.query.ids.is_empty() {
            return false;
        }
        let held = self.waiting.get(&id).is_some_and(|waiting| waiting.held.contains(recipient));
        (held && !self.replay.held) || self.deleted.contains(&(id.packed(), recipient))
    }

    fn hand_over(&mut self, found: Option<Replayed>) -> io::Result<()> {
        self.group.extend(found);
        if self.group.len() < GROUP { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let group = std::mem::take(&mut self.group);
        self.groups.blocking_send(group).map_err(|_| abandoned())
    }

    fn since(&self) -> u64 {
        self.replay.since_us.unwrap_or(0)
    }

    fn until(&self) -> u64 {
        self.replay.until_us.unwrap_or(u64::MAX)
    }
}

/// Recipients whose last outcome is that somebody has deleted them, as far as the history reaches.
fn deleted(storage: &DiskStorage, replay: &Replay) -> io::Result<HashSet<(u64, u32)>> {
    let mut deleted = HashSet::new();
    // Nothing becomes of a message before it is accepted.
    history(storage, &[], replay.since_us.unwrap_or(0), |outcome| {
        for result in outcome.results {
            let key = (outcome.id.packed(), result.recipient);
            if result.status == Status::Deleted {
                deleted.insert(key);
            } else {
                deleted.remove(&key);
            }
        }
    })?;
    Ok(deleted)
}

fn open(storage: &DiskStorage, log: u8) -> io::Result<Reader> {
    let reader = Reader::on(storage.clone(), &log_directory(LogKind::Arrival, log));
    reader.map_err(|error: OpenError| io::Error::other(error.to_string()))
}

/// Where the cursor of the queue stands: what is below may go at any time.
fn position(reader: &Reader) -> io::Result<Option<Lsn>> {
    let cursor = reader.consumers()?.into_iter().find(|cursor| cursor.name == QUEUE_CONSUMER);
    Ok(cursor.and_then(|cursor| cursor.state.ok()).map(|state| state.position))
}

/// The same of a log by its number; nothing is kept of one that is not there.
fn cursor(storage: &DiskStorage, log: u8) -> io::Result<Lsn> {
    let dir = log_directory(LogKind::Arrival, log);
    if !storage.list("")?.contains(&dir) {
        return Ok(Lsn::MAX);
    }
    Ok(position(&open(storage, log)?)?.unwrap_or(Lsn::ZERO))
}

impl Shared {
    /// Owes messages once more, by a route; how many recipients those are.
    pub(crate) fn replay(&self, route: &str, messages: &[Replayed]) -> Result<usize, String> {
        let index = self.routing.named(route).ok_or_else(|| format!("there is no route {route:?}"))?;
        let under_way: HashSet<Place> = self.ledger.borrow().under_way().map(|(place, _)| place).collect();
        let mut owed = 0;
        for message in messages {
            if under_way.contains(&Place::arrival(message.id)) {
                continue;
            }
            let again = self.owe_again(index, message);
            owed += again;
            if again > 0 {
                tracing::info!(id = %message.id, route, nrcpt = again, "to be delivered again, by the operator");
            }
        }
        self.attention.notify_one();
        Ok(owed)
    }

    /// What waits otherwise goes this way instead; what is being tried stays.
    fn owe_again(&self, index: usize, message: &Replayed) -> usize {
        let Some((busy, place)) = self.standing(message) else { return 0 };
        // One time for all: recipients that wait together are tried together.
        let now = now_us();
        // By destination: each has entries of its own.
        let mut groups: Vec<(Vec<u8>, Vec<ResultRef<'_>>)> = Vec::new();
        for (recipient, address) in
            message.recipients.iter().filter(|(recipient, _)| !busy.contains(*recipient))
        {
            let name = self.routing.name(&self.routing.by(index, address));
            let result = ResultRef {
                recipient: *recipient,
                status: Status::Deferred,
                flags: 0,
                attempts: 0,
                next_attempt_us: now,
                code: 0,
                enhanced: [4, 3, 0],
                address,
                reply: b"to be delivered again by the operator",
            };
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, group)) => group.push(result),
                None => groups.push((name, vec![result])),
            }
        }
        let mut owed = 0;
        for (destination, results) in groups {
            owed += results.len();
            let outcome = OutcomeRef {
                // Its lifetime begins anew.
                accepted_at_us: now_us(),
                octets: message.octets,
                recipients_total: message.total,
                flags: outcome_flag::COMMAND | outcome_flag::REPLAY,
                sender: &message.sender,
                destination: &destination,
                results: &results,
                ..OutcomeRef::without_attempt(message.id, place, now_us())
            };
            self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
        }
        owed
    }

    /// The recipients that are being tried, and where the message stands: it may have been moved since it was found, and only there it is kept.
    /// Nothing when it may be kept no more.
    fn standing(&self, message: &Replayed) -> Option<(RecipientSet, Place)> {
        let ledger = self.ledger.borrow();
        let slots = ledger.entries_of(message.id.packed());
        let entries: Vec<_> = slots.into_iter().filter_map(|slot| ledger.entry(slot)).collect();
        let Some(first) = entries.first() else {
            // The cursor may have let go of its segment meanwhile: it follows what is done with, unless that is kept.
            let place = message.place;
            let segment = |lsn: Lsn| lsn.segment(ledger.segment_bytes(place.log));
            let is_behind = self.queue.keep_delivered.is_zero()
                && segment(place.lsn) < segment(ledger.low_water(place.log));
            let is_kept = place.kind == LogKind::Arrival && !is_behind;
            return is_kept.then(|| (RecipientSet::default(), place));
        };
        let busy = entries.iter().filter(|entry| entry.state == EntryState::Busy);
        Some((busy.flat_map(|entry| entry.recipients.iter()).collect(), first.place()))
    }
}
