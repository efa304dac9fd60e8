//! `inrush top` on a real terminal and `inrush status`, beside a gateway that has something to show.

use std::process::Command;

use inrush_tests::client::Client;
use inrush_tests::http;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::server::Server;
use inrush_tests::terminal::Terminal;
use inrush_tests::{binary, process};
use serde_json::Value;

use crate::delivery::{domain, route, send, settings, text};

/// A gateway with mail that waits, since the other server says so with a terminal's words.
fn gateway(peer: &Peer) -> Server {
    let server = Server::with(settings(&[
        route("out", "smtp", &[peer.address()], ""),
        domain("slow.example", "out"),
        "[queue]\nretry_first = \"1h\"\nretry_max = \"2h\"\n".to_owned(),
    ]));
    send(&server, "<a@client.test.example>", &["<b@slow.example>"], &text("x"));
    server
}

fn peer() -> Peer {
    Peer::start(
        Script::smtp()
            .on(When::at(Stage::Recipient), Answer::reply("450 4.2.0 \u{1b}[2J\u{1b}[31mcome back later")),
    )
}

fn top(server: &Server, size: (u16, u16)) -> Terminal {
    let admin = server.admin().to_string();
    Terminal::start(size, binary::inrush().as_os_str(), ["top", "--admin", &admin], &[("NO_COLOR", "1")])
}

#[test]
fn everything_is_shown_and_the_terminal_is_given_back() {
    let peer = peer();
    let mut server = gateway(&peer);
    let _idle = Client::greeted(server.mx());
    let mut terminal = top(&server, (40, 140));
    terminal.wait_for(&[
        "inrush ",
        ": ready",
        "accepted",
        "accepted a second, most",
        "core 0",
        "latency by phase",
        "1 deferred",
        "\\u{1b}[2J\\u{1b}[31mcome back later",
        "q ends",
    ]);
    assert!(terminal.is_alternate());
    terminal.press(b"3");
    terminal.wait_for(&["live sessions, the oldest first", "127.0.0.1:", " mx ", "ready"]);
    terminal.press(b"2");
    terminal.wait_for(&["destinations with the most waiting", "1 waiting", "come back later"]);
    terminal.press(b"p");
    terminal.wait_for(&["HELD"]);
    terminal.press(b"p\t\t");
    terminal.wait_for(&["latency by phase"]);
    // The gateway goes and comes back.
    server.kill9();
    terminal.wait_for(&["no connection, these are old figures"]);
    terminal.press(b"q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.is_given_back();
}

#[test]
fn a_signal_ends_it_and_a_small_screen_is_enough() {
    let server = Server::start();
    let mut terminal = top(&server, (6, 60));
    terminal.wait_for(&["inrush ", "ready", "accepted"]);
    terminal.press(b"\x03");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.is_given_back();
}

#[test]
fn without_a_terminal_or_a_gateway_it_says_so() {
    let server = Server::start();
    let told = |arguments: &[&str]| {
        let mut command = Command::new(binary::inrush());
        command.args(arguments).env_remove("INRUSH_CONFIG");
        let done = process::finish(command);
        (done.status.code(), done.text())
    };
    let (code, said) = told(&["top", "--admin", &server.admin().to_string()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("have to be a terminal"), "{said}");
    let (code, said) = told(&["status", "--admin", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no gateway answers on 127.0.0.1:1"), "{said}");
}

#[test]
fn status_is_one_screen_and_its_code_says_whether_mail_is_taken() {
    let peer = peer();
    let server = gateway(&peer);
    let status = |json: bool| {
        let mut command = Command::new(binary::inrush());
        command.arg("status").arg("--config").arg(server.config()).args(json.then_some("--json"));
        command.arg("--admin").arg(server.admin().to_string());
        process::finish(command)
    };
    process::eventually("the message waits", || {
        let listed: Value = serde_json::from_str(&http::get(server.admin(), "/api/v1/queue").body).unwrap();
        listed["entries"][0]["state"] == "deferred"
    });
    let screen = status(false).succeeded().text();
    for part in [": ready", "accepted", "1 in all", "core 0", "1 deferred", "come back later"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert!(screen.lines().count() <= 40 && !screen.contains('\u{1b}'), "{screen}");
    let document: Value = serde_json::from_str(&status(true).succeeded().text()).unwrap();
    assert_eq!(document["messages"]["accepted"], 1);
    // It drains: the transaction keeps it there, and mail is not taken any more.
    let mut client = Client::greeted(server.mx());
    client.envelope(&["b@slow.example"]);
    client.say("DATA", 354);
    server.terminate();
    process::eventually("it is not ready", || http::get(server.admin(), "/readyz").status == 503);
    // A sample may be a second old.
    process::eventually("status says so", || {
        let done = status(false);
        done.status.code() == Some(1) && done.text().contains("NOT READY")
    });
}
