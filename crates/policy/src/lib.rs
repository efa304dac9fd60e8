//! Verdicts on what a session asks for: which recipients are ours, and whose connections we take.
//!
//! [`Recipients`] is built once from the configuration, shared by all cores and asked at each RCPT. Asking takes no lock and,
//! for addresses in US-ASCII, allocates nothing. [`Networks`] and [`AccessList`] are as flat for the addresses of peers.
//!
//! Standards: RFC 5321 §2.4 (case), §4.5.1 (postmaster); RFC 2142 §4, §5 (abuse, postmaster); RFC 6531 (UTF-8).
#![forbid(unsafe_code)]

mod list;
mod networks;
mod rates;
mod recipients;

pub use list::{AddressList, LineError};
pub use networks::{Access, AccessList, NetworkError, NetworkLineError, Networks};
pub use rates::{
    Attempt, ConnectionLimits, ConnectionRefusal, Connections, FailureLimits, FailureRefusal, Failures, Rate,
    Ticket,
};
pub use recipients::{DomainError, Recipients, Verdict};
