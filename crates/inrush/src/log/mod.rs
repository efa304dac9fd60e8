//! `inrush log`: what is in the log of accepted mail. Reads without the lock, beside a running gateway or without one.

mod copies;
mod export;
mod files;
pub(crate) mod filter;
mod increment;
mod list;
mod mail;
mod mbox;
mod ndjson;
mod stat;
mod target;
pub(crate) mod time;
mod verify;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use inrush_log::{LogKind, OpenError, Reader, parse_log_directory};

use self::copies::Copies;
use crate::cli::{DataDir, LogCommand};
use crate::output;
use crate::queue::Replay;

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
        LogCommand::Export { data, format, to, filter, cursor } => {
            export::run(data, *format, to.as_deref(), filter, cursor)
        }
        LogCommand::Replay { config, admin, route, filter, held, yes, json } => {
            let replay = Replay { route, filter, held: *held };
            crate::queue::replay((config.as_deref(), *admin), &replay, *yes, *json)
        }
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
    let mut names = log_names(path)?;
    if let Some(only) = &data.log {
        names.retain(|name| name == only);
        if names.is_empty() {
            bail!("{}: no log {only} in it", path.display());
        }
    }
    if names.is_empty() {
        bail!("{}: no log in it", path.display());
    }
    let open = |name: String| {
        let reader = Reader::open_gently(&path.join(&name)).and_then(|mut reader| {
            // A command is about what there is when it begins, and comes to an end beside a busy gateway.
            let limited = reader.limit_to_present();
            let failed = |error| OpenError::Io { place: name.clone(), what: "reading segments", error };
            limited.map(|()| reader).map_err(failed)
        });
        (name, reader)
    };
    Ok(names.into_iter().map(open).collect())
}

/// Names of the logs in a data directory, sorted.
fn log_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in path.read_dir().with_context(|| path.display().to_string())? {
        // Names of ours are ASCII; others are nobody's business here.
        names.extend(entry.with_context(|| path.display().to_string())?.file_name().into_string());
    }
    names.retain(|name| parse_log_directory(name).is_some() && files::holds_a_log(&path.join(name)));
    names.sort_unstable();
    Ok(names)
}

/// Whether there is any log in a directory.
pub(crate) fn has_logs(path: &Path) -> anyhow::Result<bool> {
    Ok(!log_names(path)?.is_empty())
}

/// Logs that can be read.
struct Opened {
    readers: Vec<Reader>,
    /// The retry log, for commands about mail.
    copies: Option<Copies>,
    /// Logs that were named and left out, since their `log.meta` is damaged or missing.
    left_out: u64,
}

/// The logs that a command is about, at least one. Others may be left out: nothing says whose their segments are.
fn open(data: &DataDir) -> anyhow::Result<Opened> {
    open_of(data, false)
}

/// The same of all kinds alike, or those with mail.
fn open_of(data: &DataDir, all: bool) -> anyhow::Result<Opened> {
    let mut opened = Opened { readers: Vec::new(), copies: None, left_out: 0 };
    for (log, reader) in find(data)? {
        let kind = parse_log_directory(&log).map(|(kind, _)| kind);
        // Outcomes are no mail.
        if kind == Some(LogKind::Outcome) && !all && data.log.is_none() {
            continue;
        }
        match reader {
            Ok(reader) if kind == Some(LogKind::Retry) && !all => opened.copies = Some(Copies::of(reader)),
            Ok(reader) => opened.readers.push(reader),
            Err(error) if is_meta_gone(&error) => {
                opened.left_out += 1;
                output::complain(&anyhow!(error).context(format!("log {log} is left out")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if opened.readers.is_empty() && opened.copies.is_none() {
        bail!("{}: no log in it that can be read", data.data_dir.display());
    }
    Ok(opened)
}

/// Whether `log.meta` is damaged or missing, and the rest of the log may be whole.
fn is_meta_gone(error: &OpenError) -> bool {
    match error {
        OpenError::Meta { .. } => true,
        OpenError::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
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
