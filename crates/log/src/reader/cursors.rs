//! How far the consumers of a log have got, for whoever only looks.

use std::io;

use super::Reader;
use crate::cursor::{CursorState, read_cursors};
use crate::segment::BlockError;
use crate::storage::Storage;

/// A consumer of a log, as its cursor stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Its cursor, or what is wrong with the better slot.
    pub state: Result<CursorState, BlockError>,
}

impl<S: Storage> Reader<S> {
    /// The consumers of this log, sorted by name. Takes no lock.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn consumers(&self) -> io::Result<Vec<Consumer>> {
        let cursors = read_cursors(&self.storage, &self.dir, self.identity())?;
        let mut consumers: Vec<_> =
            cursors.into_iter().map(|(name, state)| Consumer { name, state }).collect();
        consumers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(consumers)
    }
}
