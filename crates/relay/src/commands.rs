//! What an operator asks of the running queue: its part on the relay's thread.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use inrush_queue::{EntryState, OutcomeRef, ResultRef, Slot, Status, outcome_flag};
use tokio::sync::oneshot;

use crate::backlog::Backlog;
use crate::destination::Job;
use crate::facts::{Fact, Key, Known, Page};
use crate::failure::Verdict;
use crate::query::Query;
use crate::replay::Replayed;
use crate::settings::RouteKind;
use crate::settle::{Attempt, Settled, kept};
use crate::shared::{Shared, busy, now_us};
use crate::view::Item;

/// How long a command that returns messages waits for reports to be written.
const REPORTS_PAUSE: Duration = Duration::from_millis(10);

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

    /// Whether it has to be done with what waits in memory, too. Trying that now is what happens already.
    pub(crate) fn parks(self) -> bool {
        matches!(self, Self::Hold | Self::Bounce | Self::Delete)
    }
}

/// A request with the way back for its answer.
pub(crate) enum Request {
    /// A page of what may fit a query; `parks`: what fits and waits in memory is put off before, so that something can be done with it.
    Facts { query: Query, page: Page, parks: bool, answer: oneshot::Sender<Vec<Fact>> },
    /// How much may fit.
    Count(Query, oneshot::Sender<usize>),
    /// So many of those destinations for which the most waits.
    Destinations(usize, oneshot::Sender<Vec<Backlog>>),
    /// Do this with these; how many groups of recipients it was done with.
    Act(Action, Vec<Item>, oneshot::Sender<usize>),
    /// From now on each of these domains takes the route with this index.
    Domains(Vec<(String, usize)>, oneshot::Sender<()>),
    /// Deliver these once more by a route; how many recipients are owed again.
    Replay(String, Vec<Replayed>, oneshot::Sender<Result<usize, String>>),
}

impl Shared {
    pub(crate) fn answer(self: &Rc<Self>, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Facts { query, page, parks, answer } => {
                if parks {
                    self.park(&query);
                }
                let _ = answer.send(self.facts(&query, page));
            }
            Request::Count(query, answer) => {
                let _ = answer.send(self.known(&query, None, |known| known.count(&query)));
            }
            Request::Destinations(max, answer) => {
                let _ = answer.send(self.backlogs(max));
            }
            Request::Act(Action::Bounce, items, answer) => {
                let shared = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let mut done = 0;
                    for item in items {
                        // Each has a report to write.
                        while !shared.has_room() && !shared.stopping.get() {
                            tokio::time::sleep(REPORTS_PAUSE).await;
                        }
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
            Request::Domains(domains, answer) => {
                self.routing.set_domains(&domains);
                let _ = answer.send(());
            }
            Request::Replay(route, messages, answer) => {
                let _ = answer.send(self.replay(&route, &messages));
            }
        }
    }

    fn facts(&self, query: &Query, page: Page) -> Vec<Fact> {
        let mut facts = self.known(query, page.after, |known| known.page(query, page));
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

    /// Has a look at what is known, with those messages in memory that may fit and come behind `after`.
    fn known<T>(&self, query: &Query, after: Option<Key>, look: impl FnOnce(&Known<'_>) -> T) -> T {
        let ledger = self.ledger.borrow();
        let now = now_us() / 1_000_000;
        let mut queued = BTreeMap::new();
        for destination in self.destinations.borrow().values() {
            destination.each_queued(|job| {
                if !may_fit(query, job, &destination.name, now) {
                    return;
                }
                let fact = queued_fact(job, &destination.name);
                let key = fact.key();
                // One that was deferred before has an entry that tells of it.
                let has_entry = || {
                    let slots = ledger.entries_of(job.message.id.packed());
                    let mut entries = slots.into_iter().filter_map(|slot| ledger.entry(slot));
                    entries.any(|entry| entry.recipients.contains(key.1))
                };
                if after.is_none_or(|after| key > after) && !has_entry() {
                    queued.insert(key, fact);
                }
            });
        }
        look(&Known { node: self.node, ledger: &ledger, queued, now })
    }

    /// Puts off what fits and waits in memory for its first attempt: it has entries then.
    fn park(&self, query: &Query) {
        let now = now_us() / 1_000_000;
        let destinations: Vec<_> = self.destinations.borrow().values().cloned().collect();
        for destination in destinations {
            let jobs = destination.take_queued(|job| fits(query, job, &destination.name, now));
            if jobs.is_empty() {
                continue;
            }
            let trouble = destination.trouble.borrow().clone().unwrap_or_else(busy);
            jobs.iter().for_each(|job| self.put_off(job, &destination.name, &trouble));
        }
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
            self.record_for(item, None, Status::Deleted, 0, "deleted by the operator");
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
        self.record_for(item, Some(slot), status, next_attempt_us, words);
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

    /// Writes down what a command has made of an item. Where it stands and whose it is says its entry, which may have been moved since it was listed; one
    /// that cannot be read may have none.
    fn record_for(&self, item: &Item, slot: Option<Slot>, status: Status, next_attempt_us: u64, words: &str) {
        let entry = {
            let ledger = self.ledger.borrow();
            let entry = slot.and_then(|slot| ledger.entry(slot));
            entry.map(|entry| (entry.place(), entry.recipients_total))
        };
        let (place, recipients_total) = entry.unwrap_or((item.fact.place, item.total));
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
        let outcome = OutcomeRef {
            accepted_at_us: item.lifetime_began_us(),
            octets: item.octets,
            recipients_total,
            flags: outcome_flag::COMMAND,
            sender: &item.sender,
            destination: &item.fact.destination,
            results: &results,
            ..OutcomeRef::without_attempt(item.fact.id, place, now_us())
        };
        tracing::info!(id = %item.fact.id, nrcpt = results.len(), status = status.name(), "{words}");
        self.recorder.borrow_mut().record(&mut self.ledger.borrow_mut(), &outcome);
        self.count(&item.fact.destination, status, results.len() as u64);
    }

    /// Returns a message to its sender. It is out of reach of the schedule until the report is durable; a crash before that leaves it as it was.
    async fn bounce(self: &Rc<Self>, item: &Item) -> bool {
        let place_of = |slot| self.ledger.borrow().entry(slot).map(inrush_queue::Entry::place);
        let Some(place) = self.entry_of(item).and_then(place_of) else { return false };
        let Ok(Some(message)) = self.reader.message(place).await else { return false };
        // It may have been tried or moved meanwhile.
        let slot = self.entry_of(item).filter(|slot| place_of(*slot) == Some(place));
        let Some(slot) = slot.filter(|_| message.id == item.fact.id) else { return false };
        let recipients = item.recipients.iter().map(|(index, _)| *index).collect();
        if !self.ledger.borrow_mut().seize(slot, &recipients) {
            return false;
        }
        let message = Arc::new(message);
        let job = Job {
            place,
            recipients: recipients.iter().collect(),
            attempts: item.fact.attempts,
            flags: item.fact.flags,
            accepted_at_us: item.lifetime_began_us(),
            taken_at_us: now_us(),
            since: std::time::Instant::now(),
            charge: self.charge(&message),
            message,
        };
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
        tracing::info!(id = %item.fact.id, nrcpt = settled.len(), "returned by the operator");
        self.record_command(job, attempt, settled);
        true
    }
}

/// What is known of a message in memory.
fn queued_fact(job: &Job, destination: &[u8]) -> Fact {
    Fact {
        recipients: Some(job.recipients.iter().copied().collect()),
        destination: destination.to_vec(),
        attempts: job.attempts,
        flags: job.flags,
        accepted_at: job.accepted_at_us.div_ceil(1_000_000),
        ..Fact::active(job.message.id, job.place)
    }
}

fn may_fit(query: &Query, job: &Job, destination: &[u8], now: u64) -> bool {
    query.may_fit(job.message.id, destination, Some(now.saturating_sub(job.accepted_at_us / 1_000_000)))
}

fn fits(query: &Query, job: &Job, destination: &[u8], now: u64) -> bool {
    let Ok(envelope) = job.message.envelope() else { return false };
    let concerned = (0_u32..).zip(envelope.recipients()).filter(|(index, _)| job.recipients.contains(index));
    let age = now.saturating_sub(job.accepted_at_us / 1_000_000);
    may_fit(query, job, destination, now)
        && query.fits(envelope.reverse_path(), concerned.map(|(_, recipient)| recipient.path), age)
}
