//! A disk that does not answer: new mail is refused for a while, the waiting sessions hear it, `/readyz` says why, and all goes on by itself
//! when the disk is back. Nothing is ever stored by halves.

use std::path::Path;

use inrush_tests::client::{Client, stuffed};
use inrush_tests::disk::{Answering, Begin, Disk, Fails};
use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, http, process};

const BODY: &[u8] = b"Subject: answered\r\n\r\nx\r\n";
const WAITING: &[u8] = b"Subject: waiting\r\n\r\nx\r\n";
const CORES: u8 = 2;
/// Enough to meet every core.
const WAITING_MAX: usize = 40;

/// An ext4 with a journal: while that commits, starting a write waits for it, and the thread that starts it with it.
fn disk() -> Disk {
    Disk::with_ext4(96, &[])
}

fn settings(engine: &str, data: &Path) -> Settings {
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1", "hung_after = \"1s\""];
    let mut settings = Settings::default().engine(engine).data(data).log(&log);
    settings.top.push(format!("cores = {CORES}"));
    settings
}

/// Sessions that have sent a message and wait for its 250, on a disk that has fallen silent: so many that every core has written and knows.
fn wait_on_silence(server: &Server, disk: &Disk) -> Vec<Client> {
    server.wait_until_accepting();
    disk.device().fail(Begin::After(0), Fails::Silent);
    let mut waiting = Vec::new();
    process::eventually("every core knows that the disk is silent", || {
        if waiting.len() < WAITING_MAX {
            waiting.extend(begin(server));
        }
        Samples::scrape(server.admin()).sum("inrush_log_hung", &[]) == f64::from(CORES)
    });
    waiting
}

/// Sends a message; `None` on a core that knows already.
fn begin(server: &Server) -> Option<Client> {
    let mut client = Client::greeted(server.mx());
    client.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
    if client.reply().unwrap().code != 250 {
        return None;
    }
    client.send(b"RCPT TO:<b@example.com>\r\nDATA\r\n").unwrap();
    // The core may find out now, in the middle of it.
    if client.reply().ok()?.code != 250 || client.reply().ok()?.code != 354 {
        return None;
    }
    client.send(&stuffed(WAITING)).ok()?;
    Some(client)
}

/// The acknowledged are there; of the waiting ones at most one each, and that whole.
fn check(data: &Path, acknowledged: &[String], waiting_max: usize) {
    let stored = export::all(data);
    for id in acknowledged {
        export::assert_body(&stored[id], BODY, id);
    }
    let others: Vec<_> = stored.iter().filter(|(id, _)| !acknowledged.contains(id)).collect();
    assert!(others.len() <= waiting_max, "{} messages that nobody sent", others.len() - waiting_max);
    for (id, message) in others {
        export::assert_body(message, WAITING, id);
    }
}

fn goes_on_by_itself(engine: &str) {
    let disk = disk();
    let data = disk.path().join("data");
    let server = Server::with(settings(engine, &data));
    let _answering = Answering(&disk);
    server.wait_until_accepting();
    let mut acknowledged = vec![Client::greeted(server.mx()).deliver(&["b@example.com"], BODY)];

    let mut waiting = 0;
    // Twice, since what the first time leaves must not stand in the way of the second.
    for times in 1..=2 {
        let sessions = wait_on_silence(&server, &disk);
        waiting += sessions.len();
        let ended = sessions.into_iter().filter_map(|mut session| session.reply().ok());
        // Never a 250; at least one of them hears why.
        let replies: Vec<_> = ended.collect();
        assert!(!replies.is_empty());
        for reply in replies {
            assert!(matches!(reply.code, 421 | 451), "{}", reply.text());
            assert!(reply.text().contains("4.3.0"), "{}", reply.text());
        }
        let ready = http::get(server.admin(), "/readyz");
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("no answer from the disk"), "{}", ready.body);
        // On every core.
        for _ in 0..8 {
            let mut client = Client::greeted(server.mx());
            let reply = client.say("MAIL FROM:<a@client.test.example>", 451);
            assert!(reply.text().contains("4.3.0"), "{}", reply.text());
            client.say("NOOP", 250);
        }
        let samples = Samples::scrape(server.admin());
        assert_eq!(samples.sum("inrush_log_hangs_total", &[]), f64::from(CORES * times));
        let refused = samples.sum("inrush_refusals_total", &["reason=\"storage_hung\""]);
        assert!(refused >= f64::from(8 * times), "{refused}");

        disk.device().heal();
        server.wait_until_accepting();
        process::eventually("every core knows that the disk is back", || {
            Samples::scrape(server.admin()).sum("inrush_log_hung", &[]) == 0.0
        });
        acknowledged.push(Client::greeted(server.mx()).deliver(&["b@example.com"], BODY));
        check(&data, &acknowledged, waiting);
    }
}

/// A process cannot end while one of its writes is with the kernel; as soon as the disk answers, it does.
fn ends_when_the_disk_answers(engine: &str) {
    let disk = disk();
    let data = disk.path().join("data");
    let mut server = Server::with(settings(engine, &data));
    let _answering = Answering(&disk);
    server.wait_until_accepting();
    let acknowledged = [Client::greeted(server.mx()).deliver(&["b@example.com"], BODY)];
    let waiting = wait_on_silence(&server, &disk);
    server.terminate();
    process::eventually("it has heard of the signal", || server.log().contains("stopping: "));
    disk.device().heal();
    let status = server.wait();
    assert!(status.success(), "{status}\n{}", server.log());
    server.restart();
    check(&data, &acknowledged, waiting.len());
}

#[test]
fn goes_on_by_itself_with_io_uring() {
    goes_on_by_itself("io_uring");
}

#[test]
fn goes_on_by_itself_with_epoll() {
    goes_on_by_itself("epoll");
}

#[test]
fn ends_when_the_disk_answers_with_io_uring() {
    ends_when_the_disk_answers("io_uring");
}

#[test]
fn ends_when_the_disk_answers_with_epoll() {
    ends_when_the_disk_answers("epoll");
}
