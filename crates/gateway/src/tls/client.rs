//! Certificates of clients: asked for where a listener says so, never demanded.
//!
//! Mail servers show whatever certificate they have when they are asked, and most of them are of no authority that is known here. A
//! handshake is not refused for that; only a name under a trusted authority is kept.
//!
//! Standards: RFC 8446 §4.4.2, RFC 5280 §4.2.1.6 (names).

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest name that is kept.
const NAME_OCTETS_MAX: usize = 255;

/// Who vouches for clients.
#[derive(Debug)]
pub(crate) struct Clients {
    trusted: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// Clients are trusted under `roots`.
    pub(crate) fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(Self { trusted: builder.build().map_err(|error| error.to_string())? })
    }

    /// The name in the first of `shown`, if an authority vouches for it.
    pub(crate) fn name(&self, shown: &[CertificateDer<'_>]) -> Option<String> {
        let (own, others) = shown.split_first()?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        self.trusted.verify_client_cert(own, others, now).ok()?;
        name_of(own)
    }
}

/// The first DNS name or mail address among the alternative names. Not the common name: an authority that may vouch for some names only
/// (RFC 5280 §4.2.1.10) is not held to them there.
fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let mut names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let name = names.find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    })?;
    // It goes into log lines and trace fields.
    let harmless =
        !name.is_empty() && name.len() <= NAME_OCTETS_MAX && name.bytes().all(|b| b.is_ascii_graphic());
    harmless.then_some(name)
}

/// Takes every certificate whose key the client can prove to have; all else is as it is under [`Clients`].
#[derive(Debug)]
pub(crate) struct Anyone(Arc<dyn ClientCertVerifier>);

impl Anyone {
    /// Tells clients under which authorities their certificates are looked for.
    pub(crate) fn new(clients: &Clients) -> Self {
        Self(Arc::clone(&clients.trusted))
    }
}

impl ClientCertVerifier for Anyone {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
