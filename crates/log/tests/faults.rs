//! Faults of the disk at one chosen place: acknowledged mail stays, or its loss is reported.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;

use common::{append, body, settings, simulated, write_all};
use inrush_log::sim::{Fault, SimStorage};
use inrush_log::{
    Appender, DamageKind, DataDirectory, LogSettings, Reader, RecoveryReport, VerifyEvent, segment_name,
};

type Opened = (DataDirectory<SimStorage>, Appender<SimStorage>, RecoveryReport);

fn open(storage: &SimStorage, settings: &LogSettings) -> Opened {
    let mut data = DataDirectory::on_without_helper(storage.clone(), settings, 7).unwrap();
    let (log, report) = data.open_log(0, || {}).unwrap();
    (data, log, report)
}

/// An error between the rename of a segment and its use: no segment is left out, so a reader of the live log finds nothing amiss, and
/// what rots later costs one message and not all behind it.
#[test]
fn a_fault_while_segments_are_made_leaves_none_out() {
    const SEGMENT: u64 = 4 << 20;
    let settings = LogSettings { segment_bytes: SEGMENT, ..settings() };
    for step in 0.. {
        let storage = SimStorage::new(1);
        let (mut data, mut log, _) = open(&storage, &settings);
        let before = storage.steps();
        storage.fault_at(step, Fault::Error);
        data.prepare_segments();
        data.prepare_segments();
        if storage.steps() - before <= step {
            assert!(step > 10, "only {step} steps");
            break;
        }
        let mut sent = Vec::new();
        let mut used = BTreeSet::new();
        while used.len() < 2 || sent.len() % 64 < 60 {
            let message = append(&mut log, &body(sent.len() as u64, 100_000), &[]);
            write_all(&mut log);
            data.prepare_segments();
            used.insert(message.lsn.segment(SEGMENT));
            sent.push(message);
        }
        let numbers: Vec<u64> = used.iter().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "step {step}: {numbers:?}");
        let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
        let mut bad = Vec::new();
        reader
            .verify(|event| {
                if let VerifyEvent::Bad(record) = event {
                    bad.push(record.to_string());
                }
            })
            .unwrap();
        assert!(bad.is_empty(), "step {step}: {bad:?}");
        drop((log, data));

        let storage = storage.kill();
        let newest = *numbers.last().unwrap();
        let of_newest = |id: &&inrush_log::Appended| id.lsn.segment(SEGMENT) == newest;
        let victim =
            *sent.iter().find(|sent| of_newest(sent) && sent.lsn.offset(SEGMENT) > 1_500_000).unwrap();
        let file = format!("arrival-00/{}", segment_name(newest));
        storage.rot(&file, usize::try_from(victim.lsn.offset(SEGMENT)).unwrap() + 5000, 1);
        let (_data, _log, report) = open(&storage, &settings);
        assert_eq!(report.damage.len(), 1, "step {step}: {report:?}");
        let mut reader = Reader::on(storage, "arrival-00").unwrap();
        for message in sent.iter().filter(|message| message.id != victim.id) {
            assert!(reader.message(message.id).is_ok(), "step {step}: {}", message.id);
        }
    }
}

/// The first block of a segment with mail reads as zeros: it is kept and reported, never used again.
#[test]
fn a_header_of_zeros_is_damage() {
    for sealed in [true, false] {
        let storage = SimStorage::new(1);
        let (mut data, mut log, _) = open(&storage, &settings());
        data.prepare_segments();
        append(&mut log, b"first", &[]);
        write_all(&mut log);
        if sealed {
            log.close();
            write_all(&mut log);
        }
        drop((log, data));
        let storage = storage.kill();
        let file = format!("arrival-00/{}", segment_name(1));
        for (at, octet) in storage.content(&file).unwrap()[..4096].iter().enumerate() {
            storage.rot(&file, at, *octet);
        }
        let (_data, _log, report) = open(&storage, &settings());
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert_eq!(report.damage[0].kind, DamageKind::SegmentHeader);
        assert!(report.damage[0].kept_as.is_some());
    }
}

/// A torn tail is copied for people to look at; that there is no room for the copy must not keep the log from opening.
#[test]
fn a_torn_tail_on_a_full_disk() {
    let mut torn = 0;
    for seed in 0..40 {
        let storage = SimStorage::new(seed);
        let (mut data, mut log, _) = open(&storage, &settings());
        data.prepare_segments();
        let kept = append(&mut log, b"first", &[]);
        write_all(&mut log);
        append(&mut log, &body(3, 100_000), &[]);
        storage.fault_at(0, Fault::Crash);
        let write = log.next_write().unwrap();
        let result = write.run();
        assert!(log.write_done(write, result).is_err());
        drop((log, data));
        let storage = storage.restart();
        storage.set_capacity(0);
        let (_data, _log, report) = open(&storage, &settings());
        assert!(report.damage.is_empty(), "seed {seed}: {report:?}");
        torn += report.cut.iter().filter(|cut| cut.kept_as.is_none()).count();
        assert!(Reader::on(storage, "arrival-00").unwrap().message(kept.id).is_ok(), "seed {seed}");
    }
    assert!(torn > 0, "no seed has left a torn tail");
}

/// A save that fails leaves either position; the next one leaves its own.
#[test]
fn a_cursor_outlives_a_failed_save() {
    for step in 0..2 {
        for fault in [Fault::Error, Fault::NoSpace] {
            let storage = SimStorage::new(step);
            let (mut data, mut log) = simulated::open(&storage, &settings());
            let messages = simulated::fill(&mut data, &mut log, 1);
            let mut cursor = simulated::required(&storage, "consumer");
            cursor.save(messages[0].lsn).unwrap();
            storage.fault_at(step, fault);
            if cursor.save(messages[1].lsn).is_err() {
                assert_eq!(cursor.position(), messages[0].lsn);
            }
            cursor.save(messages[2].lsn).unwrap();
            assert_eq!(cursor.position(), messages[2].lsn);
            drop((cursor, data, log));
            let storage = storage.restart();
            assert_eq!(simulated::required(&storage, "consumer").position(), messages[2].lsn);
        }
    }
}
