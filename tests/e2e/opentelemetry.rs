//! Spans, as a collector takes them that decodes them with OpenTelemetry's own messages.

use std::collections::BTreeSet;
use std::fs;

use inrush_tests::client::Client;
use inrush_tests::collector::Collector;
use inrush_tests::http::{self, Samples};
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::server::Server;
use inrush_tests::tls::Authority;
use inrush_tests::{binary, process};
use serde_json::Value;

use crate::delivery::{domain, outcome, route, settings, simple};

fn endpoint(collector: &Collector, lines: &str) -> String {
    format!("[opentelemetry]\nendpoint = \"http://127.0.0.1:{}\"\n{lines}\n", collector.port())
}

fn gateway(peer: &Peer, table: &str) -> Server {
    Server::with(settings(&[
        route("next", "smtp", &[peer.address()], ""),
        domain("*", "next"),
        table.to_owned(),
    ]))
}

fn text<'a>(span: &'a Value, key: &str) -> &'a str {
    span["attributes"][key].as_str().unwrap_or_default()
}

/// The names in the first column of the tables of the page, and those in backquotes in other columns.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(binary::folder("../docs/opentelemetry.md")).unwrap();
    page.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn a_message_is_one_trace_over_its_attempts_and_restarts() {
    let collector = Collector::start();
    let refused = Answer::reply("450 4.2.1 come back\u{1b}[2J later");
    let peer = Peer::start(Script::smtp().on(When::at(Stage::Recipient).address("late@*").times(1), refused));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("authorization");
    fs::write(&secret, "Bearer of-the-collector\n").unwrap();
    let table = endpoint(&collector, &format!("authorization_file = \"{}\"", secret.display()));
    let mut server = gateway(&peer, &(table + "[queue]\nretry_first = \"2s\"\nretry_max = \"2s\"\n"));
    let id = simple(&server, "followed", &["soon@example.com", "late@example.com"]);
    outcome(&server, &id, "late@example.com", "deferred");
    let first = collector.wait_for("delivery attempt", 1).remove(0);
    server.kill9();
    server.restart();
    let attempts = collector.wait_for("delivery attempt", 2);
    let whole = collector.wait_for("message", 1).remove(0);

    let trace = whole["trace"].as_str().unwrap();
    assert!(trace.ends_with(&id.to_lowercase()), "{trace} {id}");
    assert_eq!((&whole["parent"], text(&whole, "inrush.message.id")), (&Value::from(""), id.as_str()));
    assert_eq!(whole["attributes"]["inrush.recipients"], 2);
    assert_eq!(text(&whole, "inrush.sender"), crate::delivery::SENDER);
    for attempt in &attempts {
        assert_eq!((&attempt["trace"], &attempt["parent"]), (&whole["trace"], &whole["span"]));
        assert_eq!(text(attempt, "inrush.message.id"), id);
        assert_eq!(text(attempt, "inrush.route"), "next");
        assert!(text(attempt, "inrush.relay").ends_with(&peer.address().port().to_string()));
        assert!(attempt["start"].as_u64().unwrap() >= whole["start"].as_u64().unwrap());
        assert!(attempt["end"].as_u64().unwrap() <= whole["end"].as_u64().unwrap());
        assert_eq!(attempt["resource"]["service.name"], "inrush");
        assert_eq!(attempt["resource"]["host.name"], "mx.test.example");
        assert_eq!(attempt["authorization"], "Bearer of-the-collector");
    }
    assert_eq!(first["error"], "4.2.1 come back\\u{1b}[2J later");
    assert_eq!(first["attributes"]["inrush.recipients.sent"], 1);
    assert_eq!(first["attributes"]["inrush.recipients.deferred"], 1);
    let events: Vec<_> =
        first["events"].as_array().unwrap().iter().map(|event| event["name"].clone()).collect();
    assert_eq!(events, ["connected", "sending", "recipient", "recipient"]);
    let last = attempts.last().unwrap();
    assert_eq!((&last["error"], &last["attributes"]["inrush.attempt"]), (&Value::Null, &Value::from(2)));

    // What comes stands in the page, and what it names comes.
    let documented = documented();
    let mut come = BTreeSet::new();
    for span in attempts.iter().chain([&whole]) {
        let events = span["events"].as_array().unwrap();
        come.extend(events.iter().map(|event| event["name"].as_str().unwrap().to_owned()));
        for attributes in events.iter().map(|event| &event["attributes"]).chain([&span["attributes"]]) {
            come.extend(attributes.as_object().unwrap().keys().cloned());
        }
    }
    assert!(come.is_subset(&documented), "not in the page: {:?}", come.difference(&documented));
    let seldom = ["inrush.tls", "inrush.recipients.bounced", "inrush.recipients.expired"];
    let named =
        documented.iter().filter(|name| name.starts_with("inrush.") && !seldom.contains(&name.as_str()));
    let missing: Vec<_> = named.filter(|name| !come.contains(*name)).collect();
    assert!(missing.is_empty(), "in the page, but never seen: {missing:?}");
    let dump = process::finish({
        let mut command =
            process::command(binary::inrush().to_str().unwrap(), ["config", "dump", "--config"]);
        command.arg(server.config());
        command
    });
    assert!(!dump.succeeded().text().contains("of-the-collector"));
}

#[test]
fn a_request_is_a_span_in_the_trace_of_who_asks() {
    let collector = Collector::start();
    let peer = Peer::start(Script::smtp());
    let server = gateway(&peer, &endpoint(&collector, "one_in = 1000000"));
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "sent");
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    for (path, status) in [("metrics", 200), ("api/v1/none", 404), (&*format!("api/v1/messages/{id}"), 200)] {
        assert_eq!(http::get_with(server.admin(), &format!("/{path}"), parent).status, status, "{path}");
    }
    let span = collector.wait_for("GET /api/v1/messages/{id}", 1).remove(0);
    let unknown = collector.wait_for("GET", 1).remove(0);
    assert_eq!(
        (&span["trace"], &span["parent"]),
        (&"4bf92f3577b34da6a3ce929d0e0e4736".into(), &"00f067aa0ba902b7".into())
    );
    assert_eq!((&span["kind"], &span["error"]), (&Value::from(2), &Value::Null));
    assert_eq!(text(&span, "url.path"), format!("/api/v1/messages/{id}"));
    let documented = documented();
    for key in
        span["attributes"].as_object().unwrap().keys().chain(span["resource"].as_object().unwrap().keys())
    {
        assert!(documented.contains(key), "not in the page: {key}");
    }
    assert_eq!(unknown["attributes"]["http.response.status_code"], 404);
    assert!(collector.spans().iter().all(|span| span["name"] != "GET /metrics"));
}

/// A collector that takes nothing, and one that nobody vouches for, cost spans and nothing else.
#[test]
fn spans_that_nobody_takes_are_counted() {
    let authority = Authority::new();
    let files = authority.issue("127.0.0.1");
    let deaf = Collector::answering(401, None);
    let unknown = Collector::answering(200, Some(&files));
    let urls = [
        format!("http://127.0.0.1:{}", deaf.port()),
        format!("https://127.0.0.1:{}", unknown.port()),
        "http://127.0.0.1:1".to_owned(),
    ];
    for url in urls {
        let peer = Peer::start(Script::smtp());
        let mut server = gateway(&peer, &format!("[opentelemetry]\nendpoint = \"{url}\"\n"));
        let id = simple(&server, "x", &["b@example.com"]);
        outcome(&server, &id, "b@example.com", "sent");
        process::eventually("both spans are counted as lost", || {
            Samples::scrape(server.admin()).sum("inrush_spans_dropped_total", &[]) == 2.0
        });
        server.wait_for_log("spans are lost: the endpoint of [opentelemetry] takes none");
        assert_eq!(Samples::scrape(server.admin()).sum("inrush_spans_sent_total", &[]), 0.0);
        server.stop();
    }
    assert!(deaf.spans().is_empty() && unknown.spans().is_empty());
}

#[test]
fn what_is_left_leaves_at_the_end_over_tls() {
    let authority = Authority::new();
    let collector = Collector::answering(200, Some(&authority.issue("localhost")));
    let peer = Peer::start(Script::smtp());
    let table = format!("[opentelemetry]\nendpoint = \"https://localhost:{}\"\n", collector.port());
    let mut settings = settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), table]);
    settings.launcher =
        vec!["env".to_owned(), format!("SSL_CERT_FILE={}", authority.certificate().display())];
    let mut server = Server::with(settings);
    let mut client = Client::greeted(server.mx());
    for number in 0..100 {
        crate::delivery::hand_over(
            &mut client,
            "<a@example.org>",
            &["<b@example.com>"],
            &crate::delivery::text(&number.to_string()),
        );
    }
    client.say("QUIT", 221);
    peer.wait_for(100);
    server.stop();
    collector.wait_for("message", 100);
    collector.wait_for("delivery attempt", 100);
}
