//! Commands that come before their client has seen that it may send them (RFC 2920 §3.1). What is one depends on what comes at once, so
//! that no dialog can show it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test; what cannot be unwrapped is its failure")]

use std::cell::Cell;
use std::rc::Rc;

use inrush_proto::{
    Context, Event, Kind, Observe, Reply, Session, Settings, UnauthorizedPipelining, Verb, Verdict,
};

#[derive(Clone, Default)]
struct Seen(Rc<Cell<u32>>);

impl Observe for Seen {
    fn reply(&self, _: &'static Reply, _: &[u8]) {}
    fn command(&self, _: Verb, _: &[u8]) {}
    fn unauthorized_pipelining(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Says each of `inputs` at once; the codes of the replies, whether the session is over, and what was counted.
fn say(settings: Settings, inputs: &[&str]) -> (Vec<u16>, bool, u32) {
    let seen = Seen::default();
    let mut session = Session::new(Context::new(settings, Box::new(seen.clone())));
    session.greet();
    let mut closed = false;
    let mut replies = Vec::new();
    for input in inputs {
        let mut rest = input.as_bytes();
        loop {
            let progress = session.advance(rest);
            rest = &rest[progress.consumed..];
            match progress.event {
                Event::NeedInput { .. } => break,
                Event::Recipient(_) => session.verdict(Verdict::Accept),
                Event::Close => {
                    closed = true;
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        session.take_ready(&mut replies);
    }
    let replies = String::from_utf8(replies).unwrap();
    let last_lines = replies.lines().filter(|line| line.as_bytes()[3] == b' ');
    (last_lines.map(|line| line[..3].parse().unwrap()).collect(), closed, seen.0.get())
}

fn rejecting() -> Settings {
    Settings { unauthorized_pipelining: UnauthorizedPipelining::Reject, ..Settings::default() }
}

const MAIL: &str = "MAIL FROM:<a@one.example>\r\n";
const RCPT: &str = "RCPT TO:<b@two.example>\r\n";

#[test]
fn who_waits_is_served() {
    let group = format!("{MAIL}{RCPT}DATA\r\n");
    let (codes, closed, seen) = say(rejecting(), &["EHLO x\r\n", &group]);
    assert_eq!((codes.as_slice(), closed, seen), (&[220, 250, 250, 250, 354][..], false, 0));
    let (codes, _, seen) = say(rejecting(), &["HELO x\r\n", MAIL, RCPT, "DATA\r\n"]);
    assert_eq!((codes.as_slice(), seen), (&[220, 250, 250, 250, 354][..], 0));
    let (codes, closed, seen) = say(rejecting(), &["EHLO x\r\n", "RSET\r\nNOOP\r\nQUIT\r\n"]);
    assert_eq!((codes.as_slice(), closed, seen), (&[220, 250, 250, 250, 221][..], true, 0));
}

#[test]
fn who_does_not_wait_is_closed_out() {
    for inputs in [
        vec!["EHLO x\r\nRSET\r\n"],
        vec!["HELO x\r\nRSET\r\n"],
        vec!["NOOP\r\nNOOP\r\n"],
        vec!["HELO x\r\n", "RSET\r\nRSET\r\n"],
        vec!["EHLO x\r\n", MAIL, RCPT, "DATA\r\nSubject: x\r\n"],
        vec!["EHLO x\r\n", "AUTH PLAIN\r\nx\r\n"],
    ] {
        let (codes, closed, seen) = say(rejecting(), &inputs);
        assert_eq!((codes.last(), closed, seen), (Some(&503), true, 1), "{inputs:?}");
    }
    let settings = Settings { kind: Kind::Lmtp, ..rejecting() };
    let (codes, closed, seen) = say(settings, &["LHLO x\r\nRSET\r\n"]);
    assert_eq!((codes.last(), closed, seen), (Some(&503), true, 1));
}

#[test]
fn by_default_it_is_counted() {
    let (codes, closed, seen) = say(Settings::default(), &["EHLO x\r\nRSET\r\nQUIT\r\n"]);
    assert_eq!((codes.as_slice(), closed, seen), (&[220, 250, 250, 221][..], true, 1));
}
