//! Time to the `250` at half of the maximum rate, against the disk's own time for a synced write.
//!
//! The gateway's maximum rate is measured once (closed loop). Then in turn, round after round: one synced write of the disk
//! at each planned instant, and messages at half of the maximum rate. Both count from the planned start, so that a stop of
//! the machine hits both figures alike: one write after the other would hide it from the disk's. How late a mere sleep of
//! 1 ms ends is shown beside them. Messages go over kept connections with PIPELINING, the way of a busy sender, and no
//! round begins while segments are being filled.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use rustix::fs::OFlags;
use serde_json::Value;

use super::generator;
use super::report::Summary;
use crate::test;

const BLOCK: usize = 4096;
/// Segments that each core keeps ready, the default.
const SPARES: usize = 2;
/// Blocks of the file that the disk is measured with.
const BLOCKS: u64 = 16 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Synced writes of the disk a second
    #[arg(long, default_value_t = 1000)]
    writes: u32,
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
    sleep: Quantiles,
    disk: Quantiles,
    disk_alone: Quantiles,
    answer: Quantiles,
}

#[derive(Clone, Copy)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Quantiles {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_unstable_by(f64::total_cmp);
        Self { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let gateway = arguments.binary.clone().unwrap_or(gateway);
    let folder = tempfile::Builder::new().prefix("inrush-latency-").tempdir_in(&arguments.folder)?;
    let settings = Settings { binary: Some(gateway), ..Settings::default() };
    let log = ["durability = \"strict\"", &format!("spares = {SPARES}")];
    let server = Server::with(settings.data(&folder.path().join("data")).log(&log));
    let length = Duration::from_secs(arguments.seconds);
    let disk = Disk::new(folder.path())?;

    wait_for_spares(&server);
    let rate_max = generate(&load, &server, arguments, None)?["messages_per_second"].as_f64();
    let rate = rate_max.context("no rate")? / 2.0;
    println!("   maximum rate {:.0} messages/s", rate * 2.0);
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let sleep = Quantiles::of(oversleep(length));
        let (from_plan, alone) = disk.write(arguments.writes, length)?;
        wait_for_spares(&server);
        let open = generate(&load, &server, arguments, Some(rate))?;
        let time = |quantile: &str| open["latency_us"]["total"][quantile].as_f64().context("no latency");
        let answer = Quantiles { p50: time("p50")?, p99: time("p99")? };
        let round = Round { sleep, disk: from_plan, disk_alone: alone, answer };
        println!(
            "   round {number}: p99 of a sleep {:.0}, the disk {:.0}, the 250 {:.0} µs; p50 {:.0}, {:.0}, {:.0} µs",
            sleep.p99, from_plan.p99, answer.p99, sleep.p50, from_plan.p50, answer.p50
        );
        rounds.push(round);
    }
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    let row = |name: &str, value: &dyn Fn(&Round) -> f64| {
        let Summary { median, least, greatest } = Summary::of(rounds.iter().map(value));
        println!("| {name} | {median:.2} | {least:.2} | {greatest:.2} |");
    };
    row("sleep of 1 ms, how late p99 µs", &|round| round.sleep.p99);
    row("disk, synced write of 4 KiB, p50 µs", &|round| round.disk.p50);
    row("disk, p99 µs", &|round| round.disk.p99);
    row("disk, p99 µs without what waited before the write", &|round| round.disk_alone.p99);
    row("250 at half of the maximum rate, p50 µs", &|round| round.answer.p50);
    row("250, p99 µs", &|round| round.answer.p99);
    row("p50 of the 250 against p50 of the disk", &|round| round.answer.p50 / round.disk.p50);
    row("p99 of the 250 against p99 of the disk", &|round| round.answer.p99 / round.disk.p99);
    Ok(())
}

/// Waits until no segment is being filled.
pub(super) fn wait_for_spares(server: &Server) {
    let ready = || Samples::scrape(server.admin()).sum("inrush_log_spares_ready", &[]);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = (cores * SPARES) as f64;
    process::eventually("all spares are ready", || ready() >= wanted);
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

/// A file whose blocks were all written before, as in a segment that is ready for use.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("disk");
        fs::write(&path, vec![1; BLOCK * usize::try_from(BLOCKS)?])?;
        fs::File::open(&path)?.sync_all()?;
        Ok(Self(path))
    }

    /// Writes `rate` blocks a second: times from the planned start, and from the start of the write itself.
    fn write(&self, rate: u32, length: Duration) -> anyhow::Result<(Quantiles, Quantiles)> {
        let flags = i32::try_from((OFlags::DIRECT | OFlags::DSYNC).bits())?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&self.0)?;
        // Direct writes want memory aligned to the block.
        let memory = vec![2u8; BLOCK * 2];
        let start = memory.as_ptr().align_offset(BLOCK);
        let block = &memory[start..start + BLOCK];
        let (mut from_plan, mut alone) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        for number in 0.. {
            let planned = Duration::from_secs(number) / rate;
            if planned >= length {
                break;
            }
            std::thread::sleep(planned.saturating_sub(begin.elapsed()));
            let write = Instant::now();
            file.write_all_at(block, number % BLOCKS * BLOCK as u64)?;
            alone.push(write.elapsed().as_secs_f64() * 1e6);
            from_plan.push((begin.elapsed() - planned).as_secs_f64() * 1e6);
        }
        Ok((Quantiles::of(from_plan), Quantiles::of(alone)))
    }
}
