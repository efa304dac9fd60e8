//! What a [`Peer`](super::Peer) has seen and said.

use std::net::SocketAddr;

use rustls::ProtocolVersion;

/// Everything so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The connections in the order in which they came.
    pub connections: Vec<Connection>,
    /// The messages that have come whole, in the order of their ends, whatever was answered to them.
    pub messages: Vec<Message>,
    /// Steps that are held at this moment.
    pub held: usize,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where the client is.
    pub client: SocketAddr,
    /// What was agreed on if there is TLS.
    pub tls: Option<Tls>,
    /// What was said, without mail data.
    pub lines: Vec<Line>,
    /// Commands that were there before the one ahead of them was answered.
    pub pipelined: usize,
    /// What went wrong: the handshake, or octets that no client may send.
    pub fault: Option<String>,
    /// Whether it is over.
    pub ended: bool,
}

/// What a handshake has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name that the client has asked for.
    pub server_name: Option<String>,
    /// The version.
    pub version: Option<ProtocolVersion>,
}

/// What one side has said, without the line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A command.
    Client(String),
    /// What was sent, with the line ends inside.
    Server(String),
}

/// A mailbox with the parameters behind it, as in `<a@b.example> SIZE=7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Between the angle brackets; empty = the null reverse-path.
    pub address: String,
    /// The parameters, as they were written.
    pub parameters: Vec<String>,
}

impl Path {
    /// Reads what stands behind `MAIL FROM:` or `RCPT TO:`. `None`: that is no path.
    pub(super) fn read(text: &str) -> Option<Self> {
        let inner = text.trim_start().strip_prefix('<')?;
        let end = closing(inner)?;
        let parameters = inner[end + 1..].split_whitespace().map(str::to_owned).collect();
        Some(Self { address: inner[..end].to_owned(), parameters })
    }
}

/// Where the bracket closes that is not in a quoted string (RFC 5321 §4.1.2).
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
        None
    })
}

/// A recipient that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub path: Path,
    /// What RCPT was answered with.
    pub reply: String,
}

impl Recipient {
    /// Whether it was accepted.
    pub fn is_accepted(&self) -> bool {
        self.reply.starts_with('2')
    }
}

/// How mail data came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// By DATA.
    Data,
    /// By BDAT, in chunks of these sizes.
    Chunks(Vec<usize>),
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The number of its connection; the first is 1.
    pub connection: usize,
    /// The last EHLO, HELO or LHLO ahead of it.
    pub hello: String,
    /// Whether it came under TLS.
    pub secure: bool,
    /// The reverse-path.
    pub reverse_path: Path,
    /// All recipients that were named, with the refused ones.
    pub recipients: Vec<Recipient>,
    /// The content, dots unstuffed.
    pub octets: Vec<u8>,
    /// How it came.
    pub transfer: Transfer,
    /// What was answered to it so far; in LMTP one reply for each accepted recipient.
    pub replies: Vec<String>,
}

impl Message {
    /// The addresses that were accepted.
    pub fn accepted(&self) -> Vec<&str> {
        let accepted = self.recipients.iter().filter(|recipient| recipient.is_accepted());
        accepted.map(|recipient| recipient.path.address.as_str()).collect()
    }
}

impl Connection {
    pub(super) fn new(client: SocketAddr) -> Self {
        Self { client, tls: None, lines: Vec::new(), pipelined: 0, fault: None, ended: false }
    }

    /// The commands, in their order.
    pub fn commands(&self) -> Vec<String> {
        let commands = self.lines.iter().filter_map(|line| match line {
            Line::Client(command) => Some(command.clone()),
            Line::Server(_) => None,
        });
        commands.collect()
    }
}

impl Record {
    /// The whole dialog, for messages of failing tests.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, connection) in self.connections.iter().enumerate() {
            text.push_str(&format!("── connection {} from {}\n", at + 1, connection.client));
            for line in &connection.lines {
                let (mark, line) = match line {
                    Line::Client(line) => ('C', line),
                    Line::Server(line) => ('S', line),
                };
                text.push_str(&format!("{mark}: {line}\n"));
            }
            if let Some(fault) = &connection.fault {
                text.push_str(&format!("   {fault}\n"));
            }
        }
        text.push_str(&format!("── {} messages, {} steps held\n", self.messages.len(), self.held));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_parameters_and_quotes() {
        let path = Path::read("<\"a>\\\"b\"@c.example> SIZE=7 BODY=8BITMIME").unwrap();
        assert_eq!(path.address, "\"a>\\\"b\"@c.example");
        assert_eq!(path.parameters, ["SIZE=7", "BODY=8BITMIME"]);
        assert_eq!(Path::read("<>"), Some(Path::default()));
        assert_eq!(Path::read("a@b"), None);
        assert_eq!(Path::read("<a@b"), None);
    }
}
