//! AVX2: a block is two registers of 32 octets.

#![allow(unsafe_code, reason = "vector instructions; the value of `Avx2` proves that the CPU has them")]

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8,
};

use crate::block::{self, BLOCK, FILL, InstructionSet};
use crate::dispatch::Implementation;
use crate::state::State;

/// The implementation, if the CPU and the system have all that it needs.
pub(crate) fn detect() -> Option<Implementation> {
    let present = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    present.then_some(Implementation {
        name: "avx2",
        // SAFETY: the features were all detected, or there would be no such value to call this through.
        data: |state, bytes| unsafe { scan::<true>(state, bytes) },
        // SAFETY: as above.
        opaque: |state, bytes| unsafe { scan::<false>(state, bytes) },
    })
}

/// # Safety
/// The CPU must have the features that [`detect`] asks for.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn scan<const DATA: bool>(state: &mut State, bytes: &[u8]) -> Option<usize> {
    block::scan::<_, DATA>(Avx2(()), state, bytes)
}

/// Proof of the instruction set: made in `scan` only.
#[derive(Clone, Copy)]
struct Avx2(());

#[derive(Clone, Copy)]
struct Seen {
    or: __m256i,
    min: __m256i,
}

/// Bit n: octet n of the register has its high bit.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn mask(register: __m256i) -> u64 {
    // SAFETY: as the caller promises.
    u64::from(unsafe { _mm256_movemask_epi8(register) }.cast_unsigned())
}

impl InstructionSet for Avx2 {
    type Block = [__m256i; 2];
    type Seen = Seen;

    #[inline(always)]
    fn load(self, octets: &[u8; BLOCK]) -> [__m256i; 2] {
        let [low, high] = octets.as_chunks::<32>().0 else { unreachable!("64 octets are two times 32") };
        // SAFETY: 32 octets are there each, at any alignment; `self` proves AVX2.
        unsafe { [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())] }
    }

    #[inline(always)]
    fn equal(self, [low, high]: [__m256i; 2], octet: u8) -> u64 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let octet = _mm256_set1_epi8(octet.cast_signed());
            mask(_mm256_cmpeq_epi8(low, octet)) | mask(_mm256_cmpeq_epi8(high, octet)) << 32
        }
    }

    #[inline(always)]
    fn seen_nothing(self) -> Seen {
        // SAFETY: `self` proves AVX2.
        let fill = unsafe { _mm256_set1_epi8(FILL.cast_signed()) };
        Seen { or: fill, min: fill }
    }

    #[inline(always)]
    fn see(self, seen: Seen, [low, high]: [__m256i; 2]) -> Seen {
        // SAFETY: `self` proves AVX2.
        unsafe {
            Seen {
                or: _mm256_or_si256(seen.or, _mm256_or_si256(low, high)),
                min: _mm256_min_epu8(seen.min, _mm256_min_epu8(low, high)),
            }
        }
    }

    #[inline(always)]
    fn seen_nul(self, seen: Seen) -> bool {
        // SAFETY: `self` proves AVX2.
        unsafe { mask(_mm256_cmpeq_epi8(seen.min, _mm256_set1_epi8(0))) != 0 }
    }

    #[inline(always)]
    fn seen_eight_bit(self, seen: Seen) -> bool {
        // SAFETY: `self` proves AVX2.
        unsafe { mask(seen.or) != 0 }
    }
}
