//! Senders that do not keep to the rules, beside those that do.
//!
//! Each behaviour is what servers meet on port 25. Its sessions make connection after connection until the well-behaved are done. They
//! are counted apart and never in the latencies; an error of theirs is no error of the run. Those that go as far as a transaction use TLS, log in and
//! name sender and recipient as a well-behaved sender of the run would. What a server should do about each:
//!
//! | behaviour | what it does | a server should |
//! |---|---|---|
//! | `garbage` | lines that are no commands | refuse, close after some |
//! | `bare-line-feeds` | mail data with a false end (`LF . LF`, `LF . CR LF`, `CR LF . LF`, `CR . CR`) and a second message behind it | take one message or none, never two |
//! | `disconnect-in-data` | half of the mail data, then gone | take nothing |
//! | `idle` | connects and says nothing | close at its timeout |
//! | `slowloris` | an octet of a command now and then | close at its timeout |
//! | `unknown-recipients` | tries addresses | refuse, slow down or close |
//! | `early-talker` | speaks before the greeting | refuse or pass over |
//! | `pipelining-unasked` | everything in one go, before EHLO is answered | refuse or take, in step |
//! | `connect-and-reset` | connects and breaks off with RST | not notice |

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use inrush_proto::client::{Extensions, Protocol, REPLY_LINE_OCTETS_MAX};
use serde::Deserialize;

use crate::content::mix;
use crate::plan::Hostile;
use crate::sender::{Sender, TlsMode};
use crate::slot::{Kick, Slot};
use crate::smuggling::{self, FALSE_ENDS, SmugglingCounts, Verdict};
use crate::wire::{Manner, Wire, WireError};
use crate::worker::Worker;

/// Pause between two connections of a session when none is given.
pub const PAUSE: Duration = Duration::from_secs(1);
/// How long a connection is held when nothing is said about it.
pub const HOLD: Duration = Duration::from_secs(30);
/// Distance of two octets of a slowloris.
const DRIP: Duration = Duration::from_millis(500);
/// Lines or recipients that are tried on a connection.
const ATTEMPTS: u32 = 50;
/// Replies that are read behind a false end: far more than the smuggled lines can have.
const SMUGGLED_REPLIES_MAX: usize = 32;

/// A way not to keep to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Lines that are no commands.
    Garbage,
    /// Mail data with a false end and a second message behind it.
    BareLineFeeds,
    /// Half of the mail data, then gone.
    DisconnectInData,
    /// Connects and says nothing.
    Idle,
    /// An octet of a command now and then.
    Slowloris,
    /// Tries addresses.
    UnknownRecipients,
    /// Speaks before the greeting.
    EarlyTalker,
    /// Everything in one go, before EHLO is answered.
    PipeliningUnasked,
    /// Connects and breaks off with RST.
    ConnectAndReset,
}

impl Behaviour {
    /// Name in profiles and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::BareLineFeeds => "bare-line-feeds",
            Self::DisconnectInData => "disconnect-in-data",
            Self::Idle => "idle",
            Self::Slowloris => "slowloris",
            Self::UnknownRecipients => "unknown-recipients",
            Self::EarlyTalker => "early-talker",
            Self::PipeliningUnasked => "pipelining-unasked",
            Self::ConnectAndReset => "connect-and-reset",
        }
    }
}

/// What became of the sessions of one behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostileCounts {
    /// Connections established.
    pub connections: u64,
    /// Connections that were not.
    pub connections_failed: u64,
    /// Replies 2yz and 3yz.
    pub positive_replies: u64,
    /// Replies 4yz.
    pub transient_replies: u64,
    /// Replies 5yz.
    pub permanent_replies: u64,
    /// Messages that were acknowledged.
    pub messages_accepted: u64,
    /// Second messages of `bare-line-feeds` that were acknowledged: SMTP smuggling.
    pub messages_smuggled: u64,
    /// Connections that the server closed.
    pub closed_by_server: u64,
    /// Verdicts of `bare-line-feeds`, in the order of [`FALSE_ENDS`].
    pub smuggling: [SmugglingCounts; FALSE_ENDS.len()],
}

impl HostileCounts {
    /// Adds those of another core.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connections_failed += other.connections_failed;
        self.positive_replies += other.positive_replies;
        self.transient_replies += other.transient_replies;
        self.permanent_replies += other.permanent_replies;
        self.messages_accepted += other.messages_accepted;
        self.messages_smuggled += other.messages_smuggled;
        self.closed_by_server += other.closed_by_server;
        self.smuggling.iter_mut().zip(&other.smuggling).for_each(|(mine, theirs)| mine.add(theirs));
    }
}

/// Makes connection after connection until the watchdog ends it.
pub(crate) async fn run_session(worker: Rc<Worker>, slot: Rc<Slot>, index: usize) {
    let hostile = worker.plan.hostile[index].clone();
    let mut connection = 0;
    while !worker.is_over_for_hostile() {
        let random = mix(worker.plan.content.seed() ^ slot.number, connection);
        let senders = &worker.plan.senders;
        // A remainder below their number.
        let sender = &senders[usize::try_from(mix(random, 1) % senders.len() as u64).unwrap_or(0)];
        let turn = usize::try_from((slot.number + connection) % FALSE_ENDS.len() as u64).unwrap_or(0);
        connection += 1;
        let mut session = Session {
            worker: &worker,
            slot: &slot,
            index,
            sender,
            tls: sender.tls(mix(random, 2)),
            target: worker.target(),
            turn,
            rest: Vec::new(),
            extensions: Extensions::default(),
        };
        session.run(&hostile, random).await;
        slot.busy_since.set(None);
        slot.rearm();
        if slot.guarded(monoio::time::sleep(hostile.pause)).await.is_err() && worker.is_over_for_hostile() {
            return;
        }
    }
}

struct Session<'a> {
    worker: &'a Worker,
    slot: &'a Slot,
    index: usize,
    /// Whose TLS and addresses it uses.
    sender: &'a Sender,
    tls: TlsMode,
    target: usize,
    /// The false end of this connection; they take turns, so that each is tried.
    turn: usize,
    /// An unfinished reply line.
    rest: Vec<u8>,
    /// Of the last reply to EHLO.
    extensions: Extensions,
}

impl Session<'_> {
    async fn run(&mut self, hostile: &Hostile, random: u64) {
        self.slot.busy_since.set(Some(Instant::now()));
        let manner = Manner { reset: hostile.behaviour == Behaviour::ConnectAndReset, ..Manner::default() };
        let mut wire = match self.worker.connect(self.slot, self.target, manner).await {
            Ok((wire, _)) => wire,
            Err(WireError::Kicked(Kick::Interrupted)) => return,
            Err(_) => {
                self.count(|counts| counts.connections_failed += 1);
                return;
            }
        };
        self.count(|counts| counts.connections += 1);
        if let Err(WireError::Eof | WireError::Io(_)) = self.behave(&mut wire, hostile, random).await {
            self.count(|counts| counts.closed_by_server += 1);
        }
    }

    async fn behave(&mut self, wire: &mut Wire, hostile: &Hostile, random: u64) -> Result<(), WireError> {
        let is_silent = matches!(hostile.behaviour, Behaviour::Idle | Behaviour::ConnectAndReset);
        if self.tls == TlsMode::Implicit && !is_silent {
            self.secure(wire).await?;
        }
        match hostile.behaviour {
            Behaviour::Idle => self.wait_out(wire, hostile.hold).await,
            // The socket was made so that its end is a RST.
            Behaviour::ConnectAndReset => Ok(()),
            Behaviour::Slowloris => {
                self.reply(wire).await?;
                let until = Instant::now() + hostile.hold;
                for octet in b"EHLO ".iter().chain(b"a.".iter().cycle()) {
                    if Instant::now() >= until {
                        break;
                    }
                    wire.send(self.slot, vec![*octet]).await?;
                    self.wait_out(wire, DRIP).await?;
                }
                Ok(())
            }
            Behaviour::Garbage => {
                self.reply(wire).await?;
                for attempt in 0..ATTEMPTS {
                    let mut line: Vec<u8> = (0..40)
                        .map(|place| (mix(random ^ u64::from(attempt), place) >> 56) as u8)
                        .filter(|&b| b != b'\r' && b != b'\n')
                        .collect();
                    line.extend_from_slice(b"\r\n");
                    self.command(wire, &line).await?;
                }
                Ok(())
            }
            Behaviour::UnknownRecipients => {
                if !self.ready(wire).await? {
                    return self.command(wire, b"QUIT\r\n").await.map(|_| ());
                }
                let envelope = self.envelope();
                let mail = envelope.split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
                self.command(wire, mail).await?;
                for attempt in 0..u64::from(ATTEMPTS) {
                    let user = mix(random, attempt);
                    let line = format!("RCPT TO:<{user:016x}@{}>\r\n", self.worker.plan.hostile_domain);
                    self.command(wire, line.as_bytes()).await?;
                }
                self.command(wire, b"QUIT\r\n").await.map(|_| ())
            }
            Behaviour::EarlyTalker => {
                wire.send(self.slot, self.greeting()).await?;
                self.reply(wire).await?;
                self.reply(wire).await?;
                self.command(wire, b"QUIT\r\n").await.map(|_| ())
            }
            Behaviour::PipeliningUnasked => {
                let mut all = self.greeting();
                all.extend_from_slice(&self.envelope());
                all.extend_from_slice(b"DATA\r\nSubject: unasked\r\n\r\ntext\r\n.\r\nQUIT\r\n");
                self.reply(wire).await?;
                wire.send(self.slot, all).await?;
                // EHLO, MAIL, RCPT, DATA, the text, QUIT: a server in step says so many replies.
                for place in 0..6 {
                    let code = self.reply(wire).await?;
                    if place == 4 && code / 100 == 2 {
                        self.count(|counts| counts.messages_accepted += 1);
                    }
                }
                Ok(())
            }
            Behaviour::DisconnectInData => {
                if self.data(wire).await? {
                    wire.send(self.slot, b"Subject: half\r\n\r\nThis message has no e".to_vec()).await?;
                }
                Ok(())
            }
            Behaviour::BareLineFeeds => {
                let verdict = self.smuggle(wire).await;
                // What the end of the run cut short says nothing about the server.
                let is_cut = matches!(verdict, Err(WireError::Kicked(Kick::Interrupted)));
                if !is_cut {
                    let turn = self.turn;
                    let booked = *verdict.as_ref().unwrap_or(&Verdict::NotTested);
                    self.count(|counts| counts.smuggling[turn].book(booked));
                }
                verdict.map(|_| ())
            }
        }
    }

    /// Mail data with a false end and a second message behind it.
    async fn smuggle(&mut self, wire: &mut Wire) -> Result<Verdict, WireError> {
        if !self.data(wire).await? {
            self.command(wire, b"QUIT\r\n").await?;
            return Ok(Verdict::NotTested);
        }
        let text = smuggling::text(FALSE_ENDS[self.turn].1, &self.envelope());
        wire.send(self.slot, text).await?;
        let mut replies = Vec::new();
        let ended = loop {
            match self.reply(wire).await {
                Ok(code) => replies.push(code),
                Err(error) => break error,
            }
            if matches!(replies.last(), Some(221 | 421)) || replies.len() >= SMUGGLED_REPLIES_MAX {
                break WireError::Eof;
            }
        };
        self.count(|counts| {
            counts.messages_accepted += u64::from(replies.first().is_some_and(|code| code / 100 == 2));
            counts.messages_smuggled += smuggling::messages(&replies);
        });
        match (smuggling::judge(&replies), ended) {
            (Verdict::NotTested, WireError::Kicked(Kick::Interrupted)) => Err(Kick::Interrupted.into()),
            (verdict, _) => Ok(verdict),
        }
    }

    /// MAIL and RCPT as a well-behaved sender says them.
    fn envelope(&self) -> Vec<u8> {
        let mut out = b"MAIL FROM:<".to_vec();
        self.sender.from.write(0, 0, &mut out);
        out.extend_from_slice(b">\r\nRCPT TO:<");
        self.sender.to.write(0, 0, &mut out);
        out.extend_from_slice(b">\r\n");
        out
    }

    /// Up to where MAIL may be said, TLS and AUTH included; false: the server does not let us.
    async fn ready(&mut self, wire: &mut Wire) -> Result<bool, WireError> {
        if self.reply(wire).await? / 100 != 2 || !self.hello(wire).await? {
            return Ok(false);
        }
        if self.tls == TlsMode::Starttls {
            if !self.extensions.starttls || self.command(wire, b"STARTTLS\r\n").await? != 220 {
                return Ok(false);
            }
            // RFC 3207 §4.2, CVE-2011-0411: what came behind the reply in the clear is not believed.
            self.rest.clear();
            self.secure(wire).await?;
            if !self.hello(wire).await? {
                return Ok(false);
            }
        }
        let Some(credentials) = &self.worker.plan.credentials else { return Ok(true) };
        let Some(mechanism) = credentials.mechanism(&self.extensions) else { return Ok(false) };
        let mut line = Vec::new();
        let mut index = 0;
        while credentials.write(mechanism, index, &mut line) {
            index += 1;
            match self.command(wire, &line).await? {
                334 => line.clear(),
                code => return Ok(code == 235),
            }
        }
        Ok(false)
    }

    async fn secure(&mut self, wire: &mut Wire) -> Result<(), WireError> {
        self.slot.busy_since.set(Some(Instant::now()));
        // There are settings of TLS wherever a sender uses it.
        let Some(config) = self.worker.tls.clone() else { return Ok(()) };
        let name = self.worker.plan.targets[self.target].server_name.clone();
        wire.secure(self.slot, config, name).await.map(|_| ())
    }

    /// EHLO; false: refused.
    async fn hello(&mut self, wire: &mut Wire) -> Result<bool, WireError> {
        let hello = self.greeting();
        self.extensions = Extensions::default();
        Ok(self.command(wire, &hello).await? / 100 == 2)
    }

    fn greeting(&self) -> Vec<u8> {
        let plan = &self.worker.plan;
        let verb = if plan.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        format!("{verb} {}\r\n", plan.hello).into_bytes()
    }

    /// Up to the 354; false when there is none.
    async fn data(&mut self, wire: &mut Wire) -> Result<bool, WireError> {
        if !self.ready(wire).await? {
            return Ok(false);
        }
        let envelope = self.envelope();
        for line in envelope.split_inclusive(|&b| b == b'\n') {
            if self.command(wire, line).await? / 100 != 2 {
                return Ok(false);
            }
        }
        Ok(self.command(wire, b"DATA\r\n").await? == 354)
    }

    async fn command(&mut self, wire: &mut Wire, line: &[u8]) -> Result<u16, WireError> {
        wire.send(self.slot, line.to_vec()).await?;
        self.reply(wire).await
    }

    /// Waits for a whole reply; its code, 0 for something else.
    async fn reply(&mut self, wire: &mut Wire) -> Result<u16, WireError> {
        self.slot.busy_since.set(Some(Instant::now()));
        loop {
            while let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let code =
                    line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0);
                // The first line of a reply names the server, and no extension has that name.
                self.extensions.add_line(line.get(4..).unwrap_or_default().trim_ascii_end());
                if line.get(3) == Some(&b'-') {
                    continue;
                }
                self.count(|counts| match code / 100 {
                    2 | 3 => counts.positive_replies += 1,
                    4 => counts.transient_replies += 1,
                    5 => counts.permanent_replies += 1,
                    _ => {}
                });
                return Ok(code);
            }
            // What is left holds no line end.
            if self.rest.len() > REPLY_LINE_OCTETS_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            let received = wire.receive(self.slot, Vec::new()).await?;
            self.rest.extend_from_slice(&received);
        }
    }

    /// Reads and forgets what the server says, for so long.
    async fn wait_out(&mut self, wire: &mut Wire, time: Duration) -> Result<(), WireError> {
        self.slot.busy_since.set(None);
        wire.drain_for(self.slot, time).await
    }

    fn count(&self, count: impl FnOnce(&mut HostileCounts)) {
        count(&mut self.worker.hostile.borrow_mut()[self.index]);
    }
}
