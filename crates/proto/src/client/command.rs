//! Commands as bytes, appended to the caller's output buffer.
//!
//! An argument that holds CR, LF or NUL would let whoever chose it speak SMTP in our name, so it is refused here.
//!
//! Standards: RFC 5321 §4.1.1 (commands), §4.1.2 (paths); parameters: RFC 1870, 6152, 3030, 6531, 3461, 8689.

use std::fmt;
use std::io::Write as _;

use super::session::Hello;

/// An argument of a command holds CR, LF or NUL. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsafeArgument;

impl fmt::Display for UnsafeArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("argument holds CR, LF or NUL")
    }
}

impl std::error::Error for UnsafeArgument {}

/// Parameters of MAIL. The caller sends only what the server offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct MailParameters<'a> {
    /// RFC 1870 §5: `SIZE=`, octets.
    pub size: Option<u64>,
    /// RFC 6152, RFC 3030: `BODY=` value, e.g. `8BITMIME`.
    pub body: Option<&'a str>,
    /// RFC 6531 §3.4.
    pub smtp_utf8: bool,
    /// RFC 8689 §2.
    pub require_tls: bool,
    /// Anything else, ready to send, without the leading space (e.g. `RET=HDRS ENVID=x`).
    pub more: &'a [u8],
}

/// `EHLO name`, `HELO name` or `LHLO name`.
///
/// # Errors
/// [`UnsafeArgument`]
pub fn write_hello(out: &mut Vec<u8>, hello: Hello, name: &[u8]) -> Result<(), UnsafeArgument> {
    check(name)?;
    out.extend_from_slice(match hello {
        Hello::Ehlo => b"EHLO ",
        Hello::Helo => b"HELO ",
        Hello::Lhlo => b"LHLO ",
    });
    out.extend_from_slice(name);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// `MAIL FROM:<reverse-path> parameters`; the path comes without angle brackets, empty for the null path.
///
/// # Errors
/// [`UnsafeArgument`]
pub fn write_mail(
    out: &mut Vec<u8>,
    reverse_path: &[u8],
    parameters: &MailParameters<'_>,
) -> Result<(), UnsafeArgument> {
    check(reverse_path)?;
    check(parameters.more)?;
    let body = parameters.body.unwrap_or_default().as_bytes();
    check(body)?;
    out.extend_from_slice(b"MAIL FROM:<");
    out.extend_from_slice(reverse_path);
    out.push(b'>');
    if let Some(octets) = parameters.size {
        out.extend_from_slice(b" SIZE=");
        write_decimal(out, octets);
    }
    if !body.is_empty() {
        out.extend_from_slice(b" BODY=");
        out.extend_from_slice(body);
    }
    if parameters.smtp_utf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if parameters.require_tls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    write_more(out, parameters.more);
    Ok(())
}

/// `RCPT TO:<forward-path> parameters`; the path comes without angle brackets, `parameters` ready to send or empty.
///
/// # Errors
/// [`UnsafeArgument`]
pub fn write_recipient(
    out: &mut Vec<u8>,
    forward_path: &[u8],
    parameters: &[u8],
) -> Result<(), UnsafeArgument> {
    check(forward_path)?;
    check(parameters)?;
    out.extend_from_slice(b"RCPT TO:<");
    out.extend_from_slice(forward_path);
    out.push(b'>');
    write_more(out, parameters);
    Ok(())
}

/// `BDAT octets [LAST]` (RFC 3030 §2); exactly so many octets follow.
pub fn write_chunk(out: &mut Vec<u8>, octets: u64, last: bool) {
    out.extend_from_slice(b"BDAT ");
    write_decimal(out, octets);
    out.extend_from_slice(if last { b" LAST\r\n" } else { b"\r\n" });
}

/// A command without argument: `DATA`, `RSET`, `QUIT`.
pub fn write_verb(out: &mut Vec<u8>, verb: &'static str) {
    out.extend_from_slice(verb.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_more(out: &mut Vec<u8>, parameters: &[u8]) {
    if !parameters.is_empty() {
        out.push(b' ');
        out.extend_from_slice(parameters);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_decimal(out: &mut Vec<u8>, value: u64) {
    let written = write!(out, "{value}");
    debug_assert!(written.is_ok(), "writing into a Vec does not fail");
}

fn check(argument: &[u8]) -> Result<(), UnsafeArgument> {
    match memchr::memchr3(b'\r', b'\n', 0, argument) {
        None => Ok(()),
        Some(_) => Err(UnsafeArgument),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn wire_forms() {
        let mut out = Vec::new();
        write_hello(&mut out, Hello::Ehlo, b"client.example").unwrap();
        write_mail(&mut out, b"", &MailParameters::default()).unwrap();
        let parameters = MailParameters {
            size: Some(4096),
            body: Some("8BITMIME"),
            smtp_utf8: true,
            require_tls: true,
            more: b"RET=HDRS",
        };
        write_mail(&mut out, b"a@one.example", &parameters).unwrap();
        write_recipient(&mut out, b"b@two.example", b"").unwrap();
        write_recipient(&mut out, b"c@two.example", b"NOTIFY=NEVER").unwrap();
        write_chunk(&mut out, 86, false);
        write_chunk(&mut out, 0, true);
        write_verb(&mut out, "QUIT");
        let expected = "EHLO client.example\r\nMAIL FROM:<>\r\n\
            MAIL FROM:<a@one.example> SIZE=4096 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS\r\n\
            RCPT TO:<b@two.example>\r\nRCPT TO:<c@two.example> NOTIFY=NEVER\r\nBDAT 86\r\nBDAT 0 LAST\r\nQUIT\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn arguments_cannot_carry_commands() {
        let mut out = Vec::new();
        for evil in [b"a\r\nRSET".as_slice(), b"a\nb", b"a\rb", b"a\0b"] {
            assert_eq!(write_hello(&mut out, Hello::Helo, evil), Err(UnsafeArgument));
            assert_eq!(write_mail(&mut out, evil, &MailParameters::default()), Err(UnsafeArgument));
            let more = MailParameters { more: evil, ..MailParameters::default() };
            assert_eq!(write_mail(&mut out, b"a", &more), Err(UnsafeArgument));
            assert_eq!(write_recipient(&mut out, evil, b""), Err(UnsafeArgument));
            assert_eq!(write_recipient(&mut out, b"a", evil), Err(UnsafeArgument));
        }
        assert!(out.is_empty());
    }
}
