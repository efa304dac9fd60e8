//! The page, the live samples and the cross-site rules as clients and browsers meet them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inrush_admin::{AdminSettings, Answer, Bound, QueueApi, Server, Token};
use inrush_metrics::{Counter, Metrics, Names};
use serde_json::{Value, json};

/// Counts what reaches it.
#[derive(Default)]
struct Beside {
    changes: AtomicUsize,
    reads: AtomicUsize,
}

impl QueueApi for Beside {
    fn answer(
        &self,
        changes: bool,
        path: &str,
        query: &str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'static>> {
        let counted = if changes { &self.changes } else { &self.reads };
        counted.fetch_add(1, Ordering::Relaxed);
        let said = json!({ "path": path, "query": query, "destinations": [] });
        Box::pin(async { Answer::ok(said) })
    }
}

struct Fixture {
    server: Server,
    api: Arc<Beside>,
    metrics: Arc<Metrics>,
}

impl Fixture {
    fn start() -> Self {
        Self::with(AdminSettings { sample_interval: Duration::from_millis(20), ..AdminSettings::default() })
    }

    fn with(settings: AdminSettings) -> Self {
        let metrics = Metrics::new(Names { version: "1.2.3", ..Names::default() }, 1);
        let api = Arc::new(Beside::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = Bound::bind(AdminSettings { address, ..settings }).unwrap();
        let bound = bound.with("sessions", Arc::clone(&api) as Arc<dyn QueueApi>);
        let server =
            bound.serve(Arc::clone(&metrics), vec![], Some(Arc::clone(&api) as Arc<dyn QueueApi>)).unwrap();
        Self { server, api, metrics }
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Head in lower case and body of the answer to `METHOD PATH` with more header lines.
    fn ask(&self, request: &str, headers: &str) -> (String, String) {
        let mut stream = self.send(&format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn watch(&self) -> BufReader<TcpStream> {
        BufReader::new(self.send("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
}

/// The next sample of a stream; `None` when it has ended.
fn next(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(serde_json::from_str(data).unwrap());
        }
    }
}

#[test]
fn samples_come_one_after_the_other() {
    let fixture = Fixture::start();
    let writer = fixture.metrics.core(0).writer().unwrap();
    let mut stream = fixture.watch();
    let first = next(&mut stream).unwrap();
    assert_eq!((&first["version"], &first["ready"]), (&json!("1.2.3"), &json!(true)));
    writer.add(Counter::MessagesAccepted, 5);
    // It is seen in some sample, and in the one behind it the rate is over.
    let mut rates = Vec::new();
    while rates.last() != Some(&0.0) || rates.iter().all(|rate| *rate == 0.0) {
        rates.push(next(&mut stream).unwrap()["rates"]["accepted"].as_f64().unwrap());
    }
    assert!(rates.iter().filter(|rate| **rate > 0.0).count() == 1, "{rates:?}");
}

#[test]
fn viewers_have_places_of_their_own_and_no_end() {
    let request_timeout = Duration::from_millis(50);
    let fixture = Fixture::with(AdminSettings {
        connections_max: 1,
        viewers_max: 2,
        request_timeout,
        sample_interval: Duration::from_millis(20),
        ..AdminSettings::default()
    });
    let mut streams = [fixture.watch(), fixture.watch()];
    for stream in &mut streams {
        // More than the time that an ordinary answer has.
        for _ in 0..10 {
            assert!(next(stream).is_some());
        }
    }
    // The only connection is free for others.
    assert!(fixture.ask("GET /healthz", "").0.starts_with("http/1.1 200 "));
    let (head, body) = fixture.ask("GET /api/v1/events", "");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(body.contains("viewers_max"), "{body}");
    let (head, body) = fixture.ask("HEAD /api/v1/events", "");
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("text/event-stream") && body.is_empty(),
        "{head}"
    );
    // Who leaves makes room, as soon as it is noticed.
    let [first, mut second] = streams;
    drop(first);
    let mut third = fixture.watch();
    let mut status = String::new();
    third.read_line(&mut status).unwrap();
    while status.contains(" 503 ") {
        third = fixture.watch();
        status.clear();
        third.read_line(&mut status).unwrap();
    }
    assert!(next(&mut third).is_some() && next(&mut second).is_some());
}

#[test]
fn who_does_not_read_is_dropped_and_the_others_go_on() {
    let fixture = Fixture::with(AdminSettings {
        viewers_max: 2,
        sample_interval: Duration::from_millis(1),
        ..AdminSettings::default()
    });
    let lazy = fixture.watch();
    let mut busy = fixture.watch();
    // Until its place is free: it has read nothing of some hundred KiB.
    loop {
        assert!(next(&mut busy).is_some());
        let mut third = fixture.watch();
        let mut status = String::new();
        third.read_line(&mut status).unwrap();
        if status.contains(" 200 ") {
            break;
        }
    }
    assert!(next(&mut busy).is_some());
    drop(lazy);
}

#[test]
fn the_end_of_the_server_ends_the_streams() {
    let fixture = Fixture::start();
    let mut stream = fixture.watch();
    assert!(next(&mut stream).is_some());
    fixture.server.stop();
    while next(&mut stream).is_some() {}
}

#[test]
fn the_page_is_for_everybody_and_says_nothing() {
    let token = Some(Token::new("0123456789abcdef").unwrap());
    let fixture = Fixture::with(AdminSettings { token, ..AdminSettings::default() });
    let (head, body) = fixture.ask("GET /", "");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-type: text/html"), "{head}");
    assert!(!body.contains("1.2.3"));
    for part in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    let tag = head.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let (again, nothing) = fixture.ask("GET /", &format!("If-None-Match: {tag}\r\n"));
    assert!(again.starts_with("http/1.1 304 ") && nothing.is_empty(), "{again}");
    assert!(fixture.ask("POST /", "Content-Length: 0\r\n").0.starts_with("http/1.1 405 "));
    for path in ["/api/v1/events", "/api/v1/sessions", "/api/v1/openapi.json", "/api/v1/queue"] {
        assert!(fixture.ask(&format!("GET {path}"), "").0.starts_with("http/1.1 401 "), "{path}");
        let (head, _) = fixture.ask(&format!("HEAD {path}"), "Authorization: Bearer 0123456789abcdef\r\n");
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        assert!(
            head.contains("content-security-policy: default-src 'none'; frame-ancestors 'none'"),
            "{head}"
        );
    }
}

#[test]
fn what_is_put_beside_is_only_read() {
    let fixture = Fixture::start();
    let (head, body) = fixture.ask("GET /api/v1/sessions?limit=5", "");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "{\"destinations\":[],\"path\":\"sessions\",\"query\":\"limit=5\"}\n");
    let (head, _) = fixture.ask("POST /api/v1/sessions", "X-Inrush: 1\r\nContent-Length: 0\r\n");
    assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{head}");
    assert_eq!(fixture.api.changes.load(Ordering::Relaxed), 0);
}

/// Every operation of the document that changes something.
fn changes() -> Vec<String> {
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let changes = paths.into_iter().filter(|(_, methods)| methods["post"].is_object());
    changes.map(|(path, _)| path).collect()
}

#[test]
fn no_page_of_another_site_changes_anything() {
    let fixture = Fixture::start();
    let own = "X-Inrush: 1\r\nOrigin: http://localhost\r\n";
    assert!(changes().len() >= 6);
    for path in changes() {
        for (headers, why) in [
            ("", "a change needs the header field X-Inrush"),
            ("Origin: http://localhost\r\n", "a change needs the header field X-Inrush"),
            ("X-Inrush: 1\r\nOrigin: http://evil.example\r\n", "Origin is not this server"),
            ("X-Inrush: 1\r\nOrigin: null\r\n", "Origin is not this server"),
            (
                "X-Inrush: 1\r\nSec-Fetch-Site: cross-site\r\n",
                "the request comes from a page of another site",
            ),
            ("X-Inrush: 1\r\nSec-Fetch-Site: same-site\r\n", "the request comes from a page of another site"),
            (
                "X-Inrush: 1\r\nSec-Fetch-Site: none\r\n",
                "a change comes from a page of this server, or from no page at all",
            ),
        ] {
            let (head, body) =
                fixture.ask(&format!("POST {path}"), &format!("{headers}Content-Length: 0\r\n"));
            assert!(head.starts_with("http/1.1 403 "), "{path} {headers}: {head}");
            assert!(body.contains(why), "{path} {headers}: {body}");
        }
        assert_eq!(fixture.api.changes.load(Ordering::Relaxed), 0, "{path}");
    }
    let (head, _) = fixture.ask(
        "POST /api/v1/queue/hold",
        &format!("{own}Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n"),
    );
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(fixture.api.changes.load(Ordering::Relaxed), 1);
}

#[test]
fn reading_changes_nothing_on_any_path() {
    let fixture = Fixture::start();
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let streams = ["/api/v1/events"];
    for path in document["paths"].as_object().unwrap().keys().filter(|path| !streams.contains(&path.as_str()))
    {
        for method in ["GET", "HEAD"] {
            let (head, _) =
                fixture.ask(&format!("{method} {}?all=true", path.replace("{id}", "0")), "X-Inrush: 1\r\n");
            assert!(!head.contains(" 403 "), "{method} {path}: {head}");
        }
        let (head, body) = fixture.ask(&format!("GET {path}"), "Sec-Fetch-Site: cross-site\r\n");
        let is_page = path == "/";
        assert_eq!(head.starts_with("http/1.1 403 "), !is_page, "{path}: {head} {body}");
    }
    assert!(fixture.api.reads.load(Ordering::Relaxed) > 0);
    assert_eq!(fixture.api.changes.load(Ordering::Relaxed), 0);
}
