//! The sink's threads: as in the gateway one a core, each with its own runtime and listeners, sharing nothing but counters.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::{sleep, timeout};
use socket2::{Domain, Protocol, Socket, Type};

use super::dialog::{Dialog, Ids, Manner, Want};
use super::options::SinkOptions;
use super::statistics::{Statistics, Sum};
use super::store::{Stamp, Store};
use crate::plan::Engine;

/// How often a core and the main thread look whether it is over.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// How long open sessions may go on when the sink ends.
const GRACE: Duration = Duration::from_secs(1);
/// How often the running counters are shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Octets of a read.
const RECEIVE_OCTETS: usize = 32 * 1024;

/// What a core works with.
struct Core {
    options: Arc<SinkOptions>,
    manner: Rc<Manner>,
    store: Option<Store>,
    statistics: Arc<Statistics>,
    stop: Arc<AtomicBool>,
    ids: Rc<Ids>,
    number: u64,
    next_session: Cell<u64>,
    /// Connections that may still be accepted.
    free: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
}

/// Runs until a bound is reached or `interrupts` rises.
///
/// # Errors
/// A sentence: an address or file that cannot be had, a faulty script.
pub fn sink(options: &SinkOptions, interrupts: &AtomicUsize) -> Result<(), String> {
    let addresses = options.addresses()?;
    options.manner()?;
    let store = options.kept();
    if let Some(store) = &store {
        store.prepare().map_err(|error| format!("cannot keep mail: {error}"))?;
    }
    let json = match options.json.as_deref() {
        Some(path) if path != Path::new("-") => {
            Some(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        _ => None,
    };
    let listeners = listeners(&addresses, options)?;
    let options = Arc::new(options.clone());
    // Before 1970, ids count from 0.
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start_us = u64::try_from(start.as_micros()).unwrap_or(0);
    let stop = Arc::new(AtomicBool::new(false));
    let mut cores: Vec<Arc<Statistics>> = Vec::new();
    let mut threads = Vec::new();
    let cores_number = options.cores;
    for (number, listeners) in listeners.into_iter().enumerate() {
        let statistics = Arc::new(Statistics::default());
        cores.push(Arc::clone(&statistics));
        let (options, stop, store) = (Arc::clone(&options), Arc::clone(&stop), store.clone());
        let thread = thread::Builder::new().name(format!("sink-{number}"));
        let ids = move || Ids::new(start_us, number as u64, u64::from(cores_number));
        let work = move || core(&options, store, statistics, stop, (number, ids()), listeners);
        threads.push(thread.spawn(work).map_err(|error| format!("no thread: {error}"))?);
    }
    let begun = Instant::now();
    watch(&options, &cores, &threads, interrupts, begun);
    stop.store(true, Relaxed);
    let mut result = Ok(());
    for thread in threads {
        match thread.join() {
            Ok(ended) => result = result.and(ended),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    let sum = Sum::of(&cores);
    if options.counters {
        // The line of the running counters ends.
        let _ = writeln!(io::stderr());
    }
    // A terminal that is gone is no reason to fail.
    let _ = writeln!(io::stderr(), "{sum}");
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", sum.json(begun.elapsed().as_secs_f64()));
        let written = match json {
            Some(mut file) => file.write_all(text.as_bytes()),
            None => io::stdout().write_all(text.as_bytes()),
        };
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    result.map_err(|error| error.to_string())
}

/// The sockets of each core; all cores share the ports.
fn listeners(
    addresses: &[SocketAddr],
    options: &SinkOptions,
) -> Result<Vec<Vec<std::net::TcpListener>>, String> {
    let mut cores: Vec<Vec<std::net::TcpListener>> = (0..options.cores).map(|_| Vec::new()).collect();
    for &address in addresses {
        // Port 0: the first core takes a port, the others the same.
        let mut address = address;
        for core in &mut cores {
            let listener = listen(address).map_err(|error| format!("{address}: {error}"))?;
            address = listener.local_addr().map_err(|error| error.to_string())?;
            core.push(listener);
        }
        let _ = writeln!(io::stderr(), "inrush-load sink: listening on {address}");
    }
    Ok(cores)
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The main thread: until something says that it is over.
fn watch(
    options: &SinkOptions,
    cores: &[Arc<Statistics>],
    threads: &[thread::JoinHandle<io::Result<()>>],
    interrupts: &AtomicUsize,
    begun: Instant,
) {
    let sum = |of: fn(&Statistics) -> u64| -> u64 { cores.iter().map(|core| of(core)).sum() };
    let mut shown = begun;
    loop {
        thread::sleep(WATCH_INTERVAL);
        let enough = options.messages.is_some_and(|most| sum(Statistics::messages) >= most)
            || options
                .sessions
                .is_some_and(|most| sum(Statistics::sessions) >= most && sum(Statistics::open) == 0)
            || options.duration.is_some_and(|time| begun.elapsed() >= time);
        if enough || interrupts.load(Relaxed) > 0 || threads.iter().any(thread::JoinHandle::is_finished) {
            return;
        }
        if options.counters && shown.elapsed() >= SHOW_INTERVAL {
            shown = Instant::now();
            let _ = write!(io::stderr(), "\r\x1b[K{}", Sum::of(cores));
        }
    }
}

/// One core, on its own thread.
fn core(
    options: &Arc<SinkOptions>,
    store: Option<Store>,
    statistics: Arc<Statistics>,
    stop: Arc<AtomicBool>,
    (number, ids): (usize, Ids),
    listeners: Vec<std::net::TcpListener>,
) -> io::Result<()> {
    if let Some(&cpu) = options.cpus.get(number % options.cpus.len().max(1)) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let cores = u32::from(options.cores);
    let share =
        options.max_connections / cores + u32::from(number < (options.max_connections % cores) as usize);
    let core = Core {
        manner: Rc::new(options.manner().map_err(io::Error::other)?),
        options: Arc::clone(options),
        store,
        statistics,
        stop,
        ids: Rc::new(ids),
        number: number as u64,
        next_session: Cell::new(0),
        free: Cell::new(share.max(1)),
        waiting: RefCell::default(),
    };
    let mut ring = io_uring06::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let uring = || {
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
            .uring_builder(ring.clone())
            .with_entries(1024)
            .enable_timer()
            .build()
    };
    let epoll = || monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
    match options.engine {
        Engine::Uring => uring()?.block_on(serve(core, listeners, false)),
        Engine::Epoll => epoll()?.block_on(serve(core, listeners, true)),
        Engine::Auto => match uring() {
            Ok(mut runtime) => runtime.block_on(serve(core, listeners, false)),
            Err(_) => epoll()?.block_on(serve(core, listeners, true)),
        },
    }
}

async fn serve(core: Core, listeners: Vec<std::net::TcpListener>, nonblocking: bool) -> io::Result<()> {
    let core = Rc::new(core);
    for listener in listeners {
        // The ring waits by itself; epoll must be told when to come again.
        listener.set_nonblocking(nonblocking)?;
        let listener = TcpListener::from_std(listener)?;
        drop(monoio::spawn(accept(Rc::clone(&core), listener)));
    }
    while !core.stop.load(Relaxed) {
        sleep(WATCH_INTERVAL).await;
    }
    let stopped = Instant::now();
    while core.statistics.open() > 0 && stopped.elapsed() < GRACE {
        sleep(WATCH_INTERVAL).await;
    }
    // What is still open ends with the runtime.
    Ok(())
}

async fn accept(core: Rc<Core>, listener: TcpListener) {
    while !core.stop.load(Relaxed) {
        core.room().await;
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of files, most of all: some will be closed.
            sleep(WATCH_INTERVAL).await;
            continue;
        };
        // Another listener may have taken the last place while this one waited; then this connection waits too, before its greeting.
        core.room().await;
        core.free.set(core.free.get() - 1);
        core.statistics.opened();
        let core = Rc::clone(&core);
        drop(monoio::spawn(async move {
            // A connection that breaks is the client's affair.
            let _ = session(&core, stream, peer.ip()).await;
            core.statistics.closed();
            core.free.set(core.free.get() + 1);
            core.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }));
    }
}

impl Core {
    /// Waits until a connection may be accepted. Nothing runs between its end and the next wait of the caller.
    async fn room(&self) {
        std::future::poll_fn(|context| {
            if self.free.get() > 0 {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn session_number(&self) -> u64 {
        let next = self.next_session.get();
        self.next_session.set(next + 1);
        // Unique over cores: the dice are thrown by it.
        next * u64::from(self.options.cores) + self.number
    }

    fn keep(&self, dialog: &Dialog, peer: IpAddr) -> bool {
        let Some(store) = &self.store else { return true };
        let stamp = Stamp { hostname: &self.options.hostname, lmtp: self.options.lmtp };
        match store.write(&dialog.message(), peer, &stamp) {
            Ok(()) => true,
            Err(error) => {
                let _ = writeln!(io::stderr(), "inrush-load sink: cannot store a message: {error}");
                false
            }
        }
    }
}

/// One session, until either side closes.
async fn session(core: &Core, mut stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let number = core.session_number();
    let mut dialog = Dialog::new(
        Rc::clone(&core.manner),
        Arc::clone(&core.statistics),
        Rc::clone(&core.ids),
        core.options.seed,
        number,
    );
    let longest = core.options.timeout;
    let mut received: Vec<u8> = Vec::with_capacity(RECEIVE_OCTETS);
    let mut used = 0;
    let mut want = dialog.greet();
    loop {
        match want {
            Want::Message => {
                let stored = core.keep(&dialog, peer);
                want = dialog.stored(stored);
                if want != Want::Input {
                    continue;
                }
            }
            Want::Pause(time) => {
                flush(&mut dialog, &mut stream, longest).await?;
                sleep(time).await;
                want = dialog.resume();
                if want != Want::Input {
                    continue;
                }
            }
            Want::Close => return flush(&mut dialog, &mut stream, longest).await,
            Want::Stall => {
                flush(&mut dialog, &mut stream, longest).await?;
                return stall(&mut stream).await;
            }
            Want::Input => {}
        }
        let (octets, next) = dialog.advance(&received[used..]);
        used += octets;
        want = next;
        if want != Want::Input {
            continue;
        }
        flush(&mut dialog, &mut stream, longest).await?;
        received.drain(..used);
        used = 0;
        // Behind an unfinished command; room is always there, since a command has a bound below that of the buffer.
        let mut piece = std::mem::take(&mut received);
        let kept = piece.len();
        piece.reserve(RECEIVE_OCTETS / 2);
        let room = piece.capacity() - kept;
        let read = if kept == 0 {
            timeout(longest, stream.read(piece)).await
        } else {
            let more = Vec::with_capacity(room);
            timeout(longest, stream.read(more)).await.map(|(result, more): (io::Result<usize>, Vec<u8>)| {
                piece.extend_from_slice(&more);
                (result, piece)
            })
        };
        let Ok((result, filled)) = read else {
            core.statistics.timed_out();
            return Ok(());
        };
        received = filled;
        if result? == 0 {
            return Ok(());
        }
    }
}

async fn flush(dialog: &mut Dialog, stream: &mut TcpStream, longest: Duration) -> io::Result<()> {
    if dialog.out.is_empty() {
        return Ok(());
    }
    let out = std::mem::take(&mut dialog.out);
    match timeout(longest, stream.write_all(out)).await {
        Ok((result, mut out)) => {
            out.clear();
            dialog.out = out;
            result.map(drop)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Takes what comes and says nothing, until the client goes.
async fn stall(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(RECEIVE_OCTETS);
    loop {
        let (result, filled) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        buffer = filled;
        buffer.clear();
    }
}
