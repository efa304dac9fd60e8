//! Names of destinations, each kept once.

use std::collections::HashMap;

/// A destination by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u32);

/// Names that are in use, each with how often.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    numbers: HashMap<Box<[u8]>, u32>,
    names: Vec<(Box<[u8]>, u32)>,
    free: Vec<u32>,
}

impl Destinations {
    /// The number of a name, in use once more.
    pub(crate) fn acquire(&mut self, name: &[u8]) -> DestinationId {
        if let Some(&number) = self.numbers.get(name) {
            self.names[number as usize].1 += 1;
            return DestinationId(number);
        }
        let name: Box<[u8]> = name.into();
        let number = match self.free.pop() {
            Some(number) => {
                self.names[number as usize] = (name.clone(), 1);
                number
            }
            None => {
                self.names.push((name.clone(), 1));
                u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(name, number);
        DestinationId(number)
    }

    /// One that is in use, once more.
    pub(crate) fn acquire_again(&mut self, id: DestinationId) {
        if let Some((_, uses)) = self.names.get_mut(id.0 as usize) {
            *uses += 1;
        }
    }

    /// In use once less; forgotten when that was the last.
    pub(crate) fn release(&mut self, id: DestinationId) {
        let Some((name, uses)) = self.names.get_mut(id.0 as usize) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(name);
            *name = Box::default();
            self.free.push(id.0);
        }
    }

    pub(crate) fn name(&self, id: DestinationId) -> &[u8] {
        self.names.get(id.0 as usize).map_or(&[], |(name, _)| name)
    }
}
