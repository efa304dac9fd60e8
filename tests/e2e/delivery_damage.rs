//! Mail that the disk does not give as it was written: kept, shown, and in nobody's way.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use inrush_tests::peer::{Peer, Script};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, process};
use serde_json::Value;

use crate::delivery::{SENDER, domain, outcome, route, settings, simple, smarthost, subject};

/// Changes an octet of the one message with this text in the logs of the cores.
fn rot(data: &Path, text: &str) {
    let inside = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = inside(data).filter(|path| path.to_string_lossy().contains("/arrival-"));
    for segment in logs.flat_map(|log| inside(&log)).filter(|path| path.is_file()) {
        let octets = fs::read(&segment).unwrap();
        if let Some(at) = octets.windows(text.len()).position(|octets| octets == text.as_bytes()) {
            let file = File::options().write(true).open(&segment).unwrap();
            file.write_all_at(&[octets[at] ^ 1], at as u64).unwrap();
            return file.sync_all().unwrap();
        }
    }
    panic!("{text} is not in {}", data.display());
}

fn queue(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(binary::inrush());
    command.arg("queue").args(arguments).arg("--admin").arg(server.admin().to_string());
    String::from_utf8(process::finish(command).succeeded().stdout).unwrap()
}

fn listed(server: &Server) -> Vec<Value> {
    queue(server, &["list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn mail_that_cannot_be_read_waits_for_an_operator() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = {
        // Nobody takes the mail out of this one.
        let mut server =
            Server::with(Settings::default().log(&["segment_bytes = \"1MiB\""]).data(folder.path()));
        let ids = ["first", "second", "third"].map(|subject| simple(&server, subject, &["b@example.com"]));
        server.stop();
        ids.into()
    };
    rot(folder.path(), "Subject: second");
    let peer = Peer::start(Script::smtp());
    let tables = [route("next", "smtp", &[peer.address()], ""), domain("*", "next")];
    let relaying = settings(&tables).log(&["segment_bytes = \"1MiB\""]).data(folder.path());
    let mut server = Server::with(relaying);
    // Also after it was found at a restart.
    for _ in 0..2 {
        for id in [&ids[0], &ids[2]] {
            process::eventually("the others are delivered", || {
                peer.messages().len() == 2 && !listed(&server).iter().any(|entry| entry["id"] == **id)
            });
        }
        process::eventually("it is listed", || !listed(&server).is_empty());
        let [entry] = listed(&server).try_into().unwrap();
        assert_eq!(entry["id"], *ids[1]);
        assert_eq!(entry["reason"], "the message cannot be read in its log");
        server.restart();
    }
    process::eventually("it is listed", || !listed(&server).is_empty());
    queue(&server, &["delete", "--yes", &ids[1]]);
    assert_eq!(listed(&server), [] as [Value; 0]);
    server.restart();
    let last = simple(&server, "fourth", &["b@example.com"]);
    outcome(&server, &last, "b@example.com", "sent");
    assert_eq!(listed(&server), [] as [Value; 0]);
    let mut came: Vec<_> = peer.messages().iter().map(|message| subject(&message.octets)).collect();
    came.sort();
    assert_eq!(came, ["first", "fourth", "third"]);
}

/// In the queue, and cannot be read any more: it must not keep its log for ever.
#[test]
fn what_cannot_be_read_is_given_up_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let with = |queue: &str| {
        let tables = [route("next", "smtp", &[nobody], ""), domain("*", "next"), queue.to_owned()];
        Server::with(settings(&tables).log(&["segment_bytes = \"1MiB\""]).data(folder.path()))
    };
    let id = {
        let mut server = with("[queue]\nretry_first = \"1s\"\nretry_max = \"1s\"\n");
        let id = simple(&server, "lost", &["b@example.com", "c@example.com"]);
        outcome(&server, &id, "c@example.com", "deferred");
        server.stop();
        id
    };
    rot(folder.path(), "Subject: lost");
    let server = with("[queue]\nretry_first = \"1s\"\nretry_max = \"1s\"\nlifetime = \"1s\"\n");
    server.wait_for_log("given up, since it cannot be read");
    process::eventually("nothing is left", || listed(&server).is_empty());
    let shown: Value = serde_json::from_str(&queue(&server, &["show", &id, "--json"])).unwrap();
    let status: Vec<_> = shown["recipients"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(status, ["expired", "expired"]);
    assert_eq!(shown["sender"], SENDER);
}

/// As the error about a damaged `log.meta` advises.
#[test]
fn mail_in_logs_that_begin_anew_is_delivered_under_new_ids() {
    let peer = Peer::start(Script::smtp());
    let mut server = smarthost(peer.address(), "");
    let before: Vec<_> =
        (0..10).map(|number| simple(&server, &number.to_string(), &["b@example.com"])).collect();
    before.iter().for_each(|id| drop(outcome(&server, id, "b@example.com", "sent")));
    server.stop();
    let logs = fs::read_dir(server.data()).unwrap().map(|entry| entry.unwrap().file_name());
    let logs: Vec<_> = logs.filter(|name| name.to_string_lossy().starts_with("arrival-")).collect();
    assert!(!logs.is_empty());
    for log in logs {
        fs::rename(server.data().join(&log), server.scratch().join(&log)).unwrap();
    }
    server.restart();
    for number in 10..20 {
        let id = simple(&server, &number.to_string(), &["b@example.com"]);
        assert!(!before.contains(&id), "{id} comes twice");
        outcome(&server, &id, "b@example.com", "sent");
    }
}
