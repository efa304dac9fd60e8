//! The voluntary quota of Maildir++: how much is in a mailbox, and whether a message still fits.
//!
//! ```text
//!   quota of the settings ─┐                     ┌ fits ──────────────────────────────────▶ delivered, then appended
//!                          ├─▶ usage + message ──┤
//!   maildirsize ───────────┘   > quota?          └ does not ─▶ count again, unless that was done just now ─▶ refused
//! ```
//! Counted is every message in `cur` and `new` of the mailbox and of its folders, with the size in its name, or that of the file.
//! Messages with the flag `T` (trashed) and those in the folder `.Trash` do not count: who is over quota gets below it by
//! throwing mail away.
//!
//! The mailbox is counted again when the file is missing or damaged, sums up to less than nothing, has 5,120 octets or more, or
//! names another quota than the settings. A mailbox that seems full is also counted again when the file has grown since the last
//! count or is older than 15 minutes, since readers that know nothing of quotas do not note what they delete.
//!
//! No lock is taken, as Maildir++ intends: deliveries at the same time may each find room for themselves and together
//! overshoot, by no more than the messages under way. A count that a change of the mailbox interferes with is done again,
//! [`COUNTS_MAX`] times at most.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::error::MaildirError;
use super::size_file::{self, SizeFile};
use super::store::Mailbox;

/// How often a mailbox is counted that keeps changing.
const COUNTS_MAX: usize = 3;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How much a mailbox may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Octets of all messages as they are stored; 0 for any number.
    pub octets: u64,
    /// Messages; 0 for any number.
    pub messages: u64,
}

/// How much a mailbox holds, or a message adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) octets: u64,
    pub(super) messages: u64,
}

impl Quota {
    /// No bound.
    pub const NONE: Self = Self { octets: 0, messages: 0 };

    /// True when there is no bound.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.octets == 0 && self.messages == 0
    }

    fn holds(self, usage: Usage, more: Usage) -> bool {
        let within = |used: u64, more: u64, max: u64| max == 0 || used.saturating_add(more) <= max;
        within(usage.octets, more.octets, self.octets) && within(usage.messages, more.messages, self.messages)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.octets, self.messages) {
            (0, 0) => f.write_str("none"),
            (octets, 0) => write!(f, "{octets} octets"),
            (0, messages) => write!(f, "{messages} messages"),
            (octets, messages) => write!(f, "{octets} octets or {messages} messages"),
        }
    }
}

/// Refuses a message that does not fit into the mailbox. Gives back the quota that binds it.
pub(super) fn check(mailbox: &Mailbox, message: Usage) -> Result<Quota, MaildirError> {
    let place = || mailbox.place.display().to_string();
    let file = size_file::read(mailbox)?;
    let configured = mailbox.settings.quota;
    let quota =
        if configured.is_none() { file.as_ref().map_or(Quota::NONE, |f| f.quota) } else { configured };
    if quota.is_none() {
        return Ok(quota);
    }
    if !quota.holds(Usage::default(), message) {
        return Err(MaildirError::TooLarge { place: place(), quota });
    }
    if let Some(SizeFile { usage: Some(usage), fresh, .. }) = file.filter(|file| file.quota == quota) {
        if quota.holds(usage, message) {
            return Ok(quota);
        }
        if fresh {
            return Err(MaildirError::Full { place: place(), quota });
        }
    }
    let usage = count_and_note(mailbox, quota)?;
    if quota.holds(usage, message) { Ok(quota) } else { Err(MaildirError::Full { place: place(), quota }) }
}

/// Counts the mailbox and writes the file anew.
fn count_and_note(mailbox: &Mailbox, quota: Quota) -> Result<Usage, MaildirError> {
    let failed = |what| MaildirError::io(&mailbox.place, what);
    let mut usage = Usage::default();
    for _ in 0..COUNTS_MAX {
        let (counted, times) = scan(mailbox, true).map_err(failed("counting the messages"))?;
        usage = counted;
        size_file::replace(mailbox, quota, usage)?;
        // Only now: a delivery that ends after this look finds the new file and appends to it.
        if scan(mailbox, false).map_err(failed("counting the messages"))?.1 == times {
            return Ok(usage);
        }
    }
    // The count is good enough for this message, but not to stand in the file.
    size_file::distrust(mailbox);
    Ok(usage)
}

/// When `cur` and `new` of a folder were changed.
type Times = Vec<(CString, [Option<(i64, u64)>; 2])>;

/// Goes through all folders. Without `counting` only the times are looked at.
fn scan(mailbox: &Mailbox, counting: bool) -> Result<(Usage, Times), Errno> {
    let mut folders = vec![c".".to_owned()];
    for entry in Dir::read_from(&mailbox.root)? {
        let name = entry?.file_name().to_owned();
        if is_counted_folder(name.to_bytes()) {
            folders.push(name);
        }
    }
    folders.sort_unstable();
    let (mut usage, mut times) = (Usage::default(), Times::new());
    for folder in folders {
        let mut changed = [None; 2];
        match openat(&mailbox.root, &folder, DIRECTORY, Mode::empty()) {
            Ok(handle) => {
                for (name, changed) in [c"cur", c"new"].into_iter().zip(&mut changed) {
                    let directory = match openat(&handle, name, DIRECTORY, Mode::empty()) {
                        Ok(directory) => directory,
                        Err(error) if is_no_directory(error) => continue,
                        Err(error) => return Err(error),
                    };
                    // Before the names are read, so that a change meanwhile is seen.
                    let stat = fstat(&directory)?;
                    *changed = Some((stat.st_mtime, stat.st_mtime_nsec));
                    if counting {
                        count(directory, &mut usage)?;
                    }
                }
            }
            Err(error) if is_no_directory(error) => {}
            Err(error) => return Err(error),
        }
        times.push((folder, changed));
    }
    Ok((usage, times))
}

/// A file, a symbolic link, or gone meanwhile.
fn is_no_directory(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Maildir++: folders begin with a dot; what is in the trash does not count.
fn is_counted_folder(name: &[u8]) -> bool {
    name.starts_with(b".") && !matches!(name, b"." | b".." | b".Trash")
}

fn count(directory: OwnedFd, usage: &mut Usage) -> Result<(), Errno> {
    let mut entries = Dir::new(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") || is_trashed(name.to_bytes()) {
            continue;
        }
        let octets = match size_in_name(name.to_bytes()) {
            Some(octets) => octets,
            None => match size_of_file(&entries, name) {
                Ok(octets) => octets,
                // Moved or deleted by a reader meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            },
        };
        usage.octets = usage.octets.saturating_add(octets);
        usage.messages += 1;
    }
    Ok(())
}

fn size_of_file(entries: &Dir, name: &CStr) -> Result<u64, Errno> {
    let stat = statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// True when the flags after `:2,` have `T`.
fn is_trashed(name: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(name, b":2,") else { return false };
    name[at + 3..].iter().take_while(|flag| flag.is_ascii_uppercase()).any(|&flag| flag == b'T')
}

/// The number after `,S=`.
fn size_in_name(name: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(name, b",S=")? + 3;
    let digits = name[at..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    std::str::from_utf8(&name[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_messages() {
        assert_eq!(size_in_name(b"1.M2P3.host,S=1843,W=1890:2,S"), Some(1_843));
        assert_eq!(size_in_name(b"1.M2P3.host,W=1890,S=12"), Some(12));
        assert_eq!(size_in_name(b"1.M2P3.host"), None);
        assert_eq!(size_in_name(b"1.M2P3.host,S=:2,"), None);
        assert_eq!(size_in_name(b"1.M2P3.host,S=99999999999999999999"), None);
        assert!(is_trashed(b"1.host,S=1:2,ST"));
        assert!(is_trashed(b"1.host:2,T"));
        assert!(!is_trashed(b"1.Thost,T:2,SaT"));
        assert!(!is_trashed(b"1.Thost"));
    }

    #[test]
    fn folders_that_count() {
        for (name, counts) in [
            (&b".Sent"[..], true),
            (b".Trash.old", true),
            (b".Trash", false),
            (b".", false),
            (b"..", false),
            (b"cur", false),
        ] {
            assert_eq!(is_counted_folder(name), counts);
        }
    }

    #[test]
    fn bounds() {
        let usage = |octets, messages| Usage { octets, messages };
        let quota = Quota { octets: 100, messages: 2 };
        assert!(quota.holds(usage(60, 1), usage(40, 1)));
        assert!(!quota.holds(usage(60, 1), usage(41, 1)));
        assert!(!quota.holds(usage(0, 2), usage(1, 1)));
        assert!(Quota { octets: 0, messages: 2 }.holds(usage(u64::MAX, 1), usage(9, 1)));
        assert!(Quota { octets: 100, messages: 0 }.holds(usage(1, u64::MAX), usage(9, 1)));
        assert!(Quota::NONE.is_none());
        assert_eq!(quota.to_string(), "100 octets or 2 messages");
    }
}
