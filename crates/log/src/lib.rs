//! Segmented append log with group commit: what a 250 stands on.
//!
//! A [`DataDirectory`] holds the lock and opens logs. An [`Appender`] takes messages for one core and says what to write; it does no I/O of its own.
//! A [`Reader`] walks through a log, live or stopped, without the lock. The format to the byte stands in `FORMAT.md` beside this crate.
//!
//! Bounds: a record has at most [`RECORD_OCTETS_MAX`] octets, a batch 1 MiB, an appender [`LogSettings::batch_buffers`] batches.

mod age_clock;
mod ahead;
mod appender;
mod batch;
mod buffer;
mod crc;
mod cursor;
mod directory;
mod envelope;
mod error;
mod fresh;
mod helper;
mod id;
mod layout;
mod lsn;
mod maker;
mod meta;
mod open_chunks;
mod reader;
mod record;
mod recovery;
mod retention;
mod segment;
mod settings;
mod slots;
mod stats;
mod status;
mod storage;
mod supply;
mod walk;
mod window;
mod write;

pub use age_clock::AgeClock;
pub use appender::{Appended, Appender};
pub use cursor::{CONSUMER_NAME_OCTETS_MAX, ConsumerKind, Cursor, CursorError, CursorState};
pub use directory::{DataDirectory, OpenError, holds_log, log_directory, parse_log_directory};
pub use envelope::{
    Attribute, Attributes, BodyFindings, BodyType, ChunkRef, Chunks, ENVELOPE_VERSION, Envelope,
    EnvelopeAttribute, EnvelopeError, EnvelopeRecipient, EnvelopeRef, PhaseTimes, Protocol, Recipient,
    Recipients, Ret, Span, Transfer, attribute_kind, notify, prepended, received,
};
pub use error::{AppendError, NoSpace, Poisoned};
pub use fresh::{Fresh, FreshReceiver};
pub use id::{InvalidMessageId, MESSAGE_ID_OCTETS, MessageId};
pub use layout::{
    BATCH_OCTETS, BLOCK_OCTETS, CHUNK_OCTETS_MAX, FORMAT_VERSION, RECORD_ALIGN, RECORD_OCTETS_MAX,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use lsn::Lsn;
pub use meta::LogMeta;
pub use reader::{
    BadReason, BadRecord, BodyEnd, Consumer, Entry, Message, ReadError, Reader, Record, SegmentInfo,
    Verified, VerifyEvent,
};
pub use record::{HeaderError, RECORD_HEADER_OCTETS, RecordFlags, RecordHeader, RecordKind};
pub use recovery::{CutTail, Damage, DamageKind, RecoveryReport};
pub use retention::RetireReason;
pub use segment::{
    BlockError, LogIdentity, NO_CHUNKS, Seal, SealReason, SegmentHeader, SegmentSummary, segment_name,
    segment_number,
};
pub use settings::{Durability, INTERNAL_LOG, InvalidSetting, LogKind, LogSettings};
pub use stats::AppenderStats;
pub use status::{ConsumerStatus, DirectoryStatus, StatusHandle};
pub use storage::disk::{DiskFile, DiskStorage};
#[cfg(any(test, feature = "simulation"))]
pub use storage::sim;
pub use storage::{LockFailure, OpenMode, Space, Storage, StorageFile};
pub use write::{Completion, Sync, Write, WriteKind};
