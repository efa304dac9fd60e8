//! Exim as a client: one message at a time, delivered in the foreground. Debian's Exim cannot stand beside its Postfix, so it is used without being
//! installed; the user that it runs as is made for it alone, in a mount namespace.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use tempfile::TempDir;

use crate::process::{self, Finished};

/// The user that Debian's Exim is built for, with a number that nobody has.
const USER: &str = "Debian-exim";
const NUMBER: u32 = 64_999;

/// An Exim that hands everything to one server.
#[derive(Debug)]
pub struct Exim {
    folder: TempDir,
}

impl Exim {
    /// Hands over to `server`; `transport` = further lines of its transport.
    ///
    /// # Panics
    /// Its files cannot be written.
    #[track_caller]
    pub fn new(server: SocketAddr, transport: &[String]) -> Self {
        let folder =
            TempDir::with_prefix("inrush-exim-").unwrap_or_else(|error| panic!("no folder: {error}"));
        lay_out(folder.path(), server, transport)
            .unwrap_or_else(|error| panic!("cannot lay out an Exim: {error}"));
        Self { folder }
    }

    /// Takes a message as a local program would hand it in, and tries to deliver it once. Its log is the answer.
    ///
    /// # Panics
    /// It does not take it; Exim needs root for that.
    #[track_caller]
    pub fn send(&self, recipient: &str, message: &[u8]) -> String {
        let folder = self.folder.path().display();
        let exim = process::program("exim4");
        let script = format!(
            "mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/group /etc/group && \
             exec {} -C {folder}/exim.conf -i -odf -f sender@client.test.example {recipient}",
            exim.display()
        );
        let command = process::command("unshare", ["--mount", "sh", "-c", &script]);
        let finished: Finished = process::finish_with_input(command, &without_cr(message));
        assert!(finished.status.success(), "{}\n{}", finished.text(), self.log());
        self.log()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("{}{}", read("mainlog"), read("paniclog"))
    }
}

/// Local programs end lines with LF.
fn without_cr(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|octet| *octet != b'\r').collect()
}

fn lay_out(folder: &Path, server: SocketAddr, transport: &[String]) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    chown(folder, Some(NUMBER), Some(NUMBER))?;
    let user = format!("{USER}:x:{NUMBER}:{NUMBER}::/nonexistent:/usr/sbin/nologin\n");
    fs::write(folder.join("passwd"), fs::read_to_string("/etc/passwd")? + &user)?;
    fs::write(folder.join("group"), fs::read_to_string("/etc/group")? + &format!("{USER}:x:{NUMBER}:\n"))?;
    let spool = folder.join("spool");
    fs::create_dir(&spool)?;
    chown(&spool, Some(NUMBER), Some(NUMBER))?;
    let mut text = format!(
        "spool_directory = {0}/spool\nlog_file_path = {0}/%slog\nlog_selector = +tls_sni +tls_cipher\n\
         exim_path = {3}\nprimary_hostname = exim.test.example\nkeep_environment =\nqueue_run_in_order = true\n\
         begin routers\nout:\n  driver = manualroute\n  route_list = * {1}\n  self = send\n  transport = out\n\
         begin transports\nout:\n  driver = smtp\n  allow_localhost = true\n  message_linelength_limit = 100000\n  port = {2}\n",
        folder.display(),
        server.ip(),
        server.port(),
        process::program("exim4").display()
    );
    for line in transport {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("begin retry\n* * F,1h,1m\n");
    fs::write(folder.join("exim.conf"), text)
}
