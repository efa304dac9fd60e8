//! Segments, messages and octets of each log. Sealed segments tell it in their seal; only an unsealed one is read.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use inrush_log::{Consumer, Entry, FORMAT_VERSION, Lsn, Reader, RecordKind, segment_name};
use serde::Serialize;

use super::increment::lag_octets;
use super::{code, files, open_of, time};
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
    consumers: Vec<ConsumerStat>,
}

/// A consumer of a log as JSON.
#[derive(Serialize)]
struct ConsumerStat {
    name: String,
    /// `required` or `best_effort`.
    kind: Option<&'static str>,
    /// LSN below which it is done with everything, in hex.
    position: Option<String>,
    /// Octets of log from there to what is proven to be durable.
    lag_octets: Option<u64>,
    saved_at: Option<String>,
    /// Why its cursor cannot be read; nothing else is known then.
    error: Option<String>,
}

impl ConsumerStat {
    fn new(consumer: Consumer, reader: &Reader, end: Lsn) -> Self {
        let Consumer { name, state } = consumer;
        match state {
            Ok(state) => Self {
                name,
                kind: Some(state.kind.name()),
                position: Some(state.position.to_string()),
                lag_octets: Some(lag_octets(reader, state.position, end)),
                saved_at: Some(time::rfc3339(state.saved_at_us)),
                error: None,
            },
            Err(error) => Self {
                name,
                kind: None,
                position: None,
                lag_octets: None,
                saved_at: None,
                error: Some(error.to_string()),
            },
        }
    }

    fn text(&self, log: &str) -> String {
        let name = &self.name;
        match self {
            Self {
                kind: Some(kind),
                position: Some(position),
                lag_octets: Some(lag),
                saved_at: Some(saved_at),
                ..
            } => {
                format!(
                    "{log}: consumer {name}, {kind}, at LSN {position}, {lag} octets behind, saved {saved_at}"
                )
            }
            Self { error, .. } => {
                let error = error.as_deref().unwrap_or_default();
                format!("{log}: consumer {name}, cursor is damaged and keeps every segment: {error}")
            }
        }
    }
}

/// A segment as JSON.
#[derive(Serialize)]
struct SegmentStat {
    log: String,
    file: String,
    /// `sealed`, `open` (takes records, or was cut off by a crash) or `ready` (waits for its first one).
    state: &'static str,
    messages: u64,
    oldest: Option<String>,
    newest: Option<String>,
}

/// Messages of a segment and when they were accepted.
#[derive(Clone, Copy)]
struct Count {
    number: u64,
    state: &'static str,
    messages: u64,
    oldest: u64,
    newest: u64,
}

impl Count {
    fn new(number: u64, state: &'static str) -> Self {
        Self { number, state, messages: 0, oldest: u64::MAX, newest: 0 }
    }

    /// First and last time, where there is a message.
    fn times(&self) -> [Option<String>; 2] {
        [self.oldest, self.newest].map(|at| (self.messages > 0).then(|| time::rfc3339(at)))
    }
}

/// Prints what each log holds.
pub(super) fn run(data: &DataDir, segments: bool, json: bool) -> anyhow::Result<ExitCode> {
    let mut stats = Vec::new();
    let opened = open_of(data, true)?;
    for mut reader in opened.readers {
        let name = reader.name().to_owned();
        let counts = counts(&mut reader).with_context(|| format!("log {name} cannot be read"))?;
        if segments {
            counts.iter().try_for_each(|count| say_segment(&name, count, json))?;
            continue;
        }
        let stat = stat(&mut reader, &counts, &data.data_dir)
            .with_context(|| format!("log {name} cannot be read"))?;
        if json {
            output::json(&stat)?;
        } else {
            output::line(&text(&stat))?;
            stat.consumers.iter().try_for_each(|one| output::line(&one.text(&stat.log)))?;
        }
        stats.push(stat);
    }
    if !json && !segments {
        let sum = |of: fn(&Stat) -> u64| stats.iter().map(of).sum::<u64>();
        output::line(&format!(
            "total: {} messages, {} octets in {} logs, {} octets free",
            sum(|stat| stat.messages),
            sum(|stat| stat.octets),
            stats.len(),
            stats.first().map_or(0, |stat| stat.free_bytes),
        ))?;
    }
    Ok(code(opened.left_out))
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

/// One segment a line: log, file and state come first, for programs that read lines.
fn say_segment(log: &str, count: &Count, json: bool) -> anyhow::Result<()> {
    let [oldest, newest] = count.times();
    let (file, state, messages) = (segment_name(count.number), count.state, count.messages);
    if json {
        return output::json(&SegmentStat { log: log.to_owned(), file, state, messages, oldest, newest });
    }
    let [oldest, newest] = [oldest, newest].map(|at| at.unwrap_or_else(|| "-".to_owned()));
    Ok(output::line(&format!("{log} {file} {state} {messages} messages, oldest {oldest}, newest {newest}"))?)
}

/// What each segment holds, in order.
fn counts(reader: &mut Reader) -> io::Result<Vec<Count>> {
    let segment_bytes = reader.identity().segment_bytes;
    let segments = reader.segments().to_vec();
    let mut counts = Vec::with_capacity(segments.len());
    let mut ready = false;
    for segment in segments {
        let number = segment.number;
        if let Some(seal) = &segment.seal {
            let summary = &seal.summary;
            let (messages, oldest, newest) =
                (summary.messages, summary.accepted_min_us, summary.accepted_max_us);
            counts.push(Count { number, state: "sealed", messages, oldest, newest });
            continue;
        }
        let mut count = Count::new(number, "ready");
        reader.seek(Lsn::new(number * segment_bytes));
        // Behind the newest record there are only segments that wait for their first one.
        while !ready {
            let header = match reader.next()? {
                None => {
                    ready = true;
                    break;
                }
                Some(Entry::Bad(bad)) if bad.segment == number => {
                    count.state = "open";
                    continue;
                }
                Some(Entry::Bad(_)) => break,
                Some(Entry::Record(record)) => record.header,
            };
            if header.lsn.segment(segment_bytes) != number {
                break;
            }
            count.state = "open";
            if header.kind == RecordKind::Message {
                count.messages += 1;
                count.oldest = count.oldest.min(header.accepted_at_us);
                count.newest = count.newest.max(header.accepted_at_us);
            }
        }
        counts.push(count);
    }
    Ok(counts)
}

fn stat(reader: &mut Reader, counts: &[Count], data: &Path) -> io::Result<Stat> {
    let identity = *reader.identity();
    let mut all = Count::new(0, "");
    for count in counts {
        all.messages += count.messages;
        all.oldest = all.oldest.min(count.oldest);
        all.newest = all.newest.max(count.newest);
    }
    let [oldest, newest] = all.times();
    let segments_sealed = counts.iter().filter(|count| count.state == "sealed").count();
    let dir = data.join(reader.name());
    let kept = files::kept(&dir)?;
    let space = rustix::fs::statvfs(data)?;
    let consumers = reader.consumers()?;
    let end = if consumers.is_empty() { Lsn::ZERO } else { reader.durable_end()? };
    let consumers = consumers.into_iter().map(|one| ConsumerStat::new(one, reader, end)).collect();
    Ok(Stat {
        log: reader.name().to_owned(),
        node: identity.node,
        uuid: uuid(&identity.uuid),
        format_version: FORMAT_VERSION,
        created_at: time::rfc3339(reader.meta().created_at_us),
        segment_bytes: identity.segment_bytes,
        segments: counts.len(),
        segments_sealed,
        segments_unsealed: counts.len() - segments_sealed,
        spares: files::spares(&dir)?,
        octets: reader.octets(),
        messages: all.messages,
        oldest,
        newest,
        damaged_files: kept.len(),
        damaged_octets: kept.iter().map(|file| file.octets).sum(),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        consumers,
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
