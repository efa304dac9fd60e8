//! Tables of the page: runs side by side, phases, errors, CPU time, settings, and what the page does not know by name.

use std::fmt::Write as _;

use serde_json::Value;

use super::axis::number;
use super::{chart, escape};
use crate::doubts::doubts;
use crate::figures::Figures;

/// Parts of a file that the page shows in another way.
const SHOWN: &[&str] = &[
    "schema",
    "generator",
    "command",
    "started_at",
    "run",
    "phases",
    "latency_us",
    "histograms_ns",
    "series",
    "causes",
    "machine",
    "settings",
    "labels",
    "server_cpu",
    "generator_cpu",
];
/// Tables inside of tables at most.
const DEPTH_MAX: usize = 4;

/// The runs of a page side by side.
pub(super) fn overview(page: &mut String, runs: &[Figures]) {
    page.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">run</th>");
    for head in [
        "a second",
        "acknowledged",
        "errors",
        "p50 (ms)",
        "p99 (ms)",
        "p99.9 (ms)",
        "max (ms)",
        "server CPU (µs)",
        "valid",
    ] {
        let _ = write!(page, "<th scope=\"col\">{head}</th>");
    }
    page.push_str("</tr></thead><tbody>");
    for (index, run) in runs.iter().enumerate() {
        let _ = write!(page, "<tr><td><a href=\"#run-{index}\">{}</a></td>", escape(&run.name));
        let percentile = |name: &str| run.number(&format!("/latency_us/total/{name}")).map(|us| us / 1e3);
        for value in [
            run.number("/messages_per_second"),
            run.number("/counts/acknowledged"),
            run.number("/errors"),
            percentile("p50"),
            percentile("p99"),
            percentile("p99.9"),
            percentile("max"),
            run.number("/server_cpu/us_per_message"),
        ] {
            let _ = write!(page, "<td>{}</td>", value.map_or("–".to_owned(), number));
        }
        let valid = if doubts(run).is_empty() { "yes" } else { "with care" };
        let _ = write!(page, "<td>{valid}</td></tr>");
    }
    page.push_str("</tbody></table></div>");
}

/// Latencies of each phase.
pub(super) fn phases(page: &mut String, run: &Figures) {
    let phases = run.phases();
    let Some(first) = phases.first() else { return };
    let count_first = |names: &mut Vec<&String>| names.sort_by_key(|name| column_place(name));
    let mut columns: Vec<&String> =
        run.json["latency_us"][*first].as_object().into_iter().flat_map(|all| all.keys()).collect();
    count_first(&mut columns);
    page.push_str(
        "<h3>Phases, milliseconds</h3><div class=\"scroll\"><table><thead><tr><th scope=\"col\">phase</th>",
    );
    for column in &columns {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(column));
    }
    page.push_str("</tr></thead><tbody>");
    for phase in &phases {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escape(phase));
        for column in &columns {
            let value = run.json["latency_us"][*phase][column.as_str()].as_f64();
            let value = value.map(|value| if *column == "count" { value } else { value / 1e3 });
            let _ = write!(page, "<td>{}</td>", value.map_or("–".to_owned(), number));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

/// Count, smallest, mean, percentiles in their order, largest.
fn column_place(name: &str) -> (u8, u32) {
    match name {
        "count" => (0, 0),
        "min" => (1, 0),
        "mean" => (2, 0),
        "stdev" => (3, 0),
        "max" => (6, 0),
        name => match name.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float cast saturates"
            )]
            Some(percentile) => (4, (percentile * 1e6) as u32),
            None => (5, 0),
        },
    }
}

/// Errors by cause, the most frequent first.
pub(super) fn causes(page: &mut String, run: &Figures) {
    let Some(causes) = run.json["causes"].as_array().filter(|causes| !causes.is_empty()) else { return };
    let mut causes: Vec<&Value> = causes.iter().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause["count"].as_u64()));
    let most = causes[0]["count"].as_f64().unwrap_or(1.0).max(1.0);
    page.push_str(
        "<h3>Errors by cause</h3><div class=\"scroll\"><table><thead><tr><th scope=\"col\">place</th><th scope=\"col\">code</th>\
         <th scope=\"col\">count</th><th scope=\"col\">share</th><th scope=\"col\" class=\"text\">first text</th></tr></thead><tbody>",
    );
    for cause in causes {
        let count = cause["count"].as_f64().unwrap_or(0.0);
        let code =
            cause["code"].as_u64().filter(|&code| code > 0).map_or("–".to_owned(), |code| code.to_string());
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{code}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            escape(cause["place"].as_str().unwrap_or("?")),
            number(count),
            chart::bar(count / most),
            escape(cause["example"].as_str().unwrap_or(""))
        );
    }
    page.push_str("</tbody></table></div>");
}

/// CPU time of server and generator.
pub(super) fn cpu(page: &mut String, run: &Figures) {
    let who = [("server", "/server_cpu"), ("generator", "/generator_cpu")];
    if who.iter().all(|(_, place)| run.number(&format!("{place}/total_us")).is_none()) {
        return;
    }
    page.push_str(
        "<h3>CPU time a message, microseconds</h3><div class=\"scroll\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\">all</th>\
         <th scope=\"col\">user</th><th scope=\"col\">system</th><th scope=\"col\">messages</th><th scope=\"col\">threads</th><th scope=\"col\">source</th></tr></thead><tbody>",
    );
    for (name, place) in who {
        if run.number(&format!("{place}/total_us")).is_none() {
            continue;
        }
        let _ = write!(page, "<tr><th scope=\"row\">{name}</th>");
        for field in ["us_per_message", "user_us_per_message", "system_us_per_message", "messages", "threads"]
        {
            let value = run.number(&format!("{place}/{field}"));
            let _ = write!(page, "<td>{}</td>", value.map_or("–".to_owned(), number));
        }
        let _ = write!(page, "<td>{}</td></tr>", escape(run.text(&format!("{place}/source")).unwrap_or("–")));
    }
    page.push_str("</tbody></table></div>");
}

/// An object as a table of two columns.
pub(super) fn pairs(page: &mut String, title: &str, object: &Value) {
    if object.as_object().is_some_and(|object| !object.is_empty()) {
        let _ = write!(page, "<h3>{}</h3><div class=\"scroll\">", escape(title));
        value(page, object, 0);
        page.push_str("</div>");
    }
}

/// A list of words as one line.
pub(super) fn words(page: &mut String, title: &str, list: &Value) {
    if let Some(list) = list.as_array() {
        let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        let _ = write!(page, "<h3>{}</h3><p><code>{}</code></p>", escape(title), escape(&words.join(" ")));
    }
}

/// Everything that has no place of its own in the page.
pub(super) fn rest(page: &mut String, run: &Figures) {
    let Some(all) = run.json.as_object() else { return };
    let rest = all.iter().filter(|(name, value)| !SHOWN.contains(&name.as_str()) && !value.is_null());
    let rest: serde_json::Map<String, Value> =
        rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    pairs(page, "All other figures", &Value::Object(rest));
}

fn value(page: &mut String, json: &Value, depth: usize) {
    match json {
        Value::Object(object) if depth < DEPTH_MAX => {
            page.push_str("<table><tbody>");
            for (name, inner) in object {
                let _ = write!(
                    page,
                    "<tr><th scope=\"row\" class=\"text\">{}</th><td class=\"text\">",
                    escape(name)
                );
                value(page, inner, depth + 1);
                page.push_str("</td></tr>");
            }
            page.push_str("</tbody></table>");
        }
        Value::Array(list)
            if depth < DEPTH_MAX && list.iter().any(|inner| inner.is_object() || inner.is_array()) =>
        {
            page.push_str("<table><tbody>");
            for inner in list {
                page.push_str("<tr><td class=\"text\">");
                value(page, inner, depth + 1);
                page.push_str("</td></tr>");
            }
            page.push_str("</tbody></table>");
        }
        Value::Array(list) if depth < DEPTH_MAX => {
            for (index, inner) in list.iter().enumerate() {
                page.push_str(if index > 0 { ", " } else { "" });
                value(page, inner, depth + 1);
            }
        }
        Value::String(text) => page.push_str(&escape(text)),
        Value::Number(value) => page.push_str(&value.as_f64().map_or_else(|| value.to_string(), number)),
        other => page.push_str(&escape(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stand_in_their_order() {
        let mut names = ["max", "p99.9", "count", "p90", "mean", "p99", "min", "other", "p50"];
        names.sort_by_key(|name| column_place(name));
        assert_eq!(names, ["count", "min", "mean", "p50", "p90", "p99", "p99.9", "other", "max"]);
    }
}
