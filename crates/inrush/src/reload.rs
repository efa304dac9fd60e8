//! What a running gateway takes over without a restart: certificates, recipients, users and networks, when their files change and on SIGHUP.
//!
//! What is broken is said and changes nothing: the gateway goes on with what it has. Settings that wait for the next start are named.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use inrush_config::{AccessSources, Config, RecipientSources};
use inrush_gateway::tls::{Certificates, SharedCertificates, TlsSettings};
use inrush_policy::{AccessList, Shared, SharedRecipients, Verifier};
use inrush_relay::Api;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What is taken over, and what it looked like last.
pub(crate) struct Reload {
    path: Option<PathBuf>,
    /// The configuration in force, as text.
    dump: String,
    tls: TlsSettings,
    tls_seen: Vec<Seen>,
    sources: RecipientSources,
    sources_seen: Vec<Seen>,
    networks: AccessSources,
    networks_seen: Vec<Seen>,
    users: Option<PathBuf>,
    users_seen: Vec<Seen>,
}

/// What tells one state of a file from another, also when it was put in its place by a rename or through a symbolic link: the time of
/// the last change of anything about it, its octets, its inode.
type Seen = Option<((i64, i64), u64, u64)>;

/// Where the gateway reads what is taken over.
pub(crate) struct Running {
    pub(crate) recipients: Arc<SharedRecipients>,
    pub(crate) access: Arc<Shared<AccessList>>,
    pub(crate) certificates: SharedCertificates,
    /// Where there are users.
    pub(crate) verifier: Option<Arc<Verifier>>,
    /// The relay, once it is known whether there is one.
    pub(crate) relay: Arc<OnceLock<Option<Api>>>,
}

impl Reload {
    /// For a gateway that runs with `config`, read from `path`.
    pub(crate) fn new(config: &Config, path: Option<&Path>) -> Self {
        let mut reload = Self {
            path: path.map(Path::to_owned),
            dump: config.dump(),
            tls: config.gateway.tls.clone(),
            tls_seen: Vec::new(),
            sources: config.recipient_sources.clone(),
            sources_seen: Vec::new(),
            networks: config.access_sources.clone(),
            networks_seen: Vec::new(),
            users: config.users_file.clone(),
            users_seen: Vec::new(),
        };
        reload.look();
        reload
    }

    /// Starts on a thread of its own; what is sent asks for the configuration to be read again.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(mut self, running: Running) -> std::io::Result<Sender<()>> {
        let (ask, asked) = mpsc::channel();
        thread::Builder::new().name("inrush-reload".to_owned()).spawn(move || {
            loop {
                match asked.recv_timeout(LOOK_INTERVAL) {
                    Ok(()) => self.configuration(&running),
                    Err(RecvTimeoutError::Timeout) => self.files(&running),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(ask)
    }

    /// Reads the configuration again.
    fn configuration(&mut self, running: &Running) {
        let config = match Config::load(self.path.as_deref()) {
            Ok(config) => config,
            Err(errors) => {
                for error in &errors.0 {
                    tracing::error!("not reloaded: {error}");
                }
                return;
            }
        };
        for setting in changed(&self.dump, &config.dump()) {
            tracing::warn!(setting, "a changed setting waits for the next start");
        }
        // Before the door takes mail for a domain, the relay knows its way.
        let takes_domains = route_domains(running, &config);
        let Config {
            gateway,
            logging,
            recipients,
            recipient_sources,
            access,
            access_sources,
            certificates,
            ..
        } = config;
        if self.tls.certificate.is_some() && gateway.tls.certificate.is_none() {
            // The listeners that run go on with TLS until then.
            tracing::warn!("the certificates are taken away at the next start only");
        } else {
            self.tls = gateway.tls;
            running.certificates.take_from(&certificates);
        }
        if let Some(log) = inrush_logging::control() {
            log.reload(&logging);
        }
        self.networks = access_sources;
        if takes_domains {
            self.sources = recipient_sources;
            running.recipients.replace(recipients);
        }
        self.look();
        running.access.replace(access);
        self.read_users(running);
        let what = if takes_domains {
            "certificates, networks, recipients and users"
        } else {
            "certificates, networks and users"
        };
        tracing::info!("reloaded: {what}");
    }

    /// Reads again what has changed.
    fn files(&mut self, running: &Running) {
        let (tls_seen, sources_seen) = (self.tls_seen.clone(), self.sources_seen.clone());
        let (networks_seen, users_seen) = (self.networks_seen.clone(), self.users_seen.clone());
        self.look();
        if self.tls_seen != tls_seen
            && let Some(certificates) = taken("certificates", Certificates::load(&self.tls))
        {
            running.certificates.replace(certificates);
            tracing::info!("certificates reloaded");
        }
        if self.sources_seen != sources_seen
            && let Some(recipients) = taken("recipients", self.sources.read().map_err(|errors| errors.0))
        {
            running.recipients.replace(recipients);
            tracing::info!("recipients reloaded");
        }
        if self.users_seen != users_seen {
            self.read_users(running);
        }
        if self.networks_seen != networks_seen
            && let Some(access) = taken("networks", self.networks.read().map_err(|errors| errors.0))
        {
            running.access.replace(access);
            tracing::info!("networks reloaded");
        }
    }

    /// Reads the users again. A file with another name waits for the next start.
    fn read_users(&self, running: &Running) {
        if let (Some(path), Some(verifier)) = (&self.users, &running.verifier) {
            match verifier.reload(path) {
                Ok(users) => tracing::info!(users, "users reloaded"),
                Err(error) => tracing::error!("users not reloaded, the old ones stay: {error}"),
            }
        }
    }

    /// Notes the state of every file.
    fn look(&mut self) {
        let named = self.tls.named.iter().map(|(_, files)| files);
        let pairs = self.tls.certificate.iter().chain(named);
        let files = pairs.flat_map(|files| [&files.certificate, &files.key]).chain(&self.tls.client_ca);
        self.tls_seen = files.map(|path| state(path)).collect();
        self.sources_seen = self.sources.files().map(state).collect();
        self.networks_seen = self.networks.files().map(state).collect();
        self.users_seen = self.users.iter().map(|path| state(path)).collect();
    }
}

/// Tells the relay which domain takes which route; false when it does not have such a route, and all domains have to stay as they are.
fn route_domains(running: &Running, config: &Config) -> bool {
    // A reload may be asked for while the gateway is still starting.
    let Some(relay) = running.relay.wait() else { return true };
    let routes = &config.relay.routes;
    let domains = config.relay.domains.iter();
    let domains: Vec<_> =
        domains.map(|(domain, route)| (domain.clone(), routes[*route].name.clone())).collect();
    let told = if routes.is_empty() {
        Err("[[domain]] has no routes any more".to_owned())
    } else {
        relay.set_domains(&domains).map_err(|error| error.to_string())
    };
    if let Err(error) = &told {
        tracing::error!("domains not reloaded, the old ones stay: {error}");
    }
    told.is_ok()
}

/// What was read, or `None` with a line for each mistake.
fn taken<T, E: Display>(what: &str, read: Result<T, Vec<E>>) -> Option<T> {
    read.map_err(|errors| {
        for error in &errors {
            tracing::error!("{what} not reloaded, the old ones stay: {error}");
        }
    })
    .ok()
}

fn state(path: &Path) -> Seen {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some(((found.ctime(), found.ctime_nsec()), found.len(), found.ino()))
}

/// The settings that differ between two dumps and are not taken over while the gateway runs.
fn changed(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (settings(before), settings(after));
    let differs = |one: &[String], other: &[String]| {
        one.iter().filter(|setting| !other.contains(setting)).cloned().collect::<Vec<_>>()
    };
    let mut changed = differs(&after, &before);
    let key = |setting: &String| setting.split(" = ").next().unwrap_or_default().to_owned();
    let keys: Vec<String> = after.iter().map(key).collect();
    // What was taken out.
    changed.extend(differs(&before, &after).into_iter().filter(|setting| !keys.contains(&key(setting))));
    changed
}

/// The lines of a dump that wait for a restart, each behind the name of its table.
fn settings(dump: &str) -> Vec<String> {
    const TAKEN_OVER: [&str; 4] = ["[access]", "[tls]", "[[tls.sni]]", "[[domain]]"];
    // The log stays where it is.
    let stays = |line: &str| line.starts_with("to = ") || line.starts_with("journal_socket = ");
    let mut table = String::new();
    let mut settings = Vec::new();
    for line in dump.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            line.clone_into(&mut table);
        } else if table == "[[listener]]" && line.starts_with("name = ") {
            // Each listener has settings of its own.
            table = format!("[[listener]] {}", line.trim_start_matches("name = "));
            settings.push(table.clone());
        } else if !TAKEN_OVER.contains(&table.as_str()) && (table != "[logging]" || stays(line)) {
            settings.push(format!("{table} {line}").trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let before = "hostname = \"a\"\n\n[limits]\nerrors_max = 10\n\n[tls]\nkey = \"k\"\n";
        assert!(changed(before, before).is_empty());
        let after = "hostname = \"b\"\n\n[limits]\nerrors_max = 20\n\n[tls]\nkey = \"l\"\n";
        assert_eq!(changed(before, after), ["hostname = \"b\"", "[limits] errors_max = 20"]);
        let two = |one: &str, other: &str| {
            let listener =
                |name: &str, tls: &str| format!("[[listener]]\nname = \"{name}\"\ntls = \"{tls}\"\n");
            listener("a", one) + &listener("b", other)
        };
        assert_eq!(
            changed(&two("off", "starttls"), &two("starttls", "off")),
            ["[[listener]] \"a\" tls = \"starttls\"", "[[listener]] \"b\" tls = \"off\""]
        );
        let logging = |rest: &str| format!("[logging]\nformat = \"auto\"\n{rest}");
        assert_eq!(
            changed(&logging("to = \"stderr\"\n"), "[logging]\nformat = \"json\"\nto = \"journald\"\n"),
            ["[logging] to = \"journald\""]
        );
        let less = "hostname = \"a\"\n\n[tls]\nkey = \"k\"\n";
        assert_eq!(changed(before, less), ["[limits] errors_max = 10"]);
    }
}
