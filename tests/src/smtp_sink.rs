//! Postfix's `smtp-sink` as the next hop: takes SMTP or LMTP, says no where it is told to, and dumps each message to a file.
//!
//! Its options say what goes wrong, see `smtp-sink(1)`: `-L` for LMTP, `-f` hard and `-r` soft errors, `-q` and `-Q` to hang up, `-p`, `-8` and `-N`
//! to offer less, `-n` and `-M` to end by itself.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::process;

/// Who it runs as: Debian's `nobody` and `nogroup`.
const USER: &str = "nobody";
const USER_NUMBER: u32 = 65_534;

/// A running sink; ended when dropped.
#[derive(Debug)]
pub struct SmtpSink {
    daemon: Daemon,
    address: SocketAddr,
    folder: TempDir,
}

/// A message as it was dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// What the sink knows of the session and the envelope: `X-Helo-Args`, `X-Mail-Args`, one `X-Rcpt-Args` for each recipient, and others.
    pub fields: Vec<(String, String)>,
    /// The message that was sent, without the sink's own trace; lines ended by CRLF.
    pub message: Vec<u8>,
}

impl Dump {
    /// All values of a field, e.g. the arguments of each RCPT.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl SmtpSink {
    /// Starts one with these options.
    ///
    /// # Panics
    /// It does not start; it needs root to become somebody else.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        Self::launch(options, true)
    }

    /// One that only counts, and keeps nothing.
    ///
    /// # Panics
    /// It does not start; it needs root to become somebody else.
    #[track_caller]
    pub fn counting() -> Self {
        Self::launch(&[], false)
    }

    #[track_caller]
    fn launch(options: &[&str], dump: bool) -> Self {
        let folder =
            TempDir::with_prefix("inrush-sink-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let dumps = folder.path().join("dumps");
        let made = fs::create_dir(&dumps)
            .and_then(|()| fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)))
            .and_then(|()| chown(&dumps, Some(USER_NUMBER), Some(USER_NUMBER)));
        made.unwrap_or_else(|error| panic!("cannot lay out a sink: {error}"));
        let (daemon, [address]) =
            Daemon::start("smtp-sink", &folder.path().join("log"), None, |[address]| {
                let mut command = process::command("smtp-sink", ["-c", "-u", USER]);
                if dump {
                    // The name ends with a random number.
                    command.arg("-d").arg(dumps.join("message."));
                }
                command.args(options).arg(format!("inet:{address}")).arg("100");
                command
            });
        Self { daemon, address, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many messages it has got to their ends so far, by its own count.
    pub fn messages(&self) -> u64 {
        let log = self.daemon.log();
        let counts = log.rsplit("mesg=").next().filter(|_| log.contains("mesg="));
        let digits = counts.map(|text| text.trim_end().split(|c: char| !c.is_ascii_digit()).next());
        digits.flatten().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Waits until it has got this many.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn wait_for(&self, messages: u64) {
        process::eventually("smtp-sink has got its messages", || self.messages() >= messages);
    }

    /// The messages so far, in no order: those that it has accepted, those at whose end it has said no, and what has come of others yet.
    ///
    /// # Panics
    /// A file cannot be read.
    #[track_caller]
    pub fn dumps(&self) -> Vec<Dump> {
        let folder = self.folder.path().join("dumps");
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files = entries.flatten().map(|entry| entry.path());
        files
            .map(|file| parse(&fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))))
            .collect()
    }

    /// Waits until it ends by itself, as `-n` and `-M` tell it.
    ///
    /// # Panics
    /// It goes on.
    #[track_caller]
    pub fn wait(&mut self) {
        self.daemon.wait();
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Lines `X-Name: value`, then a `Received` field of three lines, then the message, then an empty line.
fn parse(dump: &[u8]) -> Dump {
    let dump = dump.strip_suffix(b"\n").unwrap_or(dump);
    let mut fields = Vec::new();
    let mut message = Vec::new();
    let mut lines = dump.split_inclusive(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next_if(|line| line.starts_with(b"X-")) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        if let Some((name, value)) = line.split_once(": ") {
            fields.push((name.to_owned(), value.to_owned()));
        }
    }
    if lines.next_if(|line| line.starts_with(b"Received: ")).is_some() {
        while lines.next_if(|line| line.starts_with(b"\t")).is_some() {}
    }
    for line in lines {
        match line.strip_suffix(b"\n") {
            Some(line) => message.extend_from_slice(&[line, b"\r\n"].concat()),
            None => message.extend_from_slice(line),
        }
    }
    Dump { fields, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_taken_apart() {
        let dump = parse(b"X-Helo-Args: x\nX-Mail-Args: <a@b>\nX-Rcpt-Args: <c@d>\nX-Rcpt-Args: <e@f>\nReceived: from x\n\tby y\nX-Mine: 1\n\nhello\n\n");
        assert_eq!(dump.values("X-Rcpt-Args"), ["<c@d>", "<e@f>"]);
        assert_eq!(dump.message, b"X-Mine: 1\r\n\r\nhello\r\n");
    }
}
