//! Parts of the queue's state, as the outcome log keeps them.

use std::collections::HashMap;

use inrush_log::{Lsn, Span};
use rkyv::api::low::access;
use rkyv::rancor::Failure;

use super::v1::{ArchivedCheckpointV1, CheckpointV1, EntryV1, LaneV1, MentionedV1};
use super::{Arena, NOTE_OCTETS_MAX, NoteError, OUTCOME_VERSION, Place, number, span, stored};

/// Which part of a checkpoint a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckpointPart {
    /// The first: how far each arrival log is accounted for. What follows in the log holds from here on.
    Begin = 1,
    /// Entries; one that is named twice stands as it was named last.
    Entries = 2,
    /// The last: everything before [`CheckpointPart::Begin`] may be forgotten.
    End = 3,
    /// No part of a checkpoint: how far each arrival log is accounted for by now.
    Progress = 4,
    /// Messages under way, for the [`Begin`](Self::Begin) or [`Progress`](Self::Progress) that follows: more than fit into it.
    Open = 5,
}

impl CheckpointPart {
    fn from_number(number: u8) -> Option<Self> {
        let all = [Self::Begin, Self::Entries, Self::End, Self::Progress, Self::Open];
        all.into_iter().find(|part| *part as u8 == number)
    }
}

/// How far the messages of an arrival log are accounted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneRef {
    /// Number of the log.
    pub log: u8,
    /// Its uuid: another log of this number may stand there one day. All zero where it is not known.
    pub uuid: [u8; 16],
    /// Every message below is accounted for by outcomes and entries, but for those in `open`.
    pub taken: Lsn,
    /// Messages that are under way: some of their recipients are not accounted for. Those that are not below `taken` were named by an earlier life.
    pub open: Vec<OpenRef>,
}

/// A message that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenRef {
    /// Position in the arrival log.
    pub lsn: Lsn,
    /// Recipients that are accounted for.
    pub mentioned: Vec<u32>,
}

/// Recipients of a message that are owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// [`MessageId::packed`](inrush_log::MessageId::packed).
    pub message_id: u64,
    /// Where the message stands.
    pub place: Place,
    /// When it was accepted, in µs since 1970.
    pub accepted_at_us: u64,
    /// When the next attempt is due, in µs since 1970.
    pub next_attempt_us: u64,
    /// Octets of the message, about.
    pub octets: u64,
    /// Recipients in its envelope.
    pub recipients_total: u32,
    /// Attempts so far.
    pub attempts: u32,
    /// Nothing is tried until it is released.
    pub held: bool,
    /// See [`result_flag`](super::result_flag).
    pub flags: u8,
    /// As in [`OutcomeRef::destination`](super::OutcomeRef::destination).
    pub destination: &'a [u8],
    /// Indices in the envelope.
    pub recipients: Vec<u32>,
}

/// A record of kind Checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRef<'a> {
    /// Which checkpoint, from 1.
    pub generation: u64,
    /// Which part of it.
    pub part: CheckpointPart,
    /// With [`CheckpointPart::Open`] its number, from 0; with [`CheckpointPart::Begin`] and [`CheckpointPart::Progress`] how many of those come before.
    pub piece: u32,
    /// With [`CheckpointPart::Begin`], [`CheckpointPart::Progress`] and [`CheckpointPart::Open`].
    pub lanes: Vec<LaneRef>,
    /// With [`CheckpointPart::Entries`].
    pub entries: Vec<EntryRef<'a>>,
}

/// Of a log whose uuid was not noted.
pub(crate) const UNKNOWN: [u8; 16] = [0; 16];
const UUID_OCTETS: u32 = 16;

/// Bit of a stored entry's flags beside those of results.
const HELD: u8 = 1 << 7;

/// The fixed part of a checkpoint, and what alignment may add.
pub(crate) const CHECKPOINT_OCTETS: usize = 40 + 24;

/// Octets of an entry for so many recipients; its destination comes on top where no entry before it in the record has the same one.
pub(crate) fn entry_octets(recipients: u32) -> usize {
    72 + 4 * recipients as usize
}

/// Octets of messages under way in one record at most; the rest is for the lanes, of which there are no more than logs.
const OPEN_OCTETS_MAX: usize = NOTE_OCTETS_MAX - CHECKPOINT_OCTETS - 256 * LANE_OCTETS;
const LANE_OCTETS: usize = 32 + 16;

impl OpenRef {
    fn octets(&self) -> usize {
        8 + 8 * self.mentioned.len()
    }
}

/// Messages under way in groups that each fit into a record.
fn split(open: Vec<OpenRef>) -> Vec<Vec<OpenRef>> {
    let mut groups: Vec<Vec<OpenRef>> = Vec::new();
    let mut left = 0;
    for message in open {
        let octets = message.octets();
        match groups.last_mut().filter(|_| octets <= left) {
            Some(group) => {
                left -= octets;
                group.push(message);
            }
            None => {
                left = OPEN_OCTETS_MAX.saturating_sub(octets);
                groups.push(vec![message]);
            }
        }
    }
    groups
}

impl CheckpointRef<'_> {
    /// What says how far the logs are accounted for, as [`CheckpointPart::Begin`] or [`CheckpointPart::Progress`]: one record, or several when more messages
    /// are under way than fit into it.
    pub(crate) fn of_lanes(generation: u64, part: CheckpointPart, mut lanes: Vec<LaneRef>) -> Vec<Self> {
        let octets = lanes.iter().flat_map(|lane| &lane.open).map(OpenRef::octets).sum::<usize>();
        let mut pieces = Vec::new();
        if octets > OPEN_OCTETS_MAX {
            for lane in &mut lanes {
                let open = std::mem::take(&mut lane.open);
                pieces.extend(split(open).into_iter().map(|open| LaneRef { open, ..lane.clone() }));
            }
        }
        let record = |part, piece, lanes| Self { generation, part, piece, lanes, entries: Vec::new() };
        let count = number(pieces.len());
        let open = (0..).zip(pieces).map(|(piece, lane)| record(CheckpointPart::Open, piece, vec![lane]));
        open.chain([record(part, count, lanes)]).collect()
    }
}

impl<'a> CheckpointRef<'a> {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut arena = Arena::default();
        let mut destinations: HashMap<&[u8], Span> = HashMap::new();
        let entry = |entry: &EntryRef<'a>| EntryV1 {
            message_id: entry.message_id,
            lsn: entry.place.lsn.get(),
            accepted_at_us: entry.accepted_at_us,
            next_attempt_us: entry.next_attempt_us,
            octets: entry.octets,
            recipients_total: entry.recipients_total,
            attempts: entry.attempts,
            place_kind: entry.place.kind as u8,
            place_log: entry.place.log,
            flags: entry.flags | if entry.held { HELD } else { 0 },
            reserved: [0; 5],
            destination: *destinations
                .entry(entry.destination)
                .or_insert_with(|| arena.add(entry.destination)),
            recipients: entry.recipients.clone(),
        };
        let entries = self.entries.iter().map(entry).collect();
        let lane = |lane: &LaneRef| LaneV1 {
            taken: lane.taken.get(),
            log: lane.log,
            reserved: [0; 3],
            uuid: if lane.uuid == UNKNOWN { 0 } else { arena.add(&lane.uuid).offset + 1 },
            open: lane.open.iter().map(|open| open.lsn.get()).collect(),
            mentioned: (0_u32..)
                .zip(&lane.open)
                .flat_map(|(open, message)| {
                    message.mentioned.iter().map(move |&recipient| MentionedV1 { open, recipient })
                })
                .collect(),
        };
        let lanes = self.lanes.iter().map(lane).collect();
        stored(&CheckpointV1 {
            generation: self.generation,
            part: self.part as u8,
            reserved: [0; 3],
            piece: self.piece,
            lanes,
            entries,
            text: arena.text,
        })
    }

    /// Checks the content of a Checkpoint record; `octets` begin at an address that is a multiple of 8.
    ///
    /// # Errors
    /// The version is not known, or the structure does not hold.
    pub fn read(version: u16, octets: &'a [u8]) -> Result<Self, NoteError> {
        if version != OUTCOME_VERSION {
            return Err(NoteError::Version(version));
        }
        let root = access::<ArchivedCheckpointV1, Failure>(octets).map_err(|_| NoteError::Malformed)?;
        let mut lanes = Vec::with_capacity(root.lanes.len());
        for lane in root.lanes.iter() {
            let open =
                lane.open.iter().map(|lsn| OpenRef { lsn: Lsn::new(lsn.to_native()), ..OpenRef::default() });
            let mut open: Vec<_> = open.collect();
            for mentioned in lane.mentioned.iter() {
                let message =
                    open.get_mut(mentioned.open.to_native() as usize).ok_or(NoteError::Malformed)?;
                message.mentioned.push(mentioned.recipient.to_native());
            }
            let at = lane.uuid.to_native();
            let uuid = match at.checked_sub(1) {
                None => UNKNOWN,
                Some(at) => {
                    let uuid = span(root.text.as_slice(), at, UUID_OCTETS)?;
                    uuid.try_into().map_err(|_| NoteError::Malformed)?
                }
            };
            lanes.push(LaneRef { log: lane.log, uuid, taken: Lsn::new(lane.taken.to_native()), open });
        }
        let mut entries = Vec::with_capacity(root.entries.len());
        for entry in root.entries.iter() {
            let place = Place::read(entry.place_kind, entry.place_log, entry.lsn.to_native());
            let destination = &entry.destination;
            entries.push(EntryRef {
                message_id: entry.message_id.to_native(),
                place: place.ok_or(NoteError::Malformed)?,
                accepted_at_us: entry.accepted_at_us.to_native(),
                next_attempt_us: entry.next_attempt_us.to_native(),
                octets: entry.octets.to_native(),
                recipients_total: entry.recipients_total.to_native(),
                attempts: entry.attempts.to_native(),
                held: entry.flags & HELD != 0,
                flags: entry.flags & !HELD,
                destination: span(
                    root.text.as_slice(),
                    destination.offset.to_native(),
                    destination.octets.to_native(),
                )?,
                recipients: entry.recipients.iter().map(|index| index.to_native()).collect(),
            });
        }
        Ok(Self {
            generation: root.generation.to_native(),
            part: CheckpointPart::from_number(root.part).ok_or(NoteError::Malformed)?,
            piece: root.piece.to_native(),
            lanes,
            entries,
        })
    }
}
