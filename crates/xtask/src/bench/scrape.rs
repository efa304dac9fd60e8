//! What a scrape costs: its time as Prometheus sees it, the processor time of the process, and the longest that a session had to wait for a reply
//! meanwhile, against the same without scrapes. In each format, with many listeners, routes and replies that have occurred.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::{Recipients, Settings};

use super::result::{Figure, Files, Outcome};
use crate::test;

/// Pause between two scrapes, and between two commands of the session that watches.
const PAUSE: Duration = Duration::from_millis(2);

const P99: Figure = Figure { name: "p99 of the time of a scrape", unit: "ms" };
const P50: Figure = Figure { name: "p50 of the time of a scrape", unit: "ms" };
const OCTETS: Figure = Figure { name: "octets of a scrape", unit: "octets" };
const CPU: Figure = Figure { name: "processor time of the process per scrape", unit: "ms" };
const CORES: Figure = Figure { name: "processor time of all cores per scrape", unit: "ms" };
const REPLY: Figure = Figure { name: "p99 of the time to the reply to NOOP", unit: "ms" };

/// Name, and what is sent as `Accept`.
pub(super) const FORMATS: [(&str, &str); 3] = [
    (
        "protobuf",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
    ("OpenMetrics", "application/openmetrics-text;version=1.0.0"),
    ("text", "text/plain;version=0.0.4"),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Scrapes of each format and round
    #[arg(long, default_value_t = 500)]
    scrapes: u32,
    /// Listeners, each with its name among the labels
    #[arg(long, default_value_t = 50)]
    listeners: u32,
    /// Routes, each with mail that was delivered
    #[arg(long, default_value_t = 100)]
    routes: u32,
    /// Rounds; each with a fresh gateway
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

/// Measures and prints.
///
/// # Errors
/// The gateway cannot be started, or a scrape fails or is incomplete.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = test::gateway_or_release(arguments.binary.as_deref())?;
    let mut outcome = Outcome::begin("scrape", &std::env::temp_dir());
    outcome.set("scrapes", arguments.scrapes);
    outcome.notes.push(
        "One scrape after the other, each on a connection of its own. The reply to NOOP is that of one session beside it; `no scrapes` is the same session alone."
            .to_owned(),
    );
    let scenario = format!("{} listeners, {} routes", arguments.listeners, arguments.routes);
    for round in 1..=arguments.rounds {
        let server = start(arguments, &binary)?;
        let alone = watched(server.mx(), || {
            std::thread::sleep(PAUSE * arguments.scrapes);
            Ok(())
        })?;
        outcome.add(&scenario, "no scrapes", REPLY, None, p99(&alone.1));
        for (name, accept) in FORMATS {
            let before = Samples::scrape(server.admin());
            let (mut times, replies) = watched(server.mx(), || scrapes(&server, accept, arguments.scrapes))?;
            let (scraped, octets) = std::mem::take(&mut times);
            // The cores show their processor time once a second.
            std::thread::sleep(Duration::from_millis(1_100));
            let after = Samples::scrape(server.admin());
            let each = |metric: &str| {
                (after.sum(metric, &[]) - before.sum(metric, &[])) * 1e3 / f64::from(arguments.scrapes)
            };
            let figures = [
                (P50, quantile(&scraped, 0.5)),
                (P99, p99(&scraped)),
                (OCTETS, octets as f64),
                (CPU, each("inrush_process_cpu_seconds_total")),
                (CORES, each("inrush_busy_seconds_total")),
                (REPLY, p99(&replies)),
            ];
            println!(
                "   round {round}, {name}: p50 {:.2} ms, p99 {:.2} ms, {octets} octets",
                figures[0].1, figures[1].1
            );
            for (figure, value) in figures {
                outcome.add(&scenario, name, figure, None, value);
            }
        }
    }
    outcome.publish(&arguments.files)
}

/// A gateway in which every listener, route and many reasons have been used.
fn start(arguments: &Arguments, binary: &std::path::Path) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let mut tables = String::new();
    let mut domains = vec![("example.com".to_owned(), Recipients::Listed(vec!["b@example.com".to_owned()]))];
    for number in 1..arguments.listeners {
        write!(tables, "[[listener]]\nname = \"l{number}\"\naddress = [\"127.0.0.1:0\"]\n")?;
    }
    for number in 0..arguments.routes {
        let path = folder.path().join(format!("{number}/{{user}}"));
        write!(
            tables,
            "[[route]]\nname = \"r{number}\"\nkind = \"maildir\"\npath = \"{}\"\n",
            path.display()
        )?;
        write!(
            tables,
            "[[domain]]\nname = \"r{number}.example\"\nrecipients = \"any\"\nroute = \"r{number}\"\n"
        )?;
    }
    domains.truncate(usize::from(arguments.routes == 0));
    let settings =
        Settings { binary: Some(binary.to_path_buf()), domains, tables: vec![tables], ..Settings::default() };
    let server = Server::with(settings);
    let mut session = Session::open(server.mx())?;
    let domains: Vec<String> = match arguments.routes {
        0 => vec!["example.com".to_owned()],
        routes => (0..routes).map(|number| format!("r{number}.example")).collect(),
    };
    for domain in &domains {
        session.say("MAIL FROM:<a@example.org>", "250")?;
        session.say("RCPT TO:<b@elsewhere.example>", "550")?;
        session.say(&format!("RCPT TO:<b@{domain}>"), "250")?;
        session.say("DATA", "354")?;
        session.say("Subject: x\r\n\r\nx\r\n.", "250")?;
        session.say("NONSENSE", "500").ok();
        // Errors are bounded in each session.
        session = Session::open(server.mx())?;
    }
    let routes = f64::from(arguments.routes);
    process::eventually("everything is delivered", || {
        let sent = Samples::scrape(server.admin()).sum("inrush_deliveries_total", &["reason=\"sent\""]);
        sent >= routes
    });
    // The folder of the mailboxes may go: nothing more is delivered.
    drop(folder);
    Ok(server)
}

/// Times in milliseconds, and octets of the last one.
fn scrapes(server: &Server, accept: &str, count: u32) -> anyhow::Result<(Vec<f64>, usize)> {
    let mut times = Vec::new();
    let mut octets = 0;
    for _ in 0..count {
        let begin = Instant::now();
        octets = scrape(server.admin(), accept)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    Ok((times, octets))
}

/// Octets of the answer: of bodies that are no text as well.
pub(super) fn scrape(admin: SocketAddr, accept: &str) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(admin)?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP response")?;
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "{text}");
    let media = accept.split(';').next().unwrap_or_default();
    ensure!(text.contains(&format!("content-type: {media}")), "{media} was asked for: {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("no Content-Length")?.trim().parse()?;
    ensure!(answer.len() == head + 4 + length, "{} octets of {length}", answer.len() - head - 4);
    Ok(length)
}

/// Does something while a session says NOOP again and again; gives back what it has given, and the times to the replies in milliseconds.
fn watched<T>(mx: SocketAddr, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Vec<f64>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || -> anyhow::Result<Vec<f64>> {
            let mut session = Session::open(mx)?;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                session.say("NOOP", "250")?;
                times.push(begin.elapsed().as_secs_f64() * 1e3);
                // A session has its number of commands.
                if times.len() % 50 == 0 {
                    session = Session::open(mx)?;
                }
                std::thread::sleep(PAUSE);
            }
            Ok(times)
        }
    });
    let result = run();
    stop.store(true, Ordering::Relaxed);
    let times = watch.join().map_err(|_| anyhow::anyhow!("the session that watches has panicked"))??;
    Ok((result?, times))
}

struct Session(BufReader<TcpStream>);

impl Session {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut session = Self(BufReader::new(stream));
        session.expect("220")?;
        session.say("EHLO scrape.example.org", "250")?;
        Ok(session)
    }

    fn say(&mut self, line: &str, code: &str) -> anyhow::Result<()> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
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

fn p99(times: &[f64]) -> f64 {
    quantile(times, 0.99)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of the list")]
fn quantile(times: &[f64], quantile: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&times, 0.5), p99(&times)), (50.0, 99.0));
        assert_eq!((p99(&[3.0]), p99(&[])), (3.0, 0.0));
    }
}
