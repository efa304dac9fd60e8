//! What is stored, as the gateway itself exports it: `ID.eml`, each a trace header and the mail data as it was sent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::{binary, process};

/// All exported messages by their id.
pub type Messages = BTreeMap<String, Vec<u8>>;

/// Exports everything from a data directory, of a running or a stopped gateway.
///
/// # Panics
/// The export fails or writes something other than `ID.eml`.
#[track_caller]
pub fn all(data: &Path) -> Messages {
    let to = TempDir::with_prefix("inrush-export-").unwrap_or_else(|error| panic!("no folder: {error}"));
    let mut command = Command::new(binary::inrush());
    command.args(["log", "export", "--data-dir"]).arg(data).arg("--to").arg(to.path());
    process::finish(command).succeeded();
    read(to.path())
}

/// What is known about every message of a data directory, in the order in which they were accepted: the fields of the ndjson export.
///
/// # Panics
/// The export fails.
#[track_caller]
pub fn facts(data: &Path) -> Vec<Value> {
    let mut command = Command::new(binary::inrush());
    command.args(["log", "export", "--format", "ndjson", "--to", "-", "--data-dir"]).arg(data);
    let finished = process::finish(command).succeeded();
    let lines = finished.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    let read = |line| serde_json::from_slice(line).unwrap_or_else(|error| panic!("no JSON: {error}"));
    let mut facts: Vec<Value> = lines.map(read).collect();
    // Each core has a log of its own.
    facts.sort_by_key(|facts| facts["accepted_at"].as_str().map(str::to_owned));
    facts
}

/// The same about the only message.
///
/// # Panics
/// There is not exactly one.
#[track_caller]
pub fn only_facts(data: &Path) -> Value {
    let mut all = facts(data);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The `ID.eml` files of a folder.
///
/// # Panics
/// There is something else in it.
#[track_caller]
pub fn read(folder: &Path) -> Messages {
    let mut messages = Messages::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        assert_eq!(path.extension(), Some(OsStr::new("eml")), "{}", path.display());
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        messages.insert(id, bytes);
    }
    messages
}

/// Fails the test unless `stored` is a trace header followed by exactly `body`.
///
/// # Panics
/// It is not.
#[track_caller]
pub fn assert_body(stored: &[u8], body: &[u8], what: &str) {
    if let Err(why) = split(stored, body) {
        panic!("{what}: {why}");
    }
}

/// Checks that `stored` is a trace header followed by exactly `body`.
///
/// # Errors
/// What differs.
pub fn split(stored: &[u8], body: &[u8]) -> Result<(), String> {
    let Some(trace) = stored.strip_suffix(body) else {
        let at = stored.iter().rev().zip(body.iter().rev()).take_while(|(a, b)| a == b).count();
        return Err(format!(
            "the stored octets ({}) do not end with the {} sent; the last {at} agree; stored begins {:?}",
            stored.len(),
            body.len(),
            String::from_utf8_lossy(&stored[..stored.len().min(300)])
        ));
    };
    if is_trace(trace) {
        Ok(())
    } else {
        Err(format!("not a trace header: {:?}", String::from_utf8_lossy(trace)))
    }
}

/// RFC 5321 §4.4: at most one Return-Path, then exactly one Received, each perhaps folded, and nothing else.
fn is_trace(octets: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(octets) else { return false };
    let Some(text) = text.strip_suffix("\r\n") else { return false };
    let mut names = Vec::new();
    for line in text.split("\r\n") {
        if !line.starts_with([' ', '\t']) {
            names.push(line.split(':').next().unwrap_or_default());
        } else if names.is_empty() {
            return false;
        }
    }
    // RFC 6409 §8: what a submitted message lacked stands behind the trace.
    while matches!(names.last(), Some(&("Date" | "Message-ID"))) {
        names.pop();
    }
    matches!(names.as_slice(), ["Received"] | ["Return-Path", "Received"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_header_may_stand_before_the_body() {
        let trace = "Return-Path: <a@b.example>\r\nReceived: from x\r\n\tby y; date\r\n";
        let stored = |body: &str| format!("{trace}{body}").into_bytes();
        assert!(split(&stored("Subject: x\r\n\r\nbody\r\n"), b"Subject: x\r\n\r\nbody\r\n").is_ok());
        assert!(split(&stored(""), b"").is_ok());
        assert!(split(&stored("a\r\nb\r\n"), b"b\r\n").is_err(), "an octet more");
        assert!(split(&stored("b\r\n"), b"a\r\nb\r\n").is_err(), "an octet less");
        assert!(split(b"b\r\n", b"b\r\n").is_err(), "no trace header");
    }
}
