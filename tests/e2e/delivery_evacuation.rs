//! One message that waits for long does not keep its segment: it moves into the retry log, its arrival log goes, and it is delivered as it came.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use inrush_log::segment_number;
use inrush_tests::client::Client;
use inrush_tests::export::{self, Messages};
use inrush_tests::http::Samples;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, process};
use serde_json::Value;
use tempfile::TempDir;

use crate::delivery::{SENDER, domain, hand_over, outcome, outcomes, route, send, settings, text};
use crate::delivery_queue::{entries, queue};

/// No attempt comes by itself, and what has waited for a second moves.
const QUEUE: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\nevacuate_after = \"1s\"\n";

fn refuses_late() -> Script {
    Script::smtp().on(When::at(Stage::Recipient).address("late*"), Answer::reply("450 4.7.1 come back"))
}

/// One arrival log in small segments, and a host that puts off what is for `late…`.
fn start() -> (Server, Peer) {
    let peer = Peer::start(refuses_late());
    let settings =
        settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), QUEUE.to_owned()]);
    let settings = settings.log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]);
    (Server::with(Settings { top: vec!["cores = 1".into()], ..settings }), peer)
}

/// Numbers of the segments of a log that hold something.
fn segments(server: &Server, log: &str) -> BTreeSet<u64> {
    let folder = server.data().join(log);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.flatten().filter_map(|entry| segment_number(entry.file_name().to_str()?)).collect()
}

/// Mail that is delivered at once, about so many segments of it.
fn pass(server: &Server, segments: u64) {
    let mut random = Random::new(segments);
    let mut client = Client::greeted(server.mx());
    let mut last = String::new();
    for _ in 0..segments * 11 {
        let body = [text("passing"), random.text(100_000)].concat();
        last = hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
    }
    outcome(server, &last, "b@example.com", "sent");
}

/// Waits until so many segments of the arrival log are gone, with mail going through before.
fn until_gone(server: &Server, count: u64) {
    let first = *segments(server, "arrival-00").first().unwrap();
    pass(server, count + 2);
    process::eventually("the first segments of the arrival log go", || {
        segments(server, "arrival-00").first().is_some_and(|now| *now >= first + count)
    });
}

/// The messages of a log.
fn messages_of(server: &Server, log: &str) -> Messages {
    let to = TempDir::with_prefix("inrush-export-").unwrap();
    let mut command = Command::new(binary::inrush());
    command.args(["log", "export", "--log", log, "--data-dir"]).arg(server.data()).arg("--to").arg(to.path());
    process::finish(command).succeeded();
    export::read(to.path())
}

fn story(server: &Server, id: &str) -> Value {
    serde_json::from_str(&queue(server, &["show", id, "--json"])).unwrap()
}

/// What has happened to a message, in the words of `show`.
fn steps(server: &Server, id: &str) -> Vec<String> {
    let story = story(server, id);
    let attempts = story["attempts"].as_array().unwrap().iter();
    attempts.map(|attempt| attempt["what"].as_str().unwrap().to_owned()).collect()
}

/// What has become of each recipient, in the words of `show`.
fn statuses(server: &Server, id: &str) -> Vec<String> {
    let story = story(server, id);
    let recipients = story["recipients"].as_array().unwrap().iter();
    recipients.map(|recipient| recipient["status"].as_str().unwrap().to_owned()).collect()
}

/// Messages of several kinds, all of them deferred: small, with a body in several records, and with a recipient who has it already.
struct Deferred {
    small: (String, Vec<u8>),
    large: (String, Vec<u8>),
    half: (String, Vec<u8>),
}

impl Deferred {
    fn hand_in(server: &Server) -> Self {
        let sender = format!("<{SENDER}>");
        let small = [&text("small")[..], b".\r\n..dots\r\n\xe4\r\n"].concat();
        let large = [text("large"), Random::new(7).text(700_000)].concat();
        let half = text("half");
        let all = Self {
            small: (send(server, &sender, &["<late1@example.com>"], &small), small),
            large: (send(server, &sender, &["<late2@example.com>"], &large), large),
            half: (send(server, &sender, &["<b@example.com>", "<late3@example.com>"], &half), half),
        };
        for (id, recipient) in all.recipients() {
            outcome(server, id, recipient, "deferred");
        }
        outcome(server, &all.half.0, "b@example.com", "sent");
        all
    }

    fn recipients(&self) -> [(&str, &'static str); 3] {
        [
            (&self.small.0, "late1@example.com"),
            (&self.large.0, "late2@example.com"),
            (&self.half.0, "late3@example.com"),
        ]
    }

    /// All of them have moved, and are whole.
    fn assert_moved(&self, server: &Server) {
        let (left, moved) = (messages_of(server, "arrival-00"), messages_of(server, "retry-00"));
        for (id, body) in [&self.small, &self.large, &self.half] {
            assert!(!left.contains_key(id), "{id}");
            export::assert_body(&moved[id], body, id);
            assert!(steps(server, id).contains(&"moved".to_owned()), "{id}: {:?}", steps(server, id));
        }
        let waiting = entries(server, &[]);
        let waiting = waiting.iter().map(|entry| entry["recipients"][0].as_str().unwrap());
        assert_eq!(
            waiting.collect::<BTreeSet<_>>(),
            BTreeSet::from(["late1@example.com", "late2@example.com", "late3@example.com"])
        );
    }

    /// They are delivered now, octet by octet, once, and to nobody else.
    fn arrive(&self, server: &Server, peer: &Peer) {
        peer.change(Script::smtp());
        queue(server, &["flush", "--all"]);
        for (id, recipient) in self.recipients() {
            outcome(server, id, recipient, "sent");
            // The line of the log is a little ahead of the outcome on the disk.
            process::eventually("it is written down", || {
                statuses(server, id).iter().all(|status| status == "sent")
            });
        }
        process::eventually("the queue is empty", || entries(server, &[]).is_empty());
        for ((id, body), recipient) in
            [&self.small, &self.large, &self.half].into_iter().zip(self.recipients().map(|(_, one)| one))
        {
            let messages = peer.messages();
            let mut came = messages.iter().filter(|message| message.accepted().contains(&recipient));
            let message = came.next().unwrap();
            assert_eq!(message.accepted(), [recipient]);
            export::assert_body(&message.octets, body, id);
            assert!(String::from_utf8_lossy(&message.octets).contains(id), "{id}");
            assert!(came.next().is_none(), "{recipient} has it twice");
        }
    }
}

#[test]
fn what_waits_moves_and_its_segments_go() {
    let (server, peer) = start();
    let deferred = Deferred::hand_in(&server);
    until_gone(&server, 3);
    deferred.assert_moved(&server);
    let consumed = ["reason=\"consumed\""];
    process::eventually("it is counted", || {
        Samples::scrape(server.admin()).sum("inrush_log_segments_retired_total", &consumed) >= 3.0
    });
    deferred.arrive(&server, &peer);
}

#[test]
fn what_has_moved_survives_kills_and_ends_in_order() {
    let (mut server, peer) = start();
    let deferred = Deferred::hand_in(&server);
    until_gone(&server, 3);
    server.restart();
    deferred.assert_moved(&server);
    server.stop();
    server.restart();
    deferred.assert_moved(&server);
    // New mail and that which has moved, side by side.
    pass(&server, 1);
    deferred.arrive(&server, &peer);
    // Delivered is delivered, also for the next start.
    let came = peer.messages().len();
    server.restart();
    let id = send(&server, &format!("<{SENDER}>"), &["<after@example.com>"], &text("after"));
    outcome(&server, &id, "after@example.com", "sent");
    assert_eq!(peer.messages().len(), came + 1);
}

/// Attempts go on from the retry log, and what fails again waits there.
#[test]
fn what_has_moved_can_be_put_off_again() {
    let (server, peer) = start();
    let deferred = Deferred::hand_in(&server);
    until_gone(&server, 3);
    queue(&server, &["flush", "--all"]);
    for (id, recipient) in deferred.recipients() {
        process::eventually("a second attempt", || outcomes(&server, id, recipient).len() == 2);
    }
    process::eventually("they wait again", || {
        entries(&server, &[]).iter().all(|one| one["state"] == "deferred")
    });
    deferred.assert_moved(&server);
    deferred.arrive(&server, &peer);
}

/// The retry log gives up its segments in the same way: what is left of them moves to its head.
#[test]
fn the_retry_log_compacts_itself() {
    let (mut server, peer) = start();
    let (sender, mut random) = (format!("<{SENDER}>"), Random::new(11));
    let last = [text("last"), random.text(5000)].concat();
    let last_id = send(&server, &sender, &["<late-last@example.com>"], &last);
    outcome(&server, &last_id, "late-last@example.com", "deferred");
    // More than two segments of the retry log.
    let mut many = Vec::new();
    for _ in 0..25 {
        let body = [text("many"), random.text(100_000)].concat();
        let id = send(&server, &sender, &["<late-many@example.com>"], &body);
        outcome(&server, &id, "late-many@example.com", "deferred");
        many.push((id, body));
        // Less than half of each segment is for those that wait.
        for _ in 0..3 {
            let body = [text("passing"), random.text(100_000)].concat();
            send(&server, &sender, &["<b@example.com>"], &body);
        }
    }
    until_gone(&server, 8);
    // The last of them may still be in the arrival log: more mail is behind it now, and it will go.
    process::eventually("all of them move", || {
        let moved = messages_of(&server, "retry-00");
        moved.contains_key(&last_id) && many.iter().all(|(id, _)| moved.contains_key(id))
    });
    let before = segments(&server, "retry-00");
    assert!(before.len() >= 2, "{before:?}");

    // All but one of them go: now the retry log holds little that is owed.
    peer.change(
        Script::smtp()
            .on(When::at(Stage::Recipient).address("late-last*"), Answer::reply("450 4.7.1 come back")),
    );
    for (id, _) in &many {
        queue(&server, &["flush", id]);
    }
    for (id, body) in &many {
        outcome(&server, id, "late-many@example.com", "sent");
        let messages = peer.messages();
        let came = messages.iter().find(|message| String::from_utf8_lossy(&message.octets).contains(id));
        export::assert_body(&came.unwrap().octets, body, id);
    }
    process::eventually("the first segment of the retry log goes", || {
        segments(&server, "retry-00").first() != before.first()
    });
    assert_eq!(steps(&server, &last_id).iter().filter(|what| *what == "moved").count(), 2);
    export::assert_body(&messages_of(&server, "retry-00")[&last_id], &last, &last_id);
    server.restart();
    peer.change(Script::smtp());
    queue(&server, &["flush", &last_id]);
    outcome(&server, &last_id, "late-last@example.com", "sent");
    let message = peer.messages().pop().unwrap();
    assert_eq!(message.accepted(), ["late-last@example.com"]);
    export::assert_body(&message.octets, &last, &last_id);
}

/// `inrush log list` shows it, so `inrush log replay` delivers it: in which log a message is does not matter to who asks.
#[test]
fn what_has_moved_is_delivered_by_a_replay() {
    let (server, peer) = start();
    let deferred = Deferred::hand_in(&server);
    until_gone(&server, 3);
    deferred.assert_moved(&server);
    peer.change(Script::smtp());
    let (id, body) = &deferred.small;
    let mut command = Command::new(binary::inrush());
    command.args(["log", "replay", "--route", "next", "--id", id, "--yes", "--json"]);
    command.arg("--admin").arg(server.admin().to_string());
    let told: Value = serde_json::from_slice(&process::finish(command).succeeded().stdout).unwrap();
    assert_eq!(told["recipients"], 1, "{told}");
    outcome(&server, id, "late1@example.com", "sent");
    let messages = peer.messages();
    let came = messages.iter().find(|message| message.accepted() == ["late1@example.com"]).unwrap();
    export::assert_body(&came.octets, body, id);
}

/// By its id it is found wherever it is.
#[test]
fn what_has_moved_is_found_by_its_id() {
    let (server, _peer) = start();
    let deferred = Deferred::hand_in(&server);
    until_gone(&server, 3);
    deferred.assert_moved(&server);
    for (id, body) in [&deferred.small, &deferred.large, &deferred.half] {
        let mut command = Command::new(binary::inrush());
        command.args(["log", "list", "--id", id, "--data-dir"]).arg(server.data());
        assert!(process::finish(command).text().contains(id), "{id} is not listed");
        let mut command = Command::new(binary::inrush());
        command.args(["log", "cat", id, "--data-dir"]).arg(server.data());
        export::assert_body(&process::finish(command).succeeded().stdout, body, id);
    }
}
