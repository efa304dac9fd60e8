//! A run from start to end: threads, the measured window, progress, interruption.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::acks::Acknowledged;
use crate::cpu_share::{CpuShare, Meters, Shares};
use crate::hostile::{Behaviour, HostileCounts};
use crate::live::LiveCells;
use crate::own_limit::{self, OwnCore};
use crate::plan::{Pace, Plan, Seat};
use crate::ramp::{Found, Ramp, Search, Step};
use crate::record::{Phase, Record};
use crate::series::Series;
use crate::server_cpu::Processes;
use crate::tui::Tui;
use crate::verify::Verification;
use crate::worker::{self, Ending, Figures, Harvest, Live, Shared, Stage, Task};

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often the main thread asks whether a step of a ramp is over.
const STEP_NAP: Duration = Duration::from_millis(10);
/// The first planned message shall not be late because its thread, or the step of a ramp, is still starting.
const LEAD: Duration = Duration::from_millis(20);

/// Everything a run found out.
#[derive(Debug)]
pub struct Outcome {
    /// Figures of all cores; times without those of slow senders, unless there are no others.
    pub record: Record,
    /// The run over time, warm-up and steps of a ramp included.
    pub series: Option<Series>,
    /// By sender.
    pub senders: Vec<(String, Record)>,
    /// By target.
    pub targets: Vec<(String, Record)>,
    /// By hostile kind: what they do, how many sessions, what became of them.
    pub hostile: Vec<(Behaviour, usize, HostileCounts)>,
    /// The pace that was asked for.
    pub pace: Pace,
    /// The search, of a ramp.
    pub ramp: Option<Found>,
    /// The generator's threads.
    pub own: Vec<OwnCore>,
    /// Why the generator itself was the limit; empty when it was not.
    pub own_limit: Vec<String>,
    /// The measured window: from its start to the last acknowledgement in it; where a duration is asked for, not less than that, so that a
    /// server which stops answering has a lower rate for it.
    pub elapsed: Duration,
    /// Acknowledgements, when they were to be kept.
    pub acknowledged: Vec<Acknowledged>,
    /// Planned in the window and never begun, by senders that go as fast as they can.
    pub not_sent: u64,
    /// The same of senders that are slow or think, whose sessions are busy with themselves.
    pub not_sent_own_pace: u64,
    /// Largest number of planned messages that waited, the sum over the cores.
    pub backlog_max: u64,
    /// `io_uring` or `epoll`.
    pub engine: &'static str,
    /// Why the run ended early.
    pub ended_by: Option<Ending>,
    /// The server's CPU time over the measured window, of a ramp over those at the rate found; the text says why there is none.
    pub server_cpu: Option<Result<CpuShare, String>>,
    /// The generator's own.
    pub own_cpu: Option<CpuShare>,
    /// What a verification after the run found, or why it could not be done.
    pub verification: Option<Result<Verification, String>>,
}

/// What the main thread lends to a run.
#[derive(Debug)]
pub struct Setting {
    /// Shared with signal handlers.
    pub shared: Arc<Shared>,
    /// Signals counted so far: one ends the run in order, two at once.
    pub interrupts: Arc<AtomicUsize>,
    /// Where acknowledgements go.
    pub acks: Option<File>,
    /// The server.
    pub server: Option<Processes>,
    /// Progress line wanted (it also needs a terminal).
    pub progress: bool,
    /// Say nothing until the report, not even the steps of a ramp.
    pub quiet: bool,
    /// The full display in place of the progress line; there is a terminal for it.
    pub tui: bool,
}

/// Runs the plan to its end.
///
/// # Errors
/// A thread cannot be started or its runtime not built.
pub fn run(plan: Plan, setting: Setting) -> io::Result<Outcome> {
    let plan = Arc::new(plan);
    let shared = setting.shared;
    let acks = setting.acks.map(Arc::new);
    let lead = if plan.pace == Pace::Closed { Duration::ZERO } else { LEAD };
    let rate = match plan.pace {
        Pace::Closed => 0.0,
        Pace::Open(rate, _) => rate,
        Pace::Ramp(ramp, _) => ramp.low,
    };
    let stage = stage(&plan, 0, Instant::now() + lead, rate);
    let (start, measure_from) = (stage.start, stage.measure_from);
    let seats = Arc::new(plan.seats());
    let senders = seats.iter().flatten().filter(|seat| matches!(seat, Seat::Sender(_))).count();
    shared.senders_left.store(senders, Relaxed);
    let (steps, receiver) = mpsc::channel();
    let sampled = Arc::new(AtomicBool::new(false));
    let tui = if setting.tui { Some(Tui::open(&plan, start)?) } else { None };
    let mut threads = Vec::new();
    let mut lives = Vec::new();
    let main = thread::current();
    for core in 0..plan.cores {
        let cells = setting.tui.then(|| Arc::new(LiveCells::new()));
        let live = Arc::new(Live { cells, ..Live::default() });
        lives.push(Arc::clone(&live));
        let task = Task {
            plan: Arc::clone(&plan),
            shared: Arc::clone(&shared),
            live: Arc::clone(&live),
            acks: acks.clone(),
            core,
            seats: Arc::clone(&seats),
            stage,
            stages: matches!(plan.pace, Pace::Ramp(..)).then(|| steps.clone()),
        };
        let (main, sampled) = (main.clone(), Arc::clone(&sampled));
        threads.push(thread::Builder::new().name(format!("load-{core}")).spawn(move || {
            let harvest = worker::run(&task);
            live.done.store(true, Relaxed);
            main.unpark();
            // The CPU time of a thread that has ended is only known in ticks.
            while harvest.is_ok() && !sampled.load(Relaxed) {
                thread::park_timeout(Duration::from_millis(10));
            }
            harvest
        })?);
    }
    let mut watch = Watch {
        plan: &plan,
        shared: &shared,
        interrupts: &setting.interrupts,
        meters: Meters::new(setting.server),
        threads: &threads,
        lives: &lives,
        start,
        tui,
        progress: setting.progress && !setting.tui && io::stderr().is_terminal(),
        shown: Instant::now(),
        shown_acknowledged: 0,
    };
    let mut climbed = None;
    let mut shares = None;
    match plan.pace {
        Pace::Ramp(ramp, _) => climbed = Some(watch.climb(ramp, stage, &receiver, !setting.quiet)),
        Pace::Closed | Pace::Open(..) => shares = Some(watch.window(stage)),
    }
    watch.wait(None);
    watch.clear();
    sampled.store(true, Relaxed);
    threads.iter().for_each(|thread| thread.thread().unpark());

    let mut harvests = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(harvest) => harvests.push(harvest?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    if let Some((_, climb)) = &mut climbed {
        shares = climb.shares.take();
    }
    let mut outcome = gather(&plan, harvests, measure_from, climbed);
    outcome.ended_by = shared.ended_by.get().cloned();
    if let (None, None, Some(duration)) = (&outcome.ended_by, &outcome.ramp, plan.duration) {
        outcome.elapsed = outcome.elapsed.max(duration);
    }
    if let Some(Shares { server, own }) = shares {
        (outcome.server_cpu, outcome.own_cpu) = (server, own);
    }
    Ok(outcome)
}

/// A schedule that begins at `start`.
fn stage(plan: &Plan, number: u32, start: Instant, rate: f64) -> Stage {
    let measure_from = start + plan.warmup;
    Stage { number, start, measure_from, end: plan.duration.map(|duration| measure_from + duration), rate }
}

/// All times but those of slow senders, whose slowness is their own; all counts.
fn well_behaved(plan: &Plan, records: &[Record]) -> Record {
    let targets = plan.targets.len();
    let only_slow = plan.only_slow();
    let mut all = Record::new();
    for (part, record) in records.iter().enumerate() {
        if plan.senders[part / targets].is_slow() && !only_slow {
            all.merge_counts(record);
        } else {
            all.merge(record);
        }
    }
    all
}

/// Adds the records of another core, place by place.
fn merge(into: &mut [Record], from: &[Record]) {
    into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
}

/// 99th percentile of the total.
fn total_p99(record: &Record) -> Duration {
    Duration::from_nanos(record.histogram(Phase::Total).value_at_quantile(0.99))
}

fn gather(
    plan: &Plan,
    harvests: Vec<Harvest>,
    measure_from: Instant,
    climbed: Option<(Found, Climb)>,
) -> Outcome {
    let mut outcome = Outcome {
        record: Record::new(),
        series: None,
        senders: Vec::new(),
        targets: Vec::new(),
        hostile: plan
            .hostile
            .iter()
            .map(|hostile| (hostile.behaviour, hostile.sessions, HostileCounts::default()))
            .collect(),
        pace: plan.pace,
        ramp: None,
        own: Vec::new(),
        own_limit: Vec::new(),
        elapsed: Duration::ZERO,
        acknowledged: Vec::new(),
        not_sent: 0,
        not_sent_own_pace: 0,
        backlog_max: 0,
        engine: "",
        ended_by: None,
        server_cpu: None,
        own_cpu: None,
        verification: None,
    };
    let mut records = vec![Record::new(); plan.senders.len() * plan.targets.len()];
    for harvest in harvests {
        merge(&mut records, &harvest.figures.records);
        match &mut outcome.series {
            Some(series) => series.merge(&harvest.series),
            none => *none = Some(harvest.series),
        }
        outcome.acknowledged.extend(harvest.acknowledged);
        outcome.not_sent += harvest.figures.not_sent;
        outcome.not_sent_own_pace += harvest.figures.not_sent_own_pace;
        outcome.backlog_max += harvest.figures.backlog_max;
        outcome.own.extend(harvest.figures.own);
        for ((_, _, counts), more) in outcome.hostile.iter_mut().zip(&harvest.hostile) {
            counts.add(more);
        }
        outcome.engine = harvest.engine;
        let last = harvest.last_acknowledged.unwrap_or(measure_from);
        outcome.elapsed = outcome.elapsed.max(last.saturating_duration_since(measure_from));
    }
    if let Some((found, climb)) = climbed {
        outcome.own_limit.clone_from(&found.own_limit);
        outcome.ramp = Some(found);
        records = climb.records;
        outcome.elapsed = climb.elapsed;
        (outcome.not_sent, outcome.backlog_max) = (climb.not_sent, climb.backlog_max);
        outcome.not_sent_own_pace = climb.not_sent_own_pace;
        outcome.own = climb.own;
    }
    outcome.record = well_behaved(plan, &records);
    if outcome.ramp.is_none() {
        outcome.own_limit = own_limit::reasons(&outcome.own, total_p99(&outcome.record));
        outcome.own_limit.extend(own_limit::wants(&outcome.record));
    }
    let collect = |parts: &mut dyn Iterator<Item = &Record>| {
        let mut all = Record::new();
        parts.for_each(|record| all.merge(record));
        all
    };
    let targets = plan.targets.len();
    let senders = plan.senders.iter().zip(records.chunks(targets));
    outcome.senders =
        senders.map(|(sender, parts)| (sender.name.clone(), collect(&mut parts.iter()))).collect();
    outcome.targets = plan
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            (target.name.clone(), collect(&mut records.iter().skip(index).step_by(targets)))
        })
        .collect();
    outcome
}

/// The windows of a ramp at the rate that was found.
#[derive(Debug, Default)]
struct Climb {
    records: Vec<Record>,
    elapsed: Duration,
    not_sent: u64,
    not_sent_own_pace: u64,
    backlog_max: u64,
    own: Vec<OwnCore>,
    shares: Option<Shares>,
}

impl Climb {
    /// Adds the figures of a core.
    fn add(&mut self, figures: Figures) {
        if self.records.is_empty() {
            self.records = figures.records;
        } else {
            merge(&mut self.records, &figures.records);
        }
        self.not_sent += figures.not_sent;
        self.not_sent_own_pace += figures.not_sent_own_pace;
        self.backlog_max = self.backlog_max.max(figures.backlog_max);
        self.own.extend(figures.own);
    }
}

/// The main thread's view of a run.
struct Watch<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    interrupts: &'a AtomicUsize,
    meters: Meters,
    threads: &'a [JoinHandle<io::Result<Harvest>>],
    lives: &'a [Arc<Live>],
    start: Instant,
    tui: Option<Tui>,
    progress: bool,
    shown: Instant,
    shown_acknowledged: u64,
}

impl Watch<'_> {
    /// Waits until all cores are done, or until that moment.
    fn wait(&mut self, until: Option<Instant>) {
        loop {
            if let Some(tui) = &mut self.tui {
                let asked = tui.tick(Instant::now(), self.lives, self.shared);
                self.interrupts.fetch_add(asked, Relaxed);
            }
            let interrupts = self.interrupts.load(Relaxed);
            if interrupts > 0 {
                self.shared.end(Ending::Interrupted);
            }
            if interrupts > 1 {
                self.shared.abort.store(true, Relaxed);
            }
            let now = Instant::now();
            if self.is_done() || until.is_some_and(|until| now >= until) {
                return;
            }
            if self.progress && now.duration_since(self.shown) >= PROGRESS_INTERVAL {
                self.show(now);
            }
            let nap = until.map_or(PROGRESS_INTERVAL, |until| until - now).min(Duration::from_millis(50));
            thread::park_timeout(nap);
        }
    }

    /// Waits for the measured window and to its end; of a run that ends with its messages, to the end of the run.
    fn window(&mut self, stage: Stage) -> Shares {
        self.wait(Some(stage.measure_from));
        let before = self.meters.read(self.acknowledged());
        self.wait(stage.end);
        before.until(&self.meters.read(self.acknowledged()))
    }

    /// Goes from step to step until the search is over or the run is ended. The figures are those of the windows at the rate found.
    fn climb(
        &mut self,
        ramp: Ramp,
        mut stage: Stage,
        steps: &Receiver<(u32, Figures)>,
        tells: bool,
    ) -> (Found, Climb) {
        let window = self.plan.duration.unwrap_or_default();
        let mut search = Search::new(ramp);
        let mut held: Vec<(f64, Climb)> = Vec::new();
        let mut number = 0;
        while let Some((rate, confirms)) = search.next_rate() {
            if number > 0 {
                stage = self::stage(self.plan, number, Instant::now() + LEAD, rate);
                if let Ok(mut next) = self.shared.stage.lock() {
                    *next = Some(stage);
                }
            }
            let Some(climb) = self.step(stage, window, steps) else { break };
            number += 1;
            let record = well_behaved(self.plan, &climb.records);
            let mut own_limit = own_limit::reasons(&climb.own, total_p99(&record));
            own_limit.extend(own_limit::wants(&record));
            let step = Step::judge(&ramp, rate, window, &record, climb.not_sent);
            let step = Step { own_limit, confirms, ..step };
            if tells {
                self.write(&format!("{}\n", crate::details::step(&step)));
            }
            if step.holds {
                held.push((rate, climb));
            }
            search.book(step);
        }
        self.shared.stop.store(true, Relaxed);
        let found = search.end();
        let mut all = Climb::default();
        for (rate, climb) in held {
            if Some(rate) == found.rate {
                all.elapsed += climb.elapsed;
                let Climb { records, not_sent, not_sent_own_pace, backlog_max, own, shares, .. } = climb;
                all.add(Figures { records, not_sent, not_sent_own_pace, backlog_max, own: None });
                all.own.extend(own);
                all.shares = match (all.shares.take(), shares) {
                    (Some(before), Some(more)) => Some(before.and(more)),
                    (before, more) => before.or(more),
                };
            }
        }
        if all.records.is_empty() {
            all.records = vec![Record::new(); self.plan.senders.len() * self.plan.targets.len()];
        }
        (found, all)
    }

    /// The figures of all cores of a step; None: the run ended before.
    fn step(&mut self, stage: Stage, window: Duration, steps: &Receiver<(u32, Figures)>) -> Option<Climb> {
        let shares = Some(self.window(stage));
        let mut climb = Climb { elapsed: window, shares, ..Climb::default() };
        let mut cores = 0;
        while cores < self.plan.cores {
            self.wait(Some(Instant::now() + STEP_NAP));
            if self.shared.stop.load(Relaxed) || self.is_done() {
                return None;
            }
            while let Ok((of, figures)) = steps.try_recv() {
                debug_assert_eq!(of, stage.number, "cores go from step to step together");
                climb.add(figures);
                cores += 1;
            }
        }
        Some(climb)
    }

    fn is_done(&self) -> bool {
        let mut cores = self.lives.iter().zip(self.threads);
        cores.all(|(live, thread)| live.done.load(Relaxed) || thread.is_finished())
    }

    fn acknowledged(&self) -> u64 {
        self.lives.iter().map(|live| live.acknowledged.load(Relaxed)).sum()
    }

    fn show(&mut self, now: Instant) {
        let acknowledged = self.acknowledged();
        let rate =
            (acknowledged - self.shown_acknowledged) as f64 / now.duration_since(self.shown).as_secs_f64();
        (self.shown, self.shown_acknowledged) = (now, acknowledged);
        let seconds = now.saturating_duration_since(self.start).as_secs_f64();
        let warmup = if now < self.start + self.plan.warmup { " warm-up" } else { "" };
        let errors = self.shared.errors.load(Relaxed);
        let mut line =
            format!("{seconds:7.1} s{warmup}  {acknowledged} acknowledged  {rate:.0}/s  {errors} errors");
        if self.plan.pace != Pace::Closed {
            let backlog: u64 = self.lives.iter().map(|live| live.backlog.load(Relaxed)).sum();
            line.push_str(&format!("  {backlog} waiting"));
        }
        self.write(&line);
    }

    fn clear(&mut self) {
        self.tui = None;
        if self.progress {
            self.write("");
        }
    }

    fn write(&mut self, line: &str) {
        if let Some(tui) = &mut self.tui {
            return tui.note(line);
        }
        // A line that cannot be written is no reason to end.
        let _ = if self.progress {
            write!(io::stderr(), "\r\x1b[K{line}")
        } else {
            write!(io::stderr(), "{line}")
        };
    }
}
