//! The memory of both tables: sets of words, chosen by the low bits of a hash.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a set. [`Sets::new`] makes for four to eight keys in a set in the mean: of those that are distributed by chance, fewer
/// than one in a thousand finds none free.
pub(super) const WAYS: usize = 16;

/// The most keys that a table is made for: 512 MiB.
const KEYS_MAX: usize = 1 << 25;

/// Two lines of the cache, which the processor fetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([AtomicU64; WAYS]);

const _: () = assert!(size_of::<Set>() == 128);

/// A fixed number of sets, all words 0.
#[derive(Debug)]
pub(super) struct Sets {
    sets: Box<[Set]>,
}

impl Sets {
    /// Sets for about `keys` keys at a time: between two and four words for each.
    pub(super) fn new(keys: usize) -> Self {
        let words = (keys.clamp(1, KEYS_MAX) * 2).next_power_of_two();
        Self { sets: (0..words.div_ceil(WAYS)).map(|_| Set::default()).collect() }
    }

    /// The set of `hash`.
    pub(super) fn of(&self, hash: u64) -> &[AtomicU64; WAYS] {
        &self.sets[self.index(hash)].0
    }

    /// The place of the word `way` in the set of `hash`, for [`Sets::at`].
    pub(super) fn place(&self, hash: u64, way: usize) -> Place {
        debug_assert!(way < WAYS);
        // KEYS_MAX makes for 2^26 words.
        Place(u32::try_from(self.index(hash) * WAYS + way).unwrap_or(u32::MAX))
    }

    /// The word at a place.
    pub(super) fn at(&self, place: &Place) -> &AtomicU64 {
        let place = place.0 as usize;
        &self.sets[place / WAYS].0[place % WAYS]
    }

    /// Octets of memory.
    pub(super) fn octets(&self) -> usize {
        size_of_val(&*self.sets)
    }

    /// All words.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.sets.iter().flat_map(|set| &set.0)
    }

    fn index(&self, hash: u64) -> usize {
        // The number of sets is a power of two; tags are made of the bits at the other end.
        usize::try_from(hash & (self.sets.len() as u64 - 1)).unwrap_or(0)
    }
}

/// The words of a set as they are now, each for itself; a copy, so that the search in it is done without branches.
pub(super) fn look(set: &[AtomicU64; WAYS]) -> [u64; WAYS] {
    std::array::from_fn(|way| set[way].load(Ordering::SeqCst))
}

/// Where a word is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(Sets::new(0).octets(), 128);
        assert_eq!(Sets::new(8).octets(), 128);
        assert_eq!(Sets::new(9).octets(), 256);
        assert_eq!(Sets::new(200_000).octets(), 4 << 20);
    }

    #[test]
    fn places_lead_back() {
        let sets = Sets::new(1_000);
        for hash in [0, 1, 77, u64::MAX] {
            for way in 0..WAYS {
                sets.of(hash)[way].store(hash ^ way as u64, Ordering::Relaxed);
                assert_eq!(sets.at(&sets.place(hash, way)).load(Ordering::Relaxed), hash ^ way as u64);
            }
        }
    }
}
