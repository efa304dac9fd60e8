//! USR2: a new process takes the listening sockets and the data directory, the old one finishes its sessions. No connection fails, no mail is lost or
//! doubled, and a new process that does not get ready changes nothing.

use std::fs;
use std::sync::atomic::Ordering;

use inrush_tests::client::{Client, accepted};
use inrush_tests::ledger::Ledger;
use inrush_tests::peer::{Peer, Script};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, http, process};

use crate::delivery::{domain, outcome, route, settings, simple, subject};

/// Sent in two parts, with whatever happens between them.
const HALVES: [&[u8]; 2] = [b"Subject: running\r\n\r\nfirst half, ", b"second half\r\n"];

/// A session with half of its mail sent.
fn halfway(server: &Server) -> Client {
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(HALVES[0]).unwrap();
    client
}

/// Sends the other half; the id of the message.
fn finish(client: &mut Client) -> String {
    client.send(HALVES[1]).unwrap();
    client.send(b".\r\n").unwrap();
    accepted(&client.expect(250))
}

fn change_config(server: &Server, from: &str, to: &str) {
    let text = fs::read_to_string(server.config()).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(server.config(), text.replace(from, to)).unwrap();
}

/// Upgrades with senders that open one connection after another and take none of them to be refused, cut off or answered with anything but success.
fn under_load(engine: &str, upgrades: u32) {
    let mut server = Server::with(Settings::default().engine(engine));
    let mut ledger = Ledger::default();
    ledger.load(&mut server, |server, round| {
        let _guard = round.guard();
        for _ in 0..upgrades {
            let sent = round.next();
            server.upgrade();
            process::eventually("the new process takes mail", || round.next() > sent + 100);
        }
        round.over.store(true, Ordering::SeqCst);
        server.stop();
    });
    assert!(ledger.acknowledged() > 100 * upgrades as usize);
    ledger.check(&server);
}

#[test]
fn ten_under_load() {
    under_load("io_uring", 10);
}

#[test]
fn under_load_with_epoll() {
    under_load("epoll", 3);
}

#[test]
fn sessions_end_in_the_old_process_and_the_queue_goes_over() {
    let peer = Peer::start(Script::smtp());
    let tables = [route("out", "smtp", &[peer.address()], ""), domain("example.com", "out")];
    let mut server = Server::with(settings(&tables));
    let before = simple(&server, "before", &["b@example.com"]);
    outcome(&server, &before, "b@example.com", "sent");
    let mut running = halfway(&server);
    let old = server.pid();

    server.begin_upgrade();
    server.wait_for_log("takes connections, this one finishes its sessions");
    assert_eq!(server.pid(), old, "it has sessions");
    // The new process takes this one, and delivers it when the old one has ended.
    let mut client = greeted_by_the_new_one(&server);
    let fresh = client.deliver(&["b@example.com"], b"Subject: fresh\r\n\r\nx\r\n");
    process::eventually("the new process answers the operator", || {
        let queue = http::get(server.admin(), "/api/v1/queue");
        queue.status == 503 && queue.body.contains("the process before this one still has the queue")
    });
    let running_id = finish(&mut running);
    assert_eq!(peer.wait_for(2).len(), 2, "the old process delivers what it has taken");
    running.say("QUIT", 221);

    server.finish_upgrade();
    assert_ne!(server.pid(), old);
    for id in [&before, &running_id, &fresh] {
        outcome(&server, id, "b@example.com", "sent");
    }
    client.say("QUIT", 221);
    let after = simple(&server, "after", &["b@example.com"]);
    outcome(&server, &after, "b@example.com", "sent");
    let mut subjects: Vec<String> =
        peer.messages().iter().map(|message| subject(&message.octets).to_owned()).collect();
    subjects.sort();
    assert_eq!(subjects, ["after", "before", "fresh", "running"], "each of them once");
    server.stop();
}

/// A session with the new process. For a moment the old one may still take some; the admin server is the new one's.
fn greeted_by_the_new_one(server: &Server) -> Client {
    let mut client = None;
    process::eventually("the new process takes a session", || {
        client = Some(Client::greeted(server.mx()));
        http::get(server.admin(), "/api/v1/sessions").body.contains("127.0.0.1")
    });
    client.unwrap()
}

#[test]
fn sessions_have_their_time_and_no_more() {
    let mut server =
        Server::with(Settings { limits: vec!["upgrade_deadline = \"1s\"".into()], ..Settings::default() });
    let mut idle = Client::greeted(server.mx());
    let mut running = halfway(&server);
    server.begin_upgrade();
    assert!(idle.expect(421).text().contains("4.3.2"), "an idle session is told to come again");
    // Mail that is on its way has what a stop gives it.
    let id = finish(&mut running);
    assert!(running.expect(421).text().contains("4.3.2"));
    server.finish_upgrade();
    server.stop();
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_new_process_that_does_not_get_ready_changes_nothing() {
    let peer = Peer::start(Script::smtp());
    let tables = [route("out", "smtp", &[peer.address()], ""), domain("example.com", "out")];
    let mut server = Server::with(settings(&tables));
    let old = server.pid();
    let mut session = Client::greeted(server.mx());

    change_config(&server, "[limits]", "[limits]\nno_such_setting = 1");
    server.begin_upgrade();
    server.wait_for_log("the new process ended before it was ready");
    server.wait_for_log("this process goes on");
    server.wait_for_log("no_such_setting");
    assert_eq!(server.pid(), old);
    let kept = session.deliver(&["b@example.com"], b"Subject: kept\r\n\r\nx\r\n");
    outcome(&server, &kept, "b@example.com", "sent");
    let fresh = simple(&server, "fresh", &["b@example.com"]);
    outcome(&server, &fresh, "b@example.com", "sent");
    assert_eq!(http::get(server.admin(), "/readyz").status, 200);

    // Nor does one that could not share the sockets.
    change_config(&server, "no_such_setting = 1", "");
    let config = fs::read_to_string(server.config()).unwrap();
    fs::write(server.config(), format!("engine = \"epoll\"\n{config}")).unwrap();
    server.begin_upgrade();
    server.wait_for_log("another engine needs a restart");
    process::eventually("it is given up", || server.log().matches("this process goes on").count() == 2);
    fs::write(server.config(), config).unwrap();

    // Mended, it works.
    change_config(&server, "mx.test.example", "mx2.test.example");
    session.say("QUIT", 221);
    server.upgrade();
    assert_ne!(server.pid(), old);
    let mut client = Client::open(server.mx()).unwrap();
    assert!(client.expect(220).text().contains("mx2.test.example"), "the settings of the file hold now");
    assert_eq!(peer.messages().len(), 2);
    server.stop();
}

#[test]
fn the_number_of_cores_may_change() {
    let mut server = Server::with(Settings { top: vec!["cores = 2".into()], ..Settings::default() });
    let mut ids = Vec::new();
    for (from, to) in [("cores = 2", "cores = 1"), ("cores = 1", "cores = 2"), ("cores = 2", "cores = 2")] {
        for _ in 0..4 {
            let mut client = Client::greeted(server.mx());
            ids.push(client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n"));
            client.say("QUIT", 221);
        }
        change_config(&server, from, to);
        server.upgrade();
    }
    for _ in 0..4 {
        ids.push(Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n"));
    }
    server.stop();
    ids.sort();
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), ids);
}

#[test]
fn both_are_told_to_end() {
    let mut server = Server::start();
    let mut running = halfway(&server);
    server.begin_upgrade();
    server.wait_for_log("takes connections, this one finishes its sessions");
    let mut fresh = halfway(&server);
    server.terminate_successor();
    let ids = [finish(&mut running), finish(&mut fresh)];
    for mut client in [running, fresh] {
        assert!(client.expect(421).text().contains("4.3.2"));
    }
    server.wait_for_both();
    assert!(Client::open(server.mx()).is_err(), "nobody listens any more");
    let mut stored: Vec<String> = export::all(&server.data()).into_keys().collect();
    stored.sort();
    let mut ids = Vec::from(ids);
    ids.sort();
    assert_eq!(stored, ids);
}

#[test]
fn the_old_process_dies_in_between() {
    let peer = Peer::start(Script::smtp());
    let tables = [route("out", "smtp", &[peer.address()], ""), domain("example.com", "out")];
    let mut server = Server::with(settings(&tables));
    let mut running = halfway(&server);
    server.begin_upgrade();
    server.wait_for_log("takes connections, this one finishes its sessions");
    let fresh = simple(&server, "fresh", &["b@example.com"]);
    server.kill_predecessor();
    assert!(running.rest().is_empty(), "its session is cut off, without an answer");
    outcome(&server, &fresh, "b@example.com", "sent");
    let after = simple(&server, "after", &["b@example.com"]);
    outcome(&server, &after, "b@example.com", "sent");
    server.stop();
}

#[test]
fn both_die_in_between() {
    let mut server = Server::start();
    let mut running = halfway(&server);
    server.begin_upgrade();
    server.wait_for_log("takes connections, this one finishes its sessions");
    let fresh = simple(&server, "fresh", &["b@example.com"]);
    let kept = finish(&mut running);
    server.kill_both();
    server.restart();
    let last = simple(&server, "last", &["b@example.com"]);
    server.stop();
    let mut stored: Vec<String> = export::all(&server.data()).into_keys().collect();
    stored.sort();
    let mut ids = vec![fresh, kept, last];
    ids.sort();
    assert_eq!(stored, ids);
}
