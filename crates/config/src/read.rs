//! From the text of one file into the settings. All mistakes are collected; what is right is taken.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Config;
use crate::error::{ConfigError, Place, nearest};
use crate::schema::{
    DOMAIN, DomainTable, LISTENER, ListenerTable, ROUTE, RouteTable, Row, SNI, SniTable, TABLES,
};

/// Where keys stand, for the checks that come after reading.
#[derive(Debug, Default)]
pub(crate) struct Places(HashMap<String, Place>);

impl Places {
    /// The place of the first of `keys` that was written.
    pub(crate) fn find(&self, keys: &[&str]) -> Option<&Place> {
        keys.iter().find_map(|key| self.0.get(*key))
    }
}

/// Reads files one after another into one configuration.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) config: Config,
    pub(crate) listeners: Vec<Entry<ListenerTable>>,
    pub(crate) domains: Vec<Entry<DomainTable>>,
    pub(crate) sni: Vec<Entry<SniTable>>,
    pub(crate) routes: Vec<Entry<RouteTable>>,
    /// Name and route of each domain, and where the route stands.
    pub(crate) domain_routes: Vec<(String, String, Place)>,
    pub(crate) places: Places,
    pub(crate) errors: Vec<ConfigError>,
}

/// An element of an array of tables.
pub(crate) struct Entry<T> {
    pub(crate) table: T,
    /// Places of its keys; the empty key is the table itself.
    pub(crate) places: HashMap<String, Place>,
}

impl<T> Entry<T> {
    /// The place of `key`, or of the table when the key is not written.
    pub(crate) fn place(&self, key: &str) -> Place {
        self.places
            .get(key)
            .or_else(|| self.places.get(""))
            .cloned()
            .unwrap_or_else(|| Place::file(PathBuf::new()))
    }
}

impl Reader {
    /// Takes `text` of `file`.
    pub(crate) fn read(&mut self, file: &Path, text: &str) {
        let source = Source { file, text };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = source.place(&error.span().unwrap_or(0..0));
            // The words of the parser only: its full form repeats the line, which may hold what nobody should see.
            self.errors.push(ConfigError { place, key: String::new(), what: error.message().to_owned() });
        }
        if !errors.is_empty() {
            return;
        }
        for (key, value) in document.get_ref() {
            let name = key.get_ref().as_ref();
            match (name, value.get_ref()) {
                ("listener", DeValue::Array(array)) => {
                    for element in array {
                        let entry = self.entry(&source, "listener", LISTENER, element);
                        self.listeners.extend(entry);
                    }
                }
                ("domain", DeValue::Array(array)) => {
                    for element in array {
                        let entry = self.entry(&source, "domain", DOMAIN, element);
                        self.domains.extend(entry);
                    }
                }
                ("route", DeValue::Array(array)) => {
                    for element in array {
                        let entry = self.entry(&source, "route", ROUTE, element);
                        self.routes.extend(entry);
                    }
                }
                ("listener" | "domain" | "route", _) => {
                    self.error(
                        source.place(&key.span()),
                        name,
                        format!("expected [[{name}]], a table that may be repeated"),
                    );
                }
                _ => self.top(&source, key, value),
            }
        }
    }

    /// A key at the top of a file: one of the gateway, or a table.
    fn top(&mut self, source: &Source<'_>, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        if let Some(table) = TABLES.iter().find(|table| !table.name.is_empty() && table.name == name) {
            match value.get_ref() {
                DeValue::Table(entries) => {
                    for (key, value) in entries {
                        if let ("tls", "sni", DeValue::Array(array)) =
                            (table.name, key.get_ref().as_ref(), value.get_ref())
                        {
                            for element in array {
                                let entry = self.entry(source, "tls.sni", SNI, element);
                                self.sni.extend(entry);
                            }
                            continue;
                        }
                        if (table.name, key.get_ref().as_ref()) == ("tls", "sni") {
                            let what = "expected [[tls.sni]], a table that may be repeated";
                            self.error(source.place(&key.span()), "tls.sni", what.to_owned());
                            continue;
                        }
                        self.setting(source, table.name, table.rows, key, value);
                    }
                }
                _ => self.error(source.place(&key.span()), name, format!("expected the table [{name}]")),
            }
        } else {
            self.setting(source, "", TABLES[0].rows, key, value);
        }
    }

    /// A key of a table that is there once.
    fn setting(
        &mut self,
        source: &Source<'_>,
        table: &str,
        rows: &[Row<Config>],
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let name = path(table, key.get_ref().as_ref());
        let place = source.place(&key.span());
        let Some(row) = rows.iter().find(|row| row.key == key.get_ref().as_ref()) else {
            let what = unknown(table, key.get_ref().as_ref(), rows.iter().map(|row| row.key));
            return self.error(place, &name, what);
        };
        if let Some(first) = self.places.0.get(&name) {
            let what = format!("set twice, first at {first}");
            return self.error(place, &name, what);
        }
        self.places.0.insert(name.clone(), place);
        if let Err(what) = (row.field)(&mut self.config).assign(value) {
            self.error(source.place(&value.span()), &name, what);
        }
    }

    /// An element of an array of tables.
    fn entry<T: Default>(
        &mut self,
        source: &Source<'_>,
        name: &str,
        rows: &[Row<T>],
        element: &Spanned<DeValue<'_>>,
    ) -> Option<Entry<T>> {
        let DeValue::Table(keys) = element.get_ref() else {
            self.error(
                source.place(&element.span()),
                name,
                format!("expected [[{name}]], a table that may be repeated"),
            );
            return None;
        };
        let mut entry = Entry { table: T::default(), places: HashMap::new() };
        entry.places.insert(String::new(), source.place(&element.span()));
        for (key, value) in keys {
            let place = source.place(&key.span());
            let key = key.get_ref().as_ref();
            let Some(row) = rows.iter().find(|row| row.key == key) else {
                self.error(place, &path(name, key), unknown(name, key, rows.iter().map(|row| row.key)));
                continue;
            };
            entry.places.insert(key.to_owned(), source.place(&value.span()));
            if let Err(what) = (row.field)(&mut entry.table).assign(value) {
                self.error(source.place(&value.span()), &path(name, key), what);
            }
        }
        if !entry.places.contains_key("name") {
            self.error(source.place(&element.span()), name, "has no name".to_owned());
        }
        Some(entry)
    }

    /// Notes a mistake.
    pub(crate) fn error(&mut self, place: Place, key: &str, what: String) {
        self.errors.push(ConfigError { place, key: key.to_owned(), what });
    }
}

fn path(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// What to say about a key that nobody knows in its table.
fn unknown<'a>(table: &str, key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let elsewhere =
        TABLES.iter().find(|other| other.name != table && other.rows.iter().any(|row| row.key == key));
    let tables = TABLES
        .iter()
        .map(|table| table.name)
        .chain(["listener", "domain", "route"])
        .filter(|name| !name.is_empty());
    let meant = match elsewhere {
        Some(other) if other.name.is_empty() => Some(format!("{key:?} at the top of the file")),
        Some(other) => Some(format!("{key:?} in [{}]", other.name)),
        None if table.is_empty() => nearest(key, known.chain(tables)).map(|meant| format!("{meant:?}")),
        None => nearest(key, known).map(|meant| format!("{meant:?}")),
    };
    let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    format!("unknown key{meant}")
}

struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    /// Line and column of the start of `span`.
    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
