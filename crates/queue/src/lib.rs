//! What is owed to whom: outcomes per recipient folded over the logs.
//!
//! ```text
//!  arrival logs ──▶ take ──▶ [relay: attempts] ──▶ Recorder::record ──▶ outcome log
//!                              ▲                         │ follows
//!                              └────── due ◀── Ledger ◀──┘     ◀── fold: checkpoint, later outcomes (at the start)
//! ```
//! The outcome log is the truth about deliveries: it is written before an arrival log lets go of a message. [`Ledger`] is that truth in memory,
//! [`Recorder`] writes it, [`fold`](fold()) reads it again, [`Keeper`] moves the cursors by which the logs retire their segments. Nothing here
//! speaks to a network, has a clock or a thread.
//!
//! Standards: RFC 5321 §4.5.4.1 (when to try again, when to give up).
#![deny(unsafe_code)]

mod destinations;
mod evacuation;
mod fold;
mod history;
mod keeper;
mod lane;
mod ledger;
pub mod outcome;
mod recipients;
mod recorder;
mod seen;
mod settings;
mod stores;

pub use destinations::DestinationId;
pub use evacuation::{ARRIVAL_SHARE, RETRY_SHARE, SegmentLoad, choose_segment};
pub use fold::{CHECKPOINT_CONSUMER, FoldError, Folded, HISTORY_CONSUMER, QUEUE_CONSUMER, fold};
pub use history::history;
pub use keeper::{Keeper, KeeperError};
pub use ledger::{ArrivalLog, Counts, Due, Entry, EntryState, Ledger, Slot, message_id};
pub use outcome::{
    CheckpointPart, CheckpointRef, EntryRef, LaneRef, NOTE_OCTETS_MAX, NoteError, OUTCOME_VERSION, OpenRef,
    OutcomeRef, Place, REPLY_OCTETS_MAX, ResultRef, Status, StoredOutcome, outcome_flag, result_flag,
};
pub use recipients::RecipientSet;
pub use recorder::{Positions, Recorder};
pub use seen::positions_seen;
pub use settings::QueueSettings;
pub use stores::{ArrivalStore, Stores};
