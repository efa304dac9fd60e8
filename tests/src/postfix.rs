//! A Postfix instance of its own: own configuration, own queue, no part of the machine's mail system.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::{maildir, process};

/// Who owns the mail that an instance keeps: Debian's `nobody` and `nogroup`.
const MAIL_OWNER: u32 = 65_534;

/// What the instance is for.
#[derive(Clone, Debug, Default)]
pub struct Purpose {
    /// Hand everything on to this address.
    pub relay_to: Option<SocketAddr>,
    /// Take mail by SMTP on this address.
    pub listen: Option<SocketAddr>,
    /// Keep the mail of these domains, whoever it is for, for [`Postfix::kept`].
    pub keep: Vec<String>,
    /// Further lines of main.cf.
    pub main: Vec<String>,
    /// Where the queue is; `None` = in the instance's own folder.
    pub queue: Option<PathBuf>,
    /// A program with arguments that ends by becoming `postfix start`.
    pub launcher: Vec<String>,
}

/// A started instance; stopped when dropped.
#[derive(Debug)]
pub struct Postfix {
    folder: TempDir,
    queue: PathBuf,
}

impl Postfix {
    /// Starts an instance.
    ///
    /// # Panics
    /// It does not start; Postfix needs root for that.
    #[track_caller]
    pub fn start(purpose: &Purpose) -> Self {
        let folder =
            TempDir::with_prefix("inrush-postfix-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let queue = purpose.queue.clone().unwrap_or_else(|| folder.path().join("queue"));
        let postfix = Self { folder, queue };
        postfix.lay_out(purpose).unwrap_or_else(|error| panic!("cannot lay out a Postfix instance: {error}"));
        let started = process::finish(postfix.starter(&purpose.launcher));
        assert!(
            started.status.success(),
            "Postfix did not start (it needs root): {}\n{}",
            started.text(),
            postfix.log()
        );
        // Its daemons log through one of them that is started when the first line comes, and the queue of the socket holds ten lines: who connects
        // before may leave the master no room for its own first line, and it would wait for ever.
        process::eventually("Postfix has started", || postfix.log().contains("daemon started"));
        if let Some(address) = purpose.listen {
            process::eventually("Postfix accepts connections", || {
                std::net::TcpStream::connect(address).is_ok()
            });
        }
        postfix
    }

    /// A Postfix program that works on this instance.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let flag = if program == "sendmail" { "-C" } else { "-c" };
        let mut command = process::command(program, [flag]);
        command.arg(self.configuration()).args(arguments);
        command
    }

    /// Queues a message as a local program would; lines end with LF on this way in.
    ///
    /// # Panics
    /// It is not taken.
    #[track_caller]
    pub fn inject(&self, recipient: &str, message: &[u8]) {
        let command = self.command("sendmail", &["-i", "-f", "sender@client.test.example", recipient]);
        process::finish_with_input(command, &without_cr(message)).succeeded();
    }

    /// Waits until the queue is empty, with a flush at each look.
    ///
    /// # Panics
    /// Something is still queued at the limit.
    #[track_caller]
    pub fn drain(&self, limit: Duration) {
        let mut queued = String::new();
        let deadline = std::time::Instant::now() + limit;
        while std::time::Instant::now() < deadline {
            queued = process::finish(self.command("postqueue", &["-p"])).succeeded().text();
            if queued.contains("Mail queue is empty") {
                return;
            }
            process::finish(self.command("postqueue", &["-f"]));
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the queue is not empty after {limit:?}:\n{queued}\n{}", self.log());
    }

    /// What has come for the domains that it keeps, one message for each recipient; `Return-Path`, `X-Original-To`, `Delivered-To` and
    /// `Received` are its own.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        maildir::messages(&mail(self.folder.path()).join("all"))
    }

    /// Waits until so many have come; all of them.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn wait_for_kept(&self, count: usize) -> Vec<Vec<u8>> {
        maildir::wait_for(&mail(self.folder.path()).join("all"), count)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("maillog")).unwrap_or_default()
    }

    /// The process id of its master.
    pub fn master(&self) -> Option<u32> {
        fs::read_to_string(self.queue.join("pid/master.pid")).ok()?.trim().parse().ok()
    }

    fn starter(&self, launcher: &[String]) -> Command {
        let start = self.command("postfix", &["start"]);
        let Some((launcher, arguments)) = launcher.split_first() else { return start };
        let mut command = process::command(launcher, arguments);
        command.arg(start.get_program()).args(start.get_args());
        command
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    fn lay_out(&self, purpose: &Purpose) -> std::io::Result<()> {
        let root = self.folder.path();
        // Its daemons run as another user and must get through to the queue.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        let data = root.join("lib");
        for folder in [&self.configuration(), &self.queue, &data, &mail(root)] {
            fs::create_dir_all(folder)?;
        }
        chown(mail(root), Some(MAIL_OWNER), Some(MAIL_OWNER))?;
        process::finish({
            let mut command = process::command("chown", ["postfix"]);
            command.arg(&data);
            command
        })
        .succeeded();
        fs::write(self.configuration().join("main.cf"), self.main(purpose, root, &data))?;
        fs::write(self.configuration().join("master.cf"), master(purpose.listen))
    }

    fn main(&self, purpose: &Purpose, root: &Path, data: &Path) -> String {
        let mut text = String::from(
            "compatibility_level = 3.6\n\
             command_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\n\
             setgid_group = postdrop\n\
             myhostname = relay.test.example\n\
             mydestination =\n\
             mynetworks = 127.0.0.0/8\n\
             smtpd_recipient_restrictions = permit_mynetworks, reject\n\
             alias_maps =\n\
             alias_database =\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             smtp_tls_security_level = none\n\
             smtputf8_enable = yes\n\
             smtp_line_length_limit = 0\n\
             line_length_limit = 65536\n\
             message_size_limit = 0\n\
             mailbox_size_limit = 0\n\
             notify_classes =\n\
             minimal_backoff_time = 1s\n\
             maximal_backoff_time = 2s\n",
        );
        // A String takes every write.
        let _ = writeln!(text, "queue_directory = {}", self.queue.display());
        let _ = writeln!(text, "data_directory = {}", data.display());
        let _ = writeln!(text, "maillog_file = {}", root.join("maillog").display());
        let _ = writeln!(text, "maillog_file_prefixes = {}", root.display());
        if let Some(address) = purpose.relay_to {
            let _ = writeln!(text, "relayhost = [{}]:{}", address.ip(), address.port());
        }
        if !purpose.keep.is_empty() {
            let _ = write!(
                text,
                // Headers stay as they come, even from this machine; the slash makes it a Maildir.
                "local_header_rewrite_clients =\n\
                 virtual_mailbox_domains = {}\n\
                 virtual_mailbox_base = {}\n\
                 virtual_mailbox_maps = static:all/\n\
                 virtual_mailbox_limit = 0\n\
                 virtual_uid_maps = static:{MAIL_OWNER}\n\
                 virtual_gid_maps = static:{MAIL_OWNER}\n",
                purpose.keep.join(" "),
                mail(root).display()
            );
        }
        for line in &purpose.main {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Waits until its master is gone; the master's id comes from the instance's own pid file.
        let stopped = process::finish(self.command("postfix", &["stop"]));
        if !stopped.status.success() || std::thread::panicking() {
            eprintln!("{}\n── the log of Postfix:\n{}", stopped.text(), self.log());
        }
    }
}

/// Where the mail is that it keeps.
fn mail(root: &Path) -> PathBuf {
    root.join("mail")
}

/// A port of loopback that was free a moment ago, for programs that cannot take one from the kernel.
///
/// # Panics
/// There is none.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.unwrap_or_else(|error| panic!("no free port: {error}"))
}

fn without_cr(message: &[u8]) -> Vec<u8> {
    let mut unix = Vec::with_capacity(message.len());
    for (at, octet) in message.iter().enumerate() {
        if *octet != b'\r' || message.get(at + 1) != Some(&b'\n') {
            unix.push(*octet);
        }
    }
    unix
}

/// The services of master.cf; those with `-` in the fifth column may be chrooted by default, so all say `n`.
fn master(listen: Option<SocketAddr>) -> String {
    let mut text = String::new();
    if let Some(address) = listen {
        let _ = writeln!(text, "{address} inet n - n - 200 smtpd");
    }
    text.push_str(
        "pickup unix n - n 1 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         proxywrite unix - - n - 1 proxymap\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         lmtp unix - - n - - lmtp\n\
         virtual unix - n n - - virtual\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n",
    );
    text
}
