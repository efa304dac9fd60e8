//! One connection of a [`Peer`](super::Peer), from its banner to its end.
//!
//! A command is noted, then checked for its place, then answered by the script. What is said is noted before it is sent, so that a test
//! that has seen its effect finds it in the record.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;

use super::record::{Connection, Line, Message, Path, Recipient, Transfer};
use super::script::{Act, Answer, Moment, Stage};
use super::wire::Wire;
use super::{Shared, State};

/// Why a connection is over.
#[derive(Debug)]
enum Ended {
    /// One of the two sides has closed it as it may.
    Closed,
    /// Something went wrong.
    Fault(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.to_string())
    }
}

type Step<T> = Result<T, Ended>;

/// Serves a connection to its end.
pub(super) fn serve(shared: &Shared, number: usize, socket: TcpStream) {
    let ended = match Wire::new(socket) {
        Ok(wire) => {
            let secure = false;
            let mut session = Session {
                shared,
                number,
                wire,
                secure,
                hello: String::new(),
                transaction: None,
                message: None,
            };
            let Err(ended) = session.run();
            // The other descriptor of the socket; the connection ends with the last one.
            shared.lock().sockets.remove(&number);
            ended
        }
        Err(error) => error.into(),
    };
    shared.change(|state| {
        let connection = connection(state, number);
        connection.ended = true;
        if let Ended::Fault(fault) = ended {
            connection.fault = Some(fault);
        }
    });
}

fn connection(state: &mut State, number: usize) -> &mut Connection {
    // Numbers are places counted from 1, and no connection is ever taken out.
    &mut state.record.connections[number - 1]
}

struct Session<'a> {
    shared: &'a Shared,
    number: usize,
    wire: Wire,
    secure: bool,
    /// The last EHLO, HELO or LHLO; empty = none yet.
    hello: String,
    transaction: Option<Transaction>,
    /// The place of the message in the record that is being answered.
    message: Option<usize>,
}

#[derive(Debug, Default)]
struct Transaction {
    reverse_path: Path,
    recipients: Vec<Recipient>,
    /// What came by BDAT so far.
    octets: Vec<u8>,
    chunks: Vec<usize>,
}

impl Transaction {
    fn accepted(&self) -> Vec<String> {
        let accepted = self.recipients.iter().filter(|recipient| recipient.is_accepted());
        accepted.map(|recipient| recipient.path.address.clone()).collect()
    }
}

impl Session<'_> {
    fn run(&mut self) -> Step<Infallible> {
        if self.shared.lock().script.tls_at_once {
            self.handshake()?;
        }
        self.answer(&Stage::Banner, &[])?;
        loop {
            // RFC 2920 §3.1: a client may do that with PIPELINING only.
            if self.wire.has_line() {
                self.shared.change(|state| connection(state, self.number).pipelined += 1);
            }
            let command = self.line()?;
            self.command(&command)?;
        }
    }

    fn command(&mut self, command: &str) -> Step<()> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let lmtp = self.shared.lock().script.lmtp;
        match verb.to_ascii_uppercase().as_str() {
            "LHLO" if lmtp => self.hello(command),
            "EHLO" | "HELO" if !lmtp => self.hello(command),
            "STARTTLS" => self.answer(&Stage::StartTls, &[]).map(drop),
            "MAIL" => self.mail(rest),
            "RCPT" => self.recipient(rest),
            "DATA" => self.data(),
            "BDAT" => self.chunk(rest),
            "RSET" => {
                self.transaction = None;
                self.answer(&Stage::Reset, &[]).map(drop)
            }
            "QUIT" => {
                self.answer(&Stage::Quit, &[])?;
                self.perform(Answer::close()).map(drop)
            }
            other => self.answer(&Stage::Command(other.to_owned()), &[]).map(drop),
        }
    }

    fn hello(&mut self, command: &str) -> Step<()> {
        let usual = {
            let script = &self.shared.lock().script;
            // RFC 5321 §4.1.1.1: HELO is answered with the name alone.
            let old = command.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("HELO"));
            if old { script.old_hello() } else { script.usual(&Stage::Hello, self.secure) }
        };
        let said = self.answer_or(&Stage::Hello, &[], usual)?;
        if said.starts_with('2') {
            command.clone_into(&mut self.hello);
            self.transaction = None;
        }
        Ok(())
    }

    fn mail(&mut self, rest: &str) -> Step<()> {
        if self.hello.is_empty() || self.transaction.is_some() {
            return self.say("503 5.5.1 not now");
        }
        let Some(reverse_path) = path(rest, "FROM:") else { return self.say("501 5.5.4 no such path") };
        let said = self.answer(&Stage::Mail, std::slice::from_ref(&reverse_path.address))?;
        if said.starts_with('2') {
            self.transaction = Some(Transaction { reverse_path, ..Transaction::default() });
        }
        Ok(())
    }

    fn recipient(&mut self, rest: &str) -> Step<()> {
        if self.transaction.is_none() {
            return self.say("503 5.5.1 MAIL first");
        }
        let Some(path) = path(rest, "TO:") else { return self.say("501 5.5.4 no such path") };
        let reply = self.answer(&Stage::Recipient, std::slice::from_ref(&path.address))?;
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(Recipient { path, reply });
        }
        Ok(())
    }

    fn data(&mut self) -> Step<()> {
        let accepted = self.transaction.as_ref().filter(|transaction| transaction.chunks.is_empty());
        let Some(accepted) = accepted.map(Transaction::accepted) else {
            return self.say("503 5.5.1 MAIL first");
        };
        // RFC 5321 §3.3: 503 or 554 without recipients. A script may say 354 all the same, as some servers do.
        let usual = if accepted.is_empty() { Answer::reply(NO_RECIPIENTS) } else { self.usual(&Stage::Data) };
        let said = self.answer_or(&Stage::Data, &accepted, usual)?;
        if !said.starts_with("354") {
            return Ok(());
        }
        let octets = self.mail_data(&accepted)?;
        let transaction = self.transaction.take().unwrap_or_default();
        self.end(transaction, octets, Transfer::Data)
    }

    /// RFC 3030 §2: the octets of a chunk follow its command whatever the answer will be.
    fn chunk(&mut self, rest: &str) -> Step<()> {
        let mut words = rest.split_whitespace();
        let Some(size) = words.next().and_then(|size| size.parse::<usize>().ok()) else {
            return self.say("501 5.5.4 no such size");
        };
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let mut transaction = self.transaction.take().unwrap_or_default();
        let accepted = transaction.accepted();
        let begin = transaction.octets.len();
        let mut mark = begin;
        while transaction.octets.len() < begin + size {
            let until_mark = self.pass_marks(transaction.octets.len(), &mut mark, &accepted)?;
            let left = begin + size - transaction.octets.len();
            transaction.octets.extend(self.some(until_mark.min(left))?);
        }
        if accepted.is_empty() {
            return self.say(NO_RECIPIENTS);
        }
        transaction.chunks.push(size);
        if last {
            let octets = std::mem::take(&mut transaction.octets);
            let chunks = std::mem::take(&mut transaction.chunks);
            return self.end(transaction, octets, Transfer::Chunks(chunks));
        }
        // RFC 3030 §2: after a failure the transaction is over, and further chunks fail.
        if self.answer(&Stage::Chunk, &accepted)?.starts_with('2') {
            self.transaction = Some(transaction);
        }
        Ok(())
    }

    /// Reads to the end-of-data indication, RFC 5321 §4.1.1.4, which begins with the CRLF ahead of the dot; the CRLF of DATA may be that one.
    fn mail_data(&mut self, accepted: &[String]) -> Step<Vec<u8>> {
        let mut wire = CRLF.to_vec();
        let mut mark = 0;
        loop {
            let until_mark = self.pass_marks(wire.len() - CRLF.len(), &mut mark, accepted)?;
            let searched = wire.len().saturating_sub(END_OF_DATA.len() - 1);
            wire.extend(self.some(until_mark)?);
            let found = wire[searched..].windows(END_OF_DATA.len()).position(|octets| octets == END_OF_DATA);
            if let Some(at) = found {
                let end = searched + at + CRLF.len();
                self.wire.unread(&wire[searched + at + END_OF_DATA.len()..]);
                return Ok(unstuffed(&wire[..end]));
            }
        }
    }

    /// Answers at each mark up to here that was not passed yet. How many octets there are to the next one.
    fn pass_marks(&mut self, octets: usize, next: &mut usize, accepted: &[String]) -> Step<usize> {
        loop {
            let mark = self.shared.lock().script.mark(*next);
            match mark {
                Some(mark) if mark <= octets => {
                    *next = mark + 1;
                    self.answer(&Stage::Octets(mark), accepted)?;
                }
                Some(mark) => return Ok(mark - octets),
                None => return Ok(usize::MAX),
            }
        }
    }

    fn end(&mut self, transaction: Transaction, octets: Vec<u8>, transfer: Transfer) -> Step<()> {
        let accepted = transaction.accepted();
        let message = Message {
            connection: self.number,
            hello: self.hello.clone(),
            secure: self.secure,
            reverse_path: transaction.reverse_path,
            recipients: transaction.recipients,
            octets,
            transfer,
            replies: Vec::new(),
        };
        let lmtp = self.shared.change(|state| {
            self.message = Some(state.record.messages.len());
            state.record.messages.push(message);
            state.script.lmtp
        });
        if lmtp {
            // RFC 2033 §4.2: one reply for each recipient that was accepted, in their order.
            for address in &accepted {
                self.answer(&Stage::End, std::slice::from_ref(address))?;
            }
        } else {
            let none = accepted.is_empty();
            let usual = if none { Answer::reply(NO_RECIPIENTS) } else { self.usual(&Stage::End) };
            self.answer_or(&Stage::End, &accepted, usual)?;
        }
        self.message = None;
        Ok(())
    }

    fn usual(&self, stage: &Stage) -> Answer {
        self.shared.lock().script.usual(stage, self.secure)
    }

    /// Does what the script says at this stage; what was said.
    fn answer(&mut self, stage: &Stage, addresses: &[String]) -> Step<String> {
        let usual = self.usual(stage);
        self.answer_or(stage, addresses, usual)
    }

    fn answer_or(&mut self, stage: &Stage, addresses: &[String], usual: Answer) -> Step<String> {
        let addresses = addresses.iter().map(String::as_str).collect::<Vec<_>>();
        let moment = Moment { stage, connection: self.number, secure: self.secure, addresses: &addresses };
        let scripted = self.shared.lock().script.answer(&moment);
        self.perform(scripted.unwrap_or(usual))
    }

    fn say(&mut self, reply: &str) -> Step<()> {
        self.perform(Answer::reply(reply)).map(drop)
    }

    /// Does these things one after the other; what was said.
    fn perform(&mut self, answer: Answer) -> Step<String> {
        let mut said = String::new();
        for act in answer.0 {
            match act {
                Act::Send(octets) => {
                    said.push_str(&self.note(&octets));
                    self.wire.send(&octets)?;
                }
                Act::SendSingly(octets) => {
                    said.push_str(&self.note(&octets));
                    octets.chunks(1).try_for_each(|octet| self.wire.send(octet))?;
                }
                Act::ReadLine => drop(self.line()?),
                Act::Hold if self.shared.hold() => {}
                Act::Hold => return Err(Ended::Closed),
                Act::Handshake => self.handshake()?,
                Act::Silence => {
                    self.wire.drain();
                    return Err(Ended::Closed);
                }
                Act::Close => {
                    self.wire.finish();
                    // Closed with octets unread, it would be an RST, and what was sent last might not arrive.
                    self.wire.drain();
                    return Err(Ended::Closed);
                }
                Act::Cut => return Err(Ended::Closed),
                Act::Reset => {
                    self.wire.break_off();
                    return Err(Ended::Closed);
                }
            }
        }
        Ok(said)
    }

    /// Writes down what is about to be said.
    fn note(&self, octets: &[u8]) -> String {
        let text = String::from_utf8_lossy(octets).trim_end().to_owned();
        self.shared.change(|state| {
            connection(state, self.number).lines.push(Line::Server(text.clone()));
            if let Some(message) = self.message {
                state.record.messages[message].replies.push(text.clone());
            }
        });
        text
    }

    fn handshake(&mut self) -> Step<()> {
        let config = self.shared.lock().script.tls.clone();
        let config = config.ok_or_else(|| Ended::Fault("the script has no TLS".to_owned()))?;
        let tls = self.wire.secure(config)?;
        self.shared.change(|state| connection(state, self.number).tls = Some(tls));
        self.secure = true;
        // RFC 3207 §4.2: everything begins anew.
        self.hello.clear();
        self.transaction = None;
        Ok(())
    }

    /// Reads a line and writes it down.
    fn line(&mut self) -> Step<String> {
        let line = self.wire.line()?.ok_or(Ended::Closed)?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let Some(command) = text.strip_suffix("\r\n") else {
            return Err(Ended::Fault(format!("a line ended by LF alone: {text:?}")));
        };
        let noted = Line::Client(command.to_owned());
        self.shared.change(|state| connection(state, self.number).lines.push(noted));
        Ok(command.to_owned())
    }

    fn some(&mut self, octets_max: usize) -> Step<Vec<u8>> {
        let octets = self.wire.some(octets_max)?;
        if octets.is_empty() {
            return Err(Ended::Fault("the client has gone in the middle of mail data".to_owned()));
        }
        Ok(octets)
    }
}

const CRLF: &[u8] = b"\r\n";
const END_OF_DATA: &[u8] = b"\r\n.\r\n";
const NO_RECIPIENTS: &str = "503 5.5.1 no valid recipients";

fn path(rest: &str, keyword: &str) -> Option<Path> {
    let (start, path) = rest.split_at_checked(keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| Path::read(path)).flatten()
}

/// The content of mail data that has a CRLF ahead of its first line: the dot at the start of each line is taken away (RFC 5321 §4.5.2).
fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(wire.len());
    for (at, octet) in wire.iter().enumerate().skip(CRLF.len()) {
        if *octet != b'.' || !wire[..at].ends_with(CRLF) {
            octets.push(*octet);
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_line_starts_are_taken_away() {
        assert_eq!(unstuffed(b"\r\n"), b"");
        assert_eq!(unstuffed(b"\r\n..a\r\n...\r\nb.\n.c\r\n"), b".a\r\n..\r\nb.\n.c\r\n");
    }
}
