//! The page of a release: the results of all benchmarks as Markdown, with their plots as SVG files beside it.
//!
//! It is made of the JSON files of the runs alone, so that anybody can make it again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::plot;
use super::result::{Outcome, Series};
use crate::run;

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The JSON files, in the order of the page; a folder stands for all of them in it
    #[arg(required = true)]
    pub(super) results: Vec<PathBuf>,
    /// Name of the page, without its end
    #[arg(long)]
    pub(super) name: String,
    /// Where the page and its plots go; bench/results where it is not said
    #[arg(long)]
    pub(super) folder: Option<PathBuf>,
}

/// Writes the page.
///
/// # Errors
/// There is no result, one cannot be read, or a file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let outcomes = read(&arguments.results)?;
    let folder = arguments.folder.clone().unwrap_or_else(|| run::root().join("bench/results"));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut text =
        format!("# {}\n\nMade by `cargo xtask bench page` from the JSON of each run.\n", arguments.name);
    for (index, outcome) in outcomes.iter().enumerate() {
        let _ = write!(text, "\n## {}\n\n", outcome.bench);
        for (plot, (title, series)) in plots(outcome).iter().enumerate() {
            let file = format!("{}-{}-{}-{}.svg", arguments.name, index + 1, outcome.bench, plot + 1);
            draw(&folder.join(&file), title, series)?;
            // A String takes every write.
            let _ = writeln!(text, "![{title}]({file})");
        }
        let _ = write!(text, "\n{}", outcome.markdown());
    }
    let page = folder.join(format!("{}.md", arguments.name));
    fs::write(&page, text).with_context(|| page.display().to_string())?;
    println!("{}", page.display());
    Ok(())
}

fn read(results: &[PathBuf]) -> anyhow::Result<Vec<Outcome>> {
    let mut files = Vec::new();
    for result in results {
        if !result.is_dir() {
            files.push(result.clone());
            continue;
        }
        let mut there = Vec::new();
        for entry in fs::read_dir(result)? {
            there.push(entry?.path());
        }
        there.retain(|file| file.extension().is_some_and(|end| end == "json"));
        there.sort();
        files.extend(there);
    }
    ensure!(!files.is_empty(), "no JSON file in {}", results[0].display());
    files.iter().map(|file| Outcome::read(file)).collect()
}

/// A plot for each figure: curves where its series have an axis, else bars over all scenarios.
fn plots(outcome: &Outcome) -> Vec<(String, Vec<&Series>)> {
    let mut plots: Vec<(String, Vec<&Series>)> = Vec::new();
    for series in &outcome.series {
        let of = if series.unit == "ratio" { "ratio of " } else { "" };
        let title = match series.at {
            Some(_) => format!("{}: {of}{}", series.scenario, series.figure),
            None => format!("{of}{}", series.figure),
        };
        match plots.iter_mut().find(|(known, _)| *known == title) {
            Some((_, all)) => all.push(series),
            None => plots.push((title, vec![series])),
        }
    }
    plots
}

fn draw(file: &Path, title: &str, series: &[&Series]) -> anyhow::Result<()> {
    if series.iter().all(|series| series.at.is_some()) {
        return plot::curves(file, title, series);
    }
    plot::bars(file, title, series, |series| format!("{}, {}", series.scenario, series.subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::result::{CPU, Files};

    #[test]
    fn a_page_has_every_figure_and_its_plots() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut outcome = Outcome::begin("system", folder.path());
        for (server, cpu) in [("floor", 10.0), ("inrush", 12.0), ("inrush", 14.0)] {
            outcome.add("reuse", server, CPU, None, cpu);
        }
        outcome.relate("inrush", "floor", CPU);
        for (connections, cpu) in [(10.0, 5.0), (1000.0, 6.0)] {
            outcome.add("connections", "inrush", CPU, Some(connections), cpu);
        }
        let json = folder.path().join("a.json");
        outcome.publish(&Files { json: Some(json), markdown: None })?;
        let results = vec![folder.path().to_owned()];
        run(&Arguments { results, name: "page".into(), folder: Some(folder.path().to_owned()) })?;
        let text = fs::read_to_string(folder.path().join("page.md"))?;
        for plot in 1..=3 {
            let name = format!("page-1-system-{plot}.svg");
            assert!(text.contains(&format!("]({name})")), "{text}");
            let svg = fs::read_to_string(folder.path().join(&name))?;
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        }
        assert!(text.contains("| inrush : floor | server CPU per message |"), "{text}");
        Ok(())
    }

    #[test]
    fn without_a_result_there_is_no_page() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(
            read(&[folder.path().to_owned()]).is_err_and(|error| error.to_string().contains("no JSON file"))
        );
    }
}
