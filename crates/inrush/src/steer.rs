//! `inrush drain` and `inrush reload`: what a signal does, from wherever the admin server can be reached, with an answer.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::age::Age;
use crate::cli::AdminTarget;
use crate::output;
use crate::queue::Client;

/// How often it is looked whether the gateway has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// `inrush drain`.
pub(crate) fn drain(
    target: &AdminTarget,
    delay: Option<Age>,
    deadline: Option<Age>,
    wait: bool,
) -> anyhow::Result<ExitCode> {
    let client = Client::of(target.config.as_deref(), target.admin)?;
    let given = [("delay", delay), ("deadline", deadline)].into_iter();
    let parameters: Vec<_> =
        given.filter_map(|(name, age)| Some((name, format!("{}ms", age?.0.as_millis())))).collect();
    client.post("drain", &parameters)?;
    while wait && client.is_served() {
        thread::sleep(LOOK_INTERVAL);
    }
    output::line(if wait { "the gateway has ended" } else { "the gateway is ending" })?;
    Ok(ExitCode::SUCCESS)
}

/// `inrush reload`. The exit code says whether everything was as it should be.
pub(crate) fn reload(target: &AdminTarget, json: bool) -> anyhow::Result<ExitCode> {
    let answer = Client::of(target.config.as_deref(), target.admin)?.post_whatever_comes("reload")?;
    if json {
        output::json(&answer)?;
    } else {
        let lines = |field: &str| answer[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        for setting in lines("changed") {
            output::line(setting)?;
        }
        for setting in lines("waits_for_start") {
            output::line(&format!("{setting} (waits for the next start or upgrade)"))?;
        }
        for error in lines("errors") {
            output::complain(&anyhow::anyhow!("{error}"));
        }
        let reloaded: Vec<_> = lines("reloaded").collect();
        if !reloaded.is_empty() {
            output::line(&format!("reloaded: {}", reloaded.join(", ")))?;
        }
    }
    let is_complete = answer["errors"].as_array().is_some_and(Vec::is_empty);
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
