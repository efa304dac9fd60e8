//! The users who may submit mail: a file of names, hashes and sender addresses.
//!
//! ```text
//! # name:hash[:addresses]
//! joe@example.com:$argon2id$v=19$m=19456,t=2,p=1$…
//! newsletter:$2y$12$…:news@example.com,@lists.example.com
//! relay:$6$rounds=100000$…:*
//! ```
//! Read whole, checked whole, and never changed afterwards: a changed file is read again and takes the place of the old table, or, when
//! it has a mistake, does not. A verification takes up to seconds and much memory: it belongs to [`Verifier`](crate::Verifier), never to
//! a core. [`Users::may_send_as`] is quick.
//!
//! Standards: RFC 4616 §2 (comparing), RFC 4013 (SASLprep), RFC 6409 §6.1 (who may submit).

mod hash;
mod line;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use inrush_proto::Path;
use thiserror::Error;

use self::hash::Hash;
use self::line::name_key;

pub use self::hash::{HashError, HashKind, PasswordError, hash_password};
pub use self::line::{LineFault, User};
pub use self::store::{EditError, NewUser, add_user, remove_user};

/// Octets of a users file: some 400,000 users.
const FILE_OCTETS_MAX: u64 = 64 << 20;
/// Mistakes of one file that are worth telling.
const ERRORS_MAX: usize = 20;
/// Permissions of everybody else: the hashes are there to be guessed at, by whoever can read them.
const OTHERS: u32 = 0o007;

/// Verified against where a file has no user at all.
const DUMMY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$32tKB33/ZceUjPXEqtaEB1kvZvsVPw0GrtWhqj/WP0Y";

/// A line of a users file that has a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: LineFault,
}

/// A users file cannot be used.
#[derive(Debug, Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everybody on the machine may read or write it.
    #[error("{0}: mode {mode:04o} lets everybody at the password hashes; chmod o-rwx {0}", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Over the octets that are read.
    #[error("{}: larger than {octets_max} octets", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        octets_max: u64,
    },
    /// Lines with mistakes, the first 20 of them.
    #[error("{}", told(path, lines))]
    Lines {
        /// The file.
        path: PathBuf,
        /// In their order.
        lines: Vec<UserLineError>,
    },
}

fn told(path: &FilePath, lines: &[UserLineError]) -> String {
    let mut text = String::new();
    for UserLineError { line, fault } in lines {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing into a String does not fail.
        let _ = write!(text, "{separator}{}:{line}: {fault}", path.display());
    }
    text
}

/// What a verification has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password is the one of the user.
    Accepted,
    /// It is not, or there is no such user: nobody learns which. 535 5.7.8.
    Refused,
}

/// All users.
pub struct Users {
    users: Vec<User>,
    /// Place in `users`, by [`name_key`].
    by_name: HashMap<Box<str>, usize>,
    /// Takes the place of the hash of a user who is not there. What verifying against it finds is never looked at.
    dummy: Hash,
}

/// Neither names nor hashes: how many there are.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.users.len()).finish_non_exhaustive()
    }
}

/// What the name of a user is compared by: two names with the same key are one. `None` for what cannot be the name of a user.
#[must_use]
pub fn user_key(name: &str) -> Option<String> {
    name_key(name)
}

impl Users {
    /// Reads a users file.
    ///
    /// # Errors
    /// It cannot be read, others may read it, it is too large, or it has lines with mistakes: all of them in one error.
    pub fn load(path: &FilePath) -> Result<Self, UsersError> {
        let text = read(path, &open(path)?)?;
        Self::parse(&text).map_err(|lines| UsersError::Lines { path: path.to_owned(), lines })
    }

    /// Reads the text of a users file. CRLF and a byte order mark are allowed.
    ///
    /// # Errors
    /// The first 20 lines with mistakes.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<UserLineError>> {
        let mut users: Vec<User> = Vec::new();
        let mut by_name = HashMap::new();
        let mut errors = Vec::new();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (index, octets) in text.split(|octet| *octet == b'\n').enumerate() {
            let line = index + 1;
            let read = std::str::from_utf8(octets).map_err(|_| LineFault::Utf8).and_then(|text| {
                let text = text.trim();
                if text.is_empty() || text.starts_with('#') {
                    return Ok(());
                }
                let user = User::parse(text, line)?;
                // A name without a key was refused as no name.
                let key = name_key(user.name()).ok_or(LineFault::Name)?;
                if let Some(&first) = by_name.get(key.as_str()) {
                    let first: &User = &users[first];
                    return Err(LineFault::Twice { first: first.line() });
                }
                by_name.insert(key.into_boxed_str(), users.len());
                users.push(user);
                Ok(())
            });
            if let Err(fault) = read {
                errors.push(UserLineError { line, fault });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let dummy = dummy(&users);
        Ok(Self { users, by_name, dummy })
    }

    /// Whether `password` is the one of the user `name`, both as the client has sent them.
    ///
    /// A name that is not there costs as much as one with the most common kind and cost of hash in the file, so that in a file of
    /// one kind time does not tell which names exist. Takes milliseconds to seconds and the memory that the hash asks for.
    #[must_use]
    pub fn verify(&self, name: &str, password: &str) -> Outcome {
        // RFC 4616 §2: the verification fails when preparing does. That depends on the password alone.
        let Ok(password) = hash::prepare(password) else { return Outcome::Refused };
        let (hash, known) = self.hash_for(name);
        let matches = hash.verify(&password);
        if matches && known { Outcome::Accepted } else { Outcome::Refused }
    }

    /// Whether the user `name` may send mail with this reverse-path.
    ///
    /// The null reverse-path is everybody's: mail programs must use it for their receipts (RFC 8098 §3).
    #[must_use]
    pub fn may_send_as(&self, name: &str, reverse_path: Path<'_>) -> bool {
        self.find(name).is_some_and(|user| reverse_path.is_null() || user.may_send_as(reverse_path))
    }

    /// The user of that name. The domain of a name that is an address may be of any case, the rest is compared exactly.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&User> {
        self.users.get(*self.by_name.get(name_key(name)?.as_str())?)
    }

    /// All users in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.iter()
    }

    /// Number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// True without any user.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The hash to verify against, and whether it is the one of that user.
    fn hash_for(&self, name: &str) -> (&Hash, bool) {
        self.find(name).map_or((&self.dummy, false), |user| (user.hash(), true))
    }
}

/// The first hash of the most common cost.
fn dummy(users: &[User]) -> Hash {
    let mut counts = HashMap::new();
    for user in users {
        *counts.entry(user.hash().cost()).or_insert(0usize) += 1;
    }
    // Of two that are equally common, the one that comes first in the file.
    let mut common: Option<(&User, usize)> = None;
    for user in users {
        let count = counts.get(&user.hash().cost()).copied().unwrap_or_default();
        if common.is_none_or(|(_, most)| count > most) {
            common = Some((user, count));
        }
    }
    match common {
        Some((user, _)) => user.hash().clone(),
        #[allow(clippy::unwrap_used, reason = "a constant that a test reads")]
        None => Hash::parse(DUMMY).unwrap(),
    }
}

fn open(path: &FilePath) -> Result<File, UsersError> {
    File::open(path).map_err(|source| UsersError::Read { path: path.to_owned(), source })
}

/// The text of an open users file that others cannot get at.
fn read(path: &FilePath, file: &File) -> Result<Vec<u8>, UsersError> {
    let failed = |source| UsersError::Read { path: path.to_owned(), source };
    // Of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(UsersError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_OCTETS_MAX {
        return Err(UsersError::TooLarge { path: path.to_owned(), octets_max: FILE_OCTETS_MAX });
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Quick hashes of `secret`.
    pub(crate) const ARGON2ID: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$Sm3MnLdCFk0Af+croKgebRoqqmhbKd88iiW3yUOXn78";
    pub(crate) const BCRYPT: &str = "$2y$04$9nrnMebL0kx1YbBJ9OVj6.shaF9tRmqen.a9/jRht6PnOSfeJpcVW";
    pub(crate) const SHA512: &str = "$6$rounds=1000$H3vJm3w.pM1Q2Lbm$T7RcWrMt9BKFARAX382BMqcIeQr2YpsNN3EMixl53.tlQS8Hl5H0qx4kQqfYdJRy0LnqUDxDGQbnCSLej6h/l.";

    fn users(text: &str) -> Users {
        Users::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn may(users: &Users, name: &str, path: &str) -> bool {
        let bracketed = format!("<{path}>");
        users.may_send_as(name, Path::parse(bracketed.as_bytes()).unwrap().0)
    }

    #[test]
    fn verifies_names_and_passwords() {
        let users = users(&format!(
            "\u{feff}# all\r\n\r\njoe@Example.com:{ARGON2ID}\r\n  # more\nann:{BCRYPT}:ann@example.com\nJörg@bücher.example:{SHA512}\n"
        ));
        assert_eq!(users.len(), 3);
        for (name, password, outcome) in [
            ("joe@Example.com", "secret", Outcome::Accepted),
            ("joe@EXAMPLE.COM", "secret", Outcome::Accepted),
            ("Joe@example.com", "secret", Outcome::Refused),
            ("joe@example.com", "Secret", Outcome::Refused),
            ("joe@example.com", "secret\u{ad}", Outcome::Accepted),
            ("joe@example.com", "secret\n", Outcome::Refused),
            ("joe@example.com", "", Outcome::Refused),
            ("joe", "secret", Outcome::Refused),
            ("ann", "secret", Outcome::Accepted),
            ("Ann", "secret", Outcome::Refused),
            ("ann@example.com", "secret", Outcome::Refused),
            // Composed or not, and the domain in either form.
            ("Jo\u{308}rg@bücher.example", "secret", Outcome::Accepted),
            ("Jörg@xn--bcher-kva.example", "secret", Outcome::Accepted),
            ("", "secret", Outcome::Refused),
            ("\u{7}", "secret", Outcome::Refused),
            ("#", "secret", Outcome::Refused),
        ] {
            assert_eq!(users.verify(name, password), outcome, "{name:?} {password:?}");
        }
    }

    /// An unknown name meets the hash that most users have, and never gets in with its password.
    #[test]
    fn unknown_names_cost_what_known_ones_cost() {
        let file = |hashes: &[&str]| {
            let lines = hashes.iter().enumerate().map(|(n, hash)| format!("u{n}@x.example:{hash}\n"));
            users(&lines.collect::<String>())
        };
        for (hashes, most_common) in [
            (&[ARGON2ID][..], ARGON2ID),
            (&[BCRYPT, ARGON2ID, SHA512, ARGON2ID], ARGON2ID),
            (&[ARGON2ID, BCRYPT, BCRYPT], BCRYPT),
            (&[SHA512, ARGON2ID], SHA512),
            (&[], DUMMY),
        ] {
            let users = file(hashes);
            let (hash, known) = users.hash_for("nobody@x.example");
            assert!(!known);
            assert_eq!(hash.cost(), Hash::parse(most_common).unwrap().cost(), "{hashes:?}");
            assert_eq!(users.verify("nobody@x.example", "secret"), Outcome::Refused);
        }
        // Costs are compared, not kinds only.
        let dear = ARGON2ID.replace("m=64", "m=128");
        let users = file(&[&dear, ARGON2ID, ARGON2ID]);
        assert_eq!(users.hash_for("nobody").0.cost(), Hash::parse(ARGON2ID).unwrap().cost());
    }

    #[test]
    fn senders() {
        let users = users(&format!(
            "joe@example.com:{SHA512}\n\
             ann:{SHA512}: Ann@Example.com , \"with space\"@example.com,@lists.example.com,post@[IPv6:2001:db8::1]\n\
             relay:{SHA512}:*\n\
             bob@example.com:{SHA512}:other@example.com\n"
        ));
        for (name, path, expected) in [
            ("joe@example.com", "joe@example.com", true),
            ("joe@EXAMPLE.com", "JOE@Example.COM", true),
            ("joe@example.com", "ann@example.com", false),
            ("joe@example.com", "joe@sub.example.com", false),
            ("joe@example.com", "joe+tag@example.com", false),
            ("joe@example.com", "\"joe\"@example.com", true),
            ("joe@example.com", "postmaster", false),
            ("ann", "ann@example.com", true),
            ("ann", "\"With Space\"@example.com", true),
            ("ann", "anybody@LISTS.example.com", true),
            ("ann", "anybody@sub.lists.example.com", false),
            ("ann", "anybody@example.com", false),
            ("ann", "post@[IPv6:2001:db8::1]", true),
            ("relay", "anybody@anywhere.example", true),
            ("relay", "postmaster", true),
            // Where addresses are given, the name is none of them.
            ("bob@example.com", "bob@example.com", false),
            ("bob@example.com", "other@example.com", true),
            ("nobody", "joe@example.com", false),
            // RFC 8098 §3: receipts. But for nobody who is not there.
            ("joe@example.com", "", true),
            ("nobody", "", false),
        ] {
            assert_eq!(may(&users, name, path), expected, "{name} as <{path}>");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let text = [
            "joe@example.com:",
            "joe@example.com",
            "",
            "#",
            &format!(":{SHA512}"),
            &format!("joe:{SHA512}"),
            &format!("joe:{SHA512}:joe@example.com,nobody"),
            &format!("joe:{SHA512}:joe@example.com,"),
            &format!("joe:{SHA512}:@"),
            &format!("a\u{7}b@example.com:{SHA512}"),
            &format!("ann@example.com:{SHA512}"),
            &format!("ann@Example.COM:{SHA512}"),
            "kim@example.com:{PLAIN}secret",
            &format!("ann@example.com:{SHA512}"),
        ]
        .join("\n");
        let mut text = text.into_bytes();
        text.extend_from_slice(b"\n\xff:x\n");
        let address = |text: &str| LineFault::Address(text.to_owned());
        let expected = [
            (1, LineFault::Hash(HashError::Unknown)),
            (2, LineFault::NoHash),
            (5, LineFault::Name),
            (6, LineFault::NoAddress),
            (7, address("nobody")),
            (8, address("")),
            (9, address("@")),
            (10, LineFault::Name),
            (12, LineFault::Twice { first: 11 }),
            (13, LineFault::Hash(HashError::Unknown)),
            (14, LineFault::Twice { first: 11 }),
            (15, LineFault::Utf8),
        ]
        .map(|(line, fault)| UserLineError { line, fault });
        assert_eq!(Users::parse(&text).err().unwrap(), expected);
        assert_eq!(Users::parse(&b"no\n".repeat(10_000)).err().unwrap().len(), ERRORS_MAX);
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let shown = path.display();
        let load = || Users::load(&path).map(|users| users.len()).map_err(|error| error.to_string());
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(), Err(format!("cannot read {shown}")));
        std::fs::write(&path, format!("joe@example.com:{SHA512}\n")).unwrap();
        mode(0o640);
        assert_eq!(load(), Ok(1));
        for open in [0o644, 0o602, 0o601] {
            mode(open);
            let text = format!(
                "{shown}: mode {open:04o} lets everybody at the password hashes; chmod o-rwx {shown}"
            );
            assert_eq!(load(), Err(text));
        }
        mode(0o600);
        std::fs::write(&path, "joe\n\nann:$9$\n").unwrap();
        let text = format!(
            "{shown}:1: no hash: a line is name:hash or name:hash:addresses; \
             {shown}:3: not a hash that is known here ($argon2id$, $2b$, $2y$, $2a$ or $6$)"
        );
        assert_eq!(load(), Err(text));
        // A hole: nothing of that size is written.
        File::create(&path).unwrap().set_len(FILE_OCTETS_MAX + 1).unwrap();
        assert_eq!(load(), Err(format!("{shown}: larger than {FILE_OCTETS_MAX} octets")));
    }

    /// A file that asks for 4 GiB is refused when it is read, not when somebody logs in.
    #[test]
    fn costs_beyond_the_bounds() {
        let errors =
            Users::parse(format!("a@b.example:{}\n", ARGON2ID.replace("m=64", "m=4194304")).as_bytes());
        let errors = told(FilePath::new("users"), &errors.err().unwrap());
        assert_eq!(errors, "users:1: argon2id with m=4194304, where at most 262144 is allowed");
    }
}
