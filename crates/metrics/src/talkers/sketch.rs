//! The most frequent names of a stream in fixed memory: Space-Saving (Metwally, Agrawal, El Abbadi 2005) within sets of eight places.
//!
//! ```text
//!   name ── keyed hash ──▶ set ──▶ eight places: hash │ messages │ refusals │ octets │ inherited │ name
//!                                       └─ not there: the place with the fewest events changes hands, and its counts stay
//! ```
//! A name that comes into a place inherits its counts, so that they are never too low for the time since; by how much they may be too high is known:
//! by what was inherited. Within a set every name with more than an eighth of the events of the set has a place. Which names meet in a set is decided
//! by a keyed hash, so that nobody can choose names that push others out.
//!
//! One thread writes and any number read, without a lock: a set has a version that is odd while a place changes hands, and a reader tries again when
//! it has moved. Counts are cells like all others. A set that was last used in an earlier window is cleared when it is touched, so that no window
//! begins with a sweep.

use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed, fence};

/// Places of a set.
const WAYS: usize = 8;
/// Sets of a sketch.
const SETS: usize = 32;
/// How often a reader looks at a set that is being written. A change of hands takes some tens of nanoseconds.
const LOOKS_MAX: u32 = 1_000;

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Messages accepted.
    pub messages: u64,
    /// Refusals: connections, and replies with 4xx or 5xx.
    pub refusals: u64,
    /// Octets of mail data of the messages.
    pub bytes: u64,
}

impl Share {
    /// What the places are compared by.
    pub(crate) fn events(self) -> u64 {
        self.messages + self.refusals
    }
}

/// One name with what was counted for it in one sketch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) name: Vec<u8>,
    pub(crate) share: Share,
    /// Events that may be those of names which had the place before.
    pub(crate) inherited: u64,
}

/// Names of up to `8 * WORDS` octets.
#[derive(Debug)]
pub(crate) struct Sketch<const WORDS: usize> {
    sets: Box<[Set<WORDS>]>,
}

type Places = [AtomicU64; WAYS];

#[derive(Debug)]
#[repr(align(128))]
struct Set<const WORDS: usize> {
    /// Odd while a place changes hands.
    version: AtomicU64,
    /// The window of the counts.
    window: AtomicU64,
    /// 0 = the place is free.
    hashes: Places,
    messages: Places,
    refusals: Places,
    bytes: Places,
    inherited: Places,
    octets: Places,
    names: [[AtomicU64; WORDS]; WAYS],
}

impl<const WORDS: usize> Sketch<WORDS> {
    pub(crate) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Set::new()).collect() }
    }

    /// Counts `share` for `name` in `window`. To be called by one thread only.
    #[expect(clippy::cast_possible_truncation, reason = "shifted to a handful of bits")]
    pub(crate) fn note(&self, window: u64, hash: u64, name: &[u8], share: Share) {
        let hash = hash | 1;
        // The low bit is taken; the highest are as good as any.
        let set = &self.sets[(hash >> (u64::BITS - SETS.ilog2())) as usize];
        if set.window.load(Relaxed) != window {
            set.clear(window);
        }
        let place = set.hashes.iter().position(|known| known.load(Relaxed) == hash);
        let place = place.unwrap_or_else(|| set.change_hands(hash, name));
        for (cells, by) in
            [(&set.messages, share.messages), (&set.refusals, share.refusals), (&set.bytes, share.bytes)]
        {
            // Each kind of count lies in a line of its own, which most events leave alone.
            if by != 0 {
                add(&cells[place], by);
            }
        }
    }

    /// Adds what was counted from window `first` on to `counted`.
    pub(crate) fn collect(&self, first: u64, counted: &mut Vec<Counted>) {
        for set in &self.sets {
            let before = counted.len();
            for _ in 0..LOOKS_MAX {
                let version = set.version.load(Ordering::Acquire);
                if version % 2 == 0 && set.window.load(Relaxed) >= first {
                    counted.extend((0..WAYS).filter_map(|place| set.counted(place)));
                }
                fence(Ordering::Acquire);
                if version % 2 == 0 && set.version.load(Relaxed) == version {
                    break;
                }
                // What was read may belong to two names.
                counted.truncate(before);
                std::hint::spin_loop();
            }
        }
    }
}

impl<const WORDS: usize> Set<WORDS> {
    fn new() -> Self {
        let places = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            version: AtomicU64::new(0),
            window: AtomicU64::new(0),
            hashes: places(),
            messages: places(),
            refusals: places(),
            bytes: places(),
            inherited: places(),
            octets: places(),
            names: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    fn events(&self, place: usize) -> u64 {
        self.messages[place].load(Relaxed) + self.refusals[place].load(Relaxed)
    }

    #[cold]
    fn clear(&self, window: u64) {
        self.change(|| {
            self.window.store(window, Relaxed);
            for cells in [&self.hashes, &self.messages, &self.refusals, &self.bytes, &self.inherited] {
                cells.iter().for_each(|cell| cell.store(0, Relaxed));
            }
        });
    }

    /// Gives the place with the fewest events to a new name.
    fn change_hands(&self, hash: u64, name: &[u8]) -> usize {
        let place = (0..WAYS).min_by_key(|place| self.events(*place)).unwrap_or(0);
        let name = &name[..name.len().min(8 * WORDS)];
        self.change(|| {
            self.hashes[place].store(hash, Relaxed);
            self.inherited[place].store(self.events(place), Relaxed);
            self.octets[place].store(name.len() as u64, Relaxed);
            for (cell, octets) in self.names[place].iter().zip(name.chunks(8)) {
                let mut word = [0; 8];
                word[..octets.len()].copy_from_slice(octets);
                cell.store(u64::from_le_bytes(word), Relaxed);
            }
        });
        place
    }

    /// Makes a change that readers see whole or not at all.
    fn change(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        // The stores of the change come behind the odd version, and before the even one.
        fence(Ordering::Release);
        change();
        self.version.store(version + 2, Ordering::Release);
    }

    fn counted(&self, place: usize) -> Option<Counted> {
        if self.hashes[place].load(Relaxed) == 0 {
            return None;
        }
        let octets = usize::try_from(self.octets[place].load(Relaxed)).unwrap_or(0).min(8 * WORDS);
        let words = self.names[place].iter().take(octets.div_ceil(8));
        let mut name: Vec<u8> = words.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        name.truncate(octets);
        Some(Counted {
            name,
            share: Share {
                messages: self.messages[place].load(Relaxed),
                refusals: self.refusals[place].load(Relaxed),
                bytes: self.bytes[place].load(Relaxed),
            },
            inherited: self.inherited[place].load(Relaxed),
        })
    }
}

/// Exact because only one thread writes.
fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::HashMap;
    use std::hash::{BuildHasher as _, RandomState};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    const MESSAGE: Share = Share { messages: 1, refusals: 0, bytes: 100 };
    const REFUSAL: Share = Share { messages: 0, refusals: 1, bytes: 0 };

    fn all(sketch: &Sketch<4>, first: u64) -> HashMap<Vec<u8>, Counted> {
        let mut counted = Vec::new();
        sketch.collect(first, &mut counted);
        counted.into_iter().map(|counted| (counted.name.clone(), counted)).collect()
    }

    #[test]
    fn counts_are_exact_while_there_are_places() {
        let (sketch, key) = (Sketch::<4>::new(), RandomState::new());
        for name in [b"one.example".as_slice(), b"two.example", b"one.example"] {
            sketch.note(1, key.hash_one(name), name, MESSAGE);
        }
        sketch.note(1, key.hash_one(b"two.example".as_slice()), b"two.example", REFUSAL);
        let all = all(&sketch, 1);
        let of = |name: &[u8]| (all[name].share, all[name].inherited);
        assert_eq!(of(b"one.example"), (Share { messages: 2, refusals: 0, bytes: 200 }, 0));
        assert_eq!(of(b"two.example"), (Share { messages: 1, refusals: 1, bytes: 100 }, 0));
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn names_are_kept_to_the_last_octet() {
        for octets in [0, 1, 7, 8, 9, 31, 32] {
            let sketch = Sketch::<4>::new();
            let name = vec![b'x'; octets];
            sketch.note(1, 77, &name, MESSAGE);
            assert!(all(&sketch, 1).contains_key(&name), "{octets} octets");
        }
        let sketch = Sketch::<4>::new();
        sketch.note(1, 77, &[b'x'; 40], MESSAGE);
        assert!(all(&sketch, 1).contains_key([b'x'; 32].as_slice()), "longer ones are cut");
    }

    #[test]
    fn a_new_window_begins_with_nothing() {
        let sketch = Sketch::<4>::new();
        sketch.note(1, 77, b"one.example", MESSAGE);
        sketch.note(2, 77, b"one.example", REFUSAL);
        assert_eq!(all(&sketch, 1)[b"one.example".as_slice()].share, REFUSAL);
        assert!(all(&sketch, 3).is_empty(), "what was counted before is not shown");
    }

    proptest! {
        /// The promise of Space-Saving, for each set: never too low, too high by what was inherited at most, and whoever has more than an eighth of
        /// the events of a set is in it.
        #[test]
        fn keeps_its_promise(names in proptest::collection::vec(0u64..60, 1..800), skew in 1u64..6) {
            let sketch = Sketch::<4>::new();
            let mut exact: HashMap<Vec<u8>, u64> = HashMap::new();
            // All in one set.
            let names: Vec<u64> = names.iter().map(|name| name / skew * (name % skew + 1)).collect();
            for name in &names {
                let octets = name.to_le_bytes().to_vec();
                sketch.note(1, (name + 1) << 1, &octets, MESSAGE);
                *exact.entry(octets).or_default() += 1;
            }
            let all = all(&sketch, 1);
            for (name, counted) in &all {
                let true_count = exact[name];
                prop_assert!(counted.share.messages >= true_count);
                prop_assert!(counted.share.messages - counted.inherited <= true_count);
            }
            for (name, count) in &exact {
                prop_assert!(*count <= names.len() as u64 / WAYS as u64 || all.contains_key(name));
            }
        }
    }

    #[test]
    fn a_reader_sees_no_place_that_changes_hands() {
        let sketch = Arc::new(Sketch::<4>::new());
        let reader = Arc::clone(&sketch);
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let write = std::thread::spawn(move || {
            for octet in (0..200_u8).cycle().take_while(|_| !stop.load(Relaxed)) {
                // Each name consists of one octet, all in one set.
                sketch.note(1, (u64::from(octet) + 1) << 1, &[octet; 32], MESSAGE);
            }
        });
        let mut seen = 0;
        while seen < 20_000 {
            let mut counted = Vec::new();
            reader.collect(1, &mut counted);
            for counted in &counted {
                assert_eq!(counted.name.len(), 32);
                assert!(counted.name.iter().all(|octet| *octet == counted.name[0]), "{:?}", counted.name);
            }
            seen += counted.len();
        }
        enough.store(true, Relaxed);
        write.join().unwrap();
    }
}
