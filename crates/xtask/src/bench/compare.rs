//! The same load on each server in turn, round after round, so that whatever else the machine does hits all of them.
//!
//! All servers run all the time and only one is loaded. A run counts the server's processor time from the start of the
//! clients to their end; smtpd and inrush answer 250 only when the message is durable, so nothing is left to do by then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::report::{self, Run, Series};
use super::servers::Subject;
use crate::{packages, run, test};

const RUN_LIMIT: Duration = Duration::from_secs(180);
const OURS: &str = "inrush";

/// The two ways of `smtp-source`: its flag, its name in the report.
const MODES: [(&[&str], &str); 2] =
    [(&[], "one message per connection"), (&["-d"], "connections reused (-d)")];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each loads every server once in each mode
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Messages a run
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Messages a run of Postfix smtpd, which is slower
    #[arg(long, default_value_t = 4_000)]
    smtpd_messages: u32,
    /// Sessions at a time, over all sources
    #[arg(long, default_value_t = 50)]
    sessions: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    octets: u32,
    /// How many generators to run at a time
    #[arg(long, default_value_t = 1)]
    sources: u32,
    /// Who sends; inrush-load uses PIPELINING where it is offered
    #[arg(long, value_enum, default_value = "smtp-source")]
    generator: Generator,
    /// Cores of the gateway; 0 = all. smtp-sink is one thread: 1 compares like with like
    #[arg(long, default_value_t = 0)]
    cores: u16,
    /// Where the queue and the log lie; both on one disk
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Write the result as JSON here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the result as Markdown here
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// Which program sends the load. Both take the same short options.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Generator {
    SmtpSource,
    InrushLoad,
}

impl Generator {
    fn name(self) -> &'static str {
        match self {
            Self::SmtpSource => "smtp-source",
            Self::InrushLoad => "inrush-load",
        }
    }

    /// Which sends what the options behind say to the address behind them.
    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Self::InrushLoad = self {
            command.args(["run", "--quiet"]);
        }
        command
    }
}

/// Measures and prints.
///
/// # Errors
/// A server or client cannot be started, a run fails or takes too long, or messages are missing at its end.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.sources > 0 && arguments.sessions >= arguments.sources,
        "at least one session a source"
    );
    packages::ensure()?;
    let [(_, built), (_, load)] = test::release_binaries()?;
    let binary = arguments.binary.as_ref().unwrap_or(&built);
    let program = match arguments.generator {
        Generator::SmtpSource => inrush_tests::process::program("smtp-source"),
        Generator::InrushLoad => load,
    };
    let folder = tempfile::Builder::new().prefix("inrush-compare-").tempdir_in(&arguments.folder)?;
    // Postfix's own user must get through to its queue.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let subjects = [
        Subject::smtp_sink(arguments.messages)?,
        Subject::smtpd(folder.path(), arguments.smtpd_messages),
        Subject::inrush(binary, folder.path(), arguments.messages, arguments.cores),
    ];

    let mut series: Vec<Series> = Vec::new();
    for (_, mode) in MODES {
        series.extend(subjects.iter().map(|subject| Series { server: subject.name, mode, runs: Vec::new() }));
    }
    for round in 0..arguments.rounds {
        for (flags, mode) in MODES {
            // Another one begins each round, so that none always runs behind the same neighbour.
            for turn in 0..subjects.len() {
                let subject = &subjects[(turn + round as usize) % subjects.len()];
                let done = measure(subject, &program, flags, arguments)?;
                println!(
                    "   round {} {mode}: {} {:.1} µs/message, {:.0} messages/s",
                    round + 1,
                    subject.name,
                    done.cpu_us,
                    done.rate
                );
                let mut fitting =
                    series.iter_mut().filter(|series| series.mode == mode && series.server == subject.name);
                fitting.by_ref().for_each(|series| series.runs.push(done));
            }
        }
    }

    let facts = facts(arguments, subjects[0].meter.method(), folder.path())?;
    let text = report::markdown(&facts, &series, OURS);
    println!("\n{text}");
    if let Some(file) = &arguments.markdown {
        fs::write(file, &text)?;
    }
    if let Some(file) = &arguments.json {
        fs::write(file, format!("{:#}\n", report::json(&facts, &series)))?;
    }
    Ok(())
}

/// A short unmeasured run, then the measured one.
fn measure(subject: &Subject, program: &Path, flags: &[&str], arguments: &Arguments) -> anyhow::Result<Run> {
    load(subject, program, flags, subject.messages / 10, arguments)?;
    let accepted = subject.accepted();
    let cpu = subject.meter.read()?;
    let begin = Instant::now();
    let sent = load(subject, program, flags, subject.messages, arguments)?;
    let took = begin.elapsed();
    let cpu = subject.meter.read()?.saturating_sub(cpu);
    if let (Some(before), Some(after)) = (accepted, subject.accepted()) {
        ensure!(after - before == f64::from(sent), "{} accepted {} of {sent}", subject.name, after - before);
    }
    let sent = f64::from(sent);
    Ok(Run { cpu_us: cpu.as_secs_f64() * 1e6 / sent, rate: sent / took.as_secs_f64() })
}

/// Runs the sources to their end; how many messages they sent in all.
fn load(
    subject: &Subject,
    program: &Path,
    flags: &[&str],
    messages: u32,
    arguments: &Arguments,
) -> anyhow::Result<u32> {
    let each = (messages / arguments.sources).max(1);
    let mut sources = Vec::new();
    for _ in 0..arguments.sources {
        let mut command = arguments.generator.command(program);
        command.args(flags).args(["-s", &(arguments.sessions / arguments.sources).to_string()]);
        command.args(["-l", &arguments.octets.to_string(), "-m", &each.to_string()]);
        command.args(["-f", "sender@client.example", "-t", "recipient@example.com"]);
        command.arg(&subject.address).stdin(Stdio::null()).stdout(Stdio::null());
        sources.push(command.spawn()?);
    }
    let deadline = Instant::now() + RUN_LIMIT;
    let mut failed = Vec::new();
    for mut source in sources {
        match run::wait_until(&mut source, deadline) {
            Ok(status) if status.success() => {}
            Ok(status) => failed.push(status.to_string()),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if !failed.is_empty() {
        bail!("{} against {}: {}", arguments.generator.name(), subject.name, failed.join(", "));
    }
    Ok(each * arguments.sources)
}

fn facts(arguments: &Arguments, method: &str, folder: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = processors.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim();
    let said =
        |program: &str, words: &[&str]| run::output(Command::new(program).args(words)).unwrap_or_default();
    let disk = said("df", &["--output=source,fstype", &folder.display().to_string()]);
    Ok(vec![
        ("date", said("date", &["-u", "+%F %R UTC"]).trim().to_owned()),
        ("processor", format!("{} × {model}", models.len())),
        ("kernel", said("uname", &["-sr"]).trim().to_owned()),
        ("disk", disk.lines().nth(1).unwrap_or("?").split_whitespace().collect::<Vec<_>>().join(", ")),
        ("Postfix", said("postconf", &["-d", "-h", "mail_version"]).trim().to_owned()),
        (
            "commit",
            said("git", &["-C", &run::root().display().to_string(), "rev-parse", "--short", "HEAD"])
                .trim()
                .into(),
        ),
        (
            "load",
            format!(
                "{} × {}, {} sessions in all, {} octets, {} messages a run (smtpd: {})",
                arguments.sources,
                arguments.generator.name(),
                arguments.sessions,
                arguments.octets,
                arguments.messages,
                arguments.smtpd_messages
            ),
        ),
        ("rounds", format!("{}, servers in turn; median (least–greatest)", arguments.rounds)),
        (
            "cores of inrush",
            if arguments.cores == 0 { "all".to_owned() } else { arguments.cores.to_string() },
        ),
        ("server CPU", method.to_owned()),
    ])
}
