//! Per-core cells and histograms, merged at scrape.
//!
//! Each core writes its own [`CoreMetrics`] through its [`CoreWriter`]: a relaxed load and a relaxed store per event, no
//! read-modify-write, no cache line shared with another writer. A scrape reads the cells of all cores and adds them up
//! ([`Metrics::snapshot`]), then renders OpenMetrics, classic Prometheus text, or protobuf with native histograms ([`Metrics::render`]).
//!
//! Every metric is one row of the table in [`table`]: name, kind, labels, help. `docs/metrics.md` is generated from the same
//! rows ([`documentation`]). Label values are a closed set that is known at start, but for the names of consumers of the log: never an address, never a domain.
//! Those are counted apart, the most frequent ones only ([`Metrics::talkers`]).
//!
//! Called by: the gateway (writes), the admin server (reads). Memory: about 0.9 MiB a core: 0.2 of it histogram cells, the rest names of talkers.
#![forbid(unsafe_code)]

mod cells;
mod docs;
mod exemplars;
mod exposition;
mod histogram;
mod lines;
mod process;
mod snapshot;
mod spans;
pub mod table;
mod talkers;

pub use cells::{CoreMetrics, CoreWriter};
pub use docs::documentation;
pub use exemplars::Exemplar;
pub use exposition::Format;
pub use histogram::{Distribution, HISTOGRAM_VALUE_MAX};
pub use lines::{LINES, Lines};
pub use process::Process;
pub use snapshot::{Consumer, Delivery, Metrics, Names, ReplyName, Snapshot};
pub use spans::{SPANS, Spans};
pub use table::{
    ConnectionRefusal, Counter, CounterKey, Engine, Family, Gauge, Histogram, Kind, Level, LogRefusal, Login,
    Metric, Phase, ProxyConnection, ProxyFailure, Resource, Retired, SessionEnd, Timeout, TlsFailure,
    TlsVersion,
};
pub use talkers::{Share, TALKERS_MAX, Talker, Talkers, TalkersBy};
