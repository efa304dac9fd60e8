//! What messages cost in memory: those that wait are bounded, those on their way come on top.
//!
//! A host that takes its time with what it was given must not keep others from theirs, so only what waits counts against the bound: for a
//! connection, or for the report to its sender. What is on its way is bounded by the connections.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

/// The account of the whole relay.
pub(crate) struct Memory {
    max: u64,
    waiting: Cell<u64>,
    under_way: Cell<u64>,
    /// No more is taken in until an eighth is free: not one message for each that leaves.
    full: Cell<bool>,
    attention: Arc<Notify>,
}

impl Memory {
    /// `attention` is told when there is room again.
    pub(crate) fn new(max: u64, attention: Arc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            max,
            waiting: Cell::new(0),
            under_way: Cell::new(0),
            full: Cell::new(false),
            attention,
        })
    }

    /// Whether more messages may come to wait.
    pub(crate) fn has_room(&self) -> bool {
        !self.full.get()
    }

    /// Whether a connection may begin a message while the reply to its last one is awaited.
    pub(crate) fn lets_run_ahead(&self) -> bool {
        self.under_way.get() < self.max
    }

    /// Octets of all messages.
    pub(crate) fn octets(&self) -> u64 {
        self.waiting.get() + self.under_way.get()
    }

    /// Charges a message that waits with these octets, and with `stream` more while it is on its way.
    pub(crate) fn waits(self: &Rc<Self>, octets: u64, stream: u64) -> Charge {
        self.add(octets);
        Charge { memory: Rc::clone(self), octets, stream, under_way: false }
    }

    fn add(&self, octets: u64) {
        self.waiting.set(self.waiting.get() + octets);
        if self.waiting.get() >= self.max {
            self.full.set(true);
        }
    }

    fn subtract(&self, octets: u64) {
        self.waiting.set(self.waiting.get() - octets);
        if self.full.get() && self.waiting.get() <= self.max - self.max / 8 {
            self.full.set(false);
            self.attention.notify_one();
        }
    }
}

/// What one message is charged with, until this is dropped.
pub(crate) struct Charge {
    memory: Rc<Memory>,
    octets: u64,
    stream: u64,
    under_way: bool,
}

impl Charge {
    /// The message is on its way.
    pub(crate) fn leave(&mut self) {
        if !self.under_way {
            self.under_way = true;
            self.memory.subtract(self.octets);
            self.memory.under_way.set(self.memory.under_way.get() + self.octets + self.stream);
        }
    }

    /// The message waits, again or for something else.
    pub(crate) fn wait(&mut self) {
        if self.under_way {
            self.under_way = false;
            self.memory.under_way.set(self.memory.under_way.get() - self.octets - self.stream);
            self.memory.add(self.octets);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.under_way {
            self.memory.under_way.set(self.memory.under_way.get() - self.octets - self.stream);
        } else {
            self.memory.subtract(self.octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_leaves_room_for_others() {
        let memory = Memory::new(800, Arc::new(Notify::new()));
        let mut first = memory.waits(500, 0);
        let second = memory.waits(300, 0);
        assert!(!memory.has_room(), "800 of 800 wait");
        first.leave();
        assert!(memory.has_room());
        assert_eq!(memory.octets(), 800);
        first.wait();
        assert!(!memory.has_room());
        drop(second);
        drop(first);
        assert!(memory.has_room());
        assert_eq!(memory.octets(), 0);
    }

    #[test]
    fn room_comes_back_in_pieces_worth_a_look() {
        let memory = Memory::new(800, Arc::new(Notify::new()));
        let _most = memory.waits(650, 0);
        let one = memory.waits(100, 0);
        let two = memory.waits(50, 0);
        assert!(!memory.has_room());
        drop(two);
        assert!(!memory.has_room(), "750 of 800 wait: less than an eighth is free");
        drop(one);
        assert!(memory.has_room());
    }

    #[test]
    fn nothing_runs_ahead_while_much_is_on_its_way() {
        let memory = Memory::new(800, Arc::new(Notify::new()));
        let mut charge = memory.waits(100, 700);
        assert!(memory.lets_run_ahead());
        charge.leave();
        assert!(memory.has_room());
        assert!(!memory.lets_run_ahead());
        assert_eq!(memory.octets(), 800);
        drop(charge);
        assert!(memory.lets_run_ahead());
    }
}
