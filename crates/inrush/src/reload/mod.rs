//! What a running gateway takes over without a restart: certificates, recipients, users and networks, when their files change and on SIGHUP.
//!
//! What is broken is said and changes nothing: the gateway goes on with what it has. Every setting that differs is named, with what it was: those that are
//! in force at once, and those that wait for the next start or upgrade.

mod diff;

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
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::diff::{Effect, changes};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What is taken over, and what it looked like last.
pub(crate) struct Reload {
    path: Option<PathBuf>,
    /// The configuration that the gateway was started with, as text: most settings stay in force until it ends.
    started_with: String,
    /// The configuration that was taken over last, as text.
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

/// Asks for the configuration to be read again, and where to tell what came of it.
pub(crate) type Ask = Option<oneshot::Sender<Reloaded>>;

/// What came of reading the configuration again.
#[derive(Debug, Default)]
pub(crate) struct Reloaded {
    /// Settings that are in force now.
    changed: Vec<String>,
    /// Settings that wait for the next start or upgrade.
    waiting: Vec<String>,
    /// What was read again, whether it has changed or not.
    taken_over: Vec<&'static str>,
    /// What is wrong, and stays as it was.
    errors: Vec<String>,
}

impl Reloaded {
    fn log(&self) {
        for error in &self.errors {
            tracing::error!("{error}");
        }
        for setting in &self.changed {
            tracing::info!(setting, "reloaded: a setting has changed");
        }
        if !self.taken_over.is_empty() {
            tracing::info!("reloaded: {}", self.taken_over.join(", "));
        }
    }

    /// Whether everything was as it should be.
    pub(crate) fn is_complete(&self) -> bool {
        self.errors.is_empty()
    }

    /// As a document.
    pub(crate) fn json(&self) -> Value {
        let Self { changed, waiting, taken_over, errors } = self;
        json!({ "reloaded": taken_over, "changed": changed, "waits_for_start": waiting, "errors": errors })
    }
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
            started_with: config.dump(),
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
    pub(crate) fn start(mut self, running: Running) -> std::io::Result<Sender<Ask>> {
        let (ask, asked) = mpsc::channel::<Ask>();
        thread::Builder::new().name("inrush-reload".to_owned()).spawn(move || {
            loop {
                match asked.recv_timeout(LOOK_INTERVAL) {
                    Ok(ask) => {
                        let reloaded = self.configuration(&running);
                        // Whoever has asked may have gone.
                        if let Some(tell) = ask {
                            let _ = tell.send(reloaded);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => self.files(&running),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(ask)
    }

    /// Reads the configuration again.
    fn configuration(&mut self, running: &Running) -> Reloaded {
        let mut reloaded = Reloaded::default();
        let config = match Config::load(self.path.as_deref()) {
            Ok(config) => config,
            Err(errors) => {
                reloaded.errors.extend(errors.0.iter().map(|error| format!("not reloaded: {error}")));
                reloaded.log();
                return reloaded;
            }
        };
        let dump = config.dump();
        let waiting = changes(&self.started_with, &dump, Effect::AtStart);
        reloaded.waiting.extend(waiting.iter().map(ToString::to_string));
        // Before the log changes its levels.
        for setting in &reloaded.waiting {
            tracing::warn!(setting, "a changed setting waits for the next start");
        }
        // Before the door takes mail for a domain, the relay knows its way.
        let domains_routed = route_domains(running, &config);
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
        let keeps_tls = self.tls.certificate.is_some() && gateway.tls.certificate.is_none();
        if keeps_tls {
            // The listeners that run go on with TLS until then.
            let why = "certificates not reloaded: they are taken away at the next start only";
            reloaded.errors.push(why.to_owned());
        } else {
            self.tls = gateway.tls;
            running.certificates.take_from(&certificates);
            reloaded.taken_over.push("certificates");
        }
        if let Some(log) = inrush_logging::control() {
            log.reload(&logging);
        }
        self.networks = access_sources;
        match &domains_routed {
            Ok(()) => {
                self.sources = recipient_sources;
                running.recipients.replace(recipients);
                reloaded.taken_over.push("recipients");
            }
            Err(error) => {
                reloaded.errors.push(format!("domains not reloaded, the old ones stay: {error}"));
            }
        }
        self.look();
        running.access.replace(access);
        reloaded.taken_over.push("networks");
        match self.read_users(running) {
            Ok(()) => reloaded.taken_over.push("users"),
            Err(error) => reloaded.errors.push(format!("users not reloaded, the old ones stay: {error}")),
        }
        let taken_over = changes(&self.dump, &dump, Effect::Now);
        let is_in_force = |change: &String| {
            !(keeps_tls && change.starts_with("[tls]")
                || domains_routed.is_err() && change.starts_with("[[domain]]"))
        };
        reloaded.changed.extend(taken_over.iter().map(ToString::to_string).filter(is_in_force));
        if reloaded.errors.is_empty() {
            self.dump = dump;
        }
        reloaded.log();
        reloaded
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
        if self.users_seen != users_seen
            && let Err(error) = self.read_users(running)
        {
            tracing::error!("users not reloaded, the old ones stay: {error}");
        }
        if self.networks_seen != networks_seen
            && let Some(access) = taken("networks", self.networks.read().map_err(|errors| errors.0))
        {
            running.access.replace(access);
            tracing::info!("networks reloaded");
        }
    }

    /// Reads the users again. A file with another name waits for the next start.
    fn read_users(&self, running: &Running) -> Result<(), String> {
        if let (Some(path), Some(verifier)) = (&self.users, &running.verifier) {
            let users = verifier.reload(path).map_err(|error| error.to_string())?;
            tracing::info!(users, "users reloaded");
        }
        Ok(())
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

/// Tells the relay which domain takes which route. Where it does not have such a route, all domains have to stay as they are.
fn route_domains(running: &Running, config: &Config) -> Result<(), String> {
    // A reload may be asked for while the gateway is still starting.
    let Some(relay) = running.relay.wait() else { return Ok(()) };
    let routes = &config.relay.routes;
    if routes.is_empty() {
        return Err("[[domain]] has no routes any more".to_owned());
    }
    let domains = config.relay.domains.iter();
    let domains: Vec<_> =
        domains.map(|(domain, route)| (domain.clone(), routes[*route].name.clone())).collect();
    relay.set_domains(&domains).map_err(|error| error.to_string())
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
