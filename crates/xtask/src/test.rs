//! Everything that must hold, in one command: packages, lint, tidy, unit and integration tests, then the release
//! binaries against real clients.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::{lint, packages, run};

const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
const TEST_LIMIT: Duration = Duration::from_secs(40 * 60);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// No lint, and only a few rounds of the crash test
    #[arg(long)]
    quick: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Runs everything; the first failure ends it.
///
/// # Errors
/// A package is missing, a check or a build fails, or a test fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::ensure()?;
    if !arguments.quick {
        lint::run()?;
    }
    everything(arguments)
}

/// Unit tests, dialogs in memory, simulations, replay of the fuzz corpora, the checks of `tidy`, and the release binaries against real
/// clients. One build for all of them: asked for package by package, cargo would build what they share with other features once more.
fn everything(arguments: &Arguments) -> anyhow::Result<()> {
    run::step("the release binaries");
    let binaries = release_binaries()?;
    run::step("tests");
    let tests = ["test", "--locked", "--workspace"];
    run::must(run::cargo().args(tests).arg("--no-run"), BUILD_LIMIT)?;
    let mut command = run::cargo();
    command.args(tests).envs(binaries);
    if arguments.quick && std::env::var_os("INRUSH_CRASH_ROUNDS").is_none() {
        command.env("INRUSH_CRASH_ROUNDS", "5");
    }
    run::must(filtered(&mut command, arguments), TEST_LIMIT)
}

fn filtered<'c>(command: &'c mut Command, arguments: &Arguments) -> &'c mut Command {
    if let Some(filter) = &arguments.filter {
        command.args(["--", filter]);
    }
    command
}

/// Builds the gateway and the load generator; their places as the environment variables that the tests read.
///
/// # Errors
/// The build fails, or one of the two is not among what it made.
pub(crate) fn release_binaries() -> anyhow::Result<[(&'static str, PathBuf); 2]> {
    let build = ["build", "--locked", "--release", "--package", "inrush", "--package", "inrush-load"];
    run::must(run::cargo().args(build), BUILD_LIMIT)?;
    // Everything is built by now; asked again, cargo only names the files.
    let messages = run::output(run::cargo().args(build).arg("--message-format=json"))?;
    let file = |name: &str| {
        let names = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut files = names.filter(|message| message["target"]["name"] == name);
        let found = files.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        found.with_context(|| format!("the build made no program {name}"))
    };
    Ok([("INRUSH_BIN", file("inrush")?), ("INRUSH_LOAD_BIN", file("inrush-load")?)])
}
