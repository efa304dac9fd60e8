//! The scripted peer against a client that shows every octet, and against real ones.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;

use inrush_tests::client::{Client, stuffed};
use inrush_tests::exim::Exim;
use inrush_tests::peer::{Answer, Peer, Script, Stage, Transfer, When, server_config};
use inrush_tests::postfix::{Postfix, Purpose};
use inrush_tests::process::{self, PATIENCE};
use inrush_tests::tls::Authority;

const NAME: &str = "peer.test.example";
const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.one dot\r\n..two\r\n.\r\nbare \r and \n\r\n";

fn lmtp(peer: &Peer) -> Client {
    let mut client = Client::open(peer.address()).unwrap();
    client.expect(220);
    client.say("LHLO client.test.example", 250);
    client
}

/// MAIL, RCPT, DATA and the mail data; the replies to the last are not read.
fn hand_over(client: &mut Client, recipients: &[&str]) {
    client.envelope(recipients);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
}

/// The client has nothing more to read and the connection is over without an error.
fn is_closed(client: &mut Client) -> bool {
    client.reply().is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

#[test]
fn envelope_parameters_and_octets_are_kept() {
    let peer = Peer::start(Script::smtp());
    let mut client = Client::greeted(peer.address());
    client.say("MAIL FROM:<> SIZE=7 RET=HDRS", 250);
    client.say("RCPT TO:<\"a> b\"@example.com> NOTIFY=NEVER", 250);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
    assert!(is_closed(&mut client));
    drop(client);
    let record = peer.wait_for_ends(1);
    let message = &record.messages[0];
    assert_eq!((message.connection, message.secure), (1, false));
    assert_eq!(message.hello, "EHLO client.test.example");
    assert_eq!(message.reverse_path.address, "");
    assert_eq!(message.reverse_path.parameters, ["SIZE=7", "RET=HDRS"]);
    assert_eq!(message.accepted(), ["\"a> b\"@example.com"]);
    assert_eq!(message.recipients[0].path.parameters, ["NOTIFY=NEVER"]);
    assert_eq!(message.octets, MESSAGE);
    assert_eq!(message.transfer, Transfer::Data);
    assert_eq!(message.replies, ["250 2.0.0 message taken"]);
    assert_eq!(record.connections[0].fault, None);
    assert_eq!(peer.commands().last().map(String::as_str), Some("QUIT"));
}

#[test]
fn chunks_are_kept_as_they_are() {
    let peer = Peer::start(Script::smtp());
    let mut client = Client::greeted(peer.address());
    client.envelope(&["b@example.com"]);
    // All at once, with the next command behind it (RFC 3030 §4.2).
    client.send(b"BDAT 3\r\n\r\n.BDAT 0\r\nBDAT 4 LAST\r\n\r\n.\rNOOP\r\n").unwrap();
    for _ in 0..4 {
        client.expect(250);
    }
    let messages = peer.wait_for(1);
    assert_eq!(messages[0].octets, b"\r\n.\r\n.\r");
    assert_eq!(messages[0].transfer, Transfer::Chunks(vec![3, 0, 4]));
    // Without a recipient the octets are read all the same.
    client.send(b"BDAT 6 LAST\r\nQUIT\r\n").unwrap();
    client.expect(503);
    client.say("NOOP", 250);
}

#[test]
fn an_empty_message_and_commands_behind_it() {
    let peer = Peer::start(Script::smtp());
    let mut client = Client::greeted(peer.address());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(b".\r\nNOOP\r\n").unwrap();
    client.expect(250);
    client.expect(250);
    assert_eq!(peer.messages()[0].octets, b"");
}

#[test]
fn recipients_are_refused_by_address_and_by_turn() {
    let script = Script::smtp()
        .on(When::at(Stage::Recipient).address("nobody@*"), Answer::reply("550 5.1.1 who?"))
        .on(When::at(Stage::Recipient).times(1), Answer::reply("450-4.7.1 not\n450 4.7.1 yet"));
    let peer = Peer::start(script);
    let mut client = Client::greeted(peer.address());
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.say("RCPT TO:<nobody@example.com>", 550);
    assert_eq!(client.say("RCPT TO:<b@example.com>", 450).lines, ["4.7.1 not", "4.7.1 yet"]);
    client.say("DATA", 503);
    client.say("RCPT TO:<b@example.com>", 250);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    let message = &peer.messages()[0];
    assert_eq!(message.accepted(), ["b@example.com"]);
    assert_eq!(message.recipients.len(), 3);
    assert_eq!(message.recipients[0].reply, "550 5.1.1 who?");
}

/// RFC 2920 §3.1: such a server says 354 to a client that has sent DATA along with recipients of whom none is good.
#[test]
fn data_without_recipients() {
    let script = Script::smtp()
        .on(Stage::Recipient, Answer::reply("550 5.1.1 who?"))
        .on(Stage::Data, Answer::reply("354 go ahead"));
    let peer = Peer::start(script);
    let mut client = Client::greeted(peer.address());
    client.send(b"MAIL FROM:<a@client.test.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n").unwrap();
    for code in [250, 550, 354] {
        client.expect(code);
    }
    client.send(b".\r\n").unwrap();
    client.expect(503);
    assert!(peer.messages()[0].accepted().is_empty());
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let script = Script::lmtp()
        .on(When::at(Stage::Recipient).address("x@*"), Answer::reply("550 5.1.1 who?"))
        .on(When::at(Stage::End).address("full@*"), Answer::reply("452 4.2.2 full"))
        .on(When::at(Stage::End).address("gone@*"), Answer::close());
    let peer = Peer::start(script);
    let mut client = lmtp(&peer);
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.say("RCPT TO:<full@example.com>", 250);
    client.say("RCPT TO:<x@example.com>", 550);
    client.say("RCPT TO:<b@example.com>", 250);
    client.say("RCPT TO:<gone@example.com>", 250);
    client.say("RCPT TO:<never@example.com>", 250);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(452);
    client.expect(250);
    assert!(is_closed(&mut client));
    assert_eq!(peer.messages()[0].replies, ["452 4.2.2 full", "250 2.0.0 message taken"]);
    let mut client = Client::open(peer.address()).unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 500);
}

#[test]
fn the_connection_ends_around_the_final_reply() {
    let script = Script::smtp()
        .on(When::at(Stage::End).connection(1), Answer::close())
        .on(When::at(Stage::End).connection(2), Answer::reset())
        .on(When::at(Stage::End).connection(3), Answer::reply("250 2.0.0 ok").then(Answer::close()))
        .on(When::at(Stage::End).connection(4), Answer::octets(b"250 2.0.").then(Answer::close()));
    let peer = Peer::start(script);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::greeted(peer.address());
        hand_over(&mut client, &["b@example.com"]);
        clients.push(client);
        peer.wait_for(clients.len());
    }
    assert!(is_closed(&mut clients[0]));
    assert_eq!(clients[1].reply().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    clients[2].expect(250);
    assert!(is_closed(&mut clients[2]) && is_closed(&mut clients[3]));
    drop(clients);
    let record = peer.wait_for_ends(4);
    let replies = record.messages.iter().map(|message| message.replies.join("")).collect::<Vec<_>>();
    assert_eq!(replies, ["", "", "250 2.0.0 ok", "250 2.0."]);
}

#[test]
fn busy_in_the_middle() {
    let busy = Answer::reply("421 4.3.2 closing").then(Answer::close());
    let script = Script::smtp()
        .on(When::at(Stage::Recipient).address("c@*"), busy.clone())
        .on(When::at(Stage::Octets(5)).times(1), busy);
    let peer = Peer::start(script);
    let mut client = Client::greeted(peer.address());
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.say("RCPT TO:<b@example.com>", 250);
    client.say("RCPT TO:<c@example.com>", 421);
    assert!(is_closed(&mut client));
    let mut client = Client::greeted(peer.address());
    hand_over(&mut client, &["b@example.com"]);
    client.expect(421);
    assert!(is_closed(&mut client));
    // The mark was for once; a message that is passed over is whole.
    let mut client = Client::greeted(peer.address());
    hand_over(&mut client, &["b@example.com"]);
    client.expect(250);
    assert_eq!(peer.messages().len(), 1);
    assert_eq!(peer.messages()[0].octets, MESSAGE);
}

#[test]
fn marks_in_chunks() {
    let script = Script::smtp().on(Stage::Octets(4), Answer::hold());
    let peer = Peer::start(script);
    let mut client = Client::greeted(peer.address());
    client.envelope(&["b@example.com"]);
    client.send(b"BDAT 3\r\nabc").unwrap();
    client.expect(250);
    assert_eq!(peer.record().held, 0);
    client.send(b"BDAT 3 LAST\r\ndef").unwrap();
    peer.wait_for_held(1);
    assert!(peer.messages().is_empty());
    peer.release();
    client.expect(250);
    assert_eq!(peer.messages()[0].octets, b"abcdef");
}

#[test]
fn a_held_step_goes_on_when_it_is_released() {
    let script = Script::smtp()
        .on(Stage::Banner, Answer::hold().then(Answer::reply("220 late")))
        .on(Stage::End, Answer::hold().then(Answer::reply("250 2.0.0 late")));
    let peer = Peer::start(script);
    let mut client = Client::open(peer.address()).unwrap();
    let record = peer.wait_for_held(1);
    assert!(record.connections[0].lines.is_empty());
    peer.release();
    assert_eq!(client.expect(220).lines, ["late"]);
    client.say("EHLO client.test.example", 250);
    hand_over(&mut client, &["b@example.com"]);
    peer.wait_for(1);
    assert!(peer.wait_for_held(1).messages[0].replies.is_empty());
    peer.release_all();
    client.expect(250);
    hand_over(&mut client, &["b@example.com"]);
    client.expect(250);
}

#[test]
fn a_reply_in_single_octets() {
    let reply = Answer::reply("250-one\n250 PIPELINING").singly();
    let peer = Peer::start(Script::smtp().on(Stage::Hello, reply));
    let mut client = Client::open(peer.address()).unwrap();
    client.expect(220);
    assert_eq!(client.say("EHLO x", 250).lines, ["one", "PIPELINING"]);
    let lines = &peer.record().connections[0].lines;
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn garbage_silence_and_a_client_that_gives_up() {
    let script = Script::smtp()
        .on(When::at(Stage::Banner).connection(1), Answer::octets(b"\0\xff\xfegarbage").then(Answer::close()))
        .on(Stage::Hello, Answer::silence());
    let peer = Peer::start(script);
    let mut octets = Vec::new();
    let mut socket = TcpStream::connect(peer.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.read_to_end(&mut octets).unwrap();
    assert_eq!(octets, b"\0\xff\xfegarbage");
    drop(socket);
    let mut client = Client::open(peer.address()).unwrap();
    client.expect(220);
    client.send(b"EHLO x\r\nNOOP\r\n").unwrap();
    peer.wait_until("EHLO", |record| {
        record.connections.len() == 2 && !record.connections[1].commands().is_empty()
    });
    drop(client);
    let record = peer.wait_for_ends(2);
    assert_eq!(record.connections[1].commands(), ["EHLO x"]);
}

#[test]
fn pipelining_is_counted() {
    let peer = Peer::start(Script::smtp());
    let mut client = Client::greeted(peer.address());
    client.say("NOOP", 250);
    assert_eq!(peer.record().connections[0].pipelined, 0);
    client.send(b"NOOP\r\nNOOP\r\nNOOP\r\n").unwrap();
    for _ in 0..3 {
        client.expect(250);
    }
    assert_eq!(peer.record().connections[0].pipelined, 2);
}

#[test]
fn starttls() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(NAME));
    let script = Script::smtp()
        .tls(Arc::clone(&config))
        .on(When::at(Stage::Mail).secure(false), Answer::reply("530 5.7.0 TLS first"));
    let peer = Peer::start(script);
    let mut client = Client::open(peer.address()).unwrap();
    client.expect(220);
    assert!(client.say("EHLO client.test.example", 250).text().contains("STARTTLS"));
    client.say("MAIL FROM:<>", 530);
    client.start_tls(NAME);
    assert!(!client.say("EHLO client.test.example", 250).text().contains("STARTTLS"));
    hand_over(&mut client, &["b@example.com"]);
    client.expect(250);
    assert!(peer.messages()[0].secure);
    let record = peer.record();
    assert_eq!(record.connections[0].tls.as_ref().and_then(|tls| tls.server_name.as_deref()), Some(NAME));

    let peer = Peer::start(Script::smtp().tls_at_once(config));
    let mut client = Client::open_secure(peer.address(), NAME).unwrap();
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    client.say("QUIT", 221);
}

#[test]
fn starttls_that_goes_wrong() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(NAME));
    let at = |number| When::at(Stage::StartTls).connection(number);
    let garbage = Answer::reply("220 go ahead").then(Answer::octets(b"250 this is no TLS\r\n"));
    let script = Script::smtp()
        .tls(config)
        .on(at(1), Answer::reply("454 4.7.0 not now"))
        .on(at(2), Answer::octets(b"220 go ahead\r\n250 injected\r\n").then(Answer::handshake()))
        .on(at(3), garbage.then(Answer::close()))
        .on(at(4), Answer::reply("220 go ahead").then(Answer::close()));
    let peer = Peer::start(script);
    let mut refused = Client::greeted(peer.address());
    refused.say("STARTTLS", 454);
    refused.say("MAIL FROM:<>", 250);
    let mut injected = Client::greeted(peer.address());
    injected.say("STARTTLS", 220);
    injected.expect(250);
    injected.secure(NAME).unwrap();
    injected.say("EHLO client.test.example", 250);
    for _ in 3..=4 {
        let mut broken = Client::greeted(peer.address());
        broken.say("STARTTLS", 220);
        assert!(broken.secure(NAME).is_err());
    }
    // Octets behind STARTTLS are a fault of the client.
    let mut client = Client::greeted(peer.address());
    client.send(b"STARTTLS\r\nNOOP\r\n").unwrap();
    client.expect(220);
    let record = peer.wait_until("a fault", |record| record.connections[4].ended);
    assert!(record.connections[4].fault.as_ref().is_some_and(|fault| fault.contains("behind STARTTLS")));
}

#[test]
fn other_commands_by_script() {
    let ask = |prompt| Answer::reply(prompt).then(Answer::read_line());
    let login = ask("334 VXNlcm5hbWU6").then(ask("334 UGFzc3dvcmQ6")).then(Answer::reply("535 5.7.8 no"));
    let peer = Peer::start(Script::smtp().on(Stage::command("auth"), login));
    let mut client = Client::greeted(peer.address());
    client.say("AUTH LOGIN", 334);
    client.say("dXNlcg==", 334);
    client.say("d29yZA==", 535);
    client.say("XFORWARD NAME=x", 500);
    assert_eq!(peer.commands()[1..], ["AUTH LOGIN", "dXNlcg==", "d29yZA==", "XFORWARD NAME=x"]);
}

#[test]
fn another_script_and_another_peer_in_its_place() {
    let peer = Peer::start(Script::smtp().on(Stage::End, Answer::reply("451 4.3.0 later")));
    let address = peer.address();
    let mut client = Client::greeted(address);
    hand_over(&mut client, &["b@example.com"]);
    client.expect(451);
    peer.change(Script::smtp());
    hand_over(&mut client, &["b@example.com"]);
    client.expect(250);
    drop(peer);
    assert!(client.reply().is_err());
    let peer = Peer::start_at(address, Script::smtp());
    Client::greeted(peer.address());
}

/// A peer that is given up with everything still open ends it.
#[test]
fn a_peer_ends_with_held_steps_and_open_connections() {
    let peer = Peer::start(Script::smtp().on(Stage::Banner, Answer::hold()));
    let mut held = Client::open(peer.address()).unwrap();
    peer.wait_for_held(1);
    peer.change(Script::smtp().on(Stage::Hello, Answer::silence()));
    let mut silent = Client::open(peer.address()).unwrap();
    silent.expect(220);
    silent.send(b"EHLO x\r\n").unwrap();
    drop(peer);
    assert!(held.reply().is_err() && silent.reply().is_err());
}

#[test]
fn postfix_hands_over_after_a_refusal() {
    let script = Script::smtp().on(When::at(Stage::End).times(1), Answer::reply("451 4.3.0 later"));
    let peer = Peer::start(script);
    let postfix = Postfix::start(&Purpose { relay_to: Some(peer.address()), ..Purpose::default() });
    postfix.inject("b@example.com", MESSAGE_OF_PROGRAMS);
    postfix.drain(PATIENCE);
    let messages = peer.wait_for(2);
    assert_eq!(messages.len(), 2, "{}", postfix.log());
    assert_eq!(messages[0].replies, ["451 4.3.0 later"]);
    assert!(messages.iter().all(|message| message.octets.ends_with(b"\r\n.x\r\n")));
    assert!(matches!(messages[1].transfer, Transfer::Data));
}

/// Exim takes BDAT where it is offered, and only a certificate that it trusts.
#[test]
fn exim_hands_over_by_bdat_under_tls() {
    let authority = Authority::new();
    let script = Script::smtp().tls(server_config(&authority.issue(NAME)));
    let peer = Peer::start(script);
    let strict = |authority: &Authority| {
        let lines = [
            "hosts_require_tls = *".to_owned(),
            "tls_verify_hosts = *".to_owned(),
            "tls_verify_cert_hostnames = :".to_owned(),
            format!("tls_sni = {NAME}"),
            format!("tls_verify_certificates = {}", authority.certificate().display()),
        ];
        Exim::new(peer.address(), &lines)
    };
    let exim = strict(&authority);
    let log = exim.send("b@example.com", MESSAGE_OF_PROGRAMS);
    assert!(log.contains(" Completed"), "{log}");
    let record = peer.wait_for_ends(1);
    assert!(record.messages[0].secure && matches!(record.messages[0].transfer, Transfer::Chunks(_)));
    assert!(record.messages[0].octets.ends_with(b"\r\n.x\r\n"));
    let tls = record.connections[0].tls.as_ref();
    assert_eq!(tls.and_then(|tls| tls.server_name.as_deref()), Some(NAME));

    let log = strict(&Authority::new()).send("b@example.com", MESSAGE_OF_PROGRAMS);
    assert!(log.contains("certificate") && !log.contains(" => b@example.com"), "{log}");
    assert_eq!(peer.wait_for_ends(2).messages.len(), 1);
}

const MESSAGE_OF_PROGRAMS: &[u8] = b"From: a@client.test.example\r\nSubject: x\r\n\r\n.x\r\n";

#[test]
fn smtp_source_by_lmtp() {
    let peer = Peer::start(Script::lmtp());
    let mut source = process::command("smtp-source", ["-L", "-s", "5", "-m", "50", "-l", "4096", "-r", "3"]);
    source.args(["-f", "a@client.test.example", "-t", "b@example.com", &format!("inet:{}", peer.address())]);
    process::finish(source).succeeded();
    let record = peer.wait_for_ends(50);
    assert_eq!(record.messages.len(), 50);
    assert!(record.messages.iter().all(|message| message.replies.len() == 3 && message.octets.len() > 4000));
}
