//! `docs/metrics.md`, made from the table.

use std::fmt::Write as _;

use crate::table::{self, Kind, LABELS};

/// The text of `docs/metrics.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Scraped at `/metrics` of the admin address (`127.0.0.1:9925` by default): OpenMetrics text, or the classic text format when the\n\
         client asks for `text/plain`. All names begin with `inrush_`; units are base units (seconds, bytes = octets); counters end in `_total`.\n\n",
    );
    let labels = LABELS.map(|label| format!("`{label}`")).join(", ");
    let _ = writeln!(
        text,
        "Labels are only {labels}; info metrics carry facts of the build besides. Their values are closed sets (`route` names\n\
         routes and consumers, `shard` logs), so the number of series is bounded: no label ever holds an address or a domain. Values are added up over cores unless `core` is among the labels.\n\n\
         Durations are kept in cells of 1.6 % width from 1 µs to 35 min; `_sum` is computed from the cells (within 0.8 %), a bucket counts\n\
         only what surely was not above its bound, and `/api/v1/status` shows quantiles over the cells.\n"
    );
    for (title, kind) in [
        ("Counters", Kind::Counter),
        ("Gauges", Kind::Gauge),
        ("Histograms", Kind::Histogram),
        ("Info", Kind::Info),
    ] {
        let _ = write!(text, "## {title}\n\n| name | labels | meaning |\n|---|---|---|\n");
        for metric in table::all().iter().filter(|metric| metric.kind == kind) {
            let labels =
                metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let mut help = metric.help.replace('|', "\\|");
            if !metric.values.is_empty() {
                let values =
                    metric.values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
                let _ = write!(help, " Values: {values}.");
            }
            let _ = writeln!(text, "| `{}` | {labels} | {help} |", metric.name);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
