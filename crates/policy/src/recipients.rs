//! The domains that are ours and their recipients.

use std::collections::HashMap;

use inrush_proto::{Path, normalise_domain};

use crate::list::AddressList;
use crate::lower::Lower;
use crate::route::RouteMarks;

/// The local parts that every domain must take: RFC 5321 §4.5.1 and RFC 2142 §5 (postmaster), RFC 2142 §4 (abuse).
const ALWAYS: [&str; 2] = ["postmaster", "abuse"];

/// What becomes of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// We take mail for it.
    Accept,
    /// The domain is not ours: 550 5.7.1.
    ForeignDomain,
    /// The domain is ours, but the local part holds a route to another one (`user%other`, `other!user`): 550 5.7.1.
    Routed,
    /// The domain is ours and has no such recipient: 550 5.1.1.
    UnknownUser,
}

/// A domain cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Not a domain name, an address literal or `*`.
    Invalid,
    /// The domain has been added before.
    Twice,
    /// `*` cannot have a list of its own.
    ListedWildcard,
}

/// Whom we take mail for.
#[derive(Debug, Default)]
pub struct Recipients {
    /// By normalised name; `None` takes every local part.
    domains: HashMap<Box<str>, Option<AddressList>>,
    every_domain: bool,
}

impl Recipients {
    /// Nobody but the bare `postmaster`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everybody, in every domain.
    #[must_use]
    pub fn catch_all() -> Self {
        Self { domains: HashMap::new(), every_domain: true }
    }

    /// Adds a domain; `*` stands for every domain that is not added by name. Without a list every local part is taken.
    ///
    /// # Errors
    /// The name is no domain or was added before.
    pub fn add(&mut self, domain: &str, list: Option<AddressList>) -> Result<(), DomainError> {
        if domain == "*" {
            if list.is_some() {
                return Err(DomainError::ListedWildcard);
            }
            return if std::mem::replace(&mut self.every_domain, true) {
                Err(DomainError::Twice)
            } else {
                Ok(())
            };
        }
        // The grammar of a domain is the one of a mailbox in it.
        Path::mailbox(&format!("postmaster@{domain}")).map_err(|_| DomainError::Invalid)?;
        let mut name = String::new();
        normalise_domain(domain, &mut name);
        if self.domains.contains_key(name.as_str()) {
            return Err(DomainError::Twice);
        }
        self.domains.insert(name.into_boxed_str(), list);
        Ok(())
    }

    /// True when mail for every domain is taken.
    #[must_use]
    pub fn takes_every_domain(&self) -> bool {
        self.every_domain
    }

    /// Number of domains added by name.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// Whether the forward-path `path` is ours.
    #[must_use]
    pub fn lookup(&self, path: Path<'_>) -> Verdict {
        // RFC 5321 §4.5.1: postmaster without a domain is always taken.
        let Some(domain) = path.domain() else {
            return if path.is_bare_postmaster() { Verdict::Accept } else { Verdict::UnknownUser };
        };
        let known = if domain.is_ascii() {
            // RFC 5321 §2.4: domains are compared without regard to case.
            let lower = Lower::ascii(domain);
            self.domains.get(lower.as_str())
        } else {
            let mut name = String::new();
            normalise_domain(domain, &mut name);
            self.domains.get(name.as_str())
        };
        match known {
            None if !self.every_domain => Verdict::ForeignDomain,
            Some(Some(list)) => match list.lookup(path) {
                Verdict::UnknownUser if is_always(path) => Verdict::Accept,
                verdict => verdict,
            },
            // Who takes everybody has not said that mail is to be sent on from here.
            _ if RouteMarks::of(path.local_part()).is_empty() => Verdict::Accept,
            _ => Verdict::Routed,
        }
    }
}

fn is_always(path: Path<'_>) -> bool {
    ALWAYS.iter().any(|name| {
        let mut chars = path.local_part_chars();
        name.chars().all(|c| chars.next().is_some_and(|sent| sent.eq_ignore_ascii_case(&c)))
            && chars.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::list::ListSettings;

    fn verdict(recipients: &Recipients, path: &str) -> Verdict {
        let bracketed = format!("<{path}>");
        recipients.lookup(Path::parse(bracketed.as_bytes()).unwrap().0)
    }

    fn table() -> Recipients {
        let mut recipients = Recipients::new();
        recipients.add("any.example", None).unwrap();
        let listed = b"joe@Listed.example\n\"with space\"@listed.example\nj\xc3\xb6rg@listed.example\n";
        recipients
            .add(
                "listed.example",
                Some(AddressList::parse(listed, "listed.example", ListSettings::default()).unwrap()),
            )
            .unwrap();
        let exact = ListSettings { case_sensitive: true, ..ListSettings::default() };
        let exact = AddressList::parse(b"Joe@exact.example\n", "exact.example", exact).unwrap();
        recipients.add("exact.example", Some(exact)).unwrap();
        let umlaut = "ann@b\u{fc}cher.example\nbob@xn--bcher-kva.example\n";
        let umlaut =
            AddressList::parse(umlaut.as_bytes(), "b\u{fc}cher.example", ListSettings::default()).unwrap();
        recipients.add("b\u{fc}cher.example", Some(umlaut)).unwrap();
        recipients
    }

    #[test]
    fn domains_and_users_are_told_apart() {
        let table = table();
        for (path, expected) in [
            ("x@any.example", Verdict::Accept),
            ("x@ANY.example", Verdict::Accept),
            ("x@other.example", Verdict::ForeignDomain),
            ("x@sub.any.example", Verdict::ForeignDomain),
            ("x@[127.0.0.1]", Verdict::ForeignDomain),
            ("joe@listed.example", Verdict::Accept),
            ("JOE@LISTED.EXAMPLE", Verdict::Accept),
            // RFC 5321 §4.1.2: quoting does not make another mailbox.
            ("\"joe\"@listed.example", Verdict::Accept),
            ("\"j\\oe\"@listed.example", Verdict::Accept),
            ("\"With Space\"@listed.example", Verdict::Accept),
            ("j\u{f6}rg@listed.example", Verdict::Accept),
            ("J\u{d6}RG@listed.example", Verdict::Accept),
            ("joey@listed.example", Verdict::UnknownUser),
            ("jo@listed.example", Verdict::UnknownUser),
            ("Joe@exact.example", Verdict::Accept),
            ("joe@exact.example", Verdict::UnknownUser),
            ("ann@xn--bcher-kva.example", Verdict::Accept),
            ("bob@b\u{fc}cher.example", Verdict::Accept),
            ("eve@b\u{fc}cher.example", Verdict::UnknownUser),
        ] {
            assert_eq!(verdict(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn postmaster_and_abuse_of_own_domains_are_always_taken() {
        let table = table();
        for path in [
            "postmaster",
            "PostMaster",
            "postmaster@listed.example",
            "ABUSE@exact.example",
            "\"abuse\"@listed.example",
        ] {
            assert_eq!(verdict(&table, path), Verdict::Accept, "{path}");
        }
        assert_eq!(verdict(&table, "postmaster@other.example"), Verdict::ForeignDomain);
        assert_eq!(verdict(&table, "abuser@listed.example"), Verdict::UnknownUser);
        // RFC 2142 §5 asks for these names and no others.
        assert_eq!(verdict(&table, "postmaster+a@listed.example"), Verdict::UnknownUser);
        assert_eq!(verdict(&table, "abuse%a@listed.example"), Verdict::Routed);
    }

    #[test]
    fn a_wildcard_takes_the_rest_and_no_more() {
        let mut table = table();
        table.add("*", None).unwrap();
        assert_eq!(verdict(&table, "x@other.example"), Verdict::Accept);
        assert_eq!(verdict(&table, "x@[IPv6:::1]"), Verdict::Accept);
        assert_eq!(verdict(&table, "x@listed.example"), Verdict::UnknownUser);
        assert_eq!(table.add("*", None), Err(DomainError::Twice));
    }

    #[test]
    fn bad_domains_are_refused() {
        let mut table = table();
        assert_eq!(table.add("ANY.example", None), Err(DomainError::Twice));
        assert_eq!(table.add("xn--bcher-kva.example", None), Err(DomainError::Twice));
        assert_eq!(table.add("", None), Err(DomainError::Invalid));
        assert_eq!(table.add("a b.example", None), Err(DomainError::Invalid));
        assert_eq!(table.add("-a.example", None), Err(DomainError::Invalid));
        let list = AddressList::parse(b"", "x.example", ListSettings::default()).unwrap();
        assert_eq!(table.add("*", Some(list)), Err(DomainError::ListedWildcard));
    }
}
