//! TLS and AUTH against a small server under rustls, with certificates made for the test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the scripted server is for the other tests")]
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::run;

/// base64 of NUL test NUL secret, of `test` and of `secret`.
const PLAIN: &str = "AHRlc3QAc2VjcmV0";
const LOGIN: [&str; 2] = ["dGVzdA==", "c2VjcmV0"];

/// What the server saw.
#[derive(Default)]
struct Seen {
    messages_secured: AtomicU64,
    messages_in_the_clear: AtomicU64,
    /// Lines of AUTH.
    auth: Mutex<Vec<String>>,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    _directory: tempfile::TempDir,
    authority: PathBuf,
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Starttls,
    Implicit,
    Plain,
}

impl Server {
    /// The certificate is for `mx.example`.
    fn start(door: Door, mechanisms: &'static str) -> Self {
        Self::closing(door, mechanisms, None)
    }

    /// Closes a connection on which it hears nothing for `idle_max`.
    fn closing(door: Door, mechanisms: &'static str, idle_max: Option<Duration>) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["mx.example".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        fs::write(&file, authority.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        // Its threads end with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&shared));
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    stream.set_read_timeout(idle_max).unwrap();
                    let secured = |stream| StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    if door == Door::Implicit {
                        serve(secured(stream), &seen, mechanisms, true, false, true);
                    } else if let Some(stream) =
                        serve(stream, &seen, mechanisms, false, door == Door::Starttls, true)
                    {
                        serve(secured(stream), &seen, mechanisms, true, false, false);
                    }
                });
            }
        });
        Self { address, seen, _directory: directory, authority: file }
    }
}

/// Until QUIT, or until STARTTLS is answered: then the stream comes back.
fn serve<S: Read + Write>(
    stream: S,
    seen: &Seen,
    mechanisms: &str,
    secured: bool,
    starttls: bool,
    greets: bool,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    let say = |stream: &mut BufReader<S>, reply: &str| {
        // A client that is gone notices nothing.
        let _ = stream.get_mut().write_all(reply.as_bytes());
        let _ = stream.get_mut().flush();
    };
    if greets {
        say(&mut stream, "220 mx.example\r\n");
    }
    let mut authenticated = mechanisms.is_empty();
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line), Ok(1..)) {
            return None;
        }
        let line = line.trim_end().to_owned();
        let verb = line.split(' ').next().unwrap().to_owned();
        match verb.as_str() {
            "EHLO" => {
                let tls = if starttls { "250-STARTTLS\r\n" } else { "" };
                let auth =
                    if mechanisms.is_empty() { String::new() } else { format!("250-AUTH {mechanisms}\r\n") };
                say(&mut stream, &format!("250-mx.example\r\n{tls}{auth}250 8BITMIME\r\n"));
            }
            "STARTTLS" if starttls => {
                // What is injected behind the reply in the clear must not be believed.
                say(&mut stream, "220 go\r\n250 injected\r\n");
                assert!(stream.buffer().is_empty(), "nothing may follow STARTTLS");
                return Some(stream.into_inner());
            }
            "AUTH" => {
                seen.auth.lock().unwrap().push(line.clone());
                let proof = if line == "AUTH LOGIN" {
                    let mut words = Vec::new();
                    for prompt in ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"] {
                        say(&mut stream, &format!("334 {prompt}\r\n"));
                        let mut word = String::new();
                        stream.read_line(&mut word).unwrap();
                        words.push(word.trim_end().to_owned());
                    }
                    words == LOGIN
                } else {
                    line == format!("AUTH PLAIN {PLAIN}")
                };
                authenticated |= proof;
                say(&mut stream, if proof { "235 2.7.0 ok\r\n" } else { "535 5.7.8 no\r\n" });
            }
            "MAIL" if !authenticated => say(&mut stream, "530 5.7.0 authenticate\r\n"),
            "MAIL" | "RCPT" | "RSET" => say(&mut stream, "250 ok\r\n"),
            "DATA" => {
                say(&mut stream, "354 go\r\n");
                loop {
                    let mut line = Vec::new();
                    if !matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                        return None;
                    }
                    if line == b".\r\n" {
                        break;
                    }
                }
                let messages = if secured { &seen.messages_secured } else { &seen.messages_in_the_clear };
                messages.fetch_add(1, SeqCst);
                say(&mut stream, "250 2.0.0 ok\r\n");
            }
            "QUIT" => {
                say(&mut stream, "221 bye\r\n");
                return None;
            }
            _ => say(&mut stream, "500 what\r\n"),
        }
    }
}

#[test]
fn messages_go_under_tls() {
    for (door, mode) in [(Door::Starttls, "starttls"), (Door::Implicit, "implicit")] {
        let server = Server::start(door, "");
        let words = format!(
            "{} -s 3 -m 12 -l uniform:10-100000 --tls {mode} --tls-ca {} --tls-name mx.example",
            server.address,
            server.authority.display()
        );
        for more in ["", " --engine epoll -d", " --octets-per-second 1000000"] {
            let run = run(&format!("{words}{more}"));
            assert_eq!((run.code, run.count("acknowledged")), (0, 12), "{mode}{more}: {:?}", run.output);
            assert_eq!(run.count("tls_handshakes"), run.count("connections"));
            assert_eq!(run.count("tls_handshakes_resumed"), 0);
            let tls = &run.json["latency_us"]["tls"]["count"];
            assert_eq!(tls.as_u64(), Some(run.count("connections")));
            // Once before and once behind STARTTLS.
            let greetings = if door == Door::Starttls { 2 } else { 1 };
            let ehlo = &run.json["latency_us"]["ehlo"]["count"];
            assert_eq!(ehlo.as_u64(), Some(greetings * run.count("connections")));
        }
        assert_eq!(server.seen.messages_secured.load(SeqCst), 36);
        assert_eq!(server.seen.messages_in_the_clear.load(SeqCst), 0);
    }
}

#[test]
fn a_certificate_that_does_not_fit_is_refused_where_it_is_looked_at() {
    let server = Server::start(Door::Starttls, "");
    let words = format!("{} -m 3 --tls starttls", server.address);
    assert_eq!(run(&words).code, 0, "on this machine nobody looks");
    let other = run(&format!("{words} --tls-ca {} --tls-name other.example", server.authority.display()));
    assert_eq!((other.code, other.cause("tls", 0)), (1, 3), "{:?}", other.output);
    let stranger = Server::start(Door::Starttls, "");
    let unknown = run(&format!("{words} --tls-ca {} --tls-name mx.example", stranger.authority.display()));
    assert_eq!((unknown.code, unknown.cause("tls", 0)), (1, 3), "{:?}", unknown.output);
    assert_eq!(server.seen.messages_secured.load(SeqCst), 3);
}

#[test]
fn a_share_of_the_connections() {
    let server = Server::start(Door::Starttls, "");
    let run = run(&format!("{} -s 4 -m 100 --tls starttls --tls-share 50", server.address));
    let (secured, clear) =
        (server.seen.messages_secured.load(SeqCst), server.seen.messages_in_the_clear.load(SeqCst));
    assert_eq!((run.code, secured + clear), (0, 100), "{:?}", run.output);
    assert_eq!(run.count("tls_handshakes"), secured);
    assert!((20..=80).contains(&secured), "{secured}");
}

#[test]
fn sessions_are_resumed_when_asked_for() {
    let server = Server::start(Door::Implicit, "");
    let run = run(&format!("{} -m 20 --tls implicit --tls-resumption", server.address));
    assert_eq!((run.code, run.count("tls_handshakes")), (0, 20), "{:?}", run.output);
    assert!(run.count("tls_handshakes_resumed") >= 10, "{}", run.json["counts"]);
}

#[test]
fn no_starttls_ends_the_run() {
    let server = Server::start(Door::Plain, "");
    let run = run(&format!("{} -m 5 --tls starttls", server.address));
    assert_eq!((run.code, run.count("acknowledged")), (1, 0));
    assert!(run.json["ended_by"].as_str().unwrap().contains("STARTTLS"));
    assert_eq!(server.seen.messages_in_the_clear.load(SeqCst), 0);
}

#[test]
fn users_log_in() {
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "secret\n").unwrap();
    let auth = format!("--auth-user test --auth-password-file {}", password.path().display());
    for (offered, words, sent) in [
        ("PLAIN LOGIN", "", "AUTH PLAIN"),
        ("LOGIN", "", "AUTH LOGIN"),
        ("PLAIN LOGIN", "--auth-mechanism login", "AUTH LOGIN"),
    ] {
        let server = Server::start(Door::Starttls, offered);
        let run = run(&format!("{} -s 2 -m 6 --tls starttls {auth} {words}", server.address));
        assert_eq!((run.code, run.count("acknowledged")), (0, 6), "{:?}", run.output);
        assert_eq!(run.json["latency_us"]["auth"]["count"], 6);
        let seen = server.seen.auth.lock().unwrap();
        assert!(seen.len() == 6 && seen.iter().all(|line| line.starts_with(sent)), "{seen:?}");
        assert_eq!(server.seen.messages_secured.load(SeqCst), 6);
    }
}

#[test]
fn a_refused_login_is_told() {
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "wrong\n").unwrap();
    let auth = format!("--auth-user test --auth-password-file {}", password.path().display());
    let server = Server::start(Door::Starttls, "PLAIN");
    let refused = run(&format!("{} -m 3 {auth}", server.address));
    assert_eq!((refused.code, refused.cause("auth", 535)), (1, 3), "{:?}", refused.output);
    assert_eq!(refused.count("refused"), 3);
    let none = Server::start(Door::Starttls, "");
    let not_offered = run(&format!("{} -m 3 {auth}", none.address));
    assert!(not_offered.json["ended_by"].as_str().unwrap().contains("AUTH"), "{:?}", not_offered.output);
}

#[test]
fn a_connection_that_breaks_in_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            // The client's hello is read, so that the close is no reset.
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    let run = run(&format!("{address} -m 2 --tls implicit"));
    assert_eq!((run.code, run.count("failed")), (1, 2), "{:?}", run.output);
}

#[test]
fn hostile_sessions_go_under_tls_and_log_in_where_the_run_does() {
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "secret\n").unwrap();
    let auth = format!("--auth-user test --auth-password-file {}", password.path().display());
    for (door, mode) in [(Door::Starttls, "starttls"), (Door::Implicit, "implicit")] {
        let server = Server::start(door, "PLAIN");
        let load = format!("{} -s 2 -D 1s --rate 10 --hostile bare-line-feeds=4", server.address);
        let smuggling = |words: &str| {
            let run = run(words);
            run.json["hostile"][0]["smuggling"].clone()
        };
        // That server takes any line `. CR LF` for the end.
        let found = smuggling(&format!("{load} --tls {mode} {auth}"));
        assert_eq!((&found["verdict"], &found["false_ends"][0]["found"]), (&"found".into(), &0.into()));
        assert!(found["false_ends"][1]["found"].as_u64().unwrap() > 0, "{found}");
        assert_eq!(server.seen.messages_in_the_clear.load(SeqCst), 0);
        let without = smuggling(&format!("{load} --tls {mode}"));
        assert_eq!(without["verdict"], "not_tested", "{without}");
    }
}

#[test]
fn a_connection_under_tls_closed_while_idle_is_made_anew() {
    for (door, mode) in [(Door::Starttls, "starttls"), (Door::Implicit, "implicit")] {
        let server = Server::closing(door, "", Some(Duration::from_millis(400)));
        let run = run(&format!("{} -m 3 -d --rate 1 --tls {mode}", server.address));
        assert_eq!((run.code, run.count("acknowledged")), (0, 3), "{mode}: {:?}", run.output);
        assert_eq!((run.count("connections"), run.count("connections_closed_idle")), (3, 2), "{mode}");
        // Tickets that lie in the socket are no farewell.
        let patient = Server::start(door, "");
        let busy = run_busy(&format!("{} -m 20 -d --rate 50 --tls {mode}", patient.address));
        assert_eq!(busy, (20, 1, 0), "{mode}");
    }
}

/// Messages, connections, and those closed while idle.
fn run_busy(words: &str) -> (u64, u64, u64) {
    let run = run(words);
    (run.count("acknowledged"), run.count("connections"), run.count("connections_closed_idle"))
}
