//! Which messages of the queue somebody means.

use std::time::Duration;

use inrush_log::MessageId;
use inrush_proto::domain_eq;

use crate::view::split;

/// Messages that one answer lists when nothing else is said.
pub const LIMIT: usize = 10_000;
/// The most that may be asked for: an answer is a document in memory.
const LIMIT_MAX: usize = 100_000;

/// A choice of messages; everything that is given has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// One of these; any when empty.
    pub ids: Vec<MessageId>,
    /// Waits for this route.
    pub route: Option<String>,
    /// A recipient that waits is in this domain.
    pub domain: Option<String>,
    /// This reverse-path; `@example.com` for everybody of a domain, `<>` for the null one.
    pub sender: Option<String>,
    /// A recipient that waits is this one; `@example.com` for everybody of a domain.
    pub recipient: Option<String>,
    /// Accepted so long ago or longer.
    pub older_than: Option<Duration>,
    /// So many at most.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            route: None,
            domain: None,
            sender: None,
            recipient: None,
            older_than: None,
            limit: LIMIT,
        }
    }
}

/// A parameter of a query that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nobody knows it.
    #[error("unknown parameter {0:?}")]
    Unknown(String),
    /// Its value.
    #[error("{name}: {what}")]
    Value {
        /// Name of the parameter.
        name: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Query {
    /// Takes one parameter, as `route` and `out`; false when it is none of a query.
    ///
    /// # Errors
    /// The value makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, QueryError> {
        let wrong = |name, what: &dyn std::fmt::Display| QueryError::Value { name, what: what.to_string() };
        match name {
            "id" => {
                let id = value.parse().map_err(|error| wrong("id", &error))?;
                if !self.ids.contains(&id) {
                    self.ids.push(id);
                }
            }
            "route" => self.route = Some(value.to_owned()),
            "domain" => self.domain = Some(value.to_owned()),
            // What becomes of a variable that is not set is no choice of anybody.
            "sender" if value.is_empty() => {
                return Err(wrong("sender", &"is empty; the null reverse-path is <>"));
            }
            "sender" => self.sender = Some(value.to_owned()),
            "recipient" if value.is_empty() => return Err(wrong("recipient", &"is empty")),
            "recipient" => self.recipient = Some(value.to_owned()),
            "older_than" => {
                let seconds = value.parse().map_err(|_| wrong("older_than", &"not a number of seconds"))?;
                self.older_than = Some(Duration::from_secs(seconds));
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                self.limit =
                    limit.ok_or_else(|| wrong("limit", &format!("not a number from 1 to {LIMIT_MAX}")))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether it says anything at all.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self { limit: self.limit, ..Self::default() }
    }

    /// Whether a message may fit, by what is known without reading it; an age that is not known is that of [`fits`](Self::fits).
    pub(crate) fn may_fit(&self, id: MessageId, destination: &[u8], age: Option<u64>) -> bool {
        let (route, domain) = split(destination);
        (self.ids.is_empty() || self.ids.contains(&id))
            && self.route.as_ref().is_none_or(|wanted| *wanted == route)
            && (domain.is_empty() || self.domain.as_ref().is_none_or(|wanted| domain_eq(wanted, &domain)))
            && age.is_none_or(|age| self.is_old_enough(age))
    }

    /// Whether messages have to be read to tell whether they fit.
    pub(crate) fn needs_reading(&self) -> bool {
        self.sender.is_some() || self.domain.is_some() || self.recipient.is_some()
    }

    /// Whether this recipient is meant, of a message that fits.
    pub(crate) fn means(&self, path: &[u8]) -> bool {
        self.domain.as_ref().is_none_or(|wanted| is_in(wanted, path))
            && self.recipient.as_ref().is_none_or(|wanted| is_address(wanted, path))
    }

    /// Whether it fits, of an age in seconds.
    pub(crate) fn fits<'a>(
        &self,
        sender: &[u8],
        mut recipients: impl Iterator<Item = &'a [u8]>,
        age: u64,
    ) -> bool {
        self.is_old_enough(age)
            && self.sender.as_ref().is_none_or(|wanted| is_address(wanted, sender))
            && (self.domain.is_none() && self.recipient.is_none() || recipients.any(|path| self.means(path)))
    }

    fn is_old_enough(&self, age: u64) -> bool {
        self.older_than.is_none_or(|older| age >= older.as_secs())
    }
}

fn is_in(domain: &str, path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path);
    path.rsplit_once('@').is_some_and(|(_, of)| domain_eq(domain, of))
}

/// Whether a path is an address, or one of a domain: only the domain is of any case (RFC 5321 §2.4).
pub fn is_address(wanted: &str, sender: &[u8]) -> bool {
    let wanted = wanted.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(wanted);
    if let Some(domain) = wanted.strip_prefix('@') {
        return is_in(domain, sender);
    }
    let sender = String::from_utf8_lossy(sender);
    match (wanted.rsplit_once('@'), sender.rsplit_once('@')) {
        (Some((local, domain)), Some((of_local, of_domain))) => {
            local == of_local && domain_eq(domain, of_domain)
        }
        _ => wanted == sender,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_and_domains() {
        assert!(is_address("a@Example.com", b"a@example.COM"));
        assert!(!is_address("A@example.com", b"a@example.com"));
        assert!(is_address("@example.com", b"\"x@y\"@example.com"));
        assert!(is_address("<>", b"") && is_address("", b"") && !is_address("<>", b"a@b"));
        let query = Query { recipient: Some("b@example.org".to_owned()), ..Query::default() };
        let fits = |recipients: &[&[u8]]| query.fits(b"", recipients.iter().copied(), 0);
        assert!(fits(&[b"a@example.org", b"b@example.org"]) && !fits(&[b"a@example.org"]) && !fits(&[]));
        assert!(query.means(b"b@Example.ORG") && !query.means(b"B@example.org") && !query.is_everything());
        assert!(is_in("b\u{fc}cher.example", b"a@xn--bcher-kva.example"));
    }

    #[test]
    fn parameters_are_taken_or_refused() {
        let mut query = Query::default();
        assert_eq!(query.set("route", "out"), Ok(true));
        assert_eq!(query.set("nonsense", "out"), Ok(false));
        assert!(query.set("recipient", "").is_err());
        assert!(query.set("older_than", "1h").is_err() && query.set("id", "x").is_err());
        assert!(query.set("sender", "").is_err() && query.set("limit", "0").is_err());
        assert_eq!(query.set("sender", "<>"), Ok(true));
        let id = "00000000000000101000";
        assert!(query.set("id", id).is_ok() && query.set("id", id).is_ok() && query.ids.len() == 1);
        assert!(!query.is_everything() && Query::default().is_everything());
    }
}
