//! The few things asked of the operating system beside the ring.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

/// Raises the soft limit of open files to the hard one and returns what holds now.
pub fn raise_open_files_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let hard = limit.maximum;
    if limit.current < hard
        && let Err(error) =
            rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    // `None` is "unlimited".
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The processors this process may run on, in ascending order.
pub fn usable_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => vec![0],
    }
}

/// Pins the calling thread to one processor. A refusal (some containers) costs speed only and is said in the log.
pub fn pin_to_processor(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(processor, %error, "cannot pin the thread of a core to its processor");
    }
}

/// What tells one socket from another, however many descriptors it has.
pub(crate) fn inode(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu_microseconds() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(used.tv_sec) * 1_000_000 + part(used.tv_nsec) / 1_000
}

/// Which directions of a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// A receive ends with 0 octets, and a wait for octets is over; replies can still be sent.
    Receive,
    /// The peer sees the end of what we say; what it still says can be received.
    Send,
    /// Sends and receives under way end.
    Both,
}

/// Ends directions of the socket `fd` from outside the task that waits on it.
///
/// The caller owns a socket behind `fd` that is still open; an error (already closed by the peer) means that the goal is reached.
pub(crate) fn shut_down(fd: RawFd, direction: Direction) {
    let how = match direction {
        Direction::Receive => Shutdown::Read,
        Direction::Send => Shutdown::Write,
        Direction::Both => Shutdown::Both,
    };
    let _ = with_socket(fd, |socket| rustix::net::shutdown(socket, how));
}

/// Listens on the socket `fd` again, which was [shut down](shut_down).
///
/// The caller owns a bound socket behind `fd` that is still open.
///
/// # Errors
/// What the kernel says.
pub(crate) fn listen(fd: RawFd) -> io::Result<()> {
    Ok(with_socket(fd, |socket| rustix::net::listen(socket, crate::listener::BACKLOG))?)
}

/// Sends the last octets of the socket `fd` and ends its direction. Both leave as one segment, which saves each side a packet
/// and the peer a wake-up. Gives back how many octets the kernel took; when it took fewer (none on an error, which the
/// next ordinary send meets again), the direction is still open.
///
/// The direction is ended here and not by the close: a close with unread input throws away what has not been sent.
///
/// The caller owns a socket behind `fd` that is still open.
pub(crate) fn send_last(fd: RawFd, octets: &[u8]) -> usize {
    let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    with_socket(fd, |socket| {
        let sent = rustix::net::send(socket, octets, flags).unwrap_or(0);
        if sent == octets.len() {
            // An error means that the peer is gone already.
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
        sent
    })
}

/// Receives what lies in the socket `fd` into the free part of `buffer`, which must not be full; `None` when nothing does, 0 octets when
/// the peer has closed its direction.
///
/// The caller owns a socket behind `fd` that is still open.
///
/// # Errors
/// The connection is broken.
pub(crate) fn receive(fd: RawFd, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    debug_assert!(buffer.len() < buffer.capacity(), "0 octets would mean the end");
    let free = rustix::buffer::spare_capacity(buffer);
    match with_socket(fd, |socket| rustix::net::recv(socket, free, RecvFlags::DONTWAIT)) {
        Ok((octets, _)) => Ok(Some(octets)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends as many of `octets` as the kernel takes at once, and gives back how many.
///
/// The caller owns a socket behind `fd` that is still open.
///
/// # Errors
/// The connection is broken.
pub(crate) fn send(fd: RawFd, octets: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match with_socket(fd, |socket| rustix::net::send(socket, octets, flags)) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        sent => Ok(sent?),
    }
}

/// What lies in a socket to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nothing,
    Octets,
    /// The peer has closed its direction, or the connection is broken.
    End,
}

/// What can be received from the socket `fd` now.
///
/// The caller owns a socket behind `fd` that is still open.
pub(crate) fn waiting(fd: RawFd) -> Waiting {
    let mut octet = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match with_socket(fd, |socket| rustix::net::recv(socket, &mut octet, flags)) {
        Ok((0, _)) => Waiting::End,
        Ok(_) => Waiting::Octets,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Waiting::Nothing,
        Err(_) => Waiting::End,
    }
}

/// Calls `call` with the socket `fd`.
#[expect(unsafe_code, reason = "a raw descriptor is borrowed for one call")]
fn with_socket<T>(fd: RawFd, call: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: sessions leave the table of the watch before their socket closes, and listening sockets stay open as long as their core has them:
    // `fd` is open and ours for this call.
    call(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Whether an operation was ended before it came to anything.
pub(crate) fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error())
}

/// Whether an accept failed since the socket does not listen.
pub(crate) fn is_not_listening(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

/// Why an accept failed, as far as it matters for what to do next.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::NFILE.raw_os_error())
}
