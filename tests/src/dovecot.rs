//! A Dovecot of its own: takes mail by LMTP, gives it back by IMAP. Every user exists, with every password, and has a mailbox in the
//! folder of the instance.
//!
//! The configuration is that of Dovecot 2.3; 2.4 reads another one.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::imap::Imap;
use crate::process;

/// Debian's `nobody` and `nogroup`: who owns the mail.
const OWNER: u32 = 65_534;

/// A running instance; ended when dropped.
#[derive(Debug)]
pub struct Dovecot {
    daemon: Daemon,
    lmtp: SocketAddr,
    imap: SocketAddr,
    _folder: TempDir,
}

impl Dovecot {
    /// Starts an instance.
    ///
    /// # Panics
    /// It does not start; Dovecot needs root for that.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts an instance with these further lines of configuration.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn with(lines: &[&str]) -> Self {
        let folder =
            TempDir::with_prefix("inrush-dovecot-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let root = folder.path();
        lay_out(root).unwrap_or_else(|error| panic!("cannot lay out a Dovecot: {error}"));
        let config = root.join("dovecot.conf");
        let (daemon, [lmtp, imap]) = Daemon::start("Dovecot", &root.join("log"), None, |[lmtp, imap]| {
            let text = configuration(root, lmtp, imap) + &lines.join("\n") + "\n";
            fs::write(&config, text).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
            let mut command = process::command("dovecot", ["-F", "-c"]);
            command.arg(&config);
            command
        });
        Self { daemon, lmtp, imap, _folder: folder }
    }

    /// Where it takes mail.
    pub fn lmtp(&self) -> SocketAddr {
        self.lmtp
    }

    /// Where mail is read.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// All messages in the INBOX of `user`, the oldest first.
    ///
    /// # Panics
    /// IMAP fails.
    #[track_caller]
    pub fn imap_fetch(&self, user: &str) -> Vec<Vec<u8>> {
        let messages = self.open(user).fetch();
        messages.unwrap_or_else(|error| panic!("FETCH as {user}: {error}\n{}", self.log()))
    }

    /// The numbers of the messages in the INBOX of `user` that match these search keys (RFC 3501 §6.4.4).
    ///
    /// # Panics
    /// IMAP fails.
    #[track_caller]
    pub fn imap_search(&self, user: &str, keys: &str) -> Vec<u32> {
        let numbers = self.open(user).search(keys);
        numbers.unwrap_or_else(|error| panic!("SEARCH {keys} as {user}: {error}\n{}", self.log()))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    #[track_caller]
    fn open(&self, user: &str) -> Imap {
        let imap = Imap::open(self.imap, user, "any");
        imap.unwrap_or_else(|error| panic!("IMAP as {user}: {error}\n{}", self.log()))
    }
}

fn lay_out(root: &Path) -> std::io::Result<()> {
    // Its processes run as other users and must get through to their sockets and to the mail.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    fs::create_dir(root.join("mail"))?;
    chown(root.join("mail"), Some(OWNER), Some(OWNER))
}

fn configuration(root: &Path, lmtp: SocketAddr, imap: SocketAddr) -> String {
    let root = root.display();
    format!(
        "base_dir = {root}/run\n\
         state_dir = {root}/run\n\
         instance_name = inrush-tests\n\
         log_path = /dev/stderr\n\
         hostname = dovecot.test.example\n\
         listen = {lmtp_ip}\n\
         protocols = imap lmtp\n\
         ssl = no\n\
         disable_plaintext_auth = no\n\
         auth_mechanisms = plain\n\
         auth_username_chars =\n\
         first_valid_uid = 1\n\
         mail_location = maildir:~/Maildir\n\
         passdb {{\n  driver = static\n  args = nopassword=y\n}}\n\
         userdb {{\n  driver = static\n  args = uid={OWNER} gid={OWNER} home={root}/mail/%u allow_all_users=yes\n}}\n\
         service lmtp {{\n  inet_listener lmtp {{\n    address = {lmtp_ip}\n    port = {lmtp_port}\n  }}\n}}\n\
         service imap-login {{\n  chroot =\n  inet_listener imap {{\n    address = {imap_ip}\n    port = {imap_port}\n  }}\n\
         \x20 inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service anvil {{\n  chroot =\n}}\n",
        lmtp_ip = lmtp.ip(),
        lmtp_port = lmtp.port(),
        imap_ip = imap.ip(),
        imap_port = imap.port(),
    )
}
