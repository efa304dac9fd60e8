//! LMTP in: one reply for each recipient (RFC 2033).

use inrush_tests::client::{Client, stuffed};
use inrush_tests::postfix::{Postfix, Purpose};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, process};

fn server() -> Server {
    let recipients = ["a@example.com", "b@example.com", "c@example.com"];
    Server::with(Settings::default().recipients(&recipients).listener("kind = \"lmtp\""))
}

#[test]
fn smtplib_and_a_recipient_that_is_not_there() {
    let server = server();
    let script = format!(
        "import smtplib\n\
         client = smtplib.LMTP('127.0.0.1', {})\n\
         client.ehlo_or_helo_if_needed()\n\
         refused = client.sendmail('s@client.test.example', ['a@example.com', 'nobody@example.com', 'b@example.com'],\n\
         \x20                        'Subject: x\\r\\n\\r\\nhello\\r\\n')\n\
         assert list(refused) == ['nobody@example.com'], refused\n\
         client.quit()\n",
        server.mx().port()
    );
    // smtplib reads one reply to the data; the second is answered to QUIT, which it does not mind.
    process::finish(process::command("python3", ["-I", "-c", &script])).succeeded();
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), 1);
    let text = String::from_utf8_lossy(stored.values().next().unwrap()).into_owned();
    assert!(text.contains(" with LMTP id "), "{text}");
}

#[test]
fn swaks_delivers() {
    let server = server();
    let port = server.mx().port().to_string();
    let mut command =
        process::command("swaks", ["--protocol", "LMTP", "--server", "127.0.0.1", "--port", &port]);
    command.args([
        "--from",
        "s@client.test.example",
        "--to",
        "a@example.com,b@example.com",
        "--data",
        "Subject: x\n\nx",
    ]);
    command.env("HOME", server.scratch()).env_remove("SWAKS_HOME");
    process::finish(command).succeeded();
    assert_eq!(export::all(&server.data()).len(), 1);
}

/// Postfix hands over by LMTP, bounces who is refused and keeps nothing.
#[test]
fn postfix_delivers() {
    let server = server();
    let address = server.mx();
    let main = vec![format!("default_transport = lmtp:inet:[{}]:{}", address.ip(), address.port())];
    let postfix = Postfix::start(&Purpose { main, ..Purpose::default() });
    for recipient in ["a@example.com", "b@example.com", "c@example.com"] {
        postfix.inject(recipient, b"Subject: x\r\n\r\nhello\r\n");
    }
    postfix.drain(process::PATIENCE);
    assert_eq!(export::all(&server.data()).len(), 3, "{}", postfix.log());
    assert!(postfix.log().contains("relay=127.0.0.1[127.0.0.1]:"), "{}", postfix.log());
}

/// A thousand recipients, a thousand replies, none of them before the message is durable.
#[test]
fn a_thousand_recipients() {
    let server = Server::with(Settings::default().listener("kind = \"lmtp\""));
    let mut client = Client::open(server.mx()).unwrap();
    client.expect(220);
    client.say("LHLO client.test.example", 250);
    client.say("MAIL FROM:<s@client.test.example>", 250);
    for number in 0..1000 {
        client.say(&format!("RCPT TO:<r{number}@example.com>"), 250);
    }
    client.say("DATA", 354);
    client.send(&stuffed(b"Subject: x\r\n\r\nx\r\n")).unwrap();
    let first = client.expect(250).text();
    for _ in 1..1000 {
        assert_eq!(client.expect(250).text(), first);
    }
    client.say("QUIT", 221);
    assert_eq!(export::all(&server.data()).len(), 1);
}
