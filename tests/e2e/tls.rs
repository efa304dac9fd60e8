//! TLS as clients meet it: STARTTLS and implicit, versions, names, certificates that change, and what a hostile peer tries.

use std::fs;
use std::io::Write as _;

use inrush_tests::client::{Client, accepted};
use inrush_tests::http::Samples;
use inrush_tests::postfix::{Postfix, Purpose};
use inrush_tests::process::{self, Finished};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::{Authority, Files, Stream, client_in_pieces};
use inrush_tests::{corpus, export};

const NAME: &str = "mx.test.example";
const BODY: &[u8] = b"Subject: under TLS\r\n\r\nhello\r\n";

/// A listener `mx` with STARTTLS as `tls` says, and a listener `smtps`.
fn settings(certificate: &Files, tls: &str) -> Settings {
    let smtps = "[[listener]]\nname = \"smtps\"\naddress = [\"127.0.0.1:0\"]\ntls = \"implicit\"\n";
    Settings::default()
        .listener(&format!("tls = \"{tls}\""))
        .tables(&format!("[tls]\n{}", certificate.lines()))
        .tables(smtps)
}

fn started(certificate: &Files) -> Server {
    Server::with(settings(certificate, "starttls"))
}

fn count(server: &Server, metric: &str, labels: &[&str]) -> f64 {
    Samples::scrape(server.admin()).sum(metric, labels)
}

/// Waits until a metric has this value: it is written behind the end of a session.
#[track_caller]
fn wait_for(server: &Server, metric: &str, labels: &[&str], value: f64) {
    process::eventually(&format!("{metric}{labels:?} is {value}"), || count(server, metric, labels) >= value);
    assert_eq!(count(server, metric, labels), value, "{metric}{labels:?}");
}

/// Waits until no session is open; the gauge is written once a second.
#[track_caller]
fn wait_for_none_open(server: &Server) {
    process::eventually("no session is open", || count(server, "inrush_connections_open", &[]) == 0.0);
}

fn openssl(server: &Server, listener: &str, arguments: &[&str]) -> Finished {
    let mut command = process::command("openssl", ["s_client", "-connect"]);
    command.arg(server.listener(listener).to_string()).arg("-crlf").args(arguments);
    process::finish_with_input(command, b"QUIT\n")
}

fn swaks(server: &Server, arguments: &[&str]) -> Finished {
    let mut command = process::command("swaks", ["--server", "127.0.0.1", "--helo", "client.test.example"]);
    command.args(["--from", "a@client.test.example", "--to", "b@example.com"]).args(arguments);
    command.env("HOME", server.scratch()).env_remove("SWAKS_HOME");
    process::finish(command)
}

#[test]
fn starttls_with_swaks() {
    let authority = Authority::new();
    for (version, protocol) in [("tlsv1_2", "TLSv1.2"), ("tlsv1_3", "TLSv1.3")] {
        let server = started(&authority.issue(NAME));
        let port = server.mx().port().to_string();
        swaks(&server, &["--port", &port, "--tls", "--tls-protocol", version, "--tls-sni", NAME]).succeeded();
        let facts = export::only_facts(&server.data());
        assert_eq!(facts["tls"]["version"], protocol, "{facts}");
        assert_eq!(facts["tls"]["sni"], NAME, "{facts}");
        assert!(facts["tls"]["cipher"].as_str().unwrap().starts_with("TLS_"), "{facts}");
        assert!(facts["times"]["tls"].is_string(), "{facts}");
        let stored = export::all(&server.data()).into_values().next().unwrap();
        let received = String::from_utf8_lossy(&stored).replace("\r\n\t", " ");
        assert!(received.contains(&format!("(using {protocol} with cipher TLS_")), "{received}");
        assert!(received.contains(" with ESMTPS id "), "{received}");
        wait_for(&server, "inrush_tls_handshakes_total", &[&format!("tls=\"{protocol}\"")], 1.0);
    }
}

#[test]
fn implicit_with_swaks_and_curl() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let port = server.listener("smtps").port().to_string();
    swaks(&server, &["--port", &port, "--tls-on-connect"]).succeeded();
    let file = server.scratch().join("message");
    let large = corpus::messages().into_iter().max_by_key(|message| message.body.len()).unwrap();
    fs::write(&file, &large.body).unwrap();
    let mut command = process::command("curl", ["--disable", "--silent", "--show-error", "--cacert"]);
    command.arg(authority.certificate()).args(["--connect-to", &format!("::127.0.0.1:{port}")]);
    command.arg(format!("smtps://{NAME}:{port}/client.test.example"));
    command.args(["--mail-from", "a@client.test.example", "--mail-rcpt", "b@example.com", "--noproxy", "*"]);
    command.arg("--upload-file").arg(&file);
    process::finish(command).succeeded();
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), 2);
    assert!(stored.values().any(|stored| export::split(stored, &large.body).is_ok()));
}

#[test]
fn postfix_sends_under_tls() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let postfix = Postfix::start(&Purpose {
        relay_to: Some(server.mx()),
        main: vec!["smtp_tls_security_level = encrypt".into()],
        ..Purpose::default()
    });
    postfix.inject("b@example.com", BODY);
    process::eventually("the message is here", || !export::facts(&server.data()).is_empty());
    assert_eq!(export::only_facts(&server.data())["tls"]["version"], "TLSv1.3");
}

#[test]
fn old_versions_are_refused() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    // Old versions need an old idea of security on the side of openssl as well.
    let arguments = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let finished = openssl(&server, "smtps", &arguments);
    assert!(!finished.status.success(), "{}", finished.text());
    wait_for(&server, "inrush_tls_handshake_failures_total", &["reason=\"incompatible\""], 1.0);
    wait_for(&server, "inrush_sessions_ended_total", &["reason=\"tls_failed\""], 1.0);
}

#[test]
fn no_tickets() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    for version in ["-tls1_2", "-tls1_3"] {
        let text = openssl(&server, "smtps", &[version, "-ign_eof"]).text();
        assert!(text.contains("221 2.0.0"), "{text}");
        assert!(!text.contains("Session Ticket"), "{text}");
        assert!(!text.contains("TLS session ticket:"), "{text}");
    }
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new();
    let (default, other, wild) =
        (authority.issue(NAME), authority.issue("mx.other.example"), authority.issue("*.wild.example"));
    let sni = |name: &str, files: &Files| format!("[[tls.sni]]\nname = \"{name}\"\n{}", files.lines());
    let server = Server::with(
        settings(&default, "starttls")
            .tables(&sni("MX.other.example", &other))
            .tables(&sni("*.wild.example", &wild)),
    );
    let shown = |arguments: &[&str]| {
        let all = [&["-starttls", "smtp"], arguments].concat();
        let text = openssl(&server, "mx", &all).text();
        let pem = text.split_once("-----BEGIN").unwrap_or_else(|| panic!("{text}")).1;
        pem.split_once("-----END").unwrap().0.replace(['\r', '\n'], "")
    };
    let own = |files: &Files| {
        let pem = fs::read_to_string(&files.certificate).unwrap();
        let pem = pem.split_once("-----BEGIN").unwrap().1;
        pem.split_once("-----END").unwrap().0.replace(['\r', '\n'], "")
    };
    for (arguments, files) in [
        (&["-servername", "mx.other.example"][..], &other),
        (&["-servername", "a.wild.example"], &wild),
        (&["-servername", "a.b.wild.example"], &default),
        (&["-servername", "nobody.example"], &default),
        (&["-noservername"], &default),
    ] {
        assert_eq!(shown(arguments), own(files), "{arguments:?}");
    }
}

#[test]
fn what_is_pipelined_behind_starttls_is_thrown_away() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let mut client = Client::greeted(server.mx());
    let injected = b"RSET\r\nMAIL FROM:<injected@client.test.example>\r\n";
    client.send(&[&b"STARTTLS\r\n"[..], injected].concat()).unwrap();
    client.expect(220);
    client.secure(NAME).unwrap();
    // Nothing is known from before: neither the greeting nor what was injected (RFC 3207 §4.2).
    client.say("MAIL FROM:<a@client.test.example>", 503);
    let ehlo = client.say("EHLO client.test.example", 250);
    assert!(!ehlo.lines.iter().any(|line| line == "STARTTLS"), "{ehlo:?}");
    assert!(ehlo.lines.iter().any(|line| line == "REQUIRETLS"), "{ehlo:?}");
    client.deliver(&["b@example.com"], BODY);
    let discarded = count(&server, "inrush_tls_plaintext_discarded_bytes_total", &[]);
    assert!((1.0..=injected.len() as f64).contains(&discarded), "{discarded}");
}

#[test]
fn required_means_no_mail_before() {
    let authority = Authority::new();
    let server = Server::with(settings(&authority.issue(NAME), "required"));
    let mut client = Client::greeted(server.mx());
    client.say("MAIL FROM:<a@client.test.example>", 530);
    client.start_tls(NAME);
    client.say("EHLO client.test.example", 250);
    client.say("MAIL FROM:<a@client.test.example> REQUIRETLS", 250);
    client.say("RCPT TO:<b@example.com>", 250);
    client.say("DATA", 354);
    client.send(&[BODY, b".\r\n"].concat()).unwrap();
    accepted(&client.expect(250));
    assert_eq!(export::only_facts(&server.data())["requiretls"], true);
    wait_for(&server, "inrush_refusals_total", &["reason=\"tls_required\""], 1.0);
}

/// Bodies of all sizes around records and buffers, and in pieces of one octet, arrive as they were sent.
#[test]
fn bodies_arrive_byte_for_byte() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let mut client = Client::open_secure(server.listener("smtps"), NAME).unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    let mut sent = Vec::new();
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    for octets in [1, 500, 4096, 16_300, 16_384, 16_500, 33_000, 300_000, 5_000_000] {
        let mut body = format!("Subject: {octets}\r\n\r\n").into_bytes();
        body.extend(line.iter().cycle().take(octets / 78 * 78));
        sent.push((client.deliver(&["b@example.com"], &body), body));
    }
    // Commands and data one octet a record.
    let dialog = b"MAIL FROM:<a@client.test.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: 1\r\n\r\none\r\n.\r\n";
    for octet in dialog {
        client.send(&[*octet]).unwrap();
    }
    for code in [250, 250, 354] {
        client.expect(code);
    }
    let id = accepted(&client.expect(250));
    sent.push((id, b"Subject: 1\r\n\r\none\r\n".to_vec()));
    client.say("QUIT", 221);
    assert!(client.rest().is_empty());
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), sent.len());
    for (id, body) in sent {
        export::assert_body(&stored[&id], &body, &id);
    }
}

#[test]
fn certificates_are_replaced_without_dropping_a_session() {
    let authority = Authority::new();
    let (files, next) = (authority.issue(NAME), authority.issue_until("next", NAME, 2098));
    let server = started(&files);
    let shown = || {
        let client = Client::open_secure(server.listener("smtps"), NAME).unwrap();
        let Stream::Tls(_) = client.stream_below() else { panic!("no TLS") };
        client.stream_below().shown()[0].clone()
    };
    let mut open = Client::open_secure(server.listener("smtps"), NAME).unwrap();
    open.expect(220);
    let first = shown();
    // As the files change.
    files.replace_with(&next);
    server.wait_for_log("certificates reloaded");
    let second = shown();
    assert_ne!(first, second);
    // 2098-01-01.
    process::eventually("the end of its validity is shown", || {
        count(&server, "inrush_tls_certificate_expiry_seconds", &[]) == 4_039_372_800.0
    });
    // A broken one changes nothing and says so.
    fs::write(&files.certificate, "this is no certificate\n").unwrap();
    server.wait_for_log("the old ones stay");
    assert_eq!(shown(), second);
    server.hang_up();
    server.wait_for_log("not reloaded");
    assert_eq!(shown(), second);
    // On SIGHUP.
    files.replace_with(&authority.issue_until("third", NAME, 2097));
    server.hang_up();
    process::eventually("another certificate", || shown() != second);
    open.say("EHLO client.test.example", 250);
    open.deliver(&["b@example.com"], BODY);
}

#[test]
fn names_of_clients_are_kept_if_an_authority_vouches_for_them() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = format!("client_ca = \"{}\"\n", authority.certificate().display());
    let server = Server::with(
        Settings::default()
            .listener("tls = \"starttls\"")
            .listener("client_certificates = true")
            .tables(&format!("[tls]\n{}{ca}", authority.issue(NAME).lines())),
    );
    let port = server.mx().port().to_string();
    let known = authority.issue("client.test.example");
    let unknown = stranger.issue("stranger.test.example");
    for (files, name) in [(Some(&known), Some("client.test.example")), (Some(&unknown), None), (None, None)] {
        let before = export::facts(&server.data()).len();
        let own = files.map(|files| {
            let text = |path| fs::canonicalize(path).unwrap().display().to_string();
            [text(&files.certificate), text(&files.key)]
        });
        let mut arguments = vec!["--port", &port, "--tls"];
        if let Some([certificate, key]) = &own {
            arguments.extend(["--tls-cert", certificate, "--tls-key", key]);
        }
        swaks(&server, &arguments).succeeded();
        let all = export::facts(&server.data());
        assert_eq!(all.len(), before + 1);
        let client = &all.last().unwrap()["tls"]["client"];
        assert_eq!(client.as_str(), name, "{all:?}");
    }
}

#[test]
fn a_handshake_that_does_not_come_ends() {
    let authority = Authority::new();
    let mut settings = settings(&authority.issue(NAME), "starttls");
    settings.limits.push("handshake_timeout = \"1s\"".into());
    let server = Server::with(settings);
    let mut silent = Client::open(server.listener("smtps")).unwrap();
    let mut begun = Client::greeted(server.mx());
    begun.say("STARTTLS", 220);
    // A record that never ends.
    begun.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert!(silent.rest().is_empty());
    assert!(begun.rest().is_empty());
    wait_for(&server, "inrush_tls_handshake_failures_total", &["reason=\"handshake_timeout\""], 2.0);
    wait_for_none_open(&server);
}

#[test]
fn what_was_agreed_is_in_the_log() {
    let authority = Authority::new();
    let launcher = vec!["env".to_owned(), "INRUSH_LOG=debug".to_owned()];
    let server = Server::with(Settings { launcher, ..settings(&authority.issue(NAME), "starttls") });
    let mut client = Client::greeted(server.mx());
    client.start_tls(NAME);
    server.wait_for_log("TLS agreed");
    let facts = format!("tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 sni={NAME}");
    assert!(server.log().contains(&facts), "{}", server.log());
}

#[test]
fn handshakes_have_a_budget() {
    let authority = Authority::new();
    let mut settings = settings(&authority.issue(NAME), "starttls");
    settings.limits.push("handshakes_max = 1".into());
    settings.top.push("cores = 1".into());
    let server = Server::with(settings);
    let mut first = Client::greeted(server.mx());
    first.say("STARTTLS", 220);
    let mut second = Client::greeted(server.mx());
    second.say("STARTTLS", 454);
    process::eventually("one handshake is open", || count(&server, "inrush_tls_handshakes_open", &[]) == 1.0);
    // It goes on without, as it may.
    second.deliver(&["b@example.com"], BODY);
    let mut third = Client::open(server.listener("smtps")).unwrap();
    assert!(third.rest().is_empty());
    wait_for(&server, "inrush_tls_handshake_failures_total", &["reason=\"handshakes_max\""], 2.0);
    // There is room again.
    first.secure(NAME).unwrap();
    second.start_tls(NAME);
}

#[test]
fn what_is_not_tls_is_closed_and_counted() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let long = [&b"\x16\x03\x01\xff\xff"[..], &[0; 100]].concat();
    let inputs: [&[u8]; 5] = [
        b"EHLO client.test.example\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0x80; 600],
    ];
    for input in inputs {
        let mut client = Client::open(server.listener("smtps")).unwrap();
        client.stream().write_all(input).unwrap();
        let answer = client.rest();
        // At most an alert.
        assert!(answer.is_empty() || answer[0] == 21, "{}", answer.escape_ascii());
    }
    wait_for(&server, "inrush_tls_handshake_failures_total", &["reason=\"not_tls\""], 5.0);
    wait_for(&server, "inrush_sessions_ended_total", &["reason=\"tls_failed\""], 5.0);
    // And on with the next one.
    let mut client = Client::open_secure(server.listener("smtps"), NAME).unwrap();
    client.expect(220);
}

/// Messages of the handshake in pieces, without an end, one upon the other: at most an alert, and the gateway goes on.
#[test]
fn handshakes_in_pieces_harm_nobody() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let one_octet_each = [1_u8, 0, 0, 16].map(|octet| [22, 3, 1, 0, 1, octet]);
    let inputs: [&[&[u8]]; 7] = [
        &[b"\x16\x03\x01\x00\x04\x01\x00\x00\x10"],
        &[b"\x16\x03\x01\x00\x08\x01\x00\x00\x00\x01\x00\x00\x00"],
        &[b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"],
        &[b"\x16\x03\x01\x00\x04\x01\x00\x00\x10", b"\x15\x03\x01\x00\x02\x02\x28"],
        &[b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x00\x00"],
        &one_octet_each.each_ref().map(|record| &record[..]),
        &[b"\x14\x03\x01\x00\x01\x01", b"\x16\x03\x01\x00\x04\x02\x00\x00\x10"],
    ];
    for input in inputs {
        let mut implicit = Client::open(server.listener("smtps")).unwrap();
        let mut begun = Client::greeted(server.mx());
        begun.say("STARTTLS", 220);
        for client in [&mut implicit, &mut begun] {
            for piece in input {
                // It may have been closed already.
                let _ = client.send(piece);
                std::thread::yield_now();
            }
            client.finish_sending();
            let answer = client.rest();
            assert!(answer.is_empty() || answer[0] == 21, "{}", answer.escape_ascii());
        }
    }
    // As a client may well do it.
    for record_octets_max in [32, 64, 500] {
        let config = client_in_pieces(record_octets_max);
        let mut client = Client::greeted(server.mx());
        client.say("STARTTLS", 220);
        client.secure_by(&config, NAME).unwrap();
        client.say("EHLO client.test.example", 250);
        client.deliver(&["b@example.com"], &[BODY, &b"0123456789\r\n".repeat(5000)].concat());
        client.say("QUIT", 221);
        assert!(client.rest().is_empty());
    }
    wait_for_none_open(&server);
    assert_eq!(count(&server, "inrush_pending_bytes", &[]), 0.0);
}

/// Garbage inside of a session under TLS ends it, and nothing else.
#[test]
fn a_broken_record_ends_the_session() {
    let authority = Authority::new();
    let server = started(&authority.issue(NAME));
    let mut client = Client::open_secure(server.listener("smtps"), NAME).unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.stream().write_all(b"\x17\x03\x03\x00\x14this is not encrypted").unwrap();
    assert!(client.rest().iter().all(u8::is_ascii));
    wait_for_none_open(&server);
    assert!(export::facts(&server.data()).is_empty());
}
