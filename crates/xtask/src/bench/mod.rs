//! Measurements against other servers.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// Postfix smtp-sink, Postfix smtpd and inrush, side by side
    Compare,
}
pub(crate) fn run(_task: &Task) -> anyhow::Result<()> {
    Ok(())
}
