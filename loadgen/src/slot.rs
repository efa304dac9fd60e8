//! A session as the watchdog sees it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::plan::Seat;

/// A session seen by the watchdog.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What the session is.
    pub(crate) seat: Seat,
    /// Its number in the run.
    pub(crate) number: u64,
    /// Waiting for the server since then.
    pub(crate) busy_since: Cell<Option<Instant>>,
    /// Open loop: free since then.
    pub(crate) free_since: Cell<Option<Instant>>,
    kicked: Cell<Option<Kick>>,
    waker: RefCell<Option<Waker>>,
}

/// Why the watchdog ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kick {
    Timeout,
    Interrupted,
    /// The run is over for so long that nothing more is waited for.
    End,
}

impl Slot {
    pub(crate) fn new(seat: Seat, number: u64) -> Self {
        Self {
            seat,
            number,
            busy_since: Cell::new(None),
            free_since: Cell::new(None),
            kicked: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Waits for `future`, or for the watchdog. A timer per read would cost more than the read's own bookkeeping.
    pub(crate) async fn guarded<F: Future>(&self, future: F) -> Result<F::Output, Kick> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            // First, so that a server which always has something to say cannot keep a session for ever.
            if let Some(kick) = self.kicked.get() {
                return Poll::Ready(Err(kick));
            }
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    pub(crate) fn kick(&self, kick: Kick) {
        self.kicked.set(Some(kick));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The wait for the server begins anew: something was sent.
    pub(crate) fn touch(&self) {
        self.busy_since.set(Some(Instant::now()));
    }

    /// Forgets a timeout before the next connection; an interruption stays.
    pub(crate) fn rearm(&self) {
        if self.kicked.get() == Some(Kick::Timeout) {
            self.kicked.set(None);
        }
    }
}
