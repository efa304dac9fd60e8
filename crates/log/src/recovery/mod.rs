//! Recovery: which records are there after whatever ended the last run.
//!
//! | segment | a later valid record tells durable LSN > p | a later valid record, but not above p | verdict at the first bad record, position p |
//! |---|---|---|---|
//! | sealed | – | – | not looked at here; damage, when a reader finds it |
//! | unsealed | yes | – | **damage** of acknowledged mail: quarantine the record, go on behind it |
//! | unsealed | no | yes | torn batch, never acknowledged: cut at p |
//! | unsealed | no | no | torn tail: save it, count it, cut at p |
//! | header bad, or of another log or number | – | – | quarantined |
//! | header or seal cannot be read, a later segment is sealed | – | – | **damage**: stays where it is |
//! | the same, without a later sealed segment | – | – | the log does not open |
//!
//! "Later" is within the same segment: the seal is durable before the next segment is written, so that only the newest segment with records may be
//! unsealed; any other unsealed one is damage as well. A segment that was recovered is sealed where its records end and never appended to.

mod look;
mod report;
mod segments;

pub use report::{CutTail, Damage, DamageKind, RecoveryReport};
pub(crate) use segments::{Recovered, recover};
