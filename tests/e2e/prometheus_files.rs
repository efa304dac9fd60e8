//! Rules, dashboard and documents name what there is: metrics, label values, alerts. A name that is wrong is found here and not at night.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use inrush_metrics::Kind;
use inrush_metrics::table::{self, Metric};
use inrush_proto::Reply;
use inrush_tests::{binary, process};
use serde_json::{Value, json};

/// Our crates, whose names begin like those of metrics: they stand in texts about the levels of the log.
const CRATES: [&str; 6] =
    ["inrush_gateway", "inrush_relay", "inrush_log", "inrush_admin", "inrush_config", "inrush_queue"];

fn root() -> PathBuf {
    binary::folder("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a folder and below with one of these endings, none of them twice.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn rule_files() -> Vec<PathBuf> {
    files(&root().join("deploy/prometheus/rules"), &["yml"])
}

/// The values of lines `key: value`, or `- key: value`.
fn values_of<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let line = |line: &'t str| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ");
    text.lines().filter_map(line).collect()
}

/// Words of a text that look like names of metrics or of recording rules, each with what follows it.
fn names(text: &str) -> Vec<(&str, &str)> {
    let is_part = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b':');
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(at) = text[rest..].find("inrush_") {
        let at = rest + at;
        let begin = text[..at].bytes().rposition(|octet| !is_part(octet)).map_or(0, |before| before + 1);
        let end =
            text[at..].bytes().position(|octet| !is_part(octet)).map_or(text.len(), |length| at + length);
        // A colon at the end belongs to the sentence.
        let name = text[begin..end].trim_end_matches([':', '_']);
        if name.len() > "inrush".len() {
            found.push((name, &text[end..]));
        }
        rest = end;
    }
    found
}

fn metric(name: &str) -> Option<Metric> {
    let all = table::all();
    let plain = || all.iter().find(|metric| metric.name == name);
    let histogram = || {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        all.iter().find(|metric| metric.name == base && metric.kind == Kind::Histogram)
    };
    plain().or_else(histogram).copied()
}

/// `label="value"` and `label=~"one|two"` of a selector in braces that begins `text`.
fn selected(text: &str) -> Vec<(&str, Vec<&str>)> {
    let Some(inside) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return Vec::new();
    };
    let matcher = |matcher: &'_ str| -> Option<(usize, usize)> {
        let operator = matcher.find(['=', '!'])?;
        let value = operator + matcher[operator..].find('"')?;
        Some((operator, value))
    };
    let matchers = inside.0.split(',').filter_map(|part| {
        let (operator, value) = matcher(part)?;
        let values = part[value..].trim_matches(['"', ' ', '\\']).split('|').collect();
        Some((part[..operator].trim(), values))
    });
    matchers.collect()
}

/// What the labels of a metric may be; nothing where the configuration decides.
fn label_values(metric: Metric, label: &str) -> Vec<&'static str> {
    match (metric.name, label) {
        ("inrush_refusals_total", "reason") => Reply::ALL.iter().filter_map(|reply| reply.reason()).collect(),
        ("inrush_deliveries_total", "reason") => {
            vec!["sent", "bounced", "expired", "deleted", "deferred", "hold"]
        }
        ("inrush_delivery_connections_total", "tls") => vec!["none", "TLSv1.2", "TLSv1.3", "failed"],
        ("inrush_queue_entries" | "inrush_queue_oldest_timestamp_seconds", "reason") => {
            vec!["deferred", "hold"]
        }
        (_, "reason" | "phase" | "tls") => metric.values.to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn names_of_metrics_exist() {
    let rules: Vec<String> = rule_files().iter().map(|file| read(file)).collect();
    let recorded: BTreeSet<&str> = rules.iter().flat_map(|rules| values_of(rules, "record")).collect();
    let mut texts = files(&root().join("deploy"), &["yml", "yaml", "json", "md"]);
    texts.extend(files(&root().join("docs"), &["md"]));
    texts.push(root().join("README.md"));
    let mut found = 0;
    for file in &texts {
        let text = read(file);
        for (name, behind) in names(&text) {
            let place = file.display();
            // Modules of the program, as log lines name them.
            if name.contains("::") {
                continue;
            }
            if name.contains(':') {
                assert!(recorded.contains(name), "{place}: no rule records {name}");
                continue;
            }
            if CRATES.contains(&name) {
                continue;
            }
            let Some(metric) = metric(name) else { panic!("{place}: there is no metric {name}") };
            found += 1;
            let from_scrape = ["instance", "job", "le"];
            for (label, values) in selected(behind) {
                assert!(
                    from_scrape.contains(&label)
                        || metric.labels.contains(&label)
                        || metric.kind == Kind::Info,
                    "{place}: {name} has no label {label}"
                );
                let known = label_values(metric, label);
                let wrong =
                    values.iter().find(|value| !known.is_empty() && !known.contains(value) && **value != "…");
                assert!(wrong.is_none(), "{place}: {name} has no {label} {wrong:?}");
            }
        }
    }
    assert!(found > 300, "only {found} names were found");
}

#[test]
fn wrong_names_are_found() {
    let text =
        "a `inrush_x_total{reason=~\"a|b\", code=\"250\"}`: inrush_y. instance:inrush_z:rate5m; `inrush_`";
    let found: Vec<&str> = names(text).iter().map(|(name, _)| *name).collect();
    assert_eq!(found, ["inrush_x_total", "inrush_y", "instance:inrush_z:rate5m"]);
    assert_eq!(selected(names(text)[0].1), [("reason", vec!["a", "b"]), ("code", vec!["250"])]);
    assert!(metric("inrush_no_such_metric").is_none());
    assert!(metric("inrush_log_batch_bytes_count").is_some());
    assert!(metric("inrush_cores_count").is_none());
}

#[test]
fn each_alert_has_a_section_and_the_other_way_round() {
    let rules = read(&root().join("deploy/prometheus/rules/inrush-alerts.yml"));
    let alerts: BTreeSet<&str> = values_of(&rules, "alert").into_iter().collect();
    let text = read(&root().join("docs/incidents.md"));
    let sections: BTreeMap<&str, &str> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    assert_eq!(alerts, sections.keys().copied().collect());
    assert!(alerts.len() > 20);
    for (alert, section) in sections {
        for part in ["**Means:**", "**Users see:**", "**Look at", "o:**"] {
            assert!(section.contains(part), "{alert} has no {part}");
        }
    }
}

#[test]
fn each_alert_is_tested() {
    let rules = read(&root().join("deploy/prometheus/rules/inrush-alerts.yml"));
    let tests = read(&root().join("deploy/prometheus/tests/inrush-alerts.yml"));
    for alert in values_of(&rules, "alert") {
        let named = |end: char| tests.contains(&format!("alertname: {alert}{end}"));
        assert!(named('\n') || named(','), "no test of {alert}");
    }
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let mut command = process::command("promtool", arguments);
    command.args(files);
    process::finish_with_input(command, b"").succeeded();
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    let folder = root().join("deploy/prometheus");
    promtool(&["check", "config"], &[folder.join("prometheus.yml")]);
    promtool(&["check", "rules"], &rule_files());
    promtool(&["test", "rules"], &files(&folder.join("tests"), &["yml"]));
}

/// All expressions of the dashboard, as Grafana sends them.
fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            found.extend(
                fields.get("expr").and_then(Value::as_str).map(|expression| {
                    expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
                }),
            );
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let text = read(&root().join("deploy/grafana/inrush.json"));
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert_eq!((&dashboard["id"], &dashboard["uid"]), (&Value::Null, &"inrush".into()));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let types: Vec<_> = variables.iter().map(|variable| variable["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["datasource", "query"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(x < 24 && cells.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
            assert!(
                panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{}",
                panel["title"]
            );
        }
    }
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() > 60, "{} expressions", all.len());
    // promtool has no check of single expressions; it checks them as rules.
    let rules = (0_u32..).zip(&all).map(|(number, expression)| {
        json!({ "record": format!("dashboard:expression:{number}"), "expr": expression })
    });
    let rules = rules.collect::<Vec<_>>();
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    // JSON is YAML.
    fs::write(file.path(), json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string())
        .unwrap();
    promtool(&["check", "rules"], &[file.path().to_owned()]);
}

/// Every metric that people have to look at is somewhere on the dashboard, in a rule or in a document of its own.
#[test]
fn limits_are_shown_beside_what_they_limit() {
    let dashboard = read(&root().join("deploy/grafana/inrush.json"));
    let rules: String = rule_files().iter().map(|file| read(file)).collect();
    let used: BTreeSet<&str> =
        names(&dashboard).into_iter().chain(names(&rules)).map(|(name, _)| name).collect();
    for metric in table::all().iter().filter(|metric| metric.name.contains("_limit")) {
        let shown = used.contains(metric.name);
        let excepted = [
            // The kernel's own; what counts is `inrush_process_file_descriptors_usable`.
            "inrush_process_file_descriptors_limit",
            // Of the alert on `inrush_log_space_low`, which looks at both marks.
            "inrush_log_free_inodes_limit",
            // Of `inrush_pressure`.
            "inrush_log_write_limit_seconds",
        ];
        assert!(shown || excepted.contains(&metric.name), "{} is shown nowhere", metric.name);
    }
}
