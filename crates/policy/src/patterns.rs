//! Regular expressions for whole addresses: all of one list are matched in one pass over the address.
//!
//! An expression is anchored at both ends. Matching takes time linear in the address, since the `regex` crate never goes back; what
//! the expressions of a list are compiled into is bounded by [`COMPILED_OCTETS_MAX`]. Threads match side by side without waiting for each other.

use std::borrow::Cow;

use regex::{RegexSet, RegexSetBuilder};

use crate::list::LineError;
use crate::route::RouteMarks;

/// Regular expressions of one list.
pub(crate) const PATTERNS_MAX: usize = 1_000;
/// Octets that they are compiled into, and again for what matching keeps in memory.
const COMPILED_OCTETS_MAX: usize = 8 << 20;

/// Reads the expressions of a list.
#[derive(Debug)]
pub(crate) struct PatternsBuilder {
    case_sensitive: bool,
    texts: Vec<String>,
    named: Vec<RouteMarks>,
    last_line: usize,
}

impl PatternsBuilder {
    pub(crate) fn new(case_sensitive: bool) -> Self {
        Self { case_sensitive, texts: Vec::new(), named: Vec::new(), last_line: 0 }
    }

    /// Takes the expression that stands in `line`.
    ///
    /// # Errors
    /// It is none, or one too many.
    pub(crate) fn add(&mut self, text: &str, line: usize) -> Result<(), Cow<'static, str>> {
        if self.texts.len() == PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} regular expressions").into());
        }
        // Alone first: `a)|(b` would close the group below.
        check(text)?;
        let anchored = format!(r"\A(?:{text})\z");
        check(&anchored)?;
        self.texts.push(anchored);
        // The last @ is the one in front of the domain.
        self.named.push(RouteMarks::of(text.rsplit_once('@').map_or(text, |(local_part, _)| local_part)));
        self.last_line = line;
        Ok(())
    }

    /// The expressions for addresses in `domain`; `None` when there are none.
    ///
    /// # Errors
    /// Together they are too big.
    pub(crate) fn finish(self, domain: &str) -> Result<Option<Patterns>, LineError> {
        if self.texts.is_empty() {
            return Ok(None);
        }
        let set = RegexSetBuilder::new(&self.texts)
            .case_insensitive(!self.case_sensitive)
            .size_limit(COMPILED_OCTETS_MAX)
            .dfa_size_limit(COMPILED_OCTETS_MAX)
            .build();
        let too_big = |_| LineError {
            line: self.last_line,
            what: "the regular expressions up to here are too big".into(),
        };
        Ok(Some(Patterns { set: set.map_err(too_big)?, named: self.named, domain: domain.into() }))
    }
}

/// What is wrong with `text`, in one line and without `text` itself.
fn check(text: &str) -> Result<(), Cow<'static, str>> {
    let what: String = match regex_syntax::parse(text) {
        Ok(_) => return Ok(()),
        Err(regex_syntax::Error::Parse(error)) => error.kind().to_string(),
        Err(regex_syntax::Error::Translate(error)) => error.kind().to_string(),
        Err(_) => "bad syntax".to_owned(),
    };
    Err(format!("not a regular expression: {what}").into())
}

/// The expressions of a list.
#[derive(Debug)]
pub(crate) struct Patterns {
    set: RegexSet,
    /// For each expression the route marks in what it says of the local part.
    named: Vec<RouteMarks>,
    domain: Box<str>,
}

impl Patterns {
    /// Whether an expression takes the address of `local_part`, which holds `marks`; one that does not name these does not.
    pub(crate) fn matches(&self, local_part: &str, marks: RouteMarks) -> bool {
        let address = [local_part, "@", &self.domain].concat();
        if marks.is_empty() {
            return self.set.is_match(&address);
        }
        self.set
            .matches(&address)
            .iter()
            .any(|index| self.named.get(index).is_some_and(|named| named.contains(marks)))
    }
}
