//! Medians and spread, and their tables.

use std::fmt::{Display, Write as _};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(summary, Summary { median: 2.5, least: 1.0, greatest: 4.0 });
    }
}
