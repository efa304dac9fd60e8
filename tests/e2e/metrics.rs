//! Every declared metric moves: after a scenario that does everything, each has a sample that is not zero.

use std::collections::BTreeSet;

use inrush_tests::client::{Client, accepted};
use inrush_tests::http::{self, Samples};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

/// Metrics that this scenario cannot or must not move, each with the reason and where it is moved instead.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("inrush_lines_dropped", "only while nobody reads the log: `logs` asserts it"),
    ("inrush_lines_repeated", "only with more than `repeats_max` of a kind: `logs` asserts it"),
    ("inrush_spans_sent", "only with an endpoint: `opentelemetry` asserts it"),
    ("inrush_spans_dropped", "the same"),
    ("inrush_log_poisoned", "a failed write ends the log; the tests of the log's simulated disk do that"),
    ("inrush_log_no_space", "only while the disk is full: `disk_full`"),
    ("inrush_log_refusals", "only with a full disk: `disk_full` asserts it"),
    ("inrush_log_quarantined_bytes", "damage of acknowledged mail: the tests of the log's recovery do that"),
    ("inrush_log_damage", "damage of acknowledged mail: the tests of the log's recovery do that"),
    ("inrush_log_segments_retired", "nothing is retired by default: `retention` asserts it"),
    ("inrush_log_spares_recycled", "nothing is retired by default: `retention` asserts it"),
    ("inrush_log_spares_waiting", "spares are made ready as they come"),
    ("inrush_log_retire_errors", "only with a failing disk: the tests of the log's retention do that"),
    ("inrush_log_space_low", "only while the disk is nearly full: `retention` asserts it"),
    ("inrush_log_hung", "only while the disk does not answer: `hung_disk` asserts it"),
    ("inrush_log_hangs", "only when the disk does not answer: `hung_disk` asserts it"),
    ("inrush_log_adopted", "only with fewer cores than before: `retention` asserts it"),
    (
        "inrush_log_clock_distrusted",
        "only after a jump of the clock: the tests of the log's age clock do that",
    ),
    (
        "inrush_connections_untracked",
        "only with more addresses than the table takes: the tests of the table do that",
    ),
    ("inrush_proxy_connections", "only behind a proxy: `proxy` asserts it"),
    ("inrush_proxy_failures", "only behind a proxy: `proxy` asserts it"),
    ("inrush_logins", "only with users: `submission` asserts it"),
    ("inrush_xclient", "only behind a filter: `xclient` asserts it"),
    ("inrush_tarpit", "not for loopback: `abuse` asserts it"),
    ("inrush_unauthorized_pipelining", "only clients that do not wait: `abuse` asserts it"),
    ("inrush_tls_handshakes", "only with a certificate: `tls` asserts it"),
    ("inrush_tls_handshake_failures", "only with a certificate: `tls` asserts it"),
    ("inrush_tls_handshakes_open", "only with a certificate: `tls` asserts it"),
    ("inrush_tls_certificate_expiry_seconds", "only with a certificate: `tls` asserts it"),
    ("inrush_tls_plaintext_discarded_bytes", "only with a certificate: `tls` asserts it"),
    ("inrush_log_sync_duration_seconds", "only under relaxed durability: `relaxed_durability` asserts it"),
    ("inrush_log_backlog_seconds", "0 in every second in which no message waits"),
    ("inrush_log_consumer_lag_bytes", "only with a consumer: `retention` asserts it"),
    ("inrush_log_consumer_oldest_timestamp_seconds", "only with a consumer: `retention` asserts it"),
    ("inrush_log_consumer_lost_segments", "only with a consumer: `retention` asserts it"),
    ("inrush_log_consumer_damaged", "only with a damaged cursor: `retention` asserts it"),
    (
        "inrush_log_cut_bytes",
        "only a kill in the middle of a write tears a batch: the tests of the log's recovery do that",
    ),
    (
        "inrush_log_durable_lag_bytes",
        "0 whenever no write is under way, and a write takes less time than a scrape",
    ),
];

fn everything(server: &mut Server) {
    let mut client = Client::greeted(server.mx());
    client.say("HELP", 214);
    client.say("NOOP", 250);
    client.say("VRFY postmaster", 252);
    client.say("NONSENSE", 500);
    client.say("RCPT TO:<b@example.com>", 503);
    client.say("MAIL FROM:<a@client.test.example>", 250);
    client.say("RCPT TO:<nobody@example.com>", 550);
    client.say("RCPT TO:<b@other.example>", 550);
    client.say("RSET", 250);
    client.deliver(&["b@example.com"], b"Subject: x\r\n\r\n.x\r\n");
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 3 LAST\r\nx\r\n").unwrap();
    client.expect(250);
    client.expect(250);
    accepted(&client.expect(250));
    // Larger than one record.
    client.deliver(&["b@example.com"], &[b"\r\n", b"0123456789\r\n".repeat(60_000).as_slice()].concat());
    client.envelope(&["b@example.com"]);
    client.say("DATA", 354);
    client.send(b"bare\nnewline\r\n.\r\n").unwrap();
    client.expect(550);
    client.say("QUIT", 221);
}

#[test]
fn relaxed_durability() {
    let log = ["segment_bytes = \"4MiB\"", "free_bytes_min = \"16MiB\"", "durability = \"relaxed\""];
    let server = Server::with(Settings::default().log(&log));
    let mut client = Client::greeted(server.mx());
    client.deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    process::eventually("syncs are counted", || {
        Samples::scrape(server.admin()).sum("inrush_log_sync_duration_seconds_count", &[]) > 0.0
    });
}

/// Limits stand beside what they limit, and are those of the configuration.
#[test]
fn limits_are_those_of_the_configuration() {
    let mut settings = Settings::default();
    settings.top.push("cores = 2".into());
    settings.limits = ["connections_max = 50", "pending_bytes_max = \"8MiB\"", "handshakes_max = 7"]
        .map(str::to_owned)
        .into();
    settings.pressure = ["memory_max = \"1GiB\"", "backlog_max = \"20s\""].map(str::to_owned).into();
    settings.log =
        ["segment_bytes = \"4MiB\"", "free_bytes_min = \"16MiB\"", "spares = 3", "hung_after = \"15s\""]
            .map(str::to_owned)
            .into();
    let server = Server::with(settings);
    server.wait_until_accepting();
    // The first look of each core shows them.
    process::eventually("the disk was looked at", || {
        Samples::scrape(server.admin()).sum("inrush_log_free_limit_bytes", &[]) > 0.0
    });
    let samples = Samples::scrape(server.admin());
    for (metric, labels, value) in [
        ("inrush_connections_limit", "core=\"1\"", 50.0),
        ("inrush_pending_limit_bytes", "core=\"1\"", f64::from(8 << 20)),
        ("inrush_tls_handshakes_limit", "core=\"0\"", 7.0),
        ("inrush_process_memory_limit_bytes", "", f64::from(1 << 30)),
        ("inrush_log_backlog_limit_seconds", "", 20.0),
        ("inrush_log_write_limit_seconds", "", 15.0),
        ("inrush_log_free_limit_bytes", "", f64::from(16 << 20)),
        ("inrush_log_spares_limit", "", 6.0),
        ("inrush_cores", "", 2.0),
        ("inrush_cores_accepting", "", 2.0),
        ("inrush_ready", "", 1.0),
    ] {
        assert_eq!(samples.sum(metric, &[labels]), value, "{metric}");
    }
    assert!(samples.sum("inrush_log_free_inodes", &[]) > 0.0);
    assert!(samples.sum("inrush_process_file_descriptors_usable", &[]) > 0.0);
}

#[test]
fn every_metric_moves() {
    let limits = vec!["idle_timeout = \"10s\"".into(), "connections_max = 50".into()];
    let settings = Settings { limits, ..Settings::default().recipients(&["b@example.com"]) };
    let mut server = Server::with(settings);
    everything(&mut server);
    // What is told at the start after a crash: recovered, cut.
    server.restart();
    everything(&mut server);
    let mut held = Client::greeted(server.mx());
    held.envelope(&["b@example.com"]);
    held.say("DATA", 354);
    let mut idle: Vec<Client> = (0..120).map(|_| Client::open(server.mx()).unwrap()).collect();
    let refused =
        idle.iter_mut().filter_map(|client| client.reply().ok()).filter(|reply| reply.code == 421).count();
    assert!(refused > 0);

    // Gauges of what is under way are looked at while it is.
    let mut moved = BTreeSet::new();
    let mut declared = BTreeSet::new();
    let mut look = |admin| {
        let text = http::get(admin, "/metrics").body;
        let names = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
        let samples = Samples::parse(&text);
        for name in names {
            declared.insert(name.to_owned());
            let series =
                ["", "_total", "_count", "_info"].map(|end| samples.sum(&format!("{name}{end}"), &[]));
            if series.iter().any(|value| *value != 0.0) {
                moved.insert(name.to_owned());
            }
        }
    };
    look(server.admin());
    held.send(&b"\r\n0123456789\r\n".repeat(20_000)).unwrap();
    process::eventually("mail data is held", || {
        Samples::scrape(server.admin()).sum("inrush_pending_bytes", &[]) > 0.0
    });
    look(server.admin());
    for client in &mut idle {
        // Refused or timed out, each is told and closed.
        client.rest();
    }
    process::eventually("idle sessions are counted", || {
        Samples::scrape(server.admin()).sum("inrush_timeouts_total", &[]) > 0.0
    });
    look(server.admin());

    assert!(declared.len() > 20, "{declared:?}");
    let excepted: BTreeSet<String> = EXCEPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unknown: Vec<_> = excepted.difference(&declared).collect();
    assert!(unknown.is_empty(), "excepted, but not declared: {unknown:?}");
    let still: Vec<_> = declared.difference(&moved).filter(|name| !excepted.contains(*name)).collect();
    assert!(still.is_empty(), "never moved: {still:?}");
}
