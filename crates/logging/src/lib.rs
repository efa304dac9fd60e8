//! Log lines: what the program says about itself, on standard error or in the journal of systemd.
//!
//! ```text
//!   core: message, session, refusal ──▶ ring of the core (octets, no lock) ─┐
//!   core: batch committed ────────────▶                                     ├─▶ writer: order, repeats, form ─▶ standard error
//!   tracing::info!(…) anywhere ───────▶ bounded queue ──────────────────────┘                                └▶ journal
//! ```
//! Nobody who has something to say ever waits. A full ring or queue costs the line, which is counted
//! ([`inrush_metrics::LINES`]) and told once the target takes lines again. Only the writer's own thread may stand still.
//!
//! Whatever peers have sent is escaped where a line takes its form ([`Form`]): no control character of any kind leaves as itself.
//! `docs/logs.md` describes every line; a test holds it against the sources.
//!
//! Memory: [`RING_OCTETS`] a core, [`QUEUE_OCTETS_MAX`] for the queue, [`REPEATS_KEYS_MAX`] kinds of lines that repeat.
#![forbid(unsafe_code)]

mod capture;
mod codec;
mod control;
mod escape;
mod form;
mod journal;
mod levels;
mod line;
mod pending;
mod records;
mod repeats;
mod ring;
mod schema;
mod settings;
mod sink;
mod writer;

pub use capture::{QUEUE_LINES_MAX, QUEUE_OCTETS_MAX};
pub use control::{Control, Logging, StartError, control, flush, last_words, start};
pub use form::Form;
pub use levels::{LevelError, Levels, MODULES};
pub use line::{Line, Value};
pub use records::{
    ConnectionRefused, MessageQueued, Peer, RECIPIENTS_SHOWN_MAX, Refusals, SessionEnded, TEXT_OCTETS_MAX,
};
pub use repeats::REPEATS_KEYS_MAX;
pub use ring::{CoreLines, Names, RING_OCTETS, of_core};
pub use schema::{
    CONNECTION_FIELDS, FIELDS, FieldRow, MESSAGE_FIELDS, Place, SESSION_FIELDS, WRITER_FIELDS, documentation,
};
pub use settings::{Destination, FormatChoice, LoggingSettings};
