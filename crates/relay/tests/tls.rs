//! TLS as a client, against servers of rustls and OpenSSL on the loopback.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use inrush_relay::tls::{
    CertificateFiles, CertificateProblem, ClientTls, ServerCheck, TlsClientSettings, TlsError, TlsFacts,
    TlsPolicy, TlsSettingsError,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const NAME: &str = "mx1.example";

/// An authority, and a folder for its files.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: Cell<u32>,
}

impl Authority {
    fn new() -> Self {
        Self::called("authority of the tests")
    }

    fn called(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::with_prefix("client-tls-").unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer, issued: Cell::new(0) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for `name`, valid from the begin of one year to that of the other.
    fn issue(&self, name: &str, years: (i32, i32)) -> CertificateFiles {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        self.write(&params.signed_by(&key, &self.issuer).unwrap().pem(), &key)
    }

    fn self_signed(&self, name: &str) -> CertificateFiles {
        self.own_issuer(name, IsCa::NoCa)
    }

    /// What `openssl req -x509` makes: an authority that is its own server.
    fn self_issued(&self, name: &str) -> CertificateFiles {
        self.own_issuer(name, IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn own_issuer(&self, name: &str, is_ca: IsCa) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        self.write(&params.self_signed(&key).unwrap().pem(), &key)
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> CertificateFiles {
        let number = self.issued.replace(self.issued.get() + 1);
        let files = CertificateFiles {
            certificate: self.file(&format!("{number}.certificate")),
            key: self.file(&format!("{number}.key")),
        };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts this authority only.
    fn client(&self) -> ClientTls {
        let settings = TlsClientSettings { ca_file: Some(self.file("ca.pem")), certificate: None };
        ClientTls::new(&settings).unwrap()
    }

    fn server(&self, files: &CertificateFiles) -> ServerConfig {
        server_builder(&[&TLS13, &TLS12])
            .with_no_client_auth()
            .with_single_cert(chain(files), key(files))
            .unwrap()
    }
}

fn chain(files: &CertificateFiles) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_file(&files.certificate).unwrap()]
}

fn key(files: &CertificateFiles) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(&files.key).unwrap()
}

fn server_builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// What a server has seen of a client.
#[derive(Debug)]
struct Seen {
    server_name: Option<String>,
    certificates: usize,
    kind: Option<HandshakeKind>,
}

/// Takes one connection after the other, and says `hello` to each. Ends with the runtime.
async fn serve(
    config: ServerConfig,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Result<Seen, String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = match acceptor.accept(stream).await {
                Ok(mut stream) => {
                    let _ = stream.write_all(b"hello").await;
                    let connection = stream.get_ref().1;
                    let seen = Seen {
                        server_name: connection.server_name().map(str::to_owned),
                        certificates: connection.peer_certificates().map_or(0, <[_]>::len),
                        kind: connection.handshake_kind(),
                    };
                    let _ = stream.shutdown().await;
                    Ok(seen)
                }
                Err(error) => Err(error.to_string()),
            };
            let _ = sender.send(seen);
        }
    });
    (address, receiver)
}

/// One connection to `address`, up to the end of what the server says.
async fn connect(
    client: &ClientTls,
    check: ServerCheck,
    name: &str,
    address: SocketAddr,
) -> Result<TlsFacts, TlsError> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut stream, facts) = client.connect(check, name, stream).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    Ok(facts)
}

/// Why `name` is not trusted.
async fn problem(client: &ClientTls, name: &str, address: SocketAddr) -> (CertificateProblem, String) {
    let error = connect(client, ServerCheck::Trusted, name, address).await.unwrap_err();
    assert_eq!((error.enhanced(), error.permanent()), ((4, 7, 5), false));
    let text = error.to_string();
    match error {
        TlsError::Certificate { problem, .. } => (problem, text),
        other => panic!("{other}"),
    }
}

#[test]
fn a_policy_says_what_a_server_must_show() {
    assert_eq!(TlsPolicy::Off.check(), None);
    assert_eq!(TlsPolicy::Opportunistic.check(), Some(ServerCheck::Anyone));
    assert_eq!(TlsPolicy::Required.check(), Some(ServerCheck::Trusted));
    assert_eq!(TlsPolicy::default(), TlsPolicy::Opportunistic);
}

#[test]
fn a_good_certificate_is_trusted() {
    let authority = Authority::new();
    let client = authority.client();
    assert_eq!(client.authorities(), 1);
    run(async {
        let (address, mut seen) = serve(authority.server(&authority.issue(NAME, (2020, 2099)))).await;
        let facts = connect(&client, ServerCheck::Trusted, NAME, address).await.unwrap();
        let cipher = facts.cipher.clone();
        assert_eq!(facts, TlsFacts { version: "TLSv1.3", cipher, verified: true });
        assert_eq!(facts.cipher, "TLS_AES_256_GCM_SHA384");
        // RFC 6066 §3.
        assert_eq!(seen.recv().await.unwrap().unwrap().server_name.as_deref(), Some(NAME));
        let facts = connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap();
        assert!(!facts.verified);
    });
}

/// RFC 9525 §6.3 and §6.4: a wildcard is one label, and an address is not a name.
#[test]
fn names_and_addresses_are_matched() {
    let authority = Authority::new();
    let client = authority.client();
    run(async {
        let (address, _seen) =
            serve(authority.server(&authority.issue("*.mail.example", (2020, 2099)))).await;
        assert!(connect(&client, ServerCheck::Trusted, "MX1.mail.example", address).await.unwrap().verified);
        let (found, _) = problem(&client, "a.mx1.mail.example", address).await;
        assert_eq!(found, CertificateProblem::OtherNames { names: vec!["*.mail.example".to_owned()] });
        assert!(matches!(
            problem(&client, "192.0.2.1", address).await.0,
            CertificateProblem::OtherNames { .. }
        ));
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let (address, mut seen) = serve(authority.server(&authority.issue(ip, (2020, 2099)))).await;
            assert!(connect(&client, ServerCheck::Trusted, ip, address).await.unwrap().verified);
            assert_eq!(seen.recv().await.unwrap().unwrap().server_name, None);
            assert!(matches!(problem(&client, NAME, address).await.0, CertificateProblem::OtherNames { .. }));
        }
    });
}

#[test]
fn bad_certificates_are_not_trusted_but_encrypt() {
    let authority = Authority::new();
    let client = authority.client();
    let (stranger, impostor) = (Authority::called("somebody"), Authority::new());
    let unknown = "unknown issuer (self-signed, or a certificate in between is missing)";
    let rows = [
        (authority.issue(NAME, (2000, 2020)), "certificate has expired "),
        (authority.issue(NAME, (2098, 2099)), "certificate is not yet valid"),
        (authority.issue("mx2.example", (2020, 2099)), "certificate is for other names: mx2.example"),
        (authority.self_signed(NAME), unknown),
        (stranger.issue(NAME, (2020, 2099)), unknown),
        (impostor.issue(NAME, (2020, 2099)), "a signature is wrong"),
        (authority.self_issued(NAME), "certificate is that of an authority, not of a server (self-signed)"),
    ];
    for (files, expected) in rows {
        run(async {
            let (address, mut seen) = serve(authority.server(&files)).await;
            let (_, text) = problem(&client, NAME, address).await;
            let start = format!("Server certificate of {NAME} not trusted: {expected}");
            assert!(text.starts_with(&start), "{text}");
            assert!(seen.recv().await.unwrap().is_err());
            let facts = connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap();
            assert_eq!((facts.version, facts.verified), ("TLSv1.3", false));
        });
    }
}

/// Whoever shows a certificate must have its key, also where nobody asks whose it is.
#[test]
fn a_certificate_without_its_key_is_refused() {
    #[derive(Debug)]
    struct Stolen(Arc<CertifiedKey>);
    impl ResolvesServerCert for Stolen {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let authority = Authority::new();
    let (shown, owned) =
        (authority.issue(NAME, (2020, 2099)), authority.issue("thief.example", (2020, 2099)));
    for version in [&TLS13, &TLS12] {
        let key = aws_lc_rs::sign::any_supported_type(&key(&owned)).unwrap();
        let stolen = Arc::new(CertifiedKey::new(chain(&shown), key));
        let config =
            server_builder(&[version]).with_no_client_auth().with_cert_resolver(Arc::new(Stolen(stolen)));
        run(async {
            let (address, _seen) = serve(config).await;
            let error = connect(&authority.client(), ServerCheck::Anyone, NAME, address).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Server certificate of {NAME} not trusted: a signature is wrong")
            );
        });
    }
}

/// A resumed session is not verified again: one that never was must not pass for one that was.
#[test]
fn sessions_are_resumed_under_the_same_check_only() {
    let authority = Authority::new();
    for version in [&TLS13, &TLS12] {
        let client = authority.client();
        let files = authority.self_signed(NAME);
        let config = server_builder(&[version]).with_no_client_auth();
        let config = config.with_single_cert(chain(&files), key(&files)).unwrap();
        run(async {
            let (address, mut seen) = serve(config).await;
            let mut kinds = Vec::new();
            for _ in 0..2 {
                connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap();
                kinds.push(seen.recv().await.unwrap().unwrap().kind);
            }
            assert_eq!(kinds[1], Some(HandshakeKind::Resumed), "{kinds:?}");
            assert_eq!(problem(&client, NAME, address).await.0, CertificateProblem::UnknownIssuer);
        });
    }
}

#[test]
fn our_certificate_is_shown_to_servers_that_ask() {
    let authority = Authority::new();
    let own = authority.issue("relay.example", (2020, 2099));
    let settings =
        TlsClientSettings { ca_file: Some(authority.file("ca.pem")), certificate: Some(own.clone()) };
    let client = ClientTls::new(&settings).unwrap();
    let files = authority.issue(NAME, (2020, 2099));
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let config = server_builder(&[&TLS13, &TLS12]).with_client_cert_verifier(verifier);
    let config = config.with_single_cert(chain(&files), key(&files)).unwrap();
    run(async {
        let (address, mut seen) = serve(config).await;
        for check in [ServerCheck::Anyone, ServerCheck::Trusted] {
            connect(&client, check, NAME, address).await.unwrap();
            assert_eq!(seen.recv().await.unwrap().unwrap().certificates, 1);
        }
    });
    // Of another certificate.
    let mixed = CertificateFiles { key: files.key, ..own };
    let settings = TlsClientSettings { ca_file: None, certificate: Some(mixed) };
    assert!(matches!(ClientTls::new(&settings), Err(TlsSettingsError::Own { .. })));
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new();
    let [missing, empty, broken] = ["missing", "empty", "broken"].map(|name| authority.file(name));
    fs::write(&empty, "no certificate in here\n").unwrap();
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n").unwrap();
    let refused = |settings: TlsClientSettings| ClientTls::new(&settings).unwrap_err().to_string();
    for (path, expected) in [(&missing, "cannot be read"), (&empty, "holds no certificate"), (&broken, ": ")]
    {
        let text = refused(TlsClientSettings { ca_file: Some(path.clone()), certificate: None });
        assert!(text.starts_with(&format!("{}", path.display())) && text.contains(expected), "{text}");
    }
    let certificate = authority.file("ca.pem");
    let text = refused(TlsClientSettings {
        ca_file: None,
        certificate: Some(CertificateFiles { certificate, key: empty.clone() }),
    });
    assert_eq!(text, format!("{} holds no private key without a passphrase", empty.display()));
}

/// The authorities of the system do not vouch for everybody.
#[test]
fn without_a_file_the_system_is_trusted() {
    let authority = Authority::new();
    let client = ClientTls::new(&TlsClientSettings::default()).unwrap();
    run(async {
        let (address, _seen) = serve(authority.server(&authority.issue(NAME, (2020, 2099)))).await;
        let error = connect(&client, ServerCheck::Trusted, NAME, address).await.unwrap_err();
        match client.authorities() {
            0 => assert!(matches!(error, TlsError::NoAuthorities(_)), "{error}"),
            _ => assert!(
                matches!(&error, TlsError::Certificate { problem: CertificateProblem::UnknownIssuer, .. }),
                "{error}"
            ),
        }
        assert!(!connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap().verified);
    });
}

#[test]
fn what_is_no_tls_is_an_error() {
    let client = Authority::new().client();
    run(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"454 4.7.0 TLS not available due to local problem\r\n").await.unwrap();
            // Closed only when the client has gone: what it sends must not reset the connection.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            let _ = stream.try_read(&mut [0; 16_384]);
        });
        let error = connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Cannot start TLS with {NAME}: the server does not answer with TLS")
        );
        let error = connect(&client, ServerCheck::Anyone, NAME, address).await.unwrap_err();
        assert!(matches!(error, TlsError::Connection { .. }), "{error}");
        assert_eq!(error.enhanced(), (4, 7, 5));
        server.await.unwrap();
        let stream = tokio::io::duplex(1).0;
        let error = client.connect(ServerCheck::Anyone, "not a name\r\n", stream).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Cannot start TLS: \"not a name\\r\\n\" is neither a host name nor an address"
        );
    });
}

/// `openssl s_server` with these options; ends with this value.
struct OpenSsl {
    child: Child,
    address: SocketAddr,
}

impl OpenSsl {
    fn start(files: &CertificateFiles, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert"]).arg(&files.certificate);
        command.arg("-key").arg(&files.key).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok());
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address: address.unwrap() }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn handshake(
    client: &ClientTls,
    check: ServerCheck,
    address: SocketAddr,
) -> Result<TlsFacts, TlsError> {
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(client.connect(check, NAME, stream).await?.1)
}

#[test]
fn openssl_with_what_it_has() {
    let authority = Authority::new();
    let files = authority.issue(NAME, (2020, 2099));
    let client = authority.client();
    let facts = |options: &[&str]| {
        let server = OpenSsl::start(&files, options);
        run(handshake(&client, ServerCheck::Trusted, server.address))
    };
    let suite = "TLS_CHACHA20_POLY1305_SHA256";
    let agreed = facts(&["-tls1_3", "-ciphersuites", suite]).unwrap();
    assert_eq!(agreed, TlsFacts { version: "TLSv1.3", cipher: suite.to_owned(), verified: true });
    let agreed = facts(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]).unwrap();
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(agreed, TlsFacts { version: "TLSv1.2", cipher: suite.to_owned(), verified: true });
}

/// RFC 8996: TLS 1.0 and 1.1 are not spoken any more, not even where nothing is verified.
#[test]
fn openssl_with_what_is_too_old() {
    let authority = Authority::new();
    let files = authority.issue(NAME, (2020, 2099));
    let client = authority.client();
    let refused = |options: &[&str]| {
        let server = OpenSsl::start(&files, options);
        let error = run(handshake(&client, ServerCheck::Anyone, server.address)).unwrap_err();
        assert_eq!(error.enhanced(), (4, 7, 5));
        error.to_string()
    };
    for version in ["-tls1", "-tls1_1"] {
        let text = refused(&[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert_eq!(text, format!("Cannot start TLS with {NAME}: the server has neither TLS 1.2 nor TLS 1.3"));
    }
    let text = refused(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"]);
    assert!(
        text.starts_with(&format!("Cannot start TLS with {NAME}: the server has no cipher suite")),
        "{text}"
    );
}
