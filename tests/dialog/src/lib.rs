//! Dialog scripts: what a client sends and what a server has to answer.
//!
//! One behaviour a script; the first line names it and its section. The same script is played in memory against the
//! session (in slices of any size) and over a socket against the gateway.
//! ```text
//! # tests/dialogs/mail_twice.smtp            RFC 5321 §4.1.4
//! # start: ehlo
//! C: MAIL FROM:<a@one.example>
//! S: 250 2.1.0 ~
//! C: MAIL FROM:<b@one.example>
//! S: 503 5.5.1 ~
//! ```
//! | line | meaning |
//! |---|---|
//! | `C: text` | the client sends the text and CRLF |
//! | `C\| text` | the client sends the text alone |
//! | `C* n text` | the client sends the text n times, without CRLF |
//! | `S: text` | the server answers with this line; a `~` at its end stands for any rest |
//! | `S* n text` | this reply of one line comes n times |
//! | `T: handshake` | client and server shake hands for TLS |
//! | `M: <from> <to> <to>…` | a message was accepted: reverse-path and recipients, in order |
//! | `B: text`, `B\| text`, `B* n text` | its body, as for `C` |
//! | `P: name=value …` | what else is known about it, see the runner |
//! | `X: closed` | the server closes the connection; without it, it must not |
//! | `# start: ehlo`, `mail`, `rcpt`, `data` | the greeting and the commands up to there are sent before and go well |
//! | `# settings: name=value …` | settings of the listener that differ from the defaults |
//! | `# recipients: address verdict, …` | `ok`, `unknown`, `relay`, `routed` or `later`; who is not named is `ok` |
//! | `# storage: ok, full, …` | how each store and append goes, in memory only; the last one stays; `ok` by default |
//!
//! The host is called `mx.example`. In the texts `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN` stand for octets. Other lines that begin with `#` are comments.
#![forbid(unsafe_code)]

mod parse;
mod play;
mod reply;

pub use parse::ParseError;
pub use reply::Expectation;

use std::path::Path;
use std::{fs, io};

/// One script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Name of the file without its ending.
    pub name: String,
    /// The section in the first line, such as `RFC 5321 §4.1.4`.
    pub section: String,
    /// What is sent and answered, in order.
    pub steps: Vec<Step>,
    /// The messages that are accepted, in order.
    pub messages: Vec<Message>,
    /// The server closes at the end.
    pub closes: bool,
    /// Name and value of the settings that differ.
    pub settings: Vec<(String, String)>,
    /// Address and verdict.
    pub recipients: Vec<(String, Verdict)>,
    /// Outcome of each store and append.
    pub storage: Vec<Storage>,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client sends these octets.
    Send(Vec<u8>),
    /// The server answers.
    Expect(Expectation),
    /// Both shake hands for TLS.
    Handshake,
}

/// A message that the server accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The reverse-path without brackets.
    pub reverse_path: String,
    /// The recipients without brackets.
    pub recipients: Vec<String>,
    /// The body, if the script says anything about it.
    pub body: Option<Vec<u8>>,
    /// Name and value of what else is expected.
    pub properties: Vec<(String, String)>,
}

/// What the policy says about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted.
    Ok,
    /// 550 5.1.1
    Unknown,
    /// 550 5.7.1
    Relay,
    /// 550 5.7.1, for the local part
    Routed,
    /// 451 4.3.0
    Later,
}

/// How a store or an append goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Well.
    Ok,
    /// No space left.
    Full,
    /// Too much under way.
    Pending,
    /// Over what the log can take.
    TooLarge,
    /// No answer from the disk.
    Hung,
    /// Any other failure.
    Error,
    /// Taken, but the log fails before it is durable.
    Lost,
}

impl Script {
    /// Parses a script.
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        parse::script(name, text)
    }

    /// All scripts of a folder, by name.
    ///
    /// # Errors
    /// A file cannot be read, or is no script.
    pub fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let mut scripts = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "smtp") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let script = Self::parse(&name, &fs::read_to_string(&path)?);
                scripts.push(script.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?);
            }
        }
        scripts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(scripts)
    }

    /// Everything the client sends.
    pub fn input(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(octets) => Some(octets.as_slice()),
            Step::Expect(_) | Step::Handshake => None,
        });
        sent.collect::<Vec<_>>().concat()
    }

    /// Compares everything the server has said with what it has to say.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check_output(&self, output: &[u8]) -> Result<(), String> {
        let mut rest = output;
        for step in &self.steps {
            if let Step::Expect(expectation) = step {
                let (reply, behind) =
                    reply::take(rest).ok_or_else(|| format!("expected {expectation}, nothing came"))?;
                expectation.check(reply)?;
                rest = behind;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("more than expected: {}", rest.escape_ascii())) }
    }

    /// The verdict about a recipient.
    pub fn verdict(&self, recipient: &str) -> Verdict {
        let named = self.recipients.iter().find(|(address, _)| address == recipient);
        named.map_or(Verdict::Ok, |(_, verdict)| *verdict)
    }

    /// How the store or append with this number goes.
    pub fn storage(&self, number: usize) -> Storage {
        self.storage.get(number).or(self.storage.last()).copied().unwrap_or(Storage::Ok)
    }
}
