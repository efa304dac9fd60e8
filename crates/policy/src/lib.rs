//! Verdicts on what a session asks for: which recipients are ours.
//!
//! [`Recipients`] is built once from the configuration, shared by all cores and asked at each RCPT. Asking takes no lock and,
//! for addresses in US-ASCII, allocates nothing.
//!
//! Standards: RFC 5321 §2.4 (case), §4.5.1 (postmaster); RFC 2142 §4, §5 (abuse, postmaster); RFC 6531 (UTF-8).
#![forbid(unsafe_code)]

mod list;
mod recipients;

pub use list::{AddressList, LineError};
pub use recipients::{DomainError, Recipients, Verdict};
