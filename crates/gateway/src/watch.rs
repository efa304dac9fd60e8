//! Who has taken too long: one look over all sessions of a core, once a second.
//!
//! Sessions only note when something happened; no timer is armed for a read. A session that is due gets its [`Ending`]
//! noted and its receive ended (`shutdown(SHUT_RD)`), so that its own task can say `421` and close. A session that
//! does not even take our replies is cut off in both directions.
//!
//! A session that waits for the log is never due: that wait is ours, not the peer's.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::sessions::Shown;
use crate::settings::Timeouts;
use crate::system::{self, Direction, Waiting};

/// How long an ended session may take to get its last reply out and to hang up.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a session is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The peer's next octets.
    Input,
    /// The header of a proxy.
    Proxy,
    /// The peer's part of a TLS handshake.
    Handshake,
    /// The peer's taking of our replies.
    Output,
    /// The log, or another part of this machine.
    Commit,
    /// The end of a time for which we make it wait.
    Rest,
    /// The peer's hanging up after the last reply.
    Farewell,
}

/// Why a session was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing came for `idle_timeout`.
    Idle,
    /// The mail transaction took longer than `transaction_timeout`.
    Transaction,
    /// The session took longer than `session_timeout`.
    Session,
    /// Mail data came slower than `min_data_rate`.
    DataRate,
    /// The header of a proxy took longer than `proxy_timeout`.
    Proxy,
    /// The TLS handshake took longer than `handshake_timeout`.
    Handshake,
    /// The gateway stops.
    Shutdown,
}

/// What one session tells the watch. Times are microseconds of the core's clock.
pub(crate) struct Slot {
    fd: RawFd,
    opened: u64,
    /// When the stage was entered, and for [`Stage::Input`] renewed with each input.
    since: Cell<u64>,
    stage: Cell<Stage>,
    transaction_since: Cell<Option<u64>>,
    data: Cell<Option<DataWindow>>,
    ending: Cell<Option<Ending>>,
    ending_since: Cell<u64>,
    /// For whoever asks for the sessions.
    pub(crate) shown: Shown,
}

/// Mail data received since the start of the current measurement of the rate.
#[derive(Clone, Copy, Debug)]
struct DataWindow {
    since: u64,
    octets: u64,
}

impl Slot {
    /// The slot of a session on the socket `fd` that was accepted at `now`.
    pub(crate) fn new(fd: RawFd, now: u64, shown: Shown) -> Self {
        Self {
            fd,
            opened: now,
            since: Cell::new(now),
            stage: Cell::new(Stage::Output),
            transaction_since: Cell::new(None),
            data: Cell::new(None),
            ending: Cell::new(None),
            ending_since: Cell::new(0),
            shown,
        }
    }

    /// What it waits for.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When the session was accepted.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// The session now waits for `stage`.
    pub(crate) fn enter(&self, stage: Stage, now: u64) {
        // While it waited for us nothing was read: that time does not count against the peer's rate.
        if matches!(self.stage.get(), Stage::Commit | Stage::Rest) && self.data.get().is_some() {
            self.data.set(Some(DataWindow { since: now, octets: 0 }));
        }
        // Waiting for input once more is not input: only octets renew that time. And who waits for us again has been waiting all along.
        if self.stage.replace(stage) != stage || !matches!(stage, Stage::Input | Stage::Commit) {
            self.since.set(now);
        }
    }

    /// `octets` came in; while mail data is expected they count for its rate.
    pub(crate) fn received(&self, octets: usize, now: u64) {
        self.since.set(now);
        self.shown.received(octets);
        if let Some(window) = self.data.get() {
            self.data.set(Some(DataWindow { octets: window.octets + octets as u64, ..window }));
        }
    }

    /// Since when a mail transaction is open.
    pub(crate) fn set_transaction(&self, since: Option<u64>) {
        self.transaction_since.set(since);
    }

    /// Whether mail data is expected; the rate is measured from the change on.
    pub(crate) fn set_data(&self, expected: bool, now: u64) {
        match (self.data.get(), expected) {
            (None, true) => self.data.set(Some(DataWindow { since: now, octets: 0 })),
            (Some(_), false) => self.data.set(None),
            _ => {}
        }
    }

    /// Why the session has to end, once that was decided.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Since when it has been waiting for what it waits for.
    pub(crate) fn since(&self) -> u64 {
        self.since.get()
    }

    /// What has come that was not received yet.
    pub(crate) fn waiting(&self) -> Waiting {
        system::waiting(self.fd)
    }

    /// Notes that the session has to end, and wakes it.
    fn end(&self, ending: Ending, now: u64) {
        self.ending.set(Some(ending));
        self.ending_since.set(now);
        system::shut_down(self.fd, Direction::Receive);
    }
}

/// What the watch has to do with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    End(Ending),
    CutOff,
}

/// The sessions of one core.
#[derive(Default)]
pub(crate) struct Watch {
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<usize>>,
}

/// A session's place in the watch; leaving scope gives it up. Must be dropped before the session's socket.
pub(crate) struct Place<'w> {
    watch: &'w Watch,
    index: usize,
    slot: Rc<Slot>,
}

impl std::ops::Deref for Place<'_> {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.watch.slots.borrow_mut()[self.index] = None;
        self.watch.free.borrow_mut().push(self.index);
    }
}

impl Watch {
    /// Takes a session into the watch.
    pub(crate) fn enter(&self, slot: Slot) -> Place<'_> {
        let slot = Rc::new(slot);
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[index] = Some(Rc::clone(&slot));
        Place { watch: self, index, slot }
    }

    /// Hands out each session with its place until `take` has enough.
    pub(crate) fn each(&self, mut take: impl FnMut(usize, &Slot) -> bool) {
        let slots = self.slots.borrow();
        let mut taken = slots.iter().enumerate().filter_map(|(place, slot)| Some((place, slot.as_ref()?)));
        let _ = taken.all(|(place, slot)| take(place, slot));
    }

    /// Looks at the session in a place.
    pub(crate) fn at<T>(&self, place: usize, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.slots.borrow().get(place)?.as_deref().map(look)
    }

    /// Looks over all sessions and acts on those that are due; `on_ending` hears of each new ending.
    pub(crate) fn look(&self, now: u64, timeouts: &Timeouts, mut on_ending: impl FnMut(Ending)) {
        for slot in self.slots.borrow().iter().flatten() {
            match due(slot, now, timeouts) {
                None => {}
                Some(Due::End(ending)) => {
                    slot.end(ending, now);
                    on_ending(ending);
                }
                Some(Due::CutOff) => {
                    if slot.stage.get() == Stage::Output && slot.ending.get().is_none() {
                        slot.ending.set(Some(Ending::Idle));
                        on_ending(Ending::Idle);
                    }
                    system::shut_down(slot.fd, Direction::Both);
                }
            }
        }
    }

    /// Ends the sessions that have no transaction open, or all of them when `transactions_too`.
    pub(crate) fn end_all(&self, now: u64, transactions_too: bool) {
        for slot in self.slots.borrow().iter().flatten() {
            if slot.ending.get().is_none()
                && slot.stage.get() != Stage::Commit
                && (transactions_too || slot.transaction_since.get().is_none())
            {
                slot.end(Ending::Shutdown, now);
            }
        }
    }
}

/// Whether a session is due, by the first row that holds:
///
/// | state | more than | action |
/// |---|---|---|
/// | waits for us | – | nothing |
/// | has its ending, or says farewell | [`FAREWELL`] ago | cut off |
/// | waits for a proxy's header | proxy timeout | end |
/// | shakes hands | handshake timeout | end |
/// | rests for us | – | only what holds for all sessions |
/// | does not take our replies | idle timeout | cut off |
/// | session open | session timeout | end |
/// | transaction open | transaction timeout | end |
/// | mail data expected, window over | fewer octets than the rate asks for | end (else a new window) |
/// | silent | idle timeout | end |
fn due(slot: &Slot, now: u64, timeouts: &Timeouts) -> Option<Due> {
    let elapsed = |since: u64| Duration::from_micros(now.saturating_sub(since));
    let in_stage = elapsed(slot.since.get());
    match slot.stage.get() {
        Stage::Commit => return None,
        Stage::Farewell => return (in_stage > FAREWELL).then_some(Due::CutOff),
        Stage::Output if in_stage > timeouts.idle_timeout => return Some(Due::CutOff),
        Stage::Output | Stage::Input | Stage::Handshake | Stage::Proxy | Stage::Rest => {}
    }
    if slot.ending.get().is_some() {
        return (elapsed(slot.ending_since.get()) > FAREWELL).then_some(Due::CutOff);
    }
    if slot.stage.get() == Stage::Proxy && in_stage > timeouts.proxy_timeout {
        return Some(Due::End(Ending::Proxy));
    }
    if slot.stage.get() == Stage::Handshake && in_stage > timeouts.handshake_timeout {
        return Some(Due::End(Ending::Handshake));
    }
    if elapsed(slot.opened) > timeouts.session_timeout {
        return Some(Due::End(Ending::Session));
    }
    if slot.transaction_since.get().is_some_and(|since| elapsed(since) > timeouts.transaction_timeout) {
        return Some(Due::End(Ending::Transaction));
    }
    if let Some(window) = slot.data.get() {
        let length = elapsed(window.since);
        if length > timeouts.min_data_rate_window {
            if window.octets < u64::from(timeouts.min_data_rate) * length.as_secs() {
                return Some(Due::End(Ending::DataRate));
            }
            slot.data.set(Some(DataWindow { since: now, octets: 0 }));
        }
    }
    let idle = slot.stage.get() == Stage::Input && in_stage > timeouts.idle_timeout;
    idle.then_some(Due::End(Ending::Idle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::PressureSettings;

    const SECOND: u64 = 1_000_000;

    fn timeouts() -> Timeouts {
        Timeouts::default()
    }

    fn waiting_for_input() -> Slot {
        let slot = Slot::new(-1, 0, Shown::new(None, 0));
        slot.enter(Stage::Input, 0);
        slot
    }

    #[test]
    fn a_silent_session_is_due_after_the_idle_timeout_only() {
        let slot = waiting_for_input();
        assert_eq!(due(&slot, 300 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 301 * SECOND, &timeouts()), Some(Due::End(Ending::Idle)));
        slot.received(1, 200 * SECOND);
        assert_eq!(due(&slot, 301 * SECOND, &timeouts()), None);
    }

    #[test]
    fn a_handshake_has_its_own_time_whatever_comes() {
        let slot = waiting_for_input();
        slot.enter(Stage::Handshake, 5 * SECOND);
        assert_eq!(due(&slot, 35 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 36 * SECOND, &timeouts()), Some(Due::End(Ending::Handshake)));
    }

    #[test]
    fn a_header_of_a_proxy_has_its_own_time() {
        let slot = waiting_for_input();
        slot.enter(Stage::Proxy, 0);
        assert_eq!(due(&slot, 5 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 6 * SECOND, &timeouts()), Some(Due::End(Ending::Proxy)));
    }

    #[test]
    fn waiting_once_more_does_not_renew_the_time() {
        let slot = waiting_for_input();
        slot.enter(Stage::Input, 299 * SECOND);
        assert_eq!(due(&slot, 301 * SECOND, &timeouts()), Some(Due::End(Ending::Idle)));
        slot.enter(Stage::Output, 299 * SECOND);
        slot.enter(Stage::Input, 300 * SECOND);
        assert_eq!(due(&slot, 301 * SECOND, &timeouts()), None);
    }

    #[test]
    fn pressure_shortens_every_silence() {
        let short = timeouts().under_pressure(&PressureSettings::default());
        let slot = waiting_for_input();
        assert_eq!(due(&slot, 11 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 11 * SECOND, &short), Some(Due::End(Ending::Idle)));
        slot.enter(Stage::Handshake, 0);
        assert_eq!(due(&slot, 11 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 11 * SECOND, &short), Some(Due::End(Ending::Handshake)));
        let slot = waiting_for_input();
        slot.set_data(true, 0);
        slot.received(4999, 11 * SECOND);
        assert_eq!(due(&slot, 11 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 11 * SECOND, &short), Some(Due::End(Ending::DataRate)));
        slot.set_data(false, 0);
        slot.set_transaction(Some(0));
        slot.received(1, 121 * SECOND);
        assert_eq!(due(&slot, 121 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 121 * SECOND, &short), Some(Due::End(Ending::Transaction)));
        // What is shorter already stays as it is.
        let hour = Duration::from_hours(1);
        let long =
            PressureSettings { idle_timeout: hour, transaction_timeout: hour, ..PressureSettings::default() };
        assert_eq!(timeouts().under_pressure(&long), timeouts());
    }

    #[test]
    fn waiting_for_the_log_is_never_the_peers_fault() {
        let slot = waiting_for_input();
        slot.set_transaction(Some(0));
        slot.enter(Stage::Commit, 0);
        assert_eq!(due(&slot, 100_000 * SECOND, &timeouts()), None);
    }

    #[test]
    fn drops_of_data_do_not_keep_a_session_alive() {
        let slot = waiting_for_input();
        slot.set_data(true, 0);
        for second in 1..=61 {
            slot.received(499, second * SECOND);
            let expected = (second == 61).then_some(Due::End(Ending::DataRate));
            assert_eq!(due(&slot, second * SECOND, &timeouts()), expected, "second {second}");
        }
    }

    #[test]
    fn enough_data_starts_a_new_window() {
        let slot = waiting_for_input();
        slot.set_data(true, 0);
        for second in 1..=200 {
            slot.received(501, second * SECOND);
            assert_eq!(due(&slot, second * SECOND, &timeouts()), None, "second {second}");
        }
        // The rate of the first minutes does not excuse silence in the last one.
        assert_eq!(due(&slot, 260 * SECOND, &timeouts()), Some(Due::End(Ending::DataRate)));
    }

    #[test]
    fn transactions_and_sessions_have_their_own_time() {
        let slot = waiting_for_input();
        slot.set_transaction(Some(10 * SECOND));
        slot.received(1, 1_211 * SECOND);
        assert_eq!(due(&slot, 1_211 * SECOND, &timeouts()), Some(Due::End(Ending::Transaction)));
        slot.set_transaction(None);
        assert_eq!(due(&slot, 1_211 * SECOND, &timeouts()), None);
        slot.received(1, 1_801 * SECOND);
        assert_eq!(due(&slot, 1_801 * SECOND, &timeouts()), Some(Due::End(Ending::Session)));
    }

    #[test]
    fn a_peer_that_takes_no_replies_is_cut_off() {
        let slot = Slot::new(-1, 0, Shown::new(None, 0));
        slot.enter(Stage::Output, 0);
        assert_eq!(due(&slot, 299 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 301 * SECOND, &timeouts()), Some(Due::CutOff));
    }

    #[test]
    fn an_ended_session_has_seconds_to_say_goodbye() {
        let slot = waiting_for_input();
        slot.ending.set(Some(Ending::Idle));
        slot.ending_since.set(400 * SECOND);
        assert_eq!(due(&slot, 405 * SECOND, &timeouts()), None);
        assert_eq!(due(&slot, 406 * SECOND, &timeouts()), Some(Due::CutOff));
    }

    #[test]
    fn places_are_given_up_and_used_again() {
        let watch = Watch::default();
        let first = watch.enter(Slot::new(-1, 0, Shown::new(None, 0)));
        let second = watch.enter(Slot::new(-1, 0, Shown::new(None, 0)));
        assert_eq!(second.index, 1);
        drop(first);
        let third = watch.enter(Slot::new(-1, 0, Shown::new(None, 0)));
        assert_eq!(third.index, 0);
    }
}
