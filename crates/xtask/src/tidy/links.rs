//! Relative links of the Markdown texts: the file is there, and so is the heading.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::Findings;
use super::files::{TextFile, Tree};

/// Links that lead nowhere.
pub(crate) fn check(tree: &Tree) -> Findings {
    let texts: HashMap<&str, &TextFile> = tree.ending(".md").map(|file| (file.path.as_str(), file)).collect();
    let mut findings = Vec::new();
    for file in tree.ending(".md") {
        for link in links(&file.text) {
            if !leads_somewhere(tree, &texts, file, link) {
                findings.push(format!("{}: {link}", file.path));
            }
        }
    }
    Ok(findings)
}

fn leads_somewhere(tree: &Tree, texts: &HashMap<&str, &TextFile>, from: &TextFile, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => from.path.clone(),
        path => flat(&Path::new(&from.path).with_file_name("").join(path)),
    };
    let there = texts.contains_key(target.as_str()) || tree.root.join(&target).exists();
    there
        && (heading.is_empty()
            || texts.get(target.as_str()).is_none_or(|file| has_heading(&file.text, heading)))
}

/// Without `.` and `..`.
fn flat(path: &Path) -> String {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                flat.pop();
            }
            Component::CurDir => {}
            part => flat.push(part),
        }
    }
    flat.to_string_lossy().into_owned()
}

/// The targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in prose(text) {
        for piece in line.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push(target.split(' ').next().unwrap_or(target));
            }
        }
    }
    found
}

/// Lines outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Headings become anchors as GitHub does it: lower case, letters, digits, `-` and `_` stay, spaces become `-`.
fn has_heading(text: &str, anchor: &str) -> bool {
    prose(text).filter_map(|line| line.strip_prefix('#')).any(|heading| {
        let heading = heading.trim_start_matches('#').trim();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-") == anchor
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings() {
        let text = "# The `way` of a message\n[a](x.md#y) `code`\n```\n[no](link)\n```\n";
        assert_eq!(links(text), ["x.md#y"]);
        assert!(has_heading(text, "the-way-of-a-message"));
        assert!(!has_heading(text, "no"));
        assert_eq!(flat(Path::new("docs/../README.md")), "README.md");
    }
}
