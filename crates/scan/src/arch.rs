//! The instruction sets.

use crate::dispatch::Implementation;

pub(crate) mod scalar;

/// Those that this CPU can run, the fastest first.
pub(crate) fn available() -> Vec<Implementation> {
    vec![scalar::IMPLEMENTATION]
}
