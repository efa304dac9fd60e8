//! AUTH: who the generator says it is, and the few lines that prove it.
//!
//! ```text
//! PLAIN   AUTH PLAIN base64(NUL user NUL password)                          ─▶ 235
//! LOGIN   AUTH LOGIN ─▶ 334 ─▶ base64(user) ─▶ 334 ─▶ base64(password)      ─▶ 235
//! ```
//! Standards: RFC 4954 (AUTH), RFC 4616 (PLAIN); LOGIN has none.

use std::fs;
use std::path::Path;

use base64_simd::STANDARD;
use inrush_proto::client::Extensions;
use zeroize::Zeroizing;

/// Longest reply to AUTH that is taken, octets.
const REPLY_OCTETS_MAX: usize = 8192;

/// `--auth-mechanism`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mechanism {
    /// PLAIN where it is offered, else LOGIN.
    Auto,
    /// RFC 4616.
    Plain,
    /// Two prompts.
    Login,
}

/// A user with a password.
#[derive(Clone, Debug)]
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
    mechanism: Mechanism,
}

impl Credentials {
    /// The password is the first line of the file.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, or a word cannot be sent.
    pub fn read(user: &str, password_file: &Path, mechanism: Mechanism) -> Result<Self, String> {
        let name = password_file.display();
        let text =
            Zeroizing::new(fs::read_to_string(password_file).map_err(|error| format!("{name}: {error}"))?);
        let password = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
        if user.is_empty() || password.is_empty() || user.contains('\0') || password.contains('\0') {
            return Err(format!("{name}: user and password must not be empty"));
        }
        Ok(Self { user: user.to_owned(), password, mechanism })
    }

    /// The mechanism to use with this server; None: it offers none that fits.
    pub(crate) fn mechanism(&self, extensions: &Extensions) -> Option<Mechanism> {
        let offered = |mechanism| match mechanism {
            Mechanism::Plain => extensions.auth_plain,
            _ => extensions.auth_login,
        };
        let wanted: &[Mechanism] = match self.mechanism {
            Mechanism::Auto => &[Mechanism::Plain, Mechanism::Login],
            Mechanism::Plain => &[Mechanism::Plain],
            Mechanism::Login => &[Mechanism::Login],
        };
        wanted.iter().copied().find(|&mechanism| offered(mechanism))
    }

    /// Appends line `index` of the exchange; false: there is none.
    pub(crate) fn write(&self, mechanism: Mechanism, index: usize, out: &mut Vec<u8>) -> bool {
        match (mechanism, index) {
            (Mechanism::Login, 0) => out.extend_from_slice(b"AUTH LOGIN"),
            (Mechanism::Login, 1) => encode(self.user.as_bytes(), out),
            (Mechanism::Login, 2) => encode(self.password.as_bytes(), out),
            (Mechanism::Plain, 0) => {
                out.extend_from_slice(b"AUTH PLAIN ");
                let plain = Zeroizing::new(format!("\0{}\0{}", self.user, *self.password));
                encode(plain.as_bytes(), out);
            }
            _ => return false,
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}

fn encode(octets: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode_to_string(octets).as_bytes());
}

/// A whole reply at the head of `input`: code and text of its last line. None: more is to come.
///
/// # Errors
/// It is no reply.
pub(crate) fn reply(input: &[u8]) -> Result<Option<(u16, &[u8])>, ()> {
    let mut rest = input;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let (code, text) = line.split_at_checked(3).ok_or(())?;
        let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok()).ok_or(())?;
        rest = &rest[end + 1..];
        if text.first() != Some(&b'-') {
            // Nothing was sent behind the line that this answers.
            return if rest.is_empty() {
                Ok(Some((code, text.get(1..).unwrap_or_default())))
            } else {
                Err(())
            };
        }
    }
    if input.len() > REPLY_OCTETS_MAX { Err(()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn credentials(mechanism: Mechanism) -> Credentials {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "tanstaaftanstaaf\n").unwrap();
        Credentials::read("test", file.path(), mechanism).unwrap()
    }

    #[test]
    fn lines() {
        let credentials = credentials(Mechanism::Auto);
        let line = |mechanism, index| {
            let mut out = Vec::new();
            credentials.write(mechanism, index, &mut out).then(|| String::from_utf8(out).unwrap())
        };
        // RFC 4954 §4.1 has this user and password.
        assert_eq!(line(Mechanism::Plain, 0).unwrap(), "AUTH PLAIN AHRlc3QAdGFuc3RhYWZ0YW5zdGFhZg==\r\n");
        assert_eq!(line(Mechanism::Plain, 1), None);
        assert_eq!(line(Mechanism::Login, 1).unwrap(), "dGVzdA==\r\n");
        assert_eq!(line(Mechanism::Login, 3), None);
    }

    #[test]
    fn mechanism_follows_the_offer() {
        let plain = Extensions { auth_plain: true, ..Extensions::default() };
        let login = Extensions { auth_login: true, ..Extensions::default() };
        assert_eq!(credentials(Mechanism::Auto).mechanism(&plain), Some(Mechanism::Plain));
        assert_eq!(credentials(Mechanism::Auto).mechanism(&login), Some(Mechanism::Login));
        assert_eq!(credentials(Mechanism::Plain).mechanism(&login), None);
    }

    #[test]
    fn replies() {
        assert_eq!(reply(b"235 2.7.0 ok\r\n"), Ok(Some((235, &b"2.7.0 ok"[..]))));
        assert_eq!(reply(b"535-no\r\n535 never\r\n"), Ok(Some((535, &b"never"[..]))));
        assert_eq!(reply(b"334 \r"), Ok(None));
        for bad in [&b"x\r\n"[..], b"2x5 ok\r\n", b"235 ok\r\n220 more\r\n", &[b'x'; 9000]] {
            assert!(reply(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_password_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Credentials::read("test", file.path(), Mechanism::Auto).is_err());
        assert!(Credentials::read("test", Path::new("/nowhere"), Mechanism::Auto).is_err());
    }
}
