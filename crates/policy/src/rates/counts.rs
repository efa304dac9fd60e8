//! Counts that go up and down: open connections.
//!
//! A word is `tag (40) | count (24)`. One with the count 0 is free, whatever its tag. Tag and count change together, so that a
//! word whose count is not 0 keeps its tag, and whoever has counted finds the same word again by its place alone.
//!
//! **Twins.** Two threads that count the first of one key at the same moment may take two free words for it. Nothing brings the
//! two together again: a key's count is the sum over the words with its tag. Each thread first counts itself and then looks at
//! the others; in the one order that all threads agree on (`SeqCst`), the last of them sees all, so that together they cannot
//! pass the limit. Two threads may then both step back where one could have stayed, in this case only.

use std::sync::atomic::Ordering::SeqCst;

use super::sets::{Place, Sets, WAYS, look};

const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What became of an attempt to count.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Counted at this place, which [`Counts::leave`] takes.
    At(Place),
    /// No word is free: not counted.
    Untracked,
    /// The limit is reached: not counted.
    Refused,
}

/// The table.
#[derive(Debug)]
pub(super) struct Counts {
    sets: Sets,
}

impl Counts {
    /// For about `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        Self { sets: Sets::new(keys) }
    }

    /// Counts one more for the key of `hash`, unless it has `limit` already.
    pub(super) fn enter(&self, hash: u64, limit: u32) -> Counted {
        // Each new turn means that another thread has got further.
        loop {
            let seen = look(self.sets.of(hash));
            if let Some(counted) = self.enter_as_seen(hash, limit, &seen) {
                return counted;
            }
        }
    }

    /// The same from what was seen in the set; `None` when the word in question is another one by now.
    fn enter_as_seen(&self, hash: u64, limit: u32, seen: &[u64; WAYS]) -> Option<Counted> {
        let (set, tag) = (self.sets.of(hash), hash >> COUNT_BITS);
        let limit = u64::from(limit).min(COUNT_MAX);
        if counted(seen, tag) >= limit {
            return Some(Counted::Refused);
        }
        let own = seen.iter().position(|word| word >> COUNT_BITS == tag);
        let free = || seen.iter().position(|word| word & COUNT_MAX == 0);
        let Some(way) = own.or_else(free) else { return Some(Counted::Untracked) };
        let count = if own.is_some() { seen[way] & COUNT_MAX } else { 0 } + 1;
        debug_assert!(count <= COUNT_MAX);
        set[way].compare_exchange(seen[way], tag << COUNT_BITS | count, SeqCst, SeqCst).ok()?;
        let place = self.sets.place(hash, way);
        // Not what our own word says now, which those that came after us have checked.
        let mut others = look(set);
        others[way] = 0;
        if count + counted(&others, tag) > limit {
            self.leave(&place);
            return Some(Counted::Refused);
        }
        Some(Counted::At(place))
    }

    /// Takes back what was counted at `place`, once.
    pub(super) fn leave(&self, place: &Place) {
        let before = self.sets.at(place).fetch_sub(1, SeqCst);
        debug_assert_ne!(before & COUNT_MAX, 0, "left more often than entered");
    }

    /// Octets of memory.
    pub(super) fn octets(&self) -> usize {
        self.sets.octets()
    }

    /// Everything that is counted.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        self.sets.words().map(|word| word.load(SeqCst) & COUNT_MAX).sum()
    }
}

/// The sum over the words of a key.
fn counted(words: &[u64; WAYS], tag: u64) -> u64 {
    words.iter().map(|word| if word >> COUNT_BITS == tag { word & COUNT_MAX } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// A hash in the first set with this tag.
    fn hash(tag: u64) -> u64 {
        tag << COUNT_BITS
    }

    fn entered(counts: &Counts, hash: u64, limit: u32) -> Place {
        match counts.enter(hash, limit) {
            Counted::At(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_has_its_limit() {
        let counts = Counts::new(8);
        let first = entered(&counts, hash(1), 2);
        let second = entered(&counts, hash(1), 2);
        assert_eq!(counts.enter(hash(1), 2), Counted::Refused);
        entered(&counts, hash(2), 2);
        counts.leave(&first);
        entered(&counts, hash(1), 2);
        assert_eq!(counts.enter(hash(1), 2), Counted::Refused);
        // Another limit applies at once.
        entered(&counts, hash(1), 3);
        counts.leave(&second);
        assert_eq!(counts.enter(hash(1), 2), Counted::Refused);
        assert_eq!(counts.total(), 3);
    }

    #[test]
    fn a_full_set_lets_new_keys_in_uncounted_and_keeps_the_old_ones() {
        let counts = Counts::new(8);
        let places: Vec<Place> = (1..=16).map(|tag| entered(&counts, hash(tag), 1)).collect();
        for tag in 17..100 {
            assert_eq!(counts.enter(hash(tag), 1), Counted::Untracked);
        }
        for tag in 1..=16 {
            assert_eq!(counts.enter(hash(tag), 1), Counted::Refused);
        }
        assert_eq!(counts.total(), 16);
        // The word of one that left is free for anybody.
        counts.leave(&places[7]);
        entered(&counts, hash(99), 1);
        assert_eq!(counts.enter(hash(8), 1), Counted::Untracked);
    }

    #[test]
    fn a_key_whose_hash_is_zero_is_like_any_other() {
        let counts = Counts::new(8);
        entered(&counts, 0, 1);
        assert_eq!(counts.enter(0, 1), Counted::Refused);
    }

    #[test]
    fn twins_count_together() {
        let counts = Counts::new(8);
        // As two threads leave them that have counted the first of a key at the same moment.
        let set = counts.sets.of(0);
        set[3].store(hash(7) | 2, SeqCst);
        set[5].store(hash(7) | 1, SeqCst);
        assert_eq!(counts.enter(hash(7), 3), Counted::Refused);
        let place = entered(&counts, hash(7), 4);
        assert_eq!(counts.enter(hash(7), 4), Counted::Refused);
        counts.leave(&place);
        assert_eq!(counts.total(), 3);
    }

    #[test]
    fn twins_are_found_by_the_one_that_comes_last() {
        let counts = Counts::new(8);
        let set = counts.sets.of(0);
        // One thread looks while the first word is in use, the other one after that; then both count.
        let other = entered(&counts, hash(1), 1);
        let first_look = look(set);
        counts.leave(&other);
        let second_look = look(set);
        let first = counts.enter_as_seen(hash(7), 1, &first_look);
        assert!(matches!(first, Some(Counted::At(_))));
        assert_eq!(counts.enter_as_seen(hash(7), 1, &second_look), Some(Counted::Refused));
        assert_eq!(counts.total(), 1);
        // A word that has changed since the look is not touched.
        entered(&counts, hash(2), 1);
        assert_eq!(counts.enter_as_seen(hash(8), 1, &second_look), None);
        assert_eq!(counts.total(), 2);
    }

    /// Threads come and go in one crowded set: at no moment has a key more than its limit, and nothing is left in the end.
    #[test]
    fn no_count_is_lost_and_no_limit_passed() {
        const LIMIT: u32 = 3;
        const THREADS: u64 = 8;
        const KEYS: u64 = 12;
        let counts = Counts::new(8);
        let open: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        let start = Barrier::new(8);
        let run = |thread: u64| {
            let (mut random, mut held) = (thread + 1, Vec::new());
            start.wait();
            for _ in 0..60_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if held.len() == 3 || (!held.is_empty() && random & 1 == 0) {
                    let (key, place) = held.swap_remove((random >> 32) as usize % held.len());
                    let open: &AtomicU32 = &open[key];
                    open.fetch_sub(1, Ordering::SeqCst);
                    counts.leave(&place);
                    continue;
                }
                let key = (random >> 40) as usize % open.len();
                match counts.enter(hash(key as u64 + 1), LIMIT) {
                    Counted::At(place) => {
                        assert!(open[key].fetch_add(1, Ordering::SeqCst) < LIMIT);
                        held.push((key, place));
                    }
                    // Twins take more words than there are keys, so that a set may be full for a moment. Whether a limit is met depends on
                    // who runs beside whom.
                    Counted::Untracked | Counted::Refused => {}
                }
            }
            for (key, place) in held {
                open[key].fetch_sub(1, Ordering::SeqCst);
                counts.leave(&place);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
        assert_eq!(counts.total(), 0);
        // All that came and went has left the limit where it was.
        let places: Vec<_> = (0..LIMIT).map(|_| counts.enter(hash(1), LIMIT)).collect();
        assert!(places.iter().all(|counted| matches!(counted, Counted::At(_))));
        assert!(matches!(counts.enter(hash(1), LIMIT), Counted::Refused));
    }
}
