//! `docs/metrics.md`, made from the table.

use std::fmt::Write as _;

use crate::exemplars;
use crate::table::{self, Kind, LABELS};
use crate::talkers::TALKERS_MAX;

/// The text of `docs/metrics.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Scraped at `/metrics` of the admin address (`127.0.0.1:9925` by default), in the format that `Accept` prefers: protobuf when it is asked for,\n\
         the classic text format for `text/plain`, else OpenMetrics text. All names begin with `inrush_`; units are base units (seconds, bytes = octets);\n\
         counters end in `_total`. How Prometheus is set up for it, with rules and a dashboard: [deploy/prometheus](../deploy/prometheus/README.md);\n\
         what to do when an alert fires: [incidents.md](incidents.md).\n\n",
    );
    let labels = LABELS.map(|label| format!("`{label}`")).join(", ");
    let _ = writeln!(
        text,
        "Labels are only {labels}; info metrics carry facts of the build besides. Their values are closed sets (`route` names\n\
         routes and consumers, `shard` logs), so the number of series is bounded: no label ever holds an address or a domain. Values are added up over cores unless `core` is among the labels.\n\n\
         Durations are kept in cells of 1.6 % width from 1 µs to 35 min; `_sum` is computed from the cells (within 0.8 %), a bucket counts\n\
         only what surely was not above its bound, and `/api/v1/status` shows quantiles over the cells.\n\n\
         **Native histograms.** In protobuf each histogram also has native buckets of schema 3, which grow by 9 %. A cell counts as a whole for the\n\
         bucket of its highest value, so that a value is told too high by 1.6 % at most. Prometheus asks for protobuf with `--enable-feature=native-histograms`\n\
         (2.40 and later) or with `scrape_native_histograms: true` in the job (3.8 and later).\n\n\
         **Exemplars.** The phases {phases} of `inrush_phase_duration_seconds` carry the id of a message\n\
         for each bucket, in the label `message_id`, in OpenMetrics and protobuf: the latest over all cores, of which each replaces its own after a second at\n\
         the earliest. `inrush_delivery_delay_seconds` carries them too. The same id is in the `250`, in the log and in the queue. Prometheus keeps them with `--enable-feature=exemplar-storage`. Old\n\
         versions (2.42 is one) take those of a native histogram only as far as they come in the order of their times.\n\n\
         **Top talkers.** Addresses and domains are no labels. `GET /api/v1/talkers?by=address` (or `sender_domain`, `recipient_domain`; `limit=N`, 10 by\n\
         default, {talkers} at most) shows the most frequent of the last one to two minutes, which is `window_seconds`:\n\
         `{{\"window_seconds\": 75.3, \"talkers\": [{{\"name\": \"192.0.2.1\", \"messages\": 12, \"refusals\": 3, \"bytes\": 49152, \"over_by_at_most\": 0}}]}}`.\n\
         IPv6 addresses count by /64. `refusals` are connections that got no session and replies with 4xx or 5xx. Counts are those of a sketch of fixed size\n\
         (256 names a core and minute): `messages` and `refusals` together are too high by `over_by_at_most` at most, and a name is listed when at least half of\n\
         its count is surely its own. A message with recipients in several domains counts for each of them.\n\n\
         **What a scrape costs** is what `cargo xtask bench scrape` measures: its time, and what the cores and their sessions notice of it. It is made by the thread of\n\
         the admin server, which only reads what the cores count.\n",
        phases = exemplars::PHASES.map(|phase| format!("`{}`", phase.value())).join(", "),
        talkers = TALKERS_MAX,
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
