//! Accepted mail goes into Maildirs: what stands in the files and where they are, whatever the address, the quota and the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use inrush_tests::client::Client;
use inrush_tests::mount::Mounted;
use inrush_tests::peer::{Peer, Script};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::{export, maildir};
use tempfile::TempDir;

use crate::delivery::{
    Report, SENDER, domain, hand_over, is, outcome, outcomes, route, send, send_chunk, settings, simple, text,
};

/// A gateway with mailboxes in a folder; reports go to a peer of their own.
struct Mailboxes {
    server: Server,
    reports: Peer,
    root: PathBuf,
    _folder: Option<TempDir>,
}

impl Mailboxes {
    /// `path` below the folder, and further lines of the route.
    #[track_caller]
    fn start(path: &str, lines: &str) -> Self {
        let folder = TempDir::with_prefix("inrush-mail-").unwrap();
        let root = folder.path().join("mail");
        fs::create_dir(&root).unwrap();
        Self { _folder: Some(folder), ..Self::below(&root, path, lines) }
    }

    #[track_caller]
    fn below(root: &Path, path: &str, lines: &str) -> Self {
        let reports = Peer::start(Script::smtp());
        let lines = format!("path = \"{}/{path}\"\n{lines}", root.display());
        let server = Server::with(settings(&[
            route("mail", "maildir", &[], &lines),
            route("back", "smtp", &[reports.address()], ""),
            domain("client.test.example", "back"),
            domain("*", "mail"),
        ]));
        Self { server, reports, root: root.to_owned(), _folder: None }
    }

    fn mail(&self, mailbox: &str) -> Vec<Vec<u8>> {
        maildir::messages(&self.root.join(mailbox))
    }

    /// The mailboxes that are there, relative to the folder, so many folders below it.
    fn mailboxes(&self, depth: usize) -> Vec<String> {
        let mut folders = vec![self.root.clone()];
        for _ in 0..depth {
            let below = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().flatten());
            folders = below.map(|entry| entry.path()).collect();
        }
        let names =
            folders.iter().map(|folder| folder.strip_prefix(&self.root).unwrap().display().to_string());
        let mut names = names.collect::<Vec<_>>();
        names.sort();
        names
    }
}

#[test]
fn what_is_in_a_mailbox() {
    let mail = Mailboxes::start("{domain}/{user}", "");
    let body = b"From: <a@b.example>\r\nSubject: x\r\n\r\n.dot\r\n..\r\n\xe4\r\n\r\n";
    let recipients = ["<Joe+lists@Example.COM>", "<ann@example.com>"];
    let id = send(&mail.server, &format!("<{SENDER}>"), &recipients, body);
    let line = outcome(&mail.server, &id, "Joe+lists@Example.COM", "sent");
    assert!(line.contains("relay=maildir ") && line.contains("delivered to maildir"), "{line}");
    outcome(&mail.server, &id, "ann@example.com", "sent");
    assert_eq!(mail.mailboxes(2), ["example.com/ann", "example.com/joe"]);
    for (mailbox, address) in
        [("example.com/joe", "Joe+lists@Example.COM"), ("example.com/ann", "ann@example.com")]
    {
        let messages = mail.mail(mailbox);
        assert_eq!(messages.len(), 1);
        let front = format!("Return-Path: <{SENDER}>\r\nDelivered-To: {address}\r\nReceived: ");
        let text = String::from_utf8_lossy(&messages[0]).into_owned();
        assert!(text.starts_with(&front) && text.contains(&id), "{text}");
        let at = front.len() - "Received: ".len();
        export::assert_body(&messages[0][at..], body, &id);
        // In the file the lines end as on this machine.
        let new = mail.root.join(mailbox).join("new");
        let files = fs::read_dir(&new).unwrap().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        assert!(!fs::read(&files[0]).unwrap().contains(&b'\r'));
        assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(mail.root.join(mailbox).join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn the_null_reverse_path() {
    let mail = Mailboxes::start("{user}", "");
    let id = send(&mail.server, "<>", &["<joe@example.com>"], &text("x"));
    outcome(&mail.server, &id, "joe@example.com", "sent");
    assert!(
        mail.mail("joe")[0].starts_with(b"Return-Path: <>\r\nDelivered-To: joe@example.com\r\nReceived: ")
    );
}

#[test]
fn a_large_message_and_one_with_bare_newlines() {
    let mail = Mailboxes::start("{user}", "");
    let mut body = text("large");
    body.extend(Random::new(3).text(5 << 20));
    let id = send(&mail.server, &format!("<{SENDER}>"), &["<joe@example.com>", "<ann@example.com>"], &body);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    outcome(&mail.server, &id, "ann@example.com", "sent");
    for user in ["joe", "ann"] {
        assert!(mail.mail(user)[0].ends_with(&body), "{user}");
    }
    let bare = b"Subject: bare\r\n\r\none\rtwo\r\n";
    let id = send_chunk(&mail.server, &format!("<{SENDER}>"), &["<carriage@example.com>"], bare);
    outcome(&mail.server, &id, "carriage@example.com", "sent");
    assert!(mail.mail("carriage")[0].ends_with(bare));
}

#[test]
fn mail_for_everybody_in_one_mailbox() {
    let mail = Mailboxes::start("all", "connections_max = 10\n");
    let mut client = Client::greeted(mail.server.mx());
    let mut last = String::new();
    for number in 0..100 {
        let recipient = format!("<u{number}@example.com>");
        last = hand_over(&mut client, &format!("<{SENDER}>"), &[&recipient, "<x@example.com>"], &text("x"));
    }
    outcome(&mail.server, &last, "u99@example.com", "sent");
    assert_eq!(maildir::wait_for(&mail.root.join("all"), 200).len(), 200);
}

/// Whatever a stranger writes in front of the `@`: nothing stands outside of the folder, and nobody's mail is somebody else's.
#[test]
fn hostile_local_parts_stay_inside() {
    let mail = Mailboxes::start("{domain}/{local}", "");
    let hostile = [
        "\"..\"",
        "\"../..\"",
        "\"/etc/passwd\"",
        "\"../../../tmp/x\"",
        "\".\"",
        "\"a/b\"",
        "\"a/../../b\"",
        "\"~root\"",
        "\"new\"",
        "\"a b\"",
        "\"%2e%2e\"",
        "\".hidden\"",
        "\"a\\\"b\"",
        "\"{user}\"",
        "\"$HOME\"",
        "\"-rf\"",
        "\"a@b\"",
        "tmp",
        "..",
        "a..b",
        ".",
    ];
    let mut client = Client::greeted(mail.server.mx());
    let mut accepted = Vec::new();
    for local in hostile {
        client.say("MAIL FROM:<>", 250);
        client.send(format!("RCPT TO:<{local}@example.com>\r\n").as_bytes()).unwrap();
        if client.reply().unwrap().code != 250 {
            client.say("RSET", 250);
            continue;
        }
        client.say("RSET", 250);
        let recipient = format!("<{local}@example.com>");
        accepted.push((local, hand_over(&mut client, "<>", &[&recipient], &text(local))));
    }
    assert!(accepted.len() >= 10, "{accepted:?}");
    for (local, id) in &accepted {
        outcome(&mail.server, id, &format!("{local}@example.com"), "sent");
    }
    let mailboxes = mail.mailboxes(2);
    assert_eq!(mailboxes.len(), accepted.len(), "{mailboxes:#?}");
    for mailbox in &mailboxes {
        let parts = mailbox.split('/').collect::<Vec<_>>();
        assert!(parts.len() == 2 && parts[0] == "example.com" && !parts[1].starts_with('.'), "{mailbox}");
        assert_eq!(mail.mail(mailbox).len(), 1, "{mailbox}");
    }
    // Beside the folder there is nothing.
    let beside = fs::read_dir(mail.root.parent().unwrap()).unwrap().flatten().count();
    assert_eq!(beside, 1);
}

/// The same mailbox, quoted or not, in any case unless that matters.
#[test]
fn spellings_of_a_mailbox() {
    for (lines, count) in [("", 1), ("case_sensitive = true\n", 2)] {
        let mail = Mailboxes::start("{user}", lines);
        for local in ["joe", "JOE", "\"joe\"", "joe+x", "\"jo\\e\""] {
            let id = send(&mail.server, "<>", &[&format!("<{local}@example.com>")], &text("x"));
            outcome(&mail.server, &id, &format!("{local}@example.com"), "sent");
        }
        assert_eq!(mail.mailboxes(1).len(), count, "{:?}", mail.mailboxes(1));
    }
}

#[test]
fn mailboxes_that_are_not_made() {
    let mail = Mailboxes::start("{user}", "create = false\n");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(mail.root.join("joe").join(part)).unwrap();
    }
    let id = simple(&mail.server, "x", &["joe@example.com", "nobody@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    let line = outcome(&mail.server, &id, "nobody@example.com", "bounced");
    assert!(line.contains("dsn=5.1.1 "), "{line}");
    let report = Report::read(&mail.reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("nobody@example.com", "status"), "5.1.1");
    assert!(!report.words().contains(&mail.root.display().to_string()), "{}", report.words());
    assert_eq!(mail.mailboxes(1), ["joe"]);
}

/// An empty folder above is rather a file system that is missing than a folder without mailboxes.
#[test]
fn mailboxes_whose_file_system_is_not_there() {
    let mail = Mailboxes::start("{user}", "create = false\n");
    let id = simple(&mail.server, "x", &["joe@example.com"]);
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.3.0 "), "{line}");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(mail.root.join("joe").join(part)).unwrap();
    }
    outcome(&mail.server, &id, "joe@example.com", "sent");
}

#[test]
fn a_full_mailbox() {
    let mail = Mailboxes::start("{user}", "quota_messages = 2\n");
    for _ in 0..2 {
        let id = simple(&mail.server, "x", &["joe@example.com"]);
        outcome(&mail.server, &id, "joe@example.com", "sent");
    }
    let id = simple(&mail.server, "third", &["joe@example.com", "ann@example.com"]);
    outcome(&mail.server, &id, "ann@example.com", "sent");
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.2.2 ") && line.contains("mailbox full"), "{line}");
    assert_eq!(mail.mail("joe").len(), 2);
    // Somebody clears up, together with the file that keeps count.
    fs::remove_dir_all(mail.root.join("joe/new")).unwrap();
    fs::create_dir(mail.root.join("joe/new")).unwrap();
    fs::remove_file(mail.root.join("joe/maildirsize")).unwrap();
    outcome(&mail.server, &id, "joe@example.com", "sent");
    assert!(mail.reports.messages().is_empty());
}

#[test]
fn a_message_that_is_larger_than_its_mailbox() {
    let mail = Mailboxes::start("{user}", "quota_bytes = \"10KiB\"\n");
    let body = [&text("large")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(500)].concat();
    let id = send(&mail.server, &format!("<{SENDER}>"), &["<joe@example.com>"], &body);
    let line = outcome(&mail.server, &id, "joe@example.com", "bounced");
    assert!(line.contains("dsn=5.2.3 "), "{line}");
    let report = Report::read(&mail.reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("joe@example.com", "status"), "5.2.3");
    assert!(mail.mail("joe").is_empty());
    let id = simple(&mail.server, "small", &["joe@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
}

#[test]
fn a_full_disk_and_then_space_again() {
    let disk = Mounted::tmpfs(2);
    let mail = Mailboxes::below(disk.path(), "{user}", "");
    let id = simple(&mail.server, "first", &["joe@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    // Up to the last page.
    let ballast = disk.path().join("ballast");
    let full = fs::write(&ballast, vec![1; 4 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut body = text("second");
    body.extend(Random::new(1).text(500_000));
    let id = send(&mail.server, &format!("<{SENDER}>"), &["<joe@example.com>"], &body);
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.3.1 ") && line.contains("mail system full"), "{line}");
    assert_eq!(mail.mail("joe").len(), 1);
    assert_eq!(fs::read_dir(disk.path().join("joe/tmp")).unwrap().count(), 0, "half a message is left");
    fs::remove_file(&ballast).unwrap();
    outcome(&mail.server, &id, "joe@example.com", "sent");
    let messages = mail.mail("joe");
    assert_eq!(messages.iter().filter(|message| message.ends_with(&body)).count(), 1);
    assert_eq!(messages.len(), 2);
}

#[test]
fn a_disk_that_is_read_only() {
    let disk = Mounted::tmpfs(2);
    let mail = Mailboxes::below(disk.path(), "{user}", "");
    disk.read_only();
    let id = simple(&mail.server, "first", &["joe@example.com"]);
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.3.0 ") && line.contains("Read-only"), "{line}");
    assert!(!line.contains(&disk.path().display().to_string()), "{line}");
}

/// Somebody has put a link where a mailbox should be.
#[test]
fn a_link_in_place_of_a_mailbox() {
    let mail = Mailboxes::start("{user}", "");
    let elsewhere = TempDir::new().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), mail.root.join("joe")).unwrap();
    let id = simple(&mail.server, "x", &["joe@example.com", "ann@example.com"]);
    outcome(&mail.server, &id, "ann@example.com", "sent");
    outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(mail.root.join("joe")).unwrap();
    outcome(&mail.server, &id, "joe@example.com", "sent");
}

#[test]
fn delivery_is_reported_to_those_who_ask() {
    let mail = Mailboxes::start("{user}", "");
    let recipients = ["<joe@example.com> NOTIFY=SUCCESS ORCPT=rfc822;old@example.com", "<ann@example.com>"];
    let id = send(&mail.server, &format!("<{SENDER}>"), &recipients, &text("x"));
    let report = Report::read(&mail.reports.wait_for(1)[0].octets);
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("joe@example.com", "action"), "delivered");
    assert!(report.of_recipient("joe@example.com", "status").starts_with("2."));
    assert_eq!(
        report.of_recipient("joe@example.com", "original-recipient").replace(' ', ""),
        "rfc822;old@example.com"
    );
    outcome(&mail.server, &id, "ann@example.com", "sent");
}

/// Killed again and again: nothing is lost, and half a message is never seen.
#[test]
fn mailboxes_survive_kills() {
    let mut mail = Mailboxes::start("{user}", "");
    let mut body = text("kill");
    body.extend(Random::new(9).text(100_000));
    let mut sent = 0;
    for round in 0..10 {
        let mut client = Client::greeted(mail.server.mx());
        for _ in 0..5 {
            hand_over(
                &mut client,
                &format!("<{SENDER}>"),
                &[&format!("<u{}@example.com>", round % 3)],
                &body,
            );
            sent += 1;
        }
        drop(client);
        mail.server.restart();
    }
    let all = || ["u0", "u1", "u2"].iter().flat_map(|user| mail.mail(user)).collect::<Vec<_>>();
    inrush_tests::process::eventually("everything has arrived", || all().len() >= sent);
    assert!(all().iter().all(|message| message.ends_with(&body)));
    let id = simple(&mail.server, "after", &["after@example.com"]);
    outcome(&mail.server, &id, "after@example.com", "sent");
    assert!(outcomes(&mail.server, &id, "after@example.com").iter().all(|line| !is(line, "deferred")));
}

/// The quota of a mailbox that stands in its own `maildirsize`, which another program has written; the route sets none.
#[test]
fn a_quota_of_the_mailbox_alone() {
    let mail = Mailboxes::start("{user}", "");
    let id = simple(&mail.server, "first", &["joe@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    let file = mail.root.join("joe/maildirsize");
    assert!(!file.exists(), "a mailbox without a quota has no such file");
    let octets = mail.mail("joe")[0].len();
    // As Maildir++ has it: the quota, then what is there.
    fs::write(&file, format!("3000S,3C\n{octets} 1\n")).unwrap();

    // Larger than the whole quota: never.
    let large = [&text("large")[..], &Random::new(2).text(4000)].concat();
    let id = send(&mail.server, &format!("<{SENDER}>"), &["<joe@example.com>", "<ann@example.com>"], &large);
    let line = outcome(&mail.server, &id, "joe@example.com", "bounced");
    assert!(line.contains("dsn=5.2.3 "), "{line}");
    outcome(&mail.server, &id, "ann@example.com", "sent");
    mail.reports.wait_for(1);

    // By number of messages: two more fit, the fourth does not.
    for _ in 0..2 {
        let id = simple(&mail.server, "fits", &["joe@example.com"]);
        outcome(&mail.server, &id, "joe@example.com", "sent");
    }
    let lines = fs::read_to_string(&file).unwrap();
    assert!(lines.starts_with("3000S,3C\n"), "{lines}");
    let messages = lines.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap().parse::<i64>().unwrap());
    assert_eq!(messages.sum::<i64>(), 3, "each delivery is noted: {lines}");
    let id = simple(&mail.server, "fourth", &["joe@example.com"]);
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.2.2 ") && line.contains("mailbox full"), "{line}");

    // A reader throws one away and notes it, as Maildir++ wants it.
    let new = mail.root.join("joe/new");
    let first = fs::read_dir(&new).unwrap().flatten().next().unwrap().path();
    let octets = fs::metadata(&first).unwrap().len();
    fs::remove_file(first).unwrap();
    let mut noted = fs::OpenOptions::new().append(true).open(&file).unwrap();
    std::io::Write::write_all(&mut noted, format!("-{octets} -1\n").as_bytes()).unwrap();
    outcome(&mail.server, &id, "joe@example.com", "sent");
    assert_eq!(mail.mail("joe").len(), 3);
    assert!(
        fs::read_to_string(&file).unwrap().starts_with("3000S,3C\n"),
        "the quota is still that of the file"
    );
    assert_eq!(mail.reports.messages().len(), 1);
}

/// By octets, and what is in the trash does not count.
#[test]
fn a_quota_of_octets_of_the_mailbox_alone() {
    let mail = Mailboxes::start("{user}", "");
    let id = simple(&mail.server, "first", &["joe@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    // Nothing but the quota: what is there has to be counted.
    let octets =
        fs::metadata(fs::read_dir(mail.root.join("joe/new")).unwrap().flatten().next().unwrap().path());
    let octets = octets.unwrap().len();
    let set = || {
        fs::write(mail.root.join("joe/maildirsize"), format!("{}S\n", octets * 2 + octets / 2)).unwrap();
    };
    set();
    let id = simple(&mail.server, "first", &["joe@example.com"]);
    outcome(&mail.server, &id, "joe@example.com", "sent");
    let id = simple(&mail.server, "third", &["joe@example.com"]);
    let line = outcome(&mail.server, &id, "joe@example.com", "deferred");
    assert!(line.contains("dsn=4.2.2 "), "{line}");
    // Read, and marked as trash.
    let (new, cur) = (mail.root.join("joe/new"), mail.root.join("joe/cur"));
    let first = fs::read_dir(&new).unwrap().flatten().next().unwrap();
    let trashed = format!("{}:2,ST", first.file_name().to_string_lossy());
    fs::rename(first.path(), cur.join(trashed)).unwrap();
    // Counted anew: a count of a moment ago would stand for a quarter of an hour.
    set();
    outcome(&mail.server, &id, "joe@example.com", "sent");
    assert_eq!(mail.mail("joe").len(), 3);
}
