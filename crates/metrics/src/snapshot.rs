//! The cells of all cores added up: what one scrape shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use inrush_log::MessageId;

use crate::cells::CoreMetrics;
use crate::exemplars::Exemplar;
use crate::histogram::{Distribution, bucket_of, cell_of};
use crate::process::Process;
use crate::table::{
    Counter, CounterKey, DELAY_BOUNDS_MS, Engine, Family, Gauge, Histogram, Level, Phase, Resource,
};

/// One row of the reply table, as the label values need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyName {
    /// Reply code (RFC 5321 §4.2).
    pub code: u16,
    /// Why it is sent; `None` for replies that only say that all is well.
    pub reason: Option<&'static str>,
}

/// Label values that are known at start only.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Version of the program.
    pub version: &'static str,
    /// Commit that it is made from.
    pub revision: &'static str,
    /// Names of the listeners; the index is the one that [`CoreWriter::accepted`](crate::CoreWriter::accepted) takes.
    pub listeners: Vec<String>,
    /// Verbs in lower case; the index is the one that [`CoreWriter::command`](crate::CoreWriter::command) takes.
    pub verbs: Vec<&'static str>,
    /// The reply table; the index is the one that [`CoreWriter::reply`](crate::CoreWriter::reply) takes.
    pub replies: Vec<ReplyName>,
}

/// A consumer of a log, as last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Name of the consumer.
    pub name: String,
    /// Name of the log.
    pub log: String,
    /// Octets of log that it has not consumed.
    pub lag_bytes: u64,
    /// When the first message that it has not consumed was accepted, in µs since 1970.
    pub oldest_at_us: Option<u64>,
    /// Segments that it has lost.
    pub segments_lost: u64,
    /// Its cursor cannot be read.
    pub damaged: bool,
}

/// Delivery, as last looked at. Counters are since the start.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Recipients, by route and by what they came to.
    pub deliveries: Vec<(String, &'static str, u64)>,
    /// Connections to next hops, by route and TLS.
    pub connections_by_tls: Vec<(String, &'static str, u64)>,
    /// Reports to senders, by what they say.
    pub reports: Vec<(&'static str, u64)>,
    /// From acceptance to delivery, in milliseconds.
    pub delays: Distribution,
    /// The latest message of each classic bucket of them.
    pub delay_exemplars: [Option<Exemplar>; DELAY_BOUNDS_MS.len() + 1],
    /// Groups of recipients that wait for another attempt.
    pub deferred: u64,
    /// Groups of recipients that wait for an operator.
    pub held: u64,
    /// When the oldest of the deferred messages was accepted, in seconds since 1970.
    pub oldest_deferred_at: Option<u64>,
    /// The same of those that are held.
    pub oldest_held_at: Option<u64>,
    /// Messages of this life that were not taken for a first attempt yet.
    pub waiting: u64,
    /// Logs with mail from before the start that was not taken yet.
    pub logs_behind: u64,
    /// Messages under way.
    pub under_way: u64,
    /// Connections to next hops.
    pub connections: u64,
    /// How many there may be.
    pub connections_limit: u64,
    /// Destinations that cannot be connected to.
    pub destinations_down: u64,
    /// Octets of messages in memory.
    pub memory_bytes: u64,
    /// How many may wait there.
    pub memory_limit_bytes: u64,
}

impl Delivery {
    /// Takes note of the delivery to a recipient of the message `id`, so many milliseconds after its acceptance; `at_us` is now, in µs since 1970.
    pub fn delivered(&mut self, delay_ms: u64, id: MessageId, at_us: u64) {
        self.delays.record(delay_ms);
        let bucket = bucket_of(cell_of(delay_ms), DELAY_BOUNDS_MS);
        self.delay_exemplars[usize::from(bucket)] = Some(Exemplar { id, value: delay_ms, at_us });
    }
}

/// The metrics of the process: the cells of every core and the names of what they count.
#[derive(Debug)]
pub struct Metrics {
    names: Names,
    cores: Vec<Arc<CoreMetrics>>,
    consumers: Mutex<Vec<Consumer>>,
    /// `None` without a relay.
    delivery: Mutex<Option<Delivery>>,
    ready: AtomicBool,
    accepting: AtomicU64,
    started: SystemTime,
    /// The same on a clock that is never set.
    began: Instant,
}

impl Metrics {
    /// Cells for `cores` cores, all zero. The process counts as started now.
    #[must_use]
    pub fn new(names: Names, cores: usize) -> Arc<Self> {
        let began = Instant::now();
        let (replies, verbs, listeners) = (names.replies.len(), names.verbs.len(), names.listeners.len());
        let cells = || Arc::new(CoreMetrics::new(replies, verbs, listeners, began));
        let cores = (0..cores).map(|_| cells()).collect();
        Arc::new(Self {
            names,
            cores,
            consumers: Mutex::default(),
            delivery: Mutex::default(),
            ready: AtomicBool::default(),
            accepting: AtomicU64::default(),
            started: SystemTime::now(),
            began,
        })
    }

    /// The cells of core `index`.
    ///
    /// # Panics
    /// When there is no such core.
    #[must_use]
    pub fn core(&self, index: usize) -> &Arc<CoreMetrics> {
        &self.cores[index]
    }

    /// The cells of all cores.
    #[must_use]
    pub fn cores(&self) -> &[Arc<CoreMetrics>] {
        &self.cores
    }

    /// The names of what is counted.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Takes over how far the consumers of the logs are, once a second.
    pub fn set_consumers(&self, consumers: Vec<Consumer>) {
        *self.consumers.lock().unwrap_or_else(PoisonError::into_inner) = consumers;
    }

    /// Takes over how delivery goes, once a second.
    pub fn set_delivery(&self, delivery: Delivery) {
        *self.delivery.lock().unwrap_or_else(PoisonError::into_inner) = Some(delivery);
    }

    /// Takes over whether new mail is taken, and how many cores take connections; before each scrape.
    pub fn set_ready(&self, ready: bool, accepting: u64) {
        self.ready.store(ready, Relaxed);
        self.accepting.store(accepting, Relaxed);
    }

    /// When the first window of the talkers began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// When the process started.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// A view over the cells as they are; each value is read when it is asked for.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { metrics: self }
    }
}

/// Reads and adds up over cores.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    metrics: &'a Metrics,
}

impl<'a> Snapshot<'a> {
    /// A counter over all cores.
    #[must_use]
    pub fn counter(&self, key: impl CounterKey) -> u64 {
        self.metrics.cores.iter().map(|core| core.counter(key)).sum()
    }

    /// A counter of each core.
    #[must_use]
    pub fn counter_by_core(&self, counter: Counter) -> Vec<u64> {
        self.metrics.cores.iter().map(|core| core.counter(counter)).collect()
    }

    /// A counter by the values of its label.
    #[must_use]
    pub fn family<F: Family>(&self) -> Vec<(&'static str, u64)> {
        F::ALL.iter().map(|key| (key.value(), self.counter(*key))).collect()
    }

    /// A gauge over all cores.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.metrics.cores.iter().map(|core| core.gauge(gauge)).sum()
    }

    /// A gauge of each core.
    #[must_use]
    pub fn gauge_by_core(&self, gauge: Gauge) -> Vec<u64> {
        self.metrics.cores.iter().map(|core| core.gauge(gauge)).collect()
    }

    /// How short a resource has run on the core where it is the shortest.
    #[must_use]
    pub fn pressure(&self, resource: Resource) -> Level {
        self.metrics.cores.iter().map(|core| core.pressure(resource)).max().unwrap_or_default()
    }

    /// Cores on which a resource is over its hard mark.
    #[must_use]
    pub fn cores_at_hard_mark(&self, resource: Resource) -> usize {
        self.metrics.cores.iter().filter(|core| core.pressure(resource) == Level::Hard).count()
    }

    /// The engine of each core that has told it.
    #[must_use]
    pub fn engines(&self) -> Vec<(usize, Engine)> {
        let cores = self.metrics.cores.iter().enumerate();
        cores.filter_map(|(index, core)| core.engine().map(|engine| (index, engine))).collect()
    }

    /// Commands by verb.
    #[must_use]
    pub fn commands(&self) -> Vec<(&'static str, u64)> {
        let verbs = self.metrics.names.verbs.iter().enumerate();
        verbs
            .map(|(index, verb)| (*verb, self.metrics.cores.iter().map(|core| core.commands(index)).sum()))
            .collect()
    }

    /// Replies by code.
    #[must_use]
    pub fn replies(&self) -> BTreeMap<u16, u64> {
        let mut by_code = BTreeMap::new();
        for (reply, count) in self.by_reply() {
            *by_code.entry(reply.code).or_default() += count;
        }
        by_code
    }

    /// Replies with 4xx or 5xx by reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        let mut by_reason = BTreeMap::new();
        for (reply, count) in self.by_reply().filter(|(reply, _)| reply.code >= 400) {
            if let Some(reason) = reply.reason {
                *by_reason.entry(reason).or_default() += count;
            }
        }
        by_reason
    }

    /// Connections accepted by listener.
    #[must_use]
    pub fn accepted(&self) -> Vec<(&'a str, u64)> {
        let listeners = self.metrics.names.listeners.iter().enumerate();
        listeners
            .map(|(index, name)| {
                (name.as_str(), self.metrics.cores.iter().map(|core| core.accepted(index)).sum())
            })
            .collect()
    }

    /// A histogram over all cores.
    #[must_use]
    pub fn distribution(&self, histogram: Histogram) -> Distribution {
        let mut distribution = Distribution::default();
        for core in &self.metrics.cores {
            core.collect(histogram, &mut distribution);
        }
        distribution
    }

    /// The latest message of all cores whose value fell into this classic bucket of a phase.
    #[must_use]
    pub fn exemplar(&self, phase: Phase, bucket: usize) -> Option<Exemplar> {
        let exemplars = self.metrics.cores.iter().filter_map(|core| core.exemplar(phase, bucket));
        exemplars.max_by_key(|exemplar| exemplar.at_us)
    }

    /// Whether new mail is taken, and how many cores take connections, as of the last [`Metrics::set_ready`].
    #[must_use]
    pub fn ready(&self) -> (bool, u64) {
        (self.metrics.ready.load(Relaxed), self.metrics.accepting.load(Relaxed))
    }

    /// A phase over all cores, in microseconds, for quantiles.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> hdrhistogram::Histogram<u64> {
        self.distribution(Histogram::Phase(phase)).to_hdr()
    }

    /// Delivery; `None` without a relay.
    #[must_use]
    pub fn delivery(&self) -> Option<Delivery> {
        self.metrics.delivery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The consumers of the logs.
    #[must_use]
    pub fn consumers(&self) -> Vec<Consumer> {
        self.metrics.consumers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the kernel says about the process, read now.
    #[must_use]
    pub fn process(&self) -> Process {
        Process::read()
    }

    /// Start of the process in seconds since 1970.
    #[must_use]
    pub fn start_seconds(&self) -> f64 {
        self.metrics.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// Number of cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.metrics.cores.len()
    }

    /// The names of what is counted.
    #[must_use]
    pub fn names(&self) -> &'a Names {
        &self.metrics.names
    }

    fn by_reply(&self) -> impl Iterator<Item = (ReplyName, u64)> {
        let replies = self.metrics.names.replies.iter().enumerate();
        replies
            .map(|(index, reply)| (*reply, self.metrics.cores.iter().map(|core| core.replies(index)).sum()))
    }
}
