//! A server program as a child of the test: its output in a file, ready when the kernel says that it listens, ended by its id.
//!
//! Nobody connects to find out whether it is ready, since some of them count connections. The ports were free a moment before; when
//! somebody else was quicker, the program ends, or says so, and is started again with others.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{self, PATIENCE};

/// How often a program is started that did not get its ports.
const STARTS_MAX: u32 = 5;

/// A running server program. Dropped, it is asked to end, and its output is shown if the test is failing.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts the command that is made for `N` free ports of loopback and waits until it listens on all of them. Its output goes to `log`.
    /// `no_port` is what a program writes that goes on without its port; the others end.
    ///
    /// # Panics
    /// It does not start, or does not listen within [`PATIENCE`].
    #[track_caller]
    pub fn start<const N: usize>(
        name: &'static str,
        log: &Path,
        no_port: Option<&str>,
        mut command: impl FnMut([SocketAddr; N]) -> Command,
    ) -> (Self, [SocketAddr; N]) {
        for _ in 0..STARTS_MAX {
            let addresses = free_ports();
            let output = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
            let (stdout, stderr) = output.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
            let mut command = command(addresses);
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
            let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
            let mut daemon = Self { name, child, log: log.to_owned() };
            if daemon.listens(&addresses, no_port) {
                return (daemon, addresses);
            }
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        panic!("{name} has ended at each of {STARTS_MAX} starts:\n{said}");
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Stops the process where it is, not those that it has started: what is sent to it stays in the kernel, and nobody answers. It stands
    /// when this returns.
    ///
    /// # Panics
    /// It goes on.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        process::eventually("the process stands", || self.stands());
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the end that it comes to by itself.
    ///
    /// # Panics
    /// It goes on.
    #[track_caller]
    pub fn wait(&mut self) {
        let status = process::wait(&mut self.child, PATIENCE);
        assert!(status.is_some(), "{} still runs after {PATIENCE:?}:\n{}", self.name, self.log());
    }

    fn listens(&mut self, addresses: &[SocketAddr], no_port: Option<&str>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if no_port.is_some_and(|text| self.log().contains(text)) || !self.is_running() {
                return false;
            }
            if addresses.iter().all(|address| self.holds(*address)) {
                return true;
            }
            let log = self.log();
            assert!(Instant::now() < deadline, "{} does not listen after {PATIENCE:?}:\n{log}", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the process itself has the socket that listens there.
    fn holds(&self, address: SocketAddr) -> bool {
        let Some(inode) = listening(address) else { return false };
        let socket = PathBuf::from(format!("socket:[{inode}]"));
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten().flatten();
        files.flat_map(|file| fs::read_link(file.path())).any(|file| file == socket)
    }

    /// Whether all of its threads are stopped.
    fn stands(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let stats = threads.flat_map(|thread| fs::read_to_string(thread.path().join("stat")));
        // The state stands behind the name, which is in parentheses and may hold any character.
        let mut states =
            stats.map(|stat| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T')));
        states.all(|stopped| stopped)
    }

    fn signal(&self, signal: Signal) {
        // The child is ours and not yet waited for, so its id cannot have been given to another process.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::TERM);
            self.signal(Signal::CONT);
            // One that does not want to end is killed.
            process::wait(&mut self.child, Duration::from_secs(30));
        }
        if std::thread::panicking() {
            eprintln!("── the output of {}:\n{}", self.name, self.log());
        }
    }
}

/// Ports of loopback that are free for TCP and UDP, all different.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    // Kept until all are found, or one could be found twice.
    let mut held = Vec::new();
    std::array::from_fn(|_| {
        let (address, sockets) = free_port();
        held.push(sockets);
        address
    })
}

fn free_port() -> (SocketAddr, (TcpListener, UdpSocket)) {
    for _ in 0..100 {
        let tcp =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|error| panic!("no port: {error}"));
        let address = tcp.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        if let Ok(udp) = UdpSocket::bind(address) {
            return (address, (tcp, udp));
        }
    }
    panic!("no port is free for TCP and UDP");
}

/// The inode of the socket that listens on exactly this address, by the table of the kernel (`proc(5)`).
fn listening(address: SocketAddr) -> Option<u64> {
    /// TCP_LISTEN of `include/net/tcp_states.h`.
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        // Number, own address, that of the other side, state, queues, timer, retransmissions, user, timeout, inode.
        let listens = words.get(3) == Some(&LISTEN);
        let ours = words.get(1).copied().and_then(socket_address) == Some(address);
        words.get(9).filter(|_| listens && ours)?.parse().ok()
    })
}

/// `0100007F:1F90`: the four octets of the address as one number of the machine, the port as a number.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_who_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listening(address).is_some());
        // Another address that the same port stands for.
        assert_eq!(listening(SocketAddr::from(([127, 0, 0, 2], address.port()))), None);
        // A client's socket is in the table too.
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listening(client.local_addr().unwrap()), None);
    }
}
