//! The stored envelope: every field comes back, damaged octets never panic.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use inrush_log::sim::SimStorage;
use inrush_log::{
    Attribute, BodyFindings, BodyType, DataDirectory, Entry, Envelope, EnvelopeError, EnvelopeRef,
    PhaseTimes, Protocol, Reader, Recipient, Ret, Span, Transfer, attribute_kind, notify,
};

const TEXT: &[u8] = b"b@example.comrfc822;c@example.com<x>DELIVERBYverdict";

/// Runs `check` with the octets of the envelope as stored.
fn stored(envelope: &EnvelopeRef<'_>, check: impl FnOnce(&[u8])) {
    let storage = SimStorage::new(5);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &common::settings(), 1).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    log.append_message(envelope, std::iter::once(&b"body"[..]), 4, 9).unwrap();
    common::write_all(&mut log);
    let mut reader = Reader::on(storage, "arrival-00").unwrap();
    let Some(Entry::Record(record)) = reader.next().unwrap() else { panic!("no record") };
    assert_eq!(record.body, b"body");
    check(record.envelope);
}

fn full<'a>(recipients: &'a [Recipient], attributes: &'a [Attribute]) -> EnvelopeRef<'a> {
    EnvelopeRef {
        text: TEXT,
        recipients,
        attributes,
        chunks: &[],
        hostname: b"mx.example.com",
        listener: b"mx",
        peer: Some("192.0.2.1:1234".parse().unwrap()),
        local: Some("[2001:db8::2]:25".parse().unwrap()),
        proxy: Some("198.51.100.7:80".parse().unwrap()),
        peer_name: Some(b"client.example.org"),
        protocol: Protocol::Lmtp,
        transfer: Transfer::Bdat,
        helo: b"he\x00\xfflo",
        // Lies in the arena, and is stored once.
        reverse_path: &TEXT[..13],
        size_declared: Some(0),
        body_type: BodyType::BinaryMime,
        ret: Ret::Headers,
        smtputf8: true,
        requiretls: true,
        envid: Some(b""),
        tls_version: Some(b"TLSv1.3"),
        tls_cipher: Some(b"TLS_AES_128_GCM_SHA256"),
        tls_sni: Some(b"mx.example.com"),
        tls_client: Some(b"CN=client"),
        auth_identity: Some(b"joe"),
        auth_mechanism: Some(b"PLAIN"),
        findings: BodyFindings {
            octets_received: 1,
            lines: 2,
            dot_lines: 3,
            longest_line: 4,
            header_octets: 5,
            received_count: 6,
            bare_cr: true,
            bare_lf: true,
            nul: true,
            eight_bit: true,
            ends_with_crlf: true,
            normalized: true,
        },
        times: PhaseTimes {
            connected_us: 11,
            tls_us: 12,
            helo_us: 13,
            auth_us: 14,
            mail_us: 15,
            rcpt_us: 16,
            data_first_us: 17,
            data_last_us: 18,
        },
        session: u64::MAX,
        transaction: 77,
    }
}

#[test]
fn every_field_comes_back() {
    let recipients = [
        Recipient {
            path: Span::new(0, 13),
            orcpt: Span::new(13, 20),
            notify: notify::SUCCESS | notify::DELAY,
            reserved: [0; 3],
        },
        Recipient { path: Span::new(33, 3), ..Recipient::default() },
    ];
    let attributes = [
        Attribute {
            scope: Attribute::MESSAGE,
            kind: attribute_kind::PARAMETER,
            name: Span::new(36, 9),
            value: Span::ABSENT,
        },
        Attribute { scope: 1, kind: attribute_kind::VERDICT, name: Span::new(45, 7), value: Span::new(0, 1) },
    ];
    let sent = full(&recipients, &attributes);
    stored(&sent, |octets| {
        let read = Envelope::read(1, octets).unwrap();
        assert_eq!((read.hostname(), read.listener()), (&b"mx.example.com"[..], &b"mx"[..]));
        assert_eq!((read.peer(), read.local(), read.proxy()), (sent.peer, sent.local, sent.proxy));
        assert_eq!((read.peer_name(), read.helo()), (sent.peer_name, sent.helo));
        assert_eq!((read.protocol(), read.bdat()), (Protocol::Lmtp, true));
        assert_eq!(read.reverse_path(), b"b@example.com");
        assert_eq!((read.size_declared(), read.body_type(), read.ret()), (Some(0), sent.body_type, sent.ret));
        assert_eq!((read.smtputf8(), read.requiretls(), read.envid()), (true, true, Some(&b""[..])));
        assert_eq!((read.tls_version(), read.tls_cipher()), (sent.tls_version, sent.tls_cipher));
        assert_eq!((read.tls_sni(), read.tls_client()), (sent.tls_sni, sent.tls_client));
        assert_eq!((read.auth_identity(), read.auth_mechanism()), (sent.auth_identity, sent.auth_mechanism));
        assert_eq!((read.findings(), read.times()), (sent.findings, sent.times));
        assert_eq!((read.session(), read.transaction()), (u64::MAX, 77));
        let read_recipients: Vec<_> = read.recipients().collect();
        assert_eq!(read_recipients.len(), 2);
        assert_eq!(read_recipients[0].path, b"b@example.com");
        assert_eq!(read_recipients[0].orcpt, Some(&b"rfc822;c@example.com"[..]));
        assert_eq!(read_recipients[0].notify, notify::SUCCESS | notify::DELAY);
        assert_eq!((read_recipients[1].path, read_recipients[1].orcpt), (&b"<x>"[..], None));
        let read_attributes: Vec<_> = read.attributes().collect();
        assert_eq!((read_attributes[0].recipient, read_attributes[0].value), (None, None));
        assert_eq!((read_attributes[1].recipient, read_attributes[1].name), (Some(1), &b"verdict"[..]));
        assert_eq!(read_attributes[1].value, Some(&b"b"[..]));
        let copies = octets.windows(13).filter(|window| *window == b"b@example.com").count();
        assert_eq!(copies, 1, "a text of the arena is stored once");
    });
}

#[test]
fn an_empty_envelope_has_nothing() {
    stored(&EnvelopeRef::default(), |octets| {
        let read = Envelope::read(1, octets).unwrap();
        assert_eq!((read.peer(), read.envid(), read.size_declared()), (None, None, None));
        assert_eq!((read.helo(), read.reverse_path(), read.tls_version()), (&b""[..], &b""[..], None));
        assert_eq!((read.recipients().len(), read.chunks().len()), (0, 0));
        assert_eq!(octets.len(), 368);
    });
}

#[test]
fn spans_beyond_the_arena_are_malformed() {
    let recipients = [Recipient { path: Span::new(50, 100), ..Recipient::default() }];
    stored(&EnvelopeRef { text: TEXT, recipients: &recipients, ..EnvelopeRef::default() }, |octets| {
        assert!(matches!(Envelope::read(1, octets), Err(EnvelopeError::Malformed)));
        assert!(matches!(Envelope::read(2, octets), Err(EnvelopeError::Version(2))));
    });
}

/// Reads everything; what it returns does not matter.
fn touch(envelope: &Envelope<'_>) -> usize {
    let mut out = Vec::new();
    let id = inrush_log::MessageId { node: 1, log: 1, lsn: inrush_log::Lsn::ZERO };
    inrush_log::received(envelope, id, u64::MAX, &mut out);
    let recipients = envelope.recipients().map(|recipient| recipient.path.len()).sum::<usize>();
    let attributes = envelope.attributes().map(|attribute| attribute.name.len()).sum::<usize>();
    out.len() + recipients + attributes + envelope.chunks().count() + envelope.helo().len()
}

#[test]
fn damaged_octets_never_panic() {
    let recipients = [Recipient { path: Span::new(0, 13), ..Recipient::default() }; 3];
    let attributes = [Attribute { scope: 0, kind: 1, name: Span::new(1, 2), value: Span::new(3, 4) }];
    stored(&full(&recipients, &attributes), |octets| {
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(octets);
        let mut readable = 0;
        for at in 0..aligned.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let good = std::mem::replace(&mut aligned[at], value);
                readable += Envelope::read(1, &aligned).map_or(0, |envelope| touch(&envelope).min(1));
                aligned[at] = good;
            }
        }
        assert!(readable > 0);
        for length in 0..aligned.len() {
            if let Ok(envelope) = Envelope::read(1, &aligned[..length]) {
                touch(&envelope);
            }
        }
        assert!(matches!(Envelope::read(1, &aligned[1..]), Err(EnvelopeError::Unaligned)));
    });
}
