//! A small SMTP client that shows every octet to its test: it sends what it is told and checks replies by code.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use socket2::{Domain, Protocol, Socket, Type};

use crate::process::PATIENCE;
use crate::tls::{self, Stream};

/// A reply: its code and its lines without the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// All of it on one line.
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" / "))
    }

    /// The message id that an acceptance carries: the one word of twenty upper-case hexadecimal digits.
    pub fn id(&self) -> Option<String> {
        let line = self.lines.last()?;
        let words = line.split(|c: char| !c.is_ascii_alphanumeric());
        let hex = |word: &&str| {
            word.len() == 20 && word.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        };
        words.filter(hex).map(str::to_owned).next_back()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    input: Vec<u8>,
}

impl Client {
    /// Connects; nothing is read yet.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(stream), input: Vec::new() })
    }

    /// Connects from an address of this machine; nothing is read yet.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Stream::Plain(stream), input: Vec::new() })
    }

    /// Connects and shakes hands at once, asking for `name`; nothing is read yet.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn open_secure(address: SocketAddr, name: &str) -> io::Result<Self> {
        let mut client = Self::open(address)?;
        client.secure(name)?;
        Ok(client)
    }

    /// Shakes hands, asking for `name`, whatever certificate it is shown.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn secure(&mut self, name: &str) -> io::Result<()> {
        self.stream = tls::secure(self.stream().try_clone()?, name)?;
        Ok(())
    }

    /// Shakes hands as this client.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn secure_by(&mut self, client: &Arc<ClientConfig>, name: &str) -> io::Result<()> {
        self.stream = tls::secure_by(client, self.stream().try_clone()?, name)?;
        Ok(())
    }

    /// STARTTLS and the handshake.
    ///
    /// # Panics
    /// The server refuses, or the handshake fails.
    #[track_caller]
    pub fn start_tls(&mut self, name: &str) {
        self.say("STARTTLS", 220);
        self.secure(name).unwrap_or_else(|error| panic!("TLS handshake: {error}"));
    }

    /// Connects, takes the 220 and says EHLO.
    ///
    /// # Panics
    /// One of these fails.
    #[track_caller]
    pub fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::open(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        client.expect(220);
        client.say("EHLO client.test.example", 250);
        client
    }

    /// Sends these octets as they are.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// Sends a command line and expects this code.
    ///
    /// # Panics
    /// The reply has another code.
    #[track_caller]
    pub fn say(&mut self, command: &str, code: u16) -> Reply {
        self.send(format!("{command}\r\n").as_bytes()).unwrap_or_else(|error| panic!("{command}: {error}"));
        let reply = self.reply().unwrap_or_else(|error| panic!("no reply to {command}: {error}"));
        assert_eq!(reply.code, code, "reply to {command}: {}", reply.text());
        reply
    }

    /// Reads a reply and expects this code.
    ///
    /// # Panics
    /// The reply has another code.
    #[track_caller]
    pub fn expect(&mut self, code: u16) -> Reply {
        let reply = self.reply().unwrap_or_else(|error| panic!("no reply, {code} expected: {error}"));
        assert_eq!(reply.code, code, "{}", reply.text());
        reply
    }

    /// Sends one message by DATA with dots stuffed; the id of its acceptance.
    ///
    /// # Panics
    /// It is not accepted.
    #[track_caller]
    pub fn deliver(&mut self, recipients: &[&str], body: &[u8]) -> String {
        self.envelope(recipients);
        self.say("DATA", 354);
        self.send(&stuffed(body)).unwrap_or_else(|error| panic!("mail data: {error}"));
        accepted(&self.expect(250))
    }

    /// MAIL and RCPT for these recipients.
    ///
    /// # Panics
    /// One of them is refused.
    #[track_caller]
    pub fn envelope(&mut self, recipients: &[&str]) {
        self.say("MAIL FROM:<sender@client.test.example>", 250);
        for recipient in recipients {
            self.say(&format!("RCPT TO:<{recipient}>"), 250);
        }
    }

    /// One transaction; the reply that ends it, at whichever command it comes.
    ///
    /// # Panics
    /// The connection ends.
    #[track_caller]
    pub fn attempt(&mut self, body: &[u8]) -> Reply {
        for (command, good) in [
            ("RSET", 250),
            ("MAIL FROM:<a@client.test.example>", 250),
            ("RCPT TO:<b@example.com>", 250),
            ("DATA", 354),
        ] {
            self.send(format!("{command}\r\n").as_bytes()).expect("a connection");
            let reply = self.reply().expect("a reply");
            if reply.code != good {
                return reply;
            }
        }
        self.send(&stuffed(body)).expect("a connection");
        self.reply().expect("a reply")
    }

    /// Reads one whole reply (RFC 5321 §4.2.1: `ddd-` goes on, `ddd ` ends).
    ///
    /// # Errors
    /// The connection ends or breaks before, nothing comes for a minute, or what comes is no reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not a reply line: {line:?}"));
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Reply { code, lines }),
                Some(_) => return Err(bad()),
            }
        }
    }

    /// Reads to the end of the connection; a reset counts as an end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.input);
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// The stream, to close a half or set options.
    pub fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// The connection with its TLS, if it has some.
    pub fn stream_below(&self) -> &Stream {
        &self.stream
    }

    /// No more octets will come from us.
    pub fn finish_sending(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                self.input.drain(..end + 2);
                return Ok(line);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.input.extend_from_slice(&piece[..read]),
            }
        }
    }
}

/// The id in an acceptance.
///
/// # Panics
/// There is none.
#[track_caller]
pub fn accepted(reply: &Reply) -> String {
    reply.id().unwrap_or_else(|| panic!("no message id in: {}", reply.text()))
}

/// A body with transparency dots and the end-of-data indication (RFC 5321 §4.5.2). It must be empty or end with CRLF.
///
/// # Panics
/// The body ends within a line.
pub fn stuffed(body: &[u8]) -> Vec<u8> {
    assert!(body.is_empty() || body.ends_with(b"\r\n"), "mail data ends with CRLF");
    let mut data = Vec::with_capacity(body.len() + body.len() / 32 + 5);
    let mut at_start = true;
    let mut before = 0;
    for &octet in body {
        if at_start && octet == b'.' {
            data.push(b'.');
        }
        data.push(octet);
        at_start = octet == b'\n' && before == b'\r';
        before = octet;
    }
    data.extend_from_slice(b".\r\n");
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_stuffed_at_line_starts_only() {
        assert_eq!(stuffed(b""), b".\r\n");
        assert_eq!(stuffed(b".\r\n..a\r\nb.\r\n"), b"..\r\n...a\r\nb.\r\n.\r\n");
    }

    #[test]
    fn the_id_is_the_word_of_twenty_digits() {
        let reply = |line: &str| Reply { code: 250, lines: vec![line.to_owned()] };
        assert_eq!(
            reply("2.0.0 queued as 0001000000000000ABCD").id().as_deref(),
            Some("0001000000000000ABCD")
        );
        assert_eq!(reply("2.0.0 ok").id(), None);
    }
}
