//! Next hops that fail in every way that they can: nothing is lost, nothing is given up too early, and no host holds up another.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use inrush_tests::client::Client;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::process;
use inrush_tests::server::Server;

use crate::delivery::{
    Between, SENDER, domain, hand_over, is, outcome, outcomes, route, send, settings, simple, smarthost,
    smarthost_by, subject, text,
};

/// Nobody waits long.
const IMPATIENT: &str = "[relay]\nconnect_timeout = \"2s\"\ngreeting_timeout = \"500ms\"\nhandshake_timeout = \"500ms\"\n\
    command_timeout = \"500ms\"\ndata_timeout = \"500ms\"\nblock_timeout = \"2s\"\nend_timeout = \"500ms\"\n";

/// What is put off comes too late for any test.
const SLOW: &str = "[queue]\nretry_first = \"1h\"\nretry_max = \"4h\"\n";

/// An address at which nobody listens, as long as the listener is there but does not listen.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_host_that_comes_up_later() {
    let address = nobody();
    let server = smarthost(address, "");
    let id = simple(&server, "early", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.4.1 ") && line.contains("Connection refused"), "{line}");
    // Those that come meanwhile wait with it.
    let more =
        (0..20).map(|number| simple(&server, &number.to_string(), &["c@example.com"])).collect::<Vec<_>>();
    let peer = Peer::start_at(address, Script::smtp());
    outcome(&server, &id, "b@example.com", "sent");
    for id in more {
        outcome(&server, &id, "c@example.com", "sent");
    }
    assert_eq!(peer.messages().len(), 21);
}

/// The first connection goes wrong at this stage, the second one does not.
#[track_caller]
fn fails_once(stage: &Stage, answer: Answer, extensions: &[&str], words: &[&str]) {
    let script = Script::smtp().extensions(extensions).on(When::at(stage.clone()).connection(1), answer);
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), IMPATIENT);
    let id = simple(&server, "once", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(words.iter().any(|word| line.contains(word)), "{stage:?}: {line}");
    assert!(line.contains("dsn=4."), "{stage:?}: {line}");
    outcome(&server, &id, "b@example.com", "sent");
    let answered =
        peer.messages().iter().filter(|message| message.replies == ["250 2.0.0 message taken"]).count();
    // What was not answered may have been taken (RFC 1047); what was answered comes no more.
    assert_eq!(answered, 1, "{stage:?}: {}", peer.record().text());
    assert!(peer.messages().len() <= 2, "{stage:?}");
}

const STAGES: [Stage; 6] =
    [Stage::Banner, Stage::Hello, Stage::Mail, Stage::Recipient, Stage::Data, Stage::End];
const CLASSIC: &[&str] = &["8BITMIME"];
const PIPELINED: &[&str] = &["8BITMIME", "PIPELINING"];
const CHUNKED: &[&str] = &["8BITMIME", "PIPELINING", "CHUNKING"];

fn at_each_stage(answer: &Answer, words: &[&str]) {
    for extensions in [CLASSIC, PIPELINED] {
        for stage in STAGES {
            fails_once(&stage, answer.clone(), extensions, words);
        }
    }
    fails_once(&Stage::End, answer.clone(), CHUNKED, words);
}

#[test]
fn a_host_that_says_nothing_more() {
    at_each_stage(&Answer::silence(), &["timed out"]);
}

#[test]
fn a_host_that_hangs_up() {
    at_each_stage(&Answer::close(), &["lost connection"]);
}

#[test]
fn a_host_that_breaks_the_connection() {
    at_each_stage(&Answer::reset(), &["lost connection", "reset", "Broken pipe"]);
}

#[test]
fn a_host_that_speaks_something_else() {
    let garbage = Answer::octets(b"\0\xff\xfeHTTP/1.1 400 Bad Request\r\n\r\n").then(Answer::close());
    at_each_stage(&garbage, &["does not speak the protocol", "lost connection"]);
}

/// RFC 5321 §3.8: 421 may come at any time.
#[test]
fn a_host_that_shuts_down() {
    let busy = Answer::reply("421 4.3.2 shutting down").then(Answer::close());
    at_each_stage(&busy, &["421", "shutting down"]);
}

/// A line without an end must not fill the memory, nor hold the connection for ever.
#[test]
fn a_host_that_never_ends_its_line() {
    let endless = Answer::octets(&[b'2'; 1 << 20]).then(Answer::silence());
    for stage in [Stage::Banner, Stage::Mail, Stage::End] {
        fails_once(&stage, endless.clone(), CLASSIC, &["does not speak the protocol", "timed out", "lost"]);
    }
}

/// A host takes so many messages on a connection, and says so or just hangs up: what it has not begun goes on over the next one, as if nothing
/// had happened.
#[test]
fn a_host_that_ends_connections_after_some_messages() {
    for (extensions, answer) in [
        (CLASSIC, Answer::reply("421 4.7.0 enough").then(Answer::close())),
        (PIPELINED, Answer::reply("421 4.7.0 enough").then(Answer::close())),
        (CHUNKED, Answer::reply("421 4.7.0 enough").then(Answer::close())),
        (PIPELINED, Answer::close()),
        (CHUNKED, Answer::close()),
    ] {
        let mut script = Script::smtp().extensions(extensions);
        for connection in 1..=4 {
            script = script.on(When::at(Stage::Mail).connection(connection).after(3), answer.clone());
        }
        let peer = Peer::start(script);
        let server = smarthost_by(peer.address(), "connections_max = 1\nkeep_connection = \"60s\"\n", SLOW);
        let mut client = Client::greeted(server.mx());
        let ids = (0..12).map(|number| {
            hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &text(&number.to_string()))
        });
        let ids = ids.collect::<Vec<_>>();
        let record = peer.wait_until("its mail", |record| record.messages.len() == 12);
        for id in &ids {
            outcome(&server, id, "b@example.com", "sent");
            let lines = outcomes(&server, id, "b@example.com");
            assert_eq!(lines.len(), 1, "{extensions:?}: {lines:#?}\n{}", record.text());
        }
    }
}

/// A host takes so many connections and no more: that costs no message an attempt.
#[test]
fn a_host_that_takes_two_connections() {
    let mut script =
        Script::smtp().on(When::at(Stage::Mail).times(2), Answer::hold().then(Answer::reply("250 2.1.0 ok")));
    let busy = Answer::reply("421 4.7.0 too many connections").then(Answer::close());
    for connection in 3..=10 {
        script = script.on(When::at(Stage::Banner).connection(connection), busy.clone());
    }
    let peer = Peer::start(script);
    let server = smarthost_by(peer.address(), "keep_connection = \"60s\"\n", SLOW);
    let mut client = Client::greeted(server.mx());
    let mut send = |number: usize| {
        hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &text(&number.to_string()))
    };
    let mut ids = vec![send(0), send(1)];
    peer.wait_for_held(2);
    ids.extend((2..30).map(send));
    peer.wait_until("a connection that is refused", |record| {
        record.connections.iter().any(|connection| connection.ended)
    });
    peer.release_all();
    for id in &ids {
        outcome(&server, id, "b@example.com", "sent");
        let lines = outcomes(&server, id, "b@example.com");
        assert_eq!(lines.len(), 1, "{lines:#?}\n{}", peer.record().text());
    }
    assert_eq!(peer.messages().len(), 30);
}

/// A connection that stands is no success: one that greets and then fails is tried ever more rarely, too.
#[test]
fn a_host_that_greets_and_then_fails() {
    let busy = Answer::reply("421 4.3.2 busy").then(Answer::close());
    let peer = Peer::start(Script::smtp().on(Stage::Mail, busy));
    let server = smarthost(peer.address(), "[queue]\nretry_first = \"500ms\"\nretry_max = \"1h\"\n");
    for number in 0..5 {
        simple(&server, &number.to_string(), &["b@example.com"]);
    }
    let pauses = || {
        let log = server.log();
        let lines =
            log.lines().filter(|line| line.contains("left alone") && line.contains("destination=next "));
        let pauses = lines.filter_map(|line| line.split_once(" pause="));
        pauses.map(|(_, rest)| rest.split(' ').next().unwrap().parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    process::eventually("three pauses", || pauses().len() >= 3);
    // Twice as long each time, and a quarter longer or shorter.
    assert!(pauses().is_sorted_by(|one, next| one < next), "{:?}", pauses());
}

/// RFC 5321 §4.5.3.2: a reply has its time, and not each octet of it.
#[test]
fn a_host_that_replies_octet_by_octet() {
    for stage in [Stage::Banner, Stage::Recipient, Stage::End] {
        let octet = || Answer::hold().then(Answer::octets(b"x"));
        let reply = (0..1000).fold(Answer::octets(b"250 "), |answer, _| answer.then(octet()));
        let peer = Peer::start(Script::smtp().on(stage.clone(), reply.then(Answer::octets(b"\r\n"))));
        let server = smarthost(peer.address(), &format!("{IMPATIENT}{SLOW}"));
        let id = simple(&server, "x", &["b@example.com"]);
        assert_put_off_meanwhile(&server, &id, &peer, "timed out while waiting for a reply");
    }
}

/// Nor has each block of a message its whole time.
#[test]
fn a_host_that_reads_block_by_block() {
    let body = [&text("slow")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(700_000)].concat();
    let marks = (1..1500).map(|number| When::at(Stage::Octets(number * (16 << 10))));
    let script = marks.fold(Script::smtp(), |script, mark| script.on(mark, Answer::hold()));
    let peer = Peer::start(script);
    let relay = "[relay]\nblock_timeout = \"1s\"\nmin_data_rate = \"1GiB/s\"\n".to_owned();
    let tables = [route("next", "smtp", &[peer.address()], ""), domain("*", "next"), SLOW.to_owned(), relay];
    let mut settings = settings(&tables);
    settings.limits.push("message_bytes_max = \"32MiB\"".to_owned());
    let server = Server::with(settings.log(&["segment_bytes = \"64MiB\"", "free_bytes_min = \"16MiB\""]));
    let id = send(&server, "<>", &["<b@example.com>"], &body);
    assert_put_off_meanwhile(&server, &id, &peer, "less than min_data_rate");
}

/// It is put off in these words while the peer goes on step by step.
#[track_caller]
fn assert_put_off_meanwhile(server: &Server, id: &str, peer: &Peer, words: &str) {
    let mut lines = Vec::new();
    process::eventually("an outcome", || {
        peer.release();
        lines = outcomes(server, id, "b@example.com");
        !lines.is_empty()
    });
    assert!(is(&lines[0], "deferred") && lines[0].contains(words), "{lines:#?}");
}

/// In the middle of mail data: half a message is none.
#[test]
fn a_host_that_leaves_in_the_middle_of_a_message() {
    for (answer, words) in [
        (Answer::close(), &["lost connection"][..]),
        (Answer::reset(), &["lost connection"][..]),
        (Answer::reply("451 4.3.0 no more").then(Answer::close()), &["no more", "lost connection"][..]),
        (Answer::silence(), &["timed out"][..]),
    ] {
        for extensions in [CLASSIC, CHUNKED] {
            let script = Script::smtp()
                .extensions(extensions)
                .on(When::at(Stage::Octets(100_000)).connection(1), answer.clone());
            let peer = Peer::start(script);
            let server = smarthost(peer.address(), IMPATIENT);
            let body =
                [&text("half")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(5000)].concat();
            let mut client = Client::greeted(server.mx());
            let id = hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
            let line = outcome(&server, &id, "b@example.com", "deferred");
            assert!(words.iter().any(|word| line.contains(word)), "{line}");
            outcome(&server, &id, "b@example.com", "sent");
            let came = peer.messages();
            let whole = came
                .iter()
                .filter(|message| message.replies == ["250 2.0.0 message taken"])
                .collect::<Vec<_>>();
            assert!(whole.len() == 1 && whole[0].octets.ends_with(&body), "{}", peer.record().text());
        }
    }
}

/// What it says before it hangs up in the middle is its reply, although nobody has asked yet.
#[test]
fn a_host_that_refuses_in_the_middle_of_a_message() {
    let body = [&text("half")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(500_000)].concat();
    for extensions in [CLASSIC, CHUNKED] {
        let refusal = Answer::reply("552 5.3.4 too big").then(Answer::cut());
        let peer = Peer::start(Script::smtp().extensions(extensions).on(Stage::Octets(100_000), refusal));
        let mut settings =
            settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), SLOW.to_owned()]);
        settings.limits.push("message_bytes_max = \"32MiB\"".to_owned());
        let server = Server::with(settings.log(&["segment_bytes = \"64MiB\"", "free_bytes_min = \"16MiB\""]));
        let id = send(&server, "<>", &["<b@example.com>"], &body);
        let mut line = String::new();
        process::eventually("an outcome", || {
            line = outcomes(&server, &id, "b@example.com").pop().unwrap_or_default();
            !line.is_empty()
        });
        assert!(is(&line, "bounced") && line.contains("dsn=5.3.4 ") && line.contains("552 "), "{line}");
    }
}

/// The reply is lost with the connection: the message comes once more, and then never again.
#[test]
fn the_final_reply_is_lost() {
    let script = Script::smtp().on(When::at(Stage::End).times(1), Answer::close());
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), "");
    let id = simple(&server, "twice", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("message may be sent more than once"), "{line}");
    outcome(&server, &id, "b@example.com", "sent");
    // Whatever comes behind it, it stays at two.
    let next = simple(&server, "next", &["b@example.com"]);
    outcome(&server, &next, "b@example.com", "sent");
    assert_eq!(peer.messages().iter().filter(|message| subject(&message.octets) == "twice").count(), 2);
}

/// One attempt has put them off, and the next one is for all of them: not a copy of the message for each.
#[test]
fn recipients_that_are_put_off_together_are_tried_together() {
    let script = Script::smtp().on(When::at(Stage::End).times(1), Answer::reply("451 4.3.0 later"));
    let peer = Peer::start(script);
    // Far enough apart that a spread of a quarter is seen.
    let server = smarthost(peer.address(), "[queue]\nretry_first = \"8s\"\nretry_max = \"8s\"\n");
    let recipients = (0..20).map(|number| format!("r{number}@example.com")).collect::<Vec<_>>();
    let recipients = recipients.iter().map(String::as_str).collect::<Vec<_>>();
    let id = simple(&server, "together", &recipients);
    for recipient in &recipients {
        outcome(&server, &id, recipient, "sent");
    }
    let transactions = peer.messages().iter().map(|message| message.accepted().len()).collect::<Vec<_>>();
    assert_eq!(transactions, [20, 20]);
}

/// Greylisting at each place where it is done. With PIPELINING the recipients behind a refused MAIL are refused for good, with 503: that
/// is about the order of commands, not about them.
#[test]
fn not_now_but_later() {
    let places = [CLASSIC, PIPELINED]
        .into_iter()
        .flat_map(|extensions| STAGES[2..].iter().map(move |stage| (extensions, stage)));
    for (extensions, stage) in places {
        let script = Script::smtp()
            .extensions(extensions)
            .on(When::at(stage.clone()).times(3), Answer::reply("450 4.7.1 come back"));
        let peer = Peer::start(script);
        let server = smarthost(peer.address(), "");
        let id = simple(&server, "grey", &["b@example.com"]);
        // One way or the other.
        process::eventually("an outcome", || {
            let lines = outcomes(&server, &id, "b@example.com");
            lines.iter().any(|line| is(line, "sent") || is(line, "bounced"))
        });
        let lines = outcomes(&server, &id, "b@example.com");
        assert!(!lines.iter().any(|line| is(line, "bounced")), "{stage:?}: {lines:#?}");
        let deferred = lines.iter().filter(|line| is(line, "deferred")).collect::<Vec<_>>();
        assert_eq!(deferred.len(), 3, "{lines:#?}");
        assert!(
            deferred.iter().all(|line| line.contains("dsn=4.7.1 ") && line.contains("come back")),
            "{lines:#?}"
        );
        let taken = peer.messages().iter().filter(|message| message.replies[0].starts_with('2')).count();
        assert_eq!(taken, 1);
    }
}

/// Each recipient of a message goes its own way.
#[test]
fn recipients_fare_differently() {
    let script = Script::smtp()
        .on(When::at(Stage::Recipient).address("gone@*"), Answer::reply("550 5.1.1 who?"))
        .on(When::at(Stage::Recipient).address("later@*").times(1), Answer::reply("451 4.3.0 later"));
    let between = Between::start(script);
    let id = simple(
        &between.server,
        "mixed",
        &["gone@example.com", "b@example.com", "later@example.com", "c@example.com"],
    );
    let line = outcome(&between.server, &id, "gone@example.com", "bounced");
    assert!(line.contains("dsn=5.1.1 ") && line.contains("550 ") && line.contains("who?"), "{line}");
    outcome(&between.server, &id, "b@example.com", "sent");
    outcome(&between.server, &id, "c@example.com", "sent");
    outcome(&between.server, &id, "later@example.com", "deferred");
    outcome(&between.server, &id, "later@example.com", "sent");
    let came = between.peer.wait_for(2);
    assert_eq!(came[0].accepted(), ["b@example.com", "c@example.com"]);
    assert_eq!(came[1].accepted(), ["later@example.com"]);
    let report = between.report();
    assert_eq!(report.recipients(), 1);
    assert_eq!(report.of_recipient("gone@example.com", "status"), "5.1.1");
}

/// RFC 2920 §3.1: a host that says 354 although it has refused all recipients.
#[test]
fn data_for_nobody() {
    let script = Script::smtp()
        .extensions(PIPELINED)
        .on(Stage::Recipient, Answer::reply("550 5.1.1 who?"))
        .on(Stage::Data, Answer::reply("354 go ahead"));
    let between = Between::start(script);
    let id = simple(&between.server, "nobody", &["b@example.com"]);
    outcome(&between.server, &id, "b@example.com", "bounced");
    between.reports.wait_for(1);
    assert!(between.peer.messages().iter().all(|message| message.octets.is_empty()));
    // The connection is still of use.
    between.peer.change(Script::smtp().extensions(PIPELINED));
    let id = simple(&between.server, "next", &["b@example.com"]);
    outcome(&between.server, &id, "b@example.com", "sent");
}

#[test]
fn a_session_that_is_refused_for_good() {
    // That says nothing about the message: another host, or another time.
    for (stage, reply) in [(Stage::Banner, "554 5.7.1 go away"), (Stage::Hello, "550 5.7.1 not you")] {
        let peer = Peer::start(Script::smtp().on(When::at(stage).times(2), Answer::reply(reply)));
        let server = smarthost(peer.address(), "");
        let id = simple(&server, "refused", &["b@example.com"]);
        let line = outcome(&server, &id, "b@example.com", "deferred");
        assert!(line.contains("dsn=4."), "{line}");
        outcome(&server, &id, "b@example.com", "sent");
    }
}

#[test]
fn the_second_best_host() {
    let (first, second) = (nobody(), Peer::start(Script::smtp()));
    let hosts = format!("hosts = [\"20 {}\", \"10 {first}\"]\n", second.address());
    let server = Server::with(settings(&[route("next", "smtp", &[], &hosts), domain("*", "next")]));
    for number in 0..3 {
        let id = simple(&server, &number.to_string(), &["b@example.com"]);
        let line = outcome(&server, &id, "b@example.com", "sent");
        assert!(line.contains(&format!("]:{}", second.address().port())), "{line}");
    }
    assert_eq!(second.messages().len(), 3);
}

/// A host that refuses sessions, hangs up, or has no time is passed over as well.
#[test]
fn the_second_best_host_for_other_reasons() {
    for (stage, answer) in [
        (Stage::Banner, Answer::reply("554 5.3.2 no service")),
        (Stage::Banner, Answer::close()),
        (Stage::Banner, Answer::silence()),
        (Stage::Hello, Answer::reply("421 4.3.2 busy").then(Answer::close())),
        (Stage::Hello, Answer::close()),
    ] {
        let first = Peer::start(Script::smtp().on(stage.clone(), answer));
        let second = Peer::start(Script::smtp());
        let hosts = format!("hosts = [\"10 {}\", \"20 {}\"]\n", first.address(), second.address());
        let server = Server::with(settings(&[
            route("next", "smtp", &[], &hosts),
            domain("*", "next"),
            IMPATIENT.to_owned(),
        ]));
        let id = simple(&server, "x", &["b@example.com"]);
        outcome(&server, &id, "b@example.com", "sent");
        let lines = outcomes(&server, &id, "b@example.com");
        assert_eq!(lines.len(), 1, "it was put off first: {lines:#?}");
        assert!(first.messages().is_empty() && second.messages().len() == 1);
    }
}

/// Neither does one that lets messages begin and then has trouble cost an attempt.
#[test]
fn the_second_best_host_for_the_message() {
    let full = Answer::reply("452 4.3.1 disk full");
    let gone = Answer::reply("421 4.3.2 shutting down").then(Answer::close());
    for (extensions, stage, answer) in [
        (PIPELINED, Stage::Mail, full.clone()),
        (CHUNKED, Stage::Mail, full.clone()),
        (CLASSIC, Stage::Recipient, full.clone()),
        (CHUNKED, Stage::Recipient, gone.clone()),
        (PIPELINED, Stage::Data, Answer::silence()),
        (CLASSIC, Stage::Mail, Answer::close()),
        (CHUNKED, Stage::Mail, Answer::close()),
        (CHUNKED, Stage::Mail, Answer::silence()),
        (PIPELINED, Stage::End, full.clone()),
        (CHUNKED, Stage::End, gone),
    ] {
        let first = Peer::start(Script::smtp().extensions(extensions).on(stage.clone(), answer));
        let second = Peer::start(Script::smtp());
        let server = in_turn(&[&first, &second]);
        let id = simple(&server, "x", &["b@example.com"]);
        let line = outcome(&server, &id, "b@example.com", "sent");
        assert!(line.contains(&format!("]:{}", second.address().port())), "{stage:?}: {line}");
        let lines = outcomes(&server, &id, "b@example.com");
        assert_eq!(lines.len(), 1, "{stage:?}: {lines:#?}");
        assert_eq!(second.messages().len(), 1, "{stage:?}");
    }
}

/// These, the first one first; who is put off stays so.
#[track_caller]
fn in_turn(peers: &[&Peer]) -> Server {
    let hosts = (1..).zip(peers).map(|(number, peer)| format!("\"{number}0 {}\"", peer.address()));
    let hosts = format!("hosts = [{}]\n", hosts.collect::<Vec<_>>().join(", "));
    let tables =
        [route("next", "smtp", &[], &hosts), domain("*", "next"), IMPATIENT.to_owned(), SLOW.to_owned()];
    Server::with(settings(&tables))
}

/// What may have arrived is not sent to another host at once.
#[test]
fn a_message_that_may_have_arrived_stays_with_its_host() {
    let first = Peer::start(Script::smtp().on(Stage::End, Answer::silence()));
    let second = Peer::start(Script::smtp());
    let server = in_turn(&[&first, &second]);
    let id = simple(&server, "x", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "deferred");
    assert!(second.record().connections.is_empty());
}

/// Only those without a last word go to the next host, and a message that has been tried at three waits.
#[test]
fn the_next_host_for_some_recipients() {
    let later = || Answer::reply("451 4.3.0 later");
    let gone = || Answer::reply("550 5.1.1 who?");
    let script = |gone_address: &str| {
        Script::smtp()
            .on(When::at(Stage::Recipient).address(gone_address), gone())
            .on(Stage::Recipient, later())
    };
    let peers = ["a@*", "b@*", "nobody@*"].map(|address| Peer::start(script(address)));
    let fourth = Peer::start(Script::smtp());
    let server = in_turn(&[&peers[0], &peers[1], &peers[2], &fourth]);
    let id = send(&server, "<>", &["<a@example.com>", "<b@example.com>", "<c@example.com>"], &text("x"));
    for (recipient, status, peer) in [
        ("a@example.com", "bounced", &peers[0]),
        ("b@example.com", "bounced", &peers[1]),
        ("c@example.com", "deferred", &peers[2]),
    ] {
        let line = outcome(&server, &id, recipient, status);
        assert!(line.contains(&format!("]:{}", peer.address().port())), "{line}");
        assert_eq!(outcomes(&server, &id, recipient).len(), 1, "{recipient}");
    }
    let asked = |peer: &Peer| peer.commands().iter().filter(|line| line.starts_with("RCPT")).count();
    assert_eq!(peers.each_ref().map(asked), [3, 2, 1]);
    assert!(fourth.record().connections.is_empty());
}

#[test]
fn the_better_host_has_it_all() {
    let (first, second) = (Peer::start(Script::smtp()), Peer::start(Script::smtp()));
    let hosts = format!("hosts = [\"20 {}\", \"10 {}\"]\n", second.address(), first.address());
    let server = Server::with(settings(&[route("next", "smtp", &[], &hosts), domain("*", "next")]));
    for number in 0..20 {
        simple(&server, &number.to_string(), &["b@example.com"]);
    }
    first.wait_for(20);
    assert!(second.record().connections.is_empty());
}

#[test]
fn hosts_of_one_preference_share() {
    let peers = [0, 1].map(|_| Peer::start(Script::smtp()));
    let hosts = peers.each_ref().map(Peer::address);
    // Each message has a connection of its own, and each connection chooses anew.
    let lines = "messages_per_connection = 1\n";
    let server = Server::with(settings(&[route("next", "smtp", &hosts, lines), domain("*", "next")]));
    let mut sent = Vec::new();
    // All to one with a chance of 2^-59.
    for number in 0..60 {
        sent.push(simple(&server, &number.to_string(), &["b@example.com"]));
    }
    for id in &sent {
        outcome(&server, id, "b@example.com", "sent");
    }
    let counts = peers.each_ref().map(|peer| peer.messages().len());
    assert_eq!(counts.iter().sum::<usize>(), 60);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// One destination refuses, one is silent with all of its connections, one is well.
#[test]
fn a_dead_destination_holds_up_no_other() {
    let late = Answer::hold().then(Answer::reply("250 2.1.0 ok"));
    let silent = Peer::start(Script::smtp().on(Stage::Mail, late));
    let well = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("dead", "smtp", &[nobody()], ""),
        route("silent", "smtp", &[silent.address()], ""),
        route("well", "smtp", &[well.address()], ""),
        domain("dead.example", "dead"),
        domain("silent.example", "silent"),
        domain("*", "well"),
    ]));
    let mut client = Client::greeted(server.mx());
    for number in 0..200 {
        let recipients = ["<a@dead.example>", "<b@silent.example>", "<c@well.example>"];
        hand_over(&mut client, &format!("<{SENDER}>"), &recipients, &text(&number.to_string()));
    }
    let came = well.wait_for(200);
    assert!(came.iter().all(|message| message.accepted() == ["c@well.example"]));
    assert!(silent.messages().is_empty());
    silent.release_all();
    silent.change(Script::smtp());
    silent.wait_until("its mail", |record| record.messages.len() == 200);
}

/// More than memory holds for a destination that is slow; the others go on.
#[test]
fn a_backlog_that_is_larger_than_the_memory() {
    let slow =
        Peer::start(Script::smtp().on(Stage::Mail, Answer::hold().then(Answer::reply("250 2.1.0 ok"))));
    let well = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("slow", "smtp", &[slow.address()], "connections_max = 2\n"),
        route("well", "smtp", &[well.address()], ""),
        domain("slow.example", "slow"),
        domain("*", "well"),
        "[relay]\nmemory_max = \"1MiB\"\n".to_owned(),
    ]));
    let body = [&text("large")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(2400)].concat();
    let mut client = Client::greeted(server.mx());
    for _ in 0..40 {
        hand_over(&mut client, &format!("<{SENDER}>"), &["<a@slow.example>"], &body);
    }
    let ids = (0..40).map(|_| hand_over(&mut client, &format!("<{SENDER}>"), &["<c@well.example>"], &body));
    for id in ids.collect::<Vec<_>>() {
        outcome(&server, &id, "c@well.example", "sent");
    }
    slow.release_all();
    slow.wait_until("its mail", |record| record.messages.len() == 40);
    assert!(slow.messages().iter().all(|message| message.octets.ends_with(&body)));
    assert_eq!(well.messages().len(), 40);
}

/// Its connections stay at what they may be while a host refuses one message after the other.
#[test]
fn a_message_that_is_refused_does_not_stop_the_next() {
    let script = Script::smtp().on(When::at(Stage::End).address("bad@*"), Answer::reply("554 5.7.1 spam"));
    let peer = Peer::start(script);
    let server = smarthost_by(peer.address(), "connections_max = 1\n", "");
    let mut client = Client::greeted(server.mx());
    let mut ids = Vec::new();
    for number in 0..40 {
        let recipient = if number % 2 == 0 { "<bad@example.com>" } else { "<good@example.com>" };
        // Nobody is told.
        ids.push(hand_over(&mut client, "<>", &[recipient], &text(&number.to_string())));
    }
    for (number, id) in ids.iter().enumerate() {
        match number % 2 {
            0 => outcome(&server, id, "bad@example.com", "bounced"),
            _ => outcome(&server, id, "good@example.com", "sent"),
        };
    }
    assert_eq!(peer.messages().len(), 40);
}

/// Hosts that take more than the memory holds and never say that they have it keep their own mail waiting, and no other.
#[test]
fn hosts_that_swallow_and_say_nothing() {
    let swallows =
        || Peer::start(Script::smtp().on(Stage::End, Answer::hold().then(Answer::reply("250 2.0.0 taken"))));
    let (one, two, well) = (swallows(), swallows(), Peer::start(Script::smtp()));
    let server = Server::with(settings(&[
        route("one", "smtp", &[one.address()], ""),
        route("two", "smtp", &[two.address()], ""),
        route("well", "smtp", &[well.address()], ""),
        domain("one.example", "one"),
        domain("two.example", "two"),
        domain("*", "well"),
        "[relay]\nmemory_max = \"1MiB\"\n".to_owned(),
    ]));
    let body = [&text("large")[..], &b"0123456789012345678901234567890123456789\r\n".repeat(5600)].concat();
    let mut client = Client::greeted(server.mx());
    // On each of its first four connections.
    for (peer, recipient) in [(&one, "<a@one.example>"), (&two, "<a@two.example>")] {
        for held in 1..=4 {
            hand_over(&mut client, &format!("<{SENDER}>"), &[recipient], &body);
            peer.wait_for_held(held);
        }
    }
    let id = hand_over(&mut client, &format!("<{SENDER}>"), &["<c@well.example>"], &body);
    outcome(&server, &id, "c@well.example", "sent");
    one.release_all();
    two.release_all();
    one.wait_for(4);
    two.wait_for(4);
}

/// A connection that is kept for mail that may come gives way to mail that is there.
#[test]
fn a_kept_connection_gives_way() {
    let (one, other) = (Peer::start(Script::smtp()), Peer::start(Script::smtp()));
    let server = Server::with(settings(&[
        route("one", "smtp", &[one.address()], "keep_connection = \"5m\"\n"),
        route("other", "smtp", &[other.address()], "keep_connection = \"5m\"\n"),
        domain("one.example", "one"),
        domain("*", "other"),
        "[relay]\nconnections_max = 1\n".to_owned(),
    ]));
    for turn in 0..3 {
        for recipient in ["a@one.example", "b@other.example"] {
            let id = simple(&server, &turn.to_string(), &[recipient]);
            outcome(&server, &id, recipient, "sent");
        }
    }
    assert_eq!((one.messages().len(), other.messages().len()), (3, 3));
}
