//! Input in pieces of any size: one octet at a time, a thousand commands at once, BDAT in odd chunks.

use std::io::Read as _;

use inrush_tests::client::{Client, accepted, stuffed};
use inrush_tests::export;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

#[test]
fn one_octet_at_a_time() {
    let server = Server::start();
    let body = Random::new(1).text(600);
    let mut client = Client::open(server.mx()).unwrap();
    client.expect(220);
    let mut script = b"EHLO client.test.example\r\nMAIL FROM:<a@client.test.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n".to_vec();
    script.extend_from_slice(&stuffed(&body));
    script.extend_from_slice(b"QUIT\r\n");
    for octet in script {
        client.send(&[octet]).unwrap();
    }
    for code in [250, 250, 250, 354] {
        client.expect(code);
    }
    let id = accepted(&client.expect(250));
    client.expect(221);
    export::assert_body(&export::all(&server.data())[&id], &body, "one octet at a time");
}

#[test]
fn a_thousand_commands_in_one_segment() {
    let limits = vec!["junk_commands_max = 2000".into()];
    let server = Server::with(Settings { limits, ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    client.send(&b"NOOP\r\n".repeat(1000)).unwrap();
    for _ in 0..1000 {
        client.expect(250);
    }
    client.say("QUIT", 221);
    assert!(client.rest().is_empty());
}

/// RFC 5321 §4.5.3.1.10: the recipients that were accepted get the mail, the one too many gets 452.
#[test]
fn a_thousand_recipients_in_one_segment() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let mut script = String::from("MAIL FROM:<a@client.test.example>\r\n");
    for number in 0..=1000 {
        script.push_str(&format!("RCPT TO:<user{number}@example.com>\r\n"));
    }
    script.push_str("DATA\r\n");
    client.send(script.as_bytes()).unwrap();
    for _ in 0..=1000 {
        client.expect(250);
    }
    assert!(client.expect(452).text().contains("4.5.3"));
    client.expect(354);
    client.send(b"Subject: many\r\n\r\nx\r\n.\r\n").unwrap();
    let id = accepted(&client.expect(250));
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id]);
}

/// Pipelined transactions: everything up to the mail data in one segment, hundreds of messages in one session.
#[test]
fn whole_sessions_in_one_segment() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let body = Random::new(2).text(500);
    let head = format!("MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT {} LAST\r\n", body.len());
    let transaction = [head.as_bytes(), &body].concat();
    client.send(&transaction.repeat(200)).unwrap();
    let ids: Vec<String> = (0..200)
        .map(|_| {
            client.expect(250);
            client.expect(250);
            accepted(&client.expect(250))
        })
        .collect();
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), 200);
    ids.iter().for_each(|id| export::assert_body(&stored[id], &body, id));
}

#[test]
fn bdat_in_odd_chunks() {
    let server = Server::start();
    let mut random = Random::from_environment();
    let mut sent = Vec::new();
    let mut client = Client::greeted(server.mx());
    for octets in [1, 2, 4095, 70_000, 258_047, 258_048, 258_049, 262_144, 900_001] {
        let body = random.text(octets);
        client.envelope(&["b@example.com"]);
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (chunk, behind) =
                rest.split_at(usize::try_from(1 + random.below(70_000)).unwrap().min(rest.len()));
            client.send(&[format!("BDAT {}\r\n", chunk.len()).as_bytes(), chunk].concat()).unwrap();
            client.expect(250);
            rest = behind;
        }
        // RFC 3030 §2: an empty last chunk is allowed, and so is an empty one before.
        client.send(b"BDAT 0\r\n").unwrap();
        client.expect(250);
        client.send(b"BDAT 0 LAST\r\n").unwrap();
        sent.push((accepted(&client.expect(250)), body));
    }
    let stored = export::all(&server.data());
    for (id, body) in &sent {
        export::assert_body(&stored[id], body, &format!("{} octets", body.len()));
    }
}

/// 50 MiB is the limit: exactly that is taken, one octet more is refused and drained, the session goes on.
#[test]
fn fifty_mebibytes_by_bdat_and_data() {
    let server =
        Server::with(Settings::default().log(&["segment_bytes = \"128MiB\"", "free_bytes_min = \"16MiB\""]));
    const LIMIT: usize = 50 << 20;
    let mut body = Random::new(3).text(1 << 20).repeat(51);
    body.truncate(LIMIT - 2);
    if body.ends_with(b"\r") {
        body.pop();
        body.push(b'x');
    }
    body.extend_from_slice(b"\r\n");
    assert_eq!(body.len(), LIMIT);
    let mut client = Client::greeted(server.mx());

    client.envelope(&["b@example.com"]);
    for chunk in body.chunks(999_999) {
        client.send(&[format!("BDAT {}\r\n", chunk.len()).as_bytes(), chunk].concat()).unwrap();
        client.expect(250);
    }
    client.send(b"BDAT 0 LAST\r\n").unwrap();
    let id = accepted(&client.expect(250));
    export::assert_body(&export::all(&server.data())[&id], &body, "50 MiB by BDAT");

    client.envelope(&["b@example.com"]);
    client.send(format!("BDAT {} LAST\r\n", LIMIT + 1).as_bytes()).unwrap();
    client.send(&[&body, b"x".as_slice()].concat()).unwrap();
    assert!(client.expect(552).text().contains("5.3.4"));
    client.say("RSET", 250);

    // RFC 1870 §6.1: refused at MAIL already when the client says so.
    assert!(client.say(&format!("MAIL FROM:<> SIZE={}", LIMIT + 1), 552).text().contains("5.3.4"));

    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(&[&body, b"too much\r\n".as_slice()].concat())).unwrap();
    assert!(client.expect(552).text().contains("5.3.4"));
    client.say("NOOP", 250);
    assert_eq!(export::all(&server.data()).len(), 1);
}

/// RFC 2920 §3.2: the replies to a whole message with BDAT leave as a unit when it is durable, but for those behind a write that took long.
#[test]
fn one_segment_answers_a_message_with_bdat() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let mut together = 0;
    for round in 0..100 {
        let group =
            b"MAIL FROM:<a@client.test.example>\r\nRCPT TO:<b@example.com>\r\nBDAT 6 LAST\r\na: b\r\n";
        client.send(group).unwrap();
        let mut replies = Vec::new();
        let mut reads = 0;
        while replies.iter().filter(|&&octet| octet == b'\n').count() < 3 {
            let mut octets = [0; 1024];
            let received = (&mut client.stream()).read(&mut octets).unwrap();
            assert!(received > 0, "round {round}: {}", replies.escape_ascii());
            replies.extend_from_slice(&octets[..received]);
            reads += 1;
        }
        let text = String::from_utf8_lossy(&replies);
        assert_eq!(text.matches("250 2.").count(), 3, "round {round}: {text}");
        together += usize::from(reads == 1);
    }
    assert!(together > 50, "{together} of 100 messages were answered at once");
    client.say("QUIT", 221);
}
