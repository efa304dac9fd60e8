//! The `inrush` command: the gateway and everything an operator does with it.
//!
//! Exit codes: 0 done; 1 something was found or went wrong (a bad config, a port in use, a damaged record, a user who is there already); 2 the command
//! line is wrong, or `log verify` cannot read a log at all; 3 `serve` was ended by a second signal.

mod age;
mod cli;
mod config;
mod live;
mod log;
mod log_level;
mod manual;
mod output;
mod queue;
mod reload;
mod serve;
mod status;
mod steer;
mod top;
mod trace;
mod user;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A broken invariant ends the process in every build, as `panic = "abort"` has it in a release: recovery decides what is there. Its last words go
/// where the log goes, and wait for nobody who does not read them.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        if !inrush_logging::last_words(panic.to_string(), backtrace) {
            tell(panic);
        }
        std::process::abort();
    }));
}

/// Version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit that it is made from; `unknown` if there was no repository.
const REVISION: &str = env!("INRUSH_REVISION");

fn main() -> ExitCode {
    end_on_panic();
    let command = Cli::parse().command;
    let prints = command.only_prints();
    let result = match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => config::check(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Log(command) => log::run(&command),
        Command::LogLevel(arguments) => log_level::run(&arguments),
        Command::Queue(command) => queue::run(&command),
        Command::Drain { target, delay, deadline, wait } => steer::drain(&target, delay, deadline, wait),
        Command::Reload { target, json } => steer::reload(&target, json),
        Command::Status { target, json } => status::run(&target, json),
        Command::Top(target) => top::run(&target),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::User(command) => user::run(&command),
        Command::Completions { shell } => manual::completions(shell),
        Command::ManualPages { to } => manual::pages(&to),
        Command::Version { json } => output::version(json),
    };
    match result {
        Ok(code) => code,
        // Somebody has closed our standard output, as `head` does: enough was read.
        Err(error) if prints && output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
