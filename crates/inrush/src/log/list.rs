//! One line for each message.

use std::process::ExitCode;

use inrush_log::Message;
use serde::Serialize;

use super::{code, each_message, open, time};
use crate::cli::{DataDir, Filter};
use crate::output::{self, printable};

/// Recipients shown on a line for people; the number of all of them follows.
const RECIPIENTS_SHOWN: usize = 3;

/// A message as JSON. Field names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Line {
    id: String,
    accepted_at: String,
    octets: u64,
    from: String,
    to: Vec<String>,
    client: Option<String>,
    helo: String,
    listener: String,
}

impl Line {
    fn new(message: &Message) -> anyhow::Result<Self> {
        let envelope = message.envelope()?;
        Ok(Self {
            id: message.id.to_string(),
            accepted_at: time::rfc3339(message.header.accepted_at_us),
            octets: message.body_octets()?,
            from: printable(envelope.reverse_path()),
            to: envelope.recipients().map(|recipient| printable(recipient.path)).collect(),
            client: envelope.peer().map(|peer| peer.to_string()),
            helo: printable(envelope.helo()),
            listener: printable(envelope.listener()),
        })
    }
}

/// Lists the messages that the filter lets through.
pub(super) fn run(data: &DataDir, filter: &Filter, json: bool) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    let bad = each_message(&mut readers, filter, |_, message| {
        let line = Line::new(message)?;
        if json {
            return output::json(&line);
        }
        let more = line.to.len().saturating_sub(RECIPIENTS_SHOWN);
        let mut to: Vec<String> = line.to.iter().take(RECIPIENTS_SHOWN).map(|to| format!("<{to}>")).collect();
        if more > 0 {
            to.push(format!("and {more} more"));
        }
        let text = format!(
            "{} {} {:>9} from=<{}> to={}",
            line.id,
            line.accepted_at,
            line.octets,
            line.from,
            to.join(",")
        );
        output::line(&text)?;
        Ok(())
    })?;
    Ok(code(bad))
}
