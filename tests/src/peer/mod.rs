//! A server of SMTP or LMTP that does what a script says, for everything that a good server does not do: late and broken replies,
//! refusals at any place, connections that end at the worst moment, bad TLS.
//!
//! Each connection has a thread that waits for the client or for the test, never for the clock. All that was heard and said is kept, and
//! each change of it wakes whoever waits for it.
//!
//! Standards: RFC 5321, RFC 2033 (LMTP), RFC 3030 (BDAT), RFC 3207 (STARTTLS).

mod record;
mod script;
mod session;
mod wire;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub use record::{Connection, Line, Message, Path, Recipient, Record, Tls, Transfer};
pub use script::{Answer, Script, Stage, When};
use socket2::SockRef;
pub use wire::server_config;

use crate::process::PATIENCE;

/// A running peer; all of its connections end when it is dropped.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    record: Record,
    script: Script,
    /// Steps that may go on, held or not yet reached.
    releases: usize,
    /// Nothing is held any more.
    released: bool,
    closing: bool,
    /// The sockets of the connections that are there, by number.
    sockets: HashMap<usize, TcpStream>,
}

impl Peer {
    /// Starts on a port of loopback that the kernel chooses.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn start(script: Script) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// Starts there, e.g. where another one has been.
    ///
    /// # Panics
    /// Somebody else listens there.
    #[track_caller]
    pub fn start_at(address: SocketAddr, script: Script) -> Self {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            Ok((listener.local_addr()?, listener.try_clone()?, listener))
        };
        let (address, copy, listener) =
            listen().unwrap_or_else(|error: std::io::Error| panic!("cannot listen on {address}: {error}"));
        let state = State {
            record: Record::default(),
            script,
            releases: 0,
            released: false,
            closing: false,
            sockets: HashMap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&shared, &listener))
        };
        Self { address, shared, listener: copy, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does from now on what this script says, on open connections too. Its rules start to count anew.
    pub fn change(&self, script: Script) {
        self.shared.lock().script = script;
    }

    /// Everything so far.
    pub fn record(&self) -> Record {
        self.shared.lock().record.clone()
    }

    /// The messages that have come whole so far, with what was answered to each.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.lock().record.messages.clone()
    }

    /// The commands so far, those of the first connection first.
    pub fn commands(&self) -> Vec<String> {
        self.shared.lock().record.connections.iter().flat_map(Connection::commands).collect()
    }

    /// Waits until so many messages have come whole, whether or not they are answered; all of them.
    ///
    /// # Panics
    /// They do not come.
    #[track_caller]
    pub fn wait_for(&self, messages: usize) -> Vec<Message> {
        self.wait_until("messages", |record| record.messages.len() >= messages).messages
    }

    /// Waits until so many connections have come and all of them are over.
    ///
    /// # Panics
    /// They are not.
    #[track_caller]
    pub fn wait_for_ends(&self, connections: usize) -> Record {
        self.wait_until("ends of connections", |record| {
            let over = record.connections.iter().all(|connection| connection.ended);
            over && record.connections.len() >= connections
        })
    }

    /// Waits until so many steps are held at once.
    ///
    /// # Panics
    /// They are not.
    #[track_caller]
    pub fn wait_for_held(&self, steps: usize) -> Record {
        self.wait_until("held steps", |record| record.held >= steps)
    }

    /// Waits until the record is so.
    ///
    /// # Panics
    /// It is not within [`PATIENCE`].
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Record) -> bool) -> Record {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while !holds(&state.record) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {PATIENCE:?}: {what}\n{}", state.record.text());
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.record.clone()
    }

    /// Lets one held step go on: the first that is held or will be.
    pub fn release(&self) {
        self.shared.change(|state| state.releases += 1);
    }

    /// Lets all held steps go on, and holds none from now on.
    pub fn release_all(&self) {
        self.shared.change(|state| state.released = true);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.closing = true;
            for socket in state.sockets.values() {
                // A connection that has ended meanwhile is what we want.
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        // Wakes the acceptor, which then sees that it is over; Linux does that with a socket that listens.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let sessions = self.acceptor.take().and_then(|acceptor| acceptor.join().ok());
        for session in sessions.into_iter().flatten() {
            let _ = session.join();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.record().text());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that has failed with the lock in its hands leaves a record that can still be shown.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes everybody.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Waits for the release of a step. `false` = the peer ends instead.
    fn hold(&self) -> bool {
        let mut state = self.lock();
        state.record.held += 1;
        self.changed.notify_all();
        while !state.closing && !state.released && state.releases == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.released {
            state.releases = state.releases.saturating_sub(1);
        }
        state.record.held -= 1;
        let goes_on = !state.closing;
        drop(state);
        self.changed.notify_all();
        goes_on
    }
}

/// Takes connections until the peer ends; the threads that serve them.
fn accept(shared: &Arc<Shared>, listener: &TcpListener) -> Vec<JoinHandle<()>> {
    let mut sessions = Vec::new();
    loop {
        let accepted =
            listener.accept().and_then(|(socket, client)| Ok((socket.try_clone()?, socket, client)));
        // A client that has gone before it was accepted, or no more files: the client sees it.
        let Ok((copy, socket, client)) = accepted else {
            if shared.lock().closing {
                return sessions;
            }
            continue;
        };
        let number = shared.change(|state| {
            if state.closing {
                return None;
            }
            state.record.connections.push(Connection::new(client));
            let number = state.record.connections.len();
            state.sockets.insert(number, copy);
            Some(number)
        });
        let Some(number) = number else { return sessions };
        let shared = Arc::clone(shared);
        sessions.push(std::thread::spawn(move || session::serve(&shared, number, socket)));
    }
}
