//! One core: its listeners, sessions, journal and budgets. Nothing in here is shared with another core.
//!
//! ```text
//!   acceptors ──▶ sessions ──▶ journal ──▶ writes
//!       ▲            ▲            ▲
//!       └── control: stop, segments ready (an octet on a socket pair) · tick: watch, budgets, gauges (once a second)
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inrush_log::{Appender, Durability, LogSettings, Poisoned, Recipient, RecoveryReport};
use inrush_logging::{CoreLines, Refusals};
use inrush_metrics::{CoreMetrics, CoreWriter, Counter, Gauge, Level, LogRefusal, Resource, Timeout};
use inrush_policy::{AccessList, ConnectionLimits, Connections, Shared, SharedRecipients, Verdict as Lookup};
use inrush_proto::{AppendFailure, Kind, Path, Reply, Settings, Transaction, Verdict};
use inrush_trace::CoreTrace;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use crate::buffers::Pool;
use crate::clock::Clock;
use crate::commit::{self, Disk};
use crate::directory::Directory;
use crate::doors::{Door, Doors, take_connections};
use crate::engine::ActiveEngine;
use crate::journal::Journal;
use crate::login::{Logins, Outcomes, Verifications};
use crate::machine::Machine;
use crate::mail::{self, Refused};
use crate::micros;
use crate::observe::{self, Observer, Turn};
use crate::orders::{Order, Orders};
use crate::pressure::{Pressure, RefusedConnections};
use crate::sessions::Questions;
use crate::settings::{GatewaySettings, Timeouts};
use crate::signal::Signal;
use crate::system;
use crate::talkers;
use crate::tls::SharedCertificates;
use crate::watch::{Ending, Watch};

/// Operations in a row without a wait after which a task of the epoll engine rests.
const GREED_MAX: u16 = 16;

/// How long it rests.
const GREED_REST: Duration = Duration::from_millis(1);

/// How often the watch looks over the sessions.
const TICK: Duration = Duration::from_secs(1);

/// How often a stopping core looks whether its sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long sessions may take to say their last word when the gateway stops or the log has failed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the last writes of the log may take when the gateway stops.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Buffers for replies on their way out that a core keeps.
const OUTPUTS_MAX: usize = 256;

/// What a core is given to start with.
pub(crate) struct Plan {
    pub(crate) index: usize,
    pub(crate) processor: Option<usize>,
    pub(crate) engine: ActiveEngine,
    pub(crate) settings: Arc<GatewaySettings>,
    pub(crate) session: Settings,
    pub(crate) log: LogSettings,
    pub(crate) connections_max: usize,
    pub(crate) listeners: Vec<(usize, StdTcpListener)>,
    pub(crate) appender: Appender,
    pub(crate) recovered: Vec<RecoveryReport>,
    pub(crate) recipients: Arc<SharedRecipients>,
    pub(crate) certificates: SharedCertificates,
    pub(crate) access: Arc<Shared<AccessList>>,
    pub(crate) connections: Arc<Connections>,
    /// The users of submission.
    pub(crate) logins: Option<Logins>,
    pub(crate) outcomes: Arc<Outcomes>,
    /// Where the clock begins that all cores share.
    pub(crate) epoch: Instant,
    pub(crate) machine: Arc<Machine>,
    pub(crate) give_memory_back: fn(),
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) control: StdUnixStream,
    pub(crate) orders: Arc<Orders>,
    /// Counts the seconds in which the core has looked over everything.
    pub(crate) beats: Arc<AtomicU64>,
    /// Another process has the listening sockets as well: they stay as they are when the core ends.
    pub(crate) sockets_shared: bool,
    pub(crate) accepting: Arc<AtomicBool>,
    pub(crate) questions: Arc<Questions>,
    /// For the first core.
    pub(crate) directory: Option<Directory>,
    /// Whom the core tells what has come to pass.
    pub(crate) tell: Tell,
    /// Starting a write may wait for the disk: not in the core's thread.
    pub(crate) start_may_wait: bool,
}

/// The state of a core.
pub(crate) struct Core {
    pub(crate) index: usize,
    pub(crate) engine: ActiveEngine,
    /// Sessions that were admitted and have not ended.
    pub(crate) open: Cell<usize>,
    pub(crate) clock: Clock,
    pub(crate) hostname: String,
    pub(crate) sync_interval: Duration,
    pub(crate) pool: Pool,
    pub(crate) watch: Watch,
    pub(crate) journal: Journal,
    pub(crate) metrics: CoreWriter,
    pub(crate) turn: Rc<Turn>,
    pub(crate) lines: CoreLines,
    /// What sessions were refused, by their number; most are refused nothing.
    pub(crate) refusals: RefCell<HashMap<u64, Refusals>>,
    pub(crate) trace: Rc<CoreTrace>,
    pub(crate) settings: Arc<GatewaySettings>,
    pub(crate) connections_max: usize,
    recipients: Arc<SharedRecipients>,
    pub(crate) certificates: SharedCertificates,
    /// TLS handshakes under way.
    pub(crate) handshakes: Cell<u32>,
    pub(crate) access: Arc<Shared<AccessList>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) epoch: Instant,
    logins: Option<Logins>,
    pub(crate) verifications: Verifications,
    pub(crate) doors: Doors,
    pub(crate) machine: Arc<Machine>,
    pub(crate) give_memory_back: fn(),
    /// Whom the core tells what has come to pass.
    pub(crate) tell: Tell,
    /// What has been refused for want of sessions and of descriptors since the last look.
    pub(crate) refused: RefusedConnections,
    pub(crate) pressure: Pressure,
    /// `settings.timeouts` while a resource is short, and while only handshakes are.
    timeouts_under_pressure: Timeouts,
    timeouts_of_short_handshakes: Timeouts,
    /// The limits per address, without and under pressure.
    connection_limits: [ConnectionLimits; 2],
    directory: Option<Directory>,
    pub(crate) questions: Arc<Questions>,
    /// What MAIL is refused with, and since when mail is refused.
    pub(crate) refusal: Cell<Option<(&'static Reply, u64)>>,
    sessions: Cell<u64>,
    pub(crate) stopping: Cell<bool>,
    /// Another process takes the connections: the core ends with its last session.
    leaving: Cell<bool>,
    beats: Arc<AtomicU64>,
    orders: Arc<Orders>,
    failure: Cell<Option<Poisoned>>,
    /// Stop was asked for, or the log has failed.
    attention: Signal,
    outputs: RefCell<Vec<Vec<u8>>>,
    recipients_scratch: RefCell<Vec<Recipient>>,
}

/// What a core tells, from its own thread.
#[derive(Debug)]
pub enum CoreEvent {
    /// It takes no more connections, and none is on its way in.
    Left,
    /// It has ended: with its error when the process has to end too.
    Ended(Result<(), CoreError>),
}

/// Where all cores tell it.
pub(crate) type Tell = Arc<dyn Fn(CoreEvent) + Send + Sync>;

/// Runs a core to its end on the calling thread.
pub(crate) fn run(plan: Plan) {
    if let Some(processor) = plan.processor {
        system::pin_to_processor(processor);
    }
    let (index, engine, tell) = (plan.index, plan.engine, Arc::clone(&plan.tell));
    let ended = crate::engine::run(engine, main(plan));
    let ended = ended.map_err(|error| CoreError::Start { core: index, error });
    tell(CoreEvent::Ended(ended.flatten()));
}

/// Why a core has ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// It could not start.
    #[error("core {core} cannot start: {error}")]
    Start {
        /// Number of the core.
        core: usize,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// Its log has failed: nothing may be promised any more, and recovery decides what is there.
    #[error("core {core}: {error}")]
    Log {
        /// Number of the core.
        core: usize,
        /// What failed.
        error: Poisoned,
    },
}

async fn main(plan: Plan) -> Result<(), CoreError> {
    let index = plan.index;
    let start = |error| CoreError::Start { core: index, error };
    let relaxed = plan.log.durability == Durability::Relaxed;
    let engine = plan.engine;
    let disk = Disk::new(engine, index, plan.start_may_wait).map_err(start)?;
    let sync_disk =
        if relaxed { Some(Disk::new(engine, index, plan.start_may_wait).map_err(start)?) } else { None };
    // The epoll driver waits for readiness before it reads; the ring would take a non-blocking socket at its word.
    plan.control.set_nonblocking(engine == ActiveEngine::Epoll).map_err(start)?;
    let control = UnixStream::from_std(plan.control).map_err(start)?;
    let orders = Arc::clone(&plan.orders);

    let metrics = plan.metrics.writer().ok_or_else(|| start(std::io::ErrorKind::AlreadyExists.into()))?;
    metrics.engine(match engine {
        ActiveEngine::IoUring => inrush_metrics::Engine::IoUring,
        ActiveEngine::Epoll => inrush_metrics::Engine::Epoll,
    });
    let turn = Rc::new(Turn::default());
    let trace = Rc::new(inrush_trace::of_core(index));
    let mut doors = Vec::with_capacity(plan.listeners.len());
    for (listener, socket) in plan.listeners {
        let (turn, trace) = (Rc::clone(&turn), Rc::clone(&trace));
        let observer = Observer { metrics: metrics.clone(), turn, trace };
        socket.set_nonblocking(engine == ActiveEngine::Epoll).map_err(start)?;
        let (listener, index) = (&plan.settings.listeners[listener], listener);
        doors.push(Rc::new(
            Door::new(index, listener, &plan.session, socket, Box::new(observer)).map_err(start)?,
        ));
    }
    let held_max = usize::try_from(plan.settings.budgets.pending_bytes_max).unwrap_or(usize::MAX);
    let timeouts_under_pressure = plan.settings.timeouts.under_pressure(&plan.settings.pressure);
    let timeouts_of_short_handshakes = Timeouts {
        handshake_timeout: timeouts_under_pressure.handshake_timeout,
        ..plan.settings.timeouts.clone()
    };
    let connection_limits = limits_under_pressure(&plan.settings);
    let core = Rc::new(Core {
        index,
        engine,
        open: Cell::new(0),
        clock: Clock::start(),
        hostname: plan.settings.hostname.clone(),
        sync_interval: plan.log.relaxed_sync_interval,
        pool: Pool::new(held_max),
        watch: Watch::default(),
        journal: Journal::new(plan.appender, &plan.recovered, plan.log.spares.into(), metrics.clone()),
        metrics,
        turn,
        lines: observe::lines(index, &plan.settings),
        trace,
        refusals: RefCell::default(),
        settings: plan.settings,
        connections_max: plan.connections_max,
        recipients: plan.recipients,
        certificates: plan.certificates,
        handshakes: Cell::new(0),
        access: plan.access,
        connections: plan.connections,
        epoch: plan.epoch,
        logins: plan.logins,
        verifications: Verifications::new(plan.outcomes),
        doors: Doors::new(doors, plan.accepting),
        machine: plan.machine,
        give_memory_back: plan.give_memory_back,
        tell: plan.tell,
        refused: RefusedConnections::default(),
        pressure: Pressure::default(),
        timeouts_under_pressure,
        timeouts_of_short_handshakes,
        connection_limits,
        directory: plan.directory,
        questions: plan.questions,
        refusal: Cell::new(None),
        sessions: Cell::new(0),
        stopping: Cell::new(false),
        leaving: Cell::new(false),
        beats: plan.beats,
        orders: Arc::clone(&orders),
        failure: Cell::new(None),
        attention: Signal::default(),
        outputs: RefCell::default(),
        recipients_scratch: RefCell::default(),
    });
    core.show_limits();

    monoio::spawn({
        let core = Rc::clone(&core);
        async move { core.fail(commit::run_writes(&core, disk).await) }
    });
    if let Some(disk) = sync_disk {
        let core = Rc::clone(&core);
        monoio::spawn(async move { core.fail(commit::run_syncs(&core, disk).await) });
    }
    core.obey(orders.current());
    monoio::spawn(listen_to_control(Rc::clone(&core), control, orders));

    let poisoned = core.tick_until_the_end().await;
    if plan.sockets_shared {
        core.doors.leave();
    }
    // Sockets that another process has too go on there.
    if !core.doors.left() {
        core.doors.close();
    }
    if let Some(error) = poisoned {
        core.watch.end_all(core.clock.now(), true);
        core.wait_for_sessions(LAST_WORDS).await;
        return Err(CoreError::Log { core: index, error });
    }
    core.drain().await;
    core.journal.close();
    let deadline = core.clock.now() + micros(CLOSE_DEADLINE);
    while !core.journal.is_idle() {
        if core.clock.now() > deadline {
            tracing::warn!(
                core = index,
                "the disk does not answer: the log is left unsealed, nothing acknowledged is lost"
            );
            break;
        }
        monoio::time::sleep(DRAIN_LOOK).await;
    }
    core.journal.show();
    match core.failure.take() {
        Some(error) => Err(CoreError::Log { core: index, error }),
        None => Ok(()),
    }
}

async fn listen_to_control(core: Rc<Core>, mut control: UnixStream, orders: Arc<Orders>) {
    let mut octets = Vec::with_capacity(64);
    loop {
        octets.clear();
        let (result, returned) = control.read(octets).await;
        octets = returned;
        if !matches!(result, Ok(1..)) {
            core.obey(Order::Stop);
            return;
        }
        core.obey(orders.current());
        core.doors.look_again(orders.looks());
        core.verifications.arrived();
        core.journal.supplied();
        core.refresh_refusal();
        core.answer_questions();
    }
}

/// The limits of connections without and under pressure. What is limited only then has to be counted before.
fn limits_under_pressure(settings: &GatewaySettings) -> [ConnectionLimits; 2] {
    let mut limits = settings.budgets.connections.clone();
    let share = settings.pressure.connections_per_address_max;
    if share == 0 {
        return [limits.clone(), limits];
    }
    if limits.open_per_address_max == 0 {
        limits.open_per_address_max = u32::MAX;
    }
    let open_per_address_max = share.min(limits.open_per_address_max);
    [limits.clone(), ConnectionLimits { open_per_address_max, ..limits }]
}

impl Core {
    /// Does what was ordered; what was done before is left as it is.
    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            Order::Wait => {}
            Order::Take => take_connections(self),
            Order::Leave => {
                self.leaving.set(true);
                self.doors.leave();
            }
            Order::Stop => self.stopping.set(true),
        }
        if matches!(order, Order::Leave | Order::Stop) {
            self.attention.raise();
        }
    }

    /// May this recipient have mail?
    pub(crate) fn recipient_verdict(&self, path: &Path<'_>, kind: Kind) -> Verdict {
        match self.recipients.load().lookup(*path) {
            Lookup::Accept => Verdict::Accept,
            Lookup::UnknownUser => Verdict::Refuse(Reply::USER_UNKNOWN),
            // Its sessions have no transaction without a user.
            Lookup::ForeignDomain if kind == Kind::Submission => Verdict::Accept,
            Lookup::ForeignDomain => Verdict::Refuse(Reply::RELAY_DENIED),
            Lookup::Routed => Verdict::Refuse(Reply::ROUTED_LOCAL_PART),
        }
    }

    /// The users of submission, if there are any.
    pub(crate) fn logins(&self) -> Option<&Logins> {
        self.logins.as_ref()
    }

    /// What steers the front door.
    pub(crate) fn settings(&self) -> &GatewaySettings {
        &self.settings
    }

    /// Counts a message of `peer` that was appended.
    pub(crate) fn count_accepted(&self, transaction: &Transaction, peer: IpAddr) {
        talkers::accepted(&self.metrics, transaction, peer);
        self.metrics.count(Counter::MessagesAccepted);
        self.metrics.add(Counter::RecipientsAccepted, transaction.recipient_spans().len() as u64);
        self.metrics.add(Counter::MessageBytes, transaction.message_octets());
        if transaction.chunking() {
            self.metrics.count(Counter::ChunkedMessages);
        }
    }

    /// Counts a message, or a part of one, that was not taken, and gives the reason for the session core.
    pub(crate) fn refused(&self, refused: Refused) -> AppendFailure {
        match refused {
            Refused::Log(error) => {
                self.journal.refused(error);
                self.refresh_refusal();
            }
            Refused::Memory => self.metrics.count(LogRefusal::Pending),
        }
        refused.failure()
    }

    /// About now, in µs since 1970.
    pub(crate) fn wall(&self) -> u64 {
        self.clock.wall(self.clock.recent())
    }

    /// Lets the other tasks of the core run after `greed` operations in a row that did not have to wait. The epoll driver
    /// completes what is ready at once, so that a peer with always more to say would keep the core to itself, timers
    /// included; a task that wakes itself would only come first again. With a ring each wait for octets comes back in its turn.
    pub(crate) async fn give_way(&self, greed: &mut u16) {
        if self.engine == ActiveEngine::Epoll && *greed >= GREED_MAX {
            *greed = 0;
            // Boxed: a timer is large and aligned to 128 octets, and so would be the task of every idle session.
            Box::pin(monoio::time::sleep(GREED_REST)).await;
        }
    }

    /// A number for the session, unique on this core while the process lives.
    pub(crate) fn next_session_number(&self) -> u64 {
        self.sessions.set(self.sessions.get() + 1);
        self.sessions.get()
    }

    /// An empty buffer for replies.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    /// Takes a buffer for replies back.
    pub(crate) fn give_back_output(&self, mut output: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < OUTPUTS_MAX && output.capacity() <= 4096 {
            output.clear();
            outputs.push(output);
        }
    }

    /// The recipients of `transaction` as the log keeps them, in a list that is used again and again.
    pub(crate) fn list_recipients(&self, transaction: &Transaction) -> Vec<Recipient> {
        let mut list = self.recipients_scratch.take();
        mail::list_recipients(transaction, &mut list);
        list
    }

    /// Takes that list back.
    pub(crate) fn give_back_recipients(&self, mut list: Vec<Recipient>) {
        list.clear();
        self.recipients_scratch.replace(list);
    }

    /// The log has failed: nothing more will be promised.
    fn fail(&self, poisoned: Poisoned) {
        self.failure.set(Some(poisoned));
        self.attention.raise();
    }

    /// Looks over everything once a second until the core is to stop or the log has failed.
    async fn tick_until_the_end(&self) -> Option<Poisoned> {
        loop {
            self.tick();
            // Nothing is lost when the wait is cut short: what raised it is looked at here.
            let _ = monoio::time::timeout(TICK, self.attention.wait()).await;
            if let Some(poisoned) = self.failure.take() {
                return Some(poisoned);
            }
            if self.stopping.get() || self.has_left() {
                return None;
            }
        }
    }

    /// Whether its place is left to another process, and nothing is under way here any more.
    fn has_left(&self) -> bool {
        self.leaving.get() && self.open.get() == 0 && self.doors.deserted()
    }

    /// Something has ended that the core may have waited for: the other process waits for its logs.
    pub(crate) fn look_whether_left(&self) {
        if self.has_left() {
            self.attention.raise();
        }
    }

    fn tick(&self) {
        self.clock.follow_wall();
        let now = self.clock.now();
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.watch.look(now, self.timeouts(), |ending| self.count_ending(ending));
        self.journal.tick(now, self.clock.wall(now), self.settings.timeouts.log_hung_after);
        self.lines.committed(self.journal.committed(), now, now, self.clock.wall(now));
        let sealed = self.directory.as_ref().map_or(0, |directory| directory.show(&self.metrics));
        // The one in use, and with the first core all that are sealed.
        self.metrics.set(Gauge::LogSegments, sealed + 1);
        self.look_at_resources();
        self.metrics.set(Gauge::ConnectionsOpen, self.open.get() as u64);
        self.metrics.set(Gauge::PendingBytes, self.pool.held_bytes() as u64);
        self.metrics.set(Gauge::TlsHandshakes, self.handshakes.get().into());
        self.metrics.turn_talkers();
        if self.index == 0 {
            let expires = self.certificates.get().map_or(0, |certificates| certificates.expires());
            self.metrics.set(Gauge::TlsCertificateExpiry, u64::try_from(expires).unwrap_or(0));
        }
        self.metrics.mirror(Counter::BusyMicroseconds, system::thread_cpu_microseconds());
    }

    /// How long peers may take now.
    fn timeouts(&self) -> &Timeouts {
        if self.pressure.is_on() {
            &self.timeouts_under_pressure
        } else if self.pressure.of(Resource::Handshakes) >= Level::Soft {
            &self.timeouts_of_short_handshakes
        } else {
            &self.settings.timeouts
        }
    }

    /// What one address may have now.
    pub(crate) fn connection_limits(&self) -> &ConnectionLimits {
        &self.connection_limits[usize::from(self.pressure.is_on())]
    }

    fn count_ending(&self, ending: Ending) {
        let timeout = match ending {
            Ending::Idle => Timeout::Idle,
            Ending::Transaction => Timeout::Transaction,
            Ending::Session => Timeout::Session,
            Ending::DataRate => Timeout::DataRate,
            // Counted with the other ends of headers and handshakes.
            Ending::Proxy | Ending::Handshake | Ending::Shutdown => return,
        };
        self.metrics.count(timeout);
    }

    /// Lets running transactions finish and ends idle sessions, until none is left or the deadline is over.
    async fn drain(&self) {
        let deadline = self.clock.now().saturating_add(self.orders.drain_deadline());
        while self.open.get() > 0 && self.clock.now() < deadline {
            self.watch.end_all(self.clock.now(), false);
            self.watch
                .look(self.clock.now(), &self.timeouts_under_pressure, |ending| self.count_ending(ending));
            monoio::time::sleep(DRAIN_LOOK).await;
        }
        self.watch.end_all(self.clock.now(), true);
        self.wait_for_sessions(LAST_WORDS).await;
    }

    async fn wait_for_sessions(&self, patience: Duration) {
        let deadline = self.clock.now() + micros(patience);
        while self.open.get() > 0 && self.clock.now() < deadline {
            monoio::time::sleep(DRAIN_LOOK).await;
        }
    }
}
