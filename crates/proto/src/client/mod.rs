//! The client side of SMTP and LMTP: bytes and decisions in, bytes and events out; no socket, clock or task inside.
//!
//! ```text
//!   Session::take_step ─▶ Step ─▶ the caller writes the command (command.rs, stuffing.rs) and sends it
//!   bytes from the server ─▶ Session::advance ─▶ Event (one reply, matched to its command and recipient)
//! ```
//! The session owns the order: what may be sent now, with or without PIPELINING, and which reply belongs to which
//! command. It does not own the mail: the caller is asked for MAIL, each RCPT, the data, so nothing is copied twice and
//! nothing is allocated per message. Several transactions may be under way at once where the server's extensions
//! allow it.
//!
//! Called by the load generator and by the relay.
//!
//! Standards: RFC 5321 (SMTP), RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 2033 (LMTP), RFC 1870 (SIZE),
//! RFC 9422 (LIMITS), RFC 2034 and 3463 (enhanced status codes).

mod command;
mod extensions;
mod reply;
mod session;
mod stuffing;
#[cfg(test)]
mod tests;

pub use command::{
    MailParameters, UnsafeArgument, write_chunk, write_hello, write_mail, write_recipient, write_verb,
};
pub use extensions::Extensions;
pub use reply::{
    EnhancedStatus, REPLY_LINE_OCTETS_MAX, REPLY_LINES_MAX, REPLY_TEXT_KEPT_MAX, Reply, ReplyError, Severity,
};
pub use session::{
    Answer, Command, Event, Hello, Pipelining, Progress, Protocol, ProtocolError, Session, Step, Transfer,
};
pub use stuffing::{DotStuffing, stuff};
