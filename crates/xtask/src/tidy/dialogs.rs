//! Every dialog names the section it tests in its first line, so that sections without a test can be listed.

use super::Findings;
use super::files::Tree;

/// Dialogs whose first line names no section.
pub(crate) fn check(tree: &Tree) -> Findings {
    let dialogs = tree.ending(".smtp").filter(|file| file.path.starts_with("tests/dialogs/"));
    let without = dialogs.filter(|file| !names_section(file.text.lines().next().unwrap_or_default()));
    Ok(without.map(|file| file.path.clone()).collect())
}

fn names_section(line: &str) -> bool {
    // XCLIENT has no other standard.
    line.starts_with('#')
        && (line.contains("RFC ") && line.contains('§') || line.ends_with(" XCLIENT_README"))
}
