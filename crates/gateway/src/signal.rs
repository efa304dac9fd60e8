//! Waking tasks of the same core: no lock, no atomic, no allocation in the steady state.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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

/// Tasks that wait until there is room, in the order in which they came. Room for a few is no reason to wake thousands: one is let through, and lets the
/// next one through when it has found room.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    /// Waiters that have left, in all.
    left: Cell<u64>,
    /// Waiters that have come, in all.
    come: Cell<u64>,
    waiters: RefCell<VecDeque<Waker>>,
}

impl Turnstile {
    /// Lets the first waiter through.
    pub(crate) fn let_one(&self) {
        let first = self.waiters.borrow_mut().pop_front();
        if let Some(waker) = first {
            self.left.set(self.left.get() + 1);
            waker.wake();
        }
    }

    /// Lets all waiters through.
    pub(crate) fn let_all(&self) {
        self.left.set(self.come.get());
        for waker in self.waiters.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits to be let through.
    pub(crate) async fn wait(&self) {
        let mut number = None;
        poll_fn(|context| match number {
            Some(number) if number <= self.left.get() => Poll::Ready(()),
            // Woken by something else. The task is the same, and so is its waker.
            Some(_) => Poll::Pending,
            None => {
                self.come.set(self.come.get() + 1);
                number = Some(self.come.get());
                self.waiters.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
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
    fn a_turnstile_lets_one_or_all_through_in_order() {
        let (count, waker) = counter();
        let turnstile = Turnstile::default();
        let mut context = Context::from_waker(&waker);
        let mut waits: [_; 4] = std::array::from_fn(|_| Box::pin(turnstile.wait()));
        turnstile.let_one();
        for wait in &mut waits {
            assert!(wait.as_mut().poll(&mut context).is_pending());
        }
        turnstile.let_one();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let ready = waits.each_mut().map(|wait| wait.as_mut().poll(&mut context).is_ready());
        assert_eq!(ready, [true, false, false, false]);
        turnstile.let_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 4);
        assert!(waits[1..].iter_mut().all(|wait| wait.as_mut().poll(&mut context).is_ready()));
        let mut late = pin!(turnstile.wait());
        assert!(late.as_mut().poll(&mut context).is_pending());
        turnstile.let_one();
        assert!(late.poll(&mut context).is_ready());
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
