//! What ends first on another machine: calculated from what was measured on this one, and no measurement.
//!
//! Of each scenario of `bench system`: messages a second that the processors, the disks and the network of that machine have room for, from what a
//! message takes of each of them here.
//!
//! ```text
//! processors   cores ÷ (processor time a message × (1 + growth × (cores − 1)))
//! disks        disks × octets a second of each ÷ octets written to the log a message
//! network      octets a second ÷ (octets received and sent a message × 1.06)
//! ```
//! `growth` is what each further core adds to the cost of a message: `bench scale` has measured it for two. A core as quick as the one here is
//! taken for granted, and that the kernel's share grows no faster than the rest.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::result::{CPU, Figure, Files, LOG_MESSAGES, LOG_OCTETS, Outcome, WIRE_OCTETS};
use super::servers::INRUSH;

/// Octets on the wire for each octet of TCP: headers of TCP, IP and Ethernet, and acknowledgements, at 1,448 octets a packet.
const HEADERS: f64 = 1.06;

const ROOM: Figure = Figure { name: "messages per second", unit: "1/s" };
const WRITES: Figure = Figure { name: "writes per second of each disk", unit: "1/s" };

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The JSON of `bench system`
    system: PathBuf,
    /// Cores of the machine
    #[arg(long, default_value_t = 64)]
    cores: u16,
    /// Its disks
    #[arg(long, default_value_t = 4)]
    disks: u16,
    /// Megabytes that each of them takes a second, for hours
    #[arg(long, default_value_t = 2000)]
    disk_megabytes: u32,
    /// Gigabits a second of its network
    #[arg(long, default_value_t = 100)]
    network_gigabits: u32,
    /// Percent that each further core adds to the cost of a message
    #[arg(long, default_value_t = 0.0)]
    growth_percent: f64,
    #[command(flatten)]
    files: Files,
}

/// Calculates and prints.
///
/// # Errors
/// The file is not the result of `bench system`, or has not what is needed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let measured = Outcome::read(&arguments.system)?;
    ensure!(measured.bench == "system", "{} is of bench {}", arguments.system.display(), measured.bench);
    calculate(arguments, &measured)?.publish(&arguments.files)
}

fn calculate(arguments: &Arguments, measured: &Outcome) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::begin("sizing", &std::env::temp_dir());
    outcome.machine = measured.machine.clone();
    outcome.set("cores", arguments.cores);
    outcome.set("disks", arguments.disks);
    outcome.set("megabytes per second of each disk", arguments.disk_megabytes);
    outcome.set("gigabits per second of the network", arguments.network_gigabits);
    outcome.set("percent that each further core adds", arguments.growth_percent);
    outcome.notes.push(
        "Calculated for a machine that was not there, from what was measured on the one above.".to_owned(),
    );
    let (cores, disks) = (f64::from(arguments.cores), f64::from(arguments.disks));
    let disk = f64::from(arguments.disk_megabytes) * 1e6;
    let network = f64::from(arguments.network_gigabits) * 1e9 / 8.0;
    let growth = 1.0 + arguments.growth_percent / 100.0 * (cores - 1.0);
    for scenario in measured.scenarios() {
        let median = |figure: Figure| {
            let series = measured.find(scenario, INRUSH, figure.name, None);
            series.map(|series| series.median).with_context(|| format!("{scenario}: no {}", figure.name))
        };
        let rooms = [
            ("processors", cores * 1e6 / (median(CPU)? * growth)),
            ("disks", disks * disk / median(LOG_OCTETS)?),
            ("network", network / (median(WIRE_OCTETS)? * HEADERS)),
        ];
        let mut least = rooms[0];
        for room in rooms {
            outcome.add(scenario, room.0, ROOM, None, room.1);
            if room.1 < least.1 {
                least = room;
            }
        }
        outcome.add(scenario, &format!("first to end: {}", least.0), ROOM, None, least.1);
        outcome.add(scenario, "log", WRITES, None, least.1 / median(LOG_MESSAGES)? / disks);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_least_room_ends_first() {
        let mut measured = Outcome::begin("system", std::path::Path::new("/"));
        for (scenario, cpu, octets) in [("small", 10.0, 5_000.0), ("large", 20.0, 1e6)] {
            measured.add(scenario, INRUSH, CPU, None, cpu);
            measured.add(scenario, INRUSH, LOG_OCTETS, None, octets);
            measured.add(scenario, INRUSH, LOG_MESSAGES, None, 20.0);
            measured.add(scenario, INRUSH, WIRE_OCTETS, None, octets);
        }
        let words =
            ["sizing", "system.json", "--cores", "3", "--growth-percent", "25", "--disk-megabytes", "1000"];
        let line = Line::parse_from(words);
        let outcome = calculate(&line.arguments, &measured).expect("all is there");
        let median = |scenario: &str, subject: &str, figure: Figure| {
            outcome.find(scenario, subject, figure.name, None).map(|series| series.median)
        };
        assert_eq!(median("small", "processors", ROOM), Some(200_000.0));
        assert_eq!(median("small", "disks", ROOM), Some(800_000.0));
        assert_eq!(median("small", "first to end: processors", ROOM), Some(200_000.0));
        assert_eq!(median("large", "first to end: disks", ROOM), Some(4_000.0));
        assert_eq!(median("large", "log", WRITES), Some(50.0));
        measured.series.retain(|series| series.figure != WIRE_OCTETS.name);
        let error = calculate(&line.arguments, &measured).expect_err("something is missing");
        assert!(error.to_string().contains("octets received and sent"), "{error}");
    }
}
