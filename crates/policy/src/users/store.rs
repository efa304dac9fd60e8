//! Changes of the users file: one line is added, replaced or removed; all others stay as they are, comments too.
//!
//! 1. The directory is locked, so that of two writers the second sees what the first has written.
//! 2. The file is read and checked whole: who changes a file with a mistake in it hears of that first.
//! 3. The new text is checked, written to `.NAME.new` beside the file with the mode and owner of the old one (0600 when there is none), and made durable.
//! 4. It takes the name of the file, and the directory is made durable. Who reads meanwhile gets the old file or the new one.
//!
//! What a crash leaves behind of step 3 is removed by the next change.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path as FilePath, PathBuf};

use thiserror::Error;

use super::line::{LineFault, check_address, check_name};
use super::{User, Users, UsersError, open, read};
use inrush_proto::Path;

/// Mode of a new file.
const MODE: u32 = 0o600;

/// A users file was not changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// It cannot be used as it is.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The name is there.
    #[error("{}:{line}: there is a user {name} already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// Line of the user.
        line: usize,
        /// The name as the file has it.
        name: String,
    },
    /// The name is not there.
    #[error("{}: there is no user {name}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
    },
    /// The line would be one with a mistake.
    #[error("{}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A user that is to be added: a name and addresses that are known to be good.
#[derive(Clone, Debug)]
pub struct NewUser {
    name: String,
    addresses: Vec<Box<str>>,
}

impl NewUser {
    /// Checks name and addresses, before anybody is asked for a password. Without addresses the name has to be one, or, when a user is
    /// replaced, the addresses of the user stay.
    ///
    /// # Errors
    /// Which of them is not good.
    pub fn new<'a>(name: &str, addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, LineFault> {
        let name = check_name(name)?.to_owned();
        let addresses = addresses.into_iter().map(|address| match address {
            // It would be read as two.
            address if address.contains(',') => Err(LineFault::Address(address.to_owned())),
            address => check_address(address),
        });
        Ok(Self { name, addresses: addresses.collect::<Result<_, _>>()? })
    }

    /// The line with this hash; `old` is the user whom it replaces.
    fn line(&self, hash: &str, old: Option<&User>) -> Result<String, LineFault> {
        let kept = old.map(User::given_addresses).unwrap_or_default();
        let addresses = if self.addresses.is_empty() { kept } else { &self.addresses };
        if addresses.is_empty() && Path::mailbox(&self.name).is_err() {
            return Err(LineFault::NoAddress);
        }
        let colon = if addresses.is_empty() { "" } else { ":" };
        Ok(format!("{}:{hash}{colon}{}\n", self.name, addresses.join(",")))
    }
}

/// Adds a user behind all others, or replaces the line of the user of that name where `replace` says so. The file is made
/// where there is none.
///
/// # Errors
/// The user is there already, the file has mistakes, or it cannot be read or written. Then it is as it was.
pub fn add_user(path: &FilePath, user: &NewUser, hash: &str, replace: bool) -> Result<(), EditError> {
    edit(path, true, |path, text, users| {
        let old = users.find(&user.name);
        if let Some(old) = old.filter(|_| !replace) {
            let (line, name) = (old.line(), old.name().to_owned());
            return Err(EditError::Exists { path: path.to_owned(), line, name });
        }
        let line = user.line(hash, old).map_err(|fault| EditError::Line { path: path.to_owned(), fault })?;
        Ok(with_line(text, old.map(User::line), line.as_bytes()))
    })
}

/// Removes the line of a user.
///
/// # Errors
/// There is no such user, the file has mistakes, or it cannot be read or written. Then it is as it was.
pub fn remove_user(path: &FilePath, name: &str) -> Result<(), EditError> {
    edit(path, false, |path, text, users| match users.find(name) {
        Some(user) => Ok(with_line(text, Some(user.line()), b"")),
        None => Err(EditError::Unknown { path: path.to_owned(), name: name.to_owned() }),
    })
}

/// `text` with the line of that number replaced, or with `new` behind all lines.
fn with_line(text: &[u8], number: Option<usize>, new: &[u8]) -> Vec<u8> {
    let mut changed = Vec::with_capacity(text.len() + new.len() + 1);
    for (index, line) in text.split_inclusive(|octet| *octet == b'\n').enumerate() {
        changed.extend_from_slice(if number == Some(index + 1) { new } else { line });
    }
    if number.is_none() {
        if changed.last().is_some_and(|last| *last != b'\n') {
            changed.push(b'\n');
        }
        changed.extend_from_slice(new);
    }
    changed
}

fn edit(
    path: &FilePath,
    create: bool,
    change: impl FnOnce(&FilePath, &[u8], &Users) -> Result<Vec<u8>, EditError>,
) -> Result<(), EditError> {
    let failed = |source| EditError::Write { path: path.to_owned(), source };
    // A link stays a link: what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(FilePath::new("."))).map_err(failed)?;
    folder.lock().map_err(failed)?;

    let old = match open(&target) {
        Ok(file) => Some(file),
        Err(UsersError::Read { source, .. }) if create && source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let text = old.as_ref().map(|file| read(path, file)).transpose()?.unwrap_or_default();
    let mistakes = |lines| UsersError::Lines { path: path.to_owned(), lines };
    let users = Users::parse(&text).map_err(mistakes)?;
    let text = change(path, &text, &users)?;
    // Nothing is written that could not be read.
    Users::parse(&text).map_err(mistakes)?;

    let mut fresh = OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    let fresh = target.with_file_name(fresh);
    let written = write(&fresh, old.as_ref(), &text)
        .and_then(|()| fs::rename(&fresh, &target))
        .and_then(|()| folder.sync_all());
    written.map_err(|source| {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&fresh);
        failed(source)
    })
}

/// Writes `text` durably into a file that is not there, with the owner and mode of `old`.
fn write(fresh: &FilePath, old: Option<&File>, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else can read it at any moment: it gets the mode of the old file, which may let its group in, when it has its owner.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(fresh)?;
    file.write_all(text)?;
    if let Some(old) = old {
        let (old, new) = (old.metadata()?, file.metadata()?);
        // The gateway must be able to read what root has changed.
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::tests::{ARGON2ID, BCRYPT, SHA512};
    use super::*;

    fn new(name: &str, addresses: &[&str]) -> NewUser {
        NewUser::new(name, addresses.iter().copied()).unwrap()
    }

    fn mode(path: &FilePath) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &FilePath) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn adds_replaces_and_removes_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let text = || fs::read_to_string(&path).unwrap();
        add_user(&path, &new("joe@example.com", &[]), ARGON2ID, false).unwrap();
        assert_eq!(text(), format!("joe@example.com:{ARGON2ID}\n"));
        assert_eq!(mode(&path), 0o600);

        let rest = format!(
            "# all\r\n\n joe@example.com:{ARGON2ID}\r\n#ann\nann:{BCRYPT}:ann@example.com # no comment"
        );
        fs::write(&path, &rest).unwrap();
        let error = add_user(&path, &new("kim@example.com", &[]), SHA512, false).unwrap_err();
        assert!(matches!(error, EditError::Users(UsersError::Lines { .. })), "{error}");
        assert_eq!(text(), rest, "a file with a mistake is left alone");

        let rest = rest.replace(" # no comment", "");
        fs::write(&path, &rest).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        add_user(&path, &new("kim@example.com", &["*", "@lists.example.com"]), SHA512, false).unwrap();
        let kim = format!("kim@example.com:{SHA512}:*,@lists.example.com\n");
        assert_eq!(text(), format!("{rest}\n{kim}"));
        assert_eq!(mode(&path), 0o640);

        let error = add_user(&path, &new("joe@EXAMPLE.com", &[]), SHA512, false).unwrap_err();
        let shown = path.display();
        assert_eq!(error.to_string(), format!("{shown}:3: there is a user joe@example.com already"));
        // Without addresses those that were given stay; with some they are replaced.
        add_user(&path, &new("ann", &[]), SHA512, true).unwrap();
        let ann = format!("ann:{SHA512}:ann@example.com\n");
        assert_eq!(text(), format!("# all\r\n\n joe@example.com:{ARGON2ID}\r\n#ann\n{ann}{kim}"));
        add_user(&path, &new("kim@example.com", &["kim@example.org"]), SHA512, true).unwrap();
        assert!(text().ends_with(&format!("{ann}kim@example.com:{SHA512}:kim@example.org\n")), "{}", text());
        let fault = add_user(&path, &new("bob", &[]), SHA512, true).unwrap_err();
        assert!(matches!(fault, EditError::Line { fault: LineFault::NoAddress, .. }), "{fault}");

        remove_user(&path, "ann").unwrap();
        let error = remove_user(&path, "ann").unwrap_err();
        assert_eq!(error.to_string(), format!("{shown}: there is no user ann"));
        remove_user(&path, "joe@example.com").unwrap();
        remove_user(&path, "kim@example.com").unwrap();
        assert_eq!(text(), "# all\r\n\n#ann\n");
        assert_eq!(names(folder.path()), ["users"]);
    }

    #[test]
    fn what_cannot_be_changed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let error = remove_user(&path, "joe").unwrap_err();
        assert!(matches!(&error, EditError::Users(UsersError::Read { .. })), "{error}");
        assert!(names(folder.path()).is_empty());
        let error = add_user(&folder.path().join("none/users"), &new("a@b.example", &[]), SHA512, false);
        assert!(matches!(&error, Err(EditError::Write { .. })), "{error:?}");

        let before = format!("joe@example.com:{SHA512}\n");
        fs::write(&path, &before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = add_user(&path, &new("a@b.example", &[]), SHA512, false).unwrap_err();
        assert!(matches!(&error, EditError::Users(UsersError::Permissions { .. })), "{error}");
        // A folder in the place of the new file: it cannot be written.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(folder.path().join(".users.new")).unwrap();
        let error = add_user(&path, &new("a@b.example", &[]), SHA512, false).unwrap_err();
        assert!(matches!(&error, EditError::Write { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn links_and_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("users"));
        fs::write(&real, "").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        // As a crash leaves it, readable for everybody.
        let leftover = folder.path().join(".real.new");
        fs::write(&leftover, "half").unwrap();
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o666)).unwrap();
        add_user(&link, &new("a@b.example", &[]), SHA512, false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("a@b.example:{SHA512}\n"));
        assert_eq!(mode(&real), 0o600);
        assert_eq!(names(folder.path()), ["real", "users"]);
    }

    #[test]
    fn writers_do_not_lose_each_others_users() {
        const WRITERS: usize = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                scope.spawn(move || {
                    for user in 0..4 {
                        let user = new(&format!("u{writer}-{user}@example.com"), &[]);
                        add_user(path, &user, SHA512, false).unwrap();
                    }
                });
            }
        });
        assert_eq!(Users::load(&path).unwrap().len(), WRITERS * 4);
    }

    #[test]
    fn new_users_are_checked_first() {
        for name in ["", "#a", "a:b", "a\nb", " a", &"a".repeat(256)] {
            assert_eq!(NewUser::new(name, []).unwrap_err(), LineFault::Name, "{name:?}");
        }
        for address in ["", "a", "@", "a@b.example,c@d.example", "a@b.example\nc"] {
            let fault = NewUser::new("a@b.example", [address]).unwrap_err();
            assert_eq!(fault, LineFault::Address(address.to_owned()));
        }
    }
}
