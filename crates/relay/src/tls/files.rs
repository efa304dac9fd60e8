//! Certificates and keys out of PEM files. What is wrong with one is said with its path.
//!
//! Standards: RFC 7468 (PEM).

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsSettingsError;

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSettingsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| explain(path, error))?;
    if certificates.is_empty() {
        return Err(TlsSettingsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// The authorities of a file, at least one.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let refuse = |error: rustls::Error| TlsSettingsError::Certificate {
            path: path.to_owned(),
            what: error.to_string(),
        };
        roots.add(certificate).map_err(refuse)?;
    }
    Ok(roots)
}

/// The first private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSettingsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsSettingsError::NoKey(path.to_owned()),
        error => explain(path, error),
    })
}

fn explain(path: &Path, error: pem::Error) -> TlsSettingsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(error) => TlsSettingsError::Read { path, error },
        pem::Error::NoItemsFound => TlsSettingsError::NoCertificate(path),
        error => TlsSettingsError::Certificate { path, what: error.to_string() },
    }
}
