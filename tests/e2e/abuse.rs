//! Who does not behave: early talkers, clients that do not wait, and those who make many mistakes. What a dialog can show is shown there.

use std::time::{Duration, Instant};

use inrush_tests::client::Client;
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// Nobody is without limits.
fn server(listener: &str, limits: &[&str]) -> Server {
    let mut settings = Settings::default().tables("[access]\nallow = [\"127.0.0.9\"]");
    settings.listener = vec![listener.to_owned()];
    settings.limits = limits.iter().map(|line| (*line).to_owned()).collect();
    Server::with(settings)
}

fn count(server: &Server, metric: &str, labels: &[&str]) -> f64 {
    Samples::scrape(server.admin()).sum(metric, labels)
}

#[test]
fn early_talkers_are_refused() {
    let server = server("greet_delay = \"5s\"", &[]);
    let mut early = Client::open(server.mx()).unwrap();
    early.send(b"EHLO spam.test.example\r\n").unwrap();
    let reply = early.expect(554);
    assert!(reply.text().contains("5.7.1"), "{}", reply.text());
    assert!(early.rest().is_empty());
    assert_eq!(count(&server, "inrush_refusals_total", &["reason=\"early_talker\""]), 1.0);
    // Who waits is served, and waits as long as it is told.
    let begun = Instant::now();
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    assert!(begun.elapsed() >= Duration::from_secs(5));
}

/// A peer that hangs up meanwhile leaves nothing behind, and one without limits is greeted at once.
#[test]
fn greetings_are_not_held_back_for_all() {
    let server = server("greet_delay = \"30s\"", &[]);
    for _ in 0..20 {
        drop(Client::open(server.mx()).unwrap());
    }
    process::eventually("nobody is waited for who has left", || {
        count(&server, "inrush_connections_open", &[]) == 0.0
    });
    assert_eq!(count(&server, "inrush_refusals_total", &["reason=\"early_talker\""]), 0.0);
    let mut client = Client::open_from("127.0.0.9".parse().unwrap(), server.mx()).unwrap();
    client.expect(220);
    client.say("QUIT", 221);
}

#[test]
fn who_does_not_wait_is_closed_out() {
    let server = server("unauthorized_pipelining = \"reject\"", &[]);
    let mut client = Client::open(server.mx()).unwrap();
    client.expect(220);
    client.send(b"EHLO spam.test.example\r\nMAIL FROM:<a@b.example>\r\n").unwrap();
    client.expect(503);
    assert!(client.rest().is_empty());
    assert_eq!(count(&server, "inrush_unauthorized_pipelining_total", &[]), 1.0);
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
}

#[test]
fn mistakes_are_answered_later_and_later_not_at_all() {
    let limits = ["tarpit_after = 1", "tarpit_delay = \"300ms\"", "errors_max = 4"];
    let server = server("tls = \"off\"", &limits);
    let mut client = Client::greeted(server.mx());
    client.say("NONSENSE", 500);
    let begun = Instant::now();
    for _ in 0..3 {
        client.say("NONSENSE", 500);
    }
    assert!(begun.elapsed() >= Duration::from_millis(900));
    client.say("NONSENSE", 421);
    assert_eq!(count(&server, "inrush_tarpit_total", &[]), 4.0);
    // Nor does it help to say them all at once.
    let mut client = Client::greeted(server.mx());
    let begun = Instant::now();
    client.send(&b"NONSENSE\r\n".repeat(4)).unwrap();
    for _ in 0..4 {
        client.expect(500);
    }
    assert!(begun.elapsed() >= Duration::from_millis(900));
    assert_eq!(count(&server, "inrush_tarpit_total", &[]), 7.0);
    // Not for those without limits.
    let mut client = Client::open_from("127.0.0.9".parse().unwrap(), server.mx()).unwrap();
    client.expect(220);
    for _ in 0..4 {
        client.say("NONSENSE", 500);
    }
    assert_eq!(count(&server, "inrush_tarpit_total", &[]), 7.0);
}

/// Clients that are made to wait cost no memory for mail meanwhile: else they would take it from those who have some.
#[test]
fn who_waits_for_replies_holds_no_buffer() {
    let limits = ["tarpit_after = 1", "tarpit_delay = \"20s\"", "errors_max = 1000"];
    let server = server("tls = \"off\"", &limits);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::greeted(server.mx())).collect();
    for client in &mut clients {
        client.send(&b"NONSENSE\r\n".repeat(2)).unwrap();
    }
    process::eventually("all of them wait", || count(&server, "inrush_tarpit_total", &[]) == 20.0);
    // Gauges are set once a second: with one more session there has been a look since.
    clients.push(Client::greeted(server.mx()));
    process::eventually("the core has looked", || count(&server, "inrush_connections_open", &[]) == 21.0);
    assert_eq!(count(&server, "inrush_pending_bytes", &[]), 0.0);
}

/// The gateway ends at once though clients wait for their greeting, and tells them.
#[test]
fn a_stop_ends_the_wait() {
    let mut server = server("greet_delay = \"30s\"", &[]);
    let mut client = Client::open(server.mx()).unwrap();
    process::eventually("the client is there", || count(&server, "inrush_connections_open", &[]) == 1.0);
    server.stop();
    client.expect(421);
}
