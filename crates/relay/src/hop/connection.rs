//! A connection from its greeting to the state in which messages can begin.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use inrush_proto::client::{Answer, Command, Event, Pipelining, Protocol, Session, Severity};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::flight::{Flight, Left};
use crate::connect::Candidate;
use crate::destination::Destination;
use crate::failure::Verdict;
use crate::settings::HopSettings;
use crate::settle::shown;
use crate::shared::{Shared, now_us};
use crate::tls::{ServerCheck, TlsPolicy};

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Why a connection is of no further use.
pub(super) enum Lost {
    /// It broke: what had left whole may have arrived.
    Broken(Verdict),
    /// The host has refused to go on (RFC 5321 §3.8): what it had not answered by then it does not have.
    Refused(Verdict),
    /// It ended in order.
    Closed,
}

pub(super) struct Connection<'a> {
    pub(super) shared: &'a Rc<Shared>,
    pub(super) destination: &'a Rc<Destination>,
    pub(super) hops: &'a HopSettings,
    pub(super) lmtp: bool,
    pub(super) candidate: Candidate,
    pub(super) relay: Rc<str>,
    pub(super) stream: Box<dyn Stream>,
    pub(super) session: Session,
    pub(super) out: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) flights: VecDeque<Flight>,
    pub(super) tls: Rc<str>,
    /// `none` without.
    pub(super) tls_version: &'static str,
    pub(super) tls_verified: bool,
    pub(super) connected_at_us: u64,
    /// The last reply came, or what asks for the next one left.
    pub(super) since: Instant,
    pub(super) begun: u32,
    /// The server has named itself.
    pub(super) greeted: bool,
    /// The reply to DATA is due.
    pub(super) awaits_data: bool,
    /// A message has got its verdict.
    pub(super) was_of_use: bool,
    /// When it was made.
    pub(super) made_at: std::time::Instant,
    /// Domains of recipients, where the host takes mail for so many only (RFC 9422 §4.3).
    pub(super) domains: Vec<Box<[u8]>>,
    /// It has taken as many as it may.
    pub(super) is_full: bool,
    /// There is another host for the message that comes first.
    pub(super) goes_on: bool,
    /// That message, if it goes there: the connection has no further use.
    pub(super) left: Option<Left>,
}

/// Why a host is passed over for the next one.
pub(super) enum Refused {
    /// It spoke no TLS that we can have.
    Handshake(Verdict),
    /// Anything else before the first message.
    Host(Verdict),
}

impl From<Lost> for Refused {
    fn from(lost: Lost) -> Self {
        Self::Host(match lost {
            Lost::Broken(verdict) | Lost::Refused(verdict) => verdict,
            Lost::Closed => Verdict::later((4, 4, 2), "the connection was closed"),
        })
    }
}

impl<'a> Connection<'a> {
    pub(super) fn new(
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
            tls_version: "none",
            tls_verified: false,
            connected_at_us: now_us(),
            made_at: std::time::Instant::now(),
            begun: 0,
            greeted: false,
            awaits_data: false,
            was_of_use: false,
            since: Instant::now(),
            domains: Vec::new(),
            is_full: false,
            goes_on: false,
            left: None,
        }
    }

    /// From the greeting to the state in which messages can begin.
    pub(super) async fn open(&mut self, in_the_clear: bool) -> Result<(), Refused> {
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
                self.tls_version = facts.version;
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
            return Err(Lost::Refused(Verdict::later((4, 4, 6), text)));
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
                Some(answer) => {
                    self.since = Instant::now();
                    return answer;
                }
                None => self.receive(limit).await?,
            }
        }
    }
}

/// What a 421 or a refused greeting means: another try, here or elsewhere.
pub(super) fn refusal(relay: &str, answer: &Answer<'_>) -> Lost {
    let mut verdict = Verdict::of(&answer.reply);
    // RFC 5321 §4.3.2 lets a host refuse a session for good; that says nothing about the message.
    verdict.severity = Severity::Transient;
    if verdict.enhanced[0] == 5 {
        verdict.enhanced[0] = 4;
    }
    let text = format!("host {relay} said: {} {}", answer.reply.code, shown(&verdict.text));
    Lost::Refused(Verdict { text: text.into_bytes(), code: 0, ..verdict })
}

pub(super) fn broken(relay: &str, what: &str) -> Lost {
    let text = format!("host {relay} does not speak the protocol: {what}");
    Lost::Broken(Verdict::later((4, 5, 0), text))
}
