//! What systemd hears (sd_notify(3)), and sockets that it makes (sd_listen_fds(3)).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use inrush_tests::client::Client;
use inrush_tests::server::{Server, write_config};
use inrush_tests::settings::Settings;
use inrush_tests::{binary, export, process};
use tempfile::TempDir;

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next word that is not this one.
    fn hears_other_than(&self, word: &str) -> String {
        loop {
            let heard = self.hears();
            if heard != word {
                return heard;
            }
        }
    }

    fn hears(&self) -> String {
        let mut octets = [0; 512];
        let length = self.0.recv(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..length]).trim_end().to_owned()
    }
}

#[test]
fn it_is_told_what_happens() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let launcher =
        ["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display()), "WATCHDOG_USEC=8000000".to_owned()];
    let mut server = Server::with(Settings { launcher: launcher.into(), ..Settings::default() });
    let ready = |pid: u32| format!("READY=1\nMAINPID={pid}");
    assert_eq!(manager.hears(), ready(server.pid()));
    // The cores turn, again and again.
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    server.upgrade();
    // Both say who takes connections now; which of them is heard first does not matter.
    let new = server.pid();
    let mut words = [manager.hears_other_than("WATCHDOG=1"), manager.hears_other_than("WATCHDOG=1")];
    words.sort();
    assert_eq!(words, [format!("MAINPID={new}"), ready(new)]);
    // Those that the old process has left behind are read; these are of the new one.
    for _ in 0..4 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    server.stop();
    assert_eq!(manager.hears_other_than("WATCHDOG=1"), "STOPPING=1");
}

/// `systemd-socket-activate` with these sockets, and the gateway behind it.
fn activated(sockets: &[(SocketAddr, &str)]) -> Vec<String> {
    let mut launcher = vec!["systemd-socket-activate".to_owned()];
    launcher.extend(sockets.iter().flat_map(|(address, _)| ["-l".to_owned(), address.to_string()]));
    let names: Vec<&str> = sockets.iter().map(|(_, name)| *name).collect();
    launcher.push(format!("--fdname={}", names.join(":")));
    launcher
}

/// An address that is free, and none that the kernel would give to another test meanwhile.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], NEXT.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Knocks at the door until it is answered: only then is the gateway started.
fn knock<T>(address: SocketAddr, meanwhile: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Kept until the gateway has seen it.
                let _knock = TcpStream::connect(address);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let result = meanwhile();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn its_sockets_are_taken() {
    let (by_name, admin) = (free_address(), free_address());
    let settings = Settings {
        // Any port of this address: the name says which listener it is.
        address: "127.0.0.1:0".into(),
        launcher: activated(&[(by_name, "mx"), (admin, "admin")]),
        ..Settings::default()
    };
    let mut server = knock(by_name, || Server::with(settings));
    assert_eq!((server.mx(), server.admin()), (by_name, admin));
    server.wait_until_accepting();
    let mut ids = vec![Client::greeted(by_name).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n")];
    // They go over to a new process like others.
    server.upgrade();
    ids.push(Client::greeted(by_name).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n"));
    server.stop();
    assert_eq!(export::all(&server.data()).len(), ids.len());
}

#[test]
fn a_socket_that_nobody_wants_is_an_error() {
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), &Settings::default(), &folder.path().join("data"));
    let address = free_address();
    let launcher = activated(&[(address, "other")]);
    let mut command = Command::new(process::program(&launcher[0]));
    command.args(&launcher[1..]).arg(binary::inrush()).args(["serve", "--config"]).arg(config);
    // The configured listener would take any port of its address: only the name of another one keeps it from this one.
    let text = std::fs::read_to_string(folder.path().join("inrush.toml")).unwrap();
    std::fs::write(folder.path().join("inrush.toml"), text.replace("127.0.0.1:0\"]", "127.0.0.2:0\"]"))
        .unwrap();
    let finished = knock(address, || process::finish(command));
    assert_eq!(finished.status.code(), Some(1), "{}", finished.text());
    let told = format!(
        "the service manager has made a socket \"other\" on {address}: no [[listener]] listens there"
    );
    assert!(finished.text().contains(&told), "{}", finished.text());
}
