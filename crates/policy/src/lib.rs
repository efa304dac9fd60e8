//! Verdicts on what a session asks for: which recipients are ours, who may submit mail and as whom.
//!
//! [`Recipients`] is built once from the configuration, shared by all cores and asked at each RCPT. Asking takes no lock and,
//! for addresses in US-ASCII, allocates nothing. [`Users`] are read from a file; their passwords are verified by a [`Verifier`],
//! whose threads are none of the cores.
//!
//! Standards: RFC 5321 §2.4 (case), §4.5.1 (postmaster); RFC 2142 §4, §5 (abuse, postmaster); RFC 6531 (UTF-8);
//! RFC 4616 §2 (comparing names and passwords), RFC 6409 §6.1 (who may submit).
#![forbid(unsafe_code)]

pub mod users;

mod list;
mod recipients;
mod verifier;

pub use list::{AddressList, LineError};
pub use recipients::{DomainError, Recipients, Verdict};
pub use users::{Outcome, Users, UsersError};
pub use verifier::{Busy, OnDone, Verifier, VerifierSettings};
