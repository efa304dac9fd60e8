//! The load generator against the gateway: what it counts as acknowledged is what is stored.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Authority;
use inrush_tests::{binary, export, process};

/// A name of the server in its certificate.
const NAME: &str = "mx1.example.com";

fn run(server: &Server, flags: &[&str]) -> BTreeSet<String> {
    run_at(server, server.mx(), flags)
}

fn run_at(server: &Server, target: SocketAddr, flags: &[&str]) -> BTreeSet<String> {
    let acks = server.scratch().join("acks");
    // The file is appended to; each run has its own.
    let _ = std::fs::remove_file(&acks);
    let mut command = Command::new(binary::inrush_load());
    command
        .arg("run")
        .arg(target.to_string())
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

#[test]
fn acknowledged_under_tls_is_stored() {
    let authority = Authority::new();
    let smtps = "[[listener]]\nname = \"smtps\"\naddress = [\"127.0.0.1:0\"]\ntls = \"implicit\"\n";
    let certificate = authority.issue(NAME);
    let settings = Settings::default()
        .listener("tls = \"starttls\"")
        .tables(&format!("[tls]\n{}", certificate.lines()))
        .tables(smtps);
    let server = Server::with(settings);
    let mut acknowledged = BTreeSet::new();
    for (target, flags) in [
        (server.mx(), "-s 5 -m 100 --tls starttls"),
        (server.listener("smtps"), "-s 5 -m 100 --tls implicit -d --in-flight 4 -l uniform:100-200000"),
        (server.mx(), "-s 20 -m 200 --profile mx -l 5000"),
        (server.mx(), "-s 20 -m 200 --rate 400 --profile abuse"),
    ] {
        let file = authority.certificate();
        let ca = ["--tls-ca", file.to_str().unwrap(), "--tls-name", NAME];
        let flags = flags.split(' ').chain(ca.into_iter().filter(|_| !flags.contains("abuse")));
        acknowledged.extend(run_at(&server, target, &flags.collect::<Vec<_>>()));
    }
    let stored: BTreeSet<String> = export::all(&server.data()).into_keys().collect();
    assert_eq!(acknowledged.len(), 600);
    // Hostile sessions may have had mail taken as well.
    assert!(
        stored.is_superset(&acknowledged),
        "{} stored, {} acknowledged",
        stored.len(),
        acknowledged.len()
    );
}
