//! Mail hosts in the order in which they are tried.
//!
//! ```text
//!   mail_hosts    sorted by preference, as the DNS has them
//!      │ cut_own  ourselves and all that are no better, and those without an address
//!      │ order    equal preferences shuffled
//!      ▼
//!   one address after the other
//! ```
//! Everything here is a pure function: no clock, no random source.
//!
//! Standards: RFC 5321 §5.1, RFC 8305 §4 (families alternate).

use std::net::IpAddr;

use super::DnsError;

/// Most addresses of one host that are used.
pub const ADDRESSES_MAX: usize = 16;

/// One host that takes mail for a domain.
///
/// DANE (RFC 7672 §2.2) will need to know of each host whether its name and its addresses came authenticated; hence no one outside makes
/// this but through [`MailHost::new`], and fields may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailHost {
    /// The lower, the better. 0 without an MX record.
    pub preference: u16,
    /// Lower case, no dot at the end; that of the MX record even when it is an alias. For an address literal the address.
    pub name: String,
    /// In the order in which they are tried, at most 16. Empty when none could be found, or not now: the host still counts when a loop
    /// is looked for, and [`cut_own`] takes it away.
    pub addresses: Vec<IpAddr>,
    /// Why there is no address.
    trouble: Option<DnsError>,
}

impl MailHost {
    /// A host with known addresses.
    #[must_use]
    pub fn new(preference: u16, name: String, addresses: Vec<IpAddr>) -> Self {
        Self { preference, name, addresses, trouble: None }
    }

    /// A host with what was found for it.
    pub(super) fn found(preference: u16, name: String, addresses: Result<Vec<IpAddr>, DnsError>) -> Self {
        match addresses {
            Ok(addresses) => Self::new(preference, name, addresses),
            Err(trouble) => Self { preference, name, addresses: Vec::new(), trouble: Some(trouble) },
        }
    }
}

/// Sorts by preference and shuffles hosts of equal preference, so that all senders together spread their load (RFC 5321 §5.1). The same
/// `seed` gives the same order.
#[must_use]
pub fn order(mut hosts: Vec<MailHost>, seed: u64) -> Vec<MailHost> {
    let mut random = seed;
    hosts.sort_by_key(|host| host.preference);
    for equals in hosts.chunk_by_mut(|a, b| a.preference == b.preference) {
        for last in (1..equals.len()).rev() {
            // The remainder favours the first hosts by less than one in 2^59.
            #[expect(clippy::cast_possible_truncation, reason = "not more than `last`")]
            let chosen = (next(&mut random) % (last as u64 + 1)) as usize;
            equals.swap(chosen, last);
        }
    }
    hosts
}

/// SplitMix64: every seed is as good as any other.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Takes away all hosts that are no better than ourselves, since they would give the mail back to us (RFC 5321 §5.1), and then those
/// without an address. Every host that is left has one.
///
/// `is_own` is asked for each host; its name counts as much as any of its addresses, since a host of ours may have no address today.
///
/// # Errors
/// [`DnsError::TryAgain`] while a better host than ourselves has no address for the moment; [`DnsError::LoopsBack`] when there is no
/// better one; [`DnsError::NoAddress`] when there is none at all.
pub fn cut_own(
    domain: &str,
    mut hosts: Vec<MailHost>,
    is_own: impl Fn(&MailHost) -> bool,
) -> Result<Vec<MailHost>, DnsError> {
    let own = hosts.iter().filter(|host| is_own(host)).map(|host| host.preference).min();
    if let Some(own) = own {
        hosts.retain(|host| host.preference < own);
    }
    match with_addresses(domain, &mut hosts) {
        Ok(()) => Ok(hosts),
        Err(error) if own.is_some() && error.permanent() => Err(DnsError::LoopsBack(domain.to_owned())),
        Err(error) => Err(error),
    }
}

/// Keeps the hosts with addresses, or says what is wrong when there is none.
fn with_addresses(domain: &str, hosts: &mut Vec<MailHost>) -> Result<(), DnsError> {
    let checked = check(domain, hosts);
    hosts.retain(|host| !host.addresses.is_empty());
    checked
}

/// Whether a host has an address. If none has, one that may have some later makes the error a temporary one.
pub(super) fn check(domain: &str, hosts: &[MailHost]) -> Result<(), DnsError> {
    if hosts.iter().any(|host| !host.addresses.is_empty()) {
        return Ok(());
    }
    let troubles = || hosts.iter().filter_map(|host| host.trouble.as_ref());
    let trouble = troubles().find(|trouble| !trouble.permanent()).cloned();
    let first = || troubles().next().cloned();
    Err(match trouble.or_else(first) {
        Some(trouble) if trouble.permanent() => {
            DnsError::NoAddress { domain: domain.to_owned(), first: Box::new(trouble) }
        }
        Some(trouble) => trouble,
        None => DnsError::NoValidHost(domain.to_owned()),
    })
}

/// Addresses of both families in turn, so that a host that cannot be reached over one of them costs one attempt only. Addresses that
/// are no single host's, such as 0.0.0.0, are left out, and so is what comes twice.
pub(super) fn alternate(ipv6: Vec<IpAddr>, ipv4: Vec<IpAddr>, ipv6_first: bool) -> Vec<IpAddr> {
    let (first, second) = if ipv6_first { (ipv6, ipv4) } else { (ipv4, ipv6) };
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut addresses: Vec<IpAddr> = Vec::new();
    loop {
        let round = [first.next(), second.next()];
        if round == [None, None] {
            break;
        }
        for address in round.into_iter().flatten().map(|address| address.to_canonical()) {
            if usable(address) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Whether a host can have this address at all.
pub(super) fn usable(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
