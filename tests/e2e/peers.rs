//! The programs that stand behind the relay in its tests, each of them used once by hand: what they are given is what they show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use inrush_tests::client::{Client, stuffed};
use inrush_tests::dns_server::DnsServer;
use inrush_tests::dovecot::Dovecot;
use inrush_tests::exim::EximServer;
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::process::PATIENCE;
use inrush_tests::smtp_sink::SmtpSink;
use inrush_tests::tls::Authority;
use inrush_tests::{corpus, process};

const MESSAGE: &[u8] = b"From: a@client.test.example\r\nSubject: x\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@x.example>\r\n\r\n.one dot\r\n..two\r\n.\r\n\xe4\xf6\xfc\r\n";

fn lmtp(server: SocketAddr) -> Client {
    let mut client = Client::open(server).unwrap();
    client.expect(220);
    client.say("LHLO client.test.example", 250);
    client
}

fn ends_with(messages: &[Vec<u8>], body: &[u8]) -> usize {
    messages.iter().filter(|message| message.ends_with(body)).count()
}

#[test]
fn dovecot_takes_mail_by_lmtp_and_gives_it_back_by_imap() {
    let dovecot = Dovecot::start();
    assert!(dovecot.imap_fetch("b@example.com").is_empty());
    let mut client = lmtp(dovecot.lmtp());
    client.envelope(&["b@example.com", "c@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.expect(250);
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(b"Subject: second\r\n\r\nx\r\n")).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
    let messages = dovecot.imap_fetch("b@example.com");
    assert_eq!(messages.len(), 2, "{}", dovecot.log());
    assert!(messages[0].starts_with(b"Return-Path: <sender@client.test.example>\r\n"));
    assert!(messages[0].ends_with(MESSAGE) && messages[1].ends_with(b"\r\nSubject: second\r\n\r\nx\r\n"));
    assert_eq!(ends_with(&dovecot.imap_fetch("c@example.com"), MESSAGE), 1);
    assert_eq!(dovecot.imap_search("b@example.com", "SUBJECT second"), [2]);
    assert_eq!(dovecot.imap_search("b@example.com", "HEADER Message-Id 1@x.example"), [1]);
    assert!(dovecot.imap_search("c@example.com", "SUBJECT second").is_empty());
}

#[test]
fn dovecot_gives_back_the_corpus_octet_for_octet() {
    let dovecot = Dovecot::start();
    // What has no header and body as mail has them is completed.
    let whole =
        |body: &[u8]| body.starts_with(b"From: ") && body.windows(4).any(|octets| octets == b"\r\n\r\n");
    let messages = corpus::messages().into_iter().filter(|message| whole(&message.body));
    let mut client = lmtp(dovecot.lmtp());
    let mut sent = Vec::new();
    for message in messages {
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
        client.send(&stuffed(&message.body)).unwrap();
        client.expect(250);
        sent.push(message);
    }
    let stored = dovecot.imap_fetch("b@example.com");
    assert_eq!(stored.len(), sent.len());
    for (stored, sent) in stored.iter().zip(&sent) {
        assert!(stored.ends_with(&sent.body), "{}", sent.name);
    }
}

/// Sends a question as a datagram.
fn asking(server: SocketAddr, name: &str, kind: u16) -> (UdpSocket, Vec<u8>) {
    let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&1_u16.to_be_bytes());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.send_to(&query, server).unwrap();
    (udp, query)
}

/// The rcode, and how many answers there are.
fn ask(server: SocketAddr, name: &str, kind: u16) -> (u8, u16) {
    let (udp, query) = asking(server, name, kind);
    let mut answer = [0; 512];
    let octets = udp.recv(&mut answer).unwrap();
    assert!(octets >= 12);
    if answer[2] & 2 == 0 {
        return (answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]]));
    }
    // RFC 1035 §4.2.2: truncated, so again by TCP, with the length ahead.
    let mut tcp = TcpStream::connect(server).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(&[&u16::try_from(query.len()).unwrap().to_be_bytes(), query.as_slice()].concat()).unwrap();
    let mut answer = [0; 14];
    tcp.read_exact(&mut answer).unwrap();
    (answer[5] & 15, u16::from_be_bytes([answer[8], answer[9]]))
}

const MX: u16 = 15;
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

#[test]
fn dns_answers_and_changes() {
    let mut server = DnsServer::start("example.com. MX 10 mx.example.com.\nmx.example.com. A 127.0.0.2\n");
    let address = server.address();
    assert_eq!(ask(address, "example.com", MX), (NO_ERROR, 1));
    assert_eq!(ask(address, "mx.example.com", MX), (NO_ERROR, 0));
    assert_eq!(ask(address, "nobody.example", MX), (NAME_ERROR, 0));
    server.set_zone("example.com. MX 10 a.example.com.\nexample.com. MX 20 b.example.com.\n");
    assert_eq!(ask(address, "example.com", MX), (NO_ERROR, 2));
    assert_eq!(ask(address, "mx.example.com", 1), (NAME_ERROR, 0));
    assert_eq!(server.queries("MX"), 4);
    assert_eq!(server.queries("AAAA"), 0);
}

#[test]
fn dns_fails_for_some_names_and_recovers() {
    let server = DnsServer::start("example.com. MX 10 a.example.com.\nother.example. MX 10 a.example.com.\n");
    let address = server.address();
    server.fail(&["example.com."]);
    assert_eq!(ask(address, "example.com", MX), (SERVER_FAILURE, 0));
    assert_eq!(ask(address, "a.example.com", MX), (SERVER_FAILURE, 0));
    assert_eq!(ask(address, "other.example", MX), (NO_ERROR, 1));
    server.fail(&[]);
    assert_eq!(ask(address, "example.com", MX), (NO_ERROR, 1));
}

#[test]
fn dns_with_more_than_a_datagram_holds() {
    let records = (0..200)
        .map(|number| format!("example.com. MX {number} mx{number}.example.com.\n"))
        .collect::<String>();
    let server = DnsServer::start(&records);
    assert_eq!(ask(server.address(), "example.com", MX), (NO_ERROR, 200));
}

/// What was asked while it was stopped is answered when it goes on.
#[test]
fn dns_that_does_not_answer() {
    let server = DnsServer::start("example.com. MX 10 a.example.com.\n");
    server.pause();
    let (udp, _) = asking(server.address(), "example.com", MX);
    // Nobody runs who could answer.
    udp.set_nonblocking(true).unwrap();
    let mut answer = [0; 512];
    assert_eq!(udp.recv(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.resume();
    udp.set_nonblocking(false).unwrap();
    assert!(udp.recv(&mut answer).unwrap() > 12);
}

#[test]
fn smtp_sink_dumps_what_it_takes() {
    let sink = SmtpSink::start(&[]);
    let mut client = Client::greeted(sink.address());
    client.envelope(&["b@example.com", "c@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
    sink.wait_for(1);
    let dumps = sink.dumps();
    assert_eq!(dumps.len(), 1);
    assert_eq!(dumps[0].values("X-Mail-Args"), ["<sender@client.test.example>"]);
    assert_eq!(dumps[0].values("X-Rcpt-Args"), ["<b@example.com>", "<c@example.com>"]);
    assert_eq!(dumps[0].message, MESSAGE);
}

#[test]
fn smtp_sink_refuses_and_hangs_up() {
    let sink = SmtpSink::start(&["-r", "RCPT", "-b", "451 4.7.1 later"]);
    let mut client = Client::greeted(sink.address());
    client.say("MAIL FROM:<a@client.test.example>", 250);
    assert_eq!(client.say("RCPT TO:<b@example.com>", 451).text(), "451 4.7.1 later");
    drop(client);
    let sink = SmtpSink::start(&["-q", "."]);
    let mut client = Client::greeted(sink.address());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    assert!(client.reply().is_err());
}

/// Nobody but the client has connected: it ends after one session.
#[test]
fn smtp_sink_speaks_lmtp_and_ends_by_itself() {
    let mut sink = SmtpSink::start(&["-L", "-n", "1"]);
    let mut client = lmtp(sink.address());
    client.envelope(&["b@example.com", "c@example.com"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.expect(250);
    client.say("QUIT", 221);
    sink.wait();
    assert_eq!(sink.messages(), 1);
}

#[test]
fn postfix_keeps_mail() {
    let listen = free_port();
    let keep = vec!["example.com".to_owned(), "other.example".to_owned()];
    let postfix = Postfix::start(&Purpose { listen: Some(listen), keep, ..Purpose::default() });
    let mut client = Client::greeted(listen);
    client.envelope(&["b@example.com", "c@other.example"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
    let kept = postfix.wait_for_kept(2);
    assert_eq!(ends_with(&kept, MESSAGE), 2, "{}", postfix.log());
    for recipient in ["b@example.com", "c@other.example"] {
        let field = format!("Delivered-To: {recipient}\r\n");
        assert!(kept.iter().any(|message| String::from_utf8_lossy(message).contains(&field)));
    }
}

#[test]
fn postfix_takes_bdat_utf8_and_dsn() {
    let listen = free_port();
    let keep = vec!["example.com".to_owned(), "client.test.example".to_owned()];
    let postfix = Postfix::start(&Purpose { listen: Some(listen), keep, ..Purpose::default() });
    let kept = {
        by_bdat(listen);
        postfix.wait_for_kept(2)
    };
    check_bdat(&kept, &postfix.log());
}

#[test]
fn exim_keeps_mail() {
    let exim = EximServer::start(&[]);
    let mut client = Client::greeted(exim.address());
    client.envelope(&["b@example.com", "c@other.example"]);
    client.say("DATA", 354);
    client.send(&stuffed(MESSAGE)).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
    let kept = exim.wait_for_kept(2);
    assert_eq!(ends_with(&kept, MESSAGE), 2, "{}", exim.log());
    for recipient in ["b@example.com", "c@other.example"] {
        let field = format!("Envelope-to: {recipient}\r\n");
        assert!(kept.iter().any(|message| String::from_utf8_lossy(message).contains(&field)));
    }
}

#[test]
fn exim_takes_bdat_utf8_and_dsn() {
    let exim = EximServer::start(&[]);
    by_bdat(exim.address());
    check_bdat(&exim.wait_for_kept(2), &exim.log());
}

/// A line of the main section takes the place of the one that is there.
#[test]
fn exim_by_its_options() {
    let exim = EximServer::start(&["chunking_advertise_hosts =".to_owned()]);
    let mut client = Client::open(exim.address()).unwrap();
    client.expect(220);
    assert!(!client.say("EHLO client.test.example", 250).text().contains("CHUNKING"));
}

#[test]
fn exim_and_postfix_take_mail_under_tls() {
    let certificate = Authority::new();
    let files = certificate.issue("mx.test.example");
    let exim = EximServer::secure(&files);
    let listen = free_port();
    let main = vec![
        "smtpd_tls_security_level = may".to_owned(),
        format!("smtpd_tls_cert_file = {}", files.certificate.display()),
        format!("smtpd_tls_key_file = {}", files.key.display()),
    ];
    let keep = vec!["example.com".to_owned()];
    let postfix = Postfix::start(&Purpose { listen: Some(listen), keep, main, ..Purpose::default() });
    for server in [exim.address(), listen] {
        let mut client = Client::greeted(server);
        client.start_tls("mx.test.example");
        client.say("EHLO client.test.example", 250);
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
        client.send(&stuffed(MESSAGE)).unwrap();
        client.expect(250);
        client.say("QUIT", 221);
    }
    assert_eq!(ends_with(&exim.wait_for_kept(1), MESSAGE), 1, "{}", exim.log());
    assert_eq!(ends_with(&postfix.wait_for_kept(1), MESSAGE), 1, "{}", postfix.log());
}

/// One message in two chunks to an internationalized recipient, who is to be told of.
fn by_bdat(server: SocketAddr) {
    let mut client = Client::open(server).unwrap();
    client.expect(220);
    let offered = client.say("EHLO client.test.example", 250).text();
    for extension in ["CHUNKING", "SMTPUTF8", "DSN"] {
        assert!(offered.contains(extension), "{extension}: {offered}");
    }
    client.say("MAIL FROM:<sender@client.test.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=e1", 250);
    client.say("RCPT TO:<bär@example.com> NOTIFY=SUCCESS ORCPT=utf-8;bär@example.com", 250);
    let (first, second) = MESSAGE.split_at(MESSAGE.len() / 2);
    client.send(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat()).unwrap();
    client.expect(250);
    client.send(&[format!("BDAT {} LAST\r\n", second.len()).as_bytes(), second].concat()).unwrap();
    client.expect(250);
    client.say("QUIT", 221);
}

fn check_bdat(kept: &[Vec<u8>], log: &str) {
    assert_eq!(ends_with(kept, MESSAGE), 1, "{log}");
    let told = |message: &Vec<u8>| {
        let text = String::from_utf8_lossy(message).to_lowercase();
        text.contains("original-envelope-id: e1") && text.contains("action: delivered")
    };
    assert_eq!(kept.iter().filter(|message| told(message)).count(), 1, "{log}");
}

/// A program that cannot be had must fail by name and not look passed.
#[test]
#[should_panic(expected = "is not installed")]
fn a_program_that_is_not_there() {
    process::program("inrush-no-such-program");
}
