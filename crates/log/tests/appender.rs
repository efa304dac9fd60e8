//! The appender on real files: what it acknowledges is there after a restart.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(missing_docs, reason = "a test")]

use std::io;

use inrush_log::{
    Appended, Appender, ChunkRef, DataDirectory, EnvelopeRef, LogSettings, Lsn, Recipient, Span, Storage,
    WriteKind,
};

fn settings() -> LogSettings {
    LogSettings { segment_bytes: 1 << 20, free_bytes_min: 0, ..LogSettings::default() }
}

fn append<S: Storage>(log: &mut Appender<S>, body: &[u8]) -> Appended {
    let text = b"b@example.com";
    let recipients = [Recipient { path: Span::new(0, 13), ..Recipient::default() }];
    let envelope = EnvelopeRef {
        text,
        recipients: &recipients,
        reverse_path: b"a@example.com",
        ..EnvelopeRef::default()
    };
    log.append_message(&envelope, std::iter::once(body), body.len(), 1).unwrap()
}

fn write_all<S: Storage>(log: &mut Appender<S>) -> Vec<WriteKind> {
    let mut kinds = Vec::new();
    while let Some(write) = log.next_write() {
        kinds.push(write.kind());
        let result = write.run();
        log.write_done(write, result).unwrap();
    }
    kinds
}

#[test]
fn one_message_is_committed_by_one_write_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (mut log, report) = data.open_log(2, || {}).unwrap();
    assert!(report.created && log.next_write().is_none());
    let appended = append(&mut log, b"Subject: x\r\n\r\ny\r\n");
    assert_eq!(appended.lsn, Lsn::new((1 << 20) + 4096));
    assert_eq!(appended.id.to_string(), "00070200000000101000");
    assert!(log.durable() < appended.gate);
    assert_eq!(write_all(&mut log), [WriteKind::Batch]);
    assert!(log.durable() >= appended.gate);
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
fn large_messages_roll_over_segments() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let body = vec![b'x'; 252 * 1024];
    for _ in 0..20 {
        let chunks: Vec<ChunkRef> = (0..2)
            .map(|_| {
                loop {
                    match log.append_chunk(std::iter::once(&body[..]), body.len(), 1) {
                        Ok(chunk) => break chunk,
                        Err(_) => drop(write_all(&mut log)),
                    }
                }
            })
            .collect();
        let envelope = EnvelopeRef { chunks: &chunks, ..EnvelopeRef::default() };
        while log.append_message(&envelope, std::iter::empty(), 0, 1).is_err() {
            write_all(&mut log);
        }
        write_all(&mut log);
    }
    log.close();
    assert_eq!(write_all(&mut log).last(), Some(&WriteKind::Seal));
    assert!(log.is_idle() && log.stats().segments_sealed >= 10, "{:?}", log.stats());
    let sealed = log.stats().segments_sealed;
    drop((log, data));
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let (_log, report) = data.open_log(0, || {}).unwrap();
    assert_eq!((report.segments_sealed, report.segments_recovered, report.damage.len()), (sealed, 0, 0));
    Ok(())
}

#[test]
fn parts_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Appender>();
    is_send::<DataDirectory>();
    is_send::<inrush_log::Write<inrush_log::DiskFile>>();
    is_send::<inrush_log::FreshReceiver>();
}
