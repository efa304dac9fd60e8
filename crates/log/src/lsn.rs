//! Position in a log.

use std::fmt;

/// Position in a log: segment number × segment size + offset in the segment. 56 bits; never mixed up with a byte count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Below every record: segment 0 is never used.
    pub const ZERO: Self = Self(0);
    /// The largest position that a message id can carry (56 bits).
    pub const MAX: Self = Self((1 << 56) - 1);

    /// Wraps a raw position.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The raw position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Number of the segment that holds this position.
    #[must_use]
    pub const fn segment(self, segment_bytes: u64) -> u64 {
        self.0 / segment_bytes
    }

    /// Offset in octets inside that segment.
    #[must_use]
    pub const fn offset(self, segment_bytes: u64) -> u64 {
        self.0 % segment_bytes
    }

    /// The position `octets` further on; saturates.
    #[must_use]
    pub const fn plus(self, octets: u64) -> Self {
        Self(self.0.saturating_add(octets))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014X}", self.0)
    }
}
