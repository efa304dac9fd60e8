//! A small IMAP client that reads a mailbox back: LOGIN, SELECT, SEARCH, FETCH.
//!
//! Octets come as literals and are handed out as they came. Names go out as non-synchronising literals, so that nothing needs quotes.
//!
//! Standards: RFC 3501 §4.3 (literals), §6.3.1, §6.4.4, §6.4.5, §7; RFC 7888 (LITERAL+).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::process::PATIENCE;

/// A connection of one user, with INBOX selected.
#[derive(Debug)]
pub struct Imap {
    stream: BufReader<TcpStream>,
    commands: u32,
}

/// An untagged response: its line without the literals, and these.
#[derive(Debug)]
struct Response {
    line: Vec<u8>,
    literals: Vec<Vec<u8>>,
}

impl Imap {
    /// Connects, logs in and selects INBOX.
    ///
    /// # Errors
    /// The connection fails, or the server says no.
    pub fn open(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut imap = Self { stream: BufReader::new(stream), commands: 0 };
        imap.response()?;
        let login = format!("LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n{password}", user.len(), password.len());
        imap.command(&login)?;
        imap.command("SELECT INBOX")?;
        Ok(imap)
    }

    /// All messages, the oldest first, octet for octet.
    ///
    /// # Errors
    /// The connection fails, or the server says no.
    pub fn fetch(&mut self) -> io::Result<Vec<Vec<u8>>> {
        // RFC 3501 §9, seq-range: `*` needs a message to stand for.
        if self.search("ALL")?.is_empty() {
            return Ok(Vec::new());
        }
        let responses = self.command("FETCH 1:* BODY.PEEK[]")?;
        Ok(responses.into_iter().flat_map(|response| response.literals).collect())
    }

    /// The sequence numbers of the messages that match these keys of RFC 3501 §6.4.4.
    ///
    /// # Errors
    /// The connection fails, or the server says no.
    pub fn search(&mut self, keys: &str) -> io::Result<Vec<u32>> {
        let responses = self.command(&format!("SEARCH {keys}"))?;
        let lines = responses.iter().map(|response| String::from_utf8_lossy(&response.line));
        let mut numbers = Vec::new();
        for line in lines {
            if let Some(found) = line.strip_prefix("* SEARCH") {
                numbers.extend(found.split_whitespace().filter_map(|number| number.parse::<u32>().ok()));
            }
        }
        Ok(numbers)
    }

    /// Sends a command; its untagged responses when it is completed with OK.
    fn command(&mut self, command: &str) -> io::Result<Vec<Response>> {
        self.commands += 1;
        let tag = format!("t{}", self.commands);
        self.stream.get_mut().write_all(format!("{tag} {command}\r\n").as_bytes())?;
        let mut responses = Vec::new();
        loop {
            let response = self.response()?;
            let line = String::from_utf8_lossy(&response.line).into_owned();
            match line.strip_prefix(&tag) {
                None => responses.push(response),
                Some(end) if end.starts_with(" OK") => return Ok(responses),
                Some(_) => return Err(io::Error::other(format!("{command}: {line}"))),
            }
        }
    }

    fn response(&mut self) -> io::Result<Response> {
        let mut response = Response { line: Vec::new(), literals: Vec::new() };
        loop {
            let start = response.line.len();
            if self.stream.read_until(b'\n', &mut response.line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(octets) = response.line.get(start..).and_then(literal) else { return Ok(response) };
            let mut literal = vec![0; octets];
            self.stream.read_exact(&mut literal)?;
            response.literals.push(literal);
        }
    }
}

/// How many octets the literal has that begins behind this piece of a line, `{123}` CRLF.
fn literal(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}\r\n")?;
    let start = inner.iter().rposition(|octet| *octet == b'{')? + 1;
    std::str::from_utf8(inner.get(start..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_announced_at_the_end_of_a_line() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {248}\r\n"), Some(248));
        assert_eq!(literal(b"* OK {248} octets\r\n"), None);
        assert_eq!(literal(b")\r\n"), None);
    }
}
