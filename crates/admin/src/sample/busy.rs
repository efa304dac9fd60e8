//! How busy the thread of each core is.
//!
//! The cores count their processor time once a second, out of step with the looks, so that between two looks there may be two of their counts or none.
//! The kernel knows it at any time: the first field of `/proc/self/task/TID/schedstat`, in nanoseconds. Where that cannot be read the counts of
//! the cores have to do.

use std::fs;

use inrush_metrics::{Counter, Snapshot};

/// The names of the cores' threads begin so; their number follows.
const THREAD: &str = "inrush-core-";

/// The threads, and what they had used at the last look.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Path of the file of each core.
    files: Vec<Option<String>>,
    used_us: Vec<u64>,
}

impl Busy {
    /// Finds the threads, and looks for the first time.
    pub(super) fn begin(&mut self, snapshot: &Snapshot<'_>) {
        self.files = vec![None; snapshot.cores()];
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let core = name.trim_end().strip_prefix(THREAD).and_then(|core| core.parse::<usize>().ok());
            let file = task.path().join("schedstat");
            if let Some(known) = core.and_then(|core| self.files.get_mut(core)) {
                *known = file.to_str().map(str::to_owned);
            }
        }
        self.used_us = self.used(snapshot);
    }

    /// The share of a processor that each core has had; `None` where it has just begun to be known.
    pub(super) fn shares(&mut self, snapshot: &Snapshot<'_>, seconds: f64) -> Vec<Option<f64>> {
        let now = self.used(snapshot);
        let before = std::mem::replace(&mut self.used_us, now);
        let used = self.used_us.iter().zip(&before).map(|(now, before)| now.checked_sub(*before));
        used.map(|used| used.map(|used| (used as f64 / 1e6 / seconds).min(1.0))).collect()
    }

    fn used(&self, snapshot: &Snapshot<'_>) -> Vec<u64> {
        let counted = snapshot.counter_by_core(Counter::BusyMicroseconds);
        let files = self.files.iter().chain(std::iter::repeat(&None));
        counted
            .into_iter()
            .zip(files)
            .map(|(counted, file)| file.as_deref().and_then(read).unwrap_or(counted))
            .collect()
    }
}

fn read(file: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? / 1_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use inrush_metrics::{Metrics, Names};

    use super::*;

    #[test]
    fn a_thread_that_works_is_busy_and_one_that_waits_is_not() {
        let metrics = Metrics::new(Names::default(), 2);
        let mut busy = Busy::default();
        // Ended however the test ends, or its scope would wait for ever.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (end, named) = (AtomicBool::new(false), Barrier::new(3));
        let ended = || end.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let _end = End(&end);
            let thread = |core: usize| std::thread::Builder::new().name(format!("{THREAD}{core}"));
            let work = || {
                named.wait();
                while !ended() {}
            };
            thread(0).spawn_scoped(scope, work).unwrap();
            let wait = || {
                named.wait();
                while !ended() {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            };
            thread(1).spawn_scoped(scope, wait).unwrap();
            named.wait();
            busy.begin(&metrics.snapshot());
            assert!(busy.files.iter().all(Option::is_some), "{busy:?}");
            let before = busy.used(&metrics.snapshot())[0];
            while busy.used(&metrics.snapshot())[0] < before + 20_000 {
                std::thread::yield_now();
            }
            let shares = busy.shares(&metrics.snapshot(), 0.02);
            assert!(shares[0].unwrap() > 0.9 && shares[1].unwrap() < 0.5, "{shares:?}");
        });
    }

    #[test]
    fn without_the_kernels_word_the_cores_count() {
        let metrics = Metrics::new(Names::default(), 1);
        let writer = metrics.core(0).writer().unwrap();
        let mut busy = Busy { files: vec![Some("/nonexistent".to_owned())], used_us: vec![0] };
        writer.mirror(Counter::BusyMicroseconds, 250_000);
        assert_eq!(busy.shares(&metrics.snapshot(), 1.0), [Some(0.25)]);
    }
}
