//! The other commands of `inrush`, on a running and on a stopped gateway.

use std::process::Command;

use inrush_tests::client::Client;
use inrush_tests::process::{self, Finished};
use inrush_tests::server::{Server, write_config};
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export, http};
use serde_json::Value;

const BODY: &[u8] = b"Subject: x\r\n\r\n.first\r\nGr\xc3\xbc\xc3\x9fe\r\n";

fn inrush(arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary::inrush());
    command.args(arguments);
    process::finish(command)
}

/// A gateway with two messages, and their ids.
fn two_messages() -> (Server, String, String, String) {
    let server = Server::start();
    let mut client = Client::greeted(server.mx());
    let first = client.deliver(&["b@example.com", "c@example.com"], BODY);
    let second = client.deliver(
        &["postmaster@example.com"],
        &[b"\r\n", b"0123456789\r\n".repeat(100_000).as_slice()].concat(),
    );
    let data = server.data().display().to_string();
    (server, data, first, second)
}

#[test]
fn log_cat() {
    let (mut server, data, first, _) = two_messages();
    let cat = |flags: &[&str]| {
        inrush(&[&["log", "cat", "--data-dir", &data, &first], flags].concat()).succeeded().stdout
    };
    assert_eq!(cat(&["--no-trace"]), BODY);
    export::assert_body(&cat(&[]), BODY, "log cat");
    server.stop();
    assert_eq!(cat(&["--no-trace"]), BODY);
    let unknown = inrush(&["log", "cat", "--data-dir", &data, "000000FFFFFFFFFFFFF0"]);
    assert!(
        !unknown.status.success() && unknown.text().contains("000000FFFFFFFFFFFFF0"),
        "{}",
        unknown.text()
    );
}

#[test]
fn log_list() {
    let (_server, data, first, second) = two_messages();
    let listed = inrush(&["log", "list", "--data-dir", &data, "--json"]).succeeded().text();
    let messages: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(messages.len(), 2, "{listed}");
    for (message, id) in messages.iter().zip([&first, &second]) {
        assert_eq!(message["id"], **id, "{listed}");
        assert!(message.to_string().contains("sender@client.test.example"), "{listed}");
    }
    assert!(messages[0].to_string().contains("c@example.com"), "{listed}");
    let one = inrush(&["log", "list", "--data-dir", &data, "--id", &second]).succeeded().text();
    assert!(one.contains(&second) && !one.contains(&first), "{one}");
    let none =
        inrush(&["log", "list", "--data-dir", &data, "--rcpt-domain", "other.example"]).succeeded().text();
    assert!(!none.contains(&first) && !none.contains(&second), "{none}");
    let recent = inrush(&["log", "list", "--data-dir", &data, "--since", "1h"]).succeeded().text();
    assert!(recent.contains(&first) && recent.contains(&second), "{recent}");
}

#[test]
fn log_stat_and_verify() {
    let (mut server, data, ..) = two_messages();
    let check = || {
        let stat = inrush(&["log", "stat", "--data-dir", &data, "--json"]).succeeded().text();
        let logs = stat.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let messages: u64 = logs.map(|log| log["messages"].as_u64().unwrap()).sum();
        assert_eq!(messages, 2, "{stat}");
        inrush(&["log", "verify", "--data-dir", &data]).succeeded();
    };
    check();
    server.stop();
    check();
}

/// One flipped bit in a stored body is found and named.
#[test]
fn log_verify_finds_damage() {
    let (mut server, data, ..) = two_messages();
    server.stop();
    let mut damaged = 0;
    for log in std::fs::read_dir(server.data()).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in std::fs::read_dir(log.path()).unwrap().flatten().map(|entry| entry.path()) {
            let mut octets = std::fs::read(&file).unwrap();
            if let Some(at) = octets.windows(8).position(|window| window == b"\r\n.first") {
                octets[at + 4] ^= 1;
                std::fs::write(&file, octets).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    let verified = inrush(&["log", "verify", "--data-dir", &data]);
    assert_eq!(verified.status.code(), Some(1), "{}", verified.text());
}

#[test]
fn config_dump_is_a_config() {
    let folder = tempfile::TempDir::new().unwrap();
    let config = write_config(folder.path(), &Settings::default(), &folder.path().join("data"));
    let dump = inrush(&["config", "dump", "--config", &config.display().to_string()]).succeeded();
    std::fs::write(folder.path().join("dumped.toml"), &dump.stdout).unwrap();
    let dumped = folder.path().join("dumped.toml").display().to_string();
    inrush(&["check", "--config", &dumped]).succeeded();
    let again = inrush(&["config", "dump", "--config", &dumped]).succeeded();
    assert_eq!(again.text(), dump.text());

    let defaults = inrush(&["config", "dump", "--defaults"]).succeeded().text();
    for key in [
        "hostname",
        "data_dir",
        "message_bytes_max",
        "segment_bytes",
        "durability",
        "127.0.0.1:2525",
        "127.0.0.1:9925",
    ] {
        assert!(defaults.contains(key), "{key}: {defaults}");
    }
}

#[test]
fn version() {
    let version = inrush(&["version", "--json"]).succeeded().text();
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let revision = version["revision"].as_str().unwrap();
    assert!(!revision.is_empty());
    let shown = format!("inrush {} ({revision})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(inrush(&["version"]).succeeded().text(), shown);
    let server = Server::start();
    let metrics = http::get(server.admin(), "/metrics").body;
    let build = metrics.lines().find(|line| line.starts_with("inrush_build_info{")).unwrap();
    assert!(build.contains(&format!("revision=\"{revision}\"")), "{build}");
}
