//! Senders that do not keep to the rules, beside those that do.
//!
//! Each behaviour is what servers meet on port 25. Its sessions make connection after connection until the well-behaved are done. They
//! are counted apart and never in the latencies; an error of theirs is no error of the run. What a server should do about each:
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

use inrush_proto::client::{Protocol, REPLY_LINE_OCTETS_MAX};
use serde::Deserialize;

use crate::content::mix;
use crate::plan::Hostile;
use crate::slot::{Kick, Slot};
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

/// What a server may wrongly take for the end of mail data (RFC 5321 §4.1.1.4).
const FALSE_ENDS: [&[u8]; 4] = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"];

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
    }
}

/// Makes connection after connection until the watchdog ends it.
pub(crate) async fn run_session(worker: Rc<Worker>, slot: Rc<Slot>, index: usize) {
    let hostile = worker.plan.hostile[index].clone();
    let mut connection = 0;
    while !worker.is_over_for_hostile() {
        let random = mix(worker.plan.content.seed() ^ slot.number, connection);
        connection += 1;
        let mut session = Session { worker: &worker, slot: &slot, index, rest: Vec::new() };
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
    /// An unfinished reply line.
    rest: Vec<u8>,
}

impl Session<'_> {
    async fn run(&mut self, hostile: &Hostile, random: u64) {
        self.slot.busy_since.set(Some(Instant::now()));
        let manner = Manner { reset: hostile.behaviour == Behaviour::ConnectAndReset, ..Manner::default() };
        let target = self.worker.target();
        let mut wire = match self.worker.connect(self.slot, target, manner).await {
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
                self.hello(wire).await?;
                self.command(wire, b"MAIL FROM:<>\r\n").await?;
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
                if !self.data(wire).await? {
                    return self.command(wire, b"QUIT\r\n").await.map(|_| ());
                }
                let end = FALSE_ENDS[usize::try_from(random % FALSE_ENDS.len() as u64).unwrap_or(0)];
                let mut text = b"Subject: one\r\n\r\nfirst".to_vec();
                text.extend_from_slice(end);
                text.extend_from_slice(b"MAIL FROM:<>\r\n");
                text.extend_from_slice(
                    b"RCPT TO:<smuggled@inrush.example>\r\nDATA\r\nSubject: two\r\n\r\nsecond\r\n.\r\nQUIT\r\n",
                );
                wire.send(self.slot, text).await?;
                let first = self.reply(wire).await?;
                self.count(|counts| counts.messages_accepted += u64::from(first / 100 == 2));
                // Another 354 answers a DATA that was text: the server took the false end for the true one.
                let mut is_smuggling = false;
                loop {
                    match self.reply(wire).await? {
                        221 | 421 => return Ok(()),
                        354 => is_smuggling = true,
                        code if is_smuggling && code / 100 == 2 => {
                            is_smuggling = false;
                            self.count(|counts| counts.messages_smuggled += 1);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn envelope(&self) -> Vec<u8> {
        let plan = &self.worker.plan;
        let mut out = b"MAIL FROM:<>\r\nRCPT TO:<".to_vec();
        plan.senders[0].to.write(0, 0, &mut out);
        out.extend_from_slice(b">\r\n");
        out
    }

    async fn hello(&mut self, wire: &mut Wire) -> Result<(), WireError> {
        self.reply(wire).await?;
        let hello = self.greeting();
        self.command(wire, &hello).await.map(|_| ())
    }

    fn greeting(&self) -> Vec<u8> {
        let plan = &self.worker.plan;
        let verb = if plan.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        format!("{verb} {}\r\n", plan.hello).into_bytes()
    }

    /// Up to the 354; false when there is none.
    async fn data(&mut self, wire: &mut Wire) -> Result<bool, WireError> {
        self.hello(wire).await?;
        let envelope = self.envelope();
        for line in envelope.split_inclusive(|&b| b == b'\n') {
            self.command(wire, line).await?;
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
