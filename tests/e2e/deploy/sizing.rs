//! The arithmetic of docs/sizing.md: its figures are those of the results that it names, and what it calculates follows from them.

use super::text;

/// Rows of both tables, and the scenario of `bench/results` that each is of.
const ROWS: &[(&str, &str)] = &[
    ("one message per connection, 4 KiB", "One message per connection, 4 KiB"),
    ("the same under STARTTLS", "STARTTLS, one message per connection, 4 KiB"),
    ("connections kept, 4 KiB", "Connections reused, 4 KiB"),
    ("PIPELINING, 4 KiB", "PIPELINING, 4 KiB"),
    ("CHUNKING, 4 KiB, four messages in flight", "CHUNKING, 4 transactions under way, 4 KiB"),
    ("64 KiB, kept", "Body of 64 KiB"),
    ("1 MiB, kept", "Body of 1 MiB"),
    ("a mix as on a front door", "A mix as on a front door"),
];

/// The median of a figure of the gateway in this scenario.
#[track_caller]
fn median(results: &str, scenario: &str, figure: &str) -> f64 {
    let (_, rest) = results.split_once(&format!("\n### {scenario}\n")).unwrap();
    let section = rest.split("\n##").next().unwrap();
    let row = section.lines().find(|line| line.starts_with(&format!("| inrush | {figure} |"))).unwrap();
    row.split(" | ").nth(3).unwrap().parse().unwrap()
}

/// The cells of a row of a table behind its name, without separators of thousands.
#[track_caller]
fn cells(table: &str, name: &str) -> Vec<String> {
    let row =
        table.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap_or_else(|| panic!("{name}"));
    let cells = row.trim_matches('|').split(" | ").skip(1);
    cells.map(|cell| cell.trim().replace(',', "")).collect()
}

/// Whether `written` is `value`, with as many digits as it has.
#[track_caller]
fn assert_rounded(written: &str, value: f64, what: &str) {
    let digits = written.split_once('.').map_or(0, |(_, digits)| digits.len());
    let step = 10_f64.powi(-i32::try_from(digits).unwrap());
    let near: f64 = written.parse().unwrap();
    assert!((near - value).abs() <= step * 0.51, "{what}: {written} is not {value}");
}

#[test]
fn the_figures_are_those_of_the_results() {
    let page = text("docs/sizing.md");
    let results = text("bench/results/2026-11-23-release.md");
    assert!(page.contains("(../bench/results/2026-11-23-release.md)"));
    let table = page.split("## What a message takes").nth(1).unwrap().split("\n## ").next().unwrap();
    for (name, scenario) in ROWS {
        let figures = [
            "server CPU per message",
            "octets written to the log per message",
            "octets received and sent per message",
            "messages per write of the log",
        ];
        let cells = cells(table, name);
        assert_eq!(cells.len(), figures.len(), "{name}");
        for (cell, figure) in cells.iter().zip(figures) {
            assert_rounded(cell, median(&results, scenario, figure), &format!("{name}: {figure}"));
        }
    }
    let cpu = |scenario| median(&results, scenario, "server CPU per message");
    let handshake = cpu(ROWS[1].1) - cpu(ROWS[0].1);
    assert!(page.contains("A TLS handshake costs as much as twelve messages by PIPELINING"));
    assert_rounded("12", handshake / cpu(ROWS[3].1), "messages of a handshake");
    let mix = median(&results, ROWS[7].1, "octets written to the log per message");
    assert!(page.contains("1,000,000 messages a day of the mix above are 69 GB a day"));
    assert_rounded("69", mix * 1e6 / 1e9, "gigabytes a day");
}

/// `cargo xtask bench sizing` calculates it so, for 64 cores of which each further one costs 0.5 %, four disks and 100 Gbit/s.
#[test]
fn what_ends_first_follows_from_them() {
    let page = text("docs/sizing.md");
    let results = text("bench/results/2026-11-23-release.md");
    let table = page.split("## What ends first").nth(1).unwrap();
    for (name, scenario) in ROWS.iter().filter(|(name, _)| !name.starts_with("CHUNKING")) {
        let median = |figure| median(&results, scenario, figure);
        let rooms = [
            ("processors", 64e6 / (median("server CPU per message") * (1.0 + 0.005 * 63.0))),
            ("disks", 4.0 * 2e9 / median("octets written to the log per message")),
            ("network", 12.5e9 / (median("octets received and sent per message") * 1.06)),
        ];
        let cells = cells(table, name);
        for (cell, (what, room)) in cells.iter().zip(rooms) {
            // Calculated from medians with more digits than the page of results shows.
            let millions = room / 1e6;
            let near: f64 = cell.parse().unwrap();
            assert!(
                (near - millions).abs() <= millions * 0.01 + 0.005,
                "{name}, {what}: {cell} is not {millions}"
            );
        }
        let least = rooms.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(cells[3], least.0, "{name}");
    }
}
