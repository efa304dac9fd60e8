//! One core of the generator: a pinned thread, its runtime, its sessions, a watchdog and, in the open loop, the pacing task.
//!
//! Nothing is shared with the other cores but a few flags; figures are merged when the threads end.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::acks::AckSink;
use crate::hostile::HostileCounts;
use crate::live::LiveCells;
use crate::own_limit::{Meter, OwnCore};
use crate::pacer::{Next, Pacer};
use crate::plan::{Engine, Pace, Place, Plan, Seat};
use crate::record::Record;
use crate::series::Series;
use crate::slot::{Kick, Slot};
pub use crate::task::{Ending, Figures, Harvest, Live, Shared, Stage, Task};
use crate::timer::Timer;
use crate::wire::{Manner, Wire, WireError};
use crate::{connection, hostile, tls};

/// How often the watchdog looks at stop flags and at stalled connections.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// How often the watchdog looks at all sessions for those that the server keeps waiting.
const TIMEOUT_INTERVAL: Duration = Duration::from_millis(250);
/// How often a core asks whether a step of a ramp is over, and for the next one.
const STAGE_INTERVAL: Duration = Duration::from_millis(5);
/// Pause between two tries of a connection.
const TRY_INTERVAL: Duration = Duration::from_millis(100);
/// A target that was reachable once and then refused every connection for so long is given up.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) n: u64,
    /// Latency counts from here.
    pub(crate) start: Instant,
    pub(crate) measured: bool,
    /// Of this schedule; the figures of another one it does not touch.
    pub(crate) stage: u32,
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

/// The messages of one sender on this core.
#[derive(Debug)]
struct Lane {
    pacer: Option<Pacer>,
    /// This core's turn among those with sessions of this sender, and their number.
    turn: (u64, u64),
    /// Measured messages that this core may still begin.
    budget: Cell<Option<u64>>,
    /// Messages of the schedule that were begun and are not over.
    under_way: Cell<u64>,
    /// What it sent or did not is judged in a ramp: not that of slow senders, whose time is their own.
    is_judged: bool,
    /// Its sessions are slow or think: what finds none of them free is neither the server's failure nor the generator's.
    has_own_pace: bool,
}

impl Lane {
    fn backlog(&self) -> u64 {
        self.pacer.as_ref().map_or(0, Pacer::backlog)
    }
}

/// State of a core, shared by its sessions.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) records: RefCell<Vec<Record>>,
    pub(crate) series: RefCell<Series>,
    pub(crate) hostile: RefCell<Vec<HostileCounts>>,
    pub(crate) acks: RefCell<AckSink>,
    pub(crate) last_acknowledged: Cell<Option<Instant>>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    meter: Meter,
    live: Arc<Live>,
    core: u64,
    begun: Cell<u64>,
    lanes: Vec<Lane>,
    stage: Cell<Stage>,
    stages: Option<Sender<(u32, Figures)>>,
    next_target: Cell<usize>,
    next_source: Cell<usize>,
    /// When the next connection may begin.
    next_connection: Cell<Instant>,
    failing_since: Cell<Option<Instant>>,
}

impl Worker {
    fn new(task: &Task) -> Self {
        let plan = Arc::clone(&task.plan);
        let budgets = plan.messages_of_senders();
        let lanes = (0..plan.senders.len()).map(|sender| {
            let has = |seats: &Vec<Seat>| seats.contains(&Seat::Sender(sender));
            let before = task.seats[..task.core].iter().filter(|seats| has(seats)).count() as u64;
            let cores = task.seats.iter().filter(|seats| has(seats)).count() as u64;
            let here = has(&task.seats[task.core]);
            // The first cores take what does not divide evenly.
            let share = |messages: u64| messages / cores + u64::from(before < messages % cores);
            let budget = budgets.as_ref().map(|budgets| if here { share(budgets[sender]) } else { 0 });
            let pacer = match plan.pace {
                _ if !here => None,
                Pace::Closed => None,
                Pace::Open(_, arrivals) | Pace::Ramp(_, arrivals) => {
                    let rate = task.stage.rate * plan.share(sender);
                    let seed = plan.content.seed() ^ sender as u64;
                    Some(Pacer::new(task.stage.start, task.stage.end, rate, arrivals, seed, (before, cores)))
                }
            };
            Lane {
                pacer,
                turn: (before, cores),
                budget: Cell::new(budget),
                under_way: Cell::new(0),
                is_judged: !plan.senders[sender].is_slow() || plan.only_slow(),
                has_own_pace: plan.senders[sender].has_own_pace(),
            }
        });
        let live = task.live.cells.as_ref();
        let records = new_records(plan.senders.len() * plan.targets.len(), live);
        let stage = task.stage;
        let series = Series::new(stage.start, stage.measure_from - stage.start);
        Self {
            lanes: lanes.collect(),
            records: RefCell::new(records),
            series: RefCell::new(series),
            hostile: RefCell::new(vec![HostileCounts::default(); plan.hostile.len()]),
            acks: RefCell::new(AckSink::new(task.acks.clone(), plan.keep_ids)),
            tls: plan.tls.as_ref().map(|tls| tls::for_core(&tls.config, tls.resumption)),
            plan,
            shared: Arc::clone(&task.shared),
            last_acknowledged: Cell::new(None),
            meter: Meter::new(),
            live: Arc::clone(&task.live),
            core: task.core as u64,
            begun: Cell::new(0),
            stage: Cell::new(task.stage),
            stages: task.stages.clone(),
            next_target: Cell::new(task.core),
            next_source: Cell::new(task.core),
            next_connection: Cell::new(task.stage.start),
            failing_since: Cell::new(None),
        }
    }

    /// The next message of this sender, if one may start at `now`.
    pub(crate) fn take(&self, sender: usize, now: Instant) -> Take {
        let lane = &self.lanes[sender];
        if self.shared.stop.load(Relaxed) || lane.budget.get() == Some(0) {
            return Take::Over;
        }
        let stage = self.stage.get();
        let is_past = stage.end.is_some_and(|end| now >= end);
        let nothing = if is_past && self.stages.is_none() { Take::Over } else { Take::Later };
        let start = match &lane.pacer {
            None if is_past => return nothing,
            None => now,
            Some(_) if self.is_too_late(now) => return nothing,
            Some(pacer) => {
                if is_past {
                    // What is planned up to the end may not be marked as due yet.
                    pacer.release(now);
                }
                match pacer.take() {
                    Some(planned) => planned,
                    None => return nothing,
                }
            }
        };
        let measured = start >= stage.measure_from;
        if measured && let Some(budget) = lane.budget.get() {
            lane.budget.set(Some(budget - 1));
            if budget == 1
                && let Some(pacer) = &lane.pacer
            {
                // The others wait for a message that will never come.
                pacer.wake_all();
            }
        }
        // The sender follows from the number: see `Content`.
        let senders = self.lanes.len() as u64;
        let n = (self.begun.get() * self.plan.cores as u64 + self.core) * senders + sender as u64;
        self.begun.set(self.begun.get() + 1);
        let planned = lane.pacer.is_some().then_some(start);
        self.series.borrow_mut().begun(now, planned);
        lane.under_way.set(lane.under_way.get() + 1);
        Take::Ticket(Ticket { n, start, measured, stage: stage.number })
    }

    /// Waits for the next message of this session's sender; None: there will be none.
    pub(crate) async fn next(&self, slot: &Slot, sender: usize) -> Option<Ticket> {
        std::future::poll_fn(|context| {
            let now = Instant::now();
            match self.take(sender, now) {
                Take::Ticket(ticket) => {
                    if let Some(free_since) = slot.free_since.take()
                        && ticket.start >= free_since
                        && ticket.measured
                    {
                        self.meter.late(now.saturating_duration_since(ticket.start));
                    }
                    Poll::Ready(Some(ticket))
                }
                Take::Over => Poll::Ready(None),
                Take::Later => {
                    if slot.free_since.get().is_none() {
                        slot.free_since.set(Some(now));
                    }
                    if let Some(pacer) = &self.lanes[sender].pacer {
                        pacer.wait(context.waker());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The message is over, however.
    pub(crate) fn over(&self, ticket: &Ticket) {
        if ticket.stage == self.stage.get().number {
            let sender = usize::try_from(ticket.n % self.lanes.len() as u64).unwrap_or(0);
            let under_way = &self.lanes[sender].under_way;
            under_way.set(under_way.get().saturating_sub(1));
        }
    }

    /// The record of this place, unless the message is of a step that was handed over already.
    pub(crate) fn with_record(&self, part: usize, stage: u32, book: impl FnOnce(&mut Record)) {
        if stage == self.stage.get().number {
            book(&mut self.records.borrow_mut()[part]);
        }
    }

    /// An event at `now` lies within the measured window.
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        now >= self.stage.get().measure_from
    }

    pub(crate) fn stage_number(&self) -> u32 {
        self.stage.get().number
    }

    /// The target of the next connection.
    pub(crate) fn target(&self) -> usize {
        let next = self.next_target.get();
        self.next_target.set(next.wrapping_add(1));
        next % self.plan.targets.len()
    }

    /// Makes a connection; the moment at which its socket was made with it. Waits for its turn where connections are paced.
    pub(crate) async fn connect(
        &self,
        slot: &Slot,
        target: usize,
        manner: Manner,
    ) -> Result<(Wire, Instant), WireError> {
        if let Some(rate) = self.plan.connect_rate {
            let now = Instant::now();
            let turn = self.next_connection.get().max(now);
            self.next_connection.set(turn + Duration::from_secs_f64(self.plan.cores as f64 / rate));
            if turn > now {
                slot.busy_since.set(None);
                slot.guarded(monoio::time::sleep(turn - now)).await?;
            }
        }
        let target = &self.plan.targets[target];
        let manner = Manner { source: self.source(&target.sources), ..manner };
        let mut tries = 1;
        loop {
            let began = Instant::now();
            slot.busy_since.set(Some(began));
            let connected = match &target.place {
                Place::Tcp(address) => Wire::tcp(slot, *address, manner).await,
                Place::Unix(path) => Wire::unix(slot, path, manner).await,
            };
            match connected {
                Ok(wire) => return Ok((wire, began)),
                Err(WireError::Io(_)) if tries < self.plan.connect_tries => {
                    tries += 1;
                    slot.guarded(monoio::time::sleep(TRY_INTERVAL)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn source(&self, sources: &[IpAddr]) -> Option<IpAddr> {
        let next = self.next_source.get();
        self.next_source.set(next.wrapping_add(1));
        (!sources.is_empty()).then(|| sources[next % sources.len()])
    }

    /// A connection was established.
    pub(crate) fn connected(&self) {
        self.failing_since.set(None);
        if !self.shared.reached.load(Relaxed) {
            self.shared.reached.store(true, Relaxed);
        }
    }

    /// A connection could not be established.
    pub(crate) fn not_connected(&self, now: Instant, error: &str) {
        if !self.shared.reached.load(Relaxed) {
            self.shared.end(Ending::Unreachable(error.to_owned()));
        }
        let since = self.failing_since.get().unwrap_or(now);
        self.failing_since.set(Some(since));
        if now.duration_since(since) > LOST_AFTER {
            self.shared.end(Ending::Lost(error.to_owned()));
        }
    }

    /// This machine cannot make another connection; ends the run when it never made one.
    pub(crate) fn not_possible(&self, lacking: String) {
        if !self.shared.reached.load(Relaxed) {
            self.shared.end(Ending::NotPossible(lacking));
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
        if self.plan.pace != Pace::Closed {
            self.live.backlog.store(self.backlog(), Relaxed);
        }
    }

    /// The schedule is over for so long that none of its messages begins any more.
    fn is_too_late(&self, now: Instant) -> bool {
        self.stage.get().end.is_some_and(|end| now >= end + self.plan.late_start_max())
    }

    /// No further message of this sender begins.
    pub(crate) fn is_over(&self, sender: usize, now: Instant) -> bool {
        let is_past = self.stage.get().end.is_some_and(|end| now >= end);
        self.shared.stop.load(Relaxed)
            || self.lanes[sender].budget.get() == Some(0)
            || (self.stages.is_none()
                && is_past
                && (self.is_too_late(now) || self.lanes[sender].backlog() == 0))
    }

    /// All messages that this core may begin are begun.
    fn has_spent_all(&self) -> bool {
        self.lanes.iter().all(|lane| lane.budget.get() == Some(0))
    }

    /// Hostile sessions begin no further connection.
    pub(crate) fn is_over_for_hostile(&self) -> bool {
        self.shared.stop.load(Relaxed) || self.shared.senders_left.load(Relaxed) == 0
    }

    fn pacers(&self) -> impl Iterator<Item = &Pacer> {
        self.lanes.iter().filter_map(|lane| lane.pacer.as_ref())
    }

    fn backlog(&self) -> u64 {
        self.pacers().map(Pacer::backlog).sum()
    }

    /// Due and never begun: by senders that go as fast as they can (of a ramp, by those that are judged), and by the others.
    fn not_sent(&self) -> (u64, u64) {
        let counts = |lane: &&Lane| if self.stages.is_some() { lane.is_judged } else { !lane.has_own_pace };
        let (asked, others): (Vec<&Lane>, Vec<&Lane>) = self.lanes.iter().partition(counts);
        let sum = |lanes: Vec<&Lane>| lanes.into_iter().map(Lane::backlog).sum();
        (sum(asked), sum(others))
    }

    /// The figures so far, to begin anew.
    fn figures(&self, own: Option<OwnCore>) -> Figures {
        let records = new_records(self.records.borrow().len(), self.live.cells.as_ref());
        // Without an end in time the schedule goes on for ever, and what is due beyond the last message was not meant.
        let has_end = self.stage.get().end.is_some();
        let (not_sent, not_sent_own_pace) = if has_end { self.not_sent() } else { (0, 0) };
        if has_end {
            let mut series = self.series.borrow_mut();
            for pacer in self.pacers() {
                std::iter::from_fn(|| pacer.take()).for_each(|planned| series.planned(planned));
            }
        }
        Figures {
            records: self.records.replace(records),
            not_sent,
            not_sent_own_pace,
            backlog_max: self.pacers().map(Pacer::backlog_max).sum(),
            own,
        }
    }

    /// Looks after stop flags and timeouts until the sessions are done.
    async fn watch(&self, slots: &[Rc<Slot>]) {
        let mut stopped_at = None;
        let mut looked_at = Instant::now();
        let mut acknowledged = 0;
        let mut is_marked = false;
        loop {
            monoio::time::sleep(WATCH_INTERVAL).await;
            let now = Instant::now();
            if !self.meter.has_begun() && self.is_measured(now) {
                self.meter.begin();
            }
            if self.stages.is_none() && !is_marked {
                let is_past = self.stage.get().end.is_some_and(|end| now >= end);
                let so_far = self.live.acknowledged.load(Relaxed);
                // A run that ends with its messages ends with the last of them that was answered.
                if so_far > acknowledged || (is_past && !self.has_spent_all()) {
                    self.meter.mark();
                }
                (acknowledged, is_marked) = (so_far, is_past);
            }
            if now.duration_since(looked_at) >= TIMEOUT_INTERVAL {
                looked_at = now;
                let late = |since: Instant| now.saturating_duration_since(since) > self.plan.timeout;
                for slot in slots {
                    if self.is_overdue(slot, now) {
                        slot.kick(Kick::End);
                    } else if slot.busy_since.get().is_some_and(late) {
                        slot.kick(Kick::Timeout);
                    }
                }
            }
            if self.is_over_for_hostile() {
                slots
                    .iter()
                    .filter(|slot| matches!(slot.seat, Seat::Hostile(_)))
                    .for_each(|slot| slot.kick(Kick::Interrupted));
            }
            let stopped = self.shared.stop.load(Relaxed);
            if stopped || self.stage.get().end.is_some_and(|end| now >= end) {
                self.pacers().for_each(Pacer::wake_all);
            }
            if !stopped {
                continue;
            }
            let stopped_at = *stopped_at.get_or_insert(now);
            if self.shared.abort.load(Relaxed) || now.duration_since(stopped_at) > self.plan.grace {
                slots.iter().for_each(|slot| slot.kick(Kick::Interrupted));
            }
        }
    }

    /// A session of a run with an end that is still not done when everything that could be waited for is over.
    fn is_overdue(&self, slot: &Slot, now: Instant) -> bool {
        let (Seat::Sender(sender), None, Some(end)) = (slot.seat, &self.stages, self.stage.get().end) else {
            return false;
        };
        let plan = &self.plan;
        let most = plan.late_start_max() + plan.timeout + plan.grace + plan.senders[sender].own_time_max();
        now > end + most
    }

    /// Releases planned messages in time; of a ramp, in one step after the other.
    async fn pace(&self, timer: Timer) {
        loop {
            self.release(&timer).await;
            let Some(stages) = &self.stages else { return };
            let stage = self.stage.get();
            // What is planned up to the end may be under way for as long as an interrupted run waits.
            let end = stage.end.unwrap_or(stage.start);
            let drained_by = end + self.plan.grace;
            // The last message is due, but its session has not run yet.
            timer.sleep(end.saturating_duration_since(Instant::now())).await;
            let own = self.meter.end(usize::try_from(self.core).unwrap_or(0));
            let is_under_way = |now: Instant| {
                let may_begin = !self.is_too_late(now);
                let is_waited_for =
                    |lane: &Lane| lane.under_way.get() > 0 || (may_begin && lane.backlog() > 0);
                self.lanes.iter().any(|lane| lane.is_judged && is_waited_for(lane))
            };
            loop {
                let now = Instant::now();
                if now >= drained_by || !is_under_way(now) {
                    break;
                }
                timer.sleep(STAGE_INTERVAL).await;
            }
            let mut figures = self.figures(own);
            for (sender, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.is_judged) {
                let record = &mut figures.records[sender * self.plan.targets.len()];
                record.counts.unfinished += lane.under_way.get();
            }
            // The main thread is gone only when the run is.
            let _ = stages.send((stage.number, figures));
            loop {
                let next = self.shared.stage.lock().map_or(None, |stage| *stage);
                match next.filter(|next| next.number > stage.number) {
                    Some(next) => break self.begin_stage(next),
                    None => timer.sleep(STAGE_INTERVAL).await,
                }
            }
        }
    }

    async fn release(&self, timer: &Timer) {
        loop {
            let now = Instant::now();
            let next = self.pacers().filter_map(|pacer| match pacer.release(now) {
                Next::At(planned) => Some(planned),
                Next::End => {
                    pacer.wake_all();
                    None
                }
            });
            let Some(next) = next.min() else { return };
            timer.sleep(next.saturating_duration_since(now)).await;
        }
    }

    fn begin_stage(&self, stage: Stage) {
        self.stage.set(stage);
        self.lanes.iter().for_each(|lane| lane.under_way.set(0));
        self.meter.reset();
        let Pace::Ramp(_, arrivals) = self.plan.pace else { return };
        for (sender, lane) in self.lanes.iter().enumerate() {
            let Some(pacer) = &lane.pacer else { continue };
            let rate = stage.rate * self.plan.share(sender);
            let seed = self.plan.content.seed() ^ sender as u64;
            pacer.restart(stage.start, stage.end, rate, arrivals, seed, lane.turn);
        }
    }
}

/// Empty records that show what they book to the full display.
fn new_records(number: usize, live: Option<&Arc<LiveCells>>) -> Vec<Record> {
    let mut record = Record::new();
    record.live = live.cloned();
    vec![record; number]
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
    let sessions = task.seats[task.core].len();
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
        Engine::Uring => Ok(uring()?.block_on(work(task, "io_uring"))),
        Engine::Epoll => Ok(epoll()?.block_on(work(task, "epoll"))),
        Engine::Auto => match uring() {
            Ok(mut runtime) => Ok(runtime.block_on(work(task, "io_uring"))),
            Err(_) => Ok(epoll()?.block_on(work(task, "epoll"))),
        },
    }
}

async fn work(task: &Task, engine: &'static str) -> Harvest {
    let worker = Rc::new(Worker::new(task));
    let cores = task.seats.len() as u64;
    let number = |index: usize| index as u64 * cores + task.core as u64;
    let seats = task.seats[task.core].iter().enumerate();
    let slots: Vec<Rc<Slot>> = seats.map(|(index, &seat)| Rc::new(Slot::new(seat, number(index)))).collect();
    // These two end with the runtime.
    drop(monoio::spawn({
        let (worker, slots) = (Rc::clone(&worker), slots.clone());
        async move { worker.watch(&slots).await }
    }));
    if worker.plan.pace != Pace::Closed {
        let worker = Rc::clone(&worker);
        let timer = Timer::new(engine == "io_uring");
        drop(monoio::spawn(async move { worker.pace(timer).await }));
    }
    let tasks = slots.iter().map(|slot| {
        let (worker, slot) = (Rc::clone(&worker), Rc::clone(slot));
        monoio::spawn(async move {
            match slot.seat {
                Seat::Sender(sender) => {
                    connection::run_session(Rc::clone(&worker), slot, sender).await;
                    worker.shared.senders_left.fetch_sub(1, Relaxed);
                }
                Seat::Hostile(index) => hostile::run_session(worker, slot, index).await,
            }
        })
    });
    // All of them begin before the first is waited for.
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await;
    }
    task.live.done.store(true, Relaxed);
    let acks = worker.acks.replace(AckSink::new(None, false));
    Harvest {
        figures: worker.figures(worker.meter.end(task.core)),
        hostile: worker.hostile.take(),
        acknowledged: acks.into_kept(),
        last_acknowledged: worker.last_acknowledged.get(),
        series: worker.series.borrow().clone(),
        engine,
    }
}
