//! A set of a message's recipients, by their index in the envelope.

/// Indices below this fit without an allocation, and nearly all messages have no others.
const INLINE: u32 = 64;

/// A set of recipients. 16 octets; more where an index is 64 or above.
#[derive(Clone, Debug)]
pub struct RecipientSet(Bits);

#[derive(Clone, Debug)]
enum Bits {
    Inline(u64),
    Long(Box<[u64]>),
}

impl Default for RecipientSet {
    fn default() -> Self {
        Self(Bits::Inline(0))
    }
}

impl PartialEq for RecipientSet {
    fn eq(&self, other: &Self) -> bool {
        let words = self.words().len().max(other.words().len());
        (0..words).all(|word| self.word(word) == other.word(word))
    }
}

impl Eq for RecipientSet {}

impl RecipientSet {
    /// The recipients 0 to `count` - 1.
    #[must_use]
    pub fn all(count: u32) -> Self {
        (0..count).collect()
    }

    /// Adds one; whether it was new.
    pub fn insert(&mut self, index: u32) -> bool {
        let (word, bit) = place(index);
        if index >= INLINE && word >= self.words().len() {
            let mut longer = vec![0; (word + 1).next_power_of_two()];
            longer[..self.words().len()].copy_from_slice(self.words());
            self.0 = Bits::Long(longer.into_boxed_slice());
        }
        let word = &mut self.words_mut()[word];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes one out; whether it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        let (word, bit) = place(index);
        let Some(word) = self.words_mut().get_mut(word) else { return false };
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let (word, bit) = place(index);
        self.word(word) & bit != 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words().iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    /// The indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(self.words()).flat_map(|(place, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(place * u64::BITS + bit)
            })
        })
    }

    fn words(&self) -> &[u64] {
        match &self.0 {
            Bits::Inline(word) => std::slice::from_ref(word),
            Bits::Long(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match &mut self.0 {
            Bits::Inline(word) => std::slice::from_mut(word),
            Bits::Long(words) => words,
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.words().get(index).copied().unwrap_or(0)
    }
}

impl FromIterator<u32> for RecipientSet {
    fn from_iter<I: IntoIterator<Item = u32>>(indices: I) -> Self {
        let mut set = Self::default();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

fn place(index: u32) -> (usize, u64) {
    ((index / u64::BITS) as usize, 1 << (index % u64::BITS))
}

const _: () = assert!(size_of::<RecipientSet>() <= 24);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn is_a_set(operations in proptest::collection::vec((0_u32..300, proptest::bool::ANY), 0..200)) {
            let (mut set, mut model) = (RecipientSet::default(), BTreeSet::new());
            for (index, insert) in operations {
                if insert {
                    assert_eq!(set.insert(index), model.insert(index));
                } else {
                    assert_eq!(set.remove(index), model.remove(&index));
                }
                assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                assert_eq!((set.len() as usize, set.is_empty()), (model.len(), model.is_empty()));
                assert!((0..300).all(|index| set.contains(index) == model.contains(&index)));
            }
        }
    }

    #[test]
    fn length_of_the_memory_does_not_count() {
        let mut long: RecipientSet = [3, 200].into_iter().collect();
        long.remove(200);
        assert_eq!(long, [3].into_iter().collect());
        assert_eq!(RecipientSet::all(3).len(), 3);
    }
}
