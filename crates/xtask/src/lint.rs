//! Formatting and clippy over the whole workspace. The fuzz targets are a workspace of their own and are not covered.

use std::time::Duration;

use crate::run;

/// Checks the format and runs clippy with warnings as errors.
///
/// # Errors
/// A file is not formatted, clippy warns, or one of the two components is not installed.
pub(crate) fn run() -> anyhow::Result<()> {
    run::step("lint");
    run::must(run::cargo().args(["fmt", "--all", "--check"]), Duration::from_secs(120))?;
    run::must(
        run::cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Duration::from_secs(30 * 60),
    )
}
