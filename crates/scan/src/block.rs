//! The pass over a slice, 64 octets a step, written once for all instruction sets.
//!
//! A block of 64 octets becomes three masks, one bit for each octet: where CR, LF and dot stand. Everything else is
//! shifts of these masks against each other, with what the block before left over shifted in:
//!
//! ```text
//!   octets      t e x t CR LF .  CR LF        first octet = bit 0
//!   cr          0 0 0 0 1  0  0  1  0
//!   after_cr    0 0 0 0 0  1  0  0  1         cr << 1
//!   lf          0 0 0 0 0  1  0  0  1
//!   crlf        0 0 0 0 0  1  0  0  1         after_cr & lf; where the two differ, one of them is bare
//!   line_dot    0 0 0 0 0  0  1  0  0         dot & crlf << 1
//!   end         0 0 0 0 0  0  0  0  1         crlf & line_dot << 2
//! ```
//!
//! NUL and 8-bit octets are only gathered in a register and looked at when the slice is through. Blocks go in groups
//! of four; what is rare (dots at the start of a line, bare line ends, the end of data) costs one branch a group. No
//! group, block or rest is committed to the state before it is known that the data does not end in it, so that nothing
//! behind the end is ever counted.
//!
//! A rest of fewer than 64 octets stands at the top of its masks, as if the octets below had been scanned before: then
//! what it leaves over for the next block is found where a whole block has it.

use std::hint::cold_path;

use crate::state::State;

/// Octets in a block.
pub(crate) const BLOCK: usize = 64;

/// Octets in a group of blocks.
const GROUP: usize = 4 * BLOCK;

/// No line between two CRLFs of one block is longer than this.
const INNER_LINE_MAX: u64 = BLOCK as u64 - 3;

/// What stands where a block has no octets: anything that is in no finding.
pub(crate) const FILL: u8 = b'a';

/// An instruction set. A value of the type proves that the CPU has it, so that the methods are safe to call.
pub(crate) trait InstructionSet: Copy {
    /// 64 octets in registers.
    type Block: Copy;
    /// Octets seen so far, folded together.
    type Seen: Copy;

    fn load(self, octets: &[u8; BLOCK]) -> Self::Block;
    /// Loads fewer than 64 octets as the last ones of a block, with [`FILL`] before them.
    fn load_last(self, octets: &[u8]) -> Self::Block {
        let mut block = [FILL; BLOCK];
        block[BLOCK - octets.len()..].copy_from_slice(octets);
        self.load(&block)
    }
    /// Bit n: octet n is `octet`.
    fn equal(self, block: Self::Block, octet: u8) -> u64;

    /// Folds nothing but [`FILL`].
    fn seen_nothing(self) -> Self::Seen;
    fn see(self, seen: Self::Seen, block: Self::Block) -> Self::Seen;
    fn seen_nul(self, seen: Self::Seen) -> bool;
    fn seen_eight_bit(self, seen: Self::Seen) -> bool;
}

/// Scans a slice; see [`crate::Scanner::scan_data`]. `DATA`: look for the end-of-data indication.
///
/// Inlined into the function of each instruction set that enables its features.
#[inline(always)]
pub(crate) fn scan<I: InstructionSet, const DATA: bool>(
    set: I,
    state: &mut State,
    bytes: &[u8],
) -> Option<usize> {
    let mut pass = Pass::<I, DATA>::resume(set, state);
    let mut at = 0;
    let mut found = None;
    for group in bytes.as_chunks::<GROUP>().0 {
        if !pass.group(group) {
            break;
        }
        at += GROUP;
    }
    for block in bytes[at..].as_chunks::<BLOCK>().0 {
        found = pass.block(set.load(block), 0);
        if found.is_some() {
            break;
        }
        at += BLOCK;
    }
    if found.is_none() && at < bytes.len() {
        found = pass.rest(bytes, at, bytes.len());
    }
    let end = found.map(|last| at + last);
    if let Some(end) = end
        && at < end
    {
        // What stands before the last LF of the indication cannot contain it.
        let none = pass.rest(bytes, at, end);
        debug_assert_eq!(none, None);
    }
    let scanned = end.unwrap_or(bytes.len());
    pass.suspend(state, scanned);
    if end.is_some() {
        state.end_data();
    }
    end.map(|last| last + 1)
}

/// The state of a scan while it is in registers.
#[derive(Clone, Copy)]
struct Pass<I: InstructionSet, const DATA: bool> {
    set: I,
    seen: I::Seen,
    /// As in [`State`], here as wide as the masks.
    cr: u64,
    dots: u64,
    /// 1 at the start of a line.
    crlf: u64,
    open_line: u64,
    longest: u64,
    lines: u64,
    dot_lines: u64,
    bare_cr: bool,
    bare_lf: bool,
}

impl<I: InstructionSet, const DATA: bool> Pass<I, DATA> {
    #[inline(always)]
    fn resume(set: I, state: &State) -> Self {
        Self {
            set,
            seen: set.seen_nothing(),
            cr: u64::from(state.cr),
            dots: u64::from(state.dots),
            crlf: u64::from(state.open_line == 0),
            open_line: state.open_line,
            longest: state.longest,
            lines: state.lines,
            dot_lines: state.dot_lines,
            bare_cr: state.bare_cr,
            bare_lf: state.bare_lf,
        }
    }

    /// Leaves the state as it is `scanned` octets behind where the pass began.
    #[inline(always)]
    fn suspend(self, state: &mut State, scanned: usize) {
        debug_assert!(self.cr <= 1 && self.dots <= 3);
        debug_assert_eq!(self.crlf == 1, self.open_line == 0);
        *state = State {
            octets: state.octets + scanned as u64,
            open_line: self.open_line,
            longest: self.longest,
            lines: self.lines,
            dot_lines: self.dot_lines,
            cr: u8::from(self.cr != 0),
            dots: (self.dots & 3).to_le_bytes()[0],
            bare_cr: self.bare_cr,
            bare_lf: self.bare_lf,
            nul: state.nul || self.set.seen_nul(self.seen),
            eight_bit: state.eight_bit || self.set.seen_eight_bit(self.seen),
            ended: false,
        };
    }

    /// Scans four blocks. False: the data ends in them, and nothing was done.
    #[inline(always)]
    fn group(&mut self, group: &[u8; GROUP]) -> bool {
        let Self { set, mut seen, mut cr, crlf: mut crlf_before, .. } = *self;
        let mut crlfs = [0; 4];
        let mut line_dots = [0; 4];
        let mut bare = 0;
        let mut any_dot = self.dots;
        for (n, block) in group.as_chunks::<BLOCK>().0.iter().enumerate() {
            let block = set.load(block);
            seen = set.see(seen, block);
            let crs = set.equal(block, b'\r');
            let lf = set.equal(block, b'\n');
            let after_cr = crs << 1 | cr;
            let crlf = after_cr & lf;
            let line_dot = set.equal(block, b'.') & (crlf << 1 | crlf_before);
            cr = crs >> 63;
            crlf_before = crlf >> 63;
            bare |= after_cr ^ lf;
            any_dot |= line_dot;
            (crlfs[n], line_dots[n]) = (crlf, line_dot);
        }
        if any_dot != 0 {
            if DATA {
                let mut dots = self.dots;
                let mut ends = 0;
                for (crlf, line_dot) in crlfs.into_iter().zip(line_dots) {
                    ends |= crlf & (line_dot << 2 | dots);
                    dots = line_dot >> 62;
                }
                if ends != 0 {
                    return false;
                }
            }
            for line_dot in line_dots {
                self.dot_lines += u64::from(line_dot.count_ones());
            }
        }
        if bare != 0 {
            let (bare_cr, bare_lf) = bare_line_ends(group, self.cr == 1);
            self.bare_cr |= bare_cr;
            self.bare_lf |= bare_lf;
        }
        if self.longest < INNER_LINE_MAX {
            for crlf in crlfs {
                self.longest = self.longest.max(longest_inner_line(crlf));
            }
        }
        for crlf in crlfs {
            // Without CRLF this is less than what the open line has by now: a CR at its end may begin one. A branch,
            // since new records soon become rare.
            let line = self.open_line + u64::from(crlf.trailing_zeros()) - 1;
            if line > self.longest {
                cold_path();
                self.longest = line;
            }
            self.lines_of_block(crlf, BLOCK as u64);
        }
        self.seen = seen;
        self.cr = cr;
        self.crlf = crlf_before;
        self.dots = line_dots[3] >> 62;
        true
    }

    /// Scans the octets of `block` from number `skip` on. `Some(n)`: the data ends in them with the n-th octet behind
    /// `skip`, and nothing was done.
    #[inline(always)]
    fn block(&mut self, block: I::Block, skip: u32) -> Option<usize> {
        debug_assert!(skip < u64::BITS);
        let set = self.set;
        let valid = u64::MAX << skip;
        let crs = set.equal(block, b'\r') & valid;
        let lf = set.equal(block, b'\n') & valid;
        let after_cr = crs << 1 | self.cr << skip;
        let crlf = after_cr & lf;
        let line_dot = set.equal(block, b'.') & valid & (crlf << 1 | self.crlf << skip);
        if DATA {
            let end = crlf & (line_dot << 2 | self.dots << skip);
            if end != 0 {
                return Some((end.trailing_zeros() - skip) as usize);
            }
        }
        self.seen = set.see(self.seen, block);
        self.bare_cr |= after_cr & !lf != 0;
        self.bare_lf |= lf & !after_cr != 0;
        self.dot_lines += u64::from(line_dot.count_ones());
        if crlf != 0 {
            let first = crlf.trailing_zeros() - skip;
            self.longest = self.longest.max(self.open_line + u64::from(first) - 1);
            self.longest = self.longest.max(longest_inner_line(crlf));
        }
        self.lines_of_block(crlf, u64::from(u64::BITS - skip));
        self.cr = crs >> 63;
        self.crlf = crlf >> 63;
        // Behind a single octet, the one before it is still of the block before.
        self.dots = line_dot >> 62 | if skip == 63 { self.dots >> 1 } else { 0 };
        None
    }

    /// Scans `bytes[from..to]`, fewer than 64 octets and at least one. The result counts from `from`.
    #[inline(always)]
    fn rest(&mut self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        debug_assert!(from < to && to - from < BLOCK);
        // Octets before `from` that come along are of this slice, so `seen` may have them twice.
        let block = match bytes[..to].last_chunk::<BLOCK>() {
            Some(block) => self.set.load(block),
            None => self.set.load_last(&bytes[from..to]),
        };
        #[expect(clippy::cast_possible_truncation, reason = "less than 64")]
        let skip = (BLOCK - (to - from)) as u32;
        self.block(block, skip)
    }

    /// Counts the lines that end in a block, and begins the one that stays open. `octets`: how many the block has, at
    /// the top.
    #[inline(always)]
    fn lines_of_block(&mut self, crlf: u64, octets: u64) {
        self.lines += u64::from(crlf.count_ones());
        let behind = u64::from(crlf.leading_zeros());
        self.open_line = if crlf == 0 { self.open_line + octets } else { behind };
    }
}

/// The longest line between two CRLFs of one block.
#[inline(always)]
fn longest_inner_line(crlf: u64) -> u64 {
    let mut longest = 0;
    let mut from = crlf;
    let mut to = crlf & crlf.wrapping_sub(1);
    while to != 0 {
        longest = longest.max(to.trailing_zeros() - from.trailing_zeros() - 2);
        from = to;
        to &= to - 1;
    }
    u64::from(longest)
}

/// Whether there is a bare CR and a bare LF in a group, and in the CR before it. They are rare, so the group is read
/// again, and the pass need not keep its masks for this; out of line, so that the compiler does not keep them either.
/// Plain enough to be vectorized without being told.
#[cold]
#[inline(never)]
fn bare_line_ends(group: &[u8; GROUP], cr_before: bool) -> (bool, bool) {
    let mut bare_cr = cr_before && group[0] != b'\n';
    let mut bare_lf = !cr_before && group[0] == b'\n';
    for (before, octet) in group.iter().zip(&group[1..]) {
        bare_cr |= (*before == b'\r') & (*octet != b'\n');
        bare_lf |= (*before != b'\r') & (*octet == b'\n');
    }
    (bare_cr, bare_lf)
}
