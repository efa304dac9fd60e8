//! One fuzz target of tests/fuzz, for a bounded time.
//!
//! The ordinary tests replay the corpora with the stable compiler; this goes looking for new inputs with `cargo fuzz`.

use std::fs;
use std::time::Duration;

use anyhow::bail;

use crate::run;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of a target in tests/fuzz
    target: String,
    /// How long to run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the target.
///
/// # Errors
/// `cargo fuzz` is not installed, the target does not build, or it found a failing input.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if run::program("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz");
    }
    let found = format!("tests/fuzz/corpus/{}", arguments.target);
    let kept = format!("tests/corpus/fuzz/{}", arguments.target);
    fs::create_dir_all(run::root().join(&found))?;
    let mut command = run::cargo();
    // Sanitizer and coverage flags are unstable; the variable lets the one installed toolchain take them.
    command.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", &arguments.target]);
    // What is found on the way goes into the first folder, which is not kept in the tree.
    command.args([&found, &kept]).args(["--", &format!("-max_total_time={}", arguments.seconds)]);
    run::must(&mut command, Duration::from_secs(arguments.seconds + 30 * 60))
}
