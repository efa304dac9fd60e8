//! What steers the front door, with its defaults.
//!
//! Plain values: the configuration file is read and checked elsewhere and composed into [`GatewaySettings`].

use std::net::SocketAddr;
use std::time::Duration;

use inrush_policy::{ConnectionLimits, FailureLimits, Rate};
use inrush_proto::{BareNewline, Kind, Tls, UnauthorizedPipelining};

use crate::tls::TlsSettings;

/// Which kernel interface the cores use for their sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where the kernel grants it, else epoll (said in the log and in a metric).
    #[default]
    Auto,
    /// io_uring or an error at start.
    IoUring,
    /// epoll, with a committer thread for each log.
    Epoll,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Label in logs and metrics.
    pub name: String,
    /// Addresses to listen on; port 0 lets the kernel choose one.
    pub addresses: Vec<SocketAddr>,
    /// What it is for.
    pub kind: Kind,
    /// Whether it speaks TLS.
    pub tls: Tls,
    /// Whether clients are asked for a certificate under TLS; they need not have one.
    pub client_certificates: bool,
    /// Networks whose connections have to begin with a PROXY header.
    pub proxy_protocol_from: Vec<String>,
    /// Networks whose clients may say with XCLIENT who their own client is.
    pub xclient_from: Vec<String>,
    /// How long a client waits for the greeting; who speaks before it is refused. 0 = no wait, nobody is looked at.
    pub greet_delay: Duration,
    /// What happens to a client that sends on without waiting for replies.
    pub unauthorized_pipelining: UnauthorizedPipelining,
    /// What happens to a bare CR or LF in DATA.
    pub bare_newline: BareNewline,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            name: "mx".to_owned(),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 2525))],
            kind: Kind::default(),
            tls: Tls::default(),
            client_certificates: false,
            proxy_protocol_from: Vec::new(),
            xclient_from: Vec::new(),
            greet_delay: Duration::ZERO,
            unauthorized_pipelining: UnauthorizedPipelining::default(),
            bare_newline: BareNewline::default(),
        }
    }
}

/// How long a peer may take (RFC 5321 §4.5.3.2 asks for at least five minutes between commands).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Silence between two inputs, then 421 4.4.2.
    pub idle_timeout: Duration,
    /// From the `MAIL` that opens a mail transaction to its final reply, then 421 4.4.2.
    pub transaction_timeout: Duration,
    /// From the accept to the end of the session, then 421 4.4.2.
    pub session_timeout: Duration,
    /// Mail data slower than this, in octets per second over `min_data_rate_window`, ends the session with 421 4.4.2. 0 switches the check off.
    pub min_data_rate: u32,
    /// The time over which `min_data_rate` is measured.
    pub min_data_rate_window: Duration,
    /// From the accept to the end of a proxy's header; then the connection is closed (proxy-protocol.txt §2: at least 3 s).
    pub proxy_timeout: Duration,
    /// From STARTTLS, or from the accept under implicit TLS, to the end of the TLS handshake; then the connection is closed.
    pub handshake_timeout: Duration,
    /// How long the reply to an error is held back once a session has made more than `tarpit_after` of them. 0 = not at all.
    pub tarpit_delay: Duration,
    /// Errors and refused recipients of one session that are answered at once.
    pub tarpit_after: u32,
    /// How long the reply to a failed login is held back.
    pub login_failure_delay: Duration,
    /// How long a running transaction may go on after the request to stop.
    pub drain_deadline: Duration,
    /// How long connections are still taken after the request to stop, while `/readyz` says no.
    pub drain_delay: Duration,
    /// How long sessions may go on in a process whose place another one has taken.
    pub upgrade_deadline: Duration,
    /// How long a write of the log may take before new mail is refused with 451 4.3.0 and sessions that wait for it are ended with 421 4.3.0.
    pub log_hung_after: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_mins(5),
            transaction_timeout: Duration::from_mins(20),
            session_timeout: Duration::from_mins(30),
            min_data_rate: 500,
            min_data_rate_window: Duration::from_mins(1),
            proxy_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(30),
            tarpit_delay: Duration::from_secs(1),
            tarpit_after: 5,
            login_failure_delay: Duration::from_secs(2),
            drain_deadline: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            upgrade_deadline: Duration::from_secs(30),
            log_hung_after: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// The same while a resource is short.
    #[must_use]
    pub fn under_pressure(&self, marks: &PressureSettings) -> Self {
        let silence = marks.idle_timeout;
        Self {
            transaction_timeout: self.transaction_timeout.min(marks.transaction_timeout),
            idle_timeout: self.idle_timeout.min(silence),
            min_data_rate_window: self.min_data_rate_window.min(silence),
            proxy_timeout: self.proxy_timeout.min(silence),
            handshake_timeout: self.handshake_timeout.min(silence),
            ..self.clone()
        }
    }
}

/// From where on a core is short of something, and what it does then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressureSettings {
    /// The soft marks of sessions, file descriptors and memory, in percent of what there may be.
    pub soft_percent: u8,
    /// Octets of resident memory of the process, then 452 4.3.1 and 421 4.3.2. 0 = three quarters of what the machine or its control group has.
    pub memory_max: u64,
    /// The soft mark of a durable write and of the wait for it.
    pub slow_after: Duration,
    /// How long messages may wait for their durable write, then 452 4.3.1 for new ones.
    pub backlog_max: Duration,
    /// Over a soft mark: the longest silence of a peer, in handshakes and headers as well, and the time over which `min_data_rate` is measured.
    pub idle_timeout: Duration,
    /// Over a soft mark: the longest mail transaction.
    pub transaction_timeout: Duration,
    /// Over a soft mark: sessions of one address on all cores together, then 421 4.7.0 for new ones. 0 = no other limit than before.
    pub connections_per_address_max: u32,
    /// How long mail may be refused before connections are refused as well, by the kernel. 0 = never.
    pub stop_accepting_after: Duration,
}

impl Default for PressureSettings {
    fn default() -> Self {
        Self {
            soft_percent: 75,
            memory_max: 0,
            slow_after: Duration::from_secs(1),
            backlog_max: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_mins(2),
            connections_per_address_max: 10,
            stop_accepting_after: Duration::from_secs(30),
        }
    }
}

/// What the front door may spend before it answers `4xx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Open sessions on one core, then 421 4.7.0. 0 = derived from the limit of file descriptors.
    pub connections_max: u32,
    /// What one address and one network may have, on all cores together, then 421 4.7.0.
    pub connections: ConnectionLimits,
    /// Octets of mail data that the sessions of one core hold in memory, then 452 4.3.1.
    pub pending_bytes_max: u64,
    /// TLS handshakes under way on one core, then 454 4.7.0, or the end of the connection under implicit TLS.
    pub handshakes_max: u32,
    /// Logins that may fail, on all cores together, then 454 4.7.0.
    pub login_failures: FailureLimits,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            connections_max: 0,
            connections: ConnectionLimits {
                open_per_address_max: 100,
                rate_per_address: Rate::new(3000, Duration::from_mins(1)),
                ..ConnectionLimits::default()
            },
            pending_bytes_max: 256 << 20,
            handshakes_max: 1000,
            login_failures: FailureLimits::default(),
        }
    }
}

/// Settings of the front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// The name in the greeting, the `EHLO` reply and `Received` (RFC 5321 §4.1.1.1).
    pub hostname: String,
    /// Cores to run on; 0 = all that the process may use.
    pub cores: u16,
    /// Whether the thread of each core stays on one processor. Pays where nothing else runs on the machine; beside other
    /// busy programs the kernel does better by itself.
    pub pin_cores: bool,
    /// Kernel interface.
    pub engine: Engine,
    /// Where to listen.
    pub listeners: Vec<ListenerSettings>,
    /// How long a peer may take.
    pub timeouts: Timeouts,
    /// What may be spent.
    pub budgets: Budgets,
    /// What happens when something runs short.
    pub pressure: PressureSettings,
    /// Certificates.
    pub tls: TlsSettings,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            cores: 0,
            pin_cores: false,
            engine: Engine::Auto,
            listeners: vec![ListenerSettings::default()],
            timeouts: Timeouts::default(),
            budgets: Budgets::default(),
            pressure: PressureSettings::default(),
            tls: TlsSettings::default(),
        }
    }
}
