//! Strict or relaxed: what each server syncs before it answers the end of the data, seen with strace.
//!
//! All processes and threads of the server are followed while one message is sent to it. What lies between the moment before the end of the
//! data is sent and the moment when its reply is there, both on the clock that strace writes, is what the server does for the promise. A call
//! that waits for the disk makes it strict: `fsync`, `fdatasync`, `msync`, `syncfs`, `sync`, `sync_file_range`, or a write to a file that is open with
//! `O_DSYNC` or `O_SYNC` (proc_pid_fdinfo(5)). What a ring writes is no system call of its own: there, that the ring was entered while such a
//! file was open counts, and is said.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use inrush_tests::process;
use rustix::process::{Pid, Signal, kill_process};

use super::result::{Figure, Files, Outcome};
use super::servers::Subject;
use crate::run;

const TRACED: &str = "trace=fsync,fdatasync,msync,syncfs,sync,sync_file_range,write,writev,pwrite64,pwritev,pwritev2,io_uring_enter";
const SYNCS: [&str; 6] = ["fsync", "fdatasync", "msync", "syncfs", "sync", "sync_file_range"];
const WRITES: [&str; 5] = ["write", "writev", "pwrite64", "pwritev", "pwritev2"];

/// `O_DSYNC`, which `O_SYNC` contains, as fdinfo writes flags: in octal (open(2)).
const O_DSYNC: u32 = 0o10000;

/// Octets of the message.
const BODY_OCTETS: usize = 4096;

/// Between one and none: 1 = strict, 0 = relaxed.
const STRICT: Figure = Figure { name: "syncs before it answers the end of the data", unit: "1 = yes" };

/// Labels each of them and prints what was seen.
///
/// # Errors
/// strace is not there or is refused, or a server does not take a message.
pub(super) fn run<'s>(
    subjects: impl Iterator<Item = &'s Subject>,
    outcome: &mut Outcome,
    files: &Files,
) -> anyhow::Result<()> {
    ensure!(run::program("strace").is_some(), "strace is not installed; as root: apt-get install strace");
    outcome.bench = "label".to_owned();
    for subject in subjects {
        let (seen, elsewhere) = look(subject).with_context(|| subject.name)?;
        let label = if seen.is_empty() { "relaxed" } else { "strict" };
        let shown =
            seen.iter().map(|(call, count)| format!("{count} × {call}")).collect::<Vec<_>>().join(", ");
        let shown = match elsewhere {
            _ if !shown.is_empty() => shown,
            0 => "no sync, neither before nor behind it".to_owned(),
            count => format!("no sync, but {count} before or behind it"),
        };
        println!("   {}: {label}: {shown}", subject.name);
        outcome.notes.push(format!(
            "- **{}**: {label}. Seen before the reply to the end of the data: {shown}.",
            subject.name
        ));
        outcome.add("strict or relaxed", subject.name, STRICT, None, f64::from(u8::from(!seen.is_empty())));
    }
    outcome.publish(files)
}

/// The calls that waited for the disk before the reply, and how many of each; and how many did so in the rest of the trace.
fn look(subject: &Subject) -> anyhow::Result<(BTreeMap<String, u32>, u32)> {
    // What a server does only for its first message is no part of the answer.
    let mut client = Client::connect(&subject.address)?;
    client.message()?;
    let processes = subject.meter.processes()?;
    let trace = tempfile::NamedTempFile::new()?;
    let said = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-y", "-s", "0", "-e", TRACED, "-o"]).arg(trace.path());
    for process in &processes {
        command.args(["-p", &process.to_string()]);
    }
    let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen()?).spawn()?;
    let attached = || fs::read_to_string(said.path()).unwrap_or_default().matches(" attached").count();
    let all = process::holds_within(Duration::from_secs(20), || attached() >= processes.len());
    let window = if all { client.message() } else { Err(anyhow::anyhow!("strace cannot attach to it")) };
    let synchronous = synchronous_files(&processes);
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT)?;
    }
    process::wait(&mut strace, Duration::from_secs(10)).context("strace does not end")?;
    let (sent, answered) = window.with_context(|| fs::read_to_string(said.path()).unwrap_or_default())?;
    let trace = fs::read_to_string(trace.path())?;
    let between = seen(&trace, sent, answered, &synchronous);
    let all: u32 = seen(&trace, 0.0, f64::MAX, &synchronous).values().sum();
    let elsewhere = all - between.values().sum::<u32>();
    Ok((between, elsewhere))
}

/// A client that stays: servers that make a process for each connection have made it when they are looked at.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut client = Self { stream: BufReader::new(stream) };
        client.expect("220")?;
        client.say("EHLO client.example\r\n", "250")?;
        Ok(client)
    }

    /// When the end of its data was about to be sent, and when the reply was there, in seconds since 1970.
    fn message(&mut self) -> anyhow::Result<(f64, f64)> {
        self.say("MAIL FROM:<sender@client.example>\r\n", "250")?;
        self.say("RCPT TO:<recipient@example.com>\r\n", "250")?;
        self.say("DATA\r\n", "354")?;
        let line = format!("{}\r\n", "x".repeat(70));
        let text = format!("Subject: label\r\n\r\n{}", line.repeat(BODY_OCTETS / line.len()));
        self.stream.get_mut().write_all(text.as_bytes())?;
        let sent = now()?;
        self.say(".\r\n", "250")?;
        Ok((sent, now()?))
    }

    fn say(&mut self, command: &str, code: &str) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(command.as_bytes())?;
        self.expect(code)
    }

    fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            ensure!(line.starts_with(code), "{line:?} instead of {code}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

fn now() -> anyhow::Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// Paths of regular files that these processes have open with `O_DSYNC` or `O_SYNC`.
fn synchronous_files(processes: &[u32]) -> Vec<String> {
    let mut files = Vec::new();
    for process in processes {
        let folder = format!("/proc/{process}/fd");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let info = Path::new("/proc").join(process.to_string()).join("fdinfo").join(entry.file_name());
            let info = fs::read_to_string(info).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
            if flags & O_DSYNC != 0
                && let Ok(path) = fs::read_link(entry.path())
            {
                files.push(path.display().to_string());
            }
        }
    }
    files
}

/// What waited for the disk between the two moments. Lines are `PID TIME CALL(FD<PATH>, …) = RESULT`; a call that another one
/// interrupts in the output is taken where it begins.
fn seen(trace: &str, from: f64, to: f64, synchronous: &[String]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        // The number of the process is padded.
        let Some((_, rest)) = line.split_once(' ') else { continue };
        let Some((time, call)) = rest.trim_start().split_once(' ') else { continue };
        let Ok(time) = time.parse::<f64>() else { continue };
        let Some((name, arguments)) = call.split_once('(') else { continue };
        if time < from || time > to {
            continue;
        }
        let path = arguments.split_once('<').and_then(|(_, rest)| Some(rest.split_once('>')?.0));
        let what = if SYNCS.contains(&name) {
            name.to_owned()
        } else if WRITES.contains(&name)
            && path.is_some_and(|path| synchronous.iter().any(|file| file == path))
        {
            format!("{name} to a file open with O_DSYNC")
        } else if name == "io_uring_enter" && !synchronous.is_empty() {
            format!("{name} with a file open with O_DSYNC")
        } else {
            continue;
        };
        *counts.entry(what).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "7 100.5 fsync(3</q/a>) = 0\n\
        7 101.0 fdatasync(3</q/a> <unfinished ...>\n\
        8 101.1 write(1</dev/null>, \"\"..., 5) = 5\n\
        8 101.2 pwrite64(9</log/1.seg>, \"\"..., 4096, 0) = 4096\n\
        9  101.3 io_uring_enter(4<anon_inode:[io_uring]>, 1, 1, 0, NULL, 8) = 1\n\
        7 101.4 <... fdatasync resumed>) = 0\n\
        7 103.0 fsync(3</q/a>) = 0\n\
        7 +++ exited with 0 +++\n";

    #[test]
    fn only_what_lies_between_and_waits_for_the_disk() {
        let seen = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            seen(TRACE, 100.9, 102.0, &files).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(seen(&[]), [("fdatasync".to_owned(), 1)]);
        let with_log: Vec<String> = seen(&["/log/1.seg"]).into_iter().map(|(call, _)| call).collect();
        assert_eq!(
            with_log,
            [
                "fdatasync",
                "io_uring_enter with a file open with O_DSYNC",
                "pwrite64 to a file open with O_DSYNC"
            ]
        );
    }
}
