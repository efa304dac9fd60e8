//! A core: its runtime, its acceptors, and the loop of each connection. The system calls of the gateway, without its work.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inrush_gateway::ActiveEngine;
use inrush_gateway::base::{self, ACCEPTORS, Pool, Socket, Tls, Wish};
use inrush_gateway::tls::Certificates;
use monoio::net::{TcpListener, TcpStream};

use crate::dialog::{Dialog, GREETING, Need};
use crate::secure;

/// How long an acceptor rests after an error.
const REST: Duration = Duration::from_millis(1);

/// Buffers for replies that a core keeps.
const OUTPUTS_MAX: usize = 256;

/// Messages that one core has answered with `250`, on a cache line that no other core writes to.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Accepted(pub(crate) AtomicU64);

pub(crate) struct Core {
    pub(crate) pool: Pool,
    certificates: Option<Arc<Certificates>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    accepted: Arc<Accepted>,
}

/// Serves `listener` on the calling thread as long as the process lives.
///
/// # Errors
/// The kernel grants no ring with these flags, or does not take the socket.
pub(crate) fn run(
    listener: StdTcpListener,
    processor: Option<usize>,
    certificates: Option<Arc<Certificates>>,
    accepted: Arc<Accepted>,
) -> io::Result<()> {
    if let Some(processor) = processor {
        base::pin_to_processor(processor);
    }
    base::run(ActiveEngine::IoUring, async {
        listener.set_nonblocking(false)?;
        let listener = Rc::new(TcpListener::from_std(listener)?);
        let core = Rc::new(Core {
            pool: Pool::new(usize::MAX),
            certificates,
            outputs: RefCell::default(),
            accepted,
        });
        for _ in 1..ACCEPTORS {
            monoio::spawn(accept(Rc::clone(&core), Rc::clone(&listener)));
        }
        accept(core, listener).await;
        Ok(())
    })?
}

async fn accept(core: Rc<Core>, listener: Rc<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                monoio::spawn(serve(Rc::clone(&core), stream));
            }
            // A connection that was gone before it was taken, or no descriptor left.
            Err(_) => monoio::time::sleep(REST).await,
        }
    }
}

/// Serves one connection from the greeting to the end; errors mean that the peer is gone.
async fn serve(core: Rc<Core>, stream: TcpStream) {
    let socket = Socket::new(stream);
    let mut buffer = Vec::new();
    let _ = converse(&core, &socket, &mut buffer).await;
    core.pool.give_back(buffer);
}

async fn converse(core: &Core, socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    socket.send_all(GREETING).await?;
    let mut dialog = Dialog::new(core.certificates.is_some());
    let mut tls: Option<Box<Tls>> = None;
    let (mut start, mut bulk, mut accepted) = (0, false, 0);
    loop {
        let mut out = core.take_output();
        let (done, need) = dialog.advance(&buffer[start..], &mut out);
        start += done;
        if dialog.accepted != accepted {
            core.accepted.0.fetch_add(dialog.accepted - accepted, Ordering::Relaxed);
            accepted = dialog.accepted;
        }
        if let Some(tls) = &mut tls {
            let mut sealed = core.take_output();
            tls.encrypt(&out, &mut sealed);
            core.give_back_output(std::mem::replace(&mut out, sealed));
        }
        if matches!(need, Need::Close) {
            let sent = socket.send_last(&out);
            return socket.send_all(&out[sent..]).await;
        }
        // All replies of one input at once.
        socket.send_all(&out).await?;
        core.give_back_output(out);
        core.pool.shelve(buffer, &mut start);
        match (need, &mut tls, &core.certificates) {
            (Need::StartTls, None, Some(certificates)) => {
                // RFC 3207 §4.2: what was sent before the handshake counts for nothing.
                core.pool.give_back(std::mem::take(buffer));
                start = 0;
                tls = Some(Box::new(secure::accept(core, socket, certificates).await?));
                dialog.starttls = false;
            }
            (_, Some(tls), _) => {
                if !secure::read(core, socket, tls, (buffer, &mut start), &mut bulk).await? {
                    return Ok(());
                }
            }
            (Need::Input { hint }, None, _) => {
                let wish = Wish { hint, bulk, command: !dialog.expects_data() };
                if !receive(core, socket, (buffer, &mut start), wish).await? {
                    return Ok(());
                }
                bulk = buffer.len() == buffer.capacity();
            }
            (Need::StartTls | Need::Close, None, _) => return Ok(()),
        }
    }
}

/// Adds octets to `buffer`; false when the peer sends no more.
pub(crate) async fn receive(
    core: &Core,
    socket: &Socket,
    (buffer, start): (&mut Vec<u8>, &mut usize),
    wish: Wish,
) -> io::Result<bool> {
    loop {
        socket.readable().await;
        let has_room = core.pool.make_room(buffer, start, wish);
        debug_assert!(has_room, "the budget has no end");
        if let Some(octets) = socket.receive(buffer)? {
            return Ok(octets > 0);
        }
    }
}

impl Core {
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    pub(crate) fn give_back_output(&self, mut out: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < OUTPUTS_MAX && out.capacity() <= 4096 {
            out.clear();
            outputs.push(out);
        }
    }
}
