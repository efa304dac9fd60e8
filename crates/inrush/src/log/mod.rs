//! `inrush log`: what is in the log of accepted mail. Reads without the lock, beside a running gateway or without one.

mod export;
mod list;
mod stat;
pub(crate) mod time;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use inrush_log::{Entry, Message, Reader, RecordKind};

use crate::cli::{DataDir, Filter, LogCommand};
use crate::output;

/// Runs a command of `inrush log`.
pub(crate) fn run(command: &LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Stat { data, json } => stat::run(data, *json),
        LogCommand::List { data, filter, json } => list::run(data, filter, *json),
        LogCommand::Cat { data, id, no_trace } => export::cat(data, *id, !no_trace),
        LogCommand::Export { data, to, filter } => export::run(data, to, filter),
        LogCommand::Verify { data, json } => verify::run(data, *json),
    }
}

/// All logs of a data directory.
fn open(data: &DataDir) -> anyhow::Result<Vec<Reader>> {
    let path: &Path = &data.data_dir;
    if !path.is_dir() {
        bail!("{}: no such directory; name the data directory with --data-dir", path.display());
    }
    let readers = Reader::open_all(path)?;
    if readers.is_empty() {
        bail!("{}: no log in it", path.display());
    }
    Ok(readers)
}

/// Calls `take` for each message that the filter lets through, in the order of each log. Damage is said on standard error
/// and passed over; returns how many records did not hold.
fn each_message(
    readers: &mut [Reader],
    filter: &Filter,
    mut take: impl FnMut(&mut Reader, &Message) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut bad = 0;
    if let Some(id) = filter.id
        && !readers.iter().any(|reader| (reader.identity().node, reader.identity().log) == (id.node, id.log))
    {
        bail!("{id}: no log of this data directory has this id");
    }
    for reader in readers {
        let log = reader.name().to_owned();
        if let Some(id) = filter.id {
            if id.node == reader.identity().node && id.log == reader.identity().log {
                let message = reader.message(id).with_context(|| format!("log {log}"))?;
                if passes(filter, &message)? {
                    take(reader, &message)?;
                }
            }
            continue;
        }
        if let Some(since) = filter.since {
            reader.seek_time(since.0);
        }
        while let Some(entry) = reader.next().with_context(|| format!("log {log} cannot be read"))? {
            let message = match entry {
                Entry::Record(record) if record.header.kind == RecordKind::Message => {
                    Message::from_record(&record)
                }
                Entry::Record(_) => continue,
                Entry::Bad(record) => {
                    bad += 1;
                    output::complain(&anyhow!("log {log}: {record}"));
                    continue;
                }
            };
            if passes(filter, &message)? {
                take(reader, &message)?;
            }
        }
    }
    Ok(bad)
}

fn passes(filter: &Filter, message: &Message) -> anyhow::Result<bool> {
    if filter.since.is_some_and(|since| message.header.accepted_at_us < since.0) {
        return Ok(false);
    }
    let Some(domain) = &filter.rcpt_domain else { return Ok(true) };
    let envelope = message.envelope().with_context(|| format!("message {}", message.id))?;
    Ok(envelope.recipients().any(|recipient| {
        recipient
            .path
            .rsplit(|&octet| octet == b'@')
            .next()
            .is_some_and(|sent| sent.eq_ignore_ascii_case(domain.as_bytes()))
    }))
}

/// The exit code of a command that has passed over `bad` records.
fn code(bad: u64) -> ExitCode {
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
