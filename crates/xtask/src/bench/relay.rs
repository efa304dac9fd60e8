//! Messages handed on, from the first one that comes in to the last one that the next hop has: the gateway and Postfix side by side, to a
//! `smtp-sink` each on loopback, under the same load. Their processor time is all that they use for it, coming in and going out; that of the sink
//! is not in it. Beside it, the gateway without a route: what taking the mail alone costs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::smtp_sink::SmtpSink;

use super::cpu::Meter;
use super::generator;
use super::result::{CPU, Files, Outcome, RATE};
use super::{rounds, servers};
use crate::{packages, test};

/// How often the sink is asked how far it is.
const LOOK: Duration = Duration::from_millis(10);
/// A run takes no longer.
const PATIENCE: Duration = Duration::from_secs(300);
const OURS: &str = "inrush";
const MODE: &str = "handed on, kept connections";

/// Postfix as a relay: as many connections to the next hop as it likes.
const RELAY: &[&str] = &[
    "initial_destination_concurrency = 20",
    "smtp_connection_cache_on_demand = yes",
    "disable_dns_lookups = yes",
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Messages of a run of the gateway
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Messages of a run of Postfix
    #[arg(long, default_value_t = 2_000)]
    postfix_messages: u32,
    /// Sessions of the load
    #[arg(long, default_value_t = 20)]
    sessions: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    length: u32,
    /// Where log and queue lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    #[command(flatten)]
    files: Files,
}

/// Who is measured.
struct Subject {
    name: &'static str,
    messages: u32,
    address: SocketAddr,
    /// `None` where nothing is handed on.
    sink: Option<SmtpSink>,
    _running: Running,
    meter: Meter,
}

#[expect(dead_code, reason = "they stop when dropped")]
enum Running {
    Inrush(Box<Server>),
    Postfix(Postfix),
}

/// Measures and prints.
///
/// # Errors
/// A server or client cannot be started, or a run takes too long.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::ensure()?;
    let [(_, binary), (_, load)] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-relay-").tempdir_in(&arguments.folder)?;
    // Postfix's own user must get through to its queue.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let subjects = [
        inrush(OURS, &binary, folder.path(), arguments.messages, true),
        inrush("inrush, taking only", &binary, folder.path(), arguments.messages, false),
        postfix(folder.path(), arguments.postfix_messages),
    ];
    let mut outcome = Outcome::begin("relay", folder.path());
    outcome.set(
        "messages of a run",
        format!("{} ({} for Postfix)", arguments.messages, arguments.postfix_messages),
    );
    outcome.set("octets of a message", arguments.length);
    outcome.set("sessions", arguments.sessions);
    outcome.set("rounds", arguments.rounds);
    outcome.set("server CPU", subjects[0].meter.method());
    rounds::in_turn(arguments.rounds, subjects.len(), |round, subject| {
        let subject = &subjects[subject];
        let (cpu_us, rate) = measure(subject, &load, arguments)?;
        println!("   round {} {}: {cpu_us:.1} µs/message, {rate:.0} messages/s", round + 1, subject.name);
        outcome.add(MODE, subject.name, CPU, None, cpu_us);
        outcome.add(MODE, subject.name, RATE, None, rate);
        Ok(())
    })?;
    for other in subjects.iter().filter(|subject| subject.name != OURS) {
        outcome.relate(OURS, other.name, CPU);
        outcome.relate(OURS, other.name, RATE);
    }
    outcome.publish(&arguments.files)
}

fn inrush(name: &'static str, binary: &Path, folder: &Path, messages: u32, relays: bool) -> Subject {
    let mut meter = Meter::new(if relays { "inrush-relay" } else { "inrush-alone" });
    let sink = relays.then(SmtpSink::counting);
    let mut settings =
        Settings { launcher: meter.launcher(), binary: Some(binary.into()), ..Settings::default() };
    if let Some(sink) = &sink {
        settings.domains.clear();
        settings = settings.tables(&format!(
            "[[domain]]\nname = \"*\"\nroute = \"out\"\n[[route]]\nname = \"out\"\nkind = \"smtp\"\nhosts = [\"{}\"]\n",
            sink.address()
        ));
    }
    let data = folder.join(if relays { "relaying" } else { "taking" });
    let server = Server::with(settings.data(&data).log(&["durability = \"strict\""]));
    meter.started(server.pid());
    Subject { name, messages, address: server.mx(), sink, _running: Running::Inrush(Box::new(server)), meter }
}

fn postfix(folder: &Path, messages: u32) -> Subject {
    let mut meter = Meter::new("postfix-relay");
    let (address, sink) = (free_port(), SmtpSink::counting());
    let postfix = Postfix::start(&Purpose {
        listen: Some(address),
        relay_to: Some(sink.address()),
        main: servers::unlimited().chain(RELAY.iter().copied()).map(str::to_owned).collect(),
        queue: Some(folder.join("postfix-queue")),
        launcher: meter.launcher(),
        ..Purpose::default()
    });
    if let Some(master) = postfix.master() {
        meter.started(master);
    }
    Subject {
        name: "Postfix",
        messages,
        address,
        sink: Some(sink),
        _running: Running::Postfix(postfix),
        meter,
    }
}

/// A short unmeasured run, then the measured one: microseconds of processor time a message, messages a second.
fn measure(subject: &Subject, load: &Path, arguments: &Arguments) -> anyhow::Result<(f64, f64)> {
    send(subject, load, subject.messages / 10, arguments)?;
    let cpu = subject.meter.read()?;
    let begin = Instant::now();
    send(subject, load, subject.messages, arguments)?;
    let took = begin.elapsed();
    let cpu = subject.meter.read()?.saturating_sub(cpu);
    let messages = f64::from(subject.messages);
    Ok((cpu.as_secs_f64() * 1e6 / messages, messages / took.as_secs_f64()))
}

/// Sends so many messages and waits until the sink has them.
fn send(subject: &Subject, load: &Path, messages: u32, arguments: &Arguments) -> anyhow::Result<()> {
    let before = subject.sink.as_ref().map_or(0, SmtpSink::messages);
    let mut command =
        generator::kept_connections(load, subject.address, arguments.length, arguments.sessions);
    command.args(["--closed", "--quiet", "--messages", &messages.to_string()]).stdout(Stdio::null());
    let status = command.status().context("inrush-load")?;
    ensure!(status.success(), "{}: the load ended with {status}", subject.name);
    let Some(sink) = &subject.sink else { return Ok(()) };
    let begin = Instant::now();
    while sink.messages() < before + u64::from(messages) {
        ensure!(begin.elapsed() < PATIENCE, "{}: the sink has {} messages", subject.name, sink.messages());
        std::thread::sleep(LOOK);
    }
    Ok(())
}
