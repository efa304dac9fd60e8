//! An authoritative DNS server for the routes of a test: Knot DNS with one zone, the root, so that every name in the world can be given.
//!
//! Records without a TTL have the TTL 0, as have negative answers: a changed zone is seen at once. The zone's own SOA and NS are made here.
//!
//! Standards: RFC 1035 §5 (zone files), RFC 2308 (negative answers).

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::process;

/// What Knot writes when it goes on without its port.
const NO_PORT: &str = "cannot bind";

/// A running server on UDP and TCP; ended when dropped.
#[derive(Debug)]
pub struct DnsServer {
    daemon: Daemon,
    address: SocketAddr,
    folder: TempDir,
    serial: u32,
}

impl DnsServer {
    /// Starts with these records, in the form of a zone file with `$ORIGIN .`:
    /// `example.com. MX 10 mx.example.com.` and `mx.example.com. A 127.0.0.2`.
    ///
    /// # Panics
    /// It does not start, or the records are no zone.
    #[track_caller]
    pub fn start(records: &str) -> Self {
        let folder = TempDir::with_prefix("inrush-dns-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let root = folder.path();
        write(&root.join("zone"), &zone(1, records));
        let (daemon, [address]) = Daemon::start("Knot", &root.join("log"), Some(NO_PORT), |[address]| {
            let config = root.join("knot.conf");
            write(&config, &configuration(root, address, &[]));
            let mut command = process::command("knotd", ["-c"]);
            command.arg(config);
            command
        });
        let server = Self { daemon, address, folder, serial: 1 };
        // It listens before it has its zone, and before it can be controlled.
        process::eventually("Knot can be controlled", || {
            process::finish(server.control(&["status"])).status.success()
        });
        server.reload_zone();
        server
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts these records in place of all others. When this returns, they are what is answered.
    ///
    /// # Panics
    /// The records are no zone.
    #[track_caller]
    pub fn set_zone(&mut self, records: &str) {
        self.serial += 1;
        write(&self.folder.path().join("zone"), &zone(self.serial, records));
        self.reload_zone();
    }

    /// Answers SERVFAIL for these names and all below them, and for no others.
    ///
    /// # Panics
    /// A name is none.
    #[track_caller]
    pub fn fail(&self, names: &[&str]) {
        let root = self.folder.path();
        write(&root.join("knot.conf"), &configuration(root, self.address, names));
        process::finish(self.control(&["reload"])).succeeded();
    }

    /// Gives no answer any more.
    ///
    /// # Panics
    /// It goes on.
    #[track_caller]
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Answers again, and what was asked meanwhile too.
    pub fn resume(&self) {
        self.daemon.resume();
    }

    /// How often this type was asked for so far, e.g. `MX`.
    ///
    /// # Panics
    /// The server is not there.
    #[track_caller]
    pub fn queries(&self, kind: &str) -> u64 {
        let counters = process::finish(self.control(&["stats", "mod-stats.query-type"])).succeeded();
        let name = format!("mod-stats.query-type[{kind}] = ");
        let text = counters.text();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(&name)?.parse().ok());
        values.next().unwrap_or(0)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    #[track_caller]
    fn reload_zone(&self) {
        let reloaded = process::finish(self.control(&["--blocking", "zone-reload", "."]));
        assert!(reloaded.status.success(), "the records are no zone: {}\n{}", reloaded.text(), self.log());
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut command = process::command("knotc", ["-s"]);
        command.arg(self.folder.path().join("knot.sock")).args(arguments);
        command
    }
}

fn zone(serial: u32, records: &str) -> String {
    format!(
        "$ORIGIN .\n$TTL 0\n\
         . SOA dns.test.example. hostmaster.test.example. {serial} 3600 600 86400 0\n\
         . NS dns.test.example.\n\
         dns.test.example. A 127.0.0.1\n\
         {records}\n"
    )
}

fn configuration(root: &Path, address: SocketAddr, failing: &[&str]) -> String {
    let mut text = format!(
        "server:\n  rundir: \"{0}\"\n  listen: {1}@{2}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: \"{0}\"\n\
         log:\n  - target: stderr\n    any: info\n\
         mod-stats:\n  - id: default\n    query-type: on\n\
         template:\n  - id: default\n    storage: \"{0}\"\n    journal-content: none\n    zonefile-load: whole\n    zonefile-sync: -1\n\
         \x20   global-module: mod-stats/default\n\
         zone:\n  - domain: .\n    file: \"zone\"\n",
        root.display(),
        address.ip(),
        address.port(),
    );
    for name in failing {
        // A zone that the server has by its configuration and cannot load: RFC 1035 §4.1.1, RCODE 2.
        let _ = write!(text, "  - domain: {name}\n    file: \"none\"\n");
    }
    text
}

#[track_caller]
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}
