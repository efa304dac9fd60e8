//! Knot DNS: the server of one zone, on the loopback, without anything outside its folder.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// Ports that are tried until one is still free when the server takes it.
const PORTS_TRIED_MAX: u32 = 10;

static STARTING: Mutex<()> = Mutex::new(());

/// A running name server; ends with this value.
pub(crate) struct Knot {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Knot {
    /// Serves `zone`, the text of a zone file, as `origin` (`example.`).
    pub(crate) fn start(origin: &str, zone: &str) -> Self {
        let folder = TempDir::with_prefix("knot-").unwrap();
        fs::write(folder.path().join("zone"), zone).unwrap();
        // One at a time: between looking for a port and listening on it, another one could take it too.
        let _guard = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut log = String::new();
        for _ in 0..PORTS_TRIED_MAX {
            let address = free_port();
            let configuration = folder.path().join("knot.conf");
            fs::write(&configuration, configured(folder.path(), address, origin)).unwrap();
            match serve(&configuration) {
                Ok(child) => return Self { child, address, _folder: folder },
                Err(text) => log = text,
            }
        }
        panic!("Knot does not start:\n{log}");
    }

    /// Where it listens, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configured(folder: &Path, address: SocketAddr, origin: &str) -> String {
    let (folder, ip, port) = (folder.display(), address.ip(), address.port());
    format!(
        "server:\n    rundir: {folder}\n    listen: {ip}@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         control:\n    listen: {folder}/knot.sock\n\
         database:\n    storage: {folder}\n\
         log:\n  - target: stderr\n    any: info\n\
         template:\n  - id: default\n    storage: {folder}\n    zonefile-sync: -1\n    journal-content: none\n    semantic-checks: off\n\
         zone:\n  - domain: {origin}\n    file: zone\n"
    )
}

/// Starts it and waits for it to say that it serves. The error is its log.
fn serve(configuration: &Path) -> Result<Child, String> {
    let mut command = Command::new(program());
    command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = String::new();
    while let Some(Ok(line)) = lines.next() {
        // The zone is loaded before the server calls itself started.
        let started = line.contains("server started");
        let failed = line.contains("failed") || line.contains("error:");
        log.push_str(&line);
        log.push('\n');
        if started {
            // Its log goes on, and must not fill the pipe.
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return Ok(child);
        }
        if failed {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(log)
}

fn program() -> PathBuf {
    let found = ["/usr/sbin/knotd", "/usr/local/sbin/knotd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from("knotd"))
}

/// A port that is free over UDP and TCP for the moment.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
