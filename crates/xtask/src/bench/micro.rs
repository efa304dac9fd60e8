//! The parts of the accept path by themselves (bench/micro): instructions for comparison over time, processor time for truth.
//!
//! Instructions are counted by valgrind's callgrind, which hardly differs from run to run and not with what else the machine does. Each part is run twice, with
//! once and with three times as many calls; the difference, divided by the calls that it has more, has none of the start in it. What callgrind runs is not
//! quite what the processor runs: it knows no AVX-512, so the scanner takes its AVX2 form. Time is processor time of the thread, without valgrind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::result::{Figure, Files, Outcome};
use super::rounds;
use crate::run;

const INSTRUCTIONS: Figure = Figure { name: "instructions a call", unit: "instructions" };
const TIME: Figure = Figure { name: "processor time a call", unit: "ns" };

/// A run under valgrind is some fifty times slower.
const SLOWER: u32 = 20;

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Names of parts; all where none is named
    #[arg(long, value_delimiter = ',')]
    pub(super) part: Vec<String>,
    /// Runs against the clock
    #[arg(long, default_value_t = 9)]
    pub(super) rounds: u32,
    /// Times only, where valgrind is not installed
    #[arg(long)]
    pub(super) time_only: bool,
    #[command(flatten)]
    pub(super) files: Files,
}

/// A part, as the program lists it.
struct Part {
    name: String,
    calls: u32,
    call: String,
}

/// Measures and prints.
///
/// # Errors
/// The program cannot be built, an answer was wrong, or valgrind is not there.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.time_only || run::program("valgrind").is_some(),
        "valgrind is not installed; as root: apt-get install valgrind (or --time-only)"
    );
    let program = build()?;
    let mut parts = list(&program)?;
    for name in &arguments.part {
        let known = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(parts.iter().any(|part| part.name == *name), "no part {name}; there are: {known}");
    }
    parts.retain(|part| arguments.part.is_empty() || arguments.part.contains(&part.name));
    let mut outcome = Outcome::begin("micro", &std::env::temp_dir());
    for part in &parts {
        outcome.set(&format!("a call of {}", part.name), part.call.clone());
    }
    if !arguments.time_only {
        outcome
            .notes
            .push("Instructions by callgrind, which knows no AVX-512; processor time without it.".to_owned());
        for part in &parts {
            let calls = (part.calls / SLOWER).max(1);
            let instructions =
                (count(&program, part, calls * 3)? - count(&program, part, calls)?) / f64::from(calls * 2);
            println!("   {}: {instructions:.0} instructions", part.name);
            outcome.add(&part.name, &part.name, INSTRUCTIONS, None, instructions);
        }
    }
    rounds::in_turn(arguments.rounds, parts.len(), |_, part| {
        let part = &parts[part];
        let said = run::output(Command::new(&program).args(["time", &part.name]))?;
        outcome.add(&part.name, &part.name, TIME, None, said.trim().parse()?);
        Ok(())
    })?;
    outcome.publish(&arguments.files)
}

fn build() -> anyhow::Result<PathBuf> {
    let build = ["build", "--locked", "--release", "--package", "inrush-bench-micro", "--bin", "micro"];
    run::must(run::cargo().args(build), BUILD_LIMIT)?;
    let said = run::output(run::cargo().args(build).arg("--message-format=json"))?;
    let mut messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("the build made no program micro")
}

fn list(program: &Path) -> anyhow::Result<Vec<Part>> {
    let said = run::output(Command::new(program).arg("list"))?;
    let part = |line: &str| {
        let mut words = line.split('\t');
        let mut next = || words.next().map(str::to_owned);
        let (name, calls, call) = (next()?, next()?, next()?);
        Some(Part { name, calls: calls.parse().ok()?, call })
    };
    said.lines().map(|line| part(line).with_context(|| format!("not a part: {line}"))).collect()
}

/// Instructions of a run with so many calls.
fn count(program: &Path, part: &Part, calls: u32) -> anyhow::Result<f64> {
    let file = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind", "--collect-jumps=no"]);
    command.arg(format!("--callgrind-out-file={}", file.path().display()));
    command.arg(program).args(["run", &part.name, &calls.to_string()]);
    run::output(&mut command)?;
    total(&fs::read_to_string(file.path())?).context("callgrind has counted nothing")
}

/// The `totals:` line of callgrind's file, or its `summary:`.
fn total(text: &str) -> Option<f64> {
    let of = |field: &str| text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok());
    of("totals:").or_else(|| of("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_callgrind() {
        assert_eq!(total("version: 1\nevents: Ir\nsummary: 7\n\nfn=(1)\n1 2\ntotals: 42\n"), Some(42.0));
        assert_eq!(total("events: Ir\nsummary: 7\n"), Some(7.0));
        assert_eq!(total("events: Ir\n"), None);
    }
}
