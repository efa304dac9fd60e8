//! Exim as a client, one message at a time, delivered in the foreground; and as a server that keeps what it takes.
//!
//! Debian's Exim cannot stand beside its Postfix, so it is used without being installed; the user that it runs as is made for it alone, in a
//! mount namespace.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::maildir;
use crate::process::{self, Finished};
use crate::tls::Files;

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
        let arguments = format!("-i -odf -f sender@client.test.example {recipient}");
        let command = command(self.folder.path(), &arguments);
        let finished: Finished = process::finish_with_input(command, &without_cr(message));
        assert!(finished.status.success(), "{}\n{}", finished.text(), self.log());
        self.log()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }
}

/// An Exim that takes mail for everybody by SMTP, with CHUNKING, DSN and SMTPUTF8, and keeps it in a Maildir of its own. Ended when dropped.
#[derive(Debug)]
pub struct EximServer {
    _daemon: Daemon,
    address: SocketAddr,
    folder: TempDir,
}

impl EximServer {
    /// Starts with these further lines of the main section, which replace those that it has of the same name.
    ///
    /// # Panics
    /// It does not start; Exim needs root for that.
    #[track_caller]
    pub fn start(main: &[String]) -> Self {
        Self::start_in(Self::folder(), main)
    }

    /// Starts with STARTTLS and this certificate.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn secure(certificate: &Files) -> Self {
        let folder = Self::folder();
        // It reads them as its own user.
        let own = |file: &Path, name: &str| {
            let copy = folder.path().join(name);
            let done = fs::copy(file, &copy).and_then(|_| chown(&copy, Some(NUMBER), Some(NUMBER)));
            done.unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
            copy
        };
        let main = [
            "tls_advertise_hosts = *".to_owned(),
            format!("tls_certificate = {}", own(&certificate.certificate, "certificate.pem").display()),
            format!("tls_privatekey = {}", own(&certificate.key, "key.pem").display()),
        ];
        Self::start_in(folder, &main)
    }

    /// Where it takes mail.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come, one message for each recipient; `Return-path`, `Envelope-to` and `Received` are its own.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        maildir::messages(&self.mail())
    }

    /// Waits until so many have come; all of them.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn wait_for_kept(&self, count: usize) -> Vec<Vec<u8>> {
        maildir::wait_for(&self.mail(), count)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    #[track_caller]
    fn folder() -> TempDir {
        TempDir::with_prefix("inrush-exim-").unwrap_or_else(|error| panic!("no folder: {error}"))
    }

    #[track_caller]
    fn start_in(folder: TempDir, main: &[String]) -> Self {
        let root = folder.path();
        let (daemon, [address]) = Daemon::start("Exim", &root.join("output"), None, |[address]| {
            lay_out_server(root, address, main)
                .unwrap_or_else(|error| panic!("cannot lay out an Exim: {error}"));
            command(root, "-bdf")
        });
        Self { _daemon: daemon, address, folder }
    }

    fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }
}

impl Drop for EximServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── the log of Exim:\n{}", self.log());
        }
    }
}

fn log(folder: &Path) -> String {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    format!("{}{}", read("mainlog"), read("paniclog"))
}

/// Exim with these arguments, its configuration and its user.
fn command(folder: &Path, arguments: &str) -> Command {
    let exim = process::program("exim4");
    let folder = folder.display();
    let script = format!(
        "mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/group /etc/group && \
         exec {} -C {folder}/exim.conf {arguments}",
        exim.display()
    );
    process::command("unshare", ["--mount", "sh", "-c", &script])
}

/// Local programs end lines with LF.
fn without_cr(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|octet| *octet != b'\r').collect()
}

/// The user and the folders of an Exim.
fn lay_out_user(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    chown(folder, Some(NUMBER), Some(NUMBER))?;
    let user = format!("{USER}:x:{NUMBER}:{NUMBER}::/nonexistent:/usr/sbin/nologin\n");
    fs::write(folder.join("passwd"), fs::read_to_string("/etc/passwd")? + &user)?;
    fs::write(folder.join("group"), fs::read_to_string("/etc/group")? + &format!("{USER}:x:{NUMBER}:\n"))?;
    let spool = folder.join("spool");
    fs::create_dir_all(&spool)?;
    chown(&spool, Some(NUMBER), Some(NUMBER))
}

fn lay_out(folder: &Path, server: SocketAddr, transport: &[String]) -> std::io::Result<()> {
    lay_out_user(folder)?;
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

fn lay_out_server(folder: &Path, address: SocketAddr, main: &[String]) -> std::io::Result<()> {
    lay_out_user(folder)?;
    let root = folder.display();
    let defaults = [
        ("spool_directory", format!("{root}/spool")),
        ("log_file_path", format!("{root}/%slog")),
        ("pid_file_path", format!("{root}/pid")),
        ("log_selector", "+tls_sni +tls_cipher +smtp_protocol_error +smtp_syntax_error".to_owned()),
        ("exim_path", process::program("exim4").display().to_string()),
        ("primary_hostname", "exim.test.example".to_owned()),
        ("keep_environment", String::new()),
        ("local_interfaces", address.ip().to_string()),
        ("daemon_smtp_ports", address.port().to_string()),
        // Without its port it ends instead of trying again.
        ("daemon_startup_retries", "0".to_owned()),
        // Everything belongs to its user already.
        ("deliver_drop_privilege", "true".to_owned()),
        ("acl_smtp_rcpt", "everybody".to_owned()),
        ("chunking_advertise_hosts", "*".to_owned()),
        ("dsn_advertise_hosts", "*".to_owned()),
        ("smtputf8_advertise_hosts", "*".to_owned()),
        ("tls_advertise_hosts", String::new()),
        ("message_size_limit", "0".to_owned()),
        // No limits on connections, and delivery at once for every message of a connection.
        ("smtp_accept_max", "0".to_owned()),
        ("smtp_accept_queue_per_connection", "0".to_owned()),
        ("rfc1413_query_timeout", "0s".to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in defaults {
        // Exim takes no option twice.
        if !main.iter().any(|line| line.split('=').next().unwrap_or_default().trim() == name) {
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    for line in main {
        let _ = writeln!(text, "{line}");
    }
    let _ = write!(
        text,
        "begin acl\neverybody:\n  accept\n\
         begin routers\nkeep:\n  driver = accept\n  transport = keep\n\
         begin transports\nkeep:\n  driver = appendfile\n  directory = {root}/mail\n  maildir_format\n\
         \x20 user = {NUMBER}\n  group = {NUMBER}\n  return_path_add\n  envelope_to_add\n"
    );
    fs::write(folder.join("exim.conf"), text)
}
