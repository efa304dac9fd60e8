//! What nobody needs any more goes: by the limits of retention, by consumers, from logs of cores that are there no more.

use std::fs::File;
use std::io::Write as _;

use inrush_log::{ConsumerKind, Cursor, Lsn, segment_name};
use inrush_tests::client::Client;
use inrush_tests::http::{self, Samples};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, process};

fn small_segments(lines: &[&str]) -> Settings {
    let mut log = vec!["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""];
    log.extend(lines);
    let settings = Settings::default().log(&log);
    Settings { top: vec!["cores = 1".into()], ..settings }
}

/// Messages of 100,000 octets until about so many segments were filled; their bodies.
fn fill(server: &Server, segments: usize) -> Vec<Vec<u8>> {
    let mut client = Client::greeted(server.mx());
    let mut random = Random::new(segments as u64);
    let bodies = (0..segments * 11).map(|_| random.text(100_000));
    bodies.inspect(|body| drop(client.deliver(&["b@example.com"], body))).collect()
}

fn metric(server: &Server, name: &str, labels: &[&str]) -> f64 {
    Samples::scrape(server.admin()).sum(name, labels)
}

fn retired(server: &Server, reason: &str) -> f64 {
    metric(server, "inrush_log_segments_retired_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn a_limit_of_size_keeps_the_newest() {
    let mut server = Server::with(small_segments(&["retention_bytes = \"3MiB\""]));
    let bodies = fill(&server, 8);
    process::eventually("segments are retired", || retired(&server, "retention_bytes") >= 4.0);
    assert!(metric(&server, "inrush_log_spares_recycled_total", &[]) > 0.0);
    process::eventually("the limit holds", || {
        metric(&server, "inrush_log_sealed_bytes", &[]) <= f64::from(3 << 20)
    });
    let stored = export::all(&server.data());
    assert!(stored.len() < bodies.len());
    let newest = stored.values().zip(&bodies[bodies.len() - stored.len()..]);
    newest.for_each(|(stored, sent)| export::assert_body(stored, sent, "newest"));
    // What was recycled does not come back.
    server.restart();
    assert!(export::all(&server.data()).len() <= stored.len());
}

#[test]
fn a_required_consumer_keeps_what_it_has_not_passed() {
    let server = Server::with(small_segments(&["retention_bytes = \"1MiB\""]));
    let log = server.data().join("arrival-00");
    let mut cursor = Cursor::open(&log, "archive", ConsumerKind::Required).unwrap();
    let bodies = fill(&server, 5);
    let of = ["route=\"archive\"", "shard=\"arrival-00\""];
    process::eventually("the backlog is shown", || {
        metric(&server, "inrush_log_consumer_lag_bytes", &of) > f64::from(4 << 20)
            && metric(&server, "inrush_log_consumer_oldest_timestamp_seconds", &of) > 1.7e9
    });
    assert_eq!(export::all(&server.data()).len(), bodies.len(), "although over the limit");
    assert!(http::get(server.admin(), "/api/v1/status").body.contains("archive"));
    cursor.save(Lsn::new(3 << 20)).unwrap();
    process::eventually("what is consumed goes", || retired(&server, "consumed") >= 2.0);
    let left = export::all(&server.data());
    assert!(left.len() < bodies.len());
    export::assert_body(left.values().last().unwrap(), bodies.last().unwrap(), "the newest");
    assert_eq!(metric(&server, "inrush_log_consumer_damaged", &of), 0.0);
    drop(cursor);
    std::fs::write(log.join("cursor.archive"), [0; 8192]).unwrap();
    process::eventually("it is shown", || metric(&server, "inrush_log_consumer_damaged", &of) == 1.0);
}

#[test]
fn a_best_effort_consumer_loses_and_is_told() {
    let server = Server::with(small_segments(&["retention_bytes = \"2MiB\""]));
    let log = server.data().join("arrival-00");
    let _cursor = Cursor::open(&log, "stream", ConsumerKind::BestEffort).unwrap();
    fill(&server, 6);
    process::eventually("lost segments are counted", || {
        metric(&server, "inrush_log_consumer_lost_segments_total", &["route=\"stream\""]) >= 2.0
    });
}

#[test]
fn age_is_a_limit() {
    let server = Server::with(small_segments(&["retention_age = \"3s\""]));
    fill(&server, 3);
    process::eventually("old segments go", || retired(&server, "retention_age") >= 2.0);
}

#[test]
fn space_that_is_low_is_shown_and_takes_the_oldest() {
    // No file system of a test has so much.
    let lines = ["retention_free_bytes = \"1000000GiB\"", "free_inodes_min = 900000000"];
    let server = Server::with(small_segments(&lines[..1]));
    fill(&server, 3);
    process::eventually("the oldest go", || retired(&server, "retention_free_bytes") >= 2.0);

    let server = Server::with(small_segments(&lines[1..]));
    process::eventually("inodes are low", || metric(&server, "inrush_log_space_low", &[]) > 0.0);
    let mut client = Client::greeted(server.mx());
    process::eventually("mail is refused", || {
        client.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
        let reply = client.reply().unwrap();
        client.say("RSET", 250);
        reply.code == 452
    });
    assert!(server.log().contains("free inodes are below the mark"), "{}", server.log());
    assert!(http::get(server.admin(), "/readyz").body.contains("no space for new mail"));
}

#[test]
fn fewer_cores_than_before() {
    let two = Settings { top: vec!["cores = 2".into()], ..Settings::default() };
    let mut server = Server::with(two);
    // Connections are spread over the cores by the kernel.
    let mut sent = 0;
    process::eventually("both cores have mail", || {
        for _ in 0..4 {
            Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
            sent += 1;
        }
        let of =
            |core: &str| metric(&server, "inrush_messages_accepted_total", &[&format!("core=\"{core}\"")]);
        of("0") > 0.0 && of("1") > 0.0
    });
    server.kill9();
    let data = server.data();
    let copy = server.scratch().join("copy");
    let mut command = process::command("cp", ["-r"]);
    command.arg(&data).arg(&copy);
    process::finish(command).succeeded();
    let one = Settings { top: vec!["cores = 1".into()], ..Settings::default() };
    let mut server = Server::with(one.data(&copy));
    assert!(server.log().contains("no core writes this log any more"), "{}", server.log());
    process::eventually("it is shown", || metric(&server, "inrush_log_adopted", &[]) == 1.0);
    assert_eq!(export::all(&copy).len(), sent);
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: y\r\n\r\ny\r\n");
    assert_eq!(export::all(&copy).len(), sent + 1);
    server.stop();
    assert_eq!(export::all(&copy).len(), sent + 1);
}

/// No core has the log, but the alarm must not be missing.
#[test]
fn damage_in_the_log_of_a_core_that_is_gone_is_counted() {
    let two = Settings { top: vec!["cores = 2".into()], ..Settings::default() };
    let mut server = Server::with(two);
    server.kill9();
    let data = server.data();
    let segment = data.join("arrival-01").join(segment_name(1));
    File::options().write(true).open(&segment).unwrap().write_all(&[0; 4096]).unwrap();
    let one = Settings { top: vec!["cores = 1".into()], ..Settings::default() };
    let server = Server::with(one.data(&data));
    assert!(server.log().contains("segment header is damaged"), "{}", server.log());
    process::eventually("it is counted", || metric(&server, "inrush_log_damage_total", &[]) == 1.0);
    assert!(metric(&server, "inrush_log_quarantined_bytes_total", &[]) > 0.0);
}
