//! The `inrush-load` command.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use inrush_load::compare::compare;
use inrush_load::descriptors;
use inrush_load::html;
use inrush_load::json::{self, Context};
use inrush_load::manual;
use inrush_load::options::{Cli, Command, RunOptions};
use inrush_load::report::{Table, write_hgrm};
use inrush_load::run::{self, Outcome, Setting};
use inrush_load::server_cpu::Processes;
use inrush_load::settings::settings;
use inrush_load::sink::sink;
use inrush_load::tui;
use inrush_load::verify::{Sought, Verification, Verify, verify};
use inrush_load::worker::{Ending, Shared};
use jiff::Zoned;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Errors beyond `--errors-max`; a comparison that `--fail-if-worse` fails.
const EXIT_ERRORS: u8 = 1;
/// Wrong usage, or a file that cannot be opened.
const EXIT_USAGE: u8 = 2;
/// An acknowledged message was not found as it should be, or the log could not be read.
const EXIT_NOT_VERIFIED: u8 = 4;
/// The target cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match &cli.command {
        Command::Run(options) => run_command(options, &matches),
        Command::Report(options) => html::report(options).map(|()| 0),
        Command::Sink(options) => interrupts()
            .map_err(|error| format!("cannot watch for SIGINT: {error}"))
            .and_then(|interrupts| sink(options, &interrupts))
            .map(|()| 0),
        Command::Completions { shell } => manual::completions(*shell).map(|()| 0),
        Command::ManualPages { to } => manual::pages(to).map(|()| 0),
        Command::Compare(options) => compare(options).map(|worse| if worse { EXIT_ERRORS } else { 0 }),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            let _ = writeln!(io::stderr(), "inrush-load: {message}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run_command(options: &RunOptions, matches: &ArgMatches) -> Result<u8, String> {
    let started = Zoned::now();
    // Unique enough to tell the messages of two runs apart.
    let run = u64::from(std::process::id()) << 40
        ^ u64::try_from(started.timestamp().as_microsecond()).unwrap_or(0);
    let date = jiff::fmt::rfc2822::to_string(&started).map_err(|error| error.to_string())?;
    let plan = options.plan(run, &date)?;
    if options.tui {
        tui::check()?;
    }
    descriptors::allow(plan.seats().iter().map(Vec::len).sum(), plan.cores)?;
    let setting = Setting {
        shared: Arc::new(Shared::default()),
        interrupts: interrupts().map_err(|error| format!("cannot watch for SIGINT: {error}"))?,
        acks: match &options.acks {
            None => None,
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Some(file.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        },
        server: (!options.server_pid.is_empty())
            .then(|| Processes { pids: options.server_pid.clone(), with_children: options.server_children }),
        progress: !options.quiet,
        quiet: options.quiet,
        tui: options.tui,
    };
    if let Some(server) = &setting.server {
        server.sample()?;
    }
    // Opened before the run: an hour of load shall not end with a path that does not exist.
    let json_file = options.json.as_deref().filter(|path| *path != Path::new("-")).map(create).transpose()?;
    let hgrm_file = options.hgrm.as_deref().map(create).transpose()?;
    let errors_max = plan.errors_max;
    let content = plan.content.clone();
    let mut outcome = run::run(plan, setting).map_err(|error| error.to_string())?;
    if let Some(store) = &options.verify {
        let started_us = u64::try_from(started.timestamp().as_microsecond()).unwrap_or(0);
        let wanted =
            Verify { store: store.clone(), copies: options.verify_copies, wait: options.verify_wait };
        let sought = Sought { content: &content, run, started_us, acknowledged: &outcome.acknowledged };
        outcome.verification = Some(verify(&wanted, &sought));
    }
    let code = exit_code(&outcome, errors_max);
    let failed = |error: io::Error| format!("cannot write the report: {error}");
    if let Some(file) = hgrm_file {
        let mut out = BufWriter::new(file);
        write_hgrm(outcome.record.histogram(options.hgrm_phase), &mut out)
            .and_then(|()| out.flush())
            .map_err(failed)?;
    }
    if options.json.is_some() {
        let context = Context {
            command: std::env::args().collect(),
            started_at: started.timestamp().to_string(),
            run,
            exit_code: code,
            settings: settings(matches, "run"),
            labels: options.label.clone(),
        };
        let text = format!("{:#}\n", json::object(&outcome, &context));
        match json_file {
            Some(mut file) => file.write_all(text.as_bytes()).map_err(failed)?,
            None => io::stdout().write_all(text.as_bytes()).map_err(failed)?,
        }
    }
    let table = Table(&outcome).to_string();
    if options.json.as_deref() == Some(Path::new("-")) {
        io::stderr().write_all(table.as_bytes()).map_err(failed)?;
    } else {
        io::stdout().write_all(table.as_bytes()).map_err(failed)?;
    }
    Ok(code)
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Counts SIGINT and SIGTERM: the first ends the run in order, the second at once.
fn interrupts() -> io::Result<Arc<AtomicUsize>> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    let counted = Arc::clone(&count);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            counted.fetch_add(1, Relaxed);
        }
    })?;
    Ok(count)
}

fn exit_code(outcome: &Outcome, errors_max: u64) -> u8 {
    let record = &outcome.record;
    if outcome.verification.as_ref().is_some_and(|found| !found.as_ref().is_ok_and(Verification::holds)) {
        return EXIT_NOT_VERIFIED;
    }
    match &outcome.ended_by {
        Some(Ending::Unreachable(_) | Ending::NotPossible(_)) => EXIT_UNREACHABLE,
        Some(Ending::Lost(_) | Ending::Acks(_) | Ending::NotOffered(_)) => EXIT_ERRORS,
        // Not even the lowest rate of a ramp held.
        _ if outcome.ramp.as_ref().is_some_and(|found| found.rate.is_none()) => EXIT_ERRORS,
        Some(Ending::Errors | Ending::Interrupted) | None => {
            if record.counts.errors() + record.warmup.errors() > errors_max { EXIT_ERRORS } else { 0 }
        }
    }
}
