//! The part for programs: `message/delivery-status`, or `message/global-delivery-status`.
//!
//! ```text
//!   Original-Envelope-Id, Reporting-MTA, Arrival-Date                                    about the message
//!   (empty line)
//!   Original-Recipient, Final-Recipient, Action, Status, Remote-MTA, Diagnostic-Code,    about each recipient
//!   Last-Attempt-Date, Will-Retry-Until
//! ```
//! An address outside US-ASCII stands as it is in the global form, which only the sender of a message with SMTPUTF8 gets; in the other
//! form it is written in utf-8-addr-xtext, and `?` stands for such characters in a diagnostic.
//!
//! Standards: RFC 3464 §2.1–§2.3; RFC 3461 §6.3 (ENVID and ORCPT); RFC 6533 §3, §4.

use std::borrow::Cow;

use super::xtext::{self, OriginalRecipient};
use super::{ADDRESS_OCTETS_MAX, Action, DIAGNOSTIC_OCTETS_MAX, Recipient, Report, clean, lines, report};

/// True when the global form is due: an address needs it, and the sender can read it.
pub(super) fn is_global(report: &Report<'_>) -> bool {
    let needs = |recipient: &Recipient<'_>| {
        let original = recipient.orcpt.and_then(OriginalRecipient::decode);
        !clean::address(recipient.path, ADDRESS_OCTETS_MAX).is_ascii()
            || original.is_some_and(|original| !original.address.is_ascii())
    };
    report.smtputf8 && report.recipients.iter().any(needs)
}

/// Appends the fields.
pub(super) fn write(out: &mut Vec<u8>, report: &Report<'_>, global: bool) {
    // RFC 3464 §2.2.1, RFC 3461 §6.3: there when the sender gave one, decoded.
    if let Some(id) = report.envid.and_then(xtext::envelope_id) {
        lines::field(out, "Original-Envelope-Id", &id);
    }
    let hostname = clean::domain(report.hostname.as_bytes());
    lines::field(out, "Reporting-MTA", &format!("dns; {hostname}"));
    lines::field(out, "Arrival-Date", &report::date(report.arrived_us));
    for recipient in report.recipients {
        // RFC 3464 §2.1: an empty line stands before each block of fields.
        out.extend_from_slice(b"\r\n");
        write_recipient(out, recipient, report, global);
    }
}

fn write_recipient(out: &mut Vec<u8>, recipient: &Recipient<'_>, report: &Report<'_>, global: bool) {
    // RFC 3464 §2.3.1, RFC 3461 §6.3: there when the sender gave one, decoded.
    if let Some(original) = recipient.orcpt.and_then(OriginalRecipient::decode) {
        let address = utf8_address(&original.address, global || !original.is_utf8());
        lines::field(out, "Original-Recipient", &format!("{}; {address}", original.address_type));
    }
    let path = clean::address(recipient.path, ADDRESS_OCTETS_MAX);
    let final_recipient = if path.is_ascii() {
        format!("rfc822; {path}")
    } else {
        format!("utf-8; {}", utf8_address(&path, global))
    };
    lines::field(out, "Final-Recipient", &final_recipient);
    lines::field(out, "Action", action(recipient.action));
    lines::field(out, "Status", &status(recipient));
    if let Some(name) = recipient.remote_mta {
        lines::field(out, "Remote-MTA", &format!("dns; {}", clean::domain(name)));
    }
    if let Some(diagnostic) = recipient.diagnostic {
        let diagnostic = clean::words(diagnostic, DIAGNOSTIC_OCTETS_MAX);
        let diagnostic = if global { Cow::Borrowed(diagnostic.as_str()) } else { clean::ascii(&diagnostic) };
        if !diagnostic.is_empty() {
            lines::field(out, "Diagnostic-Code", &format!("smtp; {diagnostic}"));
        }
    }
    if let Some(at_us) = recipient.last_attempt_us {
        lines::field(out, "Last-Attempt-Date", &report::date(at_us));
    }
    // RFC 3464 §2.3.9: for delayed recipients only.
    if let (Action::Delayed, Some(until_us)) = (recipient.action, report.will_retry_until_us) {
        lines::field(out, "Will-Retry-Until", &report::date(until_us));
    }
}

/// RFC 6533 §3: an address of type `utf-8` as it is, or in the form that is US-ASCII.
fn utf8_address(address: &str, as_it_is: bool) -> Cow<'_, str> {
    if as_it_is { Cow::Borrowed(address) } else { Cow::Owned(xtext::encode_utf8(address)) }
}

/// RFC 3464 §2.3.3
fn action(action: Action) -> &'static str {
    match action {
        Action::Failed => "failed",
        Action::Delayed => "delayed",
        Action::Delivered => "delivered",
        Action::Relayed => "relayed",
    }
}

/// RFC 3464 §2.3.4, RFC 3463 §2: one digit, and twice up to three. A class that is none gives way to the action's.
pub(super) fn status(recipient: &Recipient<'_>) -> String {
    let status = recipient.status;
    let class = match (status.class, recipient.action) {
        (2 | 4 | 5, _) => status.class,
        (_, Action::Failed) => 5,
        (_, Action::Delayed) => 4,
        (_, Action::Delivered | Action::Relayed) => 2,
    };
    format!("{class}.{}.{}", status.subject.min(999), status.detail.min(999))
}
