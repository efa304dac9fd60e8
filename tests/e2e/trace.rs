//! `inrush trace`: sessions live, as an operator sees them, and what it may cost.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use inrush_tests::client::Client;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, http, process};
use serde_json::Value;

const BODY: &[u8] = b"Subject: x\r\n\r\na body that is nobody's business\r\n";

/// A running `inrush trace --json`.
struct Trace {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Trace {
    /// Starts it, and waits until it sees what begins from now on.
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary::inrush());
        command
            .args(["trace", "--json", "--for", "3m", "--admin", &server.admin().to_string()])
            .args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut trace = Self { child, lines };
        assert_eq!(trace.next()["event"], "watching");
        trace
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("an event").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Everything up to the next event of this kind, each as `event text`.
    fn until(&mut self, event: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let next = self.next();
            let kind = next["event"].as_str().unwrap().to_owned();
            seen.push(format!("{kind} {}", next["text"].as_str().unwrap_or_default()));
            if kind == event {
                return seen;
            }
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from(server: &Server, source: &str) -> Client {
    let mut client = Client::open_from(source.parse().unwrap(), server.mx()).unwrap();
    client.expect(220);
    client
}

#[test]
fn a_session_command_by_command() {
    let server = Server::start();
    // One that is there already is seen from its next turn on.
    let mut early = from(&server, "127.0.0.5");
    early.say("EHLO early.test.example", 250);
    let mut trace = Trace::start(&server, &["--from", "127.0.0.5"]);
    early.say("NOOP", 250);
    let begin = trace.next();
    assert_eq!((&begin["event"], &begin["helo"]), (&"begin".into(), &"early.test.example".into()), "{begin}");
    assert!(begin["client"].as_str().unwrap().starts_with("127.0.0.5:") && begin["commands"] == 1, "{begin}");
    assert_eq!(trace.until("reply"), ["command NOOP", "reply 250 2.0.0 OK"]);
    early.say("QUIT", 221);
    trace.until("end");

    let mut other = from(&server, "127.0.0.6");
    let mut client = from(&server, "127.0.0.5");
    other.say("NOOP", 250);
    client.say("EHLO a.test.example", 250);
    client.send(b"MAIL FROM:<a\x1b@a.test.example>\r\n").unwrap();
    client.expect(501);
    client.say("AUTH PLAIN AHNlY3JldABzZWNyZXQ=", 502);
    client.say("AHNlY3JldABzZWNyZXQ=", 500);
    let id = client.deliver(&["b@example.com"], BODY);
    client.say("QUIT", 221);
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["event"] != "end") {
        events.push(trace.next());
    }
    let all = serde_json::to_string(&events).unwrap();
    let told = |event: &str| {
        let of_kind = events.iter().filter(|known| known["event"] == event);
        of_kind.map(|event| event["text"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        told("command"),
        [
            "EHLO a.test.example",
            "MAIL FROM:<a\\u{1b}@a.test.example>",
            "AUTH PLAIN ...",
            "(behind AUTH, not shown)",
            "MAIL FROM:<sender@client.test.example>",
            "RCPT TO:<b@example.com>",
            "DATA",
            "QUIT",
        ],
        "{all}"
    );
    let replies: Vec<String> = told("reply").iter().map(|reply| reply[..3].to_owned()).collect();
    assert_eq!(replies, ["220", "250", "501", "502", "500", "250", "250", "354", "250", "221"], "{all}");
    let queued = events.iter().find(|event| event["event"] == "queued").unwrap();
    assert_eq!((&queued["id"], &queued["size"]), (&Value::from(id), &BODY.len().into()));
    assert_eq!(told("answered").len(), 1, "{all}");
    assert!(
        !all.contains("nobody's business") && !all.contains("c2VjcmV0") && !all.contains("ZWNyZXQ"),
        "{all}"
    );
    let times: Vec<f64> = events.iter().map(|event| event["at"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] >= 0.0, "{all}");
    assert!(events.iter().all(|event| event["session"] == events[0]["session"]), "{all}");
}

#[test]
fn recipients_of_a_domain_and_the_limit_of_sessions() {
    let server = Server::start();
    let mut trace = Trace::start(&server, &["--rcpt", "@Example.COM", "--limit", "1"]);
    let mut client = Client::greeted(server.mx());
    client.say("MAIL FROM:<s@client.test.example>", 250);
    client.say("RCPT TO:<b@elsewhere.example>", 550);
    client.say("RCPT TO:<b@example.com>", 250);
    let begin = trace.next();
    assert_eq!(
        (&begin["event"], &begin["from"]),
        (&"begin".into(), &"<s@client.test.example>".into()),
        "{begin}"
    );
    assert_eq!(begin["helo"], "client.test.example");
    assert_eq!(trace.until("reply")[0], "command RCPT TO:<b@example.com>");
    // No more than one.
    let mut second = Client::greeted(server.mx());
    second.deliver(&["b@example.com"], BODY);
    client.say("QUIT", 221);
    assert_eq!(trace.until("over").len(), 4, "QUIT, 221, its end, the end of all");
    assert!(trace.lines.next().is_none());
    assert!(process::wait(&mut trace.child, process::PATIENCE).unwrap().success());
}

#[test]
fn who_may_look() {
    let server = Server::start();
    let path = |query: &str| format!("/api/v1/trace?{query}");
    for (query, what) in [
        ("", "say which sessions"),
        ("from=nobody", "is not an address or a network"),
        ("from=::1&limit=0", "limit"),
        ("from=::1&for=2h", "longer than 1h"),
    ] {
        let answer = http::get(server.admin(), &path(query));
        assert!(answer.status == 400 && answer.body.contains(what), "{query}: {}", answer.body);
    }
    assert_eq!(http::post(server.admin(), &path("from=::1"), "X-Inrush: 1\r\n").status, 405);
    let traces: Vec<Trace> = (0..4).map(|_| Trace::start(&server, &["--from", "::1"])).collect();
    let answer = http::get(server.admin(), &path("from=::1"));
    assert!(answer.status == 429 && answer.body.contains("too many traces"), "{}", answer.body);
    drop(traces);
    process::eventually("there is room again", || {
        let mut stream = TcpStream::connect(server.admin()).unwrap();
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path("from=::1&for=1s"));
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // Its time over, it has ended by itself.
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"over\",\"reason\":\"time\"")
    });
    let mut command = Command::new(binary::inrush());
    command.args(["trace", "--admin", &server.admin().to_string()]);
    assert_eq!(process::finish(command).status.code(), Some(2), "neither a network nor a domain");
}

/// It loses events, and nobody waits for it.
#[test]
fn a_tracer_that_does_not_read() {
    let limits = vec!["junk_commands_max = 1000000".into(), "commands_max = 1000000".into()];
    let server = Server::with(Settings { limits, ..Settings::default() });
    let mut stalled = TcpStream::connect(server.admin()).unwrap();
    stalled
        .write_all(b"GET /api/v1/trace?from=127.0.0.0/8&limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    stalled.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let mut first = [0; 12];
    stalled.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut client = Client::greeted(server.mx());
    let many = "RSET\r\n".repeat(1000);
    for _ in 0..60 {
        client.send(many.as_bytes()).unwrap();
        (0..1000).for_each(|_| _ = client.expect(250));
        client.deliver(&["b@example.com"], BODY);
    }
    client.say("QUIT", 221);
    assert_eq!(http::get(server.admin(), "/healthz").status, 200);
    let mut answer = Vec::new();
    let mut part = vec![0; 1 << 16];
    while !String::from_utf8_lossy(&answer).contains("\"lost\"") {
        let octets = stalled.read(&mut part).unwrap();
        assert!(octets > 0, "it ended without a word of what was lost");
        answer.extend_from_slice(&part[..octets]);
    }
}
