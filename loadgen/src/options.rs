//! The command line of `inrush-load`, and its way into a [`Plan`].

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inrush_proto::client::{Pipelining, Protocol, Transfer};

use crate::compare::CompareOptions;
use crate::content::{Content, ContentSettings};
use crate::html::ReportOptions;
use crate::pacer::Arrivals;
use crate::plan::{Engine, Pace, Plan};
use crate::sink::SinkOptions;
use crate::sizes::Sizes;
use crate::template::Template;
use crate::units;
use crate::verify::{Copies, Store};

/// Most transactions in flight on a connection: their replies must fit into the socket buffers, since nothing is read
/// while a group is written.
const IN_FLIGHT_MAX: u64 = 256;

/// Load generator for SMTP and LMTP servers.
#[derive(Debug, Parser)]
#[command(name = "inrush-load", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send mail to a server and report rates, latencies and errors.
    ///
    /// Exit code: 0 every message was acknowledged; 1 errors beyond --errors-max; 2 wrong usage; 3 the target cannot be
    /// reached; 4 an acknowledged message was not found again by --verify.
    Run(Box<RunOptions>),
    /// Write runs as one HTML page with plots that needs nothing else.
    ///
    /// Exit code: 0; 2 wrong usage, a file that cannot be read or written.
    Report(ReportOptions),
    /// Compare two groups of runs: by how much they differ, and how sure that is.
    ///
    /// Exit code: 0; 1 shown to be worse by more than --fail-if-worse; 2 wrong usage, a file that cannot be read, too few runs.
    Compare(CompareOptions),
    /// Be an SMTP or LMTP server that takes mail and throws it away, keeps it, or misbehaves as it is told.
    ///
    /// Exit code: 0; 2 wrong usage, an address or a file that cannot be had.
    Sink(Box<SinkOptions>),
}

/// `--pipelining`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PipeliningOption {
    /// Send groups even when the server does not offer PIPELINING.
    On,
    /// One command, one reply.
    Off,
    /// When offered.
    Auto,
}

/// `--mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeOption {
    /// DATA.
    Data,
    /// BDAT LAST, one chunk a message.
    Bdat,
}

/// `--arrivals`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArrivalsOption {
    /// Equal distances.
    Uniform,
    /// Exponential distances.
    Poisson,
}

/// Options of `run`. Short names are those of Postfix's smtp-source where they mean the same.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("amount").required(true).multiple(true).args(["messages", "duration"]))]
pub struct RunOptions {
    /// Server, HOST:PORT; several, separated by commas, are used in turn.
    #[arg(default_value = "127.0.0.1:2525", value_delimiter = ',')]
    pub target: Vec<String>,

    /// Connections at the same time, over all cores.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// End after so many messages (those of the warm-up not counted).
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// End after so much time (warm-up not counted), e.g. 30s.
    #[arg(short = 'D', long, value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Time before the measured window; its messages are sent but left out of the figures.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    pub warmup: Duration,

    /// Payload of a message in octets, header not counted: 4096, uniform:1024-65536, lognormal:MEDIAN,SIGMA, mix:1024=50,4096=50.
    #[arg(short, long, value_name = "SIZES", default_value = "4096")]
    pub length: Sizes,
    /// Recipients of each message.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub recipients: u32,
    /// Reverse-path; {number} is the number of the message.
    #[arg(short, long, value_name = "ADDRESS", default_value = "load@inrush.example")]
    pub from: String,
    /// Forward-path; {number} is the number of the message, {recipient} the index of the recipient (in front when missing and --recipients > 1).
    #[arg(short, long, value_name = "ADDRESS", default_value = "recipient@inrush.example")]
    pub to: String,
    /// Name in EHLO.
    #[arg(short = 'M', long, value_name = "NAME", default_value = "inrush-load.invalid")]
    pub hello: String,
    /// Speak LMTP.
    #[arg(short = 'L', long)]
    pub lmtp: bool,

    /// Keep connections open for any number of messages.
    #[arg(short, long, conflicts_with = "messages_per_connection")]
    pub dont_disconnect: bool,
    /// Messages of one connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages_per_connection: u64,

    /// Closed loop: each session sends its next message when the one before is answered (the default without --rate).
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,
    /// Open loop: start so many messages a second whatever the server does; latency counts from the planned start.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Distances of planned starts.
    #[arg(long, value_enum, default_value = "uniform", requires = "rate")]
    pub arrivals: ArrivalsOption,

    /// Group commands (RFC 2920).
    #[arg(long, value_enum, default_value = "auto")]
    pub pipelining: PipeliningOption,
    /// How mail data goes.
    #[arg(long, value_enum, default_value = "data")]
    pub mode: ModeOption,
    /// Transactions under way on one connection; more than one needs PIPELINING.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=IN_FLIGHT_MAX))]
    pub in_flight: u64,
    /// Declare SIZE= in MAIL where it is offered.
    #[arg(long)]
    pub declare_size: bool,
    /// Percent of the payload's lines that begin with a dot.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub dot_lines: u8,
    /// Same seed, same payloads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: u16,
    /// CPUs to pin the threads to, in turn, e.g. 0,2.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// How to wait for the network.
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: Engine,

    /// Longest wait for a reply.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub timeout: Duration,
    /// How long an interrupted run waits for messages under way.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    pub grace: Duration,
    /// Errors that leave the exit code 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub errors_max: u64,
    /// End the run when there are more errors than --errors-max.
    #[arg(long)]
    pub fail_fast: bool,
    /// Permit targets outside of this machine.
    #[arg(long)]
    pub allow_remote: bool,

    /// Write the figures as JSON, `-` for standard output (the table then goes to standard error).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the distribution of total latency in HdrHistogram's text form (microseconds).
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Append a line `ID N CRC32C OCTETS` for each acknowledged message, as soon as its reply came.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// After the run, find every acknowledged message again, whole and as often as promised: in the logs of this data directory of the
    /// gateway (DIR), in Maildirs (maildir:DIR), in an mbox (mbox:FILE), in files of smtp-sink -d (smtp-sink:DIR).
    #[arg(long, value_name = "STORE")]
    pub verify: Option<Store>,
    /// Whether the store holds a message once for each recipient or once [default: recipient for maildir and mbox, else message].
    #[arg(long, value_enum, requires = "verify")]
    pub verify_copies: Option<Copies>,
    /// Longest wait for mail that is not delivered yet (not for DIR: there a 250 is the delivery).
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub verify_wait: Duration,
    /// Report the CPU time of this process per message; may be given several times.
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// Account for the children of --server-pid too.
    #[arg(long, requires = "server_pid")]
    pub server_children: bool,
    /// Words that go into the JSON and the report, e.g. server=postfix-3.10; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub label: Vec<String>,
    /// No progress line.
    #[arg(short, long)]
    pub quiet: bool,
}

impl RunOptions {
    /// Checks and resolves.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn plan(&self, run: u64, date: &str) -> Result<Plan, String> {
        let targets = self.resolve()?;
        let pace = match self.rate {
            None => Pace::Closed,
            Some(rate) if rate.is_finite() && (1e-3..=1e8).contains(&rate) => {
                let arrivals = match self.arrivals {
                    ArrivalsOption::Uniform => Arrivals::Uniform,
                    ArrivalsOption::Poisson => Arrivals::Poisson,
                };
                Pace::Open(rate, arrivals)
            }
            Some(rate) => return Err(format!("--rate {rate} is outside of 0.001 to 100000000")),
        };
        if self.hello.is_empty() || self.hello.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(format!("--hello {:?} is not a name", self.hello));
        }
        let cores = usize::from(self.cores);
        let sessions = self.sessions as usize;
        if sessions < cores {
            return Err(format!("{sessions} sessions cannot use {cores} cores"));
        }
        if self.in_flight > 1 && self.pipelining == PipeliningOption::Off {
            return Err("--in-flight above 1 needs pipelining".to_owned());
        }
        Ok(Plan {
            targets,
            sessions,
            messages: self.messages,
            duration: self.duration,
            warmup: self.warmup,
            pace,
            messages_per_connection: (!self.dont_disconnect).then_some(self.messages_per_connection),
            in_flight: usize::try_from(self.in_flight).unwrap_or(1),
            recipients: self.recipients,
            protocol: if self.lmtp { Protocol::Lmtp } else { Protocol::Smtp },
            pipelining: match self.pipelining {
                PipeliningOption::On => Pipelining::Force,
                PipeliningOption::Off => Pipelining::Off,
                PipeliningOption::Auto => Pipelining::Auto,
            },
            transfer: match self.mode {
                ModeOption::Data => Transfer::Data,
                ModeOption::Bdat => Transfer::Chunks,
            },
            declare_size: self.declare_size,
            hello: self.hello.clone(),
            from: Template::parse(&self.from, false)?,
            to: Template::parse(&self.to, self.recipients > 1)?,
            content: Content::new(&ContentSettings {
                seed: self.seed,
                run,
                sizes: self.length.clone(),
                from: &self.from,
                date,
                dot_lines_percent: self.dot_lines,
            }),
            cores,
            cpus: self.cpus.clone(),
            engine: self.engine,
            timeout: self.timeout,
            grace: self.grace,
            errors_max: self.errors_max,
            fail_fast: self.fail_fast,
            keep_ids: self.verify.is_some(),
        })
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let mut targets = Vec::new();
        for target in &self.target {
            let address = target
                .to_socket_addrs()
                .map_err(|error| format!("{target}: {error} (HOST:PORT is expected)"))?
                .next()
                .ok_or_else(|| format!("{target} has no address"))?;
            if !address.ip().is_loopback() && !self.allow_remote {
                return Err(format!(
                    "{target} is not on this machine; load for the servers of others is abuse. With --allow-remote if it is yours"
                ));
            }
            targets.push(address);
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn options(line: &str) -> Result<Plan, String> {
        let words = ["inrush-load", "run"].into_iter().chain(line.split_ascii_whitespace());
        let parsed = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(options) = parsed.command else { return Err("another command".to_owned()) };
        options.plan(1, "Sat, 21 Nov 2026 21:44:57 +0000")
    }

    #[test]
    fn words_of_smtp_source() {
        let plan = options("-s 50 -m 1000 -l 4096 -r 3 -d -f a@b -t c@d -M me 127.0.0.1:25").unwrap();
        assert_eq!((plan.sessions, plan.messages, plan.recipients), (50, Some(1000), 3));
        assert_eq!(plan.messages_per_connection, None);
        assert_eq!(plan.targets, [SocketAddr::from(([127, 0, 0, 1], 25))]);
        assert_eq!(plan.pace, Pace::Closed);
    }

    #[test]
    fn always_bounded() {
        assert!(options("-s 5").is_err());
        assert!(options("--duration 5s").is_ok());
    }

    #[test]
    fn remote_targets_must_be_allowed() {
        assert!(options("-m 1 192.0.2.1:25").unwrap_err().contains("--allow-remote"));
        assert!(options("-m 1 127.0.0.1:25,192.0.2.1:25").is_err());
        assert!(options("-m 1 [::1]:25").is_ok());
        assert!(options("-m 1 --allow-remote 192.0.2.1:25").is_ok());
    }

    #[test]
    fn contradictions() {
        for line in [
            "-m 1 --closed --rate 5",
            "-m 1 --rate 0",
            "-m 1 --rate nan",
            "-m 0",
            "-m 1 -s 1 --cores 2",
            "-m 1 --in-flight 4 --pipelining off",
            "-m 1 --in-flight 1000",
            "-m 1 -d --messages-per-connection 4",
            "-m 1 -l 1..5",
            "-m 1 nowhere",
            "-m 1 --server-children",
            "-m 1 -t a<b@c",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
        assert!(options("-m 1 -s 4 --in-flight 4").is_ok());
    }
}
