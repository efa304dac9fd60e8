//! What the runtime has no call for. As the gateway does it, so that the system calls are the same.

use std::os::fd::{AsRawFd, BorrowedFd};

use monoio::net::TcpStream;
use rustix::net::{SendFlags, Shutdown};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise_open_files_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
}

/// The processors this process may run on, in ascending order.
pub(crate) fn usable_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => vec![0],
    }
}

/// Pins the calling thread to one processor. A refusal (some containers) costs speed only.
pub(crate) fn pin_to_processor(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Sends the last octets and ends that direction, both in one segment; gives back how many octets the kernel took. When it
/// took fewer, the direction is still open.
#[expect(unsafe_code, reason = "a raw descriptor is borrowed for one call")]
pub(crate) fn send_last(stream: &TcpStream, octets: &[u8]) -> usize {
    // SAFETY: the stream owns the descriptor, and is borrowed as long as the call lasts.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = rustix::net::send(socket, octets, flags).unwrap_or(0);
    if sent == octets.len() {
        // An error means that the peer is gone already.
        let _ = rustix::net::shutdown(socket, Shutdown::Write);
    }
    sent
}
