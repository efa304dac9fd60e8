//! The protobuf format: one `MetricFamily` behind the other, each behind its length. It carries native histograms, with the classic buckets beside them.
//!
//! The messages are those of `io/prometheus/client/metrics.proto` as far as they are used; a field that is not listed here is never sent. They are
//! written out for `prost`, so that no build needs a compiler of protobuf.

use prost::Message;

use super::text::{EXEMPLAR_LABEL, unit};
use super::{Group, Series, Value, Values, native};
use crate::exemplars;
use crate::table::Kind;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge`, and `Counter` without an exemplar.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    /// Those of the native histogram, in the order of their times.
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// All groups, each behind its length.
pub(super) fn delimited(groups: &[Group<'_>]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(64 << 10);
    for group in groups {
        // A Vec takes whatever it is given.
        let encoded = family(group).encode_length_delimited(&mut octets);
        debug_assert!(encoded.is_ok());
    }
    octets
}

fn family(Group { metric, series }: &Group<'_>) -> MetricFamily {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        // There is no type for facts.
        Kind::Gauge | Kind::Info => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let base = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    MetricFamily {
        name: Some(metric.name.to_owned()),
        help: Some(metric.help.to_owned()),
        kind: Some(kind.into()),
        metric: series.iter().map(|series| one(kind, series)).collect(),
        unit: unit(base).map(str::to_owned),
    }
}

fn one(kind: MetricType, Series { labels, value }: &Series<'_>) -> Metric {
    let label = labels.iter().map(|(name, value)| pair(name, value.as_ref())).collect();
    let number = |value: f64| Some(Number { value: Some(value) });
    let mut metric = Metric { label, ..Metric::default() };
    let value = match value {
        Value::Whole(value) => *value as f64,
        Value::Fraction(value) => *value,
        Value::Histogram(values) => {
            metric.histogram = Some(histogram(values));
            return metric;
        }
    };
    match kind {
        MetricType::Counter => metric.counter = number(value),
        MetricType::Gauge | MetricType::Histogram => metric.gauge = number(value),
    }
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn histogram(values: &Values) -> Histogram {
    let native = native::buckets(&values.distribution, values.units_per_base);
    let exemplar = |known: exemplars::Exemplar| exemplar(known, values.units_per_base);
    let mut known: Vec<_> = values.exemplars.iter().copied().flatten().collect();
    known.sort_unstable_by_key(|exemplar| exemplar.at_us);
    let bucket = values.buckets().into_iter().map(|bucket| Bucket {
        cumulative_count: Some(bucket.cumulative),
        upper_bound: Some(bucket.upper),
        exemplar: bucket.exemplar.map(exemplar),
    });
    Histogram {
        sample_count: Some(values.distribution.count()),
        sample_sum: Some(values.sum()),
        bucket: bucket.collect(),
        schema: Some(native::SCHEMA),
        zero_threshold: Some(native::ZERO_THRESHOLD),
        zero_count: Some(native.zero_count),
        positive_span: native
            .spans
            .into_iter()
            .map(|(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) })
            .collect(),
        positive_delta: native.deltas,
        exemplars: known.into_iter().map(exemplar).collect(),
    }
}

fn exemplar(known: exemplars::Exemplar, units_per_base: f64) -> Exemplar {
    let part = |micros: u64| i64::try_from(micros).unwrap_or(i64::MAX);
    Exemplar {
        label: vec![pair(EXEMPLAR_LABEL, &known.id.to_string())],
        value: Some(known.value as f64 / units_per_base),
        timestamp: Some(Timestamp {
            seconds: part(known.at_us / 1_000_000),
            nanos: i32::try_from(known.at_us % 1_000_000 * 1_000).unwrap_or(0),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::borrow::Cow;

    use inrush_log::{Lsn, MessageId};

    use super::*;
    use crate::histogram::Distribution;
    use crate::table::{Counter, Histogram as Cells, Phase};

    fn read(mut octets: &[u8]) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        while !octets.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut octets).unwrap());
        }
        families
    }

    #[test]
    fn a_histogram_is_classic_and_native() {
        let mut distribution = Distribution::default();
        [0, 60, 60, 120_000_000].into_iter().for_each(|value| distribution.record(value));
        let at_us = 1_700_000_000_250_000;
        let id = MessageId { node: 1, log: 0, lsn: Lsn::new(4096) };
        let mut known = vec![None; 20];
        known[1] = Some(exemplars::Exemplar { id, value: 60, at_us });
        let values = Values {
            distribution,
            bounds: Cells::Phase(Phase::Commit).bounds(),
            units_per_base: 1e6,
            exemplars: known,
        };
        let labels = vec![("phase", Cow::Borrowed("commit"))];
        let series = vec![Series { labels, value: Value::Histogram(Box::new(values)) }];
        let group = Group { metric: Cells::Phase(Phase::Commit).metric(), series };
        let families = read(&delimited(&[group]));
        let [MetricFamily { name, metric, unit, .. }] = &families[..] else { panic!("{families:?}") };
        assert_eq!(name.as_deref(), Some("inrush_phase_duration_seconds"));
        assert_eq!(unit.as_deref(), Some("seconds"));
        assert_eq!(metric[0].label, [pair("phase", "commit")]);
        let histogram = metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count, histogram.zero_count), (Some(4), Some(1)));
        assert_eq!(histogram.positive_delta, [2, -1]);
        assert_eq!(histogram.bucket.len(), 20);
        assert_eq!(histogram.bucket[1].cumulative_count, Some(3));
        assert_eq!(histogram.bucket[19].upper_bound, Some(f64::INFINITY));
        let exemplar = histogram.bucket[1].exemplar.as_ref().unwrap();
        assert_eq!(exemplar.label, [pair("message_id", "00010000000000001000")]);
        assert_eq!(exemplar.value, Some(60e-6));
        assert_eq!(exemplar.timestamp, Some(Timestamp { seconds: 1_700_000_000, nanos: 250_000_000 }));
        assert_eq!(histogram.exemplars, std::slice::from_ref(exemplar));
    }

    #[test]
    fn counters_keep_their_suffix() {
        let series = vec![Series { labels: Vec::new(), value: Value::Whole(3) }];
        let families = read(&delimited(&[Group { metric: Counter::ReceivedBytes.metric(), series }]));
        assert_eq!(families[0].name.as_deref(), Some("inrush_received_bytes_total"));
        assert_eq!(families[0].kind(), MetricType::Counter);
        assert_eq!(families[0].metric[0].counter, Some(Number { value: Some(3.0) }));
        assert_eq!(families[0].unit.as_deref(), Some("bytes"));
    }
}
