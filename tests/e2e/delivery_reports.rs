//! What senders are told: who is told what, in which form, how often, and where it ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use inrush_tests::peer::{Answer, Message, Peer, Script, Stage, When};
use inrush_tests::postfix::free_port;
use inrush_tests::process;
use inrush_tests::server::Server;

use crate::delivery::{
    Between, Report, SENDER, domain, outcome, outcomes, route, send, send_chunk, settings, simple, text,
};

const REFUSED: &str = "550 5.1.1 no such user";

fn refuses() -> Script {
    Script::smtp().on(When::at(Stage::Recipient).address("gone*"), Answer::reply(REFUSED))
}

fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Nothing has come for the sender, and another message has, that was sent behind.
#[track_caller]
fn nothing_was_told(between: &Between) {
    simple(&between.server, "behind", &["gone-behind@example.com"]);
    let came = between.reports.wait_for(1);
    assert_eq!(came.len(), 1);
    assert!(Report::read(&came[0].octets).of_recipient("gone-behind@example.com", "action") == "failed");
}

#[track_caller]
fn is_from_nobody(message: &Message) {
    // RFC 3464 §2, RFC 3461 §6.1: nobody answers it, and nobody reports on it.
    assert_eq!(message.reverse_path.address, "");
    assert_eq!(message.accepted(), [SENDER]);
    assert!(message.recipients[0].path.parameters.contains(&"NOTIFY=NEVER".to_owned()), "{message:?}");
    assert!(!message.reverse_path.parameters.iter().any(|one| one.starts_with("RET=")), "{message:?}");
}

#[test]
fn a_bounce() {
    let between = Between::start(refuses());
    let mail = format!("<{SENDER}> ENVID=QQ314159");
    let recipients =
        ["<gone@example.com> ORCPT=rfc822;old@example.com", "<b@example.com>", "<gone2@example.com>"];
    let id = send(&between.server, &mail, &recipients, &text("bounced"));
    let message = between.reports.wait_for(1).remove(0);
    is_from_nobody(&message);
    let report = Report::read(&message.octets);
    assert_eq!(report.field("to").trim_matches(['<', '>']), SENDER);
    assert!(report.field("from").contains("MAILER-DAEMON@mx.test.example"), "{}", report.field("from"));
    assert!(report.field("subject").contains("could not be delivered"));
    // RFC 3834 §5, RFC 5322 §3.6.
    assert!(report.field("auto-submitted").starts_with("auto-"));
    assert!(!report.field("date").is_empty() && report.field("message-id").ends_with("@mx.test.example>"));
    assert_eq!(report.of_message("reporting-mta").replace(' ', ""), "dns;mx.test.example");
    assert_eq!(report.of_message("original-envelope-id"), "QQ314159");
    assert!(!report.of_message("arrival-date").is_empty());
    assert_eq!(report.recipients(), 2);
    let of = |name| report.of_recipient("gone@example.com", name);
    assert_eq!((of("action"), of("status")), ("failed", "5.1.1"));
    assert_eq!(of("original-recipient").replace(' ', ""), "rfc822;old@example.com");
    assert_eq!(of("diagnostic-code").replace("; ", ";"), format!("smtp;{REFUSED}"));
    assert!(of("remote-mta").contains("127.0.0.1"), "{}", of("remote-mta"));
    assert!(!of("last-attempt-date").is_empty());
    assert_eq!(report.of_recipient("gone2@example.com", "original-recipient"), "");
    assert!(report.words().contains("gone@example.com") && report.words().contains("no such user"));
    let (kind, back) = report.returned();
    assert_eq!(kind, "text/rfc822-headers");
    assert!(back.contains("Subject: bounced") && !back.contains("hello"), "{back}");
    assert!(back.contains("Received: from client.test.example") && back.contains(&id), "{back}");
    // In the trace of the report itself, who has made it.
    assert!(message.octets.starts_with(b"Received: "), "{}", String::from_utf8_lossy(&message.octets));
    assert_eq!(between.reports.messages().len(), 1);
}

#[test]
fn the_whole_message_goes_back_to_those_who_ask() {
    let between = Between::start(refuses());
    let body = b"From: <a@b.example>\r\nSubject: whole\r\n\r\n.dot\r\n--=_fake\r\n\r\nlast\r\n";
    send(&between.server, &format!("<{SENDER}> RET=FULL"), &["<gone@example.com>"], body);
    let report = between.report();
    let (kind, back) = report.returned();
    assert_eq!(kind, "message/rfc822");
    assert!(back.replace("\r\n", "\n").ends_with(".dot\n--=_fake\n\nlast\n"), "{back:?}");
    let octets = between.reports.messages().remove(0).octets;
    assert!(octets.windows(body.len()).any(|window| window == body), "{}", String::from_utf8_lossy(&octets));
}

#[test]
fn only_the_header_goes_back_to_those_who_ask() {
    let between = Between::start(refuses());
    send(&between.server, &format!("<{SENDER}> RET=HDRS"), &["<gone@example.com>"], &text("headers"));
    let report = between.report();
    assert_eq!(report.returned().0, "text/rfc822-headers");
    assert!(!report.returned().1.contains("hello"));
}

/// Reverse-paths are forged: large bodies and binary ones do not go back.
#[test]
fn what_is_large_or_binary_does_not_go_back() {
    let between = Between::start(refuses());
    let mail = format!("<{SENDER}> RET=FULL");
    let large =
        [&text("large")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(30_000)].concat();
    send(&between.server, &mail, &["<gone@example.com>"], &large);
    let report = between.report();
    assert_eq!(report.returned().0, "text/rfc822-headers");
    assert!(report.returned().1.contains("Subject: large"));
    send_chunk(&between.server, &mail, &["<gone@example.com>"], b"Subject: binary\r\n\r\na\nb\0c\r\n");
    let report = Report::read(&between.reports.wait_for(2)[1].octets);
    assert_eq!(report.returned().0, "text/rfc822-headers");
}

#[test]
fn eight_bit_mail_goes_back() {
    let between = Between::start(refuses());
    let body = "From: <a@b.example>\r\nSubject: bits\r\n\r\nbär\r\n".as_bytes();
    send(&between.server, &format!("<{SENDER}> BODY=8BITMIME RET=FULL"), &["<gone@example.com>"], body);
    let message = between.reports.wait_for(1).remove(0);
    assert!(message.reverse_path.parameters.contains(&"BODY=8BITMIME".to_owned()), "{message:?}");
    assert!(Report::read(&message.octets).returned().1.contains("bär"));
}

/// RFC 5321 §6.1.
#[test]
fn nobody_is_told_about_mail_from_nobody() {
    let between = Between::start(refuses());
    let id = send(&between.server, "<>", &["<gone@example.com>"], &text("null"));
    outcome(&between.server, &id, "gone@example.com", "bounced");
    nothing_was_told(&between);
}

#[test]
fn who_never_wants_to_hear_does_not() {
    let between = Between::start(refuses());
    for notify in ["NEVER", "SUCCESS", "DELAY"] {
        let recipient = format!("<gone@example.com> NOTIFY={notify}");
        let id = send(&between.server, &format!("<{SENDER}>"), &[&recipient], &text("never"));
        outcome(&between.server, &id, "gone@example.com", "bounced");
    }
    nothing_was_told(&between);
}

/// RFC 3461 §5.2.2: the last that can be said, by a host that does not report itself.
#[test]
fn passed_on_to_a_host_without_dsn() {
    let between = Between::start(Script::smtp().extensions(&["8BITMIME"]));
    let recipients = ["<b@example.com> NOTIFY=SUCCESS,FAILURE", "<c@example.com>"];
    send(&between.server, &format!("<{SENDER}> ENVID=e1"), &recipients, &text("relayed"));
    let message = between.reports.wait_for(1).remove(0);
    is_from_nobody(&message);
    let report = Report::read(&message.octets);
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("b@example.com", "action"), "relayed");
    assert!(report.of_recipient("b@example.com", "status").starts_with("2."));
    assert_eq!(report.of_message("original-envelope-id"), "e1");
    // RFC 3461 §4.3: RET counts for failures only.
    assert_eq!(report.returned().0, "text/rfc822-headers");
}

#[test]
fn a_host_with_dsn_reports_itself() {
    let between = Between::start(refuses());
    let id = send(&between.server, &format!("<{SENDER}>"), &["<b@example.com> NOTIFY=SUCCESS"], &text("dsn"));
    outcome(&between.server, &id, "b@example.com", "sent");
    nothing_was_told(&between);
}

#[test]
fn a_delay_is_told_once() {
    let script = Script::smtp().on(Stage::Recipient, Answer::reply("450 4.7.1 come back"));
    let queue = "[queue]\nretry_first = \"100ms\"\nretry_max = \"500ms\"\ndelay_warning_after = \"2s\"\n";
    let between = Between::with(script, "", queue);
    let recipients = ["<b@example.com>", "<c@example.com> NOTIFY=FAILURE", "<d@example.com> NOTIFY=NEVER"];
    let id = send(&between.server, &format!("<{SENDER}>"), &recipients, &text("late"));
    let message = between.reports.wait_for(1).remove(0);
    is_from_nobody(&message);
    let report = Report::read(&message.octets);
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("b@example.com", "action"), "delayed");
    assert_eq!(report.of_recipient("b@example.com", "status"), "4.7.1");
    assert!(!report.of_recipient("b@example.com", "will-retry-until").is_empty());
    assert!(report.of_recipient("b@example.com", "diagnostic-code").contains("come back"));
    // It is tried a few times more, and delivered.
    let attempts = outcomes(&between.server, &id, "b@example.com").len();
    process::eventually("a few more attempts", || {
        outcomes(&between.server, &id, "b@example.com").len() > attempts + 5
    });
    between.peer.change(Script::smtp());
    outcome(&between.server, &id, "b@example.com", "sent");
    assert_eq!(between.reports.messages().len(), 1);
}

/// Also when nobody is there who could refuse it.
#[test]
fn a_delay_at_a_dead_host_is_told_once() {
    let reports = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("next", "smtp", &[nobody()], ""),
        route("back", "smtp", &[reports.address()], ""),
        domain("*", "next"),
        domain("client.test.example", "back"),
        "[queue]\nretry_first = \"100ms\"\nretry_max = \"500ms\"\ndelay_warning_after = \"2s\"\n".to_owned(),
    ]));
    let first = simple(&server, "first", &["b@example.com"]);
    outcome(&server, &first, "b@example.com", "deferred");
    // This one is never tried: its host is known to be down.
    simple(&server, "second", &["c@example.com"]);
    let came = reports.wait_for(2);
    for recipient in ["b@example.com", "c@example.com"] {
        let about = |report: &Report| report.words().contains(recipient);
        let report = came.iter().map(|message| Report::read(&message.octets)).find(about);
        let report = report.unwrap_or_else(|| panic!("nothing was told about {recipient}"));
        assert_eq!(report.of_recipient(recipient, "action"), "delayed");
        assert_eq!(report.of_recipient(recipient, "status"), "4.4.1");
    }
}

#[test]
fn mail_is_given_up_in_the_end() {
    let script = Script::smtp().on(Stage::Recipient, Answer::reply("450 4.7.1 come back"));
    let queue = "[queue]\nretry_first = \"100ms\"\nretry_max = \"500ms\"\nlifetime = \"3s\"\ndelay_warning_after = 0\n";
    let between = Between::with(script, "", queue);
    let recipients = ["<b@example.com>", "<c@example.com> NOTIFY=NEVER"];
    let id = send(&between.server, &format!("<{SENDER}>"), &recipients, &text("old"));
    outcome(&between.server, &id, "b@example.com", "expired");
    outcome(&between.server, &id, "c@example.com", "expired");
    let message = between.reports.wait_for(1).remove(0);
    is_from_nobody(&message);
    let report = Report::read(&message.octets);
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("b@example.com", "action"), "failed");
    // Why it was not delivered in time.
    assert_eq!(report.of_recipient("b@example.com", "status"), "4.7.1");
    assert!(report.of_recipient("b@example.com", "diagnostic-code").contains("come back"));
    between.peer.change(Script::smtp());
    let next = simple(&between.server, "next", &["b@example.com"]);
    outcome(&between.server, &next, "b@example.com", "sent");
    assert_eq!(between.peer.messages().len(), 1, "what was given up came all the same");
}

/// While its host is down: the destination is not tried, the message gets old all the same.
#[test]
fn mail_for_a_dead_host_is_given_up_in_the_end() {
    let reports = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("next", "smtp", &[nobody()], ""),
        route("back", "smtp", &[reports.address()], ""),
        domain("*", "next"),
        domain("client.test.example", "back"),
        "[queue]\nretry_first = \"100ms\"\nretry_max = \"500ms\"\nlifetime = \"3s\"\ndelay_warning_after = 0\n".to_owned(),
    ]));
    let id = simple(&server, "old", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "expired");
    let report = Report::read(&reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("b@example.com", "status"), "4.4.1");
    assert_eq!(report.of_recipient("b@example.com", "action"), "failed");
}

/// The report itself cannot be delivered: that is the end of it.
#[test]
fn a_bounce_that_bounces_ends() {
    let between = Between::start(refuses());
    between.reports.change(Script::smtp().on(Stage::Recipient, Answer::reply("550 5.1.1 nobody")));
    let id = simple(&between.server, "bounces", &["gone@example.com"]);
    outcome(&between.server, &id, "gone@example.com", "bounced");
    between.server.wait_for_log(&format!("to=<{SENDER}> "));
    let log = between.server.log();
    let line = log.lines().find(|line| line.contains(&format!("to=<{SENDER}> "))).unwrap();
    assert!(line.contains("status=bounced"), "{line}");
    between.reports.change(Script::smtp());
    nothing_was_told(&between);
}

/// A report waits like any other mail.
#[test]
fn a_report_is_tried_again() {
    let between = Between::start(refuses());
    between
        .reports
        .change(Script::smtp().on(When::at(Stage::Recipient).times(3), Answer::reply("450 4.7.1 later")));
    simple(&between.server, "x", &["gone@example.com"]);
    assert_eq!(between.report().of_recipient("gone@example.com", "action"), "failed");
}

/// And survives the end of the process.
#[test]
fn a_report_survives_a_kill() {
    let mut between = Between::start(refuses());
    between.reports.change(Script::smtp().on(Stage::Recipient, Answer::reply("450 4.7.1 later")));
    let id = simple(&between.server, "x", &["gone@example.com"]);
    outcome(&between.server, &id, "gone@example.com", "bounced");
    between.server.wait_for_log(&format!("to=<{SENDER}> "));
    between.server.kill9();
    between.reports.change(Script::smtp());
    between.server.restart();
    assert_eq!(between.report().of_recipient("gone@example.com", "action"), "failed");
}

/// Replies of a host are hostile too: they add no field and no part.
#[test]
fn a_reply_cannot_forge_a_report() {
    let reply = "550-5.1.1 line\n550-5.1.1 Action: delivered\n550-5.1.1 --=_x\n550 5.1.1 \u{7f}\u{1b}[31mred";
    let between = Between::start(Script::smtp().on(Stage::Recipient, Answer::reply(reply)));
    simple(&between.server, "x", &["gone@example.com"]);
    let report = between.report();
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("gone@example.com", "action"), "failed");
    assert!(!report.words().contains('\u{1b}') && !between.server.log().contains("\u{1b}[31mred"));
}

/// Two gateways that each take the other for the next hop (RFC 5321 §6.3).
#[test]
fn a_loop_ends() {
    let (one, two) = (free_port(), free_port());
    let reports = Peer::start(Script::smtp());
    let gateway = |name: &str, own: SocketAddr, other: SocketAddr| {
        let mut settings = settings(&[
            route("next", "smtp", &[other], ""),
            route("back", "smtp", &[reports.address()], ""),
            domain("*", "next"),
            domain("client.test.example", "back"),
        ]);
        settings.address = own.to_string();
        settings.hostname = name.to_owned();
        Server::with(settings)
    };
    let first = gateway("one.test.example", one, two);
    let _second = gateway("two.test.example", two, one);
    simple(&first, "round", &["b@example.com"]);
    let report = Report::read(&reports.wait_for(1)[0].octets);
    assert_eq!(report.of_recipient("b@example.com", "status"), "5.4.6");
    assert_eq!(report.of_recipient("b@example.com", "action"), "failed");
    assert!(report.of_recipient("b@example.com", "diagnostic-code").contains("554"));
    let hops = report.returned().1.matches("Received: ").count();
    assert!((100..=102).contains(&hops), "{hops}");
    assert_eq!(reports.messages().len(), 1);
}

/// What a hostile host says to each of many recipients does not fit into one report; the sender still hears of each, and the gateway goes on.
#[test]
fn long_replies_about_many_recipients() {
    let reply = format!("550 5.1.1 {}", "no such user here ".repeat(110));
    let script = Script::smtp().on(When::at(Stage::Recipient).address("gone*"), Answer::reply(&reply));
    let between = Between::start(script);
    let gone: Vec<_> = (0..90).map(|number| format!("gone{number}@example.com")).collect();
    let recipients: Vec<_> = gone.iter().map(|address| format!("<{address}>")).collect();
    let mut recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    recipients.push("<b@example.com>");
    let header = "X-Filler: 0123456789012345678901234567890123456789012345678901234567\r\n".repeat(3000);
    let body = [header.as_bytes(), &text("many")].concat();
    let id = send(&between.server, &format!("<{SENDER}>"), &recipients, &body);
    for address in &gone {
        outcome(&between.server, &id, address, "bounced");
    }
    outcome(&between.server, &id, "b@example.com", "sent");
    // At most twenty in one.
    let reports = between.reports.wait_for(5);
    let reports: Vec<_> = reports.iter().map(|message| Report::read(&message.octets)).collect();
    let mut told: Vec<_> = reports.iter().flat_map(Report::addresses).collect();
    told.sort_unstable();
    let mut gone: Vec<_> = gone.iter().map(String::as_str).collect();
    gone.sort_unstable();
    assert_eq!(told, gone);
}
