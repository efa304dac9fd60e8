//! Time to the `250` at half of the maximum rate, against the disk's own time for a synced write.
//!
//! The gateway's maximum rate is measured once (closed loop). Then in turn, round after round: one synced write of the disk
//! at each planned instant, and messages at half of the maximum rate. Both count from the planned start, so that a stop of
//! the machine hits both figures alike: one write after the other would hide it from the disk's. How late a mere sleep of
//! 1 ms ends is shown beside them. Messages go over kept connections with PIPELINING, the way of a busy sender, and no
//! round begins while segments are being filled.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

use super::disk::Disk;
use super::generator;
use super::result::{Figure, Files, Outcome};
use crate::test;

const BLOCK: usize = 4096;
/// Segments that each core keeps ready, the default.
const SPARES: usize = 2;
/// Octets of the file that the disk is measured with.
const FILE_OCTETS: u64 = 64 << 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Synced writes of the disk a second
    #[arg(long, default_value_t = 400)]
    writes: u32,
    /// Sessions of the load
    #[arg(long, default_value_t = 50)]
    sessions: u32,
    /// Cores of the gateway. The generator has the others: three busy threads on two processors wait for each other, which says nothing about the gateway
    #[arg(long, default_value_t = 1)]
    cores: u16,
    /// Messages a second, instead of half of the maximum
    #[arg(long)]
    rate: Option<f64>,
    /// Where log and file lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

const SCENARIO: &str = "Half of the maximum rate";
const SLEEP: &str = "sleep of 1 ms, how late";
const DISK: &str = "disk, synced write of 4 KiB";
const DISK_ALONE: &str = "disk, without what waited before the write";
const ANSWER: &str = "250";
/// The figures, and where each lies, in thousandths.
const QUANTILES: [(Figure, usize); 3] = [
    (Figure { name: "p50", unit: "µs" }, 500),
    (Figure { name: "p99", unit: "µs" }, 990),
    (Figure { name: "p99.9", unit: "µs" }, 999),
];
/// How far the worst of a thousand is from what the disk does to the worst of a hundred.
const AGAINST_P99: Figure = Figure { name: "p99.9 against p99 of the disk", unit: "ratio" };
const RATE: Figure = Figure { name: "messages per second", unit: "1/s" };

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let gateway = arguments.binary.clone().unwrap_or(gateway);
    let folder = tempfile::Builder::new().prefix("inrush-latency-").tempdir_in(&arguments.folder)?;
    let mut settings = Settings { binary: Some(gateway), ..Settings::default() };
    settings.top.push(format!("cores = {}", arguments.cores));
    let log = ["durability = \"strict\"", &format!("spares = {SPARES}")];
    let server = Server::with(settings.data(&folder.path().join("data")).log(&log));
    let length = Duration::from_secs(arguments.seconds);
    let disk = Disk::new(folder.path().join("disk"), FILE_OCTETS)?;
    let mut outcome = Outcome::begin("latency", &arguments.folder);
    outcome.set("cores", arguments.cores);
    outcome.set("sessions", arguments.sessions);
    outcome.set("synced writes of the disk per second", arguments.writes);

    wait_for_spares(&server);
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => {
            let rate_max = generate(&load, &server, arguments, None)?["messages_per_second"].as_f64();
            let rate_max = rate_max.context("no rate")?;
            println!("   maximum rate {rate_max:.0} messages/s");
            rate_max / 2.0
        }
    };
    let scenario = format!("{rate:.0} messages a second");
    let scenario = if arguments.rate.is_some() { scenario.as_str() } else { SCENARIO };
    for number in 1..=arguments.rounds {
        let mut add = |subject: &str, times: Vec<f64>| -> f64 {
            let times = sorted(times);
            let shown = QUANTILES.map(|(figure, thousandths)| {
                let value = at(&times, thousandths);
                outcome.add(scenario, subject, figure, None, value);
                value
            });
            println!(
                "   round {number}: {subject}: p50 {:.0}, p99 {:.0}, p99.9 {:.0} µs",
                shown[0], shown[1], shown[2]
            );
            shown[1]
        };
        add(SLEEP, oversleep(length));
        let times = disk.write_by_plan(BLOCK, arguments.writes, length)?;
        let disk_p99 = add(DISK, times.from_plan);
        add(DISK_ALONE, times.alone);
        wait_for_spares(&server);
        let open = generate(&load, &server, arguments, Some(rate))?;
        for (figure, key) in QUANTILES.map(|(figure, _)| figure).into_iter().zip(["p50", "p99", "p99.9"]) {
            let value = open["latency_us"]["total"][key].as_f64().with_context(|| format!("no {key}"))?;
            outcome.add(scenario, ANSWER, figure, None, value);
            if key == "p99.9" {
                outcome.add(scenario, "250 : disk", AGAINST_P99, None, value / disk_p99);
            }
            println!("   round {number}: {ANSWER}: {} {value:.0} µs", figure.name);
        }
        outcome.add(scenario, ANSWER, RATE, None, open["messages_per_second"].as_f64().context("no rate")?);
    }
    for (figure, _) in QUANTILES {
        outcome.relate(ANSWER, DISK, figure);
    }
    outcome.publish(&arguments.files)
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// What so many thousandths of the times, which are in order, lie below.
fn at(times: &[f64], thousandths: usize) -> f64 {
    let index = times.len() * thousandths / 1000;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Waits until no segment is being filled.
pub(super) fn wait_for_spares(server: &Server) {
    let ready = || {
        let samples = Samples::scrape(server.admin());
        samples.sum("inrush_log_spares_ready", &[]) >= samples.sum("inrush_cores", &[]) * SPARES as f64
    };
    process::eventually("all spares are ready", ready);
}

/// Runs the load generator and returns its JSON.
fn generate(load: &Path, server: &Server, arguments: &Arguments, rate: Option<f64>) -> anyhow::Result<Value> {
    let mut command = generator::kept_connections(load, server.mx(), 4096, arguments.sessions);
    command.args(["--warmup", "1s"]);
    command.args(["--duration", &format!("{}s", arguments.seconds)]);
    match rate {
        Some(rate) => command.args(["--rate", &format!("{rate:.0}")]),
        None => command.arg("--closed"),
    };
    let output = command.output().context("inrush-load")?;
    ensure!(output.status.success(), "inrush-load: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// How late sleeps of 1 ms end, one after the other.
fn oversleep(length: Duration) -> Vec<f64> {
    let begin = Instant::now();
    let mut late = Vec::new();
    while begin.elapsed() < length {
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        late.push(start.elapsed().as_secs_f64() * 1e6 - 1e3);
    }
    late
}
