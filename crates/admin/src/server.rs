//! The listener, its thread and its connections.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inrush_metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::routes::State;
use crate::{AdminSettings, QueueApi, Readiness};

/// The least buffer that hyper works with.
const REQUEST_OCTETS_LEAST: usize = 8 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A listening socket that is not served yet: whoever starts several things has it before anything else is changed.
#[derive(Debug)]
pub struct Bound {
    settings: AdminSettings,
    listener: StdTcpListener,
    address: SocketAddr,
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
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { settings, listener, address })
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
        let Self { settings, listener, address } = self;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let AdminSettings { token, connections_max, request_octets_max, request_timeout, .. } = settings;
        let state = Arc::new(State { metrics, readiness: readiness.into(), token, queue });
        let service = Service { state, request_octets_max, request_timeout, connections_max };
        let thread = thread::Builder::new()
            .name("inrush-admin".to_owned())
            .spawn(move || service.run(&runtime, listener, stopped))
            .map_err(StartError::Thread)?;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
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
    state: Arc<State>,
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
                    let connection = self.connection(stream);
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One request and its answer.
    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let state = Arc::clone(&self.state);
        let progress = Arc::new(Progress::default());
        let service = service_fn({
            let progress = Arc::clone(&progress);
            move |request| {
                let (state, progress) = (Arc::clone(&state), Arc::clone(&progress));
                async move {
                    progress.begun.notify_one();
                    // A trace has a limit of its own, and its client may have nothing to read for long.
                    let answer = match state.trace(&request) {
                        Some(Ok(trace)) => return Ok(trace.map(Either::Right)),
                        Some(Err(refusal)) => refusal,
                        None => state.answer(&request).await,
                    };
                    progress.answered.notify_one();
                    Ok::<_, Infallible>(answer.map(Either::Left))
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
        }
    }
}

/// How far a connection has come. Only the client is timed: a change of a long queue takes what it takes, and to cut it off in the middle would
/// leave whoever asked without knowing what was done.
#[derive(Default)]
struct Progress {
    begun: Notify,
    answered: Notify,
}

impl Progress {
    /// Returns when the client has not sent its request, or not read the answer, in its time.
    async fn stalled(&self, patience: Duration) {
        // The header has its own time within this.
        if tokio::time::timeout(patience * 2, self.begun.notified()).await.is_err() {
            return;
        }
        self.answered.notified().await;
        tokio::time::sleep(patience).await;
    }
}
