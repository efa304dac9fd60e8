//! `inrush-load report`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::figures::Figures;

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Files of `run --json`.
    #[arg(required = true, value_name = "RUN.json")]
    pub runs: Vec<PathBuf>,
    /// Where the page goes, `-` for standard output.
    #[arg(short, long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Title of the page.
    #[arg(long, value_name = "TEXT", default_value = "Load report")]
    pub title: String,
}

/// Writes the page.
///
/// # Errors
/// A sentence: a file cannot be read, is of another layout, or the page cannot be written.
pub fn report(options: &ReportOptions) -> Result<(), String> {
    let runs = options.runs.iter().map(|path| Figures::read(path)).collect::<Result<Vec<_>, _>>()?;
    let page = super::page(&runs, &options.title)?;
    let written = if options.output == Path::new("-") {
        io::stdout().write_all(page.as_bytes())
    } else {
        fs::write(&options.output, page)
    };
    written.map_err(|error| format!("{}: {error}", options.output.display()))
}
