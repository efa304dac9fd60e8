//! XCLIENT: the session goes on as that of another client, whose access and limits are its own.
//!
//! Standards: Postfix's XCLIENT_README.

use std::net::SocketAddr;

use inrush_metrics::Counter;
use inrush_policy::{Access, Ticket};
use inrush_proto::xclient::{Attribute, Xclient};

use super::Talk;
use crate::admission::Admitted;
use crate::core::Core;
use crate::proxy::Introduction;
use crate::talkers;

/// What a filter in front of us has said about its client.
pub(super) struct Told<'c> {
    core: &'c Core,
    pub(super) peer: SocketAddr,
    /// The address is that of the client.
    known: bool,
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

    /// Whether the peer has none of the limits: for a network in `allow`, and never for somebody unknown.
    pub(super) fn is_unlimited(&self) -> bool {
        let known = self.told.as_ref().map_or(self.admitted.known, |told| told.known);
        known && self.core.access_of(self.peer().ip()) == Access::Allowed
    }

    /// What others have said about the peer.
    pub(super) fn introduction(&self) -> Option<&Introduction> {
        introduction(self.told.as_deref(), self.admitted)
    }

    /// Where the peer has connected to.
    pub(super) fn local(&self) -> SocketAddr {
        self.introduction()
            .and_then(|introduction| introduction.local)
            .unwrap_or(self.local.as_deref().copied().unwrap_or(self.door.address))
    }

    /// Takes the client over, or closes it out.
    pub(super) fn introduce(&mut self, xclient: &Xclient) {
        let core = self.core;
        core.metrics.count(Counter::Introductions);
        // Who is unknown keeps the address of who speaks for it, and shares its limits with all others who are unknown.
        let filter = self.admitted.peer;
        let address = said(xclient.address.as_ref(), self.peer().ip(), filter.ip());
        let port = said(xclient.port.as_ref(), self.peer().port(), filter.port());
        let known = match &xclient.address {
            None => self.told.as_ref().map_or(self.admitted.known, |told| told.known),
            Some(address) => matches!(address, Attribute::Known(_)),
        };
        let ticket = match &xclient.address {
            None => self.told.as_mut().and_then(|told| told.ticket.take()),
            Some(_) => {
                // First that of the client before, which may be the same one.
                if let Some(ticket) = self.told.as_mut().and_then(|told| told.ticket.take()) {
                    core.connections.leave(ticket);
                }
                match core.admit_address(address, known) {
                    Ok(ticket) => ticket,
                    Err((reason, reply)) => {
                        core.metrics.count(reason);
                        talkers::refused_connection(&core.metrics, address);
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
                let socket = self.local.as_deref().copied().unwrap_or(self.door.address);
                let ip = said(address.as_ref(), local.ip(), socket.ip());
                Some(SocketAddr::new(ip, said(port.as_ref(), local.port(), socket.port())))
            }
        };
        let name = match &xclient.name {
            None if xclient.address.is_none() => before.name,
            Some(Attribute::Known(name)) => Some(name.clone()),
            _ => None,
        };
        let proxy = before.proxy.or(Some(filter));
        let introduction = Introduction { proxy, local, name, ..before };
        let peer = SocketAddr::new(address, port);
        self.place.shown.client_is(peer);
        // A client that reaches us through the filter as it is must not speak for others.
        let trusted = xclient.address.is_none() || (known && self.door.filters.contains(address));
        self.told = Some(Box::new(Told { core, peer, known, introduction, ticket }));
        self.slips = 0;
        self.session.introduced(xclient, trusted);
        // Another client is another session to whoever looks.
        self.forget_matches();
    }
}

/// What an attribute says: nothing leaves it as it was `before`, and what is not known is what it is without XCLIENT.
fn said<T: Copy>(attribute: Option<&Attribute<T>>, before: T, without: T) -> T {
    match attribute {
        None => before,
        Some(Attribute::Known(value)) => *value,
        Some(Attribute::Unavailable | Attribute::TemporarilyUnavailable) => without,
    }
}
