//! The append path allocates nothing in the steady state.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use allocation_counter::measure;
use inrush_log::{Attribute, ChunkRef, DataDirectory, EnvelopeRef, LogSettings, Recipient, Span};

#[test]
fn nothing_is_allocated_for_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { segment_bytes: 32 << 20, batch_buffers: 2, ..common::settings() };
    let mut data = DataDirectory::open(dir.path(), &settings, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let text = b"b@example.comc@example.comkeyvalue";
    let recipients = [
        Recipient { path: Span::new(0, 13), notify: 4, ..Recipient::default() },
        Recipient { path: Span::new(13, 13), orcpt: Span::new(0, 13), ..Recipient::default() },
    ];
    let attributes = [Attribute { scope: 1, kind: 1, name: Span::new(26, 3), value: Span::new(29, 5) }];
    let mail = common::body(1, 4096);
    let mut round = || {
        for number in 0..100_u64 {
            let chunk = log.append_chunk(mail.chunks(77), mail.len(), number).unwrap();
            let chunks = [chunk, ChunkRef::default()];
            let envelope = EnvelopeRef {
                text,
                recipients: &recipients,
                attributes: &attributes,
                chunks: &chunks[..1],
                hostname: b"mx.example.com",
                helo: b"client.example.org",
                reverse_path: b"a@example.com",
                peer: Some(([192, 0, 2, 1], 25).into()),
                ..EnvelopeRef::default()
            };
            log.append_message(&envelope, mail.chunks(100), mail.len(), number).unwrap();
        }
        // As if the disk had taken it: the path without the disk.
        while let Some(write) = log.next_write() {
            let octets = write.bytes().len();
            log.write_done(write, Ok(octets)).unwrap();
        }
    };
    // Buffers and tables are made at first use.
    round();
    round();
    // Of this thread only: the helper thread may do as it likes.
    let allocated = measure(|| (0..5).for_each(|_| round()));
    assert_eq!(allocated.count_total, 0);
    let allocated = measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!(allocated.count_total, 1, "the allocator counts");
}
