//! Servers that fail, lie, are silent or send rubbish.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::NS;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use inrush_relay::dns::{Addresses, DnsSettings, DnsSettingsError, Resolver, cut_own};

use crate::responder::{Question, Responder, mx};
use crate::{PATIENCE, ips, refusal, run, settings, table};

/// For servers that never answer: waited for in full.
const SHORT: Duration = Duration::from_millis(100);

/// What a server sends for a question.
type Script = fn(&Question) -> Vec<Vec<u8>>;

fn impatient(servers: &[SocketAddr]) -> Resolver {
    Resolver::new(&DnsSettings { timeout: SHORT, ..settings(servers) }).unwrap()
}

fn patient(servers: &[SocketAddr]) -> Resolver {
    Resolver::new(&settings(servers)).unwrap()
}

/// Every one of these is tried again later, and none is taken for an answer: never the domain's own address for an unknown MX record.
#[test]
fn what_is_no_answer_is_temporary() {
    let scripts: [(&str, Script); 9] = [
        ("the name server answered: Server Failure", |q| vec![q.code(ResponseCode::ServFail)]),
        ("the name server answered: Query Refused", |q| vec![q.code(ResponseCode::Refused)]),
        ("the name server answered: Not Implemented", |q| vec![q.code(ResponseCode::NotImp)]),
        ("the name server answered: Form Error", |q| vec![q.code(ResponseCode::FormErr)]),
        ("the answer of the name server is malformed", |q| {
            // The right id, and then nonsense.
            let mut answer = q.good("mx1.example.");
            answer.truncate(12);
            answer.extend([0xc0; 40]);
            vec![answer]
        }),
        ("the answer of the name server is malformed", |q| {
            // Longer than anyone may send over UDP.
            let texts = (0..200).map(|n| RData::MX(mx(n, &format!("host-number-{n}.example."))));
            vec![q.answer(texts).to_vec().unwrap()]
        }),
        ("the answer of the name server is malformed", |q| {
            // Cut off over TCP as well.
            let mut message = q.answer([]);
            message.metadata.truncation = true;
            vec![message.to_vec().unwrap()]
        }),
        ("the name server does not resolve for us", |q| {
            let mut message = q.answer([]);
            let ns = RData::NS(NS(Name::from_ascii("a.root-servers.net.").unwrap()));
            message.add_authorities([Record::from_rdata(Name::root(), 300, ns)]);
            vec![message.to_vec().unwrap()]
        }),
        ("no answer in time", |q| if q.record_type() == RecordType::MX { vec![] } else { vec![q.good("")] }),
    ];
    for (trouble, script) in scripts {
        run(async {
            let server = Responder::start(script).await;
            let resolver =
                if trouble == "no answer in time" { impatient } else { patient }(&[server.address]);
            let (code, text) = refusal(&resolver, "two.example").await;
            assert_eq!(code, (4, 4, 3), "{text}");
            let expected = format!("name=two.example type=MX: Host not found, try again ({trouble})");
            assert!(text.ends_with(&expected), "{text}");
            assert!(server.asked().iter().all(|asked| asked.starts_with("MX ")), "{:?}", server.asked());
        });
    }
}

#[test]
fn nobody_listens() {
    let resolver = impatient(&["127.0.0.1:1".parse().unwrap()]);
    let (code, text) = run(refusal(&resolver, "two.example"));
    assert_eq!(code, (4, 4, 3));
    assert!(text.ends_with("try again (no answer in time)"), "{text}");
    // The system refuses to send there at all.
    let resolver = patient(&["255.255.255.255:53".parse().unwrap()]);
    let (code, text) = run(refusal(&resolver, "two.example"));
    assert_eq!(code, (4, 4, 3));
    assert!(text.contains("try again (no name server can be reached: "), "{text}");
}

/// Answers of others, who guess: a wrong id, another question.
#[test]
fn forged_answers_are_not_heard() {
    run(async {
        let server = Responder::start(|question| {
            let mut other_id = question.clone();
            other_id.message.metadata.id ^= 0x5555;
            let mut other_question = question.clone();
            other_question.message.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
            vec![
                other_id.good("evil.example."),
                other_question.good("evil.example."),
                vec![7],
                question.good("mx1.example."),
            ]
        })
        .await;
        let hosts = patient(&[server.address]).mail_hosts("two.example").await.unwrap();
        assert_eq!(table(&hosts), ["10 mx1.example 192.0.2.1"]);
    });
}

#[test]
fn only_forged_answers_are_none() {
    run(async {
        let server = Responder::start(|question| {
            let mut other = question.clone();
            other.message.metadata.id ^= 0x5555;
            vec![other.good("evil.example.")]
        })
        .await;
        let (code, text) = refusal(&impatient(&[server.address]), "two.example").await;
        assert_eq!(code, (4, 4, 3));
        assert!(text.ends_with("try again (no answer in time)"), "{text}");
    });
}

/// RFC 7766 §5.
#[test]
fn cut_off_answers_come_over_tcp() {
    run(async {
        let server = Responder::start(|question| {
            let mut answer = question.answer([]);
            answer.metadata.truncation = true;
            vec![if question.tcp { question.good("mx1.example.") } else { answer.to_vec().unwrap() }]
        })
        .await;
        let hosts = patient(&[server.address]).mail_hosts("two.example").await.unwrap();
        assert_eq!(table(&hosts), ["10 mx1.example 192.0.2.1"]);
        assert!(server.asked().contains(&"MX two.example over TCP".to_owned()), "{:?}", server.asked());
    });
}

#[test]
fn a_host_without_an_answer_waits_while_others_work() {
    let script = |question: &Question| match question.text().as_str() {
        "MX two.example" | "MX dead.example" => {
            let mut records = vec![RData::MX(mx(10, "broken.example."))];
            if question.text() == "MX two.example" {
                records.push(RData::MX(mx(20, "works.example.")));
            }
            vec![question.answer(records).to_vec().unwrap()]
        }
        "A works.example" => vec![question.good("")],
        "AAAA works.example" => vec![question.code(ResponseCode::ServFail)],
        "A broken.example" => vec![question.code(ResponseCode::NXDomain)],
        _ => vec![question.code(ResponseCode::ServFail)],
    };
    run(async {
        let server = Responder::start(script).await;
        let resolver = patient(&[server.address]);
        let hosts = resolver.mail_hosts("two.example").await.unwrap();
        assert_eq!(table(&hosts), ["10 broken.example", "20 works.example 192.0.2.1"]);
        // We are the second one: the first must be waited for, there is no loop yet.
        let error = cut_own("two.example", hosts.clone(), |host| host.name == "works.example").unwrap_err();
        assert_eq!(error.enhanced(), (4, 4, 3));
        assert_eq!(table(&cut_own("two.example", hosts, |_| false).unwrap()), ["20 works.example 192.0.2.1"]);
        let (code, text) = refusal(&resolver, "dead.example").await;
        assert_eq!(code, (4, 4, 3));
        assert!(text.contains("name=broken.example type=AAAA: Host not found, try again"), "{text}");
    });
}

/// Load balancers that deny a name for the one family that it does not have.
#[test]
fn a_name_is_there_if_one_family_says_so() {
    run(async {
        let server = Responder::start(|question| match question.text().as_str() {
            "A balanced.example" => vec![question.good("")],
            "A empty.example" => vec![question.answer([]).to_vec().unwrap()],
            "A zero.example" => {
                vec![question.answer([RData::A("0.0.0.0".parse().unwrap())]).to_vec().unwrap()]
            }
            _ => vec![question.code(ResponseCode::NXDomain)],
        })
        .await;
        let resolver = patient(&[server.address]);
        assert_eq!(resolver.addresses("balanced.example").await.unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.addresses("empty.example").await.unwrap_err().enhanced(), (5, 4, 4));
        assert_eq!(resolver.addresses("zero.example").await.unwrap_err().enhanced(), (5, 4, 4));
        assert_eq!(resolver.addresses("gone.example").await.unwrap_err().enhanced(), (5, 1, 2));
    });
}

/// An answer that nothing is there need not say whose it is (RFC 2308 §2.2).
#[test]
fn no_data_without_soa_is_an_answer() {
    run(async {
        let server = Responder::start(|question| match question.record_type() {
            RecordType::A => vec![question.good("")],
            _ => vec![question.answer([]).to_vec().unwrap()],
        })
        .await;
        let hosts = patient(&[server.address]).mail_hosts("plain.example").await.unwrap();
        assert_eq!(table(&hosts), ["0 plain.example 192.0.2.1"]);
    });
}

#[test]
fn the_next_server_answers_for_one_that_fails() {
    // The silent one is waited for in full; the good one must be in time.
    let failing: [(Script, Duration); 3] = [
        (|q| vec![q.code(ResponseCode::ServFail)], PATIENCE),
        (|q| vec![q.code(ResponseCode::Refused)], PATIENCE),
        (|_| vec![], Duration::from_secs(2)),
    ];
    for (script, timeout) in failing {
        run(async {
            let bad = Responder::start(script).await;
            let good = Responder::start(|question| vec![question.good("mx1.example.")]).await;
            let settings =
                DnsSettings { addresses: Addresses::Ipv4, timeout, ..settings(&[bad.address, good.address]) };
            let resolver = Resolver::new(&settings).unwrap();
            let hosts = resolver.mail_hosts("two.example").await.unwrap();
            assert_eq!(table(&hosts), ["10 mx1.example 192.0.2.1"]);
            // From now on the good one is asked first.
            let before = bad.asked().len();
            assert_eq!(resolver.addresses("mx2.example").await.unwrap(), ips(&["192.0.2.1"]));
            assert_eq!(bad.asked().len(), before);
        });
    }
}

#[test]
fn a_server_that_says_no_is_asked_once() {
    run(async {
        let server = Responder::start(|question| vec![question.code(ResponseCode::ServFail)]).await;
        refusal(&patient(&[server.address]), "two.example").await;
        assert_eq!(server.asked(), ["MX two.example"]);
    });
}

#[test]
fn answers_are_kept_for_as_long_as_is_set() {
    run(async {
        let server = Responder::start(|question| vec![question.good("mx1.example.")]).await;
        let once = ["MX two.example", "AAAA mx1.example", "A mx1.example"];
        let count = async |settings: &DnsSettings| {
            let before = server.asked().len();
            let resolver = Resolver::new(settings).unwrap();
            for _ in 0..3 {
                resolver.mail_hosts("two.example").await.unwrap();
            }
            server.asked()[before..].iter().filter(|asked| once.contains(&asked.as_str())).count()
        };
        let kept = DnsSettings { cache_ttl_min: Duration::from_secs(60), ..settings(&[server.address]) };
        assert_eq!(count(&kept).await, 3);
        let none = DnsSettings { cache_entries: 0, ..settings(&[server.address]) };
        assert_eq!(count(&none).await, 9);
        let short = DnsSettings { cache_ttl_max: Duration::ZERO, ..settings(&[server.address]) };
        assert_eq!(count(&short).await, 9);
    });
}

/// As many questions at once as a busy relay has.
#[test]
fn a_burst_of_questions() {
    run(async {
        let server = Responder::start(|question| vec![question.good("mx1.example.")]).await;
        let resolver = patient(&[server.address]);
        let tasks: Vec<_> = (0..300)
            .map(|n| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.mail_hosts(&format!("burst{n}.example")).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(table(&task.await.unwrap().unwrap()), ["10 mx1.example 192.0.2.1"]);
        }
    });
}

/// Without servers of their own, settings mean those of the system.
#[test]
fn servers_of_the_system() {
    let system = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = system.lines().any(|line| line.starts_with("nameserver "));
    assert_eq!(Resolver::new(&DnsSettings::default()).is_ok(), named);
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let refused = |settings: DnsSettings| Resolver::new(&settings).unwrap_err();
    let some = || settings(&["127.0.0.1:1".parse().unwrap()]);
    assert_eq!(refused(DnsSettings { attempts: 0, ..some() }), DnsSettingsError::NoAttempt);
    assert_eq!(refused(DnsSettings { timeout: Duration::ZERO, ..some() }), DnsSettingsError::NoTime);
    let (cache_ttl_min, cache_ttl_max) = (Duration::from_secs(2), Duration::from_secs(1));
    assert_eq!(refused(DnsSettings { cache_ttl_min, cache_ttl_max, ..some() }), DnsSettingsError::TtlBounds);
}
