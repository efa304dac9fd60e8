//! The admin server as HTTP clients see it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inrush_admin::{AdminSettings, Answer, Bound, QueueApi, Readiness, Server, StartError, Token};
use inrush_metrics::{Counter, Gauge, Histogram, Metrics, Names, Phase};
use tokio::sync::oneshot;

/// A server on a port that the kernel chose, and what it shows.
struct Fixture {
    server: Server,
    accepting: Arc<AtomicBool>,
}

impl Fixture {
    fn start() -> Self {
        Self::with(AdminSettings::default())
    }

    fn with(settings: AdminSettings) -> Self {
        let names = Names { version: "1.2.3", listeners: vec!["mx".into()], ..Names::default() };
        let metrics = Metrics::new(names, 2);
        let writer = metrics.core(1).writer().unwrap();
        writer.add(Counter::MessagesAccepted, 7);
        writer.set(Gauge::ConnectionsOpen, 3);
        for microseconds in 1..=100 {
            writer.record(Histogram::Phase(Phase::Total), microseconds);
        }
        let accepting = Arc::new(AtomicBool::new(true));
        let settings = AdminSettings { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..settings };
        let readiness = Readiness::from(vec![Arc::clone(&accepting)]);
        Self { server: Server::start(settings, metrics, readiness).unwrap(), accepting }
    }

    /// What the server sends for `request` until it closes.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        if let Err(error) = stream.write_all(request.as_bytes()) {
            // The server may refuse a request before it has all of it.
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // Octets that the server never read make the kernel reset the connection behind the answer.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        String::from_utf8(answer).unwrap()
    }

    /// Status line with header, and body, of the answer to `method path` with more header lines.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, String) {
        let answer = self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.ask("GET", path, "")
    }
}

#[test]
fn health_is_ok_while_the_process_lives() {
    let fixture = Fixture::start();
    fixture.accepting.store(false, Ordering::Release);
    let (head, body) = fixture.get("/healthz");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "ok\n");
}

#[test]
fn readiness_follows_the_cores() {
    let fixture = Fixture::start();
    let (head, body) = fixture.get("/readyz");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "ready\n");
    fixture.accepting.store(false, Ordering::Release);
    let (head, body) = fixture.get("/readyz");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "1 of 1 cores take no connections\n");
    fixture.accepting.store(true, Ordering::Release);
    assert!(fixture.get("/readyz").0.starts_with("http/1.1 200 "));
}

#[test]
fn metrics_in_both_formats() {
    let fixture = Fixture::start();
    let (head, body) = fixture.get("/metrics");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.ends_with("\n# EOF\n"));
    assert!(body.contains("inrush_messages_accepted_total{core=\"1\"} 7\n"), "{body}");
    let (head, body) = fixture.ask("GET", "/metrics?x=1", "Accept: text/plain;version=0.0.4\r\n");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(!body.contains("# EOF") && !body.contains("# UNIT"));
    assert!(body.contains("# TYPE inrush_messages_accepted_total counter\n"));
}

#[test]
fn curl_takes_a_scrape() {
    let fixture = Fixture::start();
    let url = format!("http://{}/metrics", fixture.server.address());
    let curl = Command::new("curl").args(["-sS", "--fail", "-H", "Accept: text/plain", &url]).output();
    let scrape = curl.expect("curl is needed");
    assert!(scrape.status.success(), "{}", String::from_utf8_lossy(&scrape.stderr));
    // What promtool says of the same text is seen where it is made.
    assert!(
        String::from_utf8_lossy(&scrape.stdout).contains("# TYPE inrush_messages_accepted_total counter\n")
    );
}

#[test]
fn status_says_what_a_person_wants_to_know() {
    let fixture = Fixture::start();
    let (head, body) = fixture.get("/api/v1/status");
    assert!(head.contains("content-type: application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["ready"], true);
    assert_eq!(status["messages"]["accepted"], 7);
    assert_eq!(status["connections"]["open"], 3);
    assert_eq!(status["connections"]["accepted"]["mx"], 0);
    assert_eq!(status["cores"][1]["messages_accepted"], 7);
    let total = &status["phases"]["total"];
    assert_eq!(total["count"], 100);
    assert_eq!(total["p50_seconds"], 0.000_05);
    assert_eq!(total["p99_seconds"], 0.000_099);
    assert_eq!(total["max_seconds"], 0.000_1);
    assert!(status["process"]["resident_memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn head_has_no_body() {
    let (head, body) = Fixture::start().ask("HEAD", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-length: "), "{head}");
    assert_eq!(body, "");
}

#[test]
fn other_paths_and_methods_are_refused_by_name() {
    let fixture = Fixture::start();
    assert!(fixture.get("/nothing").0.starts_with("http/1.1 404 "));
    assert!(fixture.get("/metrics/").0.starts_with("http/1.1 404 "));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (head, _) = fixture.ask(method, "/metrics", "Content-Length: 0\r\n");
        assert!(head.starts_with("http/1.1 405 "), "{head}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
}

#[test]
fn a_token_is_needed_everywhere_but_at_the_health_checks() {
    let token = Some(Token::new("0123456789abcdef").unwrap());
    let fixture = Fixture::with(AdminSettings { token, ..AdminSettings::default() });
    for path in ["/metrics", "/api/v1/status", "/nothing"] {
        for header in
            ["", "Authorization: Bearer 0123456789abcdeX\r\n", "Authorization: Basic 0123456789abcdef\r\n"]
        {
            let (head, body) = fixture.ask("GET", path, header);
            assert!(head.starts_with("http/1.1 401 "), "{head}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(!body.contains("inrush_"));
        }
    }
    let (head, _) = fixture.ask("GET", "/metrics", "Authorization: bearer 0123456789abcdef\r\n");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for path in ["/healthz", "/readyz"] {
        assert!(fixture.get(path).0.starts_with("http/1.1 200 "), "{path}");
    }
}

#[test]
fn nonsense_and_large_headers_are_refused() {
    let fixture = Fixture::start();
    assert!(fixture.raw("EHLO example.com\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let large = format!("X-Large: {}\r\n", "x".repeat(100_000));
    assert!(fixture.ask("GET", "/metrics", &large).0.starts_with("http/1.1 431 "));
    let many = "X-Many: x\r\n".repeat(200);
    assert!(fixture.ask("GET", "/metrics", &many).0.starts_with("http/1.1 431 "));
    assert!(fixture.get("/healthz").0.starts_with("http/1.1 200 "));
}

#[test]
fn silent_clients_are_closed_and_others_get_their_turn() {
    let request_timeout = Duration::from_millis(100);
    let fixture =
        Fixture::with(AdminSettings { connections_max: 2, request_timeout, ..AdminSettings::default() });
    let address = fixture.server.address();
    let mut silent: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    silent[0].write_all(b"GET /healthz HT").unwrap();
    // All places are taken, so the answer comes when the time of the others is over.
    assert!(fixture.get("/healthz").0.starts_with("http/1.1 200 "));
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "the server closes");
    }
}

/// A queue that answers when the test lets it.
struct Slow(Mutex<Option<oneshot::Receiver<()>>>);

impl QueueApi for Slow {
    fn answer(
        &self,
        _changes: bool,
        _path: &str,
        _query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
        let released = self.0.lock().unwrap().take().unwrap();
        Box::pin(async move {
            released.await.unwrap();
            Answer::ok(serde_json::json!({ "done": 1 }))
        })
    }
}

#[test]
fn the_queue_may_take_its_time() {
    let (release, released) = oneshot::channel();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let request_timeout = Duration::from_millis(50);
    let bound = Bound::bind(AdminSettings { address, request_timeout, ..AdminSettings::default() }).unwrap();
    let queue = Arc::new(Slow(Mutex::new(Some(released))));
    let server = bound.serve(Metrics::new(Names::default(), 1), vec![], Some(queue)).unwrap();
    let mut asking = TcpStream::connect(server.address()).unwrap();
    asking
        .write_all(b"POST /api/v1/queue/delete HTTP/1.1\r\nHost: localhost\r\nX-Inrush: 1\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    // Silent clients that are closed one after the other: more time has gone by than any of them is given.
    for _ in 0..4 {
        let mut silent = TcpStream::connect(server.address()).unwrap();
        assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    release.send(()).unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"done\":1}\n"), "{answer}");
}

#[test]
fn without_a_token_the_server_is_named_as_what_it_is() {
    let fixture = Fixture::start();
    let asked = |host: &str| fixture.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["127.0.0.1", "127.0.0.1:9925", "[::1]:9925", "localhost", "LOCALHOST:9925"] {
        assert!(asked(host).starts_with("HTTP/1.1 200 "), "{host}");
    }
    // A page of that name whose address has become ours.
    for host in ["rebound.example", "rebound.example:9925", "localhost.example", "127.0.0.1.example", "a b"] {
        let answer = asked(host);
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 400 "),
            "{host}: {answer}"
        );
        assert!(!answer.contains("inrush_"), "{host}");
    }
    let other = "GET http://rebound.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(fixture.raw(other).starts_with("HTTP/1.1 403 "));
    assert!(fixture.raw("GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
    // Who sends the token was told it by somebody.
    let token = Some(Token::new("0123456789abcdef").unwrap());
    let fixture = Fixture::with(AdminSettings { token, ..AdminSettings::default() });
    let named = "GET /metrics HTTP/1.1\r\nHost: mx.example\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n";
    assert!(fixture.raw(named).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = AdminSettings { address, ..AdminSettings::default() };
    let error = Server::start(settings, Metrics::new(Names::default(), 1), vec![]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address}: Address already in use (os error 98)")
    );
}

#[test]
fn beyond_loopback_only_with_a_token() {
    let settings = AdminSettings { address: SocketAddr::from(([0, 0, 0, 0], 0)), ..AdminSettings::default() };
    let start = |settings| Server::start(settings, Metrics::new(Names::default(), 1), vec![]);
    assert!(matches!(start(settings.clone()), Err(StartError::Unprotected(_))));
    let token = Some(Token::new("0123456789abcdef").unwrap());
    start(AdminSettings { token, ..settings }).unwrap().stop();
}

#[test]
fn stopping_closes_the_listener_and_lets_go_of_the_port() {
    let fixture = Fixture::start();
    let address = fixture.server.address();
    // A client that never asks does not hold the server.
    let _silent = TcpStream::connect(address).unwrap();
    assert!(fixture.get("/healthz").0.starts_with("http/1.1 200 "));
    fixture.server.stop();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
