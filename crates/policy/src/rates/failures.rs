//! Failed logins, by the address that they come from and by the user that they are for.
//!
//! An attempt is charged as failed when it begins, and given back if it succeeds: passwords that are tried side by side, on as many
//! connections as there may be, then cost what they cost one after the other.

use std::net::IpAddr;
use std::time::Duration;

use super::buckets::{Buckets, Interval, ticks};
use super::{Hasher, Key, Rate};

/// How many logins may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureLimits {
    /// Of one site (an IPv4 address or an IPv6 /64).
    pub per_address: Rate,
    /// For one user, whoever tries. Anybody can use it up and so keep the user out, hence more than for one address.
    pub per_user: Rate,
}

impl Default for FailureLimits {
    fn default() -> Self {
        let hour = Duration::from_hours(1);
        Self { per_address: Rate::new(100, hour), per_user: Rate::new(300, hour) }
    }
}

/// Why a login is not even tried: 454 4.7.0 for each, a temporary failure (RFC 4954 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureRefusal {
    /// [`FailureLimits::per_address`] is used up.
    PerAddress,
    /// [`FailureLimits::per_user`] is used up.
    PerUser,
}

impl FailureRefusal {
    /// Every refusal.
    pub const ALL: [Self; 2] = [Self::PerAddress, Self::PerUser];

    /// The label of a metric, lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PerAddress => "failures_per_address",
            Self::PerUser => "failures_per_user",
        }
    }
}

/// A login that is being tried; it has failed unless [`Failures::succeeded`] takes it.
#[derive(Debug)]
#[must_use = "failed, unless it is given to `succeeded`"]
pub struct Attempt {
    taken: [Option<(u64, Interval)>; 2],
}

/// The failed logins of all cores.
#[derive(Debug)]
pub struct Failures {
    hasher: Hasher,
    buckets: Buckets,
}

impl Failures {
    /// For about `keys_max` addresses and users with failures at a time, which takes 16 to 32 octets each, now and for good.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self { hasher: Hasher::default(), buckets: Buckets::new(keys_max) }
    }

    /// A login from `address` as `user` is about to be tried at `now` (microseconds, see the head of `rates`). The name is taken
    /// octet by octet: the caller brings it into the form in which the same user has one name.
    ///
    /// # Errors
    /// Too many have failed. This one is not charged then.
    pub fn begin(
        &self,
        address: IpAddr,
        user: &[u8],
        limits: &FailureLimits,
        now: u64,
    ) -> Result<Attempt, FailureRefusal> {
        let now = ticks(now);
        let mut attempt = Attempt { taken: [None, None] };
        let keys = [
            (Key::site(address), limits.per_address, FailureRefusal::PerAddress),
            (Key::User(user), limits.per_user, FailureRefusal::PerUser),
        ];
        for (index, (key, rate, refusal)) in keys.into_iter().enumerate() {
            let Some(interval) = Interval::of(rate) else { continue };
            let hash = self.hasher.hash(key);
            if !self.buckets.take(hash, interval, now) {
                self.succeeded(attempt);
                return Err(refusal);
            }
            attempt.taken[index] = Some((hash, interval));
        }
        Ok(attempt)
    }

    /// The login succeeded: the attempt is given back. Earlier failures stay, or one good account would pay for the guessing of
    /// others.
    #[allow(clippy::needless_pass_by_value, reason = "an attempt succeeds once")]
    pub fn succeeded(&self, attempt: Attempt) {
        for (hash, interval) in attempt.taken.into_iter().flatten() {
            self.buckets.give_back(hash, interval);
        }
    }

    /// Octets of memory, the same from the start to the end.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        self.buckets.octets()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits() -> FailureLimits {
        let hour = Duration::from_hours(1);
        FailureLimits { per_address: Rate::new(3, hour), per_user: Rate::new(5, hour) }
    }

    fn fail(failures: &Failures, address: &str, user: &str, now: u64) -> Result<(), FailureRefusal> {
        failures.begin(ip(address), user.as_bytes(), &limits(), now).map(drop)
    }

    #[test]
    fn an_address_that_guesses_is_held_up() {
        let failures = Failures::new(1_000);
        for user in ["ann", "bob", "cem"] {
            assert_eq!(fail(&failures, "192.0.2.1", user, 0), Ok(()));
        }
        assert_eq!(fail(&failures, "192.0.2.1", "dee", 0), Err(FailureRefusal::PerAddress));
        assert_eq!(fail(&failures, "192.0.2.2", "dee", 0), Ok(()));
        assert_eq!(fail(&failures, "192.0.2.1", "dee", 19 * MINUTE), Err(FailureRefusal::PerAddress));
        assert_eq!(fail(&failures, "192.0.2.1", "dee", 20 * MINUTE), Ok(()));
        assert_eq!(fail(&failures, "192.0.2.1", "dee", 20 * MINUTE), Err(FailureRefusal::PerAddress));
    }

    #[test]
    fn a_user_who_is_guessed_from_many_addresses_is_held_up() {
        let failures = Failures::new(1_000);
        for n in 1..=5 {
            assert_eq!(fail(&failures, &format!("192.0.2.{n}"), "ann", 0), Ok(()));
        }
        assert_eq!(fail(&failures, "192.0.2.6", "ann", 0), Err(FailureRefusal::PerUser));
        // The address has not paid for what its user was refused: all three are left.
        for user in ["bob", "cem", "dee"] {
            assert_eq!(fail(&failures, "192.0.2.6", user, 0), Ok(()));
        }
        assert_eq!(fail(&failures, "192.0.2.7", "ann", 12 * MINUTE), Ok(()));
    }

    #[test]
    fn success_costs_nothing_and_excuses_nothing() {
        let failures = Failures::new(1_000);
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Ok(()));
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Ok(()));
        for _ in 0..100 {
            let attempt = failures.begin(ip("192.0.2.1"), b"ann", &limits(), 0).unwrap();
            failures.succeeded(attempt);
        }
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Ok(()));
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Err(FailureRefusal::PerAddress));
    }

    #[test]
    fn attempts_side_by_side_are_charged_at_once() {
        let failures = Failures::new(1_000);
        let attempts: Vec<Attempt> =
            (0..3).map(|_| failures.begin(ip("192.0.2.1"), b"ann", &limits(), 0).unwrap()).collect();
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Err(FailureRefusal::PerAddress));
        for attempt in attempts {
            failures.succeeded(attempt);
        }
        assert_eq!(fail(&failures, "192.0.2.1", "ann", 0), Ok(()));
    }

    #[test]
    fn a_flood_of_names_does_not_clear_the_one_that_is_guessed() {
        let failures = Failures::new(100);
        for n in 1..=5 {
            assert_eq!(fail(&failures, &format!("192.0.2.{n}"), "ann", 0), Ok(()));
        }
        let only_users = FailureLimits { per_address: Rate::UNLIMITED, ..limits() };
        for n in 0..10_000 {
            let name = format!("nobody{n}");
            assert!(failures.begin(ip("192.0.2.1"), name.as_bytes(), &only_users, 0).is_ok());
        }
        assert_eq!(fail(&failures, "198.51.100.1", "ann", 0), Err(FailureRefusal::PerUser));
    }

    #[test]
    fn without_limits_everybody_may_try() {
        let failures = Failures::new(1);
        let none = FailureLimits { per_address: Rate::UNLIMITED, per_user: Rate::UNLIMITED };
        assert!((0..1_000).all(|_| failures.begin(ip("::1"), b"ann", &none, 0).is_ok()));
        assert_eq!(Failures::new(100_000).memory_octets(), 2 << 20);
    }
}
