//! Every key of the configuration file: one row each, from which reading, suggestions, dumps and `docs/configuration.md` are made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inrush_gateway::settings::ListenerSettings;
use inrush_policy::{AccessList, ListSettings, Networks};
use inrush_proto::{BareNewline, Kind, Tls, UnauthorizedPipelining};
use inrush_spans::SpanSettings;

use crate::Config;
use crate::access::AccessSources;
use crate::error::Place;
use crate::field::Field;
use crate::units::Unit;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A key.
pub(crate) struct Row<T> {
    /// Its name.
    pub(crate) key: &'static str,
    /// One line of explanation.
    pub(crate) help: &'static str,
    /// Where its value is kept.
    pub(crate) field: fn(&mut T) -> Field<'_>,
}

/// A table of keys: `[name]`, or the top of the file when the name is empty.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) rows: &'static [Row<Config>],
}

/// One `[[listener]]` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerTable {
    pub(crate) name: String,
    pub(crate) address: Vec<SocketAddr>,
    pub(crate) kind: Kind,
    pub(crate) tls: Tls,
    pub(crate) client_certificates: bool,
    pub(crate) proxy_protocol_from: Vec<String>,
    pub(crate) xclient_from: Vec<String>,
    pub(crate) greet_delay: Duration,
    pub(crate) unauthorized_pipelining: UnauthorizedPipelining,
    pub(crate) bare_newline: BareNewline,
}

impl Default for ListenerTable {
    fn default() -> Self {
        let ListenerSettings {
            name,
            addresses,
            kind,
            tls,
            client_certificates,
            proxy_protocol_from,
            xclient_from,
            greet_delay,
            unauthorized_pipelining,
            bare_newline,
        } = ListenerSettings::default();
        Self {
            name,
            address: addresses,
            kind,
            tls,
            client_certificates,
            proxy_protocol_from,
            xclient_from,
            greet_delay,
            unauthorized_pipelining,
            bare_newline,
        }
    }
}

/// One `[[domain]]` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainTable {
    pub(crate) name: String,
    pub(crate) recipients: String,
    pub(crate) case_sensitive: bool,
    pub(crate) subaddress_separator: String,
    pub(crate) route: String,
    pub(crate) allow_open: bool,
}

impl Default for DomainTable {
    fn default() -> Self {
        let ListSettings { case_sensitive, subaddress_separator } = ListSettings::default();
        Self {
            name: "*".to_owned(),
            recipients: "any".to_owned(),
            case_sensitive,
            subaddress_separator: subaddress_separator.map(String::from).unwrap_or_default(),
            route: String::new(),
            allow_open: false,
        }
    }
}

/// `[access]` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessTable {
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
}

impl Default for AccessTable {
    fn default() -> Self {
        Self { allow: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()], deny: Vec::new() }
    }
}

impl AccessTable {
    /// What the defaults say.
    pub(crate) fn default_list() -> Arc<AccessList> {
        let table = Self::default();
        let sources = AccessSources::of((&table.allow, Place::default()), (&table.deny, Place::default()));
        Arc::new(sources.read().unwrap_or_else(|_| AccessList::new(&Networks::new(), &Networks::new())))
    }
}

/// `[tls]` as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsTable {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
}

/// One `[[tls.sni]]` as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SniTable {
    pub(crate) name: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

macro_rules! rows {
    ($($key:literal $help:literal $field:expr;)+) => {
        &[$($crate::schema::Row { key: $key, help: $help, field: $field }),+]
    };
}

mod route;

pub(crate) use route::{HopKind, ROUTE, ROUTE_HELP, RouteTable};

pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "",
        help: "The gateway as a whole.",
        rows: rows! {
            "hostname" "The name in the greeting, in EHLO and in Received: a domain name or an address literal (RFC 5321 §4.1.1.1)."
                |config| Field::Text(&mut config.gateway.hostname);
            "data_dir" "Where the logs lie; relative to the working directory."
                |config| Field::Path(&mut config.data_dir);
            "node" "Number of this machine, the first part of every message id; different on every machine."
                |config| Field::Number(&mut config.node, Unit::Count, 0..=65_535);
            "cores" "Cores that take connections; 0 = all that the process may use."
                |config| Field::Number(&mut config.gateway.cores, Unit::Count, 0..=255);
            "pin_cores" "Whether the thread of each core stays on one processor; pays where nothing else runs on the machine."
                |config| Field::Switch(&mut config.gateway.pin_cores);
            "engine" "Kernel interface for sockets and disk; auto = io_uring where the kernel grants it, else epoll."
                |config| Field::Choice(&mut config.gateway.engine);
        },
    },
    Table {
        name: "limits",
        help: "What one session may ask for and what all of them may use; beyond it the reply is 4xx or 5xx.",
        rows: rows! {
            "message_bytes_max" "Octets of one message, announced by SIZE; then 552 5.3.4 (RFC 1870)."
                |config| Field::Number(&mut config.session.limits.message_bytes_max, Unit::Bytes, KIB..=480 * MIB);
            "recipients_max" "Recipients of one message; then 452 4.5.3 (RFC 5321 §4.5.3.1.8: at least 100)."
                |config| Field::Number(&mut config.session.limits.recipients_max, Unit::Count, 100..=100_000);
            "transactions_max" "Mail transactions of one session; then 421 4.7.0 (RFC 9422)."
                |config| Field::Number(&mut config.session.limits.transactions_max, Unit::Count, 1..=1_000_000_000);
            "command_octets_max" "Octets of one command line with its CRLF; then 500 5.5.2 (RFC 5321 §4.5.3.1.4: at least 512)."
                |config| Field::Number(&mut config.session.limits.command_octets_max, Unit::Bytes, 512..=64 * KIB);
            "text_line_octets_max" "Octets of one line of DATA without its CRLF, where bare_newline = \"reject\" (RFC 5321 §4.5.3.1.6: at least 998)."
                |config| Field::Number(&mut config.session.limits.text_line_octets_max, Unit::Bytes, 998..=63 * KIB);
            "header_bytes_max" "Octets of the header section, which ends before the first line that is no field."
                |config| Field::Number(&mut config.session.limits.header_bytes_max, Unit::Bytes, 4 * KIB..=16 * MIB);
            "hops_max" "Received fields of one message; then 554 5.4.6 (RFC 5321 §6.3: at least 100)."
                |config| Field::Number(&mut config.session.limits.hops_max, Unit::Count, 100..=10_000);
            "errors_max" "Errors of one session; then 421 4.7.0."
                |config| Field::Number(&mut config.session.limits.errors_max, Unit::Count, 1..=1_000_000);
            "commands_max" "Commands of one session; then 421 4.7.0."
                |config| Field::Number(&mut config.session.limits.commands_max, Unit::Count, 10..=1_000_000_000);
            "junk_commands_max" "Commands since the last message that lead to none (NOOP, RSET, VRFY, EXPN, HELP, HELO, EHLO, LHLO); then 421 4.7.0."
                |config| Field::Number(&mut config.session.limits.junk_commands_max, Unit::Count, 1..=1_000_000_000);
            "refused_recipients_max" "Recipients of one session that were refused for good; then 421 4.7.0."
                |config| Field::Number(&mut config.session.limits.refused_recipients_max, Unit::Count, 1..=1_000_000_000);
            "tarpit_after" "Errors and refused recipients of one session that are answered at once."
                |config| Field::Number(&mut config.gateway.timeouts.tarpit_after, Unit::Count, 0..=1_000_000_000);
            "tarpit_delay" "How long the reply to each further one is held back; 0 = not at all. Not for networks in [access] allow."
                |config| Field::Number(&mut config.gateway.timeouts.tarpit_delay, Unit::Duration, 0..=60 * SECOND);
            "idle_timeout" "Silence between two inputs; then 421 4.4.2 (RFC 5321 §4.5.3.2.7 asks for 5m)."
                |config| Field::Number(&mut config.gateway.timeouts.idle_timeout, Unit::Duration, SECOND..=DAY);
            "transaction_timeout" "From MAIL to the final reply of one message; then 421 4.4.2."
                |config| Field::Number(&mut config.gateway.timeouts.transaction_timeout, Unit::Duration, SECOND..=DAY);
            "proxy_timeout" "From the accept to the end of a PROXY header; then the connection is closed."
                |config| Field::Number(&mut config.gateway.timeouts.proxy_timeout, Unit::Duration, SECOND..=DAY);
            "handshake_timeout" "From STARTTLS, or the accept under implicit TLS, to the end of the TLS handshake; then the connection is closed."
                |config| Field::Number(&mut config.gateway.timeouts.handshake_timeout, Unit::Duration, SECOND..=DAY);
            "handshakes_max" "TLS handshakes under way on one core; then 454 4.7.0, or the end of the connection under implicit TLS."
                |config| Field::Number(&mut config.gateway.budgets.handshakes_max, Unit::Count, 1..=1_000_000);
            "session_timeout" "From the accept to the end of one session; then 421 4.4.2."
                |config| Field::Number(&mut config.gateway.timeouts.session_timeout, Unit::Duration, SECOND..=DAY);
            "min_data_rate" "Mail data slower than this over min_data_rate_window ends the session; 0 = no check."
                |config| Field::Number(&mut config.gateway.timeouts.min_data_rate, Unit::BytesPerSecond, 0..=GIB);
            "min_data_rate_window" "Time over which min_data_rate is measured."
                |config| Field::Number(&mut config.gateway.timeouts.min_data_rate_window, Unit::Duration, SECOND..=DAY);
            "drain_deadline" "How long running transactions may go on after the request to stop."
                |config| Field::Number(&mut config.gateway.timeouts.drain_deadline, Unit::Duration, 0..=DAY);
            "drain_delay" "How long connections are still taken after the request to stop, while /readyz says no: time for load balancers to look elsewhere."
                |config| Field::Number(&mut config.gateway.timeouts.drain_delay, Unit::Duration, 0..=DAY);
            "upgrade_deadline" "How long sessions may go on in the old process after an upgrade; then they are ended as at a stop. Mail that the new process takes waits so long for its delivery."
                |config| Field::Number(&mut config.gateway.timeouts.upgrade_deadline, Unit::Duration, 0..=DAY);
            "connections_max" "Sessions of one core; then 421 4.7.0; 0 = derived from the limit of file descriptors."
                |config| Field::Number(&mut config.gateway.budgets.connections_max, Unit::Count, 0..=10_000_000);
            "connections_per_address_max" "Sessions of one address (IPv6: one /64) on all cores; then 421 4.7.0; 0 = no limit. Not for networks in [access] allow."
                |config| Field::Number(&mut config.gateway.budgets.connections.open_per_address_max, Unit::Count, 0..=10_000_000);
            "connections_per_network_max" "The same of one network, as ipv4_prefix and ipv6_prefix make it; 0 = no limit."
                |config| Field::Number(&mut config.gateway.budgets.connections.open_per_network_max, Unit::Count, 0..=10_000_000);
            "connection_rate_per_address" "New sessions of one address, at once or spread over a time; then 421 4.7.0; 0 = no limit. Not for networks in [access] allow."
                |config| Field::Rate(&mut config.gateway.budgets.connections.rate_per_address);
            "connection_rate_per_network" "The same of one network."
                |config| Field::Rate(&mut config.gateway.budgets.connections.rate_per_network);
            "ipv4_prefix" "Bits of an IPv4 address that make a network."
                |config| Field::Number(&mut config.gateway.budgets.connections.ipv4_prefix, Unit::Count, 8..=32);
            "ipv6_prefix" "Bits of an IPv6 address that make a network."
                |config| Field::Number(&mut config.gateway.budgets.connections.ipv6_prefix, Unit::Count, 16..=64);
            "pending_bytes_max" "Octets of mail data that the sessions of one core hold in memory; then 452 4.3.1."
                |config| Field::Number(&mut config.gateway.budgets.pending_bytes_max, Unit::Bytes, MIB..=1024 * GIB);
        },
    },
    Table {
        name: "pressure",
        help: "From where on a core is short of something, and what it does then. See pressure.md.",
        rows: rows! {
            "soft_percent" "Soft marks in percent of connections_max, of the limit of open files, of memory_max and of pending_bytes_max."
                |config| Field::Number(&mut config.gateway.pressure.soft_percent, Unit::Count, 1..=100);
            "memory_max" "Resident memory of the process; then 452 4.3.1 for new mail and 421 4.3.2 for new connections; 0 = three quarters of what the machine or its control group has."
                |config| Field::Number(&mut config.gateway.pressure.memory_max, Unit::Bytes, 0..=1024 * 1024 * GIB);
            "slow_after" "The time that a durable write, or the wait of a message for it, may take before the core is under pressure."
                |config| Field::Number(&mut config.gateway.pressure.slow_after, Unit::Duration, 1_000..=3600 * SECOND);
            "backlog_max" "How long messages may wait for their durable write; then 452 4.3.1 for new mail."
                |config| Field::Number(&mut config.gateway.pressure.backlog_max, Unit::Duration, 1_000..=3600 * SECOND);
            "idle_timeout" "Over a soft mark: the longest silence of a peer, in handshakes and headers as well, and the window of min_data_rate."
                |config| Field::Number(&mut config.gateway.pressure.idle_timeout, Unit::Duration, SECOND..=DAY);
            "transaction_timeout" "Over a soft mark: from MAIL to the final reply of one message."
                |config| Field::Number(&mut config.gateway.pressure.transaction_timeout, Unit::Duration, SECOND..=DAY);
            "connections_per_address_max" "Over a soft mark: sessions of one address (IPv6: one /64) on all cores; then 421 4.7.0 for new ones; 0 = as without pressure. Not for networks in [access] allow."
                |config| Field::Number(&mut config.gateway.pressure.connections_per_address_max, Unit::Count, 0..=10_000_000);
            "stop_accepting_after" "How long mail may be refused before a core stops to listen; 0 = it never does."
                |config| Field::Number(&mut config.gateway.pressure.stop_accepting_after, Unit::Duration, 0..=DAY);
        },
    },
    Table {
        name: "log",
        help: "The log that makes messages durable before they are answered with 250.",
        rows: rows! {
            "durability" "strict = 250 after the durable write; relaxed = 250 after the write is issued: a power cut loses acknowledged mail."
                |config| Field::Choice(&mut config.log.durability);
            "relaxed_sync_interval" "Interval between syncs under durability = \"relaxed\"."
                |config| Field::Number(&mut config.log.relaxed_sync_interval, Unit::Duration, 1_000..=60 * SECOND);
            "segment_bytes" "Size of a segment file, a power of two; fixed for the life of a log."
                |config| Field::Number(&mut config.log.segment_bytes, Unit::Bytes, MIB..=4 * GIB);
            "spares" "Segments kept ready ahead of the one in use, for each log."
                |config| Field::Number(&mut config.log.spares, Unit::Count, 1..=64);
            "spare_fill_bytes_per_second" "Rate at which spares are written ahead while all of them are missing or no mail comes; else it is lower the fewer are missing. A log that has none and is about to need one gets one that was not written."
                |config| Field::Number(&mut config.log.spare_fill_bytes_per_second, Unit::BytesPerSecond, MIB..=1024 * GIB);
            "free_bytes_min" "Free space that the file system must keep; below it 452 4.3.1."
                |config| Field::Number(&mut config.log.free_bytes_min, Unit::Bytes, 0..=1024 * 1024 * GIB);
            "free_inodes_min" "Free inodes that the file system must keep, where their number is fixed; below it 452 4.3.1."
                |config| Field::Number(&mut config.log.free_inodes_min, Unit::Count, 0..=1_000_000_000);
            "hung_after" "How long the disk may take for one write; then 451 4.3.0 for new mail and 421 4.3.0 for sessions that wait, until it answers."
                |config| Field::Number(&mut config.gateway.timeouts.log_hung_after, Unit::Duration, SECOND..=3600 * SECOND);
            "retention_age" "Sealed segments whose newest message is older are deleted; 0 = never. What a required consumer has not passed stays."
                |config| Field::Number(&mut config.log.retention_age, Unit::Duration, 0..=36_500 * DAY);
            "retention_bytes" "The oldest sealed segments are deleted while there are more octets of them in all logs; 0 = never. As above."
                |config| Field::Number(&mut config.log.retention_bytes, Unit::Bytes, 0..=1024 * 1024 * GIB);
            "retention_free_bytes" "The oldest sealed segments are deleted while less space is free; 0 = never. As above. Above free_bytes_min to be of use."
                |config| Field::Number(&mut config.log.retention_free_bytes, Unit::Bytes, 0..=1024 * 1024 * GIB);
            "batch_buffers" "Buffers of 1MiB for batches, for each log: one fills, one is in flight, the others wait."
                |config| Field::Number(&mut config.log.batch_buffers, Unit::Count, 2..=64);
            "direct_io" "Use O_DIRECT where the file system allows it."
                |config| Field::Switch(&mut config.log.direct_io);
        },
    },
    Table {
        name: "access",
        help: "Whose connections are taken; the longest network that holds an address decides. Reread when the files change and on SIGHUP.",
        rows: rows! {
            "allow" "Networks without limits per address and network, such as [\"192.0.2.0/24\", \"file:PATH\"] (one network a line; # begins a comment; relative to this file)."
                |config| Field::Texts(&mut config.networks.allow);
            "deny" "Networks whose connections get 554 5.7.1, written in the same way."
                |config| Field::Texts(&mut config.networks.deny);
        },
    },
    Table {
        name: "submission",
        help: "Users and their logins, for listeners of kind = \"submission\". See users.md.",
        rows: rows! {
            "users" "File of users, as inrush user writes it; relative to this file. Reread when it changes and on SIGHUP."
                |config| Field::OptionalPath(&mut config.users_file);
            "failures_per_address" "Logins from one address (IPv6: one /64) that may fail, at once or spread over a time; then 454 4.7.0. Not for networks in [access] allow."
                |config| Field::Rate(&mut config.gateway.budgets.login_failures.per_address);
            "failures_per_user" "The same for one user, wherever they come from."
                |config| Field::Rate(&mut config.gateway.budgets.login_failures.per_user);
            "failure_delay" "How long the reply to a failed login is held back."
                |config| Field::Number(&mut config.gateway.timeouts.login_failure_delay, Unit::Duration, 0..=60 * SECOND);
        },
    },
    route::QUEUE,
    route::RELAY,
    Table {
        name: "tls",
        help: "Certificates of the listeners; reread when the files change and on SIGHUP. Versions: TLS 1.2 and 1.3.",
        rows: rows! {
            "certificate" "PEM file with the certificate and those of its authorities, for clients that ask for no name of [[tls.sni]]; relative to this file."
                |config| Field::OptionalPath(&mut config.tls.certificate);
            "key" "PEM file with its private key, not encrypted; relative to this file."
                |config| Field::OptionalPath(&mut config.tls.key);
            "client_ca" "PEM file with the authorities under which client certificates are believed; relative to this file."
                |config| Field::OptionalPath(&mut config.tls.client_ca);
        },
    },
    Table {
        name: "admin",
        help: "HTTP for the operator: dashboard, metrics, health, status, queue.",
        rows: rows! {
            "address" "Where to listen; beyond loopback only with token_file."
                |config| Field::Address(&mut config.admin.address);
            "token_file" "File whose first line is the bearer token that every request but /healthz and /readyz must carry; relative to this file."
                |config| Field::OptionalPath(&mut config.token_file);
            "viewers_max" "Dashboards and `inrush top` that may watch at a time; then 503; 0 = none."
                |config| Field::Number(&mut config.admin.viewers_max, Unit::Count, 0..=1_000);
        },
    },
    Table {
        name: "logging",
        help: "Log lines: what the program says of itself, of each message and of each session. See logs.md. Taken over by SIGHUP but for to and journal_socket.",
        rows: rows! {
            "format" "The form of a line; auto = text on a terminal, logfmt elsewhere."
                |config| Field::Choice(&mut config.logging.format);
            "to" "Where lines go: standard error, or the journal of systemd with fields of their own."
                |config| Field::Choice(&mut config.logging.to);
            "journal_socket" "The socket of the journal."
                |config| Field::Path(&mut config.logging.journal_socket);
            "level" "What is said: off, error, warn, info, debug or trace, and others for modules and those below them. INRUSH_LOG goes before it at the start."
                |config| Field::Levels(&mut config.logging.level);
            "messages" "One line for each message, at info, once it is durable."
                |config| Field::Switch(&mut config.logging.messages);
            "sessions" "One line for each session, at info, when it ends, and for each connection that gets none."
                |config| Field::Switch(&mut config.logging.sessions);
            "recipients_shown" "Recipients that the line of a message names; the others are only counted."
                |config| Field::Number(&mut config.logging.recipients_shown, Unit::Count, 0..=inrush_logging::RECIPIENTS_SHOWN_MAX.into());
            "repeats_max" "Lines of one place and reason in repeats_window that are written; the others are counted in one line. 0 = all are written. Lines about one message or session always are."
                |config| Field::Number(&mut config.logging.repeats_max, Unit::Count, 0..=1_000_000_000);
            "repeats_window" "Time over which repeats are counted."
                |config| Field::Number(&mut config.logging.repeats_window, Unit::Duration, SECOND..=3600 * SECOND);
        },
    },
    Table {
        name: "opentelemetry",
        help: "Spans of deliveries and of requests to the admin server, for an OpenTelemetry Collector or what takes the same. See opentelemetry.md.",
        rows: rows! {
            "endpoint" "URL that takes spans by OTLP over HTTP, such as \"http://127.0.0.1:4318\"; without a path it gets /v1/traces; \"\" = none are made."
                |config| Field::Text(&mut config.opentelemetry.endpoint);
            "authorization_file" "File whose first line is sent as Authorization, such as Bearer TOKEN; relative to this file."
                |config| Field::OptionalPath(&mut config.opentelemetry.authorization_file);
            "one_in" "One message of so many is followed, and one request of so many that come without a trace of their own; 1 = all."
                |config| Field::Number(&mut config.opentelemetry.one_in, Unit::Count, 1..=1_000_000);
        },
    },
];

/// What stands in `[opentelemetry]`.
#[derive(Clone, Debug)]
pub(crate) struct OpentelemetryTable {
    pub(crate) endpoint: String,
    pub(crate) authorization_file: Option<PathBuf>,
    pub(crate) one_in: u32,
}

impl Default for OpentelemetryTable {
    fn default() -> Self {
        Self { endpoint: String::new(), authorization_file: None, one_in: SpanSettings::default().one_in }
    }
}

pub(crate) const LISTENER: &[Row<ListenerTable>] = rows! {
    "name" "Label in logs and metrics."
        |listener| Field::Text(&mut listener.name);
    "address" "Addresses to listen on; port 0 lets the kernel choose one."
        |listener| Field::Addresses(&mut listener.address);
    "kind" "mx = mail for the domains of this host, from anybody; submission = mail for anybody, from users who log in (RFC 6409); lmtp = mail for the domains of this host, from a neighbour with a queue (RFC 2033)."
        |listener| Field::Choice(&mut listener.kind);
    "tls" "TLS: never, by STARTTLS for who wants it, by STARTTLS before any mail, or from the first octet on. All but off need [tls] certificate."
        |listener| Field::Choice(&mut listener.tls);
    "client_certificates" "Whether clients are asked for a certificate; they need not have one. A name that client_ca vouches for is kept with the message."
        |listener| Field::Switch(&mut listener.client_certificates);
    "proxy_protocol_from" "Networks, such as [\"10.0.0.0/8\"], whose connections have to begin with a PROXY header (version 1 or 2); from others it is no SMTP."
        |listener| Field::Texts(&mut listener.proxy_protocol_from);
    "xclient_from" "Networks whose clients may say with XCLIENT who their own client is: filters in front of the gateway."
        |listener| Field::Texts(&mut listener.xclient_from);
    "greet_delay" "How long clients wait for the greeting; who speaks before it gets 554 5.7.1. 0 = no wait. Not for networks in [access] allow, not under tls = \"implicit\"."
        |listener| Field::Number(&mut listener.greet_delay, Unit::Duration, 0..=30 * SECOND);
    "unauthorized_pipelining" "What becomes of clients that send on where they have to wait for a reply (RFC 2920 §3.1): allow = they are counted; reject = 503 5.5.0 and the end."
        |listener| Field::Choice(&mut listener.unauthorized_pipelining);
    "bare_newline" "A bare CR or LF in DATA: refused with 550 5.6.11, made into CRLF, or kept."
        |listener| Field::Choice(&mut listener.bare_newline);
};

pub(crate) const DOMAIN: &[Row<DomainTable>] = rows! {
    "name" "A domain whose mail is taken; \"*\" = every domain, for listeners on loopback only unless allow_open is set."
        |domain| Field::Text(&mut domain.name);
    "recipients" "\"any\", or \"file:PATH\" with one address, regular expression or catch-all a line; PATH is relative to this file. See recipients.md."
        |domain| Field::Text(&mut domain.recipients);
    "case_sensitive" "Whether upper and lower case make different local parts."
        |domain| Field::Switch(&mut domain.case_sensitive);
    "subaddress_separator" "In an address that no line of the file has, what follows this character in the local part does not count; \"\" = off (RFC 5233 §1)."
        |domain| Field::Text(&mut domain.subaddress_separator);
    "route" "Name of the [[route]] that its mail takes; \"\" = it stays in the log, which is all or nothing: with a route for one domain every domain needs one."
        |domain| Field::Text(&mut domain.route);
    "allow_open" "Lets \"*\" stand although a listener is not on loopback: mail for every domain is then taken from everybody."
        |domain| Field::Switch(&mut domain.allow_open);
};

pub(crate) const SNI: &[Row<SniTable>] = rows! {
    "name" "Server name that the client asks for (RFC 6066 §3); *. stands for one label."
        |sni| Field::Text(&mut sni.name);
    "certificate" "PEM file with the certificate and those of its authorities; relative to this file."
        |sni| Field::Path(&mut sni.certificate);
    "key" "PEM file with its private key; relative to this file."
        |sni| Field::Path(&mut sni.key);
};

pub(crate) const SNI_HELP: &str = "A certificate for another server name; the table may be repeated.";
pub(crate) const LISTENER_HELP: &str =
    "Where mail comes in; the table may be repeated. Without any there is one on 127.0.0.1:2525.";
pub(crate) const DOMAIN_HELP: &str = "Whose mail is taken; the table may be repeated. postmaster and abuse of each domain are always taken (RFC 5321 §4.5.1, RFC 2142).";
