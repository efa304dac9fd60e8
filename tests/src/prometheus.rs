//! Debian's Prometheus: a process of its own with its own data, that scrapes one gateway by the rules of `deploy/prometheus`.

use std::fs;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::http::{self, Samples};
use crate::{binary, process};

/// A running Prometheus; ended when dropped.
#[derive(Debug)]
pub struct Prometheus {
    daemon: Daemon,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes `target` every two seconds as the job `inrush`, with these features switched on.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start(target: SocketAddr, features: &[&str]) -> Self {
        let folder =
            TempDir::with_prefix("inrush-prometheus-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let rules = binary::folder("../deploy/prometheus/rules");
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}/*.yml\"]\n\
             scrape_configs:\n  - {{job_name: inrush, static_configs: [{{targets: [\"{target}\"]}}]}}\n",
            rules.display()
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let log = folder.path().join("prometheus.log");
        let (daemon, [address]) = Daemon::start("prometheus", &log, None, |[address]: [SocketAddr; 1]| {
            let mut command = process::command("prometheus", [format!("--config.file={}", file.display())]);
            command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
            command.arg(format!("--web.listen-address={address}"));
            if !features.is_empty() {
                command.arg(format!("--enable-feature={}", features.join(",")));
            }
            command
        });
        Self { daemon, address, _folder: folder }
    }

    /// What a path of its HTTP API answers, in `data`; `None` while it answers with an error, as it does before it is ready.
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let parameters = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let query = parameters.collect::<Vec<_>>().join("&");
        let response = http::get(self.address, &format!("/api/v1/{path}?{query}"));
        let mut document: Value = serde_json::from_str(&response.body).ok()?;
        (document["status"] == "success").then(|| document["data"].take())
    }

    /// The series that an expression gives now.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.api("query", &[("query", expression)]);
        data.and_then(|data| data["result"].as_array().cloned()).unwrap_or_default()
    }

    /// The value of an expression that gives one series at most.
    ///
    /// # Panics
    /// It gives several.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Option<f64> {
        let series = self.query(expression);
        assert!(series.len() < 2, "{expression}: {series:?}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The exemplars of a series of the last minutes.
    pub fn exemplars(&self, series: &str) -> Vec<Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (start, end) = ((now - 600).to_string(), (now + 60).to_string());
        let data = self.api("query_exemplars", &[("query", series), ("start", &start), ("end", &end)]);
        let data = data.and_then(|data| data.as_array().cloned()).unwrap_or_default();
        data.iter().flat_map(|series| series["exemplars"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What it says about itself.
    pub fn own_metrics(&self) -> Samples {
        Samples::parse(&http::request(self.address, "/metrics", "text/plain").body)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Percent-encoded but for letters and digits (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(octet).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("rate(a{b=\"c d\"}[1m])"), "rate%28a%7Bb%3D%22c%20d%22%7D%5B1m%5D%29");
    }
}
