//! How many sessions each peer address has open on a core.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// The address that a limit applies to: an IPv4 address, or the /64 that one IPv6 site usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site(u128);

impl From<IpAddr> for Site {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

/// Open sessions per [`Site`]. Keyed with a random seed, so that peers cannot choose addresses that collide.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    open: RefCell<HashMap<Site, u32>>,
}

impl Addresses {
    /// Counts one more session of `site`, unless it has `limit` already (0 = no limit).
    pub(crate) fn enter(&self, site: Site, limit: u32) -> bool {
        let mut open = self.open.borrow_mut();
        let count = open.entry(site).or_default();
        if limit != 0 && *count >= limit {
            return false;
        }
        *count += 1;
        true
    }

    /// One session of `site` has ended.
    pub(crate) fn leave(&self, site: Site) {
        let mut open = self.open.borrow_mut();
        if let Some(count) = open.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                open.remove(&site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Site {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn one_site_is_limited_and_others_are_not() {
        let addresses = Addresses::default();
        assert!(addresses.enter(site("192.0.2.1"), 2));
        assert!(addresses.enter(site("::ffff:192.0.2.1"), 2), "the same address, mapped");
        assert!(!addresses.enter(site("192.0.2.1"), 2));
        assert!(addresses.enter(site("192.0.2.2"), 2));
        addresses.leave(site("192.0.2.1"));
        assert!(addresses.enter(site("192.0.2.1"), 2));
    }

    #[test]
    fn an_ipv6_site_is_its_first_64_bits() {
        let addresses = Addresses::default();
        assert!(addresses.enter(site("2001:db8::1"), 1));
        assert!(!addresses.enter(site("2001:db8::ffff:2"), 1));
        assert!(addresses.enter(site("2001:db8:0:1::1"), 1));
    }

    #[test]
    fn nothing_is_kept_of_peers_that_have_left() {
        let addresses = Addresses::default();
        assert!(addresses.enter(site("192.0.2.1"), 0));
        addresses.leave(site("192.0.2.1"));
        assert!(addresses.open.borrow().is_empty());
    }
}
