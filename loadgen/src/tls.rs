//! TLS as the senders speak it: rustls without I/O, and what connections of one core share.
//!
//! A load generator is no mail client: against this machine a certificate is not looked at, since a test server has whatever it was given.
//! `--tls-ca` or a target elsewhere turns verification on.
//!
//! Standards: RFC 3207 (STARTTLS), RFC 8314 (implicit TLS), RFC 8446 §2.2 (resumption).

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, RootCertStore,
    SignatureScheme,
};

/// Sessions that a core keeps for resumption, by server.
const SESSIONS_KEPT: usize = 256;
/// Plaintext of a TLS record.
const RECORD_OCTETS: usize = 16 * 1024;

/// Whose certificates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Everybody's.
    Anyone,
    /// Those under the authorities in this PEM file.
    File(&'a Path),
    /// Those under the authorities of this system.
    System,
}

/// Makes the settings of all handshakes of a run.
///
/// # Errors
/// A sentence: the authorities cannot be read.
pub fn config(trust: Trust<'_>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Anyone(Arc::clone(&provider))),
        Trust::File(_) | Trust::System => {
            let roots = Arc::new(roots(trust)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| format!("the authorities cannot be used: {error}"))?
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn roots(trust: Trust<'_>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = match trust {
        Trust::File(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| format!("{}: {error}", path.display()))?,
        _ => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let place = match trust {
            Trust::File(path) => path.display().to_string(),
            _ => "this system".to_owned(),
        };
        return Err(format!("{place} has no certificate of an authority"));
    }
    Ok(roots)
}

/// The settings for one core: sessions are not shared between cores, so that they share no lock.
#[must_use]
pub fn for_core(config: &ClientConfig, resumption: bool) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption =
        if resumption { Resumption::in_memory_sessions(SESSIONS_KEPT) } else { Resumption::disabled() };
    Arc::new(config)
}

/// The client side of one connection under TLS: ciphertext in, plaintext out, and the other way round.
pub(crate) struct Tls {
    connection: ClientConnection,
    /// Octets of plaintext that wait.
    waiting: usize,
    closed: bool,
}

impl Tls {
    pub(crate) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let mut connection = ClientConnection::new(config, name)?;
        // What is written is taken at once.
        connection.set_buffer_limit(None);
        Ok(Self { connection, waiting: 0, closed: false })
    }

    /// Takes all of `cipher`, which the socket gave.
    pub(crate) fn take(&mut self, mut cipher: &[u8]) -> Result<(), Error> {
        while !cipher.is_empty() {
            // Reads from memory: what is left to fail are the bounds of rustls.
            let octets =
                self.connection.read_tls(&mut cipher).map_err(|error| Error::General(error.to_string()))?;
            let state = self.connection.process_new_packets()?;
            self.waiting = state.plaintext_bytes_to_read();
            self.closed |= state.peer_has_closed();
            if octets == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed && self.waiting == 0
    }

    /// Appends all plaintext that waits; false: none did.
    pub(crate) fn read(&mut self, plain: &mut Vec<u8>) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let filled = plain.len();
        plain.resize(filled + self.waiting, 0);
        let octets = self.connection.reader().read(&mut plain[filled..]).unwrap_or(0);
        plain.truncate(filled + octets);
        self.waiting = if octets == 0 { 0 } else { self.waiting - octets };
        octets > 0
    }

    /// Encrypts `plain` to the end of `out`, behind what the handshake has to say.
    pub(crate) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        for record in plain.chunks(RECORD_OCTETS) {
            // Into memory, without a limit.
            let _ = self.connection.writer().write_all(record);
            self.take_output(out);
        }
        self.take_output(out);
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if !matches!(self.connection.write_tls(out), Ok(1..)) {
                return;
            }
        }
    }
}

/// Takes every certificate whose key the server can prove to have.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
