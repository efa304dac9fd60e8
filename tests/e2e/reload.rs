//! What a running gateway takes over: recipients when their file changes and on SIGHUP, without dropping a session.

use std::fs;

use inrush_tests::client::Client;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::{Settings, recipients_file};

const BODY: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// The code of the reply to a recipient, in a transaction of its own.
fn asked(client: &mut Client, recipient: &str) -> u16 {
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes()).unwrap();
    let code = client.reply().unwrap().code;
    client.say("RSET", 250);
    code
}

#[test]
fn recipients_are_taken_over() {
    let server = Server::with(Settings::default().recipients(&["old@example.com"]));
    let file = recipients_file(server.config().parent().unwrap(), "example.com");
    let mut client = Client::greeted(server.mx());
    assert_eq!((asked(&mut client, "old@example.com"), asked(&mut client, "new@example.com")), (250, 550));

    // As the file changes.
    fs::write(&file, "new@example.com\n").unwrap();
    server.wait_for_log("recipients reloaded");
    assert_eq!((asked(&mut client, "old@example.com"), asked(&mut client, "new@example.com")), (550, 250));

    // A bad line changes nothing, and is named with its file and number.
    fs::write(&file, "good@example.com\nnot an address\n").unwrap();
    server.wait_for_log("the old ones stay");
    assert!(server.log().contains("recipients.example.com:2"), "{}", server.log());
    assert_eq!((asked(&mut client, "good@example.com"), asked(&mut client, "new@example.com")), (550, 250));
    server.hang_up();
    server.wait_for_log("not reloaded: ");
    assert_eq!(asked(&mut client, "new@example.com"), 250);

    // On SIGHUP, with a setting that has to wait.
    fs::write(&file, "good@example.com\n").unwrap();
    let config = fs::read_to_string(server.config()).unwrap();
    fs::write(
        server.config(),
        config.replace("hostname = \"mx.test.example\"", "hostname = \"mx2.test.example\""),
    )
    .unwrap();
    server.hang_up();
    server.wait_for_log("a changed setting waits for the next start");
    process::eventually("the recipients are taken over", || asked(&mut client, "good@example.com") == 250);
    client.deliver(&["good@example.com"], BODY);
}
