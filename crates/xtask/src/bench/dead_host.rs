//! Next hops that take no mail, on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

/// Connections that may stand at a silent host: more than a gateway has to one destination, given up ones included.
const CONNECTIONS_MAX: i32 = 1000;

/// How it takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Connections are refused
    Refused,
    /// Connections are taken, and nothing is ever said
    Silent,
}

/// One of them; its port is its own as long as it lives.
pub(super) struct DeadHost(Socket);

impl DeadHost {
    /// Takes a port that the kernel chooses.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new(kind: Kind) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        // A bound socket that does not listen refuses. The kernel takes connections for one that does; nobody has to accept them.
        if kind == Kind::Silent {
            socket.listen(CONNECTIONS_MAX)?;
        }
        Ok(Self(socket))
    }

    /// Where it would take mail.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().context("no address")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn one_refuses_and_the_other_is_silent() {
        let refused = DeadHost::new(Kind::Refused).expect("a port");
        let silent = DeadHost::new(Kind::Silent).expect("a port");
        assert!(TcpStream::connect(refused.address().expect("an address")).is_err());
        assert!(TcpStream::connect(silent.address().expect("an address")).is_ok());
    }
}
