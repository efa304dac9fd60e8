//! Who may have a connection: places for all of them are bounded, and handed out in turn.
//!
//! ```text
//!   destination with work ─▶ line ─▶ place ─▶ worker ─▶ work left? ─▶ back of the line
//! ```
//! Routes that go by domain have a line of their own, and neither line ever has all of the places: whoever has many domains can keep places busy with
//! hosts that do not answer, and must not keep mail from the hosts and mailboxes of this site; nor the other way round.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::destination::Destination;

/// How long a connection may go on while another destination waits for a place, when it is one of several to its destination.
const TURN_OF_MANY: Duration = Duration::from_secs(1);
/// The same when it is the only one.
const TURN: Duration = Duration::from_secs(5);

/// Places that destinations of one kind may have, and those that wait for one.
struct Line {
    max: u32,
    taken: Cell<u32>,
    waiting: RefCell<VecDeque<Rc<Destination>>>,
    /// There are more destinations with work than places.
    short: Cell<bool>,
}

impl Line {
    fn new(max: u32) -> Self {
        Self { max, taken: Cell::new(0), waiting: RefCell::default(), short: Cell::new(false) }
    }

    fn has_others(&self, destination: &Destination) -> bool {
        self.short.get()
            && self.waiting.borrow().iter().any(|other| !std::ptr::eq(&raw const **other, destination))
    }
}

/// The places of the relay.
pub(crate) struct Places {
    max: u32,
    taken: Cell<u32>,
    /// Hosts that the configuration names, mailboxes.
    here: Line,
    /// Mail hosts of domains.
    domains: Line,
}

impl Places {
    /// `max` connections at a time, of which each line leaves a fifth to the other.
    pub(crate) fn new(max: u32) -> Self {
        let reserved = if max > 1 { (max / 5).max(1) } else { 0 };
        Self { max, taken: Cell::new(0), here: Line::new(max - reserved), domains: Line::new(max - reserved) }
    }

    fn line(&self, destination: &Destination) -> &Line {
        if destination.target.domain.is_some() { &self.domains } else { &self.here }
    }

    /// Puts a destination that has work into its line, once.
    pub(crate) fn queue(&self, destination: &Rc<Destination>) {
        if !destination.in_line.replace(true) {
            self.line(destination).waiting.borrow_mut().push_back(Rc::clone(destination));
        }
    }

    /// Hands out the places that are free: `start` is called once for each.
    pub(crate) fn hand_out(&self, mut start: impl FnMut(&Rc<Destination>)) {
        for line in [&self.here, &self.domains] {
            let short = loop {
                let Some(destination) = line.waiting.borrow_mut().pop_front() else { break false };
                if !destination.wants_worker() {
                    destination.in_line.set(false);
                    continue;
                }
                if self.taken.get() >= self.max || line.taken.get() >= line.max {
                    line.waiting.borrow_mut().push_front(destination);
                    break true;
                }
                self.taken.set(self.taken.get() + 1);
                line.taken.set(line.taken.get() + 1);
                destination.workers.set(destination.workers.get() + 1);
                start(&destination);
                // It may want more, but others are asked first.
                line.waiting.borrow_mut().push_back(destination);
            };
            line.short.set(short);
        }
    }

    /// A worker has ended.
    pub(crate) fn give_back(&self, destination: &Rc<Destination>) {
        let line = self.line(destination);
        self.taken.set(self.taken.get() - 1);
        line.taken.set(line.taken.get() - 1);
        destination.workers.set(destination.workers.get() - 1);
        if destination.wants_worker() {
            self.queue(destination);
        }
    }

    /// Whether a connection to `destination` that stands since `since` should make room for another destination, which waits.
    pub(crate) fn give_way(&self, destination: &Destination, since: Instant) -> bool {
        let turn = if destination.workers.get() > 1 { TURN_OF_MANY } else { TURN };
        self.others_wait(destination) && since.elapsed() >= turn
    }

    /// Whether another destination could use a place that this one has.
    pub(crate) fn others_wait(&self, destination: &Destination) -> bool {
        let (own, other) = match destination.target.domain {
            Some(_) => (&self.domains, &self.here),
            None => (&self.here, &self.domains),
        };
        own.has_others(destination) || (other.short.get() && self.taken.get() >= self.max)
    }

    /// Whether any destination waits for a place.
    pub(crate) fn are_short(&self) -> bool {
        self.here.short.get() || self.domains.short.get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use inrush_log::{LogKind, Lsn, MessageId};
    use inrush_queue::{Ledger, OutcomeRef, Place, QueueSettings, ResultRef, Slot, Status};

    use super::*;
    use crate::routing::Target;

    /// An entry that waits.
    fn slot() -> Slot {
        let mut ledger = Ledger::new(&QueueSettings::default());
        let place = Place { kind: LogKind::Arrival, log: 0, lsn: Lsn::new(4096) };
        let result = ResultRef {
            recipient: 0,
            status: Status::Deferred,
            flags: 0,
            attempts: 1,
            next_attempt_us: 0,
            code: 0,
            enhanced: [4, 0, 0],
            address: b"b@example.com",
            reply: b"",
        };
        let id = MessageId { node: 0, log: 0, lsn: place.lsn };
        ledger.apply(&OutcomeRef {
            results: &[result],
            recipients_total: 1,
            ..OutcomeRef::without_attempt(id, place, 0)
        });
        ledger.entries().next().unwrap().0
    }

    fn destination(route: usize, domain: Option<&str>, work: usize) -> Rc<Destination> {
        let target = Target { route, domain: domain.map(Into::into) };
        let destination = Destination::new(target, Vec::new(), 20, &QueueSettings::default());
        (0..work).for_each(|_| destination.wait(slot()));
        Rc::new(destination)
    }

    fn started(places: &Places) -> u32 {
        let mut count = 0;
        places.hand_out(|_| count += 1);
        count
    }

    #[test]
    fn places_go_round() {
        let places = Places::new(5);
        let all: Vec<_> = (0..3).map(|route| destination(route, None, 10)).collect();
        all.iter().for_each(|destination| places.queue(destination));
        assert_eq!(started(&places), 4, "a fifth is for mail hosts of domains");
        let workers: Vec<_> = all.iter().map(|destination| destination.workers.get()).collect();
        assert_eq!(workers, [2, 1, 1]);
        assert!(places.are_short());
        // Whoever gives one back is behind the others.
        places.give_back(&all[0]);
        assert_eq!(started(&places), 1);
        let workers: Vec<_> = all.iter().map(|destination| destination.workers.get()).collect();
        assert_eq!(workers, [1, 2, 1]);
    }

    #[test]
    fn many_domains_leave_places_for_the_hosts_of_this_site() {
        let places = Places::new(10);
        let domains: Vec<_> =
            (0..100).map(|number| destination(0, Some(&format!("d{number}.example")), 1)).collect();
        domains.iter().for_each(|destination| places.queue(destination));
        assert_eq!(started(&places), 8);
        let own = destination(1, None, 5);
        places.queue(&own);
        assert_eq!(started(&places), 2);
        assert_eq!(own.workers.get(), 2);
        // Its line is the first one at what comes back.
        places.give_back(&domains[0]);
        assert_eq!(started(&places), 1);
        assert_eq!(own.workers.get(), 3);
    }

    #[test]
    fn a_place_is_given_up_for_others_only() {
        let places = Places::new(2);
        let one = destination(0, None, 10);
        places.queue(&one);
        assert_eq!(started(&places), 1);
        let long_ago = Instant::now().checked_sub(TURN).unwrap();
        assert!(!places.give_way(&one, long_ago), "only itself waits");
        let other = destination(1, None, 10);
        places.queue(&other);
        assert_eq!(started(&places), 0);
        assert!(places.others_wait(&one));
        assert!(places.give_way(&one, long_ago));
        assert!(!places.give_way(&one, Instant::now()), "not before its turn is over");
    }

    #[test]
    fn a_destination_without_work_leaves_the_line() {
        let places = Places::new(2);
        let none = destination(0, None, 0);
        places.queue(&none);
        assert_eq!(started(&places), 0);
        assert!(!places.are_short());
        assert!(!none.in_line.get());
        none.wait(slot());
        places.queue(&none);
        assert_eq!(started(&places), 1);
    }
}
