//! The report as a message: its own fields, the parts, the boundary between them.
//!
//! Standards: RFC 3461 §6.2 (fields); RFC 6522 §3 (order of the parts); RFC 2046 §5.1.1 (boundary); RFC 2045 §6.1 and §6.4
//! (Content-Transfer-Encoding, of a multipart as well); RFC 3834 §5 (Auto-Submitted); RFC 5322 §3.3 (dates), §3.6.4 (Message-ID).

use std::fmt::Write as _;

use inrush_proto::Path;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use super::original::{self, Extent};
use super::{Dsn, Report, ReportError, Returned, Settings, clean, lines, status, text};

/// Writes a report.
///
/// # Errors
/// [`ReportError`], for a report that is never due.
pub fn build<'a>(report: &Report<'a>, settings: &Settings) -> Result<Dsn<'a>, ReportError> {
    let to = recipient(report)?;
    if report.recipients.is_empty() {
        return Err(ReportError::NoRecipients);
    }
    let extent = original::extent(report, settings);
    let mut notification = Vec::new();
    text::write(&mut notification, report, extent);
    let is_text_eight_bit = !notification.is_ascii();
    let is_global = status::is_global(report);
    let third = original::label(&report.original, extent, report.smtputf8);
    // RFC 2045 §6.4: a multipart is what the widest of its parts is.
    let eight_bit = is_text_eight_bit || is_global || third.eight_bit;

    let boundary = Boundary::new(report.token);
    let mut head = Vec::with_capacity(2048 + notification.len() + report.recipients.len() * 512);
    write_fields(&mut head, report, to, &boundary);
    lines::field(&mut head, "Content-Transfer-Encoding", encoding(eight_bit));

    let charset =
        if is_text_eight_bit { "text/plain; charset=utf-8" } else { "text/plain; charset=us-ascii" };
    boundary.open(&mut head, charset, is_text_eight_bit);
    head.extend_from_slice(&notification);

    let kind = if is_global { "message/global-delivery-status" } else { "message/delivery-status" };
    boundary.open(&mut head, kind, is_global);
    status::write(&mut head, report, is_global);

    boundary.open(&mut head, third.content_type, third.eight_bit);
    let returned = match extent {
        Extent::Full => Returned::Full,
        Extent::Headers | Extent::HeadersTooLarge | Extent::HeadersBinary => {
            Returned::Headers(original::header_lines(report.original.header_section))
        }
    };
    Ok(Dsn { head, returned, tail: boundary.close(), eight_bit, smtputf8: !to.is_ascii() })
}

/// A time in UTC (RFC 5322 §3.3); one that is out of range gives way to the last that is not, in the year 9999.
pub(super) fn date(at_us: u64) -> String {
    let at = i64::try_from(at_us).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    let at = at.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC);
    // Only a year before 0 has no text, and there is none after 1970.
    rfc2822::to_string(&at).unwrap_or_default()
}

/// The mailbox that the report goes to. Parsed again, since it becomes part of a field with a grammar.
fn recipient<'a>(report: &Report<'a>) -> Result<&'a str, ReportError> {
    let path = std::str::from_utf8(report.reverse_path).map_err(|_| ReportError::ReversePath)?;
    if path.is_empty() {
        return Err(ReportError::NullReversePath);
    }
    let mailbox = Path::mailbox(path).map_err(|_| ReportError::ReversePath)?.as_str();
    // The grammar takes any UTF-8 (RFC 6531 §3.3), C1 controls included.
    if mailbox == clean::address(mailbox.as_bytes(), usize::MAX) {
        Ok(mailbox)
    } else {
        Err(ReportError::ReversePath)
    }
}

fn write_fields(out: &mut Vec<u8>, report: &Report<'_>, to: &str, boundary: &Boundary) {
    let hostname = clean::domain(report.hostname.as_bytes());
    let id = clean::id(report.message_id);
    lines::field(out, "From", &format!("\"Mail Delivery System\" <MAILER-DAEMON@{hostname}>"));
    // RFC 3461 §6.2: the address of the envelope.
    lines::field(out, "To", &format!("<{to}>"));
    lines::field(out, "Subject", text::subject(report.kind));
    lines::field(out, "Date", &date(report.reported_us));
    // A message may be reported on more than once: half of the token keeps the reports apart.
    let token: String = boundary.token.chars().take(16).collect();
    lines::field(out, "Message-ID", &format!("<{id}.{token}@{hostname}>"));
    // RFC 3834 §5: whoever answers mail on his own does not answer this.
    lines::field(out, "Auto-Submitted", "auto-replied");
    lines::field(out, "MIME-Version", "1.0");
    let content_type =
        format!("multipart/report; report-type=delivery-status; boundary=\"{}\"", boundary.text());
    lines::field(out, "Content-Type", &content_type);
}

/// RFC 2045 §6.2
fn encoding(eight_bit: bool) -> &'static str {
    if eight_bit { "8bit" } else { "7bit" }
}

/// What stands between the parts: `=_` and 32 hexadecimal digits.
///
/// It must occur in no part. The parts are not searched for it: whoever wrote them would have had to guess 128 bits that were drawn
/// later. `=_` never stands in base64 or quoted-printable besides (RFC 2045 §6.7).
struct Boundary {
    token: String,
}

impl Boundary {
    fn new(token: [u8; 16]) -> Self {
        let mut digits = String::with_capacity(2 * token.len());
        for octet in token {
            let written = write!(digits, "{octet:02x}");
            debug_assert!(written.is_ok(), "writing into a String does not fail");
        }
        Self { token: digits }
    }

    fn text(&self) -> String {
        format!("=_{}", self.token)
    }

    /// The end of the part or of the fields before, and the fields of a new one.
    fn open(&self, out: &mut Vec<u8>, content_type: &str, eight_bit: bool) {
        lines::line(out, "");
        lines::line(out, &format!("--{}", self.text()));
        lines::field(out, "Content-Type", content_type);
        lines::field(out, "Content-Transfer-Encoding", encoding(eight_bit));
        lines::line(out, "");
    }

    /// The end of the last part. The line end in front is the boundary's own: whatever the part ends with, it is a new line.
    fn close(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.text()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5322 §3.3
    #[test]
    fn dates() {
        assert_eq!(date(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(date(1_700_000_000_123_456), "Tue, 14 Nov 2023 22:13:20 +0000");
        for at_us in [i64::MAX.unsigned_abs(), u64::MAX] {
            assert!(
                date(at_us).ends_with(" 9999 22:00:00 +0000") && date(at_us).starts_with("Thu, 30 Dec"),
                "{}",
                date(at_us)
            );
        }
    }
}
