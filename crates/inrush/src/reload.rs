//! What a running gateway takes over without a restart: certificates, when their files change, and the configuration on SIGHUP.
//!
//! What is broken is said and changes nothing: the gateway goes on with what it has.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use inrush_config::Config;
use inrush_gateway::tls::{Certificates, SharedCertificates, TlsSettings};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Takes over what changes, on a thread of its own, until the process ends.
pub(crate) struct Reload {
    /// The configuration in force, as text.
    dump: String,
    path: Option<PathBuf>,
    tls: TlsSettings,
    certificates: SharedCertificates,
    seen: Vec<Seen>,
}

/// What tells one state of a file from another, also when it was put in its place by a rename or through a symbolic link.
type Seen = Option<(SystemTime, u64, u64)>;

impl Reload {
    /// For the gateway that runs with `config`, read from `path`.
    pub(crate) fn new(config: &Config, path: Option<&Path>) -> Self {
        let tls = config.gateway.tls.clone();
        let seen = look(&tls);
        Self {
            dump: config.dump(),
            path: path.map(Path::to_owned),
            tls,
            certificates: config.certificates.clone(),
            seen,
        }
    }

    /// Starts; what is sent asks for the configuration to be read again.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(mut self) -> std::io::Result<Sender<()>> {
        let (ask, asked) = mpsc::channel();
        thread::Builder::new().name("inrush-reload".to_owned()).spawn(move || {
            loop {
                match asked.recv_timeout(LOOK_INTERVAL) {
                    Ok(()) => self.configuration(),
                    Err(RecvTimeoutError::Timeout) => self.files(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(ask)
    }

    /// Reads the configuration again.
    fn configuration(&mut self) {
        let config = match Config::load(self.path.as_deref()) {
            Ok(config) => config,
            Err(errors) => {
                for error in &errors.0 {
                    tracing::error!("not reloaded: {error}");
                }
                return;
            }
        };
        let dump = config.dump();
        for key in changed(&self.dump, &dump) {
            tracing::warn!(key, "a changed setting waits for the next start");
        }
        self.seen = look(&config.gateway.tls);
        self.tls = config.gateway.tls.clone();
        self.certificates.take_from(&config.certificates);
        tracing::info!("reloaded: certificates");
    }

    /// Reads the certificates again if one of their files has changed.
    fn files(&mut self) {
        let seen = look(&self.tls);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match Certificates::load(&self.tls) {
            Ok(certificates) => {
                self.certificates.replace(certificates);
                tracing::info!("certificates reloaded");
            }
            Err(errors) => {
                for error in errors {
                    tracing::error!("certificates not reloaded, the old ones stay: {error}");
                }
            }
        }
    }
}

/// The state of every file of `tls`.
fn look(tls: &TlsSettings) -> Vec<Seen> {
    use std::os::unix::fs::MetadataExt as _;
    let state = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    let named = tls.named.iter().map(|(_, files)| files);
    let pairs = tls.certificate.iter().chain(named);
    let files = pairs.flat_map(|files| [&files.certificate, &files.key]);
    files.chain(&tls.client_ca).map(|path| state(path)).collect()
}

/// The settings that differ between two dumps and are not taken over while the gateway runs.
fn changed(before: &str, after: &str) -> Vec<String> {
    let settings = |dump: &str| {
        let mut table = String::new();
        let mut settings = Vec::new();
        for line in dump.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                table = line.to_owned();
                continue;
            }
            settings.push((table.clone(), line.to_owned()));
        }
        settings
    };
    let (before, after) = (settings(before), settings(after));
    let differs = |one: &[(String, String)], other: &[(String, String)]| {
        let missing = one.iter().filter(|setting| !other.contains(setting));
        let waits = missing.filter(|(table, _)| !matches!(table.as_str(), "[tls]" | "[[tls.sni]]"));
        waits.map(|(table, line)| format!("{table} {line}").trim().to_owned()).collect::<Vec<_>>()
    };
    let mut changed = differs(&after, &before);
    if changed.is_empty() {
        // Something was taken out.
        changed = differs(&before, &after);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let before = "hostname = \"a\"\n\n[limits]\nerrors_max = 10\n\n[tls]\nkey = \"k\"\n";
        assert!(changed(before, before).is_empty());
        let after = "hostname = \"a\"\n\n[limits]\nerrors_max = 20\n\n[tls]\nkey = \"l\"\n";
        assert_eq!(changed(before, after), ["[limits] errors_max = 20"]);
        let less = "hostname = \"a\"\n\n[tls]\nkey = \"k\"\n";
        assert_eq!(changed(before, less), ["[limits] errors_max = 10"]);
    }
}
