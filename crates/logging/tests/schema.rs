//! `docs/logs.md` against the sources: every field that some line has is explained, every field that is explained exists, every line is listed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use inrush_logging::{
    CONNECTION_FIELDS, FIELDS, MESSAGE_FIELDS, Place, SESSION_FIELDS, WRITER_FIELDS, documentation,
};

const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// All sources of the crates that the program consists of.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(CRATES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("xtask"))
        .map(|path| path.join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push((module(&path), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// `crates/gateway/src/session/secure.rs` → `inrush_gateway::session::secure`.
fn module(path: &Path) -> String {
    let path = path.strip_prefix(CRATES).unwrap().with_extension("");
    let mut words: Vec<String> =
        path.components().map(|word| word.as_os_str().to_string_lossy().into_owned()).collect();
    words.remove(1);
    words[0] = if words[0] == "inrush" { "inrush".to_owned() } else { format!("inrush_{}", words[0]) };
    if ["mod", "lib", "main"].contains(&words.last().unwrap().as_str()) {
        words.pop();
    }
    words.join("::")
}

/// The places of one source.
fn places(module: &str, text: &str) -> Vec<Place> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut places = Vec::new();
    for level in ["error", "warn", "info", "debug", "trace"] {
        let call = format!("tracing::{level}!(");
        for (at, _) in text.match_indices(&call) {
            let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            if text[line_start..at].trim_start().starts_with("//") {
                continue;
            }
            let (mut fields, mut msg) = (Vec::new(), String::new());
            for argument in arguments(&text[at + call.len()..]) {
                let argument = argument.trim();
                if let Some(words) = argument.strip_prefix('"') {
                    msg = words.trim_end_matches('"').replace("\\\"", "\"");
                    break;
                }
                let name = argument.split(" = ").next().unwrap().trim_start_matches(['%', '?']);
                fields.push(name.to_owned());
            }
            places.push(Place { module: module.to_owned(), level: level.to_owned(), msg, fields });
        }
    }
    places
}

/// The arguments of a macro whose parenthesis has just been opened.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(c);
    }
    arguments.retain(|argument| !argument.trim().is_empty());
    arguments
}

fn all_places() -> Vec<Place> {
    let mut all: Vec<Place> = sources().iter().flat_map(|(module, text)| places(module, text)).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn every_field_is_explained_and_exists() {
    let places = all_places();
    assert!(places.len() > 50, "the sources are not read: {}", places.len());
    let of_macros = places.iter().flat_map(|place| place.fields.iter().map(String::as_str));
    let of_cores =
        MESSAGE_FIELDS.iter().chain(&SESSION_FIELDS).chain(&CONNECTION_FIELDS).chain(&WRITER_FIELDS);
    let used: BTreeSet<&str> = of_macros.chain(of_cores.copied()).collect();
    let explained: BTreeSet<&str> = FIELDS.iter().map(|row| row.name).collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    let gone: Vec<_> = explained.difference(&used).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not explained: {missing:?}; no longer there: {gone:?}");
    assert_eq!(explained.len(), FIELDS.len(), "a field is explained twice");
    assert!(FIELDS.is_sorted_by_key(|row| row.name));
    for reserved in ["time", "level", "module", "msg"] {
        assert!(!explained.contains(reserved), "{reserved} is what each line has");
    }
}

#[test]
fn the_document_is_what_the_sources_say() {
    let text = documentation(&all_places());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logs.md");
    if std::env::var_os("INRUSH_BLESS").is_some() {
        fs::write(path, &text).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "docs/logs.md is not what the sources say any more: INRUSH_BLESS=1 cargo test -p inrush-logging --test schema writes it anew"
    );
}

#[test]
fn calls_are_taken_apart() {
    let text =
        "fn f() { tracing::warn!(%error, log = name(\"a, b\"), ?found, \"it \\\"is\\\" {so}, here\"); }";
    let found = places("m", text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].fields, ["error", "log", "found"]);
    assert_eq!(found[0].msg, "it \"is\" {so}, here");
}
