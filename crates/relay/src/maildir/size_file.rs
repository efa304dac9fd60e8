//! The file `maildirsize` of Maildir++.
//!
//! ```text
//!   10485760S,1000C     the quota: octets (S), messages (C), each only if bound
//!   523344 117          octets and messages counted
//!   1843 1              a delivery
//!   -900 -1             a reader deletes
//! ```
//! Lines are only ever appended, each by one write; the usage is the sum of all lines. A new file is written in `tmp` and renamed,
//! and is synced before, since the quota may stand nowhere else.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::error::MaildirError;
use super::name::unique;
use super::quota::{Quota, Usage};
use super::store::Mailbox;

/// Name of the file in the mailbox.
pub(super) const NAME: &str = "maildirsize";

/// Maildir++: a file that has grown to this many octets is written anew.
const OCTETS_MAX: usize = 5_120;

/// Maildir++: how long a count of a full mailbox stands.
const COUNT_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SizeFile {
    pub(super) quota: Quota,
    /// `None` when the mailbox must be counted.
    pub(super) usage: Option<Usage>,
    /// Nothing was added since the count, and it is younger than 15 minutes.
    pub(super) fresh: bool,
}

/// Reads the file; `None` when there is none.
pub(super) fn read(mailbox: &Mailbox) -> Result<Option<SizeFile>, MaildirError> {
    let place = mailbox.place.join(NAME);
    let failed = || MaildirError::io::<io::Error>(&place, "reading the file");
    // Not to wait for the other end of a pipe that somebody has put there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&mailbox.root, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => File::from(opened.map_err(|error| failed()(error.into()))?),
    };
    let metadata = file.metadata().map_err(failed())?;
    if !metadata.is_file() {
        return Err(failed()(io::Error::other("not a regular file")));
    }
    let mut octets = Vec::new();
    let bound = u64::try_from(OCTETS_MAX).unwrap_or(u64::MAX);
    file.take(bound).read_to_end(&mut octets).map_err(failed())?;
    // A time in the future says nothing about the age.
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    Ok(Some(parse(&octets, age.is_some_and(|age| age < COUNT_AGE_MAX))))
}

fn parse(octets: &[u8], young: bool) -> SizeFile {
    let mut lines = octets.split_inclusive(|&octet| octet == b'\n');
    let quota = parse_quota(lines.next().unwrap_or_default());
    let (mut sum, mut count) = (Some((0_i64, 0_i64)), 0_usize);
    for line in lines {
        sum = sum.zip(parse_line(line)).and_then(|((octets, messages), (more_octets, more_messages))| {
            Some((octets.checked_add(more_octets)?, messages.checked_add(more_messages)?))
        });
        count += 1;
    }
    // A file without a count says nothing about what was there before.
    let whole = octets.len() < OCTETS_MAX && count > 0;
    let usage = sum.filter(|_| whole).and_then(|(octets, messages)| {
        Some(Usage { octets: octets.try_into().ok()?, messages: messages.try_into().ok()? })
    });
    SizeFile { quota, usage, fresh: young && count == 1 }
}

/// `10485760S,1000C`. Maildir++: what is not known is ignored.
fn parse_quota(line: &[u8]) -> Quota {
    let mut quota = Quota::NONE;
    let Ok(line) = std::str::from_utf8(line) else { return quota };
    for part in line.trim_ascii().split(',') {
        let bound = |unit| part.strip_suffix(unit).and_then(|number| number.trim_ascii().parse().ok());
        if let Some(octets) = bound('S') {
            quota.octets = octets;
        } else if let Some(messages) = bound('C') {
            quota.messages = messages;
        }
    }
    quota
}

/// Octets and messages of one line; `None` when it is damaged, or its end is missing.
fn parse_line(line: &[u8]) -> Option<(i64, i64)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(octets)), Some(Ok(messages)), None) => Some((octets, messages)),
        _ => None,
    }
}

fn quota_line(quota: Quota) -> String {
    match (quota.octets, quota.messages) {
        (octets, 0) => format!("{octets}S"),
        (0, messages) => format!("{messages}C"),
        (octets, messages) => format!("{octets}S,{messages}C"),
    }
}

/// Puts a new file in the place of the old one, if any.
pub(super) fn replace(mailbox: &Mailbox, quota: Quota, usage: Usage) -> Result<(), MaildirError> {
    let place = mailbox.place.join(NAME);
    let name = unique(NAME, &mailbox.host_label);
    let written = write_new(mailbox, &name, quota, usage)
        .and_then(|()| Ok(renameat(&mailbox.tmp, name.as_str(), &mailbox.root, NAME)?));
    written.map_err(|error| {
        let _ = unlinkat(&mailbox.tmp, name.as_str(), AtFlags::empty());
        MaildirError::io(&place, "writing the file")(error)
    })
}

fn write_new(mailbox: &Mailbox, name: &str, quota: Quota, usage: Usage) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = mailbox.settings.file_mode();
    let mut file = File::from(openat(&mailbox.tmp, name, flags, mode)?);
    fchmod(&file, mode)?;
    let text = format!("{}\n{} {}\n", quota_line(quota), usage.octets, usage.messages);
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Notes a delivery, when there is a file. The message is in the mailbox already, so a failure only makes the usage wrong until
/// the next count.
pub(super) fn append(mailbox: &Mailbox, usage: Usage) {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(&mailbox.root, NAME, flags, Mode::empty()) else { return };
    let line = format!("{} {}\n", usage.octets, usage.messages);
    // One write, so that lines of others do not get into it.
    if rustix::io::write(&file, line.as_bytes()) != Ok(line.len()) {
        distrust(mailbox);
    }
}

/// Makes the next delivery count. A file that holds the only word about the quota stays.
pub(super) fn distrust(mailbox: &Mailbox) {
    if !mailbox.settings.quota.is_none() {
        let _ = unlinkat(&mailbox.root, NAME, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str) -> Option<Usage> {
        parse(text.as_bytes(), true).usage
    }

    #[test]
    fn quotas() {
        for (line, octets, messages) in [
            ("10485760S,1000C\n", 10_485_760, 1_000),
            ("1000C,10S\n", 10, 1_000),
            ("10S\n", 10, 0),
            ("7C", 0, 7),
            ("NOQUOTA\n", 0, 0),
            ("\n", 0, 0),
            ("", 0, 0),
            ("10S,5X\n", 10, 0),
            ("-1S\n", 0, 0),
        ] {
            assert_eq!(parse_quota(line.as_bytes()), Quota { octets, messages }, "{line:?}");
        }
        for quota in [
            Quota { octets: 1, messages: 2 },
            Quota { octets: 1, messages: 0 },
            Quota { octets: 0, messages: 2 },
            Quota::NONE,
        ] {
            assert_eq!(parse_quota(quota_line(quota).as_bytes()), quota);
        }
    }

    #[test]
    fn sums() {
        assert_eq!(usage("100S\n50 2\n"), Some(Usage { octets: 50, messages: 2 }));
        assert_eq!(usage("100S\n  50      2\n10 1\n-60 -3\n"), Some(Usage { octets: 0, messages: 0 }));
    }

    #[test]
    fn damage_asks_for_a_count() {
        for text in [
            "",
            "100S",
            "100S\n",
            "100S\n50 2\n-60 -1\n",
            "100S\n50 2\n0 -3\n",
            "100S\n50 2",
            "100S\n50\n",
            "100S\n50 2 1\n",
            "100S\nabc 2\n",
            "100S\n\n50 2\n",
            "100S\n9223372036854775807 1\n1 1\n",
            "100S\n\u{0}\u{0}\u{0}\n",
        ] {
            assert_eq!(usage(text), None, "{text:?}");
        }
        let long = format!("100S\n{}", "1 1\n".repeat(OCTETS_MAX));
        let file = parse(&long.as_bytes()[..OCTETS_MAX], true);
        assert_eq!((file.quota, file.usage), (Quota { octets: 100, messages: 0 }, None));
    }

    #[test]
    fn only_a_young_count_alone_is_fresh() {
        assert!(parse(b"100S\n1 1\n", true).fresh);
        assert!(!parse(b"100S\n1 1\n", false).fresh);
        assert!(!parse(b"100S\n1 1\n1 1\n", true).fresh);
        assert!(!parse(b"100S\n", true).fresh);
    }
}
