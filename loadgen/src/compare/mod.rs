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
use statistics::{Change, RUNS_MIN, change, mean};

/// Settings that say where a run puts its figures, not what it does.
const NOT_COMPARED: &[&str] = &["json", "hgrm", "hgrm-phase", "acks", "server-pid", "label", "quiet", "tui"];
/// The figure that is a share, and mostly 0.
const ERROR_SHARE: &str = "error_share";
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
    /// By how much B is worse, as a share: least and most with 95 % confidence; negative where it is better. None: it cannot be said.
    worse_by: Option<(f64, f64)>,
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
    /// Figures that decide and of which nothing can be said, with the reason.
    not_judged: Vec<String>,
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
    let mut not_judged = Vec::new();
    let mut told = BTreeSet::new();
    let mut warnings = warnings(a, b);
    for (name, unit, good, of) in measures(a, b) {
        let values = |runs: &[Figures]| -> Vec<f64> { runs.iter().filter_map(&of).collect() };
        let (values_a, values_b) = (values(a), values(b));
        let decides = match deciding {
            Some(names) => names.contains(&name),
            None => DECIDING.contains(&name.as_str()),
        };
        if values_a.is_empty() && values_b.is_empty() {
            continue;
        }
        // All percentiles of a phase are there or none is.
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        for (group, found, runs) in [("A", values_a.len(), a.len()), ("B", values_b.len(), b.len())] {
            if found < runs && told.insert((kind.clone(), group)) {
                warnings.push(format!("{kind} is missing in {} of {runs} runs of {group}", runs - found));
            }
            if decides && found < RUNS_MIN && runs >= RUNS_MIN {
                not_judged.push(format!("{name}: {found} of {runs} runs of {group} have it"));
            }
            let zeros = if group == "A" { &values_a } else { &values_b };
            let zeros = zeros.iter().filter(|&&value| value <= 0.0).count();
            if zeros > 0 && name != ERROR_SHARE {
                warnings.push(format!(
                    "{name} is 0 in {zeros} of {runs} runs of {group}: its change is a difference, not a ratio"
                ));
            }
        }
        // A figure that some run does not have would pair the wrong ones.
        let paired = paired && values_a.len() == a.len() && values_b.len() == b.len();
        let Some(change) = change(&values_a, &values_b, paired, seed) else { continue };
        let verdict = match change.interval {
            None => Verdict::TooFewRuns,
            Some(_) if !change.is_shown() => Verdict::NoDifferenceShown,
            Some(_) if (change.size > 0.0) == (good == Good::More) => Verdict::Better,
            Some(_) => Verdict::Worse,
        };
        let worse_by = worse_by(&name, &change, good, mean(&values_a));
        if decides && change.interval.is_some() && worse_by.is_none() {
            not_judged.push(format!("{name}: it is 0 in A, of which nothing is a percentage"));
        }
        figures.push(Compared { name, unit, a: values_a, b: values_b, change, verdict, worse_by, decides });
    }
    let names = |runs: &[Figures]| runs.iter().map(|run| run.name.clone()).collect();
    Comparison { a: names(a), b: names(b), paired, figures, not_judged, warnings }
}

/// How much worse B is than A as a share, from the interval of the change. A difference of shares is one already; another difference is taken as a
/// share of `mean_a`.
fn worse_by(name: &str, change: &Change, good: Good, mean_a: f64) -> Option<(f64, f64)> {
    let (low, high) = change.interval?;
    let scale = match change.absolute {
        true if name == ERROR_SHARE => 1.0,
        true if mean_a > 0.0 => mean_a,
        true => return None,
        false => 1.0,
    };
    Some(match good {
        Good::Less => (low / scale, high / scale),
        Good::More => (-high / scale, -low / scale),
    })
}

type Of = Box<dyn Fn(&Figures) -> Option<f64>>;
/// Name, unit, the good direction, and how a run has it.
type Measure = (String, &'static str, Good, Of);

/// Every figure that the files have.
fn measures(a: &[Figures], b: &[Figures]) -> Vec<Measure> {
    let plain = |pointer: &'static str| -> Of { Box::new(move |run: &Figures| run.number(pointer)) };
    let mut measures: Vec<Measure> = vec![
        ("messages_per_second".to_owned(), "/s", Good::More, plain("/messages_per_second")),
        (ERROR_SHARE.to_owned(), "", Good::Less, Box::new(error_share)),
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
    fn what_is_missing_or_zero_is_told_and_not_taken_for_the_same() {
        let with = |from: u32, cpu: &[Option<f64>]| -> Vec<Figures> {
            let runs = cpu.iter().enumerate().map(|(n, cpu)| {
                let extra = json!({ "server_cpu": { "us_per_message": cpu } });
                run(&format!("2026-01-01T00:{from}{n}:00Z"), 1000.0 + n as f64, &extra)
            });
            runs.collect()
        };
        let whole = [Some(10.0), Some(11.0), Some(10.5), Some(10.2)];
        let of = |b: &[Option<f64>]| comparison(&with(0, &whole), &with(1, b), false, None, 1);
        let said = |comparison: &Comparison, word: &str| {
            let all = comparison.warnings.iter().chain(&comparison.not_judged);
            assert!(all.clone().any(|text| text.contains(word)), "{word}: {:?}", all.collect::<Vec<_>>());
        };
        let one_lacks = of(&[Some(10.0), None, Some(11.0), Some(10.5)]);
        said(&one_lacks, "server_cpu is missing in 1 of 4 runs of B");
        assert!(one_lacks.not_judged.is_empty());
        let all_lack = of(&[None; 4]);
        said(&all_lack, "server_cpu: 0 of 4 runs of B have it");
        let zeros = of(&[Some(0.0), Some(10.0), Some(11.0), Some(10.5)]);
        said(&zeros, "server_cpu is 0 in 1 of 4 runs of B");
        let from_zero = comparison(&with(0, &[Some(0.0); 4]), &with(1, &whole), false, None, 1);
        said(&from_zero, "server_cpu: it is 0 in A");
        assert!(of(&whole).warnings.is_empty() && of(&whole).not_judged.is_empty());
    }

    #[test]
    fn how_much_worse_is_the_whole_interval() {
        let change = |low, high, absolute| Change { size: 0.0, interval: Some((low, high)), absolute };
        let ratio = change(-0.2, -0.1, false);
        assert_eq!(worse_by("messages_per_second", &ratio, Good::More, 9.0), Some((0.1, 0.2)));
        assert_eq!(worse_by("total p99", &ratio, Good::Less, 9.0), Some((-0.2, -0.1)));
        // 50 a second fewer of 1,000, and 5 in 100 messages more.
        let difference = change(-60.0, -50.0, true);
        assert_eq!(worse_by("messages_per_second", &difference, Good::More, 1000.0), Some((0.05, 0.06)));
        assert_eq!(worse_by(ERROR_SHARE, &change(0.05, 0.06, true), Good::Less, 0.5), Some((0.05, 0.06)));
        assert_eq!(worse_by("server_cpu", &difference, Good::Less, 0.0), None);
    }

    #[test]
    fn alternation_is_seen() {
        assert!(alternated(&group(0, 1.0), &group(1, 1.0)));
        assert!(!alternated(&group(0, 1.0)[..2], &group(4, 1.0)[..2]));
        assert!(!alternated(&group(0, 1.0), &group(1, 1.0)[..3]));
    }
}
