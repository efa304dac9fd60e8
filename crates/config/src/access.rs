//! Whose connections are taken: from `[access]` and the files that it names to the list that the cores ask.

use std::fs;
use std::path::{Path, PathBuf};

use inrush_policy::{AccessList, Networks};

use crate::beside_file;
use crate::error::{ConfigError, ConfigErrors, Place};

/// The networks and where they stand; the files can be read again while the gateway runs.
#[derive(Clone, Debug, Default)]
pub struct AccessSources {
    allow: Source,
    deny: Source,
}

/// One of the two lists.
#[derive(Clone, Debug, Default)]
struct Source {
    key: &'static str,
    place: Place,
    entries: Vec<Entry>,
}

/// One of its entries.
#[derive(Clone, Debug)]
enum Entry {
    Network(String),
    File(PathBuf),
}

impl AccessSources {
    /// Takes the lists as they were written, each with its place.
    pub(crate) fn of(allow: (&[String], Place), deny: (&[String], Place)) -> Self {
        let source = |key, (entries, place): (&[String], Place)| {
            let entry = |text: &String| match text.strip_prefix("file:") {
                Some(path) => Entry::File(beside_file(&place.file, Path::new(path))),
                None => Entry::Network(text.clone()),
            };
            Source { key, entries: entries.iter().map(entry).collect(), place }
        };
        Self { allow: source("access.allow", allow), deny: source("access.deny", deny) }
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.allow.entries.iter().chain(&self.deny.entries).filter_map(|entry| match entry {
            Entry::File(path) => Some(path.as_path()),
            Entry::Network(_) => None,
        })
    }

    /// Reads all files.
    ///
    /// # Errors
    /// All mistakes, those in files with file and line.
    pub fn read(&self) -> Result<AccessList, ConfigErrors> {
        let mut errors = Vec::new();
        let allow = self.allow.read(&mut errors);
        let deny = self.deny.read(&mut errors);
        if errors.is_empty() { Ok(AccessList::new(&allow, &deny)) } else { Err(ConfigErrors(errors)) }
    }
}

impl Source {
    fn read(&self, errors: &mut Vec<ConfigError>) -> Networks {
        let mut networks = Networks::new();
        let mut note = |place: &Place, key: &str, what: String| {
            errors.push(ConfigError { place: place.clone(), key: key.to_owned(), what });
        };
        for entry in &self.entries {
            match entry {
                Entry::Network(text) => {
                    if let Err(error) = networks.add(text) {
                        note(&self.place, self.key, format!("{text:?} {error}"));
                    }
                }
                Entry::File(path) => match fs::read(path) {
                    Err(error) => {
                        note(&self.place, self.key, format!("{} cannot be read: {error}", path.display()));
                    }
                    Ok(text) => {
                        for error in networks.add_file(&text).err().into_iter().flatten() {
                            let place = Place { file: path.clone(), line: error.line, column: 0 };
                            note(&place, "", error.what.to_string());
                        }
                    }
                },
            }
        }
        networks
    }
}
