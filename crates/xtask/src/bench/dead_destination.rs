//! Whether a dead destination slows the others: the time to delivery of mail for a next hop that lives, while nothing waits, while many messages wait
//! for one that is dead, and while more of them come in.
//!
//! Each measurement has a gateway of its own with two routes. The live load is an open loop, so that a stop delays every message whose turn it hides;
//! times count to the end of the data at the next hop, from the turn of the message and from the moment when the client began to send it. All of it is
//! on one machine. Each live message has to arrive once, and every message for the dead destination has to be in the queue, or the run fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;

use super::backlog::{self, Load, Sending};
use super::dead_host::{DeadHost, Kind};
use super::latency::wait_for_spares;
use super::live_load::{DOMAIN, LiveLoad};
use super::next_hop::{Arrival, NextHop};
use super::report::{self, Summary};
use crate::test;

/// Seconds of live load before those that are measured.
const UNMEASURED: u64 = 2;
/// Sessions of the load for the dead destination.
const DEAD_SESSIONS: u32 = 50;
/// How much longer that load lasts than the live one.
const LONGER: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Live messages a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Sessions of the live load
    #[arg(long, default_value_t = 8)]
    sessions: u32,
    /// How the dead destination takes no mail
    #[arg(long, value_enum, default_value = "refused")]
    kind: Kind,
    /// Messages that wait for it
    #[arg(long, default_value_t = 100_000)]
    waiting: u32,
    /// Messages a second that come in for it
    #[arg(long, default_value_t = 5_000)]
    dead_rate: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    length: u32,
    /// `[queue] retry_first` of the gateway; with a short one what waits is due within a measurement
    #[arg(long, default_value = "5m")]
    retry_first: String,
    /// Where log and queue lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Also write the tables to this file
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// What there is for the dead destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Nothing,
    Waiting,
    Incoming,
}

const STATES: [(State, &str); 3] = [
    (State::Nothing, "nothing waits"),
    (State::Waiting, "messages wait"),
    (State::Incoming, "messages wait and come in"),
];

/// Times to delivery, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// From the turn of each message.
    planned: Times,
    /// From the begin of its sending.
    begun: Times,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, mail is refused, or a message is lost or comes twice.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, built), (_, program)] = test::release_binaries()?;
    let binary = arguments.binary.as_deref().unwrap_or(&built);
    let load = Load { program, length: arguments.length, sessions: DEAD_SESSIONS };
    let mut rounds: Vec<[Measured; STATES.len()]> = Vec::new();
    for round in 0..arguments.rounds as usize {
        let mut measured: Vec<(usize, Measured)> = Vec::new();
        // Another one first in each round.
        for turn in 0..STATES.len() {
            let index = (round + turn) % STATES.len();
            let (state, name) = STATES[index];
            let one = measure(arguments, binary, &load, state)?;
            let Times { p50, p99, max } = one.planned;
            println!("   round {}: {name}: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms", round + 1);
            measured.push((index, one));
        }
        measured.sort_unstable_by_key(|(index, _)| *index);
        rounds.push(std::array::from_fn(|index| measured[index].1));
    }
    let text = markdown(arguments, &rounds);
    println!("\n{text}");
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, &text)?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, binary: &Path, load: &Load, state: State) -> anyhow::Result<Measured> {
    let folder = tempfile::Builder::new().prefix("inrush-dead-").tempdir_in(&arguments.folder)?;
    let (next_hop, dead_host) = (NextHop::start()?, DeadHost::new(arguments.kind)?);
    let tables = format!(
        "[[domain]]\nname = \"{DOMAIN}\"\nroute = \"live\"\n[[domain]]\nname = \"example.com\"\nroute = \"dead\"\n\
         [[route]]\nname = \"live\"\nhosts = [\"{}\"]\n[[route]]\nname = \"dead\"\nhosts = [\"{}\"]\n\
         [queue]\nretry_first = \"{}\"\n",
        next_hop.address(),
        dead_host.address()?,
        arguments.retry_first
    );
    let server = backlog::gateway(binary, &folder.path().join("data"), &tables);
    let mut owed = 0;
    if state != State::Nothing {
        owed = load.send(server.mx(), arguments.waiting, Duration::ZERO)?.acknowledged;
    }
    // A host that says nothing keeps some on their first way for minutes.
    let all_deferred = arguments.kind == Kind::Refused;
    backlog::wait_until_owed(&server, owed, all_deferred)?;
    wait_for_spares(&server);
    let live = LiveLoad {
        rate: arguments.rate,
        sessions: arguments.sessions,
        length: arguments.length,
        seconds: UNMEASURED + arguments.seconds,
    };
    let incoming = (state == State::Incoming)
        .then(|| load.begin(server.mx(), arguments.dead_rate, Duration::from_secs(live.seconds) + LONGER));
    let incoming = incoming.transpose()?;
    live.send(server.mx(), next_hop.begin())?;
    next_hop.wait_for(live.messages())?;
    if let Some(sent) = incoming.map(Sending::finish).transpose()? {
        println!("   {:.0} messages a second came in for the dead destination", sent.rate);
        owed += sent.acknowledged;
    }
    backlog::wait_until_owed(&server, owed, all_deferred)?;
    ensure_delivered(&server, live.messages())?;
    let arrivals = next_hop.each_once(live.messages())?;
    let measured: Vec<_> =
        arrivals.into_iter().skip(usize::try_from(UNMEASURED * u64::from(arguments.rate))?).collect();
    Ok(Measured {
        planned: Times::of(&measured, |arrival| arrival.at.saturating_sub(arrival.stamp.planned)),
        begun: Times::of(&measured, |arrival| arrival.at.saturating_sub(arrival.stamp.begun)),
    })
}

/// The gateway has to count them as delivered too: then none of them is under way once more.
fn ensure_delivered(server: &Server, messages: u64) -> anyhow::Result<()> {
    let labels = ["route=\"live\"", "reason=\"sent\""];
    let sent = || Samples::scrape(server.admin()).sum("inrush_deliveries_total", &labels);
    let told = process::holds_within(process::PATIENCE, || sent() == messages as f64);
    ensure!(told, "{messages} messages were sent, and the gateway counts {} deliveries", sent());
    Ok(())
}

impl Times {
    fn of(arrivals: &[Arrival], time: impl Fn(&Arrival) -> Duration) -> Self {
        let mut times: Vec<f64> = arrivals.iter().map(|arrival| time(arrival).as_secs_f64() * 1e3).collect();
        times.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(index).copied().unwrap_or(f64::NAN)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

fn markdown(arguments: &Arguments, rounds: &[[Measured; STATES.len()]]) -> String {
    let facts = [
        ("live messages a second", arguments.rate.to_string()),
        ("seconds of a measurement", arguments.seconds.to_string()),
        ("sessions of the live load", arguments.sessions.to_string()),
        ("octets of a message", arguments.length.to_string()),
        ("dead destination", format!("{:?}", arguments.kind).to_lowercase()),
        ("messages that wait", arguments.waiting.to_string()),
        ("messages a second that come in", arguments.dead_rate.to_string()),
        ("retry_first", arguments.retry_first.clone()),
        ("rounds", arguments.rounds.to_string()),
    ];
    let mut rows: Vec<(String, Summary)> = Vec::new();
    let mut row = |name: String, value: &dyn Fn(&[Measured; STATES.len()]) -> f64| {
        rows.push((name, Summary::of(rounds.iter().map(value))));
    };
    for (index, (_, name)) in STATES.iter().enumerate() {
        row(format!("{name}: p50, ms"), &|round| round[index].planned.p50);
        row(format!("{name}: p99, ms"), &|round| round[index].planned.p99);
        row(format!("{name}: max, ms"), &|round| round[index].planned.max);
        row(format!("{name}: p99 from the begin of sending, ms"), &|round| round[index].begun.p99);
    }
    let (_, nothing) = STATES[0];
    for (index, (_, name)) in STATES.iter().enumerate().skip(1) {
        row(format!("p99, {name} : {nothing}"), &|round| round[index].planned.p99 / round[0].planned.p99);
        row(format!("p99 from the begin of sending, {name} : {nothing}"), &|round| {
            round[index].begun.p99 / round[0].begun.p99
        });
    }
    format!("{}\n{}", report::facts(&facts), report::figures(&rows))
}

#[cfg(test)]
mod tests {
    use super::super::stamp::Stamp;
    use super::*;

    #[test]
    fn times_count_from_the_turn_or_from_the_begin_of_sending() {
        let arrival = |number: u64| {
            let planned = Duration::from_millis(number * 10);
            let begun = planned + Duration::from_millis(1);
            Arrival { stamp: Stamp { number, planned, begun }, at: begun + Duration::from_millis(number) }
        };
        let arrivals: Vec<_> = (0..200).map(arrival).collect();
        let times = Times::of(&arrivals, |arrival| arrival.at - arrival.stamp.planned);
        assert_eq!([times.p50, times.p99, times.max].map(f64::round), [101.0, 199.0, 200.0]);
        let times = Times::of(&arrivals, |arrival| arrival.at - arrival.stamp.begun);
        assert_eq!(times.max.round(), 199.0);
    }
}
