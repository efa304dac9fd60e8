//! What the live views show: one look at the cells a second, and what has changed since the one before.
//!
//! Rates are over the time between two looks; quantiles over the last [`WINDOW`] looks, so that a quiet second does not show as none. A sample is one
//! JSON object on one line; `docs/api.md` names its fields. Sizes are octets, durations seconds.

mod busy;
mod destinations;
mod look;
mod phases;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use inrush_metrics::{Gauge, Level, Metrics, Resource, Snapshot};
use serde_json::{Map, Value, json};

use self::busy::Busy;
use self::destinations::Destinations;
use self::look::Look;
use self::phases::Phases;
use crate::{QueueApi, Readiness};

/// Looks over which quantiles are taken.
const WINDOW: usize = 5;

/// Reasons of refusals in a sample: those with the most in the last second, then in all.
const REASONS_MAX: usize = 20;

/// Takes samples.
pub(crate) struct Sampler {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    last: Look,
    at: Instant,
    phases: Phases,
    busy: Busy,
    destinations: Destinations,
}

impl Sampler {
    /// Looks at `metrics`, and asks `queue` for the destinations that are the worst.
    pub(crate) fn new(metrics: Arc<Metrics>, readiness: Readiness, queue: Option<Arc<dyn QueueApi>>) -> Self {
        Self {
            last: Look::default(),
            at: Instant::now(),
            phases: Phases::default(),
            busy: Busy::default(),
            destinations: Destinations::new(queue),
            metrics,
            readiness,
        }
    }

    /// The look that the first sample is compared with.
    pub(crate) fn begin(&mut self) {
        let snapshot = self.metrics.snapshot();
        self.phases = Phases::default();
        self.phases.look(&snapshot);
        self.busy.begin(&snapshot);
        self.last = Look::at(&snapshot);
        self.at = Instant::now();
    }

    /// What there is now and what has changed, as a line of JSON.
    pub(crate) async fn sample(&mut self) -> String {
        let destinations = self.destinations.latest().await;
        let snapshot = self.metrics.snapshot();
        let now = Instant::now();
        let look = Look::at(&snapshot);
        // Never by nothing: two looks may be close when the machine was busy.
        let seconds = now.duration_since(self.at).as_secs_f64().max(1e-3);
        self.phases.look(&snapshot);
        let busy = self.busy.shares(&snapshot, seconds);
        let reasons = self.readiness.reasons(&self.metrics);
        let mut sample = json!({
            "at": since_1970(),
            "interval_seconds": rounded(seconds),
            "version": snapshot.names().version,
            "uptime_seconds": rounded(self.metrics.started().elapsed().unwrap_or_default().as_secs_f64()),
            "ready": reasons.is_empty(),
            "reasons": reasons,
            "pressure": pressure(&snapshot),
            "connections": {
                "open": snapshot.gauge(Gauge::ConnectionsOpen),
                "limit": snapshot.gauge(Gauge::ConnectionsLimit),
            },
            "rates": look.rates(&self.last, seconds),
            "totals": look.totals(),
            "phases": self.phases.quantiles(),
            "phases_window_seconds": rounded(self.phases.window_seconds()),
            "cores": cores(&snapshot, &look, &self.last, seconds, &busy),
            "log": log(&snapshot),
            "refusals": look.refusals(&self.last, seconds, REASONS_MAX),
            "queue": Value::Null,
            "process": {
                "cpu": rounded((look.cpu_seconds - self.last.cpu_seconds).max(0.0) / seconds),
                "resident_memory_bytes": look.resident_bytes,
                "open_file_descriptors": look.descriptors,
                "file_descriptors_limit": look.descriptors_limit,
            },
        });
        if let Some(delivery) = snapshot.delivery() {
            sample["queue"] = json!({
                "deferred": delivery.deferred,
                "held": delivery.held,
                "under_way": delivery.under_way,
                "connections": delivery.connections,
                "destinations_down": delivery.destinations_down,
                "memory_bytes": delivery.memory_bytes,
                "routes": look.routes(&self.last, seconds),
                "destinations": destinations,
            });
        }
        self.last = look;
        self.at = now;
        sample.to_string()
    }
}

fn since_1970() -> f64 {
    rounded(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

/// To the microsecond, or a millionth: what is finer is noise, and octets for every viewer.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A rate of a counter that has grown.
fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    (now.saturating_sub(before) as f64 / seconds * 100.0).round() / 100.0
}

/// The resources that are over a mark.
fn pressure(snapshot: &Snapshot<'_>) -> Map<String, Value> {
    let levels = Resource::ALL.iter().map(|resource| (resource, snapshot.pressure(*resource)));
    let pressed = levels.filter(|(_, level)| *level != Level::Calm);
    pressed.map(|(resource, level)| (resource.value().to_owned(), level.name().into())).collect()
}

fn cores(
    snapshot: &Snapshot<'_>,
    look: &Look,
    last: &Look,
    seconds: f64,
    busy: &[Option<f64>],
) -> Vec<Value> {
    let engines = snapshot.engines();
    let open = snapshot.gauge_by_core(Gauge::ConnectionsOpen);
    let core = |core: usize| {
        let engine = engines.iter().find(|(index, _)| *index == core).map(|(_, engine)| engine.value());
        let before = last.accepted_by_core.get(core).copied().unwrap_or(0);
        json!({
            "engine": engine,
            "connections_open": open[core],
            "accepted": rate(look.accepted_by_core[core], before, seconds),
            "busy": busy.get(core).copied().flatten().map(rounded),
        })
    };
    (0..snapshot.cores()).map(core).collect()
}

fn log(snapshot: &Snapshot<'_>) -> Value {
    let consumers = snapshot.consumers();
    // What lies furthest back decides what the log keeps.
    let furthest = consumers.iter().max_by_key(|consumer| consumer.lag_bytes);
    json!({
        "durable_lag_bytes": snapshot.gauge(Gauge::LogDurableLagBytes),
        "segments": snapshot.gauge(Gauge::LogSegments),
        "sealed_bytes": snapshot.gauge(Gauge::LogSealedBytes),
        "free_bytes": snapshot.gauge(Gauge::LogFreeBytes),
        "spares_ready": snapshot.gauge(Gauge::LogSparesReady),
        "spares_waiting": snapshot.gauge(Gauge::LogSparesWaiting),
        "poisoned": snapshot.gauge(Gauge::LogPoisoned),
        "no_space": snapshot.gauge(Gauge::LogNoSpace),
        "hung": snapshot.gauge(Gauge::LogHung),
        "space_low": snapshot.gauge(Gauge::LogSpaceLow),
        "consumers": consumers.len(),
        "furthest_consumer": furthest.map(|consumer| json!({
            "name": consumer.name,
            "log": consumer.log,
            "lag_bytes": consumer.lag_bytes,
            "oldest_at": consumer.oldest_at_us.map(|at_us| at_us as f64 / 1e6),
        })),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::pin::Pin;

    use inrush_metrics::{Counter, Delivery, Histogram, Names, Phase, ReplyName};

    use super::*;
    use crate::Answer;

    struct Queue;

    impl QueueApi for Queue {
        fn answer(
            &self,
            changes: bool,
            path: &str,
            _: &str,
        ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
            assert!(!changes && path == "queue/destinations");
            let destinations = json!({ "destinations": [{ "destination": "out:example.com" }] });
            Box::pin(async { Answer::ok(destinations) })
        }
    }

    #[tokio::test]
    async fn a_sample_says_what_has_changed() {
        let names = Names {
            replies: vec![
                ReplyName { code: 250, reason: None },
                ReplyName { code: 550, reason: Some("user_unknown") },
                ReplyName { code: 451, reason: Some("local_error") },
            ],
            listeners: vec!["mx".into()],
            ..Names::default()
        };
        let metrics = Metrics::new(names, 2);
        let writer = metrics.core(1).writer().unwrap();
        writer.add(Counter::MessagesAccepted, 1_000);
        writer.record(Histogram::Phase(Phase::Commit), 1_000_000);
        metrics.set_delivery(Delivery { deliveries: vec![("out".into(), "sent", 5)], ..Delivery::default() });
        let mut sampler = Sampler::new(Arc::clone(&metrics), Readiness::default(), Some(Arc::new(Queue)));
        sampler.begin();
        writer.add(Counter::MessagesAccepted, 10);
        writer.accepted(0);
        writer.reply(0);
        writer.reply(1);
        writer.reply(1);
        writer.set(Gauge::LogNoSpace, 1);
        writer.pressure(Resource::Connections, Level::Soft);
        writer.record(Histogram::Phase(Phase::Commit), 500);
        metrics.set_delivery(Delivery {
            deliveries: vec![("out".into(), "sent", 7), ("out".into(), "bounced", 1)],
            deferred: 3,
            ..Delivery::default()
        });
        let line = sampler.sample().await;
        assert!(!line.contains('\n'));
        let sample: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(sample["totals"]["accepted"], 1_010);
        assert_eq!(sample["totals"]["refused"], 2);
        let (accepted, refused) = (&sample["rates"]["accepted"], &sample["rates"]["refused"]);
        // Ten and two in the same time.
        assert!((accepted.as_f64().unwrap() / refused.as_f64().unwrap() - 5.0).abs() < 0.1, "{sample}");
        assert_eq!(sample["cores"][0]["accepted"], 0.0);
        assert_eq!(sample["refusals"][0]["reason"], "user_unknown");
        assert_eq!(sample["refusals"][0]["total"], 2);
        assert_eq!(sample["refusals"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&sample["ready"], &sample["pressure"]["connections_max"]),
            (&false.into(), &"soft".into())
        );
        let commit = &sample["phases"]["commit"];
        assert!(commit["max_seconds"].as_f64().unwrap() < 0.001, "what came before does not count: {commit}");
        assert!(sample["phases"]["tls"].is_null());
        assert_eq!(sample["queue"]["deferred"], 3);
        assert_eq!(sample["queue"]["routes"]["out"]["sent"]["total"], 7);
        assert!(sample["queue"]["routes"]["out"]["bounced"]["rate"].as_f64().unwrap() > 0.0);
        assert_eq!(sample["queue"]["destinations"][0]["destination"], "out:example.com");
        let quiet: Value = serde_json::from_str(&sampler.sample().await).unwrap();
        assert_eq!(quiet["rates"]["accepted"], 0.0);
        assert_eq!(quiet["refusals"][0]["rate"], 0.0);
    }
}
