//! The values of all metrics, in the order of exposition.

use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;

use super::{Group, Series, Value, Values};
use crate::exemplars::{BUCKETS, PHASES};
use crate::histogram::Distribution;
use crate::lines::LINES;
use crate::snapshot::{Consumer, Delivery, Snapshot};
use crate::spans::SPANS;
use crate::table::{
    ConnectionRefusal, Counter, DELAY_BOUNDS_MS, Family, Gauge, Histogram, LogRefusal, Login, Metric, Phase,
    ProxyConnection, ProxyFailure, Resource, Retired, SessionEnd, Timeout, TlsFailure, TlsVersion, rows,
};

/// Everything that there is to show.
pub(super) fn collect<'a>(snapshot: &Snapshot<'a>) -> Vec<Group<'a>> {
    let mut all = Collected(Vec::with_capacity(100));
    all.sessions(snapshot);
    all.cells(snapshot);
    all.pressure(snapshot);
    all.histograms(snapshot);
    all.consumers(&snapshot.consumers());
    if let Some(delivery) = snapshot.delivery() {
        all.delivery(delivery);
    }
    all.lines_and_spans();
    all.process(snapshot);
    all.0
}

struct Collected<'a>(Vec<Group<'a>>);

impl<'a> Collected<'a> {
    fn sessions(&mut self, snapshot: &Snapshot<'a>) {
        self.by_label(rows::CONNECTIONS_ACCEPTED, snapshot.accepted());
        self.by_label(rows::COMMANDS, snapshot.commands());
        self.by_label(
            rows::REPLIES,
            snapshot.replies().into_iter().map(|(code, count)| (code.to_string(), count)),
        );
        self.by_label(rows::REFUSALS, snapshot.refusals());
        self.family::<ConnectionRefusal>(snapshot);
        self.family::<SessionEnd>(snapshot);
        self.family::<Timeout>(snapshot);
        self.family::<LogRefusal>(snapshot);
        self.family::<ProxyConnection>(snapshot);
        self.family::<ProxyFailure>(snapshot);
        self.family::<Login>(snapshot);
        self.family::<TlsVersion>(snapshot);
        self.family::<TlsFailure>(snapshot);
        self.family::<Retired>(snapshot);
    }

    fn cells(&mut self, snapshot: &Snapshot<'a>) {
        for counter in Counter::ALL {
            self.by_core(counter.metric(), &snapshot.counter_by_core(*counter), counter.units_per_base());
        }
        for gauge in Gauge::ALL {
            self.by_core(gauge.metric(), &snapshot.gauge_by_core(*gauge), gauge.units_per_base());
        }
    }

    /// Values of cores: each by itself where the core is a label, else added up.
    fn by_core(&mut self, metric: Metric, values: &[u64], units_per_base: u64) {
        let shown = |value: u64| match units_per_base {
            1 => Value::Whole(value),
            units => Value::Fraction(value as f64 / units as f64),
        };
        let series = if metric.labels == ["core"] {
            let series = values.iter().enumerate();
            series.map(|(core, value)| labelled("core", core.to_string(), shown(*value))).collect()
        } else {
            vec![Series { labels: Vec::new(), value: shown(values.iter().sum()) }]
        };
        self.0.push(Group { metric, series });
    }

    fn pressure(&mut self, snapshot: &Snapshot<'a>) {
        let levels = Resource::ALL.iter();
        let levels = levels.map(|resource| (resource.value(), snapshot.pressure(*resource) as u64));
        self.by_label(Resource::METRIC, levels);
    }

    fn histograms(&mut self, snapshot: &Snapshot<'a>) {
        let phases = Phase::ALL.iter().map(|phase| {
            let known = PHASES.contains(phase);
            let exemplars =
                (0..if known { BUCKETS } else { 0 }).map(|bucket| snapshot.exemplar(*phase, bucket));
            let values = values(snapshot, Histogram::Phase(*phase), exemplars.collect());
            labelled("phase", phase.value(), values)
        });
        let series = phases.collect();
        self.0.push(Group { metric: Histogram::Phase(Phase::Total).metric(), series });
        for histogram in
            [Histogram::LogCommit, Histogram::LogSync, Histogram::LogBatchBytes, Histogram::LogBatchRecords]
        {
            self.one(histogram.metric(), values(snapshot, histogram, Vec::new()));
        }
    }

    fn consumers(&mut self, consumers: &[Consumer]) {
        let mut of = |metric: Metric, value: fn(&Consumer) -> Option<Value>| {
            let series = consumers.iter().filter_map(|consumer| {
                let labels = vec![
                    ("route", Cow::Owned(consumer.name.clone())),
                    ("shard", Cow::Owned(consumer.log.clone())),
                ];
                Some(Series { labels, value: value(consumer)? })
            });
            self.0.push(Group { metric, series: series.collect() });
        };
        of(rows::CONSUMER_LAG, |consumer| Some(Value::Whole(consumer.lag_bytes)));
        of(rows::CONSUMER_OLDEST, |consumer| Some(Value::Fraction(consumer.oldest_at_us? as f64 / 1e6)));
        of(rows::CONSUMER_LOST, |consumer| Some(Value::Whole(consumer.segments_lost)));
        of(rows::CONSUMER_DAMAGED, |consumer| Some(Value::Whole(consumer.damaged.into())));
    }

    fn delivery(&mut self, delivery: Delivery) {
        for (metric, label, counts) in [
            (rows::DELIVERIES, "reason", delivery.deliveries),
            (rows::DELIVERY_CONNECTIONS, "tls", delivery.connections_by_tls),
        ] {
            let series = counts.into_iter().map(|(route, value, count)| Series {
                labels: vec![("route", Cow::Owned(route)), (label, Cow::Borrowed(value))],
                value: Value::Whole(count),
            });
            self.0.push(Group { metric, series: series.collect() });
        }
        self.by_label(rows::REPORTS, delivery.reports);
        let delays = Values {
            distribution: delivery.delays,
            bounds: DELAY_BOUNDS_MS,
            units_per_base: 1e3,
            exemplars: delivery.delay_exemplars.to_vec(),
        };
        self.one(rows::DELIVERY_DELAY, Value::Histogram(Box::new(delays)));
        self.by_label(rows::QUEUE_ENTRIES, [("deferred", delivery.deferred), ("hold", delivery.held)]);
        let oldest = [("deferred", delivery.oldest_deferred_at), ("hold", delivery.oldest_held_at)];
        self.by_label(rows::QUEUE_OLDEST, oldest.into_iter().filter_map(|(reason, at)| Some((reason, at?))));
        self.one(rows::WAITING, Value::Whole(delivery.waiting));
        self.one(rows::LANES_BEHIND, Value::Whole(delivery.logs_behind));
        self.one(rows::UNDER_WAY, Value::Whole(delivery.under_way));
        self.one(rows::RELAY_CONNECTIONS, Value::Whole(delivery.connections));
        self.one(rows::RELAY_CONNECTIONS_LIMIT, Value::Whole(delivery.connections_limit));
        self.one(rows::DESTINATIONS_DOWN, Value::Whole(delivery.destinations_down));
        self.one(rows::RELAY_MEMORY, Value::Whole(delivery.memory_bytes));
        self.one(rows::RELAY_MEMORY_LIMIT, Value::Whole(delivery.memory_limit_bytes));
    }

    fn lines_and_spans(&mut self) {
        for (metric, counter) in [
            (rows::LINES_WRITTEN, &LINES.written),
            (rows::LINES_DROPPED, &LINES.dropped),
            (rows::LINES_REPEATED, &LINES.repeated),
            (rows::SPANS_SENT, &SPANS.sent),
            (rows::SPANS_DROPPED, &SPANS.dropped),
        ] {
            self.one(metric, Value::Whole(counter.load(Relaxed)));
        }
    }

    fn process(&mut self, snapshot: &Snapshot<'a>) {
        let process = snapshot.process();
        let engines = snapshot.engines().into_iter().map(|(core, engine)| Series {
            labels: vec![("core", core.to_string().into()), ("engine", engine.value().into())],
            value: Value::Whole(1),
        });
        let series = engines.collect();
        self.0.push(Group { metric: rows::ENGINE, series });
        let labels = vec![
            ("version", snapshot.names().version.into()),
            ("revision", snapshot.names().revision.into()),
            ("arch", std::env::consts::ARCH.into()),
        ];
        let series = vec![Series { labels, value: Value::Whole(1) }];
        self.0.push(Group { metric: rows::BUILD, series });
        let (ready, accepting) = snapshot.ready();
        self.one(rows::READY, Value::Whole(ready.into()));
        self.one(rows::CORES, Value::Whole(snapshot.cores() as u64));
        self.one(rows::CORES_ACCEPTING, Value::Whole(accepting));
        self.one(rows::START_TIME, Value::Fraction(snapshot.start_seconds()));
        self.one(rows::CPU, Value::Fraction(process.cpu_seconds));
        self.one(rows::RESIDENT, Value::Whole(process.resident_bytes));
        self.one(rows::THREADS, Value::Whole(process.threads));
        self.one(rows::DESCRIPTORS, Value::Whole(process.descriptors));
        self.one(rows::DESCRIPTORS_LIMIT, Value::Whole(process.descriptors_limit));
    }

    fn family<F: Family>(&mut self, snapshot: &Snapshot<'a>) {
        self.by_label(F::METRIC, snapshot.family::<F>());
    }

    /// A metric with one label.
    fn by_label<L: Into<Cow<'a, str>>>(
        &mut self,
        metric: Metric,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        let label = metric.labels.first().copied().unwrap_or_default();
        let series = values.into_iter().map(|(value, count)| labelled(label, value, Value::Whole(count)));
        let series = series.collect();
        self.0.push(Group { metric, series });
    }

    fn one(&mut self, metric: Metric, value: Value) {
        self.0.push(Group { metric, series: vec![Series { labels: Vec::new(), value }] });
    }
}

fn labelled<'a>(label: &'static str, value: impl Into<Cow<'a, str>>, of: Value) -> Series<'a> {
    Series { labels: vec![(label, value.into())], value: of }
}

fn values(
    snapshot: &Snapshot<'_>,
    histogram: Histogram,
    exemplars: Vec<Option<crate::exemplars::Exemplar>>,
) -> Value {
    let distribution: Distribution = snapshot.distribution(histogram);
    let (bounds, units_per_base) = (histogram.bounds(), histogram.units_per_base() as f64);
    Value::Histogram(Box::new(Values { distribution, bounds, units_per_base, exemplars }))
}
