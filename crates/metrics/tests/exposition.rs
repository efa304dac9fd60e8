//! The exposition as an operator's tools see it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use inrush_log::{Lsn, MessageId};
use inrush_metrics::table::{self, LABELS};
use inrush_metrics::{
    ConnectionRefusal, Consumer, CoreWriter, Counter, Delivery, Engine, Family, Format, Gauge, Histogram,
    Kind, LINES, Level, LogRefusal, Login, Metrics, Names, Phase, ProxyConnection, ProxyFailure, ReplyName,
    Resource, Retired, SPANS, SessionEnd, Timeout, TlsFailure, TlsVersion, documentation,
};

/// Two cores on which everything that is declared has moved.
fn moved() -> Arc<Metrics> {
    let replies = vec![
        ReplyName { code: 250, reason: Some("ok") },
        ReplyName { code: 550, reason: Some("unknown_user") },
        ReplyName { code: 550, reason: Some("relay_denied") },
    ];
    let names = Names {
        version: "1.2.3",
        revision: "a1b2c3",
        listeners: vec!["m\"x".to_owned()],
        verbs: vec!["mail", "rcpt"],
        replies,
    };
    let metrics = Metrics::new(names, 2);
    for core in metrics.cores() {
        move_all(&core.writer().unwrap());
    }
    metrics.set_consumers(vec![Consumer {
        name: "relay".to_owned(),
        log: "arrival-00".to_owned(),
        lag_bytes: 4096,
        oldest_at_us: Some(1_700_000_000_500_000),
        segments_lost: 2,
        damaged: true,
    }]);
    let mut delivery = Delivery {
        deliveries: vec![("out".to_owned(), "sent", 3)],
        connections_by_tls: vec![("out".to_owned(), "TLSv1.3", 2)],
        reports: vec![("failed", 1)],
        deferred: 2,
        held: 1,
        oldest_deferred_at: Some(1_700_000_000),
        oldest_held_at: Some(1_700_000_060),
        waiting: 3,
        logs_behind: 1,
        under_way: 4,
        connections: 5,
        connections_limit: 500,
        destinations_down: 1,
        memory_bytes: 8192,
        memory_limit_bytes: 65536,
        ..Delivery::default()
    };
    delivery.delivered(1500, id(), 1_700_000_001_500_000);
    metrics.set_delivery(delivery);
    metrics.set_ready(true, 2);
    metrics
}

fn move_all(writer: &CoreWriter) {
    Counter::ALL.iter().for_each(|key| writer.add(*key, 1_500_000));
    fn each<F: Family>(writer: &CoreWriter) {
        F::ALL.iter().for_each(|key| writer.count(*key));
    }
    each::<ConnectionRefusal>(writer);
    each::<SessionEnd>(writer);
    each::<Timeout>(writer);
    each::<LogRefusal>(writer);
    each::<ProxyConnection>(writer);
    each::<ProxyFailure>(writer);
    each::<Login>(writer);
    each::<TlsVersion>(writer);
    each::<TlsFailure>(writer);
    each::<Retired>(writer);
    Gauge::ALL.iter().for_each(|gauge| writer.set(*gauge, 5));
    for phase in Phase::ALL {
        writer.record(Histogram::Phase(*phase), 60);
        writer.record(Histogram::Phase(*phase), 120_000_000);
    }
    writer.record_message(Phase::Total, 70, id(), 1_700_000_000_000_000);
    writer.record(Histogram::LogCommit, 100);
    writer.record(Histogram::LogSync, 100);
    writer.record(Histogram::LogBatchBytes, 4096);
    writer.record(Histogram::LogBatchRecords, 3);
    Resource::ALL.iter().for_each(|resource| writer.pressure(*resource, Level::Soft));
    writer.engine(Engine::IoUring);
    for reply in 0..3 {
        writer.reply(reply);
    }
    writer.command(0);
    writer.command(1);
    writer.accepted(0);
    for counter in [&LINES.written, &LINES.dropped, &LINES.repeated, &SPANS.sent, &SPANS.dropped] {
        counter.fetch_add(1, Relaxed);
    }
}

fn id() -> MessageId {
    MessageId { node: 1, log: 2, lsn: Lsn::new(4096) }
}

fn text(format: Format) -> String {
    String::from_utf8(moved().render(format)).unwrap()
}

/// Value of the sample `series`, which is a name with its labels.
fn sample(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no sample {series} in\n{text}")).parse().unwrap()
}

#[test]
fn every_declared_metric_is_exposed_and_moves() {
    let text = text(Format::OpenMetrics);
    for metric in table::all() {
        let moved = text.lines().filter(|line| !line.starts_with('#')).any(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let name = if metric.kind == Kind::Histogram {
                name.strip_suffix("_count").unwrap_or(name)
            } else {
                name
            };
            name == metric.name && value.parse::<f64>().unwrap() > 0.0
        });
        assert!(moved, "{} does not move", metric.name);
    }
}

#[test]
fn nothing_undeclared_is_exposed() {
    let names: HashSet<&str> = table::all().iter().map(|metric| metric.name).collect();
    let text = text(Format::OpenMetrics);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(names.contains(name) || histogram.is_some_and(|name| names.contains(name)), "{line}");
    }
}

#[test]
fn names_and_labels_follow_the_rules() {
    let mut seen = HashSet::new();
    for metric in table::all() {
        assert!(seen.insert(metric.name), "{} twice", metric.name);
        assert!(metric.name.starts_with("inrush_"));
        assert!(metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.labels.iter().all(|label| LABELS.contains(label)), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn cores_are_added_up_and_told_apart() {
    let text = text(Format::OpenMetrics);
    assert_eq!(sample(&text, "inrush_recipients_accepted_total"), 3_000_000.0);
    assert_eq!(sample(&text, r#"inrush_messages_accepted_total{core="1"}"#), 1_500_000.0);
    assert_eq!(sample(&text, r#"inrush_busy_seconds_total{core="0"}"#), 1.5);
    assert_eq!(sample(&text, r#"inrush_replies_total{code="550"}"#), 4.0);
    assert_eq!(sample(&text, r#"inrush_refusals_total{reason="relay_denied"}"#), 2.0);
    assert!(!text.contains(r#"reason="ok""#));
    assert_eq!(sample(&text, r#"inrush_commands_total{phase="rcpt"}"#), 2.0);
    assert_eq!(sample(&text, r#"inrush_connections_accepted_total{listener="m\"x"}"#), 2.0);
    assert_eq!(sample(&text, r#"inrush_engine_info{core="1",engine="io_uring"}"#), 1.0);
    assert_eq!(
        sample(
            &text,
            &format!(
                r#"inrush_build_info{{version="1.2.3",revision="a1b2c3",arch="{}"}}"#,
                std::env::consts::ARCH
            )
        ),
        1.0
    );
}

#[test]
fn phases_have_cumulative_buckets_from_50_us_to_60_s() {
    let text = text(Format::OpenMetrics);
    let bucket = |le: &str| {
        sample(&text, &format!(r#"inrush_phase_duration_seconds_bucket{{phase="commit",le="{le}"}}"#))
    };
    assert_eq!(bucket("0.00005"), 0.0);
    assert_eq!(bucket("0.0001"), 2.0);
    assert_eq!(bucket("60.0"), 2.0);
    assert_eq!(bucket("+Inf"), 4.0);
    assert_eq!(sample(&text, r#"inrush_phase_duration_seconds_count{phase="commit"}"#), 4.0);
    let sum = sample(&text, r#"inrush_phase_duration_seconds_sum{phase="commit"}"#);
    assert!((sum - 240.000_12).abs() < 240.0 * 0.008, "{sum}");
}

#[test]
fn a_message_stands_beside_the_bucket_that_it_fell_into() {
    let metrics = moved();
    let bucket = |text: &str, name: &str, le: &str| {
        let bucket =
            text.lines().find(|line| line.starts_with(name) && line.contains(&format!("le=\"{le}\"")));
        bucket.unwrap().split_once(" # ").map(|(_, exemplar)| exemplar.to_owned())
    };
    let open = String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap();
    let delay = "inrush_delivery_delay_seconds_bucket";
    let exemplar = "{message_id=\"00010200000000001000\"} 1.5 1700000001.500000";
    assert_eq!(bucket(&open, delay, "5.0").as_deref(), Some(exemplar));
    assert_eq!(bucket(&open, delay, "1.0"), None);
    let total = "inrush_phase_duration_seconds_bucket{phase=\"total\"";
    let exemplar = "{message_id=\"00010200000000001000\"} 0.00007 1700000000.000000";
    assert_eq!(bucket(&open, total, "0.0001").as_deref(), Some(exemplar));
    let ehlo = "inrush_phase_duration_seconds_bucket{phase=\"ehlo\"";
    assert_eq!(bucket(&open, ehlo, "0.0001"), None, "before there is a message");
    // The older text format has no place for them.
    assert!(!String::from_utf8(metrics.render(Format::Classic)).unwrap().contains("message_id"));
}

#[test]
fn consumers_are_shown_by_name_and_log() {
    let text = text(Format::OpenMetrics);
    let of = |metric: &str| {
        sample(&text, &format!(r#"inrush_log_consumer_{metric}{{route="relay",shard="arrival-00"}}"#))
    };
    assert_eq!(of("lag_bytes"), 4096.0);
    assert_eq!(of("oldest_timestamp_seconds"), 1_700_000_000.5);
    assert_eq!(of("lost_segments_total"), 2.0);
}

#[test]
fn open_metrics_ends_with_eof_and_names_units() {
    let text = text(Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.contains("\n# UNIT inrush_phase_duration_seconds seconds\n"));
    assert!(text.contains("\n# TYPE inrush_recipients_accepted counter\n"));
    // Nothing between the samples of one family: a family named twice would be refused.
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(families.len(), families.iter().collect::<HashSet<_>>().len());
    assert_eq!(families.len(), table::all().len());
}

#[test]
fn promtool_accepts_the_classic_text() {
    let text = text(Format::Classic);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{text}");
    assert_eq!(said.trim(), "");
}

#[test]
fn the_document_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    if std::env::var_os("INRUSH_BLESS").is_some() {
        std::fs::write(path, documentation()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == documentation(),
        "docs/metrics.md is not the table any more: INRUSH_BLESS=1 cargo test -p inrush-metrics writes it anew"
    );
}
