//! What the tests of the log share.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod simulated;

use std::path::Path;
use std::time::Duration;

use inrush_log::{
    AppendError, Appended, Appender, ChunkRef, DataDirectory, DiskStorage, EnvelopeRef, LogSettings,
    Recipient, Span, Storage, WriteKind,
};

/// Small segments, no reserve.
pub(crate) fn settings() -> LogSettings {
    LogSettings { segment_bytes: 1 << 20, free_bytes_min: 0, ..LogSettings::default() }
}

/// Opens log 0 of node 7 and checks that nothing is damaged.
pub(crate) fn open(dir: &Path) -> (DataDirectory, Appender) {
    let mut data = DataDirectory::open(dir, &settings(), 7).unwrap();
    let (log, report) = data.open_log(0, || {}).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    (data, log)
}

/// Runs every write there is.
pub(crate) fn write_all<S: Storage>(log: &mut Appender<S>) -> Vec<WriteKind> {
    let mut kinds = Vec::new();
    while let Some(write) = log.next_write() {
        kinds.push(write.kind());
        let result = write.run();
        log.write_done(write, result).unwrap();
    }
    kinds
}

/// Calls until there is room: runs writes, waits for the helper thread.
pub(crate) fn until_taken<S: Storage, T>(
    log: &mut Appender<S>,
    mut call: impl FnMut(&mut Appender<S>) -> Result<T, AppendError>,
) -> T {
    loop {
        match call(log) {
            Ok(taken) => return taken,
            Err(AppendError::BatchFull) => drop(write_all(log)),
            Err(AppendError::NoSpace(_)) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends a message with one recipient.
pub(crate) fn append<S: Storage>(log: &mut Appender<S>, body: &[u8], chunks: &[ChunkRef]) -> Appended {
    let text = b"b@example.com";
    let recipients = [Recipient { path: Span::new(0, 13), ..Recipient::default() }];
    let envelope = EnvelopeRef {
        text,
        chunks,
        recipients: &recipients,
        reverse_path: b"a@example.com",
        ..EnvelopeRef::default()
    };
    until_taken(log, |log| log.append_message(&envelope, std::iter::once(body), body.len(), 1_000_000))
}

/// Appends a chunk.
pub(crate) fn append_chunk<S: Storage>(log: &mut Appender<S>, body: &[u8]) -> ChunkRef {
    until_taken(log, |log| log.append_chunk(std::iter::once(body), body.len(), 1_000_000))
}

/// Octets that differ from message to message.
pub(crate) fn body(seed: u64, octets: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut body = Vec::with_capacity(octets + 8);
    while body.len() < octets {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(octets);
    body
}

/// Storage on a directory.
pub(crate) fn disk(dir: &Path) -> DiskStorage {
    DiskStorage::new(dir, true)
}
