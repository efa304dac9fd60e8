//! One run of a generator against one server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::servers::Subject;
use crate::run;

/// A run that takes longer has failed.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Which program sends the load. Both take the short options of smtp-source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Generator {
    SmtpSource,
    InrushLoad,
}

impl Generator {
    /// As it is called on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SmtpSource => "smtp-source",
            Self::InrushLoad => "inrush-load",
        }
    }
}

/// A load: who sends it, how, and from where.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) generator: Generator,
    pub(super) program: PathBuf,
    /// Options, without the number of messages and the target.
    pub(super) options: Vec<String>,
    /// Generators at a time; the messages are shared out.
    pub(super) sources: u32,
}

/// What a run has told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sent {
    /// Messages that were acknowledged: all that were asked for, or the run has failed.
    pub(super) messages: f64,
    /// Of `inrush-load`, which leaves its own start and end out; else over the whole run.
    pub(super) rate: f64,
    /// Microseconds from the start of a message to its final reply, where the generator says so.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// Processor time of the generator a message in microseconds, where it says so.
    pub(super) generator_cpu_us: Option<f64>,
    /// Processor time of the server a message in microseconds over the measured window, where that was asked for.
    pub(super) server_cpu_us: Option<f64>,
}

impl Load {
    /// `inrush-load` with these options.
    pub(super) fn inrush_load(program: &Path, options: Vec<String>) -> Self {
        Self { generator: Generator::InrushLoad, program: program.to_owned(), options, sources: 1 }
    }

    /// Sends so many messages to `address` and waits for the end.
    ///
    /// # Errors
    /// A generator cannot be started, fails, takes too long, or has fewer acknowledgements than messages.
    pub(super) fn run(&self, address: &str, messages: u32) -> anyhow::Result<Sent> {
        let each = (messages / self.sources).max(1);
        let scratch = tempfile::tempdir()?;
        let begin = Instant::now();
        let mut sources = Vec::new();
        for number in 0..self.sources {
            let mut command = Command::new(&self.program);
            if self.generator == Generator::InrushLoad {
                command.args(["run", "--quiet", "--json"]).arg(scratch.path().join(number.to_string()));
            }
            command.args(&self.options).args(["-m", &each.to_string()]).arg(address);
            // For the case that it fails: smtp-source says nothing.
            let said = fs::File::create(scratch.path().join(format!("said.{number}")))?;
            command.stdin(Stdio::null()).stdout(said);
            sources.push(command.spawn().with_context(|| self.program.display().to_string())?);
        }
        let deadline = begin + RUN_LIMIT;
        let mut failed = Vec::new();
        for (number, mut source) in sources.into_iter().enumerate() {
            let said =
                || fs::read_to_string(scratch.path().join(format!("said.{number}"))).unwrap_or_default();
            match run::wait_until(&mut source, deadline) {
                Ok(status) if status.success() => {}
                Ok(status) => failed.push(format!("{status}\n{}", said())),
                Err(error) => failed.push(format!("{error}\n{}", said())),
            }
        }
        if !failed.is_empty() {
            bail!("{} against {address}: {}", self.generator.name(), failed.join(", "));
        }
        let messages = f64::from(each * self.sources);
        let whole = Sent { messages, rate: messages / begin.elapsed().as_secs_f64(), ..Sent::default() };
        if self.generator == Generator::SmtpSource || self.sources > 1 {
            return Ok(whole);
        }
        let told: Value = serde_json::from_str(&fs::read_to_string(scratch.path().join("0"))?)?;
        let sent = read(&told).context("not the JSON of inrush-load")?;
        ensure!(sent.messages == messages, "{} of {messages} messages were acknowledged", sent.messages);
        Ok(sent)
    }
}

/// A measured run: what was sent, and what it has cost the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) sent: Sent,
    /// Processor time of the whole server a message, in microseconds.
    pub(super) cpu_us: f64,
    /// Most resident memory in MiB, of a server of one process.
    pub(super) memory_mib: Option<f64>,
    /// Of a gateway.
    pub(super) uses: Option<Uses>,
}

/// What a message takes of disk and network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    /// Octets written to the log.
    pub(super) log_octets: f64,
    /// Messages that became durable with one write.
    pub(super) messages_per_write: f64,
    /// Octets received and sent, without the headers of TCP and IP.
    pub(super) wire_octets: f64,
}

/// A short unmeasured run of a tenth of the messages, then the measured one.
///
/// # Errors
/// The load fails, the server counts other messages than those that were sent, or there are so few that they have cost it nothing that is counted.
pub(super) fn measure(subject: &Subject, load: &Load, messages: u32) -> anyhow::Result<Measured> {
    load.run(&subject.address, (messages / 10).max(1))?;
    subject.settle();
    let before = subject.done()?;
    subject.forget_peak_memory();
    let cpu = subject.meter.read()?;
    let sent = load.run(&subject.address, messages)?;
    let cpu = subject.meter.read()?.saturating_sub(cpu);
    let mut uses = None;
    if let (Some(before), Some(after)) = (before, subject.done()?) {
        let accepted = after.accepted - before.accepted;
        ensure!(accepted == sent.messages, "{} accepted {accepted} of {}", subject.name, sent.messages);
        uses = before.more.zip(after.more).map(|(before, after)| Uses {
            log_octets: (after.log_octets - before.log_octets) / sent.messages,
            messages_per_write: sent.messages / (after.log_writes - before.log_writes),
            wire_octets: (after.wire_octets - before.wire_octets) / sent.messages,
        });
    }
    // A process tree is counted in ticks.
    ensure!(!cpu.is_zero(), "{}: {messages} messages are too few to be measured", subject.name);
    let cpu_us = cpu.as_secs_f64() * 1e6 / sent.messages;
    Ok(Measured { sent, cpu_us, memory_mib: subject.peak_memory_mib(), uses })
}

/// Field by field, as loadgen/README.md has them.
fn read(told: &Value) -> Option<Sent> {
    let total = &told["latency_us"]["total"];
    Some(Sent {
        messages: told["counts"]["acknowledged"].as_f64()?,
        rate: told["messages_per_second"].as_f64()?,
        p50_us: total["p50"].as_f64(),
        p99_us: total["p99"].as_f64(),
        generator_cpu_us: told["generator_cpu"]["us_per_message"].as_f64(),
        server_cpu_us: told["server_cpu"]["us_per_message"].as_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_generator_tells() {
        let told = serde_json::json!({
            "counts": { "acknowledged": 100 }, "messages_per_second": 2000.5,
            "latency_us": { "total": { "p50": 12.0, "p99": 40.0 } },
            "generator_cpu": { "us_per_message": 7.5 }, "server_cpu": null,
        });
        let sent = read(&told).expect("all is there");
        assert_eq!(
            (sent.messages, sent.rate, sent.p50_us, sent.p99_us),
            (100.0, 2000.5, Some(12.0), Some(40.0))
        );
        assert_eq!((sent.generator_cpu_us, sent.server_cpu_us), (Some(7.5), None));
        assert_eq!(read(&serde_json::json!({})), None);
    }
}
