//! Sections are cited in one fixed form, so that a tool can list them: `// RFC 5321 §4.1.4: why`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test; what cannot be unwrapped is its failure")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use inrush_proto::Reply;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// `5321 §4.1.4` or `3492 §7.1 (B)`: a number, a section, then the end or something that is no part of a section.
fn well_formed(citation: &str) -> bool {
    let Some((number, rest)) = citation.split_once(' ') else { return false };
    let Some(section) = rest.strip_prefix('§') else { return false };
    let end = section.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(section.len());
    let section = section[..end].trim_end_matches('.');
    number.parse::<u32>().is_ok()
        && !section.is_empty()
        && section.split('.').all(|part| part.parse::<u16>().is_ok())
}

#[test]
fn comments_cite_sections_in_one_form() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut cited = 0;
    for file in files {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let Some(citation) = line.trim_start().strip_prefix("// RFC ") else { continue };
            assert!(well_formed(citation), "{}:{}: {line}", file.display(), number + 1);
            cited += 1;
        }
    }
    assert!(cited > 50, "{cited} citations");
}

// Every section that a reply of the dialog stands on has a dialog of its own or a sibling in the same chapter.
#[test]
fn sections_of_replies_have_dialogs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs");
    let dialogs = inrush_dialog::Script::all(&folder).unwrap();
    let tested: BTreeSet<&str> = dialogs.iter().map(|dialog| dialog.section.as_str()).collect();
    // Said by the gateway alone: refusals before the greeting, and time-outs.
    let elsewhere = ["RFC 5321 §3.1", "RFC 5321 §3.8", "RFC 5321 §4.5.3.2", "RFC 5321 §4.5.3.2.7"];
    for reply in Reply::ALL {
        let section = reply.section();
        assert_ne!(tested.contains(section), elsewhere.contains(&section), "{reply:?}: {section}");
    }
}
