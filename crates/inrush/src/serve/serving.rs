//! The gateway with everything around it, and what it does when it is told something.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use inrush_admin::{Bound, Readiness, Server};
use inrush_config::Config;
use inrush_gateway::{CoreEvent, Gateway, Logins, Start};
use inrush_log::{DamageKind, RecoveryReport};
use inrush_policy::{Failures, Shared, SharedRecipients, Users, Verifier, VerifierSettings};
use inrush_queue::QueueSettings;
use inrush_relay::settings::{RelaySettings, Surroundings};
use inrush_relay::{Api, Relay};
use inrush_spans::{About, Exporter, Spans};

use super::handover::{Predecessor, Successor};
use super::notify::Watchdog;
use super::steer::Steer;
use super::{Event, Stop, activation, notify};
use crate::cli::ConfigFile;
use crate::live::{MessageRoutes, SessionRoutes};
use crate::queue::QueueRoutes;
use crate::reload::{Reload, Running};

/// How often the main thread looks whether the cores still turn, at the least.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Viewers of the dashboard whose descriptors are among those that the gateway keeps anyway.
const VIEWERS_KEPT: u32 = 16;

/// Everything that runs.
pub(super) struct Serving {
    pub(super) gateway: Gateway,
    relay: Option<Relay>,
    /// Taken when the relay starts.
    relay_start: Option<(RelaySettings, QueueSettings, Surroundings)>,
    relay_api: Arc<OnceLock<Option<Api>>>,
    data_dir: PathBuf,
    /// Taken when the admin server starts.
    admin_bound: Option<Bound>,
    pub(super) admin: Option<Server>,
    steer: Steer,
    pub(super) events: Sender<Event>,
    /// The program that a new process runs: that of this one, or what has been put in its place.
    pub(super) program: PathBuf,
    /// The service manager has the listening sockets as well.
    pub(super) sockets_shared: bool,
    /// The process that is to take the place of this one.
    pub(super) successor: Option<Successor>,
    /// A process before this one still has its logs.
    pub(super) predecessor: Option<UnixStream>,
    pub(super) upgrade_deadline: Duration,
    /// Sessions go on here until then, and new connections to the successor.
    pub(super) leaving_until: Option<Instant>,
    spans: Spans,
    /// Sends what is left of them when it goes.
    exporter: Option<Exporter>,
    drain_delay: Duration,
    /// Connections are taken until then, though `/readyz` says no; and who has asked for the end.
    pub(super) stop_at: Option<(Instant, &'static str)>,
    watchdog: Option<Watchdog>,
    /// Looks for connections that are still to come, after the end of another process.
    pub(super) looks_left: u32,
    /// Cores that take no connections any more.
    pub(super) cores_left: usize,
    cores_ended: usize,
}

impl Serving {
    /// Starts everything; with a `predecessor` no connection is taken yet, and nothing is delivered.
    pub(super) fn start(
        mut config: Config,
        arguments: &ConfigFile,
        predecessor: Option<&mut Predecessor>,
        events: Sender<Event>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("path of this program")?;
        // Before anything is started, so that no signal finds a half-started gateway without a handler.
        let reload = Reload::new(&config, arguments.config.as_deref());
        // Before the cores, whose processors its threads would else share.
        let logins = config.users.take().map(logins).transpose()?;
        let Config {
            gateway,
            session,
            log,
            data_dir,
            node,
            recipients,
            access,
            certificates,
            admin,
            relay,
            queue,
            spans,
            ..
        } = config;
        let viewers_max = admin.viewers_max;
        let about = About { version: crate::VERSION, hostname: gateway.hostname.clone(), node };
        let exporter = Exporter::start(&spans, &about)?;
        let spans = exporter.as_ref().map(Exporter::spans).unwrap_or_default();
        let (hostname, timeouts) = (gateway.hostname.clone(), gateway.timeouts.clone());
        let consumed = !relay.routes.is_empty();
        let recipients = Arc::new(SharedRecipients::new(recipients));
        let access = Arc::new(Shared::new(access));
        let relay_api = Arc::new(OnceLock::new());
        let running = Running {
            recipients: Arc::clone(&recipients),
            access: Arc::clone(&access),
            certificates: certificates.clone(),
            verifier: logins.as_ref().map(|logins| Arc::clone(&logins.verifier)),
            relay: Arc::clone(&relay_api),
        };
        let reload = reload.start(running).context("reload thread")?;
        super::forward_signals(events.clone(), reload.clone())?;
        let steer = Steer::new(events.clone(), reload);
        let (beside, given) = match predecessor {
            Some(before) => (before.beside.take(), before.sockets()),
            None => (None, activation::sockets(&gateway, &admin)?),
        };
        let sockets_shared = given.shared;
        // Before the data directory is touched: a port in use must leave everything as it was.
        let admin = match given.admin {
            Some(socket) => Bound::take_or_bind(admin, socket),
            None => Bound::bind(admin),
        };
        let admin = admin.context("admin server")?.with_spans(spans.clone());
        if consumed && relay.submission.is_none() {
            tracing::warn!(
                "[relay] route is not set: senders in other domains cannot be told of mail that is not delivered"
            );
        }
        if !consumed && has_queue(&data_dir) {
            tracing::warn!(
                "there is a queue from before, but no [[route]]: its cursors keep the log for ever; see docs/queue.md"
            );
        }
        let is_beside = beside.is_some();
        let core_events = events.clone();
        let gateway = Gateway::start(
            Start {
                gateway,
                session,
                log,
                data_dir: &data_dir,
                node,
                recipients,
                access,
                logins,
                certificates,
                consumed,
                // Each connection, and each blocking delivery a few files.
                descriptors_kept: if consumed { u64::from(relay.connections_max) * 2 } else { 0 }
                    + u64::from(viewers_max.saturating_sub(VIEWERS_KEPT)),
                give_memory_back,
                version: crate::VERSION,
                revision: crate::REVISION,
                sockets: given.sockets,
                sockets_shared,
                beside,
            },
            move |event| {
                // Nobody listens any more when the end has been reached.
                let _ = core_events.send(Event::Core(event));
            },
        )?;
        say_recovered(&gateway, 0);
        tracing::info!(
            version = crate::VERSION,
            revision = crate::REVISION,
            cores = gateway.cores(),
            engine = gateway.engine().name(),
            data_dir = %data_dir.display(),
            "started"
        );
        let mut serving = Self {
            gateway,
            relay: None,
            relay_start: consumed.then(|| {
                let own_addresses = Vec::new();
                (relay, queue, Surroundings { hostname, own_addresses })
            }),
            relay_api,
            spans,
            exporter,
            data_dir,
            admin_bound: Some(admin),
            admin: None,
            steer,
            events,
            program,
            sockets_shared,
            successor: None,
            predecessor: None,
            upgrade_deadline: timeouts.upgrade_deadline,
            leaving_until: None,
            drain_delay: timeouts.drain_delay,
            stop_at: None,
            watchdog: Watchdog::find(),
            looks_left: 0,
            cores_left: 0,
            cores_ended: 0,
        };
        if !is_beside {
            let started = serving.start_relay().and_then(|()| serving.start_admin());
            if let Err(error) = started {
                serving.end();
                return Err(error);
            }
        }
        Ok(serving)
    }

    /// Starts to answer the operator.
    pub(super) fn start_admin(&mut self) -> anyhow::Result<()> {
        let Some(bound) = self.admin_bound.take() else { return Ok(()) };
        let queue = QueueRoutes::of(Arc::clone(&self.relay_api), self.steer.clone());
        let gateway = &self.gateway;
        let readiness = Readiness::new(gateway.accepting(), self.steer.draining());
        let listeners = gateway.metrics().names().listeners.clone();
        let bound = bound
            .with("sessions", SessionRoutes::of(gateway.sessions(), listeners))
            .with("messages", MessageRoutes::of(self.data_dir.clone(), Arc::clone(&self.relay_api)));
        let admin = bound.serve(gateway.metrics().clone(), readiness, Some(queue));
        self.admin = Some(admin.context("admin server")?);
        Ok(())
    }

    /// Starts to deliver, where there are routes.
    pub(super) fn start_relay(&mut self) -> anyhow::Result<()> {
        let relay = match (self.gateway.take_stores(), self.relay_start.take()) {
            (Some(stores), Some((relay, queue, mut surroundings))) => {
                surroundings.own_addresses =
                    self.gateway.addresses().iter().map(|(_, address)| *address).collect();
                let metrics = self.gateway.metrics().clone();
                let spans = self.spans.clone();
                let events = self.events.clone();
                let start = inrush_relay::Start { relay, queue, surroundings, stores, metrics, spans };
                Some(Relay::start(start, move |poisoned| {
                    // Nobody listens any more when the end has been reached.
                    let _ = events.send(Event::Relay(poisoned));
                })?)
            }
            _ => None,
        };
        // Set here alone.
        let _ = self.relay_api.set(relay.as_ref().map(Relay::api));
        self.relay = relay;
        Ok(())
    }

    /// Says where connections are taken.
    pub(super) fn tell_listening(&self) {
        for (listener, address) in self.gateway.addresses() {
            tracing::info!(%listener, %address, "listening");
        }
        if let Some(admin) = &self.admin {
            tracing::info!(listener = %"admin", address = %admin.address(), "listening");
        }
    }

    /// Serves until there is a reason to end, and ends in order.
    pub(super) fn serve(mut self, events: &Receiver<Event>) -> anyhow::Result<()> {
        let mut result = Ok(());
        loop {
            match events.recv_timeout(self.patience()) {
                Ok(Event::Stop(stop)) => self.begin_stop(&stop),
                Ok(Event::Upgrade) => self.begin_upgrade(),
                Ok(Event::Ready(ready)) => self.go_on_with_upgrade(ready),
                Ok(Event::Taking(taking)) => self.leave(taking),
                Ok(Event::PredecessorLeft) => self.look_again(),
                Ok(Event::PredecessorGone) => result = self.take_over(),
                Ok(Event::Relay(poisoned)) => result = Err(poisoned.into()),
                Ok(Event::Core(CoreEvent::Left)) => self.one_core_left(),
                Ok(Event::Core(CoreEvent::Ended(ended))) => {
                    self.cores_ended += 1;
                    let alone = self.leaving_until.is_none();
                    let last = self.cores_ended == self.gateway.cores();
                    if ended.is_err() || alone || last {
                        result = ended.map_err(anyhow::Error::from);
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.looks_left > 0 => {
                    self.looks_left -= 1;
                    self.gateway.look_again();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if result.is_err() || self.comes_to_its_end() {
                break;
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.look(self.gateway.beats());
            }
        }
        self.end_successor();
        if self.leaving_until.is_none() {
            notify::stopping();
        }
        self.gateway.stop();
        // Before the data directory is given up.
        self.relay = None;
        self.gateway.join();
        // What is left to do here takes its time, and its logs and queue wait for nothing else.
        if let Some(successor) = &self.successor {
            successor.let_go();
        }
        // The first error of a core is the error of all.
        while let Ok(event) = events.try_recv() {
            if let Event::Core(CoreEvent::Ended(Err(error))) = event {
                result = result.and(Err(error.into()));
            }
        }
        drop(self.admin);
        drop(self.exporter);
        result
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let ends = self.leaving_until.into_iter().chain(self.stop_at.map(|(at, _)| at));
        ends.map(|end| end.saturating_duration_since(now)).fold(LOOK_INTERVAL, Duration::min)
    }

    /// Takes no connections after a while, and ends.
    fn begin_stop(&mut self, stop: &Stop) {
        self.steer.begin_drain();
        if let Some(deadline) = stop.deadline {
            self.gateway.set_drain_deadline(deadline);
        }
        if let Some(mut predecessor) = self.predecessor.as_ref() {
            // It may have ended just now.
            let _ = predecessor.write_all(b"stop\n");
        }
        // A process that has left its place is asked by nobody.
        let delay = if self.leaving_until.is_some() {
            Duration::ZERO
        } else {
            stop.delay.unwrap_or(self.drain_delay)
        };
        if !delay.is_zero() {
            tracing::info!(
                by = stop.by,
                drain_delay = ?delay,
                "stopping soon: /readyz says no, connections are still taken"
            );
        }
        self.stop_at = Some((Instant::now() + delay, stop.by));
    }

    /// Whether a moment to end has come, which it says.
    fn comes_to_its_end(&self) -> bool {
        let now = Instant::now();
        if let Some((_, by)) = self.stop_at.filter(|(at, _)| now >= *at) {
            tracing::info!(by, "stopping: running transactions finish, idle sessions are closed");
            return true;
        }
        let is_over = self.leaving_until.is_some_and(|until| now >= until);
        if is_over {
            tracing::info!("the sessions that are left have had their time: they are ended");
        }
        is_over
    }

    /// Ends what was started.
    pub(super) fn end(self) {
        self.gateway.stop();
        drop(self.relay);
        self.gateway.join();
    }
}

/// Whether a queue has cursors in the data directory.
fn has_queue(data_dir: &Path) -> bool {
    let cursor = format!("cursor.{}", inrush_queue::QUEUE_CONSUMER);
    let logs = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    logs.into_iter().any(|log| log.path().join(&cursor).exists())
}

/// Gives memory that is free on the calling thread back to the machine. The allocator would do it as memory is asked for the next time, which a core
/// that takes no mail may never do.
#[expect(unsafe_code, reason = "a call of the allocator")]
fn give_memory_back() {
    // SAFETY: has no conditions; it is the allocator of this program.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Addresses and users with failed logins that are kept at a time.
const FAILURES_KEYS_MAX: usize = 100_000;

/// What verifies the logins of `users`.
fn logins(users: Arc<Users>) -> anyhow::Result<Logins> {
    let verifier = Verifier::start(users, VerifierSettings::default());
    let verifier = Arc::new(verifier.context("threads that verify passwords")?);
    Ok(Logins { verifier, failures: Arc::new(Failures::new(FAILURES_KEYS_MAX)) })
}

/// Says what recovery has found in the logs from number `from` on.
pub(super) fn say_recovered(gateway: &Gateway, from: usize) {
    for (index, (log, report)) in gateway.recovered().iter().enumerate().skip(from) {
        if index >= gateway.logs_written() {
            tracing::info!(log, "no core writes this log any more: it is read and drained only");
        }
        say_of_log(log, report);
    }
}

fn say_of_log(log: &str, report: &RecoveryReport) {
    if report.created {
        return;
    }
    tracing::info!(log, messages = report.messages, octets = report.octets_scanned, "log recovered");
    for cut in &report.cut {
        tracing::warn!(
            log,
            file = cut.file,
            offset = cut.offset,
            octets = cut.octets,
            kept_as = cut.kept_as,
            "a torn batch that was never acknowledged was cut off"
        );
    }
    for damage in &report.damage {
        let what = match damage.kind {
            DamageKind::BehindCursor { .. } => "mail is missing at the end of the log",
            _ => "acknowledged mail is damaged; see inrush log verify",
        };
        tracing::error!(log, %damage, "{what}");
    }
}
