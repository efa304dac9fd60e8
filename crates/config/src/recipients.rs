//! Whose mail is taken: from the `[[domain]]` tables and the files that they name to the table that the cores ask.
//!
//! The files can be read again while the gateway runs: [`RecipientSources::read`] gives a whole new table or all mistakes, and leaves
//! it to the caller to put the table in the place of the old one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use inrush_policy::{AddressList, DomainError, ListSettings, Recipients};

use crate::error::{ConfigError, ConfigErrors, Place};
use crate::read::{Entry, Reader};
use crate::schema::DomainTable;
use crate::{beside_file, sorted};

/// Octets of one file of recipients: tens of millions of addresses, and an end to what a path may lead to.
const FILE_OCTETS_MAX: u64 = 1 << 30;

/// The domains and where their recipients stand.
#[derive(Clone, Debug, Default)]
pub struct RecipientSources {
    domains: Vec<Source>,
}

/// One domain.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    name_place: Place,
    /// `None` takes everybody.
    file: Option<PathBuf>,
    file_place: Place,
    settings: ListSettings,
}

impl RecipientSources {
    /// Takes the `[[domain]]` tables; what is wrong with them goes to `reader`.
    pub(crate) fn of(entries: &[Entry<DomainTable>], reader: &mut Reader) -> Self {
        let domains = entries.iter().filter(|entry| entry.places.contains_key("name"));
        Self { domains: domains.filter_map(|entry| source(entry, reader)).collect() }
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.domains.iter().filter_map(|source| source.file.as_deref())
    }

    /// Reads all files. Without any domain everybody gets mail. Takes seconds for millions of addresses: not for a core's thread.
    ///
    /// # Errors
    /// All mistakes of all files, each with file and line, at most 20 of each file.
    pub fn read(&self) -> Result<Recipients, ConfigErrors> {
        if self.domains.is_empty() {
            return Ok(Recipients::catch_all());
        }
        let mut recipients = Recipients::new();
        let mut errors = Vec::new();
        for source in &self.domains {
            match source.list() {
                Ok(list) => errors.extend(source.add(list, &mut recipients).err()),
                Err(more) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(recipients) } else { Err(sorted(errors, &[])) }
    }
}

impl Source {
    fn list(&self) -> Result<Option<AddressList>, Vec<ConfigError>> {
        let Some(path) = &self.file else { return Ok(None) };
        let text = octets(path).map_err(|error| {
            let what = format!("{} cannot be read: {error}", path.display());
            vec![ConfigError { place: self.file_place.clone(), key: "domain.recipients".to_owned(), what }]
        })?;
        AddressList::parse(&text, &self.name, self.settings).map(Some).map_err(|errors| {
            let told = errors.into_iter().map(|error| ConfigError {
                place: Place { file: path.clone(), line: error.line, column: 0 },
                key: String::new(),
                what: format!("{} (recipients of {:?})", error.what, self.name),
            });
            told.collect()
        })
    }

    fn add(&self, list: Option<AddressList>, recipients: &mut Recipients) -> Result<(), ConfigError> {
        let name = &self.name;
        let what = match recipients.add(name, list) {
            Ok(()) => return Ok(()),
            Err(DomainError::Invalid) => format!("{name:?} is not a domain name"),
            Err(DomainError::Twice) => format!("there is a domain {name:?} already"),
            Err(DomainError::ListedWildcard) => "\"*\" cannot have a list: name each domain".to_owned(),
        };
        Err(ConfigError { place: self.name_place.clone(), key: "domain.name".to_owned(), what })
    }
}

/// The source that `entry` describes.
fn source(entry: &Entry<DomainTable>, reader: &mut Reader) -> Option<Source> {
    let DomainTable { name, recipients, case_sensitive, subaddress_separator, .. } = &entry.table;
    let file_place = entry.place("recipients");
    let separator = separator(subaddress_separator);
    if let Err(what) = separator {
        reader.error(entry.place("subaddress_separator"), "domain.subaddress_separator", what.to_owned());
    }
    let file = match recipients.strip_prefix("file:").filter(|path| !path.is_empty()) {
        Some(path) => Some(beside_file(&file_place.file, Path::new(path))),
        None if recipients == "any" => None,
        None => {
            reader.error(file_place, "domain.recipients", "expected \"any\" or \"file:PATH\"".to_owned());
            return None;
        }
    };
    let settings =
        ListSettings { case_sensitive: *case_sensitive, subaddress_separator: separator.ok().flatten() };
    Some(Source { name: name.clone(), name_place: entry.place("name"), file, file_place, settings })
}

/// One character that may stand in a local part without quotes and is part of no name and no route, or none.
fn separator(text: &str) -> Result<Option<char>, &'static str> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Ok(None),
        (Some(c), None) if "+-=_.#$&'*/?^`{|}~".contains(c) => Ok(Some(c)),
        _ => Err("expected one character such as \"+\" or \"-\", or \"\" for no subaddresses"),
    }
}

fn octets(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut octets = Vec::with_capacity(file.metadata().map_or(0, |data| {
        // One more, so that reading ends without growing once again.
        usize::try_from(data.len().min(FILE_OCTETS_MAX)).unwrap_or(0) + 1
    }));
    if file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)? as u64 > FILE_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 GiB"));
    }
    Ok(octets)
}
