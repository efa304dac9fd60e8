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
//! log, parsing goes on: a receive stays armed beside the wait. A receive is dropped only with its session.

mod introduced;
mod login;
mod noted;
mod patience;
mod secure;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use inrush_metrics::{Counter, Histogram, Phase, SessionEnd};
use inrush_proto::sasl::Credentials;
use inrush_proto::{Accepted, Event, Reply, Session, Tls, Verdict};
use monoio::buf::IoBufMut;
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, CancelHandle, CancelableAsyncReadRent, Splitable,
};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use crate::admission::Admitted;
use crate::buffers::{self, COMMAND, Pool};
use crate::core::Core;
use crate::doors::Door;
use crate::mail::{Facts, Mail};
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
    /// The watch wants the large buffer back.
    SwapBuffer,
    /// The log has failed, and the session has said so.
    LogFailed,
    /// The core's budget of memory does not allow a buffer.
    NoMemory,
}

/// Serves one connection from the greeting to the end.
pub(crate) async fn serve(admitted: Admitted, stream: TcpStream, door: Rc<Door>) {
    let core = &*admitted.core;
    let local = door.own_address(&stream);
    let slot = Slot::new(stream.as_raw_fd(), core.clock.now());
    let (mut reader, mut writer) = stream.into_split();
    // Behind the halves, so that it leaves the watch before the socket closes.
    let place = core.watch.enter(slot);
    let mut talk = Talk::new(&admitted, &door, &place, local);
    let end = match talk.run(&mut reader, &mut writer).await {
        // Cut off by us, in the middle of a reply that the peer does not take.
        SessionEnd::PeerReset if place.ending() == Some(Ending::Idle) => SessionEnd::Timeout,
        end => end,
    };
    talk.give_back();
    core.metrics.count(end);
    drop(place);
    // A write half by itself would shut the connection down before it closes: one system call more for each of them.
    let _ = writer.reunite(reader);
}

/// The state of one conversation.
struct Talk<'c> {
    core: &'c Core,
    door: &'c Door,
    place: &'c Place<'c>,
    number: u64,
    admitted: &'c Admitted,
    /// What the peer has said with XCLIENT.
    told: Option<Box<Told<'c>>>,
    /// Our end of the connection, if it is not the address of the door.
    socket: Option<Box<SocketAddr>>,
    session: Session,
    secure: Option<Box<Secure>>,
    /// What the peer has said, without TLS.
    buffer: Vec<u8>,
    /// Octets at the front of `buffer` that are worked off.
    start: usize,
    mail: Mail,
    weight: Weight,
    /// The peer sends more at once than a command buffer takes: it gets a larger one from the start.
    bulk: bool,
    noted: Noted,
    /// Errors and refused recipients so far.
    slips: u32,
    /// Receives in a row that did not have to wait.
    greed: u32,
    /// When the input that is being worked off arrived.
    input_at: u64,
    /// Messages whose `250` waits: its gate, and when their MAIL came.
    unanswered: Vec<(u64, u64)>,
    /// The gate that will wake this task.
    woken_at: u64,
}

impl<'c> Talk<'c> {
    fn new(
        admitted: &'c Admitted,
        door: &'c Door,
        place: &'c Place<'c>,
        socket: Option<Box<SocketAddr>>,
    ) -> Self {
        let core = &*admitted.core;
        let mut session = Session::new(Rc::clone(&door.context));
        if admitted.known && !door.filters.is_empty() && door.filters.contains(admitted.peer.ip()) {
            session.trust_introductions();
        }
        Self {
            core,
            door,
            place,
            number: core.next_session_number(),
            admitted,
            told: None,
            socket,
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
        }
    }

    async fn run(&mut self, reader: &mut TcpOwnedReadHalf, writer: &mut TcpOwnedWriteHalf) -> SessionEnd {
        if self.door.context.tls() == Tls::Implicit && !Box::pin(self.implicit_tls(reader, writer)).await {
            return SessionEnd::TlsFailed;
        }
        if self.door.greet_delay.is_zero() || Box::pin(self.hold_greeting()).await {
            self.session.greet();
        }
        if !self.send(writer).await {
            return SessionEnd::PeerReset;
        }
        self.core.record(Phase::Banner, self.core.clock.now() - self.place.opened());
        loop {
            let step = self.parse().await;
            self.note_commands();
            let slips = self.new_slips();
            if slips > 0 {
                Box::pin(self.hold_replies(slips)).await;
            }
            if self.session.has_ready() && !self.send(writer).await {
                return SessionEnd::PeerReset;
            }
            match step {
                Step::Close => return self.finish(reader, writer).await,
                // Boxed: only sessions under TLS pay for its task.
                Step::StartTls => {
                    if let Some(end) = Box::pin(self.start_tls(reader, writer)).await {
                        return end;
                    }
                }
                Step::Authenticate(credentials) => Box::pin(self.log_in(*credentials)).await,
                Step::Send => {
                    if !self.session.has_ready() && !self.wait_for_gates(writer).await {
                        return SessionEnd::PeerReset;
                    }
                }
                Step::Read(hint) => {
                    let prepared = self.prepare(hint);
                    let renewal = self.secure.as_ref().is_some_and(|secure| !secure.outgoing.is_empty());
                    if renewal && !self.send(writer).await {
                        return SessionEnd::PeerReset;
                    }
                    let input = match prepared {
                        Some(input) => input,
                        None => self.receive(reader, writer).await,
                    };
                    match input {
                        Input::Octets | Input::SwapBuffer => {}
                        Input::NoMemory => {
                            self.session.close_with(Reply::OVERLOADED);
                            continue;
                        }
                        Input::Broken => return SessionEnd::PeerReset,
                        Input::LogFailed => return SessionEnd::LogFailure,
                        Input::Closed => match self.place.ending() {
                            Some(ending) => self.session.close_with(farewell_reply(ending)),
                            None => {
                                // What was accepted is still answered: the peer may have closed its own direction only.
                                self.wait_for_gates(writer).await;
                                self.close_tls(writer).await;
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
                    self.session.verdict(if affordable {
                        verdict
                    } else {
                        Verdict::Refuse(Reply::PENDING_FULL)
                    });
                }
                Event::Body(body) => {
                    // Before any wait: another session's commands come into the same place.
                    self.noted.take(self.core, self.input_at, self.session.transactions());
                    let stored = loop {
                        match self.mail.store(self.core, body) {
                            Err(refused) if refused.worth_waiting(self.waited()) => {
                                self.wait_for_room().await;
                            }
                            stored => break stored,
                        }
                    };
                    self.session.body_stored(stored.map_err(|refused| self.core.refused(refused)));
                }
                Event::Message(body) => {
                    self.noted.take(self.core, self.input_at, self.session.transactions());
                    let appended = loop {
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
                        match self.mail.finish(self.core, &self.session, &facts, body) {
                            Err(refused) if refused.worth_waiting(self.waited()) => {
                                self.wait_for_room().await;
                            }
                            appended => break appended,
                        }
                    };
                    self.mail.discard(self.core);
                    match appended {
                        Ok(appended) => {
                            self.core.count_accepted(self.session.transaction());
                            self.core
                                .record(Phase::Body, self.input_at.saturating_sub(self.noted.times.data));
                            let gate = appended.gate.get();
                            self.unanswered.push((gate, self.noted.times.mail));
                            let id = appended.id.encode();
                            // Hexadecimal digits only.
                            let id = std::str::from_utf8(&id).unwrap_or_default();
                            self.session.appended(Ok(Accepted { gate, id }));
                        }
                        Err(refused) => self.session.appended(Err(self.core.refused(refused))),
                    }
                }
                Event::Aborted => self.mail.discard(self.core),
            }
        }
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

    /// Takes note of where this input has led.
    fn note_commands(&mut self) {
        self.noted.take(self.core, self.input_at, self.session.transactions());
        use inrush_proto::Phase as At;
        let phase = self.session.phase();
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
    async fn send(&mut self, writer: &mut TcpOwnedWriteHalf) -> bool {
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
        self.place.enter(Stage::Output, core.clock.recent());
        if self.session.has_quit() && !self.session.has_gated() {
            let sent = self.place.send_last(&out);
            out.drain(..sent);
        }
        if !out.is_empty() {
            let (result, returned) = writer.write_all(out).await;
            out = returned;
            if result.is_err() {
                core.give_back_output(out);
                return false;
            }
        }
        core.give_back_output(out);
        core.metrics.add(Counter::SentBytes, octets as u64);
        let now = core.clock.now();
        for phase in std::mem::take(&mut self.noted.commands).phases() {
            core.record(phase, now - self.input_at);
        }
        if !self.unanswered.is_empty() {
            let open_gate = self.session.next_gate().unwrap_or(u64::MAX);
            self.unanswered.retain(|&(gate, mail_at)| {
                let answered = gate < open_gate;
                if answered {
                    core.record(Phase::Total, now - mail_at);
                }
                !answered
            });
        }
        true
    }

    /// Sends gated replies as the log commits, until none is left; false when they never will or the peer is gone.
    async fn wait_for_gates(&mut self, writer: &mut TcpOwnedWriteHalf) -> bool {
        while self.session.has_gated() {
            self.place.enter(Stage::Commit, self.core.clock.recent());
            poll_fn(|context| if self.gate_is_open(context) { Poll::Ready(()) } else { Poll::Pending }).await;
            if !self.send(writer).await {
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

    /// Gets ready for more input of a session that asks for `hint` octets of buffer; `None` when there is room for a receive.
    fn prepare(&mut self, hint: usize) -> Option<Input> {
        if self.secure.is_some() {
            return self.decrypt(hint);
        }
        (!self.make_room(hint)).then_some(Input::NoMemory)
    }

    fn expects_data(&self) -> bool {
        self.session.phase() == inrush_proto::Phase::MailData
    }

    /// Makes room for more input, so that the buffer holds `hint` octets in all; false when the budget is spent.
    fn make_room(&mut self, hint: usize) -> bool {
        let rest = self.buffer.len() - self.start;
        let expects_data = self.expects_data();
        let wanted = wanted_octets(hint, rest, expects_data, self.bulk);
        let pool = &self.core.pool;
        // The larger buffer of a bulk sender between commands is a favour.
        fit(pool, &mut self.buffer, &mut self.start, wanted) || {
            let least = wanted_octets(hint, rest, expects_data, false);
            fit(pool, &mut self.buffer, &mut self.start, least)
        }
    }

    /// Receives into the free part of the buffer, and sends meanwhile what the log commits.
    async fn receive(&mut self, reader: &mut TcpOwnedReadHalf, writer: &mut TcpOwnedWriteHalf) -> Input {
        let core = self.core;
        let buffer = std::mem::take(self.target());
        let (filled, capacity) = (buffer.len(), buffer.capacity());
        let between_commands = !self.expects_data();
        let cancel = (capacity > COMMAND && between_commands).then(|| self.place.cancel_handle());
        let mut read = pin!(read(reader, buffer, filled..capacity, cancel));
        self.place
            .enter(if self.session.has_gated() { Stage::Commit } else { Stage::Input }, core.clock.recent());
        self.greed += 1;
        let (result, buffer) = loop {
            let arrived = poll_fn(|context| {
                if let Poll::Ready(done) = read.as_mut().poll(context) {
                    return Poll::Ready(Some(done));
                }
                self.greed = 0;
                if self.gate_is_open(context) { Poll::Ready(None) } else { Poll::Pending }
            })
            .await;
            if let Some(done) = arrived {
                break done;
            }
            let sent = self.send(writer).await;
            let failed = core.journal.failed() || core.journal.hung();
            if failed || !sent {
                // The receive ends by itself and gives its buffer back; dropped, both would be lost to the pool.
                self.place.hang_up();
                let (_, buffer) = read.await;
                *self.target() = buffer;
                return if failed { Input::LogFailed } else { Input::Broken };
            }
            self.place.enter(
                if self.session.has_gated() { Stage::Commit } else { Stage::Input },
                core.clock.recent(),
            );
        };
        *self.target() = buffer;
        match result {
            Ok(0) => Input::Closed,
            Ok(octets) => {
                self.input_at = core.clock.now();
                self.noted.of_input = 0;
                self.place.received(octets, self.input_at);
                core.metrics.add(Counter::ReceivedBytes, octets as u64);
                // A command buffer that fills at once means pipelined data: a larger one saves a receive each time.
                self.bulk |= between_commands && capacity == COMMAND && filled == 0 && octets == COMMAND;
                Input::Octets
            }
            Err(error) if error.raw_os_error() == Some(CANCELED) => {
                self.bulk = false;
                Input::SwapBuffer
            }
            Err(_) => Input::Broken,
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
    async fn finish(&mut self, reader: &mut TcpOwnedReadHalf, writer: &mut TcpOwnedWriteHalf) -> SessionEnd {
        self.wait_for_gates(writer).await;
        let end = match self.place.ending() {
            _ if self.core.journal.failed() || self.core.journal.hung() => SessionEnd::LogFailure,
            Some(Ending::Shutdown) => SessionEnd::Stopping,
            Some(_) => SessionEnd::Timeout,
            None if self.session.has_quit() => return SessionEnd::Quit,
            None => SessionEnd::Refused,
        };
        // Closing with unread input would make the kernel reset the connection and the peer lose the reply.
        if writer.shutdown().await.is_err() {
            return end;
        }
        self.place.enter(Stage::Farewell, self.core.clock.now());
        let mut buffer = std::mem::take(self.target());
        let mut drained = 0;
        while drained < FAREWELL_OCTETS_MAX {
            buffer.clear();
            let (result, returned) = reader.read(buffer).await;
            buffer = returned;
            match result {
                Ok(octets @ 1..) => drained += octets,
                _ => break,
            }
            self.greed += 1;
            self.core.give_way(&mut self.greed).await;
        }
        *self.target() = buffer;
        end
    }

    fn give_back(self) {
        let Self { core, buffer, secure, mut mail, mut weight, .. } = self;
        if let Some(secure) = secure {
            core.pool.give_back(secure.tls.incoming);
        }
        mail.discard(core);
        weight.release(core);
        core.pool.give_back(buffer);
    }
}

/// Makes room in `buffer`, of which the octets before `start` are worked off, so that it holds `wanted` octets of what comes and
/// what is left together; a buffer that is larger than need be goes back. False when the budget is spent.
fn fit(pool: &Pool, buffer: &mut Vec<u8>, start: &mut usize, wanted: usize) -> bool {
    let rest = buffer.len() - *start;
    let too_large = wanted <= COMMAND && buffer.capacity() > COMMAND;
    if buffer.capacity() >= wanted && !too_large {
        if *start > 0 && buffer.capacity() - buffer.len() < wanted - rest {
            buffer.drain(..*start);
            *start = 0;
        } else if rest == 0 {
            buffer.clear();
            *start = 0;
        }
        return true;
    }
    let Ok(mut next) = pool.take(wanted) else { return false };
    next.extend_from_slice(&buffer[*start..]);
    *start = 0;
    pool.give_back(std::mem::replace(buffer, next));
    true
}

/// Octets of buffer for a session that asks for `hint` and has `rest` octets not worked off.
fn wanted_octets(hint: usize, rest: usize, expects_data: bool, bulk: bool) -> usize {
    let largest = buffers::SIZES[buffers::SIZES.len() - 1];
    if !expects_data && rest < COMMAND {
        // Idle sessions are in this state, and there are many of them.
        return if bulk { COMMAND + 1 } else { COMMAND };
    }
    hint.max(rest + 1).min(largest)
}

/// The error of a receive that was cancelled.
const CANCELED: i32 = 125;

/// Receives into `free`, the part of `buffer` behind what it holds.
async fn read(
    reader: &mut TcpOwnedReadHalf,
    buffer: Vec<u8>,
    free: std::ops::Range<usize>,
    cancel: Option<CancelHandle>,
) -> (std::io::Result<usize>, Vec<u8>) {
    let slice = buffer.slice_mut(free);
    let (result, slice) = match cancel {
        None => reader.read(slice).await,
        Some(cancel) => reader.cancelable_read(slice, cancel).await,
    };
    (result, slice.into_inner())
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

    #[test]
    fn a_session_between_commands_holds_the_smallest_buffer() {
        for rest in [0, 1, COMMAND - 1] {
            assert_eq!(wanted_octets(1024, rest, false, false), COMMAND, "rest {rest}");
        }
        assert!(wanted_octets(1024, COMMAND, false, false) > COMMAND, "a command that fills it goes on");
        assert!(wanted_octets(1024, 0, false, true) > COMMAND, "a peer that sends in bulk");
        assert_eq!(wanted_octets(16 * 1024, 0, true, false), 16 * 1024);
        assert_eq!(wanted_octets(1, 300_000, true, false), buffers::SIZES[2]);
    }

    /// An idle session costs its task, one command buffer and little else: a task that grows is paid for by every idle peer.
    #[test]
    fn the_task_of_a_session_stays_small() {
        let size = future_size(serve);
        // With what the runtime adds it fits the allocator's class of 1792.
        assert!(size <= 1720, "{size} octets");
    }
}
