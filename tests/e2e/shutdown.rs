//! SIGTERM: idle sessions hear 421 4.3.2 at once, a running transaction finishes, nothing acknowledged is lost.

use inrush_tests::client::{Client, accepted};
use inrush_tests::export;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

fn drains(engine: &str) {
    let mut server = Server::with(Settings::default().engine(engine));
    let mut idle: Vec<Client> = (0..20).map(|_| Client::greeted(server.mx())).collect();
    let mut running = Client::greeted(server.mx());
    running.envelope(&["b@example.com"]);
    running.say("DATA", 354);
    running.send(b"Subject: running\r\n\r\nfirst half, ").unwrap();

    server.terminate();
    for client in &mut idle {
        assert!(client.expect(421).text().contains("4.3.2"));
        assert!(client.rest().is_empty());
    }
    running.send(b"second half\r\n.\r\n").unwrap();
    let id = accepted(&running.expect(250));
    assert!(running.expect(421).text().contains("4.3.2"));
    assert!(running.rest().is_empty());
    let status = server.wait();
    assert!(status.success(), "{status}\n{}", server.log());
    assert!(Client::open(server.mx()).is_err(), "nobody listens any more");

    let stored = export::all(&server.data());
    assert_eq!(stored.len(), 1);
    export::assert_body(
        &stored[&id],
        b"Subject: running\r\n\r\nfirst half, second half\r\n",
        "the running transaction",
    );
}

#[test]
fn io_uring() {
    drains("io_uring");
}

#[test]
fn epoll() {
    drains("epoll");
}

/// A restart after a clean end finds everything and goes on with higher ids.
#[test]
fn stop_and_start() {
    let mut server = Server::start();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut client = Client::greeted(server.mx());
        ids.push(client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n"));
        client.say("QUIT", 221);
        server.stop();
        server.restart();
    }
    assert_eq!(export::all(&server.data()).len(), ids.len());
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
}
