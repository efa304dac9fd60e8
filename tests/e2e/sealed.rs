//! What is sealed is not read again: neither a start nor the tools look at more of it than headers and seals.

use std::fs;
use std::process::Command;

use inrush_tests::client::Client;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::{binary, process, sealed};
use serde_json::Value;
use tempfile::TempDir;

const SEGMENTS: u64 = 800;
const SEGMENT_BYTES: u64 = 4 << 20;
/// Header and seal of each segment, and the program itself with everything else that it looks at.
const READ_MAX: u64 = SEGMENTS * 2 * 4096 + (32 << 20);

/// Octets that a process has read so far, from wherever.
fn octets_read(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_start_on_a_large_log() {
    let folder = TempDir::with_prefix("inrush-e2e-").unwrap();
    sealed::log(folder.path(), SEGMENTS, SEGMENT_BYTES);
    let server = Server::with(Settings::default().data(folder.path()));
    let read = octets_read(server.pid());
    assert!(read < READ_MAX, "{read} octets read");
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], b"x\r\n");

    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary::inrush());
        command.arg("log").args(arguments).args(["--json", "--data-dir"]).arg(folder.path());
        process::finish(command).succeeded().text()
    };
    let stat: Value =
        serde_json::from_str(run(&["stat", "--log", "arrival-00"]).lines().next().unwrap()).unwrap();
    assert_eq!(stat["segments_sealed"], SEGMENTS);
    assert_eq!(stat["oldest"], "1970-01-01T00:00:01.000000Z");
    // By the seals, none of these segments can have mail of this hour.
    assert_eq!(run(&["list", "--since", "1h"]).lines().count(), 1);
}
