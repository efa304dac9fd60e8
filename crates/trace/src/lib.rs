//! Sessions shown live, command by command, to an operator who looks.
//!
//! ```text
//!   session ──▶ matched by a tracer? ──▶ commands, replies, times ──▶ ring of the core ──▶ reader thread ──▶ channel of each tracer ──▶ admin server
//!     │ nobody looks: one load of [`CoreTrace::generation`] a turn, and one a command
//! ```
//! A session is matched by the address of its client when it begins, or at its next turn when somebody begins to look; by a recipient's domain from
//! the first such RCPT on, with what was before summed up. Nothing waits for a tracer: a full ring or channel costs events, which are counted and
//! told.
//!
//! Bounds: [`TRACERS_MAX`] tracers, [`RING_OCTETS`] a core, [`CHANNEL_EVENTS`] a tracer; sessions, octets and time of each as [`Limits`] says. The exchange
//! of AUTH and mail data are never in an event.
#![forbid(unsafe_code)]

mod core;
mod event;
mod filter;
mod hub;
mod reader;

pub use crate::core::{CoreTrace, RING_OCTETS, Traced};
pub use event::{Begin, Event, TEXT_OCTETS_MAX};
pub use filter::{Filter, FilterError};
pub use hub::{CHANNEL_EVENTS, Limits, Refused, TRACERS_MAX, Watch, of_core, watch};
