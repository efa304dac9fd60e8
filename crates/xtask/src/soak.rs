//! The simulation of the log over as many seeds as one likes.
//!
//! The ordinary tests run the same ten thousand seeds each time; this goes on from a random one, in the release build.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::run;

/// For the build, and for what is under way at the end.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seeds to run at most; without it as many as the time allows
    #[arg(long)]
    seeds: Option<u64>,
    /// How long to run at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=7 * 24 * 60))]
    minutes: u64,
}

/// Builds the simulation and runs it; progress and the failing seed go to standard error.
///
/// # Errors
/// The build fails, or a seed does.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let first = RandomState::new().hash_one(0);
    let simulation = ["test", "--locked", "--release", "--package", "inrush-log", "--test", "simulation"];
    run::must(run::cargo().args(simulation).arg("--no-run"), BUILD_LIMIT)?;
    run::step(&format!("seeds from {first} on"));
    let seconds = arguments.minutes.saturating_mul(60);
    let mut command = run::cargo();
    command.args(simulation).args(["--", "--exact", "--nocapture", "seeds::seeds"]);
    command.env_remove("INRUSH_SEED").env("INRUSH_SEED_FIRST", first.to_string());
    command.env("INRUSH_SEEDS", arguments.seeds.unwrap_or(u64::MAX).to_string());
    command.env("INRUSH_SEED_SECONDS", seconds.to_string());
    run::must(&mut command, Duration::from_secs(seconds).saturating_add(BUILD_LIMIT))
}
