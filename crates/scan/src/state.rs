//! What is carried from block to block and from slice to slice.

use crate::Findings;

/// Everything a scan knows about the octets behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// Octets scanned. Once `ended`, those before the end-of-data indication.
    pub(crate) octets: u64,
    /// Octets of the line that is still open, a CR at its end included. 0 at the start of a line, so that nothing else
    /// needs to remember that CRLF came last.
    pub(crate) open_line: u64,
    /// The longest line that is complete; it may already hold a lower bound for the open line.
    pub(crate) longest: u64,
    /// CRLFs.
    pub(crate) lines: u64,
    /// Lines that begin with a dot, the open one included.
    pub(crate) dot_lines: u64,
    /// 1: the last octet is a CR.
    pub(crate) cr: u8,
    /// Bit 1: the last octet is a dot at the start of a line. Bit 0: the one before it is.
    pub(crate) dots: u8,
    pub(crate) bare_cr: bool,
    pub(crate) bare_lf: bool,
    pub(crate) nul: bool,
    pub(crate) eight_bit: bool,
    /// The end-of-data indication was seen; nothing is scanned any more.
    pub(crate) ended: bool,
}

impl State {
    /// Takes the end-of-data indication out again, when all of it but the last LF has been scanned as data.
    pub(crate) fn end_data(&mut self) {
        debug_assert_eq!(self.open_line, 2);
        debug_assert_eq!((self.cr, self.dots), (1, 0b01));
        debug_assert!(self.dot_lines > 0);
        self.octets -= self.open_line;
        self.open_line = 0;
        self.dot_lines -= 1;
        self.cr = 0;
        self.dots = 0;
        self.ended = true;
    }

    /// `complete`: no octet will follow.
    pub(crate) fn findings(&self, complete: bool) -> Findings {
        let pending_cr = self.cr == 1;
        let mut open_line = self.open_line;
        if pending_cr && !complete {
            open_line -= 1;
        }
        Findings {
            octets: self.octets,
            lines: self.lines,
            longest_line: u32::try_from(self.longest.max(open_line)).unwrap_or(u32::MAX),
            dot_lines: self.dot_lines,
            bare_cr: self.bare_cr || (pending_cr && complete),
            bare_lf: self.bare_lf,
            nul: self.nul,
            eight_bit: self.eight_bit,
            ends_with_crlf: self.octets > 0 && self.open_line == 0,
        }
    }
}
