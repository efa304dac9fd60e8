//! What a benchmark has found, with every single run: one form for all of them, written as JSON, shown as Markdown, and read
//! again for the page and its plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::{self, Machine};
use super::report::{self, Summary};

/// Rises when a field changes its meaning.
const SCHEMA: u32 = 1;

/// A figure: its name in the JSON, and its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

/// Processor time of the whole server a message.
pub(super) const CPU: Figure = Figure { name: "server CPU per message", unit: "µs" };
/// Messages acknowledged a second.
pub(super) const RATE: Figure = Figure { name: "messages per second", unit: "1/s" };
/// Start of a message to its final reply, the middle one.
pub(super) const P50: Figure = Figure { name: "p50 of the total", unit: "µs" };
/// Start of a message to its final reply, the hundredth.
pub(super) const P99: Figure = Figure { name: "p99 of the total", unit: "µs" };
/// Most resident memory during the run.
pub(super) const MEMORY: Figure = Figure { name: "resident memory, peak", unit: "MiB" };

/// Octets that the log has written for each message.
pub(super) const LOG_OCTETS: Figure =
    Figure { name: "octets written to the log per message", unit: "octets" };
/// Messages that one write has made durable.
pub(super) const LOG_MESSAGES: Figure = Figure { name: "messages per write of the log", unit: "messages" };

/// Octets received and sent for each message, without the headers of TCP and IP.
pub(super) const WIRE_OCTETS: Figure =
    Figure { name: "octets received and sent per message", unit: "octets" };

/// One figure of one subject in one scenario, in all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) scenario: String,
    /// What was measured: a server, or two of them (`inrush : floor`) for a ratio.
    pub(super) subject: String,
    pub(super) figure: String,
    pub(super) unit: String,
    /// Where it lies on the axis of the scenario (connections, octets), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<f64>,
    /// In the order of the rounds.
    pub(super) runs: Vec<f64>,
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Series {
    fn summarize(&mut self) {
        let Summary { median, least, greatest } = Summary::of(self.runs.iter().copied());
        (self.median, self.least, self.greatest) = (median, least, greatest);
    }
}

/// Of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) schema: u32,
    /// Which one: `system`, `compare`, …
    pub(super) bench: String,
    pub(super) date: String,
    /// The command that repeats it.
    pub(super) command: String,
    pub(super) machine: Machine,
    pub(super) settings: BTreeMap<String, Value>,
    /// What has to be said to read the figures.
    pub(super) notes: Vec<String>,
    pub(super) series: Vec<Series>,
}

impl Outcome {
    /// Nothing yet, of a benchmark that begins now; logs and queues lie in `folder`.
    pub(super) fn begin(bench: &str, folder: &Path) -> Self {
        let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Self {
            schema: SCHEMA,
            bench: bench.to_owned(),
            date: machine::date(),
            command: format!("cargo xtask {words}"),
            machine: Machine::look(folder),
            settings: BTreeMap::new(),
            notes: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Notes how it is measured.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// Adds one run of a figure.
    pub(super) fn add(&mut self, scenario: &str, subject: &str, figure: Figure, at: Option<f64>, run: f64) {
        let same = |series: &&mut Series| {
            series.scenario == scenario
                && series.subject == subject
                && series.figure == figure.name
                && series.at == at
        };
        if let Some(series) = self.series.iter_mut().find(same) {
            series.runs.push(run);
            return series.summarize();
        }
        let mut series = Series {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            figure: figure.name.to_owned(),
            unit: figure.unit.to_owned(),
            at,
            runs: vec![run],
            median: 0.0,
            least: 0.0,
            greatest: 0.0,
        };
        series.summarize();
        self.series.push(series);
    }

    /// The series of a figure.
    pub(super) fn find(
        &self,
        scenario: &str,
        subject: &str,
        figure: &str,
        at: Option<f64>,
    ) -> Option<&Series> {
        self.series.iter().find(|series| {
            series.scenario == scenario
                && series.subject == subject
                && series.figure == figure
                && series.at == at
        })
    }

    /// Adds the ratios of `subject` to `other` in every scenario that has both and not yet the ratio: each run against that of the
    /// same round.
    pub(super) fn relate(&mut self, subject: &str, other: &str, figure: Figure) {
        let mut ratios = Vec::new();
        for ours in
            self.series.iter().filter(|series| series.subject == subject && series.figure == figure.name)
        {
            let Some(theirs) = self.find(&ours.scenario, other, figure.name, ours.at) else { continue };
            let name = format!("{subject} : {other}");
            if self.find(&ours.scenario, &name, figure.name, ours.at).is_some() {
                continue;
            }
            let mut ratio = Series {
                subject: name,
                unit: "ratio".to_owned(),
                runs: ours.runs.iter().zip(&theirs.runs).map(|(ours, theirs)| ours / theirs).collect(),
                ..ours.clone()
            };
            ratio.summarize();
            ratios.push(ratio);
        }
        self.series.extend(ratios);
    }

    /// Adds, for each place of a figure on its axis but the `first`, how many times the figure there is that at the first, in the same round.
    pub(super) fn relate_to_first(
        &mut self,
        scenario: &str,
        subject: &str,
        figure: Figure,
        first: f64,
        name: &'static str,
    ) {
        let Some(base) = self.find(scenario, subject, figure.name, Some(first)).cloned() else { return };
        let of_the_figure = |series: &&Series| {
            series.scenario == scenario
                && series.subject == subject
                && series.figure == figure.name
                && series.at != Some(first)
        };
        let others: Vec<Series> = self.series.iter().filter(of_the_figure).cloned().collect();
        for other in others {
            for (run, first) in other.runs.iter().zip(&base.runs) {
                self.add(scenario, subject, Figure { name, unit: "ratio" }, other.at, run / first);
            }
        }
    }

    /// The report for people.
    pub(super) fn markdown(&self) -> String {
        let mut facts = vec![("date", self.date.clone())];
        facts.extend(self.machine.facts());
        facts.push(("command", format!("`{}`", self.command)));
        let mut text = report::facts(&facts);
        for (name, value) in &self.settings {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // A String takes every write.
            let _ = writeln!(text, "| {name} | {shown} |");
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        for scenario in self.scenarios() {
            let _ = writeln!(text, "\n### {scenario}\n");
            text.push_str(
                "| subject | figure | at | median | least | most | unit |\n|---|---|---|---|---|---|---|\n",
            );
            for series in self.series.iter().filter(|series| series.scenario == scenario) {
                let at = series.at.map(|at| at.to_string()).unwrap_or_default();
                let Series { subject, figure, unit, median, least, greatest, .. } = series;
                let _ = writeln!(
                    text,
                    "| {subject} | {figure} | {at} | {} | {} | {} | {unit} |",
                    shown(*median),
                    shown(*least),
                    shown(*greatest)
                );
            }
        }
        text
    }

    /// The scenarios, in the order in which they were begun.
    pub(super) fn scenarios(&self) -> Vec<&str> {
        let mut scenarios: Vec<&str> = Vec::new();
        for series in &self.series {
            if !scenarios.contains(&series.scenario.as_str()) {
                scenarios.push(&series.scenario);
            }
        }
        scenarios
    }

    /// Prints it, and writes it where it is asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn publish(&self, files: &Files) -> anyhow::Result<()> {
        let text = self.markdown();
        println!("\n{text}");
        if let Some(file) = &files.markdown {
            fs::write(file, &text).with_context(|| file.display().to_string())?;
        }
        if let Some(file) = &files.json {
            let json = format!("{}\n", serde_json::to_string_pretty(self)?);
            fs::write(file, json).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Reads a file that [`publish`](Self::publish) has written.
    ///
    /// # Errors
    /// It is not such a file, or of another schema.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file)?;
        let outcome: Self = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        ensure!(outcome.schema == SCHEMA, "{}: schema {}, not {SCHEMA}", file.display(), outcome.schema);
        Ok(outcome)
    }
}

/// Where a result goes besides standard output.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Files {
    /// Write the result as JSON here, with every single run
    #[arg(long)]
    pub(super) json: Option<std::path::PathBuf>,
    /// Write the result as Markdown here
    #[arg(long)]
    pub(super) markdown: Option<std::path::PathBuf>,
}

/// Three digits or more, whatever the size.
pub(super) fn shown(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "–".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let mut outcome = Outcome::begin("system", Path::new("/"));
        for (floor, inrush) in [(10.0, 12.0), (20.0, 22.0), (10.0, 11.0)] {
            outcome.add("reuse", "floor", CPU, None, floor);
            outcome.add("reuse", "inrush", CPU, None, inrush);
        }
        outcome.add("other", "inrush", CPU, None, 1.0);
        outcome.relate("inrush", "floor", CPU);
        let ratio = outcome.find("reuse", "inrush : floor", CPU.name, None).expect("both are there");
        assert_eq!((ratio.median, ratio.least, ratio.greatest), (1.1, 1.1, 1.2));
        assert!(outcome.find("other", "inrush : floor", CPU.name, None).is_none());
        let count = outcome.series.len();
        outcome.relate("inrush", "floor", CPU);
        assert_eq!(outcome.series.len(), count, "once is enough");
        let text = outcome.markdown();
        assert!(text.contains("| inrush | server CPU per message |  | 12.0 | 11.0 | 22.0 | µs |"), "{text}");
    }

    #[test]
    fn times_the_first_of_the_same_round() {
        let mut outcome = Outcome::begin("scale", Path::new("/"));
        for (one, two) in [(10.0, 19.0), (20.0, 40.0), (10.0, 18.0)] {
            outcome.add("cores", "inrush", RATE, Some(1.0), one);
            outcome.add("cores", "inrush", RATE, Some(2.0), two);
        }
        outcome.relate_to_first("cores", "inrush", RATE, 1.0, "times one core");
        let times = outcome.find("cores", "inrush", "times one core", Some(2.0)).expect("both are there");
        assert_eq!((times.median, times.least, times.greatest), (1.9, 1.8, 2.0));
        assert!(outcome.find("cores", "inrush", "times one core", Some(1.0)).is_none());
    }

    #[test]
    fn what_is_written_is_read() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut outcome = Outcome::begin("scale", folder.path());
        outcome.set("rounds", 3);
        outcome.add("connections", "inrush", CPU, Some(1000.0), 5.5);
        let files = Files { json: Some(folder.path().join("a.json")), markdown: None };
        outcome.publish(&files)?;
        let file = files.json.context("as set")?;
        assert_eq!(Outcome::read(&file)?, outcome);
        fs::write(&file, fs::read_to_string(&file)?.replace("\"schema\": 1", "\"schema\": 9"))?;
        assert!(Outcome::read(&file).is_err_and(|error| error.to_string().contains("schema 9")));
        Ok(())
    }

    #[test]
    fn three_digits() {
        assert_eq!([0.1234, 12.34, 1234.5, f64::NAN].map(shown), ["0.123", "12.3", "1234", "–"]);
    }
}
