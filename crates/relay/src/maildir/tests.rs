//! Deliveries into real directories.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod failing;
mod mailboxes;
mod messages;
mod quotas;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Mailbox, MailboxSettings, MaildirError, Stored};

const ID: &str = "0A1B2C123456789ABCDE";

/// A mailbox that is not made yet, in a directory that has something else in it.
struct Place {
    directory: TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("something"), "").unwrap();
        let root = directory.path().join("a.example/joe/Maildir");
        Self { directory, root }
    }

    fn open(&self) -> Mailbox {
        Mailbox::open(&self.root, &settings()).unwrap()
    }
}

fn settings() -> MailboxSettings {
    MailboxSettings::new("mx.example")
}

fn deliver(mailbox: &Mailbox, message: &[u8]) -> Result<Stored, MaildirError> {
    let mut delivery = mailbox.begin(ID)?;
    delivery.write(message)?;
    delivery.commit()
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}
