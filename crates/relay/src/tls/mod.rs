//! TLS as a client, from `220 Ready to start TLS` to the first octet that may carry mail.
//!
//! ```text
//!   off             no TLS; STARTTLS is not said
//!   opportunistic   TLS 1.2 or 1.3 with whatever certificate: keeps listeners out, but not those who answer in place of the server
//!   required        the same, and an authority that is known here vouches that the server has this name or address
//! ```
//! Signatures of the handshake are checked in any case: the server has the key of the certificate that it shows. The name is that of the
//! mail host (RFC 5321 §5.1) or of the next hop that is set; only alternative names count, a common name does not. An address as next hop
//! needs an address among them. For a mail host that was found through an unsigned MX record, `required` is as good as that record (RFC
//! 7672 §1.3.1): DANE and MTA-STS will come as further kinds of [`ServerCheck`].
//!
//! Sessions are resumed, each kind of check on its own, so that a session with somebody unknown never passes for a verified one. No data is
//! sent before the handshake is over (RFC 8446 §2.3): mail must not be sent twice.
//!
//! Suites without forward secrecy are gone, and with them some servers that have nothing newer than RSA key exchange. What to do when the
//! handshake fails is the caller's to decide; so is how long it may take. What the server has sent in the clear behind its `220` must be
//! thrown away before (RFC 3207 §4.2).
//!
//! Standards: RFC 3207 (STARTTLS), RFC 7435 (opportunistic security), RFC 8446 and RFC 5246 (TLS), RFC 9525 (names), RFC 6066 §3 (SNI).

mod anyone;
mod error;
mod files;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use error::{CertificateProblem, TlsError, TlsSettingsError};

use anyone::Anyone;

/// Whether connections to a next hop are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Never.
    Off,
    /// Where the server offers it, to whoever it is.
    #[default]
    Opportunistic,
    /// Always, and only to the server that is meant.
    Required,
}

impl TlsPolicy {
    /// What is asked of the server; `None` = TLS is not begun.
    #[must_use]
    pub fn check(self) -> Option<ServerCheck> {
        match self {
            Self::Off => None,
            Self::Opportunistic => Some(ServerCheck::Anyone),
            Self::Required => Some(ServerCheck::Trusted),
        }
    }
}

/// What a server must show.
///
/// DANE (TLSA records in place of authorities) and MTA-STS (other names) will be further variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerCheck {
    /// Any certificate.
    Anyone,
    /// A certificate for the name, from an authority that is known here.
    Trusted,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those of the authorities up to but without the root.
    pub certificate: PathBuf,
    /// PKCS #8, PKCS #1 or SEC 1; not encrypted.
    pub key: PathBuf,
}

/// `[relay.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClientSettings {
    /// Authorities, in PEM, in place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// What is shown to servers that ask who we are.
    pub certificate: Option<CertificateFiles>,
}

/// What was agreed on with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// Name of the cipher suite in the registry of IANA.
    pub cipher: String,
    /// Whether the server is the one that was meant.
    pub verified: bool,
}

/// Makes TLS connections. Clones share sessions.
#[derive(Clone)]
pub struct ClientTls {
    anyone: Arc<ClientConfig>,
    /// `None` without any authority.
    trusted: Option<Arc<ClientConfig>>,
    authorities: usize,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the authorities and our own certificate, once.
    ///
    /// A system without authorities is no error, since opportunistic TLS needs none: see [`authorities`](Self::authorities).
    ///
    /// # Errors
    /// A file that is named cannot be used.
    pub fn new(settings: &TlsClientSettings) -> Result<Self, TlsSettingsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match &settings.ca_file {
            Some(path) => files::authorities(path)?,
            None => system_authorities(),
        };
        let authorities = roots.len();
        let own = settings.certificate.as_ref();
        let anyone = config(&provider, Arc::new(Anyone::new(&provider)), own)?;
        let trusted = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier =
                builder.build().map_err(|error| TlsSettingsError::Authorities(error.to_string()))?;
            Some(config(&provider, verifier, own)?)
        };
        Ok(Self { anyone, trusted, authorities })
    }

    /// Number of authorities that are known. With none, nobody can be trusted, and [`ServerCheck::Trusted`] fails.
    #[must_use]
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// Shakes hands on `stream` with the server called `name`: a host name as [`MailHost::name`](crate::dns::MailHost::name), or the
    /// text of an address. A host name is told to the server (SNI), an address is not.
    ///
    /// # Errors
    /// See [`TlsError`]. The stream is gone then.
    pub async fn connect<S>(
        &self,
        check: ServerCheck,
        name: &str,
        stream: S,
    ) -> Result<(TlsStream<S>, TlsFacts), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let invalid = |_| TlsError::Name(name.escape_default().to_string());
        let server_name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
        let config = match check {
            ServerCheck::Anyone => &self.anyone,
            ServerCheck::Trusted => {
                self.trusted.as_ref().ok_or_else(|| TlsError::NoAuthorities(name.to_owned()))?
            }
        };
        let connecting = TlsConnector::from(Arc::clone(config)).connect(server_name, stream);
        let stream = connecting.await.map_err(|error| TlsError::of(name, error))?;
        let facts = facts(&stream, check);
        Ok((stream, facts))
    }
}

fn facts<S>(stream: &TlsStream<S>, check: ServerCheck) -> TlsFacts {
    let connection = stream.get_ref().1;
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let suite = connection.negotiated_cipher_suite();
    let cipher = suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
    // The registry has one name for all versions.
    let cipher = cipher.replacen("TLS13_", "TLS_", 1);
    TlsFacts { version, cipher, verified: check == ServerCheck::Trusted }
}

/// The authorities of the system. One that cannot be read is passed over: the others are as good as before.
fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    own: Option<&CertificateFiles>,
) -> Result<Arc<ClientConfig>, TlsSettingsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    #[expect(clippy::expect_used, reason = "the provider has suites of both versions")]
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).expect("both versions are there");
    // Not dangerous: of the two verifiers one is rustls' own, and the other is for those who ask for no more.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match own {
        Some(files) => {
            let (chain, key) = (files::certificates(&files.certificate)?, files::key(&files.key)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsSettingsError::Own {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                what: error.to_string(),
            })?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
