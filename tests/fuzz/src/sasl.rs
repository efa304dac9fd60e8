//! SASL exchanges of AUTH: they end after three lines at most, credentials that come out keep their bounds and hold nothing
//! that could break a line, and are the same when they are sent again by every other way.
//!
//! The first line is the argument of AUTH, each further one an answer to a challenge.

use inrush_proto::sasl::{Credentials, Exchange, Mechanism, NAME_OCTETS_MAX, PASSWORD_OCTETS_MAX, Step};

/// Runs one input; panics when an exchange does not do what it should.
pub fn run(input: &[u8]) {
    let mut lines = input.split(|octet| *octet == b'\n');
    let mut step = Exchange::begin(lines.next().unwrap_or_default());
    for answers in 0.. {
        let exchange = match step {
            Step::Challenge(exchange) => exchange,
            Step::Credentials(credentials) => return check(&credentials),
            Step::Failed(_) => return,
        };
        assert!(answers < 2);
        assert!(exchange.challenge().len() % 4 == 0 && exchange.challenge().is_ascii());
        let Some(line) = lines.next() else { return };
        step = exchange.respond(line);
    }
}

fn check(credentials: &Credentials) {
    let (name, password) = (credentials.name.as_str(), credentials.password.as_str());
    for (text, octets_max) in [(name, NAME_OCTETS_MAX), (password, PASSWORD_OCTETS_MAX)] {
        assert!((1..=octets_max).contains(&text.len()));
        assert!(!text.contains(char::is_control));
    }
    let base64 = |text: &str| base64_simd::STANDARD.encode_to_string(text);
    let same = |mechanism, step| match step {
        Step::Credentials(again) => assert_eq!(again, Credentials { mechanism, ..credentials.clone() }),
        other => panic!("{other:?}"),
    };
    let answer = |step, text: &str| match step {
        Step::Challenge(exchange) => exchange.respond(base64(text).as_bytes()),
        other => panic!("{other:?}"),
    };
    for acts_for in ["", name] {
        let message = format!("{acts_for}\0{name}\0{password}");
        same(Mechanism::Plain, Exchange::begin(format!("PLAIN {}", base64(&message)).as_bytes()));
        same(Mechanism::Plain, answer(Exchange::begin(b"PLAIN"), &message));
    }
    same(Mechanism::Login, answer(answer(Exchange::begin(b"LOGIN"), name), password));
    let with_name = Exchange::begin(format!("LOGIN {}", base64(name)).as_bytes());
    same(Mechanism::Login, answer(with_name, password));
}
