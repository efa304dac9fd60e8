//! What goes into a report comes out of another program's parser.

use std::collections::HashMap;

use inrush_relay::dsn::{Action, Report, ReportError, Settings, build};

use super::python::{self, Parsed, value};
use super::samples;

fn parsed() -> HashMap<&'static str, Parsed> {
    let (names, messages): (Vec<_>, Vec<_>) =
        samples::all().into_iter().map(|(name, report)| (name, samples::message(&report))).unzip();
    names.into_iter().zip(python::parse(messages)).collect()
}

#[test]
fn the_frame_is_the_same_for_all() {
    let reports: HashMap<_, _> = samples::all().into_iter().collect();
    for (name, parsed) in parsed() {
        let report = &reports[name];
        assert_eq!(parsed.defects, [""; 0], "{name}");
        let names: Vec<&str> = parsed.fields.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        assert_eq!(names, expected, "{name}");
        assert_eq!(parsed.field("From"), "Mail Delivery System <MAILER-DAEMON@mx1.example.com>");
        assert_eq!(parsed.to, [std::str::from_utf8(report.reverse_path).unwrap()]);
        assert_eq!(parsed.date * 1e6, report.reported_us as f64);
        // RFC 3834 §5
        assert_eq!(parsed.field("Auto-Submitted"), "auto-replied");
        assert_eq!(parsed.field("Message-ID"), "<00010000000008001000.3031323334353637@mx1.example.com>");
        // RFC 6522 §3
        assert_eq!(parsed.report_type, "delivery-status");
        assert_eq!(parsed.parts.len(), 3);
        // In the field, in front of three parts, and at the end.
        assert_eq!(parsed.boundaries, 5);
        assert_eq!(parsed.boundary, "=_30313233343536373839616263646566");
        // RFC 3464 §2.1: one block about the message, one for each recipient.
        assert_eq!(parsed.status.len(), 1 + report.recipients.len());
        assert!(parsed.text.contains("mx1.example.com") && parsed.text.contains("00010000000008001000"));
    }
}

/// RFC 3464 §2.2, §2.3; RFC 3461 §6.3
#[test]
fn failed() {
    let parsed = &parsed()["failed"];
    assert_eq!(parsed.field("Subject"), "Your message could not be delivered");
    let field = |block: usize, name| value(&parsed.status[block], name);
    assert_eq!(field(0, "Original-Envelope-Id"), Some("QQ314159 a=b"));
    assert_eq!(field(0, "Reporting-MTA"), Some("dns; mx1.example.com"));
    assert_eq!(field(0, "Arrival-Date"), Some("Tue, 14 Nov 2023 22:13:20 +0000"));
    assert_eq!(field(1, "Original-Recipient"), Some("rfc822; bob+work@old.example"));
    assert_eq!(field(1, "Final-Recipient"), Some("rfc822; bob@two.example"));
    assert_eq!(field(1, "Action"), Some("failed"));
    assert_eq!(field(1, "Status"), Some("5.1.1"));
    assert_eq!(field(1, "Remote-MTA"), Some("dns; mx.two.example"));
    assert_eq!(
        field(1, "Diagnostic-Code"),
        Some(
            "smtp; 550 5.1.1 <bob@two.example>: no such user here \
             See https://two.example/help for what you can do about it"
        )
    );
    assert_eq!(field(1, "Last-Attempt-Date"), Some("Tue, 14 Nov 2023 22:13:22 +0000"));
    assert_eq!(field(1, "Will-Retry-Until"), None);
    assert_eq!(field(2, "Original-Recipient"), None);
    assert_eq!(field(2, "Final-Recipient"), Some("rfc822; \"carol c\"@three.example"));
    assert_eq!(field(2, "Status"), Some("4.4.7"));
    assert_eq!((field(2, "Remote-MTA"), field(2, "Diagnostic-Code")), (None, None));
    let kinds: Vec<_> = parsed.parts.iter().map(|part| part.content_type.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    assert_eq!(parsed.parts[0].charset.as_deref(), Some("us-ascii"));
    assert!(parsed.parts.iter().all(|part| part.encoding == "7bit"));
    assert!(parsed.returned.starts_with("Received: from client.one.example"));
    assert!(parsed.returned.ends_with("Message-ID: <1@one.example>\r\n"));
}

/// RFC 3461 §4.3
#[test]
fn return_of_content() {
    let parsed = parsed();
    let third = |name: &str| parsed[name].parts[2].content_type.as_str();
    assert_eq!(third("failed_full"), "message/rfc822");
    assert!(parsed["failed_full"].returned.ends_with("\r\n\r\nShall we?\r\n--\r\nAlice\r\n"));
    for name in ["failed", "failed_too_large", "failed_binary", "delayed", "delivered", "relayed", "mixed"] {
        assert_eq!(third(name), "text/rfc822-headers", "{name}");
        assert!(!parsed[name].returned.contains("Shall we?"), "{name}");
    }
    assert!(parsed["failed_too_large"].text.contains("5000000 octets are too many"));
    assert!(parsed["failed_binary"].text.contains("binary data"));
}

#[test]
fn other_kinds() {
    let parsed = parsed();
    let field = |name: &str, block: usize, field| value(&parsed[name].status[block], field);
    assert_eq!(field("delayed", 1, "Action"), Some("delayed"));
    // RFC 3464 §2.3.9
    assert_eq!(field("delayed", 1, "Will-Retry-Until"), Some("Sun, 19 Nov 2023 22:13:20 +0000"));
    assert_eq!(field("delayed", 1, "Remote-MTA"), Some("dns; [192.0.2.7]"));
    assert!(parsed["delayed"].text.contains("until Sun, 19 Nov 2023 22:13:20"));
    assert_eq!(field("delivered", 1, "Action"), Some("delivered"));
    assert_eq!(field("delivered", 0, "Original-Envelope-Id"), None);
    assert_eq!(field("relayed", 1, "Action"), Some("relayed"));
    assert_eq!(field("relayed", 1, "Diagnostic-Code"), Some("smtp; 250 2.0.0 queued as 4711"));
    let actions: Vec<_> = (1..4).map(|block| field("mixed", block, "Action").unwrap()).collect();
    assert_eq!(actions, ["delivered", "delayed", "failed"]);
}

/// RFC 6533 §3, §4
#[test]
fn internationalised() {
    let parsed = parsed();
    for (name, third) in [("utf8", "message/global-headers"), ("utf8_full", "message/global")] {
        let report = &parsed[name];
        let field = |block: usize, name| value(&report.status[block], name);
        assert_eq!(field(1, "Original-Recipient"), Some("utf-8; 用户@old.example"));
        assert_eq!(field(1, "Final-Recipient"), Some("utf-8; 用户@two.example"));
        assert_eq!(field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 没有这个用户"));
        assert_eq!(field(2, "Final-Recipient"), Some("rfc822; bob@two.example"));
        assert_eq!(report.parts[1].content_type, "message/global-delivery-status");
        assert_eq!(report.parts[2].content_type, third);
        assert_eq!(report.parts[0].charset.as_deref(), Some("utf-8"));
        assert!(report.parts.iter().all(|part| part.encoding == "8bit"));
        assert_eq!(report.field("Content-Transfer-Encoding"), "8bit");
        assert!(report.text.contains("没有这个用户"));
    }
    let report = &parsed["utf8_for_ascii_reader"];
    let field = |block: usize, name| value(&report.status[block], name);
    assert_eq!(field(1, "Original-Recipient"), Some("utf-8; \\x{7528}\\x{6237}@old.example"));
    assert_eq!(field(1, "Final-Recipient"), Some("utf-8; \\x{7528}\\x{6237}@two.example"));
    assert_eq!(field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 ??????"));
    assert_eq!(report.parts[1].content_type, "message/delivery-status");
    assert_eq!(report.parts[1].encoding, "7bit");
    assert_eq!(report.parts[2].content_type, "text/rfc822-headers");
    assert_eq!(report.parts[2].charset.as_deref(), Some("utf-8"));
}

#[test]
fn what_mail_must_carry() {
    for (name, report) in samples::all() {
        let dsn = build(&report, &Settings::default()).unwrap();
        let message = samples::assemble(&report, &dsn);
        assert_eq!(dsn.eight_bit, !message.is_ascii(), "{name}");
        // RFC 6531 §3.4
        assert_eq!(dsn.smtputf8, !report.reverse_path.is_ascii(), "{name}");
    }
}

/// RFC 5321 §6.1, RFC 3464 §2.1
#[test]
fn reports_that_are_never_due() {
    let (_, report) = samples::all().remove(0);
    let error = |report: &Report<'_>| build(report, &Settings::default()).unwrap_err();
    assert_eq!(error(&Report { reverse_path: b"", ..report }), ReportError::NullReversePath);
    assert_eq!(error(&Report { recipients: &[], ..report }), ReportError::NoRecipients);
    for bad in [&b"alice"[..], b"a@b\r\nBcc: c@d", b"a@b, c@d", b"a@b>", b"\xff@b", "a\u{85}b@c".as_bytes()] {
        assert_eq!(error(&Report { reverse_path: bad, ..report }), ReportError::ReversePath);
    }
}

/// RFC 3461 §4.3: the kind and the actions must both speak of failure.
#[test]
fn only_a_failure_returns_the_message() {
    let kinds = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed];
    let all: Vec<_> = samples::all()
        .into_iter()
        .flat_map(|(name, report)| kinds.map(|kind| (name, Report { kind, ..report })))
        .collect();
    let parsed = python::parse(all.iter().map(|(_, report)| samples::message(report)).collect());
    for ((name, report), parsed) in all.iter().zip(parsed) {
        let third = parsed.parts[2].content_type.as_str();
        let is_full = third == "message/rfc822" || third == "message/global";
        assert_eq!(
            is_full,
            report.kind == Action::Failed && name.ends_with("_full"),
            "{name}: {:?}",
            report.kind
        );
    }
}

/// A thousand recipients are named to programs, and a hundred of them to people.
#[test]
fn many_recipients() {
    let (_, report) = samples::all().remove(0);
    let recipients = report.recipients.repeat(500);
    let report = Report { recipients: &recipients, ..report };
    let parsed = python::parse(vec![samples::message(&report)]).remove(0);
    assert_eq!(parsed.status.len(), 1001);
    assert_eq!(parsed.text.matches("<bob@two.example>\r\n").count(), 50);
    assert!(parsed.text.contains("There are 900 more"));
}
