//! The commands of `docs/backup.md`, as they stand there, against a gateway under load.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use inrush_tests::client::Client;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::process::Finished;
use inrush_tests::random::Random;
use inrush_tests::sender::{self, Round};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export, process};

use crate::delivery::{SENDER, domain, hand_over, route, settings, simple, subject, text};

/// The blocks of commands under the headings of the page.
fn blocks() -> Vec<String> {
    let page = fs::read_to_string(binary::folder("../docs/backup.md")).unwrap();
    let blocks: Vec<String> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert_eq!(blocks.len(), 4, "snapshot, restore, reading, end");
    blocks
}

/// Runs a block of the page with the folders that it speaks of.
fn run(block: &str, data: &Path, snapshot: &Path, restored: &Path) -> Finished {
    let mut command = process::command("sh", ["-c", block]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::iter::once(binary::inrush().parent().unwrap().to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command.env("DATA", data).env("SNAPSHOT", snapshot).env("BACKUP", snapshot).env("RESTORED", restored);
    process::finish(command)
}

/// Takes a snapshot; as the page says, one that does not hold is taken again.
fn snapshot(take: &str, data: &Path, snapshot: &Path) {
    let mut taken = run(take, data, snapshot, snapshot);
    for _ in 0..20 {
        if taken.status.success() {
            break;
        }
        fs::remove_dir_all(snapshot).unwrap();
        taken = run(take, data, snapshot, snapshot);
    }
    taken.succeeded();
}

#[test]
fn the_page_does_what_it_says() {
    let mut server =
        Server::with(Settings::default().log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]));
    let (data, scratch) = (server.data(), server.scratch().to_owned());
    let (copy, restored) = (scratch.join("snapshot"), scratch.join("restored"));
    let [take, restore, read, end] = blocks().try_into().unwrap();
    // As much as the snapshot meets while it is taken; without an end, a slow disk would never be done with new segments.
    let round = Round::between(0, 6_000);
    let address = server.mx();
    let before = std::thread::scope(|scope| {
        let _guard = round.guard();
        let senders: Vec<_> = (0..4).map(|_| scope.spawn(|| round.send(address))).collect();
        process::eventually("several segments are sealed", || round.next() > 600);
        // What was acknowledged before the snapshot began: every message that can be listed by then.
        let listed = process::finish({
            let mut command = std::process::Command::new(binary::inrush());
            command.args(["log", "list", "--data-dir"]).arg(&data);
            command
        });
        let before: Vec<String> = listed
            .succeeded()
            .text()
            .lines()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        snapshot(&take, &data, &copy);
        round.over.store(true, Ordering::SeqCst);
        server.kill9();
        senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
        before
    });
    assert!(before.len() > 400, "{}", before.len());
    run(&restore, &data, &copy, &restored).succeeded();
    run(&read, &data, &copy, &restored).succeeded();
    assert!(scratch.join("snapshot.mbox").exists());
    let linked = export::all(&copy);
    run(&end, &data, &copy, &restored).succeeded();
    assert!(!copy.exists());

    // A gateway on the restored directory has every one of them, whole.
    let mut other = Server::with(
        Settings::default().log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]).data(&restored),
    );
    let stored = export::all(&restored);
    assert!(stored == linked, "{} restored, {} in the snapshot", stored.len(), linked.len());
    for id in &before {
        let message = stored.get(id).unwrap_or_else(|| panic!("{id} was there before the snapshot"));
        let number = sender::number(message).unwrap_or_else(|| panic!("{id}: no number"));
        export::assert_body(message, &sender::body(number), id);
    }
    other.stop();
}

/// Mail that waits moves from log to log while the snapshot is taken: it is in there all the same, and no mail is told of that is not.
#[test]
fn a_snapshot_holds_mail_that_moves_meanwhile() {
    let late = When::at(Stage::Recipient).address("late*");
    let peer = Peer::start(Script::smtp().on(late, Answer::reply("450 4.7.1 come back")));
    let with = |data: &Path, retry: &str| {
        let queue =
            format!("[queue]\nretry_first = \"{retry}\"\nretry_max = \"{retry}\"\nevacuate_after = \"1s\"\n");
        let tables = [route("next", "smtp", &[peer.address()], ""), domain("*", "next"), queue];
        let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""];
        Server::with(settings(&tables).log(&log).data(data))
    };
    let folder = tempfile::tempdir().unwrap();
    let (data, copy, restored) =
        (folder.path().join("data"), folder.path().join("snapshot"), folder.path().join("restored"));
    let mut server = with(&data, "1h");
    let [take, restore, ..] = <[String; 4]>::try_from(blocks()).unwrap();
    let over = AtomicBool::new(false);
    let mut waiting = Vec::new();
    std::thread::scope(|scope| {
        // Segments fill with mail that is delivered, so that what waits has to leave them.
        scope.spawn(|| {
            let mut random = Random::new(1);
            while !over.load(Ordering::SeqCst) {
                let mut client = Client::greeted(server.mx());
                for _ in 0..20 {
                    let body = [text("passing"), random.text(100_000)].concat();
                    hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
                }
            }
        });
        process::eventually("mail that waits moves", || {
            let number = waiting.len().to_string();
            simple(&server, &number, &["late@example.com"]);
            waiting.push(number);
            server.log().matches("moving what waits").count() >= 3
        });
        snapshot(&take, &data, &copy);
        over.store(true, Ordering::SeqCst);
    });
    server.kill9();
    run(&restore, &data, &copy, &restored).succeeded();
    peer.change(Script::smtp());
    let before = peer.messages().len();
    let server = with(&restored, "1s");
    process::eventually("all that waited is delivered", || {
        let came: Vec<_> = peer.messages()[before..].iter().map(|message| subject(&message.octets)).collect();
        waiting.iter().all(|number| came.contains(number))
    });
    assert!(!server.log().contains("is not in its place"), "{}", server.log());
}
