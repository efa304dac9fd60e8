//! Consumers, retirement, recycling, adoption: what nobody needs any more goes, everything else stays.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;

use common::simulated::{NODE, fill, ids, open, required, segments};
use common::{append, append_chunk, body, settings, write_all};
use inrush_log::sim::{Fault, SimStorage};
use inrush_log::{
    ConsumerKind, Cursor, DataDirectory, Entry, EnvelopeRef, LogSettings, Lsn, OpenMode, Reader,
    RetireReason, Storage, StorageFile, VerifyEvent, segment_name,
};

#[test]
fn without_consumers_and_limits_everything_stays() {
    let storage = SimStorage::new(1);
    let (mut data, mut log) = open(&storage, &settings());
    let messages = fill(&mut data, &mut log, 5);
    assert_eq!(ids(&storage).len(), messages.len());
    assert_eq!(data.status().get().retired, [0; 4]);
}

#[test]
fn what_a_required_consumer_has_passed_is_recycled_with_a_new_salt() {
    let storage = SimStorage::new(2);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    let messages = fill(&mut data, &mut log, 4);
    assert!(segments(&storage, "arrival-00").contains(&segment_name(1)));
    let salt = |name: &str| storage.content(&format!("arrival-00/{name}")).unwrap()[48..56].to_vec();
    let salts: BTreeSet<_> = segments(&storage, "arrival-00").iter().map(|name| salt(name)).collect();
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    let status = data.status().get();
    assert_eq!(status.retired[RetireReason::Consumed as usize], 4);
    // Two spares are kept; what is more goes.
    assert_eq!((status.recycled, status.spares_waiting, status.segments_sealed), (2, 2, 0));
    assert_eq!(status.consumers[0].lag_bytes, 0);
    let left = ids(&storage);
    assert!(left.len() < messages.len() && left.iter().all(|id| messages.iter().any(|m| m.id == *id)));

    // The recycled files are used: no old mail shows up, whatever ends the run.
    let more = fill(&mut data, &mut log, 4);
    for name in segments(&storage, "arrival-00").iter().filter(|name| **name > segment_name(7)) {
        assert!(!salts.contains(&salt(name)), "{name} has a salt of an earlier life");
    }
    let lives = |name: &String| storage.content(&format!("arrival-00/{name}")).unwrap()[72];
    assert!(segments(&storage, "arrival-00").iter().any(|name| lives(name) > 0));
    drop((data, log, cursor));
    let storage = storage.restart();
    let (_data, _log) = open(&storage, &settings());
    let found = ids(&storage);
    assert!(more.iter().all(|message| found.contains(&message.id)));
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
}

#[test]
fn numbers_never_come_back_when_every_segment_is_gone() {
    let storage = SimStorage::new(3);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    let before = append(&mut log, b"x", &[]);
    log.close();
    write_all(&mut log);
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    drop((data, log, cursor));
    assert!(segments(&storage, "arrival-00").is_empty());
    let storage = storage.restart();
    let (_data, mut log) = open(&storage, &settings());
    let after = append(&mut log, b"x", &[]);
    assert!(after.id > before.id, "{} after {}", after.id, before.id);
}

#[test]
fn a_required_consumer_that_stands_still_keeps_everything_even_over_the_limits() {
    let storage = SimStorage::new(4);
    let limits = LogSettings { retention_bytes: 1 << 20, ..settings() };
    let (mut data, mut log) = open(&storage, &limits);
    let cursor = required(&storage, "relay");
    let messages = fill(&mut data, &mut log, 4);
    assert_eq!(ids(&storage).len(), messages.len());
    let status = data.status().get();
    let consumer = &status.consumers[0];
    assert_eq!(
        (consumer.name.as_str(), consumer.kind, consumer.damaged),
        ("relay", ConsumerKind::Required, false)
    );
    assert!(consumer.lag_bytes > 4 << 20);
    assert_eq!(consumer.oldest_at_us, Some(1_000_000));
    // Also while nobody runs it.
    drop(cursor);
    data.prepare_segments();
    assert_eq!(ids(&storage).len(), messages.len());
}

#[test]
fn a_best_effort_consumer_loses_what_the_limits_take_and_that_is_counted() {
    let storage = SimStorage::new(5);
    let limits = LogSettings { retention_bytes: 2 << 20, ..settings() };
    let (mut data, mut log) = open(&storage, &limits);
    let _cursor = Cursor::on(storage.clone(), "arrival-00", "stream", ConsumerKind::BestEffort).unwrap();
    fill(&mut data, &mut log, 5);
    let status = data.status().get();
    assert_eq!((status.segments_sealed, status.retired[RetireReason::Bytes as usize]), (2, 3));
    assert_eq!(status.consumers[0].segments_lost, 3);
}

#[test]
fn chunks_stay_as_long_as_a_message_may_list_them() {
    let storage = SimStorage::new(6);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    let first = append_chunk(&mut log, &body(1, 100_000));
    let given_up = append_chunk(&mut log, &body(2, 100_000));
    fill(&mut data, &mut log, 2);
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    assert!(segments(&storage, "arrival-00").contains(&segment_name(1)), "its transactions are open");
    log.abandon_chunks(&[given_up]);
    let message = append(&mut log, b"the end", &[first]);
    let gate = message.gate;
    fill(&mut data, &mut log, 1);
    // Consumed up to the message, but not the message itself.
    cursor.save(message.lsn).unwrap();
    data.prepare_segments();
    assert!(segments(&storage, "arrival-00").contains(&segment_name(1)));
    let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
    let found = reader.message(message.id).unwrap();
    assert_eq!(reader.read_body(&found, |_| Ok(())).unwrap().octets, 100_007);
    // Also after a restart, when only the seals know.
    drop((data, log));
    let storage = storage.restart();
    let (mut data, log) = open(&storage, &settings());
    data.prepare_segments();
    assert!(segments(&storage, "arrival-00").contains(&segment_name(1)));
    drop(cursor);
    let mut cursor = required(&storage, "relay");
    cursor.save(gate).unwrap();
    data.prepare_segments();
    assert!(
        segments(&storage, "arrival-00").contains(&segment_name(1)),
        "its segment stays, so the chunks do"
    );
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    assert!(!segments(&storage, "arrival-00").contains(&segment_name(1)));
    let bad = Reader::on(storage, "arrival-00").unwrap().verify(|_| ()).unwrap().bad;
    assert_eq!(bad, 0);
}

#[test]
fn a_chunk_that_its_message_could_not_follow_pins_nothing() {
    let storage = SimStorage::new(7);
    storage.set_capacity(3 << 20);
    let (mut data, mut log) = open(&storage, &settings());
    let big = body(1, 250_000);
    let paths = vec![b'a'; 60_000];
    let envelope = EnvelopeRef { text: &paths, ..EnvelopeRef::default() };
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(log.append_message(&envelope, std::iter::once(&big[..]), big.len(), 1).is_err());
        write_all(&mut log);
    }
    assert!(refused > 0);
    let mut cursor = required(&storage, "relay");
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    assert!(data.status().get().retired[RetireReason::Consumed as usize] > 0);
}

#[test]
fn a_segment_that_somebody_has_linked_is_not_written_again() {
    let storage = SimStorage::new(8);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    fill(&mut data, &mut log, 1);
    let name = format!("arrival-00/{}", segment_name(1));
    storage.link(&name, "backup/copy");
    let before = storage.content(&name).unwrap();
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    assert_eq!(storage.content(&name), None);
    fill(&mut data, &mut log, 4);
    assert!(storage.content("backup/copy").unwrap() == before, "the backup was overwritten");
}

/// Goes through the log and counts what it hands out; damage fails the test.
fn count(reader: &mut Reader<SimStorage>) -> usize {
    let mut records = 0;
    while let Some(entry) = reader.next().unwrap() {
        assert!(matches!(entry, Entry::Record(_)), "{entry:?}");
        records += 1;
    }
    records
}

#[test]
fn a_reader_whose_segment_is_retired_under_it_goes_on_behind_it() {
    let storage = SimStorage::new(30);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    let chunk = append_chunk(&mut log, &body(1, 100_000));
    let chunked = append(&mut log, b"the end", &[chunk]);
    let messages = fill(&mut data, &mut log, 3);
    let reader = || Reader::on(storage.clone(), "arrival-00").unwrap();
    // One that has only heard of the segments, one that has the first open, one that looks at single messages.
    let (mut fresh, mut open_file, mut single) = (reader(), reader(), reader());
    open_file.next().unwrap().unwrap();
    let first = single.message(messages[0].id).unwrap();
    let held = single.message(chunked.id).unwrap();
    cursor.save(log.durable()).unwrap();
    data.prepare_segments();
    let more = fill(&mut data, &mut log, 4);
    assert!(data.status().get().recycled > 0);

    assert!(count(&mut fresh) >= more.len());
    open_file.seek(messages[1].lsn);
    assert!(count(&mut open_file) >= more.len());
    assert_eq!(first.own_body(), body(0, 100_000), "what was read stays");
    let gone = reader().message(messages[1].id).map(|message| message.id);
    assert!(gone.unwrap_err().to_string().ends_with("no such message"));
    let error = reader().read_body(&held, |_| Ok(())).unwrap_err();
    assert!(error.to_string().ends_with("no such message"), "{error}");
    assert_eq!(fresh.verify(|_| ()).unwrap().bad, 0);
    assert_eq!(single.message(more[0].id).unwrap().own_body(), body(0, 100_000));
}

#[test]
fn cursors_keep_their_place_their_kind_and_their_owner() {
    let storage = SimStorage::new(9);
    let (mut data, mut log) = open(&storage, &settings());
    fill(&mut data, &mut log, 1);
    let mut cursor = required(&storage, "relay");
    assert_eq!(cursor.position(), Lsn::ZERO);
    cursor.save(Lsn::new(5000)).unwrap();
    let text = cursor.save(Lsn::new(4000)).unwrap_err().to_string();
    assert!(
        text.ends_with("cursor.relay: stands at LSN 00000000001388, cannot go back to 00000000000FA0"),
        "{text}"
    );
    drop(cursor);
    assert_eq!(required(&storage, "relay").position(), Lsn::new(5000));
    let kind = Cursor::on(storage.clone(), "arrival-00", "relay", ConsumerKind::BestEffort);
    assert!(kind.unwrap_err().to_string().ends_with("cursor.relay: belongs to a required consumer"));
    for name in ["", "../x", "a.b", "A", &"a".repeat(65)] {
        let error = Cursor::on(storage.clone(), "arrival-00", name, ConsumerKind::Required).unwrap_err();
        assert!(error.to_string().contains("use 1 to 64 of a-z, 0-9, - and _"), "{error}");
    }
}

#[test]
fn a_log_that_ends_before_its_cursor_goes_on_behind_it() {
    let storage = SimStorage::new(31);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    let messages = fill(&mut data, &mut log, 2);
    cursor.save(Lsn::new(100 << 20)).unwrap();
    drop(cursor);
    data.prepare_segments();
    assert_eq!(ids(&storage).len(), messages.len(), "nobody knows yet what has happened");
    assert!(data.status().get().consumers[0].damaged);
    let error = Cursor::on(storage.clone(), "arrival-00", "relay", ConsumerKind::Required).unwrap_err();
    assert!(error.to_string().contains("stands at LSN 00000006400000, behind the end of the log"), "{error}");
    drop((data, log));

    let storage = storage.restart();
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let (mut log, report) = data.open_log(0, || {}).unwrap();
    let [damage] = &report.damage[..] else { panic!("{report:?}") };
    let text = damage.to_string();
    assert!(
        text.starts_with("log ends before the position of a consumer: file cursor.relay")
            && text.ends_with("new mail comes behind LSN 00000006400000"),
        "{text}"
    );
    // Also for who looks before there is a segment behind it.
    let cursor = required(&storage, "relay");
    let new = fill(&mut data, &mut log, 1);
    assert!(!data.status().get().consumers[0].damaged);
    assert!(new.iter().all(|message| message.id.lsn >= cursor.position()), "the consumer gets all of it");
    drop((data, log, cursor));
    let storage = storage.restart();
    let _opened = open(&storage, &settings());
    assert!(new.iter().all(|message| ids(&storage).contains(&message.id)));
}

/// It stood elsewhere when this mail came, so it has not seen it.
#[test]
fn a_cursor_that_is_older_than_the_mail_before_it_keeps_everything() {
    let storage = SimStorage::new(37);
    let (data, log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    cursor.save(Lsn::new(100 << 20)).unwrap();
    drop((cursor, data, log));
    let name = "arrival-00/cursor.relay";
    let before = storage.content(name).unwrap();
    storage.unlink(name).unwrap();
    storage.sync_dir("arrival-00").unwrap();
    let storage = storage.restart();
    let (mut data, mut log) = open(&storage, &settings());
    let messages = fill(&mut data, &mut log, 3);
    drop((data, log));
    let file = storage.open(name, OpenMode::Create).unwrap();
    write_aligned(&file, &before);
    storage.sync_dir("arrival-00").unwrap();
    let storage = storage.restart();
    let (mut data, _log) = open(&storage, &settings());
    data.prepare_segments();
    let found = ids(&storage);
    assert!(messages.iter().all(|message| found.contains(&message.id)));
    assert!(data.status().get().consumers[0].damaged);
}

/// Numbers would run out behind it.
#[test]
fn a_cursor_at_the_end_of_all_positions_is_not_followed() {
    let storage = SimStorage::new(38);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    fill(&mut data, &mut log, 1);
    cursor.save(Lsn::MAX).unwrap();
    drop((cursor, data, log));
    let storage = storage.restart();
    let (mut data, mut log) = open(&storage, &settings());
    let after = append(&mut log, b"x", &[]);
    write_all(&mut log);
    assert!(after.id.lsn < Lsn::new(100 << 20));
    data.prepare_segments();
    assert!(data.status().get().consumers[0].damaged);
}

#[test]
fn a_log_without_a_core_that_ends_before_its_cursor_says_so_once() {
    let storage = SimStorage::new(39);
    let (mut data, mut log) = open(&storage, &settings());
    fill(&mut data, &mut log, 2);
    let kind = ConsumerKind::BestEffort;
    let mut cursor = Cursor::on(storage.clone(), "arrival-00", "stream", kind).unwrap();
    cursor.save(Lsn::new(100 << 20)).unwrap();
    drop((cursor, data, log));
    let mut storage = storage.restart();
    for damage in [1, 0] {
        let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
        let adopted = data.adopt_logs().unwrap();
        assert_eq!(adopted[0].1.damage.len(), damage);
        drop(Cursor::on(storage.clone(), "arrival-00", "stream", kind).unwrap());
        drop(data);
        storage = storage.restart();
    }
}

fn write_aligned(file: &impl StorageFile, bytes: &[u8]) {
    let mut memory = vec![0; bytes.len() + 4096];
    let begin = memory.as_ptr().align_offset(4096);
    memory[begin..][..bytes.len()].copy_from_slice(bytes);
    let mut done = 0;
    while done < bytes.len() {
        done += file.write_at(&memory[begin + done..begin + bytes.len()], done as u64).unwrap();
    }
    file.sync().unwrap();
}

#[test]
fn a_cursor_survives_a_crash_at_every_step_of_a_save() {
    for step in 0..3 {
        let storage = SimStorage::new(10 + step);
        let (data, log) = open(&storage, &settings());
        let mut cursor = required(&storage, "relay");
        cursor.save(Lsn::new(5000)).unwrap();
        storage.fault_at(step, Fault::Crash);
        let saved = cursor.save(Lsn::new(6000)).is_ok();
        assert_eq!(
            cursor.save(Lsn::new(7000)).is_ok(),
            saved && !storage.is_dead(),
            "nothing is saved after an error"
        );
        drop((data, log));
        let storage = storage.restart();
        let position = required(&storage, "relay").position().get();
        assert!(if saved { position >= 6000 } else { matches!(position, 5000 | 6000) }, "{position}");
    }
}

#[test]
fn a_damaged_cursor_keeps_everything_and_is_told() {
    let storage = SimStorage::new(14);
    let (mut data, mut log) = open(&storage, &settings());
    let mut cursor = required(&storage, "relay");
    cursor.save(Lsn::new(5000)).unwrap();
    drop(cursor);
    // One slot may go: the other one is older.
    storage.rot("arrival-00/cursor.relay", 40, 1);
    assert!(required(&storage, "relay").position() <= Lsn::new(5000));
    storage.rot("arrival-00/cursor.relay", 40, 2);
    storage.rot("arrival-00/cursor.relay", 4096 + 40, 2);
    let error = Cursor::on(storage.clone(), "arrival-00", "relay", ConsumerKind::Required).unwrap_err();
    assert!(error.to_string().contains("cursor.relay: checksum does not hold; remove the file"), "{error}");
    let messages = fill(&mut data, &mut log, 2);
    assert_eq!(ids(&storage).len(), messages.len());
    let consumer = &data.status().get().consumers[0];
    assert!(consumer.damaged && consumer.kind == ConsumerKind::Required);
}

#[test]
fn logs_of_cores_that_are_gone_are_read_and_drained() {
    let storage = SimStorage::new(15);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let (log, _) = data.open_log(0, || {}).unwrap();
    let (mut other, _) = data.open_log(1, || {}).unwrap();
    data.prepare_segments();
    let message = append(&mut other, b"of the other core", &[]);
    write_all(&mut other);
    drop((data, log, other));
    let storage = storage.restart();

    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).unwrap();
    let (_log, _) = data.open_log(0, || {}).unwrap();
    let adopted = data.adopt_logs().unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!((adopted[0].0.as_str(), adopted[0].1.messages), ("arrival-01", 1));
    assert!(data.adopt_logs().unwrap().is_empty());
    data.prepare_segments();
    assert_eq!(data.status().get().logs_adopted, 1);
    let names = storage.list("arrival-01").unwrap();
    assert_eq!(names, [segment_name(1), "log.meta".to_owned()], "no spares, nothing new");
    let mut reader = Reader::on(storage.clone(), "arrival-01").unwrap();
    assert_eq!(reader.message(message.id).unwrap().own_body(), b"of the other core");

    let mut cursor = Cursor::on(storage.clone(), "arrival-01", "relay", ConsumerKind::Required).unwrap();
    cursor.save(Lsn::new(2 << 20)).unwrap();
    data.prepare_segments();
    assert!(segments(&storage, "arrival-01").is_empty());
    // The core comes back: its numbers do not.
    drop((data, _log));
    let storage = storage.restart();
    let mut data = DataDirectory::on_without_helper(storage, &settings(), NODE).unwrap();
    let (mut other, _) = data.open_log(1, || {}).unwrap();
    data.prepare_segments();
    assert!(append(&mut other, b"x", &[]).id > message.id);
}

#[test]
fn a_log_of_another_node_is_not_adopted() {
    let storage = SimStorage::new(16);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), 9).unwrap();
    let (mut log, _) = data.open_log(1, || {}).unwrap();
    append(&mut log, b"x", &[]);
    write_all(&mut log);
    drop((data, log));
    let mut data = DataDirectory::on_without_helper(storage.kill(), &settings(), NODE).unwrap();
    data.open_log(0, || {}).unwrap();
    let error = data.adopt_logs().unwrap_err().to_string();
    assert_eq!(error, "simulated/arrival-01/log.meta: belongs to node 9, this is node 3");
}

#[test]
fn low_inodes_refuse_and_come_back() {
    let storage = SimStorage::new(17);
    let (mut data, log) = open(&storage, &LogSettings { free_inodes_min: 10, ..settings() });
    storage.set_free_inodes(15);
    data.prepare_segments();
    assert!(log.space_low() && log.admission().is_ok());
    storage.set_free_inodes(9);
    data.prepare_segments();
    assert_eq!(log.admission().unwrap_err().to_string(), "no space: free inodes are below the mark");
    storage.set_free_inodes(20);
    data.prepare_segments();
    assert!(!log.space_low() && log.admission().is_ok());
}

/// What a snapshot of hard links keeps frees nothing: it goes when there is more behind it, and by itself not at all.
#[test]
fn for_want_of_space_nothing_goes_that_a_snapshot_keeps() {
    for linked in [1..=1, 1..=5] {
        let storage = SimStorage::new(33);
        let limit = |retention_free_bytes| LogSettings { retention_free_bytes, ..settings() };
        let (mut data, mut log) = open(&storage, &limit(0));
        let messages = fill(&mut data, &mut log, 5);
        drop((data, log));
        storage.create_dir("backup").unwrap();
        for number in linked.clone() {
            storage.link(&format!("arrival-00/{}", segment_name(number)), &format!("backup/{number}"));
        }
        let storage = storage.restart();
        let (mut data, log) = open(&storage, &limit(u64::MAX));
        data.prepare_segments();
        let retired = data.status().get().retired[RetireReason::FreeBytes as usize];
        // The sixth was left unsealed and empty, or nearly.
        let all = linked == (1..=5) && segments(&storage, "arrival-00").contains(&segment_name(1));
        assert!(if all { retired == 0 } else { retired >= 5 }, "{linked:?}: {retired}");
        assert_eq!(ids(&storage).len() == messages.len(), all);
        drop((data, log));
    }
}

/// Its lag is nothing, and later the age of the first message in the next segment.
#[test]
fn the_age_of_a_backlog_behind_a_seal_is_that_of_the_next_segment() {
    let storage = SimStorage::new(36);
    let (mut data, mut log) = open(&storage, &settings());
    append(&mut log, b"x", &[]);
    log.close();
    write_all(&mut log);
    let end = log.durable();
    drop((data, log));
    let storage = storage.restart();
    let mut cursor = required(&storage, "relay");
    cursor.save(end).unwrap();
    (data, log) = open(&storage, &settings());
    assert_eq!(data.status().get().consumers[0].oldest_at_us, None);
    let appended = append(&mut log, b"y", &[]);
    write_all(&mut log);
    data.prepare_segments();
    let mut reader = Reader::on(storage, "arrival-00").unwrap();
    let accepted_at_us = reader.message(appended.id).unwrap().header.accepted_at_us;
    let status = data.status().get();
    assert_eq!(status.consumers[0].oldest_at_us, Some(accepted_at_us));
    assert!((1..=8192).contains(&status.consumers[0].lag_bytes), "{status:?}");
}

#[test]
fn a_retirement_that_fails_is_tried_again() {
    for step in 0..6 {
        let storage = SimStorage::new(20 + step);
        let (mut data, mut log) = open(&storage, &settings());
        let mut cursor = required(&storage, "relay");
        let messages = fill(&mut data, &mut log, 3);
        cursor.save(log.durable()).unwrap();
        storage.fault_at(step, Fault::Error);
        data.prepare_segments();
        data.prepare_segments();
        assert_eq!(data.status().get().segments_sealed, 0, "step {step}");
        let more = fill(&mut data, &mut log, 3);
        let found = ids(&storage);
        assert!(more.iter().all(|message| found.contains(&message.id)), "step {step}");
        assert!(found.len() < messages.len() + more.len());
        let mut reader = Reader::on(storage, "arrival-00").unwrap();
        reader.verify(|event| assert!(!matches!(event, VerifyEvent::Bad(_)), "{event:?}")).unwrap();
    }
}

#[test]
fn files_of_a_disk_can_be_locked_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, _log) = common::open(dir.path());
    let log = dir.path().join("arrival-00");
    let cursor = Cursor::open(&log, "export", ConsumerKind::BestEffort).unwrap();
    let error = Cursor::open(&log, "export", ConsumerKind::BestEffort).unwrap_err();
    assert!(error.to_string().ends_with("cursor.export: in use by another process"), "{error}");
    drop(cursor);
    Cursor::open(&log, "export", ConsumerKind::BestEffort).unwrap();
    let storage = common::disk(dir.path());
    std::fs::hard_link(log.join("log.meta"), dir.path().join("linked")).unwrap();
    let links = storage.open("arrival-00/log.meta", inrush_log::OpenMode::Read).unwrap().links().unwrap();
    assert_eq!(links, 2);
}
