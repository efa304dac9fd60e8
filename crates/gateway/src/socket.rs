//! The socket of a connection: waits go through the core's ring, octets through a system call once there are any.
//!
//! A wait holds no buffer, so that neither an idle session nor one that has sent half a message costs more than what it has said; and all
//! sessions of a core receive into the same few buffers, which stay in the cache. Against receives and sends in the ring, on the floor server:
//! the same time a message up to 4 KiB, an eighth less with 64 KiB, a tenth less with BDAT.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use monoio::net::TcpStream;

use crate::system::{self, Direction};

/// How long a send rests that was promised room and got none.
const REST: Duration = Duration::from_millis(1);

/// One connection.
pub struct Socket {
    stream: TcpStream,
    fd: RawFd,
}

impl Socket {
    /// Takes over what was accepted.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        Self { stream, fd }
    }

    /// For the watch, which has to forget it before this socket closes.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd
    }

    /// Waits until there is something to [`receive`](Self::receive), or the end. May be dropped: nothing is lost.
    pub async fn readable(&self) {
        // What is wrong shows up in the receive. Not relaxed: the epoll driver would go on saying so.
        let _ = self.stream.readable(false).await;
    }

    /// Receives what is there into the free part of `buffer`, which must not be full; `None` when nothing is, 0 octets when the peer has closed
    /// its direction.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        system::receive(self.fd, buffer)
    }

    /// Sends as many of `octets` as the kernel takes at once, and gives back how many.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, octets: &[u8]) -> io::Result<usize> {
        system::send(self.fd, octets)
    }

    /// Sends the last octets and ends our direction, both in one segment; gives back how many octets the kernel took. When it took fewer, the
    /// direction is still open.
    #[must_use]
    pub fn send_last(&self, octets: &[u8]) -> usize {
        system::send_last(self.fd, octets)
    }

    /// Sends all of `octets` to a peer that takes its time. To be boxed: most peers take replies at once.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) async fn send_slowly(&self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            self.stream.writable(false).await?;
            let sent = self.send(octets)?;
            octets = &octets[sent..];
            if sent == 0 {
                // The kernel is out of memory for sockets, and says that there is room.
                monoio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    /// Sends all of `octets`; nothing where there are none.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send_all(&self, octets: &[u8]) -> io::Result<()> {
        if octets.is_empty() {
            return Ok(());
        }
        let sent = self.send(octets)?;
        if sent < octets.len() { Box::pin(self.send_slowly(&octets[sent..])).await } else { Ok(()) }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end_sending(&self) {
        system::shut_down(self.fd, Direction::Send);
    }
}
