//! Prints what lists of recipients cost, as tables to be cited: time of a look-up, memory and time to build, for few and for millions of
//! addresses, and for regular expressions. Ends with a panic when an answer is wrong.
//!
//! `recipients-table [ADDRESSES]`, 5,000,000 by default for the largest list.

#![allow(clippy::print_stdout, reason = "its purpose")]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use inrush_bench_micro::measure::{Work, rates};
use inrush_policy::{AddressList, ListSettings, Recipients, SharedRecipients, Verdict};
use inrush_proto::Path;

const DOMAIN: &str = "mail.example";
const RUNS: usize = 15;
const RUN_TIME: Duration = Duration::from_millis(20);
/// Look-ups in one call: enough that they do not stay in the caches of a large list.
const ASKED: usize = 200_000;

fn main() {
    let most = std::env::args().nth(1).map_or(5_000_000, |most| most.parse().expect("ADDRESSES is a number"));
    println!(
        "| addresses | octets each (mean name {} octets) | resident MiB | built in s | listed ns | unknown ns | with a subaddress ns | replaced in ms |",
        mean_name(most)
    );
    println!("|---|---|---|---|---|---|---|---|");
    for addresses in [1_000, 100_000, most] {
        addresses_row(addresses);
    }
    println!("\n| regular expressions | built in s | matched ns | unknown ns |\n|---|---|---|---|");
    for patterns in [1, 100, 1_000] {
        patterns_row(patterns);
    }
}

fn addresses_row(addresses: usize) {
    let file: String = (0..addresses).map(|n| format!("{}@{DOMAIN}\n", name(n))).collect();
    let before = resident_octets();
    let start = Instant::now();
    let list = AddressList::parse(file.as_bytes(), DOMAIN, ListSettings::default()).expect("good lines");
    let built = start.elapsed().as_secs_f64();
    let resident = (resident_octets() - before) / (1 << 20) as f64;
    assert_eq!(list.len(), addresses);
    let octets = list.octets() as f64 / addresses as f64;
    let shared = shared(list);

    let picks = || (0..ASKED).map(|at| name(at.wrapping_mul(0x9e37_79b9) % addresses));
    let ask = [
        (picks().map(|name| format!("{name}@{DOMAIN}")).collect::<Vec<_>>(), Verdict::Accept),
        (picks().map(|name| format!("{name}.x@{DOMAIN}")).collect(), Verdict::UnknownUser),
        (picks().map(|name| format!("{name}+news@{DOMAIN}")).collect(), Verdict::Accept),
    ];
    let cells = times(&shared, &ask).join(" | ");
    let start = Instant::now();
    shared.replace(Recipients::new());
    let replaced = start.elapsed().as_secs_f64() * 1e3;
    println!("| {addresses} | {octets:.1} | {resident:.0} | {built:.3} | {cells} | {replaced:.1} |");
}

fn patterns_row(patterns: usize) {
    let file: String = (0..patterns).map(|n| format!("/customer{n}-[a-z0-9.]+@mail\\.example/\n")).collect();
    let start = Instant::now();
    let list = AddressList::parse(file.as_bytes(), DOMAIN, ListSettings::default()).expect("good lines");
    let built = start.elapsed().as_secs_f64();
    let shared = shared(list);
    let picks = || (0..1_000).map(|at| at * 7919 % patterns);
    let ask = [
        (picks().map(|n| format!("customer{n}-joe.doe@{DOMAIN}")).collect::<Vec<_>>(), Verdict::Accept),
        (picks().map(|n| format!("customer{n}_joe.doe@{DOMAIN}")).collect(), Verdict::UnknownUser),
    ];
    println!("| {patterns} | {built:.3} | {} |", times(&shared, &ask).join(" | "));
}

/// Nanoseconds of a look-up for each set of addresses, which all have the same verdict.
fn times(shared: &SharedRecipients, sets: &[(Vec<String>, Verdict)]) -> Vec<String> {
    let mut works: Vec<Work<'_>> = Vec::new();
    for (addresses, verdict) in sets {
        let paths: Vec<Path<'_>> =
            addresses.iter().map(|address| Path::mailbox(address).expect("an address")).collect();
        works.push(Box::new(move || {
            paths.iter().all(|path| shared.load().lookup(black_box(*path)) == *verdict)
        }));
    }
    let mut cells = Vec::new();
    for (work, (addresses, _)) in works.iter_mut().zip(sets) {
        let rates = rates(std::slice::from_mut(work), addresses.len(), RUNS, RUN_TIME);
        cells.push(format!("{:.0} ±{:.0} %", 1.0 / rates[0].median(), rates[0].spread() * 100.0));
    }
    cells
}

fn shared(list: AddressList) -> SharedRecipients {
    let mut recipients = Recipients::new();
    recipients.add(DOMAIN, Some(list)).expect("a good domain");
    SharedRecipients::new(recipients)
}

/// Names as people have them: first name, dot, family name, number.
fn name(n: usize) -> String {
    const FIRST: [&str; 8] = ["anna", "ben", "carla", "dimitri", "eva", "francesca", "george", "hui"];
    const LAST: [&str; 8] = ["smith", "wang", "garcia", "mueller", "ivanova", "okafor", "silva", "tanaka"];
    format!("{}.{}{}", FIRST[n % 8], LAST[n / 8 % 8], n / 64)
}

fn mean_name(names: usize) -> usize {
    (0..names).map(|n| name(n).len()).sum::<usize>() / names
}

/// Octets of memory that the process has.
fn resident_octets() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc is there");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096.0
}
