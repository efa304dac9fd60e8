//! Records that end at every distance from the end of a segment and of a batch: nothing is written beyond either, and everything is found again.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;

use common::{body, settings, until_taken, write_all};
use inrush_log::{Appender, BLOCK_OCTETS, DataDirectory, Entry, LogSettings, Lsn, Reader, RecordKind};

const HEADER: usize = 64;
const BATCH: u64 = 1 << 20;

/// Distances in octets: the header of a pad, a little more, and the same one block earlier, where there may be less.
fn gaps() -> impl Iterator<Item = u64> {
    let near = || (0..=160).step_by(16);
    let at_the_end = near().filter(|gap| *gap >= HEADER as u64);
    at_the_end.chain(near().map(|gap| gap + BLOCK_OCTETS as u64)).chain((1024..4096).step_by(1008))
}

/// A log and what was put into it.
struct Filled<'d> {
    dir: &'d Path,
    settings: LogSettings,
    data: DataDirectory,
    log: Appender,
    records: Vec<(u64, usize)>,
}

impl<'d> Filled<'d> {
    fn new(dir: &'d Path, segment_bytes: u64) -> Self {
        let settings = LogSettings { segment_bytes, ..settings() };
        let mut data = DataDirectory::open(dir, &settings, 7).unwrap();
        let (log, _) = data.open_log(0, || {}).unwrap();
        Self { dir, settings, data, log, records: Vec::new() }
    }

    /// Appends a record of so many octets, header included; the position behind it.
    fn record(&mut self, octets: usize) -> u64 {
        self.record_announced(octets, octets)
    }

    /// The same, announced with more octets than it has.
    fn record_announced(&mut self, octets: usize, announced: usize) -> u64 {
        let (octets, announced) = (octets.next_multiple_of(16), announced.next_multiple_of(16));
        let content = body(self.records.len() as u64, octets - HEADER);
        let chunk = until_taken(&mut self.log, |log| {
            log.append_chunk(std::iter::once(&content[..]), announced - HEADER, 1_000_000)
        });
        self.records.push((chunk.lsn, content.len()));
        chunk.lsn + octets as u64
    }

    /// Appends records from position `from` to exactly `to`.
    fn fill(&mut self, mut from: u64, to: u64) {
        while from < to {
            let left = usize::try_from(to - from).unwrap();
            // Never leaves less than a record behind.
            from = self.record(if left > 250_000 { 100_000 } else { left });
        }
        assert_eq!(from, to);
    }

    /// First position of the segment behind `lsn`.
    fn next_segment(&self, lsn: u64) -> u64 {
        (lsn / self.settings.segment_bytes + 1) * self.settings.segment_bytes + BLOCK_OCTETS as u64
    }

    /// Everything is there after a restart, and no file is longer than a segment.
    fn check(self) {
        let Self { dir, settings, data, log, records } = self;
        drop((log, data));
        let folder = dir.join("arrival-00");
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().ends_with(".seg") {
                assert_eq!(
                    entry.metadata().unwrap().len(),
                    settings.segment_bytes,
                    "{:?}",
                    entry.file_name()
                );
            }
        }
        let mut data = DataDirectory::open(dir, &settings, 7).unwrap();
        let (_log, report) = data.open_log(0, || {}).unwrap();
        assert!(report.damage.is_empty() && report.cut.is_empty(), "{report:?}");
        let mut reader = Reader::open(&folder).unwrap();
        let mut found = 0;
        while let Some(entry) = reader.next().unwrap() {
            let Entry::Record(record) = entry else { continue };
            if record.header.kind == RecordKind::Chunk {
                let (lsn, content) = records[found];
                assert_eq!(record.header.lsn, Lsn::new(lsn));
                assert!(record.body == body(found as u64, content), "record {found} at {lsn}");
                found += 1;
            }
        }
        assert_eq!(found, records.len());
    }
}

/// The last records of the segment are written before the next one comes, or together with the seal.
fn ends_of_segments(write_before: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut filled = Filled::new(dir.path(), 1 << 20);
    let mut at = filled.record(100);
    for gap in gaps() {
        let end = at / (1 << 20) * (1 << 20) + (1 << 20) - BLOCK_OCTETS as u64;
        filled.fill(at, end - gap);
        if write_before {
            write_all(&mut filled.log);
        }
        let next = filled.next_segment(at);
        at = filled.record(8000);
        assert_eq!(at, next + 8000, "gap {gap}");
    }
    filled.log.close();
    write_all(&mut filled.log);
    filled.check();
}

#[test]
fn end_of_a_segment_written_by_itself() {
    ends_of_segments(true);
}

#[test]
fn end_of_a_segment_written_with_its_seal() {
    ends_of_segments(false);
}

#[test]
fn end_of_a_log_that_is_closed() {
    for gap in gaps() {
        let dir = tempfile::tempdir().unwrap();
        let mut filled = Filled::new(dir.path(), 1 << 20);
        let at = filled.record(100);
        filled.fill(at, (2 << 20) - BLOCK_OCTETS as u64 - gap);
        if gap % 32 == 0 {
            write_all(&mut filled.log);
        }
        filled.log.close();
        write_all(&mut filled.log);
        filled.check();
    }
}

#[test]
fn end_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut filled = Filled::new(dir.path(), 64 << 20);
    let mut begin = (64 << 20) + BLOCK_OCTETS as u64;
    for gap in gaps() {
        filled.fill(begin, begin + BATCH - gap);
        let behind = filled.record(8192);
        let next = behind - 8192;
        assert!(
            next.is_multiple_of(4096) && next <= begin + BATCH && next + 4096 + gap >= begin + BATCH,
            "gap {gap}"
        );
        write_all(&mut filled.log);
        begin = behind;
    }
    filled.log.close();
    write_all(&mut filled.log);
    filled.check();
}

/// A record that turns out shorter than announced, as mail with transparency dots does, leaves more behind it, never less than a pad.
#[test]
fn shorter_than_announced() {
    for announced_more in [16, 32, 48, 64, 4096] {
        for close in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut filled = Filled::new(dir.path(), 2 << 20);
            let start = (2 << 20) + BLOCK_OCTETS as u64;
            let seal = (4 << 20) - BLOCK_OCTETS as u64;
            // The end of a batch,
            filled.fill(start, start + BATCH - 8192);
            let behind = filled.record_announced(8192 - announced_more, 8192);
            write_all(&mut filled.log);
            // and the end of the segment.
            let begin = behind.next_multiple_of(BLOCK_OCTETS as u64);
            filled.fill(begin, seal - 8192);
            filled.record_announced(8192 - announced_more, 8192);
            if close {
                filled.log.close();
            } else {
                write_all(&mut filled.log);
                filled.record(100_000);
            }
            write_all(&mut filled.log);
            filled.check();
        }
    }
}
