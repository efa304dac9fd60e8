//! After the run: is every acknowledged message where the server says it is, unchanged, and as often as promised?
//!
//! ```text
//!   mod.rs       stores, what was found, how long to wait       log.rs       the gateway's log, by the ids of the replies
//!   mailbox.rs   messages of other stores, by their header      files.rs     Maildir, mbox, files of smtp-sink
//! ```
//! The gateway's log is complete when the 250 is there. Other servers deliver later: their stores are looked at again until everything
//! is there or the time is over.

mod files;
mod log;
mod mailbox;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::acks::Acknowledged;
use crate::content::Content;

/// How many findings are described one by one.
const EXAMPLES_MAX: usize = 10;
/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Messages acknowledged in the run.
    pub acknowledged: u64,
    /// Found whole, as often as promised; in the gateway's log under the id that was told.
    pub found: u64,
    /// Not found: messages, or copies where each recipient has one.
    pub missing: u64,
    /// Found with other octets than were sent; acknowledged or not.
    pub altered: u64,
    /// Stored once more than promised.
    pub duplicated: u64,
    /// Of this run, whole, but not acknowledged.
    pub unacknowledged: u64,
    /// Acknowledged without an id that could be looked up.
    pub without_id: u64,
    /// Records of the log that do not hold.
    pub damaged: u64,
    /// The first findings in words.
    pub examples: Vec<String>,
}

impl Verification {
    /// Every promise was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.found == self.acknowledged && self.missing + self.altered + self.duplicated + self.damaged == 0
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

/// The run that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Its messages.
    pub content: &'a Content,
    /// As in `X-Inrush-Load`.
    pub run: u64,
    /// Start, microseconds since 1970.
    pub started_us: u64,
    /// What was acknowledged.
    pub acknowledged: &'a [Acknowledged],
}

/// Where the server keeps its mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Data directory of the gateway.
    Log(PathBuf),
    /// A Maildir, or a directory with Maildirs at any depth.
    Maildir(PathBuf),
    /// A file, or a directory of such files.
    Mbox(PathBuf),
    /// What `smtp-sink -d` or `-D` has written: a directory, or the template up to its first `%`.
    SmtpSink(PathBuf),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let store = match text.split_once(':') {
            Some(("log", path)) => Self::Log(path.into()),
            Some(("maildir", path)) => Self::Maildir(path.into()),
            Some(("mbox", path)) => Self::Mbox(path.into()),
            Some(("smtp-sink", path)) => Self::SmtpSink(path.into()),
            _ => Self::Log(text.into()),
        };
        if store.path().as_os_str().is_empty() {
            return Err(format!("{text:?} names no path (DIR, maildir:DIR, mbox:FILE, smtp-sink:DIR)"));
        }
        Ok(store)
    }
}

impl Store {
    fn path(&self) -> &Path {
        match self {
            Self::Log(path) | Self::Maildir(path) | Self::Mbox(path) | Self::SmtpSink(path) => path,
        }
    }
}

/// How often a store holds a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Copies {
    /// Once for each recipient that was accepted.
    Recipient,
    /// Once.
    Message,
}

/// What a verification is to do.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Where to look.
    pub store: Store,
    /// None: as the store usually does.
    pub copies: Option<Copies>,
    /// Longest wait for what is missing.
    pub wait: Duration,
}

/// Pauses between two looks at a store: doubled from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Looks for the run's messages.
///
/// # Errors
/// The store cannot be read.
pub fn verify(verify: &Verify, sought: &Sought<'_>) -> Result<Verification, String> {
    let read: fn(&Path, &mut mailbox::Mailbox<'_>) -> Result<(), String> = match &verify.store {
        Store::Log(path) => return log::verify(path, sought),
        Store::Maildir(_) => files::maildirs,
        Store::Mbox(_) => files::mboxes,
        Store::SmtpSink(_) => files::smtp_sink,
    };
    let usual = if matches!(verify.store, Store::SmtpSink(_)) { Copies::Message } else { Copies::Recipient };
    let copies = verify.copies.unwrap_or(usual);
    let begun = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        let mut mailbox = mailbox::Mailbox::new(sought, copies);
        let result = read(verify.store.path(), &mut mailbox);
        let over = begun.elapsed() >= verify.wait;
        match result {
            // A server that moves mail while we look may take a file away under our eyes.
            Err(error) if over => return Err(error),
            Err(_) => {}
            Ok(()) => {
                let verification = mailbox.finish();
                if over || verification.holds() || verification.duplicated > 0 {
                    return Ok(verification);
                }
            }
        }
        std::thread::sleep(pause.min(verify.wait.saturating_sub(begun.elapsed())));
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_stores() {
        for (text, store) in [
            ("data", Store::Log("data".into())),
            ("log:maildir", Store::Log("maildir".into())),
            ("maildir:/var/mail/x", Store::Maildir("/var/mail/x".into())),
            ("mbox:/var/mail/x", Store::Mbox("/var/mail/x".into())),
            ("smtp-sink:d/m.", Store::SmtpSink("d/m.".into())),
        ] {
            assert_eq!(text.parse(), Ok(store), "{text}");
        }
        assert!("maildir:".parse::<Store>().is_err() && "".parse::<Store>().is_err());
    }
}
