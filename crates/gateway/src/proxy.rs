//! Connections that a load balancer hands on: its PROXY header is read before anything is said, and from then on the peer is who it names.
//!
//! ```text
//! accept ─▶ from a listed network? ─▶ header, within `proxy_timeout` ─▶ admitted as the client ─▶ session
//!                                       └─▶ malformed, missing, late: closed without a word, counted
//! ```
//! Never more is read than the header: what follows is the client's, TLS included.
//!
//! Standards: HAProxy's proxy-protocol.txt, section 2.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use inrush_metrics::{ProxyConnection, ProxyFailure};
use inrush_proto::proxy::{self, Command, HEADER_OCTETS_MAX, Header, Parsed, ProxyError};
use monoio::buf::IoBufMut as _;
use monoio::io::AsyncReadRent as _;
use monoio::net::TcpStream;

use crate::admission::{Admitted, refuse};
use crate::doors::Door;
use crate::session;
use crate::sessions::Shown;
use crate::talkers;
use crate::tls::Agreed;
use crate::watch::{Ending, Slot, Stage};

/// What a proxy has said about its client beside the address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Introduction {
    /// The proxy's own address.
    pub(crate) proxy: Option<SocketAddr>,
    /// Where the client connected to.
    pub(crate) local: Option<SocketAddr>,
    /// The TLS that the proxy has ended.
    pub(crate) tls: Option<Agreed>,
    /// The client's host name.
    pub(crate) name: Option<String>,
    /// The proxy's name for the connection, in hexadecimal digits.
    pub(crate) unique_id: Option<String>,
}

/// Reads the header of a connection that `admitted` has taken from a proxy, and serves the session of who is behind it.
pub(crate) async fn serve(mut admitted: Admitted, mut stream: TcpStream, door: Rc<Door>) {
    let core = Rc::clone(&admitted.core);
    let read = Box::pin(read_header(&admitted, &door, &mut stream)).await;
    let header = match read {
        Ok(octets) => octets,
        Err(failure) => return core.metrics.count(failure),
    };
    // Parsed a second time, which is cheaper than to keep what it borrows.
    let Ok(Parsed::Complete { header, .. }) = proxy::parse(&header) else { return };
    let proxy = admitted.peer;
    core.metrics.count(match (header.command, header.source) {
        (Command::Local, _) => ProxyConnection::Local,
        (Command::Proxy, None) => ProxyConnection::Unknown,
        (Command::Proxy, Some(_)) => ProxyConnection::Client,
    });
    let is_client = header.command == Command::Proxy;
    // Somebody unknown is not given the rights of the proxy, but shares its limits with all others who are unknown.
    let address = header.source.filter(|_| is_client).map_or(proxy.ip(), |source| source.ip());
    match core.admit_address(address, !is_client || header.source.is_some()) {
        Ok(ticket) => admitted.hold(ticket),
        Err((reason, reply)) => {
            core.metrics.count(reason);
            talkers::refused_connection(&core.metrics, address);
            core.say_refused(&door, header.source.filter(|_| is_client).unwrap_or(proxy), reason);
            refuse(&core, &door, &mut stream, reply).await;
            return;
        }
    }
    if is_client {
        admitted.peer = header.source.unwrap_or(proxy);
        admitted.known = header.source.is_some();
        admitted.introduction = Some(Box::new(introduction(proxy, &header)));
    }
    session::serve(admitted, stream, door).await;
}

fn introduction(proxy: SocketAddr, header: &Header<'_>) -> Introduction {
    let tls = header.tls.map(|tls| Agreed {
        version: match tls.version {
            Some("TLSv1.3") => "TLSv1.3",
            Some("TLSv1.2") => "TLSv1.2",
            Some("TLSv1.1") => "TLSv1.1",
            Some("TLSv1") => "TLSv1",
            _ => "TLS",
        },
        cipher: tls.cipher.unwrap_or_default().to_owned(),
        server_name: header.authority.filter(|name| is_word(name)).map(str::to_owned),
        client: tls.common_name.filter(|name| tls.verified && is_word(name)).map(str::to_owned),
    });
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect();
    Introduction {
        proxy: Some(proxy),
        local: header.destination,
        tls,
        name: None,
        unique_id: header.unique_id.map(hex),
    }
}

/// What may stand in log lines and trace fields.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The octets of the header.
async fn read_header(
    admitted: &Admitted,
    door: &Door,
    stream: &mut TcpStream,
) -> Result<Vec<u8>, ProxyFailure> {
    let core = &*admitted.core;
    let shown = Shown::new(Some(admitted.peer), door.index);
    let slot = Slot::new(stream.as_raw_fd(), core.clock.now(), shown);
    let place = core.watch.enter(slot);
    place.enter(Stage::Proxy, core.clock.now());
    let mut octets = Vec::with_capacity(64);
    loop {
        let wanted = match proxy::parse(&octets) {
            Ok(Parsed::Complete { .. }) => return Ok(octets),
            Ok(Parsed::Incomplete { octets_min }) => octets_min,
            Err(ProxyError::Signature) => return Err(ProxyFailure::Missing),
            Err(error) => {
                tracing::debug!(proxy = %admitted.peer, %error, "PROXY header");
                return Err(ProxyFailure::Malformed);
            }
        };
        debug_assert!(octets.len() + wanted <= HEADER_OCTETS_MAX);
        let filled = octets.len();
        octets.reserve_exact(wanted);
        let (result, slice) = stream.read(octets.slice_mut(filled..filled + wanted)).await;
        octets = slice.into_inner();
        if !matches!(result, Ok(1..)) {
            return Err(if place.ending() == Some(Ending::Proxy) {
                ProxyFailure::Timeout
            } else {
                ProxyFailure::Closed
            });
        }
    }
}
