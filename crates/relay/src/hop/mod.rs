//! One connection to a next hop: SMTP or LMTP, message after message.
//!
//! ```text
//!  connect ─▶ greeting ─▶ EHLO ─▶ STARTTLS ─▶ EHLO ─▶ MAIL RCPT… DATA ─▶ body . MAIL RCPT… DATA ─▶ … ─▶ QUIT
//! ```
//! Which command may be sent and whose a reply is, is the affair of [`inrush_proto::client`]; this file moves octets, keeps time and says what the
//! replies mean for the recipients. With PIPELINING the next message begins while the verdict on the last one is awaited. What a host has not
//! answered when a connection ends is tried again: it may come twice (RFC 1047), it is not lost.
//!
//! Standards: RFC 5321 §4.5.3.2 (timeouts), §4.2.1, RFC 2033, RFC 3207, RFC 3461 §5.2.

mod wire;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use inrush_proto::client::{Answer, Command, Event, Pipelining, Protocol, Session, Severity, Transfer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{Candidate, candidates, connect};
use crate::content::{Needs, head};
use crate::destination::{Destination, Job, Next};
use crate::failure::Verdict;
use crate::settings::HopSettings;
use crate::settle::{Attempt, shown};
use crate::shared::{Shared, now_us};
use crate::tls::{ServerCheck, TlsPolicy};

/// Messages on their way on one connection.
const FLIGHTS_MAX: usize = 2;
/// A body of so many octets goes out in pieces instead of behind its commands.
const DIRECT_OCTETS: usize = 64 << 10;
const RECEIVE_OCTETS: usize = 4096;
/// How long the reply to QUIT is waited for.
const QUIT_PATIENCE: Duration = Duration::from_secs(2);

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Why a connection is of no further use.
enum Lost {
    /// For the messages on their way, and for the destination.
    Verdict(Verdict),
    /// It ended in order.
    Closed,
}

/// A message on its way.
struct Flight {
    job: Job,
    /// Its transaction in the session; 0 = not begun.
    number: u64,
    /// One for each recipient of the job, as far as there are verdicts.
    verdicts: Vec<Option<Verdict>>,
    needs: Needs,
    head: Vec<u8>,
    sent_at_us: u64,
    /// All of the mail data has left.
    whole: bool,
}

struct Connection<'a> {
    shared: &'a Rc<Shared>,
    destination: &'a Rc<Destination>,
    hops: &'a HopSettings,
    lmtp: bool,
    candidate: Candidate,
    relay: Rc<str>,
    stream: Box<dyn Stream>,
    session: Session,
    out: Vec<u8>,
    input: Vec<u8>,
    flights: VecDeque<Flight>,
    tls: Rc<str>,
    tls_verified: bool,
    connected_at_us: u64,
    begun: u32,
    /// The server has named itself.
    greeted: bool,
    /// The reply to DATA is due.
    awaits_data: bool,
    /// A message has got its verdict.
    was_of_use: bool,
    since: Instant,
}

/// Delivers `first` and what else waits at the destination, over one connection.
pub(crate) async fn deliver(
    shared: &Rc<Shared>,
    destination: &Rc<Destination>,
    hops: &HopSettings,
    lmtp: bool,
    first: Job,
) {
    let found = match candidates(shared, destination, hops).await {
        Ok(found) => found,
        Err(verdict) => return no_connection(shared, destination, first, &verdict, None),
    };
    let mut from = 0;
    let mut in_the_clear = false;
    let mut last: Option<(Verdict, Candidate)> = None;
    loop {
        let (stream, index) = match connect(shared, &found, from).await {
            Ok(connected) => connected,
            Err(verdict) => {
                let (verdict, candidate) =
                    last.map_or((verdict, None), |(verdict, candidate)| (verdict, Some(candidate)));
                return no_connection(shared, destination, first, &verdict, candidate.as_ref());
            }
        };
        let candidate = found[index].clone();
        let mut connection = Connection::new(shared, destination, hops, lmtp, candidate, stream);
        match connection.open(in_the_clear).await {
            Ok(()) => {
                destination.succeeded();
                let established = destination.establish();
                shared.connections.set(shared.connections.get() + 1);
                let lost = connection.run(first).await;
                shared.connections.set(shared.connections.get() - 1);
                drop(established);
                // One that was of use before it was lost says nothing about the next one.
                if let Some(verdict) = lost.filter(|_| !connection.was_of_use) {
                    destination.failed(&verdict, shared.random());
                }
                return;
            }
            // RFC 7435: better in the clear than not at all, where TLS is not demanded. Once more to the same host.
            Err(Refused::Handshake(verdict)) if hops.tls == TlsPolicy::Opportunistic && !in_the_clear => {
                tracing::info!("{}; going on without TLS", shown(&verdict.text));
                in_the_clear = true;
                from = index;
            }
            Err(Refused::Handshake(verdict) | Refused::Host(verdict)) => {
                tracing::info!("host {}: {}", connection.relay, shown(&verdict.text));
                shared.note_bad_host(connection.candidate.address);
                last = Some((verdict, connection.candidate.clone()));
                in_the_clear = false;
                from = index + 1;
            }
        }
    }
}

/// No host took the connection, or there is none.
fn no_connection(
    shared: &Rc<Shared>,
    destination: &Rc<Destination>,
    job: Job,
    verdict: &Verdict,
    candidate: Option<&Candidate>,
) {
    let attempt = Attempt {
        destination: destination.name.clone(),
        relay: candidate.map(Candidate::relay).unwrap_or_default(),
        host: candidate.map(|candidate| Rc::clone(&candidate.name)).unwrap_or_default(),
        ..Attempt::default()
    };
    let verdicts = job.recipients.iter().map(|recipient| (*recipient, verdict.clone())).collect();
    if verdict.severity != Severity::Permanent {
        destination.failed(verdict, shared.random());
    }
    shared.settle(job, &attempt, verdicts);
}

/// Why a host is passed over for the next one.
enum Refused {
    /// It spoke no TLS that we can have.
    Handshake(Verdict),
    /// Anything else before the first message.
    Host(Verdict),
}

impl From<Lost> for Refused {
    fn from(lost: Lost) -> Self {
        Self::Host(match lost {
            Lost::Verdict(verdict) => verdict,
            Lost::Closed => Verdict::later((4, 4, 2), "the connection was closed"),
        })
    }
}

impl<'a> Connection<'a> {
    fn new(
        shared: &'a Rc<Shared>,
        destination: &'a Rc<Destination>,
        hops: &'a HopSettings,
        lmtp: bool,
        candidate: Candidate,
        stream: TcpStream,
    ) -> Self {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        Self {
            shared,
            destination,
            hops,
            lmtp,
            relay: candidate.relay(),
            candidate,
            stream: Box::new(stream),
            session: Session::new(protocol, Pipelining::Auto),
            out: Vec::with_capacity(8 << 10),
            input: Vec::new(),
            flights: VecDeque::new(),
            tls: Rc::default(),
            tls_verified: false,
            connected_at_us: now_us(),
            begun: 0,
            greeted: false,
            awaits_data: false,
            was_of_use: false,
            since: Instant::now(),
        }
    }

    /// From the greeting to the state in which messages can begin.
    async fn open(&mut self, in_the_clear: bool) -> Result<(), Refused> {
        let check = if in_the_clear { None } else { self.hops.tls.check() };
        self.until_ready().await?;
        let Some(check) = check else { return Ok(()) };
        if !self.session.extensions().starttls {
            if self.hops.tls == TlsPolicy::Required {
                let text = format!("TLS is required, but was not offered by host {}", self.relay);
                return Err(Refused::Host(Verdict::later((4, 7, 4), text)));
            }
            return Ok(());
        }
        self.session.start_tls();
        loop {
            self.write_steps().await?;
            let limit = self.shared.settings.timeouts.greeting;
            let (command, verdict) = self.one_answer(limit).await?;
            if command != Command::StartTls {
                continue;
            }
            if verdict.severity == Severity::Completed {
                break;
            }
            if self.hops.tls == TlsPolicy::Required {
                return Err(Refused::Host(verdict));
            }
            return Ok(());
        }
        self.secure(check).await?;
        self.until_ready().await?;
        Ok(())
    }

    async fn secure(&mut self, check: ServerCheck) -> Result<(), Refused> {
        // What came behind the reply was not said under TLS by anybody (CVE-2011-0411).
        if !self.input.is_empty() {
            let text = format!("host {} has said more than its reply to STARTTLS", self.relay);
            return Err(Refused::Handshake(Verdict::later((4, 7, 5), text)));
        }
        let plain: Box<dyn Stream> = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let limit = self.shared.settings.timeouts.handshake;
        let connecting = self.shared.tls.connect(check, &self.candidate.name, plain);
        match timeout(limit, connecting).await {
            Ok(Ok((stream, facts))) => {
                self.stream = Box::new(stream);
                self.tls = format!("{} {}", facts.version, facts.cipher).into();
                self.tls_verified = facts.verified;
                self.session.secured();
                Ok(())
            }
            Ok(Err(error)) => {
                let text = format!("TLS with host {}: {error}", self.relay);
                Err(Refused::Handshake(Verdict::later(error.enhanced(), text)))
            }
            Err(_) => {
                let text = format!("TLS with host {}: timed out", self.relay);
                Err(Refused::Handshake(Verdict::later((4, 7, 5), text)))
            }
        }
    }

    async fn until_ready(&mut self) -> Result<(), Lost> {
        while !self.session.is_ready() {
            self.write_steps().await?;
            let (command, verdict) = self.one_answer(self.shared.settings.timeouts.greeting).await?;
            if let Command::Hello(_) = command
                && verdict.severity == Severity::Completed
            {
                self.check_loop(&verdict)?;
            }
        }
        Ok(())
    }

    /// A mail host that has our name is ourselves, behind whatever address.
    fn check_loop(&mut self, hello: &Verdict) -> Result<(), Lost> {
        let first = hello.text.split(|octet| matches!(octet, b' ' | b'\n')).next().unwrap_or_default();
        let own = self.shared.surroundings.hostname.as_bytes();
        if !self.greeted && self.destination.target.domain.is_some() && first.eq_ignore_ascii_case(own) {
            let text = format!("mail loops back to myself: host {} has my name", self.relay);
            return Err(Lost::Verdict(Verdict::later((4, 4, 6), text)));
        }
        self.greeted = true;
        Ok(())
    }

    /// The next reply before any message; a connection that is refused is an error.
    async fn one_answer(&mut self, limit: Duration) -> Result<(Command, Verdict), Lost> {
        loop {
            let progress = self.session.advance(&self.input);
            let consumed = progress.consumed;
            let answer = match progress.event {
                Event::NeedInput => None,
                Event::Answer(answer) => Some(Ok((answer.command, Verdict::of(&answer.reply)))),
                Event::Closing(answer) => Some(Err(refusal(&self.relay, &answer))),
                Event::Failed(error) => Some(Err(broken(&self.relay, &error.to_string()))),
            };
            self.input.drain(..consumed);
            match answer {
                Some(answer) => return answer,
                None => self.receive(limit).await?,
            }
        }
    }

    /// Message after message, until there is none or the connection ends; why it was lost, if it was.
    async fn run(&mut self, first: Job) -> Option<Verdict> {
        let result = self.converse(first).await;
        let verdict = match result {
            Ok(()) | Err(Lost::Closed) => None,
            Err(Lost::Verdict(verdict)) => Some(verdict),
        };
        for flight in std::mem::take(&mut self.flights) {
            let while_sending = if flight.whole {
                "lost connection while waiting for the reply to the end of data -- message may be sent more than once"
            } else {
                "lost connection while the message was being sent"
            };
            let verdict = verdict.clone().unwrap_or_else(|| {
                let text = format!("host {}: {while_sending}", self.relay);
                Verdict::later((4, 4, 2), text)
            });
            self.land(flight, Some(&verdict));
        }
        verdict
    }

    async fn converse(&mut self, first: Job) -> Result<(), Lost> {
        let mut next = Some(first);
        loop {
            self.fill(&mut next).await?;
            if self.flights.is_empty() {
                match next.take() {
                    Some(job) => self.destination.push_front(job),
                    None => {
                        if !self.session.can_begin() {
                            return self.quit().await;
                        }
                        next = self.wait_for_job().await;
                        if next.is_none() {
                            return self.quit().await;
                        }
                        continue;
                    }
                }
                return self.quit().await;
            }
            self.receive(self.patience()).await?;
            self.answers()?;
        }
    }

    /// Writes down everything that may be sent now.
    async fn fill(&mut self, next: &mut Option<Job>) -> Result<(), Lost> {
        loop {
            self.write_steps().await?;
            let ahead = if self.shared.memory.lets_run_ahead() { FLIGHTS_MAX } else { 1 };
            if !self.session.can_begin() || self.flights.len() >= ahead || self.is_used_up() {
                return Ok(());
            }
            let job = match next.take() {
                Some(job) => job,
                None => match self.destination.next() {
                    Next::Job(job) => *job,
                    Next::Nothing => return Ok(()),
                    Next::Entry(slot) => match self.shared.fetch(slot).await {
                        Some(job) => job,
                        None => continue,
                    },
                },
            };
            self.begin(job);
        }
    }

    /// No further message may begin on this connection.
    fn is_used_up(&self) -> bool {
        let own = Some(self.hops.messages_per_connection).filter(|max| *max > 0);
        let most = own.into_iter().chain(self.session.extensions().mail_max).min();
        !self.shared.may_begin()
            || most.is_some_and(|most| self.begun >= most)
            || self.shared.places.give_way(self.destination, self.since)
    }

    fn begin(&mut self, job: Job) {
        let head = head(&job.message);
        let needs = match job.message.envelope() {
            Ok(envelope) => Needs::of(&job.message, &envelope, &job.recipients, &head),
            Err(error) => {
                tracing::error!(id = %job.message.id, %error, "a message that is owed cannot be read");
                return;
            }
        };
        let mut flight = Flight {
            verdicts: vec![None; job.recipients.len()],
            number: 0,
            needs,
            head,
            sent_at_us: now_us(),
            whole: false,
            job,
        };
        if let Some(verdict) = needs.refuse(self.session.extensions(), &self.relay, self.tls_verified) {
            return self.land(flight, Some(&verdict));
        }
        let transfer = if self.session.extensions().chunking { Transfer::Chunks } else { Transfer::Data };
        let recipients = u32::try_from(flight.job.recipients.len()).unwrap_or(u32::MAX);
        flight.number = self.session.begin(recipients, transfer);
        self.begun += 1;
        self.flights.push_back(flight);
    }

    /// The next message for an idle connection; `None` when it is to be closed.
    async fn wait_for_job(&mut self) -> Option<Job> {
        if self.is_used_up() {
            return None;
        }
        let _idle = self.destination.idle();
        let until = tokio::time::Instant::now() + self.hops.keep_connection;
        loop {
            match self.destination.next() {
                Next::Job(job) => return Some(*job),
                Next::Entry(slot) => match self.shared.fetch(slot).await {
                    Some(job) => return Some(job),
                    None => continue,
                },
                Next::Nothing => {}
            }
            let mut octet = [0; 1];
            tokio::select! {
                () = self.destination.work.notified() => {}
                // 421 or the end: whatever it is, the connection is not worth keeping.
                _ = self.stream.read(&mut octet) => return None,
                () = tokio::time::sleep_until(until) => return None,
            }
            if self.shared.stopping.get() || self.shared.places.others_wait(self.destination) {
                return None;
            }
        }
    }

    async fn quit(&mut self) -> Result<(), Lost> {
        self.session.quit();
        self.write_steps().await?;
        self.flush().await?;
        // RFC 5321 §4.1.1.10: the reply is waited for, but nothing depends on it.
        let _ = timeout(QUIT_PATIENCE, self.stream.read_buf(&mut self.input)).await;
        let _ = timeout(QUIT_PATIENCE, self.stream.shutdown()).await;
        Err(Lost::Closed)
    }

    /// How long the next reply may take: that to the end of data has the most time.
    fn patience(&self) -> Duration {
        let timeouts = &self.shared.settings.timeouts;
        if self.flights.iter().any(|flight| flight.whole) {
            timeouts.end
        } else if self.awaits_data && self.session.is_pipelining() {
            timeouts.data.max(timeouts.command)
        } else if self.awaits_data {
            timeouts.data
        } else {
            timeouts.command
        }
    }

    /// Takes all replies that have come.
    fn answers(&mut self) -> Result<(), Lost> {
        let input = std::mem::take(&mut self.input);
        let mut consumed = 0;
        let mut result = Ok(());
        let mut seen = Vec::new();
        loop {
            let progress = self.session.advance(&input[consumed..]);
            consumed += progress.consumed;
            match progress.event {
                Event::NeedInput => break,
                Event::Answer(answer) => {
                    seen.push((answer.command, answer.transaction, Verdict::of(&answer.reply), answer.end));
                }
                Event::Closing(answer) => {
                    result = Err(refusal(&self.relay, &answer));
                    break;
                }
                Event::Failed(error) => {
                    result = Err(broken(&self.relay, &error.to_string()));
                    break;
                }
            }
        }
        self.input = input;
        self.input.drain(..consumed);
        for (command, transaction, verdict, end) in seen {
            self.answer(command, transaction, verdict, end);
        }
        result
    }

    fn answer(&mut self, command: Command, transaction: u64, verdict: Verdict, end: bool) {
        let Some(at) = self.flights.iter().position(|flight| flight.number == transaction) else { return };
        self.awaits_data &= command != Command::Data;
        let flight = &mut self.flights[at];
        let refused = verdict.severity != Severity::Completed && verdict.severity != Severity::Intermediate;
        match command {
            // Behind a refused MAIL the recipients are refused for that alone.
            Command::Recipient(index) if refused => {
                if let Some(of @ None) = flight.verdicts.get_mut(index as usize) {
                    *of = Some(verdict);
                }
            }
            Command::FinalFor(index) => {
                if let Some(of) = flight.verdicts.get_mut(index as usize) {
                    *of = Some(verdict);
                }
            }
            Command::Final => flight.settle_rest(&verdict),
            Command::Mail | Command::Data | Command::Chunk if refused => flight.settle_rest(&verdict),
            _ => {}
        }
        if end && let Some(flight) = self.flights.remove(at) {
            self.was_of_use = true;
            self.land(flight, None);
        }
    }

    /// A message is through, or not: what is without a verdict gets `rest`.
    fn land(&self, mut flight: Flight, rest: Option<&Verdict>) {
        let unanswered = Verdict::later((4, 4, 2), "no reply");
        flight.settle_rest(rest.unwrap_or(&unanswered));
        let delivered = flight.verdicts.iter().flatten().any(|one| one.severity == Severity::Completed);
        if delivered {
            self.destination.succeeded();
        }
        let attempt = Attempt {
            destination: self.destination.name.clone(),
            relay: Rc::clone(&self.relay),
            host: Rc::clone(&self.candidate.name),
            tls: Rc::clone(&self.tls),
            dsn_handed_on: self.session.extensions().dsn,
            is_final: self.lmtp,
            connected_at_us: self.connected_at_us.max(flight.job.taken_at_us),
            sent_at_us: flight.sent_at_us,
        };
        let verdicts = std::mem::take(&mut flight.verdicts);
        let verdicts =
            flight.job.recipients.iter().copied().zip(verdicts.into_iter().map(Option::unwrap_or_default));
        let verdicts = verdicts.collect();
        self.shared.settle(flight.job, &attempt, verdicts);
    }
}

impl Flight {
    fn settle_rest(&mut self, verdict: &Verdict) {
        for of in self.verdicts.iter_mut().filter(|of| of.is_none()) {
            *of = Some(verdict.clone());
        }
    }
}

/// What a 421 or a refused greeting means: another try, here or elsewhere.
fn refusal(relay: &str, answer: &Answer<'_>) -> Lost {
    let mut verdict = Verdict::of(&answer.reply);
    // RFC 5321 §4.3.2 lets a host refuse a session for good; that says nothing about the message.
    verdict.severity = Severity::Transient;
    if verdict.enhanced[0] == 5 {
        verdict.enhanced[0] = 4;
    }
    let text = format!("host {relay} said: {} {}", answer.reply.code, shown(&verdict.text));
    Lost::Verdict(Verdict { text: text.into_bytes(), code: 0, ..verdict })
}

fn broken(relay: &str, what: &str) -> Lost {
    let text = format!("host {relay} does not speak the protocol: {what}");
    Lost::Verdict(Verdict::later((4, 5, 0), text))
}
