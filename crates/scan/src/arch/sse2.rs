//! SSE2, which every x86-64 CPU has: a block is four registers of 16 octets.

#![allow(unsafe_code, reason = "vector instructions; x86-64 always has SSE2")]

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
};

use crate::block::{self, BLOCK, FILL, InstructionSet};
use crate::dispatch::Implementation;
use crate::state::State;

#[cfg(not(target_feature = "sse2"))]
compile_error!("SSE2 is part of x86-64; this file relies on it");

pub(crate) const IMPLEMENTATION: Implementation =
    Implementation { name: "sse2", data: scan::<true>, opaque: scan::<false> };

fn scan<const DATA: bool>(state: &mut State, bytes: &[u8]) -> Option<usize> {
    block::scan::<_, DATA>(Sse2, state, bytes)
}

#[derive(Clone, Copy)]
struct Sse2;

#[derive(Clone, Copy)]
struct Seen {
    or: __m128i,
    min: __m128i,
}

/// Bit n: octet n of `register` is `octet`.
#[inline(always)]
fn equal(register: __m128i, octet: __m128i) -> u64 {
    // SAFETY: x86-64 has SSE2.
    mask(unsafe { _mm_cmpeq_epi8(register, octet) })
}

#[inline(always)]
fn fill(octet: u8) -> __m128i {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_set1_epi8(octet.cast_signed()) }
}

/// Bit n: octet n of the register has its high bit.
#[inline(always)]
fn mask(register: __m128i) -> u64 {
    // SAFETY: x86-64 has SSE2. The bits above 15 are 0.
    u64::from(unsafe { _mm_movemask_epi8(register) }.cast_unsigned())
}

impl InstructionSet for Sse2 {
    type Block = [__m128i; 4];
    type Seen = Seen;

    #[inline(always)]
    fn load(self, octets: &[u8; BLOCK]) -> [__m128i; 4] {
        let [a, b, c, d] = octets.as_chunks::<16>().0 else { unreachable!("64 octets are four times 16") };
        // SAFETY: 16 octets are there each, at any alignment; x86-64 has SSE2.
        [a, b, c, d].map(|part| unsafe { _mm_loadu_si128(part.as_ptr().cast()) })
    }

    #[inline(always)]
    fn equal(self, [a, b, c, d]: [__m128i; 4], octet: u8) -> u64 {
        let octet = fill(octet);
        let low = equal(a, octet) | equal(b, octet) << 16;
        let high = equal(c, octet) | equal(d, octet) << 16;
        low | high << 32
    }

    #[inline(always)]
    fn seen_nothing(self) -> Seen {
        Seen { or: fill(FILL), min: fill(FILL) }
    }

    #[inline(always)]
    fn see(self, seen: Seen, [a, b, c, d]: [__m128i; 4]) -> Seen {
        // SAFETY: x86-64 has SSE2.
        unsafe {
            let or = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
            let min = _mm_min_epu8(_mm_min_epu8(a, b), _mm_min_epu8(c, d));
            Seen { or: _mm_or_si128(seen.or, or), min: _mm_min_epu8(seen.min, min) }
        }
    }

    #[inline(always)]
    fn seen_nul(self, seen: Seen) -> bool {
        equal(seen.min, fill(0)) != 0
    }

    #[inline(always)]
    fn seen_eight_bit(self, seen: Seen) -> bool {
        mask(seen.or) != 0
    }
}
