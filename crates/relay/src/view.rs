//! The queue for people and programs: what waits and why, and the whole life of a message.
//!
//! Reads logs only, and waits for the disk: for a thread that may. The same for a running gateway, whose relay says what is in its ledger, and for a
//! stopped data directory, whose ledger is folded anew.

use std::collections::{BTreeMap, HashMap};
use std::io;

use inrush_log::{
    DiskStorage, Envelope, LogKind, Message, MessageId, OpenError, Protocol, Reader, log_directory, notify,
};
use inrush_queue::{
    FoldError, Ledger, OutcomeRef, Place, QueueSettings, RecipientSet, fold, history, outcome_flag,
    result_flag,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::facts::{Fact, Known, PAGE, Page};
use crate::query::Query;

/// A fact with what the message itself says.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) fact: Fact,
    pub(crate) accepted_at_us: u64,
    pub(crate) octets: u64,
    pub(crate) total: u32,
    pub(crate) sender: Vec<u8>,
    /// Those concerned, by index.
    pub(crate) recipients: Vec<(u32, Vec<u8>)>,
    pub(crate) reason: String,
}

/// Reads messages of several logs.
pub(crate) struct Logs<'a> {
    storage: &'a DiskStorage,
    open: HashMap<(LogKind, u8), Reader>,
}

impl<'a> Logs<'a> {
    pub(crate) fn new(storage: &'a DiskStorage) -> Self {
        Self { storage, open: HashMap::new() }
    }

    pub(crate) fn message(&mut self, place: Place) -> Option<Message> {
        use std::collections::hash_map::Entry;
        let reader = match self.open.entry((place.kind, place.log)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                let dir = log_directory(place.kind, place.log);
                vacant.insert(Reader::on(self.storage.clone(), &dir).ok()?)
            }
        };
        reader.message_at(place.lsn).ok().flatten()
    }
}

/// Adds what the messages say; drops what does not fit the query or is there no more.
pub(crate) fn items(storage: &DiskStorage, facts: Vec<Fact>, query: &Query, now_us: u64) -> Vec<Item> {
    let mut logs = Logs::new(storage);
    let mut items = Vec::new();
    for fact in facts {
        let message = logs.message(fact.place).filter(|message| message.id == fact.id);
        let read = message.as_ref().and_then(|message| Some((message, message.envelope().ok()?)));
        let Some((message, envelope)) = read else {
            items.extend(unreadable(fact, query));
            continue;
        };
        let is_concerned = |index: u32| match &fact.recipients {
            Some(recipients) => recipients.contains(index),
            None => !fact.settled.contains(index),
        };
        let all = (0_u32..).zip(envelope.recipients()).filter(|(index, _)| is_concerned(*index));
        let recipients: Vec<_> = all.map(|(index, one)| (index, one.path.to_vec())).collect();
        let accepted_at = match fact.accepted_at {
            0 => message.header.accepted_at_us / 1_000_000,
            known => known,
        };
        let age = (now_us / 1_000_000).saturating_sub(accepted_at);
        let paths = recipients.iter().map(|(_, path)| path.as_slice());
        // Without anybody it has come to its end meanwhile.
        if recipients.is_empty() || !query.fits(envelope.reverse_path(), paths, age) {
            continue;
        }
        items.push(Item {
            accepted_at_us: message.header.accepted_at_us,
            octets: message.body_octets().unwrap_or_default(),
            total: u32::try_from(envelope.recipients().count()).unwrap_or(u32::MAX),
            sender: envelope.reverse_path().to_vec(),
            recipients,
            reason: String::new(),
            fact,
        });
    }
    items
}

/// An item of a message that cannot be read: so that it can be seen, and deleted.
fn unreadable(fact: Fact, query: &Query) -> Option<Item> {
    if query.needs_reading() {
        return None;
    }
    // How many recipients it had when none was tried yet, nobody knows.
    let set = fact.recipients.clone().unwrap_or_else(|| RecipientSet::all(1));
    let recipients = set.iter().map(|index| (index, Vec::new())).collect();
    let trouble = Some("the message cannot be read in its log".to_owned());
    Some(Item {
        // The best that is known.
        accepted_at_us: fact.accepted_at * 1_000_000,
        fact: Fact { trouble, recipients: Some(set), ..fact },
        octets: 0,
        total: 0,
        sender: Vec::new(),
        recipients,
        reason: String::new(),
    })
}

/// Adds why each was not delivered the last time: one look through the outcomes for all of them.
pub(crate) fn add_reasons(storage: &DiskStorage, items: &mut [Item]) -> io::Result<()> {
    let wanted: Vec<_> = items.iter().filter(|item| item.fact.state != "active").collect();
    let Some(since_us) = wanted.iter().map(|item| item.accepted_at_us).min() else { return Ok(()) };
    let ids: Vec<_> = wanted.iter().map(|item| item.fact.id).collect();
    let mut reasons: HashMap<(MessageId, u32), Vec<u8>> = HashMap::new();
    history(storage, &ids, since_us, |outcome| {
        for result in outcome.results {
            reasons.insert((outcome.id, result.recipient), reply(result.code, result.reply));
        }
    })?;
    for item in items {
        let first = item.recipients.first().map(|(index, _)| (item.fact.id, *index));
        let known = first.and_then(|key| reasons.remove(&key));
        item.reason = match &item.fact.trouble {
            Some(trouble) => trouble.clone(),
            None => text(&known.unwrap_or_default()),
        };
    }
    Ok(())
}

fn reply(code: u16, words: &[u8]) -> Vec<u8> {
    let mut reply = if code == 0 { Vec::new() } else { format!("{code} ").into_bytes() };
    reply.extend_from_slice(words);
    reply
}

/// A listing.
#[derive(Debug)]
pub struct Listed {
    /// One object for each group of recipients that waits together.
    pub entries: Vec<Value>,
    /// There are more that fit.
    pub more: bool,
}

/// The listing of these, `limit` of them at most.
pub(crate) fn listed(storage: &DiskStorage, mut items: Vec<Item>, limit: usize) -> io::Result<Listed> {
    let more = items.len() > limit;
    items.truncate(limit);
    add_reasons(storage, &mut items)?;
    Ok(Listed { entries: items.iter().map(Item::to_json).collect(), more })
}

impl Item {
    /// When its lifetime began, in µs since 1970: a command changes nothing about that.
    pub(crate) fn lifetime_began_us(&self) -> u64 {
        self.fact.accepted_at * 1_000_000
    }

    /// For listings.
    pub(crate) fn to_json(&self) -> Value {
        let fact = &self.fact;
        let (route, _) = split(&fact.destination);
        json!({
            "id": fact.id.to_string(),
            "state": fact.state,
            "sender": text(&self.sender),
            "recipients": self.recipients.iter().map(|(_, path)| text(path)).collect::<Vec<_>>(),
            "route": route,
            "destination": text(&fact.destination),
            "octets": self.octets,
            "accepted_at": time(self.accepted_at_us),
            "attempts": fact.attempts,
            "next_attempt": (fact.state == "deferred").then(|| time(fact.next_attempt * 1_000_000)),
            "reason": self.reason,
        })
    }
}

/// The whole life of a message; `None` when nothing is known of it.
pub(crate) fn life(
    storage: &DiskStorage,
    id: MessageId,
    facts: &[Fact],
    now_us: u64,
) -> io::Result<Option<Value>> {
    let mut logs = Logs::new(storage);
    let places = facts.iter().map(|fact| fact.place).chain([Place::arrival(id)]);
    let message = places.into_iter().find_map(|place| logs.message(place).filter(|found| found.id == id));
    let mut attempts = Vec::new();
    let mut status: HashMap<u32, (Vec<u8>, Value)> = HashMap::new();
    let mut sender = None;
    // The id does not tell when it was made; without the message everything is looked through.
    let since_us = message.as_ref().map_or(0, |message| message.header.accepted_at_us);
    history(storage, &[id], since_us, |outcome| {
        attempts.push(attempt(outcome));
        // One that was given up since it could not be read does not know.
        if sender.is_none() || !outcome.sender.is_empty() {
            sender = Some(outcome.sender.to_vec());
        }
        for result in outcome.results {
            let now = json!({
                "address": text(result.address),
                "status": result.status.name(),
                "dsn": dsn(result.enhanced),
                "reply": text(&reply(result.code, result.reply)),
                "attempts": result.attempts,
            });
            status.insert(result.recipient, (result.address.to_vec(), now));
        }
    })?;
    if message.is_none() && attempts.is_empty() {
        return Ok(None);
    }
    let mut queued = items(storage, facts.to_vec(), &Query::default(), now_us);
    add_reasons(storage, &mut queued)?;
    let envelope = message.as_ref().and_then(|message| Some((message, message.envelope().ok()?)));
    let mut life = Map::new();
    life.insert("id".to_owned(), id.to_string().into());
    life.insert("sender".to_owned(), sender.map(|sender| text(&sender)).into());
    if let Some((message, envelope)) = &envelope {
        life.insert("sender".to_owned(), text(envelope.reverse_path()).into());
        life.insert("accepted_at".to_owned(), time(message.header.accepted_at_us).into());
        life.insert("octets".to_owned(), message.body_octets().unwrap_or_default().into());
        life.insert("session".to_owned(), session(envelope));
        life.insert("phases".to_owned(), phases(envelope, message.header.accepted_at_us));
    }
    let recipients: Vec<Value> = match &envelope {
        Some((_, envelope)) => (0_u32..)
            .zip(envelope.recipients())
            .map(|(index, recipient)| {
                let none = || json!({ "address": text(recipient.path), "status": "waiting" });
                let mut known = status.remove(&index).map_or_else(none, |(_, known)| known);
                known["address"] = text(recipient.path).into();
                known["notify"] = notify_words(recipient.notify).into();
                known
            })
            .collect(),
        None => status.into_values().map(|(_, known)| known).collect(),
    };
    life.insert("recipients".to_owned(), recipients.into());
    life.insert("attempts".to_owned(), attempts.into());
    life.insert("queue".to_owned(), queued.iter().map(Item::to_json).collect::<Vec<_>>().into());
    life.insert("in_log".to_owned(), envelope.is_some().into());
    Ok(Some(life.into()))
}

/// The whole life of a message of a gateway without a relay: how it came in.
///
/// # Errors
/// Those of the disk.
pub fn life_in_log(storage: &DiskStorage, id: MessageId) -> io::Result<Option<Value>> {
    life(storage, id, &[], crate::shared::now_us())
}

fn session(envelope: &Envelope<'_>) -> Value {
    let protocol = match envelope.protocol() {
        Protocol::Smtp => "SMTP",
        Protocol::Esmtp => "ESMTP",
        Protocol::Lmtp => "LMTP",
        Protocol::Internal => "internal",
        Protocol::Other => "other",
    };
    json!({
        "listener": text(envelope.listener()),
        "client": envelope.peer().map(|peer| peer.to_string()),
        "client_name": envelope.peer_name().map(text),
        "helo": text(envelope.helo()),
        "protocol": protocol,
        "tls_version": envelope.tls_version().map(text),
        "tls_cipher": envelope.tls_cipher().map(text),
        "user": envelope.auth_identity().map(text),
        "number": envelope.session(),
        "transaction": envelope.transaction(),
    })
}

/// Times of the phases, those that happened.
fn phases(envelope: &Envelope<'_>, accepted_at_us: u64) -> Value {
    let times = envelope.times();
    let all = [
        ("connected", times.connected_us),
        ("tls", times.tls_us),
        ("helo", times.helo_us),
        ("auth", times.auth_us),
        ("mail", times.mail_us),
        ("rcpt", times.rcpt_us),
        ("data_first", times.data_first_us),
        ("data_last", times.data_last_us),
        ("accepted", accepted_at_us),
    ];
    let happened = all.into_iter().filter(|(_, at)| *at > 0);
    happened.map(|(phase, at)| (phase.to_owned(), time(at).into())).collect::<Map<_, _>>().into()
}

fn attempt(outcome: &OutcomeRef<'_>) -> Value {
    let parked = outcome.results.iter().all(|result| result.flags & result_flag::PARKED != 0);
    let what = if outcome.flags & outcome_flag::REPLAY != 0 {
        "replay"
    } else if outcome.flags & outcome_flag::MOVED != 0 {
        "moved"
    } else if outcome.flags & outcome_flag::COMMAND != 0 {
        "command"
    } else if parked && !outcome.results.is_empty() {
        "put_off"
    } else {
        "attempt"
    };
    let result = |result: &inrush_queue::ResultRef<'_>| {
        json!({
            "address": text(result.address),
            "status": result.status.name(),
            "dsn": dsn(result.enhanced),
            "reply": text(&reply(result.code, result.reply)),
            "next_attempt": (result.next_attempt_us > 0).then(|| time(result.next_attempt_us)),
            "sender_told": result.flags & result_flag::TOLD != 0,
        })
    };
    let at = |micros: u64| (micros > 0).then(|| time(micros));
    json!({
        "what": what,
        "at": time(outcome.at_us),
        "destination": text(outcome.destination),
        "relay": (!outcome.relay.is_empty()).then(|| text(outcome.relay)),
        "tls": (!outcome.tls.is_empty()).then(|| text(outcome.tls)),
        "taken_up_at": at(outcome.started_at_us),
        "connected_at": at(outcome.connected_at_us),
        "sent_at": at(outcome.sent_at_us),
        "results": outcome.results.iter().map(result).collect::<Vec<_>>(),
    })
}

fn dsn([class, subject, detail]: [u16; 3]) -> String {
    format!("{class}.{subject}.{detail}")
}

fn notify_words(bits: u8) -> Vec<&'static str> {
    let words = [
        (notify::NEVER, "never"),
        (notify::SUCCESS, "success"),
        (notify::FAILURE, "failure"),
        (notify::DELAY, "delay"),
    ];
    words.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| word).collect()
}

/// Route and domain of a destination's name.
pub(crate) fn split(destination: &[u8]) -> (String, String) {
    let name = text(destination);
    match name.split_once(':') {
        Some((route, domain)) => (route.to_owned(), domain.to_owned()),
        None => (name, String::new()),
    }
}

pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// RFC 3339, UTC, to the microsecond.
pub fn time(micros: u64) -> String {
    let at = Timestamp::from_microsecond(i64::try_from(micros).unwrap_or(i64::MAX)).unwrap_or_default();
    format!("{at:.6}")
}

/// The queue of a stopped data directory.
pub struct Stopped {
    storage: DiskStorage,
    node: u16,
    ledger: Ledger,
}

impl Stopped {
    /// Folds the state anew. Changes nothing.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn open(data_dir: &std::path::Path) -> Result<Self, FoldError> {
        let storage = DiskStorage::new(data_dir, true);
        let folded = fold(&storage, &QueueSettings::default(), false)?;
        // Every log of a data directory belongs to one node.
        let readers = Reader::open_all(data_dir).map_err(|error: OpenError| FoldError::Open(error))?;
        let node = readers.first().map_or(0, |reader| reader.identity().node);
        Ok(Self { storage, node, ledger: folded.ledger })
    }

    /// What waits, one object for each group of recipients.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self, query: &Query) -> io::Result<Listed> {
        let (wanted, now_us) = (query.limit.saturating_add(1), crate::shared::now_us());
        let mut page = Page::first(PAGE);
        let mut found = Vec::new();
        while found.len() < wanted {
            let facts = self.known(now_us).page(query, page);
            page.after = facts.last().map(Fact::key);
            if facts.is_empty() {
                break;
            }
            found.extend(items(&self.storage, facts, query, now_us));
        }
        listed(&self.storage, found, query.limit)
    }

    /// The whole life of a message.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn show(&self, id: MessageId) -> io::Result<Option<Value>> {
        let query = Query { ids: vec![id], ..Query::default() };
        let now_us = crate::shared::now_us();
        let facts = self.known(now_us).page(&query, Page::first(PAGE));
        life(&self.storage, id, &facts, now_us)
    }

    fn known(&self, now_us: u64) -> Known<'_> {
        Known { node: self.node, ledger: &self.ledger, queued: BTreeMap::new(), now: now_us / 1_000_000 }
    }
}
