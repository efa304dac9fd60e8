//! Logs on a simulated disk.

use std::collections::BTreeSet;

use inrush_log::sim::SimStorage;
use inrush_log::{
    Appended, Appender, ConsumerKind, Cursor, DataDirectory, Entry, LogSettings, MessageId, Reader,
    RecordKind, Storage,
};

use super::{append, body, write_all};

pub(crate) const NODE: u16 = 3;
pub(crate) type Data = DataDirectory<SimStorage>;
pub(crate) type Log = Appender<SimStorage>;

pub(crate) fn open(storage: &SimStorage, settings: &LogSettings) -> (Data, Log) {
    let mut data = DataDirectory::on_without_helper(storage.clone(), settings, NODE).unwrap();
    let (log, report) = data.open_log(0, || {}).unwrap();
    assert!(report.damage.is_empty() && report.cut.is_empty(), "{report:?}");
    data.prepare_segments();
    (data, log)
}

/// Appends and writes until so many segments were sealed; the messages.
pub(crate) fn fill(data: &mut Data, log: &mut Log, segments: u64) -> Vec<Appended> {
    let goal = log.stats().segments_sealed + segments;
    let mut messages = Vec::new();
    while log.stats().segments_sealed < goal {
        data.prepare_segments();
        messages.push(append(log, &body(messages.len() as u64, 100_000), &[]));
        write_all(log);
    }
    data.prepare_segments();
    messages
}

pub(crate) fn segments(storage: &SimStorage, dir: &str) -> BTreeSet<String> {
    let names = storage.list(dir).unwrap();
    names.into_iter().filter(|name| inrush_log::segment_number(name).is_some()).collect()
}

pub(crate) fn ids(storage: &SimStorage) -> Vec<MessageId> {
    let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
    let mut ids = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        match entry {
            Entry::Record(record) if record.header.kind == RecordKind::Message => ids.push(record.id),
            Entry::Record(_) => {}
            Entry::Bad(bad) => panic!("{bad}"),
        }
    }
    ids
}

pub(crate) fn required(storage: &SimStorage, name: &str) -> Cursor<SimStorage> {
    Cursor::on(storage.clone(), "arrival-00", name, ConsumerKind::Required).unwrap()
}

/// The messages that can be read.
pub(crate) fn readable(storage: &SimStorage) -> BTreeSet<MessageId> {
    let mut reader = Reader::on(storage.clone(), "arrival-00").unwrap();
    let mut ids = BTreeSet::new();
    while let Some(entry) = reader.next().unwrap() {
        if let Entry::Record(record) = entry
            && record.header.kind == RecordKind::Message
        {
            ids.insert(record.id);
        }
    }
    ids
}
