//! TLS for the tests: an authority with its certificates, and a client that takes any certificate and says which it was shown.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// A connection with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// The certificates that the server has shown, its own first.
    pub fn shown(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(stream) => stream.conn.peer_certificates().unwrap_or_default(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Shakes hands as a client that asks for `name` and takes any certificate.
///
/// # Errors
/// The handshake fails.
pub fn secure(socket: TcpStream, name: &str) -> io::Result<Stream> {
    secure_by(&client(aws_lc_rs::default_provider()), socket, name)
}

/// A client that takes any certificate and cuts everything into records of at most this many octets, their headers included.
///
/// # Panics
/// The provider has no version of TLS.
pub fn client_in_pieces(record_octets_max: usize) -> Arc<ClientConfig> {
    let mut config = (*client(aws_lc_rs::default_provider())).clone();
    config.max_fragment_size = Some(record_octets_max);
    Arc::new(config)
}

/// A client that takes any certificate.
///
/// # Panics
/// The provider has no version of TLS.
pub fn client(provider: CryptoProvider) -> Arc<ClientConfig> {
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.unwrap_or_else(|error| panic!("no version of TLS: {error}")).dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    Arc::new(builder.with_no_client_auth())
}

/// Shakes hands as this client.
///
/// # Errors
/// The handshake fails.
pub fn secure_by(client: &Arc<ClientConfig>, mut socket: TcpStream, name: &str) -> io::Result<Stream> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
}

/// Believes every server.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// An authority of the tests, and a folder with what it has issued.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

impl Files {
    /// The lines `certificate = …` and `key = …`.
    pub fn lines(&self) -> String {
        format!("certificate = \"{}\"\nkey = \"{}\"\n", self.certificate.display(), self.key.display())
    }

    /// Puts `other` in their place, as tools that renew certificates do: by renaming.
    ///
    /// # Panics
    /// The files cannot be written.
    pub fn replace_with(&self, other: &Self) {
        for (ours, theirs) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            let next = ours.with_extension("next");
            fs::copy(theirs, &next)
                .and_then(|_| fs::rename(&next, ours))
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// The folder cannot be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of the tests");
        let issuer = KeyPair::generate().and_then(|key| CertifiedIssuer::self_signed(params, key));
        let folder = tempfile::TempDir::with_prefix("inrush-tls-");
        let authority = Self {
            folder: folder.unwrap_or_else(|error| panic!("no folder: {error}")),
            issuer: issuer.unwrap_or_else(|error| panic!("no authority: {error}")),
        };
        write(&authority.certificate(), &authority.issuer.pem());
        authority
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder().join("authority.pem")
    }

    /// Where everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate on the P-256 curve for `name`, valid now.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn issue(&self, name: &str) -> Files {
        self.issue_until(name, name, 2099)
    }

    /// The same in files called `file`, valid to the begin of `year`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn issue_until(&self, file: &str, name: &str, year: i32) -> Files {
        let made = CertificateParams::new([name.to_owned()]).and_then(|mut params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &self.issuer)?, key))
        });
        let (certificate, key) = made.unwrap_or_else(|error| panic!("no certificate for {name}: {error}"));
        let place = |kind: &str| self.folder().join(format!("{file}.{kind}.pem"));
        let files = Files { certificate: place("certificate"), key: place("key") };
        write(&files.certificate, &certificate.pem());
        write(&files.key, &key.serialize_pem());
        files
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
