//! What a [`Peer`](super::Peer) does: a list of rules, each with the moments that it is for and the answer that is given then. The first rule
//! that is for a moment answers; where there is none, the peer takes mail as a good server does.

use std::sync::Arc;

use rustls::ServerConfig;

/// What is offered unless a script says otherwise.
const EXTENSIONS: [&str; 7] =
    ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN", "CHUNKING", "ENHANCEDSTATUSCODES"];

/// The name that the peer gives itself.
const NAME: &str = "peer.test.example";

/// A point in a session at which something is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection is there, nothing was sent.
    Banner,
    /// EHLO or HELO, in LMTP LHLO.
    Hello,
    /// STARTTLS. Without [`Answer::handshake`] in the answer there is no TLS.
    StartTls,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA; with a 354 the mail data is read.
    Data,
    /// This many octets of mail data are there, as they are on the wire, and the message may go on.
    Octets(usize),
    /// A chunk of BDAT that is not the last.
    Chunk,
    /// All mail data is there; in LMTP once for each recipient that was accepted.
    End,
    /// RSET.
    Reset,
    /// QUIT; behind the answer the connection is closed.
    Quit,
    /// Any other command, by its verb in capitals, see [`Stage::command`].
    Command(String),
}

impl Stage {
    /// A command that has no stage of its own.
    pub fn command(verb: &str) -> Self {
        Self::Command(verb.to_ascii_uppercase())
    }
}

/// The moments that a rule is for.
#[derive(Clone, Debug)]
pub struct When {
    stage: Stage,
    connection: Option<usize>,
    address: Option<String>,
    secure: Option<bool>,
    skipped: usize,
    times: usize,
}

impl When {
    /// Each time that this stage is reached.
    pub fn at(stage: Stage) -> Self {
        Self { stage, connection: None, address: None, secure: None, skipped: 0, times: usize::MAX }
    }

    /// Only on the connection of this number; the first is 1.
    #[must_use]
    pub fn connection(mut self, number: usize) -> Self {
        self.connection = Some(number);
        self
    }

    /// Only with such an address, where `*` stands for any octets once: the reverse-path of MAIL, the recipient of RCPT and of an LMTP
    /// reply at the end, any accepted recipient elsewhere.
    #[must_use]
    pub fn address(mut self, pattern: &str) -> Self {
        self.address = Some(pattern.to_owned());
        self
    }

    /// Only with TLS, or only without.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = Some(secure);
        self
    }

    /// Only so many times, over all connections.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Not for the first so many times.
    #[must_use]
    pub fn after(mut self, skipped: usize) -> Self {
        self.skipped = skipped;
        self
    }

    fn is_for(&self, moment: &Moment<'_>) -> bool {
        let named = |pattern: &String| moment.addresses.iter().any(|address| fits(pattern, address));
        self.stage == *moment.stage
            && self.connection.is_none_or(|number| number == moment.connection)
            && self.secure.is_none_or(|secure| secure == moment.secure)
            && self.address.as_ref().is_none_or(named)
    }
}

impl From<Stage> for When {
    fn from(stage: Stage) -> Self {
        Self::at(stage)
    }
}

/// One thing that the peer does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<u8>),
    SendSingly(Vec<u8>),
    ReadLine,
    Hold,
    Handshake,
    Silence,
    Close,
    Cut,
    Reset,
}

/// What the peer does at a stage, one thing after the other.
#[derive(Clone, Debug, Default)]
pub struct Answer(pub(super) Vec<Act>);

impl Answer {
    /// Sends a reply. The codes are part of `text`; several lines are parted by `\n`.
    pub fn reply(text: &str) -> Self {
        Self::octets(format!("{}\r\n", text.replace('\n', "\r\n")).as_bytes())
    }

    /// Sends these octets as they are.
    pub fn octets(octets: &[u8]) -> Self {
        Self(vec![Act::Send(octets.to_vec())])
    }

    /// Waits until [`Peer::release`](super::Peer::release), and reads nothing meanwhile.
    pub fn hold() -> Self {
        Self(vec![Act::Hold])
    }

    /// Reads one line from the client, which is noted as a command.
    pub fn read_line() -> Self {
        Self(vec![Act::ReadLine])
    }

    /// Shakes hands by the configuration of [`Script::tls`].
    pub fn handshake() -> Self {
        Self(vec![Act::Handshake])
    }

    /// Never answers again: reads and forgets until the client has gone.
    pub fn silence() -> Self {
        Self(vec![Act::Silence])
    }

    /// Closes the connection, with everything sent before arriving (FIN).
    pub fn close() -> Self {
        Self(vec![Act::Close])
    }

    /// Closes the connection at once, whatever has come and was not read: what was sent arrives, and an RST behind it.
    pub fn cut() -> Self {
        Self(vec![Act::Cut])
    }

    /// Breaks the connection (RST); what was sent just before may be lost.
    pub fn reset() -> Self {
        Self(vec![Act::Reset])
    }

    /// This, then `next`.
    #[must_use]
    pub fn then(mut self, mut next: Self) -> Self {
        self.0.append(&mut next.0);
        self
    }

    /// The same with each octet in a write of its own.
    #[must_use]
    pub fn singly(self) -> Self {
        let singly = |act| match act {
            Act::Send(octets) => Act::SendSingly(octets),
            other => other,
        };
        Self(self.0.into_iter().map(singly).collect())
    }
}

/// The behaviour of a peer.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) lmtp: bool,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) tls_at_once: bool,
    extensions: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    when: When,
    answer: Answer,
    /// How often the moment has come.
    seen: usize,
}

/// A stage as it is reached.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    pub(super) stage: &'a Stage,
    pub(super) connection: usize,
    pub(super) secure: bool,
    pub(super) addresses: &'a [&'a str],
}

impl Script {
    /// A server of SMTP that takes everything.
    pub fn smtp() -> Self {
        let extensions = EXTENSIONS.map(str::to_owned).to_vec();
        Self { lmtp: false, tls: None, tls_at_once: false, extensions, rules: Vec::new() }
    }

    /// A server of LMTP that takes everything.
    pub fn lmtp() -> Self {
        Self { lmtp: true, ..Self::smtp() }
    }

    /// Whether it is one of LMTP.
    pub fn is_lmtp(&self) -> bool {
        self.lmtp
    }

    /// The same with exactly these extensions, each with its parameters. STARTTLS needs not be named.
    #[must_use]
    pub fn extensions(mut self, extensions: &[&str]) -> Self {
        self.extensions = extensions.iter().map(|extension| (*extension).to_owned()).collect();
        self
    }

    /// The same with STARTTLS: offered while there is no TLS, and done.
    #[must_use]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The same with TLS from the first octet (RFC 8314 §3.3).
    #[must_use]
    pub fn tls_at_once(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls_at_once = true;
        self.tls(config)
    }

    /// The same with this rule behind those that it has. A rule behind another sees only what that one leaves.
    #[must_use]
    pub fn on(mut self, when: impl Into<When>, answer: Answer) -> Self {
        self.rules.push(Rule { when: when.into(), answer, seen: 0 });
        self
    }

    /// The answer of the first rule that is for this moment. Counts the moment for the rules up to that one.
    pub(super) fn answer(&mut self, moment: &Moment<'_>) -> Option<Answer> {
        self.rules.iter_mut().filter(|rule| rule.when.is_for(moment)).find_map(|rule| {
            let turn = rule.seen;
            rule.seen += 1;
            let turns = rule.when.skipped..rule.when.skipped.saturating_add(rule.when.times);
            turns.contains(&turn).then(|| rule.answer.clone())
        })
    }

    /// The next number of octets at which a rule waits, `from` or more.
    pub(super) fn mark(&self, from: usize) -> Option<usize> {
        let marks = self.rules.iter().filter_map(|rule| match rule.when.stage {
            Stage::Octets(octets) if octets >= from => Some(octets),
            _ => None,
        });
        marks.min()
    }

    /// What a good server does.
    pub(super) fn usual(&self, stage: &Stage, secure: bool) -> Answer {
        match stage {
            Stage::Banner if self.lmtp => Answer::reply(&format!("220 {NAME} LMTP")),
            Stage::Banner => Answer::reply(&format!("220 {NAME} ESMTP")),
            Stage::Hello => Answer::reply(&self.hello(secure)),
            // RFC 3207 §4.2: no second TLS within the first.
            Stage::StartTls if self.tls.is_some() && !secure => {
                Answer::reply("220 2.0.0 go ahead").then(Answer::handshake())
            }
            Stage::Mail | Stage::Reset => Answer::reply("250 2.1.0 ok"),
            Stage::Recipient => Answer::reply("250 2.1.5 ok"),
            Stage::Data => Answer::reply("354 go ahead"),
            Stage::Octets(_) => Answer::default(),
            Stage::Chunk => Answer::reply("250 2.0.0 chunk taken"),
            Stage::End => Answer::reply("250 2.0.0 message taken"),
            Stage::Quit => Answer::reply("221 2.0.0 bye"),
            Stage::Command(verb) if verb == "NOOP" => Answer::reply("250 2.0.0 ok"),
            Stage::Command(verb) if verb == "VRFY" => Answer::reply("252 2.5.1 send mail and see"),
            Stage::Command(verb) if verb == "AUTH" => Answer::reply("235 2.7.0 welcome"),
            Stage::StartTls | Stage::Command(_) => Answer::reply("500 5.5.1 no such command"),
        }
    }

    /// What HELO is answered with.
    pub(super) fn old_hello(&self) -> Answer {
        Answer::reply(&format!("250 {NAME}"))
    }

    fn hello(&self, secure: bool) -> String {
        let mut lines = vec![NAME.to_owned()];
        lines.extend(self.extensions.iter().cloned());
        if self.tls.is_some() && !secure {
            lines.push("STARTTLS".to_owned());
        }
        let last = lines.len() - 1;
        let numbered = lines
            .iter()
            .enumerate()
            .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }));
        numbered.collect::<Vec<_>>().join("\n")
    }
}

/// Whether the address is of this pattern.
fn fits(pattern: &str, address: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == address,
        Some((start, end)) => {
            address.len() >= start.len() + end.len() && address.starts_with(start) && address.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment<'a>(stage: &'a Stage, addresses: &'a [&'a str]) -> Moment<'a> {
        Moment { stage, connection: 2, secure: false, addresses }
    }

    fn said(answer: Option<Answer>) -> Option<String> {
        match answer?.0.as_slice() {
            [Act::Send(octets), ..] => Some(String::from_utf8_lossy(octets).trim_end().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn patterns() {
        assert!(
            fits("a@b", "a@b")
                && fits("*@b", "a@b")
                && fits("a@*", "a@b")
                && fits("*", "")
                && fits("a*b", "ab")
        );
        assert!(!fits("a@b", "a@c") && !fits("aba*ba", "aba"));
    }

    #[test]
    fn the_first_rule_that_is_not_used_up_answers() {
        let busy = Answer::reply("450 busy");
        let mut script = Script::smtp()
            .on(When::at(Stage::Recipient).address("x@*").after(1).times(1), Answer::reply("550 gone"))
            .on(When::at(Stage::Recipient).address("x@*").times(1), busy);
        let mut turn = |address| said(script.answer(&moment(&Stage::Recipient, &[address])));
        assert_eq!(turn("y@b"), None);
        assert_eq!(turn("x@b").as_deref(), Some("450 busy"));
        assert_eq!(turn("x@b").as_deref(), Some("550 gone"));
        assert_eq!(turn("x@b"), None);
    }

    #[test]
    fn connections_and_tls() {
        let mut script = Script::smtp()
            .on(When::at(Stage::Mail).connection(1), Answer::reply("1"))
            .on(When::at(Stage::Mail).secure(true), Answer::reply("2"))
            .on(Stage::Mail, Answer::reply("3"));
        assert_eq!(said(script.answer(&moment(&Stage::Mail, &[]))).as_deref(), Some("3"));
    }
}
