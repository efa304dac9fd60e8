//! The bytes of format version 1, frozen. Every later version must read them.
//!
//! `tests/corpus/log/v1` of the repository holds `log.meta` and, of a segment of 1 MiB, the blocks that are not zero; in `second_life` the same of a recycled segment
//! that was never sealed, with the cursor of a consumer. `INRUSH_GOLDEN=write` writes them anew, for a new format version only.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use inrush_log::sim::SimStorage;
use inrush_log::{
    Attribute, BodyFindings, BodyType, ConsumerKind, Cursor, DataDirectory, EnvelopeRef, PhaseTimes,
    Protocol, Reader, Recipient, Span, Storage, VerifyEvent, attribute_kind, notify, segment_number,
};

const BLOCK: usize = 4096;
const DIR: &str = "arrival-00";
/// The segment of the second life.
const REUSED: &str = "0000000000000003.seg";

/// A log with one of everything, the same in each run.
fn build() -> (Vec<u8>, Vec<u8>) {
    let storage = SimStorage::new(42);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &common::settings(), 0x0A0B).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let chunk =
        log.append_chunk([&b"first "[..], b"part\r\n"].into_iter(), 100, 1_700_000_000_000_001).unwrap();
    let text = b"b@example.comrfc822;b@example.comspf=pass";
    let recipients = [
        Recipient {
            path: Span::new(0, 13),
            orcpt: Span::new(13, 20),
            notify: notify::FAILURE,
            reserved: [0; 3],
        },
        Recipient { path: Span::new(0, 13), ..Recipient::default() },
    ];
    let attributes = [Attribute {
        scope: Attribute::MESSAGE,
        kind: attribute_kind::VERDICT,
        name: Span::new(33, 3),
        value: Span::new(37, 4),
    }];
    let envelope = EnvelopeRef {
        text,
        recipients: &recipients,
        attributes: &attributes,
        chunks: &[chunk],
        hostname: b"mx1.example.com",
        listener: b"mx",
        peer: Some("192.0.2.1:4711".parse().unwrap()),
        local: Some("[2001:db8::25]:25".parse().unwrap()),
        protocol: Protocol::Esmtp,
        helo: b"mail.example.org",
        reverse_path: b"a@example.org",
        size_declared: Some(2000),
        body_type: BodyType::EightBitMime,
        smtputf8: true,
        tls_version: Some(b"TLSv1.3"),
        findings: BodyFindings {
            octets_received: 26,
            lines: 2,
            dot_lines: 1,
            longest_line: 11,
            ..BodyFindings::default()
        },
        times: PhaseTimes { connected_us: 1_700_000_000_000_000, ..PhaseTimes::default() },
        session: 9,
        transaction: 1,
        ..EnvelopeRef::default()
    };
    let body = b".second part\r\n";
    log.append_message(&envelope, std::iter::once(&body[..]), body.len(), 1_700_000_000_000_002).unwrap();
    common::write_all(&mut log);
    log.append_mark(1_700_000_001_000_000).unwrap();
    common::write_all(&mut log);
    log.close();
    common::write_all(&mut log);
    let content = |name: &str| storage.content(name).unwrap();
    (content("arrival-00/log.meta"), content("arrival-00/0000000000000001.seg"))
}

/// A log whose only segment was another one before, and which has a consumer: its files by name, the same in each run.
fn build_second_life() -> [(&'static str, Vec<u8>); 3] {
    let settings = common::settings();
    let storage = SimStorage::new(43);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings, 0x0A0B).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    common::append(&mut log, &common::body(1, 6000), &[]);
    log.close();
    common::write_all(&mut log);
    let end = log.durable();
    drop((data, log));

    let storage = storage.restart();
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings, 0x0A0B).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let mut cursor = Cursor::on(storage.clone(), DIR, "archive", ConsumerKind::Required).unwrap();
    cursor.save(end).unwrap();
    // Retires the first segment; the next spare is its file.
    data.prepare_segments();
    let reused = |name: &String| {
        name.ends_with(".seg") && lives(&storage.content(&format!("{DIR}/{name}")).unwrap()) > 0
    };
    let mut seed = 2;
    let name = loop {
        if let Some(name) = storage.list(DIR).unwrap().into_iter().find(reused)
            && log.durable().segment(settings.segment_bytes) == segment_number(&name).unwrap()
        {
            break name;
        }
        common::append(&mut log, &common::body(seed, 20_000), &[]);
        common::write_all(&mut log);
        data.prepare_segments();
        seed += 1;
    };
    assert_eq!(name, REUSED);
    let content = |name: &str| storage.content(&format!("{DIR}/{name}")).unwrap();
    [
        ("log.meta", content("log.meta")),
        ("cursor.archive", content("cursor.archive")),
        ("segment.blocks", pack(&content(REUSED))),
    ]
}

fn lives(segment: &[u8]) -> u32 {
    u32::from_le_bytes(segment[72..76].try_into().unwrap())
}

/// Number (4 octets) and content of each block that is not zero.
fn pack(segment: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (number, block) in (0_u32..).zip(segment.chunks(BLOCK)) {
        if block.iter().any(|octet| *octet != 0) {
            packed.extend_from_slice(&number.to_le_bytes());
            packed.extend_from_slice(block);
        }
    }
    packed
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 1 << 20];
    for entry in packed.chunks(BLOCK + 4) {
        let number = usize::try_from(u32::from_le_bytes(entry[..4].try_into().unwrap())).unwrap();
        segment[number * BLOCK..][..BLOCK].copy_from_slice(&entry[4..]);
    }
    segment
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/log/v1").join(name)
}

#[test]
fn what_is_written_has_not_changed() {
    let (meta, segment) = build();
    if std::env::var("INRUSH_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir_all(golden("")).unwrap();
        std::fs::write(golden("log.meta"), &meta).unwrap();
        std::fs::write(golden("segment.blocks"), pack(&segment)).unwrap();
    }
    assert!(meta == std::fs::read(golden("log.meta")).unwrap(), "log.meta differs");
    let frozen = unpack(&std::fs::read(golden("segment.blocks")).unwrap());
    let differs = segment.iter().zip(&frozen).position(|(new, old)| new != old);
    assert_eq!((segment.len(), differs), (frozen.len(), None), "first octet that differs");
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("arrival-00");
    std::fs::create_dir(&log).unwrap();
    std::fs::copy(golden("log.meta"), log.join("log.meta")).unwrap();
    let segment = unpack(&std::fs::read(golden("segment.blocks")).unwrap());
    std::fs::write(log.join("0000000000000001.seg"), segment).unwrap();
    let mut reader = Reader::open(&log).unwrap();
    let verified =
        reader.verify(|event| assert!(!matches!(event, VerifyEvent::Bad(_)), "{event:?}")).unwrap();
    assert_eq!(
        (verified.records, verified.messages, verified.chunks, verified.chunks_orphaned),
        (3, 1, 1, 0)
    );
    let message = reader.message("0A0B0000000000101050".parse().unwrap()).unwrap();
    let mut body = Vec::new();
    reader
        .read_body(&message, |part| {
            body.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
    assert_eq!(body, b"first part\r\n.second part\r\n");
    let envelope = message.envelope().unwrap();
    assert_eq!(envelope.recipients().len(), 2);
    assert_eq!(envelope.attributes().next().unwrap().value, Some(&b"pass"[..]));
    let mut trace = Vec::new();
    inrush_log::received(&envelope, message.id, message.header.accepted_at_us, &mut trace);
    assert!(trace.starts_with(b"Received: from mail.example.org ([192.0.2.1])"));
}

#[test]
fn what_is_written_in_a_second_life_has_not_changed() {
    for (name, content) in build_second_life() {
        let path = golden("second_life").join(name);
        if std::env::var("INRUSH_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &content).unwrap();
        }
        assert!(content == std::fs::read(&path).unwrap(), "{name} differs");
    }
}

/// The first record is of this life, the second one only of the life before.
#[test]
fn what_was_written_in_a_second_life_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join(DIR);
    std::fs::create_dir(&log).unwrap();
    for name in ["log.meta", "cursor.archive"] {
        std::fs::copy(golden("second_life").join(name), log.join(name)).unwrap();
    }
    let segment = unpack(&std::fs::read(golden("second_life").join("segment.blocks")).unwrap());
    assert_eq!(lives(&segment), 1);
    std::fs::write(log.join(REUSED), &segment).unwrap();
    let cursor = Cursor::open(&log, "archive", ConsumerKind::Required).unwrap();
    assert_eq!(cursor.position().get(), 0x0020_0000);
    let mut data = DataDirectory::open(dir.path(), &common::settings(), 0x0A0B).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    assert_eq!(
        (report.segments_recovered, report.messages, report.damage.len(), report.cut.len()),
        (1, 1, 0, 0)
    );
    let mut reader = Reader::open(&log).unwrap();
    let verified =
        reader.verify(|event| assert!(!matches!(event, VerifyEvent::Bad(_)), "{event:?}")).unwrap();
    assert_eq!(verified.messages, 1);
}
