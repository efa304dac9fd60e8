//! The gateway's own log: every acknowledged message under the id that was told.
//!
//! One walk over all logs of the data directory, beside the running gateway or after its end. The checksum of each body is computed here,
//! not taken from the log, and compared with that of the message that was sent. A message of this run that was not
//! acknowledged (the connection was lost before its 250) may be there or not; when it is there it must be whole.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use crc_fast::{CrcAlgorithm, Digest};
use inrush_log::{Entry, Message, ReadError, Reader, RecordKind};

use super::{Sought, Verification};

/// The field that names run and number stands within so many octets from the start of a message.
const HEADER_OCTETS_MAX: usize = 2048;
/// The log is read from this time before the start of the run on, microseconds: clocks of two processes may differ a little.
const CLOCK_SLACK_US: u64 = 60_000_000;

/// Looks for the run's messages in `data_directory`.
///
/// # Errors
/// The directory holds no readable log, or the disk fails.
pub(super) fn verify(data_directory: &Path, sought: &Sought<'_>) -> Result<Verification, String> {
    let place = |error: &dyn std::fmt::Display| format!("{}: {error}", data_directory.display());
    let mut verification =
        Verification { acknowledged: sought.acknowledged.len() as u64, ..Verification::default() };
    let mut open: HashMap<&str, u64> = HashMap::with_capacity(sought.acknowledged.len());
    for acknowledged in sought.acknowledged {
        if acknowledged.id().is_empty() {
            verification.without_id += 1;
            verification.missing += 1;
        } else if let Some(other) = open.insert(acknowledged.id(), acknowledged.n) {
            verification.duplicated += 1;
            verification.example(format!(
                "messages {other} and {} both got id {}",
                acknowledged.n,
                acknowledged.id()
            ));
        }
    }
    let mark = format!("\r\nX-Inrush-Load: {:016x}-", sought.run).into_bytes();
    let mut seen = HashSet::new();
    let mut readers = Reader::open_all(data_directory).map_err(|error| place(&error))?;
    if readers.is_empty() {
        return Err(place(&"no log in this directory"));
    }
    for reader in &mut readers {
        reader.seek_time(sought.started_us.saturating_sub(CLOCK_SLACK_US));
        loop {
            let message = match reader.next().map_err(|error| place(&error))? {
                None => break,
                Some(Entry::Bad(bad)) => {
                    verification.damaged += 1;
                    verification.example(bad.to_string());
                    continue;
                }
                Some(Entry::Record(record)) if record.header.kind == RecordKind::Message => {
                    Message::from_record(&record)
                }
                Some(Entry::Record(_)) => continue,
            };
            let id = message.id.to_string();
            let body = match read(reader, &message) {
                Ok(body) => body,
                Err(ReadError::Damaged(bad)) => {
                    verification.damaged += 1;
                    verification.example(bad.to_string());
                    continue;
                }
                Err(error) => return Err(place(&error)),
            };
            let number = number(&body.head, &mark);
            let promised = open.remove(id.as_str());
            let Some(n) = promised.or(number) else { continue };
            if number != Some(n) || (body.checksum, body.octets) != sought.content.checksum(n) {
                verification.altered += 1;
                verification
                    .example(format!("message {n}, id {id}: {} octets that were not sent", body.octets));
                continue;
            }
            if !seen.insert(n) {
                verification.duplicated += 1;
                verification.example(format!("message {n} is stored again as {id}"));
            }
            if promised.is_some() {
                verification.found += 1;
            } else {
                verification.unacknowledged += 1;
            }
        }
    }
    verification.missing += open.len() as u64;
    for (id, n) in open {
        verification.example(format!("message {n}, id {id}: not in the log"));
    }
    Ok(verification)
}

/// What is compared of a body.
struct Body {
    checksum: u32,
    octets: u64,
    /// Its first octets.
    head: Vec<u8>,
}

fn read(reader: &mut Reader, message: &Message) -> Result<Body, ReadError> {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut octets = 0;
    let mut head = Vec::new();
    reader.read_body(message, |piece| {
        digest.update(piece);
        octets += piece.len() as u64;
        head.extend_from_slice(&piece[..piece.len().min(HEADER_OCTETS_MAX - head.len())]);
        io::Result::Ok(())
    })?;
    Ok(Body { checksum: (digest.finalize() & 0xffff_ffff) as u32, octets, head })
}

/// The number behind the mark of this run.
fn number(head: &[u8], mark: &[u8]) -> Option<u64> {
    let at = head.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let digits = head[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&head[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::FileExt as _;
    use std::path::PathBuf;

    use inrush_log::{AppendError, Appender, DataDirectory, EnvelopeRef, LogSettings};

    use super::*;
    use crate::acks::Acknowledged;
    use crate::content::{Content, ContentSettings};

    fn content() -> Content {
        Content::new(&ContentSettings {
            seed: 3,
            run: 77,
            sizes: "mix:500=9,700KiB=1".parse().unwrap(),
            from: "a@one.example",
            date: "Sat, 21 Nov 2026 21:44:57 +0000",
            dot_lines_percent: 0,
        })
    }

    /// Does all writes that the log wants, as the gateway's core would.
    fn commit(log: &mut Appender) {
        while let Some(write) = log.next_write() {
            let result = write.run();
            log.write_done(write, result).unwrap();
        }
    }

    /// Appends until it fits.
    fn fit<T>(log: &mut Appender, mut append: impl FnMut(&mut Appender) -> Result<T, AppendError>) -> T {
        loop {
            match append(log) {
                Ok(done) => return done,
                Err(AppendError::BatchFull) => commit(log),
                // The helper thread is still writing the next segment.
                Err(AppendError::NoSpace(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn store(log: &mut Appender, message: &[u8]) -> String {
        let mut chunks = Vec::new();
        let mut rest = message;
        while rest.len() > 200_000 {
            let (head, tail) = rest.split_at(200_000);
            chunks.push(fit(log, |log| log.append_chunk(std::iter::once(head), head.len(), 1)));
            rest = tail;
        }
        let envelope = EnvelopeRef { chunks: &chunks, ..EnvelopeRef::default() };
        let appended = fit(log, |log| log.append_message(&envelope, std::iter::once(rest), rest.len(), 1));
        appended.id.to_string()
    }

    fn log(path: &Path) -> (DataDirectory, Appender) {
        let settings = LogSettings { segment_bytes: 4 << 20, free_bytes_min: 0, ..LogSettings::default() };
        let mut directory = DataDirectory::open(path, &settings, 1).unwrap();
        let (log, _) = directory.open_log(0, || {}).unwrap();
        (directory, log)
    }

    fn look(path: &Path, content: &Content, acknowledged: &[Acknowledged]) -> Verification {
        verify(path, &Sought { content, run: 77, started_us: 0, acknowledged }).unwrap()
    }

    #[test]
    fn what_was_stored_is_found_and_what_was_not_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("data");
        let content = content();
        let (_keep, mut log) = log(&path);
        let mut acknowledged: Vec<Acknowledged> = (0..60)
            .map(|n| Acknowledged::new(n, 1, store(&mut log, &content.message(n)).as_bytes()))
            .collect();
        // Somebody else's mail, and one of ours whose 250 was lost.
        store(&mut log, b"Subject: other\r\n\r\nhello\r\n");
        store(&mut log, &content.message(60));
        commit(&mut log);
        let verification = look(&path, &content, &acknowledged);
        assert!(verification.holds(), "{verification:?}");
        assert_eq!((verification.found, verification.unacknowledged), (60, 1));

        // One that is missing, one without an id.
        acknowledged.push(Acknowledged::new(61, 1, b"0001000FFFFFFFFFFFF0"));
        acknowledged.push(Acknowledged::new(62, 1, b""));
        let verification = look(&path, &content, &acknowledged);
        assert_eq!((verification.missing, verification.without_id, verification.holds()), (2, 1, false));
        acknowledged.truncate(60);

        // One that is stored twice.
        store(&mut log, &content.message(5));
        commit(&mut log);
        let verification = look(&path, &content, &acknowledged);
        assert_eq!((verification.duplicated, verification.holds()), (1, false));
    }

    #[test]
    fn altered_and_damaged_messages_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("data");
        let content = content();
        let (_keep, mut log) = log(&path);
        // The header of another run's content: same number, other octets.
        let mut other = content.message(0);
        let last = other.len() - 3;
        other[last] ^= 1;
        let mut acknowledged = vec![Acknowledged::new(0, 1, store(&mut log, &other).as_bytes())];
        // An id that leads to another message.
        acknowledged.push(Acknowledged::new(2, 1, store(&mut log, &content.message(1)).as_bytes()));
        commit(&mut log);
        let verification = look(&path, &content, &acknowledged);
        assert_eq!((verification.altered, verification.found, verification.holds()), (2, 0, false));

        let whole = store(&mut log, &content.message(3));
        commit(&mut log);
        let last = [Acknowledged::new(3, 1, whole.as_bytes())];
        assert_eq!(look(&path, &content, &last).found, 1);
        // A later record says that this one was durable, so it cannot be taken for a torn tail.
        store(&mut log, &content.message(4));
        commit(&mut log);
        let segments = std::fs::read_dir(path.join("arrival-00")).unwrap().flatten();
        let needle = content.message(3);
        let needle = &needle[needle.len() - 40..];
        for file in segments.filter(|entry| entry.path().extension().is_some_and(|end| end == "seg")) {
            let octets = std::fs::read(file.path()).unwrap();
            if let Some(at) = octets.windows(needle.len()).position(|window| window == needle) {
                let file = std::fs::OpenOptions::new().write(true).open(file.path()).unwrap();
                file.write_at(b"#", at as u64).unwrap();
            }
        }
        let verification = look(&path, &content, &last);
        assert!(verification.damaged >= 1 && !verification.holds(), "{verification:?}");
        assert_eq!(verification.missing, 1);
    }

    #[test]
    fn no_log_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let sought = Sought { content: &content(), run: 77, started_us: 0, acknowledged: &[] };
        assert!(verify(directory.path(), &sought).is_err());
        assert!(verify(&directory.path().join("nowhere"), &sought).is_err());
    }
}
