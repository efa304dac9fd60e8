//! A scenario of `bench system`: a file in bench/system/.
//!
//! ```toml
//! title = "Reuse, 4 KiB"                                # in the report
//! servers = ["floor", "inrush"]                         # also "inrush, relaxed"
//! messages = 20000                                      # a run
//! rounds = 7
//! load = ["-d", "--sessions", "50", "--length", "4096"] # options of inrush-load
//! memory = true                                         # resident memory as well; false where it is not said
//! tls = true                                            # the servers offer STARTTLS; false where it is not said
//! ```
//! Everything but `memory` and `tls` has to be said; a key that is not known is an error.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::servers::{FLOOR, INRUSH, RELAXED};
use crate::run;

/// Where they are, below the root of the tree.
const FOLDER: &str = "bench/system";

/// Options that the task sets itself.
const OURS: [&str; 8] =
    ["-m", "--messages", "-D", "--duration", "--json", "--rate", "--server-pid", "--warmup"];

/// One of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// The name of its file.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) title: String,
    pub(super) servers: Vec<String>,
    pub(super) messages: u32,
    pub(super) rounds: u32,
    pub(super) load: Vec<String>,
    #[serde(default)]
    pub(super) memory: bool,
    #[serde(default)]
    pub(super) tls: bool,
}

impl Scenario {
    /// From the text of its file.
    ///
    /// # Errors
    /// It is no TOML, has other keys, or says what makes no sense; the message names the file.
    fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let file = || format!("{FOLDER}/{name}.toml");
        let mut scenario: Self = toml::from_str(text).with_context(file)?;
        scenario.name = name.to_owned();
        let Self { servers, messages, rounds, load, .. } = &scenario;
        ensure!(*messages > 0 && *rounds > 0, "{}: messages and rounds are at least 1", file());
        ensure!(!servers.is_empty(), "{}: no servers", file());
        for server in servers {
            ensure!(
                [FLOOR, INRUSH, RELAXED].contains(&server.as_str()),
                "{}: no server {server:?}; there are {FLOOR:?}, {INRUSH:?} and {RELAXED:?}",
                file()
            );
        }
        for option in load {
            let word = option.split('=').next().unwrap_or_default();
            ensure!(!OURS.contains(&word), "{}: {word} is set by the task", file());
        }
        Ok(scenario)
    }
}

/// Those with these names, in this order; all of them by name where none is named.
///
/// # Errors
/// There is none of a name, or it cannot be read.
pub(super) fn read(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let folder = run::root().join(FOLDER);
    let there = names_in(&folder)?;
    for name in names {
        ensure!(there.contains(name), "no scenario {name}; there are: {}", there.join(", "));
    }
    let wanted = if names.is_empty() { &there } else { names };
    wanted
        .iter()
        .map(|name| Scenario::parse(name, &fs::read_to_string(folder.join(format!("{name}.toml")))?))
        .collect()
}

fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title = \"t\"\nservers = [\"floor\"]\nmessages = 1\nrounds = 1\nload = [\"-d\"]\n";

    #[test]
    fn all_that_are_in_the_tree_can_be_read() -> anyhow::Result<()> {
        let all = read(&[])?;
        assert!(all.len() > 10, "{}", all.len());
        assert!(all.iter().all(|scenario| scenario.servers.iter().any(|server| server == INRUSH)));
        assert!(read(&["none".to_owned()]).is_err_and(|error| error.to_string().contains("there are: ")));
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        assert!(Scenario::parse("x", GOOD).is_ok());
        for (from, to, said) in [
            ("messages = 1", "messages = 0", "at least 1"),
            ("[\"floor\"]", "[]", "no servers"),
            ("floor", "flour", "no server \"flour\""),
            ("\"-d\"", "\"--messages=3\"", "--messages is set by the task"),
            ("title", "titel", "bench/system/x.toml"),
        ] {
            let error = Scenario::parse("x", &GOOD.replace(from, to)).expect_err(to);
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
    }
}
