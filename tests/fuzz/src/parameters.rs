//! The parameters of MAIL and RCPT: what is accepted is within its grammar, decodes into printable text only, and means
//! the same when it is written down and read again.
//!
//! Octet 0 chooses the extensions that are offered, with bit 4 TLS, and with bit 7 RCPT instead of MAIL.

use inrush_proto::{BodyType, Extensions, MailParameters, Notify, RcptParameters, Return};

/// Runs one input; panics when accepted parameters are not what they should be.
pub fn run(input: &[u8]) {
    let Some((&flags, rest)) = input.split_first() else { return };
    let extensions = Extensions {
        chunking: true,
        binarymime: flags & 1 != 0,
        smtputf8: flags & 2 != 0,
        dsn: flags & 4 != 0,
    };
    if flags & 0x80 == 0 {
        mail(rest, extensions, flags & 16 != 0);
    } else {
        rcpt(rest, extensions, flags & 8 != 0);
    }
}

fn mail(rest: &[u8], extensions: Extensions, secure: bool) {
    let Ok(parameters) = MailParameters::parse(rest, extensions, secure) else { return };
    let mut again = match parameters.body {
        BodyType::SevenBit => " BODY=7BIT".to_owned(),
        BodyType::EightBitMime => " BODY=8BITMIME".to_owned(),
        BodyType::BinaryMime => " BODY=BINARYMIME".to_owned(),
    };
    if let Some(size) = parameters.size {
        again += &format!(" SIZE={size}");
    }
    if parameters.smtputf8 {
        again += " SMTPUTF8";
    }
    if parameters.requiretls {
        assert!(secure);
        again += " REQUIRETLS";
    }
    match parameters.ret {
        Some(Return::Full) => again += " RET=FULL",
        Some(Return::Headers) => again += " RET=HDRS",
        None => {}
    }
    if !parameters.envelope_id.is_empty() {
        printable(parameters.envelope_id);
        again += &format!(" ENVID={}", parameters.envelope_id);
    }
    assert_eq!(MailParameters::parse(again.as_bytes(), extensions, secure), Ok(parameters));
    let twice = format!("{again}{again}");
    assert!(MailParameters::parse(twice.as_bytes(), extensions, secure).is_err());
}

fn rcpt(rest: &[u8], extensions: Extensions, smtputf8: bool) {
    let Ok(parameters) = RcptParameters::parse(rest, extensions, smtputf8) else { return };
    let mut again = String::new();
    if parameters.notify == Notify::NEVER {
        again += " NOTIFY=NEVER";
    } else if parameters.notify != Notify::UNSPECIFIED {
        assert!(!parameters.notify.contains(Notify::NEVER));
        let names = [(Notify::SUCCESS, "SUCCESS"), (Notify::FAILURE, "FAILURE"), (Notify::DELAY, "DELAY")];
        let set = names.iter().filter(|(member, _)| parameters.notify.contains(*member));
        again += &format!(" NOTIFY={}", set.map(|(_, name)| *name).collect::<Vec<_>>().join(","));
    }
    if !parameters.original.is_empty() {
        assert!(parameters.original.is_ascii() || smtputf8);
        printable(parameters.original);
        again += &format!(" ORCPT={}", parameters.original);
    }
    assert_eq!(RcptParameters::parse(again.as_bytes(), extensions, smtputf8), Ok(parameters));
}

/// RFC 3461 §4: what the xtext stands for has no control character in it.
fn printable(xtext: &str) {
    assert!(!xtext.contains(|c: char| c.is_ascii_control() || c == ' '));
    for (at, _) in xtext.match_indices('+') {
        let octet = u8::from_str_radix(&xtext[at + 1..at + 3], 16).expect("two hexadecimal digits");
        assert!((b' '..=b'~').contains(&octet));
    }
}
