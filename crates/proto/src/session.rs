//! The server session.
//!
//! ```text
//!            greet                  HELO, EHLO                   MAIL                  RCPT ok
//!   (new) ─────────▶ no hello ───────────────▶ ready ──────────────────▶ envelope ─────────────▶ envelope, recipients
//!                                                ▲                          │ RSET, HELO, EHLO       │ DATA      │ BDAT
//!                                                ├──────────────────────────┘                        ▼           ▼
//!                                                └───────────── appended() ◀── Event::Message ◀── mail data, chunks
//! ```
//! This file owns the branches; `session/greeting.rs`, `tls.rs`, `auth.rs`, `introduction.rs`, `envelope.rs`, `data.rs` and `bdat.rs` hold what
//! each phase does.
//!
//! Memory: a session is a few words. The transaction and the buffer of the replies exist only while they are needed
//! and come from the pools of the [`Context`]. Mail data stays in the caller's buffer. Nothing is allocated in the
//! steady state.
//!
//! Standards: RFC 5321 §3 and §4, RFC 2920 (pipelining); the others are named where they are obeyed.

mod auth;
mod bdat;
mod data;
mod envelope;
mod greeting;
mod introduction;
mod tls;

use std::rc::Rc;

use crate::command::{self, Fault, Line, Verb};
use crate::output::Output;
use crate::sasl::Credentials;
use crate::xclient::Xclient;
use crate::{Body, Context, Kind, Limits, Path, Recipient, Reply, Transaction, UnauthorizedPipelining};

pub use auth::Identity;

/// What [`Session::advance`] has done.
#[derive(Debug)]
pub struct Progress<'i> {
    /// Octets at the front of the input that the caller drops before it calls again.
    pub consumed: usize,
    /// What the caller has to do now.
    pub event: Event<'i>,
}

/// What a session wants from its caller.
#[derive(Debug)]
pub enum Event<'i> {
    /// Nothing can be done before more octets arrive. Send what is ready, then read.
    NeedInput {
        /// Octets of buffer that the session would like to have for the unconsumed input and the new octets together;
        /// at most [`INPUT_OCTETS_MAX`](crate::INPUT_OCTETS_MAX). More is never needed; the caller must offer this
        /// much before long, or the session cannot go on.
        hint: usize,
    },
    /// May this recipient have the mail? Answer with [`Session::verdict`]; parsing pauses until then. The same recipient
    /// is at hand as [`Session::pending_recipient`] when the input is gone.
    Recipient(Recipient<'i>),
    /// A piece of the mail data, not the last. Store it, then call [`Session::body_stored`].
    Body(Body<'i>),
    /// The last piece, maybe empty: with the pieces before it the message is complete and [`Session::transaction`] says
    /// everything about it. Append it, then call [`Session::appended`].
    Message(Body<'i>),
    /// Pieces of mail data were handed out, and their message will not be completed: throw them away.
    Aborted,
    /// On a submission listener: may this user ([`Session::identity`]) send mail with this reverse-path? Answer with
    /// [`Session::sender_verdict`]; parsing pauses until then.
    Sender(Path<'i>),
    /// The client says who it is. Answer with [`Session::authenticated`]; parsing pauses until then.
    Authenticate(Box<Credentials>),
    /// A peer that is trusted says who its client is. Answer with [`Session::introduced`], or [`Session::close_with`] when that
    /// client may have no session; parsing pauses until then.
    Introduced(Box<Xclient>),
    /// The client asks for TLS. Answer with [`Session::start_tls`]; parsing pauses until then.
    StartTls,
    /// So many replies wait that the session stops parsing. Take and send them, then call again; when all of them are
    /// gated, that is after [`Session::durable`].
    Output,
    /// The session is over. Send the replies, also those that are still gated as soon as they are durable, then close.
    Close,
}

/// The answer to [`Event::Recipient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 250 2.1.5
    Accept,
    /// The recipient is refused with this reply, 4xx or 5xx.
    Refuse(&'static Reply),
}

/// A message is in the log, though maybe not yet durable.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// The `250` leaves when [`Session::durable`] has reached this position.
    pub gate: u64,
    /// The message id, printable US-ASCII, for the text of the `250`.
    pub id: &'a str,
}

/// Why mail data was not taken. Whatever the cause inside, it ends here in one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// No space left, or below the mark that is kept free.
    StorageFull,
    /// The budget of mail that is under way is spent.
    PendingFull,
    /// More than the log can take in one message.
    TooLarge,
    /// The disk has not answered for too long.
    StorageHung,
    /// Anything else: an error of ours, so that the client keeps the message and tries again.
    LocalError,
}

impl AppendFailure {
    /// The one reply for this failure.
    pub const fn reply(self) -> &'static Reply {
        match self {
            Self::StorageFull => Reply::STORAGE_FULL,
            Self::PendingFull => Reply::PENDING_FULL,
            Self::TooLarge => Reply::TOO_BIG,
            Self::StorageHung => Reply::STORAGE_HUNG,
            Self::LocalError => Reply::LOCAL_ERROR,
        }
    }
}

/// Where a session stands, for timeouts, metrics and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before HELO or EHLO.
    Greeting,
    /// Between transactions.
    Ready,
    /// Between MAIL and the mail data, or between two chunks.
    Envelope,
    /// Octets of mail data are expected.
    MailData,
    /// An answer of the caller is expected: to a recipient, a piece or a message.
    Paused,
    /// [`Event::Close`] has come or comes next.
    Closed,
}

/// How the next octets are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As commands.
    Command,
    /// As the rest of a line that was too long, then answered with this.
    LongLine(&'static Reply),
    /// As a line of an AUTH exchange.
    Response,
    /// As mail data behind DATA.
    Data,
    /// As `remaining` octets behind BDAT; with a refusal they are thrown away and then answered with it.
    Bdat { remaining: u64, last: bool, refusal: Option<&'static Reply> },
    /// Not at all; by QUIT, or for another reason.
    Closed { quit: bool },
}

/// The call of the caller that the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    No,
    Verdict,
    Stored,
    Appended,
    Sender,
    Authenticated,
    Introduced,
    StartTls,
    /// The handshake.
    Secured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    None,
    Helo,
    Ehlo,
}

/// The server side of one SMTP connection.
#[derive(Debug)]
pub struct Session {
    context: Rc<Context>,
    transaction: Option<Box<Transaction>>,
    output: Output,
    /// Between AUTH and its end, and who it was then.
    authentication: Option<Box<auth::Authentication>>,
    /// The argument of HELO, EHLO or LHLO.
    hello_name: String,
    state: State,
    /// Octets at the front of the unconsumed input that hold no LF; for commands only.
    scanned: u32,
    errors: u32,
    transactions: u32,
    commands: u32,
    /// Commands since the last message that lead to none.
    junk_commands: u32,
    refused_recipients: u32,
    pause: Pause,
    hello: Hello,
    /// Under TLS.
    secure: bool,
    /// May say who its client is.
    trusted: bool,
    /// What the peer says about itself behind EHLO is not what it has said about its client.
    hello_is_fixed: bool,
    /// How the client of the peer has greeted it.
    hello_protocol: Option<Hello>,
    /// [`Event::Aborted`] is due.
    aborted: bool,
    /// The last MAIL was refused: what was pipelined behind it is out of sequence without the client being to blame.
    mail_refused: bool,
}

impl Session {
    /// A session on a new connection. Nothing is said before [`greet`](Self::greet) or
    /// [`close_with`](Self::close_with).
    pub fn new(context: Rc<Context>) -> Self {
        Self {
            context,
            transaction: None,
            output: Output::default(),
            authentication: None,
            hello_name: String::new(),
            state: State::Command,
            scanned: 0,
            errors: 0,
            transactions: 0,
            commands: 0,
            junk_commands: 0,
            refused_recipients: 0,
            pause: Pause::No,
            hello: Hello::None,
            secure: false,
            trusted: false,
            hello_is_fixed: false,
            hello_protocol: None,
            aborted: false,
            mail_refused: false,
        }
    }

    // RFC 5321 §3.1, §4.3.1: the greeting.
    /// Says 220.
    pub fn greet(&mut self) {
        // RFC 2033 §4.1: LMTP names itself.
        self.say(if self.context.kind() == Kind::Lmtp { Reply::READY_LMTP } else { Reply::READY });
    }

    /// Takes octets in and gives one event back.
    ///
    /// `input` is everything that has not been consumed yet, older octets first; the octets that were left over last
    /// time must be there again, unchanged, since the session remembers how far it has looked at them. The caller
    /// does what the event says, drops [`Progress::consumed`] octets and calls again, until
    /// [`Event::NeedInput`] (read more) or [`Event::Close`]. Many commands are worked off in one call; their replies
    /// pile up and are taken together by [`take_ready`](Self::take_ready).
    ///
    /// While an answer is owed ([`verdict`](Self::verdict), [`body_stored`](Self::body_stored),
    /// [`appended`](Self::appended)) a call does nothing and asks for input.
    pub fn advance<'i>(&mut self, input: &'i [u8]) -> Progress<'i> {
        let mut at = 0;
        if self.pause != Pause::No {
            debug_assert!(false, "an answer to the last event is owed");
            return Progress { consumed: 0, event: Event::NeedInput { hint: 0 } };
        }
        let event = loop {
            // Before anything of the next transaction is said.
            if std::mem::take(&mut self.aborted) {
                break Event::Aborted;
            }
            let event = match self.state {
                State::Command => self.next_command(input, &mut at),
                State::LongLine(reply) => self.drain_line(input, &mut at, reply),
                State::Response => self.next_response(input, &mut at),
                State::Data => self.next_data(input, &mut at),
                State::Bdat { remaining, last, refusal: None } => {
                    self.next_chunk(input, &mut at, remaining, last)
                }
                State::Bdat { remaining, last, refusal: Some(reply) } => {
                    self.drain_chunk(input, &mut at, remaining, last, reply)
                }
                State::Closed { .. } => Some(Event::Close),
            };
            if let Some(event) = event {
                break event;
            }
        };
        debug_assert!(at <= input.len());
        Progress { consumed: at, event }
    }

    /// The answer to [`Event::Recipient`].
    pub fn verdict(&mut self, verdict: Verdict) {
        if self.resume(Pause::Verdict) {
            self.recipient_verdict(verdict);
        }
    }

    /// The answer to [`Event::Body`]. After a failure the rest of the message is thrown away and answered with the reply
    /// of the failure, and [`Event::Aborted`] follows.
    pub fn body_stored(&mut self, stored: Result<(), AppendFailure>) {
        if !self.resume(Pause::Stored) {
            return;
        }
        if let Err(failure) = stored {
            self.spoil(failure.reply());
        }
    }

    /// The answer to [`Event::Message`]; ends the transaction. No [`Event::Aborted`] follows.
    pub fn appended(&mut self, appended: Result<Accepted<'_>, AppendFailure>) {
        if !self.resume(Pause::Appended) {
            return;
        }
        match appended {
            Ok(Accepted { gate, id }) => {
                debug_assert!(id.bytes().all(|b| b.is_ascii_graphic()));
                for _ in 0..self.final_replies() {
                    self.output.push_accepted(&self.context, gate, id);
                }
                self.junk_commands = 0;
            }
            Err(failure) => self.answer_message(failure.reply()),
        }
        self.finish_transaction();
        self.state = State::Command;
    }

    /// Everything appended up to `lsn` is durable: opens the gates up to there.
    pub fn durable(&mut self, lsn: u64) {
        self.output.durable(lsn);
    }

    /// The log has failed: nothing that is still gated will ever be durable. The first gated reply and all behind it
    /// are taken back, 421 4.3.0 takes their place (RFC 5321 §3.8: it may answer any command, and the client keeps
    /// its mail), and the session is over.
    pub fn fail_gated(&mut self) {
        if self.output.next_gate().is_some() {
            self.output.drop_gated();
            // Also behind a QUIT whose 221 has just been taken back.
            self.say(Reply::STORAGE_FAILED);
            self.close();
        }
    }

    /// Moves the replies that may leave now to the end of `out` and gives back how many octets that were.
    pub fn take_ready(&mut self, out: &mut Vec<u8>) -> usize {
        self.output.take_ready(&self.context, out)
    }

    /// True when [`take_ready`](Self::take_ready) has something to give.
    pub fn has_ready(&self) -> bool {
        self.output.ready() > 0
    }

    /// True when replies wait for a message to become durable.
    pub fn has_gated(&self) -> bool {
        self.output.next_gate().is_some()
    }

    /// The position in the log that the first gated reply waits for.
    pub fn next_gate(&self) -> Option<u64> {
        self.output.next_gate()
    }

    /// Ends the session from outside (timeout, shutdown, early talker …) with one last reply behind all others. The
    /// next [`advance`](Self::advance) gives [`Event::Aborted`] if mail data is to be thrown away, then
    /// [`Event::Close`]. Also lets go of an answer that is owed.
    pub fn close_with(&mut self, reply: &'static Reply) {
        if !self.is_closed() {
            self.say(reply);
            self.close();
        }
    }

    /// Whether the client has ended the session with QUIT, and has been told so.
    pub fn has_quit(&self) -> bool {
        self.state == State::Closed { quit: true }
    }

    /// The open transaction; an empty one when there is none.
    pub fn transaction(&self) -> &Transaction {
        self.transaction.as_deref().unwrap_or(&self.context.no_transaction)
    }

    /// The recipient of [`Event::Recipient`] while its verdict is owed.
    pub fn pending_recipient(&self) -> Option<Recipient<'_>> {
        if self.pause == Pause::Verdict { self.transaction().last_recipient() } else { None }
    }

    /// Where the session stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            _ if self.pause != Pause::No => Phase::Paused,
            State::Data | State::Bdat { .. } => Phase::MailData,
            _ if self.transaction.is_some() => Phase::Envelope,
            _ if self.hello == Hello::None => Phase::Greeting,
            _ => Phase::Ready,
        }
    }

    /// The name that the client gave in HELO or EHLO, unchecked; empty before. Only letters, digits and `-._:[]`.
    pub fn hello_name(&self) -> &str {
        &self.hello_name
    }

    // RFC 3848 §2, RFC 6531 §4.3: the `with` of the trace field.
    /// The protocol of the session and its open transaction: `SMTP`, or `ESMTP`, `LMTP`, `UTF8SMTP` or `UTF8LMTP`, then `S` under TLS, then
    /// `A` with an identity.
    pub fn protocol(&self) -> &'static str {
        let names = match (self.context.kind() == Kind::Lmtp, self.transaction().smtputf8()) {
            (false, false) => ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"],
            (false, true) => ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"],
            (true, false) => ["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
            (true, true) => ["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
        };
        let plain = self.hello_protocol.unwrap_or(self.hello) != Hello::Ehlo;
        match usize::from(self.secure) * 2 + usize::from(self.identity().is_some()) {
            0 if plain && names[0] == "ESMTP" => "SMTP",
            index => names[index],
        }
    }

    /// Transactions opened so far.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    /// Commands so far.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// Protocol errors so far.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Recipients refused for good so far.
    pub fn refused_recipients(&self) -> u32 {
        self.refused_recipients
    }

    /// What this session shares with the others of its listener.
    pub fn context(&self) -> &Context {
        &self.context
    }

    fn next_command<'i>(&mut self, input: &'i [u8], at: &mut usize) -> Option<Event<'i>> {
        if self.output.len() >= self.limits().output_octets_max as usize {
            return Some(Event::Output);
        }
        let rest = &input[*at..];
        // A TLS handshake record (RFC 8446 §5.1) on a port that speaks plain SMTP first.
        if self.hello == Hello::None && rest.starts_with(b"\x16\x03") {
            *at = input.len();
            self.close_with(Reply::NOT_SMTP);
            return None;
        }
        let octets_max = self.line_octets_max();
        match command::first_line(rest, (self.scanned as usize).min(rest.len()), octets_max) {
            Line::Incomplete => {
                // Bounded by `command_octets_max`.
                self.scanned = u32::try_from(rest.len()).unwrap_or(0);
                let hint = if rest.len() < 512 { 1024.min(octets_max) } else { octets_max };
                return Some(Event::NeedInput { hint });
            }
            Line::TooLong => {
                self.scanned = 0;
                self.state = State::LongLine(Reply::LINE_TOO_LONG);
            }
            Line::Broken { fault, octets } => {
                self.scanned = 0;
                *at += octets;
                self.refuse(match fault {
                    Fault::BareNewline => Reply::BARE_NEWLINE_COMMAND,
                    Fault::Nul => Reply::NUL_COMMAND,
                });
            }
            Line::Command { text, octets } => {
                self.scanned = 0;
                *at += octets;
                return self.execute(text, *at < input.len());
            }
        }
        None
    }

    // RFC 5321 §4.5.3.1.10: 500 for a line that is too long; it is thrown away up to its end.
    fn drain_line<'i>(
        &mut self,
        input: &'i [u8],
        at: &mut usize,
        reply: &'static Reply,
    ) -> Option<Event<'i>> {
        match memchr::memchr(b'\n', &input[*at..]) {
            Some(end) => {
                *at += end + 1;
                self.state = State::Command;
                self.refuse(reply);
                None
            }
            None => {
                *at = input.len();
                Some(Event::NeedInput { hint: self.limits().command_octets_max as usize })
            }
        }
    }

    /// Obeys one line; `more` stands behind it.
    fn execute<'i>(&mut self, line: &'i [u8], more: bool) -> Option<Event<'i>> {
        if line.is_empty() {
            self.refuse(Reply::EMPTY_COMMAND);
            return None;
        }
        let (verb, rest) = Verb::split(line);
        self.context.observer.command(verb, line);
        if let Err(reply) = self.afford(verb, more) {
            self.close_with(reply);
            return None;
        }
        match verb {
            Verb::Helo | Verb::Ehlo | Verb::Lhlo => self.hello(verb, rest),
            Verb::StartTls => return self.starttls(rest),
            Verb::Auth => return self.auth(rest),
            Verb::Xclient => return self.xclient(rest),
            // Not BDAT: its chunk has to be taken first, and without MAIL it leads nowhere.
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Vrfy if self.lacks_tls() => {
                self.refuse(Reply::TLS_REQUIRED);
            }
            Verb::Mail | Verb::Vrfy if self.lacks_identity() => self.refuse(Reply::AUTH_REQUIRED),
            Verb::Mail => return self.mail(rest),
            Verb::Rcpt => return self.rcpt(rest),
            Verb::Data => self.data(rest),
            Verb::Bdat => self.bdat(rest),
            Verb::Rset => self.rset(rest),
            Verb::Noop => self.say(Reply::OK),
            Verb::Vrfy => self.vrfy(rest),
            Verb::Help => self.say(Reply::HELP),
            Verb::Quit => self.quit(rest),
            // RFC 5321 §3.5.1, §7.3: EXPN is optional and nobody's business.
            Verb::Expn | Verb::NotOffered => self.refuse(Reply::NOT_IMPLEMENTED),
            // The rest of the request could hold lines that look like commands.
            Verb::Http => self.close_with(Reply::NOT_SMTP),
            Verb::Unknown => self.refuse(Reply::UNKNOWN_COMMAND),
        }
        None
    }

    /// Whether the session may have one more command of this kind, with more behind it.
    fn afford(&mut self, verb: Verb, more: bool) -> Result<(), &'static Reply> {
        let context = &*self.context;
        let limits = context.limits();
        self.commands = self.commands.saturating_add(1);
        if self.commands > limits.commands_max {
            return Err(Reply::TOO_MANY_COMMANDS);
        }
        self.junk_commands = self.junk_commands.saturating_add(u32::from(verb.leads_nowhere()));
        if self.junk_commands > limits.junk_commands_max {
            return Err(Reply::TOO_MANY_JUNK_COMMANDS);
        }
        // RFC 2920 §3.1: behind these the client waits; and where PIPELINING was not offered, behind every command.
        let waits = matches!(verb, Verb::Helo | Verb::Ehlo | Verb::Lhlo | Verb::Data | Verb::Auth);
        let may_go_on = self.hello == Hello::Ehlo || matches!(verb, Verb::Quit | Verb::StartTls | Verb::Http);
        if more && (waits || !may_go_on) {
            context.observer.unauthorized_pipelining();
            if context.unauthorized_pipelining() == UnauthorizedPipelining::Reject {
                return Err(Reply::UNAUTHORIZED_PIPELINING);
            }
        }
        Ok(())
    }

    fn limits(&self) -> &Limits {
        self.context.limits()
    }

    fn say(&mut self, reply: &'static Reply) {
        self.output.push(&self.context, reply);
    }

    /// A refusal that counts as an error of the client if it is one.
    // RFC 5321 §4.3.2, §3.8: 421 may answer any command when the connection has to go down.
    fn refuse(&mut self, reply: &'static Reply) {
        if reply.is_protocol_error() {
            self.refuse_counted(reply);
        } else {
            self.say(reply);
        }
    }

    /// A refusal that counts as an error of the client.
    fn refuse_counted(&mut self, reply: &'static Reply) {
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.limits().errors_max {
            self.close_with(Reply::TOO_MANY_ERRORS);
        } else {
            self.say(reply);
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn close(&mut self) {
        self.pause = Pause::No;
        self.drop_transaction();
        self.state = State::Closed { quit: false };
    }

    /// Ends a transaction that has come to its end.
    fn finish_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.context.give_transaction(transaction);
        }
    }

    /// Ends a transaction before its end.
    fn drop_transaction(&mut self) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.data.handed_out) {
            self.aborted = true;
        }
        self.finish_transaction();
    }

    fn resume(&mut self, expected: Pause) -> bool {
        // After `close_with` nothing is owed any more, and a late answer is no mistake.
        debug_assert!(self.pause == expected || self.is_closed(), "an answer nobody asked for");
        let right = self.pause == expected;
        if right {
            self.pause = Pause::No;
        }
        right
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.finish_transaction();
        self.output.give_back(&self.context);
    }
}

/// How large a buffer to ask for: twice what is there, so that a client that announces much and sends little costs
/// little.
fn grow(have: usize, want: usize) -> usize {
    want.min(have.saturating_mul(2).max(16 * 1024)).min(crate::INPUT_OCTETS_MAX)
}
