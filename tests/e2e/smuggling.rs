//! SMTP smuggling (CVE-2023-51764, -51765, -51766): only CR LF . CR LF ends mail data, however its look-alikes are cut into
//! segments.

use inrush_tests::client::Client;
use inrush_tests::export;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// What other servers have taken, or might take, for the end of data. All of them are text to us.
pub(crate) const LOOK_ALIKES: &[&[u8]] = &[
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n.\x85",
];

/// What would be a message of its own behind the end of data.
pub(crate) const SMUGGLED: &[u8] =
    b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n";

/// Sends one look-alike in two segments cut at each place; exactly one reply may come back for all of it.
fn table(mode: &str) {
    let server = Server::with(Settings::default().listener(&format!("bare_newline = \"{mode}\"")));
    let mut accepted = 0;
    for look_alike in LOOK_ALIKES {
        let mut client = Client::greeted(server.mx());
        for cut in 0..=look_alike.len() {
            client.envelope(&["b@example.com"]);
            client.say("DATA", 354);
            let first = [b"Subject: first\r\n\r\ntext", &look_alike[..cut]].concat();
            client.send(&first).unwrap();
            client.send(&[&look_alike[cut..], SMUGGLED].concat()).unwrap();
            let what = format!("{mode} {look_alike:?} cut at {cut}");
            let reply = client.reply().unwrap_or_else(|error| panic!("{what}: {error}"));
            match reply.code {
                250 => accepted += 1,
                550 if mode == "reject" && reply.text().contains("5.6.11") => {}
                _ => panic!("{what}: {}", reply.text()),
            }
            // A second reply to the mail data would stand here in place of the answer to VRFY.
            client.say("VRFY postmaster", 252);
        }
        client.say("QUIT", 221);
        assert!(client.rest().is_empty());
    }
    let stored = export::all(&server.data());
    assert_eq!(stored.len(), accepted);
    for message in stored.values() {
        let text = String::from_utf8_lossy(message);
        assert!(text.contains("Subject: first") && text.contains("DATA\r\nSubject: smuggled"), "{text}");
    }
    assert!(if mode == "reject" { accepted > 0 } else { accepted > LOOK_ALIKES.len() * 4 });
}

#[test]
fn reject() {
    table("reject");
}

#[test]
fn normalize() {
    table("normalize");
}

#[test]
fn allow() {
    table("allow");
}

/// The real end works wherever it is cut.
#[test]
fn the_end_of_data_cut_everywhere() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let end = b"\r\n.\r\n";
    for cut in 0..=end.len() {
        client.envelope(&["b@example.com"]);
        client.say("DATA", 354);
        client.send(&[b"Subject: x\r\n\r\nx", &end[..cut]].concat()).unwrap();
        client.send(&[&end[cut..], b"NOOP\r\n"].concat()).unwrap();
        client.expect(250);
        client.expect(250);
    }
    assert_eq!(export::all(&server.data()).len(), end.len() + 1);
}
