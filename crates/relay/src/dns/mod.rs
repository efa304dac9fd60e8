//! Where the mail for a domain goes.
//!
//! ```text
//!   [192.0.2.1] ───────────────────────────────────────▶ that address
//!   domain ── MX? ── records ─────▶ A, AAAA of each ───▶ hosts by preference      hosts without address wait for the others
//!                 ├─ "0 ." ───────▶ takes no mail (RFC 7505)
//!                 ├─ no data ─────▶ A, AAAA of the domain ─▶ one host, preference 0 (implicit MX)
//!                 ├─ no such name ▶ bounce
//!                 └─ no answer ───▶ try again: never the address of a domain whose MX records are unknown
//! ```
//! All names are absolute: the search list of the system is not used, nor is its file of hosts. Aliases are followed, for a domain as
//! RFC 5321 §5.1 wants it and for a mail host although RFC 2181 §10.3 forbids it, since most senders do.
//!
//! Bounds: [`MAIL_HOSTS_MAX`] hosts with [`ADDRESSES_MAX`] addresses each; a question takes at most `attempts` times `timeout`, a domain
//! three questions one behind the other (MX, addresses, and whether aliases have an end).
//!
//! The answers are as true as the way to the name server is safe. What will bind them to more than that comes in here: DANE as TLSA
//! look-ups through the same servers, with the authenticated-data flag kept beside each host ([`MailHost`] may get fields), MTA-STS as
//! a sieve of names between [`Resolver::mail_hosts`] and [`order`]; both end in a stricter [`ServerCheck`](crate::tls::ServerCheck).
//!
//! A [`Resolver`] belongs to one runtime, since its TCP connections do; clones share servers and cache.
//!
//! Standards: RFC 5321 §5.1 (locating the target host), §4.1.3 (literals), RFC 7505 (null MX), RFC 2181 §10.3, RFC 8020 (NXDOMAIN),
//! RFC 7672 and RFC 8461 (to come).

mod error;
mod host;
mod name;
mod servers;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use hickory_resolver::proto::rr;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::MX;

pub use error::{DnsError, RecordType, Trouble};
pub use host::{ADDRESSES_MAX, MailHost, cut_own, order};

use name::{Domain, host_name};
use servers::{Failure, Servers};

/// Most mail hosts of one domain that are used: the best ones.
pub const MAIL_HOSTS_MAX: usize = 20;

/// Families of the addresses that are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// IPv6 and IPv4 in turn.
    #[default]
    Both,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// `[relay.dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Name servers that resolve for us, the best first; without any, those of `/etc/resolv.conf` when the gateway starts.
    pub servers: Vec<SocketAddr>,
    /// How long one attempt at one question may take, with all its aliases and over TCP as well.
    pub timeout: Duration,
    /// Attempts at one question, over all servers together; at least 1.
    pub attempts: u32,
    /// Answers that are kept for each server; 0 = none.
    pub cache_entries: u64,
    /// How long an answer is kept at least, whatever it says of itself.
    pub cache_ttl_min: Duration,
    /// How long an answer is kept at most; an answer that nothing is there at most an hour.
    pub cache_ttl_max: Duration,
    /// Families of addresses.
    pub addresses: Addresses,
    /// Whether IPv6 goes first where a host has both.
    pub ipv6_first: bool,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            attempts: 3,
            cache_entries: 10_000,
            cache_ttl_min: Duration::ZERO,
            cache_ttl_max: Duration::from_secs(86_400),
            addresses: Addresses::Both,
            ipv6_first: true,
        }
    }
}

/// Why there is no resolver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsSettingsError {
    /// No attempt is allowed.
    #[error("attempts must be at least 1")]
    NoAttempt,
    /// No time is allowed.
    #[error("timeout must be longer than 0")]
    NoTime,
    /// No answer could satisfy both bounds.
    #[error("cache_ttl_min is longer than cache_ttl_max")]
    TtlBounds,
    /// The name servers of the system cannot be found out.
    #[error("the name servers of the system cannot be used: {0}")]
    System(String),
}

/// Looks up next hops.
#[derive(Clone)]
pub struct Resolver {
    servers: Arc<Servers>,
    addresses: Addresses,
    ipv6_first: bool,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver with an empty cache. Asks nothing yet.
    ///
    /// # Errors
    /// The settings contradict themselves, or the system names no server.
    pub fn new(settings: &DnsSettings) -> Result<Self, DnsSettingsError> {
        if settings.attempts == 0 {
            return Err(DnsSettingsError::NoAttempt);
        }
        if settings.timeout.is_zero() {
            return Err(DnsSettingsError::NoTime);
        }
        if settings.cache_ttl_min > settings.cache_ttl_max {
            return Err(DnsSettingsError::TtlBounds);
        }
        let servers = Arc::new(Servers::new(settings)?);
        Ok(Self { servers, addresses: settings.addresses, ipv6_first: settings.ipv6_first })
    }

    /// The hosts that take mail for `domain`, sorted by preference; at least one has an address. They go through [`cut_own`] and
    /// [`order`] before anything is sent.
    ///
    /// `domain` is what stands behind the `@`: a name, also with U-labels, or an address literal.
    ///
    /// # Errors
    /// See [`DnsError`]: the domain takes no mail or cannot be reached, for good or for the moment.
    pub async fn mail_hosts(&self, domain: &str) -> Result<Vec<MailHost>, DnsError> {
        let name = match Domain::parse(domain)? {
            Domain::Literal(address) => {
                let addresses = self.literal(address)?;
                return Ok(vec![MailHost::new(0, address.to_canonical().to_string(), addresses)]);
            }
            Domain::Name(name) => name,
        };
        let records = match self.servers.ask(&name, rr::RecordType::MX).await {
            Ok(records) => records,
            // RFC 5321 §5.1: without MX records the domain is its own mail host, with preference 0.
            Err(Failure::NoData) => {
                let addresses = self.addresses_of(&name).await?;
                return Ok(vec![MailHost::new(0, name, addresses)]);
            }
            Err(failure) => return Err(explain(failure, &name, RecordType::Mx)),
        };
        let exchangers = exchangers(&name, &records)?;
        let hosts = exchangers.into_iter().map(async |(preference, host)| {
            let addresses = self.addresses_of(&host).await;
            MailHost::found(preference, host, addresses)
        });
        let hosts = join_all(hosts).await;
        host::check(&name, &hosts)?;
        Ok(hosts)
    }

    /// The addresses of a next hop that is set: a host name, an address or an address literal. At least one, in the order in which they
    /// are tried. Its MX records do not count.
    ///
    /// # Errors
    /// See [`DnsError`]. Also where that is permanent, the mail is not at fault but the setting: whoever asks will rather wait than bounce.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = host.parse() {
            return self.literal(address);
        }
        match Domain::parse(host)? {
            Domain::Literal(address) => self.literal(address),
            Domain::Name(name) => self.addresses_of(&name).await,
        }
    }

    /// An address that was not looked up, if it may be used.
    fn literal(&self, address: IpAddr) -> Result<Vec<IpAddr>, DnsError> {
        let address = address.to_canonical();
        let family = match self.addresses {
            Addresses::Both => true,
            Addresses::Ipv4 => address.is_ipv4(),
            Addresses::Ipv6 => address.is_ipv6(),
        };
        if family && host::usable(address) {
            return Ok(vec![address]);
        }
        Err(DnsError::NoData { name: address.to_string(), record_type: self.record_type() })
    }

    /// What is asked for when addresses are.
    fn record_type(&self) -> RecordType {
        match self.addresses {
            Addresses::Both => RecordType::Address,
            Addresses::Ipv4 => RecordType::A,
            Addresses::Ipv6 => RecordType::Aaaa,
        }
    }

    /// The addresses of a host name. One family is enough.
    async fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let ask = async |unwanted, record_type| match self.addresses == unwanted {
            true => None,
            false => Some(self.servers.ask(name, record_type).await),
        };
        let (ipv6, ipv4) =
            join(ask(Addresses::Ipv4, rr::RecordType::AAAA), ask(Addresses::Ipv6, rr::RecordType::A)).await;
        let list = |found: &Option<Result<Vec<RData>, Failure>>| -> Vec<IpAddr> {
            found.iter().flatten().flatten().filter_map(RData::ip_addr).collect()
        };
        let addresses = host::alternate(list(&ipv6), list(&ipv4), self.ipv6_first);
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let failures = [(ipv6, RecordType::Aaaa), (ipv4, RecordType::A)].into_iter();
        // A family whose addresses are all of no use has none.
        let missing = |found: Result<Vec<RData>, Failure>| found.err().unwrap_or(Failure::NoData);
        let failures: Vec<_> = failures.filter_map(|(found, asked)| Some((missing(found?), asked))).collect();
        // What may still come counts most. Some servers deny the whole name where only one family is missing: both must agree.
        if let Some((failure, asked)) = failures.iter().find(|(failure, _)| failure.may_pass()) {
            return Err(explain(failure.clone(), name, *asked));
        }
        let agreed = failures.windows(2).all(|pair| pair[0].0 == pair[1].0);
        let failure = failures.into_iter().next().filter(|_| agreed).map(|(failure, _)| failure);
        Err(explain(failure.unwrap_or(Failure::NoData), name, self.record_type()))
    }
}

/// The mail exchangers among `records`: the best, each once, sorted by preference. Names that no host can have are passed over, such as
/// addresses in place of names.
fn exchangers(domain: &str, records: &[RData]) -> Result<Vec<(u16, String)>, DnsError> {
    let records: Vec<&MX> = records
        .iter()
        .filter_map(|record| match record {
            RData::MX(mx) => Some(mx),
            _ => None,
        })
        .collect();
    // RFC 7505 §3: the one and only record has no host. Among others such a record says nothing.
    if let [only] = records[..]
        && only.exchange.is_root()
    {
        return Err(DnsError::NullMx(domain.to_owned()));
    }
    let valid = records.iter().filter_map(|mx| Some((mx.preference, host_name(&mx.exchange.to_ascii())?)));
    let mut valid: Vec<(u16, String)> = valid.collect();
    valid.sort_by_key(|(preference, _)| *preference);
    let mut exchangers: Vec<(u16, String)> = Vec::new();
    for (preference, host) in valid {
        if exchangers.len() < MAIL_HOSTS_MAX && exchangers.iter().all(|(_, other)| *other != host) {
            exchangers.push((preference, host));
        }
    }
    if exchangers.is_empty() { Err(DnsError::NoValidHost(domain.to_owned())) } else { Ok(exchangers) }
}

fn explain(failure: Failure, name: &str, record_type: RecordType) -> DnsError {
    let name = name.to_owned();
    match failure {
        Failure::NotFound => DnsError::NotFound { name, record_type },
        Failure::NoData => DnsError::NoData { name, record_type },
        Failure::AliasLoop => DnsError::AliasLoop { name, record_type },
        Failure::TryAgain(trouble) => DnsError::TryAgain { name, record_type, trouble },
    }
}
