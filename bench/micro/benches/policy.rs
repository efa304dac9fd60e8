//! What an accept asks: is the address in a list of networks, has its site connections left, may its logins be tried.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inrush_policy::{ConnectionLimits, Connections, FailureLimits, Failures, Networks, Rate, Ticket};

/// Networks in the list, and addresses in turn, so that the caches hold little of what is asked next.
const NETWORKS: u32 = 300_000;
const SITES: usize = 100_000;

fn addresses() -> Vec<IpAddr> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let v4 = |bits: u64| IpAddr::V4(Ipv4Addr::from((bits >> 32) as u32));
    let v6 = |bits: u64| IpAddr::V6(Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(bits >> 32) << 64 | 1));
    (0..SITES).map(|n| if n % 4 == 0 { v6(next()) } else { v4(next()) }).collect()
}

fn networks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("networks");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let addresses = addresses();
    for count in [10, NETWORKS] {
        let mut networks = Networks::new();
        // Spread over all of IPv4, a third of them longer than /24, and one IPv6 network for every three.
        for n in 0..count {
            let bits = n.wrapping_mul(0x9e37_79b1);
            let length = [24, 22, 28][n as usize % 3];
            let v4 = Ipv4Addr::from(bits & u32::MAX << (32 - length));
            networks.add(&format!("{v4}/{length}")).expect("a network");
            let v6 = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(bits & 0xffff_ff00) << 64);
            networks.add(&format!("{v6}/56")).expect("a network");
        }
        let held = addresses.iter().filter(|address| networks.contains(**address)).count();
        assert!(count == 10 || (1_000..SITES / 2).contains(&held), "{held}");
        let mut turn = addresses.iter().cycle();
        group.bench_function(format!("{} networks", networks.len()), |bencher| {
            bencher.iter(|| networks.contains(black_box(*turn.next().expect("endless"))));
        });
    }
}

fn rates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rates");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let addresses = addresses();
    let minute = Duration::from_mins(1);
    let all = ConnectionLimits {
        open_per_address_max: 50,
        open_per_network_max: 500,
        rate_per_address: Rate::new(600, minute),
        rate_per_network: Rate::new(6_000, minute),
        ..ConnectionLimits::default()
    };
    let one = ConnectionLimits { open_per_address_max: 50, ..ConnectionLimits::default() };
    for (name, limits) in
        [("no limit", ConnectionLimits::default()), ("open per address", one), ("all limits", all)]
    {
        let connections = Connections::new(SITES);
        // Every site has one connection open all the time. A few find their set full.
        let tickets = addresses
            .iter()
            .map(|&address| connections.enter(address, &limits, 0).expect("below the limits"));
        assert!(tickets.filter(Ticket::is_untracked).count() < SITES / 1_000);
        let (mut turn, mut now) = (addresses.iter().cycle(), 0);
        group.bench_function(format!("enter and leave, {name}"), |bencher| {
            bencher.iter(|| {
                now += 1_000;
                let address = black_box(*turn.next().expect("endless"));
                let ticket = connections.enter(address, &limits, now).expect("below the limits");
                connections.leave(ticket);
            });
        });
    }
    let (failures, limits) = (Failures::new(SITES), FailureLimits::default());
    let mut turn = addresses.iter().cycle();
    group.bench_function("login that succeeds", |bencher| {
        bencher.iter(|| {
            let address = black_box(*turn.next().expect("endless"));
            let attempt = failures.begin(address, b"user@example.com", &limits, 0).expect("none has failed");
            failures.succeeded(attempt);
        });
    });
}

criterion_group!(benches, networks, rates);
criterion_main!(benches);
