//! Reads what a server has put into a Maildir, one file for each message.

use std::fs;
use std::path::Path;

use crate::process;

/// The messages of a Maildir in the order of their file names, `new` before `cur`, their lines ended by CRLF again: files end them with LF.
/// None if there is no such folder yet.
pub fn messages(folder: &Path) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for part in ["new", "cur"] {
        let entries = fs::read_dir(folder.join(part)).into_iter().flatten().flatten();
        let mut files = entries.map(|entry| entry.path()).collect::<Vec<_>>();
        files.sort();
        messages.extend(files.iter().flat_map(fs::read).map(|message| with_crlf(&message)));
    }
    messages
}

/// Waits until there are so many; all of them.
///
/// # Panics
/// They do not come.
#[track_caller]
pub fn wait_for(folder: &Path, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    process::eventually("the messages are in their Maildir", || {
        found = messages(folder);
        found.len() >= count
    });
    found
}

fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(message.len() + message.len() / 32);
    for octet in message {
        if *octet == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*octet);
    }
    lines
}
