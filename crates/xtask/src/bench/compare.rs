//! The same load on each server in turn, round after round, so that whatever else the machine does hits all of them.
//!
//! All servers run all the time and only one is loaded. A run counts the server's processor time from the start of the
//! clients to their end; a strict server answers 250 only when the message is durable, so nothing is left to do by then.

use std::fs;
use std::path::PathBuf;

use anyhow::ensure;

use super::load::{self, Generator, Load};
use super::machine;
use super::result::{CPU, Files, Outcome, P50, P99, RATE};
use super::rivals::Rival;
use super::servers::{Gateway, INRUSH, Subject};
use super::{label, rivals, rounds};
use crate::{packages, test};

/// The two ways of `smtp-source`: its flag, its name in the report.
const MODES: [(&[&str], &str); 2] =
    [(&[], "one message per connection"), (&["-d"], "connections reused (-d)")];

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Which servers besides inrush: smtp-sink, postfix, exim, opensmtpd, haraka, aiosmtpd, or `all`
    #[arg(long, value_delimiter = ',', default_value = "smtp-sink,postfix")]
    pub(super) servers: Vec<String>,
    /// Install what the chosen servers need, and end
    #[arg(long)]
    pub(super) install: bool,
    /// See with strace what each of them syncs before it answers the end of the data, and end
    #[arg(long, conflicts_with = "install")]
    pub(super) label: bool,
    /// Rounds; each loads every server once in each mode
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: u32,
    /// Messages a run of smtp-sink and inrush
    #[arg(long, default_value_t = 20_000)]
    pub(super) messages: u32,
    /// Messages a run of the other servers, which are slower
    #[arg(long, alias = "smtpd-messages", default_value_t = 4_000)]
    pub(super) rival_messages: u32,
    /// Sessions at a time, over all sources
    #[arg(long, default_value_t = 50)]
    pub(super) sessions: u32,
    /// Octets of a message; several are measured one after the other
    #[arg(long, alias = "octets", value_delimiter = ',', default_value = "4096")]
    pub(super) lengths: Vec<u32>,
    /// How many generators to run at a time
    #[arg(long, default_value_t = 1)]
    pub(super) sources: u32,
    /// Who sends; inrush-load uses PIPELINING where it is offered
    #[arg(long, value_enum, default_value = "smtp-source")]
    pub(super) generator: Generator,
    /// Cores of the gateway; 0 = all. smtp-sink is one thread: 1 compares like with like
    #[arg(long, default_value_t = 0)]
    pub(super) cores: u16,
    /// Where the queues and the log lie; all on one disk
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(super) folder: PathBuf,
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    pub(super) binary: Option<PathBuf>,
    #[command(flatten)]
    pub(super) files: Files,
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
    let chosen = rivals::chosen(&arguments.servers)?;
    packages::ensure()?;
    if arguments.install {
        return chosen.iter().try_for_each(|rival| rival.install());
    }
    chosen.iter().try_for_each(|rival| rival.ensure_there())?;
    let [(_, built), (_, inrush_load)] = test::release_binaries()?;
    let binary = arguments.binary.as_ref().unwrap_or(&built);
    let folder = tempfile::Builder::new().prefix("inrush-compare-").tempdir_in(&arguments.folder)?;
    // The users of other servers must get through to their queues.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut subjects = Vec::new();
    for rival in &chosen {
        subjects.push((rival.start(folder.path())?, rival.messages(arguments)));
    }
    let gateway = Gateway::strict(binary, arguments.cores);
    subjects.push((Subject::inrush(folder.path(), &gateway), arguments.messages));

    let mut outcome = Outcome::begin("compare", folder.path());
    if arguments.label {
        // Of this one it is known: a label that calls it strict would be worth nothing.
        let relaxed = Gateway { durability: inrush_log::Durability::Relaxed, ..gateway };
        subjects.push((Subject::inrush(folder.path(), &relaxed), 1));
        return label::run(subjects.iter().map(|(subject, _)| subject), &mut outcome, &arguments.files);
    }
    describe(arguments, &chosen, &subjects, &mut outcome);
    let program = match arguments.generator {
        Generator::SmtpSource => inrush_tests::process::program("smtp-source"),
        Generator::InrushLoad => inrush_load,
    };
    for &octets in &arguments.lengths {
        for (flags, mode) in MODES {
            let load = load(arguments, &program, flags, octets);
            let scenario = format!("{mode}, {octets} octets");
            rounds::in_turn(arguments.rounds, subjects.len(), |round, subject| {
                let (subject, messages) = &subjects[subject];
                let done = load::measure(subject, &load, *messages)?;
                println!(
                    "   round {} {scenario}: {} {:.1} µs/message, {:.0} messages/s",
                    round + 1,
                    subject.name,
                    done.cpu_us,
                    done.sent.rate
                );
                outcome.add(&scenario, subject.name, CPU, None, done.cpu_us);
                outcome.add(&scenario, subject.name, RATE, None, done.sent.rate);
                for (figure, value) in [(P50, done.sent.p50_us), (P99, done.sent.p99_us)] {
                    value
                        .into_iter()
                        .for_each(|value| outcome.add(&scenario, subject.name, figure, None, value));
                }
                Ok(())
            })?;
        }
    }
    for (subject, _) in &subjects {
        if subject.name != INRUSH {
            outcome.relate(INRUSH, subject.name, CPU);
            outcome.relate(INRUSH, subject.name, RATE);
        }
    }
    outcome.publish(&arguments.files)
}

fn load(arguments: &Arguments, program: &std::path::Path, flags: &[&str], octets: u32) -> Load {
    let mut options: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let sessions = (arguments.sessions / arguments.sources).to_string();
    let octets = octets.to_string();
    let from_to = ["-f", "sender@client.example", "-t", "recipient@example.com"];
    options.extend(["-s", &sessions, "-l", &octets].into_iter().chain(from_to).map(str::to_owned));
    Load { generator: arguments.generator, program: program.to_owned(), options, sources: arguments.sources }
}

fn describe(arguments: &Arguments, chosen: &[Rival], subjects: &[(Subject, u32)], outcome: &mut Outcome) {
    let cores = if arguments.cores == 0 { "all".to_owned() } else { arguments.cores.to_string() };
    outcome.set("cores of inrush", cores);
    outcome.set("generator", format!("{} × {}", arguments.sources, arguments.generator.name()));
    outcome.set("sessions in all", arguments.sessions);
    outcome.set("rounds", format!("{}, servers in turn", arguments.rounds));
    for (subject, messages) in subjects {
        outcome.set(&format!("messages a run, {}", subject.name), *messages);
    }
    outcome.set("server CPU", subjects[0].0.meter.method());
    for rival in chosen {
        outcome.set(&format!("version of {}", rival.name()), rival.version());
    }
    outcome.set("version of Postfix", machine::said("postconf", &["-d", "-h", "mail_version"]));
    outcome.notes.push(
        "Which of these servers sync before they answer: `cargo xtask bench compare --label` with the same servers.".to_owned(),
    );
}
