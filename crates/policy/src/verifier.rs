//! Verification of passwords on threads of its own.
//!
//! ```text
//!   core ─ submit(credentials, on_done) ─▶ bounded queue ─▶ worker ─ Users::verify ─▶ on_done(outcome) ─▶ core
//!                 └ Busy when it is full
//! ```
//! One verification takes milliseconds to seconds and megabytes on purpose; on a core it would stop all of its sessions. So the queue is
//! bounded and so is the number of workers: memory is at most that of the dearest hash times the workers, and who guesses passwords
//! fast makes other logins wait or fail with 454, but not mail.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use inrush_proto::sasl::Credentials;

use crate::Loaded;
use crate::users::{Outcome, Users, UsersError};

/// Called once with what was found, on a worker; it must not block.
pub type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// Bounds of a [`Verifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierSettings {
    /// Threads that verify. Each takes a CPU and the memory of one hash while it does.
    pub workers: NonZeroUsize,
    /// Verifications that wait. With the defaults and a hash of 50 ms the last one waits less than two seconds.
    pub waiting_max: usize,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        Self { workers: const { NonZeroUsize::new(2).unwrap() }, waiting_max: 64 }
    }
}

/// Too many verifications wait: 454 4.7.0 (RFC 4954 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

struct Job {
    credentials: Credentials,
    on_done: OnDone,
}

struct Shared {
    users: crate::Shared<Users>,
    stopping: AtomicBool,
}

/// The threads that verify, and the users they verify against.
///
/// Dropping it waits for the verifications under way; those that wait are dropped unanswered.
pub struct Verifier {
    /// `None` only while it is dropped.
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Verifier {
    /// Starts the workers.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(users: impl Into<Arc<Users>>, settings: VerifierSettings) -> io::Result<Self> {
        let (sender, jobs) = bounded(settings.waiting_max);
        let shared = Arc::new(Shared { users: crate::Shared::new(users), stopping: AtomicBool::new(false) });
        // Dropped on an error, it ends the workers that did start.
        let mut verifier = Self { jobs: Some(sender), shared, workers: Vec::new() };
        for worker in 0..settings.workers.get() {
            let (jobs, shared) = (jobs.clone(), Arc::clone(&verifier.shared));
            let thread =
                Builder::new().name(format!("verify-{worker}")).spawn(move || work(&jobs, &shared))?;
            verifier.workers.push(thread);
        }
        Ok(verifier)
    }

    /// Has credentials verified; `on_done` is called with what was found. Never blocks.
    ///
    /// # Errors
    /// Too many wait; `on_done` is not called.
    pub fn submit(&self, credentials: Credentials, on_done: OnDone) -> Result<(), Busy> {
        let Some(jobs) = &self.jobs else { return Err(Busy) };
        match jobs.try_send(Job { credentials, on_done }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }

    /// The users of this moment; for [`Users::may_send_as`].
    #[must_use]
    pub fn users(&self) -> Loaded<Users> {
        self.shared.users.load()
    }

    /// Takes other users from now on. Verifications under way end with the users they began with, and are waited for: not for a core.
    pub fn replace(&self, users: Users) {
        self.shared.users.replace(users);
    }

    /// Reads the users again; gives back how many there are.
    ///
    /// # Errors
    /// The file cannot be used; the users stay those of before.
    pub fn reload(&self, path: &Path) -> Result<usize, UsersError> {
        let users = Users::load(path)?;
        let count = users.len();
        self.replace(users);
        Ok(count)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Without a sender the workers find the end of the queue.
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A worker that has panicked has said so.
            let _ = worker.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, shared: &Shared) {
    for Job { credentials, on_done } in jobs {
        if shared.stopping.load(Ordering::Relaxed) {
            continue;
        }
        let outcome = shared.users.load().verify(&credentials.name, &credentials.password);
        on_done(outcome);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use inrush_proto::sasl::{Exchange, Mechanism, Step};
    use zeroize::Zeroizing;

    use super::*;
    use crate::users::tests::{ARGON2ID, SHA512};

    const LIMIT: Duration = Duration::from_secs(60);

    fn users(name: &str) -> Users {
        Users::parse(format!("{name}:{ARGON2ID}\n").as_bytes()).ok().unwrap()
    }

    fn credentials(name: &str, password: &str) -> Credentials {
        let password = Zeroizing::new(password.to_owned());
        Credentials { mechanism: Mechanism::Plain, name: name.to_owned(), password }
    }

    fn settings(workers: usize, waiting_max: usize) -> VerifierSettings {
        VerifierSettings { workers: NonZeroUsize::new(workers).unwrap(), waiting_max }
    }

    /// Submits and waits.
    fn verified(verifier: &Verifier, credentials: Credentials) -> Outcome {
        let (sender, receiver) = bounded(1);
        verifier.submit(credentials, Box::new(move |outcome| sender.send(outcome).unwrap())).unwrap();
        receiver.recv_timeout(LIMIT).unwrap()
    }

    #[test]
    fn outcomes_come_back_to_whom_they_belong() {
        let verifier = Verifier::start(users("joe@example.com"), settings(3, 100)).unwrap();
        let (sender, receiver) = bounded(100);
        for n in 0..100 {
            let sender = sender.clone();
            let password = if n % 3 == 0 { "secret" } else { "wrong" };
            let on_done = Box::new(move |outcome| sender.send((n, outcome)).unwrap());
            verifier.submit(credentials("joe@example.com", password), on_done).unwrap();
        }
        for _ in 0..100 {
            let (n, outcome) = receiver.recv_timeout(LIMIT).unwrap();
            let expected = if n % 3 == 0 { Outcome::Accepted } else { Outcome::Refused };
            assert_eq!(outcome, expected, "{n}");
        }
    }

    #[test]
    fn from_the_wire_to_the_outcome() {
        let verifier = Verifier::start(users("joe@example.com"), VerifierSettings::default()).unwrap();
        // base64 of NUL joe@example.com NUL secret
        let step = Exchange::begin(b"PLAIN AGpvZUBleGFtcGxlLmNvbQBzZWNyZXQ=");
        let Step::Credentials(credentials) = step else { panic!("{step:?}") };
        assert_eq!(verified(&verifier, credentials), Outcome::Accepted);
    }

    /// One worker that is held, and a queue of two: the fourth is turned away, and those before it are served when the worker is free.
    #[test]
    fn a_full_queue_is_busy() {
        let verifier = Verifier::start(users("joe@example.com"), settings(1, 2)).unwrap();
        let ((held, is_held), (free, is_free), (done, is_done)) =
            (bounded::<()>(1), bounded::<()>(0), bounded(10));
        let hold = Box::new(move |_| {
            held.send(()).unwrap();
            is_free.recv_timeout(LIMIT).unwrap();
        });
        verifier.submit(credentials("joe@example.com", "secret"), hold).unwrap();
        is_held.recv_timeout(LIMIT).unwrap();
        let submit = |password: &str| {
            let done = done.clone();
            let on_done = Box::new(move |outcome| done.send(outcome).unwrap());
            verifier.submit(credentials("joe@example.com", password), on_done)
        };
        assert_eq!(submit("secret"), Ok(()));
        assert_eq!(submit("wrong"), Ok(()));
        assert_eq!(submit("secret"), Err(Busy));
        free.send(()).unwrap();
        assert_eq!(is_done.recv_timeout(LIMIT).unwrap(), Outcome::Accepted);
        assert_eq!(is_done.recv_timeout(LIMIT).unwrap(), Outcome::Refused);
        assert_eq!(submit("secret"), Ok(()));
        assert_eq!(is_done.recv_timeout(LIMIT).unwrap(), Outcome::Accepted);
    }

    #[test]
    fn a_reload_keeps_what_worked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        let verifier = Verifier::start(users("joe@example.com"), VerifierSettings::default()).unwrap();
        let outcome = |name: &str| verified(&verifier, credentials(name, "secret"));

        write("joe@example.com:no hash\n");
        assert!(verifier.reload(&path).is_err());
        assert!(verifier.reload(&folder.path().join("none")).is_err());
        assert_eq!(outcome("joe@example.com"), Outcome::Accepted);
        assert_eq!(verifier.users().len(), 1);

        write(&format!("ann@example.com:{SHA512}\nkim@example.com:{SHA512}\n"));
        assert_eq!(verifier.reload(&path).unwrap(), 2);
        assert_eq!(outcome("joe@example.com"), Outcome::Refused);
        assert_eq!(outcome("ann@example.com"), Outcome::Accepted);
        assert!(verifier.users().find("kim@example.com").is_some());
    }

    /// The queue is dropped, not worked through: a stop takes no longer than what is under way.
    #[test]
    fn a_stop_leaves_the_queue() {
        let verifier = Verifier::start(users("joe@example.com"), settings(1, 10)).unwrap();
        let ((held, is_held), (free, is_free), (done, is_done)) =
            (bounded::<()>(1), bounded::<()>(1), bounded(10));
        let hold = Box::new(move |_| {
            held.send(()).unwrap();
            is_free.recv_timeout(LIMIT).unwrap();
        });
        verifier.submit(credentials("joe@example.com", "secret"), hold).unwrap();
        is_held.recv_timeout(LIMIT).unwrap();
        for _ in 0..5 {
            let done = done.clone();
            let on_done = Box::new(move |outcome| done.send(outcome).unwrap());
            verifier.submit(credentials("joe@example.com", "secret"), on_done).unwrap();
        }
        drop(done);
        let shared = Arc::clone(&verifier.shared);
        let stop = std::thread::spawn(move || drop(verifier));
        // The worker is let go when the stop is under way.
        while !shared.stopping.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        free.send(()).unwrap();
        stop.join().unwrap();
        // Every callback is gone, and none was called.
        assert!(is_done.recv_timeout(LIMIT).is_err_and(|error| error.is_disconnected()));
    }
}
