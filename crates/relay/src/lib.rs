//! Store and forward: takes messages out of the logs and hands them on until each recipient has them, or their sender knows better.
//!
//! ```text
//!   intake ─▶ routing ─▶ destination ─▶ hop (SMTP, LMTP) │ local (Maildir) │ hold
//!      ▲                                   │ verdicts
//!   ledger ◀── recorder ◀── telling ◀── settle
//! ```
//! All of it runs on one thread with its own runtime, off the accept path; two more threads read from and write to the disk. Messages come in memory
//! while the relay keeps up, from the disk when it does not: a backlog costs disk, not memory. At least once: a delivery whose outcome a crash cuts off is
//! made again (RFC 1047).
//!
//! Standards: RFC 5321 §4.5.4 (retry), §5 (mail hosts), §6 (reliability), RFC 2033 (LMTP), RFC 3461 to 3464 (reports).
#![forbid(unsafe_code)]

mod api;
mod backlog;
mod commands;
mod committer;
mod connect;
mod content;
mod destination;
pub mod dns;
pub mod dsn;
mod due;
mod engine;
mod evacuate;
mod facts;
mod failure;
mod hop;
mod intake;
mod local;
pub mod maildir;
mod memory;
mod places;
mod query;
mod reader;
mod replay;
mod routing;
pub mod settings;
mod settle;
mod shared;
mod spans;
mod telling;
pub mod tls;
mod unfinished;
mod view;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use inrush_log::{AgeClock, LogKind, Lsn, Poisoned, Storage as _, log_directory};
use inrush_metrics::Metrics;
use inrush_queue::{FoldError, Keeper, KeeperError, QueueSettings, Recorder, Stores, fold};
use inrush_spans::Spans;
use tokio::sync::{Notify, mpsc, oneshot};

pub use crate::api::{Api, ApiError};
pub use crate::commands::Action;
pub use crate::query::{LIMIT, Query, QueryError, is_address};
pub use crate::replay::Replay;
pub use crate::view::{Listed, Stopped, life_in_log, time};

use crate::committer::Committer;
use crate::engine::{Engine, Writing};
use crate::intake::Intake;
use crate::reader::ReaderHandle;
use crate::settings::{RelaySettings, Surroundings};
use crate::shared::{Parts, Shared};

/// Threads for work that blocks, besides one for each connection.
const OTHER_THREADS: usize = 64;

/// Why the relay did not start. Nothing was delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The state of the queue cannot be told.
    #[error("queue: {0}")]
    Queue(#[from] FoldError),
    /// A log is behind what is known of it: new mail in it would pass for delivered.
    #[error(
        "queue: {log} goes on at LSN {begin}, but its mail up to LSN {taken} was taken before: restore all logs from the same copy"
    )]
    Behind {
        /// The log.
        log: String,
        /// Where it goes on.
        begin: Lsn,
        /// Up to where its mail was taken.
        taken: Lsn,
    },
    /// A cursor cannot be had.
    #[error("queue: {0}")]
    Cursor(#[from] KeeperError),
    /// The DNS settings.
    #[error("[relay]: {0}")]
    Dns(#[from] dns::DnsSettingsError),
    /// The TLS settings.
    #[error("[relay]: {0}")]
    Tls(#[from] tls::TlsSettingsError),
    /// A thread or its runtime.
    #[error("cannot start the relay: {0}")]
    Thread(#[from] io::Error),
}

/// Everything that the relay is started with.
pub struct Start {
    /// Routes, limits.
    pub relay: RelaySettings,
    /// When to try again, when to give up.
    pub queue: QueueSettings,
    /// The gateway around it.
    pub surroundings: Surroundings,
    /// The logs.
    pub stores: Stores,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where spans of deliveries go.
    pub spans: Spans,
}

/// The running relay; stops in order when it is dropped.
pub struct Relay {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    api: Api,
}

impl Relay {
    /// Finds out what is owed and begins to deliver it. `ended` is called on the relay's thread with the error after which the process has to end.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub fn start(start: Start, ended: impl FnOnce(Poisoned) + Send + 'static) -> Result<Self, RelayError> {
        let Start { relay, queue, surroundings, stores, metrics, spans } = start;
        let Stores { storage, node, mut arrivals, internal, outcome, retry, outcome_damaged } = stores;
        let folded = fold(&storage, &queue, outcome_damaged)?;
        for damaged in &folded.damaged {
            tracing::error!(%damaged, "an outcome cannot be read: what it said is tried again");
        }
        for (log, recipients) in &folded.replaced {
            let log = log_directory(LogKind::Arrival, *log);
            tracing::error!(
                log,
                recipients,
                "another log stands in its place: what was owed from the old one is not delivered any more"
            );
        }
        let counts = folded.ledger.counts();
        tracing::info!(
            deferred = counts.deferred,
            held = counts.held,
            under_way = folded.ledger.open_count(),
            outcomes = folded.outcomes,
            "queue read"
        );
        let keeper = Keeper::open(storage.clone(), &queue)?;
        let resolver = dns::Resolver::new(&relay.dns)?;
        let tls = tls::ClientTls::new(&relay.tls)?;
        let (reader, batches) = ReaderHandle::start(storage.clone())?;
        let (committer, written) = Committer::start(keeper)?;
        let (stop, stopped) = oneshot::channel();
        let (asked, requests) = mpsc::unbounded_channel();
        let routes = relay.routes.iter().map(|route| route.name.clone()).collect();
        let api = Api { requests: asked, storage: storage.clone(), routes };
        arrivals.push(inrush_queue::ArrivalStore::of(inrush_log::INTERNAL_LOG, &internal));
        for store in &arrivals {
            let (begin, taken) = (store.begin, folded.ledger.taken(store.log));
            if begin < taken {
                return Err(RelayError::Behind {
                    log: log_directory(LogKind::Arrival, store.log),
                    begin,
                    taken,
                });
            }
        }
        let clock = AgeClock::start(shared::now_us(), storage.boot_us(), folded.newest_us);
        // Each connection may stream a body, or be a delivery into mailboxes: none waits for the thread of another.
        let threads_max = relay.connections_max as usize + OTHER_THREADS;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(threads_max)
            .build()?;
        let thread = thread::Builder::new().name("inrush-relay".to_owned()).spawn(move || {
            let attention = Arc::new(Notify::new());
            let intake = Intake::new(arrivals, &folded.ledger, reader.clone());
            let wake = Arc::clone(&attention);
            intake.set_waker(move || wake.notify_one());
            let recorder = Recorder::new(outcome, &folded.ledger);
            let shared = Shared::new(Parts {
                settings: relay,
                queue,
                surroundings,
                node,
                ledger: folded.ledger,
                recorder,
                internal,
                retry,
                reader,
                resolver,
                tls,
                metrics,
                spans,
                attention,
            });
            let engine = Engine {
                shared: Rc::new(shared),
                intake,
                batches,
                committer,
                written,
                requests,
                stop: stopped,
                writing: Writing::default(),
                clock,
            };
            let local = tokio::task::LocalSet::new();
            let result = runtime.block_on(local.run_until(engine.run()));
            drop(local);
            if let Err(poisoned) = result {
                ended(poisoned);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), api })
    }

    /// The way to it for other threads.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// Lets dialogs under way come to their ends, for a bounded time, and writes down what is known.
    pub fn stop(self) {}
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process before.
            let _ = thread.join();
        }
    }
}
