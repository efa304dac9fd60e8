//! TLS: settings, certificates that can be replaced while sessions run, and what one connection needs.
//!
//! No session tickets: mail servers hardly resume, some of their clients have broken over them, and a session without them is
//! forgotten when it ends (RFC 5077, RFC 8446 §2.2).

mod certificates;
mod client;
mod connection;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

pub use certificates::{CertificateError, CertificateFiles};
pub(crate) use connection::Agreed;
pub use connection::Tls;

use certificates::ByName;
use client::{Anyone, Clients};

/// `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate for clients that ask for no name or for one that is not among `named`.
    pub certificate: Option<CertificateFiles>,
    /// Certificates by server name; `*.` stands for one label.
    pub named: Vec<(String, CertificateFiles)>,
    /// Authorities, in PEM, under which names of client certificates are believed.
    pub client_ca: Option<PathBuf>,
}

/// Certificates, checked and ready.
pub struct Certificates {
    plain: Arc<ServerConfig>,
    /// The same with the question for the client's certificate.
    asking: Option<(Arc<ServerConfig>, Clients)>,
    expires: i64,
}

impl Certificates {
    /// Reads and checks what `settings` name; `None` when they name no certificate.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(settings: &TlsSettings) -> Result<Option<Self>, Vec<CertificateError>> {
        let Some(files) = &settings.certificate else { return Ok(None) };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut errors = Vec::new();
        let mut note = |error| errors.push(error);
        let default = certificates::load(files, &provider).map_err(&mut note).ok();
        let mut named = Vec::new();
        for (name, files) in &settings.named {
            if let Ok(loaded) = certificates::load(files, &provider).map_err(&mut note) {
                named.push((name, files, loaded));
            }
        }
        let clients = settings.client_ca.as_ref().map(|path| read_clients(path, &provider));
        let clients = clients.transpose().map_err(&mut note).ok().flatten();
        let Some(default) = default else { return Err(errors) };
        let mut expires = default.expires;
        let mut by_name = ByName::new(default.key);
        for (name, files, loaded) in named {
            expires = expires.min(loaded.expires);
            if let Err(error) = by_name.add(name, files, loaded.key) {
                errors.push(error);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let by_name = Arc::new(by_name);
        let asking = clients.map(|clients| {
            let anyone = Anyone::new(&clients);
            (Arc::new(config(&provider, Arc::clone(&by_name), Some(anyone))), clients)
        });
        Ok(Some(Self { plain: Arc::new(config(&provider, by_name, None)), asking, expires }))
    }

    /// When the first of the certificates expires, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// A connection on which the client speaks first; `ask` for its certificate.
    ///
    /// # Errors
    /// rustls has no state for it, which our settings do not bring about.
    pub fn accept(&self, ask: bool) -> Result<Tls, rustls::Error> {
        let config = match &self.asking {
            Some((asking, _)) if ask => asking,
            _ => &self.plain,
        };
        Tls::accept(Arc::clone(config))
    }

    /// What was agreed on with a client, and who it is.
    pub(crate) fn agreed(&self, tls: &Tls) -> Agreed {
        let client = self.asking.as_ref().and_then(|(_, clients)| clients.name(tls.client_certificates()));
        tls.agreed(client)
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("expires", &self.expires).finish_non_exhaustive()
    }
}

fn read_clients(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Clients, CertificateError> {
    let refuse = |what: String| CertificateError::Certificate { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    for certificate in certificates::read_certificates(path)? {
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    Clients::new(roots, provider).map_err(refuse)
}

fn config(provider: &Arc<CryptoProvider>, by_name: Arc<ByName>, clients: Option<Anyone>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    #[expect(clippy::expect_used, reason = "the provider has suites of both versions")]
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).expect("both versions are there");
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(by_name);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The certificates in force, for all cores and for whoever replaces them.
#[derive(Clone, Debug, Default)]
pub struct SharedCertificates(Arc<ArcSwapOption<Certificates>>);

impl SharedCertificates {
    /// Begins with `certificates`.
    #[must_use]
    pub fn new(certificates: Option<Certificates>) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(certificates)))
    }

    /// Connections from now on are shown `certificates`; those that are open go on with theirs.
    pub fn replace(&self, certificates: Option<Certificates>) {
        self.0.store(certificates.map(Arc::new));
    }

    /// Connections from now on are shown what `other` has.
    pub fn take_from(&self, other: &Self) {
        self.0.store(other.get());
    }

    /// Those in force.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Certificates>> {
        self.0.load_full()
    }
}
