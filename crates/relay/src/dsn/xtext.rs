//! `xtext` and its kin: how ENVID and ORCPT carry text inside one SMTP parameter.
//!
//! | form | used by | a character is written as |
//! |---|---|---|
//! | xtext | ENVID, ORCPT | itself, or `+2B` |
//! | utf-8-addr-unitext | ORCPT of type `utf-8` under SMTPUTF8 | itself, UTF-8 as well, or `\x{2B}` |
//! | utf-8-addr-xtext | the same without SMTPUTF8, and in `message/delivery-status` | itself, or `\x{2B}` |
//!
//! Decoding is strict: what is not of its form, or decodes into a control character, gives nothing. The one leniency is `+2B` in an
//! ORCPT of type `utf-8`, since RFC 3461 on its own would have it so, and the server takes it.
//!
//! Standards: RFC 3461 §4 (xtext), §4.2, §4.4; RFC 6533 §3 (the forms of the address type `utf-8`).

use std::fmt::Write as _;

use super::clean;

/// RFC 3461 §5.4: an ORCPT of up to 500 characters has to be kept.
const ORCPT_OCTETS_MAX: usize = 500;
/// RFC 3461 §5.4: an ENVID of up to 100 characters has to be kept.
const ENVID_OCTETS_MAX: usize = 100;

/// ORCPT, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OriginalRecipient<'a> {
    /// As `rfc822`; letters, digits and hyphens.
    pub(super) address_type: &'a str,
    /// Free of control characters; US-ASCII unless the type is `utf-8`.
    pub(super) address: String,
}

impl<'a> OriginalRecipient<'a> {
    /// Decodes `addr-type ";" xtext`; `None` when it is not that.
    pub(super) fn decode(orcpt: &'a [u8]) -> Option<Self> {
        let (address_type, address) = std::str::from_utf8(orcpt).ok()?.split_once(';')?;
        let is_type = !address_type.is_empty()
            && address_type.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if !is_type || address.is_empty() || orcpt.len() > ORCPT_OCTETS_MAX {
            return None;
        }
        let address = if is_utf8(address_type) { decode_utf8(address) } else { decode(address) }?;
        (!is_blank(&address)).then_some(Self { address_type, address })
    }

    /// True for the address type of RFC 6533.
    pub(super) fn is_utf8(&self) -> bool {
        is_utf8(self.address_type)
    }
}

/// ENVID, decoded: printable US-ASCII, spaces included. `None` when it is no xtext.
pub(super) fn envelope_id(envid: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(envid).ok()?;
    let fits = !text.is_empty() && text.len() <= ENVID_OCTETS_MAX;
    fits.then(|| decode(text)).flatten().filter(|id| !is_blank(id))
}

/// `address` as utf-8-addr-xtext.
pub(super) fn encode_utf8(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for character in address.chars() {
        // RFC 6533 §3: QCHAR is printable US-ASCII but for SP, `\`, `+` and `=`.
        if character.is_ascii_graphic() && !matches!(character, '\\' | '+' | '=') {
            out.push(character);
        } else {
            let written = write!(out, "\\x{{{:02X}}}", u32::from(character));
            debug_assert!(written.is_ok(), "writing into a String does not fail");
        }
    }
    out
}

fn is_utf8(address_type: &str) -> bool {
    address_type.eq_ignore_ascii_case("utf-8")
}

/// A field of nothing but spaces would say nothing.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|octet| octet == b' ')
}

/// RFC 3461 §4: xtext that decodes into printable US-ASCII.
fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '+' => {
                let (character, behind) = hex_pair(rest)?;
                out.push(character);
                rest = behind;
            }
            '=' => return None,
            '!'..='~' => out.push(first),
            _ => return None,
        }
    }
    Some(out)
}

/// RFC 6533 §3: utf-8-addr-xtext or utf-8-addr-unitext.
fn decode_utf8(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let (digits, behind) = rest.strip_prefix("x{")?.split_once('}')?;
                let is_number =
                    (2..=6).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_hexdigit());
                let number = is_number.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
                let character = char::from_u32(number)?;
                if character != ' ' && !clean::is_shown(character) {
                    return None;
                }
                out.push(character);
                rest = behind;
            }
            '+' => {
                let (character, behind) = hex_pair(rest)?;
                out.push(character);
                rest = behind;
            }
            '=' => return None,
            _ if clean::is_shown(first) => out.push(first),
            _ => return None,
        }
    }
    Some(out)
}

/// Two hexadecimal digits at the front of `text` that stand for a printable character of US-ASCII, and what follows them.
fn hex_pair(text: &str) -> Option<(char, &str)> {
    let (digits, behind) = text.split_at_checked(2)?;
    let is_number = digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    let octet = is_number.then(|| u8::from_str_radix(digits, 16).ok()).flatten()?;
    (b' '..=b'~').contains(&octet).then_some((char::from(octet), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(orcpt: &str) -> Option<(&str, String)> {
        OriginalRecipient::decode(orcpt.as_bytes()).map(|found| (found.address_type, found.address))
    }

    /// RFC 3461 §4.4
    #[test]
    fn envelope_ids() {
        assert_eq!(envelope_id(b"QQ314159").as_deref(), Some("QQ314159"));
        assert_eq!(envelope_id(b"a+2Bb+3Dc+20d").as_deref(), Some("a+b=c d"));
        let long = [b'a'; ENVID_OCTETS_MAX + 1];
        for bad in [
            &b""[..],
            b"a b",
            b"a=b",
            b"a+",
            b"a+2",
            b"a+2g",
            b"a++2",
            b"a+0D+0A",
            b"a+7F",
            b"\xff",
            b"+20+20",
            &long,
        ] {
            assert_eq!(envelope_id(bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(envelope_id("用".as_bytes()), None);
    }

    /// RFC 3461 §4.2, RFC 6533 §3
    #[test]
    fn original_recipients() {
        assert_eq!(original("rfc822;a+2Bb@c.example"), Some(("rfc822", "a+b@c.example".to_owned())));
        for orcpt in ["utf-8;用@c.example", "utf-8;\\x{7528}@c.example"] {
            assert_eq!(original(orcpt), Some(("utf-8", "用@c.example".to_owned())));
        }
        assert_eq!(original("UTF-8;a\\x{2B}b+2Bc@d"), Some(("UTF-8", "a+b+c@d".to_owned())));
        for bad in [
            "a@b",
            ";a@b",
            "rfc 822;a@b",
            "rfc822;",
            "rfc822;+20",
            "rfc822;用@c",
            "rfc822;a\r\nX: y",
            "utf-8;a\\b",
            "utf-8;\\x{0A}",
            "utf-8;\\x{D800}",
            "utf-8;\\x{110000}",
            "utf-8;\\x{+2B}",
            "utf-8;\\x{7528",
            "utf-8;a=b",
            "utf-8;a\u{202e}b",
            "utf-8;+用",
        ] {
            assert_eq!(original(bad), None, "{bad:?}");
        }
        let long = format!("rfc822;{}", "a".repeat(ORCPT_OCTETS_MAX));
        assert_eq!(original(&long), None);
    }

    /// RFC 6533 §3
    #[test]
    fn what_is_encoded_is_decoded() {
        for address in ["a@b.example", "用@c.example", "\"a \\\\ b\"@c", "a+b=c@d", "\u{10ffff}x"] {
            let encoded = encode_utf8(address);
            assert!(encoded.is_ascii() && !encoded.contains([' ', '+', '=']), "{encoded}");
            assert_eq!(decode_utf8(&encoded).as_deref(), Some(address));
        }
    }
}
