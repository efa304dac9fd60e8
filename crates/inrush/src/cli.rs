//! The command line, as one definition for the parser and its help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use inrush_log::{ConsumerKind, MessageId};
use inrush_logging::Levels;

use crate::age::Age;
use crate::log::filter::Sender;
use crate::log::time::Since;
use crate::queue::IdArgument;

/// SMTP ingress gateway: takes mail in on every core and makes it durable before it says 250.
#[derive(Debug, Parser)]
#[command(name = "inrush", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    Serve(ConfigFile),
    /// Check the config and all files it names; say every mistake with file and line
    Check(ConfigFile),
    /// Show settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into the log of accepted mail, of a running or a stopped gateway
    #[command(subcommand)]
    Log(Box<LogCommand>),
    /// Show or change what a running gateway logs about itself
    LogLevel(LogLevel),
    /// See and steer what waits for delivery
    #[command(subcommand)]
    Queue(Box<QueueCommand>),
    /// End the running gateway: idle sessions are closed, running transactions finish
    Drain {
        #[command(flatten)]
        target: AdminTarget,
        /// How long connections are still taken while /readyz says no, in place of [limits] drain_delay
        #[arg(long, value_name = "T")]
        delay: Option<Age>,
        /// How long transactions may go on then, in place of [limits] drain_deadline
        #[arg(long, value_name = "T")]
        deadline: Option<Age>,
        /// Return when it has ended
        #[arg(long)]
        wait: bool,
    },
    /// Have the running gateway read its config file again; say what has changed
    Reload {
        #[command(flatten)]
        target: AdminTarget,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// One screen about the running gateway; exit code 1 when it does not take mail
    Status {
        #[command(flatten)]
        target: AdminTarget,
        /// What the API tells, as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The running gateway on the terminal, live: rates, latencies, cores, queue, refusals, sessions
    ///
    /// Keys: q ends, p holds the picture, 1 overview, 2 destinations of the queue, 3 live sessions, Tab the next of them. No colours with NO_COLOR.
    Top(AdminTarget),
    /// Show sessions live, command by command
    Trace(Trace),
    /// Change the file of those who may submit mail
    #[command(subcommand)]
    User(UserCommand),
    /// Print the completions of a shell; docs/operations.md says where they go
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into man1 and man5 of a directory, made if need be
    ManualPages {
        /// Directory
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Show the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Whether nothing is lost when nobody reads the output to its end.
    pub(crate) fn only_prints(&self) -> bool {
        match self {
            Self::Config(_) | Self::Completions { .. } | Self::Version { .. } => true,
            Self::Log(command) => {
                matches!(
                    **command,
                    LogCommand::Stat { .. } | LogCommand::List { .. } | LogCommand::Cat { .. }
                )
            }
            Self::User(command) => matches!(command, UserCommand::List { .. }),
            Self::Queue(command) => {
                matches!(**command, QueueCommand::List { .. } | QueueCommand::Show { .. })
            }
            Self::LogLevel(arguments) => arguments.levels.is_none(),
            Self::Status { .. } | Self::Trace(_) => true,
            Self::Serve(_)
            | Self::Check(_)
            | Self::Top(_)
            | Self::Drain { .. }
            | Self::Reload { .. }
            | Self::ManualPages { .. } => false,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// Config file; without one the built-in defaults hold (SMTP on 127.0.0.1:2525, admin on 127.0.0.1:9925, data in ./inrush-data)
    #[arg(short, long, value_name = "FILE", env = "INRUSH_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the settings that hold, as a config file; secrets are left out
    Dump {
        #[command(flatten)]
        file: ConfigFile,
        /// Print every key with its default, unit and meaning instead, whatever the config file says
        #[arg(long)]
        defaults: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// What waits, as mailq has it: id, octets, when it was accepted, sender, why it waits, recipients
    List {
        #[command(flatten)]
        target: QueueTarget,
        #[command(flatten)]
        filter: QueueFilter,
        /// So many entries at most
        #[arg(long, value_name = "N", default_value_t = inrush_relay::LIMIT)]
        limit: usize,
        /// One JSON object for each group of recipients that waits together
        #[arg(long)]
        json: bool,
    },
    /// The whole life of a message: how it came in, every attempt with the remote reply, what became of each recipient
    Show {
        #[command(flatten)]
        target: QueueTarget,
        /// Id of the message, as the 250 has named it
        id: MessageId,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try messages now, and the hosts that could not be reached
    Flush(QueueChange),
    /// Keep messages back until they are released
    Hold(QueueChange),
    /// Try messages that are held
    Release(QueueChange),
    /// Return messages to their senders
    Bounce(QueueChange),
    /// Take messages out of the queue without a word to anybody
    Delete(QueueChange),
}

#[derive(Args, Debug)]
pub(crate) struct QueueChange {
    #[command(flatten)]
    pub(crate) target: QueueTarget,
    #[command(flatten)]
    pub(crate) filter: QueueFilter,
    /// Everything in the queue is meant
    #[arg(long, conflicts_with_all = ["ids", "domain", "route", "sender", "older_than"])]
    pub(crate) all: bool,
    /// Do not ask before messages are returned or deleted
    #[arg(long)]
    pub(crate) yes: bool,
    /// What was done as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which running gateway.
#[derive(Args, Debug)]
pub(crate) struct AdminTarget {
    /// Config file of the gateway: says where its admin server is, and its token
    #[arg(short, long, value_name = "FILE", env = "INRUSH_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the admin server, in place of the one that the config file names
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Args, Debug)]
pub(crate) struct LogLevel {
    #[command(flatten)]
    pub(crate) target: AdminTarget,
    /// New levels: off, error, warn, info, debug or trace, and others for modules, as in info,inrush_gateway=debug. Without them those in force are shown
    #[arg(value_name = "LEVELS")]
    pub(crate) levels: Option<Levels>,
    /// Only for so long (30s, 10m, 2h); then the levels from before are in force again. Without it the new ones stay until the next change or restart
    #[arg(long = "for", value_name = "TIME", requires = "levels")]
    pub(crate) time: Option<String>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["from", "rcpt"])))]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) target: AdminTarget,
    /// Only sessions of clients in this network, such as 192.0.2.0/24 or 2001:db8::1
    #[arg(long, value_name = "CIDR")]
    pub(crate) from: Option<String>,
    /// Only sessions with a recipient in this domain, from the first such RCPT on
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) rcpt: Option<String>,
    /// So many sessions at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
    /// For so long at most (30s, 5m, 1h)
    #[arg(long = "for", value_name = "TIME", default_value = "5m")]
    pub(crate) time: String,
    /// One JSON object for each event
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which gateway, or which data directory.
#[derive(Args, Debug)]
pub(crate) struct QueueTarget {
    /// Config file of the gateway: says where its admin server is, and its token
    #[arg(short, long, value_name = "FILE", env = "INRUSH_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the admin server, in place of the one that the config file names
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// Data directory of a stopped gateway, to be read only; no config file is looked at then
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
pub(crate) struct QueueFilter {
    /// Only these messages; - reads their ids from standard input
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<IdArgument>,
    /// Only messages that wait for a recipient in this domain; a change is for these recipients alone
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Only messages that wait for this route
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// Only messages with this reverse-path: a@example.com, @example.com for everybody of a domain, or <>
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) sender: Option<Sender>,
    /// Only messages accepted, or replayed, so long ago or longer (90s, 2h, 3d)
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<Age>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user; the password is the first line of standard input, or asked for twice on a terminal
    ///
    /// The file is made, for its owner alone, where there is none. A running gateway takes it with its next reload. Its format is described in
    /// docs/users.md.
    Add {
        #[command(flatten)]
        file: UserFile,
        /// Name to log in with, mostly an address
        name: String,
        /// Address that the user may send as: a@example.com, @example.com for everybody of a domain, or * for everything; may be given several times. Without it the name itself
        #[arg(long, value_name = "ADDRESS")]
        address: Vec<String>,
        /// How the password is hashed
        #[arg(long, value_enum, default_value_t)]
        hash: HashName,
        /// Give a user who is there a new password, and new addresses where some are given
        #[arg(long)]
        replace: bool,
    },
    /// One line for each user: name, kind of hash, addresses; and every mistake in the file with its line
    List {
        #[command(flatten)]
        file: UserFile,
        /// One JSON object per user
        #[arg(long)]
        json: bool,
    },
    /// Remove a user
    Remove {
        #[command(flatten)]
        file: UserFile,
        /// Name that the user logs in with
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct UserFile {
    /// Users file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HashName {
    /// RFC 9106: takes 19 MiB of memory and some 50 ms
    #[default]
    Argon2id,
    /// With cost 12; for passwords of at most 71 octets
    Bcrypt,
    /// With 100,000 rounds, as /etc/shadow has it
    Sha512Crypt,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Segments, messages and octets of each log
    Stat {
        #[command(flatten)]
        data: DataDir,
        /// One line for each segment instead: log, file, state (sealed, open, ready) and what it holds
        #[arg(long)]
        segments: bool,
        /// One JSON object per log, or per segment
        #[arg(long)]
        json: bool,
    },
    /// One line for each message
    List {
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        filter: Filter,
        /// One JSON object per message
        #[arg(long)]
        json: bool,
    },
    /// Write one message to standard output: the trace header, then the mail data as it was sent
    Cat {
        #[command(flatten)]
        data: DataDir,
        /// Id of the message, as the 250 has named it
        id: MessageId,
        /// Leave out the trace header
        #[arg(long)]
        no_trace: bool,
    },
    /// Write messages to files or to standard output, each with its trace header in front of the mail data as it was sent
    ///
    /// Nothing that exists is overwritten, and a file appears under its name when it is whole. Messages that do not hold are named on standard
    /// error and left out; the exit code is 1 then. The formats are described in docs/log-tools.md.
    Export {
        #[command(flatten)]
        data: DataDir,
        /// Form of the output
        #[arg(long, value_enum, default_value_t)]
        format: ExportFormat,
        /// eml: directory for the files, made if need be. mbox and ndjson: the file, or - for standard output, which is the default
        #[arg(
            long,
            value_name = "PATH",
            required_unless_present = "format",
            required_if_eq("format", "eml")
        )]
        to: Option<PathBuf>,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        cursor: CursorOptions,
    },
    /// Deliver messages once more that are still in the log, by a route of the running gateway
    ///
    /// Delivered mail stays in the log for [queue] keep_delivered. What waits takes this route instead; what is being tried is left alone, and so are
    /// recipients that were deleted or are held, unless --id names their message.
    Replay {
        /// Config file of the gateway: says where its admin server is, and its token
        #[arg(short, long, value_name = "FILE", env = "INRUSH_CONFIG")]
        config: Option<PathBuf>,
        /// Address of the admin server, in place of the one that the config file names
        #[arg(long, value_name = "ADDRESS")]
        admin: Option<SocketAddr>,
        /// Route to take
        #[arg(long, value_name = "NAME")]
        route: String,
        #[command(flatten)]
        filter: Filter,
        /// Recipients that are held, too
        #[arg(long)]
        held: bool,
        /// Do not ask before
        #[arg(long)]
        yes: bool,
        /// What was done as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read everything, check every checksum, and name what does not hold or was put aside
    ///
    /// Exit codes: 0 everything holds; 1 something is damaged, or was and lies in damaged/; 2 the command line is wrong or a log cannot be read.
    Verify {
        #[command(flatten)]
        data: DataDir,
        /// One JSON object per finding and one per log
        #[arg(long)]
        json: bool,
    },
}

/// Form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One file ID.eml for each message
    #[default]
    Eml,
    /// One mbox file (mboxrd), for mail readers
    Mbox,
    /// One JSON object a line: the whole envelope, and the mail data as base64
    Ndjson,
}

#[derive(Args, Debug)]
pub(crate) struct DataDir {
    /// Data directory of the gateway
    #[arg(long, value_name = "DIR", default_value = "inrush-data", env = "INRUSH_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Only this log, for instance arrival-00
    #[arg(long, value_name = "NAME")]
    pub(crate) log: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CursorOptions {
    /// Only what is behind the position of this consumer in each log, which is then saved: the next export goes on from there
    ///
    /// The position is saved when everything that was exported is durable at the target; whatever ends the export before that leaves it, and the
    /// next one brings the same messages again. What came in the last second may wait for the next export. Not with filters, nor to standard
    /// output: nobody knows whether its reader has it.
    #[arg(
        long = "cursor",
        value_name = "NAME",
        requires = "to",
        conflicts_with_all = ["since", "until", "rcpt_domain", "sender", "id"]
    )]
    name: Option<String>,
    /// Make the cursor that of a required consumer. THE GATEWAY THEN DELETES EXPORTED MAIL
    ///
    /// The gateway keeps every segment until it was exported, and refuses mail when the disk is full of such. A SEGMENT THAT WAS EXPORTED IS DELETED AT ONCE,
    /// whatever the limits of retention say, unless another consumer still needs it: the export is the only copy then. Without this option the
    /// cursor is that of a best-effort consumer: it keeps nothing and deletes nothing. It has to be given, or not given, each time.
    #[arg(long, requires = "name")]
    required: bool,
    /// Let the cursor pass what is damaged; without it a log is exported up to there only, each time
    #[arg(long, requires = "name")]
    pub(crate) skip_damaged: bool,
}

/// Who exports.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) kind: ConsumerKind,
}

impl CursorOptions {
    /// The consumer, where one is named.
    pub(crate) fn consumer(&self) -> Option<Consumer> {
        let kind = if self.required { ConsumerKind::Required } else { ConsumerKind::BestEffort };
        Some(Consumer { name: self.name.clone()?, kind })
    }
}

#[derive(Args, Debug, Default)]
pub(crate) struct Filter {
    /// Only messages accepted since then: RFC 3339 (2026-03-01T12:00:00Z) or an age (25s, 2h, 3d)
    #[arg(long, value_name = "T")]
    pub(crate) since: Option<Since>,
    /// Only messages accepted before then; RFC 3339 or an age
    #[arg(long, value_name = "T")]
    pub(crate) until: Option<Since>,
    /// Only messages with a recipient in this domain, of any case
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) rcpt_domain: Option<String>,
    /// Only messages with this reverse-path: a@example.com, @example.com for everybody of a domain, or <>. Domains may be of any case, local parts not
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) sender: Option<Sender>,
    /// Only the message with this id; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<MessageId>,
}
