//! Budgets: what is over them gets 421, what is within them works as before.

use inrush_tests::client::{Client, accepted};
use inrush_tests::export;
use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// Few file descriptors: the budget of connections follows from them, and the log and the admin port keep theirs.
fn few_descriptors(engine: &str) {
    let launcher = vec!["prlimit".to_owned(), "--nofile=300:300".to_owned()];
    let server = Server::with(Settings { launcher, ..Settings::default().engine(engine) });
    let mut inside = Vec::new();
    let mut refused = 0;
    for _ in 0..400 {
        // The kernel connects; the gateway's first reply decides.
        let mut client = Client::open(server.mx()).unwrap();
        let reply = client.reply().unwrap();
        match reply.code {
            220 => inside.push(client),
            421 => {
                assert!(reply.text().contains("4.3.2") || reply.text().contains("4.7.0"), "{}", reply.text());
                refused += 1;
            }
            _ => panic!("{}", reply.text()),
        }
    }
    assert!(refused >= 200, "only {refused} refused");
    assert!(inside.len() >= 20, "only {} taken", inside.len());
    let samples = Samples::scrape(server.admin());
    assert!(samples.sum("inrush_connections_refused_total", &[]) >= f64::from(refused));

    let accepted = inside.len();
    for client in &mut inside {
        client.say("EHLO client.test.example", 250);
        client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
        client.say("QUIT", 221);
        assert!(client.rest().is_empty());
    }
    assert_eq!(export::all(&server.data()).len(), accepted);
    // There is room again.
    Client::greeted(server.mx()).say("QUIT", 221);
}

#[test]
fn few_descriptors_io_uring() {
    few_descriptors("io_uring");
}

#[test]
fn few_descriptors_epoll() {
    few_descriptors("epoll");
}

/// RFC 5321 §4.5.3.2.7 asks for five minutes; the setting is obeyed, and the peer is told.
#[test]
fn idle_sessions_are_told_and_closed() {
    let server =
        Server::with(Settings { limits: vec!["idle_timeout = \"1s\"".into()], ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    assert!(client.expect(421).text().contains("4.4.2"));
    assert!(client.rest().is_empty());
    let samples = Samples::scrape(server.admin());
    assert_eq!(samples.sum("inrush_timeouts_total", &["reason=\"idle_timeout\""]), 1.0);
}

/// A peer that only makes mistakes is sent away (design: `errors_max` 10).
#[test]
fn errors_end_the_session() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.send(&b"NONSENSE\r\n".repeat(50)).unwrap();
    let mut replies = Vec::new();
    while let Ok(reply) = client.reply() {
        replies.push(reply.code);
    }
    assert_eq!(replies.last(), Some(&421), "{replies:?}");
    assert!(replies.len() <= 12, "{replies:?}");
}

/// A reset in the middle of everything harms nobody.
#[test]
fn connections_that_break() {
    let server = Server::start();
    for part in ["", "EHLO x\r\n", "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nhalf"] {
        for _ in 0..20 {
            let mut client = Client::open(server.mx()).unwrap();
            client.send(part.as_bytes()).unwrap();
            // Unread replies make the kernel answer the close with a reset.
        }
    }
    let mut client = Client::greeted(server.mx());
    let id = client.deliver(&["b@example.com"], b"x\r\n");
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id]);
}

/// However many recipients are allowed, those that were accepted are delivered to: what does not fit into an envelope is refused
/// when it is named.
#[test]
fn accepted_recipients_fit_into_the_envelope() {
    let server =
        Server::with(Settings { limits: vec!["recipients_max = 20000".into()], ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    client.say("MAIL FROM:<a@client.test.example>", 250);
    let mut named = 0;
    let refusal = 'all: loop {
        client.send(&b"RCPT TO:<b@example.com>\r\n".repeat(100)).unwrap();
        let codes: Vec<_> = (0..100).map(|_| client.reply().unwrap()).collect();
        for reply in codes {
            match reply.code {
                250 => named += 1,
                _ => break 'all reply,
            }
        }
        assert!(named < 20_000, "no limit");
    };
    assert_eq!(refusal.code, 452, "{}", refusal.text());
    assert!(refusal.text().contains("4.5.3"), "{}", refusal.text());
    assert!(named >= 5000, "{named}");
    client.send(b"BDAT 6 LAST\r\na: b\r\n").unwrap();
    let id = accepted(&client.expect(250));
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id]);
}
