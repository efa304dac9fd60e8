//! Listening sockets: one per core and address, bound before the cores start.
//!
//! `SO_REUSEPORT` lets the kernel spread connections over the cores without a shared accept queue. Since that option
//! would also let a second gateway share the port unseen, each address is first bound without it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel completes ahead of the accept, per socket.
pub(crate) const BACKLOG: i32 = 4096;

/// A listening address could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot listen on {address}: {error}")]
pub struct ListenError {
    /// Name of the listener in the configuration.
    pub listener: String,
    /// The address that was refused.
    pub address: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

/// Binds `address` once for each of `cores`. Port 0 is chosen by the kernel once and is the same for all of them.
///
/// # Errors
/// [`ListenError`] when the address is taken, not ours, or not allowed.
pub fn bind(
    listener: &str,
    address: SocketAddr,
    dual_stack: bool,
    cores: usize,
) -> Result<Vec<TcpListener>, ListenError> {
    let fail = |error| ListenError { listener: listener.to_owned(), address, error };
    let mut address = address;
    if address.port() != 0 {
        let alone = socket(address, dual_stack, false).map_err(fail)?;
        alone.bind(&address.into()).map_err(fail)?;
    }
    let shared = |address: SocketAddr| {
        let socket = socket(address, dual_stack, true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    // Holds the port until the others have it. A socket keeps its port while it does not listen only where it has asked for that number.
    let chosen = shared(address).map_err(fail)?;
    address = chosen.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        sockets.push(shared(address).map_err(fail)?);
    }
    // Only now do connections arrive: none is given to a core that another failed bind would have ended.
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(fail)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// A listening socket that the process was given.
#[derive(Debug)]
pub struct Given {
    /// The listener that it belongs to, where that is known; else any with its address.
    pub listener: Option<String>,
    /// The socket.
    pub socket: TcpListener,
}

impl Given {
    /// Whether it is for `address` of `listener`; port 0 stands for any.
    #[must_use]
    pub fn is_for(&self, listener: &str, address: SocketAddr) -> bool {
        let bound = self.socket.local_addr();
        let here = |bound: SocketAddr| {
            bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port())
        };
        self.listener.as_deref().is_none_or(|name| name == listener) && bound.is_ok_and(here)
    }
}

/// Deals the sockets of `address` that were given out to each of `cores`. Where there are fewer, cores share one, and the kernel gives each connection to
/// one of them; where there are more, a core has several: the kernel puts connections into all of them.
///
/// # Errors
/// [`ListenError`] when the process has no descriptor left, or one of them does not listen.
pub(crate) fn share(
    listener: &str,
    address: SocketAddr,
    given: Vec<Given>,
    cores: usize,
) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    let fail = |error| ListenError { listener: listener.to_owned(), address, error };
    let mut dealt: Vec<Vec<TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    for core in given.len()..cores {
        let socket = &given[core % given.len()].socket;
        dealt[core].push(socket.try_clone().map_err(fail)?);
    }
    for (index, Given { socket, .. }) in given.into_iter().enumerate() {
        // What a socket of ours has from the start.
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(true).map_err(fail)?;
        options.listen(BACKLOG).map_err(fail)?;
        dealt[index % cores].push(socket);
    }
    Ok(dealt)
}

fn socket(address: SocketAddr, dual_stack: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: replies leave at once without a system call per connection.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cores_share_the_port_that_the_kernel_chose() {
        let listeners = bind("mx", SocketAddr::from(([127, 0, 0, 1], 0)), false, 3).expect("loopback");
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().expect("bound").port()).collect();
        assert_ne!(ports[0], 0);
        assert!(ports.iter().all(|&port| port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_port_in_use_is_an_error_even_if_its_owner_shares_it() {
        let first = bind("mx", SocketAddr::from(([127, 0, 0, 1], 0)), false, 2).expect("loopback");
        let taken = first[0].local_addr().expect("bound");
        let error = bind("mx", taken, false, 2).expect_err("the port is taken");
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }
}
