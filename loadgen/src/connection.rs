//! One session of the generator: connection after connection, message after message.
//!
//! ```text
//!   fill: steps of the client session and new messages into one buffer ─▶ one write ─▶ one read ─▶ all replies in it ─▶ fill …
//! ```
//! Buffers live as long as the session, so that a message allocates nothing here. The clock is read once per read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use inrush_proto::client::{self, Command, DotStuffing, Event, MailParameters, Session, Step, Transfer};

use crate::authentication;
use crate::content::mix;
use crate::flights::Flights;
use crate::loss::{Lost, lacks};
use crate::record::Phase;
use crate::sender::{Sender, ThinkTime, TlsMode};
use crate::slot::{Kick, Slot};
use crate::wire::{Manner, Wire, WireError};
use crate::worker::{Ending, Take, Ticket, Worker};

/// A piece of payload at least so long is sent from the pool instead of being copied behind the commands.
const DIRECT_OCTETS: usize = 64 * 1024;
/// Pauses after connections that came to nothing: doubled from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// Commands whose replies are due at most: these must fit into the buffers of the sockets, since nothing is read while a group is written. With more of them
/// server and generator could wait for each other to read. RFC 2920 §3.1 lets a group be of any size.
const REPLIES_DUE_MAX: u32 = 1024;
/// A session that thinks looks this often whether the run is over.
const THINK_INTERVAL: Duration = Duration::from_millis(50);

struct Connection {
    worker: Rc<Worker>,
    slot: Rc<Slot>,
    sender: usize,
    /// A message that was taken while the server closed: the next connection begins with it.
    waiting: Option<Ticket>,
    session: Session,
    flights: Flights,
    /// Messages begun on this connection.
    begun: u64,
    /// Most messages of this connection.
    most: u64,
    /// Connections made, this one included.
    connections: u64,
    target: usize,
    tls: TlsMode,
    /// STARTTLS was answered: nothing may be sent before the handshake.
    handshake_due: bool,
    /// The handshake behind STARTTLS is done.
    secured: bool,
    authenticated: bool,
    /// The pause in front of the next message is over.
    thought: bool,
    /// A whole reply came since the wait for the server began.
    answered: bool,
    /// Commands sent and not answered.
    replies_due: u32,
    out: Vec<u8>,
    received: Vec<u8>,
    /// An unfinished reply of the read before.
    rest: Vec<u8>,
    address: Vec<u8>,
}

/// Sends messages of this sender until the run is over.
pub(crate) async fn run_session(worker: Rc<Worker>, slot: Rc<Slot>, sender: usize) {
    let pipelining = worker.plan.senders[sender].pipelining;
    let mut connection = Connection {
        session: Session::new(worker.plan.protocol, pipelining),
        flights: Flights::new(Rc::clone(&worker), sender),
        sender,
        waiting: None,
        begun: 0,
        most: 0,
        connections: 0,
        target: 0,
        tls: TlsMode::Off,
        handshake_due: false,
        secured: false,
        authenticated: false,
        thought: false,
        answered: true,
        replies_due: 0,
        out: Vec::new(),
        received: Vec::new(),
        rest: Vec::new(),
        address: Vec::new(),
        slot: Rc::clone(&slot),
        worker: Rc::clone(&worker),
    };
    let mut pause = PAUSE.0;
    loop {
        let next = match connection.waiting.take() {
            None => worker.next(&slot, sender).await,
            waiting => waiting,
        };
        let Some(ticket) = next else { return };
        let came_to_something = connection.run(ticket).await;
        slot.busy_since.set(None);
        slot.rearm();
        if came_to_something {
            pause = PAUSE.0;
        } else if slot.guarded(monoio::time::sleep(pause)).await.is_ok() {
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

impl Connection {
    /// One connection, beginning with this message. False when not one message could begin.
    async fn run(&mut self, first: Ticket) -> bool {
        let worker = Rc::clone(&self.worker);
        let sender = &worker.plan.senders[self.sender];
        // Same seed, same connections.
        let random = mix(mix(!worker.plan.content.seed(), self.slot.number), self.connections);
        self.connections += 1;
        self.target = worker.target();
        self.tls = sender.tls(random);
        let most = sender.messages_per_connection.as_ref();
        self.most = most.map_or(u64::MAX, |most| u64::from(most.pick(mix(random, 2))));
        self.handshake_due = false;
        self.secured = false;
        self.answered = true;
        self.replies_due = 0;
        self.authenticated = worker.plan.credentials.is_none();
        self.session.restart();
        self.flights.restart(self.target);
        self.begun = 0;
        self.out.clear();
        self.rest.clear();
        self.flights.started(&first);
        let measured = first.measured;
        let mut first = Some(first);
        let result = match self.connect(measured).await {
            Ok(mut wire) => self.converse(&mut wire, &mut first).await,
            Err(lost) => Err(lost),
        };
        if let Err(lost) = result {
            self.lost(&lost, first);
        }
        self.begun > 0
    }

    fn sender(&self) -> &Sender {
        &self.worker.plan.senders[self.sender]
    }

    async fn connect(&mut self, measured: bool) -> Result<Wire, Lost> {
        let manner = Manner { octets_per_second: self.sender().octets_per_second, ..Manner::default() };
        let connecting = self.worker.connect(&self.slot, self.target, manner).await;
        self.flights.now = Instant::now();
        let (wire, began) = match connecting {
            Ok(connected) => connected,
            Err(error) => {
                let why = match &error {
                    WireError::Io(error) if let Some(lacking) = lacks(error) => {
                        self.worker.not_possible(lacking);
                        None
                    }
                    WireError::Io(error) => Some(error.to_string()),
                    // Where packets are dropped, nobody says no.
                    WireError::Kicked(Kick::Timeout) => Some("no answer within --timeout".to_owned()),
                    _ => None,
                };
                if let Some(why) = why {
                    self.flights.count_connection(measured, |counts| counts.connections_failed += 1);
                    self.worker.not_connected(self.flights.now, &why);
                }
                return Err(Lost::Wire(error));
            }
        };
        self.flights.connected_at = self.flights.now;
        self.worker.connected();
        self.flights.count_connection(measured, |counts| counts.connections += 1);
        if measured {
            self.flights.time_connection(Phase::Connect, began);
        }
        Ok(wire)
    }

    /// Until QUIT is answered.
    async fn converse(&mut self, wire: &mut Wire, first: &mut Option<Ticket>) -> Result<(), Lost> {
        if self.tls == TlsMode::Implicit {
            self.secure(wire).await?;
            self.flights.connected_at = self.flights.now;
        }
        loop {
            self.fill(wire, first).await?;
            self.flush(wire).await?;
            // A part of a reply is none: a server that says an octet now and then must not keep the session for ever.
            let begun = self.slot.busy_since.get();
            if begun.is_none_or(|since| std::mem::take(&mut self.answered) && since < self.flights.now) {
                self.slot.busy_since.set(Some(self.flights.now));
            }
            self.received = wire.receive(&self.slot, std::mem::take(&mut self.received)).await?;
            self.flights.now = Instant::now();
            if self.replies(first.is_some())? {
                return Ok(());
            }
            if self.handshake_due {
                self.handshake_due = false;
                // RFC 3207 §4.2, CVE-2011-0411: what came behind the reply in the clear is not believed.
                self.rest.clear();
                self.secure(wire).await?;
                self.secured = true;
                self.session.secured();
                self.flights.secured();
                self.answered = true;
            }
            let is_encrypted = self.tls == TlsMode::Off || wire.is_secured();
            if !self.authenticated && is_encrypted && self.session.is_ready() {
                self.authenticate(wire).await?;
                self.answered = true;
            }
        }
    }

    /// The handshake of TLS.
    async fn secure(&mut self, wire: &mut Wire) -> Result<(), Lost> {
        let Some(config) = self.worker.tls.clone() else { return Err(Lost::RunEnds) };
        let began = self.flights.now;
        self.slot.busy_since.set(Some(began));
        let name = self.worker.plan.targets[self.target].server_name.clone();
        let resumed = wire.secure(&self.slot, config, name).await?;
        self.flights.now = Instant::now();
        self.flights.time_connection(Phase::Tls, began);
        self.flights.count_connection(self.worker.is_measured(began), |counts| {
            counts.handshakes += 1;
            counts.handshakes_resumed += u64::from(resumed);
        });
        Ok(())
    }

    /// AUTH, from its command to its verdict.
    async fn authenticate(&mut self, wire: &mut Wire) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let Some(credentials) = &worker.plan.credentials else { return Ok(()) };
        let Some(mechanism) = credentials.mechanism(self.session.extensions()) else {
            worker.shared.end(Ending::NotOffered("AUTH with a mechanism that fits"));
            return Err(Lost::RunEnds);
        };
        let began = self.flights.now;
        let mut index = 0;
        while credentials.write(mechanism, index, &mut self.out) {
            index += 1;
            self.slot.touch();
            self.flush(wire).await?;
            let mut replies = Vec::new();
            let (code, text) = loop {
                self.received = wire.receive(&self.slot, std::mem::take(&mut self.received)).await?;
                replies.extend_from_slice(&self.received);
                if let Some(reply) = authentication::reply(&replies).map_err(|()| Lost::Authentication)? {
                    break reply;
                }
            };
            self.flights.now = Instant::now();
            match code {
                334 => {}
                235 => {
                    self.authenticated = true;
                    self.flights.time_connection(Phase::Auth, began);
                    return Ok(());
                }
                _ => {
                    self.flights.cause("auth", code, text);
                    return Err(Lost::Closing);
                }
            }
        }
        Err(Lost::Authentication)
    }

    /// Writes down everything that may be sent now.
    async fn fill(&mut self, wire: &mut Wire, first: &mut Option<Ticket>) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let sender = &worker.plan.senders[self.sender];
        loop {
            while self.replies_due < REPLIES_DUE_MAX
                && let Some(step) = self.session.take_step()
            {
                self.write_step(step, wire).await?;
                self.replies_due += 1;
            }
            if self.replies_due >= REPLIES_DUE_MAX {
                return Ok(());
            }
            if !self.session.can_begin() || self.flights.len() >= sender.in_flight {
                return Ok(());
            }
            // RFC 9422 §4.1.
            let server_max = self.session.extensions().mail_max.map_or(u64::MAX, u64::from);
            if self.begun >= self.most.min(server_max) {
                self.session.quit();
                continue;
            }
            if !self.think(wire).await? {
                return Ok(());
            }
            let taken = first.take().map_or_else(|| self.take(), Take::Ticket);
            let ticket = match taken {
                Take::Ticket(ticket) => Some(ticket),
                Take::Over => None,
                Take::Later if self.flights.len() > 0 || !self.out.is_empty() => return Ok(()),
                Take::Later => {
                    self.slot.busy_since.set(None);
                    let ticket = worker.next(&self.slot, self.sender).await;
                    self.flights.now = Instant::now();
                    if let Some(ticket) = ticket {
                        if self.has_ended_idle(wire).await? {
                            self.waiting = Some(ticket);
                            return Err(Lost::Idle);
                        }
                        self.flights.started(&ticket);
                    }
                    ticket
                }
            };
            let Some(ticket) = ticket else {
                self.session.quit();
                continue;
            };
            let mut transfer = sender.transfer(self.random(&ticket));
            if transfer == Transfer::Chunks && !self.session.extensions().chunking {
                if sender.bdat_percent == 100 {
                    *first = Some(ticket);
                    worker.shared.end(Ending::NotOffered("CHUNKING"));
                    return Err(Lost::RunEnds);
                }
                transfer = Transfer::Data;
            }
            self.begin(ticket, transfer);
        }
    }

    /// Whether the server closed while nothing was asked of it: what it said or did meanwhile lies in the socket. Asked before the next message leaves, so
    /// that the message can go over another connection without a doubt whether this server has it.
    async fn has_ended_idle(&mut self, wire: &mut Wire) -> Result<bool, Lost> {
        if matches!(wire.is_quiet(), Ok(true)) {
            return Ok(false);
        }
        let spoken = wire.spoken(&self.slot, std::mem::take(&mut self.received)).await;
        self.flights.now = Instant::now();
        match spoken {
            Ok(None) => Ok(false),
            Ok(Some(received)) => {
                self.received = received;
                match self.replies(false) {
                    Ok(_) => Ok(false),
                    // RFC 5321 §3.8: 421 may come at any time.
                    Err(Lost::Closing) => Ok(true),
                    Err(Lost::Protocol(error)) => {
                        self.flights.cause("protocol", 0, error.to_string().as_bytes());
                        Ok(true)
                    }
                    Err(lost) => Err(lost),
                }
            }
            Err(WireError::Kicked(kick)) => Err(kick.into()),
            Err(WireError::Eof | WireError::Io(_) | WireError::Tls(_)) => Ok(true),
        }
    }

    fn take(&self) -> Take {
        let taken = self.worker.take(self.sender, self.flights.now);
        if let Take::Ticket(ticket) = &taken {
            self.flights.started(ticket);
        }
        taken
    }

    /// The pause between two messages of a connection. False: replies must come first.
    async fn think(&mut self, wire: &mut Wire) -> Result<bool, Lost> {
        let time = self.sender().think_time;
        if self.begun == 0 || self.thought || time == ThinkTime::None {
            return Ok(true);
        }
        if self.flights.len() > 0 {
            return Ok(false);
        }
        self.flush(wire).await?;
        self.slot.busy_since.set(None);
        let random =
            mix(self.slot.number, self.worker.plan.content.seed() ^ self.begun << 32 ^ self.connections);
        let until = Instant::now() + time.pick(random);
        loop {
            let now = Instant::now();
            if now >= until || self.worker.is_over(self.sender, now) {
                break;
            }
            self.slot.guarded(monoio::time::sleep((until - now).min(THINK_INTERVAL))).await?;
        }
        self.flights.now = Instant::now();
        self.thought = true;
        if self.has_ended_idle(wire).await? {
            return Err(Lost::Idle);
        }
        Ok(true)
    }

    /// Bits that belong to this message and to no other one.
    fn random(&self, ticket: &Ticket) -> u64 {
        mix(self.worker.plan.content.seed().rotate_left(32), ticket.n)
    }

    fn begin(&mut self, ticket: Ticket, transfer: Transfer) {
        let content = &self.worker.plan.content;
        let octets = content.octets(content.payload(ticket.n));
        let recipients = self.sender().recipients.pick(mix(self.random(&ticket), 3));
        self.session.begin(recipients, transfer);
        self.flights.grouped = self.session.is_pipelining();
        self.begun += 1;
        self.thought = false;
        self.flights.begin(ticket, octets, recipients);
    }

    async fn write_step(&mut self, step: Step, wire: &mut Wire) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let plan = &worker.plan;
        let sender = &plan.senders[self.sender];
        match step {
            Step::Hello(hello) => {
                client::write_hello(&mut self.out, hello, plan.hello.as_bytes()).map_err(Lost::never)?;
            }
            Step::Mail(_) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                let declared = plan.declare_size && self.session.extensions().size;
                let parameters = MailParameters {
                    size: declared.then_some(flight.octets as u64),
                    ..MailParameters::default()
                };
                self.address.clear();
                sender.from.write(flight.ticket.n, 0, &mut self.address);
                client::write_mail(&mut self.out, &self.address, &parameters).map_err(Lost::never)?;
            }
            Step::Recipient(_, index) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                self.address.clear();
                sender.to.write(flight.ticket.n, index, &mut self.address);
                client::write_recipient(&mut self.out, &self.address, b"").map_err(Lost::never)?;
            }
            Step::Data => client::write_verb(&mut self.out, "DATA"),
            Step::StartTls => client::write_verb(&mut self.out, "STARTTLS"),
            Step::Reset => client::write_verb(&mut self.out, "RSET"),
            Step::Quit => client::write_verb(&mut self.out, "QUIT"),
            Step::Body { empty, .. } => self.write_body(wire, empty, true).await?,
            Step::Chunk(_) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                client::write_chunk(&mut self.out, flight.octets as u64, true);
                self.session.chunk_sent(true);
                self.write_body(wire, false, false).await?;
            }
        }
        Ok(())
    }

    async fn write_body(&mut self, wire: &mut Wire, empty: bool, dots: bool) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let content = &worker.plan.content;
        let now = self.flights.now;
        let Some(flight) = self.flights.newest() else { return Ok(()) };
        flight.body_sent = now;
        let n = flight.ticket.n;
        if !empty {
            let payload = content.payload(n);
            content.write_header(n, &mut self.out);
            // The header ends in CRLF, or there is none: a line begins here.
            let mut stuffing = (dots && content.has_dot_lines(payload)).then(DotStuffing::new);
            for piece in content.pieces(payload) {
                match &mut stuffing {
                    Some(stuffing) => {
                        stuffing.write(piece, &mut self.out);
                        if self.out.len() >= DIRECT_OCTETS {
                            self.flush_part(wire).await?;
                        }
                    }
                    None if piece.len() < DIRECT_OCTETS || !wire.sends_directly() => {
                        for part in piece.chunks(DIRECT_OCTETS) {
                            self.out.extend_from_slice(part);
                            if self.out.len() >= DIRECT_OCTETS {
                                self.flush_part(wire).await?;
                            }
                        }
                    }
                    None => {
                        self.flush_part(wire).await?;
                        wire.send_static(&self.slot, piece).await?;
                    }
                }
            }
        }
        if dots {
            self.out.extend_from_slice(b".\r\n");
        }
        Ok(())
    }

    /// Sends a part of a large message.
    async fn flush_part(&mut self, wire: &mut Wire) -> Result<(), Lost> {
        self.slot.touch();
        self.flush(wire).await
    }

    async fn flush(&mut self, wire: &mut Wire) -> Result<(), Lost> {
        if !self.out.is_empty() {
            self.out = wire.send(&self.slot, std::mem::take(&mut self.out)).await?;
        }
        Ok(())
    }

    /// All replies that came with the last read. True: QUIT is answered.
    fn replies(&mut self, first_waits: bool) -> Result<bool, Lost> {
        let received = std::mem::take(&mut self.received);
        let result = if self.rest.is_empty() {
            let result = self.answers(&received, first_waits);
            if let Ok((_, consumed)) = result {
                self.rest.extend_from_slice(&received[consumed..]);
            }
            result
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(&received);
            let result = self.answers(&rest, first_waits);
            if let Ok((_, consumed)) = result {
                rest.drain(..consumed);
            }
            self.rest = rest;
            result
        };
        self.received = received;
        if let Err(error) = self.worker.acks.borrow_mut().flush() {
            self.worker.shared.end(Ending::Acks(error.to_string()));
        }
        result.map(|(quit, _)| quit)
    }

    /// Takes replies from `input` until it needs more: whether QUIT is answered, octets used.
    fn answers(&mut self, input: &[u8], first_waits: bool) -> Result<(bool, usize), Lost> {
        let mut consumed = 0;
        let mut acknowledged = 0;
        let mut greeted = false;
        let outcome = loop {
            let progress = self.session.advance(&input[consumed..]);
            consumed += progress.consumed;
            self.answered |= !matches!(progress.event, Event::NeedInput);
            if let Event::Answer(answer) = &progress.event {
                // Nobody asked for the greeting; in LMTP one command has several final replies.
                let is_last = match answer.command {
                    Command::Greeting => false,
                    Command::FinalFor(_) => answer.end,
                    _ => true,
                };
                self.replies_due = self.replies_due.saturating_sub(u32::from(is_last));
            }
            match progress.event {
                Event::NeedInput => break Ok(false),
                Event::Answer(answer) if answer.command == Command::StartTls => {
                    if answer.reply.is_completed() {
                        self.handshake_due = true;
                        break Ok(false);
                    }
                    self.flights.cause("starttls", answer.reply.code, answer.reply.text);
                    break Err(Lost::Closing);
                }
                Event::Failed(error) => break Err(Lost::Protocol(error)),
                Event::Closing(answer) if answer.command == Command::Quit && answer.reply.is_completed() => {
                    break Ok(true);
                }
                Event::Closing(answer) => {
                    // Messages under way are booked by `lost`; their cause is this reply.
                    let place = if answer.command == Command::Greeting { "greeting" } else { "closing" };
                    let affects = first_waits || self.flights.len() > 0;
                    if affects {
                        self.flights.cause(place, answer.reply.code, answer.reply.text);
                    }
                    break Err(Lost::Closing);
                }
                Event::Answer(answer) => {
                    acknowledged += u64::from(self.flights.answer(&answer));
                    greeted |= matches!(answer.command, Command::Hello(_)) && answer.reply.is_completed();
                }
            }
            if greeted && self.tls == TlsMode::Starttls && !self.secured {
                if !self.session.extensions().starttls {
                    self.worker.shared.end(Ending::NotOffered("STARTTLS"));
                    break Err(Lost::RunEnds);
                }
                self.session.start_tls();
                greeted = false;
            }
        };
        if acknowledged > 0 {
            self.worker.show(acknowledged);
        }
        outcome.map(|quit| (quit, consumed))
    }

    /// Books what a lost connection means for its messages.
    fn lost(&mut self, lost: &Lost, first: Option<Ticket>) {
        let (place, text, failure) = lost.explain(self.begun == 0 && first.is_some());
        if matches!(lost, Lost::Idle) {
            let measured = self.worker.is_measured(self.flights.now);
            self.flights.count_connection(measured, |counts| counts.closed_idle += 1);
        }
        let mut lost = self.flights.lose(failure);
        if let Some(ticket) = first {
            self.flights.book(&ticket, failure);
            lost += 1;
        }
        if lost > 0 && !place.is_empty() {
            self.flights.cause(place, 0, text.as_bytes());
        }
    }
}
