//! `inrush log-level`: what a running gateway logs, and changing it.

use std::process::ExitCode;

use serde_json::Value;

use crate::cli::LogLevel;
use crate::output;
use crate::queue::Client;

/// Shows the levels in force, or changes them first.
pub(crate) fn run(arguments: &LogLevel) -> anyhow::Result<ExitCode> {
    let client = Client::of(arguments.target.config.as_deref(), arguments.target.admin)?;
    let answer = match &arguments.levels {
        None => client.get("log-level", &[])?,
        Some(levels) => {
            let mut parameters = vec![("level", levels.to_string())];
            parameters.extend(arguments.time.clone().map(|time| ("for", time)));
            client.post("log-level", &parameters)?
        }
    };
    if arguments.json {
        output::json(&answer)?;
    } else {
        output::line(&shown(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    match answer["for_seconds"].as_f64() {
        None => text("level").to_owned(),
        Some(seconds) => format!("{} for {seconds:.0} s, then {}", text("level"), text("then")),
    }
}
