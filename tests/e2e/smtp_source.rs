//! Postfix's load tool, in both of its ways.

use std::collections::HashSet;

use inrush_tests::server::Server;
use inrush_tests::{export, process};

const MESSAGES: usize = 300;

fn source(flags: &[&str]) {
    let server = Server::start();
    let mut command = process::command("smtp-source", flags);
    command.args(["-s", "10", "-l", "4096", "-m", &MESSAGES.to_string()]);
    command.args(["-f", "a@client.test.example", "-t", "b@example.com", &format!("inet:{}", server.mx())]);
    process::finish(command).succeeded();
    check(&export::all(&server.data()), MESSAGES);
}

/// Each message is there once and whole: its own Message-Id, the same text as all others.
pub(crate) fn check(stored: &export::Messages, count: usize) {
    assert_eq!(stored.len(), count);
    let mut ids = HashSet::new();
    let mut texts = HashSet::new();
    for message in stored.values() {
        let text = String::from_utf8_lossy(message);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {text}"));
        let id = head.split("Message-Id: ").nth(1).unwrap_or_else(|| panic!("no Message-Id: {head}"));
        ids.insert(id.lines().next().unwrap_or_default().to_owned());
        texts.insert(body.to_owned());
    }
    assert_eq!(ids.len(), count);
    assert_eq!(texts.len(), 1);
    assert!(texts.iter().all(|text| text.len() > 3500 && text.ends_with("\r\n")));
}

#[test]
fn one_message_per_connection() {
    source(&[]);
}

#[test]
fn connections_reused() {
    source(&["-d"]);
}
