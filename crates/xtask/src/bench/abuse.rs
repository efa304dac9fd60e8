//! What a well-behaved sender notices of abuse: its p99 to the `250` beside idle sessions, slow ones, garbage, and an address that opens as
//! many connections as it can, against its p99 without them.
//!
//! All of it is on one machine. The abusers' threads have the lowest priority, since in truth they have machines of their own; what they get
//! done is printed. Each round measures without abuse first, then under it: over kept connections, and with a connection for each message.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::generator;
use super::idle::allow_descriptors;
use super::report::Summary;
use crate::test;

/// Sessions of one abuser's address: what it may have by default.
const PER_ADDRESS: u32 = 100;
/// How long the sender of garbage stays for the answers.
const GARBAGE_STAYS: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Messages a second of the sender, over kept connections
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Messages a second of the sender, with a connection for each
    #[arg(long, default_value_t = 200)]
    connecting_rate: u32,
    /// Sessions that say nothing
    #[arg(long, default_value_t = 10_000)]
    idle: u32,
    /// Sessions that send an octet of mail data a second
    #[arg(long, default_value_t = 1_000)]
    slow: u32,
    /// Connections a second that send garbage
    #[arg(long, default_value_t = 200)]
    garbage: u32,
    /// Where the log lies
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// Milliseconds of the sender's p99: over kept connections, and with a connection for each message.
#[derive(Clone, Copy)]
struct Sender {
    kept: f64,
    connecting: f64,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or the sender's mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    allow_descriptors(u64::from(arguments.idle + arguments.slow) + 2000)?;
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-abuse-").tempdir_in(&arguments.folder)?;
    let settings = Settings {
        binary: Some(gateway),
        // Nobody has special rights, and the sender may connect as often as it is told to.
        tables: vec!["[access]\nallow = []".to_owned()],
        limits: lines(&[
            "connection_rate_per_address = \"60000/1m\"",
            "idle_timeout = \"5m\"",
            "handshake_timeout = \"30s\"",
            "session_timeout = \"30m\"",
            "transaction_timeout = \"20m\"",
            "min_data_rate_window = \"1m\"",
        ]),
        // The defaults, instead of the patience of tests.
        pressure: lines(&[
            "slow_after = \"1s\"",
            "backlog_max = \"10s\"",
            "idle_timeout = \"10s\"",
            "transaction_timeout = \"2m\"",
            "stop_accepting_after = \"30s\"",
        ]),
        ..Settings::default()
    };
    let server = Server::with(settings.data(&folder.path().join("data")).log(&[]));
    let (mut before, mut under) = (Vec::new(), Vec::new());
    for number in 1..=arguments.rounds {
        let calm = measure(&load, &server, arguments)?;
        let abuse = Abuse::default();
        let abused = thread::scope(|scope| {
            abuse.begin(scope, server.mx(), arguments);
            let measured = abuse.wait_until_complete(arguments).and_then(|()| {
                let begun = (Instant::now(), abuse.attempts.load(Relaxed));
                let measured = measure(&load, &server, arguments)?;
                let tried = (abuse.attempts.load(Relaxed) - begun.1) as f64 / begun.0.elapsed().as_secs_f64();
                let open = Samples::scrape(server.admin()).sum("inrush_connections_open", &[]);
                println!(
                    "   {open} sessions are open, and one address opens {tried:.0} connections a second"
                );
                ensure!(open >= f64::from(arguments.idle + arguments.slow), "the abusers have lost sessions");
                Ok(measured)
            });
            abuse.over.store(true, Relaxed);
            measured
        })?;
        println!(
            "   round {number}: p99 {:.2} ms and {:.2} ms under abuse over kept connections, {:.2} and {:.2} with a connection for each message",
            calm.kept, abused.kept, calm.connecting, abused.connecting
        );
        before.push(calm);
        under.push(abused);
        process::eventually("all sessions have ended", || {
            Samples::scrape(server.admin()).sum("inrush_connections_open", &[]) == 0.0
        });
    }
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    let row = |name: &str, value: &dyn Fn((&Sender, &Sender)) -> f64| {
        let Summary { median, least, greatest } = Summary::of(before.iter().zip(&under).map(value));
        println!("| {name} | {median:.2} | {least:.2} | {greatest:.2} |");
    };
    row("kept connections: p99 without abuse, ms", &|(before, _)| before.kept);
    row("p99 under abuse, ms", &|(_, under)| under.kept);
    row("ratio", &|(before, under)| under.kept / before.kept);
    row("a connection for each message: p99 without abuse, ms", &|(before, _)| before.connecting);
    row("p99 under abuse, ms", &|(_, under)| under.connecting);
    row("ratio", &|(before, under)| under.connecting / before.connecting);
    Ok(())
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn measure(load: &Path, server: &Server, arguments: &Arguments) -> anyhow::Result<Sender> {
    let p99 = |connecting: bool, rate: u32| -> anyhow::Result<f64> {
        let mut command = generator::sessions(load, server.mx(), 4096, 20);
        command.args(["--json", "-"]);
        if !connecting {
            command.arg("--dont-disconnect");
        }
        command.args(["--warmup", "1s", "--duration", &format!("{}s", arguments.seconds)]);
        command.args(["--rate", &rate.to_string()]);
        let output = command.output().context("inrush-load")?;
        ensure!(output.status.success(), "inrush-load: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        Ok(report["latency_us"]["total"]["p99"].as_f64().context("no latency")? / 1e3)
    };
    Ok(Sender { kept: p99(false, arguments.rate)?, connecting: p99(true, arguments.connecting_rate)? })
}

/// Those who do not behave, and what they have got done.
#[derive(Default)]
struct Abuse {
    over: AtomicBool,
    idle: AtomicU64,
    slow: AtomicU64,
    attempts: AtomicU64,
}

impl Abuse {
    fn begin<'s>(&'s self, scope: &'s thread::Scope<'s, '_>, to: SocketAddr, arguments: &'s Arguments) {
        scope.spawn(move || self.stay_idle(to, arguments.idle));
        scope.spawn(move || self.drip(to, arguments.slow));
        scope.spawn(move || self.send_garbage(to, arguments.garbage));
        scope.spawn(move || self.take_all(to));
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn wait_until_complete(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let limit = Instant::now() + Duration::from_secs(120);
        let complete = || {
            self.idle.load(Relaxed) >= u64::from(arguments.idle)
                && self.slow.load(Relaxed) >= u64::from(arguments.slow)
        };
        while !complete() {
            ensure!(Instant::now() < limit, "the abusers do not get their sessions");
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Sessions that were greeted and say nothing.
    fn stay_idle(&self, to: SocketAddr, count: u32) {
        lower_priority();
        let mut sessions = Vec::new();
        for number in 0..count {
            sessions.extend(greeted(address(2, number), to));
            self.idle.fetch_add(1, Relaxed);
            if self.is_over() {
                return;
            }
        }
        while !self.is_over() {
            sleep(Duration::from_millis(50));
        }
    }

    /// Sessions in the middle of a message, of which an octet comes each second.
    fn drip(&self, to: SocketAddr, count: u32) {
        lower_priority();
        let start = |number: u32| {
            let mut session = greeted(address(3, number), to)?;
            let commands =
                b"EHLO slow.example\r\nMAIL FROM:<a@slow.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n";
            session.write_all(commands).ok()?;
            Some(session)
        };
        let mut sessions = Vec::new();
        for number in 0..count {
            sessions.push(start(number));
            self.slow.fetch_add(1, Relaxed);
        }
        while !self.is_over() {
            let begun = Instant::now();
            for (number, session) in (0..).zip(&mut sessions) {
                let alive = session.as_mut().is_some_and(|session| session.write_all(b"x").is_ok());
                if !alive {
                    *session = start(number);
                }
                if self.is_over() {
                    return;
                }
            }
            sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
    }

    fn send_garbage(&self, to: SocketAddr, rate: u32) {
        lower_priority();
        let mut random = Random::new(7);
        let mut open = VecDeque::new();
        let begun = Instant::now();
        for number in 0.. {
            sleep((Duration::from_secs(1) / rate * number).saturating_sub(begun.elapsed()));
            if self.is_over() {
                return;
            }
            let octets: Vec<u8> = (0..128).flat_map(|_| random.bits().to_le_bytes()).collect();
            if let Ok(mut session) = connect(address(4, number % 50 * PER_ADDRESS), to) {
                // Who is refused at once may not get rid of it.
                let _ = session.write_all(&octets);
                open.push_back((Instant::now(), session));
            }
            while open.front().is_some_and(|(since, _)| since.elapsed() > GARBAGE_STAYS) {
                open.pop_front();
            }
        }
    }

    /// One address that connects as fast as it can and keeps what it gets.
    fn take_all(&self, to: SocketAddr) {
        lower_priority();
        let mut open = Vec::new();
        while !self.is_over() {
            match greeted(address(5, 0), to) {
                Some(session) => open.push(session),
                // Refused, or no port is left for a moment.
                None => thread::yield_now(),
            }
            self.attempts.fetch_add(1, Relaxed);
        }
    }
}

/// Of this thread alone, as Linux has it, and of what it starts.
pub(super) fn lower_priority() {
    let _ = rustix::process::setpriority_process(None, 19);
}

/// The loopback address of the session `number` of a kind of abuser.
fn address(kind: u8, number: u32) -> Ipv4Addr {
    let network = u32::from(Ipv4Addr::new(127, kind, 0, 0));
    Ipv4Addr::from(network + number / PER_ADDRESS + 1)
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Lets connections from one address to several others share a port.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A session that was greeted with 220.
fn greeted(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let mut session = connect(from, to).ok()?;
    session.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut greeting = [0; 3];
    loop {
        match session.read_exact(&mut greeting) {
            Ok(()) => return (&greeting == b"220").then_some(session),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
