//! A caller of the session that keeps everything in memory: it holds the unconsumed input, answers the events and
//! collects the messages.
#![allow(dead_code, reason = "each test uses its part")]

use std::cell::RefCell;
use std::rc::Rc;

use inrush_proto::sasl::Credentials;
use inrush_proto::{
    Accepted, AppendFailure, Body, Context, Event, INPUT_OCTETS_MAX, Identity, Observe, PIECE_OCTETS_MAX,
    Path, Reply, Session, Tls, Transaction, Verb, Verdict,
};

/// Counts replies by their index, for everybody who holds a clone.
#[derive(Clone, Default)]
pub struct Counts(Rc<RefCell<Vec<u64>>>);

impl Counts {
    pub fn of(&self, reply: &'static Reply) -> u64 {
        self.0.borrow().get(reply.index()).copied().unwrap_or(0)
    }
}

impl Observe for Counts {
    fn reply(&self, reply: &'static Reply, _: &[u8]) {
        let mut counts = self.0.borrow_mut();
        counts.resize(Reply::ALL.len(), 0);
        counts[reply.index()] += 1;
    }

    fn command(&self, _: Verb, _: &[u8]) {}
}

/// A message as it reached the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub reverse_path: String,
    pub recipients: Vec<String>,
    pub body: Vec<u8>,
    pub properties: Vec<(&'static str, String)>,
}

/// What becomes of a message or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Taken,
    Failed(AppendFailure),
    /// Taken, but the log fails before it is durable.
    Lost,
}

/// The decisions of the outside world.
pub trait World {
    fn verdict(&mut self, recipient: Path<'_>) -> Verdict;
    /// A piece of the transaction with this number.
    fn store(&mut self, transaction: u32) -> Outcome;
    /// The message of the transaction with this number.
    fn append(&mut self, transaction: u32) -> Outcome;
    /// Whether there is TLS at the moment.
    fn tls(&mut self) -> Result<(), &'static Reply> {
        Ok(())
    }
    /// There is one user.
    fn authenticate(&mut self, credentials: &Credentials) -> Result<(), &'static Reply> {
        let right = credentials.name == USER && credentials.password.as_str() == PASSWORD;
        if right { Ok(()) } else { Err(Reply::AUTH_FAILED) }
    }
    /// Who may send as that user alone.
    fn sender(&mut self, identity: Option<&Identity>, path: Path<'_>) -> Verdict {
        let owned = identity.is_some_and(|identity| path.is_null() || path.as_str() == identity.name);
        if owned { Verdict::Accept } else { Verdict::Refuse(Reply::SENDER_NOT_OWNED) }
    }
}

/// Every recipient is there, and everything is taken.
pub struct Willing;

impl World for Willing {
    fn verdict(&mut self, _: Path<'_>) -> Verdict {
        Verdict::Accept
    }

    fn store(&mut self, _: u32) -> Outcome {
        Outcome::Taken
    }

    fn append(&mut self, _: u32) -> Outcome {
        Outcome::Taken
    }
}

/// The one who may log in.
pub const USER: &str = "joe@one.example";
/// What for.
pub const PASSWORD: &str = "secret";

/// How far one call of [`Caller::step`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more to do with the same input.
    Again,
    /// The session wants more input.
    NeedInput,
    /// The session waits until its replies have left.
    Output,
    /// The session is over.
    Closed,
}

/// One session with its unconsumed input.
pub struct Caller {
    pub session: Session,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub messages: Vec<Message>,
    /// Octets of buffer that the session has asked for last.
    pub hint: usize,
    /// Position in the log behind the last message.
    pub lsn: u64,
    /// Pieces of the message under way.
    spilled: Vec<u8>,
    handed_out: bool,
}

impl Caller {
    pub fn new(context: &Rc<Context>) -> Self {
        let mut session = Session::new(Rc::clone(context));
        if context.tls() == Tls::Implicit {
            session.secured();
        }
        session.greet();
        Self {
            session,
            input: Vec::new(),
            output: Vec::new(),
            messages: Vec::new(),
            hint: 1,
            lsn: 0,
            spilled: Vec::new(),
            handed_out: false,
        }
    }

    /// One event.
    pub fn step(&mut self, world: &mut impl World) -> Step {
        let progress = self.session.advance(&self.input);
        let consumed = progress.consumed;
        assert!(consumed <= self.input.len(), "consumed more than there was");
        let step = match progress.event {
            Event::NeedInput { hint } => {
                let left = self.input.len() - consumed;
                assert!(hint > left && hint <= INPUT_OCTETS_MAX, "hint {hint} with {left} octets left");
                self.hint = hint;
                Step::NeedInput
            }
            Event::Recipient(recipient) => {
                assert_eq!(self.session.pending_recipient(), Some(recipient));
                let verdict = world.verdict(recipient.path);
                self.session.verdict(verdict);
                Step::Again
            }
            Event::Body(body) => {
                self.handed_out = true;
                collect(body, &mut self.spilled);
                let outcome = world.store(self.session.transactions());
                self.session.body_stored(match outcome {
                    Outcome::Failed(failure) => Err(failure),
                    Outcome::Taken | Outcome::Lost => Ok(()),
                });
                Step::Again
            }
            Event::Message(body) => {
                let mut all = std::mem::take(&mut self.spilled);
                self.handed_out = false;
                collect(body, &mut all);
                match world.append(self.session.transactions()) {
                    Outcome::Failed(failure) => self.session.appended(Err(failure)),
                    outcome => {
                        self.messages.push(message(&self.session, all));
                        self.lsn += 64;
                        let id = format!("{:020X}", self.lsn);
                        self.session.appended(Ok(Accepted { gate: self.lsn, id: &id }));
                        if outcome == Outcome::Lost {
                            self.messages.pop();
                            self.session.fail_gated();
                        }
                    }
                }
                Step::Again
            }
            Event::Aborted => {
                assert!(self.handed_out, "nothing to throw away");
                self.handed_out = false;
                self.spilled.clear();
                Step::Again
            }
            Event::Sender(path) => {
                let verdict = world.sender(self.session.identity(), path);
                self.session.sender_verdict(verdict);
                Step::Again
            }
            Event::Authenticate(credentials) => {
                let answer = world.authenticate(&credentials);
                self.session.authenticated(answer);
                Step::Again
            }
            Event::Introduced(xclient) => {
                // As if no client were listed itself.
                self.session.introduced(&xclient, xclient.address.is_none());
                Step::Again
            }
            Event::StartTls => {
                let answer = world.tls();
                self.session.start_tls(answer);
                if answer.is_ok() {
                    self.session.secured();
                }
                Step::Again
            }
            Event::Output => Step::Output,
            Event::Close => {
                assert!(!self.handed_out, "the pieces of an open transaction are thrown away before the end");
                Step::Closed
            }
        };
        self.input.drain(..consumed);
        step
    }

    /// Everything so far is durable, and what may leave leaves.
    pub fn flush(&mut self) {
        self.session.durable(self.lsn);
        self.session.take_ready(&mut self.output);
    }

    /// New octets; goes on until more are needed. True when the session is over.
    pub fn feed(&mut self, octets: &[u8], world: &mut impl World) -> bool {
        self.input.extend_from_slice(octets);
        loop {
            match self.step(world) {
                Step::Again => {}
                Step::Output => self.flush(),
                Step::NeedInput => {
                    self.flush();
                    return false;
                }
                Step::Closed => {
                    self.flush();
                    return true;
                }
            }
        }
    }
}

fn collect(body: Body<'_>, into: &mut Vec<u8>) {
    let before = into.len();
    for piece in body.pieces() {
        assert!(!piece.is_empty());
        into.extend_from_slice(piece);
    }
    assert!(into.len() - before <= body.octets_max() && body.octets_max() <= PIECE_OCTETS_MAX);
}

fn message(session: &Session, body: Vec<u8>) -> Message {
    let transaction: &Transaction = session.transaction();
    let findings = transaction.findings();
    let first = transaction.recipients().next().expect("a message has a recipient");
    let properties = vec![
        ("smtputf8", transaction.smtputf8().to_string()),
        ("body", format!("{:?}", transaction.body_type())),
        ("size", format!("{:?}", transaction.size_declared())),
        ("ret", format!("{:?}", transaction.ret())),
        ("envid", transaction.envelope_id().to_owned()),
        ("notify", first.notify.bits().to_string()),
        ("orcpt", first.original.to_owned()),
        ("requiretls", transaction.requiretls().to_string()),
        ("protocol", session.protocol().to_owned()),
        ("hello", session.hello_name().to_owned()),
        ("identity", session.identity().map_or_else(String::new, |identity| identity.name.clone())),
        ("chunking", transaction.chunking().to_string()),
        ("hops", transaction.hops().to_string()),
        ("header", transaction.header_octets().to_string()),
        ("octets", transaction.message_octets().to_string()),
        ("nul", findings.nul.to_string()),
        ("eight_bit", findings.eight_bit.to_string()),
        ("bare", (findings.bare_cr || findings.bare_lf).to_string()),
        ("longest_line", findings.longest_line.to_string()),
    ];
    Message {
        reverse_path: transaction.reverse_path().as_str().to_owned(),
        recipients: transaction.recipients().map(|recipient| recipient.path.as_str().to_owned()).collect(),
        body,
        properties,
    }
}

/// Random numbers from a seed (SplitMix64, Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
