//! What a large number of deferred messages costs: memory, time to start, and the rate at which mail is accepted.
//!
//! Two gateways with the same configuration, whose only destination refuses connections. One is filled; then both get the same load in turn, and no run
//! begins before everything of the last one is deferred. What the rounds send stays in both. Now and then the full one is killed and started again;
//! its files are in the page cache then. Whatever was acknowledged has to be in the queue, after each run and after each start, or the run fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use inrush_tests::server::Server;

use super::backlog::{self, Load};
use super::dead_host::{DeadHost, Kind};
use super::latency::wait_for_spares;
use super::report::{self, Summary};
use crate::test;

/// Time of each run that is not measured.
const UNMEASURED: Duration = Duration::from_millis(500);
/// The full gateway is killed when it is filled, and after each round whose number is a multiple of this.
const KILL_EVERY: u32 = 2;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Messages that are deferred before the first one
    #[arg(long, default_value_t = 1_000_000)]
    waiting: u32,
    /// Messages of a run
    #[arg(long, default_value_t = 50_000)]
    messages: u32,
    /// Sessions of the load
    #[arg(long, default_value_t = 50)]
    sessions: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 1024)]
    length: u32,
    /// `[queue] retry_first` of the gateways; with a short one what waits is due meanwhile
    #[arg(long, default_value = "5m")]
    retry_first: String,
    /// Where logs and queues lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Also write the tables to this file
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// A gateway whose mail all waits.
struct Gateway {
    name: &'static str,
    server: Server,
    acknowledged: u64,
    /// Messages a second of each run.
    rates: Vec<f64>,
}

/// Resident memory in MiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    now: f64,
    /// The most that it has been since the start of the process.
    peak: f64,
}

/// A kill and the start after it.
#[derive(Clone, Copy, Debug)]
struct Restart {
    before: Memory,
    seconds: f64,
    after: Memory,
}

/// What became of the full gateway.
struct Course {
    empty: Memory,
    filled: Memory,
    restarts: Vec<Restart>,
}

/// Measures and prints.
///
/// # Errors
/// A gateway or the load cannot be started, mail is refused, or a message is not in the queue.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, built), (_, program)] = test::release_binaries()?;
    let binary = arguments.binary.as_deref().unwrap_or(&built);
    let load = Load { program, length: arguments.length, sessions: arguments.sessions };
    let folder = tempfile::Builder::new().prefix("inrush-deferred-").tempdir_in(&arguments.folder)?;
    let dead_host = DeadHost::new(Kind::Refused)?;
    let tables = format!(
        "[[domain]]\nname = \"*\"\nroute = \"out\"\n[[route]]\nname = \"out\"\nhosts = [\"{}\"]\n\
         [queue]\nretry_first = \"{}\"\n",
        dead_host.address()?,
        arguments.retry_first
    );
    let start = |name, data: &str| Gateway::start(name, binary, &folder.path().join(data), &tables);
    let mut gateways = [start("full", "full"), start("other", "other")];
    let empty = gateways[0].memory()?;
    gateways[0].fill(&load, arguments.waiting)?;
    let mut course =
        Course { empty, filled: gateways[0].memory()?, restarts: vec![gateways[0].start_again()?] };
    for round in 0..arguments.rounds {
        // The other one first in each round.
        for turn in 0..gateways.len() {
            gateways[(turn + round as usize) % 2].take(&load, arguments.messages)?;
        }
        if (round + 1).is_multiple_of(KILL_EVERY) {
            course.restarts.push(gateways[0].start_again()?);
        }
    }
    let text = markdown(arguments, &gateways, &course);
    println!("\n{text}");
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, &text)?;
    }
    Ok(())
}

impl Gateway {
    fn start(name: &'static str, binary: &Path, data: &Path, tables: &str) -> Self {
        Self { name, server: backlog::gateway(binary, data, tables), acknowledged: 0, rates: Vec::new() }
    }

    /// Sends what is to wait.
    fn fill(&mut self, load: &Load, messages: u32) -> anyhow::Result<()> {
        let begin = Instant::now();
        let sent = load.send(self.server.mx(), messages, Duration::ZERO)?;
        self.acknowledged += sent.acknowledged;
        backlog::wait_until_owed(&self.server, self.acknowledged, true)?;
        println!(
            "   {}: {messages} messages at {:.0} a second; all deferred after {:.1} s",
            self.name,
            sent.rate,
            begin.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// One run.
    fn take(&mut self, load: &Load, messages: u32) -> anyhow::Result<()> {
        wait_for_spares(&self.server);
        let sent = load.send(self.server.mx(), messages, UNMEASURED)?;
        self.acknowledged += sent.acknowledged;
        self.rates.push(sent.rate);
        backlog::wait_until_owed(&self.server, self.acknowledged, true)?;
        println!(
            "   round {}: {}: {:.0} messages a second, {} deferred",
            self.rates.len(),
            self.name,
            sent.rate,
            self.acknowledged
        );
        Ok(())
    }

    /// Kills it and starts it on the same data.
    fn start_again(&mut self) -> anyhow::Result<Restart> {
        let before = self.memory()?;
        self.server.kill9();
        let begin = Instant::now();
        self.server.restart();
        self.server.wait_until_accepting();
        let seconds = begin.elapsed().as_secs_f64();
        backlog::wait_until_owed(&self.server, self.acknowledged, true)?;
        let after = self.memory()?;
        println!(
            "   {}: killed, ready after {seconds:.2} s, {} deferred, {:.0} MiB, at most {:.0} MiB since",
            self.name, self.acknowledged, after.now, after.peak
        );
        Ok(Restart { before, seconds, after })
    }

    fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid()))?;
        let mebibytes = |name: &str| -> anyhow::Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
            let kibibytes: f64 = line.trim_start_matches(':').trim_end_matches("kB").trim().parse()?;
            Ok(kibibytes / 1024.0)
        };
        Ok(Memory { now: mebibytes("VmRSS")?, peak: mebibytes("VmHWM")? })
    }
}

fn markdown(arguments: &Arguments, gateways: &[Gateway; 2], course: &Course) -> String {
    let [full, other] = gateways;
    let facts = [
        ("messages that wait", arguments.waiting.to_string()),
        ("messages of a run", arguments.messages.to_string()),
        ("octets of a message", arguments.length.to_string()),
        ("sessions", arguments.sessions.to_string()),
        ("retry_first", arguments.retry_first.clone()),
        ("rounds", arguments.rounds.to_string()),
        ("deferred at the end, full", full.acknowledged.to_string()),
        ("deferred at the end, other", other.acknowledged.to_string()),
    ];
    let ratios = full.rates.iter().zip(&other.rates).map(|(full, other)| full / other);
    let restarts = |value: fn(&Restart) -> f64| Summary::of(course.restarts.iter().map(value));
    let once = |value: f64| Summary::of(std::iter::once(value));
    let rows = [
        ("full: messages/s", Summary::of(full.rates.iter().copied())),
        ("other: messages/s", Summary::of(other.rates.iter().copied())),
        ("messages/s, full : other", Summary::of(ratios)),
        ("memory when empty, MiB", once(course.empty.now)),
        ("memory when filled, MiB", once(course.filled.now)),
        ("peak until then, MiB", once(course.filled.peak)),
        ("memory before a kill, MiB", restarts(|one| one.before.now)),
        ("peak until then, MiB", restarts(|one| one.before.peak)),
        ("from the start after a kill to /readyz, s", restarts(|one| one.seconds)),
        ("memory after it, MiB", restarts(|one| one.after.now)),
        ("peak since that start, MiB", restarts(|one| one.after.peak)),
    ];
    format!("{}\n{}", report::facts(&facts), report::figures(&rows))
}
