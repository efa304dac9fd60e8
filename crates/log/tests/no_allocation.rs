//! The append path allocates nothing in the steady state.
#![allow(unsafe_code, reason = "a counting allocator has to implement an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use inrush_log::{Attribute, ChunkRef, DataDirectory, EnvelopeRef, LogSettings, Recipient, Span};

thread_local! {
    // Of this thread only: the helper thread may do as it likes.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

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
    let before = allocations();
    for _ in 0..5 {
        round();
    }
    assert_eq!(allocations() - before, 0);
    let before = allocations();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(allocations() - before, 1, "the allocator counts");
}
