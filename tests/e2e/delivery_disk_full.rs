//! The disk of the data directory is full while reports are due: their senders hear of them when there is room again, also over a kill.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};

use inrush_tests::client::Client;
use inrush_tests::http::Samples;
use inrush_tests::mount::Mounted;
use inrush_tests::peer::{Answer, Peer, Script, Stage};
use inrush_tests::process;
use inrush_tests::random::Random;
use inrush_tests::server::Server;

use crate::delivery::{Report, SENDER, domain, hand_over, outcome, route, settings, text};
use crate::delivery_queue::{entries, queue};

/// More reports than fit into the segments that are there, each with all of its message.
const MESSAGES: usize = 150;
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"1h\"\n";

struct Full {
    server: Server,
    peer: Peer,
    reports: Peer,
    disk: Mounted,
    ids: Vec<String>,
}

impl Full {
    /// All messages wait, and their host is about to refuse them for good; then not an octet is left.
    fn start() -> Self {
        let peer = Peer::start(Script::smtp().on(Stage::Recipient, Answer::reply("450 4.7.1 come back")));
        let reports = Peer::start(Script::smtp());
        let disk = Mounted::tmpfs(96);
        let settings = settings(&[
            route("next", "smtp", &[peer.address()], ""),
            route("back", "smtp", &[reports.address()], ""),
            domain("*", "next"),
            domain("client.test.example", "back"),
            SLOW.to_owned(),
        ]);
        let settings = settings.log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\""]);
        let server = Server::with(settings.data(&disk.path().join("data")));
        let mut client = Client::greeted(server.mx());
        let mut random = Random::new(8);
        let ids = (0..MESSAGES).map(|number| {
            let body = [text(&number.to_string()), random.text(50_000)].concat();
            hand_over(
                &mut client,
                &format!("<{SENDER}> RET=FULL"),
                &[&format!("<r{number}@example.com>")],
                &body,
            )
        });
        let ids = ids.collect::<Vec<_>>();
        for (number, id) in ids.iter().enumerate() {
            outcome(&server, id, &format!("r{number}@example.com"), "deferred");
        }
        let mut ballast = fs::File::create(disk.path().join("ballast")).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        peer.change(Script::smtp().on(Stage::Recipient, Answer::reply("550 5.1.1 who?")));
        queue(&server, &["flush", "--all"]);
        server.wait_for_log("the log takes no report now");
        Self { server, peer, reports, disk, ids }
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.path().join("ballast")).unwrap();
    }

    /// Each message was reported on, whole, and nothing is owed any more.
    fn assert_reported(&self) {
        let recipients = |octets: &[u8]| {
            let text = String::from_utf8_lossy(octets).into_owned();
            let lines = text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: "));
            lines.map(|line| line.rsplit([';', ' ']).next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut told = BTreeSet::new();
        process::eventually("every sender has heard", || {
            told = self.reports.messages().iter().flat_map(|one| recipients(&one.octets)).collect();
            told.retain(|recipient| recipient.starts_with('r'));
            told.len() == MESSAGES
        });
        let all = (0..MESSAGES).map(|number| format!("r{number}@example.com"));
        assert_eq!(told, all.collect());
        let report = Report::read(&self.reports.messages().last().unwrap().octets);
        assert_eq!(report.returned().0, "message/rfc822");
        process::eventually("nothing is owed", || {
            let samples = Samples::scrape(self.server.admin());
            let waiting = samples.sum("inrush_queue_entries", &[]);
            entries(&self.server, &[]).is_empty()
                && waiting + samples.sum("inrush_queue_messages_under_way", &[]) == 0.0
        });
        assert!(self.peer.messages().is_empty());
    }
}

#[test]
fn reports_come_when_there_is_room_again() {
    let full = Full::start();
    // New mail is not for this disk, and what is owed is still known.
    let mut client = Client::greeted(full.server.mx());
    let mut accepted = 0;
    process::eventually("new mail is refused", || {
        let reply = client.attempt(b"Subject: new\r\n\r\nx\r\n");
        assert!(reply.code == 250 || reply.code == 452, "{}", reply.text());
        accepted += usize::from(reply.code == 250);
        reply.code == 452
    });
    assert!(!entries(&full.server, &[]).is_empty());
    full.make_room();
    full.assert_reported();
    // Without a kill each of them is made once.
    full.reports.wait_for(MESSAGES + accepted);
    assert_eq!(full.reports.messages().len(), MESSAGES + accepted);
    assert!(full.ids.iter().enumerate().all(|(number, id)| {
        outcome(&full.server, id, &format!("r{number}@example.com"), "bounced").contains("dsn=5.1.1 ")
    }));
}

#[test]
fn killed_while_the_disk_is_full() {
    let mut full = Full::start();
    full.server.kill9();
    // Room for a file or two, and for no segment.
    let ballast = fs::OpenOptions::new().write(true).open(full.disk.path().join("ballast")).unwrap();
    ballast.set_len(ballast.metadata().unwrap().len() - (64 << 10)).unwrap();
    drop(ballast);
    full.server.restart();
    full.server.restart();
    // It starts, and what was not reported on is still owed: it is due at once, the outcome of the last attempt was never written.
    queue(&full.server, &["flush", "--all"]);
    full.make_room();
    full.assert_reported();
}

/// Not an octet is left, and it starts all the same: only what it delivers makes room again.
#[test]
fn a_start_without_an_octet_of_room() {
    let mut full = Full::start();
    full.server.restart();
    full.make_room();
    queue(&full.server, &["flush", "--all"]);
    full.assert_reported();
}
