//! The live sessions, for an operator who asks.
//!
//! ```text
//!   asker ─▶ questions of a core, an octet on its control socket ─▶ the core looks over its watch at its next turn ─▶ answer
//! ```
//! Sessions note who they are with when they begin, and what they have come to with plain stores into cells of their own: no lock, nothing asked for,
//! nothing done while nobody asks. A core that does not answer in time is named in the answer; a question costs it one look over its sessions,
//! of which it looks at [`LOOKED_AT_MAX`] at most.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use inrush_proto::{Phase, Verb};

use crate::core::Core;
use crate::watch::{Slot, Stage};

/// Questions that may wait for a core.
const QUESTIONS_MAX: usize = 4;
/// Sessions that a core looks at for one answer.
const LOOKED_AT_MAX: usize = 50_000;
/// Sessions of one answer.
pub const SESSIONS_MAX: usize = 1_000;
/// How long a core has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a session shows of itself.
#[derive(Debug)]
pub(crate) struct Shown {
    client: Cell<Option<SocketAddr>>,
    /// Index of the listener.
    listener: u16,
    tls: Cell<Option<&'static str>>,
    phase: Cell<Option<Phase>>,
    last_command: Cell<Option<Verb>>,
    messages: Cell<u32>,
    octets: Cell<u64>,
}

impl Shown {
    pub(crate) fn new(client: Option<SocketAddr>, listener: usize) -> Self {
        Self {
            client: Cell::new(client),
            listener: u16::try_from(listener).unwrap_or(u16::MAX),
            tls: Cell::new(None),
            phase: Cell::new(None),
            last_command: Cell::new(None),
            messages: Cell::new(0),
            octets: Cell::new(0),
        }
    }

    /// A filter has said who the client is.
    pub(crate) fn client_is(&self, client: SocketAddr) {
        self.client.set(Some(client));
    }

    /// TLS of this version from now on.
    pub(crate) fn secured(&self, version: &'static str) {
        self.tls.set(Some(version));
    }

    /// Where an input has led.
    pub(crate) fn came_to(&self, phase: Phase, last_command: Option<Verb>) {
        self.phase.set(Some(phase));
        if last_command.is_some() {
            self.last_command.set(last_command);
        }
    }

    /// The log has a message of it.
    pub(crate) fn accepted(&self) {
        self.messages.set(self.messages.get().saturating_add(1));
    }

    /// How many the log has.
    pub(crate) fn messages(&self) -> u32 {
        self.messages.get()
    }

    /// Octets have come.
    pub(crate) fn received(&self, octets: usize) {
        self.octets.set(self.octets.get() + octets as u64);
    }
}

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The core that serves it.
    pub core: usize,
    /// Who it is with, as far as that is known.
    pub client: Option<SocketAddr>,
    /// Index of the listener in the settings.
    pub listener: usize,
    /// Version of TLS.
    pub tls: Option<&'static str>,
    /// What it does, or waits for: `proxy`, `tls`, `greeting`, `ready`, `envelope`, `data`, `paused` (something outside decides), `commit` (the log),
    /// `held_back`, `sending`, `closing`.
    pub phase: &'static str,
    /// Time since the accept.
    pub age: Duration,
    /// Time since it has begun to wait for what it waits for, or since its last input.
    pub idle: Duration,
    /// Messages that the log has of it.
    pub messages: u32,
    /// Octets that were received, under TLS those on the wire behind the handshake.
    pub octets: u64,
    /// Verb of the last command, in lower case.
    pub last_command: Option<&'static str>,
}

/// What all cores have said.
#[derive(Clone, Debug, Default)]
pub struct LiveSessions {
    /// Sessions that are open on the cores that have answered.
    pub open: usize,
    /// Those that have been open for the longest, in that order.
    pub sessions: Vec<LiveSession>,
    /// Cores that have not answered within a second.
    pub silent_cores: Vec<usize>,
}

/// A question to a core, with the way back.
struct Question {
    limit: usize,
    answer: SyncSender<(usize, Vec<LiveSession>)>,
}

/// Questions that wait for a core.
pub(crate) struct Questions {
    waiting: ArrayQueue<Question>,
    control: UnixStream,
}

impl Questions {
    /// `control` leads to the core.
    pub(crate) fn new(control: UnixStream) -> Arc<Self> {
        Arc::new(Self { waiting: ArrayQueue::new(QUESTIONS_MAX), control })
    }
}

/// Asks the cores. Stays valid when they have ended: they are silent then.
#[derive(Clone)]
pub struct SessionList {
    cores: Vec<Arc<Questions>>,
}

impl SessionList {
    pub(crate) fn of(cores: impl Iterator<Item = Arc<Questions>>) -> Self {
        Self { cores: cores.collect() }
    }

    /// The sessions that have been open for the longest, `limit` of them at most ([`SESSIONS_MAX`]). Waits for a second at most: not for a thread with
    /// a runtime.
    #[must_use]
    pub fn oldest(&self, limit: usize) -> LiveSessions {
        let limit = limit.min(SESSIONS_MAX);
        let asked = self.cores.iter().map(|questions| {
            let (answer, answered) = sync_channel(1);
            let taken = questions.waiting.push(Question { limit, answer }).is_ok();
            // Not sent: the core has ended, or so many octets wait there already that it will look anyway.
            let _ = (&questions.control).write(&[0]);
            taken.then_some(answered)
        });
        let asked: Vec<_> = asked.collect();
        let deadline = Instant::now() + PATIENCE;
        let mut all = LiveSessions::default();
        for (core, answered) in asked.into_iter().enumerate() {
            let patience = deadline.saturating_duration_since(Instant::now());
            match answered.and_then(|answered| answered.recv_timeout(patience).ok()) {
                Some((open, sessions)) => {
                    all.open += open;
                    all.sessions.extend(sessions);
                }
                None => all.silent_cores.push(core),
            }
        }
        all.sessions.sort_by_key(|session| Reverse(session.age));
        all.sessions.truncate(limit);
        all
    }
}

impl Core {
    /// Answers whoever has asked for the sessions.
    pub(crate) fn answer_questions(&self) {
        while let Some(Question { limit, answer }) = self.questions.waiting.pop() {
            // Whoever asked may have gone.
            let _ = answer.try_send((self.open.get(), self.oldest_sessions(limit)));
        }
    }

    fn oldest_sessions(&self, limit: usize) -> Vec<LiveSession> {
        let now = self.clock.now();
        // The youngest of those that are kept is on top.
        let mut oldest: BinaryHeap<(u64, usize)> = BinaryHeap::with_capacity(limit + 1);
        let mut looked_at = 0;
        self.watch.each(|place, slot| {
            oldest.push((slot.opened(), place));
            if oldest.len() > limit {
                oldest.pop();
            }
            looked_at += 1;
            looked_at < LOOKED_AT_MAX
        });
        let places = oldest.into_iter().map(|(_, place)| place);
        places.filter_map(|place| self.watch.at(place, |slot| self.live(slot, now))).collect()
    }

    fn live(&self, slot: &Slot, now: u64) -> LiveSession {
        let since = |then: u64| Duration::from_micros(now.saturating_sub(then));
        let shown = &slot.shown;
        LiveSession {
            core: self.index,
            client: shown.client.get(),
            listener: shown.listener.into(),
            tls: shown.tls.get(),
            phase: phase(slot.stage(), shown.phase.get()),
            age: since(slot.opened()),
            idle: since(slot.since()),
            messages: shown.messages.get(),
            octets: shown.octets.get(),
            last_command: shown.last_command.get().map(Verb::label),
        }
    }
}

/// The word for what a session does.
fn phase(stage: Stage, phase: Option<Phase>) -> &'static str {
    match (stage, phase) {
        (Stage::Proxy, _) => "proxy",
        (Stage::Handshake, _) => "tls",
        (Stage::Commit, _) => "commit",
        (Stage::Rest, _) => "held_back",
        (Stage::Farewell, _) | (_, Some(Phase::Closed)) => "closing",
        (_, None | Some(Phase::Greeting)) => "greeting",
        (Stage::Output, _) => "sending",
        (Stage::Input, Some(Phase::Ready)) => "ready",
        (Stage::Input, Some(Phase::Envelope)) => "envelope",
        (Stage::Input, Some(Phase::MailData)) => "data",
        (Stage::Input, Some(Phase::Paused)) => "paused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_says_nothing_is_named() {
        let Ok((ours, theirs)) = UnixStream::pair() else { panic!("a socket pair") };
        let questions = Questions::new(ours);
        let list = SessionList::of(std::iter::once(Arc::clone(&questions)));
        // It ends without an answer, and nobody has to wait for the second to pass.
        let core = std::thread::spawn(move || {
            use std::io::Read as _;
            let mut octet = [0];
            let read = (&theirs).read(&mut octet);
            drop(questions.waiting.pop());
            read.is_ok()
        });
        let all = list.oldest(10);
        assert!(core.join().is_ok_and(|asked| asked));
        assert_eq!((all.open, all.sessions.len(), all.silent_cores), (0, 0, vec![0]));
    }

    #[test]
    fn questions_that_nobody_takes_are_bounded() {
        let Ok((ours, _theirs)) = UnixStream::pair() else { panic!("a socket pair") };
        let questions = Questions::new(ours);
        for taken in 0..QUESTIONS_MAX + 2 {
            let (answer, _) = sync_channel(1);
            let pushed = questions.waiting.push(Question { limit: 1, answer });
            assert_eq!(pushed.is_ok(), taken < QUESTIONS_MAX);
        }
    }

    #[test]
    fn what_a_session_waits_for_has_a_word() {
        assert_eq!(phase(Stage::Input, Some(Phase::MailData)), "data");
        assert_eq!(phase(Stage::Commit, Some(Phase::Envelope)), "commit");
        assert_eq!(phase(Stage::Output, None), "greeting");
        assert_eq!(phase(Stage::Input, Some(Phase::Closed)), "closing");
    }
}
