//! The two text formats. They differ in their comment lines, in exemplars, and in the names of the families of counters and infos.
//!
//! Standards: OpenMetrics 1.0 text format; Prometheus exposition format 0.0.4.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Bucket, Group, Series, Value, Values};
use crate::exemplars::Exemplar;
use crate::table::Kind;

/// The label of exemplars.
pub(super) const EXEMPLAR_LABEL: &str = "message_id";

/// Octets that are reserved: what a gateway with some routes takes.
const RESERVED: usize = 64 << 10;

/// Octets of an OpenMetrics text.
pub(super) fn open_metrics(groups: &[Group<'_>]) -> String {
    let mut text = render(groups, true);
    text.push_str("# EOF\n");
    text
}

/// The text format that came before.
pub(super) fn classic(groups: &[Group<'_>]) -> String {
    render(groups, false)
}

/// Writing into a String cannot fail: the results of `write!` say nothing.
fn render(groups: &[Group<'_>], open: bool) -> String {
    let mut text = String::with_capacity(RESERVED);
    for Group { metric, series } in groups {
        // OpenMetrics calls the family by the name without the suffix of its samples.
        let family = match metric.kind {
            Kind::Counter if open => metric.name.strip_suffix("_total").unwrap_or(metric.name),
            Kind::Info if open => metric.name.strip_suffix("_info").unwrap_or(metric.name),
            _ => metric.name,
        };
        let kind = match metric.kind {
            Kind::Info if !open => Kind::Gauge,
            kind => kind,
        };
        let help = escaped(metric.help, open);
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {}", kind.name());
        if let (true, Some(unit)) = (open, unit(family)) {
            let _ = writeln!(text, "# UNIT {family} {unit}");
        }
        for Series { labels, value } in series {
            match value {
                Value::Whole(value) => {
                    sample(&mut text, metric.name, "", labels, None);
                    let _ = writeln!(text, "{value}");
                }
                Value::Fraction(value) => {
                    sample(&mut text, metric.name, "", labels, None);
                    let _ = writeln!(text, "{}", number(*value));
                }
                Value::Histogram(values) => histogram(&mut text, metric.name, labels, values, open),
            }
        }
    }
    text
}

/// The unit at the end of a name (OpenMetrics 1.0, "Units and Base Units").
pub(super) fn unit(family: &str) -> Option<&'static str> {
    ["seconds", "bytes"]
        .into_iter()
        .find(|unit| family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

fn histogram(text: &mut String, name: &str, labels: &Labels<'_>, values: &Values, open: bool) {
    let mut count = 0;
    for Bucket { upper, cumulative, exemplar } in values.buckets() {
        sample(text, name, "_bucket", labels, Some(upper));
        let _ = write!(text, "{cumulative}");
        if let (true, Some(exemplar)) = (open, exemplar) {
            write_exemplar(text, &exemplar, values.units_per_base);
        }
        text.push('\n');
        count = cumulative;
    }
    sample(text, name, "_sum", labels, None);
    let _ = writeln!(text, "{}", number(values.sum()));
    sample(text, name, "_count", labels, None);
    let _ = writeln!(text, "{count}");
}

type Labels<'a> = [(&'static str, Cow<'a, str>)];

/// Everything before the value.
fn sample(text: &mut String, name: &str, suffix: &str, labels: &Labels<'_>, upper: Option<f64>) {
    text.push_str(name);
    text.push_str(suffix);
    let mut before = '{';
    for (label, value) in labels {
        let _ = write!(text, "{before}{label}=\"{}\"", escaped(value, true));
        before = ',';
    }
    if let Some(upper) = upper {
        let _ = write!(text, "{before}le=\"{}\"", number(upper));
        before = ',';
    }
    text.push_str(if before == ',' { "} " } else { " " });
}

/// OpenMetrics 1.0, "Exemplars": at most 128 characters of labels.
fn write_exemplar(text: &mut String, exemplar: &Exemplar, units_per_base: f64) {
    let (seconds, micros) = (exemplar.at_us / 1_000_000, exemplar.at_us % 1_000_000);
    let value = number(exemplar.value as f64 / units_per_base);
    let _ = write!(text, " # {{{EXEMPLAR_LABEL}=\"{}\"}} {value} {seconds}.{micros:06}", exemplar.id);
}

/// A number with a decimal point, as the bounds of buckets have to be written (OpenMetrics 1.0, "Considerations: Canonical Numbers").
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        return "+Inf".to_owned();
    }
    let mut number = value.to_string();
    if !number.contains('.') {
        number.push_str(".0");
    }
    number
}

/// Backslashes, line feeds and, where they would end something, quotation marks.
fn escaped(value: &str, quotes: bool) -> Cow<'_, str> {
    if !value.contains(['\\', '\n', '"']) {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quotes => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, text) in
            [(0.00005, "0.00005"), (60.0, "60.0"), (f64::INFINITY, "+Inf"), (0.0, "0.0"), (1.5, "1.5")]
        {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn what_would_end_a_value_is_escaped() {
        assert_eq!(escaped("a\"b\\c\nd", true), "a\\\"b\\\\c\\nd");
        assert_eq!(escaped("say \"no\"", false), "say \"no\"");
    }

    #[test]
    fn units_are_whole_words() {
        assert_eq!(unit("inrush_busy_seconds"), Some("seconds"));
        assert_eq!(unit("inrush_log_free_bytes"), Some("bytes"));
        assert_eq!(unit("inrush_cores"), None);
        assert_eq!(unit("inrush_kilobytes"), None);
    }
}
