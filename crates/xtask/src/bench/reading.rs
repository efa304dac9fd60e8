//! Reading the log against reading the disk: recovery of an unsealed segment, `log verify`, `log export`.
//!
//! One segment is filled by the gateway and left unsealed by `kill -9`. Then in turn, round after round: the segment's octets read directly, 1 MiB at a
//! time by two threads; recovery, which looks through the empty rest of the segment as well (its seal is wiped out before); `inrush log verify`; exports in each streaming format to nowhere.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use inrush_log::{DataDirectory, LogSettings};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use rustix::fs::OFlags;

use super::generator;
use super::report::Summary;
use crate::test;

const BLOCK: usize = 4096;
const READ: usize = 1 << 20;
const READERS: usize = 2;
const SEGMENT_BYTES: u64 = 1 << 30;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    length: u32,
    /// Messages in the segment
    #[arg(long, default_value_t = 180_000)]
    messages: u32,
    /// Where the log lies
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or the log does not hold.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-reading-").tempdir_in(&arguments.folder)?;
    let data = folder.path().join("data");
    fill(arguments, &gateway, &load, &data)?;
    let segment = data.join("arrival-00/0000000000000001.seg");
    let ways = ["disk", "recovery", "verify", "export mbox", "export ndjson"];
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    let octets = recover(&data, &segment)?.records;
    println!("   {octets} octets of records");
    for round in 0..arguments.rounds as usize {
        let mut speeds = vec![0.0; ways.len()];
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            let (octets, seconds) = match way {
                0 => (octets, read(&segment, octets)?),
                1 => {
                    let recovery = recover(&data, &segment)?;
                    (recovery.scanned, recovery.seconds)
                }
                2 => (octets, tool(&gateway, &data, &["verify"])?),
                3 => (octets, tool(&gateway, &data, &["export", "--format", "mbox"])?),
                _ => (octets, tool(&gateway, &data, &["export", "--format", "ndjson"])?),
            };
            speeds[way] = octets as f64 / 1e6 / seconds;
        }
        let told =
            ways.iter().zip(&speeds).map(|(way, speed)| format!("{way} {speed:.0}")).collect::<Vec<_>>();
        println!("   round {}: {} MB/s", round + 1, told.join(", "));
        rounds.push(speeds);
    }
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    for (index, way) in ways.iter().enumerate() {
        let Summary { median, least, greatest } = Summary::of(rounds.iter().map(|speeds| speeds[index]));
        println!("| {way}, MB/s | {median:.0} | {least:.0} | {greatest:.0} |");
    }
    for (index, way) in ways.iter().enumerate().skip(1) {
        let ratios = rounds.iter().map(|speeds| speeds[index] / speeds[0]);
        let Summary { median, least, greatest } = Summary::of(ratios);
        println!("| {way} against the disk | {median:.2} | {least:.2} | {greatest:.2} |");
    }
    Ok(())
}

fn fill(arguments: &Arguments, gateway: &Path, load: &Path, data: &Path) -> anyhow::Result<()> {
    let settings =
        Settings { binary: Some(gateway.into()), top: vec!["cores = 1".into()], ..Settings::default() };
    let mut server = Server::with(settings.data(data).log(&["segment_bytes = \"1GiB\"", "spares = 1"]));
    let mut command = generator::closed_loop(load, server.mx(), arguments.length);
    command.args(["--messages", &arguments.messages.to_string()]).stdout(Stdio::null());
    ensure!(command.status().context("inrush-load")?.success(), "inrush-load failed");
    server.kill9();
    Ok(())
}

/// A recovery.
struct Recovery {
    seconds: f64,
    /// Octets that were read to find the end.
    scanned: u64,
    /// Octets up to the last record.
    records: u64,
}

/// Wipes out the seal of the segment and recovers it.
fn recover(data: &Path, segment: &Path) -> anyhow::Result<Recovery> {
    let file = OpenOptions::new().write(true).open(segment)?;
    file.write_all_at(&[0; BLOCK], SEGMENT_BYTES - BLOCK as u64)?;
    file.sync_all()?;
    let settings = LogSettings { segment_bytes: SEGMENT_BYTES, ..LogSettings::default() };
    let mut directory = DataDirectory::open(data, &settings, 0)?;
    let start = Instant::now();
    let adopted = directory.adopt_logs()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(directory);
    let (_, report) = adopted.first().context("no log")?;
    ensure!(report.messages > 0 && report.damage.is_empty(), "{report:?}");
    Ok(Recovery { seconds, scanned: report.octets_scanned, records: report.end.get() - SEGMENT_BYTES })
}

/// Seconds that the disk takes to read so many octets past the page cache.
fn read(segment: &Path, octets: u64) -> anyhow::Result<f64> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(segment)?;
    let start = Instant::now();
    let file = &file;
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|reader| scope.spawn(move || read_share(file, reader, octets))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader"))?)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn read_share(file: &File, reader: usize, octets: u64) -> anyhow::Result<()> {
    // Direct reads want memory aligned to the block.
    let mut memory = vec![0u8; READ + BLOCK];
    let begin = memory.as_ptr().align_offset(BLOCK);
    let mut offset = (reader * READ) as u64;
    while offset < octets {
        file.read_at(&mut memory[begin..begin + READ], offset)?;
        offset += (READERS * READ) as u64;
    }
    Ok(())
}

/// Seconds of a command of `inrush log` whose output nobody reads.
fn tool(gateway: &Path, data: &Path, arguments: &[&str]) -> anyhow::Result<f64> {
    let mut command = Command::new(gateway);
    command.arg("log").args(arguments).arg("--data-dir").arg(data).stdout(Stdio::null());
    let start = Instant::now();
    ensure!(command.status()?.success(), "inrush log {arguments:?}");
    Ok(start.elapsed().as_secs_f64())
}
