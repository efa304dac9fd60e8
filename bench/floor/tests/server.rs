//! The real program over real sockets: alone, and with Postfix's smtp-source (SIGUSR1 asks it what it has taken).

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use inrush_tests::client::Client;
use inrush_tests::tls::Authority;
use rustix::process::{Pid, Signal, kill_process};

struct Floor {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Floor {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_inrush-floor"))
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let address =
            line(&mut lines).strip_prefix("listening ").expect("it listens").parse().expect("an address");
        Self { child, lines, address }
    }

    fn accepted(&mut self) -> u64 {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, Signal::USR1).expect("it runs");
        line(&mut self.lines).strip_prefix("accepted ").expect("it counts").parse().expect("a number")
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        BufReader::new(stream)
    }

    fn smtp_source(&self, arguments: &[&str]) {
        let status = Command::new("smtp-source").args(arguments).arg(self.address.to_string()).status();
        assert!(status.expect("smtp-source is installed").success(), "{arguments:?}");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(lines: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

/// The next reply: its last line.
fn reply(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let line = line(stream);
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

#[test]
fn smtp_source_sends_with_and_without_reuse() {
    let mut floor = Floor::start(&["--cores", "2"]);
    floor.smtp_source(&["-s", "10", "-m", "200", "-l", "4096"]);
    floor.smtp_source(&["-d", "-s", "10", "-m", "300", "-l", "65536", "-r", "5"]);
    floor.smtp_source(&["-s", "1", "-m", "2", "-l", "1500000"]);
    assert_eq!(floor.accepted(), 502);
}

#[test]
fn groups_of_commands_and_chunks_of_any_size() {
    let mut floor = Floor::start(&["--cores", "1"]);
    let mut stream = floor.connect();
    assert!(reply(&mut stream).starts_with("220 "));
    stream.get_mut().write_all(b"EHLO client.example\r\n").expect("sent");
    let mut offered = Vec::new();
    loop {
        let line = line(&mut stream);
        offered.push(line[4..].to_owned());
        if line.as_bytes()[3] == b' ' {
            break;
        }
    }
    for keyword in ["PIPELINING", "CHUNKING", "SIZE 52428800"] {
        assert!(offered.iter().any(|line| line == keyword), "{offered:?}");
    }
    // RFC 2920 §3.1: a group of commands.
    stream.get_mut().write_all(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n").expect("sent");
    assert_eq!([0; 3].map(|_| reply(&mut stream)[..3].to_owned()), ["250", "250", "354"]);
    stream.get_mut().write_all(b"Subject: x\r\n\r\n..\r\n.\r\n").expect("sent");
    assert!(reply(&mut stream).starts_with("250 2.0.0 OK: queued as "));
    // RFC 3030 §2: 25 MiB in one chunk, with everything else in the same group.
    let mut group = b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 26214400 LAST\r\n".to_vec();
    group.resize(group.len() + (25 << 20), b'\n');
    group.extend_from_slice(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 1\r\nxBDAT 1 LAST\r\nxQUIT\r\n");
    stream.get_mut().write_all(&group).expect("sent");
    let codes = [0; 8].map(|_| reply(&mut stream)[..3].to_owned());
    assert_eq!(codes, ["250", "250", "250", "250", "250", "250", "250", "221"]);
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0, "it closes after QUIT");
    assert_eq!(floor.accepted(), 3);
}

#[test]
fn tls_and_a_message_larger_than_a_buffer() {
    let authority = Authority::new();
    let files = authority.issue("mx.test.example");
    let (certificate, key) = (files.certificate.display().to_string(), files.key.display().to_string());
    let mut floor = Floor::start(&["--cores", "1", "--certificate", &certificate, "--key", &key]);
    let mut client = Client::greeted(floor.address);
    client.start_tls("mx.test.example");
    assert!(!client.say("EHLO client.example", 250).text().contains("STARTTLS"));
    for lines in [10, 1366, 350_000] {
        client.deliver(&["a@b.example"], &b"x\r\n".repeat(lines));
    }
    client.say("QUIT", 221);
    assert_eq!(floor.accepted(), 3);
    // Without a certificate it is not offered, and one that cannot be read is an error.
    let plain = Floor::start(&["--cores", "1"]);
    assert!(!Client::greeted(plain.address).say("EHLO client.example", 250).text().contains("STARTTLS"));
    let refused = Command::new(env!("CARGO_BIN_EXE_inrush-floor"))
        .args(["--certificate", &key, "--key", &certificate])
        .output()
        .expect("it was built");
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&key), "{refused:?}");
}

#[test]
fn a_port_in_use_is_an_error() {
    let floor = Floor::start(&["--cores", "1"]);
    let second = Command::new(env!("CARGO_BIN_EXE_inrush-floor"))
        .args(["--listen", &floor.address.to_string()])
        .output()
        .expect("it was built");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {}", floor.address)), "{said}");
}

#[test]
fn pinned_threads_have_one_processor_each() {
    for (options, pinned) in [(&["--cores", "1"][..], false), (&["--cores", "1", "--pin-cores"], true)] {
        let mut floor = Floor::start(options);
        // A reply shows that the core is up.
        let mut stream = floor.connect();
        assert!(reply(&mut stream).starts_with("220 "));
        assert_eq!(floor.accepted(), 0);
        let allowed = processors_allowed(floor.child.id(), "floor-0");
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        assert_eq!(allowed, if pinned { 1 } else { all }, "{options:?}");
    }
}

/// How many processors the thread of this name may run on: `Cpus_allowed` of proc_pid_status(5), a mask in hexadecimal.
fn processors_allowed(pid: u32, name: &str) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let statuses = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("status")));
    let mut named = statuses.filter(|status| status.lines().next() == Some(&format!("Name:\t{name}")));
    let status = named.next().expect("a thread of this name");
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).expect("a mask");
    let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
    digits.map(|digit| digit.count_ones() as usize).sum()
}
