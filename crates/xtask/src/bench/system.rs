//! The gateway against the floor under it, scenario by scenario (bench/system/*.toml), in the same minute.

use std::path::PathBuf;

use inrush_tests::tls::Authority;

use super::load::{self, Load};
use super::result::{CPU, Files, LOG_MESSAGES, LOG_OCTETS, MEMORY, Outcome, P50, P99, RATE, WIRE_OCTETS};
use super::rounds;
use super::scenario::{self, Scenario};
use super::servers::{FLOOR, Gateway, INRUSH, RELAXED, Subject};
use crate::test;

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Names of scenarios, files of bench/system without their end; all where none is named
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    pub(super) scenario: Vec<String>,
    /// Rounds of each scenario, instead of what it says
    #[arg(long)]
    pub(super) rounds: Option<u32>,
    /// Percent of the messages that a scenario says
    #[arg(long, default_value_t = 100)]
    pub(super) percent: u32,
    /// Cores of every server; 0 = all. One leaves a processor to the generator where there are two
    #[arg(long, default_value_t = 1)]
    pub(super) cores: u16,
    /// Where the logs lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(super) folder: PathBuf,
    #[command(flatten)]
    pub(super) files: Files,
}

/// Measures and prints.
///
/// # Errors
/// A scenario cannot be read, a server or client cannot be started, or messages are missing at the end of a run.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scenarios = scenario::read(&arguments.scenario)?;
    let [gateway, generator, floor] = test::release_binaries_and_floor()?;
    let mut outcome = Outcome::begin("system", &arguments.folder);
    outcome.set("cores of each server", arguments.cores);
    outcome.notes.push(
        "Ratios are medians of the ratios of the same round. The floor is inrush-floor: same runtime, no work.".to_owned(),
    );
    let authority = scenarios.iter().any(|scenario| scenario.tls).then(Authority::new);
    let certificate = authority.as_ref().map(|authority| authority.issue("mx.test.example"));
    for scenario in &scenarios {
        // Fresh for each: no scenario runs behind the log of another.
        let folder = tempfile::Builder::new().prefix("inrush-system-").tempdir_in(&arguments.folder)?;
        let certificate = certificate.as_ref().filter(|_| scenario.tls);
        let strict = Gateway { certificate, ..Gateway::strict(&gateway, arguments.cores) }.recycling();
        let subjects = scenario.servers.iter().map(|server| match server.as_str() {
            FLOOR => Subject::floor(&floor, arguments.cores, "127.0.0.1:0", certificate),
            RELAXED => {
                let relaxed = Gateway { durability: inrush_log::Durability::Relaxed, ..strict.clone() };
                Ok(Subject::inrush(folder.path(), &relaxed))
            }
            _ => Ok(Subject::inrush(folder.path(), &strict)),
        });
        let subjects = subjects.collect::<anyhow::Result<Vec<_>>>()?;
        outcome.set("server CPU", subjects[0].meter.method());
        let load = Load::inrush_load(&generator, options(scenario));
        outcome.set(&format!("load of {}", scenario.name), scenario.load.join(" "));
        measure(scenario, &subjects, &load, arguments, &mut outcome)?;
    }
    for server in [INRUSH, RELAXED] {
        for figure in [CPU, RATE, P50, P99, MEMORY] {
            outcome.relate(server, FLOOR, figure);
        }
    }
    outcome.publish(&arguments.files)
}

/// All rounds of one scenario.
fn measure(
    scenario: &Scenario,
    subjects: &[Subject],
    load: &Load,
    arguments: &Arguments,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let rounds = arguments.rounds.unwrap_or(scenario.rounds);
    let messages = (scenario.messages * arguments.percent / 100).max(1);
    rounds::in_turn(rounds, subjects.len(), |round, subject| {
        let subject = &subjects[subject];
        let done = load::measure(subject, load, messages)?;
        println!(
            "   {} round {}: {} {:.1} µs/message, {:.0} messages/s",
            scenario.name,
            round + 1,
            subject.name,
            done.cpu_us,
            done.sent.rate
        );
        let memory = done.memory_mib.filter(|_| scenario.memory);
        let figures = [
            (CPU, Some(done.cpu_us)),
            (RATE, Some(done.sent.rate)),
            (P50, done.sent.p50_us),
            (P99, done.sent.p99_us),
            (MEMORY, memory),
        ];
        let uses = done.uses.iter().flat_map(|uses| {
            [
                (LOG_OCTETS, Some(uses.log_octets)),
                (LOG_MESSAGES, Some(uses.messages_per_write)),
                (WIRE_OCTETS, Some(uses.wire_octets)),
            ]
        });
        for (figure, value) in
            figures.into_iter().chain(uses).filter_map(|(figure, value)| Some((figure, value?)))
        {
            outcome.add(&scenario.title, subject.name, figure, None, value);
        }
        Ok(())
    })
}

/// What the scenario says, and who writes to whom.
fn options(scenario: &Scenario) -> Vec<String> {
    let mut options = scenario.load.clone();
    let addresses = ["-f", "sender@client.example", "-t", "recipient{recipient}@example.com"];
    options.extend(addresses.map(str::to_owned));
    options
}
