//! One connection to the server: TCP or a local socket, in the clear or under TLS, at full speed or slowly.
//!
//! A failed or interrupted operation loses its buffer and ends the connection; nothing is read after that.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use monoio::BufResult;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpStream, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt::IpBindAddressNoPort};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket as Prepared, Type};

use crate::slot::{Kick, Slot};
use crate::tls::Tls;

/// Replies, and ciphertext, are read in pieces of this size.
const RECEIVE_OCTETS: usize = 4096;
/// A slow sender sends this often.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Why a connection does not go on.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The watchdog.
    Kicked(Kick),
    /// The socket.
    Io(io::Error),
    /// TLS.
    Tls(rustls::Error),
    /// The server closed.
    Eof,
}

impl From<Kick> for WireError {
    fn from(kick: Kick) -> Self {
        Self::Kicked(kick)
    }
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for WireError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn read(&mut self, buffer: Vec<u8>) -> BufResult<usize, Vec<u8>> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
        }
    }

    fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    async fn write_all(&mut self, buffer: Vec<u8>) -> BufResult<usize, Vec<u8>> {
        match self {
            Self::Tcp(stream) => stream.write_all(buffer).await,
            Self::Unix(stream) => stream.write_all(buffer).await,
        }
    }

    async fn write_all_static(&mut self, octets: &'static [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_all(octets).await.0,
            Self::Unix(stream) => stream.write_all(octets).await.0,
        }
    }
}

/// How a connection is made and used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// From this address of ours.
    pub(crate) source: Option<IpAddr>,
    /// Its end is a RST.
    pub(crate) reset: bool,
    /// Slow sender.
    pub(crate) octets_per_second: Option<u32>,
}

/// An established connection.
pub(crate) struct Wire {
    socket: Socket,
    tls: Option<Box<Secured>>,
    /// Octets of each [`SLOW_INTERVAL`]; None: no limit.
    slow_octets: Option<usize>,
}

struct Secured {
    tls: Tls,
    /// Ciphertext on its way in and out.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Wire {
    fn new(socket: Socket, octets_per_second: Option<u32>) -> Self {
        let interval_share = 1000 / u32::try_from(SLOW_INTERVAL.as_millis()).unwrap_or(100);
        let slow_octets = octets_per_second.map(|octets| (octets / interval_share).max(1) as usize);
        Self { socket, tls: None, slow_octets }
    }

    /// Connects over TCP.
    pub(crate) async fn tcp(slot: &Slot, address: SocketAddr, manner: Manner) -> Result<Self, WireError> {
        let stream = match manner {
            Manner { source: None, reset: false, .. } => {
                slot.guarded(TcpStream::connect_addr(address)).await??
            }
            Manner { source, reset, .. } => slot.guarded(connect_prepared(address, source, reset)).await??,
        };
        // Without this the last part of a large message may wait for the acknowledgement of the part before.
        stream.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(stream), manner.octets_per_second))
    }

    /// Connects to a local socket.
    pub(crate) async fn unix(slot: &Slot, path: &Path, manner: Manner) -> Result<Self, WireError> {
        let stream = slot.guarded(UnixStream::connect(path)).await??;
        Ok(Self::new(Socket::Unix(stream), manner.octets_per_second))
    }

    /// The handshake of TLS; whether an earlier session was resumed.
    pub(crate) async fn secure(
        &mut self,
        slot: &Slot,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<bool, WireError> {
        let tls = Tls::new(config, name)?;
        let mut secured = Box::new(Secured { tls, incoming: Vec::new(), outgoing: Vec::new() });
        loop {
            secured.tls.encrypt(b"", &mut secured.outgoing);
            if !secured.outgoing.is_empty() {
                secured.outgoing = self.write(slot, std::mem::take(&mut secured.outgoing)).await?;
            }
            if !secured.tls.is_handshaking() {
                break;
            }
            self.take_cipher(slot, &mut secured).await?;
        }
        let resumed = secured.tls.is_resumed();
        self.tls = Some(secured);
        Ok(resumed)
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends all of `out` and gives it back empty.
    pub(crate) async fn send(&mut self, slot: &Slot, mut out: Vec<u8>) -> Result<Vec<u8>, WireError> {
        let Some(mut secured) = self.tls.take() else { return self.write(slot, out).await };
        secured.tls.encrypt(&out, &mut secured.outgoing);
        secured.outgoing = self.write(slot, std::mem::take(&mut secured.outgoing)).await?;
        self.tls = Some(secured);
        out.clear();
        Ok(out)
    }

    /// Whether octets that live as long as the process can be sent as they lie.
    pub(crate) fn sends_directly(&self) -> bool {
        self.tls.is_none() && self.slow_octets.is_none()
    }

    /// Sends octets as they lie; only while [`Wire::sends_directly`].
    pub(crate) async fn send_static(&mut self, slot: &Slot, octets: &'static [u8]) -> Result<(), WireError> {
        debug_assert!(self.sends_directly());
        slot.guarded(self.socket.write_all_static(octets)).await??;
        Ok(())
    }

    /// Waits for octets of the server and puts them into `received` instead of what was there.
    pub(crate) async fn receive(&mut self, slot: &Slot, mut received: Vec<u8>) -> Result<Vec<u8>, WireError> {
        let Some(mut secured) = self.tls.take() else { return self.read(slot, received).await };
        received.clear();
        while !secured.tls.read(&mut received) {
            if secured.tls.is_closed() {
                return Err(WireError::Eof);
            }
            self.take_cipher(slot, &mut secured).await?;
        }
        self.tls = Some(secured);
        Ok(received)
    }

    /// Nothing waits to be read: one system call, nothing allocated. An error: the connection has ended.
    pub(crate) fn is_quiet(&self) -> Result<bool, WireError> {
        match recv(self.socket.descriptor(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => Ok(true),
            Err(error) => Err(io::Error::from(error).into()),
            Ok(0) => Err(WireError::Eof),
            Ok(_) => Ok(false),
        }
    }

    /// What the server said without being asked; None: nothing. An error: the connection has ended.
    pub(crate) async fn spoken(
        &mut self,
        slot: &Slot,
        mut received: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, WireError> {
        while !self.is_quiet()? {
            let Some(mut secured) = self.tls.take() else { return self.read(slot, received).await.map(Some) };
            // Tickets of TLS 1.3 (RFC 8446 §4.6.1) come at any time and say nothing.
            self.take_cipher(slot, &mut secured).await?;
            received.clear();
            let has_spoken = secured.tls.read(&mut received);
            let has_closed = secured.tls.is_closed();
            self.tls = Some(secured);
            if has_spoken {
                return Ok(Some(received));
            }
            if has_closed {
                return Err(WireError::Eof);
            }
        }
        Ok(None)
    }

    /// Reads and forgets what comes, for so long. The connection is only good for waiting afterwards: a read that the time ended may have
    /// lost octets.
    pub(crate) async fn drain_for(&mut self, slot: &Slot, time: Duration) -> Result<(), WireError> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let reading = self.socket.read(Vec::with_capacity(RECEIVE_OCTETS));
            match slot.guarded(monoio::time::timeout(left, reading)).await? {
                Err(_) => return Ok(()),
                Ok((result, _)) => {
                    if result? == 0 {
                        return Err(WireError::Eof);
                    }
                }
            }
        }
    }

    async fn take_cipher(&mut self, slot: &Slot, secured: &mut Secured) -> Result<(), WireError> {
        secured.incoming = self.read(slot, std::mem::take(&mut secured.incoming)).await?;
        Ok(secured.tls.take(&secured.incoming)?)
    }

    async fn read(&mut self, slot: &Slot, mut buffer: Vec<u8>) -> Result<Vec<u8>, WireError> {
        if buffer.capacity() == 0 {
            // New, or lost with a read that the watchdog ended.
            buffer.reserve(RECEIVE_OCTETS);
        }
        let (result, buffer) = slot.guarded(self.socket.read(buffer)).await?;
        if result? == 0 { Err(WireError::Eof) } else { Ok(buffer) }
    }

    async fn write(&mut self, slot: &Slot, out: Vec<u8>) -> Result<Vec<u8>, WireError> {
        let mut out = match self.slow_octets {
            None => {
                let (result, out) = slot.guarded(self.socket.write_all(out)).await?;
                result?;
                out
            }
            Some(octets) => {
                for piece in out.chunks(octets) {
                    slot.touch();
                    let (result, _) = slot.guarded(self.socket.write_all(piece.to_vec())).await?;
                    result?;
                    slot.guarded(monoio::time::sleep(SLOW_INTERVAL)).await?;
                }
                out
            }
        };
        out.clear();
        Ok(out)
    }
}

/// Connects with what the runtime's own connect has no words for. From an address of this machine the port is chosen when the other end is
/// known, so that each pair of addresses has all ports to itself.
async fn connect_prepared(address: SocketAddr, source: Option<IpAddr>, reset: bool) -> io::Result<TcpStream> {
    let socket = Prepared::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if reset {
        // RFC 9293 §3.10.4: to linger for no time means ABORT.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(source) = source {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if let Err(error) = socket.connect(&address.into())
        && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
    {
        return Err(error);
    }
    let mut stream = TcpStream::from_std(socket.into())?;
    stream.writable(false).await?;
    match stream.peer_addr() {
        Ok(_) => Ok(stream),
        // Not connected: a read says why. A second descriptor to ask by would count against the limit of open files.
        Err(error) => Err(stream.read(Vec::with_capacity(1)).await.0.err().unwrap_or(error)),
    }
}
