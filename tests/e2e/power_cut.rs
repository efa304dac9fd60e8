//! The power cut: everything that reaches the disk under load is recorded, the disk is built as it stood at many moments of it, and
//! recovery must find every message whose 250 came before the cut.
//!
//! A cut is followed by what follows a real one: the file system replays its journal, the log recovers, a reader reads. In this process for
//! most cuts, and by the real binary for a few.
//!
//! `INRUSH_CUTS` sets how many cuts, `INRUSH_SEED` repeats those of a run on a new record, `INRUSH_RECORD` on a saved one. A test that fails
//! saves its record and says how to repeat the cut.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use inrush_log::{
    BadRecord, DataDirectory, Entry, LogKind, LogSettings, Message, Reader, RecordKind, parse_log_directory,
};
use inrush_tests::disk::{BLOCK, Disk, Record};
use inrush_tests::export;
use inrush_tests::file_system;
use inrush_tests::http::Samples;
use inrush_tests::mount::Mounted;
use inrush_tests::random::Random;
use inrush_tests::sender::{self, Round};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

const DISK_MEBIBYTES: u64 = 64;
const SENDERS: usize = 6;
const MESSAGES: u64 = 500;
/// One cut in so many is also recovered by the real binary.
const REAL_EVERY: usize = 25;
const LOG: [&str; 3] = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1"];
const LINE_END: &[u8] = b"\r\n";

/// A message: its id, and what was found under it.
type Found = (String, Vec<u8>);

fn cuts() -> u64 {
    std::env::var("INRUSH_CUTS").map_or(400, |cuts| cuts.parse().expect("INRUSH_CUTS is a number"))
}

/// A run of the gateway under load.
fn record(ext4: &[&str]) -> Record {
    let disk = Disk::with_ext4(DISK_MEBIBYTES, ext4);
    // What making the file system left unflushed is not what this is about.
    File::open(disk.path()).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
    let before = disk.device().begin_record();
    let mut server = Server::with(Settings::default().data(&disk.path().join("data")).log(&LOG));
    let (address, round) = (server.mx(), Round::between(0, MESSAGES));
    let acknowledged = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                round.send_telling(address, |id, number| {
                    let before = acknowledged.lock().unwrap().insert(id, (number, disk.device().position()));
                    assert_eq!(before, None, "an id was given out twice");
                });
            });
        }
    });
    server.stop();
    let run = disk.device().end_record();
    Record::new(&before, run, acknowledged.into_inner().unwrap())
}

/// Saves the record when the test fails, and says how to try the same cut again.
struct Kept<'a> {
    name: &'a str,
    record: Record,
    seed: Cell<u64>,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.record", self.name));
            let saved = self.record.save(&path).map_or_else(|error| error.to_string(), |()| "saved".into());
            eprintln!(
                "{saved}; again: INRUSH_RECORD={} INRUSH_SEED={} INRUSH_CUTS=1 cargo test -p inrush-tests --test e2e power_cut::{}",
                path.display(),
                self.seed.get(),
                self.name
            );
        }
    }
}

/// What was found after the cut: every message that counts, each whole, none twice. `whole` compares what is stored with what was sent.
fn check(record: &Record, cut: usize, found: &[Found], whole: impl Fn(&[u8], &[u8]) -> bool) {
    let mut numbers = HashSet::new();
    let mut ids = HashSet::new();
    for (id, stored) in found {
        let number = sender::number(stored).unwrap_or_else(|| panic!("cut {cut}: {id} has no number"));
        assert!(whole(stored, &sender::body(number)), "cut {cut}: {id} is not whole");
        assert!(numbers.insert(number), "cut {cut}: number {number} is there twice");
        assert!(ids.insert(id.as_str()), "cut {cut}: {id} is there twice");
        let acknowledged = record.acknowledged.get(id);
        assert!(
            acknowledged.is_none_or(|(expected, _)| *expected == number),
            "cut {cut}: {id} is number {number}, acknowledged was {acknowledged:?}"
        );
    }
    for (id, (number, position)) in &record.acknowledged {
        assert!(
            *position > cut || ids.contains(id.as_str()),
            "cut {cut} of {}: {id} (number {number}) was acknowledged at {position} and is lost",
            record.events.len()
        );
    }
}

/// Recovers as the gateway does at its start, and reads everything; a line end stands before each body, where a trace header would.
fn recover(cut: usize, data: &Path) -> Vec<Found> {
    let settings =
        LogSettings { segment_bytes: 1 << 20, free_bytes_min: 1 << 20, spares: 1, ..LogSettings::default() };
    let mut directory =
        DataDirectory::open(data, &settings, 0).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(data).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((LogKind::Arrival, log)) = parse_log_directory(&name) {
            let (appender, report) =
                directory.open_log(log, || ()).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
            assert!(report.damage.is_empty(), "cut {cut}: {name}: {:?}", report.damage);
            logs.push(appender);
        }
    }
    let mut found = Vec::new();
    for mut reader in Reader::open_all(data).unwrap_or_else(|error| panic!("cut {cut}: {error}")) {
        let mut messages = Vec::new();
        loop {
            match reader.next().unwrap() {
                None => break,
                Some(Entry::Bad(bad)) => damaged(cut, &bad),
                Some(Entry::Record(record)) if record.header.kind == RecordKind::Message => {
                    messages.push(Message::from_record(&record));
                }
                Some(Entry::Record(_)) => {}
            }
        }
        for message in messages {
            let mut body = LINE_END.to_vec();
            let take = |piece: &[u8]| {
                body.extend_from_slice(piece);
                Ok(())
            };
            reader.read_body(&message, take).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
            found.push((message.id.to_string(), body));
        }
    }
    found
}

fn damaged(cut: usize, bad: &BadRecord) -> ! {
    panic!("cut {cut}: damage: {bad}")
}

/// Recovers with the real binary, which must not find damage.
fn recover_for_real(cut: usize, data: &Path) -> Vec<Found> {
    let server = Server::with(Settings::default().data(data).log(&LOG));
    server.wait_until_accepting();
    let samples = Samples::scrape(server.admin());
    for metric in ["inrush_log_damage_total", "inrush_log_quarantined_bytes_total"] {
        assert!(samples.has(metric), "cut {cut}: there is no {metric}");
        assert_eq!(samples.sum(metric, &[]), 0.0, "cut {cut}: {metric}:\n{}", server.log());
    }
    export::all(data).into_iter().collect()
}

fn power_cuts(name: &str, ext4: &[&str], cuts: u64, sectors: &[usize]) {
    let seed = Random::seed_from_environment();
    let record = match std::env::var_os("INRUSH_RECORD") {
        Some(path) => Record::load(Path::new(&path)).unwrap(),
        None => record(ext4),
    };
    let kept = Kept { name, record, seed: Cell::new(seed) };
    let (record, flushes) = (&kept.record, kept.record.flushes());
    let enough = flushes.len() > 20 && record.acknowledged.len() as u64 >= MESSAGES;
    assert!(enough, "too little was recorded");
    let made = record.acknowledged.values().map(|(_, position)| *position).min().unwrap_or(record.begin + 1);
    let place = Mounted::tmpfs(200);
    let file = place.path().join("disk.img");
    let (mut found_in_all, mut real) = (0, 0);
    for round in 0..cuts {
        // Each round has a seed of its own, so that one of them can be repeated alone.
        kept.seed.set(seed.wrapping_add(round));
        let mut random = Random::new(kept.seed.get());
        let mut any = |count: usize| usize::try_from(random.below(count as u64)).unwrap();
        // Every second cut is right behind a flush, where the most hangs on it; some are while the data directory is made, the others anywhere.
        let cut = match any(8) {
            0..4 => flushes[any(flushes.len())],
            4 => record.begin + any(made - record.begin),
            _ => record.begin + any(record.events.len() + 1 - record.begin),
        };
        let (sector, for_real) = (sectors[any(sectors.len())], any(REAL_EVERY) == 0);
        let image = record.image(cut, sector, &mut random);
        image.save(&File::create(&file).unwrap(), DISK_MEBIBYTES << 20).unwrap();
        file_system::mend_ext4(&file);
        let disk = Mounted::image("ext4", &file, "noatime");
        let data = disk.path().join("data");
        let found = if !data.exists() {
            check(record, cut, &[], |_, _| false);
            0
        } else if for_real {
            real += 1;
            let found = recover_for_real(cut, &data);
            check(record, cut, &found, |stored, body| export::split(stored, body).is_ok());
            found.len()
        } else {
            let found = recover(cut, &data);
            check(record, cut, &found, |stored, body| stored.strip_prefix(LINE_END) == Some(body));
            found.len()
        };
        found_in_all += found;
    }
    eprintln!(
        "{} events, {} flushes, {cuts} cuts, {real} by the binary: {found_in_all} messages found",
        record.events.len(),
        flushes.len()
    );
    assert!(found_in_all > 0 || cuts == 1);
}

#[test]
fn with_a_journal() {
    power_cuts("with_a_journal", &["-J", "size=4"], cuts(), &[512, BLOCK]);
}

/// Without one the names in a folder are written in place, so only whole blocks are lost: no tear of the disk may undo what ext4 had written.
#[test]
fn without_a_journal() {
    power_cuts("without_a_journal", &["-O", "^has_journal"], cuts().div_ceil(3), &[BLOCK]);
}
