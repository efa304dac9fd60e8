//! Routes change while mail waits for them, each change with a restart: nothing is lost, and what waits goes where the documents say.

use std::collections::BTreeSet;

use inrush_tests::peer::{Answer, Peer, Script, Stage};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, maildir};
use tempfile::TempDir;

use crate::delivery::{
    QUICK, SENDER, domain, outcome, outcomes, route, send, settings, simple, subject, text,
};
use crate::delivery_queue::{entries, queue};

/// Waiting mail is tried again when a test says so, or after a restart, when it is due at once.
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\n";

fn later() -> Script {
    Script::smtp().on(Stage::Recipient, Answer::reply("450 4.7.1 come back"))
}

/// Two hosts: mail to `a.example` goes to the first, everything else to the second, by routes of these names.
fn two(first: (&str, &Peer), second: (&str, &Peer), queue: &str) -> Settings {
    settings(&[
        route(first.0, "smtp", &[first.1.address()], ""),
        route(second.0, "smtp", &[second.1.address()], ""),
        domain("a.example", first.0),
        domain("*", second.0),
        queue.to_owned(),
    ])
}

fn subjects(peer: &Peer) -> BTreeSet<String> {
    let taken = |replies: &[String]| replies.iter().any(|reply| reply.starts_with('2'));
    let messages = peer.messages();
    messages.iter().filter(|one| taken(&one.replies)).map(|one| subject(&one.octets)).collect()
}

fn destinations(server: &Server) -> BTreeSet<String> {
    let listed = entries(server, &[]);
    listed.iter().map(|entry| entry["destination"].as_str().unwrap().to_owned()).collect()
}

/// What waits has the old name; there is no such route any more, and the domain has another one.
#[test]
fn a_route_gets_another_name() {
    let (first, second) = (Peer::start(later()), Peer::start(Script::smtp()));
    let mut server = Server::with(two(("old", &first), ("rest", &second), SLOW));
    let body = [&text("waits")[..], b"..\r\n"].concat();
    let id = send(&server, &format!("<{SENDER}>"), &["<x@a.example>", "<y@b.example>"], &body);
    outcome(&server, &id, "x@a.example", "deferred");
    outcome(&server, &id, "y@b.example", "sent");
    assert_eq!(destinations(&server), BTreeSet::from(["old".to_owned()]));
    first.change(Script::smtp());
    server.restart_with(two(("new", &first), ("rest", &second), SLOW));
    queue(&server, &["flush", "--all"]);
    let line = outcome(&server, &id, "x@a.example", "sent");
    assert!(line.contains(&format!("]:{}", first.address().port())), "{line}");
    let came = first.messages();
    export::assert_body(&came.last().unwrap().octets, &body, &id);
    assert_eq!(came.last().unwrap().accepted(), ["x@a.example"]);
    process::eventually("the queue is empty", || entries(&server, &[]).is_empty());
    assert_eq!(second.messages().len(), 1, "who has it does not get it again");
}

/// A message for two domains that waited together for one route goes two ways, each recipient its own.
#[test]
fn a_route_is_gone_and_its_domains_part() {
    let (first, second, third) =
        (Peer::start(later()), Peer::start(Script::smtp()), Peer::start(Script::smtp()));
    let mut server = Server::with(settings(&[
        route("old", "smtp", &[first.address()], ""),
        domain("*", "old"),
        SLOW.to_owned(),
    ]));
    let id = send(
        &server,
        &format!("<{SENDER}>"),
        &["<x@a.example>", "<y@b.example>", "<z@a.example>"],
        &text("parts"),
    );
    for recipient in ["x@a.example", "y@b.example", "z@a.example"] {
        outcome(&server, &id, recipient, "deferred");
    }
    assert_eq!(entries(&server, &[]).len(), 1, "they wait together");
    server.restart_with(two(("second", &second), ("third", &third), SLOW));
    queue(&server, &["flush", "--all"]);
    for recipient in ["x@a.example", "y@b.example", "z@a.example"] {
        outcome(&server, &id, recipient, "sent");
    }
    assert_eq!(second.messages()[0].accepted(), ["x@a.example", "z@a.example"]);
    assert_eq!(third.messages()[0].accepted(), ["y@b.example"]);
    assert_eq!((second.messages().len(), third.messages().len()), (1, 1));
    process::eventually("the queue is empty", || entries(&server, &[]).is_empty());
}

/// No route takes its domain any more: it waits, is seen, and goes when there is one again.
#[test]
fn a_route_is_gone_and_no_other_takes_its_mail() {
    let (first, second) = (Peer::start(later()), Peer::start(Script::smtp()));
    let with = |first: &Peer| {
        settings(&[
            route("old", "smtp", &[first.address()], ""),
            route("rest", "smtp", &[second.address()], ""),
            domain("a.example", "old"),
            domain("b.example", "rest"),
            QUICK.to_owned(),
        ])
    };
    let mut server = Server::with(with(&first));
    let id = simple(&server, "nowhere", &["x@a.example"]);
    outcome(&server, &id, "x@a.example", "deferred");
    server.restart_with(settings(&[
        route("rest", "smtp", &[second.address()], ""),
        domain("b.example", "rest"),
        QUICK.to_owned(),
    ]));
    let line = outcome(&server, &id, "x@a.example", "deferred");
    assert!(line.contains("dsn=4.3.5 ") && line.contains("no route for this recipient"), "{line}");
    // It is looked at again and again, and holds up nobody.
    process::eventually("another look", || outcomes(&server, &id, "x@a.example").len() >= 3);
    let other = simple(&server, "elsewhere", &["y@b.example"]);
    outcome(&server, &other, "y@b.example", "sent");
    assert_eq!(entries(&server, &[]).len(), 1);
    first.change(Script::smtp());
    server.restart_with(with(&first));
    outcome(&server, &id, "x@a.example", "sent");
    assert_eq!(subjects(&first), BTreeSet::from(["nowhere".to_owned()]));
    assert_eq!(subjects(&second), BTreeSet::from(["elsewhere".to_owned()]));
}

/// Nobody is to take it, and time is up: its sender hears of it.
#[test]
fn a_route_is_gone_until_its_mail_expires() {
    let (first, reports) = (Peer::start(later()), Peer::start(Script::smtp()));
    let queue = "[queue]\nretry_first = \"100ms\"\nretry_max = \"1s\"\nlifetime = \"3s\"\n";
    let back = [route("back", "smtp", &[reports.address()], ""), domain("client.test.example", "back")];
    let mut server = Server::with(settings(&[
        route("old", "smtp", &[first.address()], ""),
        domain("a.example", "old"),
        back.concat(),
        "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\n".to_owned(),
    ]));
    let id = simple(&server, "nowhere", &["x@a.example"]);
    outcome(&server, &id, "x@a.example", "deferred");
    server.restart_with(settings(&[back.concat(), queue.to_owned()]));
    let line = outcome(&server, &id, "x@a.example", "expired");
    assert!(line.contains("dsn=4."), "{line}");
    let report = crate::delivery::Report::read(&reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("x@a.example", "action"), "failed");
    assert!(report.of_recipient("x@a.example", "status").starts_with("4."));
}

#[test]
fn a_route_gets_other_hosts_and_another_kind() {
    let (old, new) = (Peer::start(later()), Peer::start(Script::lmtp()));
    let folder = TempDir::with_prefix("inrush-mail-").unwrap();
    let with = |kind: &str, hosts: &[std::net::SocketAddr], lines: &str| {
        settings(&[route("store", kind, hosts, lines), domain("*", "store"), SLOW.to_owned()])
    };
    let mut server = Server::with(with("smtp", &[old.address()], ""));
    let ids = ["a", "b"].map(|name| simple(&server, name, &[&format!("{name}@a.example")]));
    outcome(&server, &ids[0], "a@a.example", "deferred");
    outcome(&server, &ids[1], "b@a.example", "deferred");
    // Other hosts, another protocol.
    server.restart_with(with("lmtp", &[new.address()], ""));
    queue(&server, &["flush", &ids[0]]);
    outcome(&server, &ids[0], "a@a.example", "sent");
    assert_eq!(new.messages()[0].hello, "LHLO mx.test.example");
    // Mailboxes.
    let path = format!("path = \"{}/{{user}}\"\n", folder.path().display());
    server.restart_with(with("maildir", &[], &path));
    queue(&server, &["flush", &ids[1]]);
    outcome(&server, &ids[1], "b@a.example", "sent");
    assert_eq!(maildir::messages(&folder.path().join("b")).len(), 1);
    assert_eq!(new.messages().len(), 1);
}

/// New mail goes the new way, what waits the old one, as long as that is there.
#[test]
fn a_domain_gets_another_route() {
    let (first, second) = (Peer::start(later()), Peer::start(Script::smtp()));
    let with = |name: &str| {
        settings(&[
            route("first", "smtp", &[first.address()], ""),
            route("second", "smtp", &[second.address()], ""),
            domain("a.example", name),
            SLOW.to_owned(),
        ])
    };
    let mut server = Server::with(with("first"));
    let id = simple(&server, "waits", &["x@a.example"]);
    outcome(&server, &id, "x@a.example", "deferred");
    server.restart_with(with("second"));
    let new = simple(&server, "new", &["x@a.example"]);
    outcome(&server, &new, "x@a.example", "sent");
    first.change(Script::smtp());
    queue(&server, &["flush", "--all"]);
    outcome(&server, &id, "x@a.example", "sent");
    assert_eq!(subjects(&first), BTreeSet::from(["waits".to_owned()]));
    assert_eq!(subjects(&second), BTreeSet::from(["new".to_owned()]));
}

/// Without routes nothing goes out and everything stays; when they come back, all of it does, what came meanwhile as well.
#[test]
fn all_routes_are_gone_and_come_back() {
    let peer = Peer::start(later());
    let with_routes =
        || settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), QUICK.to_owned()]);
    let without =
        || settings(&["[[domain]]\nname = \"*\"\nrecipients = \"any\"\n".to_owned(), QUICK.to_owned()]);
    let mut server = Server::with(with_routes());
    let waits = simple(&server, "waits", &["x@a.example"]);
    outcome(&server, &waits, "x@a.example", "deferred");
    server.restart_with(without());
    let meanwhile = simple(&server, "meanwhile", &["y@a.example"]);
    assert_eq!(export::all(&server.data()).len(), 2);
    peer.change(Script::smtp());
    server.restart_with(with_routes());
    outcome(&server, &waits, "x@a.example", "sent");
    outcome(&server, &meanwhile, "y@a.example", "sent");
    // Also when nobody remembers what waited, as after `cursor.queue` was removed.
    peer.change(later());
    let again = simple(&server, "again", &["z@a.example"]);
    outcome(&server, &again, "z@a.example", "deferred");
    server.stop();
    for log in std::fs::read_dir(server.data()).unwrap().flatten() {
        let _ = std::fs::remove_file(log.path().join("cursor.queue"));
    }
    server.restart_with(without());
    peer.change(Script::smtp());
    server.restart_with(with_routes());
    outcome(&server, &again, "z@a.example", "sent");
    assert!(subjects(&peer).is_superset(&["waits", "meanwhile", "again"].map(str::to_owned).into()));
}
