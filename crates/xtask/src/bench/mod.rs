//! Measurements against other servers. They want a quiet machine and are no part of the tests.

mod compare;
mod cpu;
mod report;
mod servers;

/// Which measurement.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// Postfix's smtp-sink and smtpd and inrush, side by side under the same load
    Compare(compare::Arguments),
}

/// Runs it.
///
/// # Errors
/// A server or client cannot be started, or a run fails.
pub(crate) fn run(task: &Task) -> anyhow::Result<()> {
    match task {
        Task::Compare(arguments) => compare::run(arguments),
    }
}
