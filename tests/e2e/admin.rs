//! The operator's HTTP: health, metrics that Prometheus itself finds good.

use inrush_tests::client::Client;
use inrush_tests::http::{self, Samples};
use inrush_tests::process;
use inrush_tests::server::Server;

#[test]
fn health() {
    let server = Server::start();
    assert_eq!(http::get(server.admin(), "/healthz").status, 200);
    server.wait_until_accepting();
    assert_eq!(http::get(server.admin(), "/no-such-page").status, 404);
}

#[test]
fn not_ready_while_draining() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    server.terminate();
    // The transaction keeps the process there; readiness is the first thing to go.
    process::eventually("/readyz says no", || http::get(server.admin(), "/readyz").status == 503);
    assert_eq!(http::get(server.admin(), "/healthz").status, 200);
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    client.expect(250);
}

#[test]
fn open_metrics() {
    let server = Server::start();
    let response = http::get(server.admin(), "/metrics");
    assert!(response.head.contains("application/openmetrics-text"), "{}", response.head);
    assert!(response.body.ends_with("# EOF\n"), "{}", response.body);
    // Each metric family is described (OpenMetrics 1.0, "MetricFamily").
    for line in response.body.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(name.starts_with("inrush_"), "{line}");
        assert!(response.body.contains(&format!("# HELP {name} ")), "{line}");
    }
}

/// A scrape of a gateway that has done something, as promtool sees it.
#[test]
fn promtool_check_metrics() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    let scrape = http::request(server.admin(), "/metrics", "text/plain;version=0.0.4");
    assert!(scrape.body.contains("inrush_messages_accepted_total"), "{}", scrape.body);
    let checked = process::finish_with_input(
        process::command("promtool", ["check", "metrics"]),
        scrape.body.as_bytes(),
    );
    assert!(checked.status.success(), "{}\n{}", checked.text(), scrape.body);
}

/// The counters of messages agree with what was accepted, over all cores.
#[test]
fn messages_are_counted_once() {
    let server = Server::start();
    for _ in 0..10 {
        let mut client = Client::greeted(server.mx());
        client.deliver(&["b@example.com", "c@example.com"], b"Subject: x\r\n\r\nx\r\n");
        client.say("QUIT", 221);
    }
    let samples = Samples::scrape(server.admin());
    assert_eq!(samples.sum("inrush_messages_accepted_total", &[]), 10.0);
    assert_eq!(samples.sum("inrush_recipients_accepted_total", &[]), 20.0);
}
