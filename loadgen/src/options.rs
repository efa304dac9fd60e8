//! The command line of `inrush-load`.
//!
//! An option that a profile may set too is `None` when it was not given, so that the profile's word counts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::authentication::Mechanism;
use crate::compare::CompareOptions;
use crate::hostile::Behaviour;
use crate::html::ReportOptions;
use crate::plan::Engine;
use crate::ramp::{self, Slo};
use crate::record::Phase;
use crate::sender::{PerConnection, PipeliningOption, SenderSettings, ThinkTime, TlsMode};
use crate::sink::SinkOptions;
use crate::sizes::{Numbers, Sizes};
use crate::units;
use crate::verify::{Copies, Store};

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
    /// Print the completions of a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands into man1 of a directory, made if need be.
    ManualPages {
        /// Directory.
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
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
#[command(group = clap::ArgGroup::new("amount").required(true).multiple(true).args(["messages", "duration", "ramp"]))]
#[command(group = clap::ArgGroup::new("pace").multiple(false).args(["rate", "ramp", "closed"]))]
pub struct RunOptions {
    /// Server, HOST:PORT or unix:PATH; several, separated by commas, are used in turn.
    #[arg(default_value = "127.0.0.1:2525", value_delimiter = ',')]
    pub target: Vec<String>,

    /// Connections at the same time, over all cores.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// End after so many messages (those of the warm-up not counted).
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// End after so much time (warm-up not counted), e.g. 30s. With --ramp: the window of each step, 10s when not given.
    #[arg(short = 'D', long, value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Time before the measured window; its messages are sent but left out of the figures. [default: 0s; with --ramp, before each step, 2s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub warmup: Option<Duration>,

    /// Kinds of senders: a TOML file, or one of mx, newsletter, transactional, submission, abuse. Options given beside it apply to all of them.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<String>,
    /// Hostile sessions beside the others, e.g. slowloris=10; may be given several times.
    #[arg(long, value_name = "BEHAVIOUR=N", value_parser = hostile)]
    pub hostile: Vec<(Behaviour, usize)>,

    /// Payload of a message in octets, header not counted: 4096, uniform:1024-65536, lognormal:MEDIAN,SIGMA, mix:1024=50,4096=50, file:PATH. [default: 4096]
    #[arg(short, long, value_name = "SIZES")]
    pub length: Option<Sizes>,
    /// Send this message, header and body, every time; its line ends become CRLF.
    #[arg(short = 'F', long, value_name = "FILE", conflicts_with_all = ["length", "dot_lines", "subject", "verify", "profile"])]
    pub message_file: Option<PathBuf>,
    /// Subject; else the number of the message.
    #[arg(short = 'S', long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Recipients of each message; a distribution as in --length. [default: 1]
    #[arg(short, long, value_name = "N")]
    pub recipients: Option<Numbers>,
    /// Reverse-path; {number} is the number of the message. [default: load@inrush.example]
    #[arg(short, long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Forward-path; {number} is the number of the message, {recipient} the index of the recipient (in front when missing and there are several). [default: recipient@inrush.example]
    #[arg(short, long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// Put a number that does not repeat in front of each recipient.
    #[arg(short = 'N', long)]
    pub number_recipients: bool,
    /// Name in EHLO.
    #[arg(short = 'M', long, value_name = "NAME", default_value = "inrush-load.invalid")]
    pub hello: String,
    /// Speak LMTP.
    #[arg(short = 'L', long)]
    pub lmtp: bool,

    /// Keep connections open for any number of messages.
    #[arg(short, long, conflicts_with = "messages_per_connection")]
    pub dont_disconnect: bool,
    /// Messages of one connection; a distribution as in --length. [default: 1]
    #[arg(long, value_name = "N")]
    pub messages_per_connection: Option<Numbers>,
    /// Pause between two messages of a connection.
    #[arg(short = 'w', long, value_name = "TIME", value_parser = fixed_wait)]
    pub wait: Option<ThinkTime>,
    /// The same, each time from nothing to this.
    #[arg(short = 'R', long, value_name = "TIME", conflicts_with = "wait", value_parser = random_wait)]
    pub random_wait: Option<ThinkTime>,
    /// Send at so many octets a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub octets_per_second: Option<u32>,

    /// Open loop: start so many messages a second whatever the server does; latency counts from the planned start.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Find the highest rate between these two at which --slo holds.
    #[arg(long, value_name = "LOW-HIGH", value_parser = ramp::bounds, conflicts_with_all = ["messages", "acks", "verify", "fail_fast"])]
    pub ramp: Option<(f64, f64)>,
    /// Closed loop: each session sends its next message when the one before is answered (the default with --messages alone, as in smtp-source).
    #[arg(long)]
    pub closed: bool,
    /// Distances of planned starts.
    #[arg(long, value_enum, default_value = "uniform")]
    pub arrivals: ArrivalsOption,
    /// With --ramp: what must hold at a rate, a quantile of the total and how many messages may fail. [default: p99=50ms]
    #[arg(long, value_name = "pNN=TIME[,errors=PERCENT%]")]
    pub slo: Option<Slo>,
    /// With --ramp: the search ends when the highest rate that held and the lowest that did not are so close, in percent. [default: 5]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub ramp_precision: Option<u8>,
    /// With --ramp: windows in which the rate found must hold once more. [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub ramp_confirmations: Option<u32>,

    /// TLS. [default: off]
    #[arg(long, value_enum, value_name = "MODE")]
    pub tls: Option<TlsMode>,
    /// Percent of the connections that use TLS. [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub tls_share: Option<u8>,
    /// Resume earlier TLS sessions where the server lets us.
    #[arg(long)]
    pub tls_resumption: bool,
    /// Verify the server's certificate against the authorities in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Take any certificate, also of targets outside of this machine.
    #[arg(long, conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// Name of the server under TLS; else that of the target.
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
    /// Log in as this user on every connection.
    #[arg(long, value_name = "NAME", requires = "auth_password_file")]
    pub auth_user: Option<String>,
    /// Its password: the first line of this file.
    #[arg(long, value_name = "FILE", requires = "auth_user")]
    pub auth_password_file: Option<PathBuf>,
    /// How.
    #[arg(long, value_enum, default_value = "auto")]
    pub auth_mechanism: Mechanism,

    /// Group commands (RFC 2920). [default: auto]
    #[arg(long, value_enum)]
    pub pipelining: Option<PipeliningOption>,
    /// How mail data goes. [default: data]
    #[arg(long, value_enum, conflicts_with = "bdat_share")]
    pub mode: Option<ModeOption>,
    /// Percent of the messages that go by BDAT; servers without CHUNKING get DATA unless it is 100.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub bdat_share: Option<u8>,
    /// Transactions under way on one connection, at most 256; more than one needs PIPELINING. [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: Option<u32>,
    /// Declare SIZE= in MAIL where it is offered.
    #[arg(long)]
    pub declare_size: bool,
    /// Percent of the payload's lines that begin with a dot. [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub dot_lines: Option<u8>,
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

    /// Connections a second, over all cores.
    #[arg(long, value_name = "PER_SECOND")]
    pub connect_rate: Option<f64>,
    /// How often a connection is tried.
    #[arg(short = 'C', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connect_tries: u32,
    /// Addresses of this machine to connect from, in turn; each has about 28,000 ports to a target.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub source_address: Vec<IpAddr>,
    /// Connect by IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Connect by IPv6 only.
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Longest wait for a whole reply.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    pub timeout: Duration,
    /// How long an interrupted run, or a step of a ramp, waits for messages under way, and how long planned messages may begin behind the end.
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
    /// Write the distribution of the latency of --hgrm-phase in HdrHistogram's text form (microseconds).
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Phase of --hgrm, by its name in the report.
    #[arg(long, value_name = "PHASE", default_value = "total", value_parser = Phase::parse)]
    pub hgrm_phase: Phase,
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
    /// Show rates, latencies by phase, a heat map, errors by cause and the generator's threads on the whole terminal; q ends the run.
    #[arg(long, conflicts_with = "quiet")]
    pub tui: bool,
    /// Words that go into the JSON and the report, e.g. server=postfix-3.10; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub label: Vec<String>,
    /// No progress line.
    #[arg(short, long)]
    pub quiet: bool,
}

impl RunOptions {
    /// What the command line says about all senders.
    #[must_use]
    pub fn sender(&self) -> SenderSettings {
        let bdat_of_mode = self.mode.map(|mode| if mode == ModeOption::Bdat { 100 } else { 0 });
        SenderSettings {
            name: None,
            weight: None,
            sessions_weight: None,
            length: self.length.clone(),
            dot_lines: self.dot_lines,
            recipients: self.recipients.clone(),
            messages_per_connection: if self.dont_disconnect {
                Some(PerConnection::Unlimited)
            } else {
                self.messages_per_connection.clone().map(PerConnection::Numbers)
            },
            in_flight: self.in_flight,
            pipelining: self.pipelining,
            bdat_percent: self.bdat_share.or(bdat_of_mode),
            tls: self.tls,
            tls_percent: self.tls_share,
            think_time: self.wait.or(self.random_wait),
            octets_per_second: self.octets_per_second,
            from: self.from.clone(),
            to: self.to.clone(),
        }
    }
}

fn hostile(text: &str) -> Result<(Behaviour, usize), String> {
    let (name, sessions) = text.split_once('=').ok_or_else(|| format!("{text:?} is not BEHAVIOUR=N"))?;
    let sessions: u32 = sessions.parse().map_err(|_| format!("{sessions:?} is not a number of sessions"))?;
    if !(1..=1_000_000).contains(&sessions) {
        return Err(format!("{sessions} sessions are outside of 1 to 1000000"));
    }
    Behaviour::from_str(name, false).map(|behaviour| (behaviour, sessions as usize)).map_err(|_| {
        let names: Vec<&str> = Behaviour::value_variants().iter().map(|known| known.name()).collect();
        format!("{name:?} is none of {}", names.join(", "))
    })
}

fn fixed_wait(text: &str) -> Result<ThinkTime, String> {
    if text.contains(':') { Err(format!("{text:?} is not a duration")) } else { text.parse() }
}

fn random_wait(text: &str) -> Result<ThinkTime, String> {
    format!("random:{text}").parse()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_option_is_described() {
        let text = include_str!("../README.md");
        let cli = Cli::command();
        for option in cli.find_subcommand("run").unwrap().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(
                text.contains(&format!("--{option}`")) || text.contains(&format!("--{option} ")),
                "--{option}"
            );
        }
        for behaviour in Behaviour::value_variants() {
            assert!(text.contains(&format!("| `{}` |", behaviour.name())), "{behaviour:?}");
        }
        for (profile, _) in crate::profile::SHIPPED {
            assert!(text.contains(&format!("| `{profile}` |")), "{profile}");
        }
    }

    #[test]
    fn hostile_words() {
        assert_eq!(hostile("slowloris=3"), Ok((Behaviour::Slowloris, 3)));
        for bad in ["idle", "idle=", "idle=0", "idle=1000001", "rude=1"] {
            assert!(hostile(bad).is_err(), "{bad}");
        }
        assert!(hostile("rude=1").unwrap_err().contains("bare-line-feeds"));
        assert!(fixed_wait("random:1").is_err() && fixed_wait("1s").is_ok() && random_wait("1s").is_ok());
    }
}
