//! The gateway ends in the middle of delivery: what was acknowledged arrives, at least once, whole.
//!
//! `INRUSH_SEED` repeats the moments of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use inrush_tests::client::Client;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When};
use inrush_tests::process;
use inrush_tests::random::Random;
use inrush_tests::sender::{self, Acknowledged, Round};
use inrush_tests::server::Server;

use crate::delivery::{
    QUICK, SENDER, domain, hand_over, outcome, route, settings, simple, smarthost, subject, text,
};

const ROUNDS: u64 = 30;
const SENDERS: usize = 4;

fn subjects(peer: &Peer) -> BTreeMap<String, usize> {
    let mut subjects = BTreeMap::new();
    for message in
        peer.messages().iter().filter(|message| message.replies.iter().any(|reply| reply.starts_with('2')))
    {
        *subjects.entry(subject(&message.octets)).or_default() += 1;
    }
    subjects
}

/// In the queue since the host was down, then killed.
#[test]
fn deferred_mail_survives_a_kill() {
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    };
    let mut server = smarthost(address, "");
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(simple(&server, &number.to_string(), &["b@example.com", "c@example.com"]));
    }
    outcome(&server, &ids[0], "b@example.com", "deferred");
    server.kill9();
    let peer = Peer::start_at(address, Script::smtp());
    server.restart();
    for id in &ids {
        outcome(&server, id, "b@example.com", "sent");
        outcome(&server, id, "c@example.com", "sent");
    }
    // Each once for each recipient.
    let mut came = Vec::new();
    for message in peer.messages() {
        let recipients = message.accepted().into_iter().map(str::to_owned);
        came.extend(recipients.map(|recipient| (subject(&message.octets), recipient)));
    }
    let count = came.len();
    assert_eq!((count, came.into_iter().collect::<BTreeSet<_>>().len()), (100, 100));
    // Delivered is delivered, also for the next start.
    server.stop();
    server.restart();
    let next = simple(&server, "next", &["b@example.com"]);
    outcome(&server, &next, "b@example.com", "sent");
    let again = peer.messages().iter().map(|message| message.accepted().len()).sum::<usize>();
    assert_eq!(again, 101);
}

/// One of two recipients has it before the kill: the other one alone gets it behind it.
#[test]
fn who_has_it_does_not_get_it_again() {
    let script = Script::smtp()
        .on(When::at(Stage::Recipient).address("later@*"), Answer::reply("450 4.7.1 come back"));
    let peer = Peer::start(script);
    let mut server = smarthost(peer.address(), "");
    let id = simple(&server, "half", &["b@example.com", "later@example.com"]);
    outcome(&server, &id, "b@example.com", "sent");
    outcome(&server, &id, "later@example.com", "deferred");
    // In the order of the queue, the outcome of the next one is on the disk behind that of this one.
    server.stop();
    peer.change(Script::smtp());
    server.restart();
    outcome(&server, &id, "later@example.com", "sent");
    let came = peer.messages();
    assert_eq!(
        came.iter().map(|message| message.accepted()).collect::<Vec<_>>(),
        [["b@example.com"], ["later@example.com"]]
    );
}

/// The peer has all of the message and says nothing; the gateway dies, and cannot know.
#[test]
fn killed_between_the_data_and_its_reply() {
    let hold = Answer::hold().then(Answer::reply("250 2.0.0 late"));
    let peer = Peer::start(Script::smtp().on(When::at(Stage::End).times(1), hold));
    let mut server = smarthost(peer.address(), "");
    let id = simple(&server, "unknown", &["b@example.com"]);
    peer.wait_for_held(1);
    server.kill9();
    peer.release();
    server.restart();
    outcome(&server, &id, "b@example.com", "sent");
    assert_eq!(peer.messages().len(), 2);
}

/// An end in order waits for the dialogs under way.
#[test]
fn stopped_in_the_middle_of_a_dialog() {
    let hold = Answer::hold().then(Answer::reply("250 2.0.0 late"));
    let peer = Peer::start(Script::smtp().on(When::at(Stage::End).times(1), hold));
    let mut server = smarthost(peer.address(), "");
    let id = simple(&server, "slow", &["b@example.com"]);
    peer.wait_for_held(1);
    server.terminate();
    server.wait_for_log("stop");
    peer.release();
    let status = server.wait();
    assert!(status.success(), "{status}");
    outcome(&server, &id, "b@example.com", "sent");
    server.restart();
    let next = simple(&server, "next", &["b@example.com"]);
    outcome(&server, &next, "b@example.com", "sent");
    assert_eq!(subjects(&peer), BTreeMap::from([("slow".to_owned(), 1), ("next".to_owned(), 1)]));
}

/// Dozens of kills while mail flows through: every acknowledged message arrives, whole.
fn kills(script: Script, tables: &str, engine: &str) {
    let peer = Peer::start(script);
    let text =
        settings(&[route("next", "smtp", &[peer.address()], ""), domain("*", "next"), tables.to_owned()]);
    let text = text.engine(engine).log(&["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""]);
    let mut server = Server::with(text);
    let mut random = Random::from_environment();
    let mut acknowledged = BTreeSet::new();
    let mut numbers = 0;
    for _ in 0..ROUNDS {
        let round = Round::from(numbers);
        let address = server.mx();
        let later = Duration::from_millis(5 + random.below(300));
        let sent: Vec<Acknowledged> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| round.send(address))).collect();
            let _guard = round.guard();
            process::eventually("a message is acknowledged", || round.next() > numbers + SENDERS as u64);
            std::thread::sleep(later);
            round.over.store(true, std::sync::atomic::Ordering::SeqCst);
            server.kill9();
            let joined = senders.into_iter().map(|sender| sender.join());
            joined.flat_map(|sent| sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        numbers = round.next();
        acknowledged.extend(sent.into_iter().map(|one| one.number));
        server.restart();
        if random.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(100)));
            server.restart();
        }
    }
    let taken = || {
        let messages = peer.messages();
        let taken =
            messages.into_iter().filter(|message| message.replies.iter().any(|reply| reply.starts_with('2')));
        taken.collect::<Vec<_>>()
    };
    let mut missing = BTreeSet::new();
    process::holds_within(process::PATIENCE, || {
        let came =
            taken().iter().filter_map(|message| sender::number(&message.octets)).collect::<BTreeSet<_>>();
        missing = acknowledged.difference(&came).copied().collect();
        missing.is_empty()
    });
    assert!(missing.is_empty(), "{} of {} never arrived: {missing:?}", missing.len(), acknowledged.len());
    for message in taken() {
        let number = sender::number(&message.octets).unwrap();
        inrush_tests::export::assert_body(&message.octets, &sender::body(number), &number.to_string());
    }
    eprintln!("{} acknowledged, {} deliveries in {ROUNDS} rounds", acknowledged.len(), taken().len());
    // Behind all that it still works, and an end in order leaves nothing owed.
    let id = simple(&server, "after", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "sent");
    server.stop();
}

#[test]
fn killed_while_mail_flows() {
    kills(Script::smtp(), QUICK, "io_uring");
}

/// Part of it is put off again and again: the queue is written all the time.
#[test]
fn killed_while_mail_is_deferred() {
    let script = Script::smtp()
        .on(When::at(Stage::Recipient).times(150), Answer::reply("450 4.7.1 come back"))
        .on(When::at(Stage::End).times(20), Answer::close());
    kills(script, QUICK, "epoll");
}

/// The same without a pause between kills: a start that is cut off changes nothing.
#[test]
fn killed_at_every_start() {
    let hold = Answer::hold().then(Answer::reply("250 2.0.0 late"));
    let peer = Peer::start(Script::smtp().on(Stage::End, hold));
    let mut server = smarthost(peer.address(), "");
    let mut client = Client::greeted(server.mx());
    for number in 0..20 {
        hand_over(&mut client, &format!("<{SENDER}>"), &["<b@example.com>"], &text(&number.to_string()));
    }
    for _ in 0..10 {
        server.restart();
    }
    peer.change(Script::smtp());
    peer.release_all();
    process::eventually("all arrive", || subjects(&peer).len() == 20);
    let next = simple(&server, "next", &["b@example.com"]);
    outcome(&server, &next, "b@example.com", "sent");
}
