//! The parts of the accept path, each as something that can be called as often as one likes and says whether its answer was right.
//!
//! Octets and calls are the same in every run, so that counted instructions are as well.

use std::rc::Rc;

use inrush_log::sim::SimStorage;
use inrush_log::{
    AppendError, Appended, Appender, BLOCK_OCTETS, DataDirectory, Envelope, EnvelopeRef, LogKind,
    LogSettings, RECORD_HEADER_OCTETS, Recipient, RecordHeader, RecoveryReport, SegmentHeader, Span,
    log_directory, segment_name,
};
use inrush_proto::{Accepted, Context, Event, Session, Settings, Unobserved, Verdict};
use inrush_scan::Scanner;

use crate::measure::Work;
use crate::texts::Text;

/// Octets of the mail of every part.
const MAIL_OCTETS: usize = 4096;

/// Messages of the log that is recovered.
pub const RECOVERED_MESSAGES: u64 = 1000;

/// Octets of a segment: what one run appends fits into one.
const SEGMENT_BYTES: u64 = 256 << 20;

/// That of the log that is recovered: half of it is full, and the rest is looked through as well.
const RECOVERED_SEGMENT_BYTES: u64 = 16 << 20;

/// A part: its name, what one call does, and how to make it.
pub struct Part {
    /// On the command line and in the result.
    pub name: &'static str,
    /// What one call is.
    pub call: &'static str,
    /// Calls of one run, few enough for the memory of the simulated disk.
    pub calls: u32,
    /// Makes it.
    pub make: fn() -> Work<'static>,
}

/// All of them, along the way of a message.
pub const PARTS: &[Part] = &[
    Part { name: "scan", call: "4 KiB of mail data, its end in it", calls: 20_000, make: scan },
    Part {
        name: "session",
        call: "MAIL, RCPT, DATA and 4 KiB, through proto::Session",
        calls: 5_000,
        make: session,
    },
    Part {
        name: "record-empty",
        call: "a record without a body: envelope, header, CRC",
        calls: 20_000,
        make: || record(0),
    },
    Part {
        name: "record",
        call: "a record with 4 KiB: envelope, copy into the batch, CRC",
        calls: 20_000,
        make: || record(MAIL_OCTETS),
    },
    Part { name: "crc", call: "the CRC-32C of 4 KiB, checked", calls: 20_000, make: crc },
    Part { name: "envelope", call: "an envelope read and checked", calls: 20_000, make: envelope },
    Part { name: "recovery", call: "a log of 1,000 messages of 4 KiB recovered", calls: 40, make: recovery },
];

fn scan() -> Work<'static> {
    let data = Text::Prose.mail_data(MAIL_OCTETS);
    Box::new(move || Scanner::new().scan_data(&data) == Some(data.len()))
}

fn session() -> Work<'static> {
    let data = Text::Prose.mail_data(MAIL_OCTETS);
    let envelope = b"MAIL FROM:<sender-1234@mail.one.example> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<recipient@two.example>\r\n";
    let input = [&envelope[..], b"DATA\r\n", &data].concat();
    // The data without the line that ends it.
    let expected = data.len() - 3;
    let context = Context::new(Settings::default(), Box::new(Unobserved));
    let mut session = begin(&context);
    let mut output = Vec::with_capacity(16 * 1024);
    Box::new(move || {
        // Transactions of a session are limited.
        if session.transactions() >= 900 {
            session = begin(&context);
        }
        play(&mut session, &input, &mut output).0 == expected && output.starts_with(b"250 2.1.0")
    })
}

fn begin(context: &Rc<Context>) -> Session {
    let mut session = Session::new(Rc::clone(context));
    play(&mut session, b"EHLO client.example\r\n", &mut Vec::new());
    session
}

/// Plays what the client sends to its end, with every recipient and every message taken; gives back the octets of the messages and of the replies,
/// which are in `output`.
pub fn play(session: &mut Session, mut input: &[u8], output: &mut Vec<u8>) -> (usize, usize) {
    let mut octets = 0;
    loop {
        let progress = session.advance(input);
        input = &input[progress.consumed..];
        match progress.event {
            Event::Recipient(_) => session.verdict(Verdict::Accept),
            Event::Message(body) => {
                octets += body.pieces().map(<[u8]>::len).sum::<usize>();
                session.appended(Ok(Accepted { gate: 0, id: "0001010000000000000A" }));
            }
            _ => {
                output.clear();
                return (octets, session.take_ready(output));
            }
        }
    }
}

fn record(body_octets: usize) -> Work<'static> {
    let mut log = Log::new(SEGMENT_BYTES);
    let body = Text::Prose.mail_data(MAIL_OCTETS)[..body_octets].to_vec();
    Box::new(move || {
        let Some(appended) = log.append(&body) else { return false };
        // As if the disk had taken it.
        log.write(false);
        log.appender.committed() >= appended.gate
    })
}

fn crc() -> Work<'static> {
    let (header, content) = one_record();
    Box::new(move || header.content_holds(&content))
}

fn envelope() -> Work<'static> {
    let (header, content) = one_record();
    Box::new(move || {
        let split = header.split(&content);
        split.is_some_and(|(envelope, body)| {
            let read = Envelope::read(header.envelope_version, envelope);
            body.len() == MAIL_OCTETS
                && read
                    .is_ok_and(|read| read.reverse_path() == REVERSE_PATH && read.recipients().count() == 1)
        })
    })
}

fn recovery() -> Work<'static> {
    let mut log = Log::new(RECOVERED_SEGMENT_BYTES);
    let body = Text::Prose.mail_data(MAIL_OCTETS);
    for _ in 0..RECOVERED_MESSAGES {
        assert!(log.append(&body).is_some(), "the segment takes them");
        log.write(true);
    }
    let Log { storage, directory, appender } = log;
    // The power fails: the segment has no seal.
    let mut storage = storage.restart();
    drop((directory, appender));
    let segment = format!("{}/{}", log_directory(LogKind::Arrival, 0), segment_name(1));
    let seal = usize::try_from(RECOVERED_SEGMENT_BYTES).unwrap_or(usize::MAX) - BLOCK_OCTETS;
    let settings = settings(RECOVERED_SEGMENT_BYTES);
    Box::new(move || {
        let recovered = DataDirectory::on_without_helper(storage.clone(), &settings, 0)
            .and_then(|mut directory| directory.adopt_logs());
        // Recovery has sealed the segment: without its seal the next call has the same to do.
        storage = storage.kill();
        storage.rot(&segment, seal, 0xFF);
        let messages = |recovered: Vec<(String, RecoveryReport)>| -> u64 {
            recovered.iter().map(|(_, report)| report.messages).sum()
        };
        recovered.is_ok_and(|recovered| messages(recovered) == RECOVERED_MESSAGES)
    })
}

const REVERSE_PATH: &[u8] = b"sender-1234@mail.one.example";

/// A log on a simulated disk.
struct Log {
    storage: SimStorage,
    directory: DataDirectory<SimStorage>,
    appender: Appender<SimStorage>,
}

impl Log {
    fn new(segment_bytes: u64) -> Self {
        let storage = SimStorage::new(1);
        let opened = DataDirectory::on_without_helper(storage.clone(), &settings(segment_bytes), 0);
        let mut directory = opened.unwrap_or_else(|error| panic!("an empty disk: {error}"));
        let opened = directory.open_log(0, || {});
        let (appender, _) = opened.unwrap_or_else(|error| panic!("an empty disk: {error}"));
        Self { storage, directory, appender }
    }

    /// Appends a message with one recipient; `None` where the log does not take it.
    fn append(&mut self, body: &[u8]) -> Option<Appended> {
        let recipients = [Recipient { path: Span::new(0, 21), ..Recipient::default() }];
        let envelope = EnvelopeRef {
            text: b"recipient@two.example",
            recipients: &recipients,
            hostname: b"mx.inrush.example",
            listener: b"mx",
            helo: b"client.example",
            reverse_path: REVERSE_PATH,
            peer: Some(([192, 0, 2, 1], 25_000).into()),
            local: Some(([192, 0, 2, 2], 25).into()),
            size_declared: Some(4096),
            ..EnvelopeRef::default()
        };
        let mut append =
            || self.appender.append_message(&envelope, std::iter::once(body), body.len(), 1_000_000);
        match append() {
            Err(AppendError::NoSpace(_)) => {
                self.directory.prepare_segments();
                append().ok()
            }
            appended => appended.ok(),
        }
    }

    /// Takes the writes that are due; `really`: to the disk.
    fn write(&mut self, really: bool) {
        while let Some(write) = self.appender.next_write() {
            let octets = write.bytes().len();
            let result = if really { write.run() } else { Ok(octets) };
            if self.appender.write_done(write, result).is_err() {
                return;
            }
        }
    }
}

fn settings(segment_bytes: u64) -> LogSettings {
    LogSettings { segment_bytes, free_bytes_min: 0, free_inodes_min: 0, ..LogSettings::default() }
}

/// The header and the content of a record as it stands in the log.
fn one_record() -> (RecordHeader, Vec<u8>) {
    let mut log = Log::new(SEGMENT_BYTES);
    let found = log.append(&Text::Prose.mail_data(MAIL_OCTETS)).and_then(|appended| {
        let write = log.appender.next_write()?;
        let segment = format!("{}/{}", log_directory(LogKind::Arrival, 0), segment_name(write.segment()));
        let first = log.storage.content(&segment)?;
        let salt = SegmentHeader::decode(first.get(..BLOCK_OCTETS)?).ok()?.salt;
        let begin = appended.lsn.get() - write.segment() * SEGMENT_BYTES - write.offset();
        let raw = write.bytes().get(usize::try_from(begin).ok()?..)?;
        let header =
            RecordHeader::decode(raw.first_chunk::<RECORD_HEADER_OCTETS>()?, salt, appended.lsn).ok()?;
        let octets = (header.envelope_octets + header.body_octets) as usize;
        Some((header, raw[RECORD_HEADER_OCTETS..][..octets].to_vec()))
    });
    found.unwrap_or_else(|| panic!("the batch begins with the record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_right_again_and_again() {
        for part in PARTS {
            let mut work = (part.make)();
            assert!((0..3).all(|_| work()), "{}", part.name);
        }
    }
}
