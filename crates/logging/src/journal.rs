//! The journal of systemd, by its own protocol: a datagram for each line, `KEY=value` or the key, the length and the value.
//!
//! `MESSAGE` is the line for people, `PRIORITY` its level as syslog has it, each field is `INRUSH_` and its name. A datagram is far smaller than
//! the kernel takes, so that the protocol's way of files in memory is never needed.
//!
//! Standard: systemd, "Native Journal Protocol".

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use crate::form::{plain_value, text_body};
use crate::line::{Line, Value};

/// Octets of one datagram; a larger one is cut off behind a field.
const DATAGRAM_OCTETS_MAX: usize = 64 << 10;

/// The way to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }

    /// Sends one line; waits while the journal is busy, unless it must be `at_once`.
    pub(crate) fn send(&self, line: &Line, at_once: bool) -> io::Result<()> {
        self.socket.set_nonblocking(at_once)?;
        self.socket.send_to(&datagram(line), &self.path).map(drop)
    }
}

/// The datagram of a line.
pub(crate) fn datagram(line: &Line) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut text = String::new();
    text_body(line, &mut text);
    field(&mut out, "MESSAGE", &text);
    field(&mut out, "PRIORITY", priority(line.level));
    field(&mut out, "SYSLOG_IDENTIFIER", "inrush");
    field(&mut out, "INRUSH_MODULE", line.module);
    for (name, value) in &line.fields {
        let before = out.len();
        let mut text = String::new();
        match value {
            // As it is: the protocol carries any octets, and journalctl escapes what it shows.
            Value::Text(value) => text.clone_from(value),
            value => plain_value(value, &mut text),
        }
        field(&mut out, &format!("INRUSH_{}", name.to_ascii_uppercase()), &text);
        if out.len() > DATAGRAM_OCTETS_MAX {
            out.truncate(before);
            break;
        }
    }
    out
}

fn field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// RFC 5424 §6.2.1
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_what_the_journal_reads() {
        let line = Line {
            time_us: 0,
            level: Level::WARN,
            module: "inrush_relay",
            msg: "host refused".to_owned(),
            fields: vec![
                ("reply", Value::Text("550 no\nMESSAGE=forged".to_owned())),
                ("nrcpt", Value::Unsigned(3)),
            ],
        };
        let mut expected = b"MESSAGE=host refused reply=\"550 no\\nMESSAGE=forged\" nrcpt=3\n\
            PRIORITY=4\nSYSLOG_IDENTIFIER=inrush\nINRUSH_MODULE=inrush_relay\nINRUSH_REPLY\n"
            .to_vec();
        expected.extend_from_slice(&21_u64.to_le_bytes());
        expected.extend_from_slice(b"550 no\nMESSAGE=forged\nINRUSH_NRCPT=3\n");
        assert_eq!(datagram(&line).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
