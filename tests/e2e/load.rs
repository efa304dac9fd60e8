//! The load generator against the gateway: what it counts as acknowledged is what is stored.

use std::collections::BTreeSet;
use std::process::Command;

use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::{binary, export, process};

fn run(server: &Server, flags: &[&str]) -> BTreeSet<String> {
    let acks = server.scratch().join("acks");
    // The file is appended to; each run has its own.
    let _ = std::fs::remove_file(&acks);
    let mut command = Command::new(binary::inrush_load());
    command
        .arg("run")
        .arg(server.mx().to_string())
        .args(["--quiet", "--to", "user{number}@example.com", "--acks"])
        .arg(&acks);
    command.args(flags);
    process::finish(command).succeeded();
    let lines = std::fs::read_to_string(&acks).unwrap();
    lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn acknowledged_is_stored() {
    let server = Server::start();
    let mut acknowledged = BTreeSet::new();
    for flags in [
        &["-s", "10", "-m", "500"][..],
        &["-s", "10", "-m", "500", "--dont-disconnect"],
        &[
            "-s",
            "4",
            "-m",
            "500",
            "-d",
            "--mode",
            "bdat",
            "--in-flight",
            "8",
            "--length",
            "uniform:100-20000",
        ],
        &["-s", "4", "-m", "40", "--length", "700000", "--dot-lines", "20"],
        &["-s", "20", "-m", "500", "--rate", "2000"],
    ] {
        let ids = run(&server, flags);
        assert!(ids.len() >= 40, "{flags:?}: {} ids", ids.len());
        acknowledged.extend(ids);
    }
    let stored: BTreeSet<String> = export::all(&server.data()).into_keys().collect();
    assert_eq!(acknowledged.len(), 2040);
    assert!(stored == acknowledged, "{} stored, {} acknowledged", stored.len(), acknowledged.len());
    assert_eq!(Samples::scrape(server.admin()).sum("inrush_messages_accepted_total", &[]), 2040.0);
}
