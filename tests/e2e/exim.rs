//! Exim as the sending MTA: under TLS with a certificate that it checks, and by BDAT, as it prefers.

use inrush_tests::exim::Exim;
use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::{Authority, Files};
use inrush_tests::{corpus, export};

const NAME: &str = "mx.test.example";
const MESSAGE: &[u8] = b"From: a@client.test.example\r\nTo: b@example.com\r\nSubject: x\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@x.example>\r\n\r\n.x\r\n";

fn started(certificate: &Files) -> Server {
    let tls = format!("[tls]\n{}", certificate.lines());
    Server::with(
        Settings::default().recipients(&["b@example.com"]).listener("tls = \"starttls\"").tables(&tls),
    )
}

/// An Exim that hands over under TLS only, to the holder of a certificate of `authority`.
fn strict(server: &Server, authority: &Authority) -> Exim {
    let lines = [
        "hosts_require_tls = *".to_owned(),
        "tls_verify_hosts = *".to_owned(),
        // It would ask for the address otherwise.
        "tls_verify_cert_hostnames = :".to_owned(),
        format!("tls_sni = {NAME}"),
        format!("tls_verify_certificates = {}", authority.certificate().display()),
    ];
    Exim::new(server.mx(), &lines)
}

/// Exim puts its own Received line on top and leaves the rest as it was.
#[test]
fn bodies_arrive_byte_for_byte_under_tls_by_bdat() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let exim = strict(&server, &authority);
    // What has a header as mail has it, and its end; Exim would complete the others.
    let has_end = |body: &[u8]| body.windows(4).any(|octets| octets == b"\r\n\r\n");
    let fit = |message: &corpus::Message| message.body.starts_with(b"From: ") && has_end(&message.body);
    let messages: Vec<_> = corpus::messages().into_iter().filter(fit).collect();
    assert!(messages.len() >= 8);
    for message in &messages {
        let log = exim.send("b@example.com", &message.body);
        assert!(log.contains(" Completed"), "{}\n{log}", message.name);
    }
    let log = exim.log();
    assert!(log.contains("CV=yes") && log.contains("TLS1.3") && log.contains(" K "), "{log}");
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), messages.len(), "{log}");
    for message in &messages {
        let found = stored.values().filter(|stored| stored.ends_with(&message.body)).count();
        assert_eq!(found, 1, "{}\n{log}", message.name);
    }
    for facts in export::facts(&server.data()) {
        assert_eq!(facts["tls"]["version"], "TLSv1.3", "{facts}");
        assert_eq!(facts["tls"]["sni"], NAME, "{facts}");
    }
    let chunked = Samples::scrape(server.admin()).sum("inrush_chunked_messages_total", &[]);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let sent = messages.len() as f64;
    assert_eq!(chunked, sent);
}

#[test]
fn without_chunking_and_without_tls() {
    let server = Server::start();
    let log = Exim::new(server.mx(), &["hosts_try_chunking = :".to_owned()]).send("b@example.com", MESSAGE);
    assert!(log.contains(" Completed") && !log.contains(" K "), "{log}");
    assert!(export::all(&server.data()).values().next().unwrap().ends_with(MESSAGE));
}

/// A certificate of somebody else: nothing is handed over.
#[test]
fn a_certificate_of_somebody_else() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let log = strict(&server, &Authority::new()).send("b@example.com", MESSAGE);
    assert!(log.contains("certificate") && !log.contains(" => b@example.com"), "{log}");
    assert!(export::all(&server.data()).is_empty());
}

#[test]
fn refusals_end_in_its_log() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let exim = strict(&server, &authority);
    for (recipient, why) in [("x@example.com", "550 5.1.1"), ("b@other.example", "550 5.7.1")] {
        let log = exim.send(recipient, MESSAGE);
        assert!(log.contains(why), "{log}");
    }
}
