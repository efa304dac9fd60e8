//! The thread that writes lines.
//!
//! It takes what is in the queue and in the rings, brings it into the order of time, leaves out what repeats, and writes. It alone waits for the
//! target.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use inrush_metrics::LINES;
use tracing::Level;

use crate::capture::now_us;
use crate::control::{Item, Shared};
use crate::form::Form;
use crate::line::{Line, Value};
use crate::pending::Pending;
use crate::records::{self, Told};
use crate::repeats::Repeats;
use crate::ring::Reader;

/// How often the rings are looked at while little is said: nobody wakes the writer for them.
const LOOK: Duration = Duration::from_millis(50);

/// The same while much is said.
const LOOK_BUSY: Duration = Duration::from_millis(5);

/// Lines that are put in order and written together.
const BATCH_LINES: usize = 4096;

/// How often windows of repeats and levels for a time are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Where the lines of refused connections come from, as repeats see it; no place in the sources has this address.
const CONNECTIONS: usize = 1;

/// A ring, and its messages that are not durable yet.
struct Core {
    reader: Reader,
    pending: Pending,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Item>,
    cores: Vec<Core>,
    repeats: Repeats,
    form: Form,
    batch: Vec<Line>,
    /// Lost lines that have been told of.
    told_lost: u64,
    ticked: Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, receiver: Receiver<Item>) -> Self {
        let (form, repeats) = {
            let state = shared.state();
            (state.form, Repeats::new(state.repeats_max, state.repeats_window))
        };
        let told_lost = LINES.dropped.load(Relaxed);
        Self {
            shared,
            receiver,
            cores: Vec::new(),
            repeats,
            form,
            batch: Vec::new(),
            told_lost,
            ticked: Instant::now(),
        }
    }

    /// Writes for as long as the process lives.
    pub(crate) fn run(mut self) {
        let mut look = LOOK;
        loop {
            // Before anything is taken: what comes later is for the next flush.
            let asked = self.shared.flushes.load(Relaxed);
            let flushing = asked > self.shared.flushed_so_far();
            self.take_queue(if flushing { Duration::ZERO } else { look });
            self.take_rings();
            let full = self.batch.len() >= BATCH_LINES;
            self.look_at_settings(flushing && !full);
            look = if self.batch.is_empty() { LOOK } else { LOOK_BUSY };
            self.write();
            if !full && self.receiver.is_empty() {
                self.tell_lost();
                self.shared.flushed(asked);
            }
        }
    }

    /// Takes the lines of the queue; waits for the first of them.
    fn take_queue(&mut self, patience: Duration) {
        let now = Instant::now();
        let mut item = self.receiver.recv_timeout(patience).ok();
        while let Some(taken) = item {
            match taken {
                Item::Line(place, line) => {
                    self.shared.queued_octets.fetch_sub(line.weight(), Relaxed);
                    self.batch.extend(self.repeats.pass(place, line, now));
                }
                Item::Ring(reader) => self.cores.push(Core { reader: *reader, pending: Pending::default() }),
                Item::Wake => {}
            }
            item = if self.batch.len() < BATCH_LINES { self.receiver.try_recv().ok() } else { None };
        }
    }

    fn take_rings(&mut self) {
        let shown = usize::from(self.shared.recipients_shown.load(Relaxed));
        let now = Instant::now();
        let Self { cores, batch, repeats, .. } = self;
        for Core { reader, pending } in &mut *cores {
            let names = Arc::clone(&reader.names);
            while batch.len() < BATCH_LINES {
                let Some(record) = reader.next() else { break };
                match records::read(record, &names, shown) {
                    Some(Told::Message(message)) => {
                        if pending.push(*message) {
                            LINES.dropped.fetch_add(1, Relaxed);
                        }
                    }
                    Some(Told::Committed(committed)) => pending.durable(&committed, |line| batch.push(line)),
                    Some(Told::Line(line)) => batch.push(line),
                    Some(Told::Repeating(line)) => batch.extend(repeats.pass(CONNECTIONS, line, now)),
                    None => _ = LINES.dropped.fetch_add(1, Relaxed),
                }
            }
        }
        // What waits for a log that is gone has no `250`.
        cores.retain(|core| !core.reader.is_over());
    }

    /// Takes over settings that have changed, and tells of repeats whose window is over, or of all at a flush.
    fn look_at_settings(&mut self, flushing: bool) {
        if self.shared.take_changed() {
            let state = self.shared.state();
            self.form = state.form;
            self.repeats.configure(state.repeats_max, state.repeats_window);
        }
        let now = Instant::now();
        if now.duration_since(self.ticked) < TICK && !flushing {
            return;
        }
        self.ticked = now;
        self.shared.end_temporary();
        let Self { repeats, batch, .. } = self;
        repeats.due(now, flushing, |line| batch.push(Line { time_us: now_us(), ..line }));
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.batch.sort_by_key(|line| line.time_us);
        let count = self.batch.len() as u64;
        let lost = self.shared.sink.write(&self.batch, self.form);
        self.batch.clear();
        LINES.written.fetch_add(count - lost, Relaxed);
        LINES.dropped.fetch_add(lost, Relaxed);
    }

    /// Says how many lines were lost, now that the target takes some again.
    fn tell_lost(&mut self) {
        let lost = LINES.dropped.load(Relaxed);
        let new = lost - self.told_lost;
        if new == 0 {
            return;
        }
        let line = Line {
            time_us: now_us(),
            level: Level::WARN,
            module: "inrush_logging",
            msg: "lines were lost: nobody took them in time".to_owned(),
            fields: vec![("lost", Value::Unsigned(new))],
        };
        if self.shared.sink.write(&[line], self.form) == 0 {
            self.told_lost = lost;
            LINES.written.fetch_add(1, Relaxed);
        }
    }
}
