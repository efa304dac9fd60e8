//! Text from elsewhere, made safe to stand in a report.
//!
//! Remote replies, addresses and host names are whatever somebody chose to send. Before any of it is written it goes through one of
//! these functions, which leave neither a line end nor any other control character, nor what turns the direction of writing round, nor
//! more octets than they were told. All that is left for the writers is to fold.
//!
//! Standards: RFC 5322 §2.1.1 (line length), §2.2 (what a field may hold); RFC 6532 §3 (UTF-8 in fields).

use std::borrow::Cow;

/// What takes the place of a character that cannot stay.
const REPLACEMENT: char = '?';

/// Whether a character may be shown as it is. Spaces are not among these: they matter to folding.
pub(super) fn is_shown(character: char) -> bool {
    match character {
        '!'..='~' => true,
        // Zero width, changes of direction, annotations: one text would look like another.
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffd}' => false,
        _ => !character.is_control() && !character.is_whitespace(),
    }
}

/// Words of a person or a host, in one line: runs of white space, line ends included, become one space.
/// At most `octets_max` octets of `text` are taken; ` ...` stands for the rest.
pub(super) fn words(text: &[u8], octets_max: usize) -> String {
    let mut out = String::new();
    let (text, is_cut) = cut(text, octets_max);
    for character in text.chars() {
        if character.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.push(if is_shown(character) { character } else { REPLACEMENT });
        }
    }
    out.truncate(out.trim_end().len());
    if is_cut {
        out.push_str(" ...");
    }
    out
}

/// A mailbox, in which a quoted local part may hold spaces.
pub(super) fn address(path: &[u8], octets_max: usize) -> String {
    let (path, _) = cut(path, octets_max);
    let shown = |character| if character == ' ' || is_shown(character) { character } else { REPLACEMENT };
    path.chars().map(shown).collect()
}

/// A host name or address literal; `unknown` when there is none.
pub(super) fn domain(name: &[u8]) -> String {
    // RFC 1035 §2.3.4
    const OCTETS_MAX: usize = 255;
    if name.is_empty() {
        return "unknown".to_owned();
    }
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
    let name = &name[..name.len().min(OCTETS_MAX)];
    name.iter().map(|&octet| if is_allowed(octet) { char::from(octet) } else { REPLACEMENT }).collect()
}

/// A message id: letters and digits; `unknown` when there is none.
pub(super) fn id(text: &str) -> String {
    const OCTETS_MAX: usize = 64;
    let id: String = text.chars().filter(char::is_ascii_alphanumeric).take(OCTETS_MAX).collect();
    if id.is_empty() { "unknown".to_owned() } else { id }
}

/// `text` in US-ASCII.
pub(super) fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars().map(|character| if character.is_ascii() { character } else { REPLACEMENT }).collect(),
    )
}

/// The first octets of a text, and whether there were more. A character that is cut in two is left out.
fn cut(text: &[u8], octets_max: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= octets_max {
        return (String::from_utf8_lossy(text), false);
    }
    // A character of UTF-8 begins at most three octets before the cut.
    let is_start = |at: &usize| text[*at] & 0xc0 != 0x80;
    let end = (octets_max.saturating_sub(3)..=octets_max).rev().find(is_start).unwrap_or(octets_max);
    (String::from_utf8_lossy(&text[..end]), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_line() {
        assert_eq!(words(b" 550-no\r\n550\t \x0bsuch\0user\x7f \r", 99), "550-no 550 such?user?");
        assert_eq!(words("a\u{85}b\u{2028}c\u{202e}d\u{a0}e".as_bytes(), 99), "a b c?d e");
        assert_eq!(words(b"\xff\xfe", 99), "??");
        assert_eq!(words(b"\r\n\r\n", 99), "");
    }

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(words("aäö".as_bytes(), 5), "aäö");
        assert_eq!(words("aäö".as_bytes(), 4), "aä ...");
        assert_eq!(words(&[b'\x80'; 9], 4), "???? ...");
        assert_eq!(words(b"ab", 0), " ...");
    }

    #[test]
    fn addresses_keep_their_spaces() {
        assert_eq!(address(b"\"a  b\"@c", 99), "\"a  b\"@c");
        assert_eq!(address("a\r\nb\u{2028}@ü".as_bytes(), 99), "a??b?@ü");
    }

    #[test]
    fn names_are_names() {
        assert_eq!(domain(b""), "unknown");
        assert_eq!(domain(b"a.example\r\nX: y"), "a.example??X:?y");
        assert_eq!(domain(b"[IPv6:2001:db8::1]"), "[IPv6:2001:db8::1]");
        assert_eq!(domain(&[b'a'; 300]).len(), 255);
        assert_eq!(id("0A1B\r\n<>@2C"), "0A1B2C");
        assert_eq!(id("\r\n"), "unknown");
    }
}
