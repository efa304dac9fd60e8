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
mod orders;
mod pressure;
mod proxy;
mod ring_buffer;
mod session;
mod sessions;
pub mod settings;
mod signal;
mod socket;
mod system;
mod talkers;
pub mod tls;
mod watch;

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use inrush_log::{
    DataDirectory, INTERNAL_LOG, LogKind, LogSettings, OpenError, RecoveryReport, log_directory,
};
use inrush_metrics::{Metrics, Names, ReplyName};
use inrush_policy::{AccessList, Connections, Shared, SharedRecipients};
use inrush_proto::{Reply, Settings, Verb};
use inrush_queue::{ArrivalStore, Stores, positions_seen};

pub use crate::core::{CoreError, CoreEvent};
use crate::directory::Directory;
pub use crate::engine::{ActiveEngine, EngineRefused};
pub use crate::listener::{Given, ListenError};
pub use crate::login::Logins;
use crate::login::Outcomes;
use crate::machine::Machine;
use crate::orders::{Order, Orders};
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
    /// The gateway before has another engine, and its sockets with it.
    #[error("the process before runs on {was}, this one would on {is}: another engine needs a restart")]
    OtherEngine {
        /// Of the gateway before.
        was: String,
        /// Of this one.
        is: &'static str,
    },
    /// A listening address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory or a log in it cannot be used.
    #[error("data directory: {0}")]
    Data(#[from] OpenError),
    /// A thread or a socket pair could not be made.
    #[error("cannot start a core: {0}")]
    Thread(#[from] std::io::Error),
    /// There are more cores than logs that the gateway before does not write.
    #[error(
        "{cores} cores, and {taken} logs are still written by the process before: only 255 are possible together"
    )]
    Logs {
        /// Cores that each need one.
        cores: usize,
        /// Logs of the other process.
        taken: usize,
    },
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
    /// Commit that the program is made from.
    pub revision: &'static str,
    /// Listening sockets that the process was given; addresses that are not among them are bound.
    pub sockets: Vec<Given>,
    /// Whoever gave them has them too, and goes on with them when the gateway has ended.
    pub sockets_shared: bool,
    /// Another gateway has the data directory and goes on for a while: [`Gateway::start`] then takes no connections, and opens none of its logs.
    pub beside: Option<Beside>,
}

/// The part of a data directory that another gateway leaves to its successor.
#[derive(Debug)]
pub struct Beside {
    /// The lock of the directory.
    pub lock: OwnedFd,
    /// Arrival logs that it writes.
    pub written: Vec<u8>,
    /// Name of its engine: the listening sockets are set up for it.
    pub engine: String,
}

/// The running front door.
pub struct Gateway {
    cores: Vec<RunningCore>,
    orders: Arc<Orders>,
    sockets: Vec<Given>,
    node: u16,
    /// Numbers of the logs of the cores.
    written: Vec<u8>,
    /// What [`Gateway::take_over`] completes.
    arrivals: Option<Vec<ArrivalStore>>,
    engine: ActiveEngine,
    metrics: Arc<Metrics>,
    addresses: Vec<(String, SocketAddr)>,
    recovered: Vec<(String, RecoveryReport)>,
    logs_written: usize,
    stores: Option<Stores>,
    /// Last, so that the lock is given up when no core writes any more.
    directory: DataDirectory,
}

struct RunningCore {
    thread: JoinHandle<()>,
    control: UnixStream,
    accepting: Arc<AtomicBool>,
    beats: Arc<AtomicU64>,
    questions: Arc<Questions>,
}

impl Gateway {
    /// Recovers the logs, binds the listeners and starts the cores. `tell` is called on a core's thread.
    ///
    /// # Errors
    /// [`StartError`] says what and where; no connection has been taken.
    pub fn start(
        start: Start<'_>,
        tell: impl Fn(CoreEvent) + Send + Sync + 'static,
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
            revision,
            sockets: given,
            sockets_shared,
            beside,
        } = start;
        let engine = engine::choose(gateway.engine)?;
        if let Some(beside) = &beside
            && beside.engine != engine.name()
        {
            let (was, is) = (beside.engine.clone(), engine.name());
            return Err(StartError::OtherEngine { was, is });
        }
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
        let (addresses, mut sockets) = bind(&gateway, count, given)?;
        let kept = kept(&gateway, &sockets)?;

        let connections = Arc::new(Connections::new(SITES_MAX));
        let epoch = Instant::now();
        let machine = Arc::new(Machine::new(gateway.pressure.memory_max));
        machine.warn_of_small_memory(gateway.pressure.soft_percent);
        let metrics = Metrics::new(names(&gateway, version, revision), count);
        let first_order = if beside.is_some() { Order::Wait } else { Order::Take };
        let orders = Arc::new(Orders::new(first_order, gateway.timeouts.drain_deadline));
        let tell: core::Tell = Arc::new(tell);
        let settings = Arc::new(gateway);
        let alone = beside.is_none();
        let (mut directory, taken) = match beside {
            None => (DataDirectory::open(data_dir, &log, node)?, Vec::new()),
            Some(Beside { lock, written, .. }) => {
                (DataDirectory::open_beside(data_dir, &log, node, lock)?, written)
            }
        };
        let mut numbers = (0..INTERNAL_LOG).filter(|number| !taken.contains(number));
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
        let mut written = Vec::with_capacity(count);
        let mut recovered = Vec::with_capacity(count);
        for (index, listeners) in sockets.drain(..).enumerate() {
            let (ours, theirs) = UnixStream::pair()?;
            // A full socket buffer means that the core will be woken anyway. All clones share it.
            ours.set_nonblocking(true)?;
            let wake = ours.try_clone()?;
            let outcomes = Arc::new(Outcomes::new(ours.try_clone()?));
            let number = numbers.next().ok_or(StartError::Logs { cores: count, taken: taken.len() })?;
            written.push(number);
            let questions = Questions::new(ours.try_clone()?);
            let (appender, report) = directory.open_log(number, move || {
                let _ = (&wake).write(&[0]);
            })?;
            recovered.push((log_directory(LogKind::Arrival, number), report.clone()));
            if consumed {
                arrivals.push(ArrivalStore::of(number, &appender));
            }
            let accepting = Arc::new(AtomicBool::new(false));
            let beats = Arc::new(AtomicU64::new(0));
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
                orders: Arc::clone(&orders),
                beats: Arc::clone(&beats),
                sockets_shared,
                accepting: Arc::clone(&accepting),
                questions: Arc::clone(&questions),
                start_may_wait,
                tell: Arc::clone(&tell),
                directory: (index == 0)
                    .then(|| Directory::new(directory.status(), Arc::clone(&metrics), &log)),
            };
            plans.push((plan, ours, accepting, beats, questions));
        }
        let mut gateway = Self {
            cores: Vec::new(),
            orders,
            sockets: kept,
            node,
            written,
            arrivals: consumed.then_some(arrivals),
            engine,
            metrics,
            addresses,
            recovered,
            logs_written: count,
            stores: None,
            directory,
        };
        if alone {
            let more = gateway.take_over()?;
            // No core has these logs: the first one shows what was found in them.
            if let Some((first, ..)) = plans.first_mut() {
                first.recovered.extend(more);
            }
        }
        for (plan, control, accepting, beats, questions) in plans {
            let thread = thread::Builder::new()
                .name(format!("inrush-core-{}", plan.index))
                .spawn(move || core::run(plan))?;
            gateway.cores.push(RunningCore { thread, control, accepting, beats, questions });
        }
        Ok(gateway)
    }

    /// Opens the logs that no core writes, and takes over those of cores that are there no more: once the gateway that was there [before](Start::beside)
    /// has ended. What recovery found in them.
    ///
    /// # Errors
    /// One of them cannot be used; mail is still taken.
    pub fn take_over(&mut self) -> Result<Vec<RecoveryReport>, OpenError> {
        let mut found = Vec::new();
        if let Some(arrivals) = self.arrivals.take() {
            self.stores = Some(open_stores(&mut self.directory, self.node, arrivals, &mut found)?);
        }
        self.logs_written += found.len();
        found.extend(self.directory.adopt_logs()?);
        let reports = found.iter().map(|(_, report)| report.clone()).collect();
        self.recovered.extend(found);
        Ok(reports)
    }

    /// Takes connections, if that was left to a gateway that was there [before](Start::beside).
    pub fn take_connections(&self) {
        self.order(Order::Take);
    }

    /// Looks for connections that wait to be taken, once another process that took some from the same sockets does so no more: it may have been the one
    /// that the kernel woke for them.
    pub fn look_again(&self) {
        self.orders.look_again();
        self.wake();
    }

    /// The listening sockets, for another process: one for each core and address.
    #[must_use]
    pub fn sockets(&self) -> &[Given] {
        &self.sockets
    }

    /// Makes room for another gateway in the same data directory, which gets the lock and the numbers of the logs that go on here.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn make_room(&mut self) -> std::io::Result<Beside> {
        let lock = self.directory.share_lock()?;
        // First: it ends what is being filled, which all else would wait for.
        self.directory.lend_spares();
        self.directory.give_up_adopted();
        Ok(Beside { lock, written: self.written.clone(), engine: self.engine.name().to_owned() })
    }

    /// Leaves new connections to another process that has the sockets too. Sessions go on; each core ends with its last one. Returns at once.
    pub fn leave(&self) {
        self.order(Order::Leave);
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
        self.order(Order::Stop);
    }

    /// Gives transactions that run at a stop this long, instead of what the settings say.
    pub fn set_drain_deadline(&self, deadline: Duration) {
        self.orders.set_drain_deadline(deadline);
    }

    /// For each core, how often it has looked over everything, as it does once a second; `None` once it has ended.
    pub fn beats(&self) -> impl Iterator<Item = Option<u64>> {
        self.cores.iter().map(|core| (!core.thread.is_finished()).then(|| core.beats.load(Ordering::Relaxed)))
    }

    fn order(&self, order: Order) {
        self.orders.give(order);
        self.wake();
    }

    fn wake(&self) {
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
type Bound = (Vec<(String, SocketAddr)>, Vec<Vec<(usize, TcpListener)>>);

fn bind(settings: &GatewaySettings, cores: usize, mut given: Vec<Given>) -> Result<Bound, ListenError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, listener) in settings.listeners.iter().enumerate() {
        for &address in &listener.addresses {
            let ours: Vec<_> = given.extract_if(.., |given| given.is_for(&listener.name, address)).collect();
            let bound = if ours.is_empty() {
                let bound = listener::bind(&listener.name, address, dual_stack(settings, address), cores)?;
                bound.into_iter().map(|socket| vec![socket]).collect()
            } else {
                listener::share(&listener.name, address, ours, cores)?
            };
            let local = bound.iter().flatten().next().and_then(|socket| socket.local_addr().ok());
            let local = local.unwrap_or(address);
            addresses.push((listener.name.clone(), local));
            for (core, bound) in sockets.iter_mut().zip(bound) {
                core.extend(bound.into_iter().map(|socket| (index, socket)));
            }
        }
    }
    Ok((addresses, sockets))
}

/// The sockets once more, for a process that takes them over: each of them once, however many cores share it.
fn kept(settings: &GatewaySettings, sockets: &[Vec<(usize, TcpListener)>]) -> std::io::Result<Vec<Given>> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for (listener, socket) in sockets.iter().flatten() {
        if seen.insert(system::inode(socket)?) {
            let listener = Some(settings.listeners[*listener].name.clone());
            kept.push(Given { listener, socket: socket.try_clone()? });
        }
    }
    Ok(kept)
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

fn names(settings: &GatewaySettings, version: &'static str, revision: &'static str) -> Names {
    Names {
        version,
        revision,
        listeners: settings.listeners.iter().map(|listener| listener.name.clone()).collect(),
        verbs: Verb::ALL.iter().map(|verb| verb.label()).collect(),
        replies: Reply::ALL
            .iter()
            .map(|reply| ReplyName { code: reply.code(), reason: reply.reason() })
            .collect(),
    }
}
