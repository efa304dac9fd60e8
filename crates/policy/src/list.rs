//! A file of recipients of one domain, one a line, made into a list that is quick to ask and small in memory.
//!
//! ```text
//! # customers                        a comment
//! joe@example.com                    a mailbox of the domain
//! mary                               the same without the domain
//! "joe smith"@example.com # b        a comment behind white space
//! /sales-[a-z]+@example\.com/        a regular expression for whole addresses
//! @example.com                       everybody else; also * or *@example.com
//! ```
//! A recipient is looked for in this order; the first that fits decides:
//!
//! | line | takes |
//! |---|---|
//! | address | itself |
//! | regular expression that names the `%`, `!` or `@` of a [route](crate::route) | addresses with it |
//! | (none of these) | refuses any other address with a route |
//! | address | itself with a subaddress: `joe+news` for `joe` |
//! | regular expression | what it matches from the first to the last character |
//! | catch-all | everybody |
//!
//! Local parts are compared without quoting (RFC 5321 §4.1.2) and, unless case matters, in lower case.
//! The cost of a look-up does not depend on the number of addresses: at most two look-ups in a hash table and one pass of all
//! regular expressions over the address.

use std::borrow::Cow;

use inrush_proto::{Path, PathError, domain_eq, normalise_domain};

use crate::lower::Lower;
use crate::names::{NameError, Names};
use crate::patterns::{Patterns, PatternsBuilder};
use crate::recipients::Verdict;
use crate::route::RouteMarks;

/// Errors of one file that are worth telling.
const ERRORS_MAX: usize = 20;

/// A line that is no recipient of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: Cow<'static, str>,
}

/// How local parts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSettings {
    /// Upper and lower case make different local parts.
    pub case_sensitive: bool,
    /// What stands between a mailbox and its subaddress (RFC 5233 §1); `None` when there are no subaddresses.
    pub subaddress_separator: Option<char>,
}

impl Default for ListSettings {
    fn default() -> Self {
        Self { case_sensitive: false, subaddress_separator: Some('+') }
    }
}

/// The recipients of one domain.
#[derive(Debug)]
pub struct AddressList {
    settings: ListSettings,
    names: Names,
    patterns: Option<Patterns>,
    catch_all: bool,
}

impl AddressList {
    /// Reads the recipients of `domain`. UTF-8 is allowed (RFC 6531 §3.3); CRLF and a byte order mark are.
    ///
    /// # Errors
    /// The first 20 lines that are wrong.
    pub fn parse(file: &[u8], domain: &str, settings: ListSettings) -> Result<Self, Vec<LineError>> {
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        let lines = file.split(|byte| *byte == b'\n');
        let names = Names::with_capacity(lines.clone().count());
        let list = Self { settings, names, patterns: None, catch_all: false };
        let patterns = PatternsBuilder::new(settings.case_sensitive);
        let mut reader = Reader { domain, list, patterns };
        let mut errors = Vec::new();
        for (index, line) in lines.enumerate() {
            if let Err(what) = reader.line(line, index + 1) {
                errors.push(LineError { line: index + 1, what });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let Reader { mut list, patterns, .. } = reader;
        let mut name = String::new();
        normalise_domain(domain, &mut name);
        list.patterns = patterns.finish(&name).map_err(|error| vec![error])?;
        list.names.shrink();
        Ok(list)
    }

    /// Number of different addresses, without what regular expressions and a catch-all take.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when nobody is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.len() == 0 && self.patterns.is_none() && !self.catch_all
    }

    /// Octets of memory that the addresses take.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.names.octets()
    }

    /// Whether the local part of `path` is a recipient; its domain is not looked at. Allocates for regular expressions and
    /// local parts beyond US-ASCII only.
    #[must_use]
    pub fn lookup(&self, path: Path<'_>) -> Verdict {
        let key = self.key(path);
        let key = key.as_str();
        let marks = RouteMarks::of(path.local_part());
        let matches = || self.patterns.as_ref().is_some_and(|patterns| patterns.matches(key, marks));
        if self.names.contains(key) {
            Verdict::Accept
        } else if !marks.is_empty() {
            if matches() { Verdict::Accept } else { Verdict::Routed }
        } else if self.mailbox(key).is_some_and(|mailbox| self.names.contains(mailbox))
            || matches()
            || self.catch_all
        {
            Verdict::Accept
        } else {
            Verdict::UnknownUser
        }
    }

    /// `local_part` without its subaddress, if it has one.
    fn mailbox<'a>(&self, local_part: &'a str) -> Option<&'a str> {
        let (mailbox, _) = local_part.split_once(self.settings.subaddress_separator?)?;
        (!mailbox.is_empty()).then_some(mailbox)
    }

    /// The local part without quoting and, unless case matters, in lower case.
    fn key(&self, path: Path<'_>) -> Lower {
        let local = path.local_part();
        let case_sensitive = self.settings.case_sensitive;
        // Most local parts are bare ASCII; only then quoting cannot occur and lower case is by octet.
        if local.is_ascii() && !local.starts_with('"') && !case_sensitive {
            return Lower::ascii(local);
        }
        let chars = path.local_part_chars();
        Lower::Long(if case_sensitive {
            chars.collect()
        } else {
            chars.flat_map(char::to_lowercase).collect()
        })
    }
}

/// Reads lines into a list.
struct Reader<'a> {
    domain: &'a str,
    list: AddressList,
    patterns: PatternsBuilder,
}

impl Reader<'_> {
    fn line(&mut self, line: &[u8], number: usize) -> Result<(), Cow<'static, str>> {
        let line = std::str::from_utf8(line).map_err(|_| "not valid UTF-8")?.trim();
        if let Some(rest) = line.strip_prefix('/') {
            return self.patterns.add(pattern(rest)?, number);
        }
        let address = without_comment(line);
        match address.strip_prefix('*').unwrap_or(address).strip_prefix('@') {
            _ if address.is_empty() => Ok(()),
            _ if address == "*" => {
                self.list.catch_all = true;
                Ok(())
            }
            Some(domain) => {
                self.check_domain(domain)?;
                self.list.catch_all = true;
                Ok(())
            }
            None => self.address(address),
        }
    }

    fn address(&mut self, address: &str) -> Result<(), Cow<'static, str>> {
        let complete;
        let path = match Path::mailbox(address) {
            Err(PathError::NoDomain) => {
                complete = format!("{address}@{}", self.domain);
                Path::mailbox(&complete)
            }
            path => path,
        };
        let path = path.map_err(|error| match error {
            PathError::LocalPartTooLong => "a local part over 64 octets",
            _ => "not an address",
        })?;
        self.check_domain(path.domain().unwrap_or_default())?;
        let key = self.list.key(path);
        self.list.names.insert(key.as_str()).map_err(|error| match error {
            NameError::Long => "a local part over 64 octets",
            NameError::Full => "more than 4 GiB of addresses",
        })?;
        Ok(())
    }

    fn check_domain(&self, domain: &str) -> Result<(), &'static str> {
        if domain_eq(domain, self.domain) { Ok(()) } else { Err("an address of another domain") }
    }
}

/// The regular expression at the front of `rest`, which is what follows its first slash. It ends with a slash in front of white
/// space or the end of the line.
fn pattern(rest: &str) -> Result<&str, &'static str> {
    let ends = |(at, _): &(usize, &str)| rest[at + 1..].chars().next().is_none_or(char::is_whitespace);
    let (end, _) = rest.match_indices('/').find(ends).ok_or("a regular expression without a / at its end")?;
    if !without_comment(&rest[end + 1..]).trim().is_empty() {
        return Err("more than a regular expression");
    }
    Ok(&rest[..end])
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

#[cfg(test)]
mod tests;
