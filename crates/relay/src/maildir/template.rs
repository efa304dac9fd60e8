//! Where the mailbox of an address is: a path with placeholders.
//!
//! ```text
//!   /var/mail/{domain}/{user}/Maildir    joe+lists@A.example  ─▶  /var/mail/a.example/joe/Maildir
//! ```
//! | placeholder | what it stands for                                              |
//! |-------------|-----------------------------------------------------------------|
//! | `{local}`   | local part without quoting; in lower case unless case matters   |
//! | `{user}`    | the same without its subaddress (RFC 5233 §1)                   |
//! | `{domain}`  | domain in lower case, U-labels as A-labels                      |
//! | `{address}` | `{local}@{domain}`                                              |
//! | `{{` `}}`   | a brace                                                         |
//!
//! A path without a placeholder is one mailbox for everybody.
//!
//! What an address puts into the path comes from strangers. Each character of it that is not a letter, a digit or one of `._+=-`
//! is written as `%` and two hex digits per octet, and so is a dot at its front: it cannot be empty, cannot be `.` or `..` and
//! cannot hold `/`, so the path never leaves the directory that the template names. `%` itself is written as `%25`, which makes
//! the way back unambiguous: different local parts never meet in one mailbox. Parse refuses templates whose placeholders stand
//! so close together that this would not hold for two addresses of different domains.
//!
//! Standards: RFC 5321 §4.1.2 (quoting makes no other mailbox), §2.4 (case); RFC 5890 §2.3.2.1 (A-labels).

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::PathBuf;

use inrush_proto::{Path, normalise_domain};

/// The longest name in a directory, in octets: NAME_MAX of the usual file systems.
const COMPONENT_OCTETS_MAX: usize = 255;

/// The longest path of a mailbox, in octets: PATH_MAX less what names of subfolders and messages need.
const PATH_OCTETS_MAX: usize = 4_095 - 2 * COMPONENT_OCTETS_MAX;

/// Where the mailbox of an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Never empty; the components are free of `/` and NUL and are not `.` or `..`.
    components: Vec<Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Local,
    User,
    Domain,
    Address,
}

/// How local parts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpandSettings {
    /// Upper and lower case make different local parts.
    pub case_sensitive: bool,
    /// What stands between a mailbox and its subaddress (RFC 5233 §1); `None` when there are no subaddresses.
    pub subaddress_separator: Option<char>,
}

impl Default for ExpandSettings {
    fn default() -> Self {
        Self { case_sensitive: false, subaddress_separator: Some('+') }
    }
}

/// Why a template cannot be used. Positions count octets from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It does not begin with `/`.
    #[error("the path must be absolute: begin it with `/`")]
    NotAbsolute,
    /// It names the root directory itself.
    #[error("the path names no directory below `/`")]
    Root,
    /// A name in braces that stands for nothing.
    #[error(
        "octet {at}: unknown placeholder `{{{name}}}`; there are {{local}}, {{user}}, {{domain}} and {{address}}"
    )]
    UnknownPlaceholder {
        /// What stands in the braces.
        name: String,
        /// Where the brace is.
        at: usize,
    },
    /// `{` without `}`.
    #[error("octet {at}: the brace is not closed; write `{{{{` for a brace")]
    Unclosed {
        /// Where the brace is.
        at: usize,
    },
    /// `}` without `{`.
    #[error("octet {at}: the brace closes nothing; write `}}}}` for a brace")]
    Unopened {
        /// Where the brace is.
        at: usize,
    },
    /// A component is `.` or `..`.
    #[error("the path has `{0}` in it")]
    Dots(String),
    /// A component is longer than any address may make it.
    #[error("a part of the path has {octets} octets, at most {COMPONENT_OCTETS_MAX} are possible")]
    TooLong {
        /// Its octets.
        octets: usize,
    },
    /// NUL.
    #[error("octet {at}: NUL cannot be in a path")]
    Nul {
        /// Where it is.
        at: usize,
    },
    /// Two placeholders in one component, with nothing between them that cannot come from an address.
    #[error(
        "octet {at}: this placeholder and the one before it run together, so that two addresses could have one mailbox; \
         put `/` between them, or a character such as `@` or `,`"
    )]
    RunTogether {
        /// Where the second one begins.
        at: usize,
    },
}

/// Why an address gives no path (5.1.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// A part that the template needs is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// A component of the path would be longer than file systems take.
    #[error("a name of {octets} octets, at most {COMPONENT_OCTETS_MAX} are possible")]
    ComponentTooLong {
        /// Its octets.
        octets: usize,
    },
    /// The path would be longer than the system takes.
    #[error("a path of {octets} octets, at most {PATH_OCTETS_MAX} are possible")]
    PathTooLong {
        /// Its octets.
        octets: usize,
    },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::NotAbsolute);
        }
        let mut components = Vec::new();
        let mut start = 0;
        for component in text.split('/') {
            let parts = parse_component(component, start)?;
            start += component.len() + 1;
            // `//` and a `/` at the end mean the same as `/`.
            if !parts.is_empty() {
                components.push(parts);
            }
        }
        if components.is_empty() { Err(TemplateError::Root) } else { Ok(Self { components }) }
    }

    /// True when every address has the same mailbox.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.components.iter().flatten().all(|part| matches!(part, Part::Text(_)))
    }

    /// The path of a mailbox.
    ///
    /// # Errors
    /// The address has no part that the template needs, or gives too long a path.
    pub fn expand(&self, mailbox: Path<'_>, settings: ExpandSettings) -> Result<PathBuf, AddressError> {
        let local: String = mailbox.local_part_chars().collect();
        self.expand_parts(&local, mailbox.domain().unwrap_or_default(), settings)
    }

    /// The path of a mailbox whose local part has no quoting any more. Takes any text, grammatical or not.
    ///
    /// # Errors
    /// As [`expand`](Self::expand).
    pub fn expand_parts(
        &self,
        local_part: &str,
        domain: &str,
        settings: ExpandSettings,
    ) -> Result<PathBuf, AddressError> {
        // By character, so that the case of each says nothing about its neighbours.
        let local = if settings.case_sensitive {
            local_part.to_owned()
        } else {
            local_part.chars().flat_map(char::to_lowercase).collect()
        };
        let mut lower_domain = String::new();
        normalise_domain(domain, &mut lower_domain);
        let address =
            Address { local: &local, domain: &lower_domain, separator: settings.subaddress_separator };
        let mut path = String::new();
        for component in &self.components {
            path.push('/');
            let start = path.len();
            for part in component {
                address.push(part, &mut path)?;
            }
            let octets = path.len() - start;
            if octets > COMPONENT_OCTETS_MAX {
                return Err(AddressError::ComponentTooLong { octets });
            }
            debug_assert!(octets > 0, "a component is never empty");
        }
        if path.len() > PATH_OCTETS_MAX {
            return Err(AddressError::PathTooLong { octets: path.len() });
        }
        Ok(PathBuf::from(path))
    }
}

/// Reads what stands between two slashes; `start` is its offset in the template.
fn parse_component(component: &str, start: usize) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut placeholder_before = false;
    let mut chars = component.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        let at = start + offset + 1;
        let doubled = chars.peek().is_some_and(|&(_, next)| next == c);
        match c {
            '\0' => return Err(TemplateError::Nul { at }),
            '{' | '}' if doubled => {
                chars.next();
                text.push(c);
            }
            '}' => return Err(TemplateError::Unopened { at }),
            '{' => {
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some((_, '}')) => break,
                        Some((_, c)) if c != '{' => name.push(c),
                        _ => return Err(TemplateError::Unclosed { at }),
                    }
                }
                let part = placeholder(&name).ok_or(TemplateError::UnknownPlaceholder { name, at })?;
                // Only a character that no address can put there shows where one ends and the next begins.
                if placeholder_before && text.chars().all(|c| is_plain(c) || c == '%') {
                    return Err(TemplateError::RunTogether { at });
                }
                placeholder_before = true;
                push_text(&mut text, &mut parts);
                parts.push(part);
            }
            c => text.push(c),
        }
    }
    push_text(&mut text, &mut parts);
    match parts.as_slice() {
        [Part::Text(text)] if text == "." || text == ".." => Err(TemplateError::Dots(text.clone())),
        parts_read => {
            let octets =
                parts_read.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 1 }).sum();
            if octets > COMPONENT_OCTETS_MAX { Err(TemplateError::TooLong { octets }) } else { Ok(parts) }
        }
    }
}

fn push_text(text: &mut String, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(std::mem::take(text)));
    }
}

fn placeholder(name: &str) -> Option<Part> {
    match name {
        "local" => Some(Part::Local),
        "user" => Some(Part::User),
        "domain" => Some(Part::Domain),
        "address" => Some(Part::Address),
        _ => None,
    }
}

struct Address<'a> {
    local: &'a str,
    domain: &'a str,
    separator: Option<char>,
}

impl Address<'_> {
    fn push(&self, part: &Part, path: &mut String) -> Result<(), AddressError> {
        match part {
            Part::Text(text) => path.push_str(text),
            Part::Local => push_encoded("local part", self.local, path)?,
            Part::User => push_encoded("local part", self.user(), path)?,
            Part::Domain => push_encoded("domain", self.domain, path)?,
            Part::Address => {
                push_encoded("local part", self.local, path)?;
                // Cannot come from either side, where it is `%40`.
                path.push('@');
                push_encoded("domain", self.domain, path)?;
            }
        }
        Ok(())
    }

    /// The local part without its subaddress. A separator at the front separates nothing.
    fn user(&self) -> &str {
        let split = self.separator.and_then(|separator| self.local.split_once(separator));
        split.map(|(user, _)| user).filter(|user| !user.is_empty()).unwrap_or(self.local)
    }
}

/// What an address may put into a name as it is.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '+' | '=' | '-')
}

fn push_encoded(name: &'static str, text: &str, path: &mut String) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty(name));
    }
    for (at, c) in text.char_indices() {
        if is_plain(c) && !(at == 0 && c == '.') {
            path.push(c);
        } else {
            for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(path, "%{octet:02X}");
            }
        }
    }
    Ok(())
}
