//! The servers that are measured, each as its operator would run it for this load.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use inrush_log::Durability;
use inrush_tests::http::Samples;
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Files;
use rustix::process::{Pid, Signal, kill_process};

use super::cpu::Meter;
use super::latency::wait_for_spares;

/// How long a server may take to greet, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the gateway that answers after the durable write.
pub(super) const INRUSH: &str = "inrush";
/// Name of the one that answers before it.
pub(super) const RELAXED: &str = "inrush, relaxed";
/// Name of the yardstick.
pub(super) const FLOOR: &str = "floor";

/// Lines of main.cf without limits on clients and without look-ups.
pub(super) fn unlimited() -> impl Iterator<Item = &'static str> {
    lines(include_str!("../../../../bench/rivals/postfix/main.cf"))
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What a server has done since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Messages accepted.
    pub(crate) accepted: f64,
    /// What else a gateway counts.
    pub(crate) more: Option<More>,
}

/// What a gateway has done beside accepting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct More {
    /// Octets written to the log.
    pub(crate) log_octets: f64,
    /// Writes that they took.
    pub(crate) log_writes: f64,
    /// Octets received and sent.
    pub(crate) wire_octets: f64,
}

/// A running server under measurement.
pub(crate) struct Subject {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// Where it takes mail.
    pub(crate) address: String,
    /// Ended before its control group is removed: fields are dropped in this order.
    process: Process,
    /// Its processor time.
    pub(crate) meter: Meter,
}

enum Process {
    Alone(Alone),
    Floor(Alone, Mutex<BufReader<ChildStdout>>),
    Postfix(#[expect(dead_code, reason = "stops when dropped")] Postfix),
    Inrush(Box<Server>),
}

/// A child that is asked to end when it is dropped.
pub(super) struct Alone(pub(super) Child);

impl Alone {
    fn end(&mut self) {
        // The child is ours and not yet waited for, so its number cannot have been given to another process.
        if let (Ok(None), Some(pid)) =
            (self.0.try_wait(), i32::try_from(self.0.id()).ok().and_then(Pid::from_raw))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        // Kills the one that does not want to.
        process::wait(&mut self.0, Duration::from_secs(10));
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a gateway is started with; everything else is as it comes.
#[derive(Clone, Debug)]
pub(super) struct Gateway<'a> {
    pub(super) binary: &'a Path,
    /// 0 = all.
    pub(super) cores: u16,
    pub(super) durability: Durability,
    /// Where the listener binds.
    pub(super) listen: &'a str,
    /// Octets of sealed segments that it keeps; the others are written again. `None`: it keeps all.
    pub(super) retention_bytes: Option<&'a str>,
    /// What STARTTLS is offered with.
    pub(super) certificate: Option<&'a Files>,
    /// Octets of a segment; `None`: the default.
    pub(super) segment_bytes: Option<&'a str>,
}

/// What is kept by a gateway whose mail is handed on as it comes: with it, segments are recycled and none is filled with zeros while a run goes on.
const RETENTION_BYTES: &str = "128MiB";

impl<'a> Gateway<'a> {
    /// Strict, on loopback.
    pub(super) fn strict(binary: &'a Path, cores: u16) -> Self {
        Self {
            binary,
            cores,
            durability: Durability::Strict,
            listen: "127.0.0.1:0",
            retention_bytes: None,
            certificate: None,
            segment_bytes: None,
        }
    }

    /// With a log that recycles its segments.
    pub(super) fn recycling(self) -> Self {
        Self { retention_bytes: Some(RETENTION_BYTES), ..self }
    }
}

impl Subject {
    /// Postfix's test server: speaks SMTP and stores nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn smtp_sink() -> anyhow::Result<Self> {
        let address = free_port().to_string();
        let mut command = vec![process::program("smtp-sink").display().to_string()];
        command.extend(["-u", "postfix", address.as_str(), "1000"].map(str::to_owned));
        Self::spawn("smtp-sink", &address, &command, None)
    }

    /// The server that is started by these words and takes mail on `address`; its output goes to `log`, or nowhere.
    ///
    /// # Errors
    /// It cannot be started, or does not greet.
    pub(super) fn spawn(
        name: &'static str,
        address: &str,
        words: &[String],
        log: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut meter = Meter::new(name);
        let mut command = launched(&meter, words)?;
        command.stdin(Stdio::null());
        match log {
            Some(log) => {
                let file = fs::File::create(log)?;
                command.stdout(file.try_clone()?).stderr(file);
            }
            None => {
                command.stdout(Stdio::null());
            }
        }
        let child = Alone(command.spawn().with_context(|| name.to_owned())?);
        meter.started(child.0.id());
        let mut subject = Self { name, address: address.to_owned(), process: Process::Alone(child), meter };
        subject.wait_for_greeting().with_context(|| {
            let said = log.map(|log| fs::read_to_string(log).unwrap_or_default()).unwrap_or_default();
            format!("{name} does not take mail: {said}")
        })?;
        Ok(subject)
    }

    /// The yardstick on `listen`, on `cores` cores (0 = all), with STARTTLS if there is a certificate.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn floor(
        binary: &Path,
        cores: u16,
        listen: &str,
        certificate: Option<&Files>,
    ) -> anyhow::Result<Self> {
        let mut meter = Meter::new(FLOOR);
        let words = [&binary.display().to_string(), "--listen", listen, "--cores", &cores.to_string()];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        if let Some(Files { certificate, key }) = certificate {
            let files = [("--certificate", certificate), ("--key", key)];
            words.extend(
                files.into_iter().flat_map(|(option, path)| [option.to_owned(), path.display().to_string()]),
            );
        }
        let mut command = launched(&meter, &words)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = Alone(child.with_context(|| binary.display().to_string())?);
        meter.started(child.0.id());
        let mut lines = BufReader::new(child.0.stdout.take().context("no standard output")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address =
            line.trim().strip_prefix("listening ").context("inrush-floor does not listen")?.to_owned();
        Ok(Self { name: FLOOR, address, process: Process::Floor(child, Mutex::new(lines)), meter })
    }

    /// Postfix with its queue below `folder`.
    pub(crate) fn postfix(folder: &Path) -> Self {
        let mut meter = Meter::new("postfix");
        let listen = free_port();
        let receiver = lines(include_str!("../../../../bench/rivals/postfix/receiver.cf"));
        let postfix = Postfix::start(&Purpose {
            listen: Some(listen),
            main: unlimited().chain(receiver).map(str::to_owned).collect(),
            queue: Some(folder.join("postfix-queue")),
            launcher: meter.launcher(),
            ..Purpose::default()
        });
        if let Some(master) = postfix.master() {
            meter.started(master);
        }
        Self { name: "postfix", address: listen.to_string(), process: Process::Postfix(postfix), meter }
    }

    /// The gateway with its log below `folder`.
    pub(super) fn inrush(folder: &Path, gateway: &Gateway<'_>) -> Self {
        let (name, durability) = match gateway.durability {
            Durability::Relaxed => (RELAXED, "relaxed"),
            Durability::Strict => (INRUSH, "strict"),
        };
        let mut meter = Meter::new(&format!("inrush-{durability}"));
        let settings = Settings {
            address: gateway.listen.to_owned(),
            launcher: meter.launcher(),
            binary: Some(gateway.binary.into()),
            top: vec![format!("cores = {}", gateway.cores)],
            listener: gateway.certificate.map(|_| "tls = \"starttls\"".to_owned()).into_iter().collect(),
            tables: gateway
                .certificate
                .map(|files| format!("[tls]\n{}", files.lines()))
                .into_iter()
                .collect(),
            ..Settings::default()
        };
        let mut log = vec![format!("durability = \"{durability}\"")];
        log.extend(gateway.retention_bytes.map(|octets| format!("retention_bytes = \"{octets}\"")));
        log.extend(gateway.segment_bytes.map(|octets| format!("segment_bytes = \"{octets}\"")));
        let log: Vec<&str> = log.iter().map(String::as_str).collect();
        let data: PathBuf = folder.join(format!("{}-data", name.replace(", ", "-")));
        let server = Server::with(settings.data(&data).log(&log));
        meter.started(server.pid());
        Self { name, address: server.mx().to_string(), process: Process::Inrush(Box::new(server)), meter }
    }

    /// What it says it has done, where it says so.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn done(&self) -> anyhow::Result<Option<Done>> {
        match &self.process {
            Process::Inrush(server) => {
                // A core shows what its log counts once a second.
                thread::sleep(Duration::from_millis(1200));
                let samples = Samples::scrape(server.admin());
                let sum = |name: &str| samples.sum(name, &[]);
                let accepted = sum("inrush_messages_accepted_total");
                let more = More {
                    log_octets: sum("inrush_log_written_bytes_total"),
                    log_writes: sum("inrush_log_batches_total"),
                    wire_octets: sum("inrush_received_bytes_total") + sum("inrush_sent_bytes_total"),
                };
                Ok(Some(Done { accepted, more: Some(more) }))
            }
            Process::Floor(child, lines) => {
                let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw).context("no process")?;
                kill_process(pid, Signal::USR1)?;
                let mut line = String::new();
                let mut lines = lines.lock().map_err(|_| anyhow::anyhow!("another thread has failed"))?;
                lines.read_line(&mut line)?;
                let count = line.trim().strip_prefix("accepted ").context("inrush-floor does not count")?;
                Ok(Some(Done { accepted: count.parse()?, more: None }))
            }
            Process::Alone(_) | Process::Postfix(_) => Ok(None),
        }
    }

    /// Waits until what the last run has left behind is done: the gateway has spare segments again.
    pub(super) fn settle(&self) {
        if let Process::Inrush(server) = &self.process {
            // What a log that recycles has more than it needs waits for its turn as it is.
            wait_for_spares(server);
        }
    }

    /// Segments of a gateway's log, and its resident memory in MiB.
    pub(super) fn log_and_memory(&self) -> Option<(f64, f64)> {
        let Process::Inrush(server) = &self.process else { return None };
        let segments = Samples::scrape(server.admin()).sum("inrush_log_segments", &[]);
        Some((segments, status_mib(server.pid(), "VmRSS:")?))
    }

    /// Ends the gateway with SIGKILL and starts it on the same data, on another port; seconds from the start to where it takes mail.
    pub(super) fn kill_and_start_again(&mut self) -> Option<f64> {
        let Process::Inrush(server) = &mut self.process else { return None };
        server.kill9();
        let begin = Instant::now();
        server.restart();
        server.wait_until_accepting();
        let seconds = begin.elapsed().as_secs_f64();
        self.address = server.mx().to_string();
        self.meter.started(server.pid());
        Some(seconds)
    }

    /// Its process, where it is one and no more.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Inrush(server) => Some(server.pid()),
            Process::Floor(child, _) => Some(child.0.id()),
            Process::Alone(_) | Process::Postfix(_) => None,
        }
    }

    /// From now on [`peak_memory_mib`](Self::peak_memory_mib) counts (`clear_refs` of proc_pid(5), 5).
    pub(super) fn forget_peak_memory(&self) {
        if let Some(pid) = self.pid() {
            // Where it is refused, the peak is that since the start.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Most resident memory since [`forget_peak_memory`](Self::forget_peak_memory), of a server of one process: `VmHWM`.
    pub(super) fn peak_memory_mib(&self) -> Option<f64> {
        status_mib(self.pid()?, "VmHWM:")
    }

    fn wait_for_greeting(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if greets(&self.address) {
                return Ok(());
            }
            if let Process::Alone(child) = &mut self.process
                && let Some(status) = child.0.try_wait()?
            {
                bail!("it has ended: {status}");
            }
            ensure!(Instant::now() < deadline, "no greeting within {} s", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Process::Alone(child) = &mut self.process {
            child.end();
            self.meter.end_the_rest();
        }
    }
}

/// A line of /proc/PID/status in kB, as MiB.
pub(super) fn status_mib(pid: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"))?;
    Some(kib.trim().parse::<f64>().ok()? / 1024.0)
}

fn launched(meter: &Meter, words: &[String]) -> anyhow::Result<Command> {
    let all = [meter.launcher().as_slice(), words].concat();
    let (program, arguments) = all.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn greets(address: &str) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    let mut line = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("220")
}
