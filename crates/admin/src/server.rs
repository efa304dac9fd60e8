//! The listener, its thread and its connections.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inrush_metrics::Metrics;
use inrush_spans::Spans;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::events::Hub;
use crate::front::{Content, Front};
use crate::routes::State;
use crate::sample::Sampler;
use crate::{AdminSettings, QueueApi, Readiness};

/// The least buffer that hyper works with.
const REQUEST_OCTETS_LEAST: usize = 8 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// Octets that the kernel keeps of an answer that the client has not taken.
const SEND_BUFFER: usize = 128 << 10;
/// How long answers under way may take once the server is asked to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for want of descriptors or memory; without one the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address of the settings.
        address: SocketAddr,
        /// The kernel's words.
        error: io::Error,
    },
    /// The address is not on loopback and there is no token.
    #[error("{0} is not on loopback: a token is needed")]
    Unprotected(SocketAddr),
    /// The thread or its runtime could not be made.
    #[error("cannot start the thread: {0}")]
    Thread(io::Error),
}

/// The running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    socket: StdTcpListener,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A listening socket that is not served yet: whoever starts several things has it before anything else is changed.
pub struct Bound {
    settings: AdminSettings,
    listener: StdTcpListener,
    address: SocketAddr,
    beside: Vec<(&'static str, Arc<dyn QueueApi>)>,
    spans: Spans,
}

impl Bound {
    /// Listens on the address of `settings`; connections wait in the kernel until [`serve`](Self::serve).
    ///
    /// # Errors
    /// The address is taken, not ours, or unprotected.
    pub fn bind(settings: AdminSettings) -> Result<Self, StartError> {
        let address = settings.address;
        if !address.ip().is_loopback() && settings.token.is_none() {
            return Err(StartError::Unprotected(address));
        }
        let listen = |error| StartError::Listen { address, error };
        let listener = StdTcpListener::bind(address).map_err(listen)?;
        Self::take(settings, listener)
    }

    /// Takes a socket that listens already, if it is one of the address of `settings`; else it is bound.
    ///
    /// # Errors
    /// As of [`bind`](Self::bind).
    pub fn take_or_bind(settings: AdminSettings, listener: StdTcpListener) -> Result<Self, StartError> {
        let address = settings.address;
        let is_it = |bound: SocketAddr| {
            bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port())
        };
        if listener.local_addr().is_ok_and(is_it) {
            Self::take(settings, listener)
        } else {
            Self::bind(settings)
        }
    }

    fn take(settings: AdminSettings, listener: StdTcpListener) -> Result<Self, StartError> {
        let address = settings.address;
        let listen = |error| StartError::Listen { address, error };
        let bound = listener.local_addr().map_err(listen)?;
        if !bound.ip().is_loopback() && settings.token.is_none() {
            return Err(StartError::Unprotected(bound));
        }
        listener.set_nonblocking(true).map_err(listen)?;
        Ok(Self { settings, listener, address: bound, beside: Vec::new(), spans: Spans::default() })
    }

    /// Has GETs below `/api/v1/NAME` answered by `api`.
    #[must_use]
    pub fn with(mut self, name: &'static str, api: Arc<dyn QueueApi>) -> Self {
        self.beside.push((name, api));
        self
    }

    /// Has requests for `/api/` followed by spans.
    #[must_use]
    pub fn with_spans(mut self, spans: Spans) -> Self {
        self.spans = spans;
        self
    }

    /// Answers on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn serve(
        self,
        metrics: Arc<Metrics>,
        readiness: impl Into<Readiness>,
        queue: Option<Arc<dyn QueueApi>>,
    ) -> Result<Server, StartError> {
        let Self { settings, listener, address, beside, spans } = self;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let AdminSettings { token, connections_max, request_octets_max, request_timeout, .. } = settings;
        let readiness = readiness.into();
        let sampler = Sampler::new(Arc::clone(&metrics), readiness.clone(), queue.clone());
        let hub = Hub::new(sampler, settings.viewers_max as usize, settings.sample_interval);
        let state = State { metrics, readiness, token, queue };
        let front = Arc::new(Front { state, hub, beside, spans });
        let service = Service { front, request_octets_max, request_timeout, connections_max };
        let socket = listener.try_clone().map_err(StartError::Thread)?;
        let thread = thread::Builder::new()
            .name("inrush-admin".to_owned())
            .spawn(move || service.run(&runtime, listener, stopped))
            .map_err(StartError::Thread)?;
        Ok(Server { address, socket, stop: Some(stop), thread: Some(thread) })
    }
}

impl Server {
    /// Listens on the address of `settings` and answers on a thread of its own.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(
        settings: AdminSettings,
        metrics: Arc<Metrics>,
        readiness: impl Into<Readiness>,
    ) -> Result<Self, StartError> {
        Bound::bind(settings)?.serve(metrics, readiness, None)
    }

    /// The address that is listened on, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listening socket, for another process.
    #[must_use]
    pub fn listener(&self) -> &StdTcpListener {
        &self.socket
    }

    /// Closes the listener, lets answers under way finish within a second, ends the thread.
    pub fn stop(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been told by its own hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

struct Service {
    front: Arc<Front>,
    request_octets_max: usize,
    request_timeout: Duration,
    connections_max: usize,
}

impl Service {
    fn run(self, runtime: &Runtime, listener: StdTcpListener, stopped: oneshot::Receiver<()>) {
        runtime.block_on(async {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the admin server does not run"),
            };
            let mut connections = JoinSet::new();
            tokio::select! {
                () = self.accept(&listener, &mut connections) => {}
                _ = stopped => {}
            }
            drop(listener);
            self.front.hub.close();
            let rest = async { while connections.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(STOP_DEADLINE, rest).await;
        });
    }

    /// Takes connections for ever.
    async fn accept(&self, listener: &TcpListener, connections: &mut JoinSet<()>) {
        let places = Arc::new(Semaphore::new(self.connections_max.max(1)));
        loop {
            // A place first: who has none waits in the kernel's queue and costs nothing here.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    // What a viewer does not read is to wait here, where it is seen, and not in the kernel.
                    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
                    connections.spawn(self.connection(stream, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One request and its answer. `place` is given back when the connection ends, or is one of a viewer, who has a place of another kind.
    fn connection(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let front = Arc::clone(&self.front);
        let progress = Arc::new(Progress::default());
        let place = Arc::new(Mutex::new(Some(place)));
        let service = service_fn({
            let (progress, place) = (Arc::clone(&progress), Arc::clone(&place));
            move |request| {
                let (front, progress) = (Arc::clone(&front), Arc::clone(&progress));
                let place = Arc::clone(&place);
                async move {
                    progress.begun.notify_one();
                    let answer = front.answer(&request, &progress.dropped).await;
                    match answer.body() {
                        Content::Whole(_) => progress.answered.notify_one(),
                        // Who watches has a limit of another kind, and may have nothing to read for long.
                        Content::Events(_) | Content::Trace(_) => {
                            drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
                        }
                    }
                    Ok::<_, Infallible>(answer)
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(self.request_octets_max.max(REQUEST_OCTETS_LEAST))
            .max_headers(HEADERS_MAX)
            .header_read_timeout(self.request_timeout)
            .serve_connection(TokioIo::new(stream), service);
        let patience = self.request_timeout;
        async move {
            tokio::select! {
                result = connection => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "admin: connection ended");
                    }
                }
                () = progress.stalled(patience) => {}
            }
            drop(place);
        }
    }
}

/// How far a connection has come. Only the client is timed: a change of a long queue takes what it takes, and to cut it off in the middle would
/// leave whoever asked without knowing what was done.
#[derive(Default)]
struct Progress {
    begun: Notify,
    /// Not for events, which have no end.
    answered: Notify,
    /// A viewer does not read its events.
    dropped: Arc<Notify>,
}

impl Progress {
    /// Returns when the client has not sent its request, or not read the answer, in its time.
    async fn stalled(&self, patience: Duration) {
        // The header has its own time within this.
        if tokio::time::timeout(patience * 2, self.begun.notified()).await.is_err() {
            return;
        }
        tokio::select! {
            () = self.answered.notified() => tokio::time::sleep(patience).await,
            () = self.dropped.notified() => {}
        }
    }
}
