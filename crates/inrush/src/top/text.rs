//! A sample as lines of text. What comes from others (destinations, replies, addresses) is escaped.

use serde_json::Value;

use crate::output::printable;

/// Reasons and destinations on one screen.
const ROWS_MAX: usize = 5;

const PHASES: &[&str] = inrush_metrics::Phase::VALUES;

/// The whole sample on one screen of at most some 40 lines.
pub(crate) fn screen(sample: &Value) -> Vec<String> {
    let mut lines = vec![title(sample)];
    lines.extend(texts(&sample["reasons"]).map(|reason| format!("  NOT READY: {reason}")));
    lines.extend(figures(sample));
    lines.push(String::new());
    lines.extend(cores(sample));
    lines.push(String::new());
    lines.extend(phases(sample));
    for (head, rows) in [("refusals", refusals(sample)), ("queue", queue(sample))] {
        if !rows.is_empty() {
            lines.push(String::new());
            lines.push(head.to_owned());
            lines.extend(rows);
        }
    }
    lines
}

/// Name, version, state.
pub(crate) fn title(sample: &Value) -> String {
    let state = if sample["ready"] == true { "ready" } else { "NOT READY" };
    let pressure: Vec<String> = fields(&sample["pressure"])
        .map(|(name, level)| format!("{name} {}", level.as_str().unwrap_or_default()))
        .collect();
    let pressure = if pressure.is_empty() {
        String::new()
    } else {
        format!(", under pressure: {}", pressure.join(", "))
    };
    let version = text(&sample["version"]);
    format!("inrush {version}, up {}: {state}{pressure}", age(number(&sample["uptime_seconds"])))
}

/// The figures that matter most.
pub(crate) fn figures(sample: &Value) -> Vec<String> {
    let (rates, totals, log) = (&sample["rates"], &sample["totals"], &sample["log"]);
    let connections = &sample["connections"];
    let process = &sample["process"];
    let mut lines = vec![
        format!(
            "accepted {:>10}/s {:>16} in all   refused {:>8}/s {:>12} in all",
            rate(number(&rates["accepted"])),
            count(&totals["accepted"]),
            rate(number(&rates["refused"])),
            count(&totals["refused"])
        ),
        format!(
            "mail     {:>10}/s {:>16} in all   sessions {} of {}, {}/s new",
            bytes(number(&rates["message_bytes"])),
            bytes(number(&totals["message_bytes"])),
            count(&connections["open"]),
            count(&connections["limit"]),
            rate(number(&rates["connections"])),
        ),
        format!(
            "log      {:>10}/s written, {} batches/s, {} sealed, {} spares, {} free",
            bytes(number(&rates["log_written_bytes"])),
            rate(number(&rates["log_batches"])),
            bytes(number(&log["sealed_bytes"])),
            count(&log["spares_ready"]),
            bytes(number(&log["free_bytes"])),
        ),
        format!(
            "process  {:>10} cores, {} resident, {} of {} files",
            format!("{:.2}", number(&process["cpu"])),
            bytes(number(&process["resident_memory_bytes"])),
            count(&process["open_file_descriptors"]),
            count(&process["file_descriptors_limit"]),
        ),
    ];
    let queue = &sample["queue"];
    if queue.is_object() {
        lines.push(format!(
            "queue    {:>10} deferred, {} held, {} under way, {} connections, {} destinations down",
            count(&queue["deferred"]),
            count(&queue["held"]),
            count(&queue["under_way"]),
            count(&queue["connections"]),
            count(&queue["destinations_down"]),
        ));
    }
    lines
}

/// One line for each core.
pub(crate) fn cores(sample: &Value) -> Vec<String> {
    let core = |(index, core): (usize, &Value)| {
        let busy = core["busy"].as_f64();
        let shown = busy.map_or_else(|| "  –".to_owned(), |busy| format!("{:>3.0}", busy * 100.0));
        format!(
            "core {index:<3} {} {shown} %  {:>9} sessions {:>10}/s  {}",
            bar(busy.unwrap_or(0.0)),
            count(&core["connections_open"]),
            rate(number(&core["accepted"])),
            text(&core["engine"]),
        )
    };
    array(&sample["cores"]).iter().enumerate().map(core).collect()
}

/// Twenty characters, as full as the share.
fn bar(share: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of twenty characters"
    )]
    let full = (share.clamp(0.0, 1.0) * 20.0).round() as usize;
    "█".repeat(full) + &"·".repeat(20 - full)
}

/// Quantiles of the last seconds in milliseconds, below their heads.
pub(crate) fn phases(sample: &Value) -> Vec<String> {
    let window = number(&sample["phases_window_seconds"]).round();
    let head = format!(
        "{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        format!("ms, {window} s"),
        "/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max"
    );
    let mut lines = vec![head];
    let mut phases: Vec<_> = fields(&sample["phases"]).collect();
    // As they follow one another in a session; what is not known comes behind.
    phases.sort_by_key(|(name, _)| PHASES.iter().position(|phase| phase == name).unwrap_or(PHASES.len()));
    for (name, of) in phases {
        let ms = |field: &str| milliseconds(number(&of[field]));
        lines.push(format!(
            "{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            name.replace('_', " "),
            rate(number(&of["count"]) / window.max(1.0)),
            ms("p50_seconds"),
            ms("p90_seconds"),
            ms("p99_seconds"),
            ms("p99.9_seconds"),
            ms("max_seconds"),
        ));
    }
    lines
}

/// Reasons with the most now.
pub(crate) fn refusals(sample: &Value) -> Vec<String> {
    let reason = |one: &Value| {
        format!("{:>10}/s {:>12}  {}", rate(number(&one["rate"])), count(&one["total"]), text(&one["reason"]))
    };
    array(&sample["refusals"]).iter().take(ROWS_MAX).map(reason).collect()
}

/// Routes, then the destinations for which the most waits.
pub(crate) fn queue(sample: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (route, counts) in fields(&sample["queue"]["routes"]) {
        let of = |what: &str| count(&counts[what]["total"]);
        let route = if route.is_empty() { "(no route)".to_owned() } else { printable(route.as_bytes()) };
        lines.push(format!(
            "{route:<16} {:>10}/s sent, {} in all, {} deferred, {} bounced, {} expired",
            rate(number(&counts["sent"]["rate"])),
            of("sent"),
            of("deferred"),
            of("bounced"),
            of("expired"),
        ));
    }
    lines.extend(destinations(sample).into_iter().take(ROWS_MAX));
    lines
}

/// One line for each destination.
pub(crate) fn destinations(sample: &Value) -> Vec<String> {
    let now = number(&sample["at"]);
    let destination = |one: &Value| {
        let name = text(&one["destination"]);
        let name = if name.is_empty() { "(no route)".to_owned() } else { name };
        let oldest = one["oldest_at"].as_f64().map_or_else(|| "–".to_owned(), |at| age(now - at));
        let state = if one["down"] == true {
            "down".to_owned()
        } else {
            format!("{} conn.", count(&one["connections"]))
        };
        format!(
            "{name:<32} {:>9} waiting {:>7} held {oldest:>10} {state:<9} {}",
            count(&one["waiting"]),
            count(&one["held"]),
            text(&one["last_reply"]),
        )
    };
    array(&sample["queue"]["destinations"]).iter().map(destination).collect()
}

/// One line for each live session, below their heads.
pub(crate) fn sessions(answer: &Value) -> Vec<String> {
    let head = format!(
        "{:<46} {:>9} {:<10} {:>4} {:<8} {:<10} {:<9} {:>9} {:>11}",
        "client", "age", "listener", "core", "TLS", "phase", "command", "messages", "octets"
    );
    let mut lines = vec![head];
    for one in array(&answer["sessions"]) {
        lines.push(format!(
            "{:<46} {:>9} {:<10} {:>4} {:<8} {:<10} {:<9} {:>9} {:>11}",
            text(&one["client"]),
            age(number(&one["age_seconds"])),
            text(&one["listener"]),
            count(&one["core"]),
            text(&one["tls"]),
            text(&one["phase"]).replace('_', " "),
            text(&one["last_command"]),
            count(&one["messages"]),
            bytes(number(&one["octets"])),
        ));
    }
    let silent: Vec<String> = array(&answer["silent_cores"]).iter().map(ToString::to_string).collect();
    if !silent.is_empty() {
        lines.push(format!("cores {} have not answered", silent.join(", ")));
    }
    lines
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub(crate) fn texts(value: &Value) -> impl Iterator<Item = String> {
    array(value).iter().map(text)
}

/// A text on one line, as a person may see it.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default().replace('\n', " ").as_bytes())
}

/// 12,345
fn count(value: &Value) -> String {
    grouped(value.as_u64().unwrap_or(0))
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 0 · 0.4 · 12.3 · 1,234
pub(crate) fn rate(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let whole = value.round() as u64;
    if value > 0.0 && value < 100.0 { format!("{value:.1}") } else { grouped(whole) }
}

fn bytes(mut value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", units[unit])
}

fn milliseconds(seconds: f64) -> String {
    let value = seconds * 1e3;
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

fn age(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min", whole / 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::top) fn sample() -> Value {
        json!({
            "at": 1_000_000.0, "interval_seconds": 1.0, "version": "1.2.3", "uptime_seconds": 4_000.0,
            "ready": false, "reasons": ["1 of 2 logs have no space for new mail"], "pressure": { "log_space": "hard" },
            "connections": { "open": 1_234, "limit": 20_000 },
            "rates": { "accepted": 12_345.6, "refused": 3.25, "message_bytes": 50_000_000.0, "connections": 10.0,
                "log_written_bytes": 60_000_000.0, "log_batches": 900.0 },
            "totals": { "accepted": 1_234_567, "refused": 99, "message_bytes": 5_000_000_000_u64 },
            "phases": { "queue_wait": { "count": 500, "p50_seconds": 0.0005, "p90_seconds": 0.001, "p99_seconds": 0.0123,
                "p99.9_seconds": 0.02, "max_seconds": 1.5 } },
            "phases_window_seconds": 5.0,
            "cores": [{ "engine": "io_uring", "connections_open": 600, "accepted": 6_000.0, "busy": 0.5 },
                { "engine": "io_uring", "connections_open": 634, "accepted": 6_345.0, "busy": null }],
            "log": { "sealed_bytes": 1_u64 << 30, "spares_ready": 4, "free_bytes": 40_u64 << 30 },
            "refusals": [{ "reason": "user_unknown", "rate": 3.25, "total": 99 }],
            "queue": { "deferred": 7, "held": 1, "under_way": 2, "connections": 3, "destinations_down": 1,
                "routes": { "out": { "sent": { "total": 5, "rate": 2.0 } } },
                "destinations": [{ "destination": "out:evil.example", "waiting": 7, "held": 1, "oldest_at": 999_000, "down": true,
                    "connections": 0, "last_reply": "450 \u{1b}[2Jgo away\nplease" }] },
            "process": { "cpu": 1.42, "resident_memory_bytes": 90_000_000, "open_file_descriptors": 1_300, "file_descriptors_limit": 65_536 },
        })
    }

    #[test]
    fn a_screen_says_what_matters_and_nothing_steers_the_terminal() {
        let text = screen(&sample()).join("\n");
        for part in [
            "inrush 1.2.3, up 1 h 6 min: NOT READY, under pressure: log_space hard",
            "NOT READY: 1 of 2 logs have no space",
            "12,346/s",
            "1,234,567 in all",
            "3.2/s",
            "47.7 MiB/s",
            "1,234 of 20,000",
            "██████████··········  50 %",
            "  – %",
            "queue wait",
            "12.3",
            "user_unknown",
            "7 deferred, 1 held",
            "out:evil.example",
            "down",
            "450 \\u{1b}[2Jgo away please",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(text.lines().count() <= 40, "{text}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([rate(0.0), rate(0.44), rate(99.96), rate(1_234.4)], ["0", "0.4", "100.0", "1,234"]);
        assert_eq!(
            [bytes(0.0), bytes(999.0), bytes(1_000.0), bytes(5e9)],
            ["0 B", "999 B", "1.0 KiB", "4.7 GiB"]
        );
        assert_eq!([age(5.9), age(61.0), age(90_000.0)], ["5 s", "1 min", "1 d 1 h"]);
    }
}
