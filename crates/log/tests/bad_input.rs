//! Files that were cut, renamed, copied, exchanged, made unwritable or put in by somebody: what is wrong is said with its file and place, nothing
//! is overwritten, and what can be read stays readable.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{append, body, settings, write_all};
use inrush_log::{
    BadRecord, ConsumerKind, Cursor, DamageKind, DataDirectory, Entry, LogSettings, MessageId, ReadError,
    Reader, RecordKind, RecoveryReport, VerifyEvent, segment_name,
};

const SEGMENT: u64 = 1 << 20;

/// A log of node 7 with a few segments of six messages each. All but the last are sealed.
struct Bed {
    dir: tempfile::TempDir,
    sent: BTreeMap<MessageId, Vec<u8>>,
}

impl Bed {
    /// `sealed`: the last segment has a seal as well; else the process has crashed.
    fn new(segments: u64, sealed: bool) -> Self {
        let mut bed = Self { dir: tempfile::tempdir().unwrap(), sent: BTreeMap::new() };
        for segment in 1..=segments {
            bed.life(segment, segment < segments || sealed);
        }
        bed
    }

    fn life(&mut self, seed: u64, sealed: bool) {
        let (_data, mut log, _) = self.open();
        for number in 0..6 {
            let body = body(seed * 100 + number, 5000);
            let id = append(&mut log, &body, &[]).id;
            write_all(&mut log);
            self.sent.insert(id, body);
        }
        if sealed {
            log.close();
            write_all(&mut log);
        }
    }

    fn open(&self) -> (DataDirectory, inrush_log::Appender, RecoveryReport) {
        let mut data = DataDirectory::open(self.dir.path(), &settings(), 7).unwrap();
        let (log, report) = data.open_log(0, || {}).unwrap();
        (data, log, report)
    }

    /// Opens, and crashes.
    fn report(&self) -> RecoveryReport {
        self.open().2
    }

    fn refused(&self) -> String {
        let mut data = DataDirectory::open(self.dir.path(), &settings(), 7).unwrap();
        data.open_log(0, || {}).err().expect("it was opened").to_string()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("arrival-00").join(name)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.log(&segment_name(number))
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.log("")).unwrap()
    }

    fn bad(&self) -> Vec<BadRecord> {
        let mut bad = Vec::new();
        let on_event = |event| {
            if let VerifyEvent::Bad(record) = event {
                bad.push(record);
            }
        };
        self.reader().verify(on_event).unwrap();
        bad
    }

    /// Messages that are read, byte for byte, by id and in order. No other is handed out.
    fn readable(&self) -> Vec<MessageId> {
        let mut by_id = Vec::new();
        let mut reader = self.reader();
        for (id, body) in &self.sent {
            match reader.message(*id) {
                Ok(message) => {
                    assert!(message.own_body() == body, "{id} differs");
                    by_id.push(*id);
                }
                Err(ReadError::NotFound(_) | ReadError::Damaged(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let mut in_order = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            if let Entry::Record(record) = entry
                && record.header.kind == RecordKind::Message
            {
                in_order.push(record.id);
            }
        }
        assert_eq!(in_order, by_id);
        by_id
    }

    fn of_segments(&self, wanted: impl Fn(u64) -> bool) -> Vec<MessageId> {
        self.sent.keys().copied().filter(|id| wanted(id.lsn.segment(SEGMENT))).collect()
    }

    /// The bad file is moved away as it is, and told once.
    fn moved_away(&self, number: u64, kind: DamageKind, readable: &[MessageId]) {
        let before = fs::read(self.segment(number)).unwrap();
        assert_eq!(self.readable(), readable, "before recovery");
        let report = self.report();
        assert_eq!(report.damage.len(), 1, "{report:?}");
        let damage = &report.damage[0];
        assert_eq!((damage.kind, &damage.file, damage.offset), (kind, &segment_name(number), 0));
        let kept = damage.kept_as.as_ref().unwrap();
        assert!(damage.to_string().contains(kept) && damage.to_string().contains(&segment_name(number)));
        let kept = self.dir.path().join(kept);
        assert!(fs::read(&kept).unwrap() == before, "{damage}");
        assert_eq!(self.readable(), readable, "after recovery");
        assert!(self.bad().is_empty(), "{:?}", self.bad());
        assert!(self.report().damage.is_empty());
        assert_eq!(self.readable(), readable, "after a second start");
        assert!(fs::read(&kept).unwrap() == before, "{damage}");
    }
}

fn set_len(path: &Path, octets: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(octets).unwrap();
}

#[test]
fn cut_in_the_header_or_to_nothing() {
    for sealed in [true, false] {
        for (victim, octets) in [(2, 0), (2, 100), (3, 0), (3, 4095)] {
            let bed = Bed::new(3, sealed);
            set_len(&bed.segment(victim), octets);
            bed.moved_away(victim, DamageKind::SegmentHeader, &bed.of_segments(|number| number != victim));
        }
    }
}

#[test]
fn cut_behind_the_header() {
    for sealed in [true, false] {
        for victim in [2, 3] {
            // In a record, at the end of a batch, behind all records, before the seal.
            for octets in [4096, 20_001, SEGMENT - 4096] {
                let bed = Bed::new(3, sealed);
                let whole = |id: &MessageId| id.lsn.offset(SEGMENT) + 5300 < octets;
                let expected: Vec<_> = bed
                    .sent
                    .keys()
                    .copied()
                    .filter(|id| id.lsn.segment(SEGMENT) != victim || whole(id))
                    .collect();
                set_len(&bed.segment(victim), octets);
                let before = fs::read(bed.segment(victim)).unwrap();
                for start in 0..2 {
                    let report = bed.report();
                    let of_length = report.damage.iter().filter(|it| it.kind == DamageKind::SegmentLength);
                    let of_length: Vec<_> = of_length.collect();
                    assert_eq!(of_length.len(), 1, "{report:?}");
                    assert_eq!((&of_length[0].file, of_length[0].offset), (&segment_name(victim), octets));
                    assert_eq!(bed.readable(), expected, "{octets} start {start}");
                    assert!(fs::read(bed.segment(victim)).unwrap() == before, "{octets} start {start}");
                }
            }
        }
    }
}

#[test]
fn octets_behind_the_end() {
    for sealed in [true, false] {
        for more in [1, 70_000] {
            let bed = Bed::new(2, sealed);
            let mut grown = fs::read(bed.segment(2)).unwrap();
            grown.resize(grown.len() + more, 0xEE);
            fs::write(bed.segment(2), &grown).unwrap();
            for _ in 0..2 {
                let report = bed.report();
                let text = report.damage[0].to_string();
                let file = segment_name(2);
                assert_eq!(
                    text,
                    format!("segment has the wrong length: file {file} offset {SEGMENT} octets {more}")
                );
                assert_eq!(report.damage.len(), 1, "{report:?}");
                assert_eq!(bed.readable().len(), 12);
            }
            assert!(fs::read(bed.segment(2)).unwrap()[1 << 20..] == grown[1 << 20..]);
        }
    }
}

#[test]
fn two_segments_exchanged() {
    for sealed in [true, false] {
        let bed = Bed::new(3, sealed);
        let (first, second) = (bed.segment(2), bed.segment(3));
        let exchange = |first: &Path, second: &Path| {
            let aside = bed.dir.path().join("aside");
            fs::rename(first, &aside).unwrap();
            fs::rename(second, first).unwrap();
            fs::rename(&aside, second).unwrap();
        };
        exchange(&first, &second);
        assert_eq!(bed.bad().len(), 2);
        assert_eq!(bed.readable(), bed.of_segments(|number| number == 1));
        let report = bed.report();
        let texts: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{report:?}");
        assert!(
            texts[0].contains("0002.seg") && texts[0].contains("; it is 0000000000000003.seg"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains("0003.seg") && texts[1].contains("; it is 0000000000000002.seg"),
            "{texts:?}"
        );
        assert_eq!(bed.readable(), bed.of_segments(|number| number == 1));
        assert!(bed.report().damage.is_empty());
        // What the message says helps.
        for damage in &report.damage {
            let DamageKind::MisplacedSegment { number } = damage.kind else { panic!("{damage}") };
            fs::rename(bed.dir.path().join(damage.kept_as.as_ref().unwrap()), bed.segment(number)).unwrap();
        }
        let report = bed.report();
        assert!(report.damage.is_empty() && report.cut.is_empty(), "{report:?}");
        assert_eq!(bed.readable().len(), 18);
    }
}

#[test]
fn renamed_to_a_free_number_or_copied_to_one() {
    for sealed in [true, false] {
        for free in [9, u64::MAX] {
            let mut bed = Bed::new(2, sealed);
            fs::rename(bed.segment(2), bed.segment(free)).unwrap();
            let left = bed.of_segments(|number| number == 1);
            bed.moved_away(free, DamageKind::MisplacedSegment { number: 2 }, &left);
            // New mail has numbers that message ids can carry.
            bed.life(9, true);
            assert_eq!(bed.readable().len(), 12);
            assert!(bed.sent.keys().all(|id| id.lsn.segment(SEGMENT) < 100), "{:?}", bed.sent.keys());

            let bed = Bed::new(2, sealed);
            fs::copy(bed.segment(1), bed.segment(free)).unwrap();
            let all = bed.of_segments(|_| true);
            bed.moved_away(free, DamageKind::MisplacedSegment { number: 1 }, &all);
        }
    }
}

#[test]
fn a_segment_of_another_log() {
    let other = Bed::new(3, true);
    for sealed in [true, false] {
        let bed = Bed::new(2, sealed);
        fs::copy(other.segment(3), bed.segment(3)).unwrap();
        bed.moved_away(3, DamageKind::ForeignSegment, &bed.of_segments(|_| true));
        let bed = Bed::new(2, sealed);
        fs::copy(other.segment(2), bed.segment(2)).unwrap();
        bed.moved_away(2, DamageKind::ForeignSegment, &bed.of_segments(|number| number == 1));
    }
}

#[test]
fn zeros_garbage_or_nothing_with_the_name_of_a_segment() {
    for content in [vec![0; 1 << 20], body(5, 1 << 20), Vec::new(), b"notes\n".to_vec()] {
        for number in [3, 1 << 50] {
            let bed = Bed::new(2, false);
            fs::write(bed.segment(number), &content).unwrap();
            bed.moved_away(number, DamageKind::SegmentHeader, &bed.of_segments(|_| true));
        }
    }
}

#[test]
fn a_directory_with_the_name_of_a_segment() {
    let bed = Bed::new(2, false);
    fs::create_dir(bed.segment(3)).unwrap();
    fs::write(bed.segment(3).join("notes"), b"x").unwrap();
    let report = bed.report();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let text = report.damage[0].to_string();
    assert!(text.starts_with("a directory has the name of a segment: file 0000000000000003.seg"), "{text}");
    let kept = bed.dir.path().join(report.damage[0].kept_as.as_ref().unwrap());
    assert_eq!(fs::read(kept.join("notes")).unwrap(), b"x");
    assert_eq!(bed.readable().len(), 12);
    assert!(bed.report().damage.is_empty());
}

#[test]
fn spares_and_files_that_are_none_of_the_log() {
    let bed = Bed::new(2, false);
    fs::write(bed.log("spare-70.seg"), b"short").unwrap();
    fs::create_dir(bed.log("spare-71.seg")).unwrap();
    fs::create_dir(bed.log("fill-3.tmp")).unwrap();
    fs::write(bed.log("fill-4.tmp"), b"unfinished").unwrap();
    let others = [
        "spare-+7.seg",
        "spare-007.seg",
        "spare-18446744073709551615.seg",
        "fill-notes.txt",
        "42.seg",
        "0000000000000001.seg~",
        "cursor.Not-a-name",
        "README",
        "log.meta.old",
    ];
    for name in others {
        fs::write(bed.log(name), body(1, 1 << 20)).unwrap();
    }
    for _ in 0..2 {
        let report = bed.report();
        assert!(report.damage.is_empty(), "{report:?}");
        assert_eq!(bed.readable().len(), 12);
    }
    for name in others {
        assert!(fs::read(bed.log(name)).unwrap() == body(1, 1 << 20), "{name}");
    }
    assert!(bed.log("spare-71.seg").is_dir() && bed.log("fill-3.tmp").is_dir());
    assert!(!bed.log("spare-70.seg").exists() && !bed.log("fill-4.tmp").exists());
}

#[test]
fn cursors_of_another_log_and_cut_ones() {
    let bed = Bed::new(2, true);
    let cursor = |bed: &Bed| Cursor::open(&bed.log(""), "relay", ConsumerKind::Required);
    let mut own = cursor(&bed).unwrap();
    own.save(bed.sent.keys().last().unwrap().lsn).unwrap();
    drop(own);
    let path = bed.log("cursor.relay");
    let good = fs::read(&path).unwrap();
    let other = Bed::new(1, true);
    fs::write(other.log("cursor.relay"), &good).unwrap();
    let text = cursor(&other).unwrap_err().to_string();
    let place = other.log("cursor.relay").display().to_string();
    assert!(
        text.starts_with(&format!("{place}: belongs to another log or segment; remove the file")),
        "{text}"
    );
    assert!(fs::read(other.log("cursor.relay")).unwrap() == good, "nothing was changed");
    for octets in [0, 100, 4095] {
        fs::write(&path, &good[..octets]).unwrap();
        let text = cursor(&bed).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}: empty; remove the file", path.display())), "{text}");
        // The log itself opens, and nobody's mail is retired for it.
        assert!(bed.report().damage.is_empty());
        assert_eq!(bed.readable().len(), 12);
    }
    // The older slot is enough, and no further ahead.
    fs::write(&path, &good[..5000]).unwrap();
    assert!(cursor(&bed).unwrap().position() <= bed.sent.keys().last().unwrap().lsn);
}

#[test]
fn meta_of_another_log_or_node() {
    let (bed, other) = (Bed::new(3, true), Bed::new(1, true));
    let good = fs::read(bed.log("log.meta")).unwrap();
    fs::copy(other.log("log.meta"), bed.log("log.meta")).unwrap();
    let names = |bed: &Bed| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(bed.log("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(&bed);
    // Not one by one are all segments moved away: it is the small file that is wrong.
    let text = bed.refused();
    let meta = bed.log("log.meta").display().to_string();
    assert!(
        text.starts_with(&format!("{meta}: belongs to another log than 0000000000000001.seg and all")),
        "{text}"
    );
    assert_eq!(names(&bed), before, "nothing was changed");
    fs::write(bed.log("log.meta"), &good).unwrap();
    assert!(bed.report().damage.is_empty());
    assert_eq!(bed.readable().len(), 18);

    let elsewhere = tempfile::tempdir().unwrap();
    let mut data = DataDirectory::open(elsewhere.path(), &settings(), 8).unwrap();
    drop(data.open_log(0, || {}).unwrap());
    fs::copy(elsewhere.path().join("arrival-00/log.meta"), bed.log("log.meta")).unwrap();
    assert_eq!(bed.refused(), format!("{meta}: belongs to node 8, this is node 7"));
}

#[test]
fn meta_exchanged_between_two_logs() {
    let bed = Bed::new(1, true);
    let mut data = DataDirectory::open(bed.dir.path(), &settings(), 7).unwrap();
    drop(data.open_log(1, || {}).unwrap());
    drop(data);
    let second = bed.dir.path().join("arrival-01/log.meta");
    let aside = bed.dir.path().join("aside");
    for (from, to) in [(&bed.log("log.meta"), &aside), (&second, &bed.log("log.meta")), (&aside, &second)] {
        fs::rename(from, to).unwrap();
    }
    let meta = bed.log("log.meta").display().to_string();
    assert_eq!(bed.refused(), format!("{meta}: belongs to log arrival-01"));
    fs::copy(&second, bed.log("log.meta")).unwrap();
    assert!(bed.report().damage.is_empty());
    assert_eq!(bed.readable().len(), 6);
}

/// Takes the permission to change a file or directory away, also from root.
struct Frozen(PathBuf);

impl Frozen {
    fn new(path: PathBuf) -> Self {
        Self::set(&path, true);
        Self(path)
    }

    fn set(path: &Path, frozen: bool) {
        // No chattr: a process that is being started would hold the locks of the other tests for a moment.
        let file = fs::File::open(path).unwrap();
        let changed = rustix::fs::ioctl_getflags(&file).and_then(|mut flags| {
            flags.set(rustix::fs::IFlags::IMMUTABLE, frozen);
            rustix::fs::ioctl_setflags(&file, flags)
        });
        let needs = "needs root, and a file system with the immutable flag for temporary files";
        assert!(changed.is_ok(), "{}: {changed:?}: {needs}", path.display());
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        Self::set(&self.0, false);
    }
}

#[test]
fn without_the_permission_to_write() {
    for (sealed, name) in [(true, segment_name(2)), (false, segment_name(2))] {
        let bed = Bed::new(2, sealed);
        let frozen = Frozen::new(bed.log(&name));
        let text = bed.refused();
        let place = bed.log(&name).display().to_string();
        assert!(text.starts_with(&format!("{place}: opening a segment: ")), "{text}");
        assert_eq!(bed.readable().len(), 12);
        drop(frozen);
        assert!(bed.report().damage.is_empty());
        assert_eq!(bed.readable().len(), 12);
    }
    // What is only read need not be writable.
    let bed = Bed::new(2, true);
    let frozen = [Frozen::new(bed.segment(1)), Frozen::new(bed.log("log.meta"))];
    assert!(bed.report().damage.is_empty());
    assert_eq!(bed.readable().len(), 12);
    drop(frozen);
    // The whole directory: no segment can be made.
    let frozen = Frozen::new(bed.log(""));
    let text = bed.refused();
    assert!(text.contains("arrival-00") && text.contains("ermitted"), "{text}");
    assert_eq!(bed.readable().len(), 12);
    drop(frozen);
    assert!(bed.report().damage.is_empty());
    assert_eq!(bed.readable().len(), 12);
}

#[test]
fn two_processes_at_once() {
    let bed = Bed::new(2, false);
    let (data, mut log, _) = bed.open();
    let second = DataDirectory::open(bed.dir.path(), &settings(), 7).err().unwrap().to_string();
    let pid = std::process::id();
    assert_eq!(second, format!("{}: locked by another process (pid {pid})", bed.dir.path().display()));
    // A reader is allowed, and the writer does not notice either.
    assert_eq!(bed.readable().len(), 12);
    let id = append(&mut log, b"more", &[]).id;
    write_all(&mut log);
    assert_eq!(bed.reader().message(id).unwrap().own_body(), b"more");
    drop((log, data));
    assert!(bed.report().damage.is_empty());
}

#[test]
fn a_damaged_seal_or_header_among_sealed_segments() {
    for at in [SEGMENT - 4096 + 50, 50] {
        let bed = Bed::new(4, true);
        let mut bytes = fs::read(bed.segment(2)).unwrap();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        fs::write(bed.segment(2), bytes).unwrap();
        if at == 50 {
            assert_eq!(bed.bad()[0].segment, 2);
            bed.moved_away(2, DamageKind::SegmentHeader, &bed.of_segments(|number| number != 2));
            continue;
        }
        assert_eq!(bed.readable().len(), 24);
        let report = bed.report();
        assert_eq!(report.damage.len(), 1, "{report:?}");
        let damage = &report.damage[0];
        assert_eq!((damage.kind, damage.offset), (DamageKind::Seal, SEGMENT - 4096));
        assert_eq!(damage.file, segment_name(2));
        assert_eq!(bed.readable().len(), 24);
        assert!(bed.report().damage.is_empty() && bed.bad().is_empty());
    }
}

#[test]
fn a_clock_that_jumps() {
    const HOUR: u64 = 3600 * 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    // One that reads far ahead for a while, then is put right, and goes back to before 1971.
    let now = 500_000 * HOUR;
    let times = [now, now + HOUR, 90 * now, now + 2 * HOUR, HOUR, now + 3 * HOUR];
    let limits = LogSettings { retention_age: std::time::Duration::ZERO, ..settings() };
    let mut data = DataDirectory::open(dir.path(), &limits, 7).unwrap();
    let (mut log, _) = data.open_log(0, || {}).unwrap();
    let mail = body(1, 250_000);
    let mut sent = Vec::new();
    for time in times {
        for _ in 0..2 {
            let envelope = inrush_log::EnvelopeRef::default();
            let taken = common::until_taken(&mut log, |log| {
                log.append_message(&envelope, std::iter::once(&mail[..]), mail.len(), time)
            });
            sent.push((taken.id, time));
        }
    }
    write_all(&mut log);
    let log_dir = dir.path().join("arrival-00");
    for since in times {
        let mut reader = Reader::open(&log_dir).unwrap();
        reader.seek_time(since);
        let found = ids(&mut reader);
        let behind = sent.iter().position(|(_, time)| *time >= since).unwrap();
        assert!(sent[behind..].iter().all(|(id, time)| *time < since || found.contains(id)), "{since}");
        let mut reader = Reader::open(&log_dir).unwrap();
        reader.set_times(since..=since);
        let found = ids(&mut reader);
        assert!(sent.iter().all(|(id, time)| *time != since || found.contains(id)), "{since}");
    }
}

fn ids(reader: &mut Reader) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let Entry::Record(record) = entry else { panic!("{entry:?}") };
        ids.push(record.id);
    }
    ids
}
