//! A disk that does not answer: new mail is refused for a while, the waiting sessions hear it, `/readyz` says why, and all goes on by itself
//! when the disk is back.

use std::time::Duration;

use inrush_tests::client::{Client, stuffed};
use inrush_tests::disk::{Begin, Disk, Fails};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, http, process};

const LIMIT: Duration = Duration::from_secs(60);
const BODY: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// Ends the silence before the server is dropped, which could not end while it waits for the disk.
struct Answering<'a>(&'a Disk);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.device().heal();
    }
}

fn scenario(engine: &str) {
    let disk = Disk::with_ext4(96, &[]);
    let data = disk.path().join("data");
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "hung_after = \"1s\""];
    let server = Server::with(Settings::default().engine(engine).data(&data).log(&log));
    let _answering = Answering(&disk);
    server.wait_until_accepting();
    let before = Client::greeted(server.mx()).deliver(&["b@example.com"], BODY);

    disk.device().fail(Begin::After(0), Fails::Silent);
    let mut waiting = Client::greeted(server.mx());
    waiting.envelope(&["b@example.com"]);
    waiting.say("DATA", 354);
    waiting.send(&stuffed(BODY)).unwrap();
    process::eventually("/readyz says that the disk is silent", LIMIT, || {
        let ready = http::get(server.admin(), "/readyz");
        ready.status == 503 && ready.body.contains("no answer from the disk")
    });
    // A 451, or the end of the connection; never a 250.
    if let Ok(reply) = waiting.reply() {
        assert_eq!(reply.code, 451, "{}", reply.text());
    }
    // On every core.
    for _ in 0..8 {
        let mut client = Client::greeted(server.mx());
        let reply = client.say("MAIL FROM:<a@client.test.example>", 451);
        assert!(reply.text().contains("4.3.0"), "{}", reply.text());
    }

    disk.device().heal();
    server.wait_until_accepting();
    let after = Client::greeted(server.mx()).deliver(&["b@example.com"], BODY);
    let stored = export::all(&data);
    for id in [before, after] {
        export::assert_body(&stored[&id], BODY, &id);
    }
}

#[test]
fn io_uring() {
    scenario("io_uring");
}

#[test]
fn epoll() {
    scenario("epoll");
}
