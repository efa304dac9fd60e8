//! One SIMD pass over mail data: line ends, end of data, and what must not be there.
//!
//! A [`Scanner`] takes mail data in slices of any size and says where the data ends and what is in it: lines, their
//! longest, transparency dots, bare CR and LF, NUL, octets with the high bit. Between two slices it keeps a few words
//! and none of the octets. It never allocates, and its answers do not depend on how the octets were sliced.
//!
//! ```text
//!   lib.rs       Scanner, Findings          what others call
//!   dispatch.rs  one choice, made once      avx512bw, avx2, sse2 | neon | scalar
//!   block.rs     the pass, 64 octets a step, written once over the Block trait; no unsafe code
//!   arch/        a thin file for each instruction set: load, compare, accumulate
//!   state.rs     what is carried from block to block and from slice to slice
//! ```
//!
//! Only `CR LF . CR LF` ends mail data. Any other sequence that some other server might take for it is data, and the
//! bare CR or LF in it is reported, since two servers that disagree about the end make SMTP smuggling possible
//! (CVE-2023-51764).
//!
//! Standards: RFC 5321 §2.3.8 (lines), §4.1.1.4 (DATA), §4.5.2 (transparency), §4.5.3.1.6 (text line); RFC 3030 §2
//! (BDAT).

mod arch;
mod block;
mod dispatch;
mod state;

#[doc(hidden)]
pub use dispatch::{Implementation, implementations};
use state::State;

/// The instruction set that [`Scanner`] uses here: `avx512bw`, `avx2`, `sse2`, `neon` or `scalar`. Chosen once, at the
/// first scan.
pub fn implementation() -> &'static str {
    dispatch::chosen().name()
}

/// One pass over the mail data of one message, in slices of any size.
///
/// A new scanner stands at the start of mail data: as if CRLF had come before, so that `.CRLF` right away ends empty
/// data (RFC 5321 §4.1.1.4).
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    state: State,
}

impl Scanner {
    /// A scanner at the start of mail data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the next octets of DATA.
    ///
    /// `Some(n)`: the end-of-data indication is complete, and `n` is the offset in `bytes` one past its last octet;
    /// the octets from there on were not looked at. `None`: all were scanned, go on with the next slice. Once the end
    /// was found, further calls scan nothing and return `Some(0)`.
    #[inline]
    pub fn scan_data(&mut self, bytes: &[u8]) -> Option<usize> {
        dispatch::chosen().scan_data(self, bytes)
    }

    /// Scans the next octets of BDAT, which are any octets and have no end-of-data indication (RFC 3030 §2). The
    /// findings are the same.
    #[inline]
    pub fn scan_opaque(&mut self, bytes: &[u8]) {
        dispatch::chosen().scan_opaque(self, bytes);
    }

    /// What was found so far, at any time.
    ///
    /// While the end has not been seen, all octets so far count as data, also those that may turn out to be the start
    /// of the end-of-data indication. A CR that was the last octet so far is not yet called bare.
    pub fn findings(&self) -> Findings {
        self.state.findings(false)
    }

    /// What was found, if no octet follows any more: a CR that was the last octet is then bare and part of its line.
    /// For the last chunk of BDAT; after the end of DATA it is the same as [`findings`](Self::findings).
    pub fn findings_at_end(&self) -> Findings {
        self.state.findings(true)
    }
}

/// What is in the mail data. Octets of the end-of-data indication `.CRLF` and behind it are in none of the fields; the
/// CRLF before it, which ends the last line of text, is in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Octets as received, transparency dots included.
    pub octets: u64,
    /// CRLFs seen.
    pub lines: u64,
    /// Octets of the longest line without its CRLF, transparency dot included; `u32::MAX` also for longer ones.
    /// A line is what stands between two CRLFs, or behind the last one (RFC 5321 §2.3.8).
    pub longest_line: u32,
    /// Lines that begin with a dot: as many transparency dots are to be removed from DATA (RFC 5321 §4.5.2).
    pub dot_lines: u64,
    /// There is a CR without LF behind it.
    pub bare_cr: bool,
    /// There is an LF without CR before it.
    pub bare_lf: bool,
    /// There is a NUL.
    pub nul: bool,
    /// There is an octet of 0x80 or above.
    pub eight_bit: bool,
    /// The last two octets are CRLF; false for empty data.
    pub ends_with_crlf: bool,
}

const _: () = assert!(size_of::<Scanner>() <= 64);
