//! The options of a run as data: what a report shows and a comparison compares, defaults included.
//!
//! Taken from the definition of the command line itself, so that no option can be forgotten here.

use clap::ArgMatches;
use clap::CommandFactory as _;
use serde_json::{Map, Value};

use crate::options::Cli;

/// Every option of the subcommand `name` with its value; several values of one option are joined by commas. Options that were not given and
/// have no default are left out.
#[must_use]
pub fn settings(matches: &ArgMatches, name: &str) -> Map<String, Value> {
    let mut settings = Map::new();
    let command = Cli::command();
    let (Some(command), Some(matches)) = (command.find_subcommand(name), matches.subcommand_matches(name))
    else {
        return settings;
    };
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        // `--help` and the like have no value of their own.
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        settings.insert(argument.get_long().unwrap_or(id).to_owned(), Value::String(values.join(",")));
    }
    settings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn given_and_default_values() {
        let words = [
            "inrush-load",
            "run",
            "-m",
            "5",
            "-d",
            "--server-pid",
            "1",
            "--server-pid",
            "2",
            "[::1]:25,127.0.0.1:25",
        ];
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let settings = settings(&matches, "run");
        for (name, value) in [
            ("messages", "5"),
            ("sessions", "1"),
            ("dont-disconnect", "true"),
            ("lmtp", "false"),
            ("server-pid", "1,2"),
            ("target", "[::1]:25,127.0.0.1:25"),
        ] {
            assert_eq!(settings[name], value, "{name}");
        }
        assert!(!settings.contains_key("duration") && !settings.contains_key("help"));
    }
}
