//! What the main thread and the cores tell each other: flags, schedules, figures.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::acks::Acknowledged;
use crate::hostile::HostileCounts;
use crate::live::LiveCells;
use crate::own_limit::OwnCore;
use crate::plan::{Plan, Seat};
use crate::record::Record;
use crate::series::Series;

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
    /// Sessions of well-behaved senders that are not done; the hostile ones end with them.
    pub senders_left: AtomicUsize,
    /// The step of a ramp that is under way or comes next.
    pub stage: Mutex<Option<Stage>>,
    /// Why the run ended before its time.
    pub ended_by: OnceLock<Ending>,
}

/// Why a run ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No connection could be established, ever.
    Unreachable(String),
    /// This machine could not even begin a connection.
    NotPossible(String),
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
    /// What the full display shows beside; None: nobody looks.
    pub cells: Option<Arc<LiveCells>>,
}

/// A schedule: the only one of a run, or a step of a ramp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Counts from 0.
    pub number: u32,
    /// Start of the warm-up.
    pub start: Instant,
    /// Start of the measured window.
    pub measure_from: Instant,
    /// Its end; None: that of the messages.
    pub end: Option<Instant>,
    /// Messages a second over all cores; without meaning in the closed loop.
    pub rate: f64,
}

/// The figures of a core: of the run, or of a step of a ramp.
#[derive(Debug)]
pub struct Figures {
    /// By sender and target: sender times the number of targets, plus target.
    pub records: Vec<Record>,
    /// Due and never begun, by senders that go as fast as they can; of a ramp, by those that are judged.
    pub not_sent: u64,
    /// Due and never begun by the others.
    pub not_sent_own_pace: u64,
    /// Largest backlog, the sum over the senders.
    pub backlog_max: u64,
    /// What the thread did; None: the window was too short.
    pub own: Option<OwnCore>,
}

/// What a core brings home.
#[derive(Debug)]
pub struct Harvest {
    /// Its figures; those of a ramp were handed over step by step.
    pub figures: Figures,
    /// The run over time.
    pub series: Series,
    /// By hostile kind.
    pub hostile: Vec<HostileCounts>,
    /// Acknowledgements, when they were to be kept.
    pub acknowledged: Vec<Acknowledged>,
    /// Time of the last measured acknowledgement.
    pub last_acknowledged: Option<Instant>,
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
    /// The sessions of all cores.
    pub seats: Arc<Vec<Vec<Seat>>>,
    /// The first schedule.
    pub stage: Stage,
    /// Where the figures of each step of a ramp go, with its number.
    pub stages: Option<Sender<(u32, Figures)>>,
}
