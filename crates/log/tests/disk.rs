//! Real files with and without direct I/O, on the disk and in memory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::PathBuf;

use common::{append, append_chunk, body, until_taken, write_all};
use inrush_log::{
    DataDirectory, DiskStorage, Durability, LogSettings, OpenMode, Reader, Storage, StorageFile,
};

/// A directory on the disk, and one in memory where there is such a file system.
fn places() -> Vec<tempfile::TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let mut places = vec![tempfile::tempdir().unwrap()];
    if memory.is_dir() {
        places.push(tempfile::tempdir_in(memory).unwrap());
    }
    places
}

#[test]
fn every_way_of_writing_keeps_what_it_acknowledged() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        for direct_io in [true, false] {
            for place in places() {
                let settings = LogSettings { direct_io, durability, ..common::settings() };
                let mut data = DataDirectory::open(place.path(), &settings, 1).unwrap();
                let (mut log, _) = data.open_log(0, || {}).unwrap();
                assert!(direct_io || !log.direct());
                let mail = body(5, 100_000);
                let mut ids = Vec::new();
                for _ in 0..15 {
                    let chunk = append_chunk(&mut log, &mail);
                    ids.push(append(&mut log, &mail[..5000], &[chunk]).id);
                    write_all(&mut log);
                }
                assert!(log.stats().segments_sealed >= 1);
                drop((log, data));
                let mut data = DataDirectory::open(place.path(), &settings, 1).unwrap();
                let (mut log, report) = data.open_log(0, || {}).unwrap();
                assert!(report.damage.is_empty() && report.cut.is_empty(), "{report:?}");
                ids.push(append(&mut log, &mail, &[]).id);
                write_all(&mut log);
                let mut reader = Reader::open(&place.path().join("arrival-00")).unwrap();
                for id in ids {
                    let message = reader.message(id).unwrap();
                    let end = reader.read_body(&message, |_| Ok(())).unwrap();
                    assert!(end.octets == 105_000 || end.octets == 100_000);
                }
            }
        }
    }
}

#[test]
fn direct_files_need_no_sync_and_others_do() {
    for place in places() {
        for direct in [true, false] {
            let storage = DiskStorage::new(place.path(), direct);
            storage.probe().unwrap();
            std::fs::write(place.path().join("file"), [0; 8192]).unwrap();
            let file = storage.open("file", OpenMode::Durable).unwrap();
            assert_eq!(file.writes_are_durable(), file.direct());
            assert_eq!(file.direct(), storage.direct());
            assert!(!storage.open("file", OpenMode::Plain).unwrap().writes_are_durable());
        }
    }
}

#[test]
fn logs_of_one_directory_share_its_helper() {
    let place = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(place.path(), &common::settings(), 1).unwrap();
    let mut logs: Vec<_> = (0..3).map(|number| data.open_log(number, || {}).unwrap().0).collect();
    let mail = body(1, 200_000);
    let threads: Vec<_> = logs
        .drain(..)
        .map(|mut log| {
            let mail = mail.clone();
            std::thread::spawn(move || {
                for _ in 0..30 {
                    until_taken(&mut log, |log| {
                        let envelope = inrush_log::EnvelopeRef::default();
                        log.append_message(&envelope, std::iter::once(&mail[..]), mail.len(), 1)
                    });
                    write_all(&mut log);
                }
                log.close();
                write_all(&mut log);
                log.stats().messages
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 30);
    }
    drop(data);
    for mut reader in Reader::open_all(place.path()).unwrap() {
        let verified = reader.verify(|_| {}).unwrap();
        assert_eq!((verified.messages, verified.bad), (30, 0));
        // What was ready and not used is a spare again.
        assert_eq!(verified.segments, verified.segments_sealed);
    }
}
