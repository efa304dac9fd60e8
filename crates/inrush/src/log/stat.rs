//! Segments, messages and octets of each log. Sealed segments tell it in their seal; only an unsealed one is read.

use std::process::ExitCode;

use anyhow::Context as _;
use inrush_log::{Entry, Lsn, Reader, RecordKind};
use serde::Serialize;

use super::{open, time};
use crate::cli::DataDir;
use crate::output;

/// A log as JSON. Field names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Stat {
    log: String,
    node: u16,
    segment_bytes: u64,
    segments: usize,
    segments_sealed: usize,
    octets: u64,
    messages: u64,
    oldest: Option<String>,
    newest: Option<String>,
}

/// Prints what each log holds.
pub(super) fn run(data: &DataDir, json: bool) -> anyhow::Result<ExitCode> {
    for mut reader in open(data)? {
        let name = reader.name().to_owned();
        let stat = stat(&mut reader).with_context(|| format!("log {name} cannot be read"))?;
        if json {
            output::json(&stat)?;
            continue;
        }
        output::line(&format!(
            "{}: {} messages, {} segments ({} sealed), {} octets, oldest {}, newest {}",
            stat.log,
            stat.messages,
            stat.segments,
            stat.segments_sealed,
            stat.octets,
            stat.oldest.as_deref().unwrap_or("-"),
            stat.newest.as_deref().unwrap_or("-"),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stat(reader: &mut Reader) -> std::io::Result<Stat> {
    let identity = *reader.identity();
    let (mut messages, mut oldest, mut newest) = (0, u64::MAX, 0);
    let mut unsealed = None;
    for segment in reader.segments() {
        match &segment.seal {
            Some(seal) => {
                messages += seal.summary.messages;
                oldest = oldest.min(seal.summary.accepted_min_us);
                newest = newest.max(seal.summary.accepted_max_us);
            }
            None => unsealed = unsealed.or(Some(segment.number)),
        }
    }
    let (segments, octets) = (reader.segments().len(), reader.octets());
    let segments_sealed = reader.segments().iter().filter(|segment| segment.seal.is_some()).count();
    if let Some(number) = unsealed {
        reader.seek(Lsn::new(number * identity.segment_bytes));
        while let Some(entry) = reader.next()? {
            if let Entry::Record(record) = entry
                && record.header.kind == RecordKind::Message
            {
                messages += 1;
                oldest = oldest.min(record.header.accepted_at_us);
                newest = newest.max(record.header.accepted_at_us);
            }
        }
    }
    Ok(Stat {
        log: reader.name().to_owned(),
        node: identity.node,
        segment_bytes: identity.segment_bytes,
        segments,
        segments_sealed,
        octets,
        messages,
        oldest: (messages > 0).then(|| time::rfc3339(oldest)),
        newest: (messages > 0).then(|| time::rfc3339(newest)),
    })
}
