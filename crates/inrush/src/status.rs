//! `inrush status`: one screen about the running gateway.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::cli::AdminTarget;
use crate::output;
use crate::queue::Client;
use crate::top::text;

/// Shows it; the exit code is 1 when the gateway does not take mail.
pub(crate) fn run(target: &AdminTarget, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::of(target.config.as_deref(), target.admin)?;
    let ready = if json {
        let status = client.get("status", &[])?;
        output::json(&status)?;
        status["ready"] == true
    } else {
        // Rates need two looks, which the server takes for whoever watches: this is a viewer that leaves after its first sample.
        let sample = first_sample(&client)?;
        text::screen(&sample).iter().try_for_each(|line| output::line(line))?;
        sample["ready"] == true
    };
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn first_sample(client: &Client) -> anyhow::Result<Value> {
    let mut sample = None;
    client.events("events", |data| {
        sample = Some(serde_json::from_str(data));
        false
    })?;
    let sample = sample.ok_or_else(|| anyhow!("{} has ended without a sample", client.address()))?;
    sample.context("the gateway is of another version")
}
