//! What the ledger and the destinations know of the messages in the queue, without reading them: a page of it at a time, in the order of the ids.
//!
//! A page holds so many facts at most, however much waits; the next one is everything behind the last fact of it. What changes meanwhile may be
//! told twice, or with what it has become.

use std::collections::BTreeMap;

use inrush_log::MessageId;
use inrush_queue::{EntryState, Ledger, Place, RecipientSet};

use crate::query::Query;

/// Facts of one page.
pub(crate) const PAGE: usize = 10_000;

/// The place of a fact in the order: the message, and the first recipient; the highest number where those are not known.
pub(crate) type Key = (MessageId, u32);

/// Which part of the facts is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Only what comes behind this.
    pub(crate) after: Option<Key>,
    /// So many at most.
    pub(crate) max: usize,
}

impl Page {
    pub(crate) fn first(max: usize) -> Self {
        Self { after: None, max }
    }
}

/// A message in the queue, as the relay has it.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) id: MessageId,
    pub(crate) place: Place,
    /// `None` = all that are not named in `settled`.
    pub(crate) recipients: Option<RecipientSet>,
    /// Those that other facts tell of, or that have come to an end.
    pub(crate) settled: RecipientSet,
    pub(crate) state: &'static str,
    pub(crate) destination: Vec<u8>,
    pub(crate) attempts: u32,
    pub(crate) flags: u8,
    /// When its lifetime began, in seconds since 1970: with its acceptance, or a command to deliver it again. 0 = with its acceptance, which only
    /// the message tells.
    pub(crate) accepted_at: u64,
    /// In seconds since 1970; 0 = now.
    pub(crate) next_attempt: u64,
    /// What its destination suffers from.
    pub(crate) trouble: Option<String>,
}

impl Fact {
    /// A message that is tried, of which nothing else is known.
    pub(crate) fn active(id: MessageId, place: Place) -> Self {
        Self {
            id,
            place,
            recipients: None,
            settled: RecipientSet::default(),
            state: "active",
            destination: Vec::new(),
            attempts: 0,
            flags: 0,
            accepted_at: 0,
            next_attempt: 0,
            trouble: None,
        }
    }

    pub(crate) fn key(&self) -> Key {
        let first = self.recipients.as_ref().and_then(|recipients| recipients.iter().next());
        (self.id, first.unwrap_or(u32::MAX))
    }
}

/// Where facts come from.
pub(crate) struct Known<'a> {
    pub(crate) node: u16,
    pub(crate) ledger: &'a Ledger,
    /// What waits in memory for its first attempt.
    pub(crate) queued: BTreeMap<Key, Fact>,
    /// In seconds since 1970.
    pub(crate) now: u64,
}

impl Known<'_> {
    /// The facts of a page that may fit.
    pub(crate) fn page(&self, query: &Query, page: Page) -> Vec<Fact> {
        let mut facts: BTreeMap<Key, Fact> = BTreeMap::new();
        self.each(query, |key, fact| {
            let behind =
                facts.len() >= page.max && facts.last_key_value().is_some_and(|(last, _)| key >= *last);
            if page.after.is_some_and(|after| key <= after) || behind {
                return;
            }
            facts.insert(key, fact());
            if facts.len() > page.max {
                facts.pop_last();
            }
        });
        facts.into_values().collect()
    }

    /// How many may fit.
    pub(crate) fn count(&self, query: &Query) -> usize {
        let mut count = 0;
        self.each(query, |(id, first), _| {
            // What is known to wait in memory tells of its message already.
            let told = first == u32::MAX && self.queued_of(id).next().is_some();
            count += usize::from(!told);
        });
        count
    }

    /// What waits in memory of a message.
    fn queued_of(&self, id: MessageId) -> impl Iterator<Item = &Fact> {
        self.queued.range((id, 0)..(id, u32::MAX)).map(|(_, fact)| fact)
    }

    /// Hands out each key with what makes its fact, in no order.
    fn each(&self, query: &Query, mut take: impl FnMut(Key, &dyn Fn() -> Fact)) {
        self.entries(query, &mut take);
        for (key, fact) in &self.queued {
            if query.may_fit(fact.id, &fact.destination, self.age(fact.accepted_at)) {
                take(*key, &|| fact.clone());
            }
        }
        // Nobody knows the ways of those.
        if query.route.is_some() {
            return;
        }
        for (place, mentioned) in self.ledger.under_way() {
            let id = MessageId { node: self.node, log: place.log, lsn: place.lsn };
            if query.may_fit(id, b"", None) {
                take((id, u32::MAX), &|| self.under_way(id, place, mentioned));
            }
        }
    }

    fn entries(&self, query: &Query, take: &mut impl FnMut(Key, &dyn Fn() -> Fact)) {
        let mut offer = |entry: &inrush_queue::Entry| {
            let id = MessageId::unpack(self.node, entry.message_id);
            let destination = self.ledger.destination(entry.destination);
            if query.may_fit(id, destination, self.age(entry.accepted_at())) {
                let first = entry.recipients.iter().next().unwrap_or(u32::MAX);
                take((id, first), &|| self.entry(id, entry));
            }
        };
        if query.ids.is_empty() {
            return self.ledger.entries().for_each(|(_, entry)| offer(entry));
        }
        for id in query.ids.iter().filter(|id| id.node == self.node) {
            let slots = self.ledger.entries_of(id.packed());
            slots.into_iter().filter_map(|slot| self.ledger.entry(slot)).for_each(&mut offer);
        }
    }

    fn entry(&self, id: MessageId, entry: &inrush_queue::Entry) -> Fact {
        let state = match entry.state {
            EntryState::Held => "hold",
            EntryState::Busy => "active",
            EntryState::Scheduled | EntryState::Ready => "deferred",
        };
        Fact {
            recipients: Some(entry.recipients.clone()),
            state,
            destination: self.ledger.destination(entry.destination).to_vec(),
            attempts: entry.attempts(),
            flags: entry.flags,
            accepted_at: entry.accepted_at(),
            next_attempt: entry.next_attempt(),
            ..Fact::active(id, entry.place())
        }
    }

    fn under_way(&self, id: MessageId, place: Place, mentioned: &RecipientSet) -> Fact {
        let mut settled = mentioned.clone();
        let waiting = self.queued_of(id).filter_map(|queued| queued.recipients.as_ref());
        waiting.flat_map(RecipientSet::iter).for_each(|recipient| _ = settled.insert(recipient));
        if self.ledger.is_unreadable(place) {
            // It is not being tried: it waits for another look.
            return Fact { settled, state: "deferred", next_attempt: self.now, ..Fact::active(id, place) };
        }
        Fact { settled, ..Fact::active(id, place) }
    }

    fn age(&self, accepted_at: u64) -> Option<u64> {
        (accepted_at > 0).then(|| self.now.saturating_sub(accepted_at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inrush_log::Lsn;
    use inrush_queue::{ArrivalLog, OutcomeRef, QueueSettings, ResultRef, Status};

    use super::*;

    const NOW: u64 = 1_000_000;

    fn id(lsn: u64) -> MessageId {
        MessageId { node: 3, log: 1, lsn: Lsn::new(lsn) }
    }

    /// A recipient of a message that waits since `age` seconds.
    fn defer(ledger: &mut Ledger, lsn: u64, recipient: u32, age: u64) {
        let result = ResultRef {
            recipient,
            status: Status::Deferred,
            flags: 0,
            attempts: 1,
            next_attempt_us: (NOW + 60 - age) * 1_000_000,
            code: 0,
            enhanced: [4, 0, 0],
            address: b"",
            reply: b"",
        };
        ledger.apply(&OutcomeRef {
            accepted_at_us: (NOW - age) * 1_000_000,
            recipients_total: 9,
            destination: b"out:example.com",
            results: &[result],
            ..OutcomeRef::without_attempt(id(lsn), Place::arrival(id(lsn)), NOW * 1_000_000)
        });
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(&QueueSettings::default());
        ledger.add_lane(ArrivalLog { log: 1, uuid: [1; 16], segment_bytes: 1 << 20, begin: Lsn::ZERO });
        // Not in the order of the ids; one message has two entries.
        for (lsn, recipient, age) in [(5, 0, 10), (2, 1, 20), (2, 0, 20), (9, 0, 30), (1, 0, 40)] {
            defer(&mut ledger, lsn, recipient, age + u64::from(recipient));
        }
        ledger
    }

    fn known(ledger: &Ledger) -> Known<'_> {
        Known { node: 3, ledger, queued: BTreeMap::new(), now: NOW }
    }

    fn keys(facts: &[Fact]) -> Vec<(u64, u32)> {
        facts.iter().map(Fact::key).map(|(id, first)| (id.lsn.get(), first)).collect()
    }

    #[test]
    fn pages_follow_one_another() {
        let ledger = ledger();
        let known = known(&ledger);
        let all = [(1, 0), (2, 0), (2, 1), (5, 0), (9, 0)];
        for max in 1..7 {
            let mut page = Page::first(max);
            let mut found = Vec::new();
            loop {
                let facts = known.page(&Query::default(), page);
                assert!(facts.len() <= max);
                found.extend(keys(&facts));
                let Some(last) = facts.last() else { break };
                page.after = Some(last.key());
            }
            assert_eq!(found, all, "{max} at a time");
        }
        assert_eq!(known.count(&Query::default()), all.len());
    }

    #[test]
    fn ids_and_ages_choose() {
        let ledger = ledger();
        let known = known(&ledger);
        let page = |query: &Query| keys(&known.page(query, Page::first(PAGE)));
        let other_node = MessageId { node: 4, ..id(5) };
        let query = Query { ids: vec![id(2), id(7), other_node], ..Query::default() };
        assert_eq!(page(&query), [(2, 0), (2, 1)]);
        let query = Query { older_than: Some(Duration::from_secs(30)), ..Query::default() };
        assert_eq!(page(&query), [(1, 0), (9, 0)]);
    }

    #[test]
    fn a_lifetime_is_that_of_the_entry() {
        let mut ledger = ledger();
        // As a replay has it: the message is as old as it was.
        defer(&mut ledger, 9, 0, 1);
        let facts = known(&ledger).page(&Query { ids: vec![id(9)], ..Query::default() }, Page::first(PAGE));
        assert_eq!(facts.iter().map(|fact| fact.accepted_at).collect::<Vec<_>>(), [NOW - 1]);
    }

    #[test]
    fn what_waits_in_memory_is_told_once() {
        let mut ledger = ledger();
        // Three recipients: one waits in memory, one has an outcome, one is being tried.
        ledger.take(1, Lsn::new(20), Lsn::new(21), 3);
        defer(&mut ledger, 20, 1, 0);
        let queued = Fact {
            recipients: Some(std::iter::once(0).collect()),
            destination: b"out:example.com".to_vec(),
            accepted_at: NOW,
            ..Fact::active(id(20), Place::arrival(id(20)))
        };
        let known = Known { queued: [(queued.key(), queued)].into(), ..known(&ledger) };
        let query = Query { ids: vec![id(20)], ..Query::default() };
        let facts = known.page(&query, Page::first(PAGE));
        assert_eq!(keys(&facts), [(20, 0), (20, 1), (20, u32::MAX)]);
        assert_eq!(facts[2].settled, [0, 1].into_iter().collect());
        assert_eq!(known.count(&query), 2);
        let of_route = Query { route: Some("out".to_owned()), ..query };
        assert_eq!(keys(&known.page(&of_route, Page::first(PAGE))), [(20, 0), (20, 1)]);
    }
}
