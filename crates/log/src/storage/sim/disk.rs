//! State of a simulated disk, and what power cuts and failures do to it.

use std::fmt;
use std::io;
use std::ops::Range;

use super::names::Names;
use super::octets::{Block, Octets, ZEROS, overlaid};
use super::random::Random;
use super::{Fault, Manner};
use crate::layout::{BLOCK_OCTETS, to_usize};

/// What a sector holds at the finest grain that is looked at.
const SECTOR: usize = 512;

#[derive(Debug)]
pub(super) struct Disk {
    /// What the engine draws from; apart from the disk's own, so that faults do not change what is written.
    pub(super) entropy: Random,
    pub(super) chance: Random,
    pub(super) now_us: u64,
    /// Counts restarts: handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) inodes: Vec<Inode>,
    pub(super) names: Names,
    pub(super) manner: Manner,
    pub(super) capacity: u64,
    pub(super) free_inodes: u64,
    /// Calls that change something, and calls that do not.
    pub(super) steps: u64,
    pub(super) looks: u64,
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) look_fault: Option<u64>,
    /// Blocks that cannot be read: inode and number.
    pub(super) bad_blocks: Vec<(usize, usize)>,
    pub(super) dead: bool,
    pub(super) locked: bool,
    pub(super) files_locked: Vec<usize>,
    /// Octets of which the disk broke its promise.
    pub(super) harm: Vec<(usize, Range<usize>)>,
    pub(super) names_forgotten: bool,
    /// The next write stays under way when its process ends.
    pub(super) hold: bool,
    pub(super) late: Option<Late>,
    pub(super) tells: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Octets,
    durable: Octets,
    /// What was written since the last sync, oldest first.
    dirty: Vec<Dirty>,
    /// Live and durable differ by more than what is dirty.
    stale: bool,
    /// Was given its whole length: a write beyond it is an error of the engine.
    pub(super) full: bool,
}

#[derive(Debug)]
struct Dirty {
    index: usize,
    block: Block,
    end: usize,
}

/// A write that its process has not lived to see done.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) inode: usize,
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) durable: bool,
    /// Lands at the call of this number.
    pub(super) at: u64,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entropy: Random::new(seed),
            chance: Random::new(!seed),
            now_us: 1_700_000_000_000_000,
            life: 0,
            inodes: Vec::new(),
            names: Names::default(),
            manner: Manner::default(),
            capacity: u64::MAX,
            free_inodes: u64::MAX,
            steps: 0,
            looks: 0,
            faults: Vec::new(),
            look_fault: None,
            bad_blocks: Vec::new(),
            dead: false,
            locked: false,
            files_locked: Vec::new(),
            harm: Vec::new(),
            names_forgotten: false,
            hold: false,
            late: None,
            tells: false,
        }
    }

    /// Says what happens, when it is a replay.
    #[allow(clippy::print_stderr, reason = "for the person who replays a seed")]
    pub(super) fn tell(&self, what: fmt::Arguments<'_>) {
        if self.tells {
            eprintln!("disk: {what}");
        }
    }

    pub(super) fn used(&self) -> u64 {
        let mut inodes: Vec<usize> = self.names.files().map(|(_, inode)| inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes.into_iter().map(|inode| self.inodes[inode].live.len() as u64).sum()
    }

    /// Lets a late write land when its time has come.
    pub(super) fn land(&mut self) {
        if self.late.as_ref().is_some_and(|late| late.at <= self.steps + self.looks)
            && let Some(late) = self.late.take()
        {
            self.tell(format_args!("late write to #{} lands at {}", late.inode, late.offset));
            self.inodes[late.inode].write(&late.bytes, late.offset, late.durable);
        }
    }

    /// The process is gone, the machine goes on.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.dead = false;
        self.locked = false;
        self.files_locked.clear();
        self.hold = false;
        self.faults.clear();
        self.look_fault = None;
    }

    /// Power cut.
    pub(super) fn lose(&mut self) {
        if let Some(late) = self.late.take() {
            self.inodes[late.inode].write(&late.bytes, late.offset, false);
        }
        self.names.lose(self.manner.names_in_order, &mut self.chance);
        for inode in &mut self.inodes {
            inode.lose(self.manner, &mut self.chance);
        }
    }

    /// A failed sync or write: part of it never reached the disk. With a page cache, the pages are clean now and still show all of it.
    pub(super) fn fail(&mut self, inode: usize) -> io::Error {
        let inode = &mut self.inodes[inode];
        for dirty in std::mem::take(&mut inode.dirty) {
            if self.chance.below(2) == 0 {
                inode.durable.put(dirty.index, dirty.block, dirty.end);
            }
        }
        if self.manner.direct {
            let len = inode.live.len();
            inode.live = inode.durable.clone();
            inode.live.grow(len);
        }
        inode.stale = true;
        io::Error::from_raw_os_error(5)
    }

    /// Says yes to a sync of this file and does nothing.
    pub(super) fn forget(&mut self, inode: usize) {
        let dirty = self.inodes[inode].dirty.iter();
        let harm = dirty.map(|dirty| (inode, dirty.index * BLOCK_OCTETS..dirty.end));
        self.harm.extend(harm);
    }

    /// Another place for a write of so many octets: in the same file or in another one; `None` when there is none.
    pub(super) fn elsewhere(&mut self, inode: usize, octets: usize, offset: usize) -> Option<(usize, usize)> {
        let mut files: Vec<usize> = self.names.files().map(|(_, inode)| inode).collect();
        files.sort_unstable();
        files.dedup();
        files.retain(|file| self.inodes[*file].live.len() >= octets);
        let same = self.chance.below(2) == 0;
        let target =
            if same { inode } else { *files.get(to_usize(self.chance.below(files.len() as u64)))? };
        let blocks = self.inodes[target].live.len().checked_sub(octets)? / BLOCK_OCTETS + 1;
        let at = to_usize(self.chance.below(blocks as u64)) * BLOCK_OCTETS;
        ((target, at) != (inode, offset)).then_some((target, at))
    }
}

impl Inode {
    /// Writes; `durable`: the write is durable when it is done, whatever became of earlier ones.
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize, durable: bool) {
        let end = offset + bytes.len();
        for (index, block) in self.live.with(bytes, offset) {
            let end = end.min((index + 1) * BLOCK_OCTETS);
            if durable {
                self.dirty.retain(|dirty| dirty.index != index);
                self.durable.put(index, block.clone(), end);
            } else {
                self.dirty.push(Dirty { index, block: block.clone(), end });
            }
            self.live.put(index, block, end);
        }
    }

    pub(super) fn sync(&mut self) {
        for dirty in self.dirty.drain(..) {
            self.durable.put(dirty.index, dirty.block, dirty.end);
        }
        // The length is metadata that fdatasync brings along.
        self.durable.grow(self.live.len());
    }

    /// Gives the file its whole length; durable with the next sync.
    pub(super) fn set_full(&mut self, octets: usize) {
        self.live.grow(octets);
        self.full = true;
        self.stale = true;
    }

    /// Turns bits of one octet, on the disk and in the page cache.
    pub(super) fn rot(&mut self, offset: usize, mask: u8) {
        for octets in [&mut self.live, &mut self.durable] {
            let mut octet = [0];
            if octets.read(&mut octet, offset) == 1 {
                octet[0] ^= mask;
                let len = octets.len();
                for (index, block) in octets.with(&octet, offset) {
                    octets.put(index, block, len);
                }
            }
        }
    }

    /// Power cut: of the sectors that were not synced any may be there: none, all, a prefix, or a random part. One that was just being
    /// written may hold neither old nor new, unless old and new are the same: recovery writes again what it has read through a page cache.
    fn lose(&mut self, manner: Manner, random: &mut Random) {
        if self.dirty.is_empty() && !self.stale {
            return;
        }
        self.stale = false;
        let sectors = BLOCK_OCTETS / SECTOR;
        let all = (self.dirty.len() * sectors) as u64;
        let how = random.below(4);
        let prefix = random.below(all + 1);
        let garbage = (manner.garbage && random.below(2) == 0).then(|| random.below(all));
        let together = manner.sector_octets / SECTOR;
        let mut keep = false;
        for (number, dirty) in std::mem::take(&mut self.dirty).into_iter().enumerate() {
            let mut block = self.durable.block(dirty.index);
            let hit = garbage.is_some_and(|at| at / sectors as u64 == number as u64);
            // Zeros over zeros, as in a spare that is being filled: nothing to tear.
            if block.is_none() && dirty.block.is_none() && !hit {
                if how == 1 || (how == 2 && (number * sectors) as u64 <= prefix) {
                    self.durable.grow(dirty.end);
                }
                continue;
            }
            let mut kept = 0;
            for sector in 0..sectors {
                let count = (number * sectors + sector) as u64;
                if sector % together == 0 {
                    keep = match how {
                        0 => false,
                        1 => true,
                        2 => count < prefix,
                        _ => random.below(2) == 0,
                    };
                }
                let inside = sector * SECTOR..(sector + 1) * SECTOR;
                let written =
                    dirty.block.as_ref().map_or(&ZEROS[inside.clone()], |octets| &octets[inside.clone()]);
                let stood = block.as_ref().map_or(&ZEROS[inside.clone()], |octets| &octets[inside.clone()]);
                let changes = written != stood;
                if changes && garbage.is_some_and(|at| at / together as u64 == count / together as u64) {
                    let mut octets = [0; SECTOR];
                    octets
                        .chunks_exact_mut(8)
                        .for_each(|part| part.copy_from_slice(&random.next_u64().to_le_bytes()));
                    block = overlaid(&block, inside, &octets);
                    kept += 1;
                } else if keep {
                    block = overlaid(&block, inside, written);
                    kept += 1;
                }
            }
            if kept > 0 {
                self.durable.put(dirty.index, block, dirty.end);
            }
        }
        self.live = self.durable.clone();
    }
}
