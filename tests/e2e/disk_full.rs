//! A full disk: 452 4.3.1 with the reason in log and metric, accepted mail intact, going on by itself when space is back.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use inrush_tests::client::{Client, Reply, accepted, stuffed};
use inrush_tests::http::Samples;
use inrush_tests::mount::Mounted;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, process};

/// One transaction; the reply that ends it, at whichever command it comes.
fn attempt(client: &mut Client, body: &[u8]) -> Reply {
    for (command, good) in [
        ("RSET", 250),
        ("MAIL FROM:<a@client.test.example>", 250),
        ("RCPT TO:<b@example.com>", 250),
        ("DATA", 354),
    ] {
        client.send(format!("{command}\r\n").as_bytes()).unwrap();
        let reply = client.reply().unwrap();
        if reply.code != good {
            return reply;
        }
    }
    client.send(&stuffed(body)).unwrap();
    client.reply().unwrap()
}

/// Fills the disk with messages until one is refused; each acceptance with its body.
fn fill(client: &mut Client, sent: &mut Vec<(String, Vec<u8>)>) -> Reply {
    let mut random = Random::new(sent.len() as u64);
    for _ in 0..2000 {
        let body = random.text(100_000);
        let reply = attempt(client, &body);
        if reply.code != 250 {
            return reply;
        }
        sent.push((accepted(&reply), body));
    }
    panic!("200 MB fit on the small disk");
}

fn check(data: &Path, sent: &[(String, Vec<u8>)]) {
    let stored = export::all(data);
    assert_eq!(stored.len(), sent.len());
    for (id, body) in sent {
        export::assert_body(&stored[id], body, id);
    }
}

/// `free` = free space that the gateway must leave; the ballast is what an operator can delete.
fn scenario(disk: &Mounted, free: &str, ballast: impl FnOnce(&Path)) {
    let file = disk.path().join("ballast");
    fs::write(&file, vec![1; 24 << 20]).unwrap();
    let data = disk.path().join("data");
    let settings = Settings::default().data(&data);
    let free = format!("free_bytes_min = \"{free}\"");
    let mut server = Server::with(settings.log(&["segment_bytes = \"1MiB\"", &free]));
    ballast(&file);

    let mut sent = Vec::new();
    let mut client = Client::greeted(server.mx());
    let refusal = fill(&mut client, &mut sent);
    assert_eq!(refusal.code, 452, "{}", refusal.text());
    assert!(refusal.text().contains("4.3.1"), "{}", refusal.text());
    assert!(!sent.is_empty());
    check(&data, &sent);

    // The reason is in a metric and in the log. Refused at MAIL or when the message is appended, by
    // whichever notices first.
    process::eventually("the metrics tell why", Duration::from_secs(10), || {
        let samples = Samples::scrape(server.admin());
        let refused = samples.sum("inrush_log_refusals_total", &[])
            + samples.sum("inrush_refusals_total", &["reason=\"storage_full\""]);
        refused > 0.0
    });
    process::eventually("the log tells why", Duration::from_secs(10), || {
        server.log().lines().any(|line| line.contains("452 4.3.1"))
    });
    client.say("NOOP", 250);

    // Space is back: no restart, the same connection even.
    fs::remove_file(&file).unwrap();
    process::eventually("mail is accepted again", Duration::from_secs(30), || {
        let body = b"Subject: after\r\n\r\nx\r\n".to_vec();
        let reply = attempt(&mut client, &body);
        if reply.code == 250 {
            sent.push((accepted(&reply), body));
        }
        reply.code == 250
    });
    check(&data, &sent);
    server.restart();
    check(&data, &sent);
}

#[test]
fn the_mark_of_free_space_is_reached() {
    let disk = Mounted::tmpfs(96);
    scenario(&disk, "16MiB", |_| ());
}

/// Someone else fills the disk to the last octet, below the mark, between two looks.
#[test]
fn not_an_octet_is_left() {
    let disk = Mounted::tmpfs(96);
    scenario(&disk, "1MiB", |ballast| {
        let mut file = fs::OpenOptions::new().append(true).open(ballast).unwrap();
        let piece = [1; 65_536];
        while file.write_all(&piece).is_ok() {}
    });
}
