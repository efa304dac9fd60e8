//! Octets → damage to a good log: it is opened or refused, never a panic; no message differs from what was accepted, and a second start finds
//! nothing new.
//!
//! ```text
//! first octet: which log   then steps of   0  what   1  file   2  4 offset   6  2 length   8 as many octets, for an edit
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use inrush_log::sim::{Manner, SimStorage};
use inrush_log::{
    Appender, ChunkRef, ConsumerKind, Cursor, DamageKind, DataDirectory, Entry, EnvelopeRef, LogSettings,
    MessageId, OpenMode, Reader, Recipient, RecordKind, Span, Storage, StorageFile,
};

const DIR: &str = "arrival-00";
const NODE: u16 = 7;
const STEPS_MAX: usize = 16;
/// Files have at most so many octets: two segments.
const OCTETS_MAX: usize = 2 << 20;
/// Names that files get: free and used numbers, ends of the range, spares, and what is nobody's.
const NAMES: [&str; 12] = [
    "0000000000000001.seg",
    "0000000000000002.seg",
    "0000000000000003.seg",
    "0000000000000004.seg",
    "0000000000000000.seg",
    "ffffffffffffffff.seg",
    "0000010000000000.seg",
    "spare-1.seg",
    "spare-18446744073709551615.seg",
    "fill-1.tmp",
    "log.meta",
    "cursor.relay",
];

type Files = BTreeMap<String, Vec<u8>>;
/// Files and offsets.
type Places = BTreeSet<(String, u64)>;

/// A good log.
struct Golden {
    files: Files,
    /// Last part and whole of each body.
    bodies: BTreeMap<MessageId, (Vec<u8>, Vec<u8>)>,
}

/// Applies the edits of `input` to a log and opens it twice.
pub fn run(input: &[u8]) {
    static GOLDEN: OnceLock<Vec<Golden>> = OnceLock::new();
    let golden = GOLDEN.get_or_init(|| (0..6).map(build).collect());
    let Some((which, steps)) = input.split_first() else { return };
    let golden = &golden[usize::from(*which) % golden.len()];
    let mut files = golden.files.clone();
    edit(&mut files, steps);
    let storage = store(&files);
    let Some((first, damage)) = open_and_read(&storage, golden) else {
        assert!(contents(&storage) == files, "refused, and something was changed");
        return;
    };
    let again = storage.kill();
    let (second, damage_again) = open_and_read(&again, golden).expect("it was opened before");
    assert_eq!(first, second, "messages after the first and the second start");
    // What is left in place is told again.
    let fresh: Vec<_> = damage_again.difference(&damage).collect();
    assert!(fresh.is_empty(), "{fresh:?} at the second start");
}

/// The messages that can be read, and the damage of records outside of files of a wrong length; `None`: the log is refused.
fn open_and_read(storage: &SimStorage, golden: &Golden) -> Option<(BTreeSet<MessageId>, Places)> {
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).expect("settings");
    let (log, report) = match data.open_log(0, || {}) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.to_string().contains(DIR), "{error}");
            return None;
        }
    };
    let ours = |lsn: inrush_log::Lsn| lsn.get() < 1 << 56;
    assert!(ours(report.end), "{report:?}");
    let of_length: Vec<_> = report.damage.iter().filter(|it| it.kind == DamageKind::SegmentLength).collect();
    let records = report.damage.iter().filter(|damage| {
        matches!(damage.kind, DamageKind::RecordHeader | DamageKind::RecordContent)
            && !of_length.iter().any(|it| it.file == damage.file)
    });
    let damage = records.map(|damage| (damage.file.clone(), damage.offset)).collect();
    let mut reader = Reader::on(storage.clone(), DIR).expect("the log was opened");
    reader.verify(|_| {}).expect("an honest disk");
    reader.seek(inrush_log::Lsn::ZERO);
    let mut readable = BTreeSet::new();
    let mut entries = 0;
    while let Some(entry) = reader.next().expect("an honest disk") {
        entries += 1;
        assert!(entries < 10_000, "no end");
        if let Entry::Record(record) = entry
            && record.header.kind == RecordKind::Message
        {
            let (own, _) = golden.bodies.get(&record.id).expect("a message that nobody has sent");
            assert!(record.body == own, "{} differs", record.id);
            assert!(readable.insert(record.id), "{} comes twice", record.id);
        }
    }
    for (id, (_, whole)) in &golden.bodies {
        let Ok(message) = reader.message(*id) else { continue };
        assert!(readable.contains(id), "{id} is found by its id only");
        let mut body = Vec::new();
        let read = reader.read_body(&message, |part| {
            body.extend_from_slice(part);
            Ok(())
        });
        assert!(whole.starts_with(&body) && (read.is_err() || body == *whole), "{id} differs");
    }
    drop((log, data));
    Some((readable, damage))
}

fn edit(files: &mut Files, mut steps: &[u8]) {
    for _ in 0..STEPS_MAX {
        let Some((&[what, file, o0, o1, o2, o3, l0, l1], rest)) = steps.split_first_chunk() else { return };
        let offset = usize::try_from(u32::from_le_bytes([o0, o1, o2, o3])).unwrap_or(0) % OCTETS_MAX;
        let octets = usize::from(u16::from_le_bytes([l0, l1]));
        steps = rest;
        let Some(name) = files.keys().nth(usize::from(file) % files.len().max(1)).cloned() else { return };
        let target = NAMES[octets % NAMES.len()].to_owned();
        let mut content = files.remove(&name).unwrap_or_default();
        let end = offset.saturating_add(octets * 64).min(content.len());
        match what % 8 {
            // Octets of the input.
            0 => {
                let (edit, rest) = steps.split_at(octets.min(steps.len()));
                steps = rest;
                let room = content.get_mut(offset..).unwrap_or_default();
                room.iter_mut().zip(edit).for_each(|(octet, new)| *octet = *new);
            }
            // One bit.
            1 => content.iter_mut().skip(offset).take(1).for_each(|octet| *octet ^= 1 << (octets % 8)),
            2 => content.truncate(offset),
            3 => content.get_mut(offset..end).unwrap_or_default().fill(0),
            4 => content.resize((content.len() + octets * 16).min(OCTETS_MAX), 0xEE),
            5 => {
                files.insert(target, content);
                continue;
            }
            6 => drop(files.insert(target, content.clone())),
            _ => continue,
        }
        files.insert(name, content);
    }
}

fn settings() -> LogSettings {
    LogSettings { segment_bytes: 1 << 20, free_bytes_min: 0, ..LogSettings::default() }
}

/// A disk with these files in the directory of the log.
fn store(files: &Files) -> SimStorage {
    let storage = SimStorage::new(9);
    storage.set_manner(Manner { direct: false, ..Manner::default() });
    storage.create_dir(DIR).expect("an honest disk");
    for (name, content) in files {
        let file = storage.open(&format!("{DIR}/{name}"), OpenMode::Create).expect("an honest disk");
        file.write_at(content, 0).expect("an honest disk");
        file.sync().expect("an honest disk");
    }
    storage.sync_dir(DIR).expect("an honest disk");
    storage
}

fn contents(storage: &SimStorage) -> Files {
    let files = storage.files().into_iter();
    let inside = files.filter_map(|(path, _)| {
        let name = path.strip_prefix(DIR)?.strip_prefix('/')?.to_owned();
        Some((name, storage.content(&path)?))
    });
    inside.collect()
}

/// Logs with two segments: the last one open, sealed or torn, in files of a first or second life.
fn build(which: usize) -> Golden {
    let storage = SimStorage::new(which as u64 + 1);
    let mut data = DataDirectory::on_without_helper(storage.clone(), &settings(), NODE).expect("new");
    let (mut log, _) = data.open_log(0, || {}).expect("new");
    data.prepare_segments();
    let mut bodies = BTreeMap::new();
    if which >= 3 {
        // Everything is consumed: the files begin another life.
        let mut relay =
            Cursor::on(storage.clone(), DIR, "relay", ConsumerKind::Required).expect("an honest disk");
        while log.stats().segments_sealed < 2 {
            message(&mut log, &mut data, 250_000, &[], &mut bodies);
        }
        relay.save(log.durable()).expect("an honest disk");
        data.prepare_segments();
    }
    let goal = log.stats().segments_sealed + 1 + u64::from(which >= 3);
    while log.stats().segments_sealed < goal {
        let part = vec![b'c'; 200_000];
        let chunk = log.append_chunk(std::iter::once(&part[..]), part.len(), 5);
        write(&mut log);
        data.prepare_segments();
        let Ok(chunk) = chunk else { continue };
        message(&mut log, &mut data, 3000, &[(chunk, part)], &mut bodies);
        message(&mut log, &mut data, 50_000, &[], &mut bodies);
    }
    for octets in [10, 9000, 5000, 100, 4000] {
        message(&mut log, &mut data, octets, &[], &mut bodies);
    }
    match which % 3 {
        0 => {}
        1 => {
            log.close();
            write(&mut log);
        }
        _ => {
            let body = vec![b't'; 50_000];
            let torn = log.append_message(&EnvelopeRef::default(), std::iter::once(&body[..]), body.len(), 5);
            assert!(torn.is_ok());
            let write = log.next_write().expect("a batch");
            write.file().write_at(&write.bytes()[..8192], write.offset()).expect("an honest disk");
        }
    }
    drop((log, data));
    // What a consumer has passed is none of this.
    let mut reader = Reader::on(storage.clone(), DIR).expect("a good log");
    bodies.retain(|id, _| reader.message(*id).is_ok());
    let mut files = contents(&storage);
    // Spares would only cost time.
    files.retain(|name, _| !name.starts_with("spare-"));
    Golden { files, bodies }
}

fn message(
    log: &mut Appender<SimStorage>,
    data: &mut DataDirectory<SimStorage>,
    octets: usize,
    parts: &[(ChunkRef, Vec<u8>)],
    bodies: &mut BTreeMap<MessageId, (Vec<u8>, Vec<u8>)>,
) {
    let mut own: Vec<u8> = (0..=250).cycle().take(octets).collect();
    own.extend_from_slice(&(bodies.len() as u64).to_le_bytes());
    let recipients = [Recipient { path: Span::new(0, 13), ..Recipient::default() }];
    let chunks: Vec<ChunkRef> = parts.iter().map(|(chunk, _)| *chunk).collect();
    let text = b"b@example.com";
    let envelope = EnvelopeRef { text, recipients: &recipients, chunks: &chunks, ..EnvelopeRef::default() };
    loop {
        let taken = log.append_message(&envelope, std::iter::once(&own[..]), own.len(), 5);
        write(log);
        data.prepare_segments();
        if let Ok(taken) = taken {
            let mut whole: Vec<u8> = parts.iter().flat_map(|(_, part)| part.clone()).collect();
            whole.extend_from_slice(&own);
            bodies.insert(taken.id, (own, whole));
            return;
        }
    }
}

fn write(log: &mut Appender<SimStorage>) {
    while let Some(write) = log.next_write() {
        let result = write.run();
        log.write_done(write, result).expect("an honest disk");
    }
}
