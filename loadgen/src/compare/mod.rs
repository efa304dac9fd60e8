//! `inrush-load compare`: is B better or worse than A, by how much, and how sure is that?
//!
//! ```text
//!   command.rs   options, files, exit code       statistics.rs   change and its interval
//!   mod.rs       which figures, their verdicts   output.rs       table and JSON
//! ```

mod command;
mod output;
pub mod statistics;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::doubts::doubts;
use crate::figures::Figures;
pub use command::{CompareOptions, Failure, compare};
use statistics::{Change, change, mean};

/// Settings that say where a run puts its figures, not what it does.
const NOT_COMPARED: &[&str] = &["json", "hgrm", "hgrm-phase", "acks", "server-pid", "label", "quiet", "tui"];
/// Figures that decide unless others are named.
const DECIDING: &[&str] = &["messages_per_second", "error_share", "server_cpu", "total p50", "total p99"];
/// What of the machine is compared.
const MACHINE: &[&str] =
    &["host", "kernel", "architecture", "cpu", "cpus", "memory_bytes", "tcp_congestion_control"];

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Good {
    More,
    Less,
}

/// What can be said about a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    /// Not: "they are the same".
    NoDifferenceShown,
    TooFewRuns,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifferenceShown => "no difference shown",
            Self::TooFewRuns => "too few runs",
        }
    }
}

/// One figure of both groups.
#[derive(Clone, Debug)]
struct Compared {
    name: String,
    unit: &'static str,
    a: Vec<f64>,
    b: Vec<f64>,
    change: Change,
    verdict: Verdict,
    /// Its being worse fails a comparison with `--fail-if-worse`.
    decides: bool,
}

/// A comparison.
#[derive(Clone, Debug)]
struct Comparison {
    a: Vec<String>,
    b: Vec<String>,
    paired: bool,
    figures: Vec<Compared>,
    warnings: Vec<String>,
}

/// Compares groups. `deciding`: names of the figures that decide; None: the usual ones.
fn comparison(
    a: &[Figures],
    b: &[Figures],
    paired: bool,
    deciding: Option<&[String]>,
    seed: u64,
) -> Comparison {
    let mut figures = Vec::new();
    for (name, unit, good, of) in measures(a, b) {
        let values = |runs: &[Figures]| -> Vec<f64> { runs.iter().filter_map(&of).collect() };
        let (values_a, values_b) = (values(a), values(b));
        // A figure that some run does not have would pair the wrong ones.
        let paired = paired && values_a.len() == a.len() && values_b.len() == b.len();
        let Some(change) = change(&values_a, &values_b, paired, seed) else { continue };
        let verdict = match change.interval {
            None => Verdict::TooFewRuns,
            Some(_) if !change.is_shown() => Verdict::NoDifferenceShown,
            Some(_) if (change.size > 0.0) == (good == Good::More) => Verdict::Better,
            Some(_) => Verdict::Worse,
        };
        let decides = match deciding {
            Some(names) => names.contains(&name),
            None => DECIDING.contains(&name.as_str()),
        };
        figures.push(Compared { name, unit, a: values_a, b: values_b, change, verdict, decides });
    }
    let names = |runs: &[Figures]| runs.iter().map(|run| run.name.clone()).collect();
    Comparison { a: names(a), b: names(b), paired, figures, warnings: warnings(a, b) }
}

type Of = Box<dyn Fn(&Figures) -> Option<f64>>;
/// Name, unit, the good direction, and how a run has it.
type Measure = (String, &'static str, Good, Of);

/// Every figure that the files have.
fn measures(a: &[Figures], b: &[Figures]) -> Vec<Measure> {
    let plain = |pointer: &'static str| -> Of { Box::new(move |run: &Figures| run.number(pointer)) };
    let mut measures: Vec<Measure> = vec![
        ("messages_per_second".to_owned(), "/s", Good::More, plain("/messages_per_second")),
        ("error_share".to_owned(), "", Good::Less, Box::new(error_share)),
        ("server_cpu".to_owned(), "us", Good::Less, plain("/server_cpu/us_per_message")),
        ("generator_cpu".to_owned(), "us", Good::Less, plain("/generator_cpu/us_per_message")),
    ];
    let mut phases: Vec<&str> = Vec::new();
    for run in a.iter().chain(b) {
        for phase in run.phases() {
            if !phases.contains(&phase) {
                phases.push(phase);
            }
        }
    }
    for phase in phases {
        for percentile in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            let pointer = format!("/latency_us/{}/{percentile}", phase.replace('~', "~0").replace('/', "~1"));
            let of = move |run: &Figures| Some(run.number(&pointer)? / 1e3);
            measures.push((format!("{phase} {percentile}"), "ms", Good::Less, Box::new(of)));
        }
    }
    measures
}

/// Errors of everything that was tried.
fn error_share(run: &Figures) -> Option<f64> {
    let errors = run.number("/errors")?;
    let tried = run.number("/counts/started")? + run.number("/warmup_counts/started").unwrap_or(0.0);
    (tried > 0.0).then(|| errors / tried)
}

/// What makes the groups hard to compare.
fn warnings(a: &[Figures], b: &[Figures]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (part, title) in [("settings", "setting"), ("machine", "machine")] {
        let values = |runs: &[Figures]| -> BTreeMap<String, BTreeSet<String>> {
            let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for run in runs {
                for (name, value) in run.json[part].as_object().into_iter().flatten() {
                    let compared = part != "machine" || MACHINE.contains(&name.as_str());
                    if compared && !NOT_COMPARED.contains(&name.as_str()) {
                        all.entry(name.clone()).or_default().insert(text(value));
                    }
                }
            }
            all
        };
        let (values_a, values_b) = (values(a), values(b));
        if values_a.is_empty() || values_b.is_empty() {
            warnings.push(format!("some files do not say their {part}: it cannot be compared"));
            continue;
        }
        let names: BTreeSet<&String> = values_a.keys().chain(values_b.keys()).collect();
        for name in names {
            let list = |values: &BTreeMap<String, BTreeSet<String>>| match values.get(name) {
                Some(values) => values.iter().cloned().collect::<Vec<_>>().join(" | "),
                None => "not given".to_owned(),
            };
            let (in_a, in_b) = (list(&values_a), list(&values_b));
            if in_a != in_b {
                warnings.push(format!("{title} {name} differs: A {in_a}, B {in_b}"));
            } else if values_a.get(name).is_some_and(|values| values.len() > 1) {
                warnings.push(format!("{title} {name} differs among the runs of both groups: {in_a}"));
            }
        }
    }
    for (group, runs) in [("A", a), ("B", b)] {
        for run in runs {
            warnings.extend(doubts(run).into_iter().map(|doubt| format!("{group} {}: {doubt}", run.name)));
        }
    }
    warnings
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A and B took turns: as many of each, and in the order of their starts each two are one of each.
fn alternated(a: &[Figures], b: &[Figures]) -> bool {
    let start = |run: &Figures| run.text("/started_at").map(str::to_owned);
    let mut starts: Vec<(Option<String>, bool)> =
        a.iter().map(|run| (start(run), true)).chain(b.iter().map(|run| (start(run), false))).collect();
    starts.sort();
    a.len() == b.len()
        && starts.iter().all(|(start, _)| start.is_some())
        && starts.chunks(2).all(|pair| pair[0].1 != pair[1].1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    fn run(started_at: &str, rate: f64, extra: &Value) -> Figures {
        let mut json = json!({
            "schema": 1, "started_at": started_at, "errors": 0, "messages_per_second": rate,
            "counts": { "acknowledged": 5000, "started": 5000 },
            "phases": ["total"], "latency_us": { "total": { "p50": 1e6 / rate, "p99": 3e6 / rate } },
            "settings": { "sessions": "50", "json": started_at }, "machine": { "cpu": "x", "started": started_at },
        });
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Figures::new(started_at.to_owned(), json).unwrap()
    }

    fn group(from: u32, rate: f64) -> Vec<Figures> {
        (0..4)
            .map(|n| run(&format!("2026-01-01T00:0{}:00Z", from + 2 * n), rate + f64::from(n), &json!({})))
            .collect()
    }

    #[test]
    fn verdicts_have_the_right_sign() {
        let comparison = comparison(&group(0, 1000.0), &group(1, 900.0), true, None, 1);
        let of = |name: &str| comparison.figures.iter().find(|figure| figure.name == name).unwrap();
        assert_eq!(of("messages_per_second").verdict, Verdict::Worse);
        assert_eq!(of("total p99").verdict, Verdict::Worse);
        assert!(of("total p99").change.size > 0.1 && of("messages_per_second").change.size < -0.09);
        assert_eq!(of("error_share").verdict, Verdict::NoDifferenceShown);
        assert!(
            of("total p99").decides && !comparison.figures.iter().any(|figure| figure.name == "server_cpu")
        );
        assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    }

    #[test]
    fn differing_settings_are_told() {
        let a = [run("2026-01-01T00:00:00Z", 1000.0, &json!({}))];
        let b = [run(
            "2026-01-01T00:01:00Z",
            1000.0,
            &json!({ "settings": { "sessions": "60", "tls": "on" }, "machine": { "cpu": "y" }, "errors": 5 }),
        )];
        let warnings = warnings(&a, &b);
        for word in [
            "setting sessions differs: A 50, B 60",
            "setting tls differs: A not given, B on",
            "machine cpu",
            "5 errors",
        ] {
            assert!(warnings.iter().any(|warning| warning.contains(word)), "{word}: {warnings:?}");
        }
    }

    #[test]
    fn alternation_is_seen() {
        assert!(alternated(&group(0, 1.0), &group(1, 1.0)));
        assert!(!alternated(&group(0, 1.0)[..2], &group(4, 1.0)[..2]));
        assert!(!alternated(&group(0, 1.0), &group(1, 1.0)[..3]));
    }
}
