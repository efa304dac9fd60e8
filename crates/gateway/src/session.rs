//! One connection: octets in, replies out, messages into the journal.
//!
//! ```text
//!        ┌────────────── octets ───────────────┐
//!        ▼                                     │
//!   parse: session.advance ─▶ events      receive, or the log has committed
//!        │   recipient → policy                ▲        │
//!        │   body      → gathered or chunk     │        │ gated replies may leave
//!        │   message   → journal               │        ▼
//!        └─▶ flush: all replies of this input in one send ──▶ close?
//! ```
//!
//! The session core knows SMTP and never waits; this task knows sockets, buffers and time. While a reply waits for the
//! log, parsing goes on: the wait for more octets stays armed beside it.

mod introduced;
mod login;
mod noted;
mod patience;
mod said;
mod secure;
mod shown;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use inrush_log::{Appended, MessageId};
use inrush_metrics::{Counter, Histogram, Phase, SessionEnd};
use inrush_proto::sasl::Credentials;
use inrush_proto::{Accepted, Event, Reply, Session, Tls, Verb, Verdict};
use inrush_trace::Traced;
use monoio::net::TcpStream;

use crate::admission::Admitted;
use crate::buffers::{RECEIVE, Wish};
use crate::core::Core;
use crate::doors::Door;
use crate::mail::{Facts, Mail};
use crate::sessions::Shown;
use crate::socket::Socket;
use crate::talkers;
use crate::watch::{Ending, Place, Slot, Stage};
use introduced::{Told, introduction};
use noted::{Noted, Weight};
use secure::Secure;

/// Octets that are read and dropped after the last reply, so that the peer's kernel does not throw that reply away.
const FAREWELL_OCTETS_MAX: usize = 4 << 20;

/// What [`Talk::parse`] has come to.
enum Step {
    /// All input is worked off; read more, with this many octets of buffer in all.
    Read(usize),
    /// Replies have piled up: send before going on.
    Send,
    /// The session core has said its last word.
    Close,
    /// The peer wants TLS.
    StartTls,
    /// The peer says who it is.
    Authenticate(Box<Credentials>),
}

/// What a receive has brought.
enum Input {
    Octets,
    Closed,
    Broken,
    /// The log has failed, and the session has said so.
    LogFailed,
    /// The core's budget of memory does not allow a buffer.
    NoMemory,
}

/// Serves one connection from the greeting to the end.
// A block, since the task of an `async fn` would hold what it is given twice.
pub(crate) fn serve(admitted: Admitted, stream: TcpStream, door: Rc<Door>) -> impl Future<Output = ()> {
    let local = door.own_address(&stream);
    let socket = Socket::new(stream);
    async move {
        let core = &*admitted.core;
        let shown = Shown::new(Some(admitted.peer), door.index);
        let slot = Slot::new(socket.descriptor(), core.clock.now(), shown);
        // Behind the socket, so that it leaves the watch before the socket closes.
        let place = core.watch.enter(slot);
        let mut talk = Talk::new(&admitted, &door, &socket, &place, local);
        let end = match talk.run().await {
            // Cut off by us, in the middle of a reply that the peer does not take.
            SessionEnd::PeerReset if place.ending() == Some(Ending::Idle) => SessionEnd::Timeout,
            end => end,
        };
        talk.say_ended(end);
        talk.give_back();
        core.metrics.count(end);
    }
}

/// The state of one conversation.
struct Talk<'c> {
    core: &'c Core,
    door: &'c Door,
    socket: &'c Socket,
    place: &'c Place<'c>,
    number: u64,
    admitted: &'c Admitted,
    /// What the peer has said with XCLIENT.
    told: Option<Box<Told<'c>>>,
    /// Our end of the connection, if it is not the address of the door.
    local: Option<Box<SocketAddr>>,
    session: Session,
    secure: Option<Box<Secure>>,
    /// What the peer has said, without TLS.
    buffer: Vec<u8>,
    /// Octets at the front of `buffer` that are worked off.
    start: usize,
    mail: Mail,
    weight: Weight,
    /// The last receive has filled its buffer: the next one gets the largest.
    bulk: bool,
    noted: Noted,
    /// Errors and refused recipients so far.
    slips: u32,
    /// Receives in a row that did not have to wait.
    greed: u16,
    /// When the input that is being worked off arrived.
    input_at: u64,
    /// Messages whose `250` waits: its gate, when their MAIL came, and which they are.
    unanswered: Vec<(u64, u64, MessageId)>,
    /// The gate that will wake this task.
    woken_at: u64,
    /// This session was let through by those who waited for room before it.
    owes_turn: bool,
    /// Who looks at it live.
    traced: Traced,
}

impl<'c> Talk<'c> {
    fn new(
        admitted: &'c Admitted,
        door: &'c Door,
        socket: &'c Socket,
        place: &'c Place<'c>,
        local: Option<Box<SocketAddr>>,
    ) -> Self {
        let core = &*admitted.core;
        let mut session = Session::new(Rc::clone(&door.context));
        if admitted.known && !door.filters.is_empty() && door.filters.contains(admitted.peer.ip()) {
            session.trust_introductions();
        }
        Self {
            core,
            door,
            socket,
            place,
            number: core.next_session_number(),
            admitted,
            told: None,
            local,
            session,
            secure: None,
            buffer: Vec::new(),
            start: 0,
            mail: Mail::default(),
            weight: Weight::default(),
            bulk: false,
            noted: Noted::default(),
            slips: 0,
            greed: 0,
            input_at: place.opened(),
            unanswered: Vec::new(),
            woken_at: 0,
            owes_turn: false,
            traced: Traced::default(),
        }
    }

    async fn run(&mut self) -> SessionEnd {
        if self.door.context.tls() == Tls::Implicit && !Box::pin(self.implicit_tls()).await {
            return SessionEnd::TlsFailed;
        }
        if self.door.greet_delay.is_zero() || Box::pin(self.hold_greeting()).await {
            self.attend();
            self.session.greet();
            self.turn_away();
        }
        if !self.send().await {
            return SessionEnd::PeerReset;
        }
        self.core.record(Phase::Banner, self.core.clock.now() - self.place.opened());
        loop {
            let step = self.parse().await;
            self.note_commands();
            let slips = self.new_slips();
            if slips > 0 {
                self.shelve();
                Box::pin(self.hold_replies(slips)).await;
            }
            let together = matches!(step, Step::Read(_)) && self.replies_leave_together();
            if self.session.has_ready() && !together && !self.send().await {
                return SessionEnd::PeerReset;
            }
            match step {
                Step::Close => return self.finish().await,
                // Boxed: only sessions under TLS pay for its task.
                Step::StartTls => {
                    self.shelve();
                    if let Some(end) = Box::pin(self.start_tls()).await {
                        return end;
                    }
                }
                Step::Authenticate(credentials) => {
                    self.shelve();
                    Box::pin(self.log_in(*credentials)).await;
                }
                Step::Send => {
                    if !self.session.has_ready() && !self.wait_for_gates().await {
                        return SessionEnd::PeerReset;
                    }
                }
                Step::Read(hint) => {
                    let decrypted = if self.secure.is_some() { self.decrypt() } else { None };
                    let renewal = self.secure.as_ref().is_some_and(|secure| !secure.outgoing.is_empty());
                    if renewal && !self.send().await {
                        return SessionEnd::PeerReset;
                    }
                    let input = match decrypted {
                        Some(input) => input,
                        None => self.receive(hint).await,
                    };
                    match input {
                        Input::Octets => {}
                        Input::NoMemory => {
                            self.close_with(Reply::OVERLOADED);
                            continue;
                        }
                        Input::Broken => return SessionEnd::PeerReset,
                        Input::LogFailed => return SessionEnd::LogFailure,
                        Input::Closed => match self.place.ending() {
                            Some(ending) => self.close_with(farewell_reply(ending)),
                            None => {
                                // What was accepted is still answered: the peer may have closed its own direction only.
                                self.wait_for_gates().await;
                                self.close_tls().await;
                                return SessionEnd::PeerClosed;
                            }
                        },
                    }
                    // A peer that always has more to say must not keep the core to itself.
                    self.core.give_way(&mut self.greed).await;
                }
            }
        }
    }

    /// Works off the input until more is needed.
    async fn parse(&mut self) -> Step {
        loop {
            self.attend();
            let progress = self.session.advance(&self.buffer[self.start..]);
            self.start += progress.consumed;
            match progress.event {
                Event::NeedInput { hint } => return Step::Read(hint),
                Event::Output => return Step::Send,
                Event::Close => return Step::Close,
                Event::StartTls => return Step::StartTls,
                Event::Authenticate(credentials) => return Step::Authenticate(credentials),
                Event::Introduced(xclient) => self.introduce(&xclient),
                Event::Sender(path) => {
                    let verdict = self.sender_verdict(path);
                    self.session.sender_verdict(verdict);
                }
                Event::Recipient(recipient) => {
                    let verdict = self.core.recipient_verdict(&recipient.path, self.door.context.kind());
                    let affordable = self.weight.grow(self.core, self.session.transaction());
                    let verdict = if affordable { verdict } else { Verdict::Refuse(Reply::PENDING_FULL) };
                    if let Verdict::Refuse(_) = verdict {
                        talkers::refused_recipient(&self.core.metrics, recipient.path);
                    }
                    if self.traced.is_waited_for() {
                        self.match_recipient();
                    }
                    self.session.verdict(verdict);
                }
                Event::Body(body) => {
                    // Before any wait: another session's commands come into the same place.
                    self.noted.take(self.core, self.number, self.input_at, self.session.transactions());
                    let stored = loop {
                        match self.mail.store(self.core, body) {
                            Err(refused) if refused.worth_waiting(self.waited()) => {
                                self.wait_for_room().await;
                                (self.woken_at, self.owes_turn) = (0, true);
                            }
                            stored => break stored,
                        }
                    };
                    self.pass_on();
                    self.attend();
                    self.session.body_stored(stored.map_err(|refused| self.core.refused(refused)));
                }
                Event::Message(body) => {
                    self.noted.take(self.core, self.number, self.input_at, self.session.transactions());
                    let appended = loop {
                        // In a block of its own: what is built for it would lie in the task of every session.
                        let appended = {
                            let facts = Facts {
                                listener: &self.door.name,
                                peer: self.peer(),
                                local: self.local(),
                                tls: self.secure.as_deref().map(|secure| &secure.agreed),
                                introduction: introduction(self.told.as_deref(), self.admitted),
                                times: self.noted.times.on_the_wall(
                                    self.core,
                                    self.secure.as_deref(),
                                    self.place.opened(),
                                    self.input_at,
                                ),
                                session: self.number,
                            };
                            self.mail.finish(self.core, &self.session, &facts, body)
                        };
                        match appended {
                            Err(refused) if refused.worth_waiting(self.waited()) => {
                                self.wait_for_room().await;
                                (self.woken_at, self.owes_turn) = (0, true);
                            }
                            appended => break appended,
                        }
                    };
                    self.pass_on();
                    self.mail.discard(self.core);
                    self.attend();
                    match appended {
                        Ok(appended) => self.accepted(&appended),
                        Err(refused) => self.session.appended(Err(self.core.refused(refused))),
                    }
                }
                Event::Aborted => self.mail.discard(self.core),
            }
        }
    }

    /// The log has the open transaction's message: the reply to it leaves when that is durable.
    fn accepted(&mut self, appended: &Appended) {
        self.core.count_accepted(self.session.transaction(), self.peer().ip());
        self.place.shown.accepted();
        let body = self.input_at.saturating_sub(self.noted.times.data);
        self.core.metrics.record_message(Phase::Body, body, appended.id, self.core.wall());
        let gate = appended.gate.get();
        self.unanswered.push((gate, self.noted.times.mail, appended.id));
        let id = appended.id.encode();
        // Hexadecimal digits only.
        let id = std::str::from_utf8(&id).unwrap_or_default();
        self.say_queued(appended, id);
        self.session.appended(Ok(Accepted { gate, id }));
    }

    /// How long the input that is being worked off has been waiting, in microseconds.
    fn waited(&self) -> u64 {
        self.core.clock.now() - self.input_at
    }

    /// Waits until an append that found no room is worth another try.
    async fn wait_for_room(&self) {
        self.place.enter(Stage::Commit, self.core.clock.recent());
        self.core.journal.room().await;
        self.core.journal.waited_for_room(self.core.clock.now().saturating_sub(self.place.since()));
    }

    /// Lets the next one try who waits for room, if this session was let through itself.
    fn pass_on(&mut self) {
        if std::mem::take(&mut self.owes_turn) {
            self.core.journal.pass_on();
        }
    }

    /// Takes note of where this input has led.
    fn note_commands(&mut self) {
        self.turn_away();
        self.noted.take(self.core, self.number, self.input_at, self.session.transactions());
        self.count_refusals();
        use inrush_proto::Phase as At;
        let phase = self.session.phase();
        self.place.shown.came_to(phase, self.noted.commands.last());
        let open = matches!(phase, At::Envelope | At::MailData);
        self.place.set_transaction(open.then_some(self.noted.times.mail));
        if !open {
            self.weight.release(self.core);
        }
        // Between two chunks of BDAT as well: mail data that comes one octet a chunk is no faster.
        let expects_data = phase == At::MailData || (open && self.session.transaction().chunking());
        self.place.set_data(expects_data, self.input_at);
    }

    /// Sends all replies that may leave, in one send; false when the peer is gone.
    async fn send(&mut self) -> bool {
        let core = self.core;
        let mut out = core.take_output();
        self.session.durable(core.journal.committed());
        if core.journal.failed() || core.journal.hung() {
            self.session.fail_gated();
        }
        self.session.take_ready(&mut out);
        if let Some(secure) = &mut self.secure {
            let over = self.session.phase() == inrush_proto::Phase::Closed && !self.session.has_gated();
            out = secure.seal(core, out, over);
        }
        let octets = out.len();
        let last = self.session.has_quit() && !self.session.has_gated();
        let sent = if last { Ok(self.socket.send_last(&out)) } else { self.socket.send(&out) };
        let sent = match sent {
            Ok(sent) if sent < octets => Box::pin(self.send_slowly(&out[sent..])).await,
            sent => sent.map(drop),
        };
        if sent.is_err() {
            core.give_back_output(out);
            return false;
        }
        core.give_back_output(out);
        core.metrics.add(Counter::SentBytes, octets as u64);
        let now = core.clock.now();
        for phase in std::mem::take(&mut self.noted.commands).phases() {
            core.record(phase, now - self.input_at);
        }
        if !self.unanswered.is_empty() {
            let open_gate = self.session.next_gate().unwrap_or(u64::MAX);
            let (traced, number, opened) = (self.traced, self.number, self.place.opened());
            self.unanswered.retain(|&(gate, mail_at, id)| {
                let answered = gate < open_gate;
                if answered {
                    core.metrics.record_message(Phase::Total, now - mail_at, id, core.clock.wall(now));
                    if traced.is_seen() {
                        core.tell_of(traced, number, opened, &inrush_trace::Event::Answered(now - mail_at));
                    }
                }
                !answered
            });
        }
        true
    }

    /// Sends gated replies as the log commits, until none is left; false when they never will or the peer is gone.
    async fn wait_for_gates(&mut self) -> bool {
        while self.session.has_gated() {
            self.shelve();
            self.place.enter(Stage::Commit, self.core.clock.recent());
            poll_fn(|context| if self.gate_is_open(context) { Poll::Ready(()) } else { Poll::Pending }).await;
            if !self.send().await {
                return false;
            }
        }
        true
    }

    /// Whether the first gated reply may leave (or never will); if not, the task is woken when it may.
    fn gate_is_open(&mut self, context: &mut std::task::Context<'_>) -> bool {
        let Some(gate) = self.session.next_gate() else { return false };
        let journal = &self.core.journal;
        if journal.committed() >= gate || journal.failed() || journal.hung() {
            return true;
        }
        if self.woken_at != gate {
            self.woken_at = gate;
            journal.wake_at(gate, context);
        }
        false
    }

    /// Whether the replies that are ready leave with the one behind them that waits for the log. A client that has sent a whole message with
    /// BDAT waits for that one, and each send costs both sides as much as the message.
    ///
    /// RFC 2920 §3.2 lets replies to MAIL, RCPT and RSET of a group be sent as a unit, not those to other commands, and wants all of them sent once
    /// the input is empty, so that nobody waits for the other. Here the client waits for us: for one write, of a disk that is quick.
    fn replies_leave_together(&self) -> bool {
        let group = [Verb::Mail, Verb::Rcpt, Verb::Rset, Verb::Bdat];
        self.session.has_gated()
            && self.noted.commands.are_taken_and_among(&group)
            && self.core.journal.is_prompt()
    }

    fn expects_data(&self) -> bool {
        self.session.phase() == inrush_proto::Phase::MailData
    }

    /// Waits for more input, of a session that asks for `hint` octets in all, and sends meanwhile what the log commits.
    async fn receive(&mut self, hint: usize) -> Input {
        let (core, socket) = (self.core, self.socket);
        loop {
            self.shelve();
            self.pass_on();
            self.greed = self.greed.saturating_add(1);
            let mut readable = pin!(socket.readable());
            loop {
                self.place.enter(
                    if self.session.has_gated() { Stage::Commit } else { Stage::Input },
                    core.clock.recent(),
                );
                let gate_is_open = poll_fn(|context| {
                    if readable.as_mut().poll(context).is_ready() {
                        return Poll::Ready(false);
                    }
                    self.greed = 0;
                    if self.gate_is_open(context) { Poll::Ready(true) } else { Poll::Pending }
                })
                .await;
                if !gate_is_open {
                    break;
                }
                let sent = self.send().await;
                if core.journal.failed() || core.journal.hung() {
                    return Input::LogFailed;
                }
                if !sent {
                    return Input::Broken;
                }
            }
            if core.journal.is_full()
                && !core.pool.allows_reading_ahead()
                && let Some(end) = Box::pin(self.wait_unread()).await
            {
                return end;
            }
            if !self.make_room(hint) {
                return Input::NoMemory;
            }
            match socket.receive(self.target()) {
                Ok(None) => core.give_way(&mut self.greed).await,
                Ok(Some(0)) => return Input::Closed,
                Ok(Some(octets)) => {
                    self.received(octets);
                    return Input::Octets;
                }
                Err(_) => return Input::Broken,
            }
        }
    }

    /// Leaves octets with the kernel until the log has room for them, and sends meanwhile what it commits: thousands of sessions that had received them
    /// would wait with a buffer each. To be boxed: it happens only then.
    async fn wait_unread(&mut self) -> Option<Input> {
        let core = self.core;
        while core.journal.is_full() {
            self.wait_for_room().await;
            (self.woken_at, self.owes_turn) = (0, true);
            let Some(gate) = self.session.next_gate() else { continue };
            let lost = core.journal.failed() || core.journal.hung();
            let open = lost || core.journal.committed() >= gate;
            if open && !self.send().await {
                return Some(Input::Broken);
            }
            if lost {
                return Some(Input::LogFailed);
            }
        }
        None
    }

    /// Holds no more memory than what is not worked off takes; before every wait.
    fn shelve(&mut self) {
        let pool = &self.core.pool;
        pool.shelve(&mut self.buffer, &mut self.start);
        if let Some(secure) = &mut self.secure
            && secure.tls.incoming.is_empty()
        {
            pool.give_back(std::mem::take(&mut secure.tls.incoming));
        }
    }

    /// Sends `octets` to a peer that takes its time, and is watched while it does. To be boxed: most peers take replies at once.
    async fn send_slowly(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.shelve();
        self.place.enter(Stage::Output, self.core.clock.recent());
        let sent = self.socket.send_slowly(octets).await;
        // A gate may have been opened, and closed for a later write, while nobody listened.
        self.woken_at = 0;
        sent
    }

    /// Takes note of octets that have come.
    fn received(&mut self, octets: usize) {
        self.input_at = self.core.clock.now();
        self.noted.of_input = 0;
        self.place.received(octets, self.input_at);
        self.core.metrics.add(Counter::ReceivedBytes, octets as u64);
        let target = self.target();
        self.bulk = target.len() == target.capacity();
    }

    /// Makes room for a receive, of a session that asks for `hint` octets in all; false when the budget is spent.
    fn make_room(&mut self, hint: usize) -> bool {
        let pool = &self.core.pool;
        let command = !self.expects_data();
        match &mut self.secure {
            None => {
                pool.make_room(&mut self.buffer, &mut self.start, Wish { hint, bulk: self.bulk, command })
            }
            Some(secure) => {
                // rustls has taken all of it.
                let wish = Wish { hint: RECEIVE, bulk: self.bulk, command };
                pool.make_room(&mut secure.tls.incoming, &mut 0, wish)
            }
        }
    }

    /// Where octets from the socket go.
    fn target(&mut self) -> &mut Vec<u8> {
        match &mut self.secure {
            None => &mut self.buffer,
            Some(secure) => &mut secure.tls.incoming,
        }
    }

    /// Gets the last replies out and closes in a way that lets the peer read them.
    async fn finish(&mut self) -> SessionEnd {
        self.wait_for_gates().await;
        self.shelve();
        let end = match self.place.ending() {
            _ if self.core.journal.failed() || self.core.journal.hung() => SessionEnd::LogFailure,
            Some(Ending::Shutdown) => SessionEnd::Stopping,
            Some(_) => SessionEnd::Timeout,
            None if self.session.has_quit() => return SessionEnd::Quit,
            None => SessionEnd::Refused,
        };
        // Closing with unread input would make the kernel reset the connection and the peer lose the reply.
        self.socket.end_sending();
        self.place.enter(Stage::Farewell, self.core.clock.now());
        let mut drained = 0;
        while drained < FAREWELL_OCTETS_MAX {
            self.socket.readable().await;
            let mut buffer = self.core.pool.take_largest(RECEIVE);
            let received = self.socket.receive(&mut buffer);
            self.core.pool.give_back(buffer);
            match received {
                Ok(Some(octets @ 1..)) => drained += octets,
                Ok(None) => {}
                _ => break,
            }
            self.greed = self.greed.saturating_add(1);
            self.core.give_way(&mut self.greed).await;
        }
        end
    }

    fn give_back(mut self) {
        self.pass_on();
        let Self { core, buffer, secure, mut mail, mut weight, .. } = self;
        if let Some(secure) = secure {
            core.pool.give_back(secure.tls.incoming);
        }
        mail.discard(core);
        weight.release(core);
        core.pool.give_back(buffer);
    }
}

/// The last word to a session that the watch has ended.
fn farewell_reply(ending: Ending) -> &'static Reply {
    match ending {
        Ending::Idle => Reply::IDLE_TIMEOUT,
        Ending::Transaction => Reply::TRANSACTION_TIMEOUT,
        // A handshake and a header have no reply; their connection ends without one.
        Ending::Session | Ending::Handshake | Ending::Proxy => Reply::SESSION_TIMEOUT,
        Ending::DataRate => Reply::DATA_TOO_SLOW,
        Ending::Shutdown => Reply::SHUTTING_DOWN,
    }
}

/// Records `microseconds` of a phase.
impl Core {
    pub(crate) fn record(&self, phase: Phase, microseconds: u64) {
        self.metrics.record(Histogram::Phase(phase), microseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle session costs its task and little else: a task that grows is paid for by every idle peer.
    #[test]
    fn the_task_of_a_session_stays_small() {
        let size = future_size(serve);
        // With what the runtime adds it fits the allocator's class of 1024.
        assert!(size <= 976, "{size} octets");
    }
}
