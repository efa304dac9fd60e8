//! The appender on real files: what it acknowledges is there after a restart.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{append, append_chunk, body, open, settings, write_all};
use inrush_log::{
    AppendError, Appender, CHUNK_OCTETS_MAX, DataDirectory, Durability, EnvelopeRef, LogSettings, Lsn,
    NoSpace, OpenError, Reader, Recipient, Span, WriteKind,
};

#[test]
fn one_message_is_committed_by_one_write_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (mut log, report) = data.open_log(2, || {}).unwrap();
    assert!(report.created && log.next_write().is_none());
    let appended = append(&mut log, b"Subject: x\r\n\r\ny\r\n", &[]);
    assert_eq!(appended.lsn, Lsn::new((1 << 20) + 4096));
    assert_eq!(appended.id.to_string(), "00070200000000101000");
    assert!(log.durable() < appended.gate);
    assert_eq!(write_all(&mut log), [WriteKind::Batch]);
    assert!(log.durable() >= appended.gate && log.committed() >= appended.gate);
    drop((log, data));

    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (log, report) = data.open_log(2, || {}).unwrap();
    assert!(!report.created);
    assert_eq!((report.messages, report.segments_recovered, report.segments_sealed), (1, 1, 0));
    assert!(report.cut.is_empty() && report.damage.is_empty(), "{report:?}");
    // A recovered segment is never appended to.
    assert!(log.durable() > Lsn::new((2 << 20) - 1));
}

#[test]
fn large_messages_roll_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut log) = open(dir.path());
    let part = body(1, CHUNK_OCTETS_MAX);
    for _ in 0..20 {
        let chunks = [append_chunk(&mut log, &part), append_chunk(&mut log, &part)];
        append(&mut log, b"tail", &chunks);
        write_all(&mut log);
    }
    log.close();
    assert_eq!(write_all(&mut log).last(), Some(&WriteKind::Seal));
    assert!(log.is_idle() && log.stats().segments_sealed >= 10, "{:?}", log.stats());
    assert_eq!(log.append_mark(1), Err(AppendError::Closed));
    let sealed = log.stats().segments_sealed;
    drop((log, data));
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    // Everything is sealed, and what was ready has become spares again: nothing was scanned.
    assert_eq!((report.segments_sealed, report.segments_recovered, report.segments_unused), (sealed, 0, 0));
    assert_eq!(report.octets_scanned, 0);
}

#[test]
fn a_large_envelope_moves_the_body_into_a_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let text = body(3, 60_000);
    let recipients: Vec<_> = (0..1000)
        .map(|index| Recipient { path: Span::new(index * 60, 60), ..Recipient::default() })
        .collect();
    let envelope = EnvelopeRef { text: &text, recipients: &recipients, ..EnvelopeRef::default() };
    let mail = body(4, CHUNK_OCTETS_MAX);
    let pieces = mail.chunks(1000);
    let appended = log.append_message(&envelope, pieces, mail.len(), 1).unwrap();
    write_all(&mut log);
    let mut reader = Reader::open(&dir.path().join("arrival-00")).unwrap();
    let message = reader.message(appended.id).unwrap();
    assert_eq!(message.envelope().unwrap().recipients().len(), 1000);
    assert_eq!(message.envelope().unwrap().chunks().len(), 1);
    let mut read = Vec::new();
    reader.read_body(&message, |part| io::Write::write_all(&mut read, part)).unwrap();
    assert!(read == mail);
    // An envelope that is too large by itself is refused, and leaves no trace.
    let text = vec![b'x'; 300_000];
    let envelope = EnvelopeRef { text: &text, ..EnvelopeRef::default() };
    let refused = log.append_message(&envelope, std::iter::empty(), 0, 1);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert!(log.next_write().is_none());
}

#[test]
fn a_body_longer_than_announced_is_refused_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let refused = log.append_message(&EnvelopeRef::default(), [b"abc".as_slice(), b"def"].into_iter(), 5, 1);
    assert_eq!(refused, Err(AppendError::BodyTooLong));
    assert!(log.next_write().is_none());
    append(&mut log, b"x", &[]);
    assert_eq!(write_all(&mut log), [WriteKind::Batch]);
}

#[test]
fn full_batches_wait_for_a_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { segment_bytes: 16 << 20, batch_buffers: 2, ..settings() };
    let mut data = DataDirectory::open(dir.path(), &settings, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let part = body(1, CHUNK_OCTETS_MAX);
    let mut taken = 0;
    let full = loop {
        match log.append_chunk(std::iter::once(&part[..]), part.len(), 1) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((taken, full), (8, AppendError::BatchFull));
    let write = log.next_write().unwrap();
    // One in flight at a time.
    assert!(log.next_write().is_none());
    let result = write.run();
    let completion = log.write_done(write, result).unwrap();
    assert_eq!(completion.records, 4);
    append_chunk(&mut log, &part);
    write_all(&mut log);
    assert_eq!(log.stats().batches, 3);
}

#[test]
fn short_writes_go_on_where_they_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let mail = body(9, 50_000);
    let appended = append(&mut log, &mail, &[]);
    let whole = log.next_write().unwrap();
    let (offset, octets) = (whole.offset(), whole.bytes().len());
    let file = Arc::clone(whole.file());
    // 9,000 octets reached the disk: two blocks count.
    inrush_log::StorageFile::write_at(&*file, &whole.bytes()[..8192], offset).unwrap();
    let completion = log.write_done(whole, Ok(9000)).unwrap();
    assert!(completion.more && completion.durable < appended.gate && completion.messages == 0);
    let rest = log.next_write().unwrap();
    assert_eq!((rest.offset(), rest.bytes().len()), (offset + 8192, octets - 8192));
    let result = rest.run();
    let completion = log.write_done(rest, result).unwrap();
    assert!(completion.durable >= appended.gate && completion.messages == 1);
    assert_eq!(log.stats().short_writes, 1);
    let mut reader = Reader::open(&dir.path().join("arrival-00")).unwrap();
    assert_eq!(reader.message(appended.id).unwrap().own_body(), mail);
}

#[test]
fn a_write_that_never_moves_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    append(&mut log, b"x", &[]);
    let mut tries = 0;
    let error = loop {
        let write = log.next_write().unwrap();
        tries += 1;
        if let Err(error) = log.write_done(write, Ok(512)) {
            break error;
        }
    };
    assert!(tries < 20 && error.error.kind() == io::ErrorKind::WriteZero);
}

#[test]
fn a_failed_write_poisons_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    let appended = append(&mut log, b"x", &[]);
    let write = log.next_write().unwrap();
    let error = log.write_done(write, Err(io::Error::from_raw_os_error(5))).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("log arrival-00 is poisoned: write of segment 1 at offset 4096 failed"),
        "{text}"
    );
    assert!(log.is_poisoned() && log.durable() < appended.gate && log.next_write().is_none());
    let refused = log.append_message(&EnvelopeRef::default(), std::iter::empty(), 0, 1);
    assert_eq!(refused, Err(AppendError::Poisoned));
    assert_eq!(log.admission(), Err(AppendError::Poisoned));
    log.close();
    assert!(log.next_write().is_none());
}

#[test]
fn relaxed_replies_leave_before_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { durability: Durability::Relaxed, ..settings() };
    let mut data = DataDirectory::open(dir.path(), &settings, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    assert_eq!(log.sync_due_us(), None);
    let first = append(&mut log, b"x", &[]);
    let write = log.next_write().unwrap();
    assert!(!write.sync_after());
    let result = write.run();
    let completion = log.write_done(write, result).unwrap();
    assert!(completion.committed >= first.gate && completion.durable < first.gate);
    let sync = log.next_sync(1_000_000).unwrap();
    // A write beside the sync is not covered by it.
    let second = append(&mut log, b"y", &[]);
    write_all(&mut log);
    log.sync_done(&sync, sync.run()).unwrap();
    assert!(log.durable() >= first.gate && log.durable() < second.gate);
    assert_eq!(log.sync_due_us(), Some(1_100_000));
    assert!(log.next_sync(1_099_999).is_none());
    let sync = log.next_sync(1_100_000).unwrap();
    let error = log.sync_done(&sync, Err(io::Error::from_raw_os_error(5))).unwrap_err();
    assert!(error.to_string().contains("sync of segment 1"), "{error}");
    assert!(log.is_poisoned() && log.next_sync(u64::MAX).is_none());
}

#[test]
fn a_mark_tells_once_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut log) = open(dir.path());
    log.append_mark(1).unwrap();
    assert!(log.next_write().is_none(), "nothing to tell in an empty log");
    append(&mut log, b"x", &[]);
    write_all(&mut log);
    log.append_mark(1).unwrap();
    assert_eq!(write_all(&mut log), [WriteKind::Batch]);
    log.append_mark(1).unwrap();
    assert!(log.next_write().is_none());
    assert_eq!(log.stats().marks, 1);
}

#[test]
fn too_little_free_space_is_refused_and_clears_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let storage = common::disk(dir.path());
    let free = inrush_log::Storage::space(&storage).unwrap().free_bytes;
    let impossible = LogSettings { free_bytes_min: free.saturating_mul(4), ..settings() };
    let mut data = DataDirectory::open(dir.path(), &impossible, 7).unwrap();
    assert!(matches!(data.open_log(0, || {}), Err(OpenError::NoSpace { .. })));
    drop(data);
    // The failure left a usable directory.
    let (_data, mut log) = open(dir.path());
    append(&mut log, b"x", &[]);
    assert!(write_all(&mut log).len() == 1 && log.trouble().is_none());
    let _: NoSpace = NoSpace::FreeSpaceLow;
}

#[test]
fn the_waker_tells_of_each_ready_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let (log, _) = data
        .open_log(0, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = sender.send(());
        })
        .unwrap();
    for _ in 0..2 {
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    assert_eq!((log.spares_ready(), count.load(Ordering::Relaxed)), (2, 2));
}

#[test]
fn fresh_messages_come_out_of_the_batch_and_never_block_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { fresh_buffers: 1, fresh_queue_messages: 4, ..settings() };
    let mut data = DataDirectory::open(dir.path(), &settings, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    append(&mut log, b"unseen", &[]);
    write_all(&mut log);
    let consumer = log.fresh();
    let first = append(&mut log, b"one", &[]);
    append(&mut log, b"two", &[]);
    assert!(consumer.is_empty(), "not before the commit");
    write_all(&mut log);
    // The only buffer for consumers is out.
    append(&mut log, b"three", &[]);
    write_all(&mut log);
    assert_eq!((log.stats().fresh_published, log.stats().fresh_skipped), (2, 1));
    let message = consumer.pop().unwrap();
    assert_eq!((message.id, &message.body()[..], message.chunked()), (first.id, &b"one"[..], false));
    assert_eq!(message.envelope().unwrap().reverse_path(), b"a@example.com");
    drop((message, consumer.pop()));
    for number in 0..6_u8 {
        append(&mut log, &[number], &[]);
    }
    write_all(&mut log);
    assert_eq!((consumer.len(), log.stats().fresh_skipped), (4, 3));
    assert_eq!(&consumer.pop().unwrap().body()[..], [0]);
}

#[test]
fn parts_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Appender>();
    is_send::<DataDirectory>();
    is_send::<inrush_log::Write<inrush_log::DiskFile>>();
    is_send::<inrush_log::FreshReceiver>();
    is_send::<Reader>();
}
