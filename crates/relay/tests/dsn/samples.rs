//! Reports of each kind.

use inrush_relay::dsn::{
    Action, Dsn, EnhancedStatus, Original, Recipient, Report, Return, Returned, Settings, build,
};

/// 14 November 2023, 22:13:20 UTC.
pub(crate) const ARRIVED_US: u64 = 1_700_000_000_000_000;
const HOUR_US: u64 = 3_600_000_000;

const HEADER: &[u8] = b"Received: from client.one.example (client.one.example [192.0.2.1])\r\n\
    \tby mx1.example.com (inrush) with ESMTPS id 00010000000008001000\r\n\
    \tfor <bob@two.example>;\r\n\
    \tTue, 14 Nov 2023 22:13:20 +0000\r\n\
    From: Alice <alice@one.example>\r\n\
    To: bob@two.example\r\n\
    Subject: Lunch\r\n\
    Message-ID: <1@one.example>\r\n\
    \r\n";
const HEADER_UTF8: &str =
    "From: Żółw <żółw@one.example>\r\nTo: 用户@two.example\r\nSubject: Obiad 午饭\r\n\r\n";
pub(crate) const BODY: &[u8] = b"Shall we?\r\n--\r\nAlice\r\n";

const fn status(class: u8, subject: u16, detail: u16) -> EnhancedStatus {
    EnhancedStatus { class, subject, detail }
}

const BOB: Recipient<'_> = Recipient {
    path: b"bob@two.example",
    orcpt: Some(b"rfc822;bob+2Bwork@old.example"),
    action: Action::Failed,
    status: status(5, 1, 1),
    diagnostic: Some(b"550 5.1.1 <bob@two.example>: no such user here\nSee https://two.example/help for what you can do about it"),
    remote_mta: Some(b"mx.two.example"),
    last_attempt_us: Some(ARRIVED_US + 2_000_000),
    reason: "The mail system of two.example refused the address.",
};
const CAROL: Recipient<'_> = Recipient {
    path: b"\"carol c\"@three.example",
    orcpt: None,
    action: Action::Failed,
    status: status(4, 4, 7),
    diagnostic: None,
    remote_mta: None,
    last_attempt_us: Some(ARRIVED_US + 119 * HOUR_US),
    reason: "No mail system of three.example could be reached for five days.",
};
const DAVE: Recipient<'_> = Recipient {
    path: b"dave@four.example",
    orcpt: None,
    action: Action::Delayed,
    status: status(4, 2, 2),
    diagnostic: Some(b"452 4.2.2 mailbox full"),
    remote_mta: Some(b"[192.0.2.7]"),
    last_attempt_us: Some(ARRIVED_US + 3 * HOUR_US),
    reason: "",
};
const DELIVERED: Recipient<'_> = Recipient {
    path: b"erin@example.com",
    action: Action::Delivered,
    status: status(2, 1, 5),
    diagnostic: None,
    remote_mta: None,
    last_attempt_us: None,
    reason: "It lies in the mailbox.",
    ..BOB
};
const RELAYED: Recipient<'_> = Recipient {
    action: Action::Relayed,
    status: status(2, 1, 9),
    diagnostic: Some(b"250 2.0.0 queued as 4711"),
    reason: "",
    ..BOB
};
const UTF8: Recipient<'_> = Recipient {
    path: "用户@two.example".as_bytes(),
    orcpt: Some("utf-8;\\x{7528}\\x{6237}@old.example".as_bytes()),
    diagnostic: Some("550 5.1.1 没有这个用户".as_bytes()),
    ..BOB
};

const BASE: Report<'_> = Report {
    kind: Action::Failed,
    hostname: "mx1.example.com",
    message_id: "00010000000008001000",
    token: *b"0123456789abcdef",
    arrived_us: ARRIVED_US,
    reported_us: ARRIVED_US + 120 * HOUR_US,
    will_retry_until_us: None,
    reverse_path: b"alice@one.example",
    envid: Some(b"QQ314159+20a+3Db"),
    ret: Return::Unspecified,
    smtputf8: false,
    recipients: &[BOB, CAROL],
    original: Original { header_section: HEADER, octets: 338, eight_bit: false, binary: false },
};

/// Every kind of report, with the name of its golden file.
pub(crate) fn all() -> Vec<(&'static str, Report<'static>)> {
    let utf8 = Report {
        reverse_path: "żółw@one.example".as_bytes(),
        smtputf8: true,
        recipients: &[UTF8, BOB],
        original: Original {
            header_section: HEADER_UTF8.as_bytes(),
            octets: 0,
            eight_bit: true,
            binary: false,
        },
        ..BASE
    };
    vec![
        ("failed", BASE),
        ("failed_full", Report { ret: Return::Full, ..BASE }),
        (
            "failed_too_large",
            Report { ret: Return::Full, original: Original { octets: 5_000_000, ..BASE.original }, ..BASE },
        ),
        (
            "failed_binary",
            Report { ret: Return::Full, original: Original { binary: true, ..BASE.original }, ..BASE },
        ),
        (
            "delayed",
            Report {
                kind: Action::Delayed,
                will_retry_until_us: Some(ARRIVED_US + 120 * HOUR_US),
                reported_us: ARRIVED_US + 4 * HOUR_US,
                recipients: &[DAVE],
                ret: Return::Full,
                ..BASE
            },
        ),
        ("delivered", Report { kind: Action::Delivered, recipients: &[DELIVERED], envid: None, ..BASE }),
        ("relayed", Report { kind: Action::Relayed, recipients: &[RELAYED], envid: None, ..BASE }),
        ("mixed", Report { recipients: &[DELIVERED, DAVE, BOB], ret: Return::Headers, ..BASE }),
        ("utf8", utf8),
        ("utf8_full", Report { ret: Return::Full, ..utf8 }),
        // The addresses are the same, but the sender's system has not said that it can read them.
        ("utf8_for_ascii_reader", Report { smtputf8: false, reverse_path: BASE.reverse_path, ..utf8 }),
    ]
}

/// The whole message, put together as the caller does.
pub(crate) fn assemble(report: &Report<'_>, dsn: &Dsn<'_>) -> Vec<u8> {
    let full = [report.original.header_section, BODY].concat();
    let returned = match &dsn.returned {
        Returned::Headers(lines) => lines.as_ref(),
        Returned::Full => full.as_slice(),
    };
    [dsn.head.as_slice(), returned, dsn.tail.as_slice()].concat()
}

/// [`build`] and [`assemble`].
pub(crate) fn message(report: &Report<'_>) -> Vec<u8> {
    assemble(report, &build(report, &Settings::default()).unwrap())
}
