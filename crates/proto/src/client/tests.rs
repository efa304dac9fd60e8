//! The session against scripted servers, in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

use super::*;

/// What the session sends (one line per step, as a client would write it) and what it reports, against a server that says
/// what the test gives it.
struct Dialog {
    session: Session,
    recipients: u32,
    chunks: u32,
    input: Vec<u8>,
    events: Vec<String>,
}

impl Dialog {
    fn new(protocol: Protocol, pipelining: Pipelining) -> Self {
        Self {
            session: Session::new(protocol, pipelining),
            recipients: 0,
            chunks: 0,
            input: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Past greeting and EHLO, with these extension lines.
    fn ready(pipelining: Pipelining, extensions: &str) -> Self {
        let mut dialog = Self::new(Protocol::Smtp, pipelining);
        dialog.server("220 mx.example ESMTP\r\n");
        assert_eq!(dialog.client(), "EHLO");
        dialog.server(&format!("250-mx.example\r\n{extensions}250 HELP\r\n"));
        dialog.events.clear();
        assert!(dialog.session.is_ready());
        dialog
    }

    fn begin(&mut self, recipients: u32, transfer: Transfer) {
        assert!(self.session.can_begin());
        self.recipients = recipients;
        self.chunks = 1;
        self.session.begin(recipients, transfer);
    }

    /// Everything that may be sent now.
    fn client(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(step) = self.session.take_step() {
            words.push(match step {
                Step::Hello(Hello::Ehlo) => "EHLO".to_owned(),
                Step::Hello(Hello::Helo) => "HELO".to_owned(),
                Step::Hello(Hello::Lhlo) => "LHLO".to_owned(),
                Step::Mail(number) => format!("MAIL{number}"),
                Step::Recipient(_, index) => format!("RCPT{index}"),
                Step::Data => "DATA".to_owned(),
                Step::Body { empty: false, .. } => "body".to_owned(),
                Step::Body { empty: true, .. } => "empty".to_owned(),
                Step::Chunk(_) => {
                    self.chunks -= 1;
                    self.session.chunk_sent(self.chunks == 0);
                    if self.chunks == 0 { "LAST" } else { "BDAT" }.to_owned()
                }
                Step::StartTls => "STARTTLS".to_owned(),
                Step::Reset => "RSET".to_owned(),
                Step::Quit => "QUIT".to_owned(),
            });
        }
        words.join(" ")
    }

    fn server(&mut self, bytes: &str) {
        self.input.extend_from_slice(bytes.as_bytes());
        loop {
            let progress = self.session.advance(&self.input);
            let consumed = progress.consumed;
            let (event, go_on) = match progress.event {
                Event::NeedInput => (None, false),
                Event::Answer(answer) => (Some(describe(&answer)), true),
                Event::Closing(answer) => (Some(format!("closing {}", describe(&answer))), true),
                Event::Failed(error) => (Some(format!("failed {error}")), true),
            };
            self.events.extend(event);
            self.input.drain(..consumed);
            if !go_on {
                break;
            }
        }
    }

    fn events(&mut self) -> String {
        std::mem::take(&mut self.events).join(", ")
    }
}

fn describe(answer: &Answer<'_>) -> String {
    let what = match answer.command {
        Command::Greeting => "greeting".to_owned(),
        Command::Hello(_) => "hello".to_owned(),
        Command::Mail => "mail".to_owned(),
        Command::Recipient(index) => format!("rcpt{index}"),
        Command::Data => "data".to_owned(),
        Command::Chunk => "chunk".to_owned(),
        Command::Final => "final".to_owned(),
        Command::FinalFor(index) => format!("final{index}"),
        Command::StartTls => "starttls".to_owned(),
        Command::Reset => "reset".to_owned(),
        Command::Quit => "quit".to_owned(),
    };
    let end = if answer.end { format!(" end/{}", answer.recipients_accepted) } else { String::new() };
    format!("{what} {}{end}", answer.reply.code)
}

#[test]
fn one_command_one_reply_without_pipelining() {
    let mut dialog = Dialog::ready(Pipelining::Auto, "");
    dialog.begin(2, Transfer::Data);
    for (sent, reply) in [
        ("MAIL1", "250 ok\r\n"),
        ("RCPT0", "250 ok\r\n"),
        ("RCPT1", "250 ok\r\n"),
        ("DATA", "354 go\r\n"),
        ("body", "250 queued\r\n"),
    ] {
        assert_eq!(dialog.client(), sent);
        assert_eq!(dialog.client(), "", "nothing before the reply to {sent}");
        dialog.server(reply);
    }
    assert_eq!(dialog.events(), "mail 250, rcpt0 250, rcpt1 250, data 354, final 250 end/2");
    dialog.session.quit();
    assert_eq!(dialog.client(), "QUIT");
    assert!(!dialog.session.can_begin());
    dialog.server("221 bye\r\n");
    assert_eq!(dialog.events(), "closing quit 221");
}

#[test]
fn groups_end_with_data_and_begin_with_the_text() {
    // RFC 2920 §3.1
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n");
    dialog.begin(1, Transfer::Data);
    assert_eq!(dialog.client(), "MAIL1 RCPT0 DATA");
    assert!(!dialog.session.can_begin(), "the text is not sent yet");
    dialog.server("250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(dialog.client(), "body");
    dialog.begin(1, Transfer::Data);
    assert_eq!(dialog.client(), "MAIL2 RCPT0 DATA");
    dialog.session.quit();
    assert_eq!(dialog.client(), "");
    dialog.server("250 queued\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(dialog.client(), "body QUIT");
    dialog.server("250 queued\r\n221 bye\r\n");
    assert_eq!(
        dialog.events(),
        "mail 250, rcpt0 250, data 354, final 250 end/1, mail 250, rcpt0 250, data 354, final 250 end/1, closing quit 221"
    );
}

#[test]
fn chunks_of_many_transactions_in_flight() {
    // RFC 3030 §2, §4.2
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n250-CHUNKING\r\n");
    dialog.begin(1, Transfer::Chunks);
    assert_eq!(dialog.client(), "MAIL1 RCPT0 LAST");
    for number in 2..=3 {
        dialog.begin(1, Transfer::Chunks);
        assert_eq!(
            dialog.client(),
            format!("RSET MAIL{number} RCPT0 LAST"),
            "whatever came of the one before"
        );
    }
    assert_eq!(dialog.session.in_flight(), 3);
    dialog.server("250 ok\r\n250 ok\r\n250 queued\r\n");
    dialog.server("250 reset\r\n250 ok\r\n550 no\r\n554 no valid recipients\r\n");
    assert_eq!(
        dialog.events(),
        "mail 250, rcpt0 250, final 250 end/1, reset 250, mail 250, rcpt0 550, final 554 end/0"
    );
    // A RSET now would hit transaction 3, which is on the wire.
    assert_eq!(dialog.client(), "");
    dialog.server("250 reset\r\n250 ok\r\n250 ok\r\n250 queued\r\n");
    assert_eq!(dialog.session.in_flight(), 0);
    // With nothing under way there is nothing to end.
    dialog.begin(1, Transfer::Chunks);
    assert_eq!(dialog.client(), "MAIL4 RCPT0 LAST");
}

/// DATA needs none: without a valid recipient there is no text, and its end is the end of the transaction.
#[test]
fn no_reset_between_texts() {
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(dialog.client(), "body");
    dialog.begin(1, Transfer::Chunks);
    assert_eq!(dialog.client(), "MAIL2 RCPT0 LAST");
}

#[test]
fn chunks_without_pipelining_wait_for_each_reply() {
    let mut dialog = Dialog::ready(Pipelining::Off, "250-PIPELINING\r\n250-CHUNKING\r\n");
    dialog.begin(1, Transfer::Chunks);
    dialog.chunks = 2;
    for (sent, reply) in [("MAIL1", "250 a"), ("RCPT0", "250 b"), ("BDAT", "250 c"), ("LAST", "250 d")] {
        assert_eq!(dialog.client(), sent);
        dialog.server(&format!("{reply}\r\n"));
    }
    assert_eq!(dialog.events(), "mail 250, rcpt0 250, chunk 250, final 250 end/1");
}

#[test]
fn a_refused_chunk_ends_the_transaction() {
    // RFC 3030 §2: after a refusal the transaction is undefined until RSET.
    let mut dialog = Dialog::ready(Pipelining::Off, "250-CHUNKING\r\n");
    dialog.begin(1, Transfer::Chunks);
    dialog.chunks = 2;
    for reply in ["250 a", "250 b", "452 4.3.1 full"] {
        dialog.client();
        dialog.server(&format!("{reply}\r\n"));
    }
    assert_eq!(dialog.events(), "mail 250, rcpt0 250, chunk 452 end/1");
    assert_eq!(dialog.client(), "RSET");
    dialog.server("250 ok\r\n");
    assert!(dialog.session.can_begin());
}

#[test]
fn refused_mail_ends_at_once() {
    let mut dialog = Dialog::ready(Pipelining::Off, "");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("451 4.3.0 later\r\n");
    assert_eq!(dialog.events(), "mail 451 end/0");
    assert_eq!(dialog.client(), "", "no transaction is open, so no RSET");
    assert!(dialog.session.can_begin());
}

#[test]
fn no_recipient_means_no_data_and_a_reset() {
    let mut dialog = Dialog::ready(Pipelining::Off, "");
    dialog.begin(2, Transfer::Data);
    for reply in ["250 ok\r\n", "550 5.1.1 a\r\n", "450 4.2.1 b\r\n"] {
        dialog.client();
        dialog.server(reply);
    }
    assert_eq!(dialog.events(), "mail 250, rcpt0 550, rcpt1 450 end/0");
    assert_eq!(dialog.client(), "RSET");
}

#[test]
fn some_recipients_are_enough() {
    let mut dialog = Dialog::ready(Pipelining::Force, "");
    dialog.begin(3, Transfer::Data);
    assert_eq!(dialog.client(), "MAIL1 RCPT0 RCPT1 RCPT2 DATA");
    dialog.server("250 ok\r\n550 a\r\n250 ok\r\n452 b\r\n354 go\r\n");
    assert_eq!(dialog.client(), "body");
    dialog.server("250 queued\r\n");
    assert_eq!(dialog.events(), "mail 250, rcpt0 550, rcpt1 250, rcpt2 452, data 354, final 250 end/1");
}

#[test]
fn go_ahead_without_recipients_gets_an_empty_text() {
    // RFC 2920 §3.1: the client must then send CRLF.CRLF; the 250 behind it delivers nothing.
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("250 ok\r\n550 no\r\n354 go\r\n");
    assert_eq!(dialog.client(), "empty");
    dialog.server("250 ok\r\n");
    assert_eq!(dialog.events(), "mail 250, rcpt0 550, data 354, final 250 end/0");
    assert_eq!(dialog.client(), "");
}

#[test]
fn pipelined_refusal_of_everything() {
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("550 a\r\n503 b\r\n503 c\r\n");
    assert_eq!(dialog.events(), "mail 550, rcpt0 503, data 503 end/0");
    assert_eq!(dialog.client(), "");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("250 a\r\n550 b\r\n554 c\r\n");
    assert_eq!(dialog.events(), "mail 250, rcpt0 550, data 554 end/0");
    assert_eq!(dialog.client(), "RSET");
    dialog.begin(1, Transfer::Data);
    assert_eq!(dialog.client(), "MAIL3 RCPT0 DATA", "behind the RSET in the same group");
    dialog.server("250 reset\r\n250 a\r\n250 b\r\n354 c\r\n");
    assert_eq!(dialog.events(), "reset 250, mail 250, rcpt0 250, data 354");
}

#[test]
fn helo_after_a_refused_ehlo() {
    // RFC 5321 §3.2
    let mut dialog = Dialog::new(Protocol::Smtp, Pipelining::Auto);
    assert_eq!(dialog.client(), "", "nothing before the greeting");
    dialog.server("220-mx.example\r\n220 at your service\r\n");
    assert_eq!(dialog.client(), "EHLO");
    dialog.server("502 5.5.1 what\r\n");
    assert_eq!(dialog.client(), "HELO");
    dialog.server("250-mx.example\r\n250 PIPELINING\r\n");
    assert_eq!(dialog.events(), "greeting 220, hello 502, hello 250");
    assert!(dialog.session.is_ready());
    assert!(!dialog.session.is_pipelining(), "a HELO reply carries no extensions");
}

#[test]
fn refused_greetings_and_hellos_close() {
    for (script, events) in [
        (&["554 5.7.1 no\r\n"][..], "closing greeting 554"),
        (&["421 4.3.2 busy\r\n"], "closing greeting 421"),
        (&["220 a\r\n", "421 4.7.0 no\r\n"], "greeting 220, closing hello 421"),
        (&["220 a\r\n", "450 4.7.1 later\r\n"], "greeting 220, closing hello 450"),
        (&["220 a\r\n", "500 a\r\n", "500 b\r\n"], "greeting 220, hello 500, closing hello 500"),
    ] {
        let mut dialog = Dialog::new(Protocol::Smtp, Pipelining::Auto);
        for reply in script {
            dialog.server(reply);
            dialog.client();
        }
        assert_eq!(dialog.events(), events);
        assert!(!dialog.session.is_ready() && !dialog.session.can_begin());
        assert_eq!(dialog.client(), "");
    }
}

#[test]
fn shutting_down_at_any_point() {
    // RFC 5321 §3.8
    let replies = ["250 a\r\n", "250 b\r\n", "354 c\r\n", "250 d\r\n"];
    for point in 0..=replies.len() {
        let mut dialog = Dialog::ready(Pipelining::Off, "");
        dialog.begin(1, Transfer::Data);
        for reply in &replies[..point] {
            dialog.client();
            dialog.server(reply);
        }
        dialog.events.clear();
        dialog.client();
        dialog.server("421 4.3.2 going down\r\n250 more\r\n");
        assert!(dialog.events().starts_with("closing"), "at {point}");
        assert_eq!(dialog.client(), "");
        assert!(!dialog.session.can_begin());
        dialog.session.restart();
        dialog.server("220 again\r\n");
        assert_eq!(dialog.client(), "EHLO");
    }
}

#[test]
fn lmtp_gives_each_accepted_recipient_its_verdict() {
    // RFC 2033 §4.2
    for transfer in [Transfer::Data, Transfer::Chunks] {
        let mut dialog = Dialog::new(Protocol::Lmtp, Pipelining::Auto);
        dialog.server("220 lmtp\r\n");
        assert_eq!(dialog.client(), "LHLO");
        dialog.server("250-lmtp\r\n250-CHUNKING\r\n250 PIPELINING\r\n");
        dialog.begin(3, transfer);
        dialog.client();
        dialog.server("250 a\r\n250 b\r\n550 c\r\n250 d\r\n");
        if transfer == Transfer::Data {
            dialog.server("354 go\r\n");
            assert_eq!(dialog.client(), "body");
        } else {
            assert_eq!(dialog.client(), "LAST");
        }
        dialog.events.clear();
        dialog.server("250 x\r\n");
        assert_eq!(dialog.session.in_flight(), 1);
        dialog.server("452 y\r\n");
        assert_eq!(dialog.events(), "final0 250, final2 452 end/2");
        assert_eq!(dialog.client(), "");
    }
}

#[test]
fn a_refused_lhlo_has_no_fallback() {
    let mut dialog = Dialog::new(Protocol::Lmtp, Pipelining::Auto);
    dialog.server("220 smtp\r\n");
    dialog.client();
    dialog.server("500 what\r\n");
    assert_eq!(dialog.events(), "greeting 220, closing hello 500");
}

#[test]
fn replies_out_of_protocol_fail() {
    for (replies, expected) in [
        ("250 early\r\n", "failed unsolicited reply 250"),
        ("hello\r\n", "failed reply line without a code"),
        ("421 idle\r\n", "closing quit 421"),
    ] {
        let mut dialog = Dialog::ready(Pipelining::Off, "");
        dialog.server(replies);
        assert_eq!(dialog.events(), expected);
    }
    let mut dialog = Dialog::ready(Pipelining::Off, "");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("354 go\r\n");
    assert_eq!(dialog.events(), "failed unexpected reply 354 to Mail");
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n");
    dialog.begin(1, Transfer::Data);
    dialog.client();
    dialog.server("250 a\r\n250 b\r\n250 c\r\n");
    assert_eq!(dialog.events(), "mail 250, rcpt0 250, failed unexpected reply 250 to Data");
}

#[test]
fn text_of_several_lines_is_joined_and_bounded() {
    let mut session = Session::new(Protocol::Smtp, Pipelining::Auto);
    let progress = session.advance(b"220-one\r\n220-two\r\n220 three\r\n");
    let Event::Answer(answer) = progress.event else { panic!("{progress:?}") };
    assert_eq!(answer.reply.text, b"one\ntwo\nthree");

    session.restart();
    let mut long = Vec::new();
    for _ in 0..100 {
        long.extend_from_slice(format!("220-{}\r\n", "x".repeat(200)).as_bytes());
    }
    long.extend_from_slice(b"220 end\r\n");
    let progress = session.advance(&long);
    assert_eq!(progress.consumed, long.len());
    let Event::Answer(answer) = progress.event else { panic!("{progress:?}") };
    assert_eq!(answer.reply.text.len(), REPLY_TEXT_KEPT_MAX);
}

#[test]
fn replies_in_single_octets_mean_the_same() {
    let run = |step: usize| {
        let mut dialog = Dialog::new(Protocol::Smtp, Pipelining::Auto);
        for reply in ["220 a\r\n", "250-a\r\n250-SIZE 5\r\n250 PIPELINING\r\n"] {
            for piece in reply.as_bytes().chunks(step) {
                dialog.server(std::str::from_utf8(piece).unwrap());
            }
            dialog.client();
        }
        dialog.begin(1, Transfer::Data);
        dialog.client();
        for piece in b"250 a\r\n250 b\r\n354 c\r\n".chunks(step) {
            dialog.server(std::str::from_utf8(piece).unwrap());
        }
        (dialog.events(), dialog.session.extensions().size_max, dialog.client())
    };
    let whole = run(1000);
    assert_eq!(whole.1, Some(5));
    assert_eq!(whole.2, "body");
    for step in 1..12 {
        assert_eq!(run(step), whole, "{step}");
    }
}

/// A server that says anything at any time: no panic, no growth, and never more answers than commands.
#[test]
fn hostile_servers() {
    let vocabulary: [&[u8]; 16] = [
        b"220 a\r\n",
        b"250 ok\r\n",
        b"250-ok\r\n",
        b"250 PIPELINING\r\n",
        b"250-CHUNKING\r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"450 no\r\n",
        b"550 no\r\n",
        b"221 bye\r\n",
        b"25",
        b"\r\n",
        b"\n",
        b"\0\xff",
        b"250",
        b"999 x\r\n",
    ];
    for seed in 1..=20_000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % 1_000_003).unwrap() % bound
        };
        let protocol = if next(4) == 0 { Protocol::Lmtp } else { Protocol::Smtp };
        let pipelining = [Pipelining::Off, Pipelining::Auto, Pipelining::Force][next(3)];
        let mut session = Session::new(protocol, pipelining);
        let mut input = Vec::new();
        let (mut sent, mut answered, mut finals) = (1_u64, 0_u64, 0_u64);
        // Most runs begin well, so that the later states are reached.
        if next(8) > 0 {
            input.extend_from_slice(b"220 a\r\n");
        }
        for _ in 0..60 {
            if session.can_begin() && session.in_flight() < 4 {
                let transfer = if next(2) == 0 { Transfer::Data } else { Transfer::Chunks };
                session.begin([1, 2, 3][next(3)], transfer);
            }
            while let Some(step) = session.take_step() {
                if let Step::Chunk(_) = step {
                    session.chunk_sent(next(2) == 0);
                }
                sent += 1;
            }
            input.extend_from_slice(vocabulary[next(vocabulary.len())]);
            loop {
                let progress = session.advance(&input);
                let consumed = progress.consumed;
                let go_on = match progress.event {
                    Event::NeedInput => false,
                    Event::Answer(answer) | Event::Closing(answer) => {
                        answered += 1;
                        finals += u64::from(matches!(answer.command, Command::FinalFor(_)));
                        true
                    }
                    Event::Failed(_) => true,
                };
                input.drain(..consumed);
                if !go_on {
                    break;
                }
            }
            assert!(input.len() < REPLY_LINE_OCTETS_MAX, "seed {seed}");
            assert!(answered <= sent + finals + 1, "seed {seed}: {answered} answers to {sent} commands");
            assert!(session.in_flight() <= 4);
        }
    }
}

#[test]
fn starttls_comes_alone_and_everything_begins_anew() {
    // RFC 3207 §4: the last command in a group; §4.2: what was said before is forgotten.
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n");
    dialog.session.start_tls();
    assert!(!dialog.session.can_begin());
    assert_eq!(dialog.client(), "STARTTLS");
    assert!(!dialog.session.can_begin());
    dialog.server("220 go ahead\r\n");
    dialog.session.secured();
    assert_eq!(*dialog.session.extensions(), Extensions::default());
    assert_eq!(dialog.client(), "EHLO");
    dialog.server("250-mx.example\r\n250 SIZE 1000\r\n");
    assert!(
        dialog.session.can_begin()
            && dialog.session.extensions().size
            && !dialog.session.extensions().chunking
    );
}

#[test]
fn a_refused_starttls_leaves_the_session_as_it_was() {
    let mut dialog = Dialog::ready(Pipelining::Auto, "250-PIPELINING\r\n250-STARTTLS\r\n");
    dialog.session.start_tls();
    assert_eq!(dialog.client(), "STARTTLS");
    dialog.server("454 4.7.0 not now\r\n");
    assert!(dialog.session.can_begin() && dialog.session.extensions().pipelining);
}
