//! Connections of each site and of each network of sites: how many are open, and how many begin.

use std::net::IpAddr;

use super::buckets::{Buckets, Interval, ticks};
use super::counts::{Counted, Counts};
use super::sets::Place;
use super::{Hasher, Key, Rate};

/// What one peer may ask for. A site is an IPv4 address or an IPv6 /64; a network is what its prefix says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections of one site on all cores; 0 = no limit.
    pub open_per_address_max: u32,
    /// Open connections of one network on all cores; 0 = no limit.
    pub open_per_network_max: u32,
    /// New connections of one site.
    pub rate_per_address: Rate,
    /// New connections of one network.
    pub rate_per_network: Rate,
    /// Bits of an IPv4 address that make its network, 0 to 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that make its network, 0 to 128. What one customer of a provider has lies between /48 and /64
    /// (RFC 6177 §2).
    pub ipv6_prefix: u8,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            open_per_address_max: 0,
            open_per_network_max: 0,
            rate_per_address: Rate::UNLIMITED,
            rate_per_network: Rate::UNLIMITED,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
        }
    }
}

/// Why a connection is not taken: 421 4.7.0 for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// [`ConnectionLimits::open_per_address_max`] is reached.
    OpenPerAddress,
    /// [`ConnectionLimits::open_per_network_max`] is reached.
    OpenPerNetwork,
    /// [`ConnectionLimits::rate_per_address`] is used up.
    RatePerAddress,
    /// [`ConnectionLimits::rate_per_network`] is used up.
    RatePerNetwork,
}

impl ConnectionRefusal {
    /// Every refusal.
    pub const ALL: [Self; 4] =
        [Self::OpenPerAddress, Self::OpenPerNetwork, Self::RatePerAddress, Self::RatePerNetwork];

    /// The label of a metric, lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::OpenPerAddress => "open_per_address",
            Self::OpenPerNetwork => "open_per_network",
            Self::RatePerAddress => "rate_per_address",
            Self::RatePerNetwork => "rate_per_network",
        }
    }
}

/// An open connection that is counted. [`Connections::leave`] takes it when the connection has ended, however it did: one that is
/// dropped instead stays counted for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "counted until it is given to `leave`"]
pub struct Ticket {
    places: [Option<Place>; 2],
    untracked: bool,
}

impl Ticket {
    /// A limit of open connections was not applied, since the table is full. For a counter.
    #[must_use]
    pub fn is_untracked(&self) -> bool {
        self.untracked
    }
}

/// The connections of all cores.
#[derive(Debug)]
pub struct Connections {
    hasher: Hasher,
    open: Counts,
    begun: Buckets,
}

impl Connections {
    /// For about `sites_max` sites at a time, which takes 64 to 128 octets each, now and for good.
    #[must_use]
    pub fn new(sites_max: usize) -> Self {
        // Each may have a network of its own.
        let keys = sites_max.saturating_mul(2);
        Self { hasher: Hasher::default(), open: Counts::new(keys), begun: Buckets::new(keys) }
    }

    /// Counts a connection from `address` that begins at `now` (microseconds, see the head of `rates`). The limits may be others
    /// than the last time.
    ///
    /// # Errors
    /// A limit is reached. Nothing was counted then.
    pub fn enter(
        &self,
        address: IpAddr,
        limits: &ConnectionLimits,
        now: u64,
    ) -> Result<Ticket, ConnectionRefusal> {
        let rates = [Interval::of(limits.rate_per_address), Interval::of(limits.rate_per_network)];
        let open = [limits.open_per_address_max, limits.open_per_network_max];
        // What has no limit costs next to nothing.
        let hashes = [0, 1].map(|index| match index {
            _ if open[index] == 0 && rates[index].is_none() => 0,
            0 => self.hasher.hash(Key::site(address)),
            _ => self.hasher.hash(Key::network(address, limits.ipv4_prefix, limits.ipv6_prefix)),
        });

        let mut ticket = Ticket { places: [None, None], untracked: false };
        let refusals = [ConnectionRefusal::OpenPerAddress, ConnectionRefusal::OpenPerNetwork];
        for index in 0..2 {
            if open[index] == 0 {
                continue;
            }
            match self.open.enter(hashes[index], open[index]) {
                Counted::At(place) => ticket.places[index] = Some(place),
                Counted::Untracked => ticket.untracked = true,
                Counted::Refused => {
                    self.leave(ticket);
                    return Err(refusals[index]);
                }
            }
        }
        let now = ticks(now);
        let taken = |index: usize| rates[index].is_none_or(|rate| self.begun.take(hashes[index], rate, now));
        if !taken(0) {
            self.leave(ticket);
            return Err(ConnectionRefusal::RatePerAddress);
        }
        if !taken(1) {
            if let Some(rate) = rates[0] {
                self.begun.give_back(hashes[0], rate);
            }
            self.leave(ticket);
            return Err(ConnectionRefusal::RatePerNetwork);
        }
        Ok(ticket)
    }

    /// A connection has ended.
    #[allow(clippy::needless_pass_by_value, reason = "a ticket is good for one leave")]
    pub fn leave(&self, ticket: Ticket) {
        for place in ticket.places.iter().flatten() {
            self.open.leave(place);
        }
    }

    /// Octets of memory, the same from the start to the end.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        self.open.octets() + self.begun.octets()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits() -> ConnectionLimits {
        ConnectionLimits::default()
    }

    #[test]
    fn open_connections_of_an_address() {
        let (connections, limits) =
            (Connections::new(100), ConnectionLimits { open_per_address_max: 2, ..limits() });
        let first = connections.enter(ip("192.0.2.1"), &limits, 0).unwrap();
        let second = connections.enter(ip("::ffff:192.0.2.1"), &limits, 0).unwrap();
        assert_eq!(connections.enter(ip("192.0.2.1"), &limits, 0), Err(ConnectionRefusal::OpenPerAddress));
        let other = connections.enter(ip("192.0.2.2"), &limits, 0).unwrap();
        connections.leave(first);
        let third = connections.enter(ip("192.0.2.1"), &limits, 0).unwrap();
        for ticket in [second, third, other] {
            assert!(!ticket.is_untracked());
            connections.leave(ticket);
        }
        assert_eq!(connections.open.total(), 0);
    }

    #[test]
    fn open_connections_of_a_network() {
        let limits = ConnectionLimits { open_per_address_max: 2, open_per_network_max: 3, ..limits() };
        let connections = Connections::new(100);
        let tickets = ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:ff::1"]
            .map(|address| connections.enter(ip(address), &limits, 0).unwrap());
        assert_eq!(
            connections.enter(ip("2001:db8:0:2::1"), &limits, 0),
            Err(ConnectionRefusal::OpenPerNetwork)
        );
        // A refused connection leaves nothing behind, in either count.
        assert_eq!(connections.open.total(), 6);
        let _elsewhere = connections.enter(ip("2001:db8:0:100::1"), &limits, 0).unwrap();
        for ticket in tickets {
            connections.leave(ticket);
        }
        assert_eq!(connections.open.total(), 2);
    }

    #[test]
    fn rates_of_an_address_and_of_a_network() {
        let limits = ConnectionLimits {
            open_per_address_max: 100,
            rate_per_address: Rate::new(2, Duration::from_secs(10)),
            rate_per_network: Rate::new(3, Duration::from_secs(10)),
            ..limits()
        };
        let connections = Connections::new(100);
        let mut tickets = Vec::new();
        let mut enter = |address: &str, now: u64| {
            connections.enter(ip(address), &limits, now).map(|ticket| tickets.push(ticket))
        };
        assert_eq!(enter("192.0.2.1", 0), Ok(()));
        assert_eq!(enter("192.0.2.1", 0), Ok(()));
        assert_eq!(enter("192.0.2.1", 0), Err(ConnectionRefusal::RatePerAddress));
        assert_eq!(enter("192.0.2.2", 0), Ok(()));
        assert_eq!(enter("192.0.2.2", 0), Err(ConnectionRefusal::RatePerNetwork));
        assert_eq!(enter("192.0.3.1", 0), Ok(()));
        // What its network refused was not taken from the address: both of it are there when the network has some again.
        assert_eq!(enter("192.0.2.3", 0), Err(ConnectionRefusal::RatePerNetwork));
        assert_eq!(enter("192.0.2.3", 7 * SECOND), Ok(()));
        assert_eq!(enter("192.0.2.3", 7 * SECOND), Ok(()));
        assert_eq!(enter("192.0.2.3", 7 * SECOND), Err(ConnectionRefusal::RatePerAddress));
        assert_eq!(connections.open.total(), tickets.len() as u64);
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let connections = Connections::new(1);
        for n in 0..1_000u32 {
            let ticket = connections.enter(IpAddr::V4(Ipv4Addr::from(n)), &limits(), 0).unwrap();
            assert!(!ticket.is_untracked());
        }
        assert_eq!(connections.open.total(), 0);
    }

    #[test]
    fn a_flood_of_sites_locks_nobody_out() {
        let limits = ConnectionLimits {
            open_per_address_max: 1,
            rate_per_address: Rate::new(2, Duration::from_secs(3600)),
            ..limits()
        };
        let connections = Connections::new(100);
        let octets = connections.memory_octets();
        let known = connections.enter(ip("192.0.2.1"), &limits, 0).unwrap();
        let mut untracked = 0;
        for n in 0..100_000u128 {
            let address = std::net::Ipv6Addr::from(0x2001_0db8 << 96 | n << 64);
            untracked += u32::from(connections.enter(address.into(), &limits, 0).unwrap().is_untracked());
        }
        assert!(untracked > 90_000);
        // Nobody is refused for the others' sake, and who was counted before still is.
        assert!(connections.enter(ip("198.51.100.1"), &limits, 0).is_ok());
        assert_eq!(connections.enter(ip("192.0.2.1"), &limits, 0), Err(ConnectionRefusal::OpenPerAddress));
        connections.leave(known);
        assert_eq!(connections.memory_octets(), octets);
    }

    #[test]
    fn memory() {
        assert_eq!(Connections::new(100_000).memory_octets(), 8 << 20);
    }

    #[test]
    fn labels_are_there_once() {
        let mut labels = ConnectionRefusal::ALL.map(ConnectionRefusal::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ConnectionRefusal::ALL.len());
    }

    /// The same with maps, exactly.
    #[derive(Default)]
    struct Model {
        open: HashMap<IpAddr, u32>,
        /// When the bucket is as if never used, in ticks.
        empty_at: HashMap<IpAddr, u64>,
    }

    impl Model {
        fn refuses(&self, address: IpAddr, open_max: u32, rate: Rate, now: u64) -> Option<ConnectionRefusal> {
            if self.open.get(&address).is_some_and(|&open| open >= open_max) {
                return Some(ConnectionRefusal::OpenPerAddress);
            }
            let one = 4096 * rate.per.as_secs() / u64::from(rate.count);
            let taken = self.empty_at.get(&address).map_or(0, |at| at.saturating_sub(ticks(now)));
            (taken + one > one * u64::from(rate.count)).then_some(ConnectionRefusal::RatePerAddress)
        }

        fn enter(&mut self, address: IpAddr, rate: Rate, now: u64) {
            *self.open.entry(address).or_default() += 1;
            let at = self.empty_at.entry(address).or_default();
            *at = (*at).max(ticks(now)) + 4096 * rate.per.as_secs() / u64::from(rate.count);
        }
    }

    /// For each step: an address, the time since the last, and whether somebody leaves instead.
    fn steps() -> impl Strategy<Value = Vec<(u32, u64, Option<usize>)>> {
        let step = (0..40u32, 0..4 * SECOND, proptest::option::weighted(0.3, 0..100usize));
        proptest::collection::vec(step, 1..300)
    }

    fn play(sites_max: usize, steps: &[(u32, u64, Option<usize>)], exact: bool) -> Result<(), TestCaseError> {
        let rate = Rate::new(5, Duration::from_secs(30));
        let limits = ConnectionLimits { open_per_address_max: 3, rate_per_address: rate, ..limits() };
        let (connections, mut model) = (Connections::new(sites_max), Model::default());
        let (mut now, mut tickets) = (0, Vec::<(IpAddr, Ticket)>::new());
        for &(n, pause, leaves) in steps {
            now += pause;
            if let Some(leaves) = leaves {
                if !tickets.is_empty() {
                    let (address, ticket) = tickets.swap_remove(leaves % tickets.len());
                    *model.open.get_mut(&address).unwrap() -= 1;
                    connections.leave(ticket);
                }
                continue;
            }
            let address = IpAddr::V4(Ipv4Addr::from(n));
            let expected = model.refuses(address, 3, rate, now);
            match connections.enter(address, &limits, now) {
                Ok(ticket) => {
                    prop_assert!(!exact || (expected.is_none() && !ticket.is_untracked()));
                    model.enter(address, rate, now);
                    tickets.push((address, ticket));
                }
                // Never stricter than it should be, however small the table.
                Err(refusal) if exact => prop_assert_eq!(Some(refusal), expected),
                Err(_) => prop_assert!(expected.is_some()),
            }
            let counted = tickets.iter().filter(|(_, ticket)| !ticket.is_untracked()).count();
            prop_assert_eq!(connections.open.total(), counted as u64);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn as_the_model(steps in steps()) {
            play(10_000, &steps, true)?;
        }

        #[test]
        fn a_crowded_table_is_never_stricter_than_the_model(steps in steps()) {
            play(1, &steps, false)?;
        }
    }
}
