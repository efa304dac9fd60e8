//! What an operator asks of the running queue: its part on the relay's thread.

use std::rc::Rc;
use std::sync::Arc;

use inrush_log::MessageId;
use inrush_queue::{EntryState, OutcomeRef, Place, ResultRef, Slot, Status, outcome_flag};
use tokio::sync::oneshot;

use crate::destination::Job;
use crate::failure::Verdict;
use crate::query::Query;
use crate::settings::RouteKind;
use crate::settle::{Attempt, Settled, kept};
use crate::shared::{Shared, now_us};
use crate::view::{Fact, Item, facts};

/// What is to become of messages in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tried now.
    Flush,
    /// Not tried until they are released.
    Hold,
    /// Tried again, now.
    Release,
    /// Returned to their senders.
    Bounce,
    /// Taken out without a word.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Flush, Self::Hold, Self::Release, Self::Bounce, Self::Delete];

    /// The word of commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Bounce => "bounce",
            Self::Delete => "delete",
        }
    }
}

/// A request with the way back for its answer.
pub(crate) enum Request {
    /// What may fit a query.
    Facts(Query, oneshot::Sender<Vec<Fact>>),
    /// Do this with these; how many groups of recipients it was done with.
    Act(Action, Vec<Item>, oneshot::Sender<usize>),
    /// Deliver these once more by a route; how many recipients are owed again.
    Replay(String, Vec<Replayed>, oneshot::Sender<Result<usize, String>>),
}

/// A message that is to be delivered once more.
pub(crate) struct Replayed {
    pub(crate) id: MessageId,
    pub(crate) place: Place,
    pub(crate) accepted_at_us: u64,
    pub(crate) octets: u64,
    pub(crate) sender: Vec<u8>,
    pub(crate) total: u32,
    pub(crate) recipients: Vec<(u32, Vec<u8>)>,
}

impl Shared {
    pub(crate) fn answer(self: &Rc<Self>, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Facts(query, answer) => {
                let _ = answer.send(self.facts(&query));
            }
            Request::Act(Action::Bounce, items, answer) => {
                let shared = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let mut done = 0;
                    for item in items {
                        done += usize::from(shared.bounce(&item).await);
                    }
                    let _ = answer.send(done);
                });
            }
            Request::Act(action, items, answer) => {
                let done = items.iter().filter(|item| self.act(action, item)).count();
                self.attention.notify_one();
                let _ = answer.send(done);
            }
            Request::Replay(route, messages, answer) => {
                let _ = answer.send(self.replay(&route, &messages));
            }
        }
    }

    fn facts(&self, query: &Query) -> Vec<Fact> {
        let mut facts = facts(self.node, &self.ledger.borrow(), query, now_us() / 1_000_000);
        for fact in &mut facts {
            let target = self.routing.parse(&fact.destination);
            let destination = target.and_then(|target| self.destinations.borrow().get(&target).cloned());
            fact.trouble = destination.and_then(|destination| {
                let trouble = destination.trouble.borrow();
                trouble.as_ref().map(|verdict| crate::view::text(&verdict.text))
            });
        }
        facts
    }

    /// The entry that an item was made of, unless it has changed or is being tried.
    fn entry_of(&self, item: &Item) -> Option<Slot> {
        let ledger = self.ledger.borrow();
        let slots = ledger.entries_of(item.fact.id.packed());
        slots.into_iter().find(|slot| {
            ledger.entry(*slot).is_some_and(|entry| {
                entry.state != EntryState::Busy && Some(&entry.recipients) == item.fact.recipients.as_ref()
            })
        })
    }

    fn act(self: &Rc<Self>, action: Action, item: &Item) -> bool {
        if action == Action::Delete && self.ledger.borrow().is_unreadable(item.fact.place) {
            self.record_for(item, Status::Deleted, 0, "deleted by the operator");
            return true;
        }
        let Some(slot) = self.entry_of(item) else { return false };
        let held = item.fact.state == "hold";
        let (status, next_attempt_us, words) = match action {
            Action::Flush if held => return false,
            Action::Flush => return self.flush(slot, item),
            Action::Hold if held => return false,
            Action::Hold => (Status::Held, 0, "held by the operator"),
            Action::Release if !held => return false,
            // The route would hold it again: a replay takes it by another one.
            Action::Release if self.holds(&item.fact.destination) => return false,
            // A second ago, so that it is tried whatever its age.
            Action::Release => {
                (Status::Deferred, now_us().saturating_sub(1_000_000), "released by the operator")
            }
            Action::Delete => (Status::Deleted, 0, "deleted by the operator"),
            Action::Bounce => return false,
        };
        self.record_for(item, status, next_attempt_us, words);
        true
    }

    fn holds(&self, destination: &[u8]) -> bool {
        let target = self.routing.parse(destination);
        target.is_some_and(|target| matches!(self.routing.route(target.route).kind, RouteKind::Hold))
    }

    fn flush(self: &Rc<Self>, slot: Slot, item: &Item) -> bool {
        if let Some(target) = self.routing.parse(&item.fact.destination) {
            self.destination(target).revive();
        }
        self.ledger.borrow_mut().hurry(slot);
        true
    }

    /// Writes down what a command has made of an item.
    fn record_for(&self, item: &Item, status: Status, next_attempt_us: u64, words: &str) {
        let verdict = Verdict::later((4, 3, 0), words);
        let results: Vec<_> = item
            .recipients
            .iter()
            .map(|(recipient, address)| ResultRef {
                recipient: *recipient,
                status,
                flags: kept(item.fact.flags),
                attempts: item.fact.attempts,
                next_attempt_us,
                code: 0,
                enhanced: verdict.enhanced,
                address,
                reply: words.as_bytes(),
            })
            .collect();
        let entry = self.entry_of(item);
        let known = entry.and_then(|slot| Some(self.ledger.borrow().entry(slot)?.recipients_total));
        let outcome = OutcomeRef {
            accepted_at_us: item.accepted_at_us,
            octets: item.octets,
            // A message that cannot be read does not tell; its entry does.
            recipients_total: known.unwrap_or(item.total),
            flags: outcome_flag::COMMAND,
            sender: &item.sender,
            destination: &item.fact.destination,
            results: &results,
            ..OutcomeRef::without_attempt(item.fact.id, item.fact.place, now_us())
        };
        tracing::info!("{}: {words} ({} recipients)", item.fact.id, results.len());
        self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
        self.count(&item.fact.destination, status, results.len() as u64);
    }

    /// Returns a message to its sender.
    async fn bounce(self: &Rc<Self>, item: &Item) -> bool {
        if self.entry_of(item).is_none() {
            return false;
        }
        let Ok(Some(message)) = self.reader.message(item.fact.place).await else { return false };
        // It may have been tried meanwhile.
        if message.id != item.fact.id || self.entry_of(item).is_none() {
            return false;
        }
        let job = Job {
            message: Arc::new(message),
            place: item.fact.place,
            recipients: item.recipients.iter().map(|(index, _)| *index).collect(),
            attempts: item.fact.attempts,
            flags: item.fact.flags,
            accepted_at_us: item.accepted_at_us,
            taken_at_us: now_us(),
            since: std::time::Instant::now(),
            charge: self.memory.waits(0),
        };
        // Out of reach of the schedule until the report is written.
        self.record_for(item, Status::Held, 0, "is being returned to its sender");
        let settled = job.recipients.iter().map(|&recipient| Settled {
            recipient,
            verdict: Verdict::never((5, 0, 0), "returned by the operator"),
            status: Status::Bounced,
            next_attempt_us: 0,
            flags: kept(job.flags),
            attempts: job.attempts,
        });
        let settled: Vec<_> = settled.collect();
        let attempt = Attempt { destination: item.fact.destination.clone(), ..Attempt::default() };
        self.record_command(job, attempt, settled);
        true
    }

    fn replay(&self, route: &str, messages: &[Replayed]) -> Result<usize, String> {
        let index = self.routing.named(route).ok_or_else(|| format!("there is no route {route:?}"))?;
        let mut owed = 0;
        for message in messages {
            // What waits otherwise goes this way instead; what is being tried stays.
            let busy = {
                let ledger = self.ledger.borrow();
                let slots = ledger.entries_of(message.id.packed());
                let entries = slots.into_iter().filter_map(|slot| ledger.entry(slot));
                let entries = entries.filter(|entry| entry.state == EntryState::Busy);
                entries.flat_map(|entry| entry.recipients.iter().collect::<Vec<_>>()).collect::<Vec<_>>()
            };
            let under_way = self.ledger.borrow().under_way().any(|place| place == message.place);
            if under_way {
                continue;
            }
            // By destination: each has entries of its own.
            let mut groups: Vec<(Vec<u8>, Vec<ResultRef<'_>>)> = Vec::new();
            for (recipient, address) in &message.recipients {
                if busy.contains(recipient) {
                    continue;
                }
                let name = self.routing.name(&self.routing.by(index, address));
                let result = ResultRef {
                    recipient: *recipient,
                    status: Status::Deferred,
                    flags: 0,
                    attempts: 0,
                    next_attempt_us: now_us(),
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
                    ..OutcomeRef::without_attempt(message.id, message.place, now_us())
                };
                self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
            }
            tracing::info!(
                id = %message.id,
                accepted_at_us = message.accepted_at_us,
                route,
                "delivered again by the operator"
            );
        }
        self.attention.notify_one();
        Ok(owed)
    }
}
