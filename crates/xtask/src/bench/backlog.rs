//! Mail for a destination that does not take it: the load, and what the gateway says it owes.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use serde_json::Value;

use super::abuse::lower_priority;
use super::generator;

/// Longest wait until the queue has taken up what was acknowledged.
const PATIENCE: Duration = Duration::from_secs(600);

/// A gateway with these tables, strict durability and its data in `data`; everything else as it comes.
pub(super) fn gateway(binary: &Path, data: &Path, tables: &str) -> Server {
    let settings = Settings { binary: Some(binary.into()), domains: Vec::new(), ..Settings::default() };
    Server::with(settings.data(data).log(&["durability = \"strict\""]).tables(tables))
}

/// What is sent with `inrush-load`, for recipients in `example.com`.
pub(super) struct Load {
    pub(super) program: PathBuf,
    /// Octets of a message.
    pub(super) length: u32,
    pub(super) sessions: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// All that was acknowledged, unmeasured messages included.
    pub(super) acknowledged: u64,
    /// Messages a second.
    pub(super) rate: f64,
}

impl Load {
    /// So many messages as fast as they are taken.
    ///
    /// # Errors
    /// One is refused or lost.
    pub(super) fn send(&self, to: SocketAddr, messages: u32, unmeasured: Duration) -> anyhow::Result<Sent> {
        let mut command = self.command(to);
        command.args(["--closed", "--messages", &messages.to_string()]);
        command.args(["--warmup", &format!("{}ms", unmeasured.as_millis())]);
        Sending(spawn(&mut command)?).finish()
    }

    /// Begins to send so many messages a second. Its processor time has the lowest priority, since in truth the sender has a machine of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn begin(&self, to: SocketAddr, rate: u32, lasting: Duration) -> anyhow::Result<Sending> {
        let mut command = self.command(to);
        command.args(["--rate", &rate.to_string(), "--duration", &format!("{}ms", lasting.as_millis())]);
        // A process has the priority of the thread that starts it.
        let start = move || {
            lower_priority();
            spawn(&mut command)
        };
        let child = thread::spawn(start).join().map_err(|_| anyhow!("the thread that starts the load"))?;
        Ok(Sending(child?))
    }

    fn command(&self, to: SocketAddr) -> Command {
        generator::kept_connections(&self.program, to, self.length, self.sessions)
    }
}

/// A load that is being sent. Dropped, it ends.
pub(super) struct Sending(Child);

impl Sending {
    /// Waits for its end.
    ///
    /// # Errors
    /// A message was refused or lost, or more than one in a hundred could not be sent in time.
    pub(super) fn finish(mut self) -> anyhow::Result<Sent> {
        let mut text = String::new();
        self.0.stdout.take().context("no output")?.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "inrush-load: {status}\n{text}");
        let report: Value = serde_json::from_str(&text)?;
        let count = |name: &str| report[name]["acknowledged"].as_u64().context("no count");
        let acknowledged = count("counts")? + count("warmup_counts")?;
        // A few at the end are nothing: its process runs when nobody else does.
        let late = report["open_loop"]["not_sent"].as_u64().unwrap_or(0);
        ensure!(
            late <= acknowledged / 100,
            "{late} messages could not be sent in time: the machine is too slow for this rate"
        );
        Ok(Sent { acknowledged, rate: report["messages_per_second"].as_f64().context("no rate")? })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("inrush-load")
}

/// Waits until the gateway counts exactly so many messages, of one recipient each, that it owes. With `all_deferred` none may be on its first way.
///
/// # Errors
/// It counts another number for ten minutes.
pub(super) fn wait_until_owed(server: &Server, messages: u64, all_deferred: bool) -> anyhow::Result<()> {
    let counts = || {
        let samples = Samples::scrape(server.admin());
        let deferred = samples.sum("inrush_queue_entries", &["reason=\"deferred\""]);
        (deferred, samples.sum("inrush_queue_messages_under_way", &[]))
    };
    let expected = messages as f64;
    let holds = || {
        let (deferred, under_way) = counts();
        if all_deferred { deferred == expected && under_way == 0.0 } else { deferred + under_way == expected }
    };
    let told = process::holds_within(PATIENCE, holds);
    let (deferred, under_way) = counts();
    ensure!(told, "{messages} messages are owed; the queue has {deferred} deferred, {under_way} under way");
    Ok(())
}
