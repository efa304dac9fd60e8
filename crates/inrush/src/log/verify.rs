//! Reads everything and checks every checksum.

use std::process::ExitCode;

use anyhow::Context as _;
use inrush_log::{BadRecord, Reader, VerifyEvent, segment_name};
use serde::Serialize;

use super::{code, open, time};
use crate::cli::DataDir;
use crate::output;

/// A record that does not hold, as JSON.
#[derive(Serialize)]
struct BadLine {
    log: String,
    segment: String,
    offset: u64,
    octets: u64,
    id: Option<String>,
    reason: String,
}

impl BadLine {
    fn new(log: &str, bad: &BadRecord) -> Self {
        Self {
            log: log.to_owned(),
            segment: segment_name(bad.segment),
            offset: bad.offset,
            octets: bad.octets,
            id: bad.id.map(|id| id.to_string()),
            reason: bad.reason.to_string(),
        }
    }
}

/// The result for one log, as JSON.
#[derive(Serialize)]
struct Summary {
    log: String,
    segments: u64,
    records: u64,
    messages: u64,
    recipients: u64,
    body_octets: u64,
    chunks: u64,
    chunks_orphaned: u64,
    oldest: Option<String>,
    newest: Option<String>,
    bad: u64,
}

/// Verifies all logs; exit code 1 when something does not hold.
pub(super) fn run(data: &DataDir, json: bool) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    let bar = output::progress(readers.iter().map(Reader::octets).sum());
    let (mut bad, mut before) = (0, 0);
    for reader in &mut readers {
        let log = reader.name().to_owned();
        let mut found = Vec::new();
        let verified = reader
            .verify(|event| match event {
                VerifyEvent::Progress { octets, .. } => bar.set_position(before + octets),
                VerifyEvent::Bad(record) => found.push(record),
            })
            .with_context(|| format!("log {log} cannot be read"))?;
        before += reader.octets();
        bad += verified.bad;
        for record in &found {
            bar.suspend(|| {
                if json {
                    output::json(&BadLine::new(&log, record))
                } else {
                    Ok(output::line(&format!("{log}: BAD {record}"))?)
                }
            })?;
        }
        let holds = verified.messages > 0;
        let summary = Summary {
            segments: verified.segments,
            records: verified.records,
            messages: verified.messages,
            recipients: verified.recipients,
            body_octets: verified.body_octets,
            chunks: verified.chunks,
            chunks_orphaned: verified.chunks_orphaned,
            oldest: holds.then(|| time::rfc3339(verified.accepted_min_us)),
            newest: holds.then(|| time::rfc3339(verified.accepted_max_us)),
            bad: verified.bad,
            log,
        };
        bar.suspend(|| {
            if json {
                return output::json(&summary);
            }
            let Summary { log, segments, records, messages, body_octets, bad, .. } = &summary;
            let text =
                format!("{log}: {messages} messages hold, {body_octets} octets, {records} records in {segments} segments, {bad} bad");
            Ok(output::line(&text)?)
        })?;
    }
    bar.finish_and_clear();
    Ok(code(bad))
}
