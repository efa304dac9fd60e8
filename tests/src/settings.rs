//! The config file of a server under test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Only a test of a time limit may meet one, however busy the machine is.
const PATIENT_LIMITS: [(&str, &str); 5] = [
    ("idle_timeout", "1h"),
    ("transaction_timeout", "1h"),
    ("session_timeout", "1h"),
    ("handshake_timeout", "1h"),
    ("min_data_rate_window", "1h"),
];

/// Only a test of pressure may come under it.
const PATIENT_PRESSURE: [(&str, &str); 5] = [
    ("slow_after", "10m"),
    ("backlog_max", "10m"),
    ("idle_timeout", "1h"),
    ("transaction_timeout", "1h"),
    ("stop_accepting_after", "1h"),
];

/// What a test sets apart from the defaults. Everything listens on loopback, on ports that the kernel chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the listener `mx` binds.
    pub address: String,
    /// Top-level lines, each `key = value`.
    pub top: Vec<String>,
    /// Lines of the `[log]` table.
    pub log: Vec<String>,
    /// Lines of the `[admin]` table.
    pub admin: Vec<String>,
    /// Lines of the `[[listener]]` table.
    pub listener: Vec<String>,
    /// Lines of the `[limits]` table.
    pub limits: Vec<String>,
    /// Lines of the `[pressure]` table.
    pub pressure: Vec<String>,
    /// `hostname`.
    pub hostname: String,
    /// Further tables, as they are.
    pub tables: Vec<String>,
    /// Domains by name; `"*"` is every other one.
    pub domains: Vec<(String, Recipients)>,
    /// Where the log is; `None` = a fresh folder of its own.
    pub data: Option<PathBuf>,
    /// The gateway to run; `None` = [`crate::binary::inrush`].
    pub binary: Option<PathBuf>,
    /// A program with arguments that ends by becoming the server, e.g. `prlimit --nofile=64:64`.
    pub launcher: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".into(),
            top: Vec::new(),
            // Small segments: each test meets several, and a spare is written in no time.
            log: vec!["segment_bytes = \"4MiB\"".into(), "free_bytes_min = \"16MiB\"".into()],
            admin: Vec::new(),
            listener: Vec::new(),
            limits: Vec::new(),
            pressure: Vec::new(),
            tables: Vec::new(),
            hostname: "mx.test.example".into(),
            domains: vec![("example.com".into(), Recipients::Any)],
            data: None,
            binary: None,
            launcher: Vec::new(),
        }
    }
}

impl Settings {
    /// The same with the named engine, `"io_uring"` or `"epoll"`.
    #[must_use]
    pub fn engine(mut self, name: &str) -> Self {
        self.top.push(format!("engine = \"{name}\""));
        self
    }

    /// The same with known recipients instead of any.
    #[must_use]
    pub fn recipients(mut self, addresses: &[&str]) -> Self {
        let list = addresses.iter().map(|address| (*address).to_owned()).collect();
        self.domains = vec![("example.com".into(), Recipients::Listed(list))];
        self
    }

    /// The same with this line in the `[[listener]]` table.
    #[must_use]
    pub fn listener(mut self, line: &str) -> Self {
        self.listener.push(line.into());
        self
    }

    /// The same with these tables besides.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push(text.into());
        self
    }

    /// The same with the log in this folder.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// The same with these lines as the whole `[log]` table.
    #[must_use]
    pub fn log(mut self, lines: &[&str]) -> Self {
        self.log = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// The text of the config file. Lists of recipients lie in `folder`, each named after its domain.
    pub(crate) fn text(&self, data: &Path, folder: &Path) -> String {
        let mut text = format!("hostname = \"{}\"\ndata_dir = \"{}\"\n", self.hostname, data.display());
        lines(&mut text, &self.top);
        let address = &self.address;
        let _ = write!(text, "\n[[listener]]\nname = \"mx\"\naddress = [\"{address}\"]\n");
        lines(&mut text, &self.listener);
        for (name, recipients) in &self.domains {
            let recipients = match recipients {
                Recipients::Any => "any".to_owned(),
                Recipients::Listed(_) => format!("file:{}", recipients_file(folder, name).display()),
            };
            let _ = write!(text, "\n[[domain]]\nname = \"{name}\"\nrecipients = \"{recipients}\"\n");
        }
        text.push_str("\n[log]\n");
        lines(&mut text, &self.log);
        if !is_named(&self.log, "hung_after") {
            text.push_str("hung_after = \"10m\"\n");
        }
        text.push_str("\n[limits]\n");
        lines(&mut text, &self.limits);
        patience(&mut text, &self.limits, &PATIENT_LIMITS);
        text.push_str("\n[pressure]\n");
        lines(&mut text, &self.pressure);
        patience(&mut text, &self.pressure, &PATIENT_PRESSURE);
        text.push('\n');
        lines(&mut text, &self.tables);
        text.push_str("\n[admin]\naddress = \"127.0.0.1:0\"\n");
        lines(&mut text, &self.admin);
        text
    }
}

/// Who gets mail in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Everybody.
    Any,
    /// These addresses.
    Listed(Vec<String>),
}

/// The list of a domain.
pub fn recipients_file(folder: &Path, domain: &str) -> PathBuf {
    folder.join(format!("recipients.{domain}"))
}

fn lines(text: &mut String, lines: &[String]) {
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
}

/// Those of `defaults` that are not set.
fn patience(text: &mut String, set: &[String], defaults: &[(&str, &str)]) {
    for (name, value) in defaults.iter().filter(|(name, _)| !is_named(set, name)) {
        let _ = writeln!(text, "{name} = \"{value}\"");
    }
}

fn is_named(lines: &[String], name: &str) -> bool {
    lines.iter().any(|line| line.split('=').next().unwrap_or_default().trim() == name)
}
