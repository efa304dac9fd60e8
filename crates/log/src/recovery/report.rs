//! What recovery found.

use std::fmt;

use crate::segment::segment_name;
use crate::{Lsn, MessageId};

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The header of a segment: the whole file was moved to `damaged/`.
    SegmentHeader,
    /// The segment belongs to another log: moved to `damaged/`.
    ForeignSegment,
    /// The segment is one of this log under the name of another one: moved to `damaged/`. It can be read again under its own name.
    MisplacedSegment {
        /// Its own number.
        number: u64,
    },
    /// Under the name of a segment is a directory: moved to `damaged/`.
    NoFile,
    /// The disk does not give header or seal of the segment: it stays where it is.
    Unreadable,
    /// A consumer has done with mail that the log does not hold.
    BehindCursor {
        /// Where it stands.
        position: Lsn,
    },
    /// The file has the wrong length; what can be read stays readable.
    SegmentLength,
    /// The seal of a segment that has a successor with records.
    Seal,
    /// A record header: everything up to the next valid batch is skipped.
    RecordHeader,
    /// Envelope or body of a record whose header holds.
    RecordContent,
}

/// Acknowledged data that does not read back as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub kind: DamageKind,
    /// File name in the log's directory.
    pub file: String,
    /// Offset in the file.
    pub offset: u64,
    /// Octets that are left out.
    pub octets: u64,
    /// Message concerned, when its header holds.
    pub id: Option<MessageId>,
    /// Copy or new place of the bad octets, relative to the data directory.
    pub kept_as: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::SegmentHeader => "segment header is damaged",
            DamageKind::ForeignSegment => "segment belongs to another log",
            DamageKind::MisplacedSegment { .. } => "segment has the name of another one",
            DamageKind::NoFile => "a directory has the name of a segment",
            DamageKind::Unreadable => "segment cannot be read",
            DamageKind::BehindCursor { .. } => "log ends before the position of a consumer",
            DamageKind::SegmentLength => "segment has the wrong length",
            DamageKind::Seal => "seal is missing or damaged",
            DamageKind::RecordHeader => "record header is damaged",
            DamageKind::RecordContent => "record content is damaged",
        };
        write!(f, "{what}: file {} offset {} octets {}", self.file, self.offset, self.octets)?;
        if let Some(id) = self.id {
            write!(f, " id {id}")?;
        }
        if let Some(kept) = &self.kept_as {
            write!(f, ", kept as {kept}")?;
        }
        if let DamageKind::MisplacedSegment { number } = self.kind {
            let name = segment_name(number);
            write!(f, "; it is {name}: if there is none, stop the gateway and give it that name again")?;
        }
        if let DamageKind::BehindCursor { position } = self.kind {
            write!(f, "; it is an older copy, or was cut; new mail comes behind LSN {position}")?;
        }
        Ok(())
    }
}

/// Octets behind the last valid record that were never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// File name in the log's directory.
    pub file: String,
    /// Where the segment was cut.
    pub offset: u64,
    /// Octets from there to the last one that is not zero.
    pub octets: u64,
    /// Copy of them, relative to the data directory.
    pub kept_as: Option<String>,
}

/// What recovery of one log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was made just now.
    pub created: bool,
    /// Segments with a valid seal; not scanned.
    pub segments_sealed: u64,
    /// Segments walked through and sealed now.
    pub segments_recovered: u64,
    /// Segments without records, spares again.
    pub segments_unused: u64,
    /// Octets read to find the end.
    pub octets_scanned: u64,
    /// Records found in unsealed segments.
    pub records: u64,
    /// Messages among them.
    pub messages: u64,
    /// One past the last record of the log.
    pub end: Lsn,
    /// Tails that were cut.
    pub cut: Vec<CutTail>,
    /// Damage of acknowledged data.
    pub damage: Vec<Damage>,
}
