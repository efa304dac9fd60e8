//! A small seeded generator: the same seed gives the same run, and a failing test prints its seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts from `INRUSH_SEED`, else from the clock, and prints the seed: a test's output is shown when it fails.
    pub fn from_environment() -> Self {
        Self::new(Self::seed_from_environment())
    }

    /// That seed itself, for a test that gives each round one of its own.
    pub fn seed_from_environment() -> u64 {
        let named = std::env::var("INRUSH_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos().into());
        let seed = named.unwrap_or(now);
        eprintln!("INRUSH_SEED={seed}");
        seed
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`, or 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits().checked_rem(end).unwrap_or(0)
    }

    /// Text lines of printable characters, CRLF each, about `octets` long; some begin with a dot.
    pub fn text(&mut self, octets: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(octets + 80);
        while text.len() < octets {
            if self.below(8) == 0 {
                text.push(b'.');
            }
            for _ in 0..self.below(76) {
                text.push(b'!' + u8::try_from(self.below(94)).unwrap_or(0));
            }
            text.extend_from_slice(b"\r\n");
        }
        text
    }
}
