//! A comparison for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::statistics::RUNS_MIN;
use super::{Compared, Comparison, Verdict, mean};
use crate::html::number;

/// Version of the JSON.
const FORMAT: u32 = 1;

/// The table. `all`: every phase, not only the total.
pub(super) fn table(comparison: &Comparison, all: bool, limit: Option<f64>, failing: &[String]) -> String {
    let mut text = String::new();
    let Comparison { a, b, paired, figures, not_judged, warnings } = comparison;
    let how = if *paired { ", in pairs" } else { "" };
    let _ = writeln!(text, "A: {} runs, B: {} runs{how}", a.len(), b.len());
    for warning in warnings {
        let _ = writeln!(text, "warning: {}", warning.escape_debug());
    }
    let _ = writeln!(
        text,
        "{:<22}{:>12}{:>12}{:>10}  {:<20}verdict on B",
        "mean of the runs", "A", "B", "change", "95 % of changes"
    );
    let shown = |figure: &&Compared| {
        all || figure.decides || !figure.name.contains(' ') || figure.name.starts_with("total ")
    };
    for figure in figures.iter().filter(shown) {
        let change = &figure.change;
        let scaled = |size: f64| {
            if change.absolute { format!("{:+}", Plain(size)) } else { format!("{:+.1} %", size * 100.0) }
        };
        let interval = change
            .interval
            .map_or("–".to_owned(), |(low, high)| format!("{} … {}", scaled(low), scaled(high)));
        let _ = writeln!(
            text,
            "{:<22}{:>12}{:>12}{:>10}  {interval:<20}{}{}",
            figure.name,
            format!("{} {}", number(mean(&figure.a)), figure.unit).trim_end(),
            format!("{} {}", number(mean(&figure.b)), figure.unit).trim_end(),
            scaled(change.size),
            figure.verdict.name(),
            if failing.contains(&figure.name) { " (fails)" } else { "" }
        );
    }
    if a.len().min(b.len()) < RUNS_MIN {
        let _ = writeln!(
            text,
            "Fewer than {RUNS_MIN} runs of a group: a change may be chance, no verdict is given."
        );
    } else {
        let judged = figures.len();
        let _ = writeln!(
            text,
            "{judged} figures: about {} would look different by chance alone.",
            number((judged as f64 * 0.05).ceil())
        );
    }
    if let Some(limit) = limit {
        for figure in not_judged {
            let _ = writeln!(text, "Not judged: {figure}.");
        }
        let _ = match failing {
            [] if !not_judged.is_empty() => {
                writeln!(
                    text,
                    "No other figure that decides is shown to be worse by more than {} %.",
                    number(limit)
                )
            }
            [] => writeln!(
                text,
                "No figure that decides is shown to be worse by more than {} %.",
                number(limit)
            ),
            names => writeln!(text, "Worse by more than {} %: {}.", number(limit), names.join(", ")),
        };
    }
    text
}

/// With its sign, a few digits.
struct Plain(f64);

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 0.0 && f.sign_plus() {
            f.write_str("+")?;
        }
        f.write_str(&number(self.0))
    }
}

/// For programs.
pub(super) fn json(comparison: &Comparison, limit: Option<f64>, failing: &[String]) -> Value {
    let figures: Vec<Value> = comparison
        .figures
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "a": figure.a,
                "b": figure.b,
                "change": figure.change.size,
                "change_is": if figure.change.absolute { "difference" } else { "ratio_minus_1" },
                "interval_95": figure.change.interval.map(|(low, high)| [low, high]),
                "verdict": match figure.verdict {
                    Verdict::Better => "better",
                    Verdict::Worse => "worse",
                    Verdict::NoDifferenceShown => "no_difference_shown",
                    Verdict::TooFewRuns => "too_few_runs",
                },
                "worse_by_percent": figure.worse_by.map(|(least, most)| [least * 100.0, most * 100.0]),
                "decides": figure.decides,
            })
        })
        .collect();
    json!({
        "format": FORMAT,
        "a": comparison.a,
        "b": comparison.b,
        "paired": comparison.paired,
        "warnings": comparison.warnings,
        "figures": figures,
        "fail_if_worse_percent": limit,
        "failing": failing,
        "not_judged": comparison.not_judged,
    })
}
