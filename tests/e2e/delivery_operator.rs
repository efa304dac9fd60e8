//! What an operator does to the queue, and what must not come of it: who is meant, who is told, what is refused.

use std::collections::BTreeSet;

use inrush_tests::http;
use inrush_tests::peer::{Answer, Peer, Script, Stage};
use inrush_tests::process;
use inrush_tests::server::Server;

use crate::delivery::{Between, SENDER, outcome, simple, smarthost};
use crate::delivery_queue::{entries, nobody, queue};

/// Attempts that come by themselves only when the test is over.
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\nkeep_delivered = \"1d\"\n";

/// The header that a change needs.
const OURS: &str = "X-Inrush: 1\r\n";

/// Recipients that wait, sorted.
fn waiting(server: &Server) -> Vec<String> {
    let entries = entries(server, &[]);
    let recipients = entries.iter().flat_map(|entry| entry["recipients"].as_array().unwrap());
    let mut waiting: Vec<_> = recipients.map(|path| path.as_str().unwrap().to_owned()).collect();
    waiting.sort();
    waiting
}

#[test]
fn a_domain_means_the_recipients_in_it_alone() {
    let address = nobody();
    let server = smarthost(address, SLOW);
    // The smarthost takes every domain: all of them wait together.
    let id = simple(&server, "x", &["a@one.example", "b@two.example", "c@three.example", "d@four.example"]);
    process::eventually("they wait", || entries(&server, &[]).len() == 1);
    queue(&server, &["delete", "--domain", "one.example", "--yes"]);
    assert_eq!(waiting(&server), ["b@two.example", "c@three.example", "d@four.example"]);
    queue(&server, &["hold", "--domain", "two.example"]);
    let held = entries(&server, &[]).into_iter().filter(|entry| entry["state"] == "hold");
    let held: Vec<_> = held.map(|entry| entry["recipients"].clone()).collect();
    assert_eq!(held, [serde_json::json!(["b@two.example"])]);
    queue(&server, &["bounce", "--domain", "three.example", "--yes"]);
    outcome(&server, &id, "c@three.example", "bounced");
    let peer = Peer::start_at(address, Script::smtp());
    queue(&server, &["flush", "--all"]);
    outcome(&server, &id, "d@four.example", "sent");
    queue(&server, &["release", "--domain", "two.example"]);
    outcome(&server, &id, "b@two.example", "sent");
    let messages = peer.messages();
    let accepted: BTreeSet<_> = messages.iter().flat_map(|message| message.accepted()).collect();
    // The report to the sender took the same way.
    assert_eq!(accepted, ["b@two.example", "d@four.example", SENDER].into());
}

#[test]
fn what_is_returned_goes_to_its_sender() {
    let later = Script::smtp().on(Stage::Mail, Answer::reply("450 4.7.1 later"));
    let between = Between::with(later, "", SLOW);
    let server = &between.server;
    let id = simple(server, "x", &["a@one.example", "b@one.example"]);
    outcome(server, &id, "a@one.example", "deferred");
    process::eventually("it waits", || entries(server, &[]).len() == 1);
    assert_eq!(queue(server, &["bounce", &id, "--yes"]).trim(), "bounce: 1 of 1 entries");
    outcome(server, &id, "a@one.example", "bounced");
    let report = between.report();
    assert_eq!(report.recipients(), 2);
    assert_eq!(report.of_recipient("b@one.example", "status"), "5.0.0");
    assert!(report.words().contains("returned by the operator"), "{}", report.words());
    process::eventually("nothing waits", || entries(server, &[]).is_empty());
}

#[test]
fn changes_that_would_not_be_what_they_seem_are_refused() {
    let server = smarthost(nobody(), SLOW);
    simple(&server, "x", &["a@one.example"]);
    process::eventually("it waits", || entries(&server, &[]).len() == 1);
    let delete = "/api/v1/queue/delete?domain=one.example";
    let refused = http::post(server.admin(), delete, "");
    assert_eq!(refused.status, 403, "{}", refused.body);
    // A bound that is not kept would delete more than was asked for.
    for path in ["/api/v1/queue/delete?all=true&limit=1", "/api/v1/replay?route=next&domain=x&limit=1"] {
        let refused = http::post(server.admin(), path, OURS);
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains("limit"), "{}", refused.body);
    }
    assert_eq!(waiting(&server), ["a@one.example"]);
    let done = http::post(server.admin(), delete, OURS);
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(waiting(&server), [""; 0]);
}

#[test]
fn without_a_route_there_is_no_queue() {
    let server = Server::start();
    let answer = http::get(server.admin(), "/api/v1/queue");
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.contains("no route is set"), "{}", answer.body);
}
