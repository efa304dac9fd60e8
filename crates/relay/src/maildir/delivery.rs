//! One message on its way into a mailbox.
//!
//! ```text
//!   begin ─▶ Open ── write ─▶ Open ── commit ─▶ in `new`, durable
//!              │       └ failed ─▶ Broken ── commit ─▶ Incomplete
//!              └────────────────────┴─ drop ─▶ nothing anywhere
//! ```
//! The file is synced before it gets its name in `new`, and `new` is synced afterwards: a reader, or whoever looks after a
//! power cut, sees the whole message or none of it. A name that exists is never written over.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, OFlags, RenameFlags, fchmod, fsync, linkat, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::error::MaildirError;
use super::lines::Lines;
use super::name::{is_message_id, unique};
use super::quota::{self, Quota, Usage};
use super::size_file;
use super::store::Mailbox;

/// Octets that are collected before they are written.
const BUFFER_OCTETS: usize = 64 * 1024;

/// How many names are tried. The second is never needed unless clock and process id of two machines with one host name agree.
const NAMES_MAX: usize = 3;

/// A message that is being written. Dropped before [`commit`](Self::commit) it leaves nothing behind.
#[derive(Debug)]
pub struct Delivery<'m> {
    mailbox: &'m Mailbox,
    id: String,
    /// In `tmp`. Empty once the file is no longer there.
    name: String,
    file: File,
    lines: Lines,
    buffer: Vec<u8>,
    quota: Quota,
    broken: bool,
}

/// A message in its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Name of the file in `new`, until a reader moves it.
    pub name: String,
    /// Octets of the file.
    pub octets: u64,
    /// Octets with CRLF line ends.
    pub octets_crlf: u64,
}

impl Mailbox {
    /// Begins the delivery of the message `id` (20 upper-case hex digits).
    ///
    /// The id becomes part of the name of the file. A delivery whose outcome is not known, since the process ended before it was
    /// noted, is done again; both copies then have the same id in their names (`…_ID.host,…`), which is how the second can be
    /// recognised. This is not done here: the first may be anywhere by then, or deleted.
    ///
    /// # Errors
    /// The mailbox is full, or no file can be made in it.
    pub fn begin(&self, id: &str) -> Result<Delivery<'_>, MaildirError> {
        if !is_message_id(id) {
            return Err(MaildirError::MessageId);
        }
        // The size is known only at the end; but into a full mailbox nothing needs to be written at all.
        let quota = quota::check(self, Usage { octets: 1, messages: 1 })?;
        let mut tries = 0;
        loop {
            tries += 1;
            let name = unique(id, &self.host_label);
            match self.create(&name) {
                Ok(file) => {
                    return Ok(Delivery {
                        mailbox: self,
                        id: id.to_owned(),
                        name,
                        file,
                        lines: Lines::default(),
                        buffer: Vec::new(),
                        quota,
                        broken: false,
                    });
                }
                Err(Errno::EXIST) if tries < NAMES_MAX => {}
                Err(error) => {
                    return Err(MaildirError::io(&self.place.join("tmp"), "making a file")(error));
                }
            }
        }
    }

    fn create(&self, name: &str) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.settings.file_mode();
        let file = openat(&self.tmp, name, flags, mode)?;
        // The process's umask may have taken something away.
        if let Err(error) = fchmod(&file, mode) {
            let _ = unlinkat(&self.tmp, name, AtFlags::empty());
            return Err(error);
        }
        Ok(file.into())
    }
}

impl Delivery<'_> {
    /// Takes the next octets of the message, headers first, with CRLF line ends; pieces of any size.
    ///
    /// # Errors
    /// The disk, or the message is larger than the quota of the mailbox. The delivery can only be dropped then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), MaildirError> {
        if self.broken {
            return Err(self.incomplete());
        }
        self.lines.convert(piece, &mut self.buffer);
        if self.quota.octets != 0 && self.lines.octets() > self.quota.octets {
            // Not only at the end, so that a small quota keeps large messages off the disk.
            self.broken = true;
            let place = self.mailbox.place.display().to_string();
            return Err(MaildirError::TooLarge { place, quota: self.quota });
        }
        if self.buffer.len() >= BUFFER_OCTETS { self.flush() } else { Ok(()) }
    }

    /// Makes the message durable and puts it into `new`.
    ///
    /// # Errors
    /// The message does not fit into the quota, or the disk. Nothing of the message stays behind.
    pub fn commit(mut self) -> Result<Stored, MaildirError> {
        if self.broken {
            return Err(self.incomplete());
        }
        self.lines.finish(&mut self.buffer);
        self.flush()?;
        let usage = Usage { octets: self.lines.octets(), messages: 1 };
        quota::check(self.mailbox, usage)?;
        self.file.sync_all().map_err(MaildirError::io(&self.place(), "syncing the message"))?;
        let name = self.publish()?;
        fsync(&self.mailbox.new).map_err(|error| {
            // It will be delivered again: a copy less.
            let _ = unlinkat(&self.mailbox.new, name.as_str(), AtFlags::empty());
            MaildirError::io(&self.mailbox.place.join("new"), "syncing the directory")(error)
        })?;
        size_file::append(self.mailbox, usage);
        Ok(Stored { name, octets: self.lines.octets(), octets_crlf: self.lines.octets_crlf() })
    }

    /// Moves the file from `tmp` to `new` under a name that does not exist there; gives back the name.
    fn publish(&mut self) -> Result<String, MaildirError> {
        let mut base = self.name.clone();
        let mut tries = 0;
        loop {
            tries += 1;
            let name = format!("{base},S={},W={}", self.lines.octets(), self.lines.octets_crlf());
            match self.move_to_new(&name) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) if tries < NAMES_MAX => {
                    base = unique(&self.id, &self.mailbox.host_label);
                }
                Err(error) => {
                    return Err(MaildirError::io(&self.mailbox.place.join("new"), "moving the message")(
                        error,
                    ));
                }
            }
        }
    }

    fn move_to_new(&mut self, name: &str) -> Result<(), Errno> {
        match self.rename_to_new(name) {
            // Not every file system can do it; a link is never made over a name either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link_to_new(name)?,
            moved => moved?,
        }
        self.name.clear();
        Ok(())
    }

    fn rename_to_new(&self, name: &str) -> Result<(), Errno> {
        let Mailbox { tmp, new, .. } = self.mailbox;
        renameat_with(tmp, self.name.as_str(), new, name, RenameFlags::NOREPLACE)
    }

    fn link_to_new(&self, name: &str) -> Result<(), Errno> {
        let Mailbox { tmp, new, .. } = self.mailbox;
        linkat(tmp, self.name.as_str(), new, name, AtFlags::empty())?;
        // The message is delivered; what stays here goes away as all that is old.
        let _ = unlinkat(tmp, self.name.as_str(), AtFlags::empty());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MaildirError> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| {
            self.broken = true;
            MaildirError::io(&self.place(), "writing the message")(error)
        })
    }

    fn place(&self) -> PathBuf {
        self.mailbox.place.join("tmp").join(&self.name)
    }

    fn incomplete(&self) -> MaildirError {
        MaildirError::Incomplete { place: self.mailbox.place.display().to_string() }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = unlinkat(&self.mailbox.tmp, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::maildir::MailboxSettings;

    #[test]
    fn a_name_that_exists_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::open(directory.path(), &MailboxSettings::new("mx.example")).unwrap();
        std::fs::write(directory.path().join("new/taken"), "theirs").unwrap();
        let mut delivery = mailbox.begin("0A1B2C123456789ABCDE").unwrap();
        assert_eq!(delivery.move_to_new("taken"), Err(Errno::EXIST));
        assert_eq!(delivery.rename_to_new("taken"), Err(Errno::EXIST));
        assert_eq!(delivery.link_to_new("taken"), Err(Errno::EXIST));
        assert_eq!(std::fs::read(directory.path().join("new/taken")).unwrap(), b"theirs");
        // Still in `tmp`, so that it can be given another name.
        delivery.link_to_new("free").unwrap();
        drop(delivery);
        assert_eq!(std::fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(directory.path().join("new")).unwrap().count(), 2);
    }
}
