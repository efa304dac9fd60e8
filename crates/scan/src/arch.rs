//! The instruction sets.

use crate::dispatch::Implementation;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512bw;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse2;

/// Those that this CPU can run, the fastest first, the scalar twin last.
pub(crate) fn available() -> Vec<Implementation> {
    let mut available = vector();
    available.push(scalar::IMPLEMENTATION);
    available
}

#[cfg(target_arch = "x86_64")]
fn vector() -> Vec<Implementation> {
    avx512bw::detect().into_iter().chain(avx2::detect()).chain([sse2::IMPLEMENTATION]).collect()
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
fn vector() -> Vec<Implementation> {
    vec![neon::IMPLEMENTATION]
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
fn vector() -> Vec<Implementation> {
    Vec::new()
}
