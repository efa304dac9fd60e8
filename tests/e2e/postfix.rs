//! Postfix as the sending MTA: its own instance with its own queue, drained into us.

use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{corpus, export, process};

fn relay(server: &Server) -> Purpose {
    Purpose { relay_to: Some(server.mx()), ..Purpose::default() }
}

/// Postfix puts its own Received line on top and leaves the rest as it was.
#[test]
fn bodies_arrive_byte_for_byte() {
    let server = Server::start();
    let postfix = Postfix::start(&relay(&server));
    // What has a header as mail has it; Postfix would complete the others.
    let fit = |message: &corpus::Message| message.body.starts_with(b"From: ");
    let messages: Vec<_> = corpus::messages().into_iter().filter(fit).collect();
    assert!(messages.len() >= 8);
    for message in &messages {
        postfix.inject("b@example.com", &message.body);
    }
    postfix.drain(process::PATIENCE);
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), messages.len(), "{}", postfix.log());
    for message in &messages {
        let found = stored.values().filter(|stored| stored.ends_with(&message.body)).count();
        assert_eq!(found, 1, "{}\n{}", message.name, postfix.log());
    }
}

#[test]
fn a_queue_is_drained() {
    let server = Server::start();
    let listen = free_port();
    let postfix = Postfix::start(&Purpose { listen: Some(listen), ..relay(&server) });
    let mut source = process::command("smtp-source", ["-s", "10", "-l", "4096", "-m", "200"]);
    source.args(["-f", "a@client.test.example", "-t", "b@example.com", &format!("inet:{listen}")]);
    process::finish(source).succeeded();
    postfix.drain(process::PATIENCE);
    super::smtp_source::check(&export::all(&server.data()), 200);
}

/// What we refuse for good comes back to Postfix as a bounce and is not tried again; the others arrive.
#[test]
fn refusals_end_in_its_log() {
    let server = Server::with(Settings::default().recipients(&["b@example.com"]));
    let postfix = Postfix::start(&relay(&server));
    let body = b"From: a@client.test.example\r\nTo: b@example.com\r\nSubject: x\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-Id: <1@x.example>\r\n\r\nx\r\n";
    for recipient in ["b@example.com", "x@example.com", "b@other.example"] {
        postfix.inject(recipient, body);
    }
    postfix.drain(process::PATIENCE);
    let log = postfix.log();
    assert!(log.contains("550 5.1.1") && log.contains("550 5.7.1") && log.contains("status=sent"), "{log}");
    let stored = export::all(&server.data());
    assert_eq!(stored.values().filter(|stored| stored.ends_with(body)).count(), 1);
}
