//! The part for people: which recipients, why, in the remote host's own words, and what happens next.
//!
//! Lines of ours begin at the margin, everything from elsewhere is indented, so that nobody else can speak in our name.
//!
//! Standards: RFC 6522 §3 (first part).

use super::original::Extent;
use super::{
    ADDRESS_OCTETS_MAX, Action, DIAGNOSTIC_OCTETS_MAX, Recipient, Report, TEXT_RECIPIENTS_MAX, clean, lines,
    report, status,
};

/// Under an address.
const INDENT: &str = "      ";
/// The actions in the order of how much they matter.
const ACTIONS: [Action; 4] = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed];

/// The subject of a report.
pub(super) fn subject(kind: Action) -> &'static str {
    match kind {
        Action::Failed => "Your message could not be delivered",
        Action::Delayed => "Your message is delayed",
        Action::Delivered => "Your message was delivered",
        Action::Relayed => "Your message was passed on",
    }
}

/// Appends the text.
pub(super) fn write(out: &mut Vec<u8>, report: &Report<'_>, extent: Extent) {
    let hostname = clean::domain(report.hostname.as_bytes());
    lines::paragraph(
        out,
        "",
        &format!(
            "This is the mail system at {hostname}, about your message of {}.",
            report::date(report.arrived_us)
        ),
    );
    let mut room = TEXT_RECIPIENTS_MAX;
    for action in ACTIONS {
        let recipients = || report.recipients.iter().filter(|recipient| recipient.action == action);
        let count = recipients().count();
        if count == 0 {
            continue;
        }
        lines::line(out, "");
        lines::paragraph(out, "", &opening(action, count, report.will_retry_until_us));
        recipients().take(room).for_each(|recipient| write_recipient(out, recipient));
        if let Some(more @ 1..) = count.checked_sub(room) {
            lines::line(out, "");
            lines::paragraph(
                out,
                "",
                &format!("There are {more} more; the second part of this report has them all."),
            );
        }
        room = room.saturating_sub(count);
    }
    lines::line(out, "");
    lines::paragraph(out, "", &returned(report, extent));
    lines::line(out, "");
    let id = clean::id(report.message_id);
    lines::paragraph(out, "", &format!("If you need help, write to postmaster@{hostname} and quote {id}."));
}

/// What happened to the recipients that follow, and what happens next.
fn opening(action: Action, count: usize, will_retry_until_us: Option<u64>) -> String {
    let whom =
        if count == 1 { "the address below".to_owned() } else { format!("the {count} addresses below") };
    match (action, will_retry_until_us) {
        (Action::Failed, _) => format!(
            "Your message could not be delivered to {whom}. It will not be tried again: once the cause is gone, \
             please send it anew."
        ),
        (Action::Delayed, Some(until_us)) => format!(
            "Your message could not be delivered to {whom} yet. There is nothing for you to do: it is tried again until {}.",
            report::date(until_us)
        ),
        (Action::Delayed, None) => format!(
            "Your message could not be delivered to {whom} yet. There is nothing for you to do: it is tried again."
        ),
        (Action::Delivered, _) => {
            format!("Your message was delivered to {whom}. Whether it has been read is not known here.")
        }
        (Action::Relayed, _) => format!(
            "Your message was passed on for {whom}, to a mail system that does not confirm delivery. If all goes well, \
             you will hear no more of it."
        ),
    }
}

fn write_recipient(out: &mut Vec<u8>, recipient: &Recipient<'_>) {
    lines::line(out, "");
    lines::line(out, &format!("  <{}>", clean::address(recipient.path, ADDRESS_OCTETS_MAX)));
    let reason = clean::words(recipient.reason.as_bytes(), DIAGNOSTIC_OCTETS_MAX);
    lines::paragraph(out, INDENT, &reason);
    let diagnostic = recipient.diagnostic.map(|text| clean::words(text, DIAGNOSTIC_OCTETS_MAX));
    let diagnostic = diagnostic.unwrap_or_default();
    match (recipient.remote_mta.map(clean::domain), diagnostic.is_empty()) {
        (Some(name), false) => lines::paragraph(out, INDENT, &format!("{name} said: {diagnostic}")),
        (None, false) => lines::paragraph(out, INDENT, &format!("The answer was: {diagnostic}")),
        (Some(name), true) => lines::paragraph(out, INDENT, &format!("The mail system there is {name}.")),
        (None, true) if reason.is_empty() => {
            lines::paragraph(out, INDENT, &format!("The status is {}.", status::status(recipient)));
        }
        (None, true) => {}
    }
}

/// What is attached, and where it is less than was asked for, why.
fn returned(report: &Report<'_>, extent: Extent) -> String {
    match extent {
        Extent::Full => "Your message is attached.".to_owned(),
        Extent::Headers => "The header of your message is attached.".to_owned(),
        Extent::HeadersTooLarge => format!(
            "Only the header of your message is attached, since {} octets are too many to send back.",
            report.original.octets
        ),
        Extent::HeadersBinary => {
            "Only the header of your message is attached, since the rest is binary data that cannot be sent back."
                .to_owned()
        }
    }
}
