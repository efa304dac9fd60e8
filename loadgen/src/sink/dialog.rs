//! The sink's side of a session, without I/O: octets in, replies and pauses out.
//!
//! As much of the protocol as a client needs to be served: the order of commands, pipelining, DATA and BDAT, a reply for each recipient in LMTP.
//! Addresses are not judged, since a sink takes everything. The gateway's own session says fixed replies and cannot be told to say
//! others, which is what this one is for.
//!
//! Standards: RFC 5321 §4.1, RFC 2033 (LMTP), RFC 2920 (pipelining), RFC 3030 §2 (BDAT), RFC 1870 §6 (SIZE).

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use inrush_scan::Scanner;
use memchr::memchr;

use super::script::{Act, Decision, Dice, Moment, Rules};
use super::statistics::Statistics;

/// Longest command line.
const COMMAND_OCTETS_MAX: usize = 16 * 1024;

/// Largest message that is kept when no SIZE is said.
pub(super) const KEPT_OCTETS_MAX: u64 = 100 << 20;
/// Most recipients of a message; RFC 5321 §4.5.3.1.8 asks for 100.
const RECIPIENTS_MAX: usize = 100_000;
/// Most octets of them that are kept.
const RECIPIENT_OCTETS_MAX: usize = 16 << 20;

/// Ids of messages on one core: no two are the same, also after a restart, since they count from the microsecond of the start and no sink takes a million
/// messages a second for long.
#[derive(Debug)]
pub(super) struct Ids {
    next: Cell<u64>,
    step: u64,
}

impl Ids {
    /// Of core `core` of `cores`; `start_us`: the sink's start, microseconds since 1970.
    pub(super) fn new(start_us: u64, core: u64, cores: u64) -> Self {
        Self { next: Cell::new(start_us + core), step: cores }
    }

    fn take(&self) -> u64 {
        self.next.replace(self.next.get() + self.step)
    }
}

/// What all sessions of a core share.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) lmtp: bool,
    pub(super) replies: Replies,
    /// EHLO is known.
    pub(super) esmtp: bool,
    pub(super) chunking: bool,
    pub(super) size_max: Option<u64>,
    pub(super) enhanced: bool,
    pub(super) rules: Rules,
    /// After 354, before anything more is read.
    pub(super) data_pause: Option<Duration>,
    /// After 354: refuse and close.
    pub(super) data_abort: Option<(Duration, String)>,
    /// Mail data is wanted.
    pub(super) keep: bool,
    /// Largest message that is kept.
    pub(super) kept_max: u64,
}

/// What is usually said, with CRLF.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) greeting: Vec<u8>,
    pub(super) ehlo: Vec<u8>,
    pub(super) helo: Vec<u8>,
    pub(super) sender: Vec<u8>,
    pub(super) recipient: Vec<u8>,
    pub(super) ok: Vec<u8>,
}

/// To DATA.
const DATA: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Send the replies, read more.
    Input,
    /// Send the replies, wait, call [`Dialog::resume`].
    Pause(Duration),
    /// A message is complete, see [`Dialog::message`]; then go on.
    Message,
    /// Send the replies, close.
    Close,
    /// Send the replies, say nothing more.
    Stall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Command,
    Data,
    /// Octets of BDAT; refused: they are thrown away and answered with 503.
    Chunk {
        left: u64,
        last: bool,
        refused: bool,
    },
}

/// What is said after a pause.
#[derive(Debug)]
struct After {
    delay: Duration,
    reply: Vec<u8>,
    want: Want,
}

/// A session.
#[derive(Debug)]
pub(super) struct Dialog {
    manner: Rc<Manner>,
    statistics: Arc<Statistics>,
    dice: Dice,
    state: State,
    scanner: Scanner,
    /// Replies to send.
    pub(super) out: Vec<u8>,
    after: VecDeque<After>,
    hello: Vec<u8>,
    esmtp: bool,
    /// Argument of MAIL; None: no transaction.
    sender: Option<Vec<u8>>,
    /// Arguments of the accepted RCPTs.
    recipients: Vec<Vec<u8>>,
    recipient_octets: usize,
    octets: u64,
    body: Vec<u8>,
    /// What was decided about the message that is being stored.
    finals: Vec<Decision>,
    ids: Rc<Ids>,
    /// Of the message that is being stored.
    id: u64,
}

/// A message that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) id: u64,
    pub(super) hello: &'a [u8],
    pub(super) esmtp: bool,
    pub(super) sender: &'a [u8],
    pub(super) recipients: &'a [Vec<u8>],
    /// As it was sent, dots removed.
    pub(super) body: &'a [u8],
}

impl Dialog {
    /// A session; `number` is unique in the sink.
    pub(super) fn new(
        manner: Rc<Manner>,
        statistics: Arc<Statistics>,
        ids: Rc<Ids>,
        seed: u64,
        number: u64,
    ) -> Self {
        Self {
            manner,
            statistics,
            dice: Dice::new(seed, number),
            state: State::Command,
            scanner: Scanner::new(),
            out: Vec::with_capacity(512),
            after: VecDeque::new(),
            hello: Vec::new(),
            esmtp: false,
            sender: None,
            recipients: Vec::new(),
            recipient_octets: 0,
            octets: 0,
            body: Vec::new(),
            finals: Vec::new(),
            ids,
            id: 0,
        }
    }

    /// The greeting.
    pub(super) fn greet(&mut self) -> Want {
        let manner = Rc::clone(&self.manner);
        match self.answered(Moment::Connect, &manner.replies.greeting, Want::Input) {
            // RFC 5321 §3.1: who is not welcome is told so; what would follow are refusals only.
            (true, Want::Input) => Want::Close,
            (true, Want::Pause(time)) => {
                self.after.iter_mut().for_each(|after| after.want = Want::Close);
                Want::Pause(time)
            }
            (_, want) => want,
        }
    }

    /// After [`Want::Pause`].
    pub(super) fn resume(&mut self) -> Want {
        let Some(after) = self.after.pop_front() else { return Want::Input };
        self.out.extend_from_slice(&after.reply);
        match self.after.front() {
            Some(next) if after.want == Want::Input => Want::Pause(next.delay),
            _ => after.want,
        }
    }

    /// The message of [`Want::Message`].
    pub(super) fn message(&self) -> Message<'_> {
        Message {
            id: self.id,
            hello: &self.hello,
            esmtp: self.esmtp,
            sender: self.sender.as_deref().unwrap_or_default(),
            recipients: &self.recipients,
            body: &self.body,
        }
    }

    /// After [`Want::Message`]: whether it was stored. Ends the transaction.
    pub(super) fn stored(&mut self, stored: bool) -> Want {
        let usual = if stored {
            let accepted = self.finals.iter().filter(|decision| !is_refusal(decision.act.as_ref())).count();
            self.statistics
                .message(self.octets, if self.manner.lmtp { accepted } else { self.recipients.len() });
            format!("250 {}Ok: queued as {:015X}\r\n", self.code("2.0.0 "), self.id)
        } else {
            self.statistics.not_stored();
            format!("452 {}cannot store\r\n", self.code("4.3.1 "))
        };
        self.finish(usual.as_bytes())
    }

    /// Says what was decided about the message; `usual` where nothing was.
    fn finish(&mut self, usual: &[u8]) -> Want {
        let mut want = Want::Input;
        let mut delay = Duration::ZERO;
        let mut replies = Vec::new();
        for decision in std::mem::take(&mut self.finals) {
            delay += decision.delay;
            want = self.act(decision.act, usual, &mut replies);
            if want != Want::Input {
                break;
            }
        }
        self.reset();
        self.hold(delay, replies, want)
    }

    /// Takes octets: how many were used, and what to do.
    pub(super) fn advance(&mut self, input: &[u8]) -> (usize, Want) {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let (used, want) = match self.state {
                State::Command => match memchr(b'\n', rest) {
                    None if rest.len() > COMMAND_OCTETS_MAX => {
                        self.out.extend_from_slice(b"500 5.5.2 line too long\r\n");
                        (rest.len(), Some(Want::Close))
                    }
                    None => return (at, Want::Input),
                    Some(end) => {
                        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                        (end + 1, self.command(line))
                    }
                },
                State::Data if rest.is_empty() => return (at, Want::Input),
                State::Data => self.data(rest),
                State::Chunk { left, .. } if rest.is_empty() && left > 0 => return (at, Want::Input),
                State::Chunk { left, last, refused } => self.chunk(rest, left, last, refused),
            };
            at += used;
            match want {
                None | Some(Want::Input) => {}
                Some(want) => return (at, want),
            }
        }
    }

    fn data(&mut self, rest: &[u8]) -> (usize, Option<Want>) {
        let end = self.scanner.scan_data(rest);
        let used = end.unwrap_or(rest.len());
        self.keep(&rest[..used]);
        if end.is_none() {
            return (used, None);
        }
        let findings = self.scanner.findings();
        self.octets = findings.octets - findings.dot_lines;
        if self.manner.keep {
            // `.CRLF`, the end.
            self.body.truncate(self.body.len().saturating_sub(3));
            if findings.dot_lines > 0 {
                remove_dots(&mut self.body);
            }
        }
        self.state = State::Command;
        (used, Some(self.complete(false)))
    }

    /// Keeps octets of the message, where it is wanted and not too large already.
    fn keep(&mut self, octets: &[u8]) {
        if !self.manner.keep {
            return;
        }
        // Dots may make mail data longer by a third; what is longer than twice the bound is refused at its end.
        let most = self.manner.kept_max.saturating_mul(2).saturating_add(3);
        if (self.body.len() + octets.len()) as u64 > most {
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(octets);
        }
    }

    fn chunk(&mut self, rest: &[u8], left: u64, last: bool, refused: bool) -> (usize, Option<Want>) {
        let used = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - used as u64;
        if !refused {
            self.octets = self.octets.saturating_add(used as u64);
            self.keep(&rest[..used]);
        }
        if left > 0 {
            self.state = State::Chunk { left, last, refused };
            return (used, None);
        }
        self.state = State::Command;
        if refused {
            return (used, Some(self.say("503", "5.5.1", "no valid recipients")));
        }
        if last {
            self.statistics.command(Moment::Bdat);
            return (used, Some(self.complete(true)));
        }
        let reply = format!("250 {}octets received\r\n", self.code("2.0.0 "));
        (used, Some(self.answer(Moment::Bdat, reply.as_bytes())))
    }

    /// The end of the mail data; by BDAT LAST, rules for BDAT come before those for the end.
    fn complete(&mut self, by_chunk: bool) -> Want {
        self.statistics.command(Moment::Final);
        let is_kept = self.manner.keep && self.octets > self.manner.kept_max;
        if is_kept || self.manner.size_max.is_some_and(|most| self.octets > most) {
            self.statistics.refused(b'5');
            let reply = format!("552 {}message too large\r\n", self.code("5.3.4 "));
            let count = if self.manner.lmtp { self.recipients.len() } else { 1 };
            self.out.extend_from_slice(reply.repeat(count).as_bytes());
            self.reset();
            return Want::Input;
        }
        // RFC 2033 §4.2: in LMTP each recipient has its own reply.
        let each = if self.manner.lmtp { 1 } else { self.recipients.len() };
        let chunk = if by_chunk {
            self.manner.rules.decide(Moment::Bdat, &std::iter::empty(), &mut self.dice)
        } else {
            Decision::default()
        };
        for about in self.recipients.chunks(each.max(1)) {
            let about = about.iter().map(|recipient| address(recipient));
            self.finals.push(match &chunk.act {
                Some(act) => Decision { delay: Duration::ZERO, act: Some(act.clone()) },
                None => self.manner.rules.decide(Moment::Final, &about, &mut self.dice),
            });
        }
        if let Some(first) = self.finals.first_mut() {
            first.delay += chunk.delay;
        }
        let refused = |decision: &Decision| {
            decision.act.is_some()
                && !matches!(&decision.act, Some(Act::Reply(reply)) if reply.starts_with('2'))
        };
        if self.finals.iter().all(refused) {
            // Nobody gets it, so it is not stored.
            return self.finish(b"");
        }
        self.id = self.ids.take();
        Want::Message
    }

    fn command(&mut self, line: &[u8]) -> Option<Want> {
        let (verb, argument) = match memchr(b' ', line) {
            Some(at) => (&line[..at], line[at + 1..].trim_ascii()),
            None => (line, &b""[..]),
        };
        let manner = Rc::clone(&self.manner);
        let mut upper = [0; 4];
        let known = verb.len() == upper.len();
        if known {
            upper.copy_from_slice(verb);
            upper.make_ascii_uppercase();
        }
        let want = match &upper {
            b"EHLO" if manner.esmtp && !manner.lmtp => {
                self.introduce(argument, true);
                self.answer(Moment::Ehlo, &manner.replies.ehlo)
            }
            b"LHLO" if manner.lmtp => {
                self.introduce(argument, true);
                self.answer(Moment::Lhlo, &manner.replies.ehlo)
            }
            b"HELO" if !manner.lmtp => {
                self.introduce(argument, false);
                self.answer(Moment::Helo, &manner.replies.helo)
            }
            b"MAIL" => self.mail(argument),
            b"RCPT" if self.sender.is_none() => self.say("503", "5.5.1", "need MAIL command"),
            b"RCPT" if self.has_too_many_recipients() => {
                // RFC 5321 §4.5.3.1.10.
                self.say("452", "4.5.3", "too many recipients")
            }
            b"RCPT" => {
                let argument = parameter(argument, b"TO:");
                self.statistics.command(Moment::Rcpt);
                // An empty vector needs no memory: without anybody who looks at recipients only their number counts.
                let kept = if manner.keep || manner.rules.ask_for_recipients() { argument } else { b"" };
                if !manner.rules.are_about(Moment::Rcpt) {
                    self.accept(kept);
                    self.out.extend_from_slice(&manner.replies.recipient);
                    return Some(Want::Input);
                }
                let about = std::iter::once(address(argument));
                let decision = manner.rules.decide(Moment::Rcpt, &about, &mut self.dice);
                if !is_refusal(decision.act.as_ref()) {
                    self.accept(kept);
                }
                let mut reply = Vec::new();
                let want = self.act(decision.act, &manner.replies.recipient, &mut reply);
                self.hold(decision.delay, reply, want)
            }
            b"DATA" if self.recipients.is_empty() => self.say("554", "5.5.1", "no valid recipients"),
            b"DATA" => self.data_command(),
            b"BDAT" if manner.chunking => self.bdat(argument),
            b"RSET" => {
                self.reset();
                self.answer(Moment::Rset, &manner.replies.ok)
            }
            b"NOOP" => self.answer(Moment::Noop, &manner.replies.ok),
            b"VRFY" => {
                let reply = format!("252 {}Cannot VRFY user\r\n", self.code("2.5.2 "));
                self.answer(Moment::Vrfy, reply.as_bytes())
            }
            b"QUIT" => {
                let reply = format!("221 {}Bye\r\n", self.code("2.0.0 "));
                self.answered(Moment::Quit, reply.as_bytes(), Want::Close).1
            }
            _ => self.say("502", "5.5.1", "command not implemented"),
        };
        Some(want)
    }

    fn has_too_many_recipients(&self) -> bool {
        self.recipients.len() >= RECIPIENTS_MAX || self.recipient_octets >= RECIPIENT_OCTETS_MAX
    }

    fn accept(&mut self, recipient: &[u8]) {
        self.recipients.push(recipient.to_vec());
        self.recipient_octets += recipient.len();
    }

    fn introduce(&mut self, name: &[u8], esmtp: bool) {
        self.reset();
        self.hello = name.to_vec();
        self.esmtp = esmtp;
    }

    fn mail(&mut self, argument: &[u8]) -> Want {
        if self.sender.is_some() {
            return self.say("503", "5.5.1", "nested MAIL command");
        }
        let declared = argument.split(|&octet| octet == b' ').find_map(|word| {
            let digits = word.get(5..).filter(|_| word[..5].eq_ignore_ascii_case(b"SIZE="))?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        });
        if let (Some(declared), Some(most)) = (declared, self.manner.size_max)
            && declared > most
        {
            return self.say("552", "5.3.4", "message too large");
        }
        let sender = parameter(argument, b"FROM:");
        self.sender = Some(if self.manner.keep { sender.to_vec() } else { Vec::new() });
        let manner = Rc::clone(&self.manner);
        let (refused, want) = self.answered(Moment::Mail, &manner.replies.sender, Want::Input);
        if refused {
            self.sender = None;
        }
        want
    }

    fn data_command(&mut self) -> Want {
        let manner = Rc::clone(&self.manner);
        let (refused, want) = self.answered(Moment::Data, DATA, Want::Input);
        if refused || matches!(want, Want::Close | Want::Stall) {
            // RFC 5321 §4.1.1.4: a refused DATA leaves the transaction open; the sink ends it, as the next MAIL would be out of order.
            self.reset();
            return want;
        }
        self.scanner = Scanner::new();
        self.state = State::Data;
        if let Some((time, reply)) = &manner.data_abort {
            self.statistics.refused(b'5');
            return self.hold(*time, format!("{reply}\r\n").into_bytes(), Want::Close);
        }
        match manner.data_pause {
            Some(time) => self.hold(time, Vec::new(), Want::Input),
            None => want,
        }
    }

    fn bdat(&mut self, argument: &[u8]) -> Want {
        let mut words = argument.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let octets = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
        let Some(octets) = octets else { return self.say("501", "5.5.4", "BDAT needs a size") };
        self.state = State::Chunk { left: octets, last, refused: self.recipients.is_empty() };
        Want::Input
    }

    /// A reply that no rule is about.
    fn say(&mut self, code: &str, enhanced: &str, text: &str) -> Want {
        self.statistics.refused(code.as_bytes()[0]);
        let enhanced = if self.manner.enhanced { format!("{enhanced} ") } else { String::new() };
        self.out.extend_from_slice(format!("{code} {enhanced}{text}\r\n").as_bytes());
        Want::Input
    }

    fn answer(&mut self, moment: Moment, usual: &[u8]) -> Want {
        self.answered(moment, usual, Want::Input).1
    }

    /// Says the usual, or what the rules say, and goes on with `then` unless they decide otherwise. True: it was refused.
    fn answered(&mut self, moment: Moment, usual: &[u8], then: Want) -> (bool, Want) {
        self.statistics.command(moment);
        if !self.manner.rules.are_about(moment) {
            self.out.extend_from_slice(usual);
            return (false, then);
        }
        let decision = self.manner.rules.decide(moment, &std::iter::empty(), &mut self.dice);
        let refused = is_refusal(decision.act.as_ref());
        let mut reply = Vec::new();
        let want = match self.act(decision.act, usual, &mut reply) {
            Want::Input => then,
            want => want,
        };
        (refused, self.hold(decision.delay, reply, want))
    }

    /// Writes down what a decision says.
    fn act(&mut self, act: Option<Act>, usual: &[u8], reply: &mut Vec<u8>) -> Want {
        match act {
            None => {
                reply.extend_from_slice(usual);
                Want::Input
            }
            Some(Act::Reply(text)) => {
                self.statistics.refused(text.as_bytes()[0]);
                reply.extend_from_slice(text.as_bytes());
                reply.extend_from_slice(b"\r\n");
                Want::Input
            }
            Some(Act::Disconnect(text)) => {
                self.statistics.disconnected();
                if let Some(text) = text {
                    reply.extend_from_slice(text.as_bytes());
                    reply.extend_from_slice(b"\r\n");
                }
                Want::Close
            }
            Some(Act::Stall) => {
                self.statistics.stalled();
                Want::Stall
            }
        }
    }

    /// Says `reply` at once, or after `delay`.
    fn hold(&mut self, delay: Duration, reply: Vec<u8>, want: Want) -> Want {
        if delay.is_zero() && self.after.is_empty() {
            self.out.extend_from_slice(&reply);
            return want;
        }
        self.after.push_back(After { delay, reply, want });
        Want::Pause(self.after[0].delay)
    }

    fn code(&self, code: &'static str) -> &'static str {
        if self.manner.enhanced { code } else { "" }
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.recipient_octets = 0;
        self.octets = 0;
        self.body.clear();
    }
}

fn is_refusal(act: Option<&Act>) -> bool {
    matches!(act, Some(Act::Reply(reply)) if !reply.starts_with(['2', '3']))
}

/// What stands behind `FROM:` or `TO:`, parameters included.
fn parameter<'a>(argument: &'a [u8], name: &[u8]) -> &'a [u8] {
    match argument.get(..name.len()) {
        Some(head) if head.eq_ignore_ascii_case(name) => argument[name.len()..].trim_ascii(),
        _ => argument,
    }
}

/// The address inside of the angle brackets.
pub(super) fn address(argument: &[u8]) -> &[u8] {
    let inner = argument.strip_prefix(b"<").and_then(|rest| Some(&rest[..memchr(b'>', rest)?]));
    inner.unwrap_or_else(|| argument.split(|&octet| octet == b' ').next().unwrap_or_default())
}

/// RFC 5321 §4.5.2: the first dot of each line goes.
fn remove_dots(body: &mut Vec<u8>) {
    let mut at_start = true;
    let mut after_cr = false;
    body.retain(|&octet| {
        let keep = !(at_start && octet == b'.');
        at_start = after_cr && octet == b'\n';
        after_cr = octet == b'\r';
        keep
    });
}
