//! Reading logs: live and stopped, whole and damaged.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use common::{append, append_chunk, body, open, settings, write_all};
use inrush_log::sim::SimStorage;
use inrush_log::{
    BadReason, BadRecord, ConsumerKind, Cursor, DamageKind, DataDirectory, Entry, LogSettings, Lsn,
    MessageId, ReadError, Reader, RecordKind, VerifyEvent, segment_name,
};

fn reader(dir: &Path) -> Reader {
    Reader::open(&dir.join("arrival-00")).unwrap()
}

fn kinds(reader: &mut Reader) -> Vec<Result<RecordKind, BadReason>> {
    let mut kinds = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        kinds.push(match entry {
            Entry::Record(record) => Ok(record.header.kind),
            Entry::Bad(bad) => Err(bad.reason),
        });
    }
    kinds
}

fn bad_records(reader: &mut Reader) -> (u64, Vec<BadRecord>) {
    let mut bad = Vec::new();
    let verified = reader
        .verify(|event| {
            if let VerifyEvent::Bad(record) = event {
                bad.push(record);
            }
        })
        .unwrap();
    assert_eq!(verified.bad, bad.len() as u64);
    (verified.messages, bad)
}

#[test]
fn a_live_log_shows_what_is_written_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let mut reader = reader(dir.path());
    assert!(kinds(&mut reader).is_empty());
    append(&mut log, b"not yet written", &[]);
    assert!(kinds(&mut reader).is_empty());
    write_all(&mut log);
    assert_eq!(kinds(&mut reader), [Ok(RecordKind::Message)]);
    // Over several segments, with the position kept.
    for number in 0..40 {
        let chunk = append_chunk(&mut log, &body(number, 100_000));
        append(&mut log, b"", &[chunk]);
        if number % 3 == 0 {
            write_all(&mut log);
        }
    }
    write_all(&mut log);
    assert!(log.stats().segments_sealed > 2);
    let seen = kinds(&mut reader);
    assert_eq!(seen.iter().filter(|kind| **kind == Ok(RecordKind::Message)).count(), 40);
    assert_eq!(seen.len(), 80);
    let (messages, bad) = bad_records(&mut reader);
    assert_eq!((messages, bad.len()), (41, 0));
}

#[test]
fn bodies_come_whole_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let parts = [body(1, 252 * 1024), body(2, 252 * 1024), body(3, 1000)];
    let chunks: Vec<_> = parts[..2].iter().map(|part| append_chunk(&mut log, part)).collect();
    let appended = append(&mut log, &parts[2], &chunks);
    write_all(&mut log);
    let mut reader = reader(dir.path());
    let message = reader.message(appended.id).unwrap();
    let mut whole = Vec::new();
    let end = reader
        .read_body(&message, |part| {
            assert!(part.len() <= 256 * 1024);
            whole.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
    assert!(whole == parts.concat());
    assert_eq!((end.octets, end.crc), (whole.len() as u64, crc_fast::crc32_iscsi(&whole)));
    assert_eq!(message.body_octets().unwrap(), end.octets);
    let other = MessageId { lsn: appended.lsn.plus(16), ..appended.id };
    assert!(matches!(reader.message(other), Err(ReadError::NotFound(_))));
    let chunk = MessageId { lsn: chunks[0].lsn(), ..appended.id };
    assert!(matches!(reader.message(chunk), Err(ReadError::NotFound(_))));
    let elsewhere = MessageId { log: 3, ..appended.id };
    assert!(matches!(reader.message(elsewhere), Err(ReadError::AnotherLog { .. })));
}

/// Flips one bit of the body of a message in the file.
fn rot(dir: &Path, lsn: u64, in_record: u64) {
    let path = dir.join("arrival-00").join(inrush_log::segment_name(lsn >> 20));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from((lsn & 0xF_FFFF) + in_record).unwrap();
    bytes[at] ^= 4;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn bit_rot_in_a_sealed_segment_is_reported_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut log) = open(dir.path());
    let all: Vec<_> = (0..6)
        .map(|number| {
            let appended = append(&mut log, &body(number, 5000), &[]);
            write_all(&mut log);
            appended
        })
        .collect();
    log.close();
    write_all(&mut log);
    drop((log, data));
    rot(dir.path(), all[1].lsn.get(), 700);
    rot(dir.path(), all[3].lsn.get(), 9);
    let mut reader = reader(dir.path());
    let (messages, bad) = bad_records(&mut reader);
    assert_eq!(messages, 4);
    assert_eq!((bad[0].id, bad[0].reason), (Some(all[1].id), BadReason::Content));
    assert_eq!(bad[0].offset, all[1].lsn.get() & 0xF_FFFF);
    assert_eq!(bad[1].id, None);
    assert!(matches!(bad[1].reason, BadReason::Header(_)));
    assert!(matches!(reader.message(all[1].id), Err(ReadError::Damaged(_))));
    assert_eq!(reader.message(all[4].id).unwrap().own_body(), body(4, 5000));
    // Recovery trusts the seal.
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    assert_eq!((report.segments_sealed, report.damage.len()), (1, 0));
}

#[test]
fn bit_rot_of_acknowledged_mail_in_the_open_segment_is_damage() {
    for in_record in [8, 700] {
        let dir = tempfile::tempdir().unwrap();
        let (data, mut log) = open(dir.path());
        let all: Vec<_> = (0..4)
            .map(|number| {
                let appended = append(&mut log, &body(number, 5000), &[]);
                write_all(&mut log);
                appended
            })
            .collect();
        drop((log, data));
        rot(dir.path(), all[1].lsn.get(), in_record);
        let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
        let (_log, report) = data.open_log(0, || {}).unwrap();
        assert_eq!((report.messages, report.damage.len(), report.cut.len()), (3, 1, 0), "{report:?}");
        let damage = &report.damage[0];
        assert_eq!(damage.offset, all[1].lsn.get() & 0xF_FFFF);
        let expected = if in_record == 8 { DamageKind::RecordHeader } else { DamageKind::RecordContent };
        assert_eq!(damage.kind, expected);
        assert_eq!(damage.id, (in_record != 8).then_some(all[1].id));
        let kept = std::fs::read(dir.path().join(damage.kept_as.as_ref().unwrap())).unwrap();
        assert!(kept.windows(64).any(|window| window == &body(1, 5000)[4000..4064]));
        let (messages, bad) = bad_records(&mut reader(dir.path()));
        assert_eq!((messages, bad.len()), (3, 1));
    }
}

#[test]
fn a_torn_tail_is_cut_kept_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut log) = open(dir.path());
    append(&mut log, &body(1, 5000), &[]);
    write_all(&mut log);
    let torn = append(&mut log, &body(2, 50_000), &[]);
    let write = log.next_write().unwrap();
    // A crash in the middle of the write: the first two blocks are there.
    inrush_log::StorageFile::write_at(&**write.file(), &write.bytes()[..8192], write.offset()).unwrap();
    drop((write, log, data));
    let mut reader_before = reader(dir.path());
    assert_eq!(kinds(&mut reader_before), [Ok(RecordKind::Message)]);
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    assert_eq!((report.messages, report.damage.len(), report.cut.len()), (1, 0, 1));
    let cut = &report.cut[0];
    assert_eq!(cut.offset, torn.lsn.get() & 0xF_FFFF);
    assert!((8000..=8192).contains(&cut.octets), "{cut:?}");
    assert!(dir.path().join(cut.kept_as.as_ref().unwrap()).exists());
    let mut reader = reader(dir.path());
    assert_eq!(kinds(&mut reader), [Ok(RecordKind::Message)]);
    assert!(matches!(reader.message(torn.id), Err(ReadError::NotFound(_))));
}

#[test]
fn a_damaged_chunk_names_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut log) = open(dir.path());
    let chunk = append_chunk(&mut log, &body(1, 9000));
    let orphan = append_chunk(&mut log, &body(2, 9000));
    let appended = append(&mut log, b"tail", &[chunk]);
    log.close();
    write_all(&mut log);
    drop((log, data, orphan));
    rot(dir.path(), chunk.lsn, 500);
    let mut reader = reader(dir.path());
    let (messages, bad) = bad_records(&mut reader);
    assert_eq!((messages, bad.len()), (0, 2));
    assert_eq!((bad[1].id, bad[1].reason), (Some(appended.id), BadReason::Chunk(chunk.lsn())));
    let message = reader.message(appended.id).unwrap();
    assert!(matches!(reader.read_body(&message, |_| Ok(())), Err(ReadError::Damaged(_))));
}

#[test]
fn damaged_foreign_and_truncated_segments() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..4 {
        let (_data, mut log) = open(dir.path());
        append(&mut log, &body(number, 5000), &[]);
        write_all(&mut log);
    }
    let segment = |number: u64| dir.path().join("arrival-00").join(inrush_log::segment_name(number));
    let numbers: Vec<u64> = reader(dir.path()).segments().iter().map(|segment| segment.number).collect();
    assert_eq!(numbers.len(), 4);
    // The last one is still open, and stays as it is: the newest may be.
    rot(dir.path(), numbers[0] << 20, 20);
    std::fs::copy(segment(numbers[2]), segment(numbers[1])).unwrap();
    std::fs::File::options().write(true).open(segment(numbers[2])).unwrap().set_len(600_000).unwrap();
    let (messages, bad) = bad_records(&mut reader(dir.path()));
    assert_eq!(messages, 2);
    assert!(matches!(bad[0].reason, BadReason::SegmentHeader(_)), "{bad:?}");
    assert_eq!(bad[1].reason, BadReason::ForeignSegment);
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    let kinds: Vec<_> = report.damage.iter().map(|damage| damage.kind).collect();
    use DamageKind::{MisplacedSegment, Seal, SegmentHeader, SegmentLength};
    assert_eq!(
        kinds,
        [SegmentHeader, MisplacedSegment { number: numbers[2] }, SegmentLength, Seal],
        "{report:?}"
    );
    assert!(!segment(numbers[0]).exists() && !segment(numbers[1]).exists());
    // What could be read before can be read after.
    assert_eq!(bad_records(&mut reader(dir.path())).0, 2);
}

#[test]
fn time_and_position_narrow_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { segment_bytes: 1 << 20, ..settings() };
    let mut data = DataDirectory::open(dir.path(), &settings, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let mail = body(1, 200_000);
    for at in 1..=20_u64 {
        let envelope = inrush_log::EnvelopeRef::default();
        common::until_taken(&mut log, |log| {
            log.append_message(&envelope, std::iter::once(&mail[..]), mail.len(), at * 1000)
        });
    }
    write_all(&mut log);
    let mut reader = reader(dir.path());
    reader.seek_time(15_000);
    let mut times = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        if let Entry::Record(record) = entry {
            times.push(record.header.accepted_at_us / 1000);
        }
    }
    assert!(times.contains(&15) && times.contains(&20) && !times.contains(&5), "{times:?}");
    let end = reader.position();
    reader.seek(inrush_log::Lsn::ZERO);
    reader.set_limit(end);
    assert_eq!(kinds(&mut reader).len(), 20);
    assert_eq!(Reader::open_all(dir.path()).unwrap().len(), 1);
}

/// Two messages are appended for each that is read, and the segments change: without a limit that would never end.
#[test]
fn a_reader_that_is_limited_to_the_present_ends_although_the_log_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let mail = body(1, 60_000);
    let first: Vec<MessageId> = (0..3).map(|_| append(&mut log, &mail, &[]).id).collect();
    write_all(&mut log);
    let mut reader = reader(dir.path());
    reader.limit_to_present().unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let Entry::Record(record) = entry else { panic!("damage") };
        if record.header.kind == inrush_log::RecordKind::Message {
            found.push(record.id);
        }
        for _ in 0..2 {
            append(&mut log, &mail, &[]);
            write_all(&mut log);
        }
        assert!(found.len() < 100, "it follows the log");
    }
    assert_eq!(found[..3], first, "what was there is found");
    assert!(found.len() < 80, "the segment in use and the ready ones hold no more: {}", found.len());
}

/// A consumer follows the log; between two looks the segment fills and is sealed, and the consumer learns of it: by a look at a
/// message of the next segment, or by itself.
#[test]
fn a_view_that_is_older_than_the_seal_is_read_again() {
    for by_a_message in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (_data, mut log) = open(dir.path());
        let first = append(&mut log, b"first", &[]).id;
        write_all(&mut log);
        let mut reader = reader(dir.path());
        let Some(Entry::Record(record)) = reader.next().unwrap() else { panic!("no record") };
        assert_eq!(record.id, first);
        let sent: Vec<MessageId> = (0..35)
            .map(|number| {
                let id = append(&mut log, &body(number, 100_000), &[]).id;
                write_all(&mut log);
                id
            })
            .collect();
        if by_a_message {
            let last = *sent.last().unwrap();
            assert_eq!(reader.message(last).unwrap().id, last);
        } else {
            reader.refresh().unwrap();
        }
        let mut found = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            let Entry::Record(record) = entry else { panic!("{entry:?}") };
            if record.header.kind == RecordKind::Message {
                found.push(record.id);
            }
        }
        assert_eq!(found, sent);
    }
}

/// What can be read of a live log may still be under way to the disk.
#[test]
fn durable_is_what_a_later_record_or_a_seal_tells() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let mut reader = reader(dir.path());
    assert_eq!(reader.durable_end().unwrap(), Lsn::ZERO);
    let first = append(&mut log, b"one", &[]);
    write_all(&mut log);
    assert!(reader.durable_end().unwrap() <= first.id.lsn, "it can be read, but nothing tells more");
    let second = append(&mut log, b"two", &[]);
    write_all(&mut log);
    let end = reader.durable_end().unwrap();
    assert!(first.id.lsn < end && end <= second.id.lsn, "{end}");
    reader.set_limit(end);
    assert_eq!(kinds(&mut reader), [Ok(RecordKind::Message)]);
    log.append_mark(1_000_000).unwrap();
    write_all(&mut log);
    assert!(reader.durable_end().unwrap() > second.id.lsn, "a mark tells after idleness");
    while log.stats().segments_sealed == 0 {
        append(&mut log, &body(3, 100_000), &[]);
        write_all(&mut log);
    }
    let end = reader.durable_end().unwrap();
    let seal = reader.segments()[0].seal.unwrap();
    assert!(end >= seal.end, "{end} {}", seal.end);
}

#[test]
fn consumers_are_shown_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, _log) = open(dir.path());
    let reader = reader(dir.path());
    assert!(reader.consumers().unwrap().is_empty());
    let path = dir.path().join("arrival-00");
    let mut cursor = Cursor::open(&path, "b", ConsumerKind::Required).unwrap();
    cursor.save(Lsn::new(77)).unwrap();
    std::fs::write(path.join("cursor.a"), [0x55; 8192]).unwrap();
    let consumers = reader.consumers().unwrap();
    let names: Vec<_> = consumers.iter().map(|consumer| consumer.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(consumers[0].state.is_err());
    assert_eq!(consumers[1].state.as_ref(), Ok(cursor.state()));
}

#[test]
fn a_lost_seal_behind_a_full_segment_is_named() {
    let storage = SimStorage::new(5);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    while log.stats().segments_sealed < 3 {
        data.prepare_segments();
        append(&mut log, &body(1, 100_000), &[]);
        write_all(&mut log);
    }
    storage.rot(&format!("arrival-00/{}", segment_name(2)), (1 << 20) - 4096 + 50, 1);
    let mut found = Vec::new();
    let verified = Reader::on(storage, "arrival-00")
        .unwrap()
        .verify(|event| {
            if let VerifyEvent::Bad(bad) = event {
                found.push(bad.to_string());
            }
        })
        .unwrap();
    assert_eq!(verified.bad, 1);
    assert_eq!(found, ["segment 0000000000000002.seg offset 1044480 octets 4096: seal is missing"]);
}
