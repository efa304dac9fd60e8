//! `deploy/haproxy/haproxy.cfg` in front of two gateways.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use inrush_tests::client::Client;
use inrush_tests::daemon::Daemon;
use inrush_tests::http;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{export, process};

use super::{file, text};

const BODY: &[u8] = b"Subject: behind the balancer\r\n\r\nx\r\n";

fn gateway() -> Server {
    Server::with(Settings::default().listener("proxy_protocol_from = [\"127.0.0.1/32\"]"))
}

/// HAProxy with the file as it lies there, but for addresses and the time between two checks.
fn haproxy(gateways: &[&Server; 2]) -> (Daemon, SocketAddr) {
    let folder = gateways[0].scratch();
    let config = folder.join("haproxy.cfg");
    let log = folder.join("haproxy.log");
    let (daemon, [front]) = Daemon::start("haproxy", &log, None, |[front]: [SocketAddr; 1]| {
        let mut changed = text("deploy/haproxy/haproxy.cfg");
        let mut change = |from: &str, to: &str| {
            assert_eq!(changed.matches(from).count(), 1, "{from}");
            changed = changed.replace(from, to);
        };
        change("bind :::25 v4v6", &format!("bind {front}"));
        change("check port 9925 inter 2s fastinter 500ms", "check inter 100ms fastinter 100ms");
        for (server, gateway) in ["mx1 10.0.0.11:25", "mx2 10.0.0.12:25"].iter().zip(gateways) {
            let name = server.split(' ').next().unwrap();
            let port = gateway.admin().port();
            change(&format!("server {server}"), &format!("server {name} {} port {port}", gateway.mx()));
        }
        fs::write(&config, changed).unwrap();
        let mut command = process::command("haproxy", ["-db", "-f"]);
        command.arg(&config);
        command
    });
    (daemon, front)
}

fn haproxy_checks(config: &std::path::Path) {
    let mut command: Command = process::command("haproxy", ["-c", "-f"]);
    command.arg(config);
    process::finish(command).succeeded();
}

#[test]
fn the_file_is_right() {
    haproxy_checks(&file("deploy/haproxy/haproxy.cfg"));
}

/// Each gateway hears who the client is, and one that refuses mail gets no more connections.
#[test]
fn two_gateways() {
    let (mut first, second) = (gateway(), gateway());
    let (_daemon, front) = haproxy(&[&first, &second]);
    let send = |source: &str| {
        let mut client = Client::open_from(source.parse::<IpAddr>().unwrap(), front).unwrap();
        client.expect(220);
        client.say("EHLO client.test.example", 250);
        client.deliver(&["b@example.com"], BODY)
    };
    // Both are up when both have had mail.
    let mut sent = 0_u8;
    process::eventually("both gateways have mail", || {
        sent += 1;
        send(&format!("127.0.9.{sent}"));
        [&first, &second].iter().all(|gateway| !export::facts(&gateway.data()).is_empty())
    });
    let stored = |gateway: &Server| export::all(&gateway.data());
    let received: Vec<u8> =
        [&first, &second].iter().flat_map(|gateway| stored(gateway).into_values()).flatten().collect();
    let received = String::from_utf8(received).unwrap();
    for number in 1..=sent {
        assert!(
            received.contains(&format!("[127.0.9.{number}]")),
            "127.0.9.{number} in Received:\n{received}"
        );
    }

    // Who stops says no to the check, and every client finds the other one.
    let before = stored(&second).len();
    first.stop();
    process::eventually("HAProxy has left it", || {
        Client::open_from("127.0.0.1".parse().unwrap(), front).is_ok_and(|mut client| client.reply().is_ok())
    });
    for number in 0..4 {
        send(&format!("127.0.10.{number}"));
    }
    assert_eq!(stored(&second).len(), before + 4);
    assert_eq!(http::get(second.admin(), "/readyz").status, 200);
}
