//! Large messages against the disk: octets of mail a second that become durable, beside what the disk takes from as many streams as the gateway
//! has logs, and the memory that each session costs meanwhile.
//!
//! In turn, round after round: the disk, messages over few sessions, messages over many. Segments are recycled, as those of a gateway whose mail is
//! handed on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::load::{self, Load};
use super::result::{CPU, Figure, Files, Outcome, RATE};
use super::servers::{Gateway, INRUSH, Subject};
use super::{disk, rounds};
use crate::test;

/// Octets of a write of the disk: those of a full batch of the log.
const BLOCK: usize = 1 << 20;

const DISK: &str = "disk";
const SPEED: Figure = Figure { name: "durable octets per second", unit: "MB/s" };
const MEMORY_EACH: Figure = Figure { name: "peak memory for each further session", unit: "MiB" };

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 25 << 20)]
    length: u32,
    /// Messages of a run
    #[arg(long, default_value_t = 96)]
    messages: u32,
    /// Sessions of the load
    #[arg(long, default_value_t = 8)]
    sessions: u32,
    /// Sessions of the load that shows what each of them costs
    #[arg(long, default_value_t = 48)]
    many_sessions: u32,
    /// Cores of the gateway, each with a log of its own; 0 = all
    #[arg(long, default_value_t = 0)]
    cores: u16,
    /// Seconds of each measurement of the disk
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where logs and files lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    #[command(flatten)]
    files: Files,
}

/// Measures and prints.
///
/// # Errors
/// The gateway or the load cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, generator)] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-large-").tempdir_in(&arguments.folder)?;
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let streams = if arguments.cores == 0 { all } else { usize::from(arguments.cores) };
    let mut outcome = Outcome::begin("large", &arguments.folder);
    outcome.set("octets of a message", arguments.length);
    outcome.set("cores of the gateway, streams of the disk", streams);
    outcome.notes.push(format!(
        "Disk: direct writes of {BLOCK} octets, each synced, one after the other in each stream, into blocks that were written before. MB are \
         1,000,000 octets."
    ));
    for (transfer, mode) in [("DATA", "data"), ("CHUNKING", "bdat")] {
        let scenario = format!("{} MiB by {transfer}", arguments.length >> 20);
        // A gateway of its own for each, since what memory it has had it may keep.
        let [few, many] = ["few", "many"].map(|name| subject(&folder.path().join(name), &gateway, arguments));
        let load = |sessions: u32| {
            let text = format!(
                "-d --sessions {sessions} --length {} --mode {mode} -t b@example.com",
                arguments.length
            );
            Load::inrush_load(&generator, text.split(' ').map(str::to_owned).collect())
        };
        rounds::in_turn(arguments.rounds, 2, |round, turn| {
            let show = |name: &str, speed: f64| {
                println!("   {scenario} round {}: {name} {speed:.0} {}", round + 1, SPEED.unit);
            };
            if turn == 0 {
                let speed =
                    disk::throughput(folder.path(), streams, BLOCK, Duration::from_secs(arguments.seconds))?
                        / 1e6;
                show(DISK, speed);
                outcome.add(&scenario, DISK, SPEED, None, speed);
                return Ok(());
            }
            let less = load::measure(&few, &load(arguments.sessions), arguments.messages)?;
            let more = load::measure(&many, &load(arguments.many_sessions), arguments.messages)?;
            let speed = less.sent.rate * f64::from(arguments.length) / 1e6;
            show(INRUSH, speed);
            outcome.add(&scenario, INRUSH, SPEED, None, speed);
            outcome.add(&scenario, INRUSH, RATE, None, less.sent.rate);
            outcome.add(&scenario, INRUSH, CPU, None, less.cpu_us);
            if let (Some(less), Some(more)) = (less.memory_mib, more.memory_mib) {
                let further = f64::from(arguments.many_sessions.saturating_sub(arguments.sessions).max(1));
                outcome.add(&scenario, INRUSH, MEMORY_EACH, None, (more - less) / further);
            }
            Ok(())
        })?;
    }
    outcome.relate(INRUSH, DISK, SPEED);
    outcome.publish(&arguments.files)
}

fn subject(folder: &Path, gateway: &Path, arguments: &Arguments) -> Subject {
    Subject::inrush(folder, &Gateway::strict(gateway, arguments.cores).recycling())
}
