//! What a core says of messages, sessions and refused connections: records of a ring, and the lines that they become.
//!
//! A core writes a record into its ring and goes on; the writer makes a line of it. The line of a message waits in between for the record that says
//! up to where the log is durable: it is about a message that has its `250`, or would have if its client were still there.

use std::net::SocketAddr;

use tracing::Level;

use crate::codec::{Put, Take};
use crate::line::{Line, Value, text_of};
use crate::ring::Names;

/// Octets of one text of a peer in a line; the rest of it is left out.
pub const TEXT_OCTETS_MAX: usize = 512;

/// Recipients that the line of a message can name.
pub const RECIPIENTS_SHOWN_MAX: u8 = 100;

/// Kinds of refusals of one session that are told apart.
const REFUSAL_KINDS: usize = 6;

/// Kinds of records.
const MESSAGE: u8 = 1;
const COMMITTED: u8 = 2;
const SESSION: u8 = 3;
const REFUSED: u8 = 4;

/// Modules of the lines, which may have levels of their own.
pub(crate) const OF_MESSAGES: &str = "inrush_gateway::message";
pub(crate) const OF_SESSIONS: &str = "inrush_gateway::session";
pub(crate) const OF_CONNECTIONS: &str = "inrush_gateway::admission";

/// Who is at the other end, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Index of the listener.
    pub listener: usize,
    /// Number of the session on its core.
    pub session: u64,
    /// Address of the client.
    pub client: SocketAddr,
    /// What a filter has said its name is.
    pub client_name: Option<&'a str>,
    /// Who has introduced it.
    pub proxy: Option<SocketAddr>,
    /// Argument of HELO, EHLO or LHLO; empty before.
    pub helo: &'a str,
    /// SMTP, ESMTPS … (RFC 3848).
    pub protocol: &'static str,
    /// Who has logged in.
    pub user: Option<&'a str>,
    /// Version and cipher suite of TLS.
    pub tls: Option<(&'a str, &'a str)>,
}

impl Peer<'_> {
    fn put(&self, put: &mut Put<'_>) {
        put.u16(u16::try_from(self.listener).unwrap_or(u16::MAX));
        put.u64(self.session);
        put.address(Some(self.client));
        put.address(self.proxy);
        let (version, cipher) = self.tls.unwrap_or_default();
        let texts = [
            self.client_name.unwrap_or_default(),
            self.helo,
            self.protocol,
            self.user.unwrap_or_default(),
            version,
            cipher,
        ];
        texts.iter().for_each(|text| put.octets(text.as_bytes(), TEXT_OCTETS_MAX));
    }

    /// Adds to the fields of a line.
    fn take(take: &mut Take<'_>, names: &Names, fields: &mut Vec<(&'static str, Value)>) -> Option<()> {
        fields.push(("listener", Value::Text(names.listener(take.u16()?))));
        fields.push(("session", Value::Text(format!("{}-{}", names.core, take.u64()?))));
        fields.push(("client", Value::Text(take.address()??.to_string())));
        if let Some(proxy) = take.address()? {
            fields.push(("proxy", Value::Text(proxy.to_string())));
        }
        for name in ["client_name", "helo", "protocol", "user", "tls", "cipher"] {
            let text = take.octets()?;
            if !text.is_empty() {
                fields.push((name, Value::Text(text_of(text))));
            }
        }
        Some(())
    }
}

/// A message that the log has taken. Times are microseconds of the core's clock.
#[derive(Clone, Copy, Debug)]
pub struct MessageQueued<'a> {
    /// When it was taken, in microseconds since 1970.
    pub wall_us: u64,
    /// The position in the log from which on it is durable.
    pub gate: u64,
    /// Its id.
    pub id: &'a str,
    /// Who has sent it.
    pub peer: Peer<'a>,
    /// The reverse-path without brackets.
    pub from: &'a str,
    /// Recipients.
    pub recipients: usize,
    /// Octets (RFC 1870 §3).
    pub size: u64,
    /// It came by BDAT.
    pub chunking: bool,
    /// When its MAIL came.
    pub mail_us: u64,
    /// When its DATA or first BDAT came.
    pub data_us: u64,
    /// When its last octets came.
    pub end_us: u64,
    /// When it was appended.
    pub appended_us: u64,
}

impl MessageQueued<'_> {
    pub(crate) fn put<'r>(&self, recipients: impl Iterator<Item = &'r str>, record: &mut Vec<u8>) {
        let mut put = Put(record);
        put.u8(MESSAGE);
        for number in [
            self.gate,
            self.wall_us,
            self.mail_us,
            self.data_us,
            self.end_us,
            self.appended_us,
            self.size,
            self.recipients as u64,
        ] {
            put.u64(number);
        }
        put.u8(u8::from(self.chunking));
        put.octets(self.id.as_bytes(), TEXT_OCTETS_MAX);
        self.peer.put(&mut put);
        put.octets(self.from.as_bytes(), TEXT_OCTETS_MAX);
        let count = put.0.len();
        put.u8(0);
        let mut shown = 0;
        for recipient in recipients.take(RECIPIENTS_SHOWN_MAX.into()) {
            put.octets(recipient.as_bytes(), TEXT_OCTETS_MAX);
            shown += 1;
        }
        put.0[count] = shown;
    }
}

/// A session that has ended.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnded<'a> {
    /// When, in microseconds since 1970.
    pub wall_us: u64,
    /// Who it was with.
    pub peer: Peer<'a>,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Commands.
    pub commands: u32,
    /// Messages that were taken.
    pub messages: u32,
    /// What was refused.
    pub refusals: Option<&'a Refusals>,
    /// How it ended: a value of `inrush_sessions_ended_total`.
    pub end: &'static str,
    /// The setting of the clock that ran out.
    pub timeout: Option<&'static str>,
}

impl SessionEnded<'_> {
    pub(crate) fn put(&self, record: &mut Vec<u8>) {
        let mut put = Put(record);
        put.u8(SESSION);
        put.u64(self.wall_us);
        put.u64(self.duration_us);
        put.u32(self.commands);
        put.u32(self.messages);
        put.octets(self.end.as_bytes(), TEXT_OCTETS_MAX);
        put.octets(self.timeout.unwrap_or_default().as_bytes(), TEXT_OCTETS_MAX);
        self.peer.put(&mut put);
        let refusals = self.refusals.copied().unwrap_or_default();
        put.u8(refusals.used);
        for (reason, count) in &refusals.kinds[..usize::from(refusals.used)] {
            put.u16(*reason);
            put.u32(*count);
        }
        put.u32(refusals.others);
    }
}

/// What one session was refused: how often for which reason. A few kinds are told apart, the others are counted together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals {
    kinds: [(u16, u32); REFUSAL_KINDS],
    used: u8,
    others: u32,
}

impl Refusals {
    /// Counts a refusal with the reply of this index.
    pub fn add(&mut self, reply: u16) {
        let used = usize::from(self.used);
        if let Some((_, count)) = self.kinds[..used].iter_mut().find(|(known, _)| *known == reply) {
            *count = count.saturating_add(1);
        } else if let Some(free) = self.kinds.get_mut(used) {
            *free = (reply, 1);
            self.used += 1;
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds what another one has counted.
    pub fn join(&mut self, other: &Self) {
        for (reply, count) in &other.kinds[..usize::from(other.used)] {
            self.add(*reply);
            if let Some((_, known)) = self.kinds.iter_mut().find(|(known, _)| known == reply) {
                *known = known.saturating_add(count - 1);
            } else {
                self.others = self.others.saturating_add(count - 1);
            }
        }
        self.others = self.others.saturating_add(other.others);
    }
}

/// A connection that got no session.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRefused {
    /// When, in microseconds since 1970.
    pub wall_us: u64,
    /// Index of the listener.
    pub listener: usize,
    /// Who wanted one.
    pub client: SocketAddr,
    /// Why not: a value of `inrush_connections_refused_total`.
    pub reason: &'static str,
}

impl ConnectionRefused {
    pub(crate) fn put(&self, record: &mut Vec<u8>) {
        let mut put = Put(record);
        put.u8(REFUSED);
        put.u64(self.wall_us);
        put.u16(u16::try_from(self.listener).unwrap_or(u16::MAX));
        put.address(Some(self.client));
        put.octets(self.reason.as_bytes(), TEXT_OCTETS_MAX);
    }
}

/// The log is durable up to `gate` by a write from `started_us` to `now_us`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) gate: u64,
    pub(crate) wall_us: u64,
    pub(crate) started_us: u64,
    pub(crate) now_us: u64,
}

impl Committed {
    pub(crate) fn put(&self, record: &mut Vec<u8>) {
        let mut put = Put(record);
        put.u8(COMMITTED);
        [self.gate, self.wall_us, self.started_us, self.now_us].iter().for_each(|number| put.u64(*number));
    }
}

/// A message whose record has come, until it is durable.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) gate: u64,
    mail_us: u64,
    data_us: u64,
    end_us: u64,
    appended_us: u64,
    line: Line,
}

impl Waiting {
    /// The line, now that `committed` has come.
    pub(crate) fn durable(self, committed: &Committed) -> Line {
        let Self { mut line, mail_us, data_us, end_us, appended_us, .. } = self;
        let marks = [mail_us, data_us, end_us, committed.started_us.max(appended_us), committed.now_us];
        let delays = [0, 1, 2, 3].map(|at| marks[at + 1].saturating_sub(marks[at]));
        line.time_us = committed.wall_us;
        line.fields.push(("delay", Value::Seconds(committed.now_us.saturating_sub(mail_us))));
        line.fields.push(("delays", Value::SecondsList(delays.to_vec())));
        line.fields.push(("status", Value::Text("queued".to_owned())));
        line
    }
}

/// What a record has said.
#[derive(Debug)]
pub(crate) enum Told {
    Message(Box<Waiting>),
    Committed(Committed),
    Line(Line),
    /// A line whose kind may repeat: its reason.
    Repeating(Line),
}

/// Takes a record apart. `None` for what no core writes.
pub(crate) fn read(record: &[u8], names: &Names, recipients_shown: usize) -> Option<Told> {
    let mut take = Take(record);
    Some(match take.u8()? {
        MESSAGE => Told::Message(Box::new(message(&mut take, names, recipients_shown)?)),
        COMMITTED => Told::Committed(Committed {
            gate: take.u64()?,
            wall_us: take.u64()?,
            started_us: take.u64()?,
            now_us: take.u64()?,
        }),
        SESSION => Told::Line(session(&mut take, names)?),
        REFUSED => {
            let time_us = take.u64()?;
            let listener = names.listener(take.u16()?);
            let client = take.address()??;
            let fields = vec![
                ("listener", Value::Text(listener)),
                ("client", Value::Text(client.to_string())),
                ("reason", Value::Text(text_of(take.octets()?))),
            ];
            let msg = "connection refused".to_owned();
            Told::Repeating(Line { time_us, level: Level::INFO, module: OF_CONNECTIONS, msg, fields })
        }
        _ => return None,
    })
}

fn message(take: &mut Take<'_>, names: &Names, recipients_shown: usize) -> Option<Waiting> {
    let (gate, time_us) = (take.u64()?, take.u64()?);
    let (mail_us, data_us, end_us, appended_us) = (take.u64()?, take.u64()?, take.u64()?, take.u64()?);
    let (size, recipients, chunking) = (take.u64()?, take.u64()?, take.u8()? != 0);
    let mut fields = vec![("id", Value::Text(text_of(take.octets()?)))];
    Peer::take(take, names, &mut fields)?;
    fields.push(("from", Value::Text(bracketed(take.octets()?))));
    let listed = take.u8()?;
    let to = (0..listed).map(|_| take.octets().map(bracketed)).collect::<Option<Vec<_>>>()?;
    fields.push(("to", Value::List(to.into_iter().take(recipients_shown).collect())));
    fields.push(("nrcpt", Value::Unsigned(recipients)));
    fields.push(("size", Value::Unsigned(size)));
    fields.push(("transfer", Value::Text(if chunking { "bdat" } else { "data" }.to_owned())));
    let msg = "message queued".to_owned();
    let line = Line { time_us, level: Level::INFO, module: OF_MESSAGES, msg, fields };
    Some(Waiting { gate, mail_us, data_us, end_us, appended_us, line })
}

fn session(take: &mut Take<'_>, names: &Names) -> Option<Line> {
    let (time_us, duration) = (take.u64()?, take.u64()?);
    let (commands, messages) = (take.u32()?, take.u32()?);
    let (end, timeout) = (text_of(take.octets()?), text_of(take.octets()?));
    let mut fields = Vec::with_capacity(16);
    Peer::take(take, names, &mut fields)?;
    fields.push(("duration", Value::Seconds(duration)));
    fields.push(("commands", Value::Unsigned(commands.into())));
    fields.push(("messages", Value::Unsigned(messages.into())));
    let mut refused = Vec::new();
    for _ in 0..take.u8()? {
        refused.push((names.reason(take.u16()?), u64::from(take.u32()?)));
    }
    match take.u32()? {
        0 => {}
        others => refused.push(("others", others.into())),
    }
    if !refused.is_empty() {
        fields.push(("refused", Value::Counts(refused)));
    }
    fields.push(("end", Value::Text(end)));
    if !timeout.is_empty() {
        fields.push(("timeout", Value::Text(timeout)));
    }
    let msg = "session ended".to_owned();
    Some(Line { time_us, level: Level::INFO, module: OF_SESSIONS, msg, fields })
}

fn bracketed(path: &[u8]) -> String {
    format!("<{}>", text_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;

    fn names() -> Names {
        Names { core: 3, listeners: vec!["mx".to_owned()], reasons: vec!["", "user_unknown", "bad_sequence"] }
    }

    fn peer() -> Peer<'static> {
        Peer {
            listener: 0,
            session: 17,
            client: SocketAddr::from(([192, 0, 2, 7], 4711)),
            client_name: None,
            proxy: None,
            helo: "mail.one.example",
            protocol: "ESMTPS",
            user: None,
            tls: Some(("TLSv1.3", "TLS13_AES_256_GCM_SHA384")),
        }
    }

    fn written(line: &Line) -> String {
        let mut out = String::new();
        Form::Logfmt.write(line, &mut out);
        out.split_once(" msg=").map(|(_, facts)| facts.to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_message_has_its_line_when_it_is_durable() {
        let mut record = Vec::new();
        let message = MessageQueued {
            wall_us: 1_000_000,
            gate: 4096,
            id: "0000000000000000A001",
            peer: peer(),
            from: "",
            recipients: 3,
            size: 612,
            chunking: false,
            mail_us: 1_000,
            data_us: 3_000,
            end_us: 7_000,
            appended_us: 7_500,
        };
        message.put(["a@b.example", "c@b.example", "d@b.example"].into_iter(), &mut record);
        let Some(Told::Message(waiting)) = read(&record, &names(), 2) else { panic!("no message") };
        assert_eq!(waiting.gate, 4096);
        let committed = Committed { gate: 4096, wall_us: 1_002_000, started_us: 8_000, now_us: 9_000 };
        let line = waiting.durable(&committed);
        assert_eq!(line.time_us, 1_002_000);
        assert_eq!(
            written(&line),
            "\"message queued\" id=0000000000000000A001 listener=mx session=3-17 client=192.0.2.7:4711 helo=mail.one.example \
             protocol=ESMTPS tls=TLSv1.3 cipher=TLS13_AES_256_GCM_SHA384 from=<> to=<a@b.example>,<c@b.example> nrcpt=3 size=612 \
             transfer=data delay=0.008000 delays=0.002000/0.004000/0.001000/0.001000 status=queued\n"
        );
    }

    #[test]
    fn a_session_says_what_it_was_refused() {
        let mut refusals = Refusals::default();
        [1, 2, 1, 1].iter().for_each(|reply| refusals.add(*reply));
        let mut of_input = Refusals::default();
        [1, 1].iter().for_each(|reply| of_input.add(*reply));
        refusals.join(&of_input);
        let ended = SessionEnded {
            wall_us: 5,
            peer: Peer { helo: "", tls: None, protocol: "SMTP", ..peer() },
            duration_us: 2_500_000,
            commands: 9,
            messages: 0,
            refusals: Some(&refusals),
            end: "timeout",
            timeout: Some("idle_timeout"),
        };
        let mut record = Vec::new();
        ended.put(&mut record);
        let Some(Told::Line(line)) = read(&record, &names(), 10) else { panic!("no line") };
        assert_eq!(
            written(&line),
            "\"session ended\" listener=mx session=3-17 client=192.0.2.7:4711 protocol=SMTP duration=2.500000 commands=9 messages=0 \
             refused=user_unknown:5,bad_sequence:1 end=timeout timeout=idle_timeout\n"
        );
        assert!(read(&record[..record.len() - 1], &names(), 10).is_none(), "a record that ends too early");
    }

    #[test]
    fn the_fields_are_those_of_the_schema() {
        let mut refusals = Refusals::default();
        refusals.add(1);
        let peer = Peer { client_name: Some("n"), proxy: Some(peer().client), user: Some("u"), ..peer() };
        let (mut one, mut other, mut third) = (Vec::new(), Vec::new(), Vec::new());
        let message = MessageQueued {
            wall_us: 0,
            gate: 1,
            id: "A",
            peer,
            from: "",
            recipients: 0,
            size: 0,
            chunking: true,
            mail_us: 0,
            data_us: 0,
            end_us: 0,
            appended_us: 0,
        };
        message.put(std::iter::empty(), &mut one);
        let ended = SessionEnded {
            wall_us: 0,
            peer,
            duration_us: 0,
            commands: 0,
            messages: 0,
            refusals: Some(&refusals),
            end: "timeout",
            timeout: Some("idle_timeout"),
        };
        ended.put(&mut other);
        ConnectionRefused { wall_us: 0, listener: 0, client: peer.client, reason: "stopping" }
            .put(&mut third);
        let fields = |line: Line| line.fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let Some(Told::Message(message)) = read(&one, &names(), 1) else { panic!("no message") };
        let committed = Committed { gate: 1, wall_us: 0, started_us: 0, now_us: 0 };
        assert_eq!(fields(message.durable(&committed)), crate::schema::MESSAGE_FIELDS);
        let Some(Told::Line(ended)) = read(&other, &names(), 1) else { panic!("no line") };
        assert_eq!(fields(ended), crate::schema::SESSION_FIELDS);
        let Some(Told::Repeating(refused)) = read(&third, &names(), 1) else { panic!("no line") };
        assert_eq!(fields(refused), crate::schema::CONNECTION_FIELDS);
    }

    #[test]
    fn more_kinds_of_refusals_than_are_told_apart() {
        let mut refusals = Refusals::default();
        (0..10).for_each(|reply| refusals.add(reply));
        assert!(!refusals.is_empty());
        assert_eq!((refusals.used, refusals.others), (6, 4));
        let mut twice = refusals;
        twice.join(&refusals);
        assert_eq!((twice.kinds[0], twice.others), ((0, 2), 8));
    }

    #[test]
    fn the_largest_record_is_far_smaller_than_a_ring() {
        let long = "x".repeat(4096);
        let peer = Peer {
            client_name: Some(&long),
            helo: &long,
            user: Some(&long),
            tls: Some((&long, &long)),
            ..peer()
        };
        let message = MessageQueued {
            wall_us: 0,
            gate: 0,
            id: &long,
            peer,
            from: &long,
            recipients: 1000,
            size: 0,
            chunking: true,
            mail_us: 0,
            data_us: 0,
            end_us: 0,
            appended_us: 0,
        };
        let mut record = Vec::new();
        message.put(std::iter::repeat_n(long.as_str(), 1000), &mut record);
        assert!(record.len() <= crate::ring::RECORD_OCTETS_MAX, "{}", record.len());
    }
}
