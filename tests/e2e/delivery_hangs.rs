//! Next hops that fall silent: before they take the connection, at each command, in the handshake, while mail data is sent to them. What they have
//! goes to the next host, or to the same one later; nothing waits longer than it is told to.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use inrush_tests::peer::{Answer, Peer, Script, Stage, When, server_config};
use inrush_tests::process;
use inrush_tests::random::Random;
use inrush_tests::server::Server;
use inrush_tests::tls::Authority;
use socket2::{Domain, Socket, Type};

use crate::delivery::{
    SENDER, domain, outcome, outcomes, route, send, settings, simple, smarthost, smarthost_by, subject, text,
};

/// Longer than a host needs that is well, however busy the machine is; a host that is not is waited for as long.
const IMPATIENT: &str = "[relay]\nconnect_timeout = \"2s\"\ngreeting_timeout = \"2s\"\nhandshake_timeout = \"2s\"\n\
    command_timeout = \"2s\"\ndata_timeout = \"2s\"\nend_timeout = \"2s\"\n";
/// For a host that does not read.
const IMPATIENT_WRITER: &str = "[relay]\nblock_timeout = \"2s\"\n";
const CLASSIC: &[&str] = &["8BITMIME"];
const PIPELINED: &[&str] = &["8BITMIME", "PIPELINING"];
const CHUNKED: &[&str] = &["8BITMIME", "PIPELINING", "CHUNKING"];

/// A host that does not answer a request for a connection: its queue of them is full, and nobody takes one out.
struct Full {
    listener: Socket,
    address: SocketAddr,
    _queued: Vec<TcpStream>,
}

impl Full {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // One is queued with a length of 0, at most; the request behind it is not answered.
        let limit = std::time::Duration::from_millis(500);
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, limit) {
            queued.push(stream);
            assert!(queued.len() < 100, "its queue has no end");
        }
        Self { listener, address, _queued: queued }
    }

    /// Takes connections again, those that were queued as well.
    fn mend(self) -> Peer {
        let Self { listener, address, _queued } = self;
        drop(listener);
        let mut peer = None;
        process::eventually("the port is free", || {
            let free = std::net::TcpListener::bind(address).is_ok();
            if free {
                peer = Some(Peer::start_at(address, Script::smtp()));
            }
            free
        });
        peer.unwrap()
    }
}

fn hosts(first: SocketAddr, second: SocketAddr) -> String {
    format!("hosts = [\"10 {first}\", \"20 {second}\"]\n")
}

#[test]
fn a_host_that_does_not_take_the_connection() {
    let full = Full::new();
    let server = smarthost(full.address, IMPATIENT);
    let id = simple(&server, "patient", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.4.1 ") && line.contains("Connection timed out"), "{line}");
    let peer = full.mend();
    outcome(&server, &id, "b@example.com", "sent");
    assert_eq!(peer.messages().len(), 1);
}

#[test]
fn the_next_host_when_one_does_not_take_the_connection() {
    let (full, second) = (Full::new(), Peer::start(Script::smtp()));
    let lines = hosts(full.address, second.address());
    let server = Server::with(settings(&[
        route("next", "smtp", &[], &lines),
        domain("*", "next"),
        IMPATIENT.to_owned(),
    ]));
    for number in 0..3 {
        let id = simple(&server, &number.to_string(), &["b@example.com"]);
        outcome(&server, &id, "b@example.com", "sent");
        assert_eq!(outcomes(&server, &id, "b@example.com").len(), 1, "it was put off first");
    }
    // It is passed over for a minute: only the first message has waited for it.
    let log = server.log();
    assert_eq!(log.lines().filter(|line| line.contains("Connection timed out")).count(), 1, "{log}");
}

/// The handshake of TLS: once more in the clear where that may be, the next host where it may not.
#[test]
fn a_host_that_is_silent_in_the_handshake() {
    let authority = Authority::new();
    let silent = || {
        let config = server_config(&authority.issue("peer.test.example"));
        let silence = Answer::reply("220 2.0.0 go ahead").then(Answer::silence());
        Script::smtp().tls(config).on(Stage::StartTls, silence)
    };
    let peer = Peer::start(silent());
    let server = smarthost(peer.address(), IMPATIENT);
    let id = simple(&server, "clear", &["b@example.com"]);
    outcome(&server, &id, "b@example.com", "sent");
    assert!(!peer.messages()[0].secure);
    assert!(server.log().contains("timed out"));

    let server = smarthost_by(peer.address(), "tls = \"required\"\n", IMPATIENT);
    let id = simple(&server, "secret", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.7.5 ") && line.contains("timed out"), "{line}");
    assert_eq!(peer.messages().len(), 1);
}

#[test]
fn a_host_that_does_not_answer_starttls() {
    let authority = Authority::new();
    let config = server_config(&authority.issue("peer.test.example"));
    let script = Script::smtp().tls(config).on(When::at(Stage::StartTls).connection(1), Answer::silence());
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), IMPATIENT);
    let id = simple(&server, "x", &["b@example.com"]);
    let line = outcome(&server, &id, "b@example.com", "deferred");
    assert!(line.contains("timed out"), "{line}");
    outcome(&server, &id, "b@example.com", "sent");
    assert!(peer.messages()[0].secure);
}

/// The window fills up, and nobody reads: by DATA and by BDAT, in the clear and behind TLS.
#[test]
fn a_host_that_reads_no_more() {
    let authority = Authority::new();
    let body = [text("large"), Random::new(4).text(20 << 20)].concat();
    for extensions in [CLASSIC, CHUNKED] {
        for secure in [false, true] {
            let mut script = Script::smtp()
                .extensions(extensions)
                .on(When::at(Stage::Octets(100_000)).connection(1), Answer::hold());
            if secure {
                script = script.tls(server_config(&authority.issue("peer.test.example")));
            }
            let peer = Peer::start(script);
            let server = smarthost(peer.address(), IMPATIENT_WRITER);
            let id = send(&server, &format!("<{SENDER}>"), &["<b@example.com>"], &body);
            let line = outcome(&server, &id, "b@example.com", "deferred");
            assert!(line.contains("dsn=4.4.2 ") && line.contains("timed out while sending"), "{line}");
            assert!(!line.contains("more than once"), "half of it is not a message: {line}");
            peer.release_all();
            outcome(&server, &id, "b@example.com", "sent");
            let came = peer.messages();
            assert!(came.len() == 1 && came[0].octets.ends_with(&body));
        }
    }
}

/// LMTP: silent after the first of two replies. Who has it does not get it again.
#[test]
fn a_store_that_is_silent_between_its_replies() {
    let script = Script::lmtp().on(When::at(Stage::End).address("second@*").connection(1), Answer::silence());
    let peer = Peer::start(script);
    let server = Server::with(settings(&[
        route("store", "lmtp", &[peer.address()], ""),
        domain("*", "store"),
        IMPATIENT.to_owned(),
    ]));
    let id = simple(&server, "half", &["first@example.com", "second@example.com"]);
    outcome(&server, &id, "first@example.com", "sent");
    let line = outcome(&server, &id, "second@example.com", "deferred");
    assert!(line.contains("timed out"), "{line}");
    outcome(&server, &id, "second@example.com", "sent");
    let came = peer.messages().iter().map(|message| message.accepted().len()).collect::<Vec<_>>();
    assert_eq!(came, [2, 1]);
}

/// Several messages are on their way when the host falls silent: those that were answered are done, the others come again.
#[test]
fn a_host_that_falls_silent_in_the_middle_of_a_pipeline() {
    for stage in [Stage::Mail, Stage::Recipient, Stage::Data, Stage::End] {
        for extensions in [CLASSIC, PIPELINED] {
            let silence = When::at(stage.clone()).after(5).times(1);
            let peer = Peer::start(Script::smtp().extensions(extensions).on(silence, Answer::silence()));
            let server = smarthost_by(peer.address(), "connections_max = 1\n", IMPATIENT);
            let ids = (0..12).map(|number| simple(&server, &number.to_string(), &["b@example.com"]));
            let ids = ids.collect::<Vec<_>>();
            for id in &ids {
                outcome(&server, id, "b@example.com", "sent");
            }
            let messages = peer.messages();
            let answered = messages.iter().filter(|one| one.replies == ["250 2.0.0 message taken"]);
            let mut answered = answered.map(|one| subject(&one.octets)).collect::<Vec<_>>();
            answered.sort_by_key(|number| number.parse::<u32>().unwrap());
            let all = (0..12).map(|number: u32| number.to_string()).collect::<Vec<_>>();
            assert_eq!(answered, all, "{stage:?}: each is taken once");
        }
    }
}

/// The best host takes connections and greets, and never gets further; another one is well.
#[test]
fn the_next_host_when_one_falls_silent_after_its_greeting() {
    for stage in [Stage::Mail, Stage::Recipient, Stage::Data, Stage::End] {
        for extensions in [CLASSIC, PIPELINED] {
            let first =
                Peer::start(Script::smtp().extensions(extensions).on(stage.clone(), Answer::silence()));
            let second = Peer::start(Script::smtp());
            let lines = hosts(first.address(), second.address());
            let server = Server::with(settings(&[
                route("next", "smtp", &[], &lines),
                domain("*", "next"),
                IMPATIENT.to_owned(),
            ]));
            let id = simple(&server, "elsewhere", &["b@example.com"]);
            outcome(&server, &id, "b@example.com", "sent");
            assert_eq!(second.messages().len(), 1, "{stage:?}");
        }
    }
}
