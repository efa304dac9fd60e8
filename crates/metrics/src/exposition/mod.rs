//! What a scrape gets: every metric with its values, in one of three formats.
//!
//! ```text
//!   cells ── Snapshot ──▶ collect: Group (metric, series) ──▶ text       OpenMetrics 1.0 · Prometheus text 0.0.4
//!                                                        └──▶ protobuf   io.prometheus.client.MetricFamily, delimited
//! ```
//! Histograms carry classic buckets everywhere, native ones where the format has them (protobuf), exemplars where the format has them (OpenMetrics,
//! protobuf).

mod collect;
mod native;
mod protobuf;
mod text;

use std::borrow::Cow;

use crate::exemplars::Exemplar;
use crate::histogram::Distribution;
use crate::snapshot::Metrics;
use crate::table::Metric;

/// Format of an exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, ended by `# EOF`.
    #[default]
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Classic,
    /// Messages of `io.prometheus.client.MetricFamily`, each behind its length: the only one with native histograms.
    Protobuf,
}

impl Format {
    /// Value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// A metric with all of its series.
struct Group<'a> {
    metric: Metric,
    series: Vec<Series<'a>>,
}

/// A value and its labels.
struct Series<'a> {
    labels: Vec<(&'static str, Cow<'a, str>)>,
    value: Value,
}

/// A value.
enum Value {
    Whole(u64),
    Fraction(f64),
    Histogram(Box<Values>),
}

/// The values of a histogram.
struct Values {
    distribution: Distribution,
    /// Upper bounds of the classic buckets in recorded units.
    bounds: &'static [u64],
    /// Recorded units in one unit of exposition.
    units_per_base: f64,
    /// By bucket; empty where no message is known.
    exemplars: Vec<Option<Exemplar>>,
}

/// One classic bucket.
struct Bucket {
    /// In units of exposition.
    upper: f64,
    /// Values up to it.
    cumulative: u64,
    exemplar: Option<Exemplar>,
}

impl Values {
    /// The classic buckets, the last of them without a bound.
    fn buckets(&self) -> Vec<Bucket> {
        let uppers =
            self.bounds.iter().map(|bound| *bound as f64 / self.units_per_base).chain([f64::INFINITY]);
        let mut cumulative = 0;
        let bucket = |(index, (upper, count)): (usize, (f64, u64))| {
            cumulative += count;
            Bucket { upper, cumulative, exemplar: self.exemplars.get(index).copied().flatten() }
        };
        uppers.zip(self.distribution.buckets(self.bounds)).enumerate().map(bucket).collect()
    }

    /// The sum in units of exposition.
    fn sum(&self) -> f64 {
        self.distribution.sum() / self.units_per_base
    }
}

impl Metrics {
    /// All metrics, about 50 KiB.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        let groups = collect::collect(&self.snapshot());
        match format {
            Format::OpenMetrics => text::open_metrics(&groups).into_bytes(),
            Format::Classic => text::classic(&groups).into_bytes(),
            Format::Protobuf => protobuf::delimited(&groups),
        }
    }
}
