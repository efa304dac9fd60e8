//! Mail that the disk does not give as it was written: kept, shown, and in nobody's way.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use inrush_tests::peer::{Peer, Script};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, process};
use serde_json::Value;

use crate::delivery::{domain, outcome, route, settings, simple, subject};

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
