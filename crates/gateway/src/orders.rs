//! What the cores are told to do, all of them the same.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::micros;

/// What a core is to do from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Be ready, and take no connections yet.
    Wait,
    /// Take connections.
    Take,
    /// Leave new connections to another process that has the same sockets, and end with the last session.
    Leave,
    /// Take no more connections, let running transactions finish, end.
    Stop,
}

/// The order in force; whoever gives one wakes the cores.
#[derive(Debug)]
pub(crate) struct Orders {
    order: AtomicU8,
    /// Microseconds that running transactions may go on at a stop.
    drain_deadline: AtomicU64,
    /// How often the cores were to look for connections that nobody was woken for.
    looks: AtomicU32,
}

impl Orders {
    pub(crate) fn new(order: Order, drain_deadline: Duration) -> Self {
        Self {
            order: AtomicU8::new(order as u8),
            drain_deadline: AtomicU64::new(micros(drain_deadline)),
            looks: AtomicU32::new(0),
        }
    }

    pub(crate) fn give(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
    }

    pub(crate) fn current(&self) -> Order {
        let number = self.order.load(Ordering::Acquire);
        let orders = [Order::Wait, Order::Take, Order::Leave, Order::Stop];
        orders.into_iter().find(|order| *order as u8 == number).unwrap_or(Order::Stop)
    }

    /// Gives transactions more or less time than the settings do. Before the order to stop.
    pub(crate) fn set_drain_deadline(&self, deadline: Duration) {
        self.drain_deadline.store(micros(deadline), Ordering::Release);
    }

    /// Once more.
    pub(crate) fn look_again(&self) {
        self.looks.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn looks(&self) -> u32 {
        self.looks.load(Ordering::Acquire)
    }

    /// In microseconds.
    pub(crate) fn drain_deadline(&self) -> u64 {
        self.drain_deadline.load(Ordering::Acquire)
    }
}
