//! The tasks of this repository, one file each: `cargo xtask --help` lists them.
//!
//! `cargo xtask test` is what continuous integration runs and all it runs, so that a green run here is a green run there.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tasks talk to the person who started them"
)]

mod bench;
mod fuzz;
mod lint;
mod package;
mod packages;
mod run;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

/// As in the gateway. Its memory lies in large pages, and the disk reads twice as fast into them: what is measured here shares that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tasks of this repository", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the tests need, checks the sources and runs every test
    Test(test::Arguments),
    /// Installs the Debian packages that the tests need (as root), or names the missing ones and fails
    Packages,
    /// Makes the Debian packages in target/package
    Package(package::Arguments),
    /// Formatting and clippy, warnings are errors
    Lint,
    /// What no linter sees: floors, licences, links, sizes, marker words, dialogs without a section
    Tidy,
    /// Runs one fuzz target of tests/fuzz
    Fuzz(fuzz::Arguments),
    /// Runs the simulation of the log from a random seed on
    Soak(soak::Arguments),
    /// Measurements, alone and against other servers
    #[command(subcommand)]
    Bench(bench::Task),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(arguments) => test::run(&arguments),
        Task::Packages => packages::ensure(),
        Task::Package(arguments) => package::run(&arguments),
        Task::Lint => lint::run(),
        Task::Tidy => tidy::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Bench(task) => bench::run(&task),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
