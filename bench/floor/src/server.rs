//! A core: its runtime, its acceptors, and the loop of each connection. The system calls of the gateway, without its work.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use monoio::buf::IoBufMut as _;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use crate::buffers::{COMMAND, Pool, wanted_octets};
use crate::dialog::{Dialog, GREETING, Need};
use crate::system;

/// Entries of the submission queue, as in the gateway.
const RING_ENTRIES: u32 = 4096;

/// Accepts under way on the listening socket, as in the gateway.
const ACCEPTORS: usize = 8;

/// How long an acceptor rests after an error.
const REST: Duration = Duration::from_millis(1);

/// Buffers for replies that a core keeps.
const OUTPUTS_MAX: usize = 256;

/// Messages that one core has answered with `250`, on a cache line that no other core writes to.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Accepted(pub(crate) AtomicU64);

struct Core {
    pool: Pool,
    outputs: std::cell::RefCell<Vec<Vec<u8>>>,
    accepted: Arc<Accepted>,
}

/// Serves `listener` on the calling thread as long as the process lives.
///
/// # Errors
/// The kernel grants no ring with these flags, or does not take the socket.
pub(crate) fn run(
    listener: StdTcpListener,
    processor: Option<usize>,
    accepted: Arc<Accepted>,
) -> io::Result<()> {
    if let Some(processor) = processor {
        system::pin_to_processor(processor);
    }
    let mut ring = io_uring06::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    let mut runtime: Runtime<TimeDriver<IoUringDriver>> = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(ring)
        .enable_timer()
        .build()?;
    runtime.block_on(async {
        listener.set_nonblocking(false)?;
        let listener = Rc::new(TcpListener::from_std(listener)?);
        let core = Rc::new(Core { pool: Pool::default(), outputs: Default::default(), accepted });
        for _ in 1..ACCEPTORS {
            monoio::spawn(accept(Rc::clone(&core), Rc::clone(&listener)));
        }
        accept(core, listener).await;
        Ok(())
    })
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
async fn serve(core: Rc<Core>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    let _ = converse(&core, &mut stream, &mut buffer).await;
    core.pool.give_back(buffer);
}

async fn converse(core: &Core, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut out = core.take_output();
    out.extend_from_slice(GREETING);
    core.send(stream, out).await?;
    let mut dialog = Dialog::new();
    let (mut start, mut bulk, mut accepted) = (0, false, 0);
    loop {
        let mut out = core.take_output();
        let (done, need) = dialog.advance(&buffer[start..], &mut out);
        start += done;
        if dialog.accepted != accepted {
            core.accepted.0.fetch_add(dialog.accepted - accepted, Ordering::Relaxed);
            accepted = dialog.accepted;
        }
        let hint = match need {
            Need::Close => {
                let sent = system::send_last(stream, &out);
                out.drain(..sent);
                return core.send(stream, out).await;
            }
            Need::Input { hint } => hint,
        };
        core.send(stream, out).await?;
        let wanted = wanted_octets(hint, buffer.len() - start, dialog.expects_data(), bulk);
        core.pool.fit(buffer, &mut start, wanted);
        let (filled, capacity) = (buffer.len(), buffer.capacity());
        let (result, slice) = stream.read(std::mem::take(buffer).slice_mut(filled..capacity)).await;
        *buffer = slice.into_inner();
        let octets = result?;
        if octets == 0 {
            return Ok(());
        }
        bulk |= !dialog.expects_data() && capacity == COMMAND && filled == 0 && octets == COMMAND;
    }
}

impl Core {
    fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    /// Sends all replies of one input at once; nothing where there are none.
    async fn send(&self, stream: &mut TcpStream, out: Vec<u8>) -> io::Result<()> {
        let (result, mut out) = if out.is_empty() { (Ok(0), out) } else { stream.write_all(out).await };
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < OUTPUTS_MAX && out.capacity() <= 4096 {
            out.clear();
            outputs.push(out);
        }
        result.map(drop)
    }
}
