//! Many seeds, on all cores.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;
/// How often a long run says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs seeds from `first` on; the lowest that has failed among those that were run.
fn run(first: u64, seeds: u64, until: Option<Instant>) -> Option<u64> {
    assert!(seeds > 0, "no seeds");
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicU64::new(u64::MAX);
    let started = Instant::now();
    let work = |tells: bool| {
        let mut told = started;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let late = until.is_some_and(|until| Instant::now() >= until);
            if index >= seeds || late || failed.load(Ordering::Relaxed) != u64::MAX {
                return;
            }
            let seed = first.wrapping_add(index);
            if catch_unwind(|| World::new(seed).run()).is_err() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
            done.fetch_add(1, Ordering::Relaxed);
            if tells && told.elapsed() >= PROGRESS {
                told = Instant::now();
                let seeds = done.load(Ordering::Relaxed);
                eprintln!("{seeds} seeds in {} s, none has failed", started.elapsed().as_secs());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (1..threads).for_each(|_| drop(scope.spawn(|| work(false))));
        work(true);
    });
    eprintln!("{} seeds in {:.1} s", done.into_inner(), started.elapsed().as_secs_f64());
    Some(failed.into_inner()).filter(|seed| *seed != u64::MAX)
}

#[test]
fn seeds() {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
    };
    if let Some(seed) = number("INRUSH_SEED") {
        return World::new(seed).tell().run();
    }
    let first = number("INRUSH_SEED_FIRST").unwrap_or(0);
    let count = number("INRUSH_SEEDS").unwrap_or(SEEDS);
    let until = number("INRUSH_SEED_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if let Some(seed) = run(first, count, until) {
        panic!("replay: INRUSH_SEED={seed} cargo test -p inrush-log --test simulation seeds -- --nocapture");
    }
}
