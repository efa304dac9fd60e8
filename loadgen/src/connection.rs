//! One session of the generator: connection after connection, message after message.
//!
//! ```text
//!   fill: steps of the client session and new messages into one buffer ─▶ one write ─▶ one read ─▶ all replies in it ─▶ fill …
//! ```
//! Buffers live as long as the session, so that a message allocates nothing here. The clock is read once per read.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use inrush_proto::client::{
    self, Command, DotStuffing, Event, MailParameters, ProtocolError, Session, Step, Transfer, UnsafeArgument,
};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::TcpStream;

use crate::flights::{Failure, Flights};
use crate::record::Phase;
use crate::worker::{Ending, Kick, Slot, Take, Ticket, Worker};

/// Replies are read in pieces of this size.
const RECEIVE_OCTETS: usize = 4096;
/// A piece of payload at least so long is sent from the pool instead of being copied behind the commands.
const DIRECT_OCTETS: usize = 64 * 1024;
/// Pauses after connections that came to nothing: doubled from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Why a connection ended before its time.
#[derive(Debug)]
enum Lost {
    /// The watchdog.
    Kicked(Kick),
    /// The socket.
    Io(io::Error),
    /// The server closed without a word.
    Eof,
    /// The server left the protocol.
    Protocol(ProtocolError),
    /// The server said so (421, refused greeting); booked already.
    Closing,
    /// The run ends: reason booked already.
    RunEnds,
}

impl From<Kick> for Lost {
    fn from(kick: Kick) -> Self {
        Self::Kicked(kick)
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<UnsafeArgument> for Lost {
    /// Templates are checked when the plan is made.
    fn from(_: UnsafeArgument) -> Self {
        Self::RunEnds
    }
}

struct Connection {
    worker: Rc<Worker>,
    slot: Rc<Slot>,
    session: Session,
    flights: Flights,
    /// Messages begun on this connection.
    begun: u64,
    out: Vec<u8>,
    received: Vec<u8>,
    /// An unfinished reply of the read before.
    rest: Vec<u8>,
    address: Vec<u8>,
}

/// Sends messages until the run is over.
pub(crate) async fn run_session(worker: Rc<Worker>, slot: Rc<Slot>) {
    let plan = &worker.plan;
    let mut connection = Connection {
        session: Session::new(plan.protocol, plan.pipelining),
        flights: Flights::new(Rc::clone(&worker)),
        begun: 0,
        out: Vec::with_capacity(16 * 1024),
        received: Vec::with_capacity(RECEIVE_OCTETS),
        rest: Vec::new(),
        address: Vec::new(),
        slot: Rc::clone(&slot),
        worker: Rc::clone(&worker),
    };
    let mut pause = PAUSE.0;
    while let Some(ticket) = worker.next().await {
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
        self.session.restart();
        self.flights.restart();
        self.begun = 0;
        self.out.clear();
        self.rest.clear();
        let mut first = Some(first);
        let result = match self.connect(first.as_ref().is_some_and(|ticket| ticket.measured)).await {
            Ok(mut stream) => self.converse(&mut stream, &mut first).await,
            Err(lost) => Err(lost),
        };
        if let Err(lost) = result {
            self.lost(&lost, first);
        }
        self.begun > 0
    }

    async fn connect(&mut self, measured: bool) -> Result<TcpStream, Lost> {
        let began = Instant::now();
        self.slot.busy_since.set(Some(began));
        let connecting = self.slot.guarded(TcpStream::connect_addr(self.worker.target())).await?;
        self.flights.now = Instant::now();
        let stream = match connecting {
            Ok(stream) => stream,
            Err(error) => {
                self.worker.not_connected(self.flights.now, measured, &error.to_string());
                return Err(Lost::Io(error));
            }
        };
        self.flights.connected_at = self.flights.now;
        self.worker.connected(measured);
        if measured {
            self.worker.record.borrow_mut().time(Phase::Connect, self.flights.now - began);
        }
        // Without this the last part of a large message may wait for the acknowledgement of the part before.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Until QUIT is answered.
    async fn converse(&mut self, stream: &mut TcpStream, first: &mut Option<Ticket>) -> Result<(), Lost> {
        loop {
            self.fill(stream, first).await?;
            self.flush(stream).await?;
            self.slot.busy_since.set(Some(self.flights.now));
            let mut received = std::mem::take(&mut self.received);
            if received.capacity() == 0 {
                // A read that the watchdog ended took its buffer with it.
                received.reserve(RECEIVE_OCTETS);
            }
            let (result, received) = self.slot.guarded(stream.read(received)).await?;
            self.received = received;
            let octets = result?;
            self.flights.now = Instant::now();
            if octets == 0 {
                return Err(Lost::Eof);
            }
            if self.replies(first.is_some())? {
                return Ok(());
            }
        }
    }

    /// Writes down everything that may be sent now.
    async fn fill(&mut self, stream: &mut TcpStream, first: &mut Option<Ticket>) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let plan = &worker.plan;
        loop {
            while let Some(step) = self.session.take_step() {
                self.write_step(step, stream).await?;
            }
            if !self.session.can_begin() || self.flights.len() >= plan.in_flight {
                return Ok(());
            }
            let server_max = self.session.extensions().mail_max.map(u64::from);
            let most = plan.messages_per_connection.into_iter().chain(server_max).min();
            if most.is_some_and(|most| self.begun >= most) {
                self.session.quit();
                continue;
            }
            let ticket = match first.take().map_or_else(|| worker.take(self.flights.now), Take::Ticket) {
                Take::Ticket(ticket) => Some(ticket),
                Take::Over => None,
                Take::Later if self.flights.len() > 0 || !self.out.is_empty() => return Ok(()),
                Take::Later => {
                    self.slot.busy_since.set(None);
                    let ticket = worker.next().await;
                    self.flights.now = Instant::now();
                    ticket
                }
            };
            let Some(ticket) = ticket else {
                self.session.quit();
                continue;
            };
            if plan.transfer == Transfer::Chunks && !self.session.extensions().chunking {
                *first = Some(ticket);
                worker.shared.end(Ending::NotOffered("CHUNKING"));
                return Err(Lost::RunEnds);
            }
            self.begin(ticket);
        }
    }

    fn begin(&mut self, ticket: Ticket) {
        let plan = &self.worker.plan;
        let octets = plan.content.octets(plan.content.payload(ticket.n));
        self.session.begin(plan.recipients, plan.transfer);
        self.begun += 1;
        self.flights.begin(ticket, octets);
    }

    async fn write_step(&mut self, step: Step, stream: &mut TcpStream) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let plan = &worker.plan;
        match step {
            Step::Hello(hello) => client::write_hello(&mut self.out, hello, plan.hello.as_bytes())?,
            Step::Mail(_) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                let declared = plan.declare_size && self.session.extensions().size;
                let parameters = MailParameters {
                    size: declared.then_some(flight.octets as u64),
                    ..MailParameters::default()
                };
                self.address.clear();
                plan.from.write(flight.ticket.n, 0, &mut self.address);
                client::write_mail(&mut self.out, &self.address, &parameters)?;
            }
            Step::Recipient(_, index) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                self.address.clear();
                plan.to.write(flight.ticket.n, index, &mut self.address);
                client::write_recipient(&mut self.out, &self.address, b"")?;
            }
            Step::Data => client::write_verb(&mut self.out, "DATA"),
            Step::StartTls => client::write_verb(&mut self.out, "STARTTLS"),
            Step::Reset => client::write_verb(&mut self.out, "RSET"),
            Step::Quit => client::write_verb(&mut self.out, "QUIT"),
            Step::Body { empty, .. } => self.write_body(stream, empty, true).await?,
            Step::Chunk(_) => {
                let Some(flight) = self.flights.newest() else { return Ok(()) };
                client::write_chunk(&mut self.out, flight.octets as u64, true);
                self.session.chunk_sent(true);
                self.write_body(stream, false, false).await?;
            }
        }
        Ok(())
    }

    async fn write_body(&mut self, stream: &mut TcpStream, empty: bool, dots: bool) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let content = &worker.plan.content;
        let now = self.flights.now;
        let Some(flight) = self.flights.newest() else { return Ok(()) };
        flight.body_sent = now;
        let n = flight.ticket.n;
        if !empty {
            content.write_header(n, &mut self.out);
            let mut stuffing = (dots && content.has_dot_lines()).then(DotStuffing::new);
            if let Some(stuffing) = &mut stuffing {
                // The header ends in CRLF, which is what the state must know.
                stuffing.write(b"\r\n", &mut Vec::new());
            }
            for piece in content.pieces(content.payload(n)) {
                match &mut stuffing {
                    Some(stuffing) => {
                        stuffing.write(piece, &mut self.out);
                        if self.out.len() >= DIRECT_OCTETS {
                            self.flush(stream).await?;
                        }
                    }
                    None if piece.len() < DIRECT_OCTETS => self.out.extend_from_slice(piece),
                    None => {
                        self.flush(stream).await?;
                        let (result, _) = self.slot.guarded(stream.write_all(piece)).await?;
                        result?;
                    }
                }
            }
        }
        if dots {
            self.out.extend_from_slice(b".\r\n");
        }
        Ok(())
    }

    async fn flush(&mut self, stream: &mut TcpStream) -> Result<(), Lost> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.slot.busy_since.set(Some(Instant::now()));
        let out = std::mem::take(&mut self.out);
        let (result, out) = self.slot.guarded(stream.write_all(out)).await?;
        self.out = out;
        self.out.clear();
        result?;
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
        let outcome = loop {
            let progress = self.session.advance(&input[consumed..]);
            consumed += progress.consumed;
            match progress.event {
                Event::NeedInput => break Ok(false),
                Event::Failed(error) => break Err(Lost::Protocol(error)),
                Event::Closing(answer) if answer.command == Command::Quit && answer.reply.is_completed() => {
                    break Ok(true);
                }
                Event::Closing(answer) => {
                    // Messages under way are booked by `lost`; their cause is this reply.
                    let place = if answer.command == Command::Greeting { "greeting" } else { "closing" };
                    let affects = first_waits || self.flights.len() > 0;
                    if affects {
                        self.worker.record.borrow_mut().cause(place, answer.reply.code, answer.reply.text);
                    }
                    break Err(Lost::Closing);
                }
                Event::Answer(answer) => {
                    acknowledged += u64::from(self.flights.answer(&answer));
                }
            }
        };
        if acknowledged > 0 {
            self.worker.show(acknowledged);
        }
        outcome.map(|quit| (quit, consumed))
    }
    /// Books what a lost connection means for its messages.
    fn lost(&mut self, lost: &Lost, first: Option<Ticket>) {
        let (place, text, failure) = match lost {
            Lost::Kicked(Kick::Timeout) => ("timeout", String::new(), Failure::Failed),
            Lost::Kicked(Kick::Interrupted) => ("interrupted", String::new(), Failure::Unfinished),
            Lost::Io(error) if self.begun == 0 && first.is_some() => {
                ("connect", error.to_string(), Failure::Failed)
            }
            Lost::Io(error) => ("connection", error.to_string(), Failure::Failed),
            Lost::Eof => ("connection", "closed by the server".to_owned(), Failure::Failed),
            Lost::Protocol(error) => ("protocol", error.to_string(), Failure::Failed),
            Lost::Closing => ("", String::new(), Failure::Refused),
            Lost::RunEnds => ("", String::new(), Failure::Unfinished),
        };
        let mut lost = self.flights.lose(failure);
        if let Some(ticket) = first {
            self.flights.book(ticket, failure);
            lost += 1;
        }
        if lost > 0 && !place.is_empty() {
            self.worker.record.borrow_mut().cause(place, 0, text.as_bytes());
        }
    }
}
