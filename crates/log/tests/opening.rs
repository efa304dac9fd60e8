//! A data directory that cannot be used: one clear message with what and where, nothing changed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use common::{append, open, settings, write_all};
use inrush_log::{ConsumerKind, Cursor, DataDirectory, DiskStorage, LogSettings, Reader, Storage};

fn refused(dir: &Path, settings: &LogSettings, node: u16) -> String {
    let mut data = match DataDirectory::open(dir, settings, node) {
        Ok(data) => data,
        Err(error) => return error.to_string(),
    };
    match data.open_log(0, || {}) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

fn one_message(dir: &Path) {
    let (_data, mut log) = open(dir);
    append(&mut log, b"x", &[]);
    write_all(&mut log);
}

#[test]
fn locked_by_another_process_with_its_pid() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, _log) = open(dir.path());
    let text = refused(dir.path(), &settings(), 7);
    assert_eq!(
        text,
        format!("{}: locked by another process (pid {})", dir.path().display(), std::process::id())
    );
}

#[test]
fn not_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    assert_eq!(refused(&path, &settings(), 7), format!("{}: not a directory", path.display()));
    let below = refused(&path.join("data"), &settings(), 7);
    assert!(below.contains("cannot be made"), "{below}");
}

#[test]
fn another_node_or_segment_size_or_log() {
    let dir = tempfile::tempdir().unwrap();
    one_message(dir.path());
    let meta = dir.path().join("arrival-00/log.meta");
    let text = refused(dir.path(), &settings(), 8);
    assert_eq!(text, format!("{}: belongs to node 7, this is node 8", meta.display()));
    let text = refused(dir.path(), &LogSettings { segment_bytes: 2 << 20, ..settings() }, 7);
    assert!(text.contains("segments of 1048576 octets, segment_bytes is 2097152"), "{text}");
    std::fs::rename(dir.path().join("arrival-00"), dir.path().join("arrival-01")).unwrap();
    let mut data = DataDirectory::open(dir.path(), &settings(), 7).unwrap();
    let text = data.open_log(1, || {}).err().unwrap().to_string();
    assert!(text.contains("arrival-01/log.meta: belongs to log arrival-00"), "{text}");
    assert!(data.open_log(0, || {}).is_ok());
    assert!(data.open_log(0, || {}).err().unwrap().to_string().contains("opened twice"));
}

#[test]
fn damaged_missing_or_newer_meta() {
    let dir = tempfile::tempdir().unwrap();
    one_message(dir.path());
    let path = dir.path().join("arrival-00/log.meta");
    let good = std::fs::read(&path).unwrap();
    // One good slot is enough.
    let mut one = good.clone();
    one[40] ^= 1;
    std::fs::write(&path, &one).unwrap();
    drop(open(dir.path()));
    let mut none = one.clone();
    none[4096 + 40] ^= 1;
    std::fs::write(&path, &none).unwrap();
    let before = snapshot(dir.path());
    let text = refused(dir.path(), &settings(), 7);
    assert!(text.contains("log.meta: damaged (checksum does not hold)"), "{text}");
    std::fs::write(&path, &good[..100]).unwrap();
    assert!(refused(dir.path(), &settings(), 7).contains("log.meta: damaged"));
    std::fs::remove_file(&path).unwrap();
    let text = refused(dir.path(), &settings(), 7);
    assert!(text.contains("log.meta: missing, but there are segments beside it"), "{text}");
    std::fs::write(&path, &none).unwrap();
    assert_eq!(snapshot(dir.path()), before, "nothing was changed");
    std::fs::write(&path, &good).unwrap();
    drop(open(dir.path()));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    one_message(dir.path());
    let storage = DiskStorage::new(dir.path(), true);
    let name = storage.list("arrival-00").unwrap().into_iter().find(|name| name.ends_with("1.seg")).unwrap();
    let path = dir.path().join("arrival-00").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc_fast::crc32_iscsi(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let text = refused(dir.path(), &settings(), 7);
    assert!(text.contains("0000000000000001.seg: format version 9, this program knows 1"), "{text}");

    // Whoever reads it, and consumers, say the same of log.meta.
    let path = dir.path().join("arrival-00/log.meta");
    let mut bytes = std::fs::read(&path).unwrap();
    for slot in bytes.chunks_mut(4096) {
        slot[8] = 9;
        let crc = crc_fast::crc32_iscsi(&slot[..4092]);
        slot[4092..4096].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let log = dir.path().join("arrival-00");
    let texts = [
        refused(dir.path(), &settings(), 7),
        Reader::open(&log).map(drop).unwrap_err().to_string(),
        Cursor::open(&log, "relay", ConsumerKind::Required).map(drop).unwrap_err().to_string(),
    ];
    for text in texts {
        assert!(text.contains("log.meta: format version 9, this program knows 1"), "{text}");
    }
}

#[test]
fn settings_are_checked_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let text = refused(&path, &LogSettings { segment_bytes: 5, ..settings() }, 7);
    assert_eq!(text, "log settings: segment_bytes must be a power of two from 1 MiB to 4 GiB");
    assert!(!path.exists());
}

fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let storage = DiskStorage::new(dir, false);
    let names = storage.list("arrival-00").unwrap();
    let read = |name: String| {
        let bytes = std::fs::read(dir.join("arrival-00").join(&name)).unwrap_or_default();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}
