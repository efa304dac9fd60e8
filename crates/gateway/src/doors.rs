//! The listening sockets of a core, and the tasks that take connections from them.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inrush_metrics::ConnectionRefusal;
use inrush_policy::Networks;
use inrush_proto::{Context, Observe, Settings};
use monoio::net::{TcpListener, TcpStream};

use crate::admission::welcome;
use crate::core::Core;
use crate::settings::ListenerSettings;
use crate::signal::Turnstile;
use crate::system::{self, Direction};

/// Accepts under way on each listening socket: the ring takes a burst of connections in one turn.
pub const ACCEPTORS: usize = 8;

/// How long an acceptor rests when the process has no file descriptor left.
const DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// A listening address on this core.
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) context: Rc<Context>,
    /// Clients are asked for a certificate.
    pub(crate) asks_clients: bool,
    /// Whose connections have to begin with a PROXY header.
    pub(crate) proxies: Networks,
    /// Who may use XCLIENT.
    pub(crate) filters: Networks,
    /// How long the greeting is held back.
    pub(crate) greet_delay: Duration,
    pub(crate) index: usize,
    pub(crate) address: SocketAddr,
    socket: TcpListener,
}

impl Door {
    /// The address `index` of the configuration on `socket`; `session` is what all listeners have in common.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub(crate) fn new(
        index: usize,
        listener: &ListenerSettings,
        session: &Settings,
        socket: StdTcpListener,
        observer: Box<dyn Observe>,
    ) -> io::Result<Self> {
        let session = Settings {
            kind: listener.kind,
            bare_newline: listener.bare_newline,
            unauthorized_pipelining: listener.unauthorized_pipelining,
            tls: listener.tls,
            ..session.clone()
        };
        Ok(Self {
            name: listener.name.clone(),
            context: Context::new(session, observer),
            asks_clients: listener.client_certificates,
            proxies: networks(&listener.proxy_protocol_from),
            filters: networks(&listener.xclient_from),
            greet_delay: listener.greet_delay,
            index,
            address: socket.local_addr()?,
            socket: TcpListener::from_std(socket)?,
        })
    }

    /// Our end of a connection where the listening address stands for all addresses; else it is that one.
    pub(crate) fn own_address(&self, stream: &TcpStream) -> Option<Box<SocketAddr>> {
        self.address.ip().is_unspecified().then(|| Box::new(stream.local_addr().unwrap_or(self.address)))
    }
}

/// All doors of a core.
pub(crate) struct Doors {
    all: Vec<Rc<Door>>,
    closed: Cell<bool>,
    opened: Turnstile,
    /// What `/readyz` asks.
    accepting: Arc<AtomicBool>,
}

impl Doors {
    pub(crate) fn new(all: Vec<Rc<Door>>, accepting: Arc<AtomicBool>) -> Self {
        Self { all, closed: Cell::new(false), opened: Turnstile::default(), accepting }
    }

    /// Each of them.
    pub(crate) fn all(&self) -> &[Rc<Door>] {
        &self.all
    }

    /// Whether connections are refused by the kernel.
    pub(crate) fn closed(&self) -> bool {
        self.closed.get()
    }

    /// From now on the kernel refuses connections to this core, or gives them to other cores, where these listen. The sockets keep their port.
    /// Connections that wait to be accepted are reset; accepts under way end in order, so that no connection is taken and then forgotten.
    pub(crate) fn close(&self) {
        self.accepting.store(false, Ordering::Release);
        self.closed.set(true);
        for door in &self.all {
            system::shut_down(door.socket.as_raw_fd(), Direction::Both);
        }
    }

    /// Listens again.
    ///
    /// # Errors
    /// The kernel does not let one of them; it may be tried again.
    pub(crate) fn open(&self) -> io::Result<()> {
        let listen = |door: &Rc<Door>| system::listen(door.socket.as_raw_fd());
        if let Err(error) = self.all.iter().try_for_each(listen) {
            // Nobody would greet those who come in at the others.
            self.close();
            return Err(error);
        }
        self.closed.set(false);
        self.accepting.store(true, Ordering::Release);
        self.opened.let_all();
        Ok(())
    }
}

/// Starts to take connections.
pub(crate) fn take_connections(core: &Rc<Core>) {
    for door in core.doors.all() {
        for _ in 0..ACCEPTORS {
            monoio::spawn(accept(Rc::clone(core), Rc::clone(door)));
        }
    }
    core.doors.accepting.store(true, Ordering::Release);
}

async fn accept(core: Rc<Core>, door: Rc<Door>) {
    let mut greed = 0_u16;
    loop {
        match door.socket.accept().await {
            Ok((stream, peer)) => {
                welcome(&core, &door, stream, peer).await;
                greed = greed.saturating_add(1);
                core.give_way(&mut greed).await;
            }
            // A connection that was gone before it was taken is no reason to stop; a socket that was shut down is.
            Err(_) if core.stopping.get() || core.journal.failed() => return,
            Err(_) if core.doors.closed() => core.doors.opened.wait().await,
            Err(error) if system::is_out_of_descriptors(&error) => {
                core.metrics.count(ConnectionRefusal::Descriptors);
                core.refused.descriptors.set(true);
                monoio::time::sleep(DESCRIPTOR_REST).await;
            }
            Err(error) => {
                tracing::debug!(listener = door.name, %error, "accept");
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// The networks of a listener, which the configuration has checked.
fn networks(list: &[String]) -> Networks {
    let mut networks = Networks::new();
    for network in list {
        let added = networks.add(network);
        debug_assert!(added.is_ok(), "{network}");
    }
    networks
}
