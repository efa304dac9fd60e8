//! Parameters of MAIL and RCPT.
//!
//! | command | understood | |
//! |---|---|---|
//! | MAIL | `SIZE=n` | RFC 1870 §6 |
//! | | `BODY=7BIT`, `8BITMIME`, `BINARYMIME` | RFC 6152 §3, RFC 3030 §3 |
//! | | `SMTPUTF8` | RFC 6531 §3.4 |
//! | | `RET=FULL`, `HDRS`; `ENVID=xtext` | RFC 3461 §4.3, §4.4 |
//! | | `REQUIRETLS`, under TLS | RFC 8689 §4.2 |
//! | | `AUTH=` anything, not used: some clients add it wherever AUTH was ever offered | RFC 4954 §5 |
//! | RCPT | `NOTIFY=NEVER` or a list of `SUCCESS`, `FAILURE`, `DELAY` | RFC 3461 §4.1 |
//! | | `ORCPT=addr-type;xtext` | RFC 3461 §4.2, RFC 6533 §3 |
//!
//! Values are slices of the line. Nothing is decoded, but what would decode into a control character is refused here,
//! so that no CR or LF can ever come out of it where it is decoded.
//!
//! Standards: RFC 5321 §4.1.1.11, §4.1.2 (esmtp-param).

use crate::{Extensions, Reply};

/// BODY of MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Not given, or `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
    /// `BINARYMIME`
    BinaryMime,
}

/// RET of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// `FULL`
    Full,
    /// `HDRS`
    Headers,
}

/// NOTIFY of RCPT, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(u8);

impl Notify {
    /// Not given.
    pub const UNSPECIFIED: Self = Self(0);
    /// `NEVER`
    pub const NEVER: Self = Self(1);
    /// `SUCCESS`
    pub const SUCCESS: Self = Self(2);
    /// `FAILURE`
    pub const FAILURE: Self = Self(4);
    /// `DELAY`
    pub const DELAY: Self = Self(8);

    /// The set as bits: 1 never, 2 success, 4 failure, 8 delay.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True when every member of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The parameters of one MAIL command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters<'a> {
    /// SIZE; `u64::MAX` stands for every number beyond 64 bits.
    pub size: Option<u64>,
    /// BODY.
    pub body: BodyType,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET.
    pub ret: Option<Return>,
    /// ENVID in xtext; empty when not given.
    pub envelope_id: &'a str,
    /// REQUIRETLS.
    pub requiretls: bool,
}

/// The parameters of one RCPT command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters<'a> {
    /// NOTIFY.
    pub notify: Notify,
    /// ORCPT; empty when not given.
    pub original: &'a str,
}

impl<'a> MailParameters<'a> {
    /// Parses what follows the reverse-path; `secure` under TLS.
    pub fn parse(rest: &'a [u8], extensions: Extensions, secure: bool) -> Result<Self, &'static Reply> {
        let mut parameters = Self::default();
        let mut seen = 0u8;
        for parameter in split(rest)? {
            let (keyword, value) = parameter?;
            let is = |name: &[u8]| keyword.eq_ignore_ascii_case(name);
            let mark = if is(b"SIZE") {
                parameters.size = Some(number(value.ok_or(Reply::PARAMETER_VALUE)?)?);
                1
            } else if is(b"BODY") {
                parameters.body = body(value.ok_or(Reply::PARAMETER_VALUE)?, extensions)?;
                2
            } else if is(b"SMTPUTF8") && extensions.smtputf8 {
                if value.is_some() {
                    return Err(Reply::PARAMETER_VALUE);
                }
                parameters.smtputf8 = true;
                4
            } else if is(b"RET") && extensions.dsn {
                parameters.ret = Some(match value {
                    Some(v) if v.eq_ignore_ascii_case(b"FULL") => Return::Full,
                    Some(v) if v.eq_ignore_ascii_case(b"HDRS") => Return::Headers,
                    _ => return Err(Reply::PARAMETER_VALUE),
                });
                8
            } else if is(b"ENVID") && extensions.dsn {
                // RFC 3461 §4.4: at most 100 characters.
                parameters.envelope_id = xtext(value.ok_or(Reply::PARAMETER_VALUE)?, 100)?;
                16
            } else if is(b"AUTH") && value.is_some() {
                32
            } else if is(b"REQUIRETLS") && secure {
                if value.is_some() {
                    return Err(Reply::PARAMETER_VALUE);
                }
                parameters.requiretls = true;
                64
            } else {
                return Err(Reply::PARAMETER_UNKNOWN);
            };
            once(&mut seen, mark)?;
        }
        Ok(parameters)
    }
}

impl<'a> RcptParameters<'a> {
    /// Parses what follows the forward-path.
    pub fn parse(rest: &'a [u8], extensions: Extensions, smtputf8: bool) -> Result<Self, &'static Reply> {
        let mut parameters = Self::default();
        let mut seen = 0u8;
        for parameter in split(rest)? {
            let (keyword, value) = parameter?;
            let is = |name: &[u8]| keyword.eq_ignore_ascii_case(name);
            let mark = if is(b"NOTIFY") && extensions.dsn {
                parameters.notify = notify(value.ok_or(Reply::PARAMETER_VALUE)?)?;
                1
            } else if is(b"ORCPT") && extensions.dsn {
                parameters.original = original(value.ok_or(Reply::PARAMETER_VALUE)?, smtputf8)?;
                2
            } else {
                return Err(Reply::PARAMETER_UNKNOWN);
            };
            once(&mut seen, mark)?;
        }
        Ok(parameters)
    }
}

// RFC 5321 §4.1.1.11: each parameter is given at most once.
fn once(seen: &mut u8, mark: u8) -> Result<(), &'static Reply> {
    if *seen & mark != 0 {
        return Err(Reply::PARAMETER_TWICE);
    }
    *seen |= mark;
    Ok(())
}

type Parameter<'a> = (&'a [u8], Option<&'a [u8]>);

/// Splits `SP keyword["=" value]` and so on. Several spaces in a row are taken as one.
fn split(rest: &[u8]) -> Result<impl Iterator<Item = Result<Parameter<'_>, &'static Reply>>, &'static Reply> {
    // A parameter that sticks to the path is no parameter.
    if !matches!(rest, [] | [b' ' | b'\t', ..]) {
        return Err(Reply::PARAMETER_SYNTAX);
    }
    let words = rest.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty());
    Ok(words.map(|word| {
        let (keyword, value) = match memchr::memchr(b'=', word) {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        // RFC 5321 §4.1.2: esmtp-keyword and esmtp-value; RFC 6531 §3.4 adds UTF-8 to the value.
        let keyword_ok = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
            && keyword.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let value_ok = value.is_none_or(|v| !v.is_empty() && v.iter().all(|b| matches!(b, 33..=126 | 128..)));
        if keyword_ok && value_ok { Ok((keyword, value)) } else { Err(Reply::PARAMETER_SYNTAX) }
    }))
}

// RFC 1870 §3: 1*20DIGIT. A number that does not fit is too big all the same.
pub(crate) fn number(digits: &[u8]) -> Result<u64, &'static Reply> {
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reply::PARAMETER_VALUE);
    }
    Ok(digits.iter().fold(0u64, |sum, digit| {
        sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(digit - b'0'))).unwrap_or(u64::MAX)
    }))
}

fn body(value: &[u8], extensions: Extensions) -> Result<BodyType, &'static Reply> {
    let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
    if is(b"8BITMIME") {
        Ok(BodyType::EightBitMime)
    } else if is(b"7BIT") {
        Ok(BodyType::SevenBit)
    } else if is(b"BINARYMIME") && extensions.binarymime {
        Ok(BodyType::BinaryMime)
    } else {
        Err(Reply::PARAMETER_VALUE)
    }
}

// RFC 3461 §4.1: NEVER stands alone.
fn notify(value: &[u8]) -> Result<Notify, &'static Reply> {
    let mut set = Notify::UNSPECIFIED;
    for word in value.split(|&b| b == b',') {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let member = if is(b"NEVER") {
            Notify::NEVER
        } else if is(b"SUCCESS") {
            Notify::SUCCESS
        } else if is(b"FAILURE") {
            Notify::FAILURE
        } else if is(b"DELAY") {
            Notify::DELAY
        } else {
            return Err(Reply::PARAMETER_VALUE);
        };
        set = Notify(set.0 | member.0);
    }
    if set.contains(Notify::NEVER) && set != Notify::NEVER { Err(Reply::PARAMETER_VALUE) } else { Ok(set) }
}

/// RFC 3461 §4: `xtext`, of at most `octets_max` octets, that decodes into printable US-ASCII.
fn xtext(value: &[u8], octets_max: usize) -> Result<&str, &'static Reply> {
    if value.len() > octets_max || !encodes_printable(value, false) {
        return Err(Reply::PARAMETER_VALUE);
    }
    std::str::from_utf8(value).map_err(|_| Reply::PARAMETER_VALUE)
}

fn encodes_printable(mut value: &[u8], utf8: bool) -> bool {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    loop {
        value = match *value {
            [] => return true,
            [b'+', high, low, ref rest @ ..] => match (hex(high), hex(low)) {
                (Some(high), Some(low)) if (0x20..0x7f).contains(&(high * 16 + low)) => rest,
                _ => return false,
            },
            [b'+' | b'=', ..] => return false,
            [33..=126, ref rest @ ..] => rest,
            [128..=255, ref rest @ ..] if utf8 => rest,
            _ => return false,
        }
    }
}

// RFC 3461 §4.2: addr-type ";" xtext, at most 500 characters. RFC 6533 §3: the address type utf-8 may hold UTF-8.
fn original(value: &[u8], smtputf8: bool) -> Result<&str, &'static Reply> {
    let at = memchr::memchr(b';', value).ok_or(Reply::PARAMETER_VALUE)?;
    let (kind, address) = (&value[..at], &value[at + 1..]);
    let kind_ok = !kind.is_empty() && kind.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let utf8 = smtputf8 && kind.eq_ignore_ascii_case(b"utf-8");
    if !kind_ok || address.is_empty() || value.len() > 500 || !encodes_printable(address, utf8) {
        return Err(Reply::PARAMETER_VALUE);
    }
    std::str::from_utf8(value).map_err(|_| Reply::PARAMETER_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Extensions = Extensions { chunking: true, binarymime: true, smtputf8: true, dsn: true };
    const NONE: Extensions = Extensions { chunking: false, binarymime: false, smtputf8: false, dsn: false };

    fn mail(rest: &str) -> Result<MailParameters<'_>, &'static Reply> {
        MailParameters::parse(rest.as_bytes(), ALL, true)
    }

    fn rcpt(rest: &str) -> Result<RcptParameters<'_>, &'static Reply> {
        RcptParameters::parse(rest.as_bytes(), ALL, true)
    }

    #[test]
    fn mail_accepted() {
        assert_eq!(mail(""), Ok(MailParameters::default()));
        assert_eq!(
            mail(" SIZE=1000  body=8bitmime SMTPUTF8 ret=HDRS ENVID=a+3Db AUTH=<> RequireTLS"),
            Ok(MailParameters {
                size: Some(1000),
                body: BodyType::EightBitMime,
                smtputf8: true,
                ret: Some(Return::Headers),
                envelope_id: "a+3Db",
                requiretls: true,
            })
        );
        assert_eq!(mail(" SIZE=18446744073709551615").map(|p| p.size), Ok(Some(u64::MAX)));
        assert_eq!(mail(" SIZE=99999999999999999999").map(|p| p.size), Ok(Some(u64::MAX)));
        assert_eq!(mail(" AUTH=a+2Bb@c").map(|p| p.size), Ok(None));
    }

    #[test]
    fn mail_refused() {
        for (rest, reply) in [
            ("SIZE=1", Reply::PARAMETER_SYNTAX),
            (" =1", Reply::PARAMETER_SYNTAX),
            (" SIZE=", Reply::PARAMETER_SYNTAX),
            (" -A=1", Reply::PARAMETER_SYNTAX),
            (" S_ZE=1", Reply::PARAMETER_SYNTAX),
            (" ENVID=\u{1}", Reply::PARAMETER_SYNTAX),
            (" SIZE", Reply::PARAMETER_VALUE),
            (" SIZE=-1", Reply::PARAMETER_VALUE),
            (" SIZE=1k", Reply::PARAMETER_VALUE),
            (" SIZE=000000000000000000001", Reply::PARAMETER_VALUE),
            (" BODY", Reply::PARAMETER_VALUE),
            (" BODY=9BIT", Reply::PARAMETER_VALUE),
            (" SMTPUTF8=1", Reply::PARAMETER_VALUE),
            (" RET", Reply::PARAMETER_VALUE),
            (" RET=SOME", Reply::PARAMETER_VALUE),
            (" ENVID", Reply::PARAMETER_VALUE),
            (" ENVID=a+", Reply::PARAMETER_VALUE),
            (" ENVID=a+0D+0A", Reply::PARAMETER_VALUE),
            (" ENVID=a=b", Reply::PARAMETER_VALUE),
            (" SIZE=1 SIZE=1", Reply::PARAMETER_TWICE),
            (" AUTH=<> AUTH=<>", Reply::PARAMETER_TWICE),
            (" AUTH", Reply::PARAMETER_UNKNOWN),
            (" REQUIRETLS=1", Reply::PARAMETER_VALUE),
            (" REQUIRETLS REQUIRETLS", Reply::PARAMETER_TWICE),
            (" X=1", Reply::PARAMETER_UNKNOWN),
        ] {
            assert_eq!(mail(rest), Err(reply), "{rest:?}");
        }
        let long = format!(" ENVID={}", "a".repeat(101));
        assert_eq!(mail(&long), Err(Reply::PARAMETER_VALUE));
    }

    #[test]
    fn not_offered_is_not_understood() {
        for rest in [" SMTPUTF8", " RET=FULL", " ENVID=a", " REQUIRETLS"] {
            assert_eq!(MailParameters::parse(rest.as_bytes(), NONE, false), Err(Reply::PARAMETER_UNKNOWN));
        }
        assert_eq!(MailParameters::parse(b" BODY=BINARYMIME", NONE, false), Err(Reply::PARAMETER_VALUE));
        assert_eq!(RcptParameters::parse(b" NOTIFY=NEVER", NONE, false), Err(Reply::PARAMETER_UNKNOWN));
    }

    #[test]
    fn rcpt_accepted() {
        assert_eq!(rcpt(" NOTIFY=NEVER").map(|p| p.notify), Ok(Notify::NEVER));
        let set = rcpt(" notify=success,FAILURE,Delay").expect("valid").notify;
        assert_eq!(set.bits(), 2 | 4 | 8);
        assert_eq!(rcpt(" ORCPT=rfc822;a+2Bb@c").map(|p| p.original), Ok("rfc822;a+2Bb@c"));
        assert_eq!(rcpt(" ORCPT=utf-8;用@c").map(|p| p.original), Ok("utf-8;用@c"));
    }

    #[test]
    fn rcpt_refused() {
        for (rest, reply) in [
            (" NOTIFY=NEVER,DELAY", Reply::PARAMETER_VALUE),
            (" NOTIFY=SOMETIMES", Reply::PARAMETER_VALUE),
            (" NOTIFY=DELAY,", Reply::PARAMETER_VALUE),
            (" NOTIFY", Reply::PARAMETER_VALUE),
            (" ORCPT", Reply::PARAMETER_VALUE),
            (" ORCPT=a@b", Reply::PARAMETER_VALUE),
            (" ORCPT=;a@b", Reply::PARAMETER_VALUE),
            (" ORCPT=rfc822;", Reply::PARAMETER_VALUE),
            (" ORCPT=rfc822;用@c", Reply::PARAMETER_VALUE),
            (" ORCPT=rfc822;a+0A", Reply::PARAMETER_VALUE),
            (" NOTIFY=NEVER NOTIFY=NEVER", Reply::PARAMETER_TWICE),
            (" SIZE=1", Reply::PARAMETER_UNKNOWN),
        ] {
            assert_eq!(rcpt(rest), Err(reply), "{rest:?}");
        }
        let long = format!(" ORCPT=rfc822;{}", "a".repeat(494));
        assert_eq!(rcpt(&long), Err(Reply::PARAMETER_VALUE));
    }
}
