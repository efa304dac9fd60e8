//! Who takes spans by OTLP over HTTP: a server in Python that decodes them with OpenTelemetry's own messages.
//!
//! These come with `opentelemetry-proto`, which `cargo xtask packages` puts into `target/tools`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::tls::Files;
use crate::{binary, process};

/// The running server; ended when dropped.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Starts one that takes everything.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::answering(200, None)
    }

    /// Starts one that answers with this status, and speaks TLS where it has a certificate.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn answering(status: u16, files: Option<&Files>) -> Self {
        let modules = binary::folder("../target/tools/opentelemetry-proto");
        assert!(modules.is_dir(), "{} is not there; `cargo xtask packages` installs it", modules.display());
        let mut command = process::command("python3", [binary::folder("src/collector.py")]);
        command.arg(status.to_string()).env("PYTHONPATH", modules).stdout(Stdio::piped());
        if let Some(files) = files {
            command.arg(&files.certificate).arg(&files.key);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("no collector: {error}"));
        let Some(output) = child.stdout.take() else { panic!("no output") };
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let port = lines.next().and_then(|line| line.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the collector has not started"));
        let spans = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&spans);
        std::thread::spawn(move || {
            for line in lines {
                let span = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                received.lock().unwrap_or_else(PoisonError::into_inner).push(span);
            }
        });
        Self { child, port, spans }
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The spans so far, in the order in which they came.
    pub fn spans(&self) -> Vec<Value> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for so many of this name; those.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn wait_for(&self, name: &str, count: usize) -> Vec<Value> {
        let named = || self.spans().into_iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
        let come = process::holds_within(process::PATIENCE, || named().len() >= count);
        assert!(come, "never {count} spans {name:?}: {:#?}", self.spans());
        named()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
