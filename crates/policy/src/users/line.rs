//! One line of the users file: `name:hash` or `name:hash:addresses`.

use inrush_proto::sasl::NAME_OCTETS_MAX;
use inrush_proto::{Path, domain_eq, normalise_domain};
use thiserror::Error;

use super::hash::{Hash, HashError, HashKind};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineFault {
    /// Octets that are no text.
    #[error("not valid UTF-8")]
    Utf8,
    /// No colon.
    #[error("no hash: a line is name:hash or name:hash:addresses")]
    NoHash,
    /// Not a name.
    #[error(
        "not a name: 1 to {NAME_OCTETS_MAX} octets without colon and control characters, not beginning with #, without white space at its ends"
    )]
    Name,
    /// Not a hash that can be used.
    #[error("{0}")]
    Hash(#[from] HashError),
    /// Not an address, `@domain` or `*`.
    #[error("\"{}\" is no address, no @domain and not *", .0.escape_debug())]
    Address(String),
    /// The user could send nothing.
    #[error(
        "the name is no address, so it needs the addresses that the user may send as: name:hash:addresses"
    )]
    NoAddress,
    /// A name again.
    #[error("the same name as in line {first}")]
    Twice {
        /// Where it was first.
        first: usize,
    },
}

/// A user of the file.
#[derive(Clone)]
pub struct User {
    name: Box<str>,
    hash: Hash,
    /// As the file has them; empty when the name is the address.
    addresses: Vec<Box<str>>,
    line: usize,
}

impl User {
    /// Reads a line that is no comment; `line` is its number, from 1.
    pub(super) fn parse(text: &str, line: usize) -> Result<Self, LineFault> {
        // An address literal in the addresses may have colons, hashes of the three kinds have none.
        let mut fields = text.splitn(3, ':');
        let name = check_name(fields.next().unwrap_or_default())?;
        let hash = Hash::parse(fields.next().ok_or(LineFault::NoHash)?)?;
        let addresses = fields.next().unwrap_or_default().trim();
        let addresses = match addresses {
            "" => Vec::new(),
            some => some.split(',').map(|address| check_address(address.trim())).collect::<Result<_, _>>()?,
        };
        if addresses.is_empty() && Path::mailbox(name).is_err() {
            return Err(LineFault::NoAddress);
        }
        Ok(Self { name: name.into(), hash, addresses, line })
    }

    /// The name as the file has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kind of the hash.
    #[must_use]
    pub fn hash_kind(&self) -> HashKind {
        self.hash.kind()
    }

    /// What the user may send as: addresses, `@domain` or `*`.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let name = self.addresses.is_empty().then_some(&*self.name);
        self.addresses.iter().map(|address| &**address).chain(name)
    }

    pub(super) fn hash(&self) -> &Hash {
        &self.hash
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The addresses that the file gives, without the name that stands for them.
    pub(super) fn given_addresses(&self) -> &[Box<str>] {
        &self.addresses
    }

    /// Whether the user may send as `path`, which is not null.
    pub(super) fn may_send_as(&self, path: Path<'_>) -> bool {
        self.addresses().any(|address| covers(address, path))
    }
}

/// What a name is looked up by: prepared as RFC 4616 §2 says, and the domain, where it is an address, in one form.
/// `None` when SASLprep forbids it.
pub(super) fn name_key(name: &str) -> Option<String> {
    let prepared = stringprep::saslprep(name).ok()?;
    let mut key = String::with_capacity(prepared.len());
    match Path::mailbox(&prepared).ok().and_then(|path| Some((path.local_part(), path.domain()?))) {
        Some((local_part, domain)) => {
            let mut lower = String::new();
            normalise_domain(domain, &mut lower);
            key.push_str(local_part);
            key.push('@');
            key.push_str(&lower);
        }
        None => key.push_str(&prepared),
    }
    (!key.is_empty()).then_some(key)
}

pub(super) fn check_name(name: &str) -> Result<&str, LineFault> {
    let fits = (1..=NAME_OCTETS_MAX).contains(&name.len())
        && name.trim() == name
        && !name.starts_with('#')
        && !name.contains(|c: char| c == ':' || c.is_control())
        && name_key(name).is_some();
    if fits { Ok(name) } else { Err(LineFault::Name) }
}

pub(super) fn check_address(address: &str) -> Result<Box<str>, LineFault> {
    let fits = match address.strip_prefix('@') {
        // The grammar of a domain is the one of a mailbox in it.
        Some(domain) => Path::mailbox(&format!("postmaster@{domain}")).is_ok(),
        None => address == "*" || Path::mailbox(address).is_ok(),
    };
    if fits { Ok(address.into()) } else { Err(LineFault::Address(address.to_owned())) }
}

/// Whether `address` of the file stands for `path`. Local parts are compared without regard to case: mail programs send what somebody
/// has typed into their settings, and RFC 5321 §2.4 discourages mailboxes that differ in case alone.
fn covers(address: &str, path: Path<'_>) -> bool {
    if address == "*" {
        return true;
    }
    let Some(domain) = path.domain() else { return false };
    if let Some(whole) = address.strip_prefix('@') {
        return domain_eq(whole, domain);
    }
    let Ok(own) = Path::mailbox(address) else { return false };
    let lower = |path: Path<'_>| path.local_part_chars().flat_map(char::to_lowercase).collect::<String>();
    own.domain().is_some_and(|own| domain_eq(own, domain)) && lower(own) == lower(path)
}
