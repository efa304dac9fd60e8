//! What clients notice of upgrades: connections that fail, messages that are lost or doubled, and latency second by second.
//!
//! The generator keeps the gateway fully busy, each message over a connection of its own. After a while without, one upgrade follows the other. Every
//! acknowledged message is looked for in the logs afterwards, and there may be no other one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use inrush_load::figures::{Figures, Latencies, Slices};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

use super::generator;
use super::latency::wait_for_spares;
use super::report::Summary;
use super::result::{Figure, Files, Outcome};
use crate::test;

const QUIET: Figure = Figure { name: "p99 of the total in the median second without upgrades", unit: "ms" };
const QUIET_WORST: Figure = Figure { name: "the same in the worst second without upgrades", unit: "ms" };
const UPGRADED: Figure = Figure { name: "the same in the median second with upgrades", unit: "ms" };
const WORST: Figure = Figure { name: "p99 of the total in the worst second with upgrades", unit: "ms" };
const SLOW: Figure = Figure { name: "seconds with more than twice the p99 of the quiet time", unit: "s" };
const SLOW_QUIET: Figure = Figure { name: "the same among the seconds without upgrades", unit: "s" };
const MESSAGES: Figure = Figure { name: "messages acknowledged", unit: "messages" };

/// Seconds that no upgrade takes.
const UPGRADE_MAX: u64 = 60;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Upgrades, one after the other
    #[arg(long, default_value_t = 10)]
    upgrades: u32,
    /// Seconds of load before the first upgrade
    #[arg(long, default_value_t = 20)]
    quiet_seconds: u64,
    /// Seconds from one upgrade to the next
    #[arg(long, default_value_t = 5)]
    pause_seconds: u64,
    /// Connections at a time
    #[arg(long, default_value_t = 20)]
    sessions: u32,
    /// Messages a second, in an open loop; 0 = as many as are taken
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Rounds; each with a fresh gateway
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(flatten)]
    files: Files,
}

/// Measures and prints.
///
/// # Errors
/// A connection fails, a message is lost or doubled, or an upgrade does not come to its end.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let mut outcome = Outcome::begin("upgrade", &std::env::temp_dir());
    outcome.set("upgrades", arguments.upgrades);
    outcome.set("sessions", arguments.sessions);
    outcome.set("rate", arguments.rate);
    outcome.notes.push(
        "Every round: no error of the generator, and the logs hold each acknowledged message once and nothing else."
            .to_owned(),
    );
    let scenario = if arguments.rate == 0 { "full load".to_owned() } else { format!("{}/s", arguments.rate) };
    for round in 1..=arguments.rounds {
        let settings = Settings { binary: Some(gateway.clone()), ..Settings::default() };
        let mut server = Server::with(settings.log(&["segment_bytes = \"256MiB\""]));
        // As in a gateway that has run for a while.
        wait_for_spares(&server);
        let (slices, upgrades) = loaded(arguments, [&gateway, &load], &mut server)?;
        let first_upgrade = upgrades.first().map_or(f64::INFINITY, |(begin, _)| *begin);
        let all = seconds(&slices)?;
        let (quiet, upgraded): (Vec<_>, Vec<_>) =
            // The first second fills the connections.
            all.iter().copied().filter(|(at, _)| *at >= 1.0).partition(|(at, _)| *at + 1.0 < first_upgrade);
        ensure!(!quiet.is_empty(), "no second without upgrades");
        let median = Summary::of(quiet.iter().map(|(_, p99)| *p99)).median;
        let slow =
            |seconds: &[(f64, f64)]| seconds.iter().filter(|(_, p99)| *p99 > 2.0 * median).count() as f64;
        let worst = |seconds: &[(f64, f64)]| seconds.iter().map(|(_, p99)| *p99).fold(0.0, f64::max);
        let typical = |seconds: &[(f64, f64)]| Summary::of(seconds.iter().map(|(_, p99)| *p99)).median;
        let messages = slices.acknowledged.iter().sum::<f64>();
        let figures = [
            (QUIET, median),
            (QUIET_WORST, worst(&quiet)),
            (UPGRADED, typical(&upgraded)),
            (WORST, worst(&upgraded)),
            (SLOW, slow(&upgraded)),
            (SLOW_QUIET, slow(&quiet)),
            (MESSAGES, messages),
        ];
        println!(
            "   round {round}: {messages} messages; p99 of a second {median:.2} ms (at worst {:.2}), with {} upgrades {:.2} ms (at worst {:.2}); {} of {} seconds over twice the p99",
            worst(&quiet),
            arguments.upgrades,
            typical(&upgraded),
            worst(&upgraded),
            slow(&upgraded),
            upgraded.len()
        );
        println!("   {}", course(&all, &upgrades));
        for (figure, value) in figures {
            outcome.add(&scenario, "inrush", figure, None, value);
        }
    }
    outcome.publish(&arguments.files)
}

/// Start of each second since the start of the load, and its p99 in milliseconds.
fn seconds(slices: &Slices) -> anyhow::Result<Vec<(f64, f64)>> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few slices")]
    let each = (1.0 / slices.slice_s).round().max(1.0) as usize;
    let mut seconds = Vec::new();
    for (second, slices_of_it) in slices.latencies.chunks(each).enumerate() {
        let mut all: Option<Latencies> = None;
        for slice in slices_of_it.iter().flatten() {
            match &mut all {
                None => all = Some(slice.clone()),
                Some(all) => all.add(slice)?,
            }
        }
        if let Some(all) = all {
            let at = (second * each) as f64 * slices.slice_s;
            seconds.push((at, all.value_at_quantile(0.99) as f64 / 1e6));
        }
    }
    Ok(seconds)
}

/// The p99 of each second in milliseconds, with `[` and `]` where an upgrade began and ended.
fn course(seconds: &[(f64, f64)], upgrades: &[(f64, f64)]) -> String {
    let within = |at: f64, time: f64| (at..at + 1.0).contains(&time);
    let shown = seconds.iter().map(|(at, p99)| {
        let begins = if upgrades.iter().any(|(begin, _)| within(*at, *begin)) { "[" } else { "" };
        let ends = if upgrades.iter().any(|(_, end)| within(*at, *end)) { "]" } else { "" };
        format!("{begins}{p99:.1}{ends}")
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Load with upgrades in its course: the course, and when each upgrade began and ended, in seconds.
fn loaded(
    arguments: &Arguments,
    [gateway, load]: [&Path; 2],
    server: &mut Server,
) -> anyhow::Result<(Slices, Vec<(f64, f64)>)> {
    let (acks, json) = (server.scratch().join("acks"), server.scratch().join("load.json"));
    let mut command = generator::sessions(load, server.mx(), 4096, arguments.sessions);
    // It is told to end before.
    let seconds =
        arguments.quiet_seconds + u64::from(arguments.upgrades) * (arguments.pause_seconds + UPGRADE_MAX);
    command
        .args(["--quiet", "--duration", &format!("{seconds}s"), "--json"])
        .arg(&json)
        .arg("--acks")
        .arg(&acks);
    match arguments.rate {
        0 => command.arg("--closed"),
        rate => command.args(["--rate", &rate.to_string()]),
    };
    let begin = Instant::now();
    let mut generator = command.stdout(Stdio::null()).spawn().context("inrush-load")?;
    thread::sleep(Duration::from_secs(arguments.quiet_seconds));
    let mut upgrades = Vec::new();
    for _ in 0..arguments.upgrades {
        let began = begin.elapsed().as_secs_f64();
        server.upgrade();
        upgrades.push((began, begin.elapsed().as_secs_f64()));
        thread::sleep(Duration::from_secs(arguments.pause_seconds));
    }
    ensure!(generator.try_wait()?.is_none(), "the load has ended before the upgrades");
    generator::interrupt(&generator)?;
    let status = generator.wait()?;
    server.stop();
    let figures = Figures::read(&json).map_err(|error| anyhow!(error))?;
    let errors = figures.number("/errors").unwrap_or(f64::NAN);
    ensure!(errors == 0.0, "{errors} errors of the generator, which ended with {status}");
    let acks = std::fs::read_to_string(acks)?;
    let acknowledged: BTreeSet<&str> = acks.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(acknowledged.len() == acks.lines().count(), "an id was given out twice");
    let list = Command::new(gateway).args(["log", "list", "--data-dir"]).arg(server.data()).output()?;
    ensure!(list.status.success(), "inrush log list: {}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8(list.stdout)?;
    let stored: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let (stored, listed) = (stored.iter().copied().collect::<BTreeSet<_>>(), stored.len());
    ensure!(stored.len() == listed, "a message is in the logs twice");
    let lost = acknowledged.difference(&stored).count();
    let more = stored.difference(&acknowledged).count();
    ensure!(lost == 0 && more == 0, "{lost} acknowledged messages are not in the logs, {more} others are");
    let slices = figures.slices().map_err(|error| anyhow!(error))?.context("no course of the run")?;
    Ok((slices, upgrades))
}
