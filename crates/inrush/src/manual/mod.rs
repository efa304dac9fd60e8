//! Completions and manual pages, from the definition of the command line.

mod configuration;

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

/// Writes a page of section 1 for the command and one for each command below it, and the page of the configuration file.
pub(crate) fn pages(to: &Path) -> anyhow::Result<ExitCode> {
    let [commands, files] = ["man1", "man5"].map(|section| to.join(section));
    for folder in [&commands, &files] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // Without the command `help`, which explains itself.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &commands).with_context(|| commands.display().to_string())?;
    let file = files.join("inrush.toml.5");
    fs::write(&file, configuration::page(&inrush_config::documentation()))
        .with_context(|| file.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
