//! Who gets a session, and which session a TLS handshake.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use inrush_logging::ConnectionRefused;
use inrush_metrics::{ConnectionRefusal, Counter, Family as _, Level, Resource, TlsFailure};
use inrush_policy::{Access, ConnectionRefusal as Limit, Ticket};
use inrush_proto::Reply;
use monoio::io::AsyncWriteRentExt;
use monoio::net::TcpStream;

use crate::core::Core;
use crate::doors::Door;
use crate::proxy::{self, Introduction};
use crate::session;
use crate::talkers;
use crate::tls::Certificates;

/// Admits a new connection, or says why not.
pub(crate) async fn welcome(core: &Rc<Core>, door: &Rc<Door>, mut stream: TcpStream, peer: SocketAddr) {
    let proxied = !door.proxies.is_empty() && door.proxies.contains(peer.ip());
    let room = core.admit(stream.as_raw_fd());
    // Who is behind a proxy is known when its header is there.
    let admitted = room.and_then(|()| if proxied { Ok(None) } else { core.admit_address(peer.ip(), true) });
    let ticket = match admitted {
        Ok(ticket) => ticket,
        Err((reason, reply)) => {
            core.metrics.count(reason);
            talkers::refused_connection(&core.metrics, peer.ip());
            core.say_refused(door, peer, reason);
            // Nobody behind a proxy is told, since its header was not read.
            if !proxied {
                refuse(core, door, &mut stream, reply).await;
            }
            return;
        }
    };
    core.metrics.accepted(door.index);
    core.open.set(core.open.get() + 1);
    let admitted = Admitted { core: Rc::clone(core), peer, known: true, introduction: None, ticket };
    if proxied {
        monoio::spawn(proxy::serve(admitted, stream, Rc::clone(door)));
    } else {
        monoio::spawn(session::serve(admitted, stream, Rc::clone(door)));
    }
}

/// Says to a new connection why it gets no session. Under implicit TLS there is no way to say it.
pub(crate) async fn refuse(core: &Core, door: &Door, stream: &mut TcpStream, reply: &'static Reply) {
    if door.context.tls() != inrush_proto::Tls::Implicit {
        // The socket buffer of a new connection takes one line: this does not wait for the peer.
        let mut session = inrush_proto::Session::new(Rc::clone(&door.context));
        session.close_with(reply);
        let mut out = core.take_output();
        session.take_ready(&mut out);
        // No session has said this.
        core.turn.take();
        core.turn.take_refusals();
        let (_, out) = stream.write_all(out).await;
        core.give_back_output(out);
    }
}

/// The leave of one connection to be there; given back when its session ends.
pub(crate) struct Admitted {
    pub(crate) core: Rc<Core>,
    /// Who it is.
    pub(crate) peer: SocketAddr,
    /// It is the peer itself, not a proxy that cannot say for whom it speaks.
    pub(crate) known: bool,
    /// What a proxy has said about it.
    pub(crate) introduction: Option<Box<Introduction>>,
    /// Its part of what its address may have, where that is limited.
    ticket: Option<Ticket>,
}

impl Admitted {
    /// Keeps the part of who stands behind a proxy.
    pub(crate) fn hold(&mut self, ticket: Option<Ticket>) {
        debug_assert!(self.ticket.is_none());
        self.ticket = ticket;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.core.open.set(self.core.open.get() - 1);
        if let Some(ticket) = self.ticket.take() {
            self.core.connections.leave(ticket);
        }
        self.core.look_whether_left();
    }
}

/// The leave of one TLS handshake to be under way.
pub(crate) struct HandshakePermit<'c> {
    core: &'c Core,
    /// What it is done with, even if they are replaced meanwhile.
    pub(crate) certificates: Arc<Certificates>,
}

impl Drop for HandshakePermit<'_> {
    fn drop(&mut self) {
        self.core.handshakes.set(self.core.handshakes.get() - 1);
    }
}

impl Core {
    /// Says that a connection got no session.
    pub(crate) fn say_refused(&self, door: &Door, client: SocketAddr, reason: ConnectionRefusal) {
        if self.lines.of_connections() {
            let (wall_us, listener) = (self.wall(), door.index);
            self.lines.refused(&ConnectionRefused { wall_us, listener, client, reason: reason.value() });
        }
    }

    /// Why there is no session for anybody now, if so. The kernel gives out the lowest number that is free: a connection with the number `fd`
    /// says that at least so many descriptors are in use.
    fn admit(&self, fd: RawFd) -> Result<(), (ConnectionRefusal, &'static Reply)> {
        if self.stopping.get() {
            return Err((ConnectionRefusal::Stopping, Reply::SHUTTING_DOWN));
        }
        if self.open.get() >= self.connections_max {
            self.refused.sessions.set(true);
            return Err((ConnectionRefusal::Connections, Reply::TOO_MANY_CONNECTIONS));
        }
        if u64::try_from(fd).is_ok_and(|number| number >= self.machine.descriptors().1) {
            self.refused.descriptors.set(true);
            return Err((ConnectionRefusal::Descriptors, Reply::TOO_MANY_DESCRIPTORS));
        }
        if self.pool.exhausted() {
            return Err((ConnectionRefusal::Memory, Reply::OVERLOADED));
        }
        if self.pressure.of(Resource::Memory) == Level::Hard {
            return Err((ConnectionRefusal::ResidentMemory, Reply::OVERLOADED));
        }
        Ok(())
    }

    /// Counts a new connection where its address has limits, or says why it gets no session. Unless `known`, the address is only
    /// that of the proxy before it.
    pub(crate) fn admit_address(
        &self,
        address: IpAddr,
        known: bool,
    ) -> Result<Option<Ticket>, (ConnectionRefusal, &'static Reply)> {
        match self.access_of(address) {
            Access::Denied => return Err((ConnectionRefusal::Denied, Reply::ACCESS_DENIED)),
            Access::Allowed if known => return Ok(None),
            Access::Allowed | Access::Unlisted => {}
        }
        let (limits, usual) =
            (self.connection_limits(), self.settings.budgets.connections.open_per_address_max);
        let lowered = usual == 0 || limits.open_per_address_max < usual;
        match self.connections.enter(address, limits, self.shared_now()) {
            Ok(ticket) => {
                if ticket.is_untracked() {
                    self.metrics.count(Counter::ConnectionsUntracked);
                }
                Ok(Some(ticket))
            }
            Err(limit) => Err(match limit {
                Limit::OpenPerAddress if lowered => {
                    (ConnectionRefusal::AddressUnderPressure, Reply::TOO_MANY_CONNECTIONS_PRESSURE)
                }
                Limit::OpenPerAddress => (ConnectionRefusal::Address, Reply::TOO_MANY_CONNECTIONS_ADDRESS),
                Limit::OpenPerNetwork => (ConnectionRefusal::Network, Reply::TOO_MANY_CONNECTIONS_NETWORK),
                Limit::RatePerAddress => (ConnectionRefusal::AddressRate, Reply::CONNECTION_RATE_ADDRESS),
                Limit::RatePerNetwork => (ConnectionRefusal::NetworkRate, Reply::CONNECTION_RATE_NETWORK),
            }),
        }
    }

    /// What the lists of networks say about an address.
    pub(crate) fn access_of(&self, address: IpAddr) -> Access {
        self.access.load().access(address)
    }

    /// Microseconds on the clock that all cores share.
    pub(crate) fn shared_now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// May another TLS handshake begin? Counted when not.
    ///
    /// # Errors
    /// What STARTTLS is answered with.
    pub(crate) fn permit_handshake(&self) -> Result<HandshakePermit<'_>, &'static Reply> {
        let refuse = |reason: TlsFailure| {
            self.metrics.count(reason);
            Reply::TLS_UNAVAILABLE
        };
        let certificates = self.certificates.get().ok_or_else(|| refuse(TlsFailure::NoCertificate))?;
        if self.handshakes.get() >= self.settings.budgets.handshakes_max {
            return Err(refuse(TlsFailure::Budget));
        }
        if self.pool.exhausted() {
            return Err(refuse(TlsFailure::Memory));
        }
        if self.pressure.of(Resource::Memory) == Level::Hard {
            return Err(refuse(TlsFailure::ResidentMemory));
        }
        self.handshakes.set(self.handshakes.get() + 1);
        Ok(HandshakePermit { core: self, certificates })
    }
}
