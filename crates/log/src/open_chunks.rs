//! Chunks whose message is still to come: their segment must stay.

use std::collections::VecDeque;

use crate::Lsn;

/// Chunks that were appended and neither committed by a message nor given up, oldest first.
#[derive(Debug, Default)]
pub(crate) struct OpenChunks {
    /// Position, and whether it is still open. The first one is; closed ones wait behind it.
    chunks: VecDeque<(Lsn, bool)>,
}

impl OpenChunks {
    /// A chunk was appended; positions only grow.
    pub(crate) fn open(&mut self, lsn: Lsn) {
        debug_assert!(self.chunks.back().is_none_or(|(last, _)| *last < lsn));
        self.chunks.push_back((lsn, true));
    }

    /// Its message was appended, or will not be. Unknown ones, of an earlier run or closed before, change nothing.
    pub(crate) fn close(&mut self, lsn: Lsn) {
        if let Ok(index) = self.chunks.binary_search_by_key(&lsn, |(at, _)| *at) {
            self.chunks[index].1 = false;
        }
        while self.chunks.front().is_some_and(|(_, open)| !open) {
            self.chunks.pop_front();
        }
    }

    /// The oldest open one.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.chunks.front().map(|(lsn, _)| *lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_open_chunk_is_known_in_whatever_order_they_close() {
        let mut chunks = OpenChunks::default();
        assert_eq!(chunks.oldest(), None);
        [16, 32, 48].into_iter().for_each(|at| chunks.open(Lsn::new(at)));
        chunks.close(Lsn::new(32));
        assert_eq!(chunks.oldest(), Some(Lsn::new(16)));
        chunks.close(Lsn::new(16));
        assert_eq!(chunks.oldest(), Some(Lsn::new(48)));
        chunks.close(Lsn::new(8));
        chunks.close(Lsn::new(48));
        chunks.close(Lsn::new(48));
        assert_eq!(chunks.oldest(), None);
    }
}
