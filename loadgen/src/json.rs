//! The figures for programs: one JSON object, its layout versioned and described in the README.
//!
//! Times are microseconds; a field is never given another meaning: a change adds fields or raises `schema`.

use std::fs;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde_json::{Map, Value, json};

use crate::cpu_share::CpuShare;
use crate::details;
use crate::record::{Counts, Phase, Record};
use crate::report::{QUANTILES, explain};
use crate::run::Outcome;
use crate::series::{Series, SliceCounts};

/// Version of the layout.
pub const SCHEMA: u32 = 1;

/// What the JSON says beside the figures.
#[derive(Clone, Debug)]
pub struct Context {
    /// Words of the command line.
    pub command: Vec<String>,
    /// RFC 3339 time of the start.
    pub started_at: String,
    /// As in `X-Inrush-Load`.
    pub run: u64,
    /// What the process will end with.
    pub exit_code: u8,
    /// The options, see [`crate::settings`].
    pub settings: Map<String, Value>,
    /// Words of the user.
    pub labels: Vec<String>,
}

/// The whole object.
#[must_use]
pub fn object(outcome: &Outcome, context: &Context) -> Value {
    let record = &outcome.record;
    let seconds = outcome.elapsed.as_secs_f64();
    let rate = |value: u64| if seconds > 0.0 { value as f64 / seconds } else { 0.0 };
    let causes: Vec<Value> = record
        .causes
        .iter()
        .map(|(cause, occurrences)| {
            json!({
                "place": cause.place, "code": cause.code, "count": occurrences.count, "example": occurrences.example,
            })
        })
        .collect();
    let mut object = json!({
        "schema": SCHEMA,
        "generator": format!("inrush-load {}", env!("CARGO_PKG_VERSION")),
        "command": context.command,
        "started_at": context.started_at,
        "run": format!("{:016x}", context.run),
        "exit_code": context.exit_code,
        "settings": context.settings,
        "labels": context.labels,
        "ended_by": outcome.ended_by.as_ref().map(explain),
        "machine": machine(),
        "engine": outcome.engine,
        "elapsed_s": seconds,
        "messages_per_second": rate(record.counts.acknowledged),
        "octets_per_second": rate(record.counts.octets),
        "counts": counts(&record.counts),
        "warmup_counts": counts(&record.warmup),
        "errors": record.counts.errors() + record.warmup.errors(),
        "causes": causes,
        "open_loop": { "backlog_max": outcome.backlog_max, "not_sent": outcome.not_sent, "not_sent_own_pace": outcome.not_sent_own_pace },
        "phases": Phase::ALL.map(Phase::name),
        "latency_us": phases(record),
        "histograms_ns": histograms(outcome),
        "series": outcome.series.as_ref().map(series),
        "server_cpu": match &outcome.server_cpu {
            Some(Ok(share)) => cpu(share),
            Some(Err(error)) => json!({ "error": error }),
            None => Value::Null,
        },
        "verification": match &outcome.verification {
            Some(Ok(found)) => json!({
                "holds": found.holds(),
                "acknowledged": found.acknowledged,
                "found": found.found,
                "missing": found.missing,
                "altered": found.altered,
                "duplicated": found.duplicated,
                "unacknowledged": found.unacknowledged,
                "without_id": found.without_id,
                "damaged": found.damaged,
                "examples": found.examples,
            }),
            Some(Err(error)) => json!({ "error": error }),
            None => Value::Null,
        },
        "generator_cpu": outcome.own_cpu.as_ref().map(cpu),
    });
    if let Some(object) = object.as_object_mut() {
        details::add_to(object, outcome);
    }
    object
}

/// The distribution of each phase.
pub(crate) fn phases(record: &Record) -> Value {
    let phases = Phase::ALL.into_iter();
    Value::Object(phases.map(|phase| (phase.name().to_owned(), distribution(record, phase))).collect())
}

pub(crate) fn counts(counts: &Counts) -> Value {
    json!({
        "started": counts.started,
        "acknowledged": counts.acknowledged,
        "octets": counts.octets,
        "refused": counts.refused,
        "failed": counts.failed,
        "unfinished": counts.unfinished,
        "not_possible": counts.not_possible,
        "recipients_refused": counts.recipients_refused,
        "connections": counts.connections,
        "connections_failed": counts.connections_failed,
        "connections_closed_idle": counts.closed_idle,
        "tls_handshakes": counts.handshakes,
        "tls_handshakes_resumed": counts.handshakes_resumed,
    })
}

fn distribution(record: &Record, phase: Phase) -> Value {
    let histogram = record.histogram(phase);
    if histogram.is_empty() {
        return Value::Null;
    }
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let mut object = Map::new();
    object.insert("count".to_owned(), json!(histogram.len()));
    object.insert("min".to_owned(), json!(us(histogram.min())));
    object.insert("mean".to_owned(), json!(histogram.mean() / 1e3));
    object.insert("stdev".to_owned(), json!(histogram.stdev() / 1e3));
    for (name, quantile) in QUANTILES {
        object.insert(name.to_owned(), json!(us(histogram.value_at_quantile(quantile))));
    }
    object.insert("max".to_owned(), json!(us(histogram.max())));
    Value::Object(object)
}

/// The whole distributions, so that reports and comparisons need nothing else.
fn histograms(outcome: &Outcome) -> Map<String, Value> {
    let histogram = |phase: Phase| Some(outcome.record.histogram(phase)).filter(|some| !some.is_empty());
    Phase::ALL
        .into_iter()
        .filter_map(|phase| Some((phase.name().to_owned(), compressed(histogram(phase)?))))
        .collect()
}

/// HdrHistogram's V2 encoding, deflated, in Base64 (RFC 4648 §4): what its other tools read.
fn compressed(histogram: &Histogram<u64>) -> Value {
    let mut octets = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut octets) {
        Ok(_) => Value::String(base64_simd::STANDARD.encode_to_string(&octets)),
        // Writing into memory; only a count beyond what the encoding can hold is left.
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Slices as columns: a run of an hour stays readable.
fn series(series: &Series) -> Value {
    let counts = series.counts();
    let column = |of: fn(&SliceCounts) -> u64| counts.iter().map(of).collect::<Vec<u64>>();
    let planned = column(|counts| counts.planned);
    let latencies: Vec<Value> = (0..counts.len())
        .map(|slice| {
            let sparse = series.latencies(slice);
            if sparse.is_empty() { Value::Null } else { compressed(&sparse.histogram()) }
        })
        .collect();
    json!({
        "slice_s": series.slice().as_secs_f64(),
        "lead_s": series.lead().as_secs_f64(),
        "planned": planned.iter().any(|&planned| planned > 0).then_some(planned),
        "started": column(|counts| counts.started),
        "acknowledged": column(|counts| counts.acknowledged),
        "octets": column(|counts| counts.octets),
        "errors": column(|counts| counts.errors),
        "latency_ns": latencies,
    })
}

fn cpu(share: &CpuShare) -> Value {
    let time = &share.time;
    json!({
        "messages": share.messages,
        "total_us": time.total_us,
        "us_per_message": share.per_message(time.total_us),
        "user_us_per_message": share.per_message(time.user_us),
        "system_us_per_message": share.per_message(time.system_us),
        "threads": time.threads,
        "source": if time.fine { "schedstat" } else { "stat" },
    })
}

/// What can be told about the machine without asking anybody.
fn machine() -> Value {
    let system = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim());
    let memory_kib: Option<u64> = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse().ok());
    json!({
        "host": text(system.nodename()),
        "kernel": format!("{} {}", text(system.sysname()), text(system.release())),
        "architecture": text(system.machine()),
        "cpu": model,
        "cpus": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
        "memory_bytes": memory_kib.map(|kib| kib * 1024),
        "tcp_congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
    })
}
