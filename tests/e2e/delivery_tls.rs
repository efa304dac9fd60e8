//! TLS with next hops: whoever it is where that is enough, only who is meant where it is not, and never what was said before.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use inrush_tests::client::Client;
use inrush_tests::dns_server::DnsServer;
use inrush_tests::exim::EximServer;
use inrush_tests::http::Samples;
use inrush_tests::peer::{Answer, Peer, Script, Stage, When, server_config};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::tls::Authority;
use rustls::ProtocolVersion;

use crate::delivery::{
    Report, SENDER, domain, hand_over, outcome, outcomes, route, settings, simple, smarthost, smarthost_by,
    text,
};

const NAME: &str = "peer.test.example";
const RECIPIENT: &str = "b@example.com";

/// To hosts by name, which this authority vouches for.
fn required(hosts: &[&str], dns: &DnsServer, ca: &Path) -> Server {
    let hosts = hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
    let lines = format!("hosts = [{hosts}]\ntls = \"required\"\n");
    let relay = format!("[relay]\nresolver = [\"{}\"]\nca_file = \"{}\"\n", dns.address(), ca.display());
    Server::with(settings(&[route("next", "smtp", &[], &lines), domain("*", "next"), relay]))
}

fn dns() -> DnsServer {
    DnsServer::start(&format!("{NAME}. A 127.0.0.1\nother.test.example. A 127.0.0.1\n"))
}

#[test]
fn whatever_certificate_is_better_than_none() {
    // Of an authority that nobody knows, for another name.
    let authority = Authority::new();
    let peer = Peer::start(Script::smtp().tls(server_config(&authority.issue("self.signed.example"))));
    let server = smarthost(peer.address(), "");
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    assert!(peer.messages()[0].secure);
    let tls = peer.record().connections[0].tls.clone().unwrap();
    assert_eq!(tls.version, Some(ProtocolVersion::TLSv1_3));
    // RFC 3207 §4.2: EHLO again, and RFC 6066 §3: no address as a name.
    assert_eq!(peer.commands().iter().filter(|command| command.starts_with("EHLO")).count(), 2);
    assert_eq!(tls.server_name, None);
    connections_counted(&server, &["TLSv1.3"]);
}

/// One connection to the next hop is counted for each of these, and no other one.
fn connections_counted(server: &Server, expected: &[&str]) {
    let counted = |samples: &Samples, tls: &&str| {
        let labels = ["route=\"next\"", &format!("tls=\"{tls}\"")];
        samples.sum("inrush_delivery_connections_total", &labels)
    };
    process::eventually("connections are counted by TLS", || {
        let samples = Samples::scrape(server.admin());
        expected.iter().all(|tls| counted(&samples, tls) == 1.0)
            && samples.sum("inrush_delivery_connections_total", &[]) == expected.len() as f64
    });
}

#[test]
fn exim_under_tls() {
    let authority = Authority::new();
    let exim = EximServer::secure(&authority.issue("mx.test.example"));
    let server = smarthost(exim.address(), "");
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    let kept = exim.wait_for_kept(1);
    assert!(String::from_utf8_lossy(&kept[0]).contains("(TLS1.3)"), "{}", exim.log());
}

#[test]
fn no_tls_where_it_is_not_wanted_or_not_offered() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(NAME));
    let offered = Peer::start(Script::smtp().tls(config));
    let server = smarthost_by(offered.address(), "tls = \"off\"\n", "");
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    assert!(!offered.messages()[0].secure);
    assert!(!offered.commands().contains(&"STARTTLS".to_owned()));
    let not_offered = Peer::start(Script::smtp());
    let server = smarthost(not_offered.address(), "");
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    assert!(!not_offered.commands().contains(&"STARTTLS".to_owned()));
    connections_counted(&server, &["none"]);
}

/// RFC 7435: opportunistic means that mail is not lost for want of TLS, nor late.
#[test]
fn in_the_clear_when_the_handshake_fails() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(NAME));
    let go = || Answer::reply("220 2.0.0 go ahead");
    for (answer, counted) in [
        (
            go().then(Answer::octets(b"this is no TLS at all\r\n")).then(Answer::close()),
            &["none", "failed"][..],
        ),
        (go().then(Answer::close()), &["none", "failed"][..]),
        (go().then(Answer::reset()), &["none", "failed"][..]),
        (go().then(Answer::silence()), &["none", "failed"][..]),
        (Answer::reply("454 4.7.0 not now"), &["none"]),
        (Answer::reply("500 5.5.1 what?"), &["none"]),
    ] {
        let script = Script::smtp().tls(Arc::clone(&config)).on(Stage::StartTls, answer.clone());
        let peer = Peer::start(script);
        let server = smarthost(peer.address(), "[relay]\nhandshake_timeout = \"500ms\"\n");
        let id = simple(&server, "x", &[RECIPIENT]);
        outcome(&server, &id, RECIPIENT, "sent");
        assert_eq!(outcomes(&server, &id, RECIPIENT).len(), 1, "{answer:?}");
        assert!(!peer.messages()[0].secure, "{answer:?}");
        connections_counted(&server, counted);
    }
}

/// The host whose handshake fails is gone before it can be spoken to in the clear: that leave was for it alone.
#[test]
fn in_the_clear_to_that_host_only() {
    let authority = Authority::new();
    let next = Peer::start(Script::smtp().tls(server_config(&authority.issue(NAME))));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bad = listener.local_addr().unwrap();
    let dialog = std::thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        drop(listener);
        let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
        client.write_all(b"220 bad.test.example\r\n").unwrap();
        for reply in ["250-bad.test.example\r\n250 STARTTLS\r\n", "220 go ahead\r\nthis is no TLS at all\r\n"]
        {
            lines.next().unwrap().unwrap();
            client.write_all(reply.as_bytes()).unwrap();
        }
    });
    let hosts = format!("hosts = [\"10 {bad}\", \"20 {}\"]\n", next.address());
    let server = Server::with(settings(&[route("next", "smtp", &[], &hosts), domain("*", "next")]));
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    dialog.join().unwrap();
    assert!(next.messages()[0].secure, "{}", next.record().text());
}

/// CVE-2011-0411: what stands in the clear behind the 220 was said by anybody.
#[test]
fn what_was_said_before_is_not_used() {
    let authority = Authority::new();
    let config = server_config(&authority.issue(NAME));
    // A capability of the attacker: with it, the size would be announced.
    let injected =
        Answer::octets(b"220 go ahead\r\n250-peer.test.example\r\n250 SIZE 1\r\n").then(Answer::handshake());
    let injects = Script::smtp().tls(Arc::clone(&config)).on(Stage::StartTls, injected.clone());
    let peer = Peer::start(injects);
    let server = smarthost(peer.address(), "");
    let id = simple(&server, "x", &[RECIPIENT]);
    let line = outcome(&server, &id, RECIPIENT, "sent");
    assert!(!line.contains("size"), "{line}");
    assert!(peer.messages()[0].replies[0].starts_with("250"), "{}", peer.record().text());
    // Where TLS is a must, such a host gets nothing.
    let dns = dns();
    let good = server_config(&authority.issue(NAME));
    let peer = Peer::start(Script::smtp().tls(good).on(Stage::StartTls, injected));
    let server = required(&[&format!("{NAME}:{}", peer.address().port())], &dns, &authority.certificate());
    let id = simple(&server, "x", &[RECIPIENT]);
    let line = outcome(&server, &id, RECIPIENT, "deferred");
    assert!(line.contains("dsn=4.7."), "{line}");
    assert!(peer.messages().is_empty());
}

#[test]
fn required_of_who_is_meant() {
    let (authority, dns) = (Authority::new(), dns());
    let peer = Peer::start(Script::smtp().tls(server_config(&authority.issue(NAME))));
    let server = required(&[&format!("{NAME}:{}", peer.address().port())], &dns, &authority.certificate());
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    assert!(peer.messages()[0].secure);
    let tls = peer.record().connections[0].tls.clone().unwrap();
    assert_eq!(tls.server_name.as_deref(), Some(NAME));
}

#[test]
fn required_of_an_address() {
    let (authority, dns) = (Authority::new(), dns());
    let peer = Peer::start(Script::smtp().tls(server_config(&authority.issue("127.0.0.1"))));
    let server = required(&[&peer.address().to_string()], &dns, &authority.certificate());
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
}

/// Deferred, not returned: whoever runs the host may mend it.
#[test]
fn required_of_somebody_else() {
    let (authority, unknown, dns) = (Authority::new(), Authority::new(), dns());
    let named = |authority: &Authority, name: &str| Script::smtp().tls(server_config(&authority.issue(name)));
    for (script, words) in [
        (named(&authority, "other.test.example"), "name"),
        (named(&unknown, NAME), "not trusted"),
        (Script::smtp().tls(server_config(&authority.issue_until("old", NAME, 2021))), "expired"),
        (Script::smtp(), "not offered"),
        (named(&authority, NAME).on(Stage::StartTls, Answer::reply("454 4.7.0 not now")), "not now"),
        (
            named(&authority, NAME).on(Stage::StartTls, Answer::reply("220 go").then(Answer::close())),
            "TLS with host",
        ),
    ] {
        let peer = Peer::start(script);
        let server =
            required(&[&format!("{NAME}:{}", peer.address().port())], &dns, &authority.certificate());
        let id = simple(&server, "x", &[RECIPIENT]);
        let line = outcome(&server, &id, RECIPIENT, "deferred");
        assert!(line.contains("dsn=4.7.") && line.contains(words), "{words}: {line}");
        let record = peer.record();
        assert!(record.messages.is_empty(), "{}", record.text());
        assert!(!peer.commands().iter().any(|command| command.starts_with("MAIL")), "{}", record.text());
    }
}

/// The next host may be as good as it should be.
#[test]
fn required_and_the_next_host_has_it() {
    let (authority, dns) = (Authority::new(), dns());
    let wrong = Peer::start(Script::smtp().tls(server_config(&authority.issue("wrong.test.example"))));
    let right = Peer::start(Script::smtp().tls(server_config(&authority.issue("other.test.example"))));
    let first = format!("10 {NAME}:{}", wrong.address().port());
    let second = format!("20 other.test.example:{}", right.address().port());
    let server = required(&[&first, &second], &dns, &authority.certificate());
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
    assert_eq!(outcomes(&server, &id, RECIPIENT).len(), 1);
    assert!(wrong.messages().is_empty() && right.messages().len() == 1);
}

/// Mail waits for the host to be mended.
#[test]
fn mended_later() {
    let (authority, dns) = (Authority::new(), dns());
    let peer = Peer::start(Script::smtp());
    let server = required(&[&format!("{NAME}:{}", peer.address().port())], &dns, &authority.certificate());
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "deferred");
    peer.change(Script::smtp().tls(server_config(&authority.issue(NAME))));
    outcome(&server, &id, RECIPIENT, "sent");
    assert!(peer.messages()[0].secure);
}

/// What a host offers in the clear does not count under TLS.
#[test]
fn extensions_are_those_under_tls() {
    let authority = Authority::new();
    let clear = "250-peer.test.example\n250-STARTTLS\n250 SIZE 1";
    let script = Script::smtp()
        .tls(server_config(&authority.issue(NAME)))
        .on(When::at(Stage::Hello).secure(false), Answer::reply(clear));
    let peer = Peer::start(script);
    let server = smarthost(peer.address(), "");
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
}

#[test]
fn authorities_are_read_from_the_file_that_is_named() {
    let (authority, dns) = (Authority::new(), dns());
    let peer = Peer::start(Script::smtp().tls(server_config(&authority.issue(NAME))));
    // Two in one file, the right one last.
    let both = authority.folder().join("both.pem");
    let other = Authority::new();
    let text = fs::read_to_string(other.certificate()).unwrap()
        + &fs::read_to_string(authority.certificate()).unwrap();
    fs::write(&both, text).unwrap();
    let server = required(&[&format!("{NAME}:{}", peer.address().port())], &dns, &both);
    let id = simple(&server, "x", &[RECIPIENT]);
    outcome(&server, &id, RECIPIENT, "sent");
}

/// A gateway that takes mail under TLS, and hands it on by this route: under TLS to a host with this certificate. Reports go to a peer of their own.
struct Chain {
    server: Server,
    peer: Peer,
    reports: Peer,
    _dns: DnsServer,
    _authority: Authority,
}

impl Chain {
    /// `extensions` = those of the next hop, `back` = those of the way back, each under TLS.
    fn start(tls: &str, extensions: &[&str], back: &[&str]) -> Self {
        let (authority, dns) = (Authority::new(), dns());
        let certificate = server_config(&authority.issue(NAME));
        let peer = Peer::start(Script::smtp().tls(Arc::clone(&certificate)).extensions(extensions));
        let reports = Peer::start(Script::smtp().tls(certificate).extensions(back));
        let hop = |name: &str, peer: &Peer, tls: &str| {
            let lines = format!("hosts = [\"{NAME}:{}\"]\ntls = \"{tls}\"\n", peer.address().port());
            route(name, "smtp", &[], &lines)
        };
        let relay = format!(
            "[relay]\nresolver = [\"{}\"]\nca_file = \"{}\"\n",
            dns.address(),
            authority.certificate().display()
        );
        let mine = authority.issue("mx.test.example");
        let server = Server::with(
            settings(&[
                hop("next", &peer, tls),
                hop("back", &reports, "required"),
                domain("*", "next"),
                domain("client.test.example", "back"),
                relay,
                format!("[tls]\n{}", mine.lines()),
            ])
            .listener("tls = \"starttls\""),
        );
        Self { server, peer, reports, _dns: dns, _authority: authority }
    }

    /// One message under TLS; its id. `mail` = the reverse-path with its parameters.
    fn send(&self, mail: &str, recipients: &[&str]) -> String {
        let mut client = Client::greeted(self.server.mx());
        client.start_tls("mx.test.example");
        client.say("EHLO client.test.example", 250);
        hand_over(&mut client, mail, recipients, &text("secret"))
    }
}

const REQUIRETLS: &[&str] = &["PIPELINING", "8BITMIME", "SIZE", "DSN", "REQUIRETLS"];
const NO_REQUIRETLS: &[&str] = &["PIPELINING", "8BITMIME", "SIZE", "DSN"];

/// RFC 8689 §4.2.1: to a host that is who it should be, offers it, and is asked for the same.
#[test]
fn requiretls_goes_on() {
    let chain = Chain::start("required", REQUIRETLS, REQUIRETLS);
    let id = chain.send(&format!("<{SENDER}> REQUIRETLS"), &[&format!("<{RECIPIENT}>")]);
    outcome(&chain.server, &id, RECIPIENT, "sent");
    let message = &chain.peer.messages()[0];
    assert!(message.secure);
    assert!(message.reverse_path.parameters.iter().any(|one| one == "REQUIRETLS"), "{message:?}");
    // And only what came with it.
    chain.send(&format!("<{SENDER}>"), &[&format!("<{RECIPIENT}>")]);
    let message = &chain.peer.wait_for(2)[1];
    assert!(!message.reverse_path.parameters.iter().any(|one| one == "REQUIRETLS"), "{message:?}");
}

/// RFC 8689 §4.2.1: returned where the host does not offer it, or the route does not look at who it is. Nothing of it is sent.
#[test]
fn requiretls_goes_nowhere_else() {
    for (tls, extensions) in [("required", NO_REQUIRETLS), ("opportunistic", REQUIRETLS), ("off", REQUIRETLS)]
    {
        let chain = Chain::start(tls, extensions, REQUIRETLS);
        let id = chain.send(&format!("<{SENDER}> REQUIRETLS"), &[&format!("<{RECIPIENT}>")]);
        let line = outcome(&chain.server, &id, RECIPIENT, "bounced");
        assert!(line.contains("dsn=5.7.30 ") && line.contains("REQUIRETLS"), "{tls}: {line}");
        let report = Report::read(&chain.reports.wait_for(1)[0].octets);
        assert_eq!(report.of_recipient(RECIPIENT, "status"), "5.7.30");
        assert!(!chain.peer.commands().iter().any(|line| line.starts_with("MAIL")));
        // Other mail goes there.
        let id = chain.send(&format!("<{SENDER}>"), &[&format!("<{RECIPIENT}>")]);
        outcome(&chain.server, &id, RECIPIENT, "sent");
    }
}

/// RFC 8689 §5: what is said about such a message is as secret as the message: with REQUIRETLS on its way back, and the header at most, whatever RET
/// says.
#[test]
fn a_report_on_requiretls_is_as_secret() {
    let chain = Chain::start("required", NO_REQUIRETLS, REQUIRETLS);
    let id = chain.send(&format!("<{SENDER}> REQUIRETLS RET=FULL"), &[&format!("<{RECIPIENT}>")]);
    outcome(&chain.server, &id, RECIPIENT, "bounced");
    let message = &chain.reports.wait_for(1)[0];
    assert_eq!(Report::read(&message.octets).returned().0, "text/rfc822-headers");
    assert!(message.reverse_path.parameters.iter().any(|one| one == "REQUIRETLS"), "{message:?}");
}

/// RFC 8689 §5: a message with the null reverse-path is not thrown away since a host does not offer REQUIRETLS: nobody would hear of it.
#[test]
fn requiretls_of_a_message_from_nobody() {
    let chain = Chain::start("required", NO_REQUIRETLS, REQUIRETLS);
    let id = chain.send("<> REQUIRETLS", &[&format!("<{RECIPIENT}>")]);
    outcome(&chain.server, &id, RECIPIENT, "sent");
}
