//! Client programs: found by name or the test fails, run with a deadline, their output kept.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

/// How long anything may take before the test fails by name: a program, a reply, a state. Longer than a very busy machine needs; only
/// a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Both outputs, for messages.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }

    /// Fails the test unless the program succeeded.
    ///
    /// # Panics
    /// The program failed.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.text());
        self
    }
}

/// Makes processes whose parent ends children of this one, so that it can wait for them.
///
/// # Panics
/// The kernel does not do that.
pub fn adopt_orphans() {
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own).unwrap_or_else(|error| panic!("no subreaper: {error}"));
}

/// Waits for the end of a process that was [adopted](adopt_orphans).
///
/// # Panics
/// It is still running after [`PATIENCE`], or is none of ours.
pub fn wait_for_orphan(pid: Pid) -> ExitStatus {
    let mut status = None;
    eventually("the process ends", || {
        let ended = waitpid(Some(pid), WaitOptions::NOHANG);
        status = ended.unwrap_or_else(|error| panic!("{pid:?}: {error}"));
        status.is_some()
    });
    let raw = status.map(|(_, status)| status.as_raw());
    raw.map(ExitStatus::from_raw).unwrap_or_else(|| panic!("no status"))
}

/// The file of a program that the tests need.
///
/// # Panics
/// It is not installed: a test that cannot run must fail.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    // What cannot be installed beside the others.
    let unpacked = crate::binary::folder("../target/packages");
    let folders = std::env::split_paths(&path).chain(daemons).chain([unpacked]);
    let mut files = folders.map(|folder| folder.join(name));
    let file = files.find(|file| file.is_file());
    file.unwrap_or_else(|| {
        panic!("{name} is not installed; `cargo xtask packages` installs what the tests need")
    })
}

/// A command of that program.
///
/// # Panics
/// It is not installed.
pub fn command<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments);
    command
}

/// Runs a command to its end with these octets as standard input.
///
/// # Panics
/// It cannot be started or is still running after [`PATIENCE`].
pub fn finish_with_input(mut command: Command, input: &[u8]) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(move || drain(stdout));
        let stderr = scope.spawn(move || drain(stderr));
        if let Some(pipe) = &mut stdin {
            // A program that ends without reading its input is judged by its exit.
            let _ = pipe.write_all(input);
        }
        drop(stdin);
        let status = wait(&mut child, PATIENCE);
        let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().unwrap_or_default());
        let Some(status) = status else {
            panic!("still running after {PATIENCE:?}: {command:?}\n{}", String::from_utf8_lossy(&stderr));
        };
        Finished { status, stdout, stderr }
    })
}

/// Runs a command to its end with nothing to read.
///
/// # Panics
/// It cannot be started or is still running after [`PATIENCE`].
pub fn finish(command: Command) -> Finished {
    finish_with_input(command, b"")
}

/// Waits for a child; ends it at the limit and returns `None`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read until an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Asks again until `holds`, for what has no event to wait for in another process.
///
/// # Panics
/// It does not hold within the limit.
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, holds), "not within {PATIENCE:?}: {what}");
}

/// Asks again until `holds`; whether it did within the limit.
pub fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
