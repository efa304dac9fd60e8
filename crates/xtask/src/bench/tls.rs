//! Processor time of TLS 1.3 handshakes and sessions on the server's side: the gateway, Postfix's smtpd, and rustls alone in memory.
//!
//! Key exchange and certificate are on the P-256 curve everywhere. What a handshake costs a server is what a connection with STARTTLS takes
//! more than one without: both say EHLO and QUIT. Each round measures all of them, one after the other.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, anyhow};
use inrush_tests::client::Client;
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::{self, Authority, Files};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::cpu::Meter;
use super::report::Summary;
use crate::test;

const NAME: &str = "mx.test.example";
const BODY_OCTETS: usize = 4096;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Connections of each kind in a round
    #[arg(long, default_value_t = 1500)]
    connections: u32,
    /// Connections under way at a time: 1 makes a server sleep and wake for each message of a handshake
    #[arg(long, default_value_t = 16)]
    at_once: u32,
    /// Where the queue and the log lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// What a connection does between the greeting and QUIT.
#[derive(Clone, Copy)]
enum Dialog {
    Ehlo,
    StartTls,
    StartTlsAndMessage,
}

/// Measures and prints.
///
/// # Errors
/// A server cannot be started, or a connection fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), _] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-tls-").tempdir_in(&arguments.folder)?;
    let authority = Authority::new();
    let files = authority.issue(NAME);

    let mut our_meter = Meter::new("inrush");
    let settings = Settings {
        binary: Some(gateway),
        launcher: our_meter.launcher(),
        listener: vec!["tls = \"starttls\"".to_owned()],
        tables: vec![format!("[tls]\n{}", files.lines())],
        ..Settings::default()
    };
    let server = Server::with(settings.data(&folder.path().join("data")).log(&[]));
    our_meter.started(server.pid());

    let mut their_meter = Meter::new("smtpd");
    let smtpd = free_port();
    let postfix = Postfix::start(&Purpose {
        listen: Some(smtpd),
        main: vec![
            "smtpd_tls_security_level = may".to_owned(),
            format!("smtpd_tls_cert_file = {}", files.certificate.display()),
            format!("smtpd_tls_key_file = {}", files.key.display()),
            "tls_ssl_options = NO_TICKET".to_owned(),
            "smtpd_client_connection_rate_limit = 0".to_owned(),
        ],
        queue: Some(folder.path().join("postfix-queue")),
        launcher: their_meter.launcher(),
        ..Purpose::default()
    });
    their_meter.started(postfix.master().context("Postfix has no master")?);

    let client = tls::client(p256());
    let mut figures: [(&str, Vec<f64>); 7] = [
        ("rustls alone, in memory: handshake", Vec::new()),
        ("inrush: handshake", Vec::new()),
        ("Postfix smtpd: handshake", Vec::new()),
        ("inrush: session with STARTTLS and a message of 4 KiB", Vec::new()),
        ("inrush handshake / rustls alone", Vec::new()),
        ("inrush handshake / Postfix handshake", Vec::new()),
        ("inrush session with a message / Postfix handshake alone", Vec::new()),
    ];
    for round in 1..=arguments.rounds {
        let each = |meter: &Meter, address, dialog| -> anyhow::Result<f64> {
            let before = meter.read()?;
            repeat(arguments, || connection(&client, address, dialog).map(|()| Duration::ZERO))?;
            // What ends a session comes behind the last reply.
            std::thread::sleep(Duration::from_millis(200));
            let spent = meter.read()?.saturating_sub(before);
            Ok(spent.as_secs_f64() * 1e6 / f64::from(arguments.connections))
        };
        let alone = in_memory(arguments, &client, &files)?;
        let plain = each(&our_meter, server.mx(), Dialog::Ehlo)?;
        let secure = each(&our_meter, server.mx(), Dialog::StartTls)?;
        let message = each(&our_meter, server.mx(), Dialog::StartTlsAndMessage)?;
        let their_plain = each(&their_meter, smtpd, Dialog::Ehlo)?;
        let their_secure = each(&their_meter, smtpd, Dialog::StartTls)?;
        let (ours, theirs) = (secure - plain, their_secure - their_plain);
        println!(
            "   round {round}: rustls {alone:.0}, inrush {plain:.0} without and {secure:.0} with TLS, {message:.0} with a message; smtpd \
             {their_plain:.0} and {their_secure:.0} us"
        );
        let row = [alone, ours, theirs, message, ours / alone, ours / theirs, message / theirs];
        for ((_, values), value) in figures.iter_mut().zip(row) {
            values.push(value);
        }
    }
    println!("\n{}\n", our_meter.method());
    println!("| figure (us of processor time, or a ratio) | median | least | most |\n|---|---|---|---|");
    for (name, values) in figures {
        let Summary { median, least, greatest } = Summary::of(values.into_iter());
        println!("| {name} | {median:.2} | {least:.2} | {greatest:.2} |");
    }
    Ok(())
}

/// Runs `once` as often as there are connections in a round, so many at once; the sum of what it gives back.
fn repeat(
    arguments: &Arguments,
    once: impl Fn() -> anyhow::Result<Duration> + Sync,
) -> anyhow::Result<Duration> {
    let left = AtomicU32::new(arguments.connections);
    let take = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
    let one_after_the_other = || {
        let mut sum = Duration::ZERO;
        while take() {
            sum += once()?;
        }
        anyhow::Ok(sum)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..arguments.at_once).map(|_| scope.spawn(one_after_the_other)).collect();
        let ended =
            clients.into_iter().map(|client| client.join().map_err(|_| anyhow!("a client has panicked"))?);
        ended.sum()
    })
}

fn connection(client: &Arc<ClientConfig>, address: SocketAddr, dialog: Dialog) -> anyhow::Result<()> {
    let mut peer = Client::greeted(address);
    if matches!(dialog, Dialog::StartTls | Dialog::StartTlsAndMessage) {
        peer.say("STARTTLS", 220);
        peer.secure_by(client, NAME).context("TLS handshake")?;
    }
    if matches!(dialog, Dialog::StartTlsAndMessage) {
        peer.say("EHLO client.test.example", 250);
        let line = [&[b'x'; 76][..], b"\r\n"].concat();
        let lines = line.iter().copied().cycle().take(BODY_OCTETS / line.len() * line.len());
        let body: Vec<u8> = b"Subject: x\r\n\r\n".iter().copied().chain(lines).collect();
        peer.deliver(&["b@example.com"], &body);
    }
    peer.say("QUIT", 221);
    Ok(())
}

/// Microseconds of the server's side of a handshake, both sides in one thread, and as many threads as there are clients of a server.
fn in_memory(arguments: &Arguments, client: &Arc<ClientConfig>, files: &Files) -> anyhow::Result<f64> {
    let chain = CertificateDer::pem_slice_iter(&fs::read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("{error}"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| anyhow!("{error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(p256()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    let spent = repeat(arguments, || handshake(client, &config))?;
    Ok(spent.as_secs_f64() * 1e6 / f64::from(arguments.connections))
}

/// The server's side of one.
fn handshake(client: &Arc<ClientConfig>, config: &Arc<ServerConfig>) -> anyhow::Result<Duration> {
    let mut peer = ClientConnection::new(Arc::clone(client), ServerName::try_from(NAME)?)?;
    let begun = thread_time();
    let mut server = ServerConnection::new(Arc::clone(config))?;
    let mut spent = thread_time() - begun;
    while peer.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut wire)?;
        }
        let begun = thread_time();
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets()?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer)?;
        }
        spent += thread_time() - begun;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            peer.read_tls(&mut rest)?;
            peer.process_new_packets()?;
        }
    }
    Ok(spent)
}

/// Only the P-256 curve for the exchange of keys.
fn p256() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::SECP256R1], ..aws_lc_rs::default_provider() }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
