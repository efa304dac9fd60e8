//! A file of addresses, one a line, made into a set that is quick to ask and small in memory.
//!
//! ```text
//! # customers                   a comment
//! joe@example.com               a mailbox of the domain
//! "joe smith"@example.com # b   a comment behind white space
//! ```
//! The set keeps the local parts back to back in one text and a hash table of their places: about 10 octets an address on top
//! of its letters, no allocation for each.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use inrush_proto::{Path, domain_eq};

/// Errors of one file that are worth telling.
const ERRORS_MAX: usize = 20;

/// A line that is no address of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The local parts of one domain.
#[derive(Debug)]
pub struct AddressList {
    text: String,
    /// Octets of `text` from a start to an end.
    places: HashTable<(u32, u32)>,
    /// Keyed, so that a peer cannot choose addresses that collide.
    hasher: RandomState,
    case_sensitive: bool,
}

impl AddressList {
    /// Reads addresses of `domain`, one a line. UTF-8 is allowed (RFC 6531); CRLF and a byte order mark are.
    ///
    /// # Errors
    /// The first 20 lines that are not an address of the domain.
    pub fn parse(file: &[u8], domain: &str, case_sensitive: bool) -> Result<Self, Vec<LineError>> {
        let mut list = Self {
            text: String::new(),
            places: HashTable::new(),
            hasher: RandomState::new(),
            case_sensitive,
        };
        let mut errors = Vec::new();
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
            if let Err(what) = list.add_line(line, domain) {
                errors.push(LineError { line: index + 1, what });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
        list.text.shrink_to_fit();
        if errors.is_empty() { Ok(list) } else { Err(errors) }
    }

    /// Number of different addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without any address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the local part of `path` is in the list; its domain is not looked at.
    #[must_use]
    pub fn contains(&self, path: Path<'_>) -> bool {
        let key = self.key(path);
        let key = key.as_str();
        self.places.find(self.hasher.hash_one(key), |&place| self.at(place) == key).is_some()
    }

    fn add_line(&mut self, line: &[u8], domain: &str) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "not valid UTF-8")?.trim();
        let address = without_comment(line);
        if address.is_empty() {
            return Ok(());
        }
        let path = Path::mailbox(address).map_err(|_| "not an address")?;
        if !path.domain().is_some_and(|own| domain_eq(own, domain)) {
            return Err("an address of another domain");
        }
        if self.contains(path) {
            return Ok(());
        }
        let start = u32::try_from(self.text.len()).map_err(|_| "more than 4 GiB of addresses")?;
        let key = self.key(path);
        self.text.push_str(key.as_str());
        let end = u32::try_from(self.text.len()).map_err(|_| "more than 4 GiB of addresses")?;
        let Self { text, places, hasher, .. } = self;
        let hash = |(start, end): (u32, u32)| hasher.hash_one(&text[start as usize..end as usize]);
        places.insert_unique(hash((start, end)), (start, end), |place| hash(*place));
        Ok(())
    }

    /// The local part without quoting and, unless case matters, in lower case.
    fn key(&self, path: Path<'_>) -> Lower {
        let local = path.local_part();
        // Most local parts are bare ASCII; only then quoting cannot occur and lower case is by octet.
        if local.is_ascii() && !local.starts_with('"') && !self.case_sensitive {
            return Lower::ascii(local);
        }
        let chars = path.local_part_chars();
        Lower::Long(if self.case_sensitive {
            chars.collect()
        } else {
            chars.flat_map(char::to_lowercase).collect()
        })
    }

    fn at(&self, (start, end): (u32, u32)) -> &str {
        &self.text[start as usize..end as usize]
    }
}

/// `line` without a comment, which begins at its start or behind white space outside quotes.
fn without_comment(line: &str) -> &str {
    let (mut quoted, mut escaped, mut blank) = (false, false, true);
    for (at, c) in line.char_indices() {
        match c {
            '#' if !quoted && blank => return line[..at].trim_end(),
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        blank = c.is_whitespace();
    }
    line
}

/// Text in lower case, on the stack when it is short.
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one look-up, which is the point")]
pub(crate) enum Lower {
    /// US-ASCII and at most 255 octets, as every domain (RFC 1035 §2.3.4) and local part (RFC 5321 §4.5.3.1.1) is.
    Short([u8; 255], u8),
    /// Anything else.
    Long(String),
}

impl Lower {
    /// `text`, which is US-ASCII, in lower case.
    pub(crate) fn ascii(text: &str) -> Self {
        let mut short = [0; 255];
        match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(octets), Some(front)) => {
                front.copy_from_slice(text.as_bytes());
                front.make_ascii_lowercase();
                Self::Short(short, octets)
            }
            _ => Self::Long(text.to_ascii_lowercase()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // Made from US-ASCII above, so the check never fails.
            Self::Short(octets, len) => std::str::from_utf8(&octets[..usize::from(*len)]).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_blank_lines_and_line_ends() {
        let text = "\u{feff}# all\r\n\n  a@x.example  \r\nb@x.example # bee\n\"c #1\"@x.example\t# cee\nd#e@x.example\na@X.EXAMPLE";
        let list = AddressList::parse(text.as_bytes(), "x.example", false).unwrap();
        assert_eq!(list.len(), 4);
        for known in ["a@x.example", "B@x.example", "\"c #1\"@x.example", "d#e@x.example"] {
            assert!(list.contains(Path::mailbox(known).unwrap()), "{known}");
        }
        assert!(!list.contains(Path::mailbox("d@x.example").unwrap()));
    }

    #[test]
    fn bad_lines_are_told_with_their_number() {
        let text =
            b"a@x.example\nnobody\n\nb@y.example\n@x.example\na b@x.example\n\xff@x.example\npostmaster\n";
        let errors = AddressList::parse(text, "x.example", false).unwrap_err();
        let errors: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.what)).collect();
        assert_eq!(
            errors,
            [
                (2, "not an address"),
                (4, "an address of another domain"),
                (5, "not an address"),
                (6, "not an address"),
                (7, "not valid UTF-8"),
                (8, "not an address"),
            ]
        );
    }

    #[test]
    fn errors_of_a_file_are_bounded() {
        let errors = AddressList::parse(&b"no\n".repeat(100_000), "x.example", false).unwrap_err();
        assert_eq!(errors.len(), ERRORS_MAX);
    }

    #[test]
    fn a_million_addresses() {
        let text: String = (0..1_000_000).map(|n| format!("user{n}@x.example\n")).collect();
        let list = AddressList::parse(text.as_bytes(), "x.example", false).unwrap();
        assert_eq!(list.len(), 1_000_000);
        for n in (0..1_000_000).step_by(997) {
            assert!(list.contains(Path::mailbox(&format!("USER{n}@x.example")).unwrap()));
            assert!(!list.contains(Path::mailbox(&format!("user{n}x@x.example")).unwrap()));
        }
    }

    proptest! {
        #[test]
        fn a_list_holds_what_it_was_given(names in proptest::collection::btree_set("[a-z0-9._-]{0,3}[a-z0-9]{1,3}", 0..40), other in "[a-z0-9]{1,6}") {
            let names: Vec<String> = names.into_iter().filter(|name| Path::mailbox(&format!("{name}@x.example")).is_ok()).collect();
            let text: String = names.iter().map(|name| format!("{name}@x.example\n")).collect();
            let list = AddressList::parse(text.as_bytes(), "x.example", false).unwrap();
            prop_assert_eq!(list.len(), names.len());
            for name in &names {
                let mailbox = format!("{}@x.example", name.to_uppercase());
                prop_assert!(list.contains(Path::mailbox(&mailbox).unwrap()));
            }
            let mailbox = format!("{other}@x.example");
            prop_assert_eq!(list.contains(Path::mailbox(&mailbox).unwrap()), names.contains(&other));
        }
    }
}
