//! `inrush serve`: start everything, wait for a reason to end, end in order.

use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use inrush_config::Config;
use inrush_gateway::{CoreError, Gateway, Logins, Start};
use inrush_log::{DamageKind, Poisoned, RecoveryReport};
use inrush_logging::{Logging, LoggingSettings};
use inrush_policy::{Failures, Shared, SharedRecipients, Users, Verifier, VerifierSettings};
use inrush_relay::Relay;
use inrush_relay::settings::Surroundings;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ConfigFile;
use crate::queue::QueueRoutes;
use crate::reload::{Reload, Running};

/// Environment variable with the levels of the log, by module where wanted: `info`, `warn,inrush_gateway=debug`.
const LOG_VARIABLE: &str = "INRUSH_LOG";

/// How long a process that ends in a hurry waits for its last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Exit code after a second signal: running transactions were cut off, the log was not sealed.
const IMPATIENT: i32 = 3;

/// Why the gateway ends.
enum End {
    /// A signal asked for it.
    Signal(i32),
    /// A core has ended, before it was asked to when there is an error.
    Core(Result<(), CoreError>),
    /// A log of the relay has failed.
    Relay(Poisoned),
}

/// Runs the gateway until a signal or a failed log ends it.
pub(crate) fn run(arguments: &ConfigFile) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(arguments.config.as_deref())?;
    // Written out when this ends, in whatever way.
    let _log = start_log(&config.logging)?;
    let (ends, end) = mpsc::channel();
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
        ..
    } = config;
    let hostname = gateway.hostname.clone();
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
    forward_signals(ends.clone(), reload)?;
    // Before the data directory is touched: a port in use must leave everything as it was.
    let admin = inrush_admin::Bound::bind(admin).context("admin server")?;
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
    let relay_ends = ends.clone();
    let mut gateway = Gateway::start(
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
            descriptors_kept: if consumed { u64::from(relay.connections_max) * 2 } else { 0 },
            give_memory_back,
            version: crate::VERSION,
        },
        move |ended| {
            // Nobody listens any more when the end has been reached.
            let _ = ends.send(End::Core(ended));
        },
    )?;
    for (index, (log, report)) in gateway.recovered().iter().enumerate() {
        if index >= gateway.logs_written() {
            tracing::warn!(log, "no core writes this log any more: it is read and drained only");
        }
        say_recovered(log, report);
    }
    let relay = gateway.take_stores().map(|stores| {
        let own_addresses = gateway.addresses().iter().map(|(_, address)| *address).collect();
        let start = inrush_relay::Start {
            relay,
            queue,
            surroundings: Surroundings { hostname, own_addresses },
            stores,
            metrics: gateway.metrics().clone(),
        };
        Relay::start(start, move |poisoned| {
            // Nobody listens any more when the end has been reached.
            let _ = relay_ends.send(End::Relay(poisoned));
        })
    });
    let relay = match relay.transpose() {
        Ok(relay) => relay,
        Err(error) => {
            gateway.stop();
            gateway.join();
            return Err(error.into());
        }
    };
    // Set here alone.
    let _ = relay_api.set(relay.as_ref().map(Relay::api));
    let queue = relay.as_ref().map(|relay| QueueRoutes::of(relay.api()));
    let admin = match admin.serve(gateway.metrics().clone(), gateway.accepting(), queue) {
        Ok(admin) => admin,
        Err(error) => {
            gateway.stop();
            drop(relay);
            gateway.join();
            return Err(error).context("admin server");
        }
    };
    tracing::info!(
        version = crate::VERSION,
        cores = gateway.cores(),
        engine = gateway.engine().name(),
        data_dir = %data_dir.display(),
        "started"
    );
    for (listener, address) in gateway.addresses() {
        tracing::info!(%listener, %address, "listening");
    }
    tracing::info!(listener = %"admin", address = %admin.address(), "listening");

    let result = match end.recv() {
        Ok(End::Signal(signal)) => {
            tracing::info!(signal, "stopping: running transactions finish, idle sessions are closed");
            gateway.stop();
            // Before the data directory is given up.
            drop(relay);
            forget_further_cores(gateway, &end)
        }
        Ok(End::Relay(poisoned)) => {
            gateway.stop();
            drop(relay);
            gateway.join();
            Err(poisoned.into())
        }
        Ok(End::Core(ended)) => {
            gateway.stop();
            drop(relay);
            gateway.join();
            ended.map_err(anyhow::Error::from)
        }
        Err(_) => Ok(()),
    };
    admin.stop();
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!("{error:#}"),
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Whether a queue has cursors in the data directory.
fn has_queue(data_dir: &std::path::Path) -> bool {
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

/// Waits for all cores; the first error of one is the error of all.
fn forget_further_cores(gateway: Gateway, end: &mpsc::Receiver<End>) -> anyhow::Result<()> {
    gateway.join();
    let mut result = Ok(());
    while let Ok(ended) = end.try_recv() {
        if let End::Core(Err(error)) = ended {
            result = result.and(Err(error.into()));
        }
    }
    result
}

fn forward_signals(ends: Sender<End>, reload: Sender<()>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signal handlers")?;
    thread::Builder::new().name("inrush-signals".to_owned()).spawn(move || {
        let mut stops = signals.forever().filter(|signal| {
            let stops = *signal != SIGHUP;
            if !stops {
                // The thread lives as long as this one.
                let _ = reload.send(());
            }
            stops
        });
        if let Some(signal) = stops.next() {
            let _ = ends.send(End::Signal(signal));
        }
        // Whoever asks twice is in a hurry. What was acknowledged is durable; recovery does the rest.
        if stops.next().is_some() {
            inrush_logging::flush(LAST_LINES);
            #[expect(clippy::disallowed_methods, reason = "there is nothing left that has to run")]
            std::process::exit(IMPATIENT);
        }
    })?;
    Ok(())
}

fn start_log(settings: &LoggingSettings) -> anyhow::Result<Logging> {
    let levels = match std::env::var(LOG_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => Some(text.parse().context(LOG_VARIABLE)?),
        _ => None,
    };
    inrush_logging::start(settings, levels).context("log")
}

fn say_recovered(log: &str, report: &RecoveryReport) {
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
