//! The parts of a report beside the latencies: pace, the generator's own limit, senders, targets, hostile sessions, the steps of a ramp.

use std::fmt::{self, Formatter};
use std::time::Duration;

use serde_json::{Value, json};

use crate::hostile::{Behaviour, HostileCounts};
use crate::pacer::Arrivals;
use crate::plan::Pace;
use crate::ramp::{Found, Step};
use crate::record::{Phase, Record};
use crate::run::Outcome;
use crate::smuggling::{self, FALSE_ENDS, SmugglingCounts};

/// The first lines of the report: how the load came, and whether the figures are the server's at all.
pub(crate) fn head(f: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome.pace {
        Pace::Closed => writeln!(
            f,
            "closed loop: each session waits for its answer; a server that stalls is asked less often, which these latencies do not show"
        )?,
        Pace::Open(rate, arrivals) => {
            let arrivals = if arrivals == Arrivals::Poisson { ", poisson" } else { "" };
            writeln!(
                f,
                "open loop: {rate} planned a second{arrivals}; latencies count from the planned start"
            )?;
        }
        Pace::Ramp(..) => {
            if let Some(found) = &outcome.ramp {
                ramp(f, found)?;
            }
        }
    }
    if !outcome.own_limit.is_empty() {
        writeln!(f, "THE GENERATOR WAS THE LIMIT, NOT THE SERVER:")?;
        outcome.own_limit.iter().try_for_each(|reason| writeln!(f, "  {reason}"))?;
    }
    Ok(())
}

/// The last lines but the errors.
pub(crate) fn parts(f: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    for core in &outcome.own {
        write!(
            f,
            "generator thread {}: busy {:.0} %, waited for a CPU {:.0} %",
            core.core,
            core.utilisation() * 100.0,
            core.queued_share() * 100.0
        )?;
        if !core.lateness.is_empty() {
            let late = core.lateness.value_at_quantile(0.99) as f64 / 1e6;
            write!(f, ", starts with a free session late by {late:.3} ms at p99")?;
        }
        writeln!(f)?;
    }
    let counts = &outcome.record.counts;
    if counts.handshakes > 0 {
        writeln!(f, "TLS: {} handshakes, {} resumed", counts.handshakes, counts.handshakes_resumed)?;
    }
    for (kind, parts) in [("sender", &outcome.senders), ("target", &outcome.targets)] {
        if parts.len() > 1 {
            parts.iter().try_for_each(|(name, record)| part(f, kind, name, record))?;
        }
    }
    for (behaviour, sessions, counts) in &outcome.hostile {
        writeln!(
            f,
            "hostile {}: {sessions} sessions, {} connections, {} not made, {} closed by the server; replies: {} positive, {} 4xx, {} 5xx; {} messages taken",
            behaviour.name(),
            counts.connections,
            counts.connections_failed,
            counts.closed_by_server,
            counts.positive_replies,
            counts.transient_replies,
            counts.permanent_replies,
            counts.messages_accepted,
        )?;
        if *behaviour == Behaviour::BareLineFeeds {
            smuggled(f, counts)?;
        }
    }
    Ok(())
}

/// Whether the server is open to SMTP smuggling, false end by false end.
fn smuggled(f: &mut Formatter<'_>, counts: &HostileCounts) -> fmt::Result {
    for ((name, _), counts) in FALSE_ENDS.iter().zip(&counts.smuggling) {
        let SmugglingCounts { taken_as_text, refused, found, not_tested } = counts;
        writeln!(
            f,
            "  {name}: {taken_as_text} taken as text, {refused} refused, {found} taken as the end of the mail data, {not_tested} not tested"
        )?;
    }
    match smuggling::verdict(&counts.smuggling) {
        "found" => {
            writeln!(f, "  THE SERVER IS OPEN TO SMTP SMUGGLING: it answers commands inside of mail data")?;
            if counts.messages_smuggled > 0 {
                writeln!(f, "  THE SERVER TOOK {} SMUGGLED MESSAGES", counts.messages_smuggled)?;
            }
            Ok(())
        }
        "not_found" => writeln!(f, "  no command inside of mail data was answered"),
        _ => {
            let untested = FALSE_ENDS.iter().zip(&counts.smuggling).filter(|(_, counts)| !counts.is_tested());
            let names: Vec<&str> = untested.map(|((name, _), _)| *name).collect();
            writeln!(
                f,
                "  SMUGGLING WAS NOT TESTED by {}: the server did not get as far as the mail data or closed in between (--from, --to, --tls, --auth-user, --duration)",
                names.join(", ")
            )
        }
    }
}

fn part(f: &mut Formatter<'_>, kind: &str, name: &str, record: &Record) -> fmt::Result {
    let total = record.histogram(Phase::Total);
    let ms = |quantile| total.value_at_quantile(quantile) as f64 / 1e6;
    writeln!(
        f,
        "{kind} {name}: {} messages, {} errors, {} connections; total p50 {:.3}, p99 {:.3}, max {:.3} ms",
        record.counts.acknowledged,
        record.counts.errors(),
        record.counts.connections,
        ms(0.5),
        ms(0.99),
        total.max() as f64 / 1e6,
    )
}

fn ramp(f: &mut Formatter<'_>, found: &Found) -> fmt::Result {
    found.steps.iter().try_for_each(|step| writeln!(f, "{}", self::step(step)))?;
    let slo = found.ramp.slo;
    let promise = format!("p{} <= {}", quantile_name(slo.quantile), milliseconds(slo.limit));
    match found.rate {
        None if found.steps.is_empty() => {
            writeln!(f, "found: nothing, the run ended before its first step did")?;
        }
        None => writeln!(f, "found: {promise} does not hold at {} a second", found.ramp.low)?,
        Some(rate) => {
            write!(
                f,
                "found: {promise} holds at {rate:.0} messages a second, in {} of {} windows",
                found.held.0, found.held.1
            )?;
            if let Some((share, upper)) = found.slow_share {
                write!(
                    f,
                    "; in those that confirm it {:.3} % were slower (with 95 % confidence at most {:.3} %)",
                    share * 100.0,
                    upper * 100.0
                )?;
            }
            match found.failed_at {
                Some(failed) => writeln!(f, "; not at {failed:.0}")?,
                None => writeln!(f, "; nothing higher was tried")?,
            }
        }
    }
    Ok(())
}

/// A step of a ramp as a line.
pub(crate) fn step(step: &Step) -> String {
    format!(
        "{} {:>9.0}/s  {:>10} at the quantile  {} acknowledged, {} unanswered, {} errors{}{}",
        if step.holds { "holds" } else { "fails" },
        step.rate,
        step.quantile.map_or_else(|| "no answer".to_owned(), milliseconds),
        step.acknowledged,
        step.unanswered,
        step.errors,
        if step.confirms { "  (once more)" } else { "" },
        if step.own_limit.is_empty() { "" } else { "  THE GENERATOR WAS THE LIMIT" },
    )
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// `99`, `99.9`: without the noise of binary fractions.
fn quantile_name(quantile: f64) -> String {
    let text = format!("{:.4}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Adds the same parts to the JSON object.
pub(crate) fn add_to(object: &mut serde_json::Map<String, Value>, outcome: &Outcome) {
    let pace = match outcome.pace {
        Pace::Closed => json!({ "loop": "closed" }),
        Pace::Open(rate, arrivals) => {
            json!({ "loop": "open", "rate": rate, "arrivals": arrivals_name(arrivals) })
        }
        Pace::Ramp(_, arrivals) => json!({ "loop": "ramp", "arrivals": arrivals_name(arrivals) }),
    };
    object.insert("pace".to_owned(), pace);
    object.insert(
        "generator_limit".to_owned(),
        json!({
            "limited": !outcome.own_limit.is_empty(),
            "reasons": outcome.own_limit,
            "threads": outcome.own.iter().map(|core| json!({
                "thread": core.core,
                "busy": core.utilisation(),
                "waited_for_cpu": core.queued_share(),
                "late_p99_us": (!core.lateness.is_empty()).then(|| core.lateness.value_at_quantile(0.99) as f64 / 1e3),
                "late_max_us": (!core.lateness.is_empty()).then(|| core.lateness.max() as f64 / 1e3),
            })).collect::<Vec<_>>(),
        }),
    );
    let parts = |parts: &[(String, Record)]| -> Value {
        parts
            .iter()
            .map(|(name, record)| {
                json!({
                    "name": name,
                    "counts": crate::json::counts(&record.counts),
                    "latency_us": crate::json::phases(record),
                })
            })
            .collect()
    };
    object.insert("senders".to_owned(), parts(&outcome.senders));
    object.insert("targets".to_owned(), parts(&outcome.targets));
    let hostile = outcome.hostile.iter().map(|(behaviour, sessions, counts)| {
        json!({
            "behaviour": behaviour.name(),
            "sessions": sessions,
            "connections": counts.connections,
            "connections_failed": counts.connections_failed,
            "closed_by_server": counts.closed_by_server,
            "positive_replies": counts.positive_replies,
            "transient_replies": counts.transient_replies,
            "permanent_replies": counts.permanent_replies,
            "messages_accepted": counts.messages_accepted,
            "messages_smuggled": counts.messages_smuggled,
            "smuggling": (*behaviour == Behaviour::BareLineFeeds).then(|| json!({
                "verdict": smuggling::verdict(&counts.smuggling),
                "false_ends": FALSE_ENDS.iter().zip(&counts.smuggling).map(|((name, _), counts)| json!({
                    "false_end": name,
                    "taken_as_text": counts.taken_as_text,
                    "refused": counts.refused,
                    "found": counts.found,
                    "not_tested": counts.not_tested,
                })).collect::<Vec<_>>(),
            })),
        })
    });
    object.insert("hostile".to_owned(), hostile.collect());
    object.insert("ramp".to_owned(), outcome.ramp.as_ref().map_or(Value::Null, found));
}

fn arrivals_name(arrivals: Arrivals) -> &'static str {
    match arrivals {
        Arrivals::Uniform => "uniform",
        Arrivals::Poisson => "poisson",
    }
}

fn found(found: &Found) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let steps: Vec<Value> = found
        .steps
        .iter()
        .map(|step| {
            json!({
                "rate": step.rate,
                "achieved": step.achieved,
                "acknowledged": step.acknowledged,
                "unanswered": step.unanswered,
                "errors": step.errors,
                "quantile_us": step.quantile.map(us),
                "slow": step.slow,
                "generator_limit": step.own_limit,
                "confirms": step.confirms,
                "holds": step.holds,
            })
        })
        .collect();
    json!({
        "low": found.ramp.low,
        "high": found.ramp.high,
        "slo": {
            "quantile": found.ramp.slo.quantile,
            "limit_us": us(found.ramp.slo.limit),
            "errors_max": found.ramp.slo.errors_max,
        },
        "precision": found.ramp.precision,
        "rate": found.rate,
        "failed_at": found.failed_at,
        "windows_held": found.held.0,
        "windows_tried": found.held.1,
        "slow_share": found.slow_share.map(|(share, _)| share),
        "slow_share_max": found.slow_share.map(|(_, upper)| upper),
        "steps": steps,
    })
}
