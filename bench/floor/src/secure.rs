//! TLS of a connection, with the same code and buffers as under the gateway's sessions (`crates/gateway/src/session/secure.rs`).

use std::io;

use inrush_gateway::base::{Socket, Tls, Wish};
use inrush_gateway::tls::Certificates;

use crate::server::{self, Core};

/// What a receive asks for, as the gateway does under TLS.
const RECEIVE_OCTETS: usize = 80 * 1024;

/// Shakes hands.
///
/// # Errors
/// There is nothing to agree on, or the peer is gone.
pub(crate) async fn accept(core: &Core, socket: &Socket, certificates: &Certificates) -> io::Result<Tls> {
    let mut tls = certificates.accept(false).map_err(io::Error::other)?;
    loop {
        let mut out = core.take_output();
        tls.advance(&mut out).map_err(io::Error::other)?;
        socket.send_all(&out).await?;
        core.give_back_output(out);
        if tls.is_ready() {
            return Ok(tls);
        }
        if !receive(core, socket, &mut tls, false).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Adds plaintext to `buffer`; false when the peer sends nothing more.
///
/// # Errors
/// The peer broke the protocol, or is gone.
pub(crate) async fn read(
    core: &Core,
    socket: &Socket,
    tls: &mut Tls,
    (buffer, start): (&mut Vec<u8>, &mut usize),
    bulk: &mut bool,
) -> io::Result<bool> {
    loop {
        let mut out = core.take_output();
        tls.advance(&mut out).map_err(io::Error::other)?;
        // A client that wants other keys (RFC 8446 §4.6.3).
        if !out.is_empty() {
            socket.send_all(&out).await?;
        }
        core.give_back_output(out);
        if tls.waiting() > 0 {
            let rest = buffer.len() - *start;
            let has_room = core.pool.fit(buffer, start, rest + tls.waiting());
            debug_assert!(has_room, "the budget has no end");
            tls.read(buffer);
            return Ok(true);
        }
        if tls.is_closed() || !receive(core, socket, tls, *bulk).await? {
            return Ok(false);
        }
        *bulk = tls.incoming.len() == tls.incoming.capacity();
    }
}

/// Receives ciphertext; false when there is no more.
async fn receive(core: &Core, socket: &Socket, tls: &mut Tls, bulk: bool) -> io::Result<bool> {
    core.pool.give_back(std::mem::take(&mut tls.incoming));
    let wish = Wish { hint: RECEIVE_OCTETS, bulk, command: false };
    server::receive(core, socket, (&mut tls.incoming, &mut 0), wish).await
}
