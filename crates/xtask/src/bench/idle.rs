//! Memory of idle connections: resident memory of the gateway with many sessions that have said EHLO, and with the same
//! sessions after each has handed in a message, against the memory before.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::result::{Figure, Files, Outcome};
use crate::test;

/// Descriptors of this process that are not connections.
const OTHER_DESCRIPTORS: u64 = 100;

const EACH: Figure = Figure { name: "memory for each connection", unit: "octets" };

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Connections at a time
    #[arg(long, default_value_t = 9_000)]
    connections: u32,
    /// Rounds; each with a fresh gateway
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

/// Measures and prints octets for each connection.
///
/// # Errors
/// The gateway cannot be started, or a connection is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    allow_descriptors(u64::from(arguments.connections) + OTHER_DESCRIPTORS)?;
    let binary = test::gateway_or_release(arguments.binary.as_deref())?;
    let mut outcome = Outcome::begin("idle", &std::env::temp_dir());
    outcome.notes.push(
        "Anonymous resident memory of the gateway: what it has more with the connections than without, divided by them. What the kernel \
         keeps for a socket is not in it."
            .to_owned(),
    );
    let scenario = format!("{} idle connections", arguments.connections);
    for round in 1..=arguments.rounds {
        let (ehlo, message) = measure(&binary, arguments.connections)?;
        println!("   round {round}: {ehlo} octets after EHLO, {message} octets after a message of 4 KiB");
        for (state, octets) in [("after EHLO", ehlo), ("after EHLO and a message of 4 KiB", message)] {
            // Far below 2^52 octets.
            outcome.add(&scenario, state, EACH, None, octets as f64);
        }
    }
    outcome.publish(&arguments.files)
}

fn measure(binary: &Path, connections: u32) -> anyhow::Result<(u64, u64)> {
    let server = Server::with(Settings { binary: Some(binary.to_path_buf()), ..Settings::default() });
    // One of each before the count: buffers that are made once are no cost of a connection.
    let mut first = Client::connect(server.mx())?;
    first.hand_in()?;
    drop(first);
    let before = anonymous_octets(server.pid())?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(server.mx())?);
    }
    let with_ehlo = anonymous_octets(server.pid())?;
    for client in &mut clients {
        client.hand_in()?;
    }
    // The watch takes large buffers back that have been idle for two seconds; it looks once a second.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let with_message = anonymous_octets(server.pid())?;
    let each = |now: u64| now.saturating_sub(before) / u64::from(connections);
    Ok((each(with_ehlo), each(with_message)))
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut client = Self(BufReader::with_capacity(512, TcpStream::connect(address)?));
        client.expect("220")?;
        client.say("EHLO idle.example.org\r\n", "250")?;
        Ok(client)
    }

    fn hand_in(&mut self) -> anyhow::Result<()> {
        self.say("MAIL FROM:<a@example.org>\r\n", "250")?;
        self.say("RCPT TO:<b@example.com>\r\n", "250")?;
        self.say("DATA\r\n", "354")?;
        let body = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(64);
        self.say(&format!("Subject: idle\r\n\r\n{body}.\r\n"), "250")
    }

    fn say(&mut self, text: &str, code: &str) -> anyhow::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())?;
        self.expect(code)
    }

    fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.0.read_line(&mut line)? > 0, "the gateway has closed the connection");
            ensure!(line.starts_with(code), "{code} expected: {line}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

/// Anonymous resident memory of all mappings: heap, stacks and buffers, without files and without what the kernel keeps.
fn anonymous_octets(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("memory of the gateway")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no line Anonymous")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}

pub(super) fn allow_descriptors(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    if getrlimit(Resource::Nofile).current.is_some_and(|current| current < needed) {
        bail!("{needed} file descriptors are needed: raise the hard limit, or take fewer --connections");
    }
    Ok(())
}
