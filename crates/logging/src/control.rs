//! Starting the log lines, and changing them while the program runs. There is one log in a process.

use std::io;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Sender};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::capture::{Capture, QUEUE_LINES_MAX, now_us};
use crate::form::Form;
use crate::journal::Journal;
use crate::levels::Levels;
use crate::line::{Line, Value};
use crate::records::{OF_CONNECTIONS, OF_MESSAGES, OF_SESSIONS};
use crate::ring::Reader;
use crate::settings::{Destination, LoggingSettings};
use crate::sink::Sink;
use crate::writer::Writer;

/// How long the end of the process waits for lines to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// The same before an abort.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is one in this process already.
    #[error("the log is running already")]
    Running,
    /// The journal is not where it should be.
    #[error("no journal at {path}: {1}", path = .0.display())]
    Journal(PathBuf, io::Error),
    /// The thread of the writer could not be made.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// Lines of cores that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hot(pub(crate) u8);

impl Hot {
    pub(crate) const MESSAGES: Self = Self(1);
    pub(crate) const SESSIONS: Self = Self(2);
    pub(crate) const CONNECTIONS: Self = Self(4);
}

/// What goes to the writer.
pub(crate) enum Item {
    /// A line and its place in the sources.
    Line(usize, Line),
    /// Another ring to be read.
    Ring(Box<Reader>),
    /// Somebody waits.
    Wake,
}

/// What the writer and all others share.
pub(crate) struct Shared {
    pub(crate) sender: Sender<Item>,
    pub(crate) queued_octets: AtomicUsize,
    pub(crate) hot: AtomicU8,
    pub(crate) recipients_shown: AtomicU8,
    levels: RwLock<Arc<Levels>>,
    pub(crate) state: Mutex<State>,
    /// Settings have changed.
    pub(crate) changed: AtomicBool,
    pub(crate) sink: Sink,
    /// How often a flush was asked for, and which of them are done.
    pub(crate) flushes: AtomicU64,
    flushed: Mutex<u64>,
    flushed_now: Condvar,
}

/// What may change while the program runs.
pub(crate) struct State {
    pub(crate) form: Form,
    pub(crate) repeats_max: u32,
    pub(crate) repeats_window: Duration,
    messages: bool,
    sessions: bool,
    /// The level of the configuration, as it was read last.
    read: Levels,
    /// What is in force but for a time.
    standing: Levels,
    /// What is in force until then.
    temporary: Option<(Levels, Instant)>,
    terminal: bool,
}

/// The running log. Dropped, what was said is written, if that takes no more than two seconds.
#[derive(Debug)]
pub struct Logging(());

impl Drop for Logging {
    fn drop(&mut self) {
        flush(FLUSH_PATIENCE);
    }
}

/// Starts the log. `levels` go before those of the settings until these change.
///
/// # Errors
/// [`StartError`]; nothing is logged then.
pub fn start(settings: &LoggingSettings, levels: Option<Levels>) -> Result<Logging, StartError> {
    let sink = match settings.to {
        Destination::Stderr => Sink::Stderr,
        Destination::Journald => {
            let path = &settings.journal_socket;
            let found = std::fs::metadata(path).and_then(|_| Journal::open(path));
            Sink::Journal(found.map_err(|error| StartError::Journal(path.clone(), error))?)
        }
    };
    let terminal = io::stderr().is_terminal();
    let (sender, receiver) = channel::bounded(QUEUE_LINES_MAX);
    let standing = levels.unwrap_or_else(|| settings.level.clone());
    let shared = Arc::new(Shared {
        sender,
        queued_octets: AtomicUsize::new(0),
        hot: AtomicU8::new(0),
        recipients_shown: AtomicU8::new(settings.recipients_shown),
        levels: RwLock::new(Arc::new(standing.clone())),
        state: Mutex::new(State {
            form: settings.format.form(terminal),
            repeats_max: settings.repeats_max,
            repeats_window: settings.repeats_window,
            messages: settings.messages,
            sessions: settings.sessions,
            read: settings.level.clone(),
            standing,
            temporary: None,
            terminal,
        }),
        changed: AtomicBool::new(false),
        sink,
        flushes: AtomicU64::new(0),
        flushed: Mutex::new(0),
        flushed_now: Condvar::new(),
    });
    if SHARED.set(Arc::clone(&shared)).is_err() {
        return Err(StartError::Running);
    }
    shared.put_in_force(&shared.state());
    let writer = Writer::new(Arc::clone(&shared), receiver);
    thread::Builder::new()
        .name("inrush-lines".to_owned())
        .spawn(move || writer.run())
        .map_err(StartError::Thread)?;
    let subscriber = tracing_subscriber::registry().with(Capture(shared));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| StartError::Running)?;
    Ok(Logging(()))
}

/// Waits until everything that was said before is written, or for so long.
pub fn flush(patience: Duration) {
    if let Some(shared) = shared() {
        shared.flush(patience);
    }
}

/// Writes the last line of a process that aborts, behind what is still in the queue: nothing of it waits for long. False when there is no log.
pub fn last_words(msg: String, backtrace: Option<String>) -> bool {
    let Some(shared) = shared() else { return false };
    shared.flush(LAST_PATIENCE);
    let fields = backtrace.map(|backtrace| ("backtrace", Value::Text(backtrace))).into_iter().collect();
    let line = Line { time_us: now_us(), level: Level::ERROR, module: "inrush", msg, fields };
    let form = shared.state.try_lock().map_or(Form::Logfmt, |state| state.form);
    shared.sink.last(&line, form, LAST_PATIENCE);
    true
}

pub(crate) fn shared() -> Option<&'static Arc<Shared>> {
    SHARED.get()
}

/// Changes the running log.
#[derive(Clone, Copy)]
pub struct Control(&'static Shared);

/// The running log, if there is one.
#[must_use]
pub fn control() -> Option<Control> {
    shared().map(|shared| Control(shared))
}

impl Control {
    /// The levels in force, and how long they stay if that is bounded, with those that come then.
    #[must_use]
    pub fn levels(&self) -> (Levels, Option<(Duration, Levels)>) {
        let state = self.0.state();
        match &state.temporary {
            None => (state.standing.clone(), None),
            Some((levels, until)) => {
                let left = until.saturating_duration_since(Instant::now());
                (levels.clone(), Some((left, state.standing.clone())))
            }
        }
    }

    /// Puts levels in force: for a time, or until they change again.
    pub fn set_levels(&self, levels: Levels, time: Option<Duration>) {
        let mut state = self.0.state();
        match time {
            None => (state.standing, state.temporary) = (levels, None),
            Some(time) => state.temporary = Some((levels, Instant::now() + time)),
        }
        self.0.put_in_force(&state);
    }

    /// Takes over what a configuration that was read again says about form, repeats, lines of messages and sessions, and about levels where that
    /// has changed. The target stays.
    pub fn reload(&self, settings: &LoggingSettings) {
        let mut state = self.0.state();
        state.form = settings.format.form(state.terminal);
        (state.repeats_max, state.repeats_window) = (settings.repeats_max, settings.repeats_window);
        (state.messages, state.sessions) = (settings.messages, settings.sessions);
        if state.read != settings.level {
            state.read = settings.level.clone();
            state.standing = settings.level.clone();
        }
        self.0.recipients_shown.store(settings.recipients_shown, Relaxed);
        self.0.put_in_force(&state);
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn levels_in_force(&self) -> Arc<Levels> {
        Arc::clone(&self.levels.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends levels that were for a time which is over.
    pub(crate) fn end_temporary(&self) {
        let mut state = self.state();
        if state.temporary.as_ref().is_some_and(|(_, until)| Instant::now() >= *until) {
            state.temporary = None;
            self.put_in_force(&state);
            let levels = state.standing.to_string();
            drop(state);
            tracing::info!(levels, "the levels from before are in force again");
        }
    }

    fn put_in_force(&self, state: &State) {
        let levels = state.temporary.as_ref().map_or(&state.standing, |(levels, _)| levels);
        let wanted = [
            (Hot::MESSAGES, state.messages && levels.allows(OF_MESSAGES, Level::INFO)),
            (Hot::SESSIONS, state.sessions && levels.allows(OF_SESSIONS, Level::INFO)),
            (Hot::CONNECTIONS, state.sessions && levels.allows(OF_CONNECTIONS, Level::INFO)),
        ];
        let hot = wanted.iter().filter(|(_, wanted)| *wanted).fold(0, |hot, (kind, _)| hot | kind.0);
        self.hot.store(hot, Relaxed);
        *self.levels.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(levels.clone());
        self.changed.store(true, Release);
        tracing::callsite::rebuild_interest_cache();
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Acquire)
    }

    fn flush(&self, patience: Duration) {
        let asked = self.flushes.fetch_add(1, Relaxed) + 1;
        // Where the queue is full the writer has something to do anyway.
        let _ = self.sender.try_send(Item::Wake);
        let deadline = Instant::now() + patience;
        let mut done = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        while *done < asked {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.flushed_now.wait_timeout(done, left);
            done = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Flushes that are done.
    pub(crate) fn flushed_so_far(&self) -> u64 {
        *self.flushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was said before these flushes were asked for is written.
    pub(crate) fn flushed(&self, asked: u64) {
        let mut done = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        if asked > *done {
            *done = asked;
            self.flushed_now.notify_all();
        }
    }
}
