//! The client session: which command may be sent now, and which command a reply belongs to.
//!
//! ```text
//!            220            250           take_step / advance, per transaction:
//!  Greeting ────▶ Hello ──────────▶ Ready   Mail ─▶ Recipient 0..n ─▶ Data ─354─▶ Body ─▶ final reply
//!     │ 4yz 5yz     │ 5yz: HELO      │                            └▶ Chunk … ─▶ Chunk (last) ─▶ final reply
//!     └──────────┬──┘                │ QUIT, 221, 421 anywhere, a reply that cannot be
//!                ▼                   ▼
//!              Closed ◀──────────────┘
//! ```
//! Replies come in the order of the commands (RFC 2920 §3.1), so a queue of what was sent names the owner of each reply.
//! The queue holds only what this side sent: a server cannot make it grow.
//!
//! Standards: RFC 5321 §4.1.4 (order), §3.2 (HELO after a refused EHLO), §3.8 (421), RFC 2920 §3.1 (what may be grouped),
//! RFC 3030 §2 (BDAT), RFC 2033 §4.2 (one final reply per recipient).

use std::collections::VecDeque;
use std::fmt;

use super::extensions::Extensions;
use super::reply::{REPLY_TEXT_KEPT_MAX, Reply, ReplyError, ReplyLines, Severity};

/// SMTP or LMTP (RFC 2033).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One final reply per transaction.
    Smtp,
    /// One final reply per accepted recipient; LHLO only.
    Lmtp,
}

/// Whether commands are sent in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    /// One command, one reply.
    Off,
    /// As RFC 2920 §3.1 allows, where the server offers it.
    Auto,
    /// As RFC 2920 §3.1 allows, offered or not: for tests of servers.
    Force,
}

/// How the mail data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// DATA (RFC 5321 §4.1.1.4).
    Data,
    /// BDAT (RFC 3030 §2). The caller looks at [`Extensions::chunking`].
    Chunks,
}

/// The greeting command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// RFC 5321 §4.1.1.1.
    Ehlo,
    /// RFC 5321 §4.1.1.1, after a refused EHLO.
    Helo,
    /// RFC 2033 §4.1.
    Lhlo,
}

/// What the caller writes next. A step that [`Session::take_step`] returned counts as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`write_hello`](super::write_hello).
    Hello(Hello),
    /// [`write_mail`](super::write_mail) of this transaction.
    Mail(u64),
    /// [`write_recipient`](super::write_recipient): transaction, index of the recipient.
    Recipient(u64, u32),
    /// `DATA`.
    Data,
    /// Mail data with its end-of-data indication; with `empty`, only the indication: the server said 354 although it
    /// took no recipient (RFC 2920 §3.1).
    Body {
        /// Transaction.
        transaction: u64,
        /// Send no text.
        empty: bool,
    },
    /// [`write_chunk`](super::write_chunk) and its octets, then [`Session::chunk_sent`].
    Chunk(u64),
    /// `STARTTLS`; nothing is sent behind it until its reply is there.
    StartTls,
    /// `RSET`.
    Reset,
    /// `QUIT`.
    Quit,
}

/// The command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// None: the greeting of the server.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello(Hello),
    /// STARTTLS. When it was completed, the handshake follows, then [`Session::secured`].
    StartTls,
    /// MAIL.
    Mail,
    /// RCPT: index of the recipient.
    Recipient(u32),
    /// DATA: go on or not.
    Data,
    /// A BDAT that was not the last.
    Chunk,
    /// The end of the mail data, DATA or BDAT LAST: the verdict on the transaction.
    Final,
    /// The same in LMTP, about this recipient.
    FinalFor(u32),
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

/// A reply and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The command.
    pub command: Command,
    /// Its transaction; 0 for commands outside of one.
    pub transaction: u64,
    /// The reply.
    pub reply: Reply<'a>,
    /// Recipients of the transaction that the server has taken so far. A positive [`Command::Final`] with 0 here delivered nothing.
    pub recipients_accepted: u32,
    /// The transaction is over; no further answer about it will come.
    pub end: bool,
}

/// What [`Session::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All of the input is used, or it ends within a line.
    NeedInput,
    /// A reply to a command.
    Answer(Answer<'a>),
    /// 421 (RFC 5321 §3.8), a refused greeting or EHLO, or the reply to QUIT: close the connection. Transactions without a final
    /// reply are undecided and must be tried again.
    Closing(Answer<'a>),
    /// The server left the protocol: close the connection. As for `Closing`.
    Failed(ProtocolError),
}

/// One event, and how much input it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Octets that the caller drops from the head of its input.
    pub consumed: usize,
    /// The event.
    pub event: Event<'a>,
}

/// Why the conversation cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Not a reply.
    Reply(ReplyError),
    /// A reply that no command asked for.
    Unsolicited {
        /// Its code.
        code: u16,
    },
    /// A code that cannot answer this command, e.g. 354 to MAIL.
    UnexpectedCode {
        /// The command.
        command: Command,
        /// The code.
        code: u16,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(error) => error.fmt(f),
            Self::Unsolicited { code } => write!(f, "unsolicited reply {code}"),
            Self::UnexpectedCode { command, code } => write!(f, "unexpected reply {code} to {command:?}"),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    /// This hello is to be sent, or its reply is awaited.
    Hello(Hello),
    Ready,
    Closed,
}

/// How far a transaction has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Mail,
    Recipient(u32),
    Data,
    /// DATA is sent, 354 not yet seen.
    AwaitGoAhead,
    Body,
    Chunk,
    Done,
}

#[derive(Debug)]
struct Transaction {
    recipients: u32,
    transfer: Transfer,
    cursor: Cursor,
    /// Replies still due for it.
    replies_due: u32,
    recipients_answered: u32,
    recipients_accepted: u32,
    /// The server has the transaction open: MAIL was taken and no end came.
    open_at_server: bool,
    /// LMTP: indices of accepted recipients, in order; unused in SMTP.
    accepted: Vec<u32>,
    /// LMTP: final replies seen.
    finals: u32,
}

impl Transaction {
    /// How many replies this command gets.
    fn replies_to(&self, command: Command, protocol: Protocol) -> u32 {
        // RFC 2033 §4.2: one final reply for each accepted recipient; their number is known, since the replies to RCPT are all
        // here before the end of the data leaves. Without any there is a single refusal.
        match (command, protocol) {
            (Command::Final, Protocol::Lmtp) => self.recipients_accepted.max(1),
            _ => 1,
        }
    }
}

/// A command on its way: its reply is due.
#[derive(Clone, Copy, Debug)]
struct Sent {
    command: Command,
    transaction: u64,
}

/// The client side of one connection. See the [module](super).
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    pipelining: Pipelining,
    state: State,
    extensions: Extensions,
    lines: ReplyLines,
    /// Text of the reply of several lines that is under way.
    text: Vec<u8>,
    sent: VecDeque<Sent>,
    transactions: VecDeque<Transaction>,
    /// Number of the front of `transactions`.
    front: u64,
    start_tls_due: bool,
    reset_due: bool,
    quit_due: bool,
}

impl Session {
    /// A connection that was just made; the greeting is awaited.
    #[must_use]
    pub fn new(protocol: Protocol, pipelining: Pipelining) -> Self {
        Self {
            protocol,
            pipelining,
            state: State::Greeting,
            extensions: Extensions::default(),
            lines: ReplyLines::default(),
            text: Vec::new(),
            sent: VecDeque::new(),
            transactions: VecDeque::new(),
            front: 1,
            start_tls_due: false,
            reset_due: false,
            quit_due: false,
        }
    }

    /// Back to the state of [`Session::new`], keeping its memory: for the next connection.
    pub fn restart(&mut self) {
        let (mut text, mut sent) = (std::mem::take(&mut self.text), std::mem::take(&mut self.sent));
        let mut transactions = std::mem::take(&mut self.transactions);
        text.clear();
        sent.clear();
        transactions.clear();
        *self = Self { text, sent, transactions, ..Self::new(self.protocol, self.pipelining) };
    }

    /// Asks for STARTTLS, before the first transaction; the caller looks at [`Extensions::starttls`]. No transaction can begin until its
    /// reply is there.
    pub fn start_tls(&mut self) {
        self.start_tls_due = true;
    }

    /// The connection is under TLS now: what the server said before is forgotten, and the greeting command is sent again (RFC 3207 §4.2). Octets
    /// that came behind the reply to STARTTLS must not be given to [`Session::advance`].
    pub fn secured(&mut self) {
        self.extensions = Extensions::default();
        self.lines = ReplyLines::default();
        self.text.clear();
        self.state = State::Hello(match self.protocol {
            Protocol::Smtp => Hello::Ehlo,
            Protocol::Lmtp => Hello::Lhlo,
        });
    }

    /// Takes one event from `input` = octets not consumed earlier, then new ones. Call again with the rest until
    /// [`Event::NeedInput`].
    pub fn advance<'a>(&'a mut self, input: &'a [u8]) -> Progress<'a> {
        let mut consumed = 0;
        if self.state == State::Closed {
            // What a server says behind its 221 or 421 concerns nobody.
            return Progress { consumed: input.len(), event: Event::NeedInput };
        }
        loop {
            let line = match self.lines.next(&input[consumed..]) {
                Ok(Some(line)) => line,
                Ok(None) => return Progress { consumed, event: Event::NeedInput },
                Err(error) => return self.fail(consumed, ProtocolError::Reply(error)),
            };
            consumed += line.octets;
            // RFC 5321 §4.1.1.1: the first line of the reply names the server, the others one extension each.
            let answers_ehlo = matches!(
                self.sent.front(),
                Some(Sent { command: Command::Hello(Hello::Ehlo | Hello::Lhlo), .. })
            );
            if answers_ehlo && !line.first && line.code == 250 {
                self.extensions.add_line(line.text);
            }
            if line.first {
                self.text.clear();
            }
            if line.last && line.first {
                // The usual case: the text is a slice of the input.
                return match self.answer(line.code) {
                    Err(error) => self.fail(consumed, error),
                    Ok(outcome) => outcome.progress(consumed, Reply { code: line.code, text: line.text }),
                };
            }
            if !line.first {
                self.keep(b"\n");
            }
            self.keep(line.text);
            if line.last {
                return match self.answer(line.code) {
                    Err(error) => self.fail(consumed, error),
                    Ok(outcome) => outcome.progress(consumed, Reply { code: line.code, text: &self.text }),
                };
            }
        }
    }

    /// The next thing to send, or None when replies must come first (or there is nothing to do). Call until None, then send
    /// everything in one write.
    pub fn take_step(&mut self) -> Option<Step> {
        let step = self.next_step()?;
        let number = self.front + (self.transactions.len() as u64).saturating_sub(1);
        let mut command = None;
        match step {
            Step::Hello(hello) => command = Some(Command::Hello(hello)),
            Step::StartTls => {
                self.start_tls_due = false;
                command = Some(Command::StartTls);
            }
            Step::Reset => {
                self.reset_due = false;
                command = Some(Command::Reset);
            }
            Step::Quit => {
                self.quit_due = false;
                command = Some(Command::Quit);
            }
            Step::Chunk(_) => return Some(step),
            Step::Mail(_) | Step::Recipient(..) | Step::Data | Step::Body { .. } => {}
        }
        if let Some(command) = command {
            self.sent.push_back(Sent { command, transaction: 0 });
            return Some(step);
        }
        let transaction = self.transactions.back_mut()?;
        let (command, next) = match step {
            Step::Mail(_) => (Command::Mail, Cursor::Recipient(0)),
            Step::Recipient(_, index) => {
                let next = if index + 1 < transaction.recipients {
                    Cursor::Recipient(index + 1)
                } else if transaction.transfer == Transfer::Data {
                    Cursor::Data
                } else {
                    Cursor::Chunk
                };
                (Command::Recipient(index), next)
            }
            Step::Data => (Command::Data, Cursor::AwaitGoAhead),
            _ => (Command::Final, Cursor::Done),
        };
        transaction.cursor = next;
        transaction.replies_due += transaction.replies_to(command, self.protocol);
        self.sent.push_back(Sent { command, transaction: number });
        Some(step)
    }

    /// The chunk that [`Step::Chunk`] asked for is written.
    pub fn chunk_sent(&mut self, last: bool) {
        let number = self.front + (self.transactions.len() as u64).saturating_sub(1);
        let Some(transaction) = self.transactions.back_mut() else { return };
        debug_assert_eq!(transaction.cursor, Cursor::Chunk);
        let command = if last { Command::Final } else { Command::Chunk };
        transaction.replies_due += transaction.replies_to(command, self.protocol);
        if last {
            transaction.cursor = Cursor::Done;
        }
        self.sent.push_back(Sent { command, transaction: number });
    }

    /// Opens a transaction with this many recipients (at least one); its steps follow from [`Session::take_step`].
    /// Returns its number. Only while [`Session::can_begin`].
    pub fn begin(&mut self, recipients: u32, transfer: Transfer) -> u64 {
        debug_assert!(self.can_begin());
        debug_assert!(recipients > 0);
        // RFC 3030 §2: a refused BDAT leaves its transaction undefined; where it is left open, what follows joins the old reverse-path.
        self.reset_due |= self.transactions.back().is_some_and(|last| last.transfer == Transfer::Chunks);
        self.transactions.push_back(Transaction {
            recipients,
            transfer,
            cursor: Cursor::Mail,
            replies_due: 0,
            recipients_answered: 0,
            recipients_accepted: 0,
            open_at_server: false,
            accepted: Vec::new(),
            finals: 0,
        });
        self.front + self.transactions.len() as u64 - 1
    }

    /// The greeting is over, no QUIT was asked for, and the transaction before is wholly sent (with pipelining) or over.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.state == State::Ready
            && !(self.quit_due || self.start_tls_due)
            && !matches!(self.sent.back(), Some(Sent { command: Command::Quit | Command::StartTls, .. }))
            && match self.transactions.back() {
                None => true,
                Some(last) => self.is_pipelining() && last.cursor == Cursor::Done,
            }
    }

    /// Asks for QUIT once everything begun is sent. No transaction can begin any more.
    pub fn quit(&mut self) {
        self.quit_due = true;
    }

    /// Commands go in groups on this connection.
    #[must_use]
    pub fn is_pipelining(&self) -> bool {
        match self.pipelining {
            Pipelining::Off => false,
            Pipelining::Auto => self.extensions.pipelining,
            Pipelining::Force => true,
        }
    }

    /// What the server offers; empty before the EHLO reply and after HELO.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Transactions begun and not over.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.transactions.len()
    }

    /// The greeting and EHLO are done, and the connection is not closing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn next_step(&self) -> Option<Step> {
        match self.state {
            State::Greeting | State::Closed => return None,
            State::Hello(hello) => return self.sent.is_empty().then_some(Step::Hello(hello)),
            State::Ready => {}
        }
        if let Some(last) = self.sent.back() {
            // RFC 2920 §3.1, RFC 3207 §4: EHLO, DATA, STARTTLS and QUIT end a group.
            if !self.is_pipelining()
                || matches!(
                    last.command,
                    Command::Data | Command::Hello(_) | Command::StartTls | Command::Quit
                )
            {
                return None;
            }
        }
        if self.start_tls_due && self.transactions.is_empty() {
            return Some(Step::StartTls);
        }
        if self.reset_due {
            return Some(Step::Reset);
        }
        let number = self.front + (self.transactions.len() as u64).saturating_sub(1);
        if let Some(transaction) = self.transactions.back() {
            match transaction.cursor {
                Cursor::Mail => return Some(Step::Mail(number)),
                Cursor::Recipient(index) => return Some(Step::Recipient(number, index)),
                Cursor::Data => return Some(Step::Data),
                Cursor::AwaitGoAhead => return None,
                Cursor::Body => {
                    return Some(Step::Body {
                        transaction: number,
                        empty: transaction.recipients_accepted == 0,
                    });
                }
                // RFC 2033 §4.2 with BDAT: the count of final replies must be known before the last chunk leaves.
                Cursor::Chunk
                    if self.protocol == Protocol::Lmtp
                        && transaction.recipients_answered < transaction.recipients =>
                {
                    return None;
                }
                Cursor::Chunk => return Some(Step::Chunk(number)),
                Cursor::Done => {}
            }
        }
        self.quit_due.then_some(Step::Quit)
    }

    /// Books a reply of this code to the oldest command on its way.
    fn answer(&mut self, code: u16) -> Result<Outcome, ProtocolError> {
        let sent = if self.state == State::Greeting {
            Sent { command: Command::Greeting, transaction: 0 }
        } else if let Some(sent) = self.sent.pop_front() {
            sent
        } else if code == 421 {
            // RFC 5321 §3.8: a server may say 421 at any time, also to nobody.
            Sent { command: Command::Quit, transaction: 0 }
        } else {
            return Err(ProtocolError::Unsolicited { code });
        };
        let outcome = Outcome {
            command: sent.command,
            transaction: sent.transaction,
            recipients_accepted: 0,
            end: false,
            closing: false,
        };
        let severity = Reply { code, text: b"" }.severity();
        // RFC 5321 §4.2.1: 3yz answers DATA only; and DATA is never completed at once.
        let fits = match sent.command {
            Command::Data => severity != Severity::Completed,
            _ => severity != Severity::Intermediate,
        };
        if !fits {
            return Err(ProtocolError::UnexpectedCode { command: sent.command, code });
        }
        if code == 421 {
            self.state = State::Closed;
            return Ok(Outcome { closing: true, ..outcome });
        }
        let completed = severity == Severity::Completed;
        match sent.command {
            Command::Greeting | Command::Hello(_) => {
                let closing = !self.greeted(sent.command, severity);
                Ok(Outcome { closing, ..outcome })
            }
            Command::Reset | Command::StartTls => Ok(outcome),
            Command::Quit => {
                self.state = State::Closed;
                Ok(Outcome { closing: true, ..outcome })
            }
            _ => Ok(self.answer_in_transaction(
                outcome,
                completed,
                code == 354 || severity == Severity::Intermediate,
            )),
        }
    }

    /// Moves on from the greeting or a hello; false when the server does not want us.
    fn greeted(&mut self, command: Command, severity: Severity) -> bool {
        let next = match (command, severity) {
            (Command::Greeting, Severity::Completed) => match self.protocol {
                Protocol::Smtp => State::Hello(Hello::Ehlo),
                Protocol::Lmtp => State::Hello(Hello::Lhlo),
            },
            (Command::Hello(_), Severity::Completed) => State::Ready,
            // RFC 5321 §3.2: a server that does not know EHLO may know HELO.
            (Command::Hello(Hello::Ehlo), Severity::Permanent) => State::Hello(Hello::Helo),
            _ => State::Closed,
        };
        self.state = next;
        next != State::Closed
    }

    fn answer_in_transaction(&mut self, mut outcome: Outcome, completed: bool, go_ahead: bool) -> Outcome {
        let lmtp = self.protocol == Protocol::Lmtp;
        let index = outcome.transaction.wrapping_sub(self.front);
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        let is_last = position + 1 == self.transactions.len();
        let Some(transaction) = self.transactions.get_mut(position) else {
            debug_assert!(false, "a command on its way belongs to a transaction that is not over");
            return outcome;
        };
        debug_assert!(transaction.replies_due > 0);
        transaction.replies_due -= 1;
        let mut failed = false;
        match outcome.command {
            Command::Mail if completed => transaction.open_at_server = true,
            Command::Recipient(recipient) => {
                transaction.recipients_answered += 1;
                if completed {
                    transaction.recipients_accepted += 1;
                    if lmtp {
                        transaction.accepted.push(recipient);
                    }
                }
                failed = transaction.recipients_answered == transaction.recipients
                    && transaction.recipients_accepted == 0;
            }
            Command::Data if go_ahead => transaction.cursor = Cursor::Body,
            Command::Chunk if completed => {}
            Command::Final => {
                let finals = &mut transaction.finals;
                if lmtp && transaction.recipients_accepted > 0 {
                    if let Some(&recipient) = transaction.accepted.get(*finals as usize) {
                        outcome.command = Command::FinalFor(recipient);
                    }
                    *finals += 1;
                    if *finals < transaction.recipients_accepted {
                        // The next final reply belongs to the same command.
                        self.sent
                            .push_front(Sent { command: Command::Final, transaction: outcome.transaction });
                    }
                }
                // RFC 5321 §4.1.1.4: the end of mail data ends the transaction, taken or not. RFC 3030 §2: a BDAT that was refused
                // leaves it undefined.
                if completed || transaction.transfer == Transfer::Data {
                    transaction.open_at_server = false;
                }
            }
            _ => failed = true,
        }
        // After a refusal nothing more of it is sent. A DATA that is on its way may still be answered with 354; the
        // body is then empty.
        if failed && (outcome.command == Command::Data || transaction.cursor != Cursor::AwaitGoAhead) {
            transaction.cursor = Cursor::Done;
        }
        outcome.recipients_accepted = transaction.recipients_accepted;
        outcome.end = transaction.replies_due == 0 && transaction.cursor == Cursor::Done;
        if outcome.end {
            debug_assert_eq!(position, 0, "replies come in order, so transactions end in order");
            let next_is_unsent = self.transactions.get(1).is_none_or(|next| next.cursor == Cursor::Mail);
            if let Some(ended) = self.transactions.pop_front() {
                self.front += 1;
                // With the next transaction already on the wire a RSET would end that one instead; it went ahead of its MAIL.
                self.reset_due |= ended.open_at_server && (is_last || next_is_unsent);
            }
        }
        outcome
    }

    /// Keeps text of a reply of several lines, up to the bound.
    fn keep(&mut self, text: &[u8]) {
        let room = REPLY_TEXT_KEPT_MAX - self.text.len();
        self.text.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn fail(&mut self, consumed: usize, error: ProtocolError) -> Progress<'static> {
        self.state = State::Closed;
        Progress { consumed, event: Event::Failed(error) }
    }
}

/// An answer without its reply: what the state machine decided.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    command: Command,
    transaction: u64,
    recipients_accepted: u32,
    end: bool,
    closing: bool,
}

impl Outcome {
    fn progress(self, consumed: usize, reply: Reply<'_>) -> Progress<'_> {
        let Self { command, transaction, recipients_accepted, end, closing } = self;
        let answer = Answer { command, transaction, reply, recipients_accepted, end };
        Progress { consumed, event: if closing { Event::Closing(answer) } else { Event::Answer(answer) } }
    }
}
