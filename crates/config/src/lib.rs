//! One TOML file, and `conf.d/*.toml` beside it, to the settings that each part owns.
//!
//! ```text
//! inrush.toml ─┐
//! conf.d/*.toml┴▶ read (keys, units, places) ─▶ check (what only all files together show) ─▶ Config
//! ```
//! Tables of several files merge, arrays of tables append, a key that is set twice is a mistake. Unknown keys are mistakes. All
//! mistakes are told at once, each with file, line, column, key and what may have been meant. Secrets come from files of their own and
//! appear in no message and no dump.
//!
//! The settings belong to the parts; this crate composes them. `schema.rs` lists every key once; reading, [`dump_defaults`]
//! and `docs/configuration.md` all follow it.
#![forbid(unsafe_code)]

mod access;
mod check;
mod dump;
mod error;
mod field;
mod read;
mod recipients;
mod schema;
mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inrush_admin::AdminSettings;
use inrush_gateway::settings::GatewaySettings;
use inrush_gateway::tls::SharedCertificates;
use inrush_log::LogSettings;
use inrush_logging::LoggingSettings;
use inrush_policy::{AccessList, Recipients, Users};
use inrush_proto::Settings as SessionSettings;
use inrush_queue::QueueSettings;
use inrush_relay::settings::RelaySettings;
use inrush_spans::SpanSettings;

pub use access::AccessSources;
pub use dump::{documentation, dump_defaults};
pub use error::{ConfigError, ConfigErrors, Place};
pub use recipients::RecipientSources;
pub use units::Unit;

use read::Reader;
use schema::{AccessTable, DomainTable, ListenerTable, OpentelemetryTable, RouteTable, SniTable, TlsTable};

/// The settings of all parts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The front door.
    pub gateway: GatewaySettings,
    /// The dialog.
    pub session: SessionSettings,
    /// The logs.
    pub log: LogSettings,
    /// Where the logs lie.
    pub data_dir: PathBuf,
    /// Number of this machine, part of every message id.
    pub node: u16,
    /// Ways on for accepted mail; there is no relay without any.
    pub relay: RelaySettings,
    /// When delivery is tried again.
    pub queue: QueueSettings,
    /// The admin server.
    pub admin: AdminSettings,
    /// Log lines.
    pub logging: LoggingSettings,
    /// Spans for OpenTelemetry.
    pub spans: SpanSettings,
    /// Whose mail is taken.
    pub recipients: Arc<Recipients>,
    /// Where that stands, to be read again when the files have changed.
    pub recipient_sources: RecipientSources,
    /// The files that were read, in order; none for the embedded defaults.
    pub files: Vec<PathBuf>,
    /// Whose connections are taken.
    pub access: Arc<AccessList>,
    /// Where that stands.
    pub access_sources: AccessSources,
    /// The certificates of the listeners.
    pub certificates: SharedCertificates,
    /// The users of submission, where there are some.
    pub users: Option<Arc<Users>>,
    /// The file where they stand.
    pub users_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    opentelemetry: OpentelemetryTable,
    foreign_route: String,
    routes: Vec<RouteTable>,
    networks: AccessTable,
    tls: TlsTable,
    sni: Vec<SniTable>,
    listeners: Vec<ListenerTable>,
    domains: Vec<DomainTable>,
}

impl Default for Config {
    /// What runs without a file: SMTP on 127.0.0.1:2525, admin on 127.0.0.1:9925, every recipient into the log, no relay.
    fn default() -> Self {
        Self {
            gateway: GatewaySettings::default(),
            session: SessionSettings {
                hostname: GatewaySettings::default().hostname,
                ..SessionSettings::default()
            },
            log: LogSettings::default(),
            data_dir: PathBuf::from("./inrush-data"),
            node: 0,
            admin: AdminSettings::default(),
            logging: LoggingSettings::default(),
            spans: SpanSettings::default(),
            opentelemetry: OpentelemetryTable::default(),
            recipients: Arc::new(Recipients::catch_all()),
            recipient_sources: RecipientSources::default(),
            files: Vec::new(),
            certificates: SharedCertificates::default(),
            access: AccessTable::default_list(),
            access_sources: AccessSources::default(),
            networks: AccessTable::default(),
            users: None,
            users_file: None,
            token_file: None,
            relay: RelaySettings::default(),
            queue: QueueSettings::default(),
            foreign_route: String::new(),
            routes: Vec::new(),
            tls: TlsTable::default(),
            sni: Vec::new(),
            listeners: vec![ListenerTable::default()],
            domains: vec![DomainTable::default()],
        }
    }
}

impl Config {
    /// Reads `path` and the files `conf.d/*.toml` in the same directory, in the order of their names; without a path gives the
    /// embedded defaults. Also reads the files that the configuration names: recipients, certificates and the token.
    ///
    /// # Errors
    /// All mistakes of all files.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        path.map_or_else(|| Ok(Self::default()), |path| check::finish(files(path)))
    }

    /// The settings of the admin server in the same files, whatever else stands there: for a client of it, which may not be allowed to read
    /// everything that the files name.
    ///
    /// # Errors
    /// The files cannot be read, or what concerns the admin server is wrong.
    pub fn load_admin(path: Option<&Path>) -> Result<AdminSettings, ConfigErrors> {
        path.map_or_else(|| Ok(AdminSettings::default()), |path| check::admin_alone(files(path)))
    }

    /// Reads `text` as if it stood in `file`; nothing beside it is read.
    ///
    /// # Errors
    /// All mistakes.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::default();
        reader.read(file, text);
        reader.config.files = vec![file.to_owned()];
        check::finish(reader)
    }
}

/// Reads `path` and the files beside it.
fn files(path: &Path) -> Reader {
    let mut reader = Reader::default();
    let mut files = vec![path.to_owned()];
    match beside(path) {
        Ok(more) => files.extend(more),
        Err((directory, error)) => {
            reader.error(Place::file(directory), "", format!("cannot be read: {error}"));
        }
    }
    for file in &files {
        match fs::read_to_string(file) {
            Ok(text) => reader.read(file, &text),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                reader.error(Place::file(file), "", "is not valid UTF-8".to_owned());
            }
            Err(error) => reader.error(Place::file(file), "", format!("cannot be read: {error}")),
        }
    }
    reader.config.files = files;
    reader
}

/// The files `conf.d/*.toml` beside `path`, sorted.
fn beside(path: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let directory = path.with_file_name("conf.d");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err((directory, error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|error| (directory, error))?;
    // Editors leave hidden files such as `.#x.toml` behind.
    let visible =
        |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && visible(path));
    paths.sort();
    Ok(paths)
}

/// `path`, relative to the directory of `file`.
fn beside_file(file: &Path, path: &Path) -> PathBuf {
    file.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path))
}

/// Puts mistakes into the order of files and lines.
fn sorted(mut errors: Vec<ConfigError>, files: &[PathBuf]) -> ConfigErrors {
    let rank =
        |error: &ConfigError| files.iter().position(|file| *file == error.place.file).unwrap_or(files.len());
    errors.sort_by_key(|error| (rank(error), error.place.line, error.place.column));
    ConfigErrors(errors)
}
