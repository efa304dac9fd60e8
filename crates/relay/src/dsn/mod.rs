//! Delivery status notifications: what became of a message, told to its sender.
//!
//! ```text
//!   From, To, Subject, Date, Message-ID, Auto-Submitted        ┐
//!   Content-Type: multipart/report; boundary=B                 │
//!   --B  text/plain                    for people              ├ Dsn::head
//!   --B  message/delivery-status       for programs            │
//!   --B  text/rfc822-headers, or message/rfc822                ┘
//!        the header section, or the whole original message       Dsn::returned, sent by the caller piece by piece
//!   --B--                                                        Dsn::tail
//! ```
//! Data in, octets out: there is no clock, random source or I/O in here. [`decide`] says whether a report is due, [`build`] writes it,
//! and [`write_mail_parameters`] and [`write_rcpt_parameters`] hand the duty on to a next hop that offers DSN.
//! A report goes out with the null reverse-path, with NOTIFY=NEVER where DSN is offered and without RET (RFC 3461 §6.1), so that none
//! ever follows it.
//!
//! Addresses, replies, host names and the original message are hostile: no octet of them adds a field, a block or a part. Each text is
//! cleaned and bounded where it enters (`clean.rs`), and the boundary holds 128 random bits that nobody knew who
//! wrote any of it, so no content has to be searched for it and a large message can be streamed.
//!
//! Memory is bounded by the number of recipients, about 5 KiB for each at worst.
//!
//! Standards: RFC 3464 (format), RFC 3461 §6 (what a report holds), RFC 6522 (multipart/report), RFC 6533 (internationalised),
//! RFC 3834 §5 (Auto-Submitted), RFC 5321 §6.1 and §4.5.5 (null reverse-path), RFC 2045 and 2046 (MIME), RFC 5322 (fields).

mod clean;
mod lines;
mod notify;
mod original;
mod parameters;
mod report;
mod status;
mod text;
mod xtext;

pub use inrush_proto::client::EnhancedStatus;
pub use notify::{Decision, Event, Notify, decide};
pub use parameters::{write_mail_parameters, write_rcpt_parameters};
pub use report::build;

use std::borrow::Cow;

/// Most octets of a diagnostic or a reason that are repeated.
pub const DIAGNOSTIC_OCTETS_MAX: usize = 2048;
/// Most octets of an address that are repeated: RFC 5321 §4.5.3.1.1 and §4.5.3.1.2 allow 64 before the `@` and 255 behind it.
pub const ADDRESS_OCTETS_MAX: usize = 320;
/// Most recipients that the part for people names; the part for programs names all.
pub const TEXT_RECIPIENTS_MAX: usize = 100;

/// What became of a message for a recipient (RFC 3464 §2.3.3), and what a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is given up.
    Failed,
    /// It is tried again.
    Delayed,
    /// It lies in the mailbox.
    Delivered,
    /// It went to a host that will not report on it.
    Relayed,
}

/// RET of MAIL (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Return {
    /// Not given.
    #[default]
    Unspecified,
    /// `FULL`
    Full,
    /// `HDRS`
    Headers,
}

/// One recipient in a report.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Forward-path, without angle brackets, to which delivery was tried.
    pub path: &'a [u8],
    /// ORCPT as received: `addr-type;xtext` (RFC 3461 §4.2). Left out of the report when it is not that.
    pub orcpt: Option<&'a [u8]>,
    /// What became of it.
    pub action: Action,
    /// Why (RFC 3463): class 2 for delivered and relayed, 4 for delayed, 4 or 5 for failed.
    pub status: EnhancedStatus,
    /// The remote host's reply with its code, e.g. `550 5.1.1 no such user`; `None` when there was none.
    pub diagnostic: Option<&'a [u8]>,
    /// Name of the remote host; `None` when none was reached.
    pub remote_mta: Option<&'a [u8]>,
    /// Last attempt, µs since 1970; `None` when there was none.
    pub last_attempt_us: Option<u64>,
    /// Our own words on it, a sentence or two; may be empty.
    pub reason: &'a str,
}

/// The message that is reported on.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Header section with our trace header in front; the empty line behind it may be there or not.
    pub header_section: &'a [u8],
    /// Octets of the whole message, header section included.
    pub octets: u64,
    /// The message holds octets above 127.
    pub eight_bit: bool,
    /// The message holds NUL, a bare CR or LF, or a line over 998 octets: no part of a report may (RFC 2045 §2.7, §2.8).
    pub binary: bool,
}

/// All that a report is made of. Times are µs since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What the report is about: its subject, and whether the message may go back as a whole.
    pub kind: Action,
    /// Our host name.
    pub hostname: &'a str,
    /// Our id of the original message.
    pub message_id: &'a str,
    /// 128 random bits, drawn for this report after the message and all replies were received. The boundary is made of them.
    pub token: [u8; 16],
    /// When we accepted the message.
    pub arrived_us: u64,
    /// Date of the report.
    pub reported_us: u64,
    /// Until when a delayed message is tried, where that is known.
    pub will_retry_until_us: Option<u64>,
    /// Reverse-path of the original, without angle brackets: where the report goes.
    pub reverse_path: &'a [u8],
    /// ENVID as received, in xtext (RFC 3461 §4.4). Left out of the report when it is not that.
    pub envid: Option<&'a [u8]>,
    /// RET.
    pub ret: Return,
    /// The original came with SMTPUTF8.
    pub smtputf8: bool,
    /// The recipients to report on, at least one.
    pub recipients: &'a [Recipient<'a>],
    /// The original message.
    pub original: Original<'a>,
}

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest message, in octets, that goes back as a whole when RET=FULL asks for it. Reverse-paths are forged: what is sent to them
    /// should not be worth forging for.
    pub full_octets_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { full_octets_max: 64 * 1024 }
    }
}

/// A report, ready to be sent as `head`, what [`Returned`] says, `tail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn<'a> {
    /// Everything before the returned part.
    pub head: Vec<u8>,
    /// What goes in between.
    pub returned: Returned<'a>,
    /// Everything behind it.
    pub tail: Vec<u8>,
    /// The report has octets above 127: MAIL needs BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// A field of the report itself holds UTF-8: MAIL needs SMTPUTF8 (RFC 6531 §3.4).
    pub smtputf8: bool,
}

/// The part of the original that goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned<'a> {
    /// These lines: the header section without the empty line, mended where it was not made of lines.
    Headers(Cow<'a, [u8]>),
    /// The whole original message, [`Original::octets`] octets, unchanged.
    Full,
}

/// Why no report can be written. All are the caller's: such a report is never due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// RFC 5321 §6.1: nobody is told about a message with a null reverse-path.
    #[error("the reverse-path is null")]
    NullReversePath,
    /// No mail can be sent to this reverse-path.
    #[error("the reverse-path is no mailbox")]
    ReversePath,
    /// RFC 3464 §2.1: a report is about at least one recipient.
    #[error("no recipient to report on")]
    NoRecipients,
}
