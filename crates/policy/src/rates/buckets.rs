//! Rates: a bucket for each key that fills up again by itself.
//!
//! A word is `tag (24) | time (40)`. The time, in ticks of 1/4096 s, is when the bucket will be as if never used: one taken moves
//! it by the interval of the rate, from now or from where it was (the generic cell rate algorithm, ITU-T I.371, annex A). How far
//! it lies ahead is what was taken and has not come back yet. A word whose time has passed says nothing any more and is free.
//!
//! Twins, two words for one key that two threads have begun at the same moment, are summed up as in the counts. They fill up side
//! by side, so that a key gets back twice as fast until one of them has passed: at most one taken for each thread is given away.

use std::sync::atomic::Ordering::SeqCst;

use super::Rate;
use super::sets::{Sets, WAYS, look};

const TIME_BITS: u32 = 40;
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;

/// The most that may be taken before anything has come back: two years, a quarter of what the clock can hold.
const CAPACITY_MAX: u64 = 1 << 38;

/// Microseconds as ticks; the end of time, where nothing is limited any more, for what does not fit.
pub(super) fn ticks(micros: u64) -> u64 {
    // 1,000,000 / 4,096, without a product that would not fit.
    let (whole, rest) = (micros / 15_625, micros % 15_625);
    whole.saturating_mul(64).saturating_add(rest * 64 / 15_625).min(TIME_MAX)
}

/// A rate in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// After which one has come back.
    one: u64,
    /// After which all have.
    all: u64,
}

impl Interval {
    /// `None` for no limit.
    pub(super) fn of(rate: Rate) -> Option<Self> {
        let per = rate.per.as_secs().saturating_mul(4096)
            + (u64::from(rate.per.subsec_nanos()) << 12) / 1_000_000_000;
        let one = per.min(CAPACITY_MAX).checked_div(u64::from(rate.count))?;
        (one > 0).then_some(Self { one, all: one * u64::from(rate.count) })
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Buckets {
    sets: Sets,
}

impl Buckets {
    /// For about `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        Self { sets: Sets::new(keys) }
    }

    /// Takes one for the key of `hash` at `now` (ticks); false when the rate is used up, and then nothing was taken.
    pub(super) fn take(&self, hash: u64, interval: Interval, now: u64) -> bool {
        // Each new turn means that another thread has got further.
        loop {
            let seen = look(self.sets.of(hash));
            if let Some(taken) = self.take_as_seen(hash, interval, now, &seen) {
                return taken;
            }
        }
    }

    /// The same from what was seen in the set; `None` when the word in question is another one by now.
    fn take_as_seen(&self, hash: u64, interval: Interval, now: u64, seen: &[u64; WAYS]) -> Option<bool> {
        let (set, tag) = (self.sets.of(hash), hash >> TIME_BITS);
        if taken(seen, tag, now) + interval.one > interval.all {
            return Some(false);
        }
        let own = seen.iter().position(|word| word >> TIME_BITS == tag);
        let way = own.unwrap_or_else(|| soonest(seen));
        let since = if own.is_some() { (seen[way] & TIME_MAX).max(now) } else { now };
        let time = (since + interval.one).min(TIME_MAX);
        set[way].compare_exchange(seen[way], tag << TIME_BITS | time, SeqCst, SeqCst).ok()?;
        // Not what our own word says now, which those that came after us have checked.
        let mut others = look(set);
        others[way] = 0;
        let fits = time - now + taken(&others, tag, now) <= interval.all;
        if !fits {
            self.give_back(hash, interval);
        }
        Some(fits)
    }

    /// Gives one back that was taken, if it is not forgotten already.
    pub(super) fn give_back(&self, hash: u64, interval: Interval) {
        let (set, tag) = (self.sets.of(hash), hash >> TIME_BITS);
        for word in set {
            let less = |old: u64| {
                let time = (old & TIME_MAX).saturating_sub(interval.one);
                (old >> TIME_BITS == tag).then_some(tag << TIME_BITS | time)
            };
            if word.fetch_update(SeqCst, SeqCst, less).is_ok() {
                return;
            }
        }
    }

    /// Octets of memory.
    pub(super) fn octets(&self) -> usize {
        self.sets.octets()
    }
}

/// The sum over the words of a key: what was taken and has not come back yet.
fn taken(words: &[u64; WAYS], tag: u64, now: u64) -> u64 {
    let taken = |word: &u64| if word >> TIME_BITS == tag { (word & TIME_MAX).saturating_sub(now) } else { 0 };
    words.iter().map(taken).sum()
}

/// The word that is free, or will be the soonest.
fn soonest(words: &[u64; WAYS]) -> usize {
    (0..WAYS).min_by_key(|&way| words[way] & TIME_MAX).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Ticks of a second.
    const SECOND: u64 = 4096;

    fn interval(count: u32, seconds: u64) -> Interval {
        Interval::of(Rate::new(count, Duration::from_secs(seconds))).expect("a limit")
    }

    /// A hash in the first set with this tag.
    fn hash(tag: u64) -> u64 {
        tag << TIME_BITS
    }

    fn takes(buckets: &Buckets, hash: u64, interval: Interval, now: u64) -> u32 {
        let mut taken = 0;
        while taken < 10_000 && buckets.take(hash, interval, now) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn units() {
        assert_eq!(ticks(0), 0);
        assert_eq!(ticks(1_000_000), SECOND);
        assert_eq!(ticks(999_999), SECOND - 1);
        assert_eq!(ticks(60_000_000_123), 60_000 * SECOND);
        assert_eq!(ticks(8 * 365 * 86_400 * 1_000_000), 8 * 365 * 86_400 * SECOND);
        assert_eq!(ticks(u64::MAX), TIME_MAX);
        assert_eq!(interval(10, 60), Interval { one: 6 * SECOND, all: 60 * SECOND });
        assert_eq!(interval(3, 1), Interval { one: 1365, all: 4095 });
        assert_eq!(interval(1, u64::MAX).all, CAPACITY_MAX);
        assert_eq!(interval(u32::MAX, u64::MAX).one, 64);
        for none in
            [Rate::UNLIMITED, Rate::new(0, Duration::from_secs(1)), Rate::new(5_000, Duration::from_secs(1))]
        {
            assert_eq!(Interval::of(none), None);
        }
        assert_eq!(
            Interval::of(Rate::new(100, Duration::from_millis(500))),
            Some(Interval { one: 20, all: 2_000 })
        );
    }

    #[test]
    fn all_at_once_and_one_after_the_other() {
        let (buckets, rate) = (Buckets::new(8), interval(10, 60));
        assert_eq!(takes(&buckets, hash(1), rate, 100), 10);
        assert_eq!(takes(&buckets, hash(1), rate, 99 + 6 * SECOND), 0);
        assert_eq!(takes(&buckets, hash(1), rate, 100 + 6 * SECOND), 1);
        assert_eq!(takes(&buckets, hash(1), rate, 100 + 18 * SECOND), 2);
        // What was not taken is not saved up.
        assert_eq!(takes(&buckets, hash(1), rate, 1_000 * SECOND), 10);
        assert_eq!(takes(&buckets, hash(2), rate, 1_000 * SECOND), 10);
    }

    #[test]
    fn a_clock_that_is_behind_takes_nothing_more() {
        let (buckets, rate) = (Buckets::new(8), interval(2, 60));
        assert_eq!(takes(&buckets, hash(1), rate, 100 * SECOND), 2);
        assert_eq!(takes(&buckets, hash(1), rate, 99 * SECOND), 0);
        assert_eq!(takes(&buckets, hash(1), rate, 130 * SECOND), 1);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (buckets, rate) = (Buckets::new(8), interval(3, 60));
        assert_eq!(takes(&buckets, hash(1), rate, 0), 3);
        buckets.give_back(hash(1), rate);
        buckets.give_back(hash(2), rate);
        assert_eq!(takes(&buckets, hash(1), rate, 0), 1);
        // More than was taken is not there to be given.
        for _ in 0..100 {
            buckets.give_back(hash(1), rate);
        }
        assert_eq!(takes(&buckets, hash(1), rate, 0), 3);
    }

    #[test]
    fn a_full_set_forgets_whoever_has_done_the_least() {
        let (buckets, rate) = (Buckets::new(8), interval(10, 60));
        for tag in 1..=16 {
            for _ in 0..if tag == 5 { 1 } else { 9 } {
                assert!(buckets.take(hash(tag), rate, 0));
            }
        }
        assert!(buckets.take(hash(17), rate, 0));
        // The same again and again: newcomers push one another out.
        for tag in 18..1_000 {
            assert!(buckets.take(hash(tag), rate, 0));
        }
        for tag in (1..=16).filter(|&tag| tag != 5) {
            assert_eq!(takes(&buckets, hash(tag), rate, 0), 1, "key {tag}");
        }
        assert_eq!(takes(&buckets, hash(5), rate, 0), 10);
    }

    #[test]
    fn whose_time_has_passed_is_pushed_out_first() {
        let (buckets, rate) = (Buckets::new(8), interval(2, 60));
        for tag in 1..=16 {
            assert!(buckets.take(hash(tag), rate, if tag == 9 { 0 } else { 31 * SECOND }));
        }
        assert!(buckets.take(hash(17), rate, 32 * SECOND));
        for tag in (1..=17).filter(|&tag| tag != 9) {
            assert_eq!(takes(&buckets, hash(tag), rate, 32 * SECOND), 1, "key {tag}");
        }
    }

    #[test]
    fn at_the_end_of_time_nothing_is_limited() {
        let (buckets, rate) = (Buckets::new(8), interval(2, 60));
        assert_eq!(takes(&buckets, hash(1), rate, ticks(u64::MAX)), 10_000);
    }

    #[test]
    fn twins_are_summed_up() {
        let (buckets, rate) = (Buckets::new(8), interval(10, 60));
        let set = buckets.sets.of(0);
        set[3].store(hash(7) | (12 * SECOND), SeqCst);
        set[5].store(hash(7) | (42 * SECOND), SeqCst);
        assert_eq!(takes(&buckets, hash(7), rate, 0), 1);
    }

    #[test]
    fn twins_are_found_by_the_one_that_comes_last() {
        let (buckets, rate) = (Buckets::new(8), interval(1, 60));
        let set = buckets.sets.of(0);
        // One thread looks while the first word is in use, the other one after that; then both take.
        assert!(buckets.take(hash(1), rate, 0));
        let first_look = look(set);
        buckets.give_back(hash(1), rate);
        let second_look = look(set);
        assert_eq!(buckets.take_as_seen(hash(7), rate, 0, &first_look), Some(true));
        assert_eq!(buckets.take_as_seen(hash(7), rate, 0, &second_look), Some(false));
        assert_eq!(takes(&buckets, hash(7), rate, 0), 0);
        // A word that has changed since the look is not touched.
        assert!(buckets.take(hash(2), rate, 0));
        assert_eq!(buckets.take_as_seen(hash(3), rate, 0, &look(buckets.sets.of(0)).map(|_| 0)), None);
    }

    /// Many threads take from one bucket at one moment: exactly what is in it, also of words that they begin together.
    #[test]
    fn threads_share_a_rate() {
        let rate = interval(1_000, 60);
        for round in 0..200 {
            let buckets = Buckets::new(8);
            let start = Barrier::new(4);
            let run = || {
                start.wait();
                takes(&buckets, hash(1), rate, round * SECOND)
            };
            let taken: u32 = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
            });
            // Two that were the last together may both have stepped back.
            assert!((1_000 - 3..=1_000).contains(&taken), "{taken}");
        }
    }
}
