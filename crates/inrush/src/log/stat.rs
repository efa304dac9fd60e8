//! Segments, messages and octets of each log. Sealed segments tell it in their seal; only an unsealed one is read.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use inrush_log::{Entry, FORMAT_VERSION, Lsn, Reader, RecordKind};
use serde::Serialize;

use super::{files, open, time};
use crate::cli::DataDir;
use crate::output;

/// A log as JSON. Field names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Stat {
    log: String,
    node: u16,
    uuid: String,
    format_version: u32,
    created_at: String,
    segment_bytes: u64,
    segments: usize,
    segments_sealed: usize,
    segments_unsealed: usize,
    spares: usize,
    octets: u64,
    messages: u64,
    oldest: Option<String>,
    newest: Option<String>,
    damaged_files: usize,
    damaged_octets: u64,
    free_bytes: u64,
}

/// Prints what each log holds.
pub(super) fn run(data: &DataDir, json: bool) -> anyhow::Result<ExitCode> {
    let mut stats = Vec::new();
    for mut reader in open(data)? {
        let name = reader.name().to_owned();
        let stat = stat(&mut reader, &data.data_dir).with_context(|| format!("log {name} cannot be read"))?;
        if json {
            output::json(&stat)?;
        } else {
            output::line(&text(&stat))?;
        }
        stats.push(stat);
    }
    if !json {
        let sum = |of: fn(&Stat) -> u64| stats.iter().map(of).sum::<u64>();
        output::line(&format!(
            "total: {} messages, {} octets in {} logs, {} octets free",
            sum(|stat| stat.messages),
            sum(|stat| stat.octets),
            stats.len(),
            stats.first().map_or(0, |stat| stat.free_bytes),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(stat: &Stat) -> String {
    let mut text = format!(
        "{}: {} messages, {} segments ({} sealed), {} octets, oldest {}, newest {}, {} spares, node {}, uuid {}, format {}",
        stat.log,
        stat.messages,
        stat.segments,
        stat.segments_sealed,
        stat.octets,
        stat.oldest.as_deref().unwrap_or("-"),
        stat.newest.as_deref().unwrap_or("-"),
        stat.spares,
        stat.node,
        stat.uuid,
        stat.format_version,
    );
    if stat.damaged_files > 0 {
        // Writing into a text cannot fail.
        let _ = write!(text, ", {} files ({} octets) in damaged/", stat.damaged_files, stat.damaged_octets);
    }
    text
}

fn stat(reader: &mut Reader, data: &Path) -> io::Result<Stat> {
    let identity = *reader.identity();
    let (mut messages, mut oldest, mut newest) = (0, u64::MAX, 0);
    let mut unsealed = Vec::new();
    for segment in reader.segments() {
        match &segment.seal {
            Some(seal) => {
                messages += seal.summary.messages;
                oldest = oldest.min(seal.summary.accepted_min_us);
                newest = newest.max(seal.summary.accepted_max_us);
            }
            None => unsealed.push(segment.number),
        }
    }
    let (segments, octets) = (reader.segments().len(), reader.octets());
    let segments_unsealed = unsealed.len();
    'segments: for number in unsealed {
        reader.seek(Lsn::new(number * identity.segment_bytes));
        loop {
            let header = match reader.next()? {
                // Behind the newest record there are only segments that wait for their first one.
                None => break 'segments,
                Some(Entry::Record(record)) => record.header,
                Some(Entry::Bad(bad)) if bad.segment == number => continue,
                Some(Entry::Bad(_)) => break,
            };
            if header.lsn.segment(identity.segment_bytes) != number {
                break;
            }
            if header.kind == RecordKind::Message {
                messages += 1;
                oldest = oldest.min(header.accepted_at_us);
                newest = newest.max(header.accepted_at_us);
            }
        }
    }
    let dir = data.join(reader.name());
    let kept = files::kept(&dir)?;
    let space = rustix::fs::statvfs(data)?;
    Ok(Stat {
        log: reader.name().to_owned(),
        node: identity.node,
        uuid: uuid(&identity.uuid),
        format_version: FORMAT_VERSION,
        created_at: time::rfc3339(reader.meta().created_at_us),
        segment_bytes: identity.segment_bytes,
        segments,
        segments_sealed: segments - segments_unsealed,
        segments_unsealed,
        spares: files::spares(&dir)?,
        octets,
        messages,
        oldest: (messages > 0).then(|| time::rfc3339(oldest)),
        newest: (messages > 0).then(|| time::rfc3339(newest)),
        damaged_files: kept.len(),
        damaged_octets: kept.iter().map(|file| file.octets).sum(),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// RFC 9562 §4: 8-4-4-4-12 hex digits.
fn uuid(octets: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, octet) in octets.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing into a text cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}
