//! The commands of `docs/backup.md`, as they stand there, against a gateway under load.

use std::fs;
use std::sync::atomic::Ordering;

use inrush_tests::sender::{self, Round};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export, process};

/// The blocks of commands under the headings of the page.
fn blocks() -> Vec<String> {
    let page = fs::read_to_string(binary::folder("../docs/backup.md")).unwrap();
    let blocks: Vec<String> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert_eq!(blocks.len(), 4, "snapshot, restore, reading, end");
    blocks
}

#[test]
fn the_page_does_what_it_says() {
    let mut server =
        Server::with(Settings::default().log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]));
    let (data, scratch) = (server.data(), server.scratch().to_owned());
    let (snapshot, restored) = (scratch.join("snapshot"), scratch.join("restored"));
    let run = |block: &str| {
        let mut command = process::command("sh", ["-c", block]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(binary::inrush().parent().unwrap().to_owned())
            .chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).unwrap());
        command
            .env("DATA", &data)
            .env("SNAPSHOT", &snapshot)
            .env("BACKUP", &snapshot)
            .env("RESTORED", &restored);
        process::finish(command)
    };
    let [take, restore, read, end] = blocks().try_into().unwrap();
    let round = Round::from(0);
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
        // As the page says: a copy that does not hold is taken again.
        let mut taken = run(&take);
        for _ in 0..20 {
            if taken.status.success() {
                break;
            }
            fs::remove_dir_all(&snapshot).unwrap();
            taken = run(&take);
        }
        taken.succeeded();
        round.over.store(true, Ordering::SeqCst);
        server.kill9();
        senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
        before
    });
    assert!(before.len() > 400, "{}", before.len());
    run(&restore).succeeded();
    run(&read).succeeded();
    assert!(scratch.join("snapshot.mbox").exists());
    let linked = export::all(&snapshot);
    run(&end).succeeded();
    assert!(!snapshot.exists());

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
