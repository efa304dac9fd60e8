//! The text that Prometheus scrapes, made by `prometheus-client` from a snapshot.
//!
//! `prometheus-client` writes OpenMetrics text only; the classic text format differs in its comment lines, which
//! [`to_classic`] rewrites. Native histograms have no text form: both formats carry classic buckets.
//!
//! Standards: OpenMetrics 1.0 text format; Prometheus exposition format 0.0.4.

use std::fmt::{Error, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::histogram::Distribution;
use crate::lines::LINES;
use crate::snapshot::{Consumer, Delivery, Metrics, Snapshot};
use crate::table::{
    ConnectionRefusal, Counter, Family, Gauge, Histogram, Kind, LogRefusal, Login, Metric, Phase,
    ProxyConnection, ProxyFailure, Resource, Retired, SessionEnd, Timeout, TlsFailure, TlsVersion, rows,
};

/// Text format of an exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, ended by `# EOF`.
    #[default]
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Classic,
}

impl Format {
    /// Value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All metrics as text, about 40 KiB.
    #[must_use]
    pub fn render(self: &Arc<Self>, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition(Arc::clone(self))));
        let mut rendered = String::with_capacity(64 << 10);
        // Writing into a String cannot fail, and no value of ours is refused by the encoder.
        let encoded = text::encode(&mut rendered, &registry);
        debug_assert!(encoded.is_ok());
        match format {
            Format::OpenMetrics => rendered,
            Format::Classic => to_classic(&rendered),
        }
    }
}

/// Rewrites OpenMetrics text: counters keep `_total` and infos `_info` in the name of their family, infos become gauges,
/// units and the end mark go away.
fn to_classic(open: &str) -> String {
    let mut classic = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let text = help.split_once(' ').map_or("", |(_, text)| text);
            let _ = writeln!(classic, "# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# ") {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

#[derive(Debug)]
struct Exposition(Arc<Metrics>);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.snapshot();
        let mut out = Out(encoder);
        out.sessions(&snapshot)?;
        out.cells(&snapshot)?;
        out.pressure(&snapshot)?;
        out.histograms(&snapshot)?;
        out.consumers(&snapshot.consumers())?;
        if let Some(delivery) = snapshot.delivery() {
            out.delivery(&delivery)?;
        }
        out.lines()?;
        out.process(&snapshot)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn sessions(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        self.counters(rows::CONNECTIONS_ACCEPTED, snapshot.accepted())?;
        self.counters(rows::COMMANDS, snapshot.commands())?;
        let replies =
            snapshot.replies().into_iter().map(|(code, count)| (code.to_string(), count)).collect::<Vec<_>>();
        self.counters(rows::REPLIES, replies)?;
        self.counters(rows::REFUSALS, snapshot.refusals())?;
        self.family::<ConnectionRefusal>(snapshot)?;
        self.family::<SessionEnd>(snapshot)?;
        self.family::<Timeout>(snapshot)?;
        self.family::<LogRefusal>(snapshot)?;
        self.family::<ProxyConnection>(snapshot)?;
        self.family::<ProxyFailure>(snapshot)?;
        self.family::<Login>(snapshot)?;
        self.family::<TlsVersion>(snapshot)?;
        self.family::<TlsFailure>(snapshot)?;
        self.family::<Retired>(snapshot)
    }

    fn pressure(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        let mut encoder = self.family_of(Resource::METRIC)?;
        for resource in Resource::ALL {
            let level = snapshot.pressure(*resource) as u64;
            encoder.encode_family(&[("reason", resource.value())])?.encode_gauge(&level)?;
        }
        Ok(())
    }

    fn consumers(&mut self, consumers: &[Consumer]) -> Result<(), Error> {
        fn labels(consumer: &Consumer) -> [(&str, &str); 2] {
            [("route", consumer.name.as_str()), ("shard", consumer.log.as_str())]
        }
        let mut lag = self.family_of(rows::CONSUMER_LAG)?;
        for consumer in consumers {
            lag.encode_family(&labels(consumer))?.encode_gauge(&consumer.lag_bytes)?;
        }
        let mut oldest = self.family_of(rows::CONSUMER_OLDEST)?;
        for consumer in consumers {
            if let Some(at_us) = consumer.oldest_at_us {
                oldest.encode_family(&labels(consumer))?.encode_gauge(&(at_us as f64 / 1e6))?;
            }
        }
        let mut lost = self.family_of(rows::CONSUMER_LOST)?;
        for consumer in consumers {
            counter_value(&mut lost.encode_family(&labels(consumer))?, &consumer.segments_lost)?;
        }
        let mut damaged = self.family_of(rows::CONSUMER_DAMAGED)?;
        for consumer in consumers {
            damaged.encode_family(&labels(consumer))?.encode_gauge(&u64::from(consumer.damaged))?;
        }
        Ok(())
    }

    fn lines(&mut self) -> Result<(), Error> {
        let counters = [
            (rows::LINES_WRITTEN, &LINES.written),
            (rows::LINES_DROPPED, &LINES.dropped),
            (rows::LINES_REPEATED, &LINES.repeated),
        ];
        for (row, counter) in counters {
            counter_value(&mut self.family_of(row)?, &counter.load(Relaxed))?;
        }
        Ok(())
    }

    fn delivery(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let mut deliveries = self.family_of(rows::DELIVERIES)?;
        for (route, status, count) in &delivery.deliveries {
            let labels = [("route", route.as_str()), ("reason", *status)];
            counter_value(&mut deliveries.encode_family(&labels)?, count)?;
        }
        self.counters(rows::REPORTS, delivery.reports.iter().copied())?;
        let mut delays = self.family_of(rows::DELIVERY_DELAY)?;
        bounded(&mut delays, DELAY_BOUNDS_MS, 1e3, &delivery.delays)?;
        let mut entries = self.family_of(rows::QUEUE_ENTRIES)?;
        for (reason, count) in [("deferred", delivery.deferred), ("hold", delivery.held)] {
            entries.encode_family(&[("reason", reason)])?.encode_gauge(&count)?;
        }
        self.gauge(rows::UNDER_WAY, &delivery.under_way)?;
        self.gauge(rows::RELAY_CONNECTIONS, &delivery.connections)?;
        self.gauge(rows::DESTINATIONS_DOWN, &delivery.destinations_down)?;
        self.gauge(rows::RELAY_MEMORY, &delivery.memory_bytes)
    }

    fn cells(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        for counter in Counter::ALL {
            let metric = counter.metric();
            let by_core = snapshot.counter_by_core(*counter);
            if *counter == Counter::BusyMicroseconds {
                let seconds =
                    by_core.iter().enumerate().map(|(core, busy)| (core.to_string(), *busy as f64 / 1e6));
                self.counters(metric, seconds)?;
            } else if metric.labels == ["core"] {
                self.counters(
                    metric,
                    by_core.iter().enumerate().map(|(core, count)| (core.to_string(), *count)),
                )?;
            } else {
                counter_value(&mut self.family_of(metric)?, &by_core.iter().sum::<u64>())?;
            }
        }
        for gauge in Gauge::ALL {
            let metric = gauge.metric();
            let by_core = snapshot.gauge_by_core(*gauge);
            if metric.labels == ["core"] {
                let mut encoder = self.family_of(metric)?;
                for (core, value) in by_core.iter().enumerate() {
                    encoder.encode_family(&[("core", core.to_string())])?.encode_gauge(value)?;
                }
            } else {
                self.gauge(metric, &by_core.iter().sum::<u64>())?;
            }
        }
        Ok(())
    }

    fn histograms(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        let mut encoder = self.family_of(Histogram::Phase(Phase::Total).metric())?;
        for phase in Phase::ALL {
            let histogram = Histogram::Phase(*phase);
            let label = [("phase", phase.value())];
            let mut encoder = encoder.encode_family(&label)?;
            histogram_value(&mut encoder, histogram, &snapshot.distribution(histogram))?;
        }
        for histogram in [Histogram::LogCommit, Histogram::LogBatchBytes, Histogram::LogBatchRecords] {
            let mut encoder = self.family_of(histogram.metric())?;
            histogram_value(&mut encoder, histogram, &snapshot.distribution(histogram))?;
        }
        Ok(())
    }

    fn process(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        let process = snapshot.process();
        let mut engines = self.family_of(rows::ENGINE)?;
        for (core, engine) in snapshot.engines() {
            let core = core.to_string();
            engines.encode_info(&[("core", core.as_str()), ("engine", engine.value())])?;
        }
        self.family_of(rows::BUILD)?.encode_info(&[("version", snapshot.names().version)])?;
        self.gauge(rows::CORES, &(snapshot.cores() as u64))?;
        self.gauge(rows::START_TIME, &snapshot.start_seconds())?;
        counter_value(&mut self.family_of(rows::CPU)?, &process.cpu_seconds)?;
        self.gauge(rows::RESIDENT, &process.resident_bytes)?;
        self.gauge(rows::DESCRIPTORS, &process.descriptors)?;
        self.gauge(rows::DESCRIPTORS_LIMIT, &process.descriptors_limit)
    }

    /// Starts a metric family. The encoder wants the name without the suffixes that it adds itself.
    fn family_of(&mut self, metric: Metric) -> Result<MetricEncoder<'_>, Error> {
        let (name, metric_type) = match metric.kind {
            Kind::Counter => (metric.name.strip_suffix("_total"), MetricType::Counter),
            Kind::Info => (metric.name.strip_suffix("_info"), MetricType::Info),
            Kind::Gauge => (Some(metric.name), MetricType::Gauge),
            Kind::Histogram => (Some(metric.name), MetricType::Histogram),
        };
        let name = name.ok_or(Error)?;
        let (name, unit) = [("_seconds", &Unit::Seconds), ("_bytes", &Unit::Bytes)]
            .into_iter()
            .find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, Some(unit))))
            .unwrap_or((name, None));
        self.0.encode_descriptor(name, metric.help, unit, metric_type)
    }

    fn gauge(&mut self, metric: Metric, value: &impl EncodeGaugeValue) -> Result<(), Error> {
        self.family_of(metric)?.encode_gauge(value)
    }

    fn family<F: Family>(&mut self, snapshot: &Snapshot<'_>) -> Result<(), Error> {
        self.counters(F::METRIC, snapshot.family::<F>())
    }

    /// A counter with one label.
    fn counters<L: AsRef<str>, V: EncodeCounterValue>(
        &mut self,
        metric: Metric,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> Result<(), Error> {
        let label = metric.labels.first().copied().ok_or(Error)?;
        let mut encoder = self.family_of(metric)?;
        for (value, count) in values {
            counter_value(&mut encoder.encode_family(&[(label, value.as_ref())])?, &count)?;
        }
        Ok(())
    }
}

fn counter_value(encoder: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> Result<(), Error> {
    encoder.encode_counter(value, None::<&Exemplar<[(&str, &str); 1], f64>>)
}

fn histogram_value(
    encoder: &mut MetricEncoder<'_>,
    histogram: Histogram,
    distribution: &Distribution,
) -> Result<(), Error> {
    bounded(encoder, histogram.bounds(), histogram.units_per_base() as f64, distribution)
}

/// Bounds of the delay of delivery: from what a neighbour takes to the lifetime of a message.
const DELAY_BOUNDS_MS: &[u64] = &[
    1,
    5,
    10,
    50,
    100,
    500,
    1_000,
    5_000,
    30_000,
    60_000,
    300_000,
    1_800_000,
    3_600_000,
    14_400_000,
    86_400_000,
    432_000_000,
];

fn bounded(
    encoder: &mut MetricEncoder<'_>,
    bounds: &[u64],
    base: f64,
    distribution: &Distribution,
) -> Result<(), Error> {
    let uppers = bounds.iter().map(|bound| *bound as f64 / base).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = uppers.zip(distribution.buckets(bounds)).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<[(&str, &str); 1]>(distribution.sum() / base, count, &buckets, None)
}
