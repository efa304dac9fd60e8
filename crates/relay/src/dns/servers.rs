//! Questions to name servers: one after the other until one answers.
//!
//! ```text
//!   server 1 ── no answer in time ──▶ server 2 ── SERVFAIL ──▶ server 1 ── answer ──▶ asked first from now on
//! ```
//! A server that answers with an error is not asked again for the same question; one that is silent is. An answer that nothing is there
//! is an answer. UDP first, TCP for answers that are cut off.
//!
//! hickory can turn to several servers on its own, but takes the error of the first that answers for the answer of all; hence one resolver
//! with one server each. The cache is that of the server that answers, which hardly ever changes.
//!
//! Standards: RFC 1035 §7, RFC 2308 §2 (negative answers), RFC 7766 §5 (TCP).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::{DnsSettings, DnsSettingsError, Trouble};

/// Negative answers are not believed for longer (RFC 2308 §5 recommends one to three hours).
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(3600);

/// Questions under way over one TCP connection.
const TCP_QUESTIONS_MAX: usize = 512;

/// Aliases that have no end: as many as hickory follows one by one. A server that resolves for us follows them itself.
const ALIASES_MAX: usize = 8;

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// NXDOMAIN.
    NotFound,
    /// NODATA.
    NoData,
    /// Aliases without an end. From [`judge`] it is a suspicion only.
    AliasLoop,
    /// No answer.
    TryAgain(Trouble),
}

impl Failure {
    /// Whether there may be an answer later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::TryAgain(_))
    }
}

/// What an error of hickory means for the question.
enum Verdict {
    /// It is the answer.
    Answer(Failure),
    /// The server will say the same again.
    Refused(Trouble),
    /// The same server may do better next time.
    Failed(Trouble),
}

/// The name servers.
pub(super) struct Servers {
    resolvers: Vec<TokioResolver>,
    /// Index of the one that answered last.
    first: AtomicUsize,
    attempts: u32,
    timeout: Duration,
}

impl Servers {
    /// Those of the settings, or else of the system.
    pub(super) fn new(settings: &DnsSettings) -> Result<Self, DnsSettingsError> {
        let servers = if settings.servers.is_empty() {
            let system = system_conf::read_system_conf();
            system.map_err(|error| DnsSettingsError::System(error.to_string()))?.0.name_servers
        } else {
            settings.servers.iter().map(|server| configured(*server)).collect()
        };
        let options = options(settings);
        let resolvers = servers.into_iter().map(|server| {
            let config = ResolverConfig::from_name_servers(vec![server]);
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.with_options(options.clone()).build()
        });
        let resolvers: Result<Vec<_>, _> = resolvers.collect();
        let resolvers = resolvers.map_err(|error| DnsSettingsError::System(error.to_string()))?;
        Ok(Self {
            resolvers,
            first: AtomicUsize::new(0),
            attempts: settings.attempts,
            timeout: settings.timeout,
        })
    }

    /// The data of all records of this type that `name`, or what it is an alias of, has. Never empty.
    ///
    /// `name` is a host name.
    pub(super) async fn ask(&self, name: &str, record_type: RecordType) -> Result<Vec<RData>, Failure> {
        // The dot keeps hickory from trying the name within the system's own domain.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else { return Err(Failure::NotFound) };
        let found = match self.try_all(&name, record_type).await {
            Ok(lookup) => lookup,
            Err(Failure::AliasLoop) if !self.is_alias_loop(&name).await => return Err(Failure::NoData),
            Err(failure) => return Err(failure),
        };
        let records = found.answers().iter().filter(|record| record.record_type() == record_type);
        let data: Vec<RData> = records.map(|record| record.data.clone()).collect();
        if data.is_empty() { Err(Failure::NoData) } else { Ok(data) }
    }

    async fn try_all(&self, name: &Name, record_type: RecordType) -> Result<Lookup, Failure> {
        let count = self.resolvers.len();
        let mut refused = vec![false; count];
        let mut trouble = Trouble::Timeout;
        let mut start = self.first.load(Ordering::Relaxed);
        for _ in 0..self.attempts {
            let mut indices = (0..count).map(|step| (start + step) % count);
            let Some(index) = indices.find(|index| !refused[*index]) else { break };
            start = index + 1;
            let lookup = self.resolvers[index].lookup(name.clone(), record_type);
            // Bounds what hickory bounds step by step only: aliases, and the way from UDP to TCP.
            let answer = match tokio::time::timeout(self.timeout, lookup).await {
                Ok(Ok(lookup)) => Ok(lookup),
                Ok(Err(error)) => match judge(&error) {
                    Verdict::Answer(failure) => Err(failure),
                    Verdict::Refused(why) => {
                        refused[index] = true;
                        trouble = why;
                        continue;
                    }
                    Verdict::Failed(why) => {
                        trouble = why;
                        continue;
                    }
                },
                Err(_) => {
                    trouble = Trouble::Timeout;
                    continue;
                }
            };
            self.first.store(index, Ordering::Relaxed);
            return answer;
        }
        Err(Failure::TryAgain(trouble))
    }

    /// Whether the aliases of a name have no end. hickory gives up on endless ones and says that there is no data.
    async fn is_alias_loop(&self, name: &Name) -> bool {
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            let Ok(found) = self.try_all(&name, RecordType::CNAME).await else { return false };
            let alias = found.answers().iter().find_map(|record| match &record.data {
                RData::CNAME(alias) if record.name == name => Some(alias.0.clone()),
                _ => None,
            });
            let Some(alias) = alias else { return false };
            name = alias;
        }
        true
    }
}

fn configured(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

fn options(settings: &DnsSettings) -> ResolverOpts {
    let (ttl_min, ttl_max) = (settings.cache_ttl_min, settings.cache_ttl_max);
    let mut options = ResolverOpts::default();
    options.timeout = settings.timeout;
    // We count the attempts ourselves.
    options.attempts = 0;
    options.num_concurrent_reqs = 1;
    options.max_active_requests = TCP_QUESTIONS_MAX;
    options.cache_size = settings.cache_entries;
    options.positive_min_ttl = Some(ttl_min);
    options.positive_max_ttl = Some(ttl_max);
    options.negative_min_ttl = Some(ttl_min);
    options.negative_max_ttl = Some(ttl_max.min(NEGATIVE_TTL_MAX).max(ttl_min));
    // RFC 5321 §5.1 sends mail where the DNS says, not where a file of this machine does.
    options.use_hosts_file = ResolveHosts::Never;
    options
}

/// ```text
///   NXDOMAIN                                       not found
///   NOERROR, nothing, with SOA                     no data
///   NOERROR, nothing, NS without SOA               a referral: the server does not resolve for us
///   NOERROR, nothing at all                        no data, or hickory has given up on aliases
///   any other code                                 refused
///   malformed, cut off over TCP as well            failed
///   no answer, no connection, too busy             failed
/// ```
fn judge(error: &NetError) -> Verdict {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => match nothing.response_code {
            ResponseCode::NXDomain => Verdict::Answer(Failure::NotFound),
            // RFC 2308 §2.2.
            ResponseCode::NoError if nothing.soa.is_some() => Verdict::Answer(Failure::NoData),
            ResponseCode::NoError if nothing.ns.is_some() => Verdict::Refused(Trouble::Referral),
            ResponseCode::NoError => Verdict::Answer(Failure::AliasLoop),
            code => Verdict::Refused(Trouble::ServerFailure(code.to_str().to_owned())),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Verdict::Refused(Trouble::ServerFailure(code.to_str().to_owned()))
        }
        NetError::Timeout => Verdict::Failed(Trouble::Timeout),
        NetError::Busy => Verdict::Failed(Trouble::Busy),
        NetError::Io(error) => Verdict::Failed(Trouble::Unreachable(error.to_string())),
        NetError::NoConnections => Verdict::Failed(Trouble::Unreachable(error.to_string())),
        _ => Verdict::Failed(Trouble::Malformed),
    }
}
