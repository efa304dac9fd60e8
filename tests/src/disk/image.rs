//! What a disk holds, in memory: blocks that nobody wrote are zero and take no room.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Octets of a block, the unit that images share.
pub const BLOCK: usize = 4096;

type Block = Arc<[u8; BLOCK]>;

/// An image. A clone shares its blocks until one of the two is written to.
#[derive(Clone, Debug, Default)]
pub struct Image {
    blocks: HashMap<u64, Block>,
}

/// A block as it was before a write; `None` = never written.
pub(super) type Before = (u64, Option<Block>);

impl Image {
    /// Reads these octets.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        for (number, within, octets) in pieces(offset, buffer.len()) {
            let piece = &mut buffer[done..done + octets];
            match self.blocks.get(&number) {
                Some(block) => piece.copy_from_slice(&block[within..within + octets]),
                None => piece.fill(0),
            }
            done += octets;
        }
    }

    /// Writes these octets.
    pub fn write(&mut self, offset: u64, octets: &[u8]) {
        self.write_keeping(offset, octets, |_| ());
    }

    /// Writes these octets; each block as it was before goes to `keep`.
    pub(super) fn write_keeping(&mut self, offset: u64, octets: &[u8], mut keep: impl FnMut(Before)) {
        let mut done = 0;
        for (number, within, count) in pieces(offset, octets.len()) {
            let block = self.blocks.get(&number);
            keep((number, block.cloned()));
            let mut new = block.map_or([0; BLOCK], |block| **block);
            new[within..within + count].copy_from_slice(&octets[done..done + count]);
            self.blocks.insert(number, Arc::new(new));
            done += count;
        }
    }

    /// Puts a block back.
    pub(super) fn restore(&mut self, (number, block): Before) {
        match block {
            Some(block) => self.blocks.insert(number, block),
            None => self.blocks.remove(&number),
        };
    }

    /// The blocks that were written, each with its offset, in no order.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.blocks.iter().map(|(number, block)| (number * BLOCK as u64, &block[..]))
    }

    /// Writes the image into a file of that length, with holes where nothing was written.
    ///
    /// # Errors
    /// Those of the file.
    pub fn save(&self, file: &File, octets: u64) -> io::Result<()> {
        file.set_len(0)?;
        file.set_len(octets)?;
        self.blocks
            .iter()
            .try_for_each(|(number, block)| file.write_all_at(&block[..], number * BLOCK as u64))
    }
}

/// The parts of blocks that a range covers: number of the block, offset in it, octets.
fn pieces(offset: u64, octets: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let piece = (BLOCK - within).min(octets - done);
        done += piece;
        (piece > 0).then_some((at / BLOCK as u64, within, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn an_image_reads_as_the_same_octets_in_one_piece() {
        let mut random = Random::new(1);
        let (mut image, mut twin) = (Image::default(), vec![0; 5 * BLOCK]);
        for _ in 0..300 {
            let offset = usize::try_from(random.below(4 * BLOCK as u64)).unwrap();
            let octets = usize::try_from(random.below(BLOCK as u64 - 100)).unwrap();
            let text = random.text(octets);
            let copy = image.clone();
            let mut kept = Vec::new();
            image.write_keeping(offset as u64, &text, |before| kept.push(before));
            if random.below(3) == 0 {
                kept.into_iter().rev().for_each(|before| image.restore(before));
            } else {
                twin[offset..offset + text.len()].copy_from_slice(&text);
            }
            let mut all = vec![1; 5 * BLOCK];
            image.read(0, &mut all);
            assert!(all == twin);
            drop(copy);
        }
        let file = tempfile::tempfile().unwrap();
        image.save(&file, twin.len() as u64).unwrap();
        let mut saved = vec![1; twin.len()];
        file.read_exact_at(&mut saved, 0).unwrap();
        assert!(saved == twin);
    }
}
