//! The table of all metrics: one row each, from which the cells, the exposition and `docs/metrics.md` are made.
//!
//! Names: prefix `inrush_`, base units, `_total` for counters. Labels only from [`LABELS`]; info metrics (whose value is always 1)
//! may carry facts of the build or the machine besides.

/// The labels that metrics may carry.
pub const LABELS: [&str; 8] = ["listener", "core", "phase", "code", "reason", "route", "tls", "shard"];

/// What a metric is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic buckets, sum and count.
    Histogram,
    /// Always 1; its labels are the news.
    Info,
}

impl Kind {
    /// The word of the exposition formats.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name as operators query it, with unit and `_total`; histograms without `_bucket`.
    pub name: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: Kind,
    /// Label names, in the order of exposition.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
    /// The closed set of values of the label `reason` or `phase`; empty when the values come from the configuration or the reply table.
    pub values: &'static [&'static str],
}

/// A counter that a core may add to: its place among the core's cells.
pub trait CounterKey: Copy {
    /// Index of the cell.
    fn cell(self) -> usize;
}

/// A counter with one label whose values are the variants of an enum.
pub trait Family: CounterKey + 'static {
    /// Its row.
    const METRIC: Metric;
    /// First cell.
    const FIRST: usize;
    /// One past the last cell.
    const END: usize;
    /// All values, in the order of the cells.
    const ALL: &'static [Self];
    /// The value of the label.
    fn value(self) -> &'static str;
}

/// An enum of metrics without label values of their own (only `core` where the row says so).
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident $kind:expr; $($variant:ident $metric:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $help] $variant),+ }
        impl $name {
            /// All rows, in the order of the cells.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The row of this metric.
            #[must_use]
            pub const fn metric(self) -> Metric {
                match self {
                    $(Self::$variant => Metric { name: $metric, kind: $kind, labels: &[$($label),*], help: $help, values: &[] }),+
                }
            }
        }
    };
}

/// Enums of label values, each a counter of its own; their cells follow one another, starting behind `$before`.
macro_rules! families {
    ($before:expr; $(#[$doc:meta])* $name:ident $metric:literal $label:literal $help:literal { $($variant:ident $value:literal $what:literal;)+ } $($rest:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $what] $variant),+ }
        impl CounterKey for $name {
            fn cell(self) -> usize { <Self as Family>::FIRST + self as usize }
        }
        impl Family for $name {
            const METRIC: Metric =
                Metric { name: $metric, kind: Kind::Counter, labels: &[$label], help: $help, values: &[$($value),+] };
            const FIRST: usize = $before;
            const END: usize = $before + Self::ALL.len();
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn value(self) -> &'static str { match self { $(Self::$variant => $value),+ } }
        }
        families! { <$name as Family>::END; $($rest)* }
    };
    ($end:expr;) => {
        /// Cells of all counters, plain and by label.
        pub(crate) const COUNTER_CELLS: usize = $end;
    };
}

plain! {
    /// Counters without a label of their own.
    Counter Kind::Counter;
    MessagesAccepted "inrush_messages_accepted_total" ["core"] "Messages taken, by core: in the log, their 250 follows with its commit.";
    RecipientsAccepted "inrush_recipients_accepted_total" [] "Recipients of messages taken.";
    MessageBytes "inrush_message_bytes_total" [] "Octets of mail data in messages taken.";
    ReceivedBytes "inrush_received_bytes_total" [] "Octets received from peers.";
    SentBytes "inrush_sent_bytes_total" [] "Octets sent to peers.";
    PipelinedInputs "inrush_pipelined_inputs_total" [] "Inputs that brought more than one command (RFC 2920).";
    ChunkedMessages "inrush_chunked_messages_total" [] "Messages accepted whose data came by BDAT (RFC 3030).";
    LogBatches "inrush_log_batches_total" ["core"] "Batches committed to the log: one durable write each.";
    LogRecords "inrush_log_records_total" [] "Records committed to the log.";
    LogWrittenBytes "inrush_log_written_bytes_total" [] "Octets written to the log, padding included.";
    LogPaddingBytes "inrush_log_padding_bytes_total" [] "Octets of padding written to the log.";
    LogSegmentsOpened "inrush_log_segments_opened_total" [] "Log segments taken into use.";
    LogRecoveredRecords "inrush_log_recovered_records_total" [] "Records found intact by recovery at start.";
    LogRecoveredBytes "inrush_log_recovered_bytes_total" [] "Octets of log found intact by recovery at start.";
    LogDamage "inrush_log_damage_total" [] "Records, seals and segments found damaged by recovery at start, after they had been acknowledged.";
    LogCutBytes "inrush_log_cut_bytes_total" [] "Octets cut off by recovery at start: torn, never acknowledged.";
    LogQuarantinedBytes "inrush_log_quarantined_bytes_total" [] "Octets set aside by recovery at start: damaged after they had been acknowledged.";
    LogSparesRecycled "inrush_log_spares_recycled_total" [] "Retired segments that became spares.";
    LogRetireErrors "inrush_log_retire_errors_total" [] "Retirements of segments that failed; they are tried again.";
    LogHangs "inrush_log_hangs_total" [] "Times that the disk did not answer for longer than hung_after.";
    ConnectionsUntracked "inrush_connections_untracked_total" [] "Sessions that limits per address and network did not see, since too many addresses had sessions.";
    TlsPlaintextDiscarded "inrush_tls_plaintext_discarded_bytes_total" [] "Octets that came behind STARTTLS without TLS and were thrown away (RFC 3207 §4.2).";
    UnauthorizedPipelining "inrush_unauthorized_pipelining_total" [] "Commands with more behind them than the client may send before their reply (RFC 2920).";
    Introductions "inrush_xclient_total" [] "XCLIENT commands that were obeyed.";
    Tarpits "inrush_tarpit_total" [] "Replies held back for `tarpit_delay`.";
    BusyMicroseconds "inrush_busy_seconds_total" ["core"] "CPU time of the thread of a core, by core.";
}

impl CounterKey for Counter {
    fn cell(self) -> usize {
        self as usize
    }
}

families! {
    Counter::ALL.len();
    /// Why a connection got no session.
    ConnectionRefusal "inrush_connections_refused_total" "reason" "Connections refused before a session began, by reason." {
        Connections "connections_max" "The core has as many sessions as it may have.";
        Address "connections_per_address_max" "The peer has as many sessions as it may have.";
        Network "connections_per_network_max" "The peer's network has as many sessions as it may have.";
        AddressRate "connection_rate_per_address" "The peer has begun as many sessions lately as it may.";
        NetworkRate "connection_rate_per_network" "The peer's network has begun as many sessions lately as it may.";
        Denied "access_deny" "The peer is in a network of `[access] deny`: 554.";
        Memory "pending_bytes_max" "The core's budget of memory is spent.";
        Stopping "stopping" "The gateway is shutting down.";
        Descriptors "descriptors" "The process has hardly a file descriptor left.";
        ResidentMemory "memory_max" "The process has as much memory as it may have.";
        AddressUnderPressure "pressure_connections_per_address_max" "The peer has as many sessions as it may have while a resource is over its soft mark.";
    }
    /// How a session ended.
    SessionEnd "inrush_sessions_ended_total" "reason" "Sessions ended, by reason." {
        Quit "quit" "The peer said QUIT.";
        PeerClosed "peer_closed" "The peer closed without QUIT.";
        PeerReset "peer_reset" "The connection broke.";
        Timeout "timeout" "A timeout closed it; see `inrush_timeouts_total`.";
        Refused "refused" "The protocol closed it with 421 or 5xx, for example after too many errors.";
        LogFailure "log_failure" "The log failed before the reply could leave.";
        TlsFailed "tls_failed" "No TLS handshake; see `inrush_tls_handshake_failures_total`.";
        Stopping "stopping" "The gateway shut down.";
    }
    /// Which clock ran out.
    Timeout "inrush_timeouts_total" "reason" "Sessions closed by a timeout, by setting." {
        Idle "idle_timeout" "Silence between two inputs.";
        Transaction "transaction_timeout" "A mail transaction took too long.";
        Session "session_timeout" "The session took too long.";
        DataRate "min_data_rate" "Mail data came too slowly.";
    }
    /// Why the log did not take a message.
    LogRefusal "inrush_log_refusals_total" "reason" "Messages that the log did not take, by reason; the peer got 4xx." {
        SegmentNotReady "segment_not_ready" "No segment was ready in time: 452.";
        FreeSpaceLow "free_space_low" "The file system has less free space than it must keep: 452.";
        DiskFull "disk_full" "The file system is full: 452.";
        SegmentFailed "segment_failed" "A segment cannot be prepared: 452.";
        Pending "pending_bytes_max" "The core's budget of memory is spent: 452.";
        Poisoned "poisoned" "A write or sync failed earlier: 451.";
        FreeInodesLow "free_inodes_low" "The file system has fewer free inodes than it must keep: 452.";
        Hung "hung" "The disk has not answered for longer than `hung_after`: 451.";
    }
    /// On whose behalf a proxy's connections were.
    ProxyConnection "inrush_proxy_connections_total" "reason" "Connections with a PROXY header, by what it said." {
        Client "client" "A client, whose address it named.";
        Unknown "unknown" "A client without an address.";
        Local "local" "The proxy itself: a health check.";
    }
    /// Why a proxy's connection was closed.
    ProxyFailure "inrush_proxy_failures_total" "reason" "Connections from `proxy_protocol_from` that were closed for want of a PROXY header, by reason." {
        Missing "missing" "It began with something else.";
        Malformed "malformed" "The header breaks the protocol.";
        Timeout "proxy_timeout" "It did not come within `proxy_timeout`.";
        Closed "closed" "The connection was closed before it was whole.";
    }
    /// TLS handshakes by version.
    TlsVersion "inrush_tls_handshakes_total" "tls" "TLS handshakes done, by version." {
        Tls12 "TLSv1.2" "RFC 5246";
        Tls13 "TLSv1.3" "RFC 8446";
    }
    /// Why there was no TLS.
    TlsFailure "inrush_tls_handshake_failures_total" "reason" "TLS handshakes that failed or could not begin, by reason." {
        Timeout "handshake_timeout" "The peer took longer than `handshake_timeout`.";
        Closed "closed" "The peer closed or broke the connection.";
        NotTls "not_tls" "What the peer sent is not TLS.";
        Incompatible "incompatible" "No version, cipher suite or group in common.";
        Alert "alert" "The peer ended it with an alert: most often it does not trust the certificate.";
        Protocol "protocol" "The peer broke the protocol.";
        NoCertificate "no_certificate" "There is no certificate: 454, or the connection was closed.";
        Budget "handshakes_max" "The core has as many handshakes under way as it may have: 454, or the connection was closed.";
        Memory "pending_bytes_max" "The core's budget of memory is spent: 454, or the connection was closed.";
        ResidentMemory "memory_max" "The process has as much memory as it may have: 454, or the connection was closed.";
        Internal "internal" "An error of the gateway.";
    }
    /// What became of an AUTH exchange.
    Login "inrush_logins_total" "reason" "AUTH exchanges that ended with credentials, by what became of them." {
        Accepted "accepted" "They are those of a user.";
        Refused "refused" "They are not.";
        Address "failures_per_address" "Not tried: too many logins from the address have failed.";
        User "failures_per_user" "Not tried: too many logins of the user have failed.";
        Unavailable "unavailable" "Not tried: too many logins wait to be verified.";
    }
    /// Why a segment was retired.
    Retired "inrush_log_segments_retired_total" "reason" "Log segments retired, by reason." {
        Consumed "consumed" "Every consumer is past it, and there is a required one.";
        Age "retention_age" "Its newest message is older than `retention_age`.";
        Bytes "retention_bytes" "The log is larger than `retention_bytes`.";
        FreeBytes "retention_free_bytes" "There is less free space than `retention_free_bytes`.";
    }
}

plain! {
    /// Gauges of a core.
    Gauge Kind::Gauge;
    ConnectionsOpen "inrush_connections_open" ["core"] "Sessions open, by core.";
    ConnectionsLimit "inrush_connections_limit" ["core"] "Sessions that may be open, by core.";
    PendingBytes "inrush_pending_bytes" ["core"] "Octets of mail data that sessions hold in memory, by core.";
    PendingBytesLimit "inrush_pending_limit_bytes" ["core"] "Octets of mail data that sessions may hold in memory, by core.";
    TlsHandshakes "inrush_tls_handshakes_open" ["core"] "TLS handshakes under way, by core.";
    TlsHandshakesLimit "inrush_tls_handshakes_limit" ["core"] "TLS handshakes that may be under way, by core.";
    TlsCertificateExpiry "inrush_tls_certificate_expiry_seconds" [] "When the first of the certificates expires, in seconds since 1970; 0 = there is none.";
    LogDurableLagBytes "inrush_log_durable_lag_bytes" ["core"] "Octets appended to the log and not yet durable, by core.";
    LogBacklogMicroseconds "inrush_log_backlog_seconds" ["core"] "The longest that a message has waited for its durable write in the last second, by core.";
    LogBacklogLimitMicroseconds "inrush_log_backlog_limit_seconds" [] "How long messages may wait for their durable write before new ones are refused (`backlog_max`); 0 = there is no limit.";
    LogWriteMicroseconds "inrush_log_write_slowest_seconds" ["core"] "The longest that a write or sync of the log has taken in the last second, by core; one that is under way counts as well.";
    LogWriteLimitMicroseconds "inrush_log_write_limit_seconds" [] "How long a write or sync may take before the disk counts as hung (`hung_after`).";
    LogSegments "inrush_log_segments" [] "Segments of the log on disk, spares not counted.";
    LogSealedBytes "inrush_log_sealed_bytes" [] "Octets of sealed segments of the log.";
    LogSparesReady "inrush_log_spares_ready" [] "Segments ready for use.";
    LogSparesLimit "inrush_log_spares_limit" [] "Segments that are kept ready (`spares`).";
    LogSparesWaiting "inrush_log_spares_waiting" [] "Spares that are not ready yet: retired segments, most of them.";
    LogFreeBytes "inrush_log_free_bytes" [] "Free space of the file system of the log.";
    LogFreeBytesLimit "inrush_log_free_limit_bytes" [] "Free space that the file system must keep (`free_bytes_min`): below it no mail is taken.";
    LogFreeInodes "inrush_log_free_inodes" [] "Free inodes of the file system of the log; 2^64 where it makes them as it needs them.";
    LogFreeInodesLimit "inrush_log_free_inodes_limit" [] "Free inodes that the file system must keep (`free_inodes_min`): below it no mail is taken.";
    LogSpaceLow "inrush_log_space_low" [] "Logs whose file system has less than twice the free space or inodes that it must keep.";
    LogHung "inrush_log_hung" [] "Logs whose disk has not answered for longer than hung_after.";
    LogAdopted "inrush_log_adopted" [] "Logs of cores that are there no more: read and drained only.";
    LogClockDistrusted "inrush_log_clock_distrusted" [] "1 while the wall clock has jumped ahead and retention by age does not follow it.";
    LogPoisoned "inrush_log_poisoned" [] "Logs that take nothing more until a restart, because a write or sync failed.";
    LogNoSpace "inrush_log_no_space" [] "Logs that take no message for want of space.";
    MemoryLimit "inrush_process_memory_limit_bytes" [] "Resident memory that the process may have before mail and connections are refused (`memory_max`, or what was derived for it); 0 = nobody knows.";
    DescriptorsUsable "inrush_process_file_descriptors_usable" [] "File descriptors that may be open when a connection is taken; the rest is kept for the log and the operator.";
}

impl Counter {
    /// What one recorded unit is in the unit of exposition: times are counted in microseconds and shown in seconds.
    #[must_use]
    pub(crate) const fn units_per_base(self) -> u64 {
        match self {
            Self::BusyMicroseconds => 1_000_000,
            _ => 1,
        }
    }
}

impl Gauge {
    /// The same for gauges.
    #[must_use]
    pub(crate) const fn units_per_base(self) -> u64 {
        match self {
            Self::LogBacklogMicroseconds
            | Self::LogBacklogLimitMicroseconds
            | Self::LogWriteMicroseconds
            | Self::LogWriteLimitMicroseconds => 1_000_000,
            _ => 1,
        }
    }
}

/// What may run short; each has a soft and a hard mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Resource {
    /// Sessions of a core.
    Connections,
    /// File descriptors of the process.
    Descriptors,
    /// Resident memory of the process.
    Memory,
    /// TLS handshakes under way on a core.
    Handshakes,
    /// Mail data that the sessions of a core hold in memory.
    PendingBytes,
    /// The wait of a message for its durable write.
    LogBacklog,
    /// The time that the disk takes for one durable write.
    LogWrite,
    /// Free space of the log.
    LogSpace,
}

impl Resource {
    /// All of them, in the order of the cells.
    pub const ALL: &'static [Self] = &[
        Self::Connections,
        Self::Descriptors,
        Self::Memory,
        Self::Handshakes,
        Self::PendingBytes,
        Self::LogBacklog,
        Self::LogWrite,
        Self::LogSpace,
    ];
    /// The values of the label, in the same order: the settings of the hard marks, where there is one.
    pub const VALUES: &'static [&'static str] = &[
        "connections_max",
        "descriptors",
        "memory_max",
        "handshakes_max",
        "pending_bytes_max",
        "backlog_max",
        "hung_after",
        "log_space",
    ];

    /// The row of their gauge.
    pub const METRIC: Metric = Metric {
        name: "inrush_pressure",
        kind: Kind::Gauge,
        labels: &["reason"],
        help: "How short a resource has run on the core where it is the shortest: 0 = below its marks, 1 = over the soft one, 2 = over the hard one.",
        values: Self::VALUES,
    };

    /// The value of the label.
    #[must_use]
    pub fn value(self) -> &'static str {
        Self::VALUES[self as usize]
    }
}

const _: () = assert!(Resource::ALL.len() == Resource::VALUES.len());

/// How short a resource has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Below its marks.
    #[default]
    Calm,
    /// Over its soft mark.
    Soft,
    /// Over its hard mark.
    Hard,
}

impl Level {
    /// The word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }

    /// The level behind a number that was stored.
    pub(crate) fn of(stored: u64) -> Self {
        match stored {
            0 => Self::Calm,
            1 => Self::Soft,
            _ => Self::Hard,
        }
    }
}

/// Which kernel interface a core runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring.
    IoUring,
    /// epoll, with a committer thread for each log.
    Epoll,
}

impl Engine {
    /// The value of the label.
    #[must_use]
    pub fn value(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// A stretch of a session; durations go into [`Histogram::Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// From the accept to the greeting handed to the kernel.
    Banner,
    /// From STARTTLS, or from the accept under implicit TLS, to the end of the handshake.
    Tls,
    /// HELO or EHLO: from its input to its reply.
    Ehlo,
    /// MAIL: from its input to its reply.
    Mail,
    /// RCPT: from its input to its reply.
    Rcpt,
    /// DATA: from its input to the 354.
    Data,
    /// BDAT: from its input to its reply, the wait for durability not counted.
    Bdat,
    /// Any other command: from its input to its reply.
    Other,
    /// Mail data: from the 354 or the first BDAT to the last octet.
    Body,
    /// From the append to the start of the write that carries the record.
    QueueWait,
    /// From the start of that write to its durable end.
    Commit,
    /// From MAIL to the final reply of the message.
    Total,
}

impl Phase {
    /// All phases, in the order of a session.
    pub const ALL: &'static [Self] = &[
        Self::Banner,
        Self::Tls,
        Self::Ehlo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Other,
        Self::Body,
        Self::QueueWait,
        Self::Commit,
        Self::Total,
    ];
    /// The values of the label, in the same order.
    pub const VALUES: &'static [&'static str] = &[
        "banner",
        "tls",
        "ehlo",
        "mail",
        "rcpt",
        "data",
        "bdat",
        "other",
        "body",
        "queue_wait",
        "commit",
        "total",
    ];

    /// The value of the label.
    #[must_use]
    pub fn value(self) -> &'static str {
        Self::VALUES[self as usize]
    }
}

const _: () = assert!(Phase::ALL.len() == Phase::VALUES.len());

/// Histograms of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// Duration of a stretch of a session, in microseconds.
    Phase(Phase),
    /// One durable write (write and sync), in microseconds.
    LogCommit,
    /// One sync under relaxed durability, in microseconds.
    LogSync,
    /// Octets of one batch, padding included.
    LogBatchBytes,
    /// Records of one batch.
    LogBatchRecords,
}

/// Upper bounds of the buckets of durations, in microseconds: 50 µs to 60 s.
pub(crate) const DURATION_BOUNDS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// Bounds of the delay of delivery in milliseconds: from what a neighbour takes to the lifetime of a message.
pub(crate) const DELAY_BOUNDS_MS: &[u64] = &[
    1,
    5,
    10,
    50,
    100,
    500,
    1_000,
    5_000,
    30_000,
    60_000,
    300_000,
    1_800_000,
    3_600_000,
    14_400_000,
    86_400_000,
    432_000_000,
];
pub(crate) const BATCH_BYTES_BOUNDS: &[u64] =
    &[4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20];
pub(crate) const BATCH_RECORDS_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

impl Histogram {
    /// Histograms of a core in the order of its cells.
    pub(crate) const COUNT: usize = Phase::ALL.len() + 4;

    /// One of each row; all phases share one.
    pub(crate) const EACH: [Self; 5] = [
        Self::Phase(Phase::Total),
        Self::LogCommit,
        Self::LogSync,
        Self::LogBatchBytes,
        Self::LogBatchRecords,
    ];

    /// Place among the core's histograms.
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Phase(phase) => phase as usize,
            Self::LogCommit => Phase::ALL.len(),
            Self::LogBatchBytes => Phase::ALL.len() + 1,
            Self::LogBatchRecords => Phase::ALL.len() + 2,
            Self::LogSync => Phase::ALL.len() + 3,
        }
    }

    /// The row of this metric; all phases share one.
    #[must_use]
    pub const fn metric(self) -> Metric {
        let (name, labels, values, help): (_, &[&str], &[&str], _) = match self {
            Self::Phase(_) => (
                "inrush_phase_duration_seconds",
                &["phase"],
                Phase::VALUES,
                "Duration of each phase of a session or message. That of a command ends when its reply is sent, which in a group with BDAT LAST may wait for the commit.",
            ),
            Self::LogCommit => {
                ("inrush_log_commit_duration_seconds", &[], &[], "Duration of one durable write to the log.")
            }
            Self::LogSync => (
                "inrush_log_sync_duration_seconds",
                &[],
                &[],
                "Duration of one sync of the log under relaxed durability; under strict durability the write is the sync.",
            ),
            Self::LogBatchBytes => {
                ("inrush_log_batch_bytes", &[], &[], "Octets of one batch of the log, padding included.")
            }
            Self::LogBatchRecords => {
                ("inrush_log_batch_records", &[], &[], "Records of one batch of the log.")
            }
        };
        Metric { name, kind: Kind::Histogram, labels, help, values }
    }

    /// Upper bounds of the classic buckets in recorded units, `+Inf` not listed.
    #[must_use]
    pub(crate) const fn bounds(self) -> &'static [u64] {
        match self {
            Self::Phase(_) | Self::LogCommit | Self::LogSync => DURATION_BOUNDS,
            Self::LogBatchBytes => BATCH_BYTES_BOUNDS,
            Self::LogBatchRecords => BATCH_RECORDS_BOUNDS,
        }
    }

    /// What one recorded unit is in the unit of exposition: durations are recorded in microseconds and shown in seconds.
    #[must_use]
    pub(crate) const fn units_per_base(self) -> u64 {
        match self {
            Self::Phase(_) | Self::LogCommit | Self::LogSync => 1_000_000,
            Self::LogBatchBytes | Self::LogBatchRecords => 1,
        }
    }
}

/// Metrics that are not cells of an enum above: by listener, by command, by reply, of the process, of the build.
pub(crate) mod rows {
    use super::{Kind, Metric};

    macro_rules! rows {
        ($($name:ident $metric:literal $kind:ident [$($label:literal),*] $help:literal;)+) => {
            $(pub(crate) const $name: Metric =
                Metric { name: $metric, kind: Kind::$kind, labels: &[$($label),*], help: $help, values: &[] };)+
            pub(crate) const ALL: &[Metric] = &[$($name),+];
        };
    }

    rows! {
        CONNECTIONS_ACCEPTED "inrush_connections_accepted_total" Counter ["listener"] "Connections accepted, by listener.";
        COMMANDS "inrush_commands_total" Counter ["phase"] "Commands received, by verb; `unknown` for all others.";
        REPLIES "inrush_replies_total" Counter ["code"] "Replies queued, by code.";
        REFUSALS "inrush_refusals_total" Counter ["reason"] "Replies with 4xx or 5xx, by reason.";
        CONSUMER_LAG "inrush_log_consumer_lag_bytes" Gauge ["route", "shard"] "Octets of log that a consumer has not consumed; `route` is the consumer, `shard` the log.";
        CONSUMER_OLDEST "inrush_log_consumer_oldest_timestamp_seconds" Gauge ["route", "shard"] "When the first message that a consumer has not consumed was accepted, in seconds since 1970; absent when there is none.";
        CONSUMER_LOST "inrush_log_consumer_lost_segments_total" Counter ["route", "shard"] "Segments that retention took before a best-effort consumer was past them.";
        CONSUMER_DAMAGED "inrush_log_consumer_damaged" Gauge ["route", "shard"] "1 when the cursor of a consumer cannot be read or stands behind the end of the log: it keeps every segment.";
        DELIVERIES "inrush_deliveries_total" Counter ["route", "reason"] "Recipients that an attempt or a command has brought to an end or put off, by route: `reason` is `sent`, `bounced`, `expired`, `deleted`, `deferred` or `hold`.";
        DELIVERY_CONNECTIONS "inrush_delivery_connections_total" Counter ["route", "tls"] "Connections to next hops that were ready for mail, by route and TLS: `TLSv1.2`, `TLSv1.3` or `none`; and `failed` for those whose handshake failed.";
        REPORTS "inrush_reports_total" Counter ["reason"] "Delivery status notifications made: `failed`, `delayed`, or `delivered` (relayed ones as well).";
        DELIVERY_DELAY "inrush_delivery_delay_seconds" Histogram [] "From the acceptance of a message to its delivery to a recipient.";
        QUEUE_ENTRIES "inrush_queue_entries" Gauge ["reason"] "Groups of recipients that wait in the queue: `deferred` or `hold`.";
        QUEUE_OLDEST "inrush_queue_oldest_timestamp_seconds" Gauge ["reason"] "When the oldest message that waits in the queue was accepted, to the minute, in seconds since 1970: `deferred` or `hold`; absent when there is none.";
        WAITING "inrush_queue_messages_waiting" Gauge [] "Messages accepted since the start that were not taken for a first attempt yet: the lag of delivery behind the logs.";
        LANES_BEHIND "inrush_queue_logs_behind" Gauge [] "Logs of which mail from before the start was not all taken yet.";
        UNDER_WAY "inrush_queue_messages_under_way" Gauge [] "Messages that were taken for a first attempt, whose recipients are not all accounted for.";
        RELAY_CONNECTIONS "inrush_relay_connections" Gauge [] "Connections to next hops.";
        RELAY_CONNECTIONS_LIMIT "inrush_relay_connections_limit" Gauge [] "Connections to next hops that there may be (`connections_max`).";
        DESTINATIONS_DOWN "inrush_relay_destinations_down" Gauge [] "Destinations that could not be connected to and are left alone for a while.";
        RELAY_MEMORY "inrush_relay_memory_bytes" Gauge [] "Octets of messages in memory while they are delivered.";
        LINES_WRITTEN "inrush_lines_written_total" Counter [] "Log lines given to standard error or the journal.";
        LINES_DROPPED "inrush_lines_dropped_total" Counter [] "Log lines lost: standard error or the journal took none, or not fast enough. No mail ever waits for them.";
        LINES_REPEATED "inrush_lines_repeated_total" Counter [] "Log lines left out since they say the same as those before; another line counts them.";
        SPANS_SENT "inrush_spans_sent_total" Counter [] "Spans that the endpoint of `[opentelemetry]` has taken.";
        SPANS_DROPPED "inrush_spans_dropped_total" Counter [] "Spans lost: the endpoint of `[opentelemetry]` took none, or not fast enough. No mail ever waits for them.";
        RELAY_MEMORY_LIMIT "inrush_relay_memory_limit_bytes" Gauge [] "Octets of messages that may wait in memory to be delivered (`memory_max`); those on their way come on top.";
        READY "inrush_ready" Gauge [] "1 while new mail is taken, as `/readyz` says; else 0.";
        CORES_ACCEPTING "inrush_cores_accepting" Gauge [] "Cores that take connections at the moment.";
        ENGINE "inrush_engine_info" Info ["core"] "Kernel interface of each core: `engine` is `io_uring` or `epoll`.";
        BUILD "inrush_build_info" Info [] "The running program, in the labels `version`, `revision` (the commit that it is made from) and `arch`.";
        CORES "inrush_cores" Gauge [] "Cores of the front door.";
        START_TIME "inrush_process_start_time_seconds" Gauge [] "Start of the process in seconds since 1970.";
        CPU "inrush_process_cpu_seconds_total" Counter [] "CPU time of the process, user and system.";
        RESIDENT "inrush_process_resident_memory_bytes" Gauge [] "Resident memory of the process.";
        THREADS "inrush_process_threads" Gauge [] "Threads of the process.";
        DESCRIPTORS "inrush_process_open_file_descriptors" Gauge [] "File descriptors that the process has open.";
        DESCRIPTORS_LIMIT "inrush_process_file_descriptors_limit" Gauge [] "File descriptors that the process may have open.";
    }
}

/// Every declared metric, in the order of exposition.
#[must_use]
pub fn all() -> Vec<Metric> {
    let mut all = rows::ALL.to_vec();
    all.push(Resource::METRIC);
    all.extend([
        ConnectionRefusal::METRIC,
        SessionEnd::METRIC,
        Timeout::METRIC,
        LogRefusal::METRIC,
        ProxyConnection::METRIC,
        ProxyFailure::METRIC,
        Login::METRIC,
        TlsVersion::METRIC,
        TlsFailure::METRIC,
        Retired::METRIC,
    ]);
    all.extend(Counter::ALL.iter().map(|counter| counter.metric()));
    all.extend(Gauge::ALL.iter().map(|gauge| gauge.metric()));
    all.extend(Histogram::EACH.map(Histogram::metric));
    all
}
