//! What is demanded of the log on a disk that breaks its promises.
//!
//! 1. No octet is handed out that was not sent at that place of that message.
//! 2. A message that was acknowledged is read as it was sent, or damage is reported that covers it: by its id, or by a part of a file that holds
//!    some of it, or by the segment whose header or seal is damaged. Recovery reports it, or a verification after it.
//! 3. A message that the disk has not harmed, neither itself nor its chunks nor the headers of their segments, is read by its id.
//! 4. Excepted from both is the end of the log: a message that lies behind what recovery took for the end, and of which nothing that the disk still has
//!    tells. A later write tells of it, when the message was durable before that write was given to the disk. Without one, a disk that has forgotten the message,
//!    or written it elsewhere, shows what a disk shows to which it was never given; nobody can tell the two apart, and it may be gone without a
//!    word. What has rotted there is not gone without a word: its octets are reported as a tail that was cut.

use std::collections::BTreeMap;

use inrush_log::sim::{Harm, Random, SimFile, SimStorage};
use inrush_log::{
    BadReason, BadRecord, CutTail, Damage, DamageKind, Lsn, MessageId, Reader, RecoveryReport, VerifyEvent,
    Write, segment_name, segment_number,
};

use crate::ledger::{LOG, Ledger, Promise, Sent, ids};
use crate::world::Lie;

const SEGMENT: u64 = 1 << 20;
const BLOCK: u64 = 4096;

/// What the disk has done and what the log has said of it.
#[derive(Default)]
pub(crate) struct Judge {
    harm: Vec<Harm>,
    damage: Vec<Damage>,
    cut: Vec<CutTail>,
    bad: Vec<BadRecord>,
    writes: Vec<Told>,
    /// Everything below was durable, as something on the disk tells.
    told: Lsn,
}

/// A write of the log, and what was durable when it was given to the disk.
struct Told {
    segment: u64,
    offset: usize,
    octets: Vec<u8>,
    durable: Lsn,
}

impl Judge {
    /// Notes a write that tells what is durable.
    pub(crate) fn note_write(&mut self, write: &Write<SimFile>, durable: Lsn) {
        let offset = usize::try_from(write.offset()).unwrap();
        let octets = write.bytes().to_vec();
        self.writes.push(Told { segment: write.segment(), offset, octets, durable });
    }

    /// Lets octets of the log rot, in places that matter more often than others.
    pub(crate) fn rot(&mut self, storage: &SimStorage, random: &mut Random) {
        let files: Vec<_> = storage.files().into_iter().filter(|(_, len)| *len > 0).collect();
        for _ in 0..=random.below(3) {
            let Some((name, len)) = files.get(usize::try_from(random.below(files.len() as u64)).unwrap())
            else {
                return;
            };
            let len = *len as u64;
            let at = match random.below(6) {
                0 => random.below(80),
                1 => len.saturating_sub(BLOCK) + random.below(100),
                // Headers of the first records.
                2 => BLOCK + random.below(200),
                3 => BLOCK * random.below(len / BLOCK + 1) + random.below(64),
                4 => random.below(200_000),
                _ => random.below(len),
            };
            let mask = 1 << random.below(8);
            storage.rot(name, usize::try_from(at.min(len - 1)).unwrap(), mask);
        }
    }

    /// Notes what is harmed, under the names that the next opening finds.
    pub(crate) fn note_harm(&mut self, storage: &SimStorage) {
        self.harm.extend(storage.harm());
        let mut segments = BTreeMap::new();
        for write in &self.writes {
            let name = format!("{LOG}/{}", segment_name(write.segment));
            // A segment whose header is harmed is moved away as a whole.
            let without_header = |harm: &Harm| harm.file == name && harm.octets.start < BLOCK;
            if write.durable <= self.told || self.harm.iter().any(without_header) {
                continue;
            }
            let content = segments.entry(write.segment).or_insert_with(|| storage.content(&name));
            let stands =
                content.as_ref().and_then(|content| content.get(write.offset..)?.get(..write.octets.len()));
            if stands == Some(&write.octets) {
                self.told = write.durable;
            }
        }
    }

    /// Judges a log that has been opened.
    pub(crate) fn check(
        &mut self,
        storage: &SimStorage,
        ledger: &mut Ledger,
        report: &RecoveryReport,
        lie: Lie,
    ) {
        self.damage.extend(report.damage.iter().cloned());
        self.cut.extend(report.cut.iter().cloned());
        let mut reader = Reader::on(storage.clone(), LOG).unwrap();
        let bad = &mut self.bad;
        let verified = reader.verify(|event| {
            if let VerifyEvent::Bad(record) = event {
                bad.push(record);
            }
        });
        verified.unwrap();
        reader.seek(Lsn::ZERO);
        for id in ids(&mut reader, Some(&mut Vec::new())) {
            assert!(ledger.sent.contains_key(&id), "{id} was never sent");
        }
        let mut gone = Vec::new();
        for (id, sent) in &ledger.sent {
            let read = ledger.expect(&mut reader, *id);
            if read.is_ok() || !sent.is_owed() {
                continue;
            }
            let covered = self.is_covered(*id, sent);
            if id.lsn >= report.end && id.lsn >= self.told {
                assert!(
                    lie != Lie::Rot || covered || self.is_cut(sent),
                    "{id} has rotted and nothing says so"
                );
                gone.push(*id);
                continue;
            }
            let said = || format!("{:?} {:?} {:?} {:?}", self.harm, self.damage, self.cut, self.bad);
            assert!(covered, "{id} is lost and nothing says so: {read:?}; {}", said());
            // What is behind the end was not told of when it was cut, if it was harmed at all.
            assert!(
                id.lsn >= report.end || self.is_harmed(sent),
                "{id} is whole and not read: {read:?}; {}",
                said()
            );
        }
        for id in gone {
            ledger.sent.get_mut(&id).unwrap().promise = Promise::Nothing;
        }
    }

    /// Whether a report covers a message.
    fn is_covered(&self, id: MessageId, sent: &Sent) -> bool {
        let damaged = self.damage.iter().any(|damage| {
            let whole = matches!(
                damage.kind,
                DamageKind::SegmentHeader
                    | DamageKind::ForeignSegment
                    | DamageKind::MisplacedSegment { .. }
                    | DamageKind::Seal
            );
            let octets = if whole { SEGMENT } else { damage.octets };
            let offset = if whole { 0 } else { damage.offset };
            damage.id == Some(id) || touches(sent, segment_number(&damage.file), offset, octets)
        });
        damaged
            || self.bad.iter().any(|bad| {
                let whole = matches!(
                    bad.reason,
                    BadReason::SegmentHeader(_) | BadReason::ForeignSegment | BadReason::Seal
                );
                let (offset, octets) = if whole { (0, SEGMENT) } else { (bad.offset, bad.octets) };
                bad.id == Some(id) || touches(sent, Some(bad.segment), offset, octets)
            })
    }

    fn is_cut(&self, sent: &Sent) -> bool {
        self.cut.iter().any(|cut| touches(sent, segment_number(&cut.file), cut.offset, cut.octets))
    }

    /// Whether the disk has harmed a part of a message, or the header of a segment that it is in.
    fn is_harmed(&self, sent: &Sent) -> bool {
        self.harm.iter().any(|harm| {
            let number = number(&harm.file);
            let header = harm.octets.start < BLOCK && touches(sent, number, 0, SEGMENT);
            header || touches(sent, number, harm.octets.start, harm.octets.end - harm.octets.start)
        })
    }
}

/// Number of a segment, by the name of its file with its directory.
fn number(file: &str) -> Option<u64> {
    file.rsplit('/').next().and_then(segment_number)
}

/// Whether a part of a segment holds a part of a message.
fn touches(sent: &Sent, segment: Option<u64>, offset: u64, octets: u64) -> bool {
    let Some(segment) = segment else { return false };
    let start = segment * SEGMENT + offset;
    sent.places.iter().any(|place| place.start < start + octets && start < place.end)
}
