//! Input of the worst kind in every text of a report: its structure stays what the data say.

use std::iter;

use inrush_relay::dsn::{
    Action, EnhancedStatus, Notify, Original, Recipient, Report, Return, Returned, Settings, build,
    write_mail_parameters, write_rcpt_parameters,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::python::{self, Parsed};
use super::samples;

/// Stands in hostile text only.
const MARK: &str = "EVIL";
/// The boundary of every report here; in truth nobody could know it in time.
const BOUNDARY: &str = "=_41414141414141414141414141414141";
const TOKEN: [u8; 16] = [b'A'; 16];

const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b"\x0b\x0c\x1b[2J\x7f",
    b"\xff\xfe",
    b"\xc3",
    "\u{85}\u{2028}\u{2029}".as_bytes(),
    "\u{202e}\u{feff}".as_bytes(),
    "用户@例え.example".as_bytes(),
    b" ",
    b"\t \t",
    b"          ",
    b"\r\n EVIL",
    b"\r\nBcc: EVIL@one.example",
    b"\r\n\r\nFinal-Recipient: rfc822; EVIL@one.example\r\nAction: delivered",
    b"--=_41414141414141414141414141414141",
    b"\r\n--=_41414141414141414141414141414141\r\nContent-Type: text/html\r\n\r\nEVIL",
    b"\r\n--=_41414141414141414141414141414141--\r\n",
    b"=?utf-8?q?=0D=0AEVIL?=",
    b"a@one.example>, <EVIL@one.example",
    b"rfc822;EVIL+0D+0A\\x{0A}(\"",
];

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => (0..PIECES.len()).prop_map(|at| PIECES[at].to_vec()),
        2 => vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 1..5000_usize).prop_map(|(octet, count)| vec![octet; count]),
        1 => (1..2000_usize).prop_map(|count| "ü".repeat(count).into_bytes()),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// What the operator chose, or what we made: odd, but without the mark.
fn odd() -> impl Strategy<Value = String> {
    prop_oneof![Just("mx1.example.com".to_owned()), "[a-f.\r\n<>@\"();:=\\-ü\u{0} ]{0,300}"]
}

#[derive(Clone, Debug)]
struct CaseRecipient {
    path: Vec<u8>,
    orcpt: Option<Vec<u8>>,
    action: Action,
    status: EnhancedStatus,
    diagnostic: Option<Vec<u8>>,
    remote_mta: Option<Vec<u8>>,
    last_attempt_us: Option<u64>,
    reason: String,
}

#[derive(Clone, Debug)]
struct Case {
    kind: Action,
    hostname: String,
    message_id: String,
    times: [u64; 2],
    will_retry_until_us: Option<u64>,
    reverse_path: String,
    envid: Option<Vec<u8>>,
    ret: Return,
    smtputf8: bool,
    recipients: Vec<CaseRecipient>,
    header_section: Vec<u8>,
}

fn actions() -> impl Strategy<Value = Action> {
    (0..4_usize).prop_map(|at| [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed][at])
}

/// ORCPT: anything, or something that can be decoded.
fn orcpts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        hostile(),
        hostile().prop_map(|text| [b"utf-8;", text.as_slice()].concat()),
        "(rfc822|utf-8|x400);[a-z@.+=\\\\x{}0-9A-F用]{1,40}".prop_map(String::into_bytes),
        Just("utf-8;用+2Bx\\x{7528}@old.example".as_bytes().to_vec()),
    ]
}

fn recipients() -> impl Strategy<Value = CaseRecipient> {
    let status = (any::<u8>(), any::<u16>(), any::<u16>());
    let reason = hostile().prop_map(|text| String::from_utf8_lossy(&text).into_owned());
    (
        hostile(),
        option::of(orcpts()),
        actions(),
        status,
        option::of(hostile()),
        option::of(hostile()),
        option::of(any::<u64>()),
        reason,
    )
        .prop_map(
            |(
                path,
                orcpt,
                action,
                (class, subject, detail),
                diagnostic,
                remote_mta,
                last_attempt_us,
                reason,
            )| {
                let status = EnhancedStatus { class, subject, detail };
                CaseRecipient { path, orcpt, action, status, diagnostic, remote_mta, last_attempt_us, reason }
            },
        )
}

fn cases() -> impl Strategy<Value = Case> {
    let reverse_path = (0..3_usize)
        .prop_map(|at| ["alice@one.example", "\"a, <b>: c\"@one.example", "żółw@one.example"][at].to_owned());
    // The boundary is unknown to whoever writes a message: only here may it not be used.
    let header = hostile()
        .prop_map(|text| String::from_utf8_lossy(&text).contains(BOUNDARY).then(Vec::new).unwrap_or(text));
    (
        (actions(), odd(), odd(), any::<[u64; 2]>(), option::of(any::<u64>()), reverse_path),
        (
            option::of(prop_oneof![hostile(), "[a-z+0-9A-F]{0,110}".prop_map(String::into_bytes)]),
            (0..3_usize).prop_map(|at| [Return::Unspecified, Return::Full, Return::Headers][at]),
            any::<bool>(),
            vec(recipients(), 1..4),
            header,
        ),
    )
        .prop_map(
            |(
                (kind, hostname, message_id, times, will_retry_until_us, reverse_path),
                (envid, ret, smtputf8, recipients, header_section),
            )| Case {
                kind,
                hostname,
                message_id,
                times,
                will_retry_until_us,
                reverse_path,
                envid,
                ret,
                smtputf8,
                recipients,
                header_section,
            },
        )
}

fn recipient(case: &CaseRecipient) -> Recipient<'_> {
    Recipient {
        path: &case.path,
        orcpt: case.orcpt.as_deref(),
        action: case.action,
        status: case.status,
        diagnostic: case.diagnostic.as_deref(),
        remote_mta: case.remote_mta.as_deref(),
        last_attempt_us: case.last_attempt_us,
        reason: &case.reason,
    }
}

/// The report of a case, given to `check` together with its octets and whether the whole message is in it.
fn with_report<T>(case: &Case, check: impl FnOnce(&Report<'_>, &[u8], bool) -> T) -> T {
    let recipients: Vec<Recipient<'_>> = case.recipients.iter().map(recipient).collect();
    let report = Report {
        kind: case.kind,
        hostname: &case.hostname,
        message_id: &case.message_id,
        token: TOKEN,
        arrived_us: case.times[0],
        reported_us: case.times[1],
        will_retry_until_us: case.will_retry_until_us,
        reverse_path: case.reverse_path.as_bytes(),
        envid: case.envid.as_deref(),
        ret: case.ret,
        smtputf8: case.smtputf8,
        recipients: &recipients,
        original: Original {
            header_section: &case.header_section,
            octets: 4000,
            eight_bit: !case.header_section.is_ascii(),
            binary: !is_lines(&case.header_section),
        },
    };
    let dsn = build(&report, &Settings::default()).unwrap();
    assert_eq!(dsn.smtputf8, !case.reverse_path.is_ascii());
    let message = samples::assemble(&report, &dsn);
    assert_eq!(dsn.eight_bit, message.split(|&octet| octet == b'\n').skip(9).any(|line| !line.is_ascii()));
    check(&report, &message, dsn.returned == Returned::Full)
}

/// Naively: CRLF everywhere, no other CR, LF or NUL, lines of at most 998 octets.
fn is_lines(text: &[u8]) -> bool {
    let Some(text) = text.strip_suffix(b"\r\n") else { return text.is_empty() };
    let mut lines = vec![Vec::new()];
    let mut octets = text.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' if octets.next_if_eq(&b'\n').is_some() => lines.push(Vec::new()),
            b'\r' | b'\n' | 0 => return false,
            _ => lines.last_mut().unwrap().push(octet),
        }
    }
    lines.iter().all(|line| line.len() <= 998)
}

const FRAME: [&str; 9] = [
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
/// In this order; each at most once.
const ABOUT_MESSAGE: [&str; 3] = ["Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"];
const ABOUT_RECIPIENT: [&str; 8] = [
    "Original-Recipient",
    "Final-Recipient",
    "Action",
    "Status",
    "Remote-MTA",
    "Diagnostic-Code",
    "Last-Attempt-Date",
    "Will-Retry-Until",
];

/// The names of the fields in a block; lines that go on with a field count as part of it.
fn names<'b>(block: &[&'b [u8]]) -> Vec<&'b str> {
    let starts = block.iter().filter(|line| !line.starts_with(b" "));
    starts
        .map(|line| std::str::from_utf8(line.split(|&octet| octet == b':').next().unwrap()).unwrap())
        .collect()
}

/// Whether `found` is a selection of `allowed` that keeps its order, with all of `required`.
fn is_selection(found: &[&str], allowed: &[&str], required: &[&str]) -> bool {
    let mut rest = allowed.iter();
    found.iter().all(|name| rest.any(|other| other == name))
        && required.iter().all(|name| found.contains(name))
}

fn check_structure(report: &Report<'_>, message: &[u8], full: bool) {
    assert!(is_lines(message), "{}", message.escape_ascii());
    let lines: Vec<&[u8]> = message
        .strip_suffix(b"\r\n")
        .unwrap()
        .split(|&octet| octet == b'\n')
        .map(|l| l.strip_suffix(b"\r").unwrap_or(l))
        .collect();
    let opening = format!("--{BOUNDARY}").into_bytes();
    let closing = format!("--{BOUNDARY}--").into_bytes();
    assert_eq!(lines.last(), Some(&closing.as_slice()));
    let sections: Vec<&[&[u8]]> = lines[..lines.len() - 1].split(|line| *line == opening).collect();
    assert_eq!(sections.len(), 4, "the fields and three parts");
    assert!(!lines[..lines.len() - 1].contains(&closing.as_slice()));

    let frame = sections[0];
    assert_eq!(frame.iter().position(|line| line.is_empty()), Some(frame.len() - 1));
    assert_eq!(names(&frame[..frame.len() - 1]), FRAME);

    let bodies: Vec<&[&[u8]]> = sections[1..]
        .iter()
        .map(|part| {
            assert_eq!(names(&part[..2]), ["Content-Type", "Content-Transfer-Encoding"]);
            assert!(part[2].is_empty());
            let is_ascii = part[3..].iter().all(|line| line.is_ascii());
            // A message with fields of US-ASCII and a body of 8 bits does not occur here.
            let encoding: &[u8] = if is_ascii {
                b"Content-Transfer-Encoding: 7bit"
            } else {
                b"Content-Transfer-Encoding: 8bit"
            };
            let is_global = part[0].starts_with(b"Content-Type: message/global-delivery-status");
            assert!(is_global || part[1] == encoding, "{}", message.escape_ascii());
            &part[3..]
        })
        .collect();

    // Nobody else speaks at the margin.
    let at_margin = bodies[0].iter().filter(|line| !line.starts_with(b" "));
    assert!(at_margin.clone().all(|line| !String::from_utf8_lossy(line).contains(MARK)));
    assert!(bodies[0].iter().all(|line| std::str::from_utf8(line).is_ok()));

    let mut blocks: Vec<&[&[u8]]> = bodies[1].split(|line| line.is_empty()).collect();
    // Behind the last field stands the line end that belongs to the boundary.
    assert_eq!(blocks.pop(), Some(&[][..]));
    assert_eq!(blocks.len(), 1 + report.recipients.len());
    assert!(is_selection(&names(blocks[0]), &ABOUT_MESSAGE, &ABOUT_MESSAGE[1..]));
    for (block, recipient) in iter::zip(&blocks[1..], report.recipients) {
        assert!(is_selection(&names(block), &ABOUT_RECIPIENT, &["Final-Recipient", "Action", "Status"]));
        assert!(block.iter().all(|line| !line.iter().all(|octet| *octet == b' ')), "a line of spaces");
        let retry = names(block).contains(&"Will-Retry-Until");
        assert_eq!(retry, recipient.action == Action::Delayed && report.will_retry_until_us.is_some());
    }
    assert!(!full || report.ret == Return::Full && report.kind == Action::Failed && !report.original.binary);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_structure_is_ours(case in cases()) {
        with_report(&case, check_structure);
    }

    /// RFC 3461 §4: a parameter is one word of printable US-ASCII, of UTF-8 only under SMTPUTF8.
    #[test]
    fn parameters_are_words(
        bits in any::<u8>(),
        orcpt in option::of(orcpts()),
        envid in option::of(hostile()),
        smtputf8 in any::<bool>(),
    ) {
        let mut rcpt = Vec::new();
        write_rcpt_parameters(&mut rcpt, Notify::from_bits(bits), orcpt.as_deref(), smtputf8);
        let mut mail = Vec::new();
        write_mail_parameters(&mut mail, Return::Full, envid.as_deref());
        for (parameters, utf8) in [(rcpt, smtputf8), (mail, false)] {
            let text = String::from_utf8(parameters).unwrap();
            let is_word = |word: &str| {
                !word.is_empty() && word.matches('=').count() == 1
                    && word.chars().all(|c| c.is_ascii_graphic() || utf8 && !c.is_ascii() && !c.is_control())
            };
            prop_assert!(text.is_empty() || text.split(' ').all(is_word), "{:?}", text);
            prop_assert!(text.split(' ').count() <= 2);
        }
    }
}

/// The same through a parser that was not written for this.
#[test]
fn another_parser_sees_the_same_structure() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..400).map(|_| cases().new_tree(&mut runner).unwrap().current()).collect();
    let messages = cases.iter().map(|case| with_report(case, |_, message, _| message.to_vec())).collect();
    for (case, parsed) in iter::zip(&cases, python::parse(messages)) {
        check_parsed(case, &parsed);
    }
}

fn check_parsed(case: &Case, parsed: &Parsed) {
    let names: Vec<&str> = parsed.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, FRAME);
    assert_eq!(parsed.to, [case.reverse_path.as_str()]);
    assert_eq!(parsed.boundary, BOUNDARY);
    assert_eq!(parsed.parts.len(), 3);
    assert!(parsed.parts.iter().all(|part| part.fields == 2));
    assert_eq!(parsed.status.len(), 1 + case.recipients.len());
    let names_of =
        |block: &[(String, String)]| block.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for (at, block) in parsed.status.iter().enumerate() {
        let names = names_of(block);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let allowed = if at == 0 { &ABOUT_MESSAGE[..] } else { &ABOUT_RECIPIENT[..] };
        assert!(is_selection(&names, allowed, &[]), "{names:?}");
    }
}
