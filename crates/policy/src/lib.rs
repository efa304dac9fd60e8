//! Verdicts on what a session asks for: which recipients are ours, who may submit mail and as whom, whose connections we take.
//!
//! [`Recipients`] is built from the configuration, asked at each RCPT and, when the files of recipients have changed, replaced as a
//! whole: [`SharedRecipients`] is what all cores read it through. Asking takes no lock and, for addresses in US-ASCII that
//! no regular expression has to look at, allocates nothing.
//! [`Networks`] and [`AccessList`] are as flat for the addresses of peers.
//!
//! [`Users`] are read from a file; their passwords are verified by a [`Verifier`], whose threads are none of the cores.
//!
//! Standards: RFC 5321 §2.4 (case), §4.5.1 (postmaster); RFC 2142 §4, §5 (abuse, postmaster); RFC 1123 §5.2.16 (routes in local
//! parts); RFC 5233 §1 (subaddresses); RFC 6531 (UTF-8); RFC 4616 §2 (comparing names and passwords), RFC 6409 §6.1 (who may submit).
#![forbid(unsafe_code)]

pub mod users;

mod list;
mod lower;
mod names;
mod networks;
mod patterns;
mod rates;
mod recipients;
mod route;
mod shared;
mod verifier;

pub use list::{AddressList, LineError, ListSettings};
pub use networks::{Access, AccessList, NetworkError, NetworkLineError, Networks};
pub use rates::{
    Attempt, ConnectionLimits, ConnectionRefusal, Connections, FailureLimits, FailureRefusal, Failures, Rate,
    Ticket,
};
pub use recipients::{DomainError, Recipients, Verdict};
pub use shared::{Loaded, Shared};
pub use users::{Outcome, Users, UsersError, user_key};
pub use verifier::{Busy, OnDone, Verifier, VerifierSettings};

/// The table that all cores read.
pub type SharedRecipients = Shared<Recipients>;
