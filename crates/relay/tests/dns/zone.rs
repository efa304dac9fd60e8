//! Next hops of the domains in one zone, served by Knot DNS.

use inrush_relay::dns::{Addresses, DnsError, DnsSettings, Resolver, cut_own, order};

use crate::knot::Knot;
use crate::{ips, refusal, run, settings, table};

const ZONE: &str = r#"
$ORIGIN example.
$TTL 300
@           SOA     ns hostmaster 1 3600 600 86400 60
            NS      ns
ns          A       127.0.0.1

; Two equal ones, a worse one, upper case.
three       MX      20 mx3
            MX      10 MX1.Example.
            MX      10 mx2
mx1         A       192.0.2.1
mx2         A       192.0.2.2
            AAAA    2001:db8::2
            AAAA    2001:db8::22
mx3         AAAA    2001:db8::3
twice       MX      10 mx1
            MX      5 mx1

; Without MX.
plain       A       192.0.2.10
plain6      AAAA    2001:db8::10
bare        TXT     "nothing else"

; RFC 7505.
null        MX      0 .
null-among  MX      0 .
            MX      10 mx1

; Aliases: of the domain, of the host, to another alias, to nothing, in a circle.
alias       CNAME   three
alias-plain CNAME   plain
alias-null  CNAME   null
alias-bare  CNAME   bare
alias-gone  CNAME   gone
mx-alias    MX      10 www
www         CNAME   www2
www2        CNAME   mx2
circle1     CNAME   circle2
circle2     CNAME   circle1
self        CNAME   self
mx-circle   MX      10 circle1

; Hosts that are of no use.
half        MX      10 gone
            MX      20 bare
            MX      30 mx1
dead        MX      10 gone
            MX      20 bare
odd         MX      5 192.0.2.1.
            MX      6 -\042-.example.
            MX      10 mx1
all-odd     MX      10 192.0.2.1.
nowhere     MX      10 zero
zero        A       0.0.0.0
            AAAA    ::

; U-labels.
xn--bcher-kva MX    10 mx1

*.wild      MX      10 mx1
"#;

/// 25 hosts of one domain, and 40 addresses of one host: more than a datagram of 1232 octets holds.
fn zone() -> String {
    let hosts = (1..=25).map(|n| format!("many MX {n} host-with-a-rather-long-name-{n}.example.\nhost-with-a-rather-long-name-{n} A 192.0.2.{n}\n"));
    let addresses = (1..=100).map(|n| format!("big A 198.51.100.{n}\n"));
    ZONE.to_owned() + &hosts.chain(addresses).collect::<String>()
}

fn knot() -> (Knot, Resolver) {
    let knot = Knot::start("example.", &zone());
    let resolver = Resolver::new(&settings(&[knot.address()])).unwrap();
    (knot, resolver)
}

/// RFC 5321 §5.1.
#[test]
fn mail_exchangers_by_preference() {
    let (_knot, resolver) = knot();
    run(async {
        let hosts = resolver.mail_hosts("Three.EXAMPLE").await.unwrap();
        let mut lines = table(&hosts);
        // The server may turn records of one preference, and the addresses of one host, as it likes.
        lines[..2].sort();
        assert_eq!(lines[0], "10 mx1.example 192.0.2.1");
        assert!(lines[1].starts_with("10 mx2.example 2001:db8::2"), "{lines:?}");
        assert!(lines[1].contains(" 192.0.2.2 2001:db8::2"), "{lines:?}");
        assert_eq!(lines[2], "20 mx3.example 2001:db8::3");
        let hosts = order(cut_own("three.example", hosts, |host| host.name == "mx3.example").unwrap(), 7);
        assert_eq!(hosts.len(), 2);
        assert_eq!(table(&resolver.mail_hosts("twice.example").await.unwrap()), ["5 mx1.example 192.0.2.1"]);
        assert_eq!(
            table(&resolver.mail_hosts("a.b.wild.example").await.unwrap()),
            ["10 mx1.example 192.0.2.1"]
        );
        assert_eq!(
            table(&resolver.mail_hosts("Bücher.example").await.unwrap()),
            ["10 mx1.example 192.0.2.1"]
        );
    });
}

#[test]
fn without_mx_a_domain_is_its_own_host() {
    let (_knot, resolver) = knot();
    run(async {
        assert_eq!(
            table(&resolver.mail_hosts("plain.example").await.unwrap()),
            ["0 plain.example 192.0.2.10"]
        );
        assert_eq!(
            table(&resolver.mail_hosts("plain6.example.").await.unwrap()),
            ["0 plain6.example 2001:db8::10"]
        );
        let (code, text) = refusal(&resolver, "bare.example").await;
        assert_eq!(code, (5, 4, 4));
        assert_eq!(
            text,
            "Host or domain name not found. Name service error for name=bare.example type=A/AAAA: \
             Host found but no data record of requested type"
        );
        let (code, text) = refusal(&resolver, "gone.example").await;
        assert_eq!(code, (5, 1, 2));
        assert_eq!(
            text,
            "Host or domain name not found. Name service error for name=gone.example type=MX: Host not found"
        );
    });
}

/// RFC 7505 §3 and §4.
#[test]
fn null_mx_takes_no_mail() {
    let (_knot, resolver) = knot();
    run(async {
        for domain in ["null.example", "alias-null.example"] {
            let (code, text) = refusal(&resolver, domain).await;
            assert_eq!(code, (5, 1, 10));
            assert_eq!(text, format!("Domain {domain} does not accept mail (nullMX)"));
        }
        let hosts = resolver.mail_hosts("null-among.example").await.unwrap();
        assert_eq!(table(&hosts), ["10 mx1.example 192.0.2.1"]);
    });
}

/// RFC 5321 §5.1 for the domain, RFC 2181 §10.3 for the host.
#[test]
fn aliases_are_followed_unless_they_have_no_end() {
    let (_knot, resolver) = knot();
    run(async {
        assert_eq!(resolver.mail_hosts("alias.example").await.unwrap().len(), 3);
        let hosts = resolver.mail_hosts("alias-plain.example").await.unwrap();
        assert_eq!(table(&hosts), ["0 alias-plain.example 192.0.2.10"]);
        let hosts = resolver.mail_hosts("mx-alias.example").await.unwrap();
        assert_eq!((hosts[0].name.as_str(), hosts[0].addresses.len()), ("www.example", 3));
        assert_eq!(refusal(&resolver, "alias-bare.example").await.0, (5, 4, 4));
        assert_eq!(refusal(&resolver, "alias-gone.example").await.0, (5, 1, 2));
        for domain in ["circle1.example", "self.example", "mx-circle.example"] {
            let (code, text) = refusal(&resolver, domain).await;
            assert_eq!(code, (5, 4, 4), "{text}");
            assert!(text.ends_with("Name server loop"), "{text}");
        }
    });
}

#[test]
fn hosts_of_no_use_are_passed_over() {
    let (_knot, resolver) = knot();
    run(async {
        let hosts = resolver.mail_hosts("half.example").await.unwrap();
        assert_eq!(table(&hosts), ["10 gone.example", "20 bare.example", "30 mx1.example 192.0.2.1"]);
        let hosts = cut_own("half.example", hosts, |_| false).unwrap();
        assert_eq!(table(&hosts), ["30 mx1.example 192.0.2.1"]);
        assert_eq!(table(&resolver.mail_hosts("odd.example").await.unwrap()), ["10 mx1.example 192.0.2.1"]);
        let (code, text) = refusal(&resolver, "dead.example").await;
        assert_eq!(code, (5, 4, 4));
        assert_eq!(
            text,
            "No mail exchanger of dead.example has an address. Host or domain name not found. \
             Name service error for name=gone.example type=A/AAAA: Host not found"
        );
        assert_eq!(refusal(&resolver, "nowhere.example").await.0, (5, 4, 4));
        let (code, text) = refusal(&resolver, "all-odd.example").await;
        assert_eq!(
            (code, text.as_str()),
            ((5, 4, 4), "No mail exchanger of all-odd.example has a valid host name")
        );
    });
}

/// RFC 5321 §4.1.3.
#[test]
fn literals_and_bad_domains_are_not_asked_for() {
    // Nobody listens there.
    let resolver = Resolver::new(&settings(&["127.0.0.1:1".parse().unwrap()])).unwrap();
    run(async {
        assert_eq!(table(&resolver.mail_hosts("[192.0.2.1]").await.unwrap()), ["0 192.0.2.1 192.0.2.1"]);
        assert_eq!(
            table(&resolver.mail_hosts("[IPv6:2001:DB8::1]").await.unwrap()),
            ["0 2001:db8::1 2001:db8::1"]
        );
        for domain in ["[192.0.2.300]", "192.0.2.1", "a..example", "ü\u{2100}.example", ""] {
            assert_eq!(refusal(&resolver, domain).await.0, (5, 1, 2), "{domain}");
        }
        assert_eq!(refusal(&resolver, "[0.0.0.0]").await.0, (5, 4, 4));
        for host in ["192.0.2.7", "[192.0.2.7]"] {
            assert_eq!(resolver.addresses(host).await.unwrap(), ips(&["192.0.2.7"]));
        }
        assert_eq!(resolver.addresses("2001:db8::7").await.unwrap(), ips(&["2001:db8::7"]));
    });
}

#[test]
fn families_as_they_are_set() {
    let knot = Knot::start("example.", &zone());
    let with = |addresses, ipv6_first| {
        let settings = DnsSettings { addresses, ipv6_first, ..settings(&[knot.address()]) };
        Resolver::new(&settings).unwrap()
    };
    run(async {
        let found = with(Addresses::Both, true).addresses("mx2.example").await.unwrap();
        assert_eq!(found.iter().map(|address| address.is_ipv6()).collect::<Vec<_>>(), [true, false, true]);
        let found = with(Addresses::Both, false).addresses("mx2.example").await.unwrap();
        assert_eq!(found.iter().map(|address| address.is_ipv6()).collect::<Vec<_>>(), [false, true, true]);
        let ipv4 = with(Addresses::Ipv4, true);
        assert_eq!(ipv4.addresses("mx2.example").await.unwrap(), ips(&["192.0.2.2"]));
        let error = ipv4.addresses("mx3.example").await.unwrap_err();
        assert!(error.to_string().contains("name=mx3.example type=A: Host found but no data"), "{error}");
        assert_eq!(refusal(&ipv4, "[IPv6:2001:db8::1]").await.0, (5, 4, 4));
        let ipv6 = with(Addresses::Ipv6, true);
        assert_eq!(ipv6.addresses("mx3.example").await.unwrap(), ips(&["2001:db8::3"]));
        assert!(ipv6.addresses("mx1.example").await.unwrap_err().permanent());
        assert!(matches!(ipv6.addresses("gone.example").await, Err(DnsError::NotFound { .. })));
    });
}

/// More than fits into a datagram comes over TCP; no more of it is used than is bounded.
#[test]
fn many_hosts_and_addresses() {
    let (_knot, resolver) = knot();
    run(async {
        let hosts = resolver.mail_hosts("many.example").await.unwrap();
        let preferences: Vec<u16> = hosts.iter().map(|host| host.preference).collect();
        assert_eq!(preferences, (1..=20).collect::<Vec<u16>>());
        assert!(hosts.iter().all(|host| host.addresses.len() == 1));
        assert_eq!(resolver.addresses("big.example").await.unwrap().len(), 16);
    });
}

/// A server that is not responsible for a name and does not resolve refuses.
#[test]
fn other_zones_are_tried_again_later() {
    let (_knot, resolver) = knot();
    run(async {
        let (code, text) = refusal(&resolver, "elsewhere.test").await;
        assert_eq!(code, (4, 4, 3));
        assert_eq!(
            text,
            "Host or domain name not found. Name service error for name=elsewhere.test type=MX: \
             Host not found, try again (the name server answered: Query Refused)"
        );
    });
}
