//! From the macros of `tracing` to the writer's queue.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use inrush_metrics::LINES;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::control::{Item, Shared};
use crate::line::{Line, Value};

/// Lines that wait in the queue; the others are lost.
pub const QUEUE_LINES_MAX: usize = 8192;

/// Octets of lines that wait in the queue.
pub const QUEUE_OCTETS_MAX: usize = 8 << 20;

/// Octets of one value; the rest of it is left out.
const VALUE_OCTETS_MAX: usize = 8 << 10;

/// Takes the events of all threads. Where a line is not wanted its place in the sources is switched off, which costs it one load.
pub(crate) struct Capture(pub(crate) Arc<Shared>);

impl Capture {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.0.levels_in_force().allows(metadata.target(), *metadata.level())
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.levels_in_force().most())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line {
            time_us: now_us(),
            level: *metadata.level(),
            module: metadata.target(),
            msg: String::new(),
            fields: Vec::with_capacity(8),
        };
        event.record(&mut Fields(&mut line));
        self.0.offer(std::ptr::from_ref(metadata).addr(), line);
    }
}

impl Shared {
    /// Puts a line into the queue, or counts it as lost. `place` tells places in the sources apart.
    pub(crate) fn offer(&self, place: usize, line: Line) {
        let weight = line.weight();
        let queued = self.queued_octets.fetch_add(weight, Relaxed);
        let taken =
            queued + weight <= QUEUE_OCTETS_MAX && self.sender.try_send(Item::Line(place, line)).is_ok();
        if !taken {
            self.queued_octets.fetch_sub(weight, Relaxed);
            LINES.dropped.fetch_add(1, Relaxed);
        }
    }
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

struct Fields<'a>(&'a mut Line);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.fields.push((field.name(), value));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // Cut off where it is too long.
        let _ = write!(text, "{value:?}");
        if field.name() == "message" {
            self.0.msg = text.0;
        } else {
            self.put(field, Value::Text(text.0));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded::default();
        let _ = text.write_str(value);
        self.put(field, Value::Text(text.0));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Switch(value));
    }
}

/// A text that is cut off at [`VALUE_OCTETS_MAX`].
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = VALUE_OCTETS_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_off_between_characters() {
        let mut text = Bounded::default();
        assert!(text.write_str("ab").is_ok());
        assert!(text.write_str(&"ü".repeat(VALUE_OCTETS_MAX)).is_err());
        assert!(
            text.0.len() <= VALUE_OCTETS_MAX + '…'.len_utf8() && text.0.ends_with("ü…"),
            "{}",
            text.0.len()
        );
    }
}
