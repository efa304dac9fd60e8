//! SASL exchanges of AUTH, the server's side: PLAIN and LOGIN.
//!
//! ```text
//!   AUTH PLAIN AGpvZQBzZWNyZXQ=  ─▶ Credentials
//!   AUTH PLAIN                   ─▶ 334                AGpvZQBzZWNyZXQ=             ─▶ Credentials
//!   AUTH LOGIN                   ─▶ 334 VXNlcm5hbWU6   am9l ─▶ 334 UGFzc3dvcmQ6     c2VjcmV0 ─▶ Credentials
//!   AUTH LOGIN am9l              ─▶ 334 UGFzc3dvcmQ6   c2VjcmV0                     ─▶ Credentials
//! ```
//! Each step takes one line and gives back the [`Step`] that follows; an [`Exchange`] is used up by the line it waited for, so
//! nothing can be sent into one that is over. Whether the credentials are right is not known here: they go to whoever keeps the
//! users. What was decoded is wiped from memory when it is dropped.
//!
//! LOGIN was never standardised (draft-murchison-sasl-login); it is here because old mail programs speak nothing else.
//!
//! Standards: RFC 4954 §4 (AUTH), §6 (status codes); RFC 4616 §2 (PLAIN).

use std::fmt;

use zeroize::Zeroizing;

/// Octets of a line of an exchange, of the AUTH command too, without its CRLF. RFC 4954 §4 calls 12288 enough for every mechanism.
pub const RESPONSE_OCTETS_MAX: usize = 12_288;
/// Octets of a name. RFC 4616 §2: servers must take 255.
pub const NAME_OCTETS_MAX: usize = 255;
/// Octets of a password. RFC 4616 §2: servers must take 255; some hashes take time with the square of the length.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616
    Plain,
    /// draft-murchison-sasl-login
    Login,
}

impl Mechanism {
    /// Every mechanism, in the order in which EHLO offers them.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Login];

    /// Its name in EHLO and AUTH.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The mechanism of that name.
    // RFC 4954 §4: mechanism names are not case sensitive in AUTH, as all keywords of SMTP.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| name.eq_ignore_ascii_case(mechanism.name().as_bytes()))
    }
}

/// What a client claims to be, and its proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How they came.
    pub mechanism: Mechanism,
    /// 1 to [`NAME_OCTETS_MAX`] octets without control characters; not yet prepared with SASLprep.
    pub name: String,
    /// 1 to [`PASSWORD_OCTETS_MAX`] octets without control characters; not yet prepared with SASLprep.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    // The password must not get into a log by way of a debug format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mechanism", &self.mechanism)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why an exchange ended without credentials. Each variant leads to one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// AUTH without a mechanism, or with more than one initial response: 501 5.5.4.
    Arguments,
    /// A mechanism that is not known: 504 5.5.4 (RFC 4954 §4).
    UnknownMechanism,
    /// The client sent `*`: 501 5.7.0 (RFC 4954 §4).
    Cancelled,
    /// Not base64: 501 5.5.2 (RFC 4954 §4).
    Base64,
    /// A line, a name or a password beyond its bound: 500 5.5.6 (RFC 4954 §6).
    TooLong,
    /// Not the message of the mechanism; or a name or password that is empty, not UTF-8, or has a control character: 535 5.7.8.
    Malformed,
    /// To act for somebody else is not offered: 535 5.7.8 (RFC 4616 §2).
    AuthorizationIdentity,
}

/// What follows a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// `334 ` with [`Exchange::challenge`]; the next line of the client belongs to the exchange.
    Challenge(Exchange),
    /// The exchange is over; these are to be verified.
    Credentials(Credentials),
    /// The exchange is over.
    Failed(Failure),
}

/// An exchange that waits for a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    Plain,
    LoginName,
    LoginPassword { name: String },
}

impl Exchange {
    /// Begins with the argument of AUTH, from behind the space on: `PLAIN`, or `PLAIN` and an initial response.
    pub fn begin(argument: &[u8]) -> Step {
        if argument.len() > RESPONSE_OCTETS_MAX {
            return Step::Failed(Failure::TooLong);
        }
        let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let (name, initial) = (words.next(), words.next());
        let Some(name) = name.filter(|_| words.next().is_none()) else {
            return Step::Failed(Failure::Arguments);
        };
        let exchange = match Mechanism::parse(name) {
            Some(Mechanism::Plain) => Self(State::Plain),
            Some(Mechanism::Login) => Self(State::LoginName),
            None => return Step::Failed(Failure::UnknownMechanism),
        };
        match initial {
            None => Step::Challenge(exchange),
            // RFC 4954 §4: an initial response of no octets is sent as one equals sign.
            Some(b"=") => exchange.response(b""),
            Some(text) => exchange.response(text),
        }
    }

    /// What the client is asked, in base64; empty where the mechanism lets the client speak first.
    pub const fn challenge(&self) -> &'static str {
        match self.0 {
            // RFC 4954 §4: a challenge of no octets is `334 ` with the space.
            State::Plain => "",
            State::LoginName => "VXNlcm5hbWU6",            // Username:
            State::LoginPassword { .. } => "UGFzc3dvcmQ6", // Password:
        }
    }

    /// Takes the line of the client without its CRLF.
    pub fn respond(self, line: &[u8]) -> Step {
        if line.len() > RESPONSE_OCTETS_MAX {
            return Step::Failed(Failure::TooLong);
        }
        // RFC 4954 §4: a line of one asterisk cancels.
        if line == b"*" {
            return Step::Failed(Failure::Cancelled);
        }
        self.response(line)
    }

    fn response(self, base64: &[u8]) -> Step {
        let step = decode(base64).and_then(|octets| match self.0 {
            State::Plain => plain(&octets).map(Step::Credentials),
            State::LoginName => {
                let name = text(&octets, NAME_OCTETS_MAX)?.to_owned();
                Ok(Step::Challenge(Self(State::LoginPassword { name })))
            }
            State::LoginPassword { name } => {
                let password = Zeroizing::new(text(&octets, PASSWORD_OCTETS_MAX)?.to_owned());
                Ok(Step::Credentials(Credentials { mechanism: Mechanism::Login, name, password }))
            }
        });
        step.unwrap_or_else(Step::Failed)
    }
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`.
fn plain(octets: &[u8]) -> Result<Credentials, Failure> {
    let mut parts = octets.split(|octet| *octet == 0);
    let (Some(acts_for), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::Malformed);
    };
    let name = text(name, NAME_OCTETS_MAX)?;
    let password = Zeroizing::new(text(password, PASSWORD_OCTETS_MAX)?.to_owned());
    if !acts_for.is_empty() && acts_for != name.as_bytes() {
        return Err(Failure::AuthorizationIdentity);
    }
    Ok(Credentials { mechanism: Mechanism::Plain, name: name.to_owned(), password })
}

/// A name or password. SASLprep forbids control characters later anyway (RFC 4013 §2.3); here they are kept from going any further.
fn text(octets: &[u8], octets_max: usize) -> Result<&str, Failure> {
    if octets.len() > octets_max {
        return Err(Failure::TooLong);
    }
    let text = std::str::from_utf8(octets).map_err(|_| Failure::Malformed)?;
    if text.is_empty() || text.contains(char::is_control) { Err(Failure::Malformed) } else { Ok(text) }
}

// RFC 4954 §4: what is not base64 of RFC 4648 §4, padded and without white space, fails the command.
fn decode(base64: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut octets = Zeroizing::new(vec![0; base64_simd::STANDARD.estimated_decoded_length(base64.len())]);
    let decoded = base64_simd::STANDARD
        .decode(base64, base64_simd::Out::from_slice(&mut octets))
        .map(|text| text.len());
    octets.truncate(decoded.map_err(|_| Failure::Base64)?);
    Ok(octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn base64(octets: &[u8]) -> String {
        base64_simd::STANDARD.encode_to_string(octets)
    }

    fn begin(argument: &str) -> Step {
        Exchange::begin(argument.as_bytes())
    }

    fn asked(step: Step) -> Exchange {
        match step {
            Step::Challenge(exchange) => exchange,
            other => panic!("{other:?}"),
        }
    }

    fn got(mechanism: Mechanism, name: &str, password: &str) -> Step {
        let password = Zeroizing::new(password.to_owned());
        Step::Credentials(Credentials { mechanism, name: name.to_owned(), password })
    }

    fn plain_step(octets: &[u8]) -> Step {
        let with_initial = begin(&format!("PLAIN {}", base64(octets)));
        let exchange = asked(begin("plain"));
        assert_eq!(exchange.challenge(), "");
        assert_eq!(exchange.respond(base64(octets).as_bytes()), with_initial);
        with_initial
    }

    // RFC 4616 §4: the examples, the second with the credentials of the first.
    #[test]
    fn plain_credentials() {
        assert_eq!(plain_step(b"\0tim\0tanstaaftanstaaf"), got(Mechanism::Plain, "tim", "tanstaaftanstaaf"));
        assert_eq!(begin("PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"), plain_step(b"\0tim\0tanstaaftanstaaf"));
        assert_eq!(plain_step(b"Ursel\0Kurt\0xipj3plmq"), Step::Failed(Failure::AuthorizationIdentity));
        assert_eq!(plain_step(b"Kurt\0Kurt\0xipj3plmq"), got(Mechanism::Plain, "Kurt", "xipj3plmq"));
        assert_eq!(plain_step("\0jörg\0Grüße: =".as_bytes()), got(Mechanism::Plain, "jörg", "Grüße: ="));
    }

    // RFC 4616 §2: three parts, of which the last two have at least one octet, all of them UTF-8.
    #[test]
    fn plain_malformed() {
        for octets in [
            &b""[..],
            b"tim",
            b"\0tim",
            b"tim\0tanstaaf",
            b"\0tim\0",
            b"\0\0secret",
            b"\0tim\0a\0",
            b"\0tim\0a\0b",
            b"\0t\xffm\0a",
            b"\0tim\0\xff",
            b"\0t\r\nm\0a",
            b"\0tim\0a\nb",
            "\0tim\0a\u{85}b".as_bytes(),
        ] {
            let argument = if octets.is_empty() { "=".to_owned() } else { base64(octets) };
            let step = begin(&format!("PLAIN {argument}"));
            assert_eq!(step, Step::Failed(Failure::Malformed), "{}", octets.escape_ascii());
        }
    }

    // RFC 4616 §2: 255 octets must be taken.
    #[test]
    fn lengths() {
        let message =
            |name: usize, password: usize| format!("\0{}\0{}", "n".repeat(name), "p".repeat(password));
        let step = plain_step(message(NAME_OCTETS_MAX, PASSWORD_OCTETS_MAX).as_bytes());
        assert!(matches!(step, Step::Credentials(_)), "{step:?}");
        for (name, password) in [(NAME_OCTETS_MAX + 1, 1), (1, PASSWORD_OCTETS_MAX + 1)] {
            assert_eq!(plain_step(message(name, password).as_bytes()), Step::Failed(Failure::TooLong));
        }
        let both = format!("{0}\0{0}\0p", "n".repeat(NAME_OCTETS_MAX));
        assert!(matches!(plain_step(both.as_bytes()), Step::Credentials(_)));

        let longest = vec![b'A'; RESPONSE_OCTETS_MAX];
        assert_eq!(asked(begin("PLAIN")).respond(&longest), Step::Failed(Failure::Malformed));
        let longer = vec![b'A'; RESPONSE_OCTETS_MAX + 1];
        assert_eq!(asked(begin("PLAIN")).respond(&longer), Step::Failed(Failure::TooLong));
        let argument = format!("PLAIN {}", "A".repeat(RESPONSE_OCTETS_MAX));
        assert_eq!(begin(&argument), Step::Failed(Failure::TooLong));
    }

    #[test]
    fn login() {
        let exchange = asked(begin("LOGIN"));
        assert_eq!(exchange.challenge(), base64(b"Username:"));
        let exchange = asked(exchange.respond(b"dGlt"));
        assert_eq!(exchange.challenge(), base64(b"Password:"));
        let step = exchange.respond(b"dGFuc3RhYWY=");
        assert_eq!(step, got(Mechanism::Login, "tim", "tanstaaf"));

        let exchange = asked(begin("login dGlt"));
        assert_eq!(exchange.challenge(), base64(b"Password:"));
        assert_eq!(exchange.respond(b"dGFuc3RhYWY="), step);

        // An empty name or password, as an equals sign in the command and as an empty line later.
        assert_eq!(begin("LOGIN ="), Step::Failed(Failure::Malformed));
        assert_eq!(asked(begin("LOGIN")).respond(b""), Step::Failed(Failure::Malformed));
        assert_eq!(asked(begin("LOGIN dGlt")).respond(b""), Step::Failed(Failure::Malformed));
        let long = |octets: usize| base64(&vec![b'a'; octets]).into_bytes();
        let name = asked(begin("LOGIN")).respond(&long(NAME_OCTETS_MAX + 1));
        assert_eq!(name, Step::Failed(Failure::TooLong));
        let password = asked(begin("LOGIN dGlt")).respond(&long(PASSWORD_OCTETS_MAX + 1));
        assert_eq!(password, Step::Failed(Failure::TooLong));
        assert_eq!(begin(&format!("LOGIN {}", base64(b"a\0b"))), Step::Failed(Failure::Malformed));
    }

    // RFC 4954 §4: an asterisk cancels at every challenge; as an initial response it is not base64.
    #[test]
    fn cancelled() {
        for argument in ["PLAIN", "LOGIN", "LOGIN dGlt"] {
            assert_eq!(asked(begin(argument)).respond(b"*"), Step::Failed(Failure::Cancelled), "{argument}");
        }
        assert_eq!(begin("PLAIN *"), Step::Failed(Failure::Base64));
        assert_eq!(asked(begin("PLAIN")).respond(b"**"), Step::Failed(Failure::Base64));
    }

    // RFC 4954 §4: 501 5.5.2 for what cannot be decoded.
    #[test]
    fn base64_is_strict() {
        for line in [
            "=",
            "A",
            "AG=",
            "AGEAYg",
            "AGEAYg=",
            "AGEAYg===",
            "AGE\tAYg=",
            "AGEA-g==",
            "AGEAYh==",
            "=AGE",
            "\u{e4}\u{e4}",
        ] {
            assert_eq!(
                asked(begin("PLAIN")).respond(line.as_bytes()),
                Step::Failed(Failure::Base64),
                "{line}"
            );
        }
        assert_eq!(begin("PLAIN AGEAYg=="), got(Mechanism::Plain, "a", "b"));
    }

    #[test]
    fn arguments() {
        for (argument, failure) in [
            ("", Failure::Arguments),
            (" ", Failure::Arguments),
            ("PLAIN AGEAYg== AGEAYg==", Failure::Arguments),
            ("PLAIN = =", Failure::Arguments),
            ("CRAM-MD5", Failure::UnknownMechanism),
            ("PLAINS", Failure::UnknownMechanism),
            ("PLAI", Failure::UnknownMechanism),
            ("SCRAM-SHA-256 biwsbj11", Failure::UnknownMechanism),
        ] {
            assert_eq!(begin(argument), Step::Failed(failure), "{argument:?}");
        }
        assert_eq!(begin("pLaIn  AGEAYg=="), got(Mechanism::Plain, "a", "b"));
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = format!("{:?}", begin("PLAIN AGEAYg=="));
        assert_eq!(shown, "Credentials(Credentials { mechanism: Plain, name: \"a\", .. })");
    }
}
