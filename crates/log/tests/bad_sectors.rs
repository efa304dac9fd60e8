//! Blocks that the disk does not give: what is beside them can be read, and they keep nobody from starting.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::simulated::{NODE, fill, ids, open, readable, required};
use common::{append, append_chunk, body, settings, write_all};
use inrush_log::sim::SimStorage;
use inrush_log::{Appended, DamageKind, DataDirectory, Lsn, Reader, VerifyEvent, segment_name};

/// One bad block must not keep the gateway from starting; what it hides stays where it is.
#[test]
fn a_segment_that_the_disk_does_not_give_is_left_where_it_is() {
    let seal = usize::try_from(settings().segment_bytes).unwrap() - 4096;
    for offset in [0, seal] {
        let storage = SimStorage::new(34);
        let (mut data, mut log) = open(&storage, &settings());
        let messages = fill(&mut data, &mut log, 3);
        drop((data, log));
        let storage = storage.restart();
        let name = segment_name(2);
        storage.lose_block(&format!("arrival-00/{name}"), offset);
        let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
        let (mut log, report) = data.open_log(0, || {}).unwrap();
        let [damage] = &report.damage[..] else { panic!("{report:?}") };
        assert_eq!((damage.kind, &damage.file), (DamageKind::Unreadable, &name));
        data.prepare_segments();
        assert_eq!(data.status().get().segments_sealed, report.segments_sealed + 2);
        let more = append(&mut log, b"x", &[]);
        write_all(&mut log);
        // Meanwhile everything else can be read; behind a header without its seal also what is in it.
        let found = readable(&storage);
        let hidden =
            |message: &Appended| offset == 0 && message.id.lsn.segment(settings().segment_bytes) == 2;
        assert!(messages.iter().all(|message| hidden(message) != found.contains(&message.id)));
        drop((data, log));
        // A disk may come to its senses.
        let storage = storage.restart();
        storage.find_blocks();
        let _opened = open(&storage, &settings());
        let found = ids(&storage);
        assert!(messages.iter().chain([&more]).all(|message| found.contains(&message.id)), "offset {offset}");
    }
}

/// Its seal would have told that a message in it needs a chunk in the segment before it.
#[test]
fn chunks_of_a_segment_that_the_disk_does_not_give_stay() {
    let storage = SimStorage::new(40);
    let (mut data, mut log) = open(&storage, &settings());
    let chunk = append_chunk(&mut log, &body(1, 100_000));
    // So that the message comes into the second segment.
    fill(&mut data, &mut log, 1);
    let message = append(&mut log, b"the end", &[chunk]);
    fill(&mut data, &mut log, 2);
    drop((data, log));
    let storage = storage.restart();
    let mut cursor = required(&storage, "relay");
    cursor.save(Lsn::new(2 * settings().segment_bytes)).unwrap();
    drop(cursor);
    assert_eq!(message.id.lsn.segment(settings().segment_bytes), 2);
    let seal = usize::try_from(settings().segment_bytes).unwrap() - 4096;
    storage.lose_block(&format!("arrival-00/{}", segment_name(2)), seal);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let _log = data.open_log(0, || {}).unwrap();
    data.prepare_segments();
    assert_eq!(data.status().get().retired, [0; 4]);
    storage.find_blocks();
    let mut reader = Reader::on(storage, "arrival-00").unwrap();
    let kept = reader.message(message.id).unwrap();
    assert!(reader.read_body(&kept, |_| Ok(())).is_ok());
}

/// A bad block between good records costs those that are in it.
#[test]
fn a_bad_block_among_records_hides_only_what_is_in_it() {
    let storage = SimStorage::new(41);
    let (mut data, mut log) = open(&storage, &settings());
    let messages = fill(&mut data, &mut log, 2);
    drop((data, log));
    let storage = storage.restart();
    storage.lose_block(&format!("arrival-00/{}", segment_name(1)), 300_000);
    let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
    let mut bad = Vec::new();
    reader
        .verify(|event| {
            if let VerifyEvent::Bad(record) = event {
                bad.push(record);
            }
        })
        .unwrap();
    assert_eq!(bad.len(), 1, "{bad:?}");
    let found = readable(&storage);
    assert_eq!(found.len(), messages.len() - 1);
    let lost = bad[0].id.unwrap();
    assert!(messages.iter().all(|message| (message.id == lost) != found.contains(&message.id)));
}

/// Where nothing proves that a segment was sealed, its mail must not be passed over.
#[test]
fn the_newest_segment_has_to_be_readable() {
    let storage = SimStorage::new(35);
    let (mut data, mut log) = open(&storage, &settings());
    fill(&mut data, &mut log, 2);
    append(&mut log, b"x", &[]);
    write_all(&mut log);
    let newest = segment_name(log.durable().segment(settings().segment_bytes));
    drop((data, log));
    let storage = storage.restart();
    storage.lose_block(&format!("arrival-00/{newest}"), 0);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let error = data.open_log(0, || {}).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&newest) && error.contains("reading a segment header"), "{error}");
}
