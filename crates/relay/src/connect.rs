//! From a destination to a connection: which hosts, in which order, and why none of them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::destination::Destination;
use crate::dns::{MailHost, cut_own, order};
use crate::failure::Verdict;
use crate::settings::HopSettings;
use crate::shared::Shared;

/// Addresses of the mail hosts of a domain that an attempt tries: whoever owns the domain chooses them, and each may take its time.
const ADDRESSES_MAX: usize = 5;
/// Connecting may take so many times what it may take to one address, for all addresses of an attempt together.
const CONNECTS_MAX: u32 = 3;

/// A host that may be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its name, for TLS and the log.
    pub(crate) name: Rc<str>,
    pub(crate) address: SocketAddr,
}

impl Candidate {
    /// `name[address]:port`
    pub(crate) fn relay(&self) -> Rc<str> {
        format!("{}[{}]:{}", self.name, self.address.ip(), self.address.port()).into()
    }
}

/// The hosts of a destination, best first. An error says why there is none.
pub(crate) async fn candidates(
    shared: &Shared,
    destination: &Destination,
    hops: &HopSettings,
) -> Result<Vec<Candidate>, Verdict> {
    let found = match &destination.target.domain {
        Some(domain) => by_domain(shared, domain, hops.port).await?,
        None => fixed(shared, hops).await?,
    };
    // What has just failed is tried last, and not at all while there is something else.
    let (good, bad): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|candidate| !shared.is_bad_host(candidate.address));
    let mut found = if good.is_empty() { bad } else { good };
    if destination.target.domain.is_some() {
        found.truncate(ADDRESSES_MAX);
    }
    Ok(found)
}

/// How long connecting may take in one attempt.
pub(crate) fn time_to_connect(shared: &Shared) -> Duration {
    shared.settings.timeouts.connect.saturating_mul(CONNECTS_MAX)
}

/// RFC 5321 §5.1: the mail hosts of a domain.
async fn by_domain(shared: &Shared, domain: &str, port: u16) -> Result<Vec<Candidate>, Verdict> {
    let verdict = |error: &crate::dns::DnsError| {
        let text = error.to_string();
        if error.permanent() {
            Verdict::never(error.enhanced(), text)
        } else {
            Verdict::later(error.enhanced(), text)
        }
    };
    let hosts = shared.resolver.mail_hosts(domain).await.map_err(|error| verdict(&error))?;
    let hosts = cut_own(domain, hosts, |host| is_own(shared, host, port)).map_err(|error| verdict(&error))?;
    let hosts = order(hosts, shared.random());
    Ok(hosts
        .into_iter()
        .flat_map(|host| {
            let name: Rc<str> = host.name.into();
            let candidate =
                move |ip| Candidate { name: Rc::clone(&name), address: SocketAddr::new(ip, port) };
            host.addresses.into_iter().map(candidate)
        })
        .collect())
}

/// The hosts that are set; those of one preference in a random order.
async fn fixed(shared: &Shared, hops: &HopSettings) -> Result<Vec<Candidate>, Verdict> {
    let mut hosts: Vec<_> = hops.hosts.iter().map(|host| (host.preference, shared.random(), host)).collect();
    hosts.sort_by_key(|(preference, random, _)| (*preference, *random));
    let (mut found, mut trouble) = (Vec::new(), None);
    for (_, _, host) in hosts {
        match shared.resolver.addresses(&host.name).await {
            Ok(addresses) => {
                let name: Rc<str> = host.name.as_str().into();
                found.extend(
                    addresses.into_iter().map(|ip| Candidate {
                        name: Rc::clone(&name),
                        address: SocketAddr::new(ip, host.port),
                    }),
                );
            }
            // Whatever the DNS says of a host that is set: the setting is at fault, not the mail.
            Err(error) => trouble = Some(Verdict::later((4, 4, 3), error.to_string())),
        }
    }
    match trouble {
        Some(trouble) if found.is_empty() => Err(trouble),
        _ => Ok(found),
    }
}

/// Whether a mail host is this gateway.
fn is_own(shared: &Shared, host: &MailHost, port: u16) -> bool {
    host.name.eq_ignore_ascii_case(&shared.surroundings.hostname)
        || host.addresses.iter().any(|ip| is_own_address(shared, *ip, port))
}

fn is_own_address(shared: &Shared, ip: IpAddr, port: u16) -> bool {
    let mut own = shared.surroundings.own_addresses.iter().filter(|own| own.port() == port);
    own.any(|own| {
        // Whoever listens on all addresses listens on those of this machine: only they can be bound.
        own.ip() == ip || (own.ip().is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
    })
}

/// Connects to the first of the candidates that takes the connection; from where on to look for another one, should it be of no use. What it
/// takes is taken from `time_left`.
pub(crate) async fn connect(
    shared: &Shared,
    candidates: &[Candidate],
    from: usize,
    time_left: &mut Duration,
) -> Result<(TcpStream, usize), Verdict> {
    let mut last = Verdict::later((4, 4, 1), "no host to connect to");
    for (index, candidate) in candidates.iter().enumerate().skip(from) {
        let limit = shared.settings.timeouts.connect.min(*time_left);
        if limit.is_zero() {
            break;
        }
        let name = format!("connect to {}", candidate.relay());
        let begun = Instant::now();
        let connected = timeout(limit, TcpStream::connect(candidate.address)).await;
        *time_left = time_left.saturating_sub(begun.elapsed());
        let text = match connected {
            Ok(Ok(stream)) => {
                // Without this the last part of a message may wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok((stream, index));
            }
            Ok(Err(error)) => format!("{name}: {error}"),
            Err(_) => format!("{name}: Connection timed out"),
        };
        tracing::info!(relay = %candidate.relay(), error = text, "a host cannot be connected to");
        shared.note_bad_host(candidate.address);
        last = Verdict::later((4, 4, 1), text);
    }
    Err(last)
}
