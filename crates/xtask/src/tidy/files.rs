//! The text files of the tree, read once for all rules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Findings;

const LINES_MAX: usize = 700;
/// Build output, downloaded inputs and what git keeps: not ours to check.
const SKIPPED: &[&str] = &["target", ".git", "artifacts", "coverage", "inrush-data", "corpus"];
const TEXT: &[&str] = &["rs", "md", "toml", "sh", "py", "smtp"];

/// A text file: path from the root, contents.
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All text files, and the root for rules that ask whether something else exists.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<TextFile>,
}

impl Tree {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// A folder or file cannot be read, or a text file is not UTF-8.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: Vec::new() };
        tree.walk(root)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// A tree that exists only here.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| TextFile { path: (*path).into(), text: (*text).into() });
        Self { root: "/nonexistent".into(), files: files.collect() }
    }

    /// The files whose names end so.
    pub(crate) fn ending<'t>(&'t self, end: &'t str) -> impl Iterator<Item = &'t TextFile> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    fn walk(&mut self, folder: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.walk(&path)?;
            } else if kind.is_file()
                && path.extension().is_some_and(|end| TEXT.iter().any(|text| end == *text))
            {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(&self.root)?.to_string_lossy().into_owned();
                self.files.push(TextFile { path, text });
            }
        }
        Ok(())
    }
}

/// Sources that have grown past one idea a file.
pub(crate) fn sizes(tree: &Tree) -> Findings {
    let sources = tree.ending(".rs").chain(tree.ending(".py")).chain(tree.ending(".sh"));
    let lines = sources.map(|file| (file, file.text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > LINES_MAX);
    Ok(long.map(|(file, lines)| format!("{}: {lines} lines", file.path)).collect())
}
