//! How the cost of a message grows: with the cores, with the connections, with the log.

mod connections;
mod cores;
mod log_size;

use std::path::PathBuf;

use super::result::{Files, Outcome};
use crate::test;

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Along which axes
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cores,connections,log")]
    pub(super) along: Vec<Axis>,
    /// Rounds; each takes every point of an axis once
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: u32,
    /// Messages a run of `cores`, and after each growth of the log
    #[arg(long, default_value_t = 20_000)]
    pub(super) messages: u32,
    /// Numbers of cores to measure; those beyond the processors are left out, and modelled
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16")]
    pub(super) cores: Vec<u16>,
    /// Numbers of connections; those beyond the limit of open files are left out
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000,50000")]
    pub(super) connections: Vec<u32>,
    /// MiB of mail in the log; each is measured after it has grown to it
    #[arg(long, value_delimiter = ',', default_value = "0,256,1024,4096")]
    pub(super) log_mib: Vec<u32>,
    /// MiB of a segment of the log that grows, instead of the default: smaller ones make as many segments as a much larger log has
    #[arg(long)]
    pub(super) segment_mib: Option<u32>,
    /// Where the logs lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(super) folder: PathBuf,
    #[command(flatten)]
    pub(super) files: Files,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Axis {
    Cores,
    Connections,
    Log,
}

/// The release builds.
struct Programs {
    gateway: PathBuf,
    generator: PathBuf,
    floor: PathBuf,
}

/// Measures and prints.
///
/// # Errors
/// A server or client cannot be started, or messages are missing at the end of a run.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [gateway, generator, floor] = test::release_binaries_and_floor()?;
    let programs = Programs { gateway, generator, floor };
    let mut outcome = Outcome::begin("scale", &arguments.folder);
    outcome.set("rounds", arguments.rounds);
    for axis in &arguments.along {
        match axis {
            Axis::Cores => cores::measure(arguments, &programs, &mut outcome)?,
            Axis::Connections => connections::measure(arguments, &programs, &mut outcome)?,
            Axis::Log => log_size::measure(arguments, &programs, &mut outcome)?,
        }
    }
    outcome.publish(&arguments.files)
}

/// Who writes to whom, for inrush-load.
fn addresses() -> impl Iterator<Item = String> {
    ["-f", "sender@client.example", "-t", "recipient@example.com"].into_iter().map(str::to_owned)
}
