//! The queue by command and by the admin API: seen, steered, replayed, counted.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use inrush_tests::binary;
use inrush_tests::http::{self, Samples};
use inrush_tests::peer::{Peer, Script};
use inrush_tests::process;
use inrush_tests::server::Server;
use serde_json::Value;

use crate::delivery::{outcome, simple, smarthost, subject};

/// Attempts that come by themselves only when the test is over.
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\nkeep_delivered = \"1d\"\n";

pub(crate) fn inrush(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::inrush());
    command.args(arguments);
    command
}

#[track_caller]
pub(crate) fn stdout(command: Command) -> String {
    String::from_utf8(process::finish(command).succeeded().stdout).unwrap()
}

/// `inrush queue …` for a running gateway.
#[track_caller]
pub(crate) fn queue(server: &Server, arguments: &[&str]) -> String {
    let mut command = inrush(&["queue"]);
    command.args(arguments).arg("--admin").arg(server.admin().to_string());
    stdout(command)
}

#[track_caller]
pub(crate) fn entries(server: &Server, filter: &[&str]) -> Vec<Value> {
    let listed = queue(server, &[&["list", "--json"], filter].concat());
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

/// An address where nobody listens.
pub(crate) fn nobody() -> std::net::SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn what_waits_is_seen_held_released_returned_and_deleted() {
    let address = nobody();
    let server = smarthost(address, SLOW);
    let all: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| simple(&server, name, &[&format!("{name}@{name}.example")]))
        .collect();
    process::eventually("all of them wait", || entries(&server, &[]).len() == 4);
    assert_eq!(ids(&entries(&server, &["--domain", "B.example"])), [all[1].clone()]);
    assert_eq!(ids(&entries(&server, &["--route", "next", &all[2]])), [all[2].clone()]);
    assert_eq!(entries(&server, &["--older-than", "1h"]).len(), 0);
    assert_eq!(entries(&server, &["--sender", "<>"]).len(), 0);
    let listed = queue(&server, &["list"]);
    assert!(listed.contains(&all[0]) && listed.contains("Connection refused"), "{listed}");
    assert!(listed.contains("in 4 requests."), "{listed}");

    queue(&server, &["hold", &all[0]]);
    queue(&server, &["delete", "--domain", "b.example", "--yes"]);
    assert_eq!(entries(&server, &[&all[0]])[0]["state"], "hold");
    let peer = Peer::start_at(address, Script::smtp());
    queue(&server, &["flush", "--all"]);
    peer.wait_for(2);
    outcome(&server, &all[2], "c@c.example", "sent");
    outcome(&server, &all[3], "d@d.example", "sent");
    process::eventually("only what is held is left", || ids(&entries(&server, &[])) == [all[0].clone()]);

    queue(&server, &["release", &all[0]]);
    outcome(&server, &all[0], "a@a.example", "sent");
    let mut came: Vec<_> = peer.messages().iter().map(|message| subject(&message.octets)).collect();
    came.sort();
    assert_eq!(came, ["a", "c", "d"], "what was deleted does not come");
    assert_eq!(queue(&server, &["list"]).trim(), "Mail queue is empty");

    process::eventually("what was done is counted", || {
        let samples = Samples::scrape(server.admin());
        let count = |reason: &str| {
            samples.sum("inrush_deliveries_total", &["route=\"next\"", &format!("reason=\"{reason}\"")])
        };
        (count("sent"), count("hold"), count("deleted")) == (3.0, 1.0, 1.0)
            && count("deferred") >= 4.0
            && samples.sum("inrush_delivery_delay_seconds_count", &[]) == 3.0
            && samples.sum("inrush_queue_entries", &[]) == 0.0
    });
}

#[test]
fn the_whole_life_of_a_message_is_told_also_by_a_stopped_gateway() {
    let address = nobody();
    let mut server = smarthost(address, SLOW);
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "deferred");
    let peer = Peer::start_at(address, Script::smtp());
    queue(&server, &["flush", &id]);
    peer.wait_for(1);
    outcome(&server, &id, "b@example.com", "sent");
    let check = |life: &Value| {
        assert_eq!(life["recipients"][0]["status"], "sent");
        assert_eq!(life["session"]["listener"], "mx");
        assert!(life["phases"]["accepted"].is_string());
        let attempts = life["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!(attempts[0]["results"][0]["status"], "deferred");
        assert!(attempts[1]["relay"].as_str().unwrap().contains(&address.to_string()[9..]));
        assert!(attempts[1]["results"][0]["reply"].as_str().unwrap().starts_with("250 "));
    };
    check(&serde_json::from_str(&queue(&server, &["show", &id, "--json"])).unwrap());
    server.stop();
    let mut command = inrush(&["queue", "show", &id, "--json", "--data-dir"]);
    command.arg(server.data());
    check(&serde_json::from_str(&stdout(command)).unwrap());
}

#[test]
fn delivered_mail_is_delivered_again_on_request() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost(peer.address(), SLOW);
    let id = simple(&server, "again", &["b@example.com", "c@other.example"]);
    peer.wait_for(1);
    outcome(&server, &id, "c@other.example", "sent");
    let mut command =
        inrush(&["log", "replay", "--route", "next", "--rcpt-domain", "other.example", "--yes"]);
    command.arg("--admin").arg(server.admin().to_string());
    let told = stdout(command);
    assert!(told.contains("1 recipients are owed again"), "{told}");
    let messages = peer.wait_for(2);
    assert_eq!(messages[1].accepted(), ["c@other.example"]);
    assert_eq!(messages[0].octets, messages[1].octets, "the same message, with the same trace");
}

#[test]
fn changes_need_a_choice_a_confirmation_and_the_header() {
    let server = smarthost(nobody(), SLOW);
    let refused = |arguments: &[&str]| {
        let mut command = inrush(&["queue"]);
        command.args(arguments).arg("--admin").arg(server.admin().to_string());
        let finished = process::finish(command);
        assert!(!finished.status.success(), "{arguments:?}");
        finished.text()
    };
    assert!(refused(&["delete", "--yes"]).contains("say which messages are meant"));
    assert!(refused(&["delete", "--all"]).contains("--yes"));
    assert!(refused(&["show", "00000000000000999000"]).contains("no such message"));
    assert_eq!(http::get(server.admin(), "/api/v1/queue").status, 200);
    assert_eq!(http::get(server.admin(), "/api/v1/queue?colour=red").status, 400);
}
