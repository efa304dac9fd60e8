//! What no linter sees. Each rule is a function over the tree that returns its findings, one line each.
//!
//! Run by `cargo xtask tidy` and as a test.

mod dialogs;
mod files;
mod floors;
mod licences;
mod links;
mod markers;
mod vendored;

use anyhow::bail;

use crate::run;
use files::Tree;

type Findings = anyhow::Result<Vec<String>>;
type Rule = (&'static str, fn(&Tree) -> Findings);

const RULES: &[Rule] = &[
    ("leftover marker words", markers::check),
    ("files over 700 lines", files::sizes),
    ("dialogs without a section", dialogs::check),
    ("links that lead nowhere", links::check),
    ("imports from the same floor or above", floors::check),
    ("files of others that were changed", vendored::check),
    ("licences outside the allow-list", licences::check),
];

/// Runs every rule and prints the findings.
///
/// # Errors
/// Something was found, or the tree cannot be read.
pub(crate) fn run() -> anyhow::Result<()> {
    run::step("tidy");
    let tree = Tree::read(run::root())?;
    let mut count = 0;
    for (name, rule) in RULES {
        for finding in rule(&tree)? {
            println!("   {name}: {finding}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} findings");
    }
    println!("   {} files, no findings", tree.files.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() -> anyhow::Result<()> {
        run()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() -> anyhow::Result<()> {
        let marker = concat!("// TO", "DO: later\n");
        let long = "//\n".repeat(701);
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", marker),
            ("crates/a/src/long.rs", &long),
            ("tests/dialogs/a.smtp", "C: QUIT\n"),
            ("README.md", "[gone](docs/gone.md) and [no such part](#nowhere)\n"),
        ]);
        assert_eq!(markers::check(&tree)?.len(), 1);
        assert_eq!(files::sizes(&tree)?.len(), 1);
        assert_eq!(dialogs::check(&tree)?.len(), 1);
        assert_eq!(links::check(&tree)?.len(), 2);
        Ok(())
    }
}
