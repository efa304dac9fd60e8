//! `inrush trace`: sessions of a running gateway, live, command by command.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::Trace;
use crate::output;
use crate::queue::Client;

/// Shows sessions until the limits are reached.
pub(crate) fn run(arguments: &Trace) -> anyhow::Result<ExitCode> {
    let client = Client::of(arguments.target.config.as_deref(), arguments.target.admin)?;
    let mut parameters = vec![("limit", arguments.limit.to_string()), ("for", arguments.time.clone())];
    parameters.extend(arguments.from.clone().map(|from| ("from", from)));
    parameters.extend(arguments.rcpt.clone().map(|rcpt| ("rcpt", rcpt)));
    client.stream("trace", &parameters, |line| {
        if arguments.json {
            return Ok(output::line(line)?);
        }
        let event: Value = serde_json::from_str(line).context("an event that is not JSON")?;
        if let Some(line) = shown(&event) {
            output::line(&line)?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The line for an event.
fn shown(event: &Value) -> Option<String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let what = match text("event") {
        "watching" => return Some("-- watching; interrupt to end".to_owned()),
        "lost" => return Some(format!("-- {} events were lost", event["events"])),
        "over" => return Some(format!("-- the end: limit of {}", text("reason"))),
        "begin" => {
            let from = event["from"].as_str().map(|from| format!(", from={from}")).unwrap_or_default();
            let (client, listener, helo) = (text("client"), text("listener"), text("helo"));
            format!(
                "-- client={client}, listener={listener}, helo={helo}, commands={}{from}",
                event["commands"]
            )
        }
        "command" => format!("C: {}", text("text")),
        "reply" => format!("S: {}", text("text")),
        "tls" => format!("-- {} {}", text("tls"), text("cipher")),
        "queued" => format!("-- queued as {}, size={}", text("id"), event["size"]),
        "answered" => format!("-- 250 sent, delay={:.6}", event["delay"].as_f64()?),
        "end" => format!("-- end={}", text("end")),
        _ => return None,
    };
    // The day is today.
    let time = text("time").split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    Some(format!("{time} {} +{:.6} {what}", text("session"), event["at"].as_f64()?))
}
