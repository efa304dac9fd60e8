//! How much each peer asks of us: open connections, new connections, failed logins, over all cores.
//!
//! ```text
//!   address ─┬─▶ site     192.0.2.1       2001:db8:1:2::/64  ─┐  keyed  ┌─▶ counts    tag (40) │ open connections (24)
//!            └─▶ network  192.0.2.0/24    2001:db8:1::/56    ─┴─ hash ──┴─▶ buckets   tag (24) │ empty again at (40)
//! ```
//! Both tables have a fixed size and hold one word of 64 bits for a key, in sets of sixteen words (two lines of the cache). A word
//! is changed by compare-and-swap and nothing else: no lock, no allocation, no clock, and no thread ever waits for another one
//! that was put to sleep. The hash is keyed, so that a peer cannot choose addresses that fall upon each other or upon somebody
//! else; two keys of one set share their tag, and so their count, by a chance of one in 10¹⁰ (counts) or 10⁶ (buckets).
//!
//! **What a flood does.** A word is free for another key as soon as forgetting it changes nothing: no connection is open, or the
//! bucket is as if never used. If a set has no free word,
//! - a new key of the counts is not counted and not limited ([`Ticket::is_untracked`]), since a count in use must stay;
//! - a new key of the buckets takes the word that would be free the soonest, so that whoever has done the least is forgotten.
//!
//! Either way the limits become weaker, never stronger: a flood from many sites cannot lock anybody else out. What it costs the
//! gateway is bounded elsewhere, by the limit of connections on each core.
//!
//! Times are microseconds of one monotonic clock that all cores share and that began at about the start of the process: after eight
//! and a half years of it no rate limits any more.

mod buckets;
mod connections;
mod counts;
mod failures;
mod sets;

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

pub use connections::{ConnectionLimits, ConnectionRefusal, Connections, Ticket};
pub use failures::{Attempt, FailureLimits, FailureRefusal, Failures};

/// So many at once, or spread over a time: a bucket of `count`, of which one comes back every `per / count`.
///
/// Intervals are held in 1/4096 of a second, rounded down: a rate of some thousands a second comes out a little higher, and one
/// above 4096 a second is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; 0 = no limit.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { count: 0, per: Duration::ZERO };

    /// `count` in the time `per`.
    #[must_use]
    pub const fn new(count: u32, per: Duration) -> Self {
        Self { count, per }
    }
}

/// What a count or a rate is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key<'k> {
    /// The first bits of an address, and how many they are.
    Network(u128, u8),
    /// The name of a user.
    User(&'k [u8]),
}

impl Key<'_> {
    /// One IPv4 address, or the /64 that one IPv6 site has at least (RFC 6177 §2).
    fn site(address: IpAddr) -> Self {
        Self::network(address, 32, 64)
    }

    fn network(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Self {
        match address.to_canonical() {
            // IPv4 as it is mapped into IPv6, 96 bits further down, so that the two never meet.
            IpAddr::V4(v4) => Self::masked(v4.to_ipv6_mapped().to_bits(), ipv4_prefix.min(32) + 96),
            IpAddr::V6(v6) => Self::masked(v6.to_bits(), ipv6_prefix.min(128)),
        }
    }

    fn masked(bits: u128, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self::Network(bits & mask, length)
    }
}

/// Hashes keys with a key of its own, chosen at random.
#[derive(Debug, Default)]
struct Hasher(RandomState);

impl Hasher {
    fn hash(&self, key: Key<'_>) -> u64 {
        self.0.hash_one(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Key<'static> {
        Key::site(text.parse().expect("an address"))
    }

    fn network(text: &str) -> Key<'static> {
        Key::network(text.parse().expect("an address"), 24, 56)
    }

    #[test]
    fn sites() {
        assert_eq!(site("192.0.2.1"), site("::ffff:192.0.2.1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
        assert_eq!(site("2001:db8::1"), site("2001:db8::ffff:0:0:2"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_ne!(site("0.0.0.0"), site("::"));
    }

    #[test]
    fn networks() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.255"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:ff::1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:100::1"));
        // The first of a network is not the network.
        assert_ne!(network("192.0.2.0"), site("192.0.2.0"));
        assert_ne!(network("2001:db8::"), site("2001:db8::"));
        let all = |text: &str| Key::network(text.parse().expect("an address"), 0, 0);
        assert_eq!(all("192.0.2.1"), all("10.0.0.1"));
        assert_eq!(all("2001:db8::1"), all("::1"));
        assert_ne!(all("::1"), all("10.0.0.1"));
    }

    #[test]
    fn hashes_are_keyed() {
        let key = site("192.0.2.1");
        assert_ne!(Hasher::default().hash(key), Hasher::default().hash(key));
    }
}
