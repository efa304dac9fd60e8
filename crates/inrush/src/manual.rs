//! Completions and manual pages, from the definition of the command line.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints what a shell needs to complete our commands and options.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inrush", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page of section 1 for the command and one for each command below it.
pub(crate) fn pages(to: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    // Without the command `help`, which explains itself.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, to).with_context(|| to.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
