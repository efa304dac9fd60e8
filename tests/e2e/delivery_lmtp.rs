//! Accepted mail goes on by LMTP: through a real mail store and back octet for octet, and each recipient by its own reply.

use std::collections::BTreeSet;
use std::fs;

use inrush_tests::client::Client;
use inrush_tests::dovecot::Dovecot;
use inrush_tests::peer::{Answer, Script, Stage, When};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::smtp_sink::SmtpSink;
use inrush_tests::{corpus, export, process};

use crate::delivery::{
    Between, Report, SENDER, domain, hand_over, is, outcome, outcomes, route, send, settings, simple,
};

fn store(dovecot: &Dovecot, tables: &str) -> Server {
    Server::with(settings(&[
        route("store", "lmtp", &[dovecot.lmtp()], ""),
        domain("example.com", "store"),
        "[relay]\nroute = \"store\"\n".to_owned(),
        tables.to_owned(),
    ]))
}

/// What Dovecot has put in front is cut off: our field and what was sent.
#[track_caller]
fn assert_stored(stored: &[u8], body: &[u8], id: &str) {
    assert!(stored.ends_with(body), "{id}: {}", String::from_utf8_lossy(stored));
    let front = String::from_utf8_lossy(&stored[..stored.len() - body.len()]).into_owned();
    assert!(front.starts_with(&format!("Return-Path: <{SENDER}>\r\n")), "{front}");
    // Ours is the last of them.
    let ours = front.rsplit_once("\r\nReceived: ").map(|(_, ours)| ours).unwrap_or_default();
    assert!(ours.contains("by mx.test.example ") && ours.contains(id), "{front}");
    assert_eq!(front.matches(id).count(), 1, "{front}");
}

#[test]
fn swaks_to_dovecot_and_back() {
    let dovecot = Dovecot::start();
    let server = store(&dovecot, "");
    let mut command = process::command("swaks", ["--server", "127.0.0.1", "--port"]);
    command.arg(server.mx().port().to_string());
    command.args(["--helo", "client.test.example", "--from", SENDER, "--to", "b@example.com,c@example.com"]);
    command.args(["--data", "From: a@b.example\nSubject: through\n\n.dot\n..dots\n.\nlast\n"]);
    command.env("HOME", server.scratch()).env_remove("SWAKS_HOME");
    let text = process::finish(command).succeeded().text();
    assert!(text.contains("250 "), "{text}");
    let body = b"From: a@b.example\r\nSubject: through\r\n\r\n.dot\r\n..dots\r\n.\r\nlast\r\n";
    for user in ["b@example.com", "c@example.com"] {
        process::eventually("the message is in its mailbox", || !dovecot.imap_fetch(user).is_empty());
        let stored = dovecot.imap_fetch(user);
        assert_eq!(stored.len(), 1);
        let text = String::from_utf8_lossy(&stored[0]);
        // swaks may end its data with an empty line.
        assert!(text.trim_end().ends_with(String::from_utf8_lossy(body).trim_end()), "{text}");
        assert!(text.contains("by mx.test.example "), "{text}");
        assert_eq!(dovecot.imap_search(user, "SUBJECT through"), [1]);
    }
}

#[test]
fn curl_to_dovecot_and_back() {
    let dovecot = Dovecot::start();
    let server = store(&dovecot, "");
    let mut body = b"From: a@b.example\r\nSubject: curl\r\n\r\n.first\r\n".to_vec();
    body.extend(Random::new(7).text(300_000));
    let file = server.scratch().join("message");
    fs::write(&file, &body).unwrap();
    let url = format!("smtp://{}/client.test.example", server.mx());
    let mut command = process::command("curl", ["--silent", "--show-error", "--url", &url]);
    command.args(["--mail-from", SENDER, "--mail-rcpt", "b@example.com", "--upload-file"]).arg(&file);
    process::finish(command).succeeded();
    process::eventually("the message is in its mailbox", || !dovecot.imap_fetch("b@example.com").is_empty());
    let stored = dovecot.imap_fetch("b@example.com");
    assert_eq!(stored.len(), 1);
    assert!(stored[0].ends_with(&body), "{} of {}", stored[0].len(), body.len());
}

#[test]
fn the_corpus_through_dovecot() {
    let dovecot = Dovecot::start();
    let server = store(&dovecot, "");
    // What has no header and body as mail has them is completed by Dovecot.
    let whole =
        |body: &[u8]| body.starts_with(b"From: ") && body.windows(4).any(|octets| octets == b"\r\n\r\n");
    let messages = corpus::messages().into_iter().filter(|message| whole(&message.body)).collect::<Vec<_>>();
    let mut client = Client::greeted(server.mx());
    for (number, message) in messages.iter().enumerate() {
        let user = format!("u{number}@example.com");
        let mail = format!("<{SENDER}> BODY=8BITMIME");
        let id = hand_over(&mut client, &mail, &[&format!("<{user}>")], &message.body);
        outcome(&server, &id, &user, "sent");
        assert_stored(&dovecot.imap_fetch(&user)[0], &message.body, &id);
    }
}

/// As many recipients as one transaction may have, and more.
#[test]
fn many_mailboxes() {
    let dovecot = Dovecot::start();
    let server = store(&dovecot, "");
    let recipients = (0..120).map(|number| format!("<u{number}@example.com>")).collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    let body = b"From: a@b.example\r\nSubject: many\r\n\r\nx\r\n";
    let id = send(&server, &format!("<{SENDER}>"), &recipients, body);
    for number in 0..120 {
        outcome(&server, &id, &format!("u{number}@example.com"), "sent");
    }
    for number in [0, 50, 99, 100, 119] {
        let stored = dovecot.imap_fetch(&format!("u{number}@example.com"));
        assert_eq!(stored.len(), 1, "{number}");
        assert_stored(&stored[0], body, &id);
    }
}

#[test]
fn a_sink_speaks_lmtp() {
    let sink = SmtpSink::start(&["-L"]);
    let server = Server::with(settings(&[
        route("store", "lmtp", &[sink.address()], "connections_max = 1\n"),
        domain("*", "store"),
    ]));
    let mut client = Client::greeted(server.mx());
    for number in 0..20 {
        let body = format!("From: a@b.example\r\nSubject: {number}\r\n\r\n.x\r\n");
        let recipients = ["<b@example.com>", "<c@example.com>"];
        let id = hand_over(&mut client, &format!("<{SENDER}>"), &recipients, body.as_bytes());
        outcome(&server, &id, "b@example.com", "sent");
        outcome(&server, &id, "c@example.com", "sent");
        let dumps = sink.dumps();
        let dump = dumps.iter().find(|dump| dump.message.ends_with(body.as_bytes())).unwrap();
        export::assert_body(&dump.message, body.as_bytes(), &id);
    }
    assert_eq!(sink.messages(), 20);
}

/// RFC 2033 §4.2: one reply for each.
#[test]
fn each_recipient_by_its_own_reply() {
    for extensions in
        [&["PIPELINING", "8BITMIME"][..], &["8BITMIME"][..], &["PIPELINING", "CHUNKING", "DSN"][..]]
    {
        let script = Script::lmtp()
            .extensions(extensions)
            .on(When::at(Stage::Recipient).address("unknown@*"), Answer::reply("550 5.1.1 who?"))
            .on(When::at(Stage::End).address("gone@*"), Answer::reply("550 5.2.1 disabled"))
            .on(When::at(Stage::End).address("full@*").times(2), Answer::reply("452 4.2.2 full"));
        let between = Between::start(script);
        let recipients =
            ["gone@example.com", "b@example.com", "unknown@example.com", "full@example.com", "c@example.com"];
        let id = simple(&between.server, "each", &recipients);
        let line = outcome(&between.server, &id, "gone@example.com", "bounced");
        assert!(line.contains("dsn=5.2.1 ") && line.contains("disabled"), "{line}");
        let line = outcome(&between.server, &id, "unknown@example.com", "bounced");
        assert!(line.contains("dsn=5.1.1 "), "{line}");
        outcome(&between.server, &id, "b@example.com", "sent");
        outcome(&between.server, &id, "c@example.com", "sent");
        let line = outcome(&between.server, &id, "full@example.com", "deferred");
        assert!(line.contains("dsn=4.2.2 ") && line.contains("452 "), "{line}");
        outcome(&between.server, &id, "full@example.com", "sent");
        let lines = outcomes(&between.server, &id, "full@example.com");
        assert_eq!(lines.iter().filter(|line| is(line, "deferred")).count(), 2, "{lines:#?}");
        let came = between.peer.messages();
        assert_eq!(
            came[0].accepted(),
            ["gone@example.com", "b@example.com", "full@example.com", "c@example.com"]
        );
        assert_eq!(came[1].accepted(), ["full@example.com"]);
        assert_eq!(came.len(), 3);
        // Both are in one report: they have failed in one attempt.
        let report = between.report();
        assert_eq!(report.recipients(), 2);
        assert_eq!(report.of_recipient("gone@example.com", "status"), "5.2.1");
        assert_eq!(report.of_recipient("unknown@example.com", "status"), "5.1.1");
    }
}

/// The connection ends behind the first reply: who was answered is done, the others are tried again.
#[test]
fn a_connection_that_ends_between_the_replies() {
    for answer in [Answer::close(), Answer::reply("421 4.3.2 closing").then(Answer::close())] {
        let script = Script::lmtp().on(When::at(Stage::End).address("c@*").times(1), answer);
        let between = Between::start(script);
        let id = simple(&between.server, "cut", &["b@example.com", "c@example.com", "d@example.com"]);
        outcome(&between.server, &id, "b@example.com", "sent");
        for recipient in ["c@example.com", "d@example.com"] {
            outcome(&between.server, &id, recipient, "deferred");
            outcome(&between.server, &id, recipient, "sent");
        }
        let came = between.peer.messages();
        let again = came[1..].iter().flat_map(|message| message.accepted()).collect::<BTreeSet<_>>();
        assert_eq!(again, BTreeSet::from(["c@example.com", "d@example.com"]));
        assert_eq!(outcomes(&between.server, &id, "b@example.com").len(), 1);
    }
}

/// In a mailbox, so that nobody else will tell (RFC 3461 §6.2).
#[test]
fn delivery_is_reported_to_those_who_ask() {
    let between = Between::start(Script::lmtp());
    let recipients = ["<b@example.com> NOTIFY=SUCCESS", "<c@example.com>"];
    send(&between.server, &format!("<{SENDER}> ENVID=e1"), &recipients, b"Subject: x\r\n\r\nx\r\n");
    between.peer.wait_for(1);
    let report = Report::read(&between.reports.wait_for(1)[0].octets);
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("b@example.com", "action"), "delivered");
    assert_eq!(report.of_message("original-envelope-id"), "e1");
}

/// Somebody who speaks SMTP there: nothing is lost, and the log says what is wrong.
#[test]
fn smtp_where_lmtp_was_meant() {
    let script = Script::smtp();
    let between = Between::start(script);
    let server = Server::with(settings(&[
        route("store", "lmtp", &[between.peer.address()], ""),
        domain("*", "store"),
    ]));
    let id = simple(&server, "x", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("500"), "{line}");
    assert!(between.peer.messages().is_empty());
}
