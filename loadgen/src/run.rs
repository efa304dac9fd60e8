//! A run from start to end: threads, the measured window, progress, interruption.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::acks::Acknowledged;
use crate::plan::{Pace, Plan};
use crate::record::Record;
use crate::server_cpu::{CpuTime, Processes, Sample, tick_us};
use crate::verify::Verification;
use crate::worker::{self, Ending, Harvest, Live, Shared, Task};

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// CPU time over the window, and the messages acknowledged in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuShare {
    /// CPU time.
    pub time: CpuTime,
    /// Messages.
    pub messages: u64,
}

impl CpuShare {
    /// Microseconds a message.
    #[must_use]
    pub fn per_message(&self, microseconds: f64) -> Option<f64> {
        (self.messages > 0).then(|| microseconds / self.messages as f64)
    }
}

/// Everything a run found out.
#[derive(Debug)]
pub struct Outcome {
    /// Figures of all cores.
    pub record: Record,
    /// The measured window: from its start to the last acknowledgement in it.
    pub elapsed: Duration,
    /// Acknowledgements, when they were to be kept.
    pub acknowledged: Vec<Acknowledged>,
    /// Planned in the window and never begun.
    pub not_sent: u64,
    /// Largest number of planned messages that waited, the sum over the cores.
    pub backlog_max: u64,
    /// `io_uring` or `epoll`.
    pub engine: &'static str,
    /// Why the run ended early.
    pub ended_by: Option<Ending>,
    /// The server's CPU time; the text says why there is none.
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
}

/// Runs the plan to its end.
///
/// # Errors
/// A thread cannot be started or its runtime not built.
pub fn run(plan: Plan, setting: Setting) -> io::Result<Outcome> {
    let plan = Arc::new(plan);
    let shared = setting.shared;
    let acks = setting.acks.map(Arc::new);
    // The first planned message shall not be late because its thread is still starting.
    let lead = if plan.pace == Pace::Closed { Duration::ZERO } else { Duration::from_millis(5) };
    let start = Instant::now() + lead;
    let sampled = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut lives = Vec::new();
    let main = thread::current();
    for core in 0..plan.cores {
        let live = Arc::new(Live::default());
        lives.push(Arc::clone(&live));
        let task = Task {
            plan: Arc::clone(&plan),
            shared: Arc::clone(&shared),
            live: Arc::clone(&live),
            acks: acks.clone(),
            core,
            start,
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
    let own = Processes { pids: vec![std::process::id()], with_children: false };
    let mut watch = Watch {
        plan: &plan,
        shared: &shared,
        interrupts: &setting.interrupts,
        threads: &threads,
        lives: &lives,
        start,
        progress: setting.progress && io::stderr().is_terminal(),
        shown: Instant::now(),
        shown_acknowledged: 0,
    };
    let measure_from = start + plan.warmup;
    watch.wait(Some(measure_from));
    let window_acknowledged = watch.acknowledged();
    let server_before = setting.server.as_ref().map(Processes::sample);
    let own_before = own.sample();
    watch.wait(None);
    let own_after = own.sample();
    let server_after = setting.server.as_ref().map(Processes::sample);
    let messages = watch.acknowledged() - window_acknowledged;
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
    let share = |before: &Sample, after: &Sample| CpuShare { time: after.since(before, tick_us()), messages };
    let server_cpu = server_before.zip(server_after).map(|(before, after)| Ok(share(&before?, &after?)));
    let own_cpu = own_before.ok().zip(own_after.ok()).map(|(before, after)| share(&before, &after));
    Ok(gather(harvests, &shared, measure_from, (server_cpu, own_cpu)))
}

fn gather(
    harvests: Vec<Harvest>,
    shared: &Shared,
    measure_from: Instant,
    (server_cpu, own_cpu): (Option<Result<CpuShare, String>>, Option<CpuShare>),
) -> Outcome {
    let mut outcome = Outcome {
        record: Record::new(),
        elapsed: Duration::ZERO,
        acknowledged: Vec::new(),
        not_sent: 0,
        backlog_max: 0,
        engine: "",
        ended_by: shared.ended_by.get().cloned(),
        server_cpu,
        own_cpu,
        verification: None,
    };
    for harvest in harvests {
        outcome.record.merge(&harvest.record);
        outcome.acknowledged.extend(harvest.acknowledged);
        outcome.not_sent += harvest.not_sent;
        outcome.backlog_max += harvest.backlog_max;
        outcome.engine = harvest.engine;
        let last = harvest.last_acknowledged.unwrap_or(measure_from);
        outcome.elapsed = outcome.elapsed.max(last.saturating_duration_since(measure_from));
    }
    outcome
}

/// The main thread's view of a run.
struct Watch<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    interrupts: &'a AtomicUsize,
    threads: &'a [JoinHandle<io::Result<Harvest>>],
    lives: &'a [Arc<Live>],
    start: Instant,
    progress: bool,
    shown: Instant,
    shown_acknowledged: u64,
}

impl Watch<'_> {
    /// Waits until all cores are done, or until that moment.
    fn wait(&mut self, until: Option<Instant>) {
        loop {
            let interrupts = self.interrupts.load(Relaxed);
            if interrupts > 0 {
                self.shared.end(Ending::Interrupted);
            }
            if interrupts > 1 {
                self.shared.abort.store(true, Relaxed);
            }
            let now = Instant::now();
            let mut cores = self.lives.iter().zip(self.threads);
            let done = cores.all(|(live, thread)| live.done.load(Relaxed) || thread.is_finished());
            if done || until.is_some_and(|until| now >= until) {
                return;
            }
            if self.progress && now.duration_since(self.shown) >= PROGRESS_INTERVAL {
                self.show(now);
            }
            let nap = until.map_or(PROGRESS_INTERVAL, |until| until - now).min(Duration::from_millis(50));
            thread::park_timeout(nap);
        }
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
        if matches!(self.plan.pace, Pace::Open(..)) {
            let backlog: u64 = self.lives.iter().map(|live| live.backlog.load(Relaxed)).sum();
            line.push_str(&format!("  {backlog} waiting"));
        }
        self.write(&line);
    }

    fn clear(&self) {
        if self.progress {
            self.write("");
        }
    }

    fn write(&self, line: &str) {
        // A progress line that cannot be written is no reason to end.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }
}
