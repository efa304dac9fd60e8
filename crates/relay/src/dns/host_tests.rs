#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::super::{RecordType, Trouble};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(preference: u16, name: &str) -> MailHost {
    MailHost::new(preference, name.to_owned(), vec![ip("192.0.2.1")])
}

fn without_address(preference: u16, name: &str, permanent: bool) -> MailHost {
    let (owned, record_type) = (name.to_owned(), RecordType::Address);
    let trouble = if permanent {
        DnsError::NoData { name: owned, record_type }
    } else {
        DnsError::TryAgain { name: owned, record_type, trouble: Trouble::Timeout }
    };
    MailHost::found(preference, name.to_owned(), Err(trouble))
}

fn names(hosts: &[MailHost]) -> Vec<&str> {
    hosts.iter().map(|host| host.name.as_str()).collect()
}

#[test]
fn order_goes_by_preference_and_by_chance_among_equals() {
    let hosts = vec![host(20, "d"), host(10, "a"), host(30, "e"), host(10, "b"), host(10, "c")];
    let mut firsts = std::collections::BTreeMap::new();
    for seed in 0..3000 {
        let ordered = order(hosts.clone(), seed);
        let preferences: Vec<u16> = ordered.iter().map(|host| host.preference).collect();
        assert_eq!(preferences, [10, 10, 10, 20, 30], "seed {seed}");
        let mut all = names(&ordered);
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c", "d", "e"], "seed {seed}");
        assert_eq!(order(hosts.clone(), seed), ordered, "seed {seed}");
        *firsts.entry(ordered[0].name.clone()).or_insert(0) += 1;
    }
    // Fixed seeds, fixed counts: about a third each.
    assert!(firsts.len() == 3 && firsts.values().all(|count| (900..1100).contains(count)), "{firsts:?}");
}

#[test]
fn order_of_few_hosts() {
    assert_eq!(order(Vec::new(), 1), []);
    assert_eq!(order(vec![host(5, "a")], 1), [host(5, "a")]);
}

#[test]
fn families_alternate() {
    let ipv6 = || vec![ip("2001:db8::1"), ip("2001:db8::2"), ip("2001:db8::3")];
    let ipv4 = || vec![ip("192.0.2.1")];
    let expected = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"].map(ip);
    assert_eq!(alternate(ipv6(), ipv4(), true), expected);
    let expected = ["192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"].map(ip);
    assert_eq!(alternate(ipv6(), ipv4(), false), expected);
    assert_eq!(alternate(Vec::new(), ipv4(), true), [ip("192.0.2.1")]);
    assert!(alternate(Vec::new(), Vec::new(), true).is_empty());
}

#[test]
fn addresses_are_bounded_and_of_one_host_each() {
    let many: Vec<IpAddr> = (1..=100).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    assert_eq!(alternate(Vec::new(), many.clone(), true), many[..ADDRESSES_MAX]);
    let odd = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "192.0.2.1"].map(ip).to_vec();
    let odd6 = ["::", "ff02::1", "::ffff:192.0.2.1", "2001:db8::1"].map(ip).to_vec();
    assert_eq!(alternate(odd6, odd, true), [ip("192.0.2.1"), ip("2001:db8::1")]);
}

/// RFC 5321 §5.1.
#[test]
fn hosts_no_better_than_ourselves_are_cut() {
    let hosts = vec![host(10, "a"), host(20, "us"), host(20, "b"), host(30, "c"), host(30, "us")];
    let left = cut_own("example", hosts.clone(), |host| host.name == "us").unwrap();
    assert_eq!(names(&left), ["a"]);
    let left = cut_own("example", hosts.clone(), |_| false).unwrap();
    assert_eq!(left, hosts);
    let looped = cut_own("example", hosts, |host| host.addresses.contains(&ip("192.0.2.1")));
    assert_eq!(looped, Err(DnsError::LoopsBack("example".to_owned())));
}

#[test]
fn a_host_of_ours_without_address_cuts_as_well() {
    let hosts = vec![host(10, "a"), without_address(20, "us", false), host(30, "c")];
    let left = cut_own("example", hosts, |host| host.name == "us").unwrap();
    assert_eq!(names(&left), ["a"]);
}

/// We are the second mail exchanger, and the first has no address for the moment: this is no loop.
#[test]
fn a_better_host_without_address_is_waited_for() {
    let hosts = vec![without_address(10, "a", false), host(20, "us")];
    let error = cut_own("example", hosts, |host| host.name == "us").unwrap_err();
    assert_eq!(error.enhanced(), (4, 4, 3));
    let hosts = vec![without_address(10, "a", true), host(20, "us")];
    let error = cut_own("example", hosts, |host| host.name == "us").unwrap_err();
    assert_eq!(error.enhanced(), (5, 4, 6));
}

#[test]
fn hosts_without_address_go_last_of_all() {
    let hosts = vec![without_address(10, "a", false), host(20, "b"), without_address(30, "c", true)];
    assert_eq!(names(&cut_own("example", hosts, |_| false).unwrap()), ["b"]);
    let hosts = vec![without_address(10, "a", true), without_address(20, "b", true)];
    let error = cut_own("example", hosts, |_| false).unwrap_err();
    assert!(matches!(&error, DnsError::NoAddress { domain, first }
        if domain == "example" && matches!(&**first, DnsError::NoData { name, .. } if name == "a")));
    let hosts = vec![without_address(10, "a", true), without_address(20, "b", false)];
    assert!(!cut_own("example", hosts, |_| false).unwrap_err().permanent());
}
