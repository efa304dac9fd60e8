//! What a sink counts: one writer a core, added up for people and programs.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Map, Value, json};

use super::script::Moment;

/// Version of the JSON.
const FORMAT: u32 = 1;

/// Counters of a core.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Statistics {
    sessions: AtomicU64,
    open: AtomicU64,
    messages: AtomicU64,
    recipients: AtomicU64,
    octets: AtomicU64,
    refused_transient: AtomicU64,
    refused_permanent: AtomicU64,
    disconnected: AtomicU64,
    stalled: AtomicU64,
    timed_out: AtomicU64,
    not_stored: AtomicU64,
    commands: [AtomicU64; Moment::ALL.len()],
}

/// One writer: a load and a store, no locked instruction.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Statistics {
    pub(super) fn opened(&self) {
        add(&self.sessions, 1);
        add(&self.open, 1);
    }

    pub(super) fn closed(&self) {
        add(&self.open, u64::MAX);
    }

    pub(super) fn command(&self, moment: Moment) {
        add(&self.commands[moment as usize], 1);
    }

    pub(super) fn message(&self, octets: u64, recipients: usize) {
        add(&self.messages, 1);
        add(&self.recipients, recipients as u64);
        add(&self.octets, octets);
    }

    /// A reply that begins with this digit.
    pub(super) fn refused(&self, digit: u8) {
        match digit {
            b'4' => add(&self.refused_transient, 1),
            b'5' => add(&self.refused_permanent, 1),
            _ => {}
        }
    }

    pub(super) fn disconnected(&self) {
        add(&self.disconnected, 1);
    }

    pub(super) fn stalled(&self) {
        add(&self.stalled, 1);
    }

    pub(super) fn timed_out(&self) {
        add(&self.timed_out, 1);
    }

    pub(super) fn not_stored(&self) {
        add(&self.not_stored, 1);
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }
}

/// The counters of all cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Names and counts, in the order of the text.
    counts: Vec<(&'static str, u64)>,
    commands: Vec<(&'static str, u64)>,
}

impl Sum {
    pub(super) fn of(cores: &[Arc<Statistics>]) -> Self {
        let sum = |of: fn(&Statistics) -> &AtomicU64| cores.iter().map(|core| of(core).load(Relaxed)).sum();
        let counts: Vec<(&'static str, u64)> = vec![
            ("sessions", sum(|core| &core.sessions)),
            ("open", sum(|core| &core.open)),
            ("messages", sum(|core| &core.messages)),
            ("recipients", sum(|core| &core.recipients)),
            ("octets", sum(|core| &core.octets)),
            ("refused_4xx", sum(|core| &core.refused_transient)),
            ("refused_5xx", sum(|core| &core.refused_permanent)),
            ("disconnected", sum(|core| &core.disconnected)),
            ("stalled", sum(|core| &core.stalled)),
            ("timed_out", sum(|core| &core.timed_out)),
            ("not_stored", sum(|core| &core.not_stored)),
        ];
        let commands = Moment::ALL.into_iter().map(|moment| {
            let count = cores.iter().map(|core| core.commands[moment as usize].load(Relaxed)).sum();
            (moment.name(), count)
        });
        Self { counts, commands: commands.collect() }
    }

    pub(super) fn json(&self, elapsed_s: f64) -> Value {
        let mut object = Map::new();
        object.insert("format".to_owned(), json!(FORMAT));
        object.insert("elapsed_s".to_owned(), json!(elapsed_s));
        for (name, count) in &self.counts {
            object.insert((*name).to_owned(), json!(count));
        }
        let commands = self.commands.iter().map(|(name, count)| ((*name).to_owned(), json!(count)));
        object.insert("commands".to_owned(), Value::Object(commands.collect()));
        Value::Object(object)
    }
}

impl Display for Sum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = |(index, (name, count)): (usize, &(&str, u64))| -> Option<String> {
            // The first three always, the others when there is something to say.
            (index < 3 || *count > 0).then(|| format!("{name}={count}"))
        };
        let words: Vec<String> = self.counts.iter().enumerate().filter_map(shown).collect();
        f.write_str(&words.join(" "))
    }
}
