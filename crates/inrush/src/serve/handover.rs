//! What the process that serves and the one that is to take its place tell each other.
//!
//! ```text
//! old ──▶ new   one line of JSON: Offer; with it the descriptors: lock of the data directory, admin socket, listening sockets
//! new ──▶ old   ready      its logs are open, its cores wait
//! old ──▶ new   take       (only now is there no way back)
//! new ──▶ old   taking     both take connections; the old one stops to
//! old ──▶ new   left       it takes none any more
//! new ──▶ old   stop       if the new one is told to end before the old one has
//! end of the stream        the other one has ended
//! ```
//! The stream is a pair of sockets, of which the new process gets one as its standard input.

use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use inrush_gateway::{Beside, Given};

use super::activation::Sockets;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

/// Says to a new process that its standard input is the old one.
const VARIABLE: &str = "INRUSH_HANDOVER";

/// Version of what is said; a process that does not know it does not take over.
const VERSION: u32 = 1;

/// Descriptors of one message; the kernel takes 253 (`SCM_MAX_FD`).
const DESCRIPTORS: usize = 128;

/// How long the new process may take to be ready: to read its configuration and to make its logs.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How long a new process that ends by itself may take for it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long it may take from there to its first accept.
const TAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What the descriptors are that come with it.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    version: u32,
    /// Names of the listeners of the listening sockets, in their order.
    listeners: Vec<Option<String>>,
    /// Somebody else has the listening sockets as well, and keeps them.
    shared: bool,
    /// Arrival logs that go on in the old process.
    written: Vec<u8>,
    /// Engine of the old process.
    engine: String,
}

/// What the old process gives.
pub(super) struct Gift<'a> {
    pub(super) beside: Beside,
    pub(super) admin: &'a TcpListener,
    pub(super) sockets: &'a [Given],
    pub(super) shared: bool,
}

/// The new process, as the old one sees it.
pub(super) struct Successor {
    child: Child,
    stream: UnixStream,
}

impl Successor {
    /// Starts `program` with the arguments of this process, and gives it what it needs to take over.
    ///
    /// # Errors
    /// It cannot be started, or does not take what it is given.
    pub(super) fn start(program: &Path, gift: &Gift<'_>) -> anyhow::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).env(VARIABLE, VERSION.to_string());
        // The watchdog is for whichever process is the main one.
        command.env_remove("WATCHDOG_PID");
        let child = command.stdin(OwnedFd::from(theirs)).spawn();
        let child = child.with_context(|| program.display().to_string())?;
        let mut successor = Self { child, stream };
        match successor.give(gift) {
            Ok(()) => Ok(successor),
            Err(error) => {
                successor.end();
                Err(error)
            }
        }
    }

    /// Tells it that everything is given up, before this process has ended.
    pub(super) fn let_go(&self) {
        // It may have ended.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn give(&mut self, gift: &Gift<'_>) -> anyhow::Result<()> {
        let offer = Offer {
            version: VERSION,
            listeners: gift.sockets.iter().map(|given| given.listener.clone()).collect(),
            shared: gift.shared,
            written: gift.beside.written.clone(),
            engine: gift.beside.engine.clone(),
        };
        let first = [gift.beside.lock.as_fd(), gift.admin.as_fd()];
        let descriptors: Vec<BorrowedFd<'_>> =
            first.into_iter().chain(gift.sockets.iter().map(|given| given.socket.as_fd())).collect();
        self.stream.set_write_timeout(Some(TAKE_DEADLINE))?;
        writeln!(self.stream, "{}", serde_json::to_string(&offer)?)?;
        for some in descriptors.chunks(DESCRIPTORS) {
            send_descriptors(&self.stream, some)?;
        }
        Ok(())
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Another handle of the way to it, for a thread that waits.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn listen(&self) -> io::Result<Listening> {
        Ok(Listening(BufReader::new(self.stream.try_clone()?)))
    }

    /// Tells it to take connections.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn tell_to_take(&mut self) -> io::Result<()> {
        self.stream.write_all(b"take\n")
    }

    /// Tells it that this process takes no connections any more.
    pub(super) fn tell_left(&mut self) {
        // It may have ended.
        let _ = self.stream.write_all(b"left\n");
    }

    /// Ends it: it has not become what was hoped for. If it is about to end by itself, it is given the time to say why.
    pub(super) fn end(mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while self.has_hung_up() && Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Successor {
    /// Whether it has closed its end.
    fn has_hung_up(&self) -> bool {
        let mut octet = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&self.stream, &mut octet, flags), Ok((_, 0)))
    }
}

/// What the new process says.
pub(super) struct Listening(BufReader<UnixStream>);

impl Listening {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub(super) fn ready(&mut self) -> anyhow::Result<()> {
        self.expect("ready", READY_DEADLINE)
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub(super) fn taking(&mut self) -> anyhow::Result<()> {
        self.expect("taking", TAKE_DEADLINE)
    }

    /// Waits until it has ended, or asks this process to end now: then true.
    pub(super) fn asks_to_stop(&mut self) -> bool {
        let _ = self.0.get_ref().set_read_timeout(None);
        let mut line = String::new();
        self.0.read_line(&mut line).is_ok() && line == "stop\n"
    }

    fn expect(&mut self, word: &str, deadline: Duration) -> anyhow::Result<()> {
        self.0.get_ref().set_read_timeout(Some(deadline))?;
        let mut line = String::new();
        let octets = self.0.read_line(&mut line);
        let octets = octets.with_context(|| format!("the new process was not {word} within {deadline:?}"))?;
        ensure!(octets > 0, "the new process ended before it was {word}: it says why itself");
        ensure!(line.trim_end() == word, "the new process said {line:?} instead of {word:?}");
        Ok(())
    }
}

/// The old process, as the new one sees it.
pub(super) struct Predecessor {
    stream: BufReader<UnixStream>,
    /// The part of the data directory that is free.
    pub(super) beside: Option<Beside>,
    given: Sockets,
}

impl Predecessor {
    /// The process that has started this one to take its place, if that is so. Before anything is opened here.
    ///
    /// # Errors
    /// It says something that this version does not understand.
    pub(super) fn find() -> anyhow::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        close_inherited().context("closing what was inherited")?;
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Whoever reads standard input from now on finds nothing there.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Self::receive(stream).context("taking over").map(Some)
    }

    fn receive(stream: UnixStream) -> anyhow::Result<Self> {
        stream.set_read_timeout(Some(TAKE_DEADLINE))?;
        // Octet by octet: the descriptors come with those behind the line.
        let mut line = Vec::new();
        let mut octet = [0];
        while octet != *b"\n" {
            io::Read::read_exact(&mut &stream, &mut octet)?;
            line.push(octet[0]);
        }
        let offer: Offer = serde_json::from_slice(&line)?;
        ensure!(
            offer.version == VERSION,
            "the old process speaks version {}, this one {VERSION}",
            offer.version
        );
        let mut descriptors = Vec::new();
        let wanted = offer.listeners.len() + 2;
        while descriptors.len() < wanted {
            let before = descriptors.len();
            receive_descriptors(&stream, &mut descriptors)?;
            ensure!(descriptors.len() > before, "{before} of {wanted} descriptors came");
        }
        let mut descriptors = descriptors.into_iter();
        let lock = descriptors.next().context("no lock")?;
        let admin = descriptors.next().map(TcpListener::from);
        let sockets = offer.listeners.into_iter().zip(descriptors);
        let sockets = sockets.map(|(listener, socket)| Given { listener, socket: socket.into() }).collect();
        let beside = Some(Beside { lock, written: offer.written, engine: offer.engine });
        let given = Sockets { sockets, admin, shared: offer.shared };
        Ok(Self { stream: BufReader::new(stream), beside, given })
    }

    /// Its listening sockets.
    pub(super) fn sockets(&mut self) -> Sockets {
        std::mem::take(&mut self.given)
    }

    /// The way to it, for who may ask it to stop.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn handle(&self) -> io::Result<UnixStream> {
        self.stream.get_ref().try_clone()
    }

    /// Says that everything is ready, and waits until the old process lets this one take connections. It is all the same if it has ended.
    ///
    /// # Errors
    /// It wants something else.
    pub(super) fn ready(&mut self) -> anyhow::Result<()> {
        if self.stream.get_mut().write_all(b"ready\n").is_err() {
            return Ok(());
        }
        let mut line = String::new();
        self.stream.get_ref().set_read_timeout(Some(TAKE_DEADLINE))?;
        let octets = self.stream.read_line(&mut line).context("the old process does not let go")?;
        ensure!(octets == 0 || line.trim_end() == "take", "the old process said {line:?}");
        Ok(())
    }

    /// Says that connections are taken.
    pub(super) fn taking(&mut self) {
        // It is all the same if it has ended.
        let _ = self.stream.get_mut().write_all(b"taking\n");
    }

    /// Returns when the old process has ended; before that says when it takes no connections any more.
    pub(super) fn wait_until_gone(mut self, left: impl Fn()) {
        let _ = self.stream.get_ref().set_read_timeout(None);
        let mut line = String::new();
        while self.stream.read_line(&mut line).is_ok_and(|octets| octets > 0) {
            if line == "left\n" {
                left();
            }
            line.clear();
        }
    }
}

/// Closes every descriptor behind standard error. Connections that the runtime accepts are inherited: they belong to the old process, and their peers would
/// never see it close them.
#[expect(unsafe_code, reason = "a system call")]
fn close_inherited() -> io::Result<()> {
    let mut folder = Dir::new(rustix::fs::open(
        "/proc/self/fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)?;
    let own = folder.fd()?.as_raw_fd();
    let mut inherited = Vec::new();
    while let Some(entry) = folder.read() {
        inherited.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2 && *descriptor != own) {
        // SAFETY: this process has just begun and owns none of them but the folder.
        unsafe { rustix::io::close(descriptor) };
    }
    Ok(())
}

/// Sends descriptors with one octet.
fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    rustix::net::sendmsg(stream, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives those of one message.
fn receive_descriptors(stream: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut octet)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were lost: the limit of open files is too low"));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_with_their_names() {
        let lock = tempfile::tempfile().expect("a file");
        let sockets: Vec<Given> = (0..300)
            .map(|number| Given {
                listener: Some(format!("listener-{number}")),
                socket: TcpListener::bind("127.0.0.1:0").expect("loopback"),
            })
            .collect();
        let admin = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let child = Command::new("true").spawn().expect("a process");
        let mut successor = Successor { child, stream: ours };
        let beside = Beside { lock: lock.into(), written: vec![0, 1], engine: "epoll".to_owned() };
        let gift = Gift { beside, admin: &admin, sockets: &sockets, shared: true };
        let receiving = std::thread::spawn(|| Predecessor::receive(theirs));
        successor.give(&gift).expect("it is there");
        let got = receiving.join().expect("no panic").expect("everything came");
        assert_eq!(got.beside.as_ref().map(|beside| beside.written.clone()), Some(vec![0, 1]));
        let got = got.given;
        assert!(got.shared);
        assert_eq!(got.sockets.len(), 300);
        for (sent, got) in sockets.iter().zip(&got.sockets) {
            assert_eq!(sent.listener, got.listener);
            assert_ne!(sent.socket.as_raw_fd(), got.socket.as_raw_fd());
            let address = |given: &Given| given.socket.local_addr().expect("bound");
            assert_eq!(address(sent), address(got));
        }
        let address = got.admin.map(|admin| admin.local_addr().expect("bound"));
        assert_eq!(address, Some(admin.local_addr().expect("bound")));
        successor.end();
    }
}
