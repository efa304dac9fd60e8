//! Waking tasks of the same core: no lock, no atomic, no allocation in the steady state.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A flag with one task that waits for it.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Signal {
    /// Raises the flag and wakes the waiter.
    pub(crate) fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Waits until the flag is raised, and lowers it.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.raised.take() {
                return Poll::Ready(());
            }
            self.waiter.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Tasks that wait for the next turn of something, all woken together.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    turn: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Turnstile {
    /// Lets all waiters through.
    pub(crate) fn turn(&self) {
        self.turn.set(self.turn.get() + 1);
        for waker in self.waiters.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits for the next turn.
    pub(crate) async fn wait(&self) {
        let seen = self.turn.get();
        poll_fn(|context| {
            if self.turn.get() != seen {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Tasks that wait for a number to be reached.
#[derive(Debug, Default)]
pub(crate) struct Threshold {
    waiters: RefCell<Vec<(u64, Waker)>>,
}

impl Threshold {
    /// Wakes the task of `context` once the number has reached `goal`.
    pub(crate) fn wake_at(&self, goal: u64, context: &Context<'_>) {
        self.waiters.borrow_mut().push((goal, context.waker().clone()));
    }

    /// The number is now `reached`: wakes those who waited for it or less.
    pub(crate) fn reached(&self, reached: u64) {
        self.waiters.borrow_mut().retain(|(goal, waker)| {
            let waits_on = *goal > reached;
            if !waits_on {
                waker.wake_by_ref();
            }
            waits_on
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_signal_raised_before_the_wait_is_not_lost() {
        let (_, waker) = counter();
        let signal = Signal::default();
        signal.raise();
        assert!(pin!(signal.wait()).poll(&mut Context::from_waker(&waker)).is_ready());
        assert!(
            pin!(signal.wait()).poll(&mut Context::from_waker(&waker)).is_pending(),
            "one raise, one wait"
        );
    }

    #[test]
    fn a_turnstile_wakes_all_who_wait() {
        let (count, waker) = counter();
        let turnstile = Turnstile::default();
        let mut first = pin!(turnstile.wait());
        let mut second = pin!(turnstile.wait());
        let mut context = Context::from_waker(&waker);
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        turnstile.turn();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(first.poll(&mut context).is_ready());
        assert!(second.poll(&mut context).is_ready());
    }

    #[test]
    fn a_threshold_wakes_only_those_it_has_reached() {
        let (low_count, low) = counter();
        let (high_count, high) = counter();
        let threshold = Threshold::default();
        threshold.wake_at(10, &Context::from_waker(&low));
        threshold.wake_at(20, &Context::from_waker(&high));
        threshold.reached(10);
        assert_eq!(low_count.0.load(Ordering::Relaxed), 1);
        assert_eq!(high_count.0.load(Ordering::Relaxed), 0);
        threshold.reached(25);
        assert_eq!(high_count.0.load(Ordering::Relaxed), 1);
    }
}
