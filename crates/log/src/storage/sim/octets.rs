//! Octets of a file in blocks of 4 KiB: shared where they are the same, absent where they are zero.

use std::ops::Range;
use std::sync::Arc;

use crate::layout::BLOCK_OCTETS;

pub(super) static ZEROS: [u8; BLOCK_OCTETS] = [0; BLOCK_OCTETS];

/// A block; `None` is zeros.
pub(super) type Block = Option<Arc<[u8]>>;

/// Content of a file. A clone shares every block.
#[derive(Clone, Debug, Default)]
pub(super) struct Octets {
    blocks: Vec<Block>,
    len: usize,
}

impl Octets {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes the file at least so long.
    pub(super) fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        self.blocks.resize(self.len.div_ceil(BLOCK_OCTETS), None);
    }

    pub(super) fn block(&self, index: usize) -> Block {
        self.blocks.get(index).cloned().flatten()
    }

    /// Puts a block of which the octets below `end`, a position in the file, count.
    pub(super) fn put(&mut self, index: usize, block: Block, end: usize) {
        self.grow(end);
        self.blocks[index] = block;
    }

    /// Fills `buffer` from `offset` on; says how many octets there were.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let octets = self.len.saturating_sub(offset).min(buffer.len());
        for (index, inside, range) in pieces(offset, octets) {
            match &self.blocks[index] {
                Some(block) => buffer[range].copy_from_slice(&block[inside]),
                None => buffer[range].fill(0),
            }
        }
        octets
    }

    /// The blocks as they would be with `bytes` at `offset`.
    pub(super) fn with(&self, bytes: &[u8], offset: usize) -> Vec<(usize, Block)> {
        let pieces = pieces(offset, bytes.len());
        pieces
            .map(|(index, inside, range)| (index, overlaid(&self.block(index), inside, &bytes[range])))
            .collect()
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut octets = vec![0; self.len];
        self.read(&mut octets, 0);
        octets
    }
}

/// A block with some of its octets replaced.
pub(super) fn overlaid(block: &Block, inside: Range<usize>, bytes: &[u8]) -> Block {
    if bytes.len() == BLOCK_OCTETS {
        return (*bytes != ZEROS).then(|| Arc::from(bytes));
    }
    let mut octets = block.as_deref().map_or(ZEROS, |block| {
        let mut octets = ZEROS;
        octets.copy_from_slice(block);
        octets
    });
    octets[inside].copy_from_slice(bytes);
    (octets != ZEROS).then(|| Arc::from(&octets[..]))
}

/// The blocks of a range of a file: index, octets in the block, octets in the range.
fn pieces(offset: usize, octets: usize) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let inside = at % BLOCK_OCTETS;
        let piece = (BLOCK_OCTETS - inside).min(octets - done);
        let range = done..done + piece;
        done += piece;
        (piece > 0).then_some((at / BLOCK_OCTETS, inside..inside + piece, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_put_and_zeros_elsewhere() {
        let mut octets = Octets::default();
        octets.grow(10_000);
        let bytes: Vec<u8> = (0..5000_u32).map(|number| number.to_le_bytes()[0] | 1).collect();
        for (index, block) in octets.with(&bytes, 4000) {
            octets.put(index, block, 9000);
        }
        let mut read = vec![9; 12_000];
        assert_eq!(octets.read(&mut read, 0), 10_000);
        assert!(read[..4000].iter().all(|octet| *octet == 0) && read[4000..9000] == bytes[..]);
        assert!(read[9000..10_000].iter().all(|octet| *octet == 0) && read[10_000] == 9);
        assert_eq!(octets.read(&mut read, 9_999), 1);
        assert_eq!((octets.read(&mut read, 20_000), octets.to_vec().len()), (0, 10_000));
    }
}
