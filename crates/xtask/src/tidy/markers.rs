//! Words that say "not finished". What falls short of a standard has one fixed form that can be listed:
//! the section, a colon, the lower-case word and what is missing.

use super::Findings;
use super::files::Tree;

/// In two pieces each, so that this file does not find itself.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("for", " now"),
    concat!("st", "ub"),
];

/// Marker words in sources and texts, as whole words.
pub(crate) fn check(tree: &Tree) -> Findings {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with(".smtp")) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = WORDS.iter().find(|word| holds(line, word)) {
                findings.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    Ok(findings)
}

fn holds(line: &str, word: &str) -> bool {
    let letter = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    line.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| line.as_bytes().get(at));
        !letter(before) && !letter(line.as_bytes().get(at + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_count() {
        assert!(holds("a XYZ b", "XYZ"));
        assert!(holds("XYZ:", "XYZ"));
        assert!(!holds("XYZZ", "XYZ"));
        assert!(!holds("_XYZ", "XYZ"));
    }
}
