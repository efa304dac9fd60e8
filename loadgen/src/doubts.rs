//! May the figures of a run be believed? What speaks against them, for reports and comparisons.

use crate::figures::Figures;
use crate::html::number as round;

/// From this share of its threads' time on the generator may have been the limit.
const GENERATOR_SHARE_MAX: f64 = 0.9;
/// With fewer messages a p99.9 is the place of a single one.
const MESSAGES_MIN: f64 = 1000.0;
/// A shorter run shows how a server starts rather than how it serves.
const SECONDS_MIN: f64 = 5.0;

/// What speaks against a run, in sentences.
#[must_use]
pub fn doubts(run: &Figures) -> Vec<String> {
    let mut doubts = Vec::new();
    let at_least_one = |pointer: &str| run.number(pointer).filter(|&value| value > 0.0);
    if let Some(not_sent) = at_least_one("/open_loop/not_sent") {
        doubts.push(format!(
            "{} planned messages were never sent: the rate asked for was beyond what server and sessions can do.",
            round(not_sent)
        ));
    }
    if let Some(not_sent) = at_least_one("/open_loop/not_sent_own_pace") {
        doubts.push(format!(
            "{} planned messages of slow or thinking senders were never sent: their sessions are too few for the rate, whatever the server does.",
            round(not_sent)
        ));
    }
    if let Some(verdict) = run.json.get("generator_limit").filter(|verdict| !verdict.is_null()) {
        if let Some(reason) = verdict.as_str() {
            doubts.push(format!("The generator was the limit: {reason}"));
        } else if let Some(reasons) = verdict["reasons"].as_array() {
            let reasons = reasons.iter().filter_map(|reason| reason.as_str());
            doubts.extend(reasons.map(|reason| format!("The generator was the limit: {reason}")));
        }
    } else if let Some(share) = generator_share(run).filter(|&share| share > GENERATOR_SHARE_MAX) {
        doubts.push(format!(
            "The generator used {} % of its threads' time: it may have been the limit, not the server.",
            round(share * 100.0)
        ));
    }
    if let Some(reason) = run.text("/ended_by") {
        doubts.push(format!("The run ended early: {reason}"));
    }
    if let Some(errors) = at_least_one("/errors") {
        doubts.push(format!("{} errors; latencies are those of acknowledged messages only.", round(errors)));
    }
    if let Some(error) = run.text("/verification/error") {
        doubts.push(format!("The verification was not possible: {error}"));
    } else if run.json["verification"]["holds"].as_bool() == Some(false) {
        doubts.push("The verification failed: acknowledged mail is missing, altered or doubled.".to_owned());
    }
    if let Some(error) = run.text("/server_cpu/error") {
        doubts.push(format!("The server's CPU time is not known: {error}"));
    }
    if let Some(seconds) = run.number("/elapsed_s").filter(|&seconds| seconds < SECONDS_MIN) {
        doubts.push(format!("Only {} s were measured.", round(seconds)));
    }
    let acknowledged = run.number("/counts/acknowledged").unwrap_or(0.0);
    if acknowledged < MESSAGES_MIN {
        doubts.push(format!("Only {} messages: high percentiles say little.", round(acknowledged)));
    }
    doubts
}

/// CPU time of the generator as a share of what its threads could have had.
fn generator_share(run: &Figures) -> Option<f64> {
    let cpu_us = run.number("/generator_cpu/total_us")?;
    let seconds = run.number("/elapsed_s").filter(|&seconds| seconds > 0.0)?;
    let cores = run.json["settings"]["cores"]
        .as_str()
        .and_then(|cores| cores.parse::<f64>().ok())
        .or_else(|| run.number("/settings/cores"))
        .unwrap_or(1.0);
    Some(cpu_us / 1e6 / seconds / cores.max(1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::{Value, json};

    use super::*;

    fn of(extra: Value) -> Vec<String> {
        let mut json =
            json!({ "schema": 1, "counts": { "acknowledged": 5000 }, "elapsed_s": 10.0, "errors": 0 });
        let Value::Object(extra) = extra else { panic!("an object") };
        json.as_object_mut().unwrap().extend(extra);
        doubts(&Figures::new("a".to_owned(), json).unwrap())
    }

    #[test]
    fn each_doubt_has_its_sentence() {
        assert!(of(json!({})).is_empty());
        for (extra, word) in [
            (json!({ "open_loop": { "not_sent": 7 } }), "7 planned messages were never sent"),
            (json!({ "open_loop": { "not_sent_own_pace": 5 } }), "5 planned messages of slow or thinking"),
            (json!({ "generator_cpu": { "total_us": 9.5e6 } }), "used 95 %"),
            (json!({ "generator_limit": { "reasons": ["late"] } }), "limit: late"),
            (json!({ "ended_by": "interrupted" }), "ended early: interrupted"),
            (json!({ "errors": 3 }), "3 errors"),
            (json!({ "verification": { "holds": false } }), "verification failed"),
            (json!({ "verification": { "error": "no log" } }), "not possible: no log"),
            (json!({ "server_cpu": { "error": "gone" } }), "not known: gone"),
            (json!({ "counts": { "acknowledged": 10 } }), "Only 10 messages"),
            (json!({ "elapsed_s": 0.5 }), "Only 0.5 s"),
        ] {
            let doubts = of(extra);
            assert!(doubts.len() == 1 && doubts[0].contains(word), "{doubts:?}");
        }
        let two_cores = json!({ "generator_cpu": { "total_us": 9.5e6 }, "settings": { "cores": "2" } });
        assert!(of(two_cores).is_empty());
    }
}
