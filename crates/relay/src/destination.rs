//! One destination: what waits for it, how many connections it may have, whether it answers at all.
//!
//! ```text
//!   fresh messages ──▶ queue ──┐
//!                              ├──▶ connections (limit grows with success, shrinks with failure)
//!   due entries ─────▶ waiting ┘
//!            no connection can be had: down until …, then one connection as a probe
//! ```
//! While a destination is down, new messages for it are put off at once, and what is due stays where it is: neither costs a connection, nor a record
//! for each attempt that was not made.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inrush_log::Message;
use inrush_queue::{Place, QueueSettings, Slot};
use tokio::sync::Notify;

use crate::failure::Verdict;
use crate::memory::Charge;
use crate::routing::Target;
use crate::settle::shown;

/// Connections to a destination of which nothing is known.
const LIMIT_AT_FIRST: f64 = 4.0;
/// The first pause after a failure to connect, where that of single messages is not shorter; doubled with each further failure.
const DOWN_FIRST: Duration = Duration::from_secs(15);
/// The longest, in the same way.
const DOWN_MAX: Duration = Duration::from_mins(10);
/// How long no further connection is tried after one has failed while there were others.
const LIMIT_KEPT: Duration = Duration::from_mins(1);

/// Recipients of a message to be tried.
pub(crate) struct Job {
    pub(crate) message: Arc<Message>,
    pub(crate) place: Place,
    /// Indices in the envelope.
    pub(crate) recipients: Vec<u32>,
    /// Attempts before this one.
    pub(crate) attempts: u32,
    /// See [`inrush_queue::result_flag`].
    pub(crate) flags: u8,
    /// When its lifetime began, in µs since 1970: at its acceptance, or at a command to deliver it again.
    pub(crate) accepted_at_us: u64,
    /// When it was taken up, in µs since 1970.
    pub(crate) taken_at_us: u64,
    /// When it came here.
    pub(crate) since: Instant,
    /// What it costs in memory.
    pub(crate) charge: Charge,
}

impl Job {
    /// Some of its recipients, charged for themselves.
    pub(crate) fn part(&self, recipients: Vec<u32>, charge: Charge) -> Self {
        Self { message: Arc::clone(&self.message), recipients, charge, ..*self }
    }

    /// Takes away the recipients whose domain is not among `domains`, which grow up to `max`; those that were taken away.
    pub(crate) fn take_domains(&mut self, domains: &mut Vec<Box<[u8]>>, max: usize) -> Vec<u32> {
        let Ok(envelope) = self.message.envelope() else { return Vec::new() };
        let paths: Vec<&[u8]> = envelope.recipients().map(|recipient| recipient.path).collect();
        let mut fits = |recipient: &u32| {
            let path = paths.get(*recipient as usize).copied().unwrap_or_default();
            let domain = memchr::memrchr(b'@', path).map_or(&path[..0], |at| &path[at + 1..]);
            let known = domains.iter().any(|known| known.eq_ignore_ascii_case(domain));
            if !known && domains.len() < max {
                domains.push(domain.into());
                return true;
            }
            known
        };
        let (here, elsewhere) = self.recipients.iter().partition(|recipient| fits(recipient));
        self.recipients = here;
        elsewhere
    }
}

/// What a destination has next.
pub(crate) enum Next {
    /// A message in memory.
    Job(Box<Job>),
    /// One that has to be read.
    Entry(Slot),
    /// Nothing.
    Nothing,
}

/// A destination.
pub(crate) struct Destination {
    pub(crate) target: Target,
    /// As in the outcome log.
    pub(crate) name: Vec<u8>,
    queue: RefCell<VecDeque<Job>>,
    waiting: RefCell<VecDeque<Slot>>,
    /// Connections, and attempts to make one.
    pub(crate) workers: Cell<u32>,
    /// Those of them that stand.
    pub(crate) established: Cell<u32>,
    /// Workers that wait for a message.
    idle: Cell<u32>,
    /// It waits for a place already.
    pub(crate) in_line: Cell<bool>,
    limit: Cell<f64>,
    limit_max: f64,
    /// Until then the limit does not grow.
    limit_kept_until: Cell<Option<Instant>>,
    failures: Cell<u32>,
    pauses: (Duration, Duration),
    down_until: Cell<Option<Instant>>,
    /// Why it is down.
    pub(crate) trouble: RefCell<Option<Verdict>>,
    /// There may be something for an idle worker.
    pub(crate) work: Notify,
    pub(crate) used_at: Cell<Instant>,
}

impl Destination {
    pub(crate) fn new(target: Target, name: Vec<u8>, connections_max: u32, queue: &QueueSettings) -> Self {
        let limit_max = f64::from(connections_max.max(1));
        Self {
            target,
            name,
            queue: RefCell::default(),
            waiting: RefCell::default(),
            workers: Cell::new(0),
            established: Cell::new(0),
            idle: Cell::new(0),
            in_line: Cell::new(false),
            limit: Cell::new(LIMIT_AT_FIRST.min(limit_max)),
            limit_max,
            limit_kept_until: Cell::new(None),
            failures: Cell::new(0),
            pauses: (DOWN_FIRST.min(queue.retry_first), DOWN_MAX.min(queue.retry_max)),
            down_until: Cell::new(None),
            trouble: RefCell::new(None),
            work: Notify::new(),
            used_at: Cell::new(Instant::now()),
        }
    }

    /// Puts a message in memory at the end of the queue.
    pub(crate) fn push(&self, job: Job) {
        self.used_at.set(Instant::now());
        self.queue.borrow_mut().push_back(job);
        self.work.notify_one();
    }

    /// Puts one back of which a connection that ends has handed over nothing.
    pub(crate) fn push_front(&self, mut job: Job) {
        job.charge.wait();
        self.queue.borrow_mut().push_front(job);
        self.work.notify_one();
    }

    /// An entry is due.
    pub(crate) fn wait(&self, slot: Slot) {
        self.used_at.set(Instant::now());
        self.waiting.borrow_mut().push_back(slot);
        self.work.notify_one();
    }

    /// What comes next: what was deferred before and what is new, in turn.
    pub(crate) fn next(&self) -> Next {
        self.used_at.set(Instant::now());
        if let Some(mut job) = self.queue.borrow_mut().pop_front() {
            job.charge.leave();
            return Next::Job(Box::new(job));
        }
        self.waiting.borrow_mut().pop_front().map_or(Next::Nothing, Next::Entry)
    }

    /// Messages in memory.
    pub(crate) fn queued(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Entries that are due.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// How long the first message in memory has been waiting.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.queue.borrow().front().map(|job| job.since.elapsed())
    }

    /// Takes the newest messages out of memory, but for `keep` of them.
    pub(crate) fn take_surplus(&self, keep: usize) -> Vec<Job> {
        let mut queue = self.queue.borrow_mut();
        let at = keep.min(queue.len());
        queue.split_off(at).into()
    }

    /// Looks at each message in memory.
    pub(crate) fn each_queued(&self, look: impl FnMut(&Job)) {
        self.queue.borrow().iter().for_each(look);
    }

    /// Takes those messages out of memory that are meant.
    pub(crate) fn take_queued(&self, is_meant: impl Fn(&Job) -> bool) -> Vec<Job> {
        let (taken, kept): (Vec<_>, Vec<_>) = self.queue.take().into_iter().partition(is_meant);
        self.queue.replace(kept.into());
        taken
    }

    /// Whether one more worker would have something to do and may have it.
    pub(crate) fn wants_worker(&self) -> bool {
        let work = self.queued() + self.waiting();
        let (workers, idle) = (self.workers.get(), self.idle.get());
        work > idle as usize && f64::from(workers) < self.limit.get().floor().max(1.0) && !self.is_down()
    }

    /// Whether a worker whose connection has ended may make another one.
    pub(crate) fn keeps_worker(&self) -> bool {
        f64::from(self.workers.get()) <= self.limit.get().floor().max(1.0) && !self.is_down()
    }

    /// Whether no connection is to be tried now.
    pub(crate) fn is_down(&self) -> bool {
        self.down_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// Whether the last attempt to connect has failed and none has been made since.
    pub(crate) fn has_failed(&self) -> bool {
        self.down_until.get().is_some()
    }

    /// A message was delivered.
    pub(crate) fn succeeded(&self) {
        self.answered();
        if self.limit_kept_until.get().is_none_or(|until| Instant::now() >= until) {
            let limit = self.limit.get();
            self.limit.set((limit + 1.0 / limit).min(self.limit_max));
        }
    }

    /// A host has said what becomes of a message: it is there, whatever it thinks of the message.
    pub(crate) fn answered(&self) {
        self.failures.set(0);
        self.down_until.set(None);
        self.trouble.borrow_mut().take();
    }

    /// Whether there is another worker than the one that asks.
    pub(crate) fn has_others(&self) -> bool {
        self.workers.get() > 1
    }

    /// A connection could not be made, or was lost before it was of use. The last one to say so takes the destination down.
    pub(crate) fn failed(&self, verdict: &Verdict, random: u64) {
        if self.has_others() {
            // So many are allowed, perhaps. One more would be refused again and again.
            self.limit.set(self.limit.get().min(f64::from(self.workers.get() - 1)));
            self.limit_kept_until.set(Some(Instant::now() + LIMIT_KEPT));
            return;
        }
        self.limit.set((self.limit.get() / 2.0).max(1.0));
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        let (first, max) = self.pauses;
        let pause = first.saturating_mul(1 << failures.min(10)).min(max);
        // A quarter up or down, as for single messages.
        let spread = pause.mul_f64((random % 1000) as f64 / 2000.0);
        let pause = pause - pause / 4 + spread;
        let (name, text) = (shown(&self.name), shown(&verdict.text));
        tracing::info!(
            destination = %name,
            pause = pause.as_secs_f64(),
            error = %text,
            "a destination is left alone for a while"
        );
        self.down_until.set(Some(Instant::now() + pause));
        *self.trouble.borrow_mut() = Some(verdict.clone());
    }

    /// An operator wants it to be tried now.
    pub(crate) fn revive(&self) {
        if self.down_until.get().is_some() {
            self.down_until.set(Some(Instant::now()));
        }
    }

    /// Whether nothing is known of it that is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        self.workers.get() == 0 && self.queued() + self.waiting() == 0 && !self.is_down()
    }

    /// Has a worker that waits for a message look whether others need its place more.
    pub(crate) fn nudge_idle(&self) {
        if self.idle.get() > 0 {
            self.work.notify_one();
        }
    }

    /// Counts a worker that waits for a message, until the guard is dropped.
    pub(crate) fn idle(&self) -> impl Drop + '_ {
        Counted::new(&self.idle)
    }

    /// Counts a connection that stands.
    pub(crate) fn establish(&self) -> impl Drop + '_ {
        Counted::new(&self.established)
    }
}

struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
