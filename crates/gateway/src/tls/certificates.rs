//! Certificates and keys: read, checked, chosen by the name that the client asks for.
//!
//! What is wrong with a file is said when it is read, with its path, and not by the first peer that meets it. Whoever reads again
//! later keeps the old ones when the new ones are broken.
//!
//! Standards: RFC 6066 §3 (server name), RFC 6125 §6.4.3 (wildcards), RFC 5280 §4.1.2.5 (validity).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those of the authorities up to but without the root.
    pub certificate: PathBuf,
    /// PKCS #8, PKCS #1 or SEC 1; not encrypted.
    pub key: PathBuf,
}

/// What is wrong with a certificate, a key or a list of authorities.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not PEM.
    #[error("{} is not PEM: {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        what: String,
    },
    /// It holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// It holds no private key.
    #[error("{} holds no private key", .0.display())]
    NoKey(PathBuf),
    /// The key is encrypted, and there is nobody to ask for its passphrase.
    #[error("{} is encrypted: a key without a passphrase is needed", .0.display())]
    Encrypted(PathBuf),
    /// The certificate cannot be understood.
    #[error("{}: {what}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key cannot be used.
    #[error("{}: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key belongs to another certificate.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate is not valid any more.
    #[error("{} has expired at {at}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The end of its validity.
        at: String,
    },
    /// The certificate is not valid yet.
    #[error("{} is valid from {at} only", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The begin of its validity.
        at: String,
    },
    /// The certificate is for other names than the one that it is to be shown for.
    #[error("{} is not for the name {name}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl CertificateError {
    /// The file that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Pem { path, .. }
            | Self::NoCertificate(path)
            | Self::NoKey(path)
            | Self::Encrypted(path)
            | Self::Certificate { path, .. }
            | Self::Key { path, .. }
            | Self::Expired { path, .. }
            | Self::NotYetValid { path, .. }
            | Self::Name { path, .. } => path,
            Self::Mismatch { key, .. } => key,
        }
    }
}

/// A chain with its key, ready for use.
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    /// The end of the validity of the first certificate, in seconds since 1970.
    pub(crate) expires: i64,
}

/// Reads and checks a certificate with its key.
pub(crate) fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Loaded, CertificateError> {
    let CertificateFiles { certificate: path, key: key_path } = files;
    let chain = read_certificates(path)?;
    let expires = check_validity(path, &chain[0], SystemTime::now())?;
    let key = read_key(key_path)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Mismatch { certificate: path.clone(), key: key_path.clone() }
        }
        rustls::Error::InvalidCertificate(error) => {
            CertificateError::Certificate { path: path.clone(), what: error.to_string() }
        }
        error => CertificateError::Key { path: key_path.clone(), what: error.to_string() },
    })?;
    Ok(Loaded { key: Arc::new(key), expires })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let read = |error| CertificateError::Read { path: path.to_owned(), error };
    let text = std::fs::read(path).map_err(read)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        // RFC 1421 §4.6.1.1 and RFC 7468 §11.
        _ if memchr::memmem::find(&text, b"ENCRYPTED").is_some() => {
            CertificateError::Encrypted(path.to_owned())
        }
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        error => pem_error(path, error),
    })
}

/// All certificates of a file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_error(path, error))?;
    if certificates.is_empty() {
        return Err(CertificateError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn pem_error(path: &Path, error: pem::Error) -> CertificateError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(error) => CertificateError::Read { path, error },
        error => CertificateError::Pem { path, what: error.to_string() },
    }
}

/// The end of the validity in seconds since 1970.
fn check_validity(
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<i64, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| CertificateError::Certificate { path: path.to_owned(), what: error.to_string() })?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if validity.not_after.timestamp() < now {
        return Err(CertificateError::Expired { path: path.to_owned(), at: validity.not_after.to_string() });
    }
    if validity.not_before.timestamp() > now {
        return Err(CertificateError::NotYetValid {
            path: path.to_owned(),
            at: validity.not_before.to_string(),
        });
    }
    Ok(validity.not_after.timestamp())
}

/// Chooses a certificate by the name that the client asks for.
pub(crate) struct ByName {
    pub(crate) default: Arc<CertifiedKey>,
    /// By name in lower case.
    names: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows the first label.
    wildcards: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl ByName {
    /// `default` for every name that is not added.
    pub(crate) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { default, names: HashMap::new(), wildcards: HashMap::new() }
    }

    /// Shows `key` to clients that ask for `name`; `*.` stands for one label.
    pub(crate) fn add(
        &mut self,
        name: &str,
        files: &CertificateFiles,
        key: Arc<CertifiedKey>,
    ) -> Result<(), CertificateError> {
        let path = files.certificate.clone();
        let refuse = |what: String| CertificateError::Certificate { path: path.clone(), what };
        let wildcard = name.strip_prefix("*.");
        // A label that no certificate names, so that only a wildcard is for it.
        let probe = wildcard
            .map_or_else(|| name.to_owned(), |rest| format!("no-such-label-{:016x}.{rest}", u64::MAX));
        let probe = ServerName::try_from(probe).map_err(|error| refuse(format!("{name:?}: {error}")))?;
        let certificate =
            ParsedCertificate::try_from(&key.cert[0]).map_err(|error| refuse(error.to_string()))?;
        verify_server_name(&certificate, &probe)
            .map_err(|_| CertificateError::Name { path: path.clone(), name: name.to_owned() })?;
        let lower = |name: &str| name.to_ascii_lowercase().into_boxed_str();
        match wildcard {
            Some(rest) => self.wildcards.insert(lower(rest), key),
            None => self.names.insert(lower(name), key),
        };
        Ok(())
    }

    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let Some(name) = name else { return Arc::clone(&self.default) };
        // rustls hands names out in lower case.
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        let key = self.names.get(name).or_else(by_wildcard);
        Arc::clone(key.unwrap_or(&self.default))
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("names", &self.names.keys()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(self.choose(name.as_deref()))
    }
}
