//! A disk without room: new mail is refused, accepted mail is kept, and it goes on by itself when there is room.

use inrush_log::sim::SimStorage;
use inrush_log::{AppendError, DataDirectory, EnvelopeRef, LogSettings, Reader};

use crate::common::{self, body};

const NODE: u16 = 3;

#[test]
fn a_full_disk_refuses_and_goes_on_by_itself() {
    let storage = SimStorage::new(1);
    storage.set_capacity(3 << 20);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &common::settings(), NODE).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    data.prepare_segments();
    let mail = body(1, 200_000);
    let mut ids = Vec::new();
    let refused = loop {
        match log.append_message(&EnvelopeRef::default(), mail.chunks(4000), mail.len(), 1) {
            Ok(appended) => ids.push(appended.id),
            Err(AppendError::BatchFull) => drop(common::write_all(&mut log)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.to_string(), "no space: the file system is full");
    common::write_all(&mut log);
    // Accepted mail is intact, and there is room again without a restart.
    storage.set_capacity(20 << 20);
    data.prepare_segments();
    ids.push(common::append(&mut log, &mail, &[]).id);
    common::write_all(&mut log);
    assert_eq!(log.trouble(), None);
    let mut reader = Reader::on(storage, "arrival-00").unwrap();
    for id in ids {
        assert_eq!(reader.message(id).unwrap().own_body(), mail);
    }
}

#[test]
fn free_space_below_the_mark_refuses_at_once() {
    let storage = SimStorage::new(1);
    storage.set_capacity(100 << 20);
    let settings = LogSettings { free_bytes_min: 50 << 20, ..common::settings() };
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings, NODE).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    data.prepare_segments();
    assert!(log.admission().is_ok());
    storage.set_capacity(30 << 20);
    data.prepare_segments();
    let refused = log.append_message(&EnvelopeRef::default(), std::iter::empty(), 0, 1);
    assert_eq!(refused.unwrap_err().to_string(), "no space: free space is below the mark");
    storage.set_capacity(100 << 20);
    data.prepare_segments();
    common::append(&mut log, b"x", &[]);
}
