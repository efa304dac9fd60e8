//! What a next hop cannot carry: it is given nothing that it would spoil, and nothing is changed to make it fit.

use std::collections::BTreeSet;

use inrush_tests::client::{Client, accepted};
use inrush_tests::export;
use inrush_tests::peer::{Answer, Message, Peer, Script, Stage, Transfer, When};
use inrush_tests::server::Server;

use crate::delivery::{
    Between, SENDER, domain, outcome, outcomes, route, send, send_chunk, settings, simple, smarthost, text,
};
use crate::smuggling::{LOOK_ALIKES, SMUGGLED};

const BARE: &[u8] = b"From: <a@b.example>\r\nSubject: bare\r\n\r\none\ntwo\rthree\r\n.\r\n\0\r\nno line end";

fn everything_but(extension: &str) -> Script {
    let all = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN", "CHUNKING", "ENHANCEDSTATUSCODES"];
    let rest = all.into_iter().filter(|one| *one != extension).collect::<Vec<_>>();
    Script::smtp().extensions(&rest)
}

/// Returned with this status and these words, and the next hop has not seen it.
#[track_caller]
fn returned(between: &Between, id: &str, recipient: &str, status: &str, words: &str) {
    let line = outcome(&between.server, id, recipient, "bounced");
    assert!(line.contains(&format!("dsn={status} ")) && line.contains(words), "{line}");
    let report = between.report();
    assert_eq!(report.of_recipient(recipient, "status"), status);
    assert_eq!(report.of_recipient(recipient, "action"), "failed");
    assert!(
        report.words().replace("\r\n", " ").contains(words.split(' ').next().unwrap()),
        "{}",
        report.words()
    );
    let commands = between.peer.commands();
    assert!(!commands.iter().any(|line| line.starts_with("MAIL")), "{commands:?}");
    assert!(between.peer.messages().is_empty());
}

#[test]
fn bare_newlines_go_by_chunks() {
    let between = Between::start(Script::smtp());
    let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], BARE);
    let message = &between.peer.wait_for(1)[0];
    export::assert_body(&message.octets, BARE, &id);
    assert_eq!(message.transfer, Transfer::Chunks(vec![message.octets.len()]));
    outcome(&between.server, &id, "b@example.com", "sent");
}

#[test]
fn bare_newlines_go_nowhere_else() {
    let between = Between::start(everything_but("CHUNKING"));
    let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], BARE);
    returned(&between, &id, "b@example.com", "5.6.0", "bare CR or LF needs CHUNKING");
}

/// SMTP smuggling (CVE-2023-51764): what was normalised on its way in needs no CHUNKING, and no dot that came to stand at the start of a line
/// ends the mail data on its way out.
#[test]
fn normalised_newlines_go_by_data_and_smuggle_nothing() {
    let peer = Peer::start(everything_but("CHUNKING"));
    let tables = [route("next", "smtp", &[peer.address()], ""), domain("*", "next")];
    let server = Server::with(settings(&tables).listener("bare_newline = \"normalize\""));
    let mut client = Client::greeted(server.mx());
    let mut ids = Vec::new();
    for look_alike in LOOK_ALIKES {
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
        client.send(&[b"Subject: first\r\n\r\ntext", *look_alike, SMUGGLED].concat()).unwrap();
        ids.push(accepted(&client.expect(250)));
    }
    for id in &ids {
        outcome(&server, id, "b@example.com", "sent");
    }
    let messages = peer.messages();
    assert_eq!(messages.len(), LOOK_ALIKES.len(), "{}", peer.record().text());
    for message in &messages {
        let text = String::from_utf8_lossy(&message.octets);
        assert_eq!(message.accepted(), ["b@example.com"]);
        assert!(text.contains("Subject: first") && text.contains("DATA\r\nSubject: smuggled"), "{text}");
        assert!(
            !message
                .octets
                .iter()
                .enumerate()
                .any(|(at, octet)| { *octet == b'\n' && (at == 0 || message.octets[at - 1] != b'\r') })
        );
    }
}

/// By BDAT a message may end within a line; by DATA it cannot.
#[test]
fn a_last_line_without_an_end() {
    let body = b"From: <a@b.example>\r\nSubject: end\r\n\r\n.no line end";
    let between = Between::start(everything_but("CHUNKING"));
    let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], body);
    let message = &between.peer.wait_for(1)[0];
    export::assert_body(&message.octets, &[&body[..], b"\r\n"].concat(), &id);
    let between = Between::start(Script::smtp());
    let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], body);
    export::assert_body(&between.peer.wait_for(1)[0].octets, body, &id);
}

/// NUL is an octet like any other: no line end, and the end-of-data indication stands on a line of its own behind it.
#[test]
fn a_last_line_that_ends_in_nul() {
    for end in [&b"\0"[..], b"\0\0", b"\r\n\0\0"] {
        let body = [&text("nul")[..], b"x", end].concat();
        let between = Between::start(everything_but("CHUNKING"));
        let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
        let message = &between.peer.wait_for(1)[0];
        export::assert_body(&message.octets, &[&body[..], b"\r\n"].concat(), &id);
        // The connection is still in step.
        simple(&between.server, "next", &["b@example.com"]);
        between.peer.wait_for(2);
    }
}

/// A body with dots at its lines, by BDAT in, by DATA out.
#[test]
fn chunks_become_data() {
    let body = b"From: <a@b.example>\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\nx.\r\n.\r\n";
    let between = Between::start(everything_but("CHUNKING"));
    let id = send_chunk(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], body);
    let message = &between.peer.wait_for(1)[0];
    export::assert_body(&message.octets, body, &id);
    assert_eq!(message.transfer, Transfer::Data);
}

#[test]
fn eight_bit_mail_is_announced_or_returned() {
    let body = b"From: <a@b.example>\r\nSubject: bits\r\n\r\n\xe4\r\n";
    let mail = format!("<{SENDER}> BODY=8BITMIME");
    let between = Between::start(Script::smtp());
    let id = send(&between.server, &mail, &["<b@example.com>"], body);
    let message = &between.peer.wait_for(1)[0];
    assert!(message.reverse_path.parameters.iter().any(|one| one == "BODY=8BITMIME"), "{message:?}");
    export::assert_body(&message.octets, body, &id);
    let between = Between::start(everything_but("8BITMIME"));
    let id = send(&between.server, &mail, &["<b@example.com>"], body);
    returned(&between, &id, "b@example.com", "5.6.3", "8BITMIME is required");
}

#[test]
fn internationalised_mail_is_announced_or_returned() {
    let body = "From: <a@b.example>\r\nSubject: bär\r\n\r\nx\r\n".as_bytes();
    let mail = format!("<{SENDER}> SMTPUTF8 BODY=8BITMIME");
    let between = Between::start(Script::smtp());
    let id = send(&between.server, &mail, &["<bär@example.com>"], body);
    let message = &between.peer.wait_for(1)[0];
    assert!(message.reverse_path.parameters.iter().any(|one| one == "SMTPUTF8"), "{message:?}");
    assert_eq!(message.accepted(), ["bär@example.com"]);
    export::assert_body(&message.octets, body, &id);
    let between = Between::start(everything_but("SMTPUTF8"));
    let id = send(&between.server, &mail, &["<bär@example.com>"], body);
    let line = outcome(&between.server, &id, "bär@example.com", "bounced");
    assert!(line.contains("dsn=5.6.7 ") && line.contains("SMTPUTF8 is required"), "{line}");
    assert!(between.peer.messages().is_empty());
    between.reports.wait_for(1);
}

/// RFC 6531 §3.1: what was announced and is not there needs nobody who understands it.
#[test]
fn mail_that_is_only_announced_as_internationalised() {
    let between = Between::start(everything_but("SMTPUTF8"));
    send(&between.server, &format!("<{SENDER}> SMTPUTF8"), &["<b@example.com>"], &text("plain"));
    let message = &between.peer.wait_for(1)[0];
    assert!(!message.reverse_path.parameters.iter().any(|one| one == "SMTPUTF8"), "{message:?}");
}

/// Nor does a large one whose text alone has octets above 127.
#[test]
fn a_large_message_that_is_only_announced_as_internationalised() {
    let lines = "0123456789012345678901234567890123456789 bär\r\n".repeat(20_000);
    for (field, status) in [("Subject: plain\r\n", "sent"), ("Subject: bär\r\n", "bounced")] {
        let body = format!("From: <a@b.example>\r\n{field}\r\n{lines}").into_bytes();
        let between = Between::start(everything_but("SMTPUTF8"));
        let mail = format!("<{SENDER}> SMTPUTF8 BODY=8BITMIME");
        let id = send(&between.server, &mail, &["<b@example.com>"], &body);
        let line = outcome(&between.server, &id, "b@example.com", status);
        if status == "bounced" {
            assert!(line.contains("dsn=5.6.7 "), "{line}");
            continue;
        }
        let message = &between.peer.wait_for(1)[0];
        export::assert_body(&message.octets, &body, &id);
        assert!(!message.reverse_path.parameters.iter().any(|one| one == "SMTPUTF8"), "{message:?}");
    }
}

#[test]
fn a_message_that_is_too_large_for_the_host() {
    let between = Between::start(Script::smtp().extensions(&["PIPELINING", "8BITMIME", "SIZE 1000"]));
    let body = [&text("large")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(50)].concat();
    let id = send(&between.server, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
    returned(&between, &id, "b@example.com", "5.3.4", "message size");
    // The next one fits.
    simple(&between.server, "small", &["b@example.com"]);
    between.peer.wait_for(1);
}

/// RFC 1870 §5: 0 is no limit.
#[test]
fn a_host_without_a_limit() {
    let between = Between::start(Script::smtp().extensions(&["SIZE 0"]));
    simple(&between.server, "small", &["b@example.com"]);
    between.peer.wait_for(1);
}

#[test]
fn pipelining_only_where_it_is_offered() {
    let between = Between::start(Script::smtp());
    simple(&between.server, "x", &["b@example.com", "c@example.com", "d@example.com"]);
    between.peer.wait_for(1);
    assert!(between.peer.record().connections[0].pipelined >= 3);
    for script in [everything_but("PIPELINING"), Script::smtp().extensions(&[])] {
        let between = Between::start(script);
        simple(&between.server, "x", &["b@example.com", "c@example.com", "d@example.com"]);
        between.peer.wait_for(1);
        assert_eq!(between.peer.record().connections[0].pipelined, 0, "{}", between.peer.record().text());
    }
}

/// RFC 5321 §3.2: a host that does not know EHLO.
#[test]
fn an_old_host() {
    let script = Script::smtp().on(When::at(Stage::Hello).times(1), Answer::reply("500 what?"));
    let between = Between::start(script);
    let id = simple(&between.server, "x", &["b@example.com"]);
    let message = &between.peer.wait_for(1)[0];
    assert_eq!(message.hello, "HELO mx.test.example");
    assert_eq!(message.transfer, Transfer::Data);
    assert!(message.reverse_path.parameters.is_empty());
    outcome(&between.server, &id, "b@example.com", "sent");
}

/// Replies of many lines, in single octets.
#[test]
fn slow_and_long_replies() {
    let hello = "250-peer.test.example hello\n250-pipelining\n250-8bitmime\n250 size 10000000";
    let script = Script::smtp()
        .on(Stage::Banner, Answer::reply("220-peer.test.example\n220-no spam\n220 ready").singly())
        .on(Stage::Hello, Answer::reply(hello).singly())
        .on(Stage::Recipient, Answer::reply("250-2.1.5 yes\n250 2.1.5 ok").singly())
        .on(Stage::End, Answer::reply("250-2.0.0 yes\n250-2.0.0 thank\n250 2.0.0 you").singly());
    let between = Between::start(script);
    let id = simple(&between.server, "x", &["b@example.com", "c@example.com"]);
    let line = outcome(&between.server, &id, "c@example.com", "sent");
    assert!(line.contains("250 2.0.0 yes") || line.contains("250 yes") || line.contains("you"), "{line}");
    assert_eq!(between.peer.messages().len(), 1);
}

/// To so many recipients of these domains; the transactions in which all of them got it, each in one attempt.
#[track_caller]
fn divided(script: Script, recipients: usize, domains: usize) -> Vec<Message> {
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), "[queue]\nretry_first = \"1h\"\nretry_max = \"4h\"\n");
    let addresses =
        (0..recipients).map(|number| format!("r{number}@d{}.example", number % domains)).collect::<Vec<_>>();
    let id = simple(&server, "many", &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    for address in &addresses {
        outcome(&server, &id, address, "sent");
        assert_eq!(outcomes(&server, &id, address).len(), 1, "{}", peer.record().text());
    }
    let messages = peer.messages();
    let accepted = messages.iter().map(|message| message.accepted().len()).sum::<usize>();
    assert_eq!(accepted, recipients, "{}", peer.record().text());
    messages
}

/// RFC 9422 §4.2, §4.3.
#[test]
fn no_more_recipients_than_the_host_says() {
    let messages = divided(Script::smtp().extensions(&["PIPELINING", "LIMITS RCPTMAX=10"]), 25, 1);
    // In whatever order: several connections share them.
    let mut counts = messages.iter().map(|message| message.recipients.len()).collect::<Vec<_>>();
    counts.sort_unstable();
    assert_eq!(counts, [5, 10, 10]);

    let limits = ["PIPELINING", "CHUNKING", "LIMITS RCPTMAX=3 RCPTDOMAINMAX=2"];
    let messages = divided(Script::smtp().extensions(&limits), 25, 5);
    assert!(messages.iter().all(|message| message.recipients.len() <= 3));
    for connection in messages.iter().map(|message| message.connection).collect::<BTreeSet<_>>() {
        let mine = messages.iter().filter(|message| message.connection == connection);
        let domains =
            mine.flat_map(|message| message.accepted()).map(|address| &address[address.len() - 10..]);
        let domains = domains.collect::<BTreeSet<_>>();
        assert!(domains.len() <= 2, "{domains:?}");
    }
}

/// RFC 5321 §4.5.3.1.10: 452 is for the next transaction, and so is 552, which it was before.
#[test]
fn too_many_recipients_for_the_host() {
    for reply in ["452 4.5.3 too many", "452 too many", "552 too many", "552 5.5.3 too many"] {
        for extensions in [&["PIPELINING"][..], &["PIPELINING", "CHUNKING"], &[]] {
            let refused = When::at(Stage::Recipient).after(10).times(15);
            let script = Script::smtp().extensions(extensions).on(refused, Answer::reply(reply));
            let counts = divided(script, 25, 1).iter().map(|one| one.accepted().len()).collect::<Vec<_>>();
            assert_eq!(counts, [10, 15], "{reply}");
        }
    }
}

/// What the same code says of a mailbox is another thing, and so is what it says of the first recipient.
#[test]
fn one_mailbox_too_full() {
    for (reply, status, recipients) in [
        ("552 5.2.2 mailbox full", "bounced", &["a@example.com", "full@example.com"][..]),
        ("452 4.2.2 mailbox full", "deferred", &["a@example.com", "full@example.com"]),
        ("552 no room", "bounced", &["full@example.com"]),
    ] {
        let full = When::at(Stage::Recipient).address("full@*");
        let between = Between::start(Script::smtp().on(full, Answer::reply(reply)));
        let id = simple(&between.server, "full", recipients);
        outcome(&between.server, &id, "full@example.com", status);
    }
}

const BINARY: &[u8] = b"From: <a@b.example>\r\nSubject: bits\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\xff\n.\n\r.\r\n.\r\nend";

fn binary_mail() -> String {
    format!("<{SENDER}> BODY=BINARYMIME")
}

/// RFC 3030 §3: octet for octet to a host with BINARYMIME and CHUNKING, announced as what it is.
#[test]
fn binary_mail_goes_by_chunks() {
    let offered = ["PIPELINING", "8BITMIME", "SIZE", "CHUNKING", "BINARYMIME"];
    let large = [BINARY, &[0, 13, 10, 46, 10, 255].repeat(100_000)[..]].concat();
    for body in [BINARY, &large] {
        let between = Between::start(Script::smtp().extensions(&offered));
        let id = send_chunk(&between.server, &binary_mail(), &["<b@example.com>"], body);
        let message = &between.peer.wait_for(1)[0];
        export::assert_body(&message.octets, body, &id);
        assert_eq!(message.transfer, Transfer::Chunks(vec![message.octets.len()]));
        let parameters = &message.reverse_path.parameters;
        assert!(parameters.iter().any(|one| one == "BODY=BINARYMIME"), "{parameters:?}");
        outcome(&between.server, &id, "b@example.com", "sent");
    }
}

/// RFC 3030 §3: without BINARYMIME it is returned; nothing is coded anew. CHUNKING alone is not enough, nor is BINARYMIME alone.
#[test]
fn binary_mail_goes_nowhere_else() {
    for offered in
        [&["8BITMIME", "CHUNKING", "PIPELINING"][..], &["8BITMIME", "BINARYMIME"], &["8BITMIME"], &[]]
    {
        let between = Between::start(Script::smtp().extensions(offered));
        let id = send_chunk(&between.server, &binary_mail(), &["<b@example.com>"], BINARY);
        returned(&between, &id, "b@example.com", "5.6.1", "BINARYMIME is required");
        // Of what cannot go as text only the header goes back.
        let report = between.report();
        let (kind, text) = report.returned();
        assert_eq!(kind, "text/rfc822-headers");
        assert!(text.contains("Subject: bits") && !text.contains('\0'), "{text}");
    }
}

/// One host can, the other one cannot: each recipient by its own.
#[test]
fn binary_mail_for_two_hosts() {
    let between = Between::start(Script::smtp().extensions(&["8BITMIME", "CHUNKING", "BINARYMIME"]));
    // The way back has no BINARYMIME, and no CHUNKING.
    between.reports.change(Script::smtp().extensions(&["8BITMIME"]));
    let recipients = ["<b@example.com>", "<x@client.test.example>"];
    let id = send_chunk(&between.server, &binary_mail(), &recipients, BINARY);
    outcome(&between.server, &id, "b@example.com", "sent");
    let line = outcome(&between.server, &id, "x@client.test.example", "bounced");
    assert!(line.contains("dsn=5.6.1 "), "{line}");
    export::assert_body(&between.peer.messages()[0].octets, BINARY, &id);
    let report = between.report();
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("x@client.test.example", "status"), "5.6.1");
}

/// Announced as binary, and plain text all the same: any host will do.
#[test]
fn mail_that_is_only_announced_as_binary() {
    let between = Between::start(Script::smtp().extensions(&[]));
    let id = send_chunk(&between.server, &binary_mail(), &["<b@example.com>"], &text("plain"));
    let message = &between.peer.wait_for(1)[0];
    assert!(message.reverse_path.parameters.is_empty(), "{message:?}");
    export::assert_body(&message.octets, &text("plain"), &id);
}
