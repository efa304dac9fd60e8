//! A session that is reused allocates nothing: neither for the envelope nor for the data nor for the replies.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test; what cannot be unwrapped is its failure")]

use std::rc::Rc;

use allocation_counter::measure;
use inrush_proto::{Accepted, Context, Event, Session, Settings, Unobserved, Verdict};

/// Plays the input to its end; gives back the octets of the messages.
fn play(session: &mut Session, mut input: &[u8], lsn: &mut u64, output: &mut Vec<u8>) -> usize {
    let mut octets = 0;
    loop {
        let progress = session.advance(input);
        match progress.event {
            Event::Recipient(_) => session.verdict(Verdict::Accept),
            Event::Message(body) => {
                octets += body.pieces().map(<[u8]>::len).sum::<usize>();
                *lsn += 1;
                session.appended(Ok(Accepted { gate: *lsn, id: "0001010000000000000A" }));
            }
            Event::NeedInput { .. } => {
                session.durable(*lsn);
                output.clear();
                session.take_ready(output);
                return octets;
            }
            event => panic!("{event:?}"),
        }
        input = &input[progress.consumed..];
    }
}

#[test]
fn the_steady_state_allocates_nothing() {
    let context = Context::new(Settings::default(), Box::new(Unobserved));
    let envelope =
        "MAIL FROM:<a@one.example> SIZE=100\r\nRCPT TO:<b@two.example>\r\nRCPT TO:<c@two.example>\r\n";
    let input = format!(
        "{envelope}DATA\r\nSubject: x\r\n\r\n..dots\r\n.\r\n{envelope}BDAT 5 LAST\r\nabcdeRSET\r\nNOOP\r\n"
    );
    let (mut lsn, mut output) = (0, Vec::with_capacity(4096));

    let mut session = Session::new(Rc::clone(&context));
    session.greet();
    play(&mut session, b"EHLO client.example\r\n", &mut lsn, &mut output);
    for _ in 0..4 {
        play(&mut session, input.as_bytes(), &mut lsn, &mut output);
    }
    let mut octets = 0;
    let allocated = measure(|| {
        for _ in 0..100 {
            octets += play(&mut session, input.as_bytes(), &mut lsn, &mut output);
        }
    });
    assert_eq!(allocated.count_total, 0);
    assert_eq!(octets, 100 * (14 + 7 + 5));
    drop(session);

    // A new session pays for the name in EHLO and for its first gate, no more.
    let allocated = measure(|| {
        let mut session = Session::new(Rc::clone(&context));
        session.greet();
        play(&mut session, b"EHLO client.example\r\n", &mut lsn, &mut output);
        play(&mut session, input.as_bytes(), &mut lsn, &mut output);
    });
    assert!((1..=3).contains(&allocated.count_total), "{allocated:?}");
}
