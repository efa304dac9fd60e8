//! SMTP without I/O: grammar, replies, server and client sessions.
//!
//! Bytes, verdicts and durability go in; replies and events come out. There is no socket, clock, random source, thread
//! or task in here, so that every behaviour can be replayed from a script or a seed.
//!
//! ```text
//!              input ─▶ ┌───────────────────────────────┐ ─▶ Event::Recipient   ─▶ policy   ─▶ verdict()
//!                       │ Session                       │ ─▶ Event::Body        ─▶ spill    ─▶ body_stored()
//!   take_ready() ◀───── │  greeting envelope data bdat  │ ─▶ Event::Message     ─▶ log      ─▶ appended()
//!   durable(lsn) ─────▶ │  output with gates            │ ─▶ Event::Aborted, Output, NeedInput, Close
//!                       └───────────────────────────────┘
//! ```
//! [`Session::advance`] describes the contract; [`Reply`] is the table of everything that is ever said.
#![forbid(unsafe_code)]

pub mod client;
pub mod proxy;
pub mod sasl;
pub mod xclient;

mod address;
mod body;
mod command;
mod context;
mod header;
mod limits;
mod output;
mod parameters;
mod reply;
mod session;
mod transaction;

pub use address::{
    DOMAIN_OCTETS_MAX, LABEL_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, Literal, PATH_OCTETS_MAX, Path, PathError,
    domain_eq, normalise_domain,
};
pub use body::{Body, Pieces};
pub use command::Verb;
pub use context::{Context, Observe, Settings, Unobserved};
pub use inrush_scan::Findings;
pub use limits::{
    BareNewline, Extensions, INPUT_OCTETS_MAX, Kind, Limits, PIECE_OCTETS_MAX, RECIPIENT_OCTETS, Tls,
    UnauthorizedPipelining,
};
pub use parameters::{BodyType, MailParameters, Notify, RcptParameters, Return};
pub use reply::Reply;
pub use session::{Accepted, AppendFailure, Event, Identity, Phase, Progress, Session, Verdict};
pub use transaction::{PathSpan, Recipient, RecipientSpans, Span, Transaction};
