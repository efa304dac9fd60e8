//! Copies of messages in another log, and records about messages.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{append, append_chunk};
use inrush_log::sim::SimStorage;
use inrush_log::{
    AppendError, DataDirectory, Entry, INTERNAL_LOG, LogKind, Message, NoSpace, Reader, RecordFlags,
    RecordKind, Storage,
};

fn read_whole<S: Storage>(reader: &mut Reader<S>, message: &Message) -> Vec<u8> {
    let mut whole = Vec::new();
    reader
        .read_body(message, |piece| {
            whole.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    whole
}

#[test]
fn a_copy_has_the_same_id_and_content_in_another_place() {
    let storage = SimStorage::new(1);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &common::settings(), 1).unwrap();
    let (mut arrival, _) = data.open_log(0, || {}).unwrap();
    let (mut retry, _) = data.open_log_kind(LogKind::Retry, 0, || {}).unwrap();
    data.prepare_segments();
    let parts = [common::body(1, 200_000), common::body(2, 90_000)];
    let chunks: Vec<_> = parts.iter().map(|part| common::append_chunk(&mut arrival, part)).collect();
    let own = common::body(3, 5000);
    let large = common::append(&mut arrival, &own, &chunks);
    let small = common::append(&mut arrival, b"small", &[]);
    common::write_all(&mut arrival);

    let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
    let mut places = Vec::new();
    for id in [large.id, small.id] {
        let message = reader.message(id).unwrap();
        let listed: Vec<_> = message.envelope().unwrap().chunks().collect();
        let mut moved = Vec::new();
        reader
            .read_body(&message, |piece| {
                if moved.len() < listed.len() {
                    moved.push(common::append_chunk(&mut retry, piece));
                }
                Ok(())
            })
            .unwrap();
        // Other chunks than the envelope lists are refused.
        assert!(retry.append_copy(&message, &chunks[..1]).is_err());
        places.push(retry.append_copy(&message, &moved).unwrap());
    }
    common::write_all(&mut retry);

    let mut copies = Reader::on(storage, "retry-00").unwrap();
    let whole = [parts.concat(), own].concat();
    for (place, (id, content)) in places.iter().zip([(large.id, whole), (small.id, b"small".to_vec())]) {
        assert_eq!(place.id, id);
        let copy = copies.message_at(place.lsn).unwrap().unwrap();
        assert_eq!((copy.id, copy.header.flags.has(RecordFlags::RETRY_COPY)), (id, true));
        assert_eq!(copy.envelope().unwrap().reverse_path(), b"a@example.com");
        assert_eq!(read_whole(&mut copies, &copy), content);
    }
}

#[test]
fn what_makes_room_is_taken_while_mail_is_refused() {
    let storage = SimStorage::new(2);
    let settings = inrush_log::LogSettings { free_bytes_min: 1 << 30, ..common::settings() };
    storage.set_capacity(2 << 30);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings, 1).unwrap();
    let (arrival, _) = data.open_log(0, || {}).unwrap();
    let (mut internal, _) = data.open_log(INTERNAL_LOG, || {}).unwrap();
    let (mut retry, _) = data.open_log_kind(LogKind::Retry, 0, || {}).unwrap();
    let (mut outcome, _) = data.open_log_kind(LogKind::Outcome, 0, || {}).unwrap();
    data.prepare_segments();
    let low = Err(AppendError::NoSpace(NoSpace::FreeSpaceLow));
    storage.set_capacity(700 << 20);
    data.prepare_segments();
    assert_eq!((arrival.admission(), internal.admission(), retry.admission()), (low, Ok(()), Ok(())));
    append(&mut internal, b"a report", &[]);
    append_chunk(&mut retry, b"a part of a copy");
    // Half of the reserve is for the records that end what is owed.
    storage.set_capacity(400 << 20);
    data.prepare_segments();
    assert_eq!((arrival.admission(), internal.admission(), retry.admission()), (low, low, low));
    assert_eq!(outcome.admission(), Ok(()));
    let note = outcome.append_note(RecordKind::Outcome, 77, 9, b"content", 5).unwrap();
    common::write_all(&mut outcome);
    let mut reader = Reader::on(storage, "outcome-00").unwrap();
    let Some(Entry::Record(record)) = reader.next().unwrap() else { panic!("no record") };
    assert_eq!((record.header.lsn, record.header.message_id), (note.lsn, 77));
    assert_eq!((record.header.envelope_version, record.envelope), (9, &b"content"[..]));
}
