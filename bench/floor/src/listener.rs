//! Listening sockets: one per core on the same address, with the options that the gateway sets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// As the gateway has it.
const BACKLOG: i32 = 4096;

/// Binds `address` once for each core. Port 0 is chosen by the kernel once and is the same for all of them.
///
/// # Errors
/// The address is taken, not ours or not allowed.
pub(crate) fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    if address.port() != 0 {
        // SO_REUSEPORT would let a second server share the port unseen.
        socket(address, false)?.bind(&address.into())?;
    }
    let chosen = socket(address, true)?;
    chosen.bind(&address.into())?;
    address = chosen.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = socket(address, true)?;
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
