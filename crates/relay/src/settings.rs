//! What steers the relay, with its defaults.

use std::time::Duration;

use crate::dns::DnsSettings;
use crate::maildir::{Quota, Template};
use crate::tls::{TlsClientSettings, TlsPolicy};

/// Recipients of one transaction; more of them go in further ones. RFC 5321 §4.5.3.1.8: every server takes 100.
pub const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// Settings of the relay.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Ways out, by name.
    pub routes: Vec<Route>,
    /// Which way the mail for a domain goes, by its name in lower case with A-labels; `*` is every domain that is not named.
    pub domains: Vec<(String, usize)>,
    /// Which way the mail of users goes that is for no domain of ours.
    pub submission: Option<usize>,
    /// Connections and deliveries at a time, over all destinations.
    pub connections_max: u32,
    /// Octets of messages that are held in memory while they are being delivered.
    pub memory_max: u64,
    /// Time limits of a dialog.
    pub timeouts: RelayTimeouts,
    /// Name servers.
    pub dns: DnsSettings,
    /// Trust in next hops.
    pub tls: TlsClientSettings,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            domains: Vec::new(),
            submission: None,
            connections_max: 500,
            memory_max: 64 << 20,
            timeouts: RelayTimeouts::default(),
            dns: DnsSettings::default(),
            tls: TlsClientSettings::default(),
        }
    }
}

/// How long each step of a dialog with a next hop may take (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTimeouts {
    /// One connection attempt to one address.
    pub connect: Duration,
    /// The greeting (§4.5.3.2.1), and the replies to EHLO, STARTTLS, RSET and QUIT.
    pub greeting: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// The replies to MAIL and RCPT (§4.5.3.2.2, §4.5.3.2.3).
    pub command: Duration,
    /// The reply to DATA (§4.5.3.2.4).
    pub data: Duration,
    /// A block of mail data to be taken (§4.5.3.2.5).
    pub block: Duration,
    /// The reply to the end of mail data (§4.5.3.2.6).
    pub end: Duration,
    /// Octets a second that a host has to take of a large message, over all of it; 0 = no check.
    pub min_data_rate: u32,
}

impl Default for RelayTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_mins(5),
            handshake: Duration::from_mins(1),
            command: Duration::from_mins(5),
            data: Duration::from_mins(2),
            block: Duration::from_mins(3),
            end: Duration::from_mins(10),
            min_data_rate: 4 << 10,
        }
    }
}

/// A way out.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in the configuration, in logs and metrics.
    pub name: String,
    /// What it is.
    pub kind: RouteKind,
}

/// What a route does with its mail.
#[derive(Clone, Debug)]
pub enum RouteKind {
    /// To the mail hosts of the recipient's domain, or to hosts that are set.
    Smtp(HopSettings),
    /// To hosts that are set, by LMTP (RFC 2033).
    Lmtp(HopSettings),
    /// Into Maildirs on this machine.
    Maildir(MaildirRoute),
    /// Nowhere: it is kept until an operator decides.
    Hold,
}

impl RouteKind {
    /// The word of the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Lmtp(_) => "lmtp",
            Self::Maildir(_) => "maildir",
            Self::Hold => "hold",
        }
    }

    /// Whether each domain is a destination of its own.
    #[must_use]
    pub fn goes_by_domain(&self) -> bool {
        matches!(self, Self::Smtp(hops) if hops.hosts.is_empty())
    }
}

/// Next hops of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopSettings {
    /// Hosts that are set; without any, the mail hosts of each domain by DNS.
    pub hosts: Vec<Host>,
    /// Port of mail hosts that were found by DNS.
    pub port: u16,
    /// Encryption.
    pub tls: TlsPolicy,
    /// Connections to one destination at most.
    pub connections_max: u32,
    /// Messages on one connection; 0 = no limit but that of the server.
    pub messages_per_connection: u32,
    /// How long a connection is kept for the next message.
    pub keep_connection: Duration,
}

impl Default for HopSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            port: 25,
            tls: TlsPolicy::Opportunistic,
            connections_max: 20,
            messages_per_connection: 0,
            keep_connection: Duration::from_secs(2),
        }
    }
}

/// A next hop that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The lower, the better; those of the next one are used when none of this one can be.
    pub preference: u16,
    /// Host name, or address without brackets.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

/// Mailboxes of a route.
#[derive(Clone, Debug)]
pub struct MaildirRoute {
    /// Where they are.
    pub template: Template,
    /// Whether mailboxes that are not there are made.
    pub create: bool,
    /// How much fits into each.
    pub quota: Quota,
    /// Whether `A@x` and `a@x` are different mailboxes.
    pub case_sensitive: bool,
    /// What separates the local part from a detail, for `{user}`.
    pub subaddress_separator: Option<char>,
    /// Deliveries at a time.
    pub deliveries_max: u32,
}

/// What the relay knows of the gateway around it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Our name in EHLO, in reports, in names of mailbox files.
    pub hostname: String,
    /// Where the gateway listens, so that it does not relay to itself.
    pub own_addresses: Vec<std::net::SocketAddr>,
}
