//! Medians, spread and ratios of a comparison, as Markdown.

use std::fmt::{Display, Write as _};

/// One run of one server in one mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Server processor time a message, in microseconds.
    pub(crate) cpu_us: f64,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// All runs of one server in one mode.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// The server.
    pub(crate) server: &'static str,
    /// The mode.
    pub(crate) mode: &'static str,
    /// Its runs, in order.
    pub(crate) runs: Vec<Run>,
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Summary {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
        Self { median: f64::midpoint(low, high), least: at(0), greatest: at(sorted.len().saturating_sub(1)) }
    }

    fn shown(self) -> String {
        format!("{:.1} ({:.1}–{:.1})", self.median, self.least, self.greatest)
    }
}

impl Series {
    fn cpu(&self) -> Summary {
        Summary::of(self.runs.iter().map(|run| run.cpu_us))
    }

    fn rate(&self) -> Summary {
        Summary::of(self.runs.iter().map(|run| run.rate))
    }
}

/// The tables, one for each mode; ratios are of medians, each against the server that is `ours`.
pub(crate) fn markdown(facts: &[(&str, String)], series: &[Series], ours: &str) -> String {
    let mut text = self::facts(facts);
    // A String takes every write.
    for mode in modes(series) {
        let _ = writeln!(text, "\n### {mode}\n");
        let _ = writeln!(
            text,
            "| server | server CPU µs/message | messages/s | CPU, {ours} : it | messages/s, {ours} : it |"
        );
        text.push_str("| --- | --- | --- | --- | --- |\n");
        let our = series.iter().find(|series| series.mode == mode && series.server == ours);
        for other in series.iter().filter(|series| series.mode == mode) {
            let (cpu, rate) = (other.cpu(), other.rate());
            let ratios = our.map_or([f64::NAN; 2], |our| {
                [our.cpu().median / cpu.median, our.rate().median / rate.median]
            });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.3} | {:.2} |",
                other.server,
                cpu.shown(),
                rate.shown(),
                ratios[0],
                ratios[1]
            );
        }
    }
    text
}

/// Under which conditions it was measured.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let mut text = String::from("| fact | value |\n| --- | --- |\n");
    // A String takes every write.
    for (fact, value) in facts {
        let _ = writeln!(text, "| {fact} | {value} |");
    }
    text
}

/// Figures that are no comparison of servers, each with its spread.
pub(super) fn figures(rows: &[(impl Display, Summary)]) -> String {
    let mut text = String::from("| figure | median | least | most |\n| --- | --- | --- | --- |\n");
    // A String takes every write.
    for (name, Summary { median, least, greatest }) in rows {
        let _ = writeln!(text, "| {name} | {median:.2} | {least:.2} | {greatest:.2} |");
    }
    text
}

fn modes(series: &[Series]) -> Vec<&'static str> {
    let mut modes: Vec<&'static str> = Vec::new();
    for series in series {
        if !modes.contains(&series.mode) {
            modes.push(series.mode);
        }
    }
    modes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(summary, Summary { median: 2.5, least: 1.0, greatest: 4.0 });
        let series = |server, cpu_us, rate| Series { server, mode: "m", runs: vec![Run { cpu_us, rate }] };
        let text = markdown(&[], &[series("other", 100.0, 10.0), series("ours", 5.0, 80.0)], "ours");
        assert!(text.contains("| other | 100.0 (100.0–100.0) | 10.0 (10.0–10.0) | 0.050 | 8.00 |"), "{text}");
    }
}
