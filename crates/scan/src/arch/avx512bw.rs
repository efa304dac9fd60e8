//! AVX-512BW: a block is one register, and comparisons yield masks by themselves.

#![allow(unsafe_code, reason = "vector instructions; the value of `Avx512bw` proves that the CPU has them")]

use std::arch::x86_64::{
    __m512i, _mm512_cmpeq_epi8_mask, _mm512_loadu_si512, _mm512_mask_loadu_epi8, _mm512_min_epu8,
    _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi8, _mm512_testn_epi8_mask,
};

use crate::block::{self, BLOCK, FILL, InstructionSet};
use crate::dispatch::Implementation;
use crate::state::State;

/// The implementation, if the CPU and the system have all that it needs.
pub(crate) fn detect() -> Option<Implementation> {
    let present = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    present.then_some(Implementation {
        name: "avx512bw",
        // SAFETY: the features were all detected, or there would be no such value to call this through.
        data: |state, bytes| unsafe { scan::<true>(state, bytes) },
        // SAFETY: as above.
        opaque: |state, bytes| unsafe { scan::<false>(state, bytes) },
    })
}

/// # Safety
/// The CPU must have the features that [`detect`] asks for.
#[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn scan<const DATA: bool>(state: &mut State, bytes: &[u8]) -> Option<usize> {
    block::scan::<_, DATA>(Avx512bw(()), state, bytes)
}

/// Proof of the instruction set: made in `scan` only.
#[derive(Clone, Copy)]
struct Avx512bw(());

#[derive(Clone, Copy)]
struct Seen {
    or: __m512i,
    min: __m512i,
}

impl InstructionSet for Avx512bw {
    type Block = __m512i;
    type Seen = Seen;

    #[inline(always)]
    fn load(self, octets: &[u8; BLOCK]) -> __m512i {
        // SAFETY: the 64 octets are there, at any alignment; `self` proves AVX-512F.
        unsafe { _mm512_loadu_si512(octets.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_last(self, octets: &[u8]) -> __m512i {
        let before = BLOCK - octets.len();
        let valid = u64::MAX.checked_shl(u32::try_from(before).unwrap_or(u32::MAX)).unwrap_or(0);
        // The pointer is never followed to where the mask has no bit, so it may stand before the slice.
        let start = octets.as_ptr().wrapping_sub(before);
        // SAFETY: only the octets of the slice are loaded; masked out ones cannot fault. `self` proves AVX-512BW.
        unsafe { _mm512_mask_loadu_epi8(_mm512_set1_epi8(FILL.cast_signed()), valid, start.cast()) }
    }

    #[inline(always)]
    fn equal(self, block: __m512i, octet: u8) -> u64 {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(octet.cast_signed())) }
    }

    #[inline(always)]
    fn seen_nothing(self) -> Seen {
        // SAFETY: `self` proves AVX-512F.
        let fill = unsafe { _mm512_set1_epi8(FILL.cast_signed()) };
        Seen { or: fill, min: fill }
    }

    #[inline(always)]
    fn see(self, seen: Seen, block: __m512i) -> Seen {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { Seen { or: _mm512_or_si512(seen.or, block), min: _mm512_min_epu8(seen.min, block) } }
    }

    #[inline(always)]
    fn seen_nul(self, seen: Seen) -> bool {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_testn_epi8_mask(seen.min, seen.min) != 0 }
    }

    #[inline(always)]
    fn seen_eight_bit(self, seen: Seen) -> bool {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_movepi8_mask(seen.or) != 0 }
    }
}
