//! Completions and manual pages, from the definition of the command line.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::options::Cli;

/// Prints what a shell needs to complete our commands and options.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(shell: Shell) -> Result<(), String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inrush-load", &mut text);
    match io::stdout().lock().write_all(&text) {
        // Whoever closed it has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// Writes a page of section 1 for the command and one for each command below it.
///
/// # Errors
/// The directory cannot be made, or a page cannot be written.
pub fn pages(to: &Path) -> Result<(), String> {
    // Without the command `help`, which explains itself.
    let command = Cli::command().disable_help_subcommand(true);
    let to = to.join("man1");
    let written = fs::create_dir_all(&to).and_then(|()| clap_mangen::generate_to(command, &to));
    written.map_err(|error| format!("{}: {error}", to.display()))
}
