//! A set of short texts: millions of them in little memory, asked in the same time however many there are.
//!
//! ```text
//! text    03 j o e 05 m a r y a 03 b o b …      each name behind its length
//!          ▲         ▲             ▲
//! places  [12] [0] [4] …                        a hash table of where they start
//! ```
//! A name costs its octets, one for its length and about 5 for each place of the table, of which 44 % to 87 % are taken; there is
//! no allocation for each. A look-up reads the table once and one name.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// See the module.
#[derive(Debug)]
pub(crate) struct Names {
    text: Vec<u8>,
    places: HashTable<u32>,
    /// Keyed, so that a peer cannot choose names that collide.
    hasher: RandomState,
}

/// A name cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    /// Over 255 octets.
    Long,
    /// Over 4 GiB of names.
    Full,
}

impl Names {
    /// An empty set with room for `names`.
    pub(crate) fn with_capacity(names: usize) -> Self {
        Self { text: Vec::new(), places: HashTable::with_capacity(names), hasher: RandomState::new() }
    }

    /// Takes `name`, if it is not in the set.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn insert(&mut self, name: &str) -> Result<(), NameError> {
        let octets = u8::try_from(name.len()).map_err(|_| NameError::Long)?;
        let start = u32::try_from(self.text.len()).map_err(|_| NameError::Full)?;
        let Self { text, places, hasher } = self;
        let name = name.as_bytes();
        let known = |place: &u32| at(text, *place) == name;
        let hash = |place: &u32| hasher.hash_one(at(text, *place));
        if let Entry::Vacant(place) = places.entry(hasher.hash_one(name), known, hash) {
            place.insert(start);
            text.push(octets);
            text.extend_from_slice(name);
        }
        Ok(())
    }

    /// Gives memory back that is not needed.
    pub(crate) fn shrink(&mut self) {
        let Self { text, places, hasher } = self;
        text.shrink_to_fit();
        places.shrink_to_fit(|place| hasher.hash_one(at(text, *place)));
    }

    /// Whether `name` is in the set.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let name = name.as_bytes();
        self.places.find(self.hasher.hash_one(name), |place| at(&self.text, *place) == name).is_some()
    }

    /// Number of names.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Octets of memory.
    pub(crate) fn octets(&self) -> usize {
        self.text.capacity() + self.places.allocation_size()
    }
}

/// The name at `place`; nothing where none begins.
fn at(text: &[u8], place: u32) -> &[u8] {
    let (octets, rest) = text.get(place as usize..).and_then(<[u8]>::split_first).unwrap_or((&0, &[]));
    rest.get(..usize::from(*octets)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_it_was_given(names in proptest::collection::vec("[a-c]{0,4}", 0..60), capacity in 0..100_usize) {
            let mut set = Names::with_capacity(capacity);
            for name in &names {
                prop_assert_eq!(set.insert(name), Ok(()));
            }
            set.shrink();
            let twin: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(set.len(), twin.len());
            for other in ["", "a", "b", "ab", "abc", "cab", "caba"].into_iter().chain(names.iter().map(String::as_str)) {
                prop_assert_eq!(set.contains(other), twin.contains(other));
            }
        }
    }

    #[test]
    fn a_name_has_at_most_255_octets() {
        let mut set = Names::with_capacity(0);
        assert_eq!(set.insert(&"n".repeat(255)), Ok(()));
        assert_eq!(set.insert(&"n".repeat(256)), Err(NameError::Long));
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_name_costs_little_memory() {
        let mut set = Names::with_capacity(100_000);
        for n in 0..100_000 {
            assert_eq!(set.insert(&format!("user{n:06}")), Ok(()));
        }
        set.shrink();
        assert!(set.octets() < 100_000 * (10 + 12), "{} octets", set.octets());
    }
}
