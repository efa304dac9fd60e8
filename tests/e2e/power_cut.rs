//! The power cut: everything that reaches the disk under load is recorded, the disk is built as it stood at many moments of it, and
//! recovery must find every message whose 250 came before the cut.
//!
//! ```text
//! record:   write write flush │ write write write ✂ write flush …
//!           durable ──────────┘ each of these: kept, lost, or torn
//! ```
//! A cut is followed by what follows a real one: the file system replays its journal, the log recovers, a reader reads. In this process for
//! most cuts, and by the real binary for a few.
//!
//! `INRUSH_CUTS` sets how many cuts, `INRUSH_SEED` repeats those of a run on a new record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use inrush_log::{
    BadRecord, DataDirectory, Entry, LogKind, LogSettings, Message, Reader, RecordKind, parse_log_directory,
};
use inrush_tests::disk::{BLOCK, Disk, Event, Image};
use inrush_tests::export;
use inrush_tests::file_system;
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

fn cuts() -> usize {
    std::env::var("INRUSH_CUTS").map_or(400, |cuts| cuts.parse().expect("INRUSH_CUTS is a number"))
}

/// A run of the gateway as its disk saw it.
struct Recorded {
    before: Image,
    events: Vec<Event>,
    /// Id → number of the message, and how long the record was when its 250 was there.
    acknowledged: BTreeMap<String, (u64, usize)>,
    bodies: HashMap<u64, Vec<u8>>,
}

fn record(ext4: &[&str]) -> Recorded {
    let disk = Disk::with_ext4(DISK_MEBIBYTES, ext4);
    // What making the file system left unflushed is not what this is about.
    File::open(disk.path()).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
    let before = disk.device().begin_record();
    let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1"];
    let mut server = Server::with(Settings::default().data(&disk.path().join("data")).log(&log));
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
    let events = disk.device().end_record();
    let bodies = (0..round.next()).map(|number| (number, sender::body(number))).collect();
    Recorded { before, events, acknowledged: acknowledged.into_inner().unwrap(), bodies }
}

/// How an unflushed write fared.
fn tear(random: &mut Random, sector: usize, image: &mut Image, offset: u64, octets: &[u8]) {
    match random.below(4) {
        0 => {}
        1 => {
            for (number, piece) in octets.chunks(sector).enumerate() {
                if random.below(2) == 0 {
                    image.write(offset + (number * sector) as u64, piece);
                }
            }
        }
        _ => image.write(offset, octets),
    }
}

impl Recorded {
    /// Everything up to the last flush before the cut, and of the writes after it what chance leaves.
    fn image(&self, cut: usize, sector: usize, random: &mut Random) -> Image {
        let flush = self.events[..cut].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut image = self.before.clone();
        for (at, event) in self.events[..cut].iter().enumerate() {
            let Event::Write(offset, octets) = event else { continue };
            if at < flush {
                image.write(*offset, octets);
            } else {
                tear(random, sector, &mut image, *offset, octets);
            }
        }
        image
    }

    /// What was found after the cut: every message that counts, each whole, none twice.
    fn check(&self, cut: usize, found: &[(String, Vec<u8>)]) {
        let mut numbers = HashSet::new();
        let mut ids = HashSet::new();
        for (id, stored) in found {
            let number = sender::number(stored).unwrap_or_else(|| panic!("cut {cut}: {id} has no number"));
            assert!(stored.ends_with(&self.bodies[&number]), "cut {cut}: {id} is not whole");
            assert!(numbers.insert(number), "cut {cut}: number {number} is there twice");
            assert!(ids.insert(id.as_str()), "cut {cut}: {id} is there twice");
        }
        for (id, (number, position)) in &self.acknowledged {
            assert!(
                *position > cut || ids.contains(id.as_str()),
                "cut {cut} of {}: {id} (number {number}) was acknowledged at {position} and is lost",
                self.events.len()
            );
        }
    }
}

/// Recovers as the gateway does at its start, and reads everything; the octets before each body are a line end.
fn recover(cut: usize, data: &Path) -> Vec<(String, Vec<u8>)> {
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
            let mut body = b"\r\n".to_vec();
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

fn power_cuts(ext4: &[&str], cuts: usize, sectors: &[usize]) {
    let mut random = Random::from_environment();
    let recorded = record(ext4);
    let events = &recorded.events;
    let flushes: Vec<usize> =
        (0..events.len()).filter(|at| matches!(events[*at], Event::Flush)).map(|at| at + 1).collect();
    assert!(flushes.len() > 20 && recorded.acknowledged.len() as u64 >= MESSAGES, "too little was recorded");
    let place = Mounted::tmpfs(200);
    let file = place.path().join("disk.img");
    let mut found_in_all = 0;
    for round in 0..cuts {
        let any = |random: &mut Random, count: usize| usize::try_from(random.below(count as u64)).unwrap();
        // Every second cut is right behind a flush, where the most hangs on it; the others are anywhere.
        let cut = if round % 2 == 0 {
            flushes[any(&mut random, flushes.len())]
        } else {
            any(&mut random, events.len() + 1)
        };
        let sector = sectors[any(&mut random, sectors.len())];
        let image = recorded.image(cut, sector, &mut random);
        image.save(&File::create(&file).unwrap(), DISK_MEBIBYTES << 20).unwrap();
        if !ext4.is_empty() {
            file_system::mend_ext4(&file);
        }
        let disk = Mounted::image("ext4", &file, "noatime");
        let data = disk.path().join("data");
        let found = if !data.exists() {
            Vec::new()
        } else if round % REAL_EVERY == 0 {
            let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"1MiB\"", "spares = 1"];
            let server = Server::with(Settings::default().data(&data).log(&log));
            assert!(!server.log().contains(" damaged: file "), "cut {cut}:\n{}", server.log());
            export::all(&data).into_iter().collect()
        } else {
            recover(cut, &data)
        };
        recorded.check(cut, &found);
        found_in_all += found.len();
        drop(disk);
    }
    eprintln!(
        "{} events, {} flushes, {cuts} cuts: {found_in_all} messages found",
        events.len(),
        flushes.len()
    );
    assert!(found_in_all > 0);
}

#[test]
fn with_a_journal() {
    power_cuts(&["-J", "size=4"], cuts(), &[512, BLOCK]);
}

/// Without one the names in a folder are written in place, so only whole blocks are lost: no tear of the disk may undo what ext4 had written.
#[test]
fn without_a_journal() {
    power_cuts(&["-O", "^has_journal"], cuts() / 3, &[BLOCK]);
}
