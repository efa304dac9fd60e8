//! `inrush check` and `inrush config`.

use std::process::ExitCode;

use inrush_config::Config;

use crate::cli::{ConfigCommand, ConfigFile};
use crate::output;

/// Reads the config and all files that it names.
pub(crate) fn check(arguments: &ConfigFile) -> anyhow::Result<ExitCode> {
    Config::load(arguments.config.as_deref())?;
    output::line(&match &arguments.config {
        Some(path) => format!("{}: ok", path.display()),
        None => "built-in defaults: ok".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command of `inrush config`.
pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Dump { file, defaults } = command;
    let text =
        if *defaults { inrush_config::dump_defaults() } else { Config::load(file.config.as_deref())?.dump() };
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
