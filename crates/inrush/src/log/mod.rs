//! `inrush log`: what is in the log of accepted mail. Reads without the lock, beside a running gateway or without one.

mod export;
mod files;
pub(crate) mod filter;
mod list;
mod mail;
mod mbox;
mod ndjson;
mod stat;
mod target;
pub(crate) mod time;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inrush_log::{OpenError, Reader, parse_log_directory};

use crate::cli::{DataDir, LogCommand};
use crate::output;

/// How much processor time the tools leave to others: all of it, as `nice` has it.
const NICE: i32 = 19;

/// Runs a command of `inrush log`.
pub(crate) fn run(command: &LogCommand) -> anyhow::Result<ExitCode> {
    // The gateway beside us comes first. Where that cannot be, everything else still works.
    let _ = rustix::process::nice(NICE);
    match command {
        LogCommand::Stat { data, segments, json } => stat::run(data, *segments, *json),
        LogCommand::List { data, filter, json } => list::run(data, filter, *json),
        LogCommand::Cat { data, id, no_trace } => export::cat(data, *id, !no_trace),
        LogCommand::Export { data, format, to, filter } => export::run(data, *format, to.as_deref(), filter),
        LogCommand::Verify { data, json } => verify::run(data, *json),
    }
}

/// A log by its name, or why it cannot be read.
type Found = (String, Result<Reader, OpenError>);

/// The logs that a command is about, sorted by name; at least one.
fn find(data: &DataDir) -> anyhow::Result<Vec<Found>> {
    let path: &Path = &data.data_dir;
    if !path.is_dir() {
        bail!("{}: no such directory; name the data directory with --data-dir", path.display());
    }
    let mut names = Vec::new();
    for entry in path.read_dir().with_context(|| path.display().to_string())? {
        // Names of ours are ASCII; others are nobody's business here.
        names.extend(entry.with_context(|| path.display().to_string())?.file_name().into_string());
    }
    names.retain(|name| parse_log_directory(name).is_some() && files::holds_a_log(&path.join(name)));
    names.sort_unstable();
    if let Some(only) = &data.log {
        names.retain(|name| name == only);
        if names.is_empty() {
            bail!("{}: no log {only} in it", path.display());
        }
    }
    if names.is_empty() {
        bail!("{}: no log in it", path.display());
    }
    Ok(names.into_iter().map(|name| (name.clone(), Reader::open_gently(&path.join(name)))).collect())
}

/// The same, all of them readable.
fn open(data: &DataDir) -> anyhow::Result<Vec<Reader>> {
    let readers: Result<_, _> = find(data)?.into_iter().map(|(_, reader)| reader).collect();
    Ok(readers?)
}

/// Octets of the segments of these logs.
fn logs_octets(readers: &[Reader]) -> u64 {
    readers.iter().map(Reader::octets).sum()
}

/// The exit code of a command that has passed over `bad` records.
fn code(bad: u64) -> ExitCode {
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says the error; for commands whose exit code tells more than that there was one.
fn cannot_be_read(error: &anyhow::Error) -> ExitCode {
    output::complain(error);
    ExitCode::from(2)
}
