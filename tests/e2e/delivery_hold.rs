//! Mail that is kept until somebody decides: by a route of `kind = "hold"`, and by command.

use std::process::Command;

use inrush_tests::export;
use inrush_tests::http::Samples;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

use crate::delivery::{
    QUICK, Report, SENDER, domain, outcome, outcomes, route, send, settings, simple, text,
};
use crate::delivery_queue::{entries, inrush, nobody, queue, stdout};

/// Mail to `example.com` is held, mail to others goes on to a peer, reports come to another one.
struct Held {
    server: Server,
    peer: Peer,
    reports: Peer,
}

impl Held {
    fn start(queue: &str) -> Self {
        let (peer, reports) = (Peer::start(Script::smtp()), Peer::start(Script::smtp()));
        let server = Server::with(Self::settings("hold", &peer, &reports, queue));
        Self { server, peer, reports }
    }

    /// `kind` = of the route to `example.com`.
    fn settings(kind: &str, peer: &Peer, reports: &Peer, queue: &str) -> Settings {
        let kept_hosts = if kind == "hold" { vec![] } else { vec![peer.address()] };
        settings(&[
            route("kept", kind, &kept_hosts, ""),
            route("next", "smtp", &[peer.address()], ""),
            route("back", "smtp", &[reports.address()], ""),
            domain("example.com", "kept"),
            domain("client.test.example", "back"),
            domain("*", "next"),
            queue.to_owned(),
        ])
    }

    /// What the queue says of a command: found and done.
    fn told(&self, arguments: &[&str]) -> (u64, u64) {
        let said: Value =
            serde_json::from_str(&queue(&self.server, &[arguments, &["--json"]].concat())).unwrap();
        (said["found"].as_u64().unwrap(), said["done"].as_u64().unwrap())
    }

    /// Recipients that are owed again.
    fn replay(&self, arguments: &[&str]) -> u64 {
        let mut command: Command = inrush(&["log", "replay", "--yes", "--json"]);
        command.args(arguments).arg("--admin").arg(self.server.admin().to_string());
        let said: Value = serde_json::from_str(&stdout(command)).unwrap();
        said["recipients"].as_u64().unwrap()
    }

    fn states(&self) -> Vec<String> {
        let listed = entries(&self.server, &[]);
        listed.iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_route_that_holds() {
    let mut held = Held::start(QUICK);
    let body = [&text("kept")[..], b".\r\n\xe4\r\n"].concat();
    let recipients = ["<a@example.com>", "<b@other.example>", "<c@example.com>"];
    let id = send(&held.server, &format!("<{SENDER}>"), &recipients, &body);
    outcome(&held.server, &id, "b@other.example", "sent");
    let line = outcome(&held.server, &id, "a@example.com", "hold");
    assert!(line.contains("relay=none ") && line.contains("dsn=4.3.0 "), "{line}");
    outcome(&held.server, &id, "c@example.com", "hold");

    let listed = &entries(&held.server, &[])[0];
    assert_eq!(
        (&listed["id"], &listed["state"], &listed["route"]),
        (&id.clone().into(), &"hold".into(), &"kept".into())
    );
    assert_eq!(listed["recipients"], serde_json::json!(["a@example.com", "c@example.com"]));
    assert_eq!(listed["next_attempt"], Value::Null);
    assert!(queue(&held.server, &["list"]).contains(&format!("{id}!")));
    process::eventually("it is counted", || {
        let samples = Samples::scrape(held.server.admin());
        samples.sum("inrush_queue_entries", &["reason=\"hold\""]) == 1.0
            && samples.sum("inrush_deliveries_total", &["route=\"kept\"", "reason=\"hold\""]) == 2.0
    });

    // Neither of these is for what the route holds; it would hold it again.
    assert_eq!(held.told(&["flush", &id]), (1, 0));
    assert_eq!(held.told(&["release", &id]), (1, 0));
    assert_eq!(held.told(&["hold", &id]), (1, 0));
    held.server.restart();
    assert_eq!(held.states(), ["hold"]);
    assert_eq!(held.peer.messages().len(), 1);

    // Another route takes it.
    assert_eq!(held.replay(&["--route", "next", "--id", &id, "--rcpt-domain", "example.com"]), 2);
    outcome(&held.server, &id, "a@example.com", "sent");
    outcome(&held.server, &id, "c@example.com", "sent");
    let came = held.peer.messages();
    let mut accepted = came.iter().flat_map(|message| message.accepted()).collect::<Vec<_>>();
    accepted.sort_unstable();
    assert_eq!(accepted, ["a@example.com", "b@other.example", "c@example.com"]);
    for message in &came {
        export::assert_body(&message.octets, &body, &id);
        assert_eq!(message.octets, came[0].octets);
    }
    process::eventually("nothing is held", || held.states().is_empty());
    assert!(held.reports.messages().is_empty());
}

/// The route itself is changed: what it has held is released like other held mail.
#[test]
fn a_route_that_holds_no_more() {
    let mut held = Held::start(QUICK);
    let ids = ["a", "b"].map(|name| simple(&held.server, name, &[&format!("{name}@example.com")]));
    for (id, name) in ids.iter().zip(["a", "b"]) {
        outcome(&held.server, id, &format!("{name}@example.com"), "hold");
    }
    held.server.restart_with(Held::settings("smtp", &held.peer, &held.reports, QUICK));
    // New mail goes its way; what is held stays until somebody decides.
    let new = simple(&held.server, "new", &["c@example.com"]);
    outcome(&held.server, &new, "c@example.com", "sent");
    assert_eq!(held.states(), ["hold", "hold"]);
    assert_eq!(held.told(&["flush", "--all"]), (2, 0));
    assert_eq!(held.told(&["release", &ids[0]]), (1, 1));
    outcome(&held.server, &ids[0], "a@example.com", "sent");
    assert_eq!(held.states(), ["hold"]);
    assert_eq!(held.told(&["release", "--all"]), (1, 1));
    outcome(&held.server, &ids[1], "b@example.com", "sent");
    assert_eq!(held.peer.messages().len(), 3);
}

#[test]
fn held_mail_is_returned_or_deleted() {
    let held = Held::start(QUICK);
    let ids = ["a", "b"].map(|name| simple(&held.server, name, &[&format!("{name}@example.com")]));
    process::eventually("both are held", || held.states() == ["hold", "hold"]);
    assert_eq!(held.told(&["bounce", &ids[0], "--yes"]), (1, 1));
    let line = outcome(&held.server, &ids[0], "a@example.com", "bounced");
    assert!(line.contains("dsn=5.0.0 "), "{line}");
    let report = Report::read(&held.reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("a@example.com", "status"), "5.0.0");
    assert_eq!(held.told(&["delete", &ids[1], "--yes"]), (1, 1));
    process::eventually("nothing is held", || held.states().is_empty());
    // Behind it everything else still goes.
    let next = simple(&held.server, "next", &["c@other.example"]);
    outcome(&held.server, &next, "c@other.example", "sent");
    assert_eq!((held.reports.messages().len(), held.peer.messages().len()), (1, 1));
}

/// It is older than mail may become, and nobody is told until somebody decides.
#[test]
fn held_mail_does_not_expire() {
    let queue = "[queue]\nretry_first = \"100ms\"\nretry_max = \"1s\"\nlifetime = \"3s\"\ndelay_warning_after = \"1s\"\n";
    let mut held = Held::start(queue);
    let id = simple(&held.server, "old", &["a@example.com"]);
    outcome(&held.server, &id, "a@example.com", "hold");
    // The one behind it has expired: so would have this one.
    let dead = Held::settings("hold", &held.peer, &held.reports, queue);
    let dead = dead.tables(&route("dead", "smtp", &[nobody()], "")).tables(&domain("dead.example", "dead"));
    held.server.restart_with(dead);
    let other = simple(&held.server, "dead", &["x@dead.example"]);
    outcome(&held.server, &other, "x@dead.example", "expired");
    let told = held.reports.wait_for(1);
    assert!(told.iter().all(|report| !String::from_utf8_lossy(&report.octets).contains("a@example.com")));
    assert!(outcomes(&held.server, &id, "a@example.com").is_empty());
    assert_eq!(entries(&held.server, &[&id])[0]["state"], "hold");
    // Its lifetime begins anew.
    assert_eq!(held.replay(&["--route", "next", "--id", &id]), 1);
    outcome(&held.server, &id, "a@example.com", "sent");
}

/// By command, of a route that delivers; also over a kill.
#[test]
fn held_by_command_and_released() {
    let mut held = Held::start("[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\n");
    let late = When::at(Stage::Recipient).address("late*");
    held.peer.change(Script::smtp().on(late, Answer::reply("450 4.7.1 come back")));
    let id = simple(&held.server, "late", &["late@other.example"]);
    outcome(&held.server, &id, "late@other.example", "deferred");
    assert_eq!(held.told(&["hold", &id]), (1, 1));
    assert_eq!(held.states(), ["hold"]);
    // Its outcome is durable when that of the next message is.
    let next = simple(&held.server, "next", &["b@other.example"]);
    outcome(&held.server, &next, "b@other.example", "sent");
    held.server.stop();
    held.server.restart();
    assert_eq!(held.states(), ["hold"]);
    held.peer.change(Script::smtp());
    assert_eq!(held.told(&["flush", "--all"]), (1, 0));
    assert_eq!(held.told(&["release", &id]), (1, 1));
    outcome(&held.server, &id, "late@other.example", "sent");
    process::eventually("the queue is empty", || held.states().is_empty());
}

/// A replay of a message is one transaction for all of its recipients, not a copy for each.
#[test]
fn a_replay_for_several_recipients_is_one_transaction() {
    let held = Held::start(QUICK);
    let recipients = (0..20).map(|number| format!("r{number}@example.com")).collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    let id = simple(&held.server, "together", &recipients);
    for recipient in &recipients {
        outcome(&held.server, &id, recipient, "hold");
    }
    assert_eq!(held.replay(&["--route", "next", "--id", &id]), 20);
    for recipient in &recipients {
        outcome(&held.server, &id, recipient, "sent");
    }
    let transactions =
        held.peer.messages().iter().map(|message| message.accepted().len()).collect::<Vec<_>>();
    assert_eq!(transactions, [20]);
}
