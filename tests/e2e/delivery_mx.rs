//! Mail hosts by DNS: the order of RFC 5321 §5.1, what has no mail host, and what cannot be known now.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use inrush_tests::dns_server::DnsServer;
use inrush_tests::peer::{Answer, Peer, Script, Stage};
use inrush_tests::server::Server;
use socket2::{Domain, Socket, Type};

use crate::delivery::{QUICK, Report, domain, is, outcome, outcomes, route, settings, simple};

/// Peers on one port of several addresses of loopback, the first at 127.0.0.2.
fn hosts(count: u8) -> (Vec<Peer>, u16) {
    let ip = |number: u8| IpAddr::from(Ipv4Addr::new(127, 0, 0, number));
    let first = Peer::start_at(SocketAddr::new(ip(2), 0), Script::smtp());
    let port = first.address().port();
    let others =
        (3..2 + count).map(|number| Peer::start_at(SocketAddr::new(ip(number), port), Script::smtp()));
    let peers = std::iter::once(first).chain(others.collect::<Vec<_>>()).collect();
    (peers, port)
}

/// A gateway that looks up mail hosts there; reports go to a peer of their own.
struct Sender {
    server: Server,
    reports: Peer,
}

impl Sender {
    #[track_caller]
    fn start(dns: &DnsServer, port: u16, relay: &str) -> Self {
        Self::with(dns, port, relay, QUICK)
    }

    #[track_caller]
    fn with(dns: &DnsServer, port: u16, relay: &str, queue: &str) -> Self {
        let reports = Peer::start(Script::smtp());
        let server = Server::with(settings(&[
            route("out", "smtp", &[], &format!("port = {port}\n")),
            route("back", "smtp", &[reports.address()], ""),
            domain("client.test.example", "back"),
            domain("*", "out"),
            format!("[relay]\nresolver = [\"{}\"]\nresolver_cache = 0\n{relay}", dns.address()),
            queue.to_owned(),
        ]));
        Self { server, reports }
    }

    /// Accepted by the peer.
    #[track_caller]
    fn arrives(&self, recipient: &str, peer: &Peer) {
        let before = peer.messages().len();
        let id = simple(&self.server, "x", &[recipient]);
        outcome(&self.server, &id, recipient, "sent");
        assert_eq!(peer.messages().len(), before + 1, "{:#?}", outcomes(&self.server, &id, recipient));
    }

    /// Returned with this status.
    #[track_caller]
    fn returned(&self, recipient: &str, status: &str) {
        let before = self.reports.messages().len();
        let id = simple(&self.server, "x", &[recipient]);
        let line = outcome(&self.server, &id, recipient, "bounced");
        assert!(line.contains(&format!("dsn={status} ")), "{line}");
        let report = Report::read(&self.reports.wait_for(before + 1)[before].octets);
        assert_eq!(report.of_recipient(recipient, "status"), status);
        assert_eq!(report.of_recipient(recipient, "action"), "failed");
        assert_eq!(report.of_recipient(recipient, "remote-mta"), "", "none was spoken to");
    }
}

/// A domain whose owner has set eight hosts with an address of loopback each.
fn eight_hosts() -> DnsServer {
    let lines = (2..10).map(|number| {
        format!("example.com. MX 10 h{number}.example.com.\nh{number}.example.com. A 127.0.0.{number}\n")
    });
    DnsServer::start(&lines.collect::<String>())
}

/// How many hosts an attempt has tried in vain.
#[track_caller]
fn tried_in_vain(port: u16, relay: &str) -> usize {
    let dns = eight_hosts();
    let sender = Sender::with(&dns, port, relay, "[queue]\nretry_first = \"1h\"\nretry_max = \"4h\"\n");
    let id = simple(&sender.server, "x", &["b@example.com"]);
    outcome(&sender.server, &id, "b@example.com", "deferred");
    let log = sender.server.log();
    let lines =
        log.lines().filter(|line| line.contains("relay=h") && line.contains("cannot be connected to"));
    lines.count()
}

#[test]
fn five_addresses_an_attempt() {
    // Nobody has it as long as this does not listen.
    let unused = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    unused.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    let port = unused.local_addr().unwrap().as_socket().unwrap().port();
    assert_eq!(tried_in_vain(port, ""), 5);
}

/// Whoever owns a domain can name addresses that never answer: they cost an attempt no more than its time.
#[test]
fn connecting_has_its_time() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let port = full.local_addr().unwrap().as_socket().unwrap().port();
    // Until its queue has no more room, and it lets whoever comes wait.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut waiting = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(client);
    }
    assert_eq!(tried_in_vain(port, "connect_timeout = \"300ms\"\n"), 3);
}

#[test]
fn the_lowest_preference_first() {
    let (peers, port) = hosts(3);
    let dns = DnsServer::start(
        "example.com. MX 30 c.example.com.\nexample.com. MX 10 a.example.com.\nexample.com. MX 20 b.example.com.\n\
         a.example.com. A 127.0.0.2\nb.example.com. A 127.0.0.3\nc.example.com. A 127.0.0.4\n",
    );
    let sender = Sender::start(&dns, port, "");
    for _ in 0..5 {
        sender.arrives("b@example.com", &peers[0]);
    }
    assert!(peers[1].record().connections.is_empty() && peers[2].record().connections.is_empty());
    // It has no service any more: the next one, at once.
    peers[0]
        .change(Script::smtp().on(Stage::Banner, Answer::reply("421 4.3.2 closed").then(Answer::close())));
    let closes = peers[0].record().connections.len();
    peers[0].wait_for_ends(closes);
    sender.arrives("b@example.com", &peers[1]);
}

#[test]
fn mail_hosts_of_one_preference_share() {
    let (peers, port) = hosts(2);
    let dns = DnsServer::start(
        "example.com. MX 10 a.example.com.\nexample.com. MX 10 b.example.com.\n\
         a.example.com. A 127.0.0.2\nb.example.com. A 127.0.0.3\n",
    );
    let reports = Peer::start(Script::smtp());
    let server = Server::with(settings(&[
        route("out", "smtp", &[], &format!("port = {port}\nmessages_per_connection = 1\n")),
        domain("*", "out"),
        format!("[relay]\nresolver = [\"{}\"]\n", dns.address()),
    ]));
    for number in 0..60 {
        let id = simple(&server, &number.to_string(), &["b@example.com"]);
        outcome(&server, &id, "b@example.com", "sent");
    }
    assert!(peers.iter().all(|peer| !peer.messages().is_empty()));
    drop(reports);
}

/// RFC 5321 §5.1: the implicit MX.
#[test]
fn without_mx_records_the_address_counts() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. A 127.0.0.2\nsub.example.com. TXT \"x\"\n");
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@example.com", &peers[0]);
    // With neither there is no host.
    let id = simple(&sender.server, "x", &["b@sub.example.com"]);
    let line = outcome(&sender.server, &id, "b@sub.example.com", "bounced");
    assert!(line.contains("no data record"), "{line}");
}

#[test]
fn ipv6_where_there_is_nothing_else() {
    let peer = Peer::start_at("[::1]:0".parse().unwrap(), Script::smtp());
    let dns = DnsServer::start(
        "example.com. MX 10 a.example.com.\na.example.com. AAAA ::1\nimplicit.example. AAAA ::1\n",
    );
    let sender = Sender::start(&dns, peer.address().port(), "");
    sender.arrives("b@example.com", &peer);
    sender.arrives("b@implicit.example", &peer);
}

/// Both families, one of them dead: the other one takes it.
#[test]
fn the_other_family() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start(
        "example.com. MX 10 a.example.com.\na.example.com. AAAA ::1\na.example.com. A 127.0.0.2\n",
    );
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@example.com", &peers[0]);
    let ipv4 = Sender::start(&dns, port, "addresses = \"ipv4\"\n");
    ipv4.arrives("b@example.com", &peers[0]);
}

/// RFC 7505.
#[test]
fn a_domain_that_takes_no_mail() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. MX 0 .\nexample.com. A 127.0.0.2\n");
    Sender::start(&dns, port, "").returned("b@example.com", "5.1.10");
    assert!(peers[0].record().connections.is_empty());
}

#[test]
fn a_domain_that_does_not_exist() {
    let (_peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. A 127.0.0.2\n");
    let sender = Sender::start(&dns, port, "");
    sender.returned("b@nowhere.example", "5.1.2");
    sender.returned("b@sub.example.com", "5.1.2");
}

#[test]
fn mail_hosts_that_do_not_exist() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start(
        "example.com. MX 10 none.example.com.\npart.example. MX 10 none.example.com.\npart.example. MX 20 a.example.com.\n\
         a.example.com. A 127.0.0.2\n",
    );
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@part.example", &peers[0]);
    let id = simple(&sender.server, "x", &["b@example.com"]);
    let line = outcome(&sender.server, &id, "b@example.com", "bounced");
    assert!(line.contains("No mail exchanger"), "{line}");
}

/// Nobody knows: never a bounce, never the address of the domain.
#[test]
fn a_name_server_that_fails() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start(
        "example.com. MX 10 a.other.example.\nexample.com. A 127.0.0.2\na.other.example. A 127.0.0.2\n",
    );
    dns.fail(&["example.com."]);
    let sender = Sender::start(&dns, port, "");
    let id = simple(&sender.server, "x", &["b@example.com"]);
    let line = outcome(&sender.server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.4.3 ") && line.contains("try again"), "{line}");
    assert!(peers[0].record().connections.is_empty());
    dns.fail(&[]);
    outcome(&sender.server, &id, "b@example.com", "sent");
    assert!(outcomes(&sender.server, &id, "b@example.com").iter().all(|line| !is(line, "bounced")));
}

/// The mail host's address is unknown, not the domain.
#[test]
fn a_name_server_that_fails_for_the_mail_host() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. MX 10 a.other.example.\na.other.example. A 127.0.0.2\n");
    dns.fail(&["other.example."]);
    let sender = Sender::start(&dns, port, "");
    let id = simple(&sender.server, "x", &["b@example.com"]);
    let line = outcome(&sender.server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.4.3 "), "{line}");
    dns.fail(&[]);
    outcome(&sender.server, &id, "b@example.com", "sent");
    assert_eq!(peers[0].messages().len(), 1);
}

#[test]
fn a_name_server_that_is_silent() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. MX 10 a.example.com.\na.example.com. A 127.0.0.2\n");
    dns.pause();
    let sender = Sender::start(&dns, port, "resolver_timeout = \"200ms\"\nresolver_attempts = 2\n");
    let id = simple(&sender.server, "x", &["b@example.com"]);
    let line = outcome(&sender.server, &id, "b@example.com", "deferred");
    assert!(line.contains("dsn=4.4.3 ") && line.contains("no answer in time"), "{line}");
    dns.resume();
    outcome(&sender.server, &id, "b@example.com", "sent");
    assert_eq!(peers[0].messages().len(), 1);
}

/// One domain without an answer does not hold up the next.
#[test]
fn domains_wait_for_themselves_only() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("example.com. MX 10 a.example.com.\na.example.com. A 127.0.0.2\n");
    dns.fail(&["broken.example."]);
    let sender = Sender::start(&dns, port, "");
    let ids = (0..20).map(|number| simple(&sender.server, "x", &[&format!("b@d{number}.broken.example")]));
    let ids = ids.collect::<Vec<_>>();
    sender.arrives("b@example.com", &peers[0]);
    for (number, id) in ids.iter().enumerate() {
        outcome(&sender.server, id, &format!("b@d{number}.broken.example"), "deferred");
    }
}

/// RFC 5321 §5.1: the domain may be an alias.
#[test]
fn aliases() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start(
        "alias.example. CNAME example.com.\nexample.com. MX 10 a.example.com.\na.example.com. CNAME b.example.com.\n\
         b.example.com. A 127.0.0.2\nround.example. CNAME back.example.\nback.example. CNAME round.example.\n",
    );
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@alias.example", &peers[0]);
    // The address stays what it was.
    assert_eq!(peers[0].messages()[0].accepted(), ["b@alias.example"]);
    let id = simple(&sender.server, "x", &["b@round.example"]);
    outcome(&sender.server, &id, "b@round.example", "bounced");
}

/// RFC 5321 §5.1: nobody is better than ourselves, and we do not have the mail.
#[test]
fn a_domain_whose_mail_host_is_this_gateway() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start(
        "example.com. MX 10 MX.test.example.\nmx.test.example. A 127.0.0.2\n\
         worse.example. MX 10 mx.test.example.\nworse.example. MX 20 a.example.com.\na.example.com. A 127.0.0.2\n",
    );
    let sender = Sender::start(&dns, port, "");
    sender.returned("b@example.com", "5.4.6");
    sender.returned("b@worse.example", "5.4.6");
    assert!(peers[0].record().connections.is_empty());
}

/// Better hosts than ourselves are used; worse ones, and ourselves, are not.
#[test]
fn this_gateway_among_mail_hosts() {
    let (peers, port) = hosts(2);
    let dns = DnsServer::start(
        "example.com. MX 10 a.example.com.\nexample.com. MX 20 mx.test.example.\nexample.com. MX 20 c.example.com.\n\
         example.com. MX 30 b.example.com.\na.example.com. A 127.0.0.2\nb.example.com. A 127.0.0.3\nc.example.com. A 127.0.0.3\n\
         mx.test.example. A 127.0.0.3\n",
    );
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@example.com", &peers[0]);
    peers[0].change(Script::smtp().on(Stage::Mail, Answer::reply("451 4.3.0 later")));
    let id = simple(&sender.server, "x", &["b@example.com"]);
    outcome(&sender.server, &id, "b@example.com", "deferred");
    assert!(peers[1].record().connections.is_empty(), "a mail host no better than ourselves was tried");
}

/// Behind another name and address, and still ourselves: the greeting says so.
#[test]
fn a_mail_host_that_greets_with_our_name() {
    let (peers, port) = hosts(1);
    peers[0].change(
        Script::smtp().on(Stage::Hello, Answer::reply("250-mx.test.example at your service\n250 SIZE")),
    );
    let dns = DnsServer::start("example.com. MX 10 a.example.com.\na.example.com. A 127.0.0.2\n");
    let sender = Sender::start(&dns, port, "");
    let id = simple(&sender.server, "x", &["b@example.com"]);
    let line = outcome(&sender.server, &id, "b@example.com", "deferred");
    assert!(line.contains("loops back to myself"), "{line}");
    assert!(peers[0].messages().is_empty());
}

/// RFC 5321 §4.1.3.
#[test]
fn address_literals() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("");
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@[127.0.0.2]", &peers[0]);
    assert_eq!(dns.queries("MX"), 0);
}

/// A domain with more mail hosts than fit into a datagram.
#[test]
fn two_hundred_mail_hosts() {
    let (peers, port) = hosts(1);
    let mut records = (0..200)
        .map(|n| format!("example.com. MX {} mx{n}.example.com.\nmx{n}.example.com. A 127.0.0.9\n", n + 10))
        .collect::<String>();
    records.push_str("example.com. MX 1 a.example.com.\na.example.com. A 127.0.0.2\n");
    let dns = DnsServer::start(&records);
    Sender::start(&dns, port, "").arrives("b@example.com", &peers[0]);
}

/// The domain in capitals and with U-labels is the same destination.
#[test]
fn spellings_of_a_domain() {
    let (peers, port) = hosts(1);
    let dns = DnsServer::start("xn--bcher-kva.example. MX 10 a.example.com.\na.example.com. A 127.0.0.2\n");
    let sender = Sender::start(&dns, port, "");
    sender.arrives("b@XN--Bcher-KVA.example", &peers[0]);
}
