//! What the making and the retiring of segments costs the accept path.
//!
//! Three gateways in turn, round after round, each fresh, under the same load in a closed loop:
//! `ready` has all segments it will use written before it starts, and retires nothing; `fill` writes each spare while mail comes in, as a log does that
//! keeps everything; `recycle` has a consumer that is always done, so that segments are retired and written again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use inrush_log::{ConsumerKind, Cursor, DataDirectory, DiskStorage, LogSettings, Lsn, segment_number};
use inrush_tests::http::{self, Samples};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

use super::generator;
use super::report::Summary;
use crate::test;

/// Octets of a segment: the default.
const SEGMENT_BYTES: u64 = 128 << 20;
/// Segments of each log that `ready` has: more than it fills.
const READY_SEGMENTS: u16 = 10;
/// How often the consumer says how far it is.
const CONSUME_INTERVAL: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    length: u32,
    /// Where the log lies
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ready,
    Fill,
    Recycle,
}

struct Run {
    rate: f64,
    commit_p99_us: f64,
    segments: f64,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let gateway = arguments.binary.clone().unwrap_or(gateway);
    let ways = [(Way::Ready, "ready"), (Way::Fill, "fill"), (Way::Recycle, "recycle")];
    let mut rounds: Vec<Vec<Run>> = Vec::new();
    for round in 0..arguments.rounds as usize {
        let mut runs: Vec<(usize, Run)> = Vec::new();
        // Another one first in each round.
        for turn in 0..ways.len() {
            let index = (round + turn) % ways.len();
            let (way, name) = ways[index];
            let run = one(arguments, &gateway, &load, way)?;
            println!(
                "   round {}: {name} {:.0} messages/s, commit p99 {:.0} µs, {} segments",
                round + 1,
                run.rate,
                run.commit_p99_us,
                run.segments
            );
            runs.push((index, run));
        }
        runs.sort_unstable_by_key(|(index, _)| *index);
        rounds.push(runs.into_iter().map(|(_, run)| run).collect());
    }
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    let row = |name: &str, value: &dyn Fn(&[Run]) -> f64| {
        let Summary { median, least, greatest } = Summary::of(rounds.iter().map(|runs| value(runs)));
        println!("| {name} | {median:.3} | {least:.3} | {greatest:.3} |");
    };
    for (index, (_, name)) in ways.iter().enumerate() {
        row(&format!("{name}: messages/s"), &|runs| runs[index].rate);
        row(&format!("{name}: commit p99 µs"), &|runs| runs[index].commit_p99_us);
    }
    for (index, (_, name)) in ways.iter().enumerate().skip(1) {
        row(&format!("messages/s of {name} against ready"), &|runs| runs[index].rate / runs[0].rate);
        row(&format!("commit p99 of {name} against ready"), &|runs| {
            runs[index].commit_p99_us / runs[0].commit_p99_us
        });
    }
    Ok(())
}

fn one(arguments: &Arguments, gateway: &Path, load: &Path, way: Way) -> anyhow::Result<Run> {
    let folder = tempfile::Builder::new().prefix("inrush-turnover-").tempdir_in(&arguments.folder)?;
    let data = folder.path().join("data");
    let spares: u16 = if way == Way::Ready { READY_SEGMENTS } else { 2 };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if way == Way::Ready {
        write_ahead(&data, spares, cores)?;
    }
    let settings = Settings { binary: Some(gateway.into()), ..Settings::default() };
    // What is taken is not filled again while it is measured.
    let rate = if way == Way::Ready { "1MiB/s" } else { "512MiB/s" };
    let log = [format!("spares = {spares}"), format!("spare_fill_bytes_per_second = \"{rate}\"")];
    let server = Server::with(settings.data(&data).log(&log.each_ref().map(String::as_str)));
    // The last ones of many are made as slowly as if there were no hurry, and there is none.
    let waited_for = f64::from(spares) * cores as f64 * if way == Way::Ready { 0.9 } else { 1.0 };
    process::eventually("spares are ready", || sample(&server, "inrush_log_spares_ready") >= waited_for);
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        if way == Way::Recycle {
            scope.spawn(|| consume(&data, cores, &over));
        }
        let result = generate(load, &server, arguments);
        over.store(true, Ordering::Relaxed);
        result
    })?;
    let status: Value = serde_json::from_str(&http::get(server.admin(), "/api/v1/status").body)?;
    let commit = status["log"]["commit"]["p99_seconds"].as_f64().context("no commit time")?;
    let segments = sample(&server, "inrush_log_segments_opened_total");
    if way == Way::Ready {
        ensure!(sample(&server, "inrush_log_spares_ready") > 1.0, "too few segments were ready");
    }
    if way == Way::Recycle {
        ensure!(sample(&server, "inrush_log_spares_recycled_total") > 0.0, "nothing was recycled");
    }
    let rate = result["messages_per_second"].as_f64().context("no rate")?;
    Ok(Run { rate, commit_p99_us: commit * 1e6, segments })
}

/// Leaves so many spares in each log of a new data directory.
fn write_ahead(data: &Path, spares: u16, cores: usize) -> anyhow::Result<()> {
    let settings = LogSettings { segment_bytes: SEGMENT_BYTES, spares, ..LogSettings::default() };
    std::fs::create_dir_all(data)?;
    let mut directory = DataDirectory::on_without_helper(DiskStorage::new(data, true), &settings, 0)?;
    let logs =
        (0..cores).map(|log| directory.open_log(u8::try_from(log)?, || {}).map_err(anyhow::Error::from));
    let appenders = logs.collect::<anyhow::Result<Vec<_>>>()?;
    directory.prepare_segments();
    drop(appenders);
    Ok(())
}

fn sample(server: &Server, name: &str) -> f64 {
    Samples::scrape(server.admin()).sum(name, &[])
}

/// A consumer of each log that is done with every segment as soon as the next one has begun.
fn consume(data: &Path, cores: usize, over: &AtomicBool) {
    let logs: Vec<PathBuf> = (0..cores).map(|core| data.join(format!("arrival-{core:02x}"))).collect();
    let open = |log: &PathBuf| Cursor::open(log, "bench", ConsumerKind::Required);
    let Ok(mut cursors) = logs.iter().map(open).collect::<Result<Vec<_>, _>>() else { return };
    while !over.load(Ordering::Relaxed) {
        for (log, cursor) in logs.iter().zip(&mut cursors) {
            let names = std::fs::read_dir(log).into_iter().flatten().flatten();
            let mut numbers: Vec<u64> =
                names.filter_map(|entry| segment_number(&entry.file_name().to_string_lossy())).collect();
            numbers.sort_unstable();
            // The newest ones are ready, not sealed: what is behind their begin is not there yet.
            if let Some(position) = numbers.iter().rev().nth(2) {
                let _ = cursor.save(Lsn::new(position * SEGMENT_BYTES));
            }
        }
        std::thread::sleep(CONSUME_INTERVAL);
    }
}

fn generate(load: &Path, server: &Server, arguments: &Arguments) -> anyhow::Result<Value> {
    let mut command = generator::closed_loop(load, server.mx(), arguments.length);
    command.args(["--warmup", "1s", "--duration", &format!("{}s", arguments.seconds)]);
    let output = command.output().context("inrush-load")?;
    ensure!(output.status.success(), "inrush-load: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
