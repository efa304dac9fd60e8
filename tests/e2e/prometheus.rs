//! A real Prometheus scrapes the gateway: what it takes, and what it can say afterwards.

use std::collections::BTreeSet;

use inrush_tests::client::Client;
use inrush_tests::http;
use inrush_tests::process;
use inrush_tests::prometheus::Prometheus;
use inrush_tests::server::Server;
use serde_json::Value;

const MESSAGES: u64 = 60;

/// Hands in a few messages; their ids.
fn load(server: &Server) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut client = Client::greeted(server.mx());
    for number in 0..MESSAGES {
        let body = format!("Subject: {number}\r\n\r\n{}", "0123456789\r\n".repeat(50));
        ids.insert(client.deliver(&["b@example.com"], body.as_bytes()));
    }
    client.say("QUIT", 221);
    ids
}

/// The target is up, and nothing of what came was refused.
fn no_scrape_errors(prometheus: &Prometheus) {
    // A machine that is very busy may let a scrape run into its timeout; what is wrong with the answer stays.
    process::eventually("the target is up, without an error", || {
        let targets = prometheus.api("targets", &[]).unwrap_or_default();
        let target = &targets["activeTargets"][0];
        target["health"] == "up"
            && target["lastError"] == ""
            && prometheus.value("up{job=\"inrush\"}") == Some(1.0)
    });
    let own = prometheus.own_metrics();
    for name in [
        "prometheus_target_scrapes_sample_out_of_order_total",
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
        "prometheus_target_scrapes_exceeded_body_size_limit_total",
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        "prometheus_target_scrape_pool_exceeded_label_limits_total",
        "prometheus_rule_evaluation_failures_total",
    ] {
        assert!(own.has(name), "Prometheus has no {name} any more");
        assert_eq!(own.sum(name, &[]), 0.0, "{name}\n{}", prometheus.log());
    }
}

/// Quantiles of a phase as the gateway itself shows them.
fn quantile_of_status(server: &Server, phase: &str, quantile: &str) -> f64 {
    let status: Value = serde_json::from_str(&http::get(server.admin(), "/api/v1/status").body).unwrap();
    status["phases"][phase][quantile].as_f64().unwrap()
}

fn ids_of(exemplars: &[Value]) -> BTreeSet<String> {
    exemplars.iter().map(|one| one["labels"]["message_id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn native_histograms_and_their_exemplars() {
    let server = Server::start();
    let prometheus = Prometheus::start(server.admin(), &["native-histograms", "exemplar-storage"]);
    let mut ids = load(&server);
    let series = "inrush_phase_duration_seconds{phase=\"total\"}";
    // Only protobuf carries native histograms: that there is one says what was scraped.
    process::eventually("the native histogram holds every message", || {
        let result = prometheus.query(series);
        let count = result.first().and_then(|series| series["histogram"][1]["count"].as_str());
        count == Some(&MESSAGES.to_string())
    });
    for (quantile, name) in [(0.5, "p50_seconds"), (0.9, "p90_seconds")] {
        let shown = prometheus.value(&format!("histogram_quantile({quantile}, {series})")).unwrap();
        let exact = quantile_of_status(&server, "total", name);
        // The same bucket, which is 9 % wide, and a cell more.
        assert!((exact / 1.12..=exact * 1.12).contains(&shown), "{quantile}: {shown}, {exact}");
    }
    process::eventually("rates of native histograms have quantiles", || {
        ids.extend(load(&server));
        let expression = format!("histogram_quantile(0.99, rate({series}[5m]))");
        prometheus.value(&expression).is_some_and(|seconds| seconds > 0.0)
    });
    let mut exemplars = Vec::new();
    process::eventually("exemplars come", || {
        exemplars = prometheus.exemplars(series);
        !exemplars.is_empty()
    });
    assert!(ids_of(&exemplars).is_subset(&ids), "{exemplars:?}");
    assert!(exemplars.iter().all(|one| one["value"].as_str().unwrap().parse::<f64>().unwrap() > 0.0));
    no_scrape_errors(&prometheus);
}

#[test]
fn classic_buckets_by_open_metrics() {
    let server = Server::start();
    let prometheus = Prometheus::start(server.admin(), &["exemplar-storage"]);
    let ids = load(&server);
    let series = "inrush_phase_duration_seconds_bucket{phase=\"commit\"}";
    process::eventually("the buckets hold every message", || {
        prometheus.value("inrush_phase_duration_seconds_count{phase=\"commit\"}") == Some(MESSAGES as f64)
    });
    let shown = prometheus.value(&format!("histogram_quantile(0.5, {series})")).unwrap();
    assert!(shown > 0.0 && shown < 60.0, "{shown}");
    process::eventually("exemplars come", || !ids_of(&prometheus.exemplars(series)).is_disjoint(&ids));
    let info = prometheus.query("inrush_build_info");
    assert_eq!(info[0]["metric"]["arch"], std::env::consts::ARCH);
    no_scrape_errors(&prometheus);
}

#[test]
fn every_rule_can_be_evaluated_and_wakes_nobody() {
    let server = Server::start();
    let prometheus = Prometheus::start(server.admin(), &[]);
    load(&server);
    let rules = || {
        let groups = prometheus.api("rules", &[])?;
        let groups = groups["groups"].as_array()?.clone();
        Some(
            groups
                .iter()
                .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
                .collect::<Vec<_>>(),
        )
    };
    let mut all = Vec::new();
    process::eventually("all rules were evaluated", || {
        all = rules().unwrap_or_default();
        !all.is_empty() && all.iter().all(|rule| rule["health"] != "unknown")
    });
    for rule in &all {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert!(all.iter().any(|rule| rule["name"] == "InrushNotReady"));
    process::eventually("recording rules see the gateway", || {
        prometheus.value("instance:inrush_messages_accepted:rate5m").is_some()
            && prometheus.value("instance_budget:inrush_budget_used:ratio{budget=\"connections\"}").is_some()
    });
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}");
    assert!(firing.is_empty(), "{firing:?}");
    no_scrape_errors(&prometheus);
}
