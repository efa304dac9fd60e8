//! What is due: entries that become ready, and those whose age means something.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use inrush_queue::{EntryState, Slot, Status, result_flag};

use crate::destination::Destination;
use crate::failure::Verdict;
use crate::settle::{Attempt, Settled, kept};
use crate::shared::{Shared, no_route, now_us};

/// Entries that are seen to at a time: each has its message read, and perhaps a report written.
const ASIDE_MAX: u32 = 32;
/// Entries that wait for that because of their age; the others come again in a minute.
const AGES_MAX: usize = 10_000;

/// Why an entry is seen to without a destination.
enum Concern {
    /// Its age means something.
    Age { expired: bool },
    /// Its route is gone, or there was none.
    Route,
}

/// Entries that are seen to a few at a time, however many come at once.
#[derive(Default)]
pub(crate) struct Aside {
    waiting: RefCell<VecDeque<(Slot, Concern)>>,
    running: Cell<u32>,
}

impl Shared {
    /// Sees to entries that wait for that, while there is room for their messages.
    pub(crate) fn see_aside(self: &Rc<Self>) {
        while self.aside.running.get() < ASIDE_MAX && self.has_room() {
            let Some((slot, concern)) = self.aside.waiting.borrow_mut().pop_front() else { return };
            self.aside.running.set(self.aside.running.get() + 1);
            let shared = Rc::clone(self);
            tokio::task::spawn_local(async move {
                match concern {
                    Concern::Age { expired } => shared.age(slot, expired).await,
                    Concern::Route => shared.route_again(slot).await,
                }
                shared.aside.running.set(shared.aside.running.get() - 1);
                shared.attention.notify_one();
            });
        }
    }

    /// An entry is due: it waits for a place at its destination, which may have changed since.
    pub(crate) fn make_ready(self: &Rc<Self>, slot: Slot) {
        let target = {
            let ledger = self.ledger.borrow();
            let Some(entry) = ledger.entry(slot) else { return };
            self.routing.parse(ledger.destination(entry.destination))
        };
        match target {
            Some(target) => {
                let destination = self.destination(target);
                destination.wait(slot);
                self.places.queue(&destination);
            }
            // Perhaps there is one now.
            None => self.aside.waiting.borrow_mut().push_back((slot, Concern::Route)),
        }
    }

    async fn route_again(self: &Rc<Self>, slot: Slot) {
        let Some(job) = self.fetch(slot).await else { return };
        let target = job.message.envelope().ok().and_then(|envelope| {
            let first = *job.recipients.first()?;
            self.routing.find(envelope.recipients().nth(first as usize)?.path)
        });
        if target.is_none() {
            let verdicts = job.recipients.iter().map(|recipient| (*recipient, no_route())).collect();
            return self.settle(job, &Attempt::default(), verdicts);
        }
        let owed = job.recipients.iter().copied().collect();
        self.dispatch(&job.message, job.place, &owed);
    }

    /// The age of an entry has reached a mark while it waits.
    pub(crate) fn look_at_age(self: &Rc<Self>, slot: Slot) {
        let now = now_us() / 1_000_000;
        let (expired, late, waits) = {
            let ledger = self.ledger.borrow();
            let Some(entry) = ledger.entry(slot) else { return };
            (
                ledger.is_expired(entry.accepted_at(), now),
                ledger.is_late(entry.accepted_at(), entry.flags, now),
                matches!(entry.state, EntryState::Ready | EntryState::Scheduled),
            )
        };
        if !waits || !(expired || late) {
            return;
        }
        let mut waiting = self.aside.waiting.borrow_mut();
        if waiting.len() < AGES_MAX {
            waiting.push_back((slot, Concern::Age { expired }));
        }
    }

    /// Gives up what is too old, or tells its sender that it is late.
    async fn age(self: &Rc<Self>, slot: Slot, expired: bool) {
        let (next_attempt, destination) = {
            let ledger = self.ledger.borrow();
            let Some(entry) = ledger.entry(slot) else { return };
            (entry.next_attempt(), ledger.destination(entry.destination).to_vec())
        };
        // Whatever it waits for: it is taken for this.
        if !self.ledger.borrow_mut().make_ready(slot) {
            return;
        }
        let Some(job) = self.fetch(slot).await else { return };
        let target = self.routing.parse(&destination);
        let trouble = target.and_then(|target| self.destination(target).trouble.borrow().clone());
        let verdict = trouble.unwrap_or_else(|| Verdict::later((4, 4, 7), "delivery time expired"));
        let settled = job.recipients.iter().map(|&recipient| Settled {
            recipient,
            verdict: verdict.clone(),
            status: if expired { Status::Expired } else { Status::Deferred },
            next_attempt_us: if expired { 0 } else { next_attempt * 1_000_000 },
            flags: kept(job.flags) | if expired { 0 } else { result_flag::PARKED },
            attempts: job.attempts,
        });
        let settled: Vec<_> = settled.collect();
        self.tell_and_record(job, Attempt { destination, ..Attempt::default() }, settled);
    }

    /// The destination is down: what waits for it in memory goes back to the disk.
    pub(crate) fn put_off_queue(&self, destination: &Rc<Destination>) {
        let trouble = destination.trouble.borrow().clone().unwrap_or_default();
        for job in destination.take_surplus(0) {
            self.put_off(&job, &destination.name, &trouble);
        }
    }
}
