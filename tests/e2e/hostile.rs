//! Peers that want more than their share: what they take comes back, and others do not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use inrush_tests::client::Client;
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// A message and far more replies than a peer reads that then resets the connection: the replies wait for the log beside a
/// receive under way, and the buffer of that receive has to come back.
#[test]
fn buffers_of_broken_sessions_come_back() {
    let server = Server::start();
    let message =
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n";
    for _ in 0..50 {
        let mut client = Client::open(server.mx()).unwrap();
        let flood = [message.as_slice(), &b"NOOP\r\n".repeat(700)].concat();
        client.send(&flood).unwrap();
        // Unread replies make the kernel answer the close with a reset.
    }
    process::eventually("no session and no buffer is left", || {
        let samples = Samples::scrape(server.admin());
        samples.sum("inrush_connections_open", &[]) == 0.0 && samples.sum("inrush_pending_bytes", &[]) == 0.0
    });
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

/// One peer that never stops talking on the only core, and others that want a word.
fn others_get_their_turn(engine: &str) {
    let settings = Settings::default().engine(engine);
    let limits = vec!["transactions_max = 1000000".into()];
    let server = Server::with(Settings {
        limits,
        top: [settings.top, vec!["cores = 1".into()]].concat(),
        ..Settings::default()
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = TcpStream::connect(server.mx()).unwrap();
    let mut reader = writer.try_clone().unwrap();
    let talking = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let block = b"NOOP\r\n".repeat(2_000);
            while !stop.load(Ordering::Relaxed) && writer.write_all(&block).is_ok() {}
            // Ends the other half's wait, too.
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    });
    let reading = thread::spawn(move || {
        let mut octets = vec![0; 1 << 16];
        while reader.read(&mut octets).is_ok_and(|octets| octets > 0) {}
    });
    for _ in 0..20 {
        let mut client = Client::greeted(server.mx());
        client.deliver(&["b@example.com"], b"x\r\n");
        client.say("QUIT", 221);
    }
    stop.store(true, Ordering::Relaxed);
    talking.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn others_get_their_turn_io_uring() {
    others_get_their_turn("io_uring");
}

#[test]
fn others_get_their_turn_epoll() {
    others_get_their_turn("epoll");
}

/// All connections wait in the kernel before the gateway takes the first: the budget holds all the same.
fn a_burst_stays_within_the_budget(engine: &str) {
    let settings = Settings::default().engine(engine);
    let top = [settings.top, vec!["cores = 1".into()]].concat();
    let server =
        Server::with(Settings { limits: vec!["connections_max = 5".into()], top, ..Settings::default() });
    let mut clients: Vec<Client> = (0..200).map(|_| Client::open(server.mx()).unwrap()).collect();
    let codes: Vec<u16> = clients.iter_mut().map(|client| client.reply().unwrap().code).collect();
    let taken = codes.iter().filter(|&&code| code == 220).count();
    assert_eq!(taken, 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|&&code| code == 421).count(), 195, "{codes:?}");
}

#[test]
fn a_burst_stays_within_the_budget_io_uring() {
    a_burst_stays_within_the_budget("io_uring");
}

#[test]
fn a_burst_stays_within_the_budget_epoll() {
    a_burst_stays_within_the_budget("epoll");
}

/// Envelopes count: peers that only ever add recipients meet the budget of memory, and give it back when they leave.
#[test]
fn envelopes_stay_within_the_budget() {
    let limits = vec!["pending_bytes_max = \"1MiB\"".into()];
    let server = Server::with(Settings { limits, top: vec!["cores = 1".into()], ..Settings::default() });
    let mut clients = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let Ok(mut client) = Client::open(server.mx()) else { continue };
        if client.reply().unwrap().code != 220 {
            refused += 1;
            continue;
        }
        client.say("EHLO client.test.example", 250);
        client.send(b"MAIL FROM:<a@client.test.example>\r\n").unwrap();
        if client.reply().unwrap().code != 250 {
            refused += 1;
            continue;
        }
        for number in 0..500 {
            client.send(format!("RCPT TO:<{number:060}@example.com>\r\n").as_bytes()).unwrap();
            let reply = client.reply().unwrap();
            if reply.code != 250 {
                assert_eq!(reply.code, 452, "{}", reply.text());
                assert!(reply.text().contains("4.3.1"), "{}", reply.text());
                refused += 1;
                break;
            }
        }
        clients.push(client);
    }
    assert!(refused > 0, "40 envelopes of 45 KiB are more than 1 MiB");
    drop(clients);
    process::eventually("the budget is free again", || {
        Samples::scrape(server.admin()).sum("inrush_pending_bytes", &[]) == 0.0
    });
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

/// What lies unread behind QUIT must not cost the replies before it: the peer would send its message again.
fn the_last_replies_leave_before_the_close(engine: &str) {
    let server = Server::with(Settings::default().engine(engine));
    let message = b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 5 LAST\r\na: b\nQUIT\r\n";
    for round in 0..100 {
        let mut client = Client::greeted(server.mx());
        client.send(message).unwrap();
        // A peer that is done may have closed before this arrives.
        let _ = client.send(b"\r\n");
        let replies = String::from_utf8(client.rest()).unwrap();
        assert_eq!(replies.matches("250 ").count(), 3, "round {round}: {replies}");
        assert!(replies.contains("221 2.0.0"), "round {round}: {replies}");
    }
}

#[test]
fn the_last_replies_leave_before_the_close_io_uring() {
    the_last_replies_leave_before_the_close("io_uring");
}

#[test]
fn the_last_replies_leave_before_the_close_epoll() {
    the_last_replies_leave_before_the_close("epoll");
}

/// A QUIT that is refused is no leave: too many of them end the session as other errors do.
#[test]
fn quit_with_an_argument_is_an_error() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.send(&b"QUIT now\r\n".repeat(12)).unwrap();
    let replies = String::from_utf8(client.rest()).unwrap();
    assert!(replies.contains("501 ") && replies.contains("421 4.7.0"), "{replies}");
    let ended = |why: &str| {
        Samples::scrape(server.admin()).sum("inrush_sessions_ended_total", &[&format!("reason=\"{why}\"")])
    };
    process::eventually("the session has ended", || ended("refused") == 1.0);
    assert_eq!(ended("quit"), 0.0);
}

/// Sessions that send one octet of a message and leave it at that do not spend the budget.
#[test]
fn a_chunk_of_one_octet_holds_little() {
    let limits = vec!["pending_bytes_max = \"1MiB\"".into()];
    let server = Server::with(Settings { limits, top: vec!["cores = 1".into()], ..Settings::default() });
    let _slow: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::greeted(server.mx());
            client.envelope(&["b@example.com"]);
            client.send(b"BDAT 1\r\nx").unwrap();
            client.expect(250);
            client
        })
        .collect();
    Client::greeted(server.mx()).deliver(&["b@example.com"], b"x\r\n");
}

/// A command that stops in the middle behind a large message leaves the large buffer to others.
#[test]
fn a_part_of_a_command_holds_no_large_buffer() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(&b"0123456789abcdef0123456789abcdef\r\n".repeat(3000)).unwrap();
    let held = || Samples::scrape(server.admin()).sum("inrush_pending_bytes", &[]);
    process::eventually("the buffer is seen", || held() > 0.0);
    client.send(&[b".\r\n".as_slice(), &[b'x'; 305]].concat()).unwrap();
    client.expect(250);
    process::eventually("the buffer is given back", || held() == 0.0);
    client.send(b"\r\n").unwrap();
    client.expect(500);
}

/// Says `command` again and again until the session is ended with a 421, whose text is given back.
fn until_421(client: &mut Client, command: &[u8]) -> String {
    for _ in 0..100 {
        client.send(command).unwrap();
        let reply = client.reply().unwrap();
        if reply.code == 421 {
            return reply.text();
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("still there after 20 s");
}

#[test]
fn mail_data_in_slow_chunks_is_too_slow() {
    let limits = vec!["min_data_rate = \"1KiB/s\"".into(), "min_data_rate_window = \"2s\"".into()];
    let server = Server::with(Settings { limits, ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@example.com"]);
    let text = until_421(&mut client, b"BDAT 1\r\nx");
    assert!(text.contains("4.4.2"), "{text}");
}

/// A MAIL that is refused does not begin the transaction anew.
#[test]
fn refused_commands_do_not_prolong_a_transaction() {
    let limits = vec!["transaction_timeout = \"2s\"".into(), "errors_max = 1000".into()];
    let server = Server::with(Settings { limits, ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@example.com"]);
    let text = until_421(&mut client, b"MAIL FROM:<c@client.test.example>\r\n");
    assert!(text.contains("4.4.2"), "{text}");
}

/// A peer that sends and never reads is cut off after the idle timeout, and shows as one.
#[test]
fn a_peer_that_takes_no_replies_is_cut_off() {
    let limits = ["idle_timeout = \"1s\"", "junk_commands_max = 1000000000", "commands_max = 1000000000"];
    let limits = limits.map(str::to_owned).to_vec();
    let server = Server::with(Settings { limits, ..Settings::default() });
    let mut client = Client::greeted(server.mx());
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = b"HELP\r\n".repeat(2_000);
    // Until neither side takes any more.
    while client.send(&block).is_ok() {}
    process::eventually("it is cut off", || {
        Samples::scrape(server.admin()).sum("inrush_sessions_ended_total", &["reason=\"timeout\""]) == 1.0
    });
    let samples = Samples::scrape(server.admin());
    assert_eq!(samples.sum("inrush_timeouts_total", &["reason=\"idle_timeout\""]), 1.0);
}
