//! A small scripted SMTP and LMTP server: std threads, one per connection.
//!
//! The script is a function from what happened to what to do; it may block to make the server stall.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// What happened; numbers count from 0 over the whole server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Connection.
    Connected(u64),
    Hello,
    Mail,
    Recipient(String),
    Data,
    /// End of the mail data, DATA or BDAT LAST: number of the message.
    Message(u64),
}

/// What the server does about it.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// What a friendly server says.
    Usual,
    /// This instead, with its CRLF.
    Say(String),
    /// Close the connection without a word.
    Close,
}

/// A message taken: its id and its octets with dots removed.
pub(crate) type Taken = (String, Vec<u8>);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    script: Box<dyn Fn(&Moment) -> Action + Send + Sync>,
    taken: Mutex<Vec<Taken>>,
    connections: AtomicU64,
    messages: AtomicU64,
    ended: AtomicBool,
}

impl Server {
    pub(crate) fn start(script: impl Fn(&Moment) -> Action + Send + Sync + 'static) -> Self {
        Self::with(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// A friendly one at this address.
    #[allow(dead_code, reason = "not every file of tests needs one")]
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::with(TcpListener::bind(address).unwrap(), |_| Action::Usual)
    }

    fn with(listener: TcpListener, script: impl Fn(&Moment) -> Action + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            taken: Mutex::default(),
            connections: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A connection that breaks is the client's affair.
                thread::spawn(move || serve(&stream.unwrap(), &shared).unwrap_or_default());
            }
        });
        Self { address, state }
    }

    /// Everything a friendly server says.
    pub(crate) fn friendly() -> Self {
        Self::start(|_| Action::Usual)
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap().clone()
    }

    #[allow(dead_code, reason = "not every file of tests asks")]
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
        // Wakes the listener; when it is gone already there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(64 * 1024, stream);
    let mut accepted = 0_usize;
    let mut lmtp = false;
    let act = |moment: &Moment, usual: &str| -> Option<String> {
        match (state.script)(moment) {
            Action::Usual => Some(usual.to_owned()),
            Action::Say(reply) => Some(reply),
            Action::Close => None,
        }
    };
    let number = state.connections.fetch_add(1, SeqCst);
    let Some(mut replies) = act(&Moment::Connected(number), "220 test.example\r\n") else { return Ok(()) };
    loop {
        // Replies of a group leave together, when no further command is here yet.
        if input.buffer().is_empty() && !replies.is_empty() {
            (&mut &*stream).write_all(replies.as_bytes())?;
            replies.clear();
        }
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" | "LHLO" => {
                lmtp = verb == "LHLO";
                act(&Moment::Hello, "250-test.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 CHUNKING\r\n")
            }
            "HELO" | "NOOP" => Some("250 ok\r\n".to_owned()),
            "RSET" => {
                accepted = 0;
                Some("250 reset\r\n".to_owned())
            }
            "MAIL" => {
                accepted = 0;
                act(&Moment::Mail, "250 2.1.0 ok\r\n")
            }
            "RCPT" => {
                let reply = act(&Moment::Recipient(line.clone()), "250 2.1.5 ok\r\n");
                accepted += usize::from(reply.as_ref().is_some_and(|reply| reply.starts_with('2')));
                reply
            }
            "DATA" if accepted == 0 => Some("554 5.5.1 no valid recipients\r\n".to_owned()),
            "DATA" => match act(&Moment::Data, "354 go\r\n") {
                Some(go) if go.starts_with('3') => {
                    replies.push_str(&go);
                    (&mut &*stream).write_all(replies.as_bytes())?;
                    replies.clear();
                    let body = read_text(&mut input)?;
                    finish(state, body, if lmtp { accepted } else { 1 }, &act)
                }
                other => other,
            },
            "BDAT" => {
                let mut words = line.split(' ').skip(1);
                let mut body = vec![0; words.next().unwrap().parse().unwrap()];
                input.read_exact(&mut body)?;
                assert_eq!(words.next(), Some("LAST"));
                if accepted == 0 {
                    Some("503 5.5.1 no valid recipients\r\n".to_owned())
                } else {
                    finish(state, body, if lmtp { accepted } else { 1 }, &act)
                }
            }
            "QUIT" => {
                replies.push_str("221 bye\r\n");
                (&mut &*stream).write_all(replies.as_bytes())?;
                return Ok(());
            }
            _ => Some("500 what\r\n".to_owned()),
        };
        let Some(reply) = reply else { return Ok(()) };
        replies.push_str(&reply);
    }
}

fn finish(
    state: &State,
    body: Vec<u8>,
    replies: usize,
    act: &impl Fn(&Moment, &str) -> Option<String>,
) -> Option<String> {
    let number = state.messages.fetch_add(1, SeqCst);
    let id = format!("{number:020X}");
    let reply = act(&Moment::Message(number), &format!("250 2.0.0 Ok: queued as {id}\r\n").repeat(replies))?;
    if reply.starts_with('2') {
        state.taken.lock().unwrap().push((id, body));
    }
    Some(reply)
}

/// DATA up to its end, dots removed (RFC 5321 §4.5.2).
fn read_text(input: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let start = body.len();
        if input.read_until(b'\n', &mut body)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        // RFC 5321 §4.1.1.4: a line begins behind CR LF only.
        let begins = start == 0 || body[..start].ends_with(b"\r\n");
        if begins && &body[start..] == b".\r\n" {
            body.truncate(start);
            return Ok(body);
        }
        if begins && body[start] == b'.' {
            body.remove(start);
        }
    }
}

/// `inrush-load run` with these words, its figures read back.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) output: Output,
}

/// The command itself, for tests that interrupt it.
pub(crate) fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inrush-load"));
    command.arg("run").args(words.split_ascii_whitespace());
    command
}

pub(crate) fn run(words: &str) -> Run {
    let output = command(words).arg("--json").arg("-").output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Run { code: output.status.code().unwrap(), json, output }
}

impl Run {
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.json["counts"][name].as_u64().unwrap_or_else(|| panic!("{name} in {:?}", self.output))
    }

    /// How often this cause was met.
    pub(crate) fn cause(&self, place: &str, code: u64) -> u64 {
        let causes = self.json["causes"].as_array().unwrap();
        let found = causes.iter().find(|cause| cause["place"] == place && cause["code"] == code);
        found.map_or(0, |cause| cause["count"].as_u64().unwrap())
    }
}
