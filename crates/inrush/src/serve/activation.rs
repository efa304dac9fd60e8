//! Listening sockets that the service manager has made: sd_listen_fds(3).
//!
//! A socket is for the listener that its `FileDescriptorName=` names, or else for the one with its address; `admin` is the admin server's. The service
//! manager keeps the sockets: what comes while nobody serves waits for the next start.

use std::net::TcpListener;

use anyhow::{Context as _, bail};
use inrush_admin::AdminSettings;
use inrush_gateway::Given;
use inrush_gateway::settings::GatewaySettings;
use listenfd::ListenFd;
use rustix::io::FdFlags;

/// Name of the admin server's socket.
const ADMIN: &str = "admin";

/// Listening sockets that this process was given.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) sockets: Vec<Given>,
    pub(super) admin: Option<TcpListener>,
    /// Somebody else has them as well, and keeps them.
    pub(super) shared: bool,
}

/// Those of the service manager; none where there is none.
///
/// # Errors
/// One of them is no listening TCP socket, or nothing of the configuration listens there.
pub(super) fn sockets(gateway: &GatewaySettings, admin: &AdminSettings) -> anyhow::Result<Sockets> {
    let mut given = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = Sockets::default();
    for index in 0..given.len() {
        let name = names.next().unwrap_or_default();
        let socket = given.take_tcp_listener(index);
        let socket = socket.with_context(|| format!("socket {name:?} of the service manager"))?;
        let socket = socket.context("a socket of the service manager was taken twice")?;
        // What is started from here gets the sockets by other ways.
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        let address = socket.local_addr().context("a socket of the service manager")?;
        sockets.shared = true;
        let is_admins =
            admin.address.ip() == address.ip() && [0, address.port()].contains(&admin.address.port());
        if name == ADMIN && !is_admins {
            bail!(
                "the service manager has made a socket \"admin\" on {address}: [admin] address is {}",
                admin.address
            );
        }
        if name == ADMIN || address == admin.address {
            sockets.admin = Some(socket);
            continue;
        }
        let is_listener = gateway.listeners.iter().any(|listener| listener.name == name);
        let given = Given { listener: is_listener.then(|| name.to_owned()), socket };
        let mut addresses = gateway
            .listeners
            .iter()
            .flat_map(|listener| listener.addresses.iter().map(|address| (&listener.name, *address)));
        if !addresses.any(|(listener, address)| given.is_for(listener, address)) {
            bail!(
                "the service manager has made a socket {name:?} on {address}: no [[listener]] listens there"
            );
        }
        sockets.sockets.push(given);
    }
    Ok(sockets)
}
