//! What a tracer is shown: events on their way through a ring, and the JSON objects that they become.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

/// Octets of one text in an event; the rest of it is left out.
pub const TEXT_OCTETS_MAX: usize = 512;

/// A session that is shown from now on.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// Who it is with.
    pub client: SocketAddr,
    /// Name of the listener.
    pub listener: &'a str,
    /// Argument of HELO or EHLO; empty before.
    pub helo: &'a str,
    /// The reverse-path of the open transaction.
    pub from: Option<&'a str>,
    /// Commands before.
    pub commands: u32,
}

/// Something in a session.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It is shown from now on.
    Begin(Begin<'a>),
    /// What the client has said, without its line end; of AUTH the mechanism only.
    Command(&'a [u8]),
    /// What it was answered; several lines as they are.
    Reply(&'a [u8]),
    /// TLS was agreed on: version and cipher suite.
    Tls(&'a str, &'a str),
    /// A message is in the log: its id and its octets.
    Queued(&'a str, u64),
    /// The 250 of a message has left, so many microseconds after its MAIL.
    Answered(u64),
    /// The session is over: a value of `inrush_sessions_ended_total`.
    End(&'a str),
}

impl Event<'_> {
    /// Adds the event of session `number` at `wall_us` (since 1970), `at_us` after the session began, for the tracers of `mask`.
    pub(crate) fn put(&self, mask: u8, number: u64, wall_us: u64, at_us: u64, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Begin(_) => 1,
            Self::Command(_) => 2,
            Self::Reply(_) => 3,
            Self::Tls(..) => 4,
            Self::Queued(..) => 5,
            Self::Answered(_) => 6,
            Self::End(_) => 7,
        };
        out.extend_from_slice(&[mask, kind]);
        [number, wall_us, at_us].iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        match self {
            Self::Begin(begin) => {
                match begin.client.ip() {
                    IpAddr::V4(ip) => text(out, &ip.octets()),
                    IpAddr::V6(ip) => text(out, &ip.octets()),
                }
                out.extend_from_slice(&begin.client.port().to_le_bytes());
                out.extend_from_slice(&begin.commands.to_le_bytes());
                text(out, begin.listener.as_bytes());
                text(out, begin.helo.as_bytes());
                out.push(u8::from(begin.from.is_some()));
                text(out, begin.from.unwrap_or_default().as_bytes());
            }
            Self::Command(line) | Self::Reply(line) => text(out, line),
            Self::Tls(version, cipher) => {
                text(out, version.as_bytes());
                text(out, cipher.as_bytes());
            }
            Self::Queued(id, octets) => {
                out.extend_from_slice(&octets.to_le_bytes());
                text(out, id.as_bytes());
            }
            Self::Answered(delay) => out.extend_from_slice(&delay.to_le_bytes()),
            Self::End(end) => text(out, end.as_bytes()),
        }
    }
}

/// The tracers that an event is for, and what they are shown. `None` for what no core writes.
pub(crate) fn read(record: &[u8], core: usize) -> Option<(u8, Value)> {
    let mut take = Take(record);
    let [mask, kind] = take.array::<2>()?;
    let (number, wall_us, at_us) = (take.u64()?, take.u64()?, take.u64()?);
    let mut object = Map::new();
    object.insert("time".to_owned(), json!(time(wall_us)));
    object.insert("session".to_owned(), json!(format!("{core}-{number}")));
    object.insert("at".to_owned(), json!(seconds(at_us)));
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match kind {
        1 => {
            let ip: IpAddr = match take.text()? {
                v4 if v4.len() == 4 => <[u8; 4]>::try_from(v4).ok()?.into(),
                v6 => <[u8; 16]>::try_from(v6).ok()?.into(),
            };
            let port = u16::from_le_bytes(take.array()?);
            let commands = u32::from_le_bytes(take.array()?);
            put("event", json!("begin"));
            put("client", json!(SocketAddr::new(ip, port).to_string()));
            put("listener", json!(shown(take.text()?)));
            put("helo", json!(shown(take.text()?)));
            put("commands", json!(commands));
            if take.array()? == [1] {
                put("from", json!(format!("<{}>", shown(take.text()?))));
            }
        }
        2 | 3 => {
            put("event", json!(if kind == 2 { "command" } else { "reply" }));
            put("text", json!(shown(take.text()?)));
        }
        4 => {
            put("event", json!("tls"));
            put("tls", json!(shown(take.text()?)));
            put("cipher", json!(shown(take.text()?)));
        }
        5 => {
            let octets = take.u64()?;
            put("event", json!("queued"));
            put("id", json!(shown(take.text()?)));
            put("size", json!(octets));
        }
        6 => {
            put("event", json!("answered"));
            put("delay", json!(seconds(take.u64()?)));
        }
        7 => {
            put("event", json!("end"));
            put("end", json!(shown(take.text()?)));
        }
        _ => return None,
    }
    Some((mask, Value::Object(object)))
}

/// A text of a peer: nothing in it that a terminal obeys. Line ends inside a reply are `\r\n` in words.
fn shown(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(octets.len());
    for piece in octets.utf8_chunks() {
        for c in piece.valid().chars() {
            let turns = matches!(c, '\u{061c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if c == '\\' || c.is_control() || turns {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for octet in piece.invalid() {
            // A text takes whatever is written to it.
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// RFC 3339 with microseconds, UTC.
pub(crate) fn time(wall_us: u64) -> String {
    let time = i64::try_from(wall_us).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    format!("{:.6}", time.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

fn text(out: &mut Vec<u8>, octets: &[u8]) {
    let octets = &octets[..octets.len().min(TEXT_OCTETS_MAX)];
    out.extend_from_slice(&u16::try_from(octets.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(octets);
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let octets = usize::from(u16::from_le_bytes(self.array()?));
        let (front, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(event: Event<'_>) -> (u8, Value) {
        let mut record = Vec::new();
        event.put(5, 17, 1_795_444_860_123_456, 1_500, &mut record);
        assert!(read(&record[..record.len() - 1], 2).is_none(), "cut off");
        read(&record, 2).expect("an event")
    }

    #[test]
    fn events_become_objects() {
        let begin = Begin {
            client: SocketAddr::from(([192, 0, 2, 1], 4000)),
            listener: "mx",
            helo: "x",
            from: Some(""),
            commands: 3,
        };
        let (mask, begun) = through(Event::Begin(begin));
        assert_eq!(mask, 5);
        let expected = json!({
            "time": "2026-11-23T14:41:00.123456Z", "session": "2-17", "at": 0.0015, "event": "begin",
            "client": "192.0.2.1:4000", "listener": "mx", "helo": "x", "commands": 3, "from": "<>",
        });
        assert_eq!(begun, expected);
        assert_eq!(through(Event::Queued("A1", 12)).1["size"], 12);
        assert_eq!(through(Event::Answered(2_000_000)).1["delay"], 2.0);
        assert_eq!(through(Event::End("quit")).1["end"], "quit");
        assert_eq!(through(Event::Tls("TLSv1.3", "c")).1["cipher"], "c");
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        let (_, command) = through(Event::Command(b"EHLO \x1b[2J\xff\xc2\x9b\\"));
        assert_eq!(command["text"], "EHLO \\u{1b}[2J\\xff\\u{9b}\\\\");
        let (_, long) = through(Event::Reply(&[b'x'; 4096]));
        assert_eq!(long["text"].as_str().map(str::len), Some(TEXT_OCTETS_MAX));
    }
}
