//! Logins: verified on threads of their own, awaited on the core.
//!
//! ```text
//!   session ─▶ begin: failures of address and user ─▶ Verifier ─▶ worker ─▶ outcomes ─▶ octet on the core's control socket
//!      ▲                                                                                        │
//!      └──────────────────────────── woken, with the outcome ◀── arrived() ◀────────────────────┘
//! ```
//! The runtime of a core cannot be woken from another thread, hence the way over its control socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crossbeam::queue::SegQueue;
use inrush_policy::{Failures, Outcome, Verifier};
use inrush_proto::sasl::Credentials;

/// The users of submission, and how often logins have failed; shared by all cores.
#[derive(Clone)]
pub struct Logins {
    /// Who they are.
    pub verifier: Arc<Verifier>,
    /// How often it went wrong.
    pub failures: Arc<Failures>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// Where the workers leave what they have found.
pub(crate) struct Outcomes {
    found: SegQueue<(u64, Outcome)>,
    control: UnixStream,
}

impl Outcomes {
    /// `control` leads to the core.
    pub(crate) fn new(control: UnixStream) -> Self {
        Self { found: SegQueue::new(), control }
    }

    fn leave(&self, number: u64, outcome: Outcome) {
        self.found.push((number, outcome));
        // Not sent: the core has ended, or so many octets wait there already that it will look anyway.
        let _ = (&self.control).write(&[0]);
    }
}

enum Waiting {
    For(Option<Waker>),
    Done(Outcome),
}

/// The logins that are being verified for one core.
pub(crate) struct Verifications {
    outcomes: Arc<Outcomes>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next: Cell<u64>,
}

impl Verifications {
    pub(crate) fn new(outcomes: Arc<Outcomes>) -> Self {
        Self { outcomes, waiting: RefCell::default(), next: Cell::new(0) }
    }

    /// Has credentials verified; `None` when too many wait already.
    pub(crate) async fn verify(&self, verifier: &Verifier, credentials: Credentials) -> Option<Outcome> {
        let number = self.next.get();
        self.next.set(number + 1);
        let outcomes = Arc::clone(&self.outcomes);
        self.waiting.borrow_mut().insert(number, Waiting::For(None));
        let submitted =
            verifier.submit(credentials, Box::new(move |outcome| outcomes.leave(number, outcome)));
        if submitted.is_err() {
            self.waiting.borrow_mut().remove(&number);
            return None;
        }
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.get_mut(&number) {
                Some(Waiting::For(waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(Waiting::Done(outcome)) => {
                    let outcome = *outcome;
                    waiting.remove(&number);
                    Poll::Ready(Some(outcome))
                }
                // Nobody else takes it away.
                None => Poll::Ready(None),
            }
        })
        .await
    }

    /// Wakes the sessions whose logins have been verified.
    pub(crate) fn arrived(&self) {
        while let Some((number, outcome)) = self.outcomes.found.pop() {
            if let Some(waiting) = self.waiting.borrow_mut().get_mut(&number)
                && let Waiting::For(waker) = std::mem::replace(waiting, Waiting::Done(outcome))
                && let Some(waker) = waker
            {
                waker.wake();
            }
        }
    }
}
