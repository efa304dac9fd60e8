//! Time to the `250` at half of the maximum rate, against the disk's own time for a synced write.
//!
//! Each round: the disk alone (one block after the other, O_DIRECT and O_DSYNC, into blocks that were written before), the
//! gateway's maximum rate (closed loop), then half of it (open loop, time from the planned send: nothing is left out).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use rustix::fs::OFlags;
use serde_json::Value;

use crate::test;

const BLOCK: usize = 4096;
/// Blocks of the file that the disk is measured with.
const BLOCKS: u64 = 16 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Sessions of the load
    #[arg(long, default_value_t = 50)]
    sessions: u32,
    /// Where log and file lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// One round; times in microseconds.
struct Round {
    disk_p50: f64,
    disk_p99: f64,
    rate_max: f64,
    p50: f64,
    p99: f64,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let gateway = arguments.binary.clone().unwrap_or(gateway);
    let folder = tempfile::Builder::new().prefix("inrush-latency-").tempdir_in(&arguments.folder)?;
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let round = measure(&gateway, &load, folder.path(), arguments)?;
        println!(
            "   round {number}: disk p50 {:.0} p99 {:.0} µs; at {:.0} of {:.0} messages/s: 250 p50 {:.0} p99 {:.0} µs",
            round.disk_p50,
            round.disk_p99,
            round.rate_max / 2.0,
            round.rate_max,
            round.p50,
            round.p99
        );
        rounds.push(round);
    }
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    let row = |name: &str, value: &dyn Fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} |",
            values[values.len() / 2],
            values[0],
            values[values.len() - 1]
        );
    };
    row("disk, synced write of 4 KiB, p99 µs", &|round| round.disk_p99);
    row("maximum rate, messages/s", &|round| round.rate_max);
    row("250 at half of it, p50 µs", &|round| round.p50);
    row("250 at half of it, p99 µs", &|round| round.p99);
    row("p99 of the 250 against p99 of the disk", &|round| round.p99 / round.disk_p99);
    Ok(())
}

fn measure(gateway: &Path, load: &Path, folder: &Path, arguments: &Arguments) -> anyhow::Result<Round> {
    let (disk_p50, disk_p99) = disk(folder, Duration::from_secs(arguments.seconds))?;
    let settings = Settings { binary: Some(gateway.into()), ..Settings::default() };
    let server = Server::with(settings.data(&folder.join("data")).log(&["durability = \"strict\""]));
    let closed = generate(load, &server, arguments, None)?;
    let rate_max = closed["messages_per_second"].as_f64().context("no rate")?;
    let open = generate(load, &server, arguments, Some(rate_max / 2.0))?;
    let answer = |quantile: &str| open["latency_us"]["total"][quantile].as_f64().context("no latency");
    Ok(Round { disk_p50, disk_p99, rate_max, p50: answer("p50")?, p99: answer("p99")? })
}

/// Runs the load generator and returns its JSON.
fn generate(load: &Path, server: &Server, arguments: &Arguments, rate: Option<f64>) -> anyhow::Result<Value> {
    let mut command = Command::new(load);
    command.arg("run").arg(server.mx().to_string()).args(["--sessions", &arguments.sessions.to_string()]);
    command.args(["--length", "4096", "--to", "b@example.com", "--warmup", "1s", "--json", "-"]);
    command.args(["--duration", &format!("{}s", arguments.seconds)]);
    match rate {
        Some(rate) => command.args(["--rate", &format!("{rate:.0}")]),
        None => command.arg("--closed"),
    };
    let output = command.output().context("inrush-load")?;
    ensure!(output.status.success(), "inrush-load: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// p50 and p99 of one synced write after the other.
fn disk(folder: &Path, length: Duration) -> anyhow::Result<(f64, f64)> {
    let path = folder.join("disk");
    fs::write(&path, vec![1; BLOCK * usize::try_from(BLOCKS)?])?;
    fs::File::open(&path)?.sync_all()?;
    let flags = i32::try_from((OFlags::DIRECT | OFlags::DSYNC).bits())?;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(&path)?;
    // Direct writes want memory aligned to the block.
    let memory = vec![2u8; BLOCK * 2];
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = &memory[start..start + BLOCK];
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < length {
        let offset = times.len() as u64 % BLOCKS * BLOCK as u64;
        let write = Instant::now();
        file.write_all_at(block, offset)?;
        times.push(write.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path)?;
    times.sort_unstable_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
