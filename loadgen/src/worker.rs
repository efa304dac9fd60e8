//! One core of the generator: a pinned thread, its runtime, its sessions, a watchdog and, in the open loop, the pacing task.
//!
//! Nothing is shared with the other cores but a few flags; figures are merged when the threads end.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::acks::{AckSink, Acknowledged};
use crate::connection;
use crate::pacer::{Next, Pacer};
use crate::plan::{Engine, Pace, Plan};
use crate::record::Record;
use crate::series::Series;
use crate::timer::Timer;

/// How often the watchdog looks at stop flags and at stalled connections.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// A target that was reachable once and then refused every connection for so long is given up.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Flags between the cores and the main thread.
#[derive(Debug, Default)]
pub struct Shared {
    /// Start no further message.
    pub stop: AtomicBool,
    /// Do not even wait for those under way.
    pub abort: AtomicBool,
    /// A connection was established at least once.
    pub reached: AtomicBool,
    /// Errors of all cores.
    pub errors: AtomicU64,
    /// Why the run ended before its time.
    pub ended_by: OnceLock<Ending>,
}

/// Why a run ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No connection could be established, ever.
    Unreachable(String),
    /// No connection could be established for some seconds.
    Lost(String),
    /// More errors than are borne, and `--fail-fast`.
    Errors,
    /// The file of acknowledgements cannot be written.
    Acks(String),
    /// The server lacks an extension that was asked for.
    NotOffered(&'static str),
    /// By the user.
    Interrupted,
}

impl Shared {
    /// Ends the run; the first reason counts.
    pub fn end(&self, ending: Ending) {
        // Losing the race means that a reason is known already.
        let _ = self.ended_by.set(ending);
        self.stop.store(true, Relaxed);
    }
}

/// Figures of a core while it runs; written by it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    /// Messages acknowledged, warm-up included.
    pub acknowledged: AtomicU64,
    /// Messages due and not begun.
    pub backlog: AtomicU64,
    /// The core has finished.
    pub done: AtomicBool,
}

/// What a core brings home.
#[derive(Debug)]
pub struct Harvest {
    /// Its figures.
    pub record: Record,
    /// Acknowledgements, when they were to be kept.
    pub acknowledged: Vec<Acknowledged>,
    /// Time of the last measured acknowledgement.
    pub last_acknowledged: Option<Instant>,
    /// Due and never begun.
    pub not_sent: u64,
    /// Largest backlog.
    pub backlog_max: u64,
    /// `io_uring` or `epoll`.
    pub engine: &'static str,
}

/// What a core needs to know.
#[derive(Clone, Debug)]
pub struct Task {
    /// The run.
    pub plan: Arc<Plan>,
    /// Flags.
    pub shared: Arc<Shared>,
    /// Where to show progress.
    pub live: Arc<Live>,
    /// Acknowledgements.
    pub acks: Option<Arc<File>>,
    /// Number of this core.
    pub core: usize,
    /// Start of the run, warm-up included.
    pub start: Instant,
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) n: u64,
    /// Latency counts from here.
    pub(crate) start: Instant,
    pub(crate) measured: bool,
}

/// Answer to "what now?".
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take {
    Ticket(Ticket),
    /// Open loop: nothing is due.
    Later,
    /// No further message in this run.
    Over,
}

/// A session seen by the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Waiting for the server since then.
    pub(crate) busy_since: Cell<Option<Instant>>,
    kicked: Cell<Option<Kick>>,
    waker: RefCell<Option<Waker>>,
}

/// Why the watchdog ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kick {
    Timeout,
    Interrupted,
}

impl Slot {
    /// Waits for `future`, or for the watchdog. A timer per read would cost more than the read's own bookkeeping.
    pub(crate) async fn guarded<F: Future>(&self, future: F) -> Result<F::Output, Kick> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if let Some(kick) = self.kicked.get() {
                return Poll::Ready(Err(kick));
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn kick(&self, kick: Kick) {
        self.kicked.set(Some(kick));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Forgets a timeout before the next connection; an interruption stays.
    pub(crate) fn rearm(&self) {
        if self.kicked.get() == Some(Kick::Timeout) {
            self.kicked.set(None);
        }
    }
}

/// State of a core, shared by its sessions.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: RefCell<Record>,
    pub(crate) acks: RefCell<AckSink>,
    pub(crate) last_acknowledged: Cell<Option<Instant>>,
    live: Arc<Live>,
    core: u64,
    begun: Cell<u64>,
    /// Measured messages that this core may still begin.
    budget: Cell<Option<u64>>,
    pacer: Option<Pacer>,
    measure_from: Instant,
    end: Option<Instant>,
    next_target: Cell<usize>,
    failing_since: Cell<Option<Instant>>,
}

impl Worker {
    fn new(task: &Task) -> Self {
        let plan = Arc::clone(&task.plan);
        let measure_from = task.start + plan.warmup;
        let end = plan.duration.map(|duration| measure_from + duration);
        let (core, cores) = (task.core as u64, plan.cores as u64);
        let pacer = match plan.pace {
            Pace::Closed => None,
            Pace::Open(rate, arrivals) => {
                Some(Pacer::new(task.start, end, rate, arrivals, plan.content.seed(), (core, cores)))
            }
        };
        // The first cores take what does not divide evenly.
        let budget = plan.messages.map(|messages| messages / cores + u64::from(core < messages % cores));
        let mut record = Record::new();
        record.series = Some(Series::new(task.start, plan.warmup));
        Self {
            record: RefCell::new(record),
            acks: RefCell::new(AckSink::new(task.acks.clone(), plan.keep_ids)),
            plan,
            shared: Arc::clone(&task.shared),
            last_acknowledged: Cell::new(None),
            live: Arc::clone(&task.live),
            core,
            begun: Cell::new(0),
            budget: Cell::new(budget),
            pacer,
            measure_from,
            end,
            next_target: Cell::new(task.core),
            failing_since: Cell::new(None),
        }
    }

    /// The next message, if one may start at `now`.
    pub(crate) fn take(&self, now: Instant) -> Take {
        if self.shared.stop.load(Relaxed)
            || self.end.is_some_and(|end| now >= end)
            || self.budget.get() == Some(0)
        {
            return Take::Over;
        }
        let start = match &self.pacer {
            None => now,
            Some(pacer) => match pacer.take() {
                Some(planned) => planned,
                None => return Take::Later,
            },
        };
        let measured = start >= self.measure_from;
        if measured && let Some(budget) = self.budget.get() {
            self.budget.set(Some(budget - 1));
            if budget == 1
                && let Some(pacer) = &self.pacer
            {
                // The others wait for a message that will never come.
                pacer.wake_all();
            }
        }
        let n = self.begun.get() * self.plan.cores as u64 + self.core;
        self.begun.set(self.begun.get() + 1);
        let mut record = self.record.borrow_mut();
        record.counts_mut(measured).started += 1;
        if let Some(series) = &mut record.series {
            series.begun(now, self.pacer.is_some().then_some(start));
        }
        Take::Ticket(Ticket { n, start, measured })
    }

    /// Waits for the next message; None: there will be none.
    pub(crate) async fn next(&self) -> Option<Ticket> {
        std::future::poll_fn(|context| match self.take(Instant::now()) {
            Take::Ticket(ticket) => Poll::Ready(Some(ticket)),
            Take::Over => Poll::Ready(None),
            Take::Later => {
                if let Some(pacer) = &self.pacer {
                    pacer.wait(context.waker());
                }
                Poll::Pending
            }
        })
        .await
    }

    /// An event at `now` lies within the measured window.
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        now >= self.measure_from
    }

    /// The target of the next connection.
    pub(crate) fn target(&self) -> std::net::SocketAddr {
        let next = self.next_target.get();
        self.next_target.set(next.wrapping_add(1));
        self.plan.targets[next % self.plan.targets.len()]
    }

    /// A connection was established.
    pub(crate) fn connected(&self, measured: bool) {
        self.failing_since.set(None);
        if !self.shared.reached.load(Relaxed) {
            self.shared.reached.store(true, Relaxed);
        }
        self.record.borrow_mut().counts_mut(measured).connections += 1;
    }

    /// A connection could not be established.
    pub(crate) fn not_connected(&self, now: Instant, measured: bool, error: &str) {
        self.record.borrow_mut().counts_mut(measured).connections_failed += 1;
        if !self.shared.reached.load(Relaxed) {
            self.shared.end(Ending::Unreachable(error.to_owned()));
        }
        let since = self.failing_since.get().unwrap_or(now);
        self.failing_since.set(Some(since));
        if now.duration_since(since) > LOST_AFTER {
            self.shared.end(Ending::Lost(error.to_owned()));
        }
    }

    /// Books an error; ends the run when that is wanted.
    pub(crate) fn error(&self) {
        let errors = self.shared.errors.fetch_add(1, Relaxed) + 1;
        if self.plan.fail_fast && errors > self.plan.errors_max {
            self.shared.end(Ending::Errors);
        }
    }

    /// Shows `more` acknowledgements to the main thread.
    pub(crate) fn show(&self, more: u64) {
        // One writer, so no read-modify-write is needed.
        self.live.acknowledged.store(self.live.acknowledged.load(Relaxed) + more, Relaxed);
        if let Some(pacer) = &self.pacer {
            self.live.backlog.store(pacer.backlog(), Relaxed);
        }
    }

    /// Planned messages that were never begun.
    fn book_not_sent(&self) -> u64 {
        // Without an end in time the schedule goes on for ever, and what is due beyond the last message was not meant.
        let Some(pacer) = self.pacer.as_ref().filter(|_| self.end.is_some()) else { return 0 };
        let not_sent = pacer.backlog();
        if let Some(series) = &mut self.record.borrow_mut().series {
            while let Some(planned) = pacer.take() {
                series.planned(planned);
            }
        }
        not_sent
    }

    /// Looks after stop flags and timeouts until the sessions are done.
    async fn watch(&self, slots: &[Rc<Slot>]) {
        let mut stopped_at = None;
        loop {
            monoio::time::sleep(WATCH_INTERVAL).await;
            let now = Instant::now();
            for slot in slots {
                if slot
                    .busy_since
                    .get()
                    .is_some_and(|since| now.saturating_duration_since(since) > self.plan.timeout)
                {
                    slot.kick(Kick::Timeout);
                }
            }
            if !self.shared.stop.load(Relaxed) && self.end.is_none_or(|end| now < end) {
                continue;
            }
            if let Some(pacer) = &self.pacer {
                pacer.wake_all();
            }
            if !self.shared.stop.load(Relaxed) {
                continue;
            }
            let stopped_at = *stopped_at.get_or_insert(now);
            if self.shared.abort.load(Relaxed) || now.duration_since(stopped_at) > self.plan.grace {
                slots.iter().for_each(|slot| slot.kick(Kick::Interrupted));
            }
        }
    }

    /// Releases planned messages in time.
    async fn pace(&self, timer: Timer) {
        let Some(pacer) = &self.pacer else { return };
        loop {
            let now = Instant::now();
            match pacer.release(now) {
                Next::End => {
                    pacer.wake_all();
                    return;
                }
                Next::At(planned) => timer.sleep(planned.saturating_duration_since(now)).await,
            }
        }
    }
}

/// Runs one core to its end; called on the core's own thread.
///
/// # Errors
/// The runtime cannot be built.
pub fn run(task: &Task) -> io::Result<Harvest> {
    let plan = &task.plan;
    if let Some(&cpu) = plan.cpus.get(task.core % plan.cpus.len().max(1)) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let sessions = plan.sessions / plan.cores + usize::from(task.core < plan.sessions % plan.cores);
    let entries = u32::try_from(sessions.next_power_of_two()).unwrap_or(u32::MAX).clamp(256, 4096);
    let mut ring = io_uring06::IoUring::builder();
    // Worth a quarter of the time: completions run when this thread asks for them, not by interrupting it.
    ring.setup_single_issuer().setup_defer_taskrun();
    let uring = || {
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
            .uring_builder(ring.clone())
            .with_entries(entries)
            .enable_timer()
            .build()
    };
    let epoll = || monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
    match plan.engine {
        Engine::Uring => Ok(uring()?.block_on(work(task, sessions, "io_uring"))),
        Engine::Epoll => Ok(epoll()?.block_on(work(task, sessions, "epoll"))),
        Engine::Auto => match uring() {
            Ok(mut runtime) => Ok(runtime.block_on(work(task, sessions, "io_uring"))),
            Err(_) => Ok(epoll()?.block_on(work(task, sessions, "epoll"))),
        },
    }
}

async fn work(task: &Task, sessions: usize, engine: &'static str) -> Harvest {
    let worker = Rc::new(Worker::new(task));
    let slots: Vec<Rc<Slot>> = (0..sessions).map(|_| Rc::new(Slot::default())).collect();
    // These two end with the runtime.
    drop(monoio::spawn({
        let (worker, slots) = (Rc::clone(&worker), slots.clone());
        async move { worker.watch(&slots).await }
    }));
    if worker.pacer.is_some() {
        let worker = Rc::clone(&worker);
        let timer = Timer::new(engine == "io_uring");
        drop(monoio::spawn(async move { worker.pace(timer).await }));
    }
    let tasks: Vec<_> = slots
        .iter()
        .map(|slot| monoio::spawn(connection::run_session(Rc::clone(&worker), Rc::clone(slot))))
        .collect();
    for task in tasks {
        task.await;
    }
    task.live.done.store(true, Relaxed);
    let not_sent = worker.book_not_sent();
    let acks = worker.acks.replace(AckSink::new(None, false));
    Harvest {
        record: worker.record.replace(Record::new()),
        acknowledged: acks.into_kept(),
        last_acknowledged: worker.last_acknowledged.get(),
        not_sent,
        backlog_max: worker.pacer.as_ref().map_or(0, Pacer::backlog_max),
        engine,
    }
}
