//! `inrush serve`: start everything, wait for a reason to end, end in order; or give the place to a new process.

mod activation;
mod handover;
mod notify;
mod serving;
mod steer;
mod upgrade;

use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use inrush_config::Config;
use inrush_gateway::CoreEvent;
use inrush_log::Poisoned;
use inrush_logging::{Logging, LoggingSettings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::ConfigFile;
use crate::reload::Ask;
use handover::Predecessor;
use serving::Serving;
pub(crate) use steer::Steer;

/// Environment variable with the levels of the log, by module where wanted: `info`, `warn,inrush_gateway=debug`.
const LOG_VARIABLE: &str = "INRUSH_LOG";

/// How long a process that ends in a hurry waits for its last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Exit code after a second signal: running transactions were cut off, the log was not sealed.
const IMPATIENT: i32 = 3;

/// A request to end.
#[derive(Debug)]
pub(crate) struct Stop {
    /// Who has asked.
    by: &'static str,
    /// How long connections are still taken; else as the settings say.
    delay: Option<Duration>,
    /// How long transactions may go on then; else as the settings say.
    deadline: Option<Duration>,
}

impl Stop {
    /// As the settings say.
    fn of(by: &'static str) -> Self {
        Self { by, delay: None, deadline: None }
    }
}

/// What the main thread is told.
pub(crate) enum Event {
    /// Somebody asks for the end.
    Stop(Stop),
    /// A signal asked for a new process.
    Upgrade,
    /// Of a core; it has ended before it was asked to when there is an error.
    Core(CoreEvent),
    /// A log of the relay has failed.
    Relay(Poisoned),
    /// The new process is ready to take connections, or will never be.
    Ready(anyhow::Result<()>),
    /// The new process takes connections, or has failed in the last moment.
    Taking(anyhow::Result<()>),
    /// The process whose place this one takes does not take connections any more.
    PredecessorLeft,
    /// That process is gone.
    PredecessorGone,
}

/// Runs the gateway until a signal or a failed log ends it.
pub(crate) fn run(arguments: &ConfigFile) -> anyhow::Result<ExitCode> {
    let mut predecessor = Predecessor::find()?;
    let config = Config::load(arguments.config.as_deref())?;
    // Written out when this ends, in whatever way.
    let _log = start_log(&config.logging)?;
    let (events, told) = mpsc::channel();
    let mut serving = Serving::start(config, arguments, predecessor.as_mut(), events)?;
    if let Some(predecessor) = predecessor
        && let Err(error) = serving.replace(predecessor)
    {
        serving.end();
        let of_core = told.try_iter().find_map(|event| match event {
            Event::Core(CoreEvent::Ended(Err(error))) => Some(error),
            _ => None,
        });
        return Err(of_core.map_or(error, anyhow::Error::from));
    }
    serving.tell_listening();
    notify::ready();
    let result = serving.serve(&told);
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!("{error:#}"),
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn forward_signals(events: Sender<Event>, reload: Sender<Ask>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2]).context("signal handlers")?;
    thread::Builder::new().name("inrush-signals".to_owned()).spawn(move || {
        let mut stops = signals.forever().filter(|signal| {
            // Both threads live as long as this one.
            match *signal {
                SIGHUP => drop(reload.send(None)),
                SIGUSR2 => drop(events.send(Event::Upgrade)),
                _ => return true,
            }
            false
        });
        if let Some(signal) = stops.next() {
            let by = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            let _ = events.send(Event::Stop(Stop::of(by)));
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
