//! NEON, which every 64-bit ARM CPU of the standard targets has: a block is four registers of 16 octets.
//!
//! There is no instruction that gathers one bit of each octet. Instead, each octet of a comparison keeps the bit of its
//! place in a group of eight, and three rounds of pairwise sums bring the groups together: 64 octets become 8.

#![allow(unsafe_code, reason = "vector instructions; the standard 64-bit ARM targets always have NEON")]

use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vceqq_u8, vdupq_n_u8, vgetq_lane_u64, vld1q_u8, vmaxvq_u8, vminq_u8, vminvq_u8,
    vorrq_u8, vpaddq_u8, vreinterpretq_u64_u8,
};

use crate::block::{self, BLOCK, FILL, InstructionSet};
use crate::dispatch::Implementation;
use crate::state::State;

#[cfg(not(all(target_feature = "neon", target_endian = "little")))]
compile_error!("this file relies on NEON and on little-endian lanes");

pub(crate) const IMPLEMENTATION: Implementation =
    Implementation { name: "neon", data: scan::<true>, opaque: scan::<false> };

fn scan<const DATA: bool>(state: &mut State, bytes: &[u8]) -> Option<usize> {
    block::scan::<_, DATA>(Neon, state, bytes)
}

/// The bit of each octet in its group of eight.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

#[derive(Clone, Copy)]
struct Neon;

#[derive(Clone, Copy)]
struct Seen {
    or: uint8x16_t,
    min: uint8x16_t,
}

impl InstructionSet for Neon {
    type Block = [uint8x16_t; 4];
    type Seen = Seen;

    #[inline(always)]
    fn load(self, octets: &[u8; BLOCK]) -> [uint8x16_t; 4] {
        let [a, b, c, d] = octets.as_chunks::<16>().0 else { unreachable!("64 octets are four times 16") };
        // SAFETY: 16 octets are there each, at any alignment; these targets have NEON.
        [a, b, c, d].map(|part| unsafe { vld1q_u8(part.as_ptr()) })
    }

    #[inline(always)]
    fn equal(self, [a, b, c, d]: [uint8x16_t; 4], octet: u8) -> u64 {
        // SAFETY: `BITS` has the 16 octets that are loaded; these targets have NEON.
        unsafe {
            let bits = vld1q_u8(BITS.as_ptr());
            let octet = vdupq_n_u8(octet);
            let low = vpaddq_u8(vandq_u8(vceqq_u8(a, octet), bits), vandq_u8(vceqq_u8(b, octet), bits));
            let high = vpaddq_u8(vandq_u8(vceqq_u8(c, octet), bits), vandq_u8(vceqq_u8(d, octet), bits));
            let sums = vpaddq_u8(low, high);
            vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)))
        }
    }

    #[inline(always)]
    fn seen_nothing(self) -> Seen {
        // SAFETY: these targets have NEON.
        let fill = unsafe { vdupq_n_u8(FILL) };
        Seen { or: fill, min: fill }
    }

    #[inline(always)]
    fn see(self, seen: Seen, [a, b, c, d]: [uint8x16_t; 4]) -> Seen {
        // SAFETY: these targets have NEON.
        unsafe {
            let or = vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d));
            let min = vminq_u8(vminq_u8(a, b), vminq_u8(c, d));
            Seen { or: vorrq_u8(seen.or, or), min: vminq_u8(seen.min, min) }
        }
    }

    #[inline(always)]
    fn seen_nul(self, seen: Seen) -> bool {
        // SAFETY: these targets have NEON.
        unsafe { vminvq_u8(seen.min) == 0 }
    }

    #[inline(always)]
    fn seen_eight_bit(self, seen: Seen) -> bool {
        // SAFETY: these targets have NEON.
        unsafe { vmaxvq_u8(seen.or) >= 0x80 }
    }
}
