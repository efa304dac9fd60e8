//! The one place that chooses the instruction set, once for the whole process.

use std::sync::OnceLock;

use crate::Scanner;
use crate::arch;
use crate::state::State;

/// Scans a slice; see [`Scanner::scan_data`] for the result.
pub(crate) type Scan = fn(&mut State, &[u8]) -> Option<usize>;

/// One way to scan, which this CPU can run. Tests and benches run each; everything else uses [`Scanner`].
#[derive(Clone, Copy, Debug)]
pub struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) data: Scan,
    pub(crate) opaque: Scan,
}

impl Implementation {
    /// As in [`crate::implementation`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// [`Scanner::scan_data`] by this implementation.
    #[inline]
    pub fn scan_data(&self, scanner: &mut Scanner, bytes: &[u8]) -> Option<usize> {
        if scanner.state.ended {
            return Some(0);
        }
        (self.data)(&mut scanner.state, bytes)
    }

    /// [`Scanner::scan_opaque`] by this implementation.
    #[inline]
    pub fn scan_opaque(&self, scanner: &mut Scanner, bytes: &[u8]) {
        if !scanner.state.ended {
            (self.opaque)(&mut scanner.state, bytes);
        }
    }
}

/// All implementations that this CPU can run, the fastest first, the scalar twin last.
pub fn implementations() -> Vec<Implementation> {
    arch::available()
}

/// The implementation that [`Scanner`] uses.
#[inline]
pub(crate) fn chosen() -> &'static Implementation {
    static CHOSEN: OnceLock<Implementation> = OnceLock::new();
    CHOSEN.get_or_init(|| arch::available().into_iter().next().unwrap_or(arch::scalar::IMPLEMENTATION))
}
