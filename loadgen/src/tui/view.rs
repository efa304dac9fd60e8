//! What the display shows, and how it changes from look to look. Bounded however long the run.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::cells::{CELLS, middle_of, quantile};
use crate::plan::{Pace, Plan};
use crate::record::Phase;
use crate::worker::{Live, Shared};

/// Width of a column of the heat map and of a bar of the rate.
const COLUMN: Duration = Duration::from_millis(500);
/// Columns kept: more than the widest terminal.
const COLUMNS_MAX: usize = 600;
/// Rows of the heat map for a factor of ten.
const ROWS_PER_DECADE: f64 = 6.0;

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) target: String,
    pub(super) pace: String,
    pub(super) elapsed: Duration,
    /// Of the run as far as it is bounded by time, warm-up included.
    pub(super) length: Option<Duration>,
    pub(super) warming_up: bool,
    pub(super) ending: bool,
    pub(super) acknowledged: u64,
    pub(super) messages: Option<u64>,
    pub(super) errors: u64,
    /// Open loop: messages due and not begun.
    pub(super) backlog: Option<u64>,
    /// A second, in the last column that is full.
    pub(super) rate: f64,
    /// A second, by column.
    pub(super) rates: VecDeque<u64>,
    /// Name, count, p50, p90, p99, longest in milliseconds.
    pub(super) phases: Vec<(&'static str, u64, [f64; 4])>,
    pub(super) causes: Vec<(String, u64)>,
    /// CPU time of each of the generator's threads as a share.
    pub(super) threads: Vec<f64>,
    /// By column: row (lower is faster) and count.
    pub(super) heat: VecDeque<Vec<(i32, u64)>>,
    pub(super) note: String,
    start: Instant,
    warmup: Duration,
    column_since: Instant,
    column_acknowledged: u64,
    column_cells: Vec<u64>,
    column_cpu: Vec<u64>,
    sums: Vec<u64>,
}

impl View {
    pub(super) fn new(plan: &Arc<Plan>, start: Instant) -> Self {
        let names: Vec<&str> = plan.targets.iter().map(|target| target.name.as_str()).collect();
        let pace = match plan.pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open(rate, _) => format!("{rate} a second planned"),
            Pace::Ramp(ramp, _) => format!("ramp {} to {} a second", ramp.low, ramp.high),
        };
        let ramp = matches!(plan.pace, Pace::Ramp(..));
        Self {
            target: names.join(", "),
            pace,
            elapsed: Duration::ZERO,
            length: plan.duration.filter(|_| !ramp).map(|duration| plan.warmup + duration),
            warming_up: !plan.warmup.is_zero(),
            ending: false,
            acknowledged: 0,
            messages: plan.messages,
            errors: 0,
            backlog: (plan.pace != Pace::Closed).then_some(0),
            rate: 0.0,
            rates: VecDeque::new(),
            phases: Vec::new(),
            causes: Vec::new(),
            threads: Vec::new(),
            heat: VecDeque::new(),
            note: String::new(),
            start,
            warmup: plan.warmup,
            column_since: start,
            column_acknowledged: 0,
            column_cells: vec![0; CELLS],
            column_cpu: Vec::new(),
            sums: vec![0; CELLS],
        }
    }

    /// Takes in what the workers have counted.
    pub(super) fn look(&mut self, now: Instant, lives: &[Arc<Live>], shared: &Shared) {
        self.elapsed = now.saturating_duration_since(self.start);
        self.warming_up = self.elapsed < self.warmup;
        self.ending = shared.stop.load(Relaxed);
        self.errors = shared.errors.load(Relaxed);
        let sum = |of: fn(&Live) -> u64| -> u64 { lives.iter().map(|live| of(live)).sum() };
        self.acknowledged = sum(|live| live.acknowledged.load(Relaxed));
        if let Some(backlog) = &mut self.backlog {
            *backlog = sum(|live| live.backlog.load(Relaxed));
        }
        let mut causes: BTreeMap<(&str, u16), u64> = BTreeMap::new();
        for (cause, count) in
            lives.iter().filter_map(|live| live.cells.as_ref()).flat_map(|cells| cells.causes())
        {
            *causes.entry(cause).or_default() += count;
        }
        self.causes =
            causes.into_iter().map(|((place, code), count)| (cause_name(place, code), count)).collect();
        self.causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.phases.clear();
        for phase in Phase::ALL {
            self.sums.fill(0);
            for cells in lives.iter().filter_map(|live| live.cells.as_ref()) {
                cells.add_phase(phase, &mut self.sums);
            }
            let count: u64 = self.sums.iter().sum();
            if count > 0 {
                let at = |share| quantile(&self.sums, share).unwrap_or(0) as f64 / 1e6;
                self.phases.push((phase.name(), count, [0.5, 0.9, 0.99, 1.0].map(at)));
            }
        }
        // Total is the last phase, so its sums are at hand.
        debug_assert_eq!(Phase::ALL.last(), Some(&Phase::Total));
        if now.saturating_duration_since(self.column_since) >= COLUMN {
            self.end_column(now);
        }
    }

    /// Ends a column of the plots.
    fn end_column(&mut self, now: Instant) {
        let seconds = now.duration_since(self.column_since).as_secs_f64();
        self.column_since = now;
        self.rate = (self.acknowledged - self.column_acknowledged) as f64 / seconds;
        self.column_acknowledged = self.acknowledged;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates"
        )]
        push(&mut self.rates, self.rate as u64);
        let mut column: Vec<(i32, u64)> = Vec::new();
        for (cell, (sum, before)) in self.sums.iter().zip(&mut self.column_cells).enumerate() {
            let count = sum - *before;
            *before = *sum;
            if count == 0 {
                continue;
            }
            let row = row_of(middle_of(cell) as f64 / 1e6);
            match column.last_mut().filter(|(last, _)| *last == row) {
                Some((_, sum)) => *sum += count,
                None => column.push((row, count)),
            }
        }
        push(&mut self.heat, column);
        let cpu = cpu_of_threads();
        self.threads = cpu
            .iter()
            .enumerate()
            .map(|(thread, &ns)| {
                let before = self.column_cpu.get(thread).copied().unwrap_or(ns);
                ns.saturating_sub(before) as f64 / 1e9 / seconds
            })
            .collect();
        self.column_cpu = cpu;
    }
}

/// The row of a time in milliseconds.
fn row_of(milliseconds: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let row = (milliseconds.max(1e-6).log10() * ROWS_PER_DECADE).floor() as i32;
    row
}

/// Lower end of a row in milliseconds.
pub(super) fn row_from(row: i32) -> f64 {
    10_f64.powf(f64::from(row) / ROWS_PER_DECADE)
}

fn push<T>(columns: &mut VecDeque<T>, column: T) {
    if columns.len() == COLUMNS_MAX {
        columns.pop_front();
    }
    columns.push_back(column);
}

fn cause_name(place: &str, code: u16) -> String {
    if code == 0 { place.to_owned() } else { format!("{place} {code}") }
}

/// CPU time so far of each of the generator's threads, nanoseconds, by core. The threads themselves are not asked.
fn cpu_of_threads() -> Vec<u64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let core = read("comm").trim_end().strip_prefix("load-").and_then(|core| core.parse::<u64>().ok());
        let ns = read("schedstat").split(' ').next().and_then(|word| word.parse::<u64>().ok());
        if let (Some(core), Some(ns)) = (core, ns) {
            threads.insert(core, ns);
        }
    }
    threads.into_values().collect()
}
