//! Verdicts on what a session asks for: which recipients are ours.
//!
//! [`Recipients`] is built from the configuration, asked at each RCPT and, when the files of recipients have changed, replaced as a
//! whole: [`SharedRecipients`] is what all cores read it through. Asking takes no lock and, for addresses in US-ASCII,
//! allocates nothing.
//!
//! Standards: RFC 5321 §2.4 (case), §4.5.1 (postmaster); RFC 2142 §4, §5 (abuse, postmaster); RFC 6531 (UTF-8).
#![forbid(unsafe_code)]

mod list;
mod recipients;
mod shared;

pub use list::{AddressList, LineError};
pub use recipients::{DomainError, Recipients, Verdict};
pub use shared::{Loaded, Shared};

/// The table that all cores read.
pub type SharedRecipients = Shared<Recipients>;
