//! What the service manager is told: sd_notify(3). Nothing, where there is none.

use std::sync::mpsc::{Receiver, RecvTimeoutError};

use sd_notify::NotifyState;

/// Connections are taken.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// The end of the service has begun.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

/// The next event; until it comes, the service manager hears twice in the time of its watchdog that this thread still waits.
///
/// # Errors
/// Nobody is left who could send one.
pub(crate) fn wait<T>(events: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return events.recv().map_err(|_| RecvTimeoutError::Disconnected);
    };
    loop {
        tell(NotifyState::Watchdog);
        match events.recv_timeout(limit / 2) {
            Err(RecvTimeoutError::Timeout) => {}
            done => return done,
        }
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
