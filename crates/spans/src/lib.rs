//! Spans for OpenTelemetry: what became of a message, attempt by attempt, and what the admin server was asked.
//!
//! ```text
//!   relay, admin server ──▶ bounded channel ──▶ thread: batches ──▶ OTLP over HTTP (protobuf)
//! ```
//! Whoever has a span to hand over never waits: a channel that is full costs the span, which is counted ([`inrush_metrics::SPANS`]). Without an endpoint
//! there is neither a channel nor a thread, and no span is made.
//!
//! A message is one trace, whose id is made of the time of its acceptance and its id: all attempts are found together, over restarts, though nothing is kept
//! for it. Whether it is followed at all is told by its id as well.
//!
//! Standards: OTLP 1.x, W3C Trace Context. `docs/opentelemetry.md` describes every span; a test holds it against those that arrive.
#![forbid(unsafe_code)]

mod export;
mod settings;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::Sender;
use http::HeaderMap;
use inrush_log::MessageId;
use inrush_metrics::SPANS;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

pub use export::{About, Exporter, QUEUE_SPANS_MAX, StartError};
pub use opentelemetry::Value;
pub use settings::{Authorization, Endpoint, SpanSettings};

/// Octets of a text in a span; the rest is left out.
pub const TEXT_OCTETS_MAX: usize = 512;

/// Where spans are handed over; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<Way>>);

#[derive(Debug)]
struct Way {
    sender: Sender<SpanData>,
    one_in: u64,
    scope: InstrumentationScope,
}

impl Spans {
    /// The trace of a message that was accepted then, in µs since 1970, if it is followed.
    #[must_use]
    pub fn message(&self, id: MessageId, accepted_at_us: u64) -> Option<MessageTrace> {
        let way = self.0.as_ref()?;
        let mixed = mix(id.packed());
        if !mixed.is_multiple_of(way.one_in) {
            return None;
        }
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&accepted_at_us.to_be_bytes()[2..]);
        octets[6..8].copy_from_slice(&id.node.to_be_bytes());
        octets[8..].copy_from_slice(&id.packed().to_be_bytes());
        Some(MessageTrace {
            way: Arc::clone(way),
            id,
            accepted_at_us,
            trace: TraceId::from_bytes(octets),
            whole: SpanId::from_bytes(mixed.to_be_bytes()),
        })
    }

    /// A request that comes now with these header fields, if it is followed: as its sender has decided, else one of so many.
    #[must_use]
    pub fn request(&self, name: impl Into<Cow<'static, str>>, headers: &HeaderMap) -> Option<Span> {
        let way = self.0.as_ref()?;
        let sent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers))
            .span()
            .span_context()
            .clone();
        let random = RandomIdGenerator::default();
        let (trace, parent, is_followed) = if sent.is_valid() {
            (sent.trace_id(), sent.span_id(), sent.is_sampled())
        } else {
            let trace = random.new_trace_id();
            let [.., a, b, c, d] = trace.to_bytes();
            let drawn = u64::from(u32::from_be_bytes([a, b, c, d]));
            (trace, SpanId::INVALID, drawn.is_multiple_of(way.one_in))
        };
        if !is_followed {
            return None;
        }
        let now = SystemTime::now();
        let mut span = Span::new(way, trace, random.new_span_id(), parent, name.into(), now..now);
        span.data.span_kind = SpanKind::Server;
        span.data.parent_span_is_remote = sent.is_valid();
        Some(span)
    }
}

/// The trace of a message.
#[derive(Debug)]
pub struct MessageTrace {
    way: Arc<Way>,
    id: MessageId,
    accepted_at_us: u64,
    trace: TraceId,
    /// The span that all others are below.
    whole: SpanId,
}

impl MessageTrace {
    /// The span from the acceptance of the message until nothing is owed any more, `end_us` since 1970.
    pub fn whole(&self, end_us: u64) -> Span {
        let times = at(self.accepted_at_us)..at(end_us);
        Span::new(&self.way, self.trace, self.whole, SpanId::INVALID, "message".into(), times)
            .with("inrush.message.id", self.id.to_string())
    }

    /// An attempt to deliver it, from and until µs since 1970.
    pub fn attempt(&self, start_us: u64, end_us: u64) -> Span {
        let own = RandomIdGenerator::default().new_span_id();
        let times = at(start_us)..at(end_us);
        let mut span = Span::new(&self.way, self.trace, own, self.whole, "delivery attempt".into(), times);
        span.data.span_kind = SpanKind::Client;
        span.with("inrush.message.id", self.id.to_string())
    }
}

/// A span until it is handed over with [`end`](Self::end) or [`end_now`](Self::end_now).
#[derive(Debug)]
#[must_use = "a span that is not ended is lost"]
pub struct Span {
    way: Arc<Way>,
    data: SpanData,
}

impl Span {
    fn new(
        way: &Arc<Way>,
        trace: TraceId,
        own: SpanId,
        parent: SpanId,
        name: Cow<'static, str>,
        times: std::ops::Range<SystemTime>,
    ) -> Self {
        let context = SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::NONE);
        let data = SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time: times.start,
            end_time: times.end,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: way.scope.clone(),
        };
        Self { way: Arc::clone(way), data }
    }

    /// With another name.
    pub fn named(mut self, name: String) -> Self {
        self.data.name = cut(name).into();
        self
    }

    /// With an attribute.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.data.attributes.push(bounded(key, value.into()));
        self
    }

    /// With something that happened in it, in µs since 1970.
    pub fn with_event(
        mut self,
        name: &'static str,
        at_us: u64,
        attributes: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Self {
        let attributes = attributes.into_iter().map(|(key, value)| bounded(key, value)).collect();
        self.data.events.events.push(Event::new(name, at(at_us), attributes, 0));
        self
    }

    /// It has not come to what it was for.
    pub fn failed(mut self, why: String) -> Self {
        self.data.status = Status::error(cut(why));
        self
    }

    /// Hands it over, or loses it where too many wait.
    pub fn end(self) {
        if self.way.sender.try_send(self.data).is_err() {
            SPANS.dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The same for one that ends now.
    pub fn end_now(mut self) {
        self.data.end_time = SystemTime::now();
        self.end();
    }
}

/// Texts come from anybody.
fn bounded(key: &'static str, value: Value) -> KeyValue {
    match value {
        Value::String(text) => KeyValue::new(key, cut(text.as_str().to_owned())),
        value => KeyValue::new(key, value),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_OCTETS_MAX));
    text
}

fn at(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// A number in which each bit depends on all of `packed`, different for each, and 0 for no id that there is (`SplitMix64`, Steele et al. 2014).
fn mix(packed: u64) -> u64 {
    let mut z = packed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::{Receiver, bounded};
    use inrush_log::Lsn;

    use super::*;

    fn spans(one_in: u64, room: usize) -> (Spans, Receiver<SpanData>) {
        let (sender, receiver) = bounded(room);
        let scope = InstrumentationScope::builder("inrush").build();
        (Spans(Some(Arc::new(Way { sender, one_in, scope }))), receiver)
    }

    fn id(lsn: u64) -> MessageId {
        MessageId { node: 7, log: 1, lsn: Lsn::new(lsn) }
    }

    #[test]
    fn all_of_a_message_is_one_trace_that_its_id_stands_in() {
        let (spans, received) = spans(1, 10);
        let again = || spans.message(id(0x801000), 1_763_920_000_000_000).expect("all are followed");
        again().attempt(1_763_920_000_100_000, 1_763_920_000_200_000).end();
        again().attempt(1_763_920_100_000_000, 1_763_920_100_200_000).end();
        again().whole(1_763_920_100_200_000).end();
        let all: Vec<SpanData> = received.try_iter().collect();
        let [first, second, whole] = all.as_slice() else { panic!("{all:?}") };
        let trace = whole.span_context.trace_id().to_string();
        assert_eq!(trace, "4446a103200000070100000000801000");
        assert!(trace.ends_with(&id(0x801000).to_string().to_lowercase()));
        assert!(all.iter().all(|span| span.span_context.trace_id().to_string() == trace));
        assert_eq!(whole.parent_span_id, SpanId::INVALID);
        let parents = [first, second].map(|span| span.parent_span_id);
        assert_eq!(parents, [whole.span_context.span_id(); 2]);
        assert_ne!(first.span_context.span_id(), second.span_context.span_id());
        assert_eq!(
            whole.end_time.duration_since(whole.start_time).expect("there"),
            Duration::from_micros(100_200_000)
        );
    }

    #[test]
    fn one_message_of_so_many_is_followed() {
        let (spans, _received) = spans(10, 10);
        // Places of messages are no random numbers.
        let followed = (0..100_000).filter(|n| spans.message(id(4096 + n * 4096), 0).is_some()).count();
        assert!((9_500..10_500).contains(&followed), "{followed}");
        assert!(Spans::default().message(id(4096), 0).is_none());
        assert!(Spans::default().request("GET", &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_request_belongs_to_the_trace_of_who_sends_it() {
        let (spans, received) = spans(u64::MAX, 10);
        let parent = |flags: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            headers.insert("traceparent", value.parse().expect("there"));
            headers
        };
        assert!(spans.request("GET", &parent("00")).is_none(), "the sender follows it not");
        spans
            .request("GET", &parent("01"))
            .expect("the sender follows it")
            .with("http.response.status_code", 200)
            .end_now();
        let span = received.try_recv().expect("there");
        assert_eq!(span.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(span.parent_span_is_remote && span.span_kind == SpanKind::Server);
        let mut nonsense = HeaderMap::new();
        nonsense.insert("traceparent", "00-zz".parse().expect("there"));
        assert!(spans.request("GET", &nonsense).is_none(), "one of very many");
    }

    #[test]
    fn texts_are_cut() {
        let (spans, received) = spans(1, 10);
        let long = "ä".repeat(1000);
        let span = spans.message(id(4096), 0).expect("followed").whole(1).with("key", long.clone());
        span.with_event("event", 1, [("key", long.clone().into())]).failed(long.clone()).named(long).end();
        let span = received.try_recv().expect("there");
        let expected = "ä".repeat(TEXT_OCTETS_MAX / 2);
        assert_eq!((span.name.as_ref(), &span.status), (expected.as_str(), &Status::error(expected.clone())));
        let texts = [&span.attributes[1].value, &span.events[0].attributes[0].value];
        assert!(texts.iter().all(|text| text.as_str() == expected));
    }

    #[test]
    fn nobody_waits_for_room() {
        let (spans, received) = spans(1, 1);
        let before = SPANS.dropped.load(std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            spans.message(id(4096), 0).expect("followed").whole(1).end();
        }
        assert_eq!(received.len(), 1);
        assert_eq!(SPANS.dropped.load(std::sync::atomic::Ordering::Relaxed) - before, 2);
    }
}
