//! The listening sockets of a core, and the tasks that take connections from them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inrush_metrics::ConnectionRefusal;
use inrush_policy::Networks;
use inrush_proto::{Context, Observe, Settings};
use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};

use crate::admission::welcome;
use crate::core::{Core, CoreEvent};
use crate::engine::ActiveEngine;
use crate::settings::ListenerSettings;
use crate::signal::Turnstile;
use crate::system::{self, Direction};

/// Accepts under way on each listening socket: the ring takes a burst of connections in one turn.
pub const ACCEPTORS: usize = 8;

/// How long an acceptor rests when the process has no file descriptor left.
const DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// A listening address on this core.
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) context: Rc<Context>,
    /// Clients are asked for a certificate.
    pub(crate) asks_clients: bool,
    /// Whose connections have to begin with a PROXY header.
    pub(crate) proxies: Networks,
    /// Who may use XCLIENT.
    pub(crate) filters: Networks,
    /// How long the greeting is held back.
    pub(crate) greet_delay: Duration,
    pub(crate) index: usize,
    pub(crate) address: SocketAddr,
    socket: TcpListener,
}

impl Door {
    /// The address `index` of the configuration on `socket`; `session` is what all listeners have in common.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub(crate) fn new(
        index: usize,
        listener: &ListenerSettings,
        session: &Settings,
        socket: StdTcpListener,
        observer: Box<dyn Observe>,
    ) -> io::Result<Self> {
        let session = Settings {
            kind: listener.kind,
            bare_newline: listener.bare_newline,
            unauthorized_pipelining: listener.unauthorized_pipelining,
            tls: listener.tls,
            ..session.clone()
        };
        Ok(Self {
            name: listener.name.clone(),
            context: Context::new(session, observer),
            asks_clients: listener.client_certificates,
            proxies: networks(&listener.proxy_protocol_from),
            filters: networks(&listener.xclient_from),
            greet_delay: listener.greet_delay,
            index,
            address: socket.local_addr()?,
            socket: TcpListener::from_std(socket)?,
        })
    }

    /// Our end of a connection where the listening address stands for all addresses; else it is that one.
    pub(crate) fn own_address(&self, stream: &TcpStream) -> Option<Box<SocketAddr>> {
        self.address.ip().is_unspecified().then(|| Box::new(stream.local_addr().unwrap_or(self.address)))
    }
}

/// All doors of a core.
pub(crate) struct Doors {
    all: Vec<Rc<Door>>,
    closed: Cell<bool>,
    opened: Turnstile,
    /// Nobody takes connections from the sockets here.
    left: Cell<bool>,
    /// Tasks that take connections.
    acceptors: Cell<usize>,
    /// Of the accepts under way.
    canceller: RefCell<Canceller>,
    /// How often it was asked to [look again](Self::look_again).
    looks: Cell<u32>,
    /// What `/readyz` asks.
    accepting: Arc<AtomicBool>,
}

impl Doors {
    pub(crate) fn new(all: Vec<Rc<Door>>, accepting: Arc<AtomicBool>) -> Self {
        Self {
            all,
            closed: Cell::new(false),
            opened: Turnstile::default(),
            left: Cell::new(true),
            acceptors: Cell::new(0),
            canceller: RefCell::default(),
            looks: Cell::new(0),
            accepting,
        }
    }

    /// Each of them.
    pub(crate) fn all(&self) -> &[Rc<Door>] {
        &self.all
    }

    /// Whether connections are refused by the kernel.
    pub(crate) fn closed(&self) -> bool {
        self.closed.get()
    }

    /// From now on the kernel refuses connections to this core, or gives them to other cores, where these listen. The sockets keep their port.
    /// Connections that wait to be accepted are reset; accepts under way end in order, so that no connection is taken and then forgotten.
    pub(crate) fn close(&self) {
        self.accepting.store(false, Ordering::Release);
        self.closed.set(true);
        for door in &self.all {
            system::shut_down(door.socket.as_raw_fd(), Direction::Both);
        }
    }

    /// Takes no more connections here; the sockets stay as they are, for another process that has them too. A connection that is being accepted is
    /// still served.
    pub(crate) fn leave(&self) {
        self.accepting.store(false, Ordering::Release);
        self.left.set(true);
        self.opened.let_all();
        self.begin_anew();
    }

    /// Begins each accept anew when `looks` is another number than the last time. A connection wakes one waiter only, of whatever process, and if that one
    /// is being cancelled in this moment nobody is woken: the connection then waits for the next one. An accept that begins finds it.
    pub(crate) fn look_again(&self, looks: u32) {
        if self.looks.replace(looks) != looks {
            self.begin_anew();
        }
    }

    fn begin_anew(&self) {
        let canceller = self.canceller.take();
        self.canceller.replace(canceller.cancel());
    }

    /// The next connection at `socket`.
    ///
    /// # Errors
    /// The kernel has none to give, or nobody takes connections here any more.
    async fn next_connection(&self, socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let cancel = self.canceller.borrow().handle();
            match socket.cancelable_accept(cancel).await {
                Err(error) if system::is_cancelled(&error) && !self.left() => {}
                // A process that has the socket too has shut it down, for want of room for mail, and is about to leave.
                Err(error) if system::is_not_listening(&error) && !self.left() && !self.closed() => {
                    system::listen(socket.as_raw_fd())?;
                }
                taken => return taken,
            }
        }
    }

    /// Whether nobody takes connections from the sockets here: not yet, or not any more.
    pub(crate) fn left(&self) -> bool {
        self.left.get()
    }

    /// Whether nobody takes connections any more, and none is on its way in.
    pub(crate) fn deserted(&self) -> bool {
        self.left.get() && self.acceptors.get() == 0
    }

    /// Listens again.
    ///
    /// # Errors
    /// The kernel does not let one of them; it may be tried again.
    pub(crate) fn open(&self) -> io::Result<()> {
        let listen = |door: &Rc<Door>| system::listen(door.socket.as_raw_fd());
        if let Err(error) = self.all.iter().try_for_each(listen) {
            // Nobody would greet those who come in at the others.
            self.close();
            return Err(error);
        }
        self.closed.set(false);
        self.accepting.store(!self.left.get(), Ordering::Release);
        self.opened.let_all();
        Ok(())
    }
}

/// Starts to take connections, unless the core does already.
pub(crate) fn take_connections(core: &Rc<Core>) {
    if !core.doors.left.replace(false) {
        return;
    }
    // Whoever had the sockets before may have closed them, for want of room for mail.
    if let Err(error) = core.doors.open() {
        tracing::error!(core = core.index, %error, "cannot listen");
    }
    // Where the kernel says that a socket is ready, one task is told so, and takes all there is.
    let acceptors = if core.engine == ActiveEngine::Epoll { 1 } else { ACCEPTORS };
    for door in core.doors.all() {
        for _ in 0..acceptors {
            core.doors.acceptors.set(core.doors.acceptors.get() + 1);
            let (core, door) = (Rc::clone(core), Rc::clone(door));
            monoio::spawn(async move {
                accept(&core, &door).await;
                core.doors.acceptors.set(core.doors.acceptors.get() - 1);
                if core.doors.deserted() {
                    (core.tell)(CoreEvent::Left);
                    core.look_whether_left();
                }
            });
        }
    }
}

async fn accept(core: &Rc<Core>, door: &Rc<Door>) {
    let mut greed = 0_u16;
    while !core.doors.left() {
        match core.doors.next_connection(&door.socket).await {
            Ok((stream, peer)) => {
                welcome(core, door, stream, peer).await;
                greed = greed.saturating_add(1);
                core.give_way(&mut greed).await;
            }
            Err(_) if core.doors.left() => return,
            // A connection that was gone before it was taken is no reason to stop; a socket that was shut down is.
            Err(_) if core.stopping.get() || core.journal.failed() => return,
            Err(_) if core.doors.closed() => core.doors.opened.wait().await,
            Err(error) if system::is_out_of_descriptors(&error) => {
                core.metrics.count(ConnectionRefusal::Descriptors);
                core.refused.descriptors.set(true);
                monoio::time::sleep(DESCRIPTOR_REST).await;
            }
            Err(error) => {
                tracing::debug!(listener = door.name, %error, "accept");
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// The networks of a listener, which the configuration has checked.
fn networks(list: &[String]) -> Networks {
    let mut networks = Networks::new();
    for network in list {
        let added = networks.add(network);
        debug_assert!(added.is_ok(), "{network}");
    }
    networks
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdTcpStream;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::engine::run;

    /// Long enough for whatever is to happen, on whatever machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// One that the runtime has in the kernel when this returns.
    async fn accept_under_way(
        doors: &Rc<Doors>,
        socket: StdTcpListener,
    ) -> monoio::task::JoinHandle<io::Result<(TcpStream, SocketAddr)>> {
        doors.left.set(false);
        let (doors, socket) = (Rc::clone(doors), TcpListener::from_std(socket).expect("a socket"));
        let accept = monoio::spawn(async move { doors.next_connection(&socket).await });
        monoio::time::sleep(Duration::from_millis(1)).await;
        accept
    }

    /// The ring where the kernel has one for us, and epoll.
    fn engines() -> Vec<ActiveEngine> {
        let first = crate::engine::choose(crate::settings::Engine::Auto).expect("one of them");
        if first == ActiveEngine::Epoll { vec![first] } else { vec![first, ActiveEngine::Epoll] }
    }

    #[test]
    fn a_connection_that_wakes_a_process_about_to_leave_is_taken_by_the_other_one() {
        engines().into_iter().for_each(one_leaves_and_one_stays);
    }

    #[test]
    fn a_socket_that_another_process_has_shut_down_listens_again() {
        for engine in engines() {
            let socket = listener(engine);
            let (address, other) =
                (socket.local_addr().expect("bound"), socket.try_clone().expect("a descriptor"));
            let taken = run(engine, async move {
                let doors = Rc::new(Doors::new(Vec::new(), Arc::default()));
                let accept = accept_under_way(&doors, socket).await;
                system::shut_down(other.as_raw_fd(), Direction::Both);
                let client = thread::spawn(move || {
                    let begin = std::time::Instant::now();
                    // Refused until it listens.
                    loop {
                        match StdTcpStream::connect(address) {
                            Err(_) if begin.elapsed() < PATIENCE => thread::yield_now(),
                            connected => return connected.is_ok(),
                        }
                    }
                });
                let taken = monoio::time::timeout(PATIENCE, accept).await;
                client.join().expect("no panic") && matches!(taken, Ok(Ok(_)))
            });
            assert!(taken.expect("a runtime"), "{engine:?}");
        }
    }

    fn listener(engine: ActiveEngine) -> StdTcpListener {
        let sockets = crate::listener::bind("mx", SocketAddr::from(([127, 0, 0, 1], 0)), false, 1);
        let socket = sockets.expect("loopback").remove(0);
        socket.set_nonblocking(engine == ActiveEngine::Epoll).expect("a socket");
        socket
    }

    fn one_leaves_and_one_stays(engine: ActiveEngine) {
        let socket = listener(engine);
        let address = socket.local_addr().expect("bound");
        let (also_old, also_new) =
            (socket.try_clone().expect("a descriptor"), socket.try_clone().expect("a descriptor"));
        let (old_waits, for_the_old_one) = mpsc::channel();
        let (new_waits, for_the_new_one) = mpsc::channel();
        let (old_left, for_its_end) = mpsc::channel();

        let old = thread::spawn(move || {
            run(engine, async move {
                let doors = Rc::new(Doors::new(Vec::new(), Arc::default()));
                let accept = accept_under_way(&doors, also_old).await;
                old_waits.send(()).expect("the other thread");
                for_the_new_one.recv().expect("the other thread");
                // It wakes the accept that was there first, of this thread, which sees nothing of it before it has cancelled that.
                let client = StdTcpStream::connect(address).expect("loopback");
                doors.leave();
                let taken = accept.await;
                old_left.send(taken.is_ok()).expect("the other thread");
                client
            })
            .expect("a runtime")
        });
        for_the_old_one.recv().expect("the other thread");
        let taken = run(engine, async move {
            let doors = Rc::new(Doors::new(Vec::new(), Arc::default()));
            let accept = accept_under_way(&doors, also_new).await;
            new_waits.send(()).expect("the other thread");
            let taken_by_the_old_one = for_its_end.recv().expect("the other thread");
            doors.look_again(1);
            taken_by_the_old_one || matches!(monoio::time::timeout(PATIENCE, accept).await, Ok(Ok(_)))
        });
        assert!(taken.expect("a runtime"), "it waits, and nobody knows");
        assert!(old.join().is_ok());
    }
}
