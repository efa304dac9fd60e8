//! Against a server that is not ours: Postfix's smtp-sink.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the scripted server is for the other tests")]
mod support;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use support::run;

struct Sink {
    process: Child,
    address: String,
}

impl Sink {
    fn start(options: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sink = Self::at(&free.to_string(), options);
        let begun = Instant::now();
        while TcpStream::connect(free).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "smtp-sink does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        sink
    }

    /// Does not wait until it listens.
    fn at(address: &str, options: &[&str]) -> Self {
        let mut command = Command::new("smtp-sink");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if rustix::process::geteuid().is_root() {
            // It refuses to run with privileges.
            command.args(["-u", "nobody"]);
        }
        let process = command.args(options).arg(address).arg("100").spawn();
        Self { process: process.expect("smtp-sink of Debian's postfix"), address: address.to_owned() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn smtp_sink_takes_everything() {
    let sink = Sink::start(&[]);
    for words in ["-s 10 -m 500", "-s 10 -m 500 -d --in-flight 4", "-s 10 -m 500 -d -r 5 --pipelining off"] {
        let pid = sink.process.id();
        let run = run(&format!("{} {words} --server-pid {pid}", sink.address));
        assert_eq!((run.code, run.count("acknowledged")), (0, 500), "{words}: {:?}", run.output);
        assert!(run.json["server_cpu"]["us_per_message"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn smtp_sink_speaks_lmtp() {
    let sink = Sink::start(&["-L"]);
    let run = run(&format!("{} -s 4 -m 200 -d -L -r 3", sink.address));
    assert_eq!((run.code, run.count("acknowledged")), (0, 200), "{:?}", run.output);
}

#[test]
fn smtp_sink_that_refuses() {
    // -r: soft error on these commands; -e: no EHLO, so HELO must do.
    let sink = Sink::start(&["-e", "-r", "RCPT"]);
    let run = run(&format!("{} -m 20 -d", sink.address));
    assert_eq!((run.code, run.count("refused")), (1, 20), "{:?}", run.output);
}

#[test]
fn a_local_socket() {
    let directory = tempfile::tempdir().unwrap();
    // The server drops its privileges before it makes the socket.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let target = format!("unix:{}", directory.path().join("smtp").display());
    let _sink = Sink::at(&target, &[]);
    for engine in ["uring", "epoll"] {
        let run = run(&format!("{target} -s 3 -m 60 -C 100 --engine {engine}"));
        assert_eq!((run.code, run.count("acknowledged")), (0, 60), "{:?}", run.output);
    }
}

#[test]
fn what_smtp_sink_has_dumped_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let dumps = directory.path().join("dumps");
    std::fs::create_dir(&dumps).unwrap();
    for path in [directory.path(), &dumps] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    for (option, words) in
        [("-d", "-s 4 -m 100 -d -r 3 --dot-lines 20"), ("-D", "-s 2 -m 50 -l uniform:0-20000")]
    {
        let template = format!("{}/{option}-%Y.", dumps.display());
        let sink = Sink::start(&[option, &template]);
        let store = format!("--verify smtp-sink:{}/{option}-", dumps.display());
        let verified = run(&format!("{} {words} {store}", sink.address));
        assert_eq!(verified.code, 0, "{}: {:?}", verified.json["verification"], verified.output);
        assert_eq!(verified.json["verification"]["found"], verified.json["counts"]["acknowledged"]);
    }
    // Where nothing of the run is.
    let sink = Sink::start(&[]);
    let words = format!("-m 5 --verify smtp-sink:{}/-d- --verify-wait 100ms", dumps.display());
    let missing = run(&format!("{} {words}", sink.address));
    assert_eq!((missing.code, missing.json["verification"]["missing"].as_u64()), (4, Some(5)));
}
