//! The bytes of format version 1, frozen. Every later version must read them.
//!
//! `tests/corpus/log/v1` of the repository holds `log.meta` and, of a segment of 1 MiB, the blocks that are not zero. `INRUSH_GOLDEN=write` writes them anew, for a new
//! format version only.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use inrush_log::sim::SimStorage;
use inrush_log::{
    Attribute, BodyFindings, BodyType, DataDirectory, EnvelopeRef, PhaseTimes, Protocol, Reader, Recipient,
    Span, VerifyEvent, attribute_kind, notify,
};

const BLOCK: usize = 4096;

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
