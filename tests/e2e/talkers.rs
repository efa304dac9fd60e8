//! Top talkers: who is shown, and for what.

use std::net::{IpAddr, Ipv4Addr};

use inrush_tests::client::Client;
use inrush_tests::http;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

fn greeted(server: &Server, last_octet: u8) -> Client {
    let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, last_octet));
    let mut client = Client::open_from(source, server.mx()).unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    client
}

fn deliver(client: &mut Client, sender: &str, recipients: &[&str]) {
    client.say(&format!("MAIL FROM:<{sender}>"), 250);
    for recipient in recipients {
        client.say(&format!("RCPT TO:<{recipient}>"), 250);
    }
    client.say("DATA", 354);
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    client.expect(250);
}

/// name, messages, refusals.
fn talkers(server: &Server, query: &str) -> Vec<(String, u64, u64)> {
    let response = http::get(server.admin(), &format!("/api/v1/talkers?{query}"));
    assert_eq!(response.status, 200, "{}", response.body);
    assert!(response.head.contains("application/json"), "{}", response.head);
    let document: Value = serde_json::from_str(&response.body).unwrap();
    assert!(document["window_seconds"].as_f64().is_some_and(|window| (0.0..=120.0).contains(&window)));
    let number = |talker: &Value, field: &str| talker[field].as_u64().unwrap();
    let all = document["talkers"].as_array().unwrap().iter().map(|talker| {
        assert_eq!(talker["over_by_at_most"], 0, "there are few of them: {talker}");
        assert_eq!(number(talker, "bytes") > 0, number(talker, "messages") > 0, "{talker}");
        let name = talker["name"].as_str().unwrap().to_owned();
        (name, number(talker, "messages"), number(talker, "refusals"))
    });
    all.collect()
}

fn named(found: &[(String, u64, u64)]) -> Vec<(&str, u64, u64)> {
    found.iter().map(|(name, messages, refusals)| (name.as_str(), *messages, *refusals)).collect()
}

#[test]
fn who_sends_and_who_is_refused() {
    let server = Server::with(Settings::default().recipients(&["b@example.com", "c@example.com"]));
    let mut one = greeted(&server, 2);
    for _ in 0..3 {
        deliver(&mut one, "a@One.Example", &["b@example.com", "c@EXAMPLE.com"]);
    }
    deliver(&mut one, "", &["b@example.com"]);
    let mut two = greeted(&server, 3);
    two.say("MAIL FROM:<a@two.example>", 250);
    two.say("RCPT TO:<nobody@example.com>", 550);
    two.say("RCPT TO:<b@elsewhere.example>", 550);
    two.say("NONSENSE", 500);
    two.say("RSET", 250);
    assert_eq!(named(&talkers(&server, "by=address")), [("127.0.0.2", 4, 0), ("127.0.0.3", 0, 3)]);
    assert_eq!(
        named(&talkers(&server, "by=sender_domain")),
        [("one.example", 3, 0), ("two.example", 0, 3), ("<>", 1, 0)]
    );
    assert_eq!(
        named(&talkers(&server, "by=recipient_domain")),
        [("example.com", 4, 1), ("elsewhere.example", 0, 1)]
    );
    assert_eq!(talkers(&server, "by=address&limit=1").len(), 1);
    assert_eq!(talkers(&server, "").len(), 2, "by address");
    for wrong in ["by=helo", "limit=0", "limit=1000", "since=1"] {
        let response = http::get(server.admin(), &format!("/api/v1/talkers?{wrong}"));
        assert_eq!(response.status, 400, "{wrong}: {}", response.body);
        assert!(response.body.contains("\"error\""), "{}", response.body);
    }
}

#[test]
fn connections_that_get_no_session_count_for_their_peer() {
    let (top, limits) = (vec!["cores = 1".into()], vec!["connections_max = 1".into()]);
    let server = Server::with(Settings { top, limits, ..Settings::default() });
    let first = greeted(&server, 2);
    let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    for _ in 0..4 {
        Client::open_from(source, server.mx()).unwrap().expect(421);
    }
    process::eventually("refused connections are counted", || {
        named(&talkers(&server, "by=address")) == [("127.0.0.2", 0, 4)]
    });
    drop(first);
}

/// No metric has an address or a domain of a peer among its labels.
#[test]
fn peers_are_no_labels() {
    let server = Server::start();
    let mut client = greeted(&server, 7);
    deliver(&mut client, "a@sender.example", &["b@example.com"]);
    let text = http::get(server.admin(), "/metrics").body;
    for word in ["127.0.0.7", "sender.example", "example.com"] {
        assert!(!text.contains(word), "{word}");
    }
}
