//! What a run shall do: the options, checked and resolved.

use std::net::SocketAddr;
use std::time::Duration;

use inrush_proto::client::{Pipelining, Protocol, Transfer};

use crate::content::Content;
use crate::pacer::Arrivals;
use crate::template::Template;

/// Ring or epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The ring, or epoll where the kernel refuses it.
    Auto,
    /// `io_uring` or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// The pace of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Every session sends as fast as the server answers.
    Closed,
    /// By schedule: messages a second over all cores.
    Open(f64, Arrivals),
}

/// A checked run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to; connections take turns.
    pub targets: Vec<SocketAddr>,
    /// Connections at the same time, over all cores.
    pub sessions: usize,
    /// Measured messages, over all cores.
    pub messages: Option<u64>,
    /// Measured time.
    pub duration: Option<Duration>,
    /// Time before the measured window.
    pub warmup: Duration,
    /// Closed or open loop.
    pub pace: Pace,
    /// Messages of one connection; None: no end.
    pub messages_per_connection: Option<u64>,
    /// Transactions in flight on a connection.
    pub in_flight: usize,
    /// Recipients of each message.
    pub recipients: u32,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Grouping of commands.
    pub pipelining: Pipelining,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// `SIZE=` in MAIL where offered.
    pub declare_size: bool,
    /// Name in EHLO.
    pub hello: String,
    /// Reverse-path.
    pub from: Template,
    /// Forward-path.
    pub to: Template,
    /// The messages.
    pub content: Content,
    /// Threads.
    pub cores: usize,
    /// CPUs to pin the threads to, in turn; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Ring or epoll.
    pub engine: Engine,
    /// Longest wait for anything of the server.
    pub timeout: Duration,
    /// How long messages under way may take when the run is interrupted.
    pub grace: Duration,
    /// Errors that are borne.
    pub errors_max: u64,
    /// End the run when there are more.
    pub fail_fast: bool,
    /// Ids are wanted after the run.
    pub keep_ids: bool,
}
