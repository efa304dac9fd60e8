//! `/api/v1/status`: what a person wants to know, as JSON. Durations are in seconds, sizes in octets.

use inrush_metrics::{
    ConnectionRefusal, Consumer, Counter, Distribution, Family, Gauge, Histogram, LogRefusal, Metrics, Phase,
    Resource, Retired, SessionEnd, Snapshot, Timeout,
};
use serde_json::{Map, Value, json};

use crate::Readiness;

/// The document.
pub(crate) fn status(metrics: &Metrics, readiness: &Readiness) -> Value {
    let snapshot = metrics.snapshot();
    let reasons = readiness.reasons(metrics);
    let process = snapshot.process();
    let uptime = metrics.started().elapsed().unwrap_or_default();
    json!({
        "version": snapshot.names().version,
        "started_at": snapshot.start_seconds(),
        "uptime_seconds": uptime.as_secs_f64(),
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "cores": cores(&snapshot),
        "connections": {
            "open": snapshot.gauge(Gauge::ConnectionsOpen),
            "limit": snapshot.gauge(Gauge::ConnectionsLimit),
            "accepted": object(snapshot.accepted()),
            "refused": family::<ConnectionRefusal>(&snapshot),
        },
        "pressure": Resource::ALL.iter().map(|resource| {
            (resource.value().to_owned(), Value::from(snapshot.pressure(*resource).name()))
        }).collect::<Map<_, _>>(),
        "sessions_ended": family::<SessionEnd>(&snapshot),
        "timeouts": family::<Timeout>(&snapshot),
        "messages": {
            "accepted": snapshot.counter(Counter::MessagesAccepted),
            "recipients": snapshot.counter(Counter::RecipientsAccepted),
            "bytes": snapshot.counter(Counter::MessageBytes),
        },
        "commands": object(snapshot.commands()),
        "replies": object(snapshot.replies().into_iter().map(|(code, count)| (code.to_string(), count))),
        "refusals": object(snapshot.refusals()),
        "phases": Phase::ALL.iter().map(|phase| {
            (phase.value().to_owned(), quantiles(&snapshot.distribution(Histogram::Phase(*phase))))
        }).collect::<Map<_, _>>(),
        "log": {
            "batches": snapshot.counter(Counter::LogBatches),
            "records": snapshot.counter(Counter::LogRecords),
            "written_bytes": snapshot.counter(Counter::LogWrittenBytes),
            "durable_lag_bytes": snapshot.gauge(Gauge::LogDurableLagBytes),
            "segments": snapshot.gauge(Gauge::LogSegments),
            "spares_ready": snapshot.gauge(Gauge::LogSparesReady),
            "poisoned": snapshot.gauge(Gauge::LogPoisoned),
            "no_space": snapshot.gauge(Gauge::LogNoSpace),
            "hung": snapshot.gauge(Gauge::LogHung),
            "space_low": snapshot.gauge(Gauge::LogSpaceLow),
            "free_bytes": snapshot.gauge(Gauge::LogFreeBytes),
            "sealed_bytes": snapshot.gauge(Gauge::LogSealedBytes),
            "spares_waiting": snapshot.gauge(Gauge::LogSparesWaiting),
            "adopted": snapshot.gauge(Gauge::LogAdopted),
            "retired": family::<Retired>(&snapshot),
            "consumers": consumers(&snapshot),
            "refusals": family::<LogRefusal>(&snapshot),
            "commit": quantiles(&snapshot.distribution(Histogram::LogCommit)),
        },
        "process": {
            "cpu_seconds": process.cpu_seconds,
            "resident_memory_bytes": process.resident_bytes,
            "open_file_descriptors": process.descriptors,
            "file_descriptors_limit": process.descriptors_limit,
        },
    })
}

fn consumers(snapshot: &Snapshot<'_>) -> Vec<Value> {
    let consumer = |consumer: Consumer| {
        json!({
            "name": consumer.name,
            "log": consumer.log,
            "lag_bytes": consumer.lag_bytes,
            "oldest_at_seconds": consumer.oldest_at_us.map(|at_us| at_us as f64 / 1e6),
            "segments_lost": consumer.segments_lost,
            "damaged": consumer.damaged,
        })
    };
    snapshot.consumers().into_iter().map(consumer).collect()
}

fn cores(snapshot: &Snapshot<'_>) -> Vec<Value> {
    let engines = snapshot.engines();
    let engine =
        |core: usize| engines.iter().find(|(index, _)| *index == core).map(|(_, engine)| engine.value());
    let messages = snapshot.counter_by_core(Counter::MessagesAccepted);
    let busy = snapshot.counter_by_core(Counter::BusyMicroseconds);
    let open = snapshot.gauge_by_core(Gauge::ConnectionsOpen);
    let core = |core: usize| {
        json!({
            "engine": engine(core),
            "connections_open": open[core],
            "messages_accepted": messages[core],
            "busy_seconds": busy[core] as f64 / 1e6,
        })
    };
    (0..snapshot.cores()).map(core).collect()
}

/// Count and quantiles of durations that were recorded in microseconds.
pub(crate) fn quantiles(distribution: &Distribution) -> Value {
    let hdr = distribution.to_hdr();
    let seconds = |quantile: f64| hdr.value_at_quantile(quantile) as f64 / 1e6;
    json!({
        "count": hdr.len(),
        "p50_seconds": seconds(0.5),
        "p90_seconds": seconds(0.9),
        "p99_seconds": seconds(0.99),
        "p99.9_seconds": seconds(0.999),
        "max_seconds": hdr.max() as f64 / 1e6,
    })
}

fn family<F: Family>(snapshot: &Snapshot<'_>) -> Value {
    object(snapshot.family::<F>())
}

fn object<N: Into<String>>(counts: impl IntoIterator<Item = (N, u64)>) -> Value {
    counts.into_iter().map(|(name, count)| (name.into(), Value::from(count))).collect::<Map<_, _>>().into()
}
