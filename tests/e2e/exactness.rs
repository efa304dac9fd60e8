//! What is stored is what was sent, whatever it is.

use inrush_tests::client::{Client, accepted};
use inrush_tests::export;
use inrush_tests::server::Server;

/// RFC 3030 §3: BINARYMIME bodies hold any octets and need no line end.
#[test]
fn binary_bodies() {
    let server = Server::start();
    let all: Vec<u8> = (0..=255).collect();
    let bodies: [&[u8]; 6] = [&all, b"\r\n.\r\n", b"\n.\n", b"no line end", b"\r", b"\0"];
    let mut client = Client::greeted(server.mx());
    let ids = bodies.map(|body| {
        client.say("MAIL FROM:<a@client.test.example> BODY=BINARYMIME", 250);
        client.say("RCPT TO:<b@example.com>", 250);
        client.send(format!("BDAT {} LAST\r\n", body.len()).as_bytes()).unwrap();
        client.send(body).unwrap();
        accepted(&client.expect(250))
    });
    let stored = export::all(&server.data());
    for (id, body) in ids.iter().zip(bodies) {
        export::assert_body(&stored[id], body, &format!("{body:?}"));
    }
}

/// The order of ids is the order of acceptance within a connection, and they have one width.
#[test]
fn ids_are_sortable() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let ids: Vec<String> = (0..50).map(|_| client.deliver(&["b@example.com"], b"a\r\n")).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), ids);
}

/// The id of the 250 stands in the Received line of the export.
#[test]
fn the_trace_names_the_message() {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let id = client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    let stored = String::from_utf8(export::all(&server.data())[&id].clone()).unwrap();
    let trace = stored.split("Subject:").next().unwrap();
    for part in ["from client.test.example", "127.0.0.1", "by mx.test.example", "with ESMTP", &id] {
        assert!(trace.contains(part), "{part} is not in {trace}");
    }
}
