//! What the caller of a session relies on besides the dialog: gates, endings, phases, pools.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test; what cannot be unwrapped is its failure"
)]

use std::rc::Rc;

use inrush_proto::{
    Accepted, AppendFailure, Context, Event, Limits, Phase, Reply, Session, Settings, Unobserved, Verdict,
};

fn context(limits: Limits) -> Rc<Context> {
    let settings = Settings { hostname: "mx.example".to_owned(), limits, ..Settings::default() };
    Context::new(settings, Box::new(Unobserved))
}

fn ready(session: &mut Session) -> String {
    let mut output = Vec::new();
    session.take_ready(&mut output);
    String::from_utf8(output).unwrap()
}

const ENVELOPE: &str = "MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\n";

/// Goes on until the session wants something that is not a recipient; gives back what is left of the input.
fn advance<'i>(session: &mut Session, mut input: &'i [u8]) -> (Event<'i>, &'i [u8]) {
    loop {
        let progress = session.advance(input);
        input = &input[progress.consumed..];
        match progress.event {
            Event::Recipient(_) => session.verdict(Verdict::Accept),
            event => return (event, input),
        }
    }
}

fn greeted(context: &Rc<Context>) -> Session {
    let mut session = Session::new(Rc::clone(context));
    session.greet();
    assert!(matches!(advance(&mut session, b"EHLO client.example\r\n").0, Event::NeedInput { .. }));
    ready(&mut session);
    session
}

fn accept(session: &mut Session, gate: u64, id: &str) {
    session.appended(Ok(Accepted { gate, id }));
}

// RFC 2920 §3.1: replies leave in the order of the commands, also those behind one that waits.
#[test]
fn replies_wait_behind_a_gate() {
    let mut session = greeted(&context(Limits::default()));
    let input = format!("{ENVELOPE}DATA\r\nx\r\n.\r\nNOOP\r\n{ENVELOPE}BDAT 1 LAST\r\nxQUIT\r\n");
    let (event, rest) = advance(&mut session, input.as_bytes());
    assert!(matches!(event, Event::Message(_)));
    accept(&mut session, 10, "A");
    let (event, rest) = advance(&mut session, rest);
    assert!(matches!(event, Event::Message(_)));
    accept(&mut session, 20, "B");
    assert!(matches!(advance(&mut session, rest).0, Event::Close));

    assert_eq!(session.next_gate(), Some(10));
    assert_eq!(
        ready(&mut session),
        "250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n354 Send the mail, end with CRLF.CRLF\r\n"
    );
    session.durable(9);
    assert!(!session.has_ready() && session.has_gated());
    session.durable(10);
    assert_eq!(
        ready(&mut session),
        "250 2.0.0 OK: queued as A\r\n250 2.0.0 OK\r\n250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n"
    );
    assert_eq!(session.next_gate(), Some(20));
    session.durable(u64::MAX);
    assert_eq!(
        ready(&mut session),
        "250 2.0.0 OK: queued as B\r\n221 2.0.0 mx.example closing connection\r\n"
    );
    assert!(!session.has_gated() && !session.has_ready());
}

#[test]
fn both_gates_open_at_once() {
    let mut session = greeted(&context(Limits::default()));
    for (gate, id) in [(10, "A"), (20, "B")] {
        let input = format!("{ENVELOPE}BDAT 0 LAST\r\n");
        assert!(matches!(advance(&mut session, input.as_bytes()).0, Event::Message(_)));
        accept(&mut session, gate, id);
    }
    session.durable(25);
    assert_eq!(ready(&mut session).matches("queued as").count(), 2);
}

#[test]
fn what_is_durable_already_is_not_gated() {
    let mut session = greeted(&context(Limits::default()));
    session.durable(10);
    let input = format!("{ENVELOPE}BDAT 0 LAST\r\n");
    assert!(matches!(advance(&mut session, input.as_bytes()).0, Event::Message(_)));
    accept(&mut session, 10, "A");
    assert!(!session.has_gated());
    assert!(ready(&mut session).ends_with("queued as A\r\n"));
}

// RFC 5321 §6.1: no 250 for what is not durable; §3.8: 421 instead.
#[test]
fn a_failed_log_takes_back_what_is_gated() {
    for behind in ["", "NOOP\r\n", "QUIT\r\n"] {
        let mut session = greeted(&context(Limits::default()));
        let input = format!("{ENVELOPE}BDAT 0 LAST\r\n{behind}");
        let (event, rest) = advance(&mut session, input.as_bytes());
        assert!(matches!(event, Event::Message(_)));
        accept(&mut session, 10, "A");
        advance(&mut session, rest);
        session.fail_gated();
        assert!(matches!(advance(&mut session, b"").0, Event::Close));
        let said = ready(&mut session);
        assert!(
            said.ends_with(
                "2.1.5 Recipient OK\r\n421 4.3.0 mx.example storage failed, message not accepted, closing\r\n"
            ),
            "{said}"
        );
    }
    let mut session = greeted(&context(Limits::default()));
    session.fail_gated();
    assert_eq!(session.phase(), Phase::Ready, "nothing was gated");
}

#[test]
fn closing_throws_away_what_was_handed_out() {
    let mut session = greeted(&context(Limits::default()));
    let input = format!("{ENVELOPE}BDAT 1\r\nx");
    assert!(matches!(advance(&mut session, input.as_bytes()).0, Event::Body(_)));
    assert_eq!(session.phase(), Phase::Paused);
    session.close_with(Reply::IDLE_TIMEOUT);
    // The answer that was owed comes too late and changes nothing.
    session.body_stored(Err(AppendFailure::StorageFull));
    assert!(matches!(advance(&mut session, b"").0, Event::Aborted));
    assert!(matches!(advance(&mut session, b"").0, Event::Close));
    assert!(ready(&mut session).ends_with("421 4.4.2 mx.example idle for too long, closing\r\n"));
    session.close_with(Reply::SHUTTING_DOWN);
    assert!(!session.has_ready(), "one last reply is enough");
}

#[test]
fn a_core_without_room_refuses_mail() {
    let context = context(Limits::default());
    let mut session = greeted(&context);
    context.refuse_mail(Some(Reply::PENDING_FULL));
    advance(&mut session, ENVELOPE.as_bytes());
    assert_eq!(
        ready(&mut session),
        "452 4.3.1 Too much mail under way, try again later\r\n503 5.5.1 Say MAIL first\r\n"
    );
    assert_eq!(session.errors(), 0);
    for (reply, why) in [
        (Reply::MEMORY_FULL, "452 4.3.1 Short of memory, try again later\r\n"),
        (Reply::LOG_BEHIND, "452 4.3.1 The disk is too slow for all the mail, try again later\r\n"),
    ] {
        context.refuse_mail(Some(reply));
        advance(&mut session, b"MAIL FROM:<>\r\n");
        assert_eq!(ready(&mut session), why);
    }
    context.refuse_mail(None);
    advance(&mut session, ENVELOPE.as_bytes());
    assert_eq!(ready(&mut session), "250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n");
}

#[test]
fn phases() {
    let context = context(Limits::default());
    let mut session = Session::new(Rc::clone(&context));
    assert_eq!(session.phase(), Phase::Greeting);
    for (input, phase) in [
        ("EHLO client.example\r\n", Phase::Ready),
        (ENVELOPE, Phase::Envelope),
        ("BDAT 5\r\nx", Phase::MailData),
    ] {
        advance(&mut session, input.as_bytes());
        assert_eq!(session.phase(), phase);
    }
    assert_eq!((session.hello_name(), session.protocol()), ("client.example", "ESMTP"));
    assert_eq!(session.transaction().recipients().len(), 1);
    session.close_with(Reply::SHUTTING_DOWN);
    assert_eq!(session.phase(), Phase::Closed);
    assert_eq!(session.transaction().recipients().len(), 0);
}

#[test]
fn a_pending_recipient_outlives_the_input() {
    let mut session = greeted(&context(Limits::default()));
    let input = ENVELOPE.as_bytes().to_vec();
    let progress = session.advance(&input);
    assert!(matches!(progress.event, Event::Recipient(_)));
    drop(input);
    assert_eq!(session.pending_recipient().unwrap().path.as_str(), "b@two.example");
    session.verdict(Verdict::Refuse(Reply::USER_UNKNOWN));
    assert_eq!(session.pending_recipient(), None);
    assert_eq!(session.transaction().text(), "a@one.example", "what was refused leaves nothing behind");
}

// A client that sends without ever reading.
#[test]
fn output_is_bounded() {
    let mut session = greeted(&context(Limits { output_octets_max: 1024, ..Limits::default() }));
    let input = "HELP\r\n".repeat(100);
    let mut rest = input.as_bytes();
    let mut rounds = 0;
    loop {
        let progress = session.advance(rest);
        rest = &rest[progress.consumed..];
        let octets = ready(&mut session).len();
        assert!(octets < 1024 + 512);
        match progress.event {
            Event::Output => rounds += 1,
            _ => break,
        }
    }
    assert!(rest.is_empty() && rounds > 5);
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 192, "{}", size_of::<Session>());
}
