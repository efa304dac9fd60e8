//! Why a message is not in its mailbox, and what its sender is told.

use std::io;
use std::path::Path;

use super::quota::Quota;
use super::template::AddressError;

/// Why a message was not delivered. Nothing of it is in the mailbox.
///
/// The text of the error is for the log of this machine: it names files. The sender gets [`failure`](Self::failure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaildirError {
    /// The address gives no path.
    #[error("the address gives no path of a mailbox: {0}")]
    Address(#[from] AddressError),
    /// The mailbox is not there, and none is to be made.
    #[error("{place}: there is no such mailbox")]
    NoMailbox {
        /// Path of the mailbox.
        place: String,
    },
    /// The mailbox is not there, nor is anything beside it: more likely the file system is missing than the mailbox.
    #[error(
        "{place}: there is no such mailbox, and the directory above is empty: is a file system not mounted?"
    )]
    StorageMissing {
        /// Path of the mailbox.
        place: String,
    },
    /// Something that is no directory, or a symbolic link, stands where a directory of the mailbox must be.
    #[error("{place}: not a directory, or a symbolic link")]
    NotADirectory {
        /// Where.
        place: String,
    },
    /// The path of the mailbox is not absolute, or has `..` in it.
    #[error("{place}: the path of a mailbox is absolute and without `..`")]
    Place {
        /// Path of the mailbox.
        place: String,
    },
    /// The file system does not take names of that length.
    #[error("{place}: the file system does not take a name of this length")]
    NameTooLong {
        /// Where.
        place: String,
    },
    /// The id of the message is not 20 upper-case hex digits.
    #[error("not a message id: 20 upper-case hex digits are expected")]
    MessageId,
    /// The message does not fit into what is left of the quota.
    #[error("{place}: the mailbox is full, its quota is {quota}")]
    Full {
        /// Path of the mailbox.
        place: String,
        /// The quota.
        quota: Quota,
    },
    /// The message would not fit into the empty mailbox.
    #[error("{place}: the message is larger than the quota of the mailbox, {quota}")]
    TooLarge {
        /// Path of the mailbox.
        place: String,
        /// The quota.
        quota: Quota,
    },
    /// A write of this delivery failed before; its error was given then.
    #[error("{place}: an earlier write of this message failed")]
    Incomplete {
        /// Path of the mailbox.
        place: String,
    },
    /// The message itself cannot be read.
    #[error("the message cannot be read: {what}")]
    Source {
        /// Why.
        what: String,
    },
    /// The disk.
    #[error("{place}: {what}: {error}")]
    Io {
        /// Where.
        place: String,
        /// What was tried.
        what: &'static str,
        /// The disk's words.
        error: io::Error,
    },
}

/// What the sender of a message is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// No later attempt can succeed.
    pub permanent: bool,
    /// Reply code (RFC 5321 §4.2.3).
    pub code: u16,
    /// Enhanced status (RFC 3463).
    pub enhanced: (u8, u16, u16),
    /// US-ASCII, one line, names no file.
    pub text: String,
}

impl MaildirError {
    /// An error of the disk at `place`, which was met while doing `what`.
    pub(super) fn io<E: Into<io::Error>>(place: &Path, what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Io { place: place.display().to_string(), what, error: error.into() }
    }

    /// What the sender is told.
    ///
    /// | error                                        | reply | status | permanent |
    /// |----------------------------------------------|-------|--------|-----------|
    /// | address gives no path, or too long a one     | 553   | 5.1.3  | yes       |
    /// | no such mailbox                              | 550   | 5.1.1  | yes       |
    /// | message larger than the quota                | 552   | 5.2.3  | yes       |
    /// | mailbox full (quota, or the system's EDQUOT) | 452   | 4.2.2  | no        |
    /// | file system full                             | 452   | 4.3.1  | no        |
    /// | anything else                                | 451   | 4.3.0  | no        |
    ///
    /// Permanent is only what the sender or the recipient can do something about: an error of this machine or of its
    /// configuration must not cost mail.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, enhanced, text) = match self {
            Self::Address(_) | Self::NameTooLong { .. } => {
                (553, (5, 1, 3), "bad destination mailbox address".to_owned())
            }
            Self::NoMailbox { .. } => (550, (5, 1, 1), "no such mailbox".to_owned()),
            Self::TooLarge { .. } => {
                (552, (5, 2, 3), "message is larger than the quota of the mailbox".to_owned())
            }
            Self::Full { .. } => (452, (4, 2, 2), "mailbox full".to_owned()),
            Self::Io { error, .. } => match error.kind() {
                io::ErrorKind::StorageFull => (452, (4, 3, 1), "mail system full".to_owned()),
                io::ErrorKind::QuotaExceeded => (452, (4, 2, 2), "mailbox full".to_owned()),
                _ => (451, (4, 3, 0), format!("local error in delivery: {error}")),
            },
            Self::StorageMissing { .. }
            | Self::NotADirectory { .. }
            | Self::Place { .. }
            | Self::MessageId
            | Self::Source { .. }
            | Self::Incomplete { .. } => (451, (4, 3, 0), "local error in delivery".to_owned()),
        };
        Failure { permanent: enhanced.0 == 5, code, enhanced, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn of(errno: Errno) -> Failure {
        MaildirError::io(Path::new("/mail/joe"), "writing")(errno).failure()
    }

    #[test]
    fn errors_of_the_disk_are_temporary() {
        for (errno, enhanced) in [
            (Errno::NOSPC, (4, 3, 1)),
            (Errno::DQUOT, (4, 2, 2)),
            (Errno::ACCESS, (4, 3, 0)),
            (Errno::ROFS, (4, 3, 0)),
            (Errno::IO, (4, 3, 0)),
            (Errno::NOENT, (4, 3, 0)),
            (Errno::MFILE, (4, 3, 0)),
        ] {
            let failure = of(errno);
            assert_eq!((failure.permanent, failure.enhanced), (false, enhanced), "{errno:?}");
            assert!(!failure.text.contains("/mail"), "{}", failure.text);
        }
        assert!(of(Errno::ROFS).text.contains("Read-only file system"));
    }

    #[test]
    fn the_class_of_the_reply_is_that_of_the_status() {
        let place = || "/mail/joe".to_owned();
        let quota = Quota { octets: 1, messages: 0 };
        for error in [
            MaildirError::Address(AddressError::Empty("local part")),
            MaildirError::NoMailbox { place: place() },
            MaildirError::StorageMissing { place: place() },
            MaildirError::NotADirectory { place: place() },
            MaildirError::Place { place: place() },
            MaildirError::NameTooLong { place: place() },
            MaildirError::MessageId,
            MaildirError::Full { place: place(), quota },
            MaildirError::TooLarge { place: place(), quota },
            MaildirError::Incomplete { place: place() },
        ] {
            let failure = error.failure();
            assert_eq!(failure.code / 100, u16::from(failure.enhanced.0), "{error}");
            assert_eq!(failure.permanent, failure.code >= 500, "{error}");
            assert!(!failure.text.contains("/mail"), "{error}");
        }
    }
}
