//! A value that many threads read while another one puts a new one in its place.

use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

/// Readers are done with the old value in microseconds, unless the kernel lets them wait.
const READERS_POLL: Duration = Duration::from_millis(1);
/// Whoever still has the old value then means to keep it.
const READERS_WAIT_MAX: Duration = Duration::from_secs(10);

/// A value that is read without a lock and replaced as a whole.
///
/// A table of millions of addresses takes long to build and milliseconds to drop. Both happen in the thread that calls
/// [`replace`](Self::replace), never in one that reads.
#[derive(Debug)]
pub struct Shared<T> {
    current: ArcSwap<T>,
}

impl<T> Shared<T> {
    /// Starts with `value`.
    #[must_use]
    pub fn new(value: impl Into<Arc<T>>) -> Self {
        Self { current: ArcSwap::new(value.into()) }
    }

    /// The value of now. Takes no lock and never waits; not to be kept longer than one question to it takes.
    pub fn load(&self) -> Loaded<T> {
        Loaded(self.current.load())
    }

    /// Puts `value` in the place of the old one, then waits until nobody reads the old one any more, 10 s at most, and drops it.
    /// Who loads after the call reads `value`. For a thread that may wait, as no core's may.
    pub fn replace(&self, value: impl Into<Arc<T>>) {
        let old = self.current.swap(value.into());
        let start = Instant::now();
        // Nobody new can get at the old value: its count only falls.
        while Arc::strong_count(&old) > 1 && start.elapsed() < READERS_WAIT_MAX {
            thread::sleep(READERS_POLL);
        }
    }
}

/// A value as it was when it was loaded.
#[derive(Debug)]
pub struct Loaded<T>(Guard<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{self, Sender};
    use std::thread::ThreadId;

    use super::*;

    /// Tells which thread drops it.
    struct Table {
        number: u64,
        twice: u64,
        dropped: Sender<(u64, ThreadId)>,
    }

    impl Drop for Table {
        fn drop(&mut self) {
            let _ = self.dropped.send((self.number, thread::current().id()));
        }
    }

    #[test]
    fn a_reader_keeps_what_it_has_and_does_not_drop_it() {
        let (dropped, drops) = mpsc::channel();
        let table = |number| Table { number, twice: 2 * number, dropped: dropped.clone() };
        let shared = Arc::new(Shared::new(table(1)));
        let loaded = shared.load();
        let replacer = thread::spawn({
            let (shared, new) = (Arc::clone(&shared), table(2));
            move || shared.replace(new)
        });
        while shared.load().number == 1 {
            thread::yield_now();
        }
        assert_eq!(loaded.number, 1);
        assert!(!replacer.is_finished() && drops.try_recv().is_err());
        drop(loaded);
        let id = replacer.thread().id();
        replacer.join().unwrap();
        assert_eq!(drops.try_recv().unwrap(), (1, id));
    }

    #[test]
    fn readers_see_whole_values_only_and_drop_none() {
        const ROUNDS: u64 = 200;
        let (dropped, drops) = mpsc::channel();
        let table = |number| Table { number, twice: 2 * number, dropped: dropped.clone() };
        let (shared, stop) = (Shared::new(table(0)), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let loaded = shared.load();
                        assert_eq!(loaded.twice, 2 * loaded.number);
                        assert!(loaded.number >= last);
                        last = loaded.number;
                    }
                });
            }
            for number in 1..=ROUNDS {
                shared.replace(table(number));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let expected: Vec<_> = (0..ROUNDS).map(|number| (number, thread::current().id())).collect();
        assert_eq!(drops.try_iter().collect::<Vec<_>>(), expected);
    }
}
