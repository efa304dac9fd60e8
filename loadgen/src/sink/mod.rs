//! `inrush-load sink`: an SMTP or LMTP server that takes mail and throws it away, keeps it, or misbehaves as it is told.
//!
//! ```text
//!   options.rs ─▶ server.rs (a thread a core, its own listeners) ─▶ dialog.rs (no I/O) ─▶ store.rs
//!                                                                      script.rs, statistics.rs
//! ```
//! For tests of relays, and as a target that costs little.

mod dialog;
mod options;
pub mod script;
mod server;
mod statistics;
pub mod store;

pub use options::SinkOptions;
pub use server::sink;
