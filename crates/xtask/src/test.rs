//! Everything that must hold, in one command: packages, lint, tidy, unit and integration tests, then the programs against real clients.
//!
//! The programs are those of the test build, with the checks of debug builds in them: a second build of everything would take longer than
//! all tests. Before a release, `--release` takes the programs as they are shipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::{lint, package, packages, run};

const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const TEST_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A program and the environment variable by which the tests find it.
type Program = (&'static str, PathBuf);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// No lint, and only a few rounds of the crash test
    #[arg(long)]
    quick: bool,
    /// Test the programs as they are shipped
    #[arg(long)]
    release: bool,
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
    // One build for all of them: asked for package by package, cargo would build what they share with other features once more.
    let tests = ["test", "--locked", "--workspace"];
    run::step("build");
    run::must(run::cargo().args(tests).arg("--no-run"), BUILD_LIMIT)?;
    let binaries = if arguments.release {
        release_binaries()?
    } else {
        programs(&[&tests[..], &["--no-run"]].concat())?
    };
    let [(_, inrush), (_, inrush_load)] = &binaries;
    let packages = package::make(&[inrush.clone(), inrush_load.clone()])?;
    run::step("tests");
    let mut command = run::cargo();
    command.args(tests).envs(binaries);
    if let Some(folder) = packages[0].parent() {
        command.env("INRUSH_PACKAGES", folder);
    }
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

/// Builds the gateway and the load generator as they are shipped; their places as the environment variables that the tests read.
///
/// # Errors
/// The build fails, or one of the two is not among what it made.
pub(crate) fn release_binaries() -> anyhow::Result<[Program; 2]> {
    let build = ["build", "--locked", "--release", "--package", "inrush", "--package", "inrush-load"];
    run::must(run::cargo().args(build), BUILD_LIMIT)?;
    programs(&build)
}

/// The gateway that was named, or the release build of this tree.
///
/// # Errors
/// The build fails.
pub(crate) fn gateway_or_release(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(binary) => Ok(binary.to_owned()),
        None => release_binaries().map(|[(_, gateway), _]| gateway),
    }
}

/// The same with the yardstick of the measurements: the gateway, the load generator, `inrush-floor`.
///
/// # Errors
/// The build fails, or one of the three is not among what it made.
pub(crate) fn release_binaries_and_floor() -> anyhow::Result<[PathBuf; 3]> {
    let packages = ["--package", "inrush", "--package", "inrush-load", "--package", "inrush-floor"];
    let build = [&["build", "--locked", "--release"][..], &packages].concat();
    run::must(run::cargo().args(&build), BUILD_LIMIT)?;
    executables(&build, ["inrush", "inrush-load", "inrush-floor"])
}

fn programs(build: &[&str]) -> anyhow::Result<[Program; 2]> {
    let [inrush, load] = executables(build, ["inrush", "inrush-load"])?;
    Ok([("INRUSH_BIN", inrush), ("INRUSH_LOAD_BIN", load)])
}

/// These programs among what `build` has made: everything is built by now, and asked again cargo only names the files.
fn executables<const N: usize>(build: &[&str], names: [&str; N]) -> anyhow::Result<[PathBuf; N]> {
    let messages = run::output(run::cargo().args(build).arg("--message-format=json"))?;
    let file = |name: &str| {
        let messages =
            messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let is_program = |message: &serde_json::Value| {
            let (target, as_test) = (&message["target"], &message["profile"]["test"]);
            target["name"] == name && target["kind"][0] == "bin" && *as_test == false
        };
        let mut files = messages.filter(is_program);
        let found = files.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        found.with_context(|| format!("the build made no program {name}"))
    };
    let files = names.into_iter().map(file).collect::<anyhow::Result<Vec<_>>>()?;
    files.try_into().map_err(|_| anyhow::anyhow!("as many files as names"))
}
