//! The front door: pinned monoio runtimes, sockets, sessions, budgets.
//!
//! ```text
//!   Gateway::start ─▶ data directory (lock, recovery) ─▶ listeners ─▶ one thread per core: core::run
//!        │                                                              session ── journal ── commit
//!        └─ stop: an octet to each core ─▶ drain ─▶ seal the log ─▶ join
//! ```
//! The cores share nothing on the accept path. [`Gateway`] only starts and stops them.

/// What sessions stand on: runtime, listening sockets, connections, buffers, TLS. For the yardstick in `bench/floor`, which has to stand on the same.
pub mod base {
    pub use crate::buffers::{Exhausted, Pool, Wish};
    pub use crate::doors::ACCEPTORS;
    pub use crate::engine::run;
    pub use crate::listener::bind;
    pub use crate::socket::Socket;
    pub use crate::system::{pin_to_processor, raise_open_files_limit, usable_processors};
    pub use crate::tls::Tls;
}

mod admission;
mod buffers;
mod clock;
mod commit;
mod core;
mod directory;
mod doors;
mod engine;
mod file_system;
mod journal;
mod listener;
mod login;
mod machine;
mod mail;
mod observe;
mod pressure;
mod proxy;
mod ring_buffer;
mod session;
mod sessions;
pub mod settings;
mod signal;
mod socket;
mod system;
pub mod tls;
mod watch;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use inrush_log::{
    DataDirectory, INTERNAL_LOG, LogKind, LogSettings, OpenError, RecoveryReport, log_directory,
};
use inrush_metrics::{Metrics, Names, ReplyName};
use inrush_policy::{AccessList, Connections, Shared, SharedRecipients};
use inrush_proto::{Reply, Settings, Verb};
use inrush_queue::{ArrivalStore, Stores, positions_seen};

pub use crate::core::CoreError;
use crate::directory::Directory;
pub use crate::engine::{ActiveEngine, EngineRefused};
pub use crate::listener::ListenError;
pub use crate::login::Logins;
use crate::login::Outcomes;
use crate::machine::Machine;
use crate::sessions::Questions;
pub use crate::sessions::{LiveSession, LiveSessions, SESSIONS_MAX, SessionList};
use crate::settings::GatewaySettings;
use crate::tls::SharedCertificates;

/// File descriptors kept for the admin server, the helper of the logs and what an operator opens.
const DESCRIPTORS_RESERVED: u64 = 96;

/// File descriptors of a core besides its listeners and sessions: its segments that are ready: ring, control, segments in use,
/// the committer.
const DESCRIPTORS_PER_CORE: u64 = 17;

/// Addresses whose connections are counted at a time; beyond it, limits per address and network become weaker.
const SITES_MAX: usize = 100_000;

/// Sessions on one core when neither a setting nor the limit of file descriptors says less.
const CONNECTIONS_MAX: u64 = 100_000;

/// Why the gateway did not start. Nothing was changed that a second start would not find as it was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine that was demanded is not to be had.
    #[error(transparent)]
    Engine(#[from] EngineRefused),
    /// A listening address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory or a log in it cannot be used.
    #[error("data directory: {0}")]
    Data(#[from] OpenError),
    /// A thread or a socket pair could not be made.
    #[error("cannot start a core: {0}")]
    Thread(#[from] std::io::Error),
    /// The process may open too few files for any session.
    #[error("the limit of open files is {limit}: at least {needed} are needed")]
    Descriptors {
        /// What the process may open.
        limit: u64,
        /// What it needs for one session on each core.
        needed: u64,
    },
}

/// Everything that the front door is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// Sockets, time and budgets.
    pub gateway: GatewaySettings,
    /// Dialog.
    pub session: Settings,
    /// Storage.
    pub log: LogSettings,
    /// Where the logs lie.
    pub data_dir: &'a Path,
    /// Number of this node, part of every message id.
    pub node: u16,
    /// Who may get mail; may be replaced while the gateway runs.
    pub recipients: Arc<SharedRecipients>,
    /// Whose connections are taken; may be replaced while the gateway runs.
    pub access: Arc<Shared<AccessList>>,
    /// The users of submission; a listener of that kind refuses every login without.
    pub logins: Option<Logins>,
    /// What is shown to clients under TLS; may be replaced at any time.
    pub certificates: SharedCertificates,
    /// Whether somebody takes the mail out of the logs: [`Gateway::take_stores`] gives what is needed for it.
    pub consumed: bool,
    /// File descriptors that others in the process need.
    pub descriptors_kept: u64,
    /// Gives memory that is free on the calling thread back to the machine, as the program's allocator does it.
    pub give_memory_back: fn(),
    /// Version of the program, for the metrics.
    pub version: &'static str,
}

/// The running front door.
pub struct Gateway {
    cores: Vec<RunningCore>,
    stop: Arc<AtomicBool>,
    engine: ActiveEngine,
    metrics: Arc<Metrics>,
    addresses: Vec<(String, SocketAddr)>,
    recovered: Vec<(String, RecoveryReport)>,
    logs_written: usize,
    stores: Option<Stores>,
    /// Last, so that the lock is given up when no core writes any more.
    _directory: DataDirectory,
}

struct RunningCore {
    thread: JoinHandle<()>,
    control: UnixStream,
    accepting: Arc<AtomicBool>,
    questions: Arc<Questions>,
}

impl Gateway {
    /// Recovers the logs, binds the listeners and starts the cores. `ended` is called on a core's thread when that core
    /// ends: with its error when the process has to end too.
    ///
    /// # Errors
    /// [`StartError`] says what and where; no connection has been taken.
    pub fn start(
        start: Start<'_>,
        ended: impl Fn(Result<(), CoreError>) + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let Start {
            gateway,
            session,
            log,
            data_dir,
            node,
            recipients,
            access,
            logins,
            certificates,
            consumed,
            descriptors_kept,
            give_memory_back,
            version,
        } = start;
        let engine = engine::choose(gateway.engine)?;
        let mut processors = system::usable_processors();
        if gateway.cores != 0 {
            processors.truncate(usize::from(gateway.cores));
        }
        let count = if gateway.cores == 0 {
            processors.len().min(INTERNAL_LOG.into())
        } else {
            usize::from(gateway.cores)
        };
        let connections_max = connections_max(&gateway, count as u64, log.spares.into(), descriptors_kept)?;
        let (addresses, mut sockets) = bind(&gateway, count)?;

        let connections = Arc::new(Connections::new(SITES_MAX));
        let epoch = Instant::now();
        let machine = Arc::new(Machine::new(gateway.pressure.memory_max));
        machine.warn_of_small_memory(gateway.pressure.soft_percent);
        let metrics = Metrics::new(names(&gateway, version), count);
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(ended);
        let settings = Arc::new(gateway);
        let mut directory = DataDirectory::open(data_dir, &log, node)?;
        if log.direct_io && !directory.storage().direct() {
            tracing::info!("the file system takes no direct I/O: the log is written through the page cache");
        }
        let start_may_wait = file_system::start_may_wait(data_dir);
        if engine == ActiveEngine::IoUring && start_may_wait {
            tracing::info!(
                "ext4 with a journal: committer threads write the log, since the ring would make its core wait for the journal"
            );
        }
        for (log, seen) in positions_seen(directory.storage())? {
            directory.begin_behind(LogKind::Arrival, log, seen);
        }
        let mut plans = Vec::with_capacity(count);
        let mut arrivals = Vec::new();
        let mut recovered = Vec::with_capacity(count);
        for (index, listeners) in sockets.drain(..).enumerate() {
            let (ours, theirs) = UnixStream::pair()?;
            // A full socket buffer means that the core will be woken anyway. All clones share it.
            ours.set_nonblocking(true)?;
            let wake = ours.try_clone()?;
            let outcomes = Arc::new(Outcomes::new(ours.try_clone()?));
            let questions = Questions::new(ours.try_clone()?);
            // At most 255 cores: `count` is checked with the settings of the log.
            let number = u8::try_from(index).unwrap_or(u8::MAX);
            let (appender, report) = directory.open_log(number, move || {
                let _ = (&wake).write(&[0]);
            })?;
            recovered.push((log_directory(LogKind::Arrival, number), report.clone()));
            if consumed {
                arrivals.push(ArrivalStore::of(number, &appender));
            }
            let accepting = Arc::new(AtomicBool::new(false));
            let plan = core::Plan {
                index,
                // Cores beyond the processors have none of their own.
                processor: processors.get(index).copied().filter(|_| settings.pin_cores),
                engine,
                settings: Arc::clone(&settings),
                session: session.clone(),
                log: log.clone(),
                connections_max,
                listeners,
                appender,
                recovered: vec![report],
                recipients: Arc::clone(&recipients),
                certificates: certificates.clone(),
                access: Arc::clone(&access),
                connections: Arc::clone(&connections),
                logins: logins.clone(),
                outcomes,
                epoch,
                machine: Arc::clone(&machine),
                give_memory_back,
                metrics: Arc::clone(metrics.core(index)),
                control: theirs,
                stop: Arc::clone(&stop),
                accepting: Arc::clone(&accepting),
                questions: Arc::clone(&questions),
                start_may_wait,
                directory: (index == 0).then(|| Directory::new(directory.status(), Arc::clone(&metrics))),
            };
            plans.push((plan, ours, accepting, questions));
        }
        let mut own = Vec::new();
        let stores = consumed.then(|| open_stores(&mut directory, node, arrivals, &mut own)).transpose()?;
        if let Some((first, ..)) = plans.first_mut() {
            first.recovered.extend(own.iter().map(|(_, report)| report.clone()));
        }
        recovered.extend(own);
        let logs_written = recovered.len();
        let adopted = directory.adopt_logs()?;
        // No core has these logs: the first one shows what was found in them.
        if let Some((first, ..)) = plans.first_mut() {
            first.recovered.extend(adopted.iter().map(|(_, report)| report.clone()));
        }
        recovered.extend(adopted);
        let mut cores = Vec::with_capacity(count);
        for (plan, control, accepting, questions) in plans {
            let ended = Arc::clone(&ended);
            let thread = thread::Builder::new()
                .name(format!("inrush-core-{}", plan.index))
                .spawn(move || ended(core::run(plan)))?;
            cores.push(RunningCore { thread, control, accepting, questions });
        }
        Ok(Self {
            cores,
            stop,
            engine,
            metrics,
            addresses,
            recovered,
            logs_written,
            stores,
            _directory: directory,
        })
    }

    /// Where it listens: name of the listener and address, with the port that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The kernel interface in use.
    #[must_use]
    pub fn engine(&self) -> ActiveEngine {
        self.engine
    }

    /// Number of cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Logs that are written, those of the cores first; [`recovered`](Self::recovered) lists those that are only drained behind them.
    #[must_use]
    pub fn logs_written(&self) -> usize {
        self.logs_written
    }

    /// What recovery found in each log: those of the cores first, then the others that are written, then those of cores that are there no more.
    #[must_use]
    pub fn recovered(&self) -> &[(String, RecoveryReport)] {
        &self.recovered
    }

    /// The logs for whoever takes the mail out of them, once; nothing unless [`Start::consumed`].
    pub fn take_stores(&mut self) -> Option<Stores> {
        self.stores.take()
    }

    /// What the cores count.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// For each core, whether it takes connections; stays valid when the gateway has ended.
    #[must_use]
    pub fn accepting(&self) -> Vec<Arc<AtomicBool>> {
        self.cores.iter().map(|core| Arc::clone(&core.accepting)).collect()
    }

    /// The way to ask for the sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> SessionList {
        SessionList::of(self.cores.iter().map(|core| Arc::clone(&core.questions)))
    }

    /// Asks the cores to stop: no new connection, 421 4.3.2 to idle sessions, running transactions finish until the
    /// drain deadline. Returns at once.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        for core in &self.cores {
            let _ = (&core.control).write(&[0]);
        }
    }

    /// Waits until all cores have ended and their logs are closed.
    pub fn join(self) {
        for core in self.cores {
            // A panic has ended the process before.
            let _ = core.thread.join();
        }
    }
}

/// Opens the logs that no core writes; adds what recovery found in them.
fn open_stores(
    directory: &mut DataDirectory,
    node: u16,
    arrivals: Vec<ArrivalStore>,
    recovered: &mut Vec<(String, RecoveryReport)>,
) -> Result<Stores, OpenError> {
    let mut open = |kind, log| {
        let (appender, report) = directory.open_log_kind(kind, log, || {})?;
        recovered.push((log_directory(kind, log), report));
        Ok::<_, OpenError>(appender)
    };
    let internal = open(LogKind::Arrival, INTERNAL_LOG)?;
    let outcome = open(LogKind::Outcome, 0)?;
    let retry = open(LogKind::Retry, 0)?;
    let outcome_log = log_directory(LogKind::Outcome, 0);
    let outcome_damaged =
        recovered.iter().any(|(log, report)| *log == outcome_log && !report.damage.is_empty());
    let storage = directory.storage().clone();
    Ok(Stores { storage, node, arrivals, internal, outcome, retry, outcome_damaged })
}

/// Names of listeners, the addresses they got, and for each core the sockets with the index of their listener.
type Bound = (Vec<(String, SocketAddr)>, Vec<Vec<(usize, std::net::TcpListener)>>);

fn bind(settings: &GatewaySettings, cores: usize) -> Result<Bound, ListenError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, listener) in settings.listeners.iter().enumerate() {
        for &address in &listener.addresses {
            let bound = listener::bind(&listener.name, address, dual_stack(settings, address), cores)?;
            let local = bound.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
            addresses.push((listener.name.clone(), local));
            for (core, socket) in sockets.iter_mut().zip(bound) {
                core.push((index, socket));
            }
        }
    }
    Ok((addresses, sockets))
}

/// Whether a socket on the IPv6 wildcard takes IPv4 connections too: unless an IPv4 address with its port is listed beside it.
fn dual_stack(settings: &GatewaySettings, address: SocketAddr) -> bool {
    let mut all = settings.listeners.iter().flat_map(|listener| &listener.addresses);
    address.ip().is_unspecified() && !all.any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Sessions that one core may have.
fn connections_max(
    settings: &GatewaySettings,
    cores: u64,
    spares: u64,
    kept: u64,
) -> Result<usize, StartError> {
    let limit = system::raise_open_files_limit();
    let addresses: usize = settings.listeners.iter().map(|listener| listener.addresses.len()).sum();
    let reserved = DESCRIPTORS_RESERVED + kept + cores * (DESCRIPTORS_PER_CORE + spares + addresses as u64);
    let needed = reserved + cores;
    if limit < needed {
        return Err(StartError::Descriptors { limit, needed });
    }
    let by_descriptors = ((limit - reserved) / cores).min(CONNECTIONS_MAX);
    let wanted = u64::from(settings.budgets.connections_max);
    if wanted > by_descriptors {
        tracing::warn!(
            connections_max = wanted,
            by_descriptors,
            open_files_limit = limit,
            "connections_max is lowered to what the limit of open files allows"
        );
    }
    let max = if wanted == 0 { by_descriptors } else { wanted.min(by_descriptors) };
    Ok(usize::try_from(max).unwrap_or(usize::MAX))
}

/// Microseconds, as the clocks of the cores count them.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn names(settings: &GatewaySettings, version: &'static str) -> Names {
    Names {
        version,
        listeners: settings.listeners.iter().map(|listener| listener.name.clone()).collect(),
        verbs: Verb::ALL.iter().map(|verb| verb.label()).collect(),
        replies: Reply::ALL
            .iter()
            .map(|reply| ReplyName { code: reply.code(), reason: reply.reason() })
            .collect(),
    }
}
