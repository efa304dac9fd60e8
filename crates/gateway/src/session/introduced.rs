//! XCLIENT: the session goes on as that of another client, whose access and limits are its own.
//!
//! Standards: Postfix's XCLIENT_README.

use std::net::SocketAddr;

use inrush_metrics::Counter;
use inrush_policy::Ticket;
use inrush_proto::xclient::{Attribute, Xclient};

use super::Talk;
use crate::admission::Admitted;
use crate::core::Core;
use crate::proxy::Introduction;

/// What a filter in front of us has said about its client.
pub(super) struct Told<'c> {
    core: &'c Core,
    pub(super) peer: SocketAddr,
    pub(super) introduction: Introduction,
    /// The client's part of what its address may have.
    ticket: Option<Ticket>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.core.connections.leave(ticket);
        }
    }
}

/// What a filter has said about the peer, else what a proxy has.
pub(super) fn introduction<'t>(
    told: Option<&'t Told<'_>>,
    admitted: &'t Admitted,
) -> Option<&'t Introduction> {
    told.map(|told| &told.introduction).or(admitted.introduction.as_deref())
}

impl Talk<'_> {
    /// Who the session is with.
    pub(super) fn peer(&self) -> SocketAddr {
        self.told.as_ref().map_or(self.admitted.peer, |told| told.peer)
    }

    /// What others have said about the peer.
    pub(super) fn introduction(&self) -> Option<&Introduction> {
        introduction(self.told.as_deref(), self.admitted)
    }

    /// Where the peer has connected to.
    pub(super) fn local(&self) -> SocketAddr {
        self.introduction()
            .and_then(|introduction| introduction.local)
            .unwrap_or(self.socket.as_deref().copied().unwrap_or(self.door.address))
    }

    /// Takes the client over, or closes it out.
    pub(super) fn introduce(&mut self, xclient: &Xclient) {
        let core = self.core;
        core.metrics.count(Counter::Introductions);
        let peer = self.peer();
        // Who is unknown keeps the address of who speaks for it, and shares its limits with all others who are unknown.
        let address = known(xclient.address.as_ref(), peer.ip());
        let port = known(xclient.port.as_ref(), peer.port());
        let ticket = match &xclient.address {
            None => self.told.as_mut().and_then(|told| told.ticket.take()),
            Some(said) => {
                // First that of the client before, which may be the same one.
                if let Some(ticket) = self.told.as_mut().and_then(|told| told.ticket.take()) {
                    core.connections.leave(ticket);
                }
                match core.admit_address(address, matches!(said, Attribute::Known(_))) {
                    Ok(ticket) => ticket,
                    Err((reason, reply)) => {
                        core.metrics.count(reason);
                        self.session.close_with(reply);
                        return;
                    }
                }
            }
        };
        let before = self.introduction().cloned().unwrap_or_default();
        let local = self.local();
        let local = match (&xclient.destination_address, &xclient.destination_port) {
            (None, None) => before.local,
            (address, port) => {
                Some(SocketAddr::new(known(address.as_ref(), local.ip()), known(port.as_ref(), local.port())))
            }
        };
        let name = match &xclient.name {
            None => before.name,
            Some(Attribute::Known(name)) => Some(name.clone()),
            Some(Attribute::Unavailable | Attribute::TemporarilyUnavailable) => None,
        };
        let proxy = before.proxy.or(Some(peer));
        let introduction = Introduction { proxy, local, name, ..before };
        let peer = SocketAddr::new(address, port);
        self.told = Some(Box::new(Told { core, peer, introduction, ticket }));
        self.session.introduced(xclient);
    }
}

fn known<T: Copy>(said: Option<&Attribute<T>>, before: T) -> T {
    match said {
        Some(Attribute::Known(value)) => *value,
        _ => before,
    }
}
