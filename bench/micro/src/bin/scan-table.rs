//! Prints how fast the scanner is, as a table to be cited: GB/s and how many times the octet-at-a-time twin, medians of
//! several runs. Ends with a panic when an answer is wrong.
//!
//! `scan-table [RUNS]`, 25 runs by default.

#![allow(clippy::print_stdout, reason = "its purpose")]

use std::hint::black_box;
use std::time::Duration;

use inrush_bench_micro::measure::{Work, rates};
use inrush_bench_micro::rivals::rivals;
use inrush_bench_micro::texts::{SIZES, Text};
use inrush_scan::{Scanner, implementation, implementations};

/// About how long one run takes.
const RUN_TIME: Duration = Duration::from_millis(3);

fn main() {
    let runs = std::env::args().nth(1).map_or(25, |runs| runs.parse().expect("RUNS is a number")).max(1);
    println!("CPU: {}. The scanner would choose {}.", cpu(), implementation());
    println!(
        "GB per second of CPU time, median of {runs} runs ± half of the spread; × = times the octet-at-a-time twin.\n"
    );
    whole_messages(runs);
    slices(runs);
}

fn whole_messages(runs: usize) {
    let mut table: Vec<(String, Vec<String>)> = Vec::new();
    let mut heads = Vec::new();
    for text in Text::ALL {
        for (size, octets) in SIZES {
            heads.push(format!("{} {size}", text.name()));
            let data = text.mail_data(octets);
            let mut rivals = rivals(&data);
            let names: Vec<String> =
                rivals.iter().map(|rival| format!("{} ({})", rival.name, rival.does)).collect();
            let mut works: Vec<Work<'_>> = Vec::new();
            for rival in &mut rivals {
                works.push(Box::new(|| (rival.run)(black_box(&data))));
            }
            let rates = rates(&mut works, octets, runs, RUN_TIME);
            let twin = names
                .iter()
                .position(|name| name.starts_with("scan scalar"))
                .map_or(1.0, |at| rates[at].median());
            for (row, (name, rates)) in names.into_iter().zip(rates).enumerate() {
                if table.len() <= row {
                    table.push((name, Vec::new()));
                }
                let median = rates.median();
                let spread = rates.spread() * 100.0;
                table[row].1.push(format!("{median:.1} ±{spread:.0} %, {:.0}×", median / twin));
            }
        }
    }
    println!("| | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(heads.len()));
    for (name, cells) in table {
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

/// A message of 64 KiB in slices as the network gives them.
fn slices(runs: usize) {
    const SLICES: [usize; 4] = [16, 100, 1_448, 4_096];
    let data = Text::Base64.mail_data(64 << 10);
    println!("| base64 64 KiB in slices of | {} |", SLICES.map(|octets| octets.to_string()).join(" | "));
    println!("|---|{}", "---|".repeat(SLICES.len()));
    for implementation in implementations() {
        let mut works: Vec<Work<'_>> = Vec::new();
        for octets in SLICES {
            let data = &data;
            works.push(Box::new(move || {
                let mut scanner = Scanner::new();
                let mut ends = 0;
                for slice in black_box(data).chunks(octets) {
                    ends += usize::from(implementation.scan_data(&mut scanner, slice).is_some());
                }
                ends == 1 && scanner.findings().octets == data.len() as u64 - 3
            }));
        }
        let rates = rates(&mut works, data.len(), runs, RUN_TIME);
        let cells: Vec<String> = rates
            .iter()
            .map(|rates| format!("{:.1} ±{:.0} %", rates.median(), rates.spread() * 100.0))
            .collect();
        println!("| {} | {} |", implementation.name(), cells.join(" | "));
    }
}

/// The CPU as the kernel names it.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}
