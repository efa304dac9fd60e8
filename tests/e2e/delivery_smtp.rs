//! Accepted mail goes on by SMTP: real receivers get it octet for octet with one Received field in front, each recipient once, and what the
//! sender has asked for goes with it.

use std::collections::BTreeSet;

use inrush_tests::client::Client;
use inrush_tests::exim::EximServer;
use inrush_tests::http::Samples;
use inrush_tests::peer::{Answer, Peer, Script, Stage, Transfer};
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::smtp_sink::SmtpSink;
use inrush_tests::tls::Authority;
use inrush_tests::{corpus, export, process, users};

use crate::delivery::{
    SENDER, domain, hand_over, outcome, route, send, settings, simple, smarthost, smarthost_by, subject, text,
};

const MESSAGE: &[u8] = b"From: a@client.test.example\r\nSubject: x\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@x.example>\r\n\r\n.one dot\r\n..two\r\n.\r\n\xe4\xf6\xfc\r\n\r\nlast\r\n";

/// One Received field of ours, and then what was sent.
#[track_caller]
fn assert_relayed(octets: &[u8], body: &[u8], id: &str) {
    export::assert_body(octets, body, id);
    let trace = String::from_utf8_lossy(&octets[..octets.len() - body.len()]).into_owned();
    assert!(trace.starts_with("Received: from client.test.example "), "{trace}");
    assert!(trace.contains("by mx.test.example ") && trace.contains(id), "{trace}");
}

fn ends_with<'m>(kept: &'m [Vec<u8>], body: &[u8]) -> Vec<&'m Vec<u8>> {
    kept.iter().filter(|message| message.ends_with(body)).collect()
}

#[test]
fn postfix_gets_everything_for_everybody() {
    let listen = free_port();
    let keep = vec!["example.com".to_owned(), "other.example".to_owned()];
    let postfix = Postfix::start(&Purpose { listen: Some(listen), keep, ..Purpose::default() });
    let server = smarthost(listen, "");
    let recipients = ["<b@example.com>", "<c@example.com>", "<\"d d\"@other.example>"];
    let id = send(&server, &format!("<{SENDER}>"), &recipients, MESSAGE);
    let kept = postfix.wait_for_kept(3);
    assert_eq!(ends_with(&kept, MESSAGE).len(), 3, "{}", postfix.log());
    for (message, address) in kept.iter().zip(["b@example.com"; 3]) {
        let text = String::from_utf8_lossy(message);
        // Its own, and ours.
        assert_eq!(text.matches("\r\nReceived: ").count(), 2, "{address}: {text}");
        assert!(text.starts_with(&format!("Return-Path: <{SENDER}>\r\n")) && text.contains(&id), "{text}");
    }
    for recipient in ["b@example.com", "c@example.com", "\"d d\"@other.example"] {
        outcome(&server, &id, recipient, "sent");
        let field = format!("Delivered-To: {}\r\n", recipient.replace('"', ""));
        assert!(
            kept.iter().any(|message| { String::from_utf8_lossy(message).replace('"', "").contains(&field) }),
            "{field}"
        );
    }
}

#[test]
fn exim_gets_chunks() {
    let exim = EximServer::start(&["log_selector = +all".to_owned()]);
    let server = smarthost(exim.address(), "");
    let id = send(&server, &format!("<{SENDER}>"), &["<b@example.com>", "<c@other.example>"], MESSAGE);
    let kept = exim.wait_for_kept(2);
    assert_eq!(ends_with(&kept, MESSAGE).len(), 2, "{}", exim.log());
    for recipient in ["b@example.com", "c@other.example"] {
        outcome(&server, &id, recipient, "sent");
        let field = format!("Envelope-to: {recipient}\r\n");
        assert!(kept.iter().any(|message| String::from_utf8_lossy(message).contains(&field)), "{field}");
    }
    // The mark of BDAT in its log.
    assert!(exim.log().contains(" K "), "{}", exim.log());
}

/// Exim leaves a transaction open whose chunk it has refused for want of a recipient: what is pipelined behind it must not join it.
#[test]
fn exim_refuses_recipients_between_chunks() {
    let exim = EximServer::start(&["acl_smtp_rcpt = accept local_parts = !unknown".to_owned()]);
    let reports = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("next", "smtp", &[exim.address()], "connections_max = 1\nkeep_connection = \"60s\"\n"),
        route("back", "smtp", &[reports.address()], ""),
        domain("*", "next"),
        domain("client.test.example", "back"),
    ]));
    let mut client = Client::greeted(server.mx());
    let mut ids = Vec::new();
    for number in 0..40 {
        let recipient = if number % 2 == 0 { "unknown@example.com" } else { "known@example.com" };
        let mail = format!("<s{number}@client.test.example>");
        let id = hand_over(&mut client, &mail, &[&format!("<{recipient}>")], &text(&number.to_string()));
        ids.push((id, recipient));
    }
    for (id, recipient) in &ids {
        let status = if recipient.starts_with("unknown") { "bounced" } else { "sent" };
        let line = outcome(&server, id, recipient, status);
        assert!(status == "sent" || line.contains("reply=\"550 "), "{line}");
    }
    let kept = exim.wait_for_kept(20);
    assert_eq!(kept.len(), 20, "{}", exim.log());
    for message in &kept {
        let sender = format!("Return-path: <s{}@client.test.example>", subject(message));
        assert!(String::from_utf8_lossy(message).contains(&sender), "{sender}\n{}", exim.log());
    }
    // Nobody hears of a recipient who has the message.
    assert_eq!(reports.wait_for(20).len(), 20);
}

#[test]
fn a_sink_without_extensions_gets_data() {
    let sink = SmtpSink::start(&["-e"]);
    let server = smarthost(sink.address(), "");
    let body = b"From: <a@b.example>\r\nSubject: old\r\n\r\n.dot\r\n..\r\nlast\r\n";
    let id = send(&server, "<>", &["<b@example.com>", "<c@example.com>"], body);
    outcome(&server, &id, "c@example.com", "sent");
    sink.wait_for(1);
    let dumps = sink.dumps();
    assert_eq!(dumps[0].values("X-Mail-Args")[0].split(' ').next(), Some("<>"));
    assert_eq!(dumps[0].values("X-Rcpt-Args"), ["<b@example.com>", "<c@example.com>"]);
    assert_relayed(&dumps[0].message, body, &id);
}

/// Everything odd that was ever accepted, by both ways of transfer.
#[test]
fn the_corpus_octet_for_octet() {
    for extensions in [&["PIPELINING", "8BITMIME", "SMTPUTF8"][..], &["8BITMIME", "SMTPUTF8", "CHUNKING"][..]]
    {
        let peer = Peer::start(Script::smtp().extensions(extensions));
        let server = smarthost(peer.address(), "");
        let messages = corpus::messages();
        let mut client = Client::greeted(server.mx());
        let mut ids = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            let recipient = format!("<b{number}@example.com>");
            ids.push(hand_over(
                &mut client,
                "<a@client.test.example> BODY=8BITMIME",
                &[&recipient],
                &message.body,
            ));
        }
        let came = peer.wait_for(messages.len());
        assert_eq!(came.len(), messages.len());
        for (number, message) in messages.iter().enumerate() {
            let recipient = format!("b{number}@example.com");
            let came = came.iter().find(|came| came.accepted() == [recipient.as_str()]);
            assert_relayed(&came.unwrap().octets, &message.body, &ids[number]);
        }
    }
}

#[test]
fn twenty_mebibytes() {
    let listen = free_port();
    let keep = vec!["example.com".to_owned()];
    let postfix = Postfix::start(&Purpose { listen: Some(listen), keep, ..Purpose::default() });
    let peer = Peer::start(Script::smtp());
    let mut settings = settings(&[
        route("postfix", "smtp", &[listen], ""),
        route("peer", "smtp", &[peer.address()], ""),
        domain("example.com", "postfix"),
        domain("other.example", "peer"),
        "[relay]\nroute = \"peer\"\n".to_owned(),
    ]);
    settings.limits.push("message_bytes_max = \"32MiB\"".to_owned());
    let server = Server::with(settings.log(&["segment_bytes = \"64MiB\"", "free_bytes_min = \"16MiB\""]));
    let mut body = b"From: <a@b.example>\r\nSubject: large\r\n\r\n".to_vec();
    body.extend(Random::new(20).text(20 << 20));
    let recipients = ["<b@example.com>", "<c@other.example>"];
    let id = send(&server, &format!("<{SENDER}>"), &recipients, &body);
    let kept = postfix.wait_for_kept(1);
    assert!(kept[0].ends_with(&body), "{} octets of {}", kept[0].len(), body.len());
    assert_relayed(&peer.wait_for(1)[0].octets, &body, &id);
    outcome(&server, &id, "b@example.com", "sent");
    outcome(&server, &id, "c@other.example", "sent");
}

/// What a large message costs while it goes through memory counts, and is given back.
#[test]
fn large_messages_count_for_what_they_cost() {
    let script = Script::smtp().on(Stage::Mail, Answer::hold().then(Answer::reply("250 2.1.0 ok")));
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), "");
    let memory = || Samples::scrape(server.admin()).sum("inrush_relay_memory_bytes", &[]);
    let body = [&text("large")[..], &Random::new(13).text(600_000)].concat();
    let ids = [0, 1].map(|_| send(&server, &format!("<{SENDER}>"), &["<b@example.com>"], &body));
    peer.wait_for_held(2);
    process::eventually("both count", || memory() >= f64::from(3 << 20));
    peer.release_all();
    for id in &ids {
        outcome(&server, id, "b@example.com", "sent");
    }
    process::eventually("nothing counts any more", || memory() == 0.0);
}

/// Each recipient goes with what was asked for it, whichever of the many it is.
#[test]
fn recipients_with_their_own_parameters() {
    let peers = [0, 1].map(|_| Peer::start(Script::smtp()));
    let server = Server::with(settings(&[
        route("even", "smtp", &[peers[0].address()], ""),
        route("odd", "smtp", &[peers[1].address()], ""),
        domain("d0.example", "even"),
        domain("d1.example", "odd"),
    ]));
    let recipients = (0..300).map(|number| {
        format!("<r{number}@d{}.example> NOTIFY=FAILURE ORCPT=rfc822;o{number}@x.example", number % 2)
    });
    let recipients = recipients.collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    send(&server, &format!("<{SENDER}>"), &recipients, &text("many"));
    for (place, peer) in peers.iter().enumerate() {
        let record = peer.wait_until("its recipients", |record| {
            record.messages.iter().map(|message| message.recipients.len()).sum::<usize>() == 150
        });
        let mut numbers = BTreeSet::new();
        for path in record.messages.iter().flat_map(|message| &message.recipients).map(|one| &one.path) {
            let number = path.address[1..].split('@').next().unwrap().parse::<usize>().unwrap();
            assert_eq!(path.address, format!("r{number}@d{place}.example"));
            assert_eq!(
                path.parameters,
                ["NOTIFY=FAILURE".to_owned(), format!("ORCPT=rfc822;o{number}@x.example")]
            );
            numbers.insert(number);
        }
        assert!(numbers.len() == 150 && numbers.iter().all(|number| number % 2 == place));
    }
}

/// RFC 5321 §4.5.3.1.8: more than a hundred recipients are for no server; each gets it once.
#[test]
fn two_hundred_and_fifty_recipients() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost(peer.address(), "");
    let recipients =
        (0..250).map(|number| format!("<r{number}@d{}.example>", number % 3)).collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    let id = send(&server, &format!("<{SENDER}>"), &recipients, &text("many"));
    let came = peer.wait_until("all recipients", |record| {
        record.messages.iter().map(|message| message.accepted().len()).sum::<usize>() >= 250
    });
    let named = came.messages.iter().flat_map(|message| message.accepted()).collect::<BTreeSet<_>>();
    assert_eq!((named.len(), came.messages.len()), (250, 3));
    assert!(came.messages.iter().all(|message| message.accepted().len() <= 100));
    outcome(&server, &id, "r249@d0.example", "sent");
    // What the peer offers is used: fewer round trips.
    assert!(came.connections.iter().any(|connection| connection.pipelined > 50));
}

/// A domain on its own way, the others on theirs; a message for both is split.
#[test]
fn each_domain_by_its_route() {
    let peers = [0, 1, 2].map(|_| Peer::start(Script::smtp()));
    let server = Server::with(settings(&[
        route("one", "smtp", &[peers[0].address()], ""),
        route("two", "smtp", &[peers[1].address()], ""),
        route("rest", "smtp", &[peers[2].address()], ""),
        domain("one.example", "one"),
        domain("two.example", "two"),
        domain("*", "rest"),
    ]));
    let id =
        simple(&server, "split", &["a@one.example", "b@TWO.example", "c@one.example", "d@sub.one.example"]);
    let accepted = |peer: &Peer| {
        peer.wait_for(1)[0].accepted().iter().map(|address| (*address).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(accepted(&peers[0]), ["a@one.example", "c@one.example"]);
    // As it was written: only the host knows what its case means.
    assert_eq!(accepted(&peers[1]), ["b@TWO.example"]);
    assert_eq!(accepted(&peers[2]), ["d@sub.one.example"]);
    for recipient in ["a@one.example", "b@TWO.example", "c@one.example", "d@sub.one.example"] {
        outcome(&server, &id, recipient, "sent");
    }
}

#[test]
fn one_connection_for_message_after_message() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost_by(peer.address(), "connections_max = 1\nkeep_connection = \"60s\"\n", "");
    for number in 0..20 {
        simple(&server, &number.to_string(), &["b@example.com"]);
        peer.wait_for(number + 1);
    }
    assert_eq!(peer.record().connections.len(), 1, "{}", peer.record().text());
}

#[test]
fn so_many_messages_a_connection() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost_by(
        peer.address(),
        "connections_max = 1\nmessages_per_connection = 3\nkeep_connection = \"60s\"\n",
        "",
    );
    let mut client = Client::greeted(server.mx());
    for number in 0..10 {
        hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &text(&number.to_string()));
    }
    let record = peer.wait_until("ten messages", |record| record.messages.len() == 10);
    for number in 1..=record.connections.len() {
        assert!(record.messages.iter().filter(|message| message.connection == number).count() <= 3);
    }
    let subjects = record.messages.iter().map(|message| subject(&message.octets)).collect::<BTreeSet<_>>();
    assert_eq!(subjects.len(), 10);
    // The last one has said goodbye too.
    assert_eq!(peer.record().connections[0].commands().last().map(String::as_str), Some("QUIT"));
}

#[test]
fn no_more_connections_than_are_allowed() {
    let script = Script::smtp().on(Stage::Mail, Answer::hold().then(Answer::reply("250 2.1.0 ok")));
    let peer = Peer::start(script);
    let server = smarthost_by(peer.address(), "connections_max = 3\n", "");
    let mut client = Client::greeted(server.mx());
    for number in 0..30 {
        hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &text(&number.to_string()));
    }
    let record = peer.wait_for_held(3);
    assert_eq!(record.connections.len(), 3);
    peer.release_all();
    let record = peer.wait_until("all messages", |record| record.messages.len() == 30);
    let open = record.connections.iter().filter(|connection| !connection.ended).count();
    assert!(open <= 3, "{}", record.text());
}

/// RFC 3461 §5.2: what the sender has asked for goes on with the message.
#[test]
fn what_is_asked_of_reports_goes_on() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost(peer.address(), "");
    let mail = "<sender@client.test.example> RET=HDRS ENVID=QQ+3D314159";
    let recipients = [
        "<b@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2B@elsewhere.example",
        "<c@example.com> NOTIFY=NEVER",
        "<d@example.com>",
    ];
    send(&server, mail, &recipients, &text("dsn"));
    let message = &peer.wait_for(1)[0];
    let parameters = |path: &inrush_tests::peer::Path| {
        path.parameters.iter().filter(|one| !one.starts_with("SIZE=")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(parameters(&message.reverse_path), ["RET=HDRS", "ENVID=QQ+3D314159"]);
    let of = message.recipients.iter().map(|recipient| parameters(&recipient.path)).collect::<Vec<_>>();
    let mut first = of[0].clone();
    first.sort();
    assert_eq!(first[0], "NOTIFY=SUCCESS,FAILURE");
    assert_eq!(first[1], "ORCPT=rfc822;Bob+2B@elsewhere.example");
    assert_eq!(of[1].iter().filter(|one| one.starts_with("NOTIFY")).collect::<Vec<_>>(), ["NOTIFY=NEVER"]);
    assert!(!of[2].iter().any(|one| one.starts_with("NOTIFY")), "{of:?}");
}

#[test]
fn a_host_without_dsn_hears_nothing_of_it() {
    let peer = Peer::start(Script::smtp().extensions(&["PIPELINING", "8BITMIME"]));
    let server = smarthost(peer.address(), "");
    let mail = "<sender@client.test.example> RET=HDRS ENVID=x SIZE=100";
    send(&server, mail, &["<b@example.com> NOTIFY=NEVER ORCPT=rfc822;x@y.example"], &text("dsn"));
    let message = &peer.wait_for(1)[0];
    assert_eq!(message.reverse_path.parameters, [""; 0]);
    assert_eq!(message.recipients[0].path.parameters, [""; 0]);
}

/// RFC 6409 §8: what a mail program has left out; relayed mail is left as it is.
#[test]
fn submitted_mail_gets_date_and_message_id() {
    let peer = Peer::start(Script::smtp());
    let authority = Authority::new();
    let certificate = authority.issue("mx.test.example");
    let users_file = authority.folder().join("users");
    users::write(&users_file, &[("joe@example.com", "")]);
    let tables = [
        route("next", "smtp", &[peer.address()], ""),
        domain("example.com", "next"),
        "[relay]\nroute = \"next\"\n".to_owned(),
        format!("[tls]\n{}", certificate.lines()),
        "[[listener]]\nname = \"submissions\"\naddress = [\"127.0.0.1:0\"]\nkind = \"submission\"\ntls = \"implicit\"\n"
            .to_owned(),
        format!("[submission]\nusers = \"{}\"\n", users_file.display()),
    ];
    let server = Server::with(settings(&tables));
    let mut client = Client::open_secure(server.listener("submissions"), "mx.test.example").unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    // joe@example.com, secret
    client.say("AUTH PLAIN AGpvZUBleGFtcGxlLmNvbQBzZWNyZXQ=", 235);
    let body = b"From: joe@example.com\r\nSubject: sent\r\n\r\nhello\r\n";
    let id = hand_over(&mut client, "<joe@example.com>", &["<b@foreign.example>"], body);
    let message = &peer.wait_for(1)[0];
    export::assert_body(&message.octets, body, &id);
    let text = String::from_utf8_lossy(&message.octets).into_owned();
    assert!(text.contains(&format!("\r\nMessage-ID: <{id}@mx.test.example>\r\n")), "{text}");
    assert!(text.contains("\r\nDate: ") && text.contains(" with ESMTPSA id "), "{text}");
    assert!(!text.contains("secret"));
    // The size that was announced is that of all of it.
    if message.transfer == Transfer::Data {
        assert!(message.reverse_path.parameters.contains(&format!("SIZE={}", message.octets.len())));
    }
    let front = simple(&server, "front", &["b@example.com"]);
    let message = peer.wait_for(2).remove(1);
    let text = String::from_utf8_lossy(&message.octets).into_owned();
    assert!(text.contains(&front) && !text.contains("Message-ID") && !text.contains("\nDate:"), "{text}");
}

#[test]
fn the_size_that_is_announced_is_that_of_the_message() {
    let peer = Peer::start(Script::smtp());
    let server = smarthost(peer.address(), "");
    simple(&server, "size", &["b@example.com"]);
    let message = &peer.wait_for(1)[0];
    assert!(
        message.reverse_path.parameters.contains(&format!("SIZE={}", message.octets.len())),
        "{message:?}"
    );
    assert_eq!(message.transfer, Transfer::Chunks(vec![message.octets.len()]));
    assert_eq!(message.hello, "EHLO mx.test.example");
}
