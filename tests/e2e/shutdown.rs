//! SIGTERM: idle sessions hear 421 4.3.2 at once, a running transaction finishes, nothing acknowledged is lost.

use inrush_tests::client::{Client, accepted};
use inrush_tests::process::{self, Finished};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export, http};

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

/// A command of the program against this gateway.
fn command(server: &Server, arguments: &[&str]) -> Finished {
    let admin = server.admin().to_string();
    let mut command = std::process::Command::new(binary::inrush());
    command.args(arguments).args(["--admin", &admin]).env_remove("INRUSH_CONFIG");
    process::finish(command)
}

/// A load balancer sees that the gateway is about to end before anybody meets a closed port.
#[test]
fn a_drain_is_announced() {
    let mut server = Server::start();
    server.wait_until_accepting();
    // By GET nothing is done, nor with a word that is not known.
    let refused = http::get(server.admin(), "/api/v1/drain");
    assert_eq!(refused.status, 405);
    assert!(refused.head.contains("allow: post"), "{}", refused.head);
    assert_eq!(http::post(server.admin(), "/api/v1/drain", "").status, 403);
    let wrong = http::post(server.admin(), "/api/v1/drain?delay=soon", "X-Inrush: 1");
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("delay: not a duration"), "{}", wrong.body);
    assert_eq!(http::get(server.admin(), "/readyz").status, 200);

    let drained = command(&server, &["drain", "--delay", "1h"]).succeeded();
    assert!(drained.text().contains("the gateway is ending"), "{}", drained.text());
    let readiness = http::get(server.admin(), "/readyz");
    assert_eq!(readiness.status, 503);
    assert!(readiness.body.contains("draining"), "{}", readiness.body);
    let id = Client::greeted(server.mx()).deliver(&["b@example.com"], b"Subject: late\r\n\r\nx\r\n");

    // Enough of waiting: a transaction that never ends is not waited for either.
    let mut stuck = Client::greeted(server.mx());
    stuck.envelope(&["b@example.com"]);
    stuck.say("DATA", 354);
    command(&server, &["drain", "--delay", "0s", "--deadline", "10ms", "--wait"]).succeeded();
    assert!(server.wait().success());
    assert_eq!(export::all(&server.data()).into_keys().collect::<Vec<_>>(), [id]);
}

#[test]
fn the_setting_gives_time_as_well() {
    let limits = vec!["drain_delay = \"300ms\"".into()];
    let mut server = Server::with(Settings { limits, ..Settings::default() });
    server.terminate();
    server.wait_for_log("/readyz says no, connections are still taken");
    assert!(server.wait().success());
}
