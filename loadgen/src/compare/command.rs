//! Options and files of `compare`, and what its exit code says.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Comparison, alternated, comparison, output};
use crate::compare::statistics::RUNS_MIN;
use crate::figures::Figures;

/// `--paired`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Paired {
    /// When A and B were run in turns.
    Auto,
    /// In the order of their starts.
    Yes,
    /// Two groups.
    No,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareOptions {
    /// A and B: files of `run --json`, or directories of such files (*.json).
    #[arg(num_args = 2, value_names = ["A", "B"], required_unless_present = "a", conflicts_with = "a")]
    pub groups: Vec<PathBuf>,
    /// Files and directories of group A, what there was before.
    #[arg(long, num_args = 1.., value_name = "RUN.json", requires = "b")]
    pub a: Vec<PathBuf>,
    /// Files and directories of group B, what is judged.
    #[arg(long, num_args = 1.., value_name = "RUN.json", requires = "a")]
    pub b: Vec<PathBuf>,
    /// Whether the runs belong together one by one, which takes out what changes for both.
    #[arg(long, value_enum, default_value = "auto")]
    pub paired: Paired,
    /// End with exit code 1 if a figure that decides is shown to be worse by more than so many percent: its whole interval lies beyond.
    #[arg(long, value_name = "PERCENT")]
    pub fail_if_worse: Option<f64>,
    /// Figures that decide, by their names in the table; may be given several times [default: messages_per_second, error_share, server_cpu,
    /// total p50, total p99].
    #[arg(long, value_name = "FIGURE", requires = "fail_if_worse")]
    pub decide: Vec<String>,
    /// Write the comparison as JSON, `-` for standard output (the table then goes to standard error).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// All phases in the table, not only the total.
    #[arg(long)]
    pub all: bool,
    /// Start of the random choices of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Why a comparison came to no end.
pub type Failure = String;

/// Compares, and writes what was found. True: shown to be worse by more than `--fail-if-worse`.
///
/// # Errors
/// A sentence: files that cannot be read, groups that cannot be paired, too few runs for `--fail-if-worse`, or figures that it cannot judge.
pub fn compare(options: &CompareOptions) -> Result<bool, Failure> {
    let (a, b) = match options.groups.as_slice() {
        [a, b] => (read(std::slice::from_ref(a))?, read(std::slice::from_ref(b))?),
        _ => (read(&options.a)?, read(&options.b)?),
    };
    let paired = match options.paired {
        Paired::No => false,
        Paired::Auto => alternated(&a, &b),
        Paired::Yes if a.len() == b.len() => true,
        Paired::Yes => return Err(format!("{} runs of A and {} of B are no pairs", a.len(), b.len())),
    };
    if let Some(percent) = options.fail_if_worse {
        if !(0.0..=1e6).contains(&percent) {
            return Err(format!("--fail-if-worse {percent} is outside of 0 to 1000000"));
        }
        if a.len().min(b.len()) < RUNS_MIN {
            return Err(format!(
                "--fail-if-worse needs {RUNS_MIN} runs or more of each group: {} of A and {} of B show nothing",
                a.len(),
                b.len()
            ));
        }
    }
    let deciding = (!options.decide.is_empty()).then_some(options.decide.as_slice());
    let comparison = comparison(&a, &b, paired, deciding, options.seed);
    for name in &options.decide {
        if !comparison.figures.iter().any(|figure| figure.name == *name) {
            return Err(format!("--decide {name:?}: no such figure in the files"));
        }
    }
    let failing = options.fail_if_worse.map_or_else(Vec::new, |percent| failing(&comparison, percent));
    let table = output::table(&comparison, options.all, options.fail_if_worse, &failing);
    let failed = |error: io::Error| format!("cannot write the comparison: {error}");
    match &options.json {
        None => io::stdout().write_all(table.as_bytes()).map_err(failed)?,
        Some(path) => {
            let json = format!("{:#}\n", output::json(&comparison, options.fail_if_worse, &failing));
            if path == Path::new("-") {
                io::stdout().write_all(json.as_bytes()).map_err(failed)?;
                io::stderr().write_all(table.as_bytes()).map_err(failed)?;
            } else {
                fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
                io::stdout().write_all(table.as_bytes()).map_err(failed)?;
            }
        }
    }
    if failing.is_empty() && options.fail_if_worse.is_some() && !comparison.not_judged.is_empty() {
        return Err(format!("--fail-if-worse cannot judge {}", comparison.not_judged.join("; ")));
    }
    Ok(!failing.is_empty())
}

/// Names of the figures that fail the comparison.
fn failing(comparison: &Comparison, percent: f64) -> Vec<String> {
    let deciding = comparison.figures.iter().filter(|figure| figure.decides);
    // The middle of the interval may lie beyond by chance; its near end does not.
    let beyond = deciding.filter(|figure| figure.worse_by.is_some_and(|(least, _)| least * 100.0 > percent));
    beyond.map(|figure| figure.name.clone()).collect()
}

/// The runs of files and directories, in the order of their starts.
fn read(paths: &[PathBuf]) -> Result<Vec<Figures>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let before = files.len();
        for entry in fs::read_dir(path).map_err(|error| place(&error))? {
            let file = entry.map_err(|error| place(&error))?.path();
            if file.extension().is_some_and(|end| end == "json") {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(place(&"no *.json in this directory"));
        }
    }
    let mut runs = files.iter().map(|path| Figures::read(path)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by_key(|run| (run.text("/started_at").map(str::to_owned), run.name.clone()));
    Ok(runs)
}
