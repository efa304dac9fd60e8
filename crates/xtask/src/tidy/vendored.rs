//! Files of others that lie in the tree are those that were published: by their hashes, as `THIRD_PARTY.md` explains.

use std::fs;
use std::process::Command;

use super::Findings;
use super::files::Tree;
use crate::run;

/// Where they lie.
const FOLDER: &str = "crates/admin/page/vendor";

/// SHA-256 of each file of the folder. npm `uplot` 1.6.32.
const FILES: &[(&str, &str)] = &[
    ("LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
    ("uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
    ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
];

/// Files that were changed, and those that nobody has listed.
pub(crate) fn check(tree: &Tree) -> Findings {
    let folder = tree.root.join(FOLDER);
    let mut findings = Vec::new();
    for (name, hash) in FILES {
        let path = folder.join(name);
        match run::output(Command::new("sha256sum").arg(&path)) {
            Ok(said) if said.starts_with(hash) => {}
            Ok(said) => {
                findings.push(format!("{FOLDER}/{name}: {}", said.split(' ').next().unwrap_or_default()));
            }
            Err(error) => findings.push(format!("{FOLDER}/{name}: {error:#}")),
        }
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !FILES.iter().any(|(known, _)| name == *known) {
            findings.push(format!("{FOLDER}/{}: not listed", name.to_string_lossy()));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_found() -> anyhow::Result<()> {
        assert_eq!(check(&Tree::of(&[]))?.len(), FILES.len());
        Ok(())
    }
}
